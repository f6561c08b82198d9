//! Where a packet goes: the routing command of each layer and the hops of a path. Spec: SPEC §3.2, §3.3.

use rand_core::CryptoRng;

use super::PeelError;
use super::keys::{HopKeyId, HopPublic};
use crate::crypto::keys::NodeId;

/// Bytes of a routing command: a kind and 16 bytes.
pub(super) const COMMAND_LEN: usize = 17;

const KIND_DELIVER: u8 = 0;
const KIND_NODE: u8 = 1;
const KIND_LINK: u8 = 2;

/// A random name that a node gives one of its links, so that packets can be sent down that link without anybody who
/// names it knowing who is at the other end. It dies with the link.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkHandle([u8; 16]);

impl LinkHandle {
    /// Draws a handle.
    pub fn from_rng(rng: &mut impl CryptoRng) -> Self {
        let mut bytes = [0; 16];
        rng.fill_bytes(&mut bytes);
        Self(bytes)
    }

    /// A handle from the wire.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its wire form.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl std::fmt::Debug for LinkHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LinkHandle({:02x}{:02x}…)", self.0[0], self.0[1])
    }
}

/// Where a relay sends a packet on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NextHop {
    /// To a listed node.
    Node(NodeId),
    /// Down the relay's own link of that name: to a bridge or a client, and the relay cannot tell which.
    Link(LinkHandle),
}

/// One hop of a path as the maker of a packet sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hop {
    /// How the hop before it reaches this one. Of the first hop of a request it is not used: the maker has a link to it.
    pub reach: NextHop,
    /// The period of its hop key. It is not in the packet; it says how long a SURB over this hop is good.
    pub key_id: HopKeyId,
    /// Its hop key.
    pub key: HopPublic,
}

/// The routing command of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Command {
    Forward(NextHop),
    Deliver,
}

impl Command {
    pub(super) fn encode(self) -> [u8; COMMAND_LEN] {
        let (kind, id) = match self {
            Self::Deliver => (KIND_DELIVER, [0; 16]),
            Self::Forward(NextHop::Node(id)) => (KIND_NODE, *id.as_bytes()),
            Self::Forward(NextHop::Link(handle)) => (KIND_LINK, handle.0),
        };
        let mut out = [kind; COMMAND_LEN];
        out[1..].copy_from_slice(&id);
        out
    }

    pub(super) fn decode(bytes: &[u8; COMMAND_LEN]) -> Result<Self, PeelError> {
        let [kind, id @ ..] = *bytes;
        match kind {
            KIND_DELIVER if id == [0; 16] => Ok(Self::Deliver),
            KIND_NODE => Ok(Self::Forward(NextHop::Node(NodeId::from_bytes(id)))),
            KIND_LINK => Ok(Self::Forward(NextHop::Link(LinkHandle(id)))),
            _ => Err(PeelError::BadCommand { kind }),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_command_that_decodes_encodes_back_to_the_same_bytes(kind in 0_u8..5, id: [u8; 16]) {
            let mut bytes = [kind; COMMAND_LEN];
            bytes[1..].copy_from_slice(&id);
            match Command::decode(&bytes) {
                Ok(command) => prop_assert_eq!(command.encode(), bytes),
                Err(_) => prop_assert!(kind > KIND_LINK || kind == KIND_DELIVER),
            }
            prop_assert_eq!(Command::decode(&Command::Deliver.encode()), Ok(Command::Deliver));
        }
    }
}
