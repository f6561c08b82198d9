//! Who may dial whom, and how the first message shows it. Spec: SPEC §2.2.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use rand_core::CryptoRng;
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::crypto::kdf::Context;
use crate::crypto::keys::{LinkPublic, LinkSecret};
use crate::crypto::noise::Pattern;
use crate::runtime::Store;
use crate::units::WallTime;

use super::answered::Answered;
use super::tickets::TicketStore;

const HINT_NODE: Context = Context::new("phantom-net 2026 link hint node v1");
const HINT_LISTED: Context = Context::new("phantom-net 2026 link hint listed v1");
const HINT_BRIDGE: Context = Context::new("phantom-net 2026 link hint bridge v1");

/// Bytes before the Noise message of a hello, by which the server finds the pattern and the key without a key exchange.
pub(crate) const HINT_LEN: usize = 16;
pub(crate) type Hint = [u8; HINT_LEN];

/// The secret of a bridge's descriptor. Without it the bridge answers nobody.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct BridgeSecret([u8; 32]);

impl BridgeSecret {
    /// Draws one.
    pub fn from_rng(rng: &mut impl CryptoRng) -> Self {
        let mut bytes = [0; 32];
        rng.fill_bytes(&mut bytes);
        Self(bytes)
    }

    /// From a descriptor.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// For a descriptor.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for BridgeSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BridgeSecret(secret)")
    }
}

impl PartialEq for BridgeSecret {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for BridgeSecret {}

/// Whom to dial, and as whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// As a listed node, to a listed node (Noise IK).
    Node {
        /// Our link key: the server learns whose it is.
        secret: LinkSecret,
        /// The server's link key.
        server: LinkPublic,
    },
    /// As nobody, to a listed node (Noise NK): clients and bridges do so.
    Listed {
        /// The server's link key.
        server: LinkPublic,
    },
    /// As nobody, to a bridge (Noise NKpsk0).
    Bridge {
        /// The bridge's link key.
        server: LinkPublic,
        /// The secret of its descriptor.
        secret: BridgeSecret,
    },
}

impl ClientAuth {
    /// The key of the server that is dialled.
    pub const fn server(&self) -> &LinkPublic {
        match self {
            Self::Node { server, .. } | Self::Listed { server } | Self::Bridge { server, .. } => server,
        }
    }

    pub(crate) const fn pattern(&self) -> Pattern {
        match self {
            Self::Node { .. } => Pattern::Ik,
            Self::Listed { .. } => Pattern::Nk,
            Self::Bridge { .. } => Pattern::NkPsk0,
        }
    }

    /// The hint before a Noise message that begins with `ephemeral`.
    pub(crate) fn hint(&self, ephemeral: &[u8], wall: WallTime) -> Hint {
        match self {
            Self::Node { server, .. } => keyless_hint(HINT_NODE, server, ephemeral),
            Self::Listed { server } => keyless_hint(HINT_LISTED, server, ephemeral),
            Self::Bridge { server, secret } => bridge_hint(secret, server, hour(wall), ephemeral),
        }
    }
}

fn head(hash: [u8; 32]) -> Hint {
    let mut hint = [0; HINT_LEN];
    hint.copy_from_slice(&hash[..HINT_LEN]);
    hint
}

fn keyless_hint(context: Context, server: &LinkPublic, ephemeral: &[u8]) -> Hint {
    head(context.derive_fields(&[server.as_bytes(), ephemeral]))
}

fn bridge_hint(secret: &BridgeSecret, server: &LinkPublic, hour: u64, ephemeral: &[u8]) -> Hint {
    head(HINT_BRIDGE.derive_fields(&[&secret.0, server.as_bytes(), &hour.to_be_bytes(), ephemeral]))
}

pub(crate) const fn hour(wall: WallTime) -> u64 {
    wall.as_unix_secs() / 3600
}

/// Who dialled, as far as the handshake showed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerKind {
    /// A node that holds this link key. Whether it is listed is for the caller to look up.
    Node(LinkPublic),
    /// A client, or a bridge that dials as one.
    Anonymous,
}

/// What a server accepts, and what it remembers for that. Clones share it: one for all listeners of a node.
#[derive(Clone)]
pub struct ServerAuth(Arc<Inner>);

struct Inner {
    secret: LinkSecret,
    public: LinkPublic,
    /// `None` for a listed node.
    bridge: Option<BridgeSecret>,
    tickets: Mutex<TicketStore>,
    answered: Answered,
}

/// What a hint says about the rest of a hello.
pub(crate) enum Hinted {
    /// One of the full handshakes.
    Full(Pattern),
    /// The full handshake of a bridge, made in this hour.
    Bridge(u64),
}

impl ServerAuth {
    /// A listed node: accepts nodes (IK), clients (NK) and tickets.
    pub fn listed(secret: LinkSecret) -> Self {
        Self::new(secret, None)
    }

    /// A bridge: accepts who knows its descriptor's secret (NKpsk0), and tickets; silent to everybody else.
    pub fn bridge(secret: LinkSecret, descriptor_secret: BridgeSecret) -> Self {
        Self::new(secret, Some(descriptor_secret))
    }

    fn new(secret: LinkSecret, bridge: Option<BridgeSecret>) -> Self {
        let public = secret.public();
        Self(Arc::new(Inner {
            secret,
            public,
            bridge,
            tickets: Mutex::default(),
            answered: Answered::default(),
        }))
    }

    /// The key under which it is dialled.
    pub fn public(&self) -> &LinkPublic {
        &self.0.public
    }

    pub(crate) fn secret(&self) -> &LinkSecret {
        &self.0.secret
    }

    pub(crate) fn bridge_secret(&self) -> Option<&BridgeSecret> {
        self.0.bridge.as_ref()
    }

    /// Takes in what earlier starts of this bridge have answered, so that none of it is answered again. Call it before the first
    /// [`accept`](super::accept), which writes down what it answers; a listed node remembers nothing.
    ///
    /// # Errors
    /// Of the store: whoever goes on nevertheless may answer a recorded hello.
    pub async fn restore<S: Store>(&self, store: &S) -> io::Result<()> {
        match self.0.bridge {
            Some(_) => self.0.answered.restore(store).await,
            None => Ok(()),
        }
    }

    /// Runs `f` on the tickets that are out. Never call anything that waits in it.
    pub(crate) fn with_tickets<T>(&self, f: impl FnOnce(&mut TicketStore) -> T) -> T {
        f(&mut self.0.tickets.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The hellos that were answered.
    pub(crate) fn answered(&self) -> &Answered {
        &self.0.answered
    }

    /// What `hint` before `ephemeral` announces; `None` when it is no hint of ours. Costs at most three hashes.
    pub(crate) fn hinted(&self, hint: &Hint, ephemeral: &[u8], wall: WallTime) -> Option<Hinted> {
        let is = |wanted: Hint| bool::from(wanted.ct_eq(hint));
        match &self.0.bridge {
            None if is(keyless_hint(HINT_LISTED, &self.0.public, ephemeral)) => {
                Some(Hinted::Full(Pattern::Nk))
            }
            None if is(keyless_hint(HINT_NODE, &self.0.public, ephemeral)) => Some(Hinted::Full(Pattern::Ik)),
            None => None,
            Some(secret) => self
                .answered()
                .accepted(hour(wall))
                .find(|hour| is(bridge_hint(secret, &self.0.public, *hour, ephemeral)))
                .map(Hinted::Bridge),
        }
    }
}

impl fmt::Debug for ServerAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerAuth")
            .field("public", &self.0.public)
            .field("bridge", &self.0.bridge.is_some())
            .finish_non_exhaustive()
    }
}
