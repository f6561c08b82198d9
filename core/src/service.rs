//! What a node offers to whoever has a link to it: the envelope of an rpc, and the entry service. Spec: SPEC §2.9.
//!
//! A request names its service in the first byte; who does not offer it, or not to this peer, refuses. The directory's and the
//! mailbox's own messages are in `directory::rpc` and `mailbox::rpc`.

use bytes::Bytes;

use crate::crypto::keys::NodeId;
use crate::packet::{HopKeyId, HopPublic, LinkHandle};
use crate::wire::{DecodeError, Reader, Writer};

/// Which part of a node a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Service {
    /// Links of clients and bridges: handles, hop keys of an unlisted entry.
    Entry,
    /// Descriptors, votes and documents.
    Directory,
    /// Replication between storage nodes.
    Mailbox,
}

impl Service {
    const fn code(self) -> u8 {
        match self {
            Self::Entry => 1,
            Self::Directory => 2,
            Self::Mailbox => 3,
        }
    }

    /// Puts `body` into a request for this service.
    pub fn request(self, body: &[u8]) -> Bytes {
        [&[self.code()], body].concat().into()
    }

    /// The service and the body of a request.
    ///
    /// # Errors
    /// [`DecodeError`] when it is empty or for a service that this version does not know.
    pub fn of_request(request: &Bytes) -> Result<(Self, Bytes), DecodeError> {
        let service = match Reader::new(request).u8()? {
            1 => Self::Entry,
            2 => Self::Directory,
            3 => Self::Mailbox,
            got => {
                return Err(DecodeError::BadValue {
                    field: "service",
                    got: u64::from(got),
                });
            }
        };
        Ok((service, request.slice(1..)))
    }
}

/// Requests of the entry service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryRequest {
    /// "Send what arrives for this handle down my link." The answer's body is empty. At most [`HANDLES_MAX`] per link;
    /// the oldest makes room. Handles die with the link, and survive its resumption.
    Register(LinkHandle),
    /// "How do I put you into a path?" The answer's body is [`EntryHops`].
    Hops,
}

/// Handles that one link may have at once.
pub const HANDLES_MAX: usize = 4;

impl EntryRequest {
    /// The wire form.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(17);
        match self {
            Self::Register(handle) => {
                out.put_u8(1);
                out.put(handle.as_bytes());
            }
            Self::Hops => out.put_u8(2),
        }
        out
    }

    /// Decodes what [`EntryRequest::encode`] made.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let request = match r.u8()? {
            1 => Self::Register(LinkHandle::from_bytes(r.array()?)),
            2 => Self::Hops,
            got => {
                return Err(DecodeError::BadValue {
                    field: "entry request",
                    got: u64::from(got),
                });
            }
        };
        r.finish()?;
        Ok(request)
    }
}

/// What a client needs to use its entry as a hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryHops {
    /// The entry's name. A listed node is also in the document under it; a bridge is not.
    pub node: NodeId,
    /// Its hop keys: one or two, the older first.
    pub keys: Vec<(HopKeyId, HopPublic)>,
    /// How replies reach it, if it is not listed: listed nodes, each with the handle by which it names its link to this entry.
    pub ways_back: Vec<(NodeId, LinkHandle)>,
}

/// Ways back that an entry may name.
pub const WAYS_BACK_MAX: usize = 8;
const KEYS_MAX: usize = 2;

impl EntryHops {
    /// The wire form.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(32 + 36 * self.keys.len() + 32 * self.ways_back.len());
        out.put(self.node.as_bytes());
        out.put_u16(count(self.keys.len()));
        for (id, key) in &self.keys {
            out.put_u32(id.0);
            out.put(key.as_bytes());
        }
        out.put_u16(count(self.ways_back.len()));
        for (node, handle) in &self.ways_back {
            out.put(node.as_bytes());
            out.put(handle.as_bytes());
        }
        out
    }

    /// Decodes what [`EntryHops::encode`] made.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let node = NodeId::from_bytes(r.array()?);
        let keys = (0..r.count("hop keys of an entry", KEYS_MAX)?)
            .map(|_| Ok((HopKeyId(r.u32()?), HopPublic::from_bytes(r.array()?))))
            .collect::<Result<_, DecodeError>>()?;
        let ways_back = (0..r.count("ways back to an entry", WAYS_BACK_MAX)?)
            .map(|_| Ok((NodeId::from_bytes(r.array()?), LinkHandle::from_bytes(r.array()?))))
            .collect::<Result<_, DecodeError>>()?;
        r.finish()?;
        Ok(Self {
            node,
            keys,
            ways_back,
        })
    }
}

fn count(len: usize) -> u16 {
    u16::try_from(len).expect("bounded by the format")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hops() -> impl Strategy<Value = EntryHops> {
        let keys = prop::collection::vec((any::<u32>(), any::<[u8; 32]>()), 0..=KEYS_MAX);
        let ways = prop::collection::vec((any::<[u8; 16]>(), any::<[u8; 16]>()), 0..=WAYS_BACK_MAX);
        (any::<[u8; 16]>(), keys, ways).prop_map(|(node, keys, ways)| EntryHops {
            node: NodeId::from_bytes(node),
            keys: keys
                .into_iter()
                .map(|(id, key)| (HopKeyId(id), HopPublic::from_bytes(key)))
                .collect(),
            ways_back: ways
                .into_iter()
                .map(|(node, handle)| (NodeId::from_bytes(node), LinkHandle::from_bytes(handle)))
                .collect(),
        })
    }

    proptest! {
        #[test]
        fn entry_hops_read_back(hops in hops()) {
            prop_assert_eq!(EntryHops::decode(&hops.encode()), Ok(hops));
        }

        #[test]
        fn arbitrary_bytes_never_panic_and_what_decodes_is_canonical(bytes: Vec<u8>) {
            if let Ok(hops) = EntryHops::decode(&bytes) {
                prop_assert_eq!(hops.encode(), bytes.clone());
            }
            if let Ok(request) = EntryRequest::decode(&bytes) {
                prop_assert_eq!(request.encode(), bytes.clone());
            }
            let bytes = Bytes::from(bytes);
            if let Ok((service, body)) = Service::of_request(&bytes) {
                prop_assert_eq!(service.request(&body), bytes);
            }
        }
    }
}
