//! A place where a way in may be, and dialling it.

use std::io;
use std::net::SocketAddr;

use phantom_core::crypto::keys::{LinkPublic, NodeId};
use phantom_core::directory::descriptor::BridgeDescriptor;
use phantom_core::directory::document::NodeEntry;
use phantom_core::event::{Event, Outcome, Sensitive, Step};
use phantom_core::link::{self, BridgeSecret, ClientAuth, Link, LinkError, Resumption};
use phantom_core::rendezvous::StaticEntry;
use phantom_core::runtime::Runtime;
use phantom_core::units::WallTime;
use phantom_core::wire::{DecodeError, Reader, Writer};

/// Somebody to dial at an address. Only the holder of the key can answer, whatever a resolver or a censor puts there.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    pub(crate) address: SocketAddr,
    /// Who it is.
    pub(crate) node: NodeId,
    pub(crate) auth: ClientAuth,
    /// Not to be dialled from then on, as its descriptor says.
    pub(crate) expires: Option<WallTime>,
}

/// The same place and keys: a later descriptor of the same bridge is no second candidate.
impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        (self.address, &self.auth) == (other.address, &other.auth)
    }
}

impl Candidate {
    /// The published entry at one of its addresses.
    pub(crate) fn of_static(entry: &StaticEntry, address: SocketAddr) -> Self {
        Self {
            address,
            node: entry.identity.node_id(),
            auth: ClientAuth::Listed { server: entry.link },
            expires: None,
        }
    }

    /// A listed node, at each of its addresses.
    pub(crate) fn of_listed(node: &NodeEntry) -> impl Iterator<Item = Self> {
        node.addresses.iter().map(|address| Self {
            address: *address,
            node: node.id,
            auth: ClientAuth::Listed { server: node.link },
            expires: None,
        })
    }

    /// A bridge, at each of its addresses.
    pub(crate) fn of_bridge(bridge: &BridgeDescriptor) -> impl Iterator<Item = Self> {
        bridge.addresses.iter().map(|address| Self {
            address: *address,
            node: bridge.identity.node_id(),
            auth: ClientAuth::Bridge {
                server: bridge.link,
                secret: BridgeSecret::from_bytes(*bridge.psk),
            },
            expires: Some(bridge.expires),
        })
    }

    pub(crate) const fn is_bridge(&self) -> bool {
        matches!(self.auth, ClientAuth::Bridge { .. })
    }

    pub(crate) fn is_usable(&self, time: WallTime) -> bool {
        self.expires.is_none_or(|expires| time < expires)
    }

    /// Its form in the client's state.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.put_socket_addr(self.address);
        out.put(self.node.as_bytes());
        out.put(self.auth.server().as_bytes());
        match &self.auth {
            ClientAuth::Bridge { secret, .. } => {
                out.put_u8(1);
                out.put(secret.as_bytes());
            }
            ClientAuth::Listed { .. } | ClientAuth::Node { .. } => out.put_u8(0),
        }
        out.put_u64(self.expires.map_or(0, WallTime::as_unix_nanos));
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let address = r.socket_addr()?;
        let node = NodeId::from_bytes(r.array()?);
        let server = LinkPublic::from_bytes(r.array()?);
        let auth = match r.u8()? {
            0 => ClientAuth::Listed { server },
            1 => ClientAuth::Bridge {
                server,
                secret: BridgeSecret::from_bytes(r.array()?),
            },
            got => {
                return Err(DecodeError::BadValue {
                    field: "kind of entry",
                    got: u64::from(got),
                });
            }
        };
        let expires = match r.u64()? {
            0 => None,
            nanos => Some(WallTime::from_unix_nanos(nanos)),
        };
        Ok(Self {
            address,
            node,
            auth,
            expires,
        })
    }
}

/// Tells the simulator what nobody may see of a bridge.
pub(crate) fn mark_sensitive<R: Runtime>(rt: &R, bridge: &BridgeDescriptor) {
    for bytes in [&*bridge.psk, bridge.link.as_bytes(), bridge.identity.as_bytes()] {
        rt.sensitive(Sensitive::BridgeKey, bytes);
    }
}

/// Dials, and reports how that ended.
pub(crate) async fn dial<R: Runtime>(
    rt: &R,
    step: Step,
    candidate: &Candidate,
    config: &link::Config,
) -> Result<Link, Outcome> {
    let dialled = async {
        let stream = rt.connect(candidate.address).await.map_err(|e| of_io(e.kind()))?;
        // Boxed: most dials of a client that is shut out never come so far, and wait for two minutes.
        let link = Box::pin(link::connect(rt, stream, &candidate.auth, config)).await;
        link.map_err(|error| of_link(&error))
    };
    let result = dialled.await;
    rt.emit(Event::Attempt {
        step,
        target: Some(candidate.address),
        outcome: result
            .as_ref()
            .map_or_else(|outcome| *outcome, |_| Outcome::Connected),
    });
    result
}

/// Carries a lost link on over a new stream to the same server; `None` when that fails.
pub(crate) async fn redial<R: Runtime>(
    rt: &R,
    candidate: &Candidate,
    lost: Link,
    config: &link::Config,
) -> Option<Resumption> {
    let stream = rt.connect(candidate.address).await.ok()?;
    // As in `dial`.
    Box::pin(link::resume(rt, stream, &candidate.auth, &lost, config))
        .await
        .ok()
}

fn of_io(kind: io::ErrorKind) -> Outcome {
    match kind {
        io::ErrorKind::TimedOut => Outcome::TimedOut,
        io::ErrorKind::ConnectionRefused => Outcome::Refused,
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::UnexpectedEof => {
            Outcome::Reset
        }
        _ => Outcome::Failed,
    }
}

fn of_link(error: &LinkError) -> Outcome {
    match error {
        LinkError::Stream { kind, .. } => of_io(*kind),
        LinkError::Gone { .. } => Outcome::Reset,
        LinkError::TimedOut { .. } => Outcome::TimedOut,
        LinkError::WrongKey => Outcome::WrongKey,
        _ => Outcome::Failed,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_decodes_encodes_back_and_nothing_panics(mut bytes in prop::collection::vec(any::<u8>(), 90..120)) {
            bytes[0] = if bytes[0] & 1 == 0 { 4 } else { 6 };
            let mut r = Reader::new(&bytes);
            if let Ok(candidate) = Candidate::read(&mut r) {
                let mut out = Vec::new();
                candidate.write(&mut out);
                let mut r = Reader::new(&out);
                let again = Candidate::read(&mut r).expect("its own bytes");
                prop_assert_eq!(&again, &candidate);
                prop_assert_eq!(again.expires, candidate.expires);
            }
        }
    }
}
