//! A place where a way in may be, and dialling it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use phantom_core::crypto::kdf::Context;
use phantom_core::crypto::keys::{LinkPublic, NodeId};
use phantom_core::directory::descriptor::BridgeDescriptor;
use phantom_core::directory::document::NodeEntry;
use phantom_core::event::{Event, Outcome, Sensitive, Step};
use phantom_core::link::{self, BridgeSecret, ClientAuth, Link, LinkError, Resumption};
use phantom_core::rendezvous::StaticEntry;
use phantom_core::runtime::{Runtime, Share};
use phantom_core::units::WallTime;
use phantom_core::wire::{DecodeError, Reader, Writer};
use phantom_rotation::{Kind, ServerId};

/// Distinguishes what this module shares between the peers of a process.
const SHARED: Context = Context::new("phantom-net 2026 shared candidate v1");

/// Somebody to dial at an address. Only the holder of the key can answer, whatever a resolver or a censor puts there.
#[derive(Clone, Debug)]
pub(crate) struct Candidate {
    /// With the port: all that the wire says of an address, in 20 bytes of 32.
    at: (IpAddr, u16),
    /// Behind a pointer, for most are listed nodes, the same for every client: see [`Candidate::shared`].
    who: Arc<Who>,
}

// A client keeps 64 of them in its ladder, through all the time in which it is connected.
const _: () = assert!(size_of::<Candidate>() <= 32);

/// Who is to answer, and how to show that one may ask.
#[derive(Clone, Debug)]
struct Who {
    node: NodeId,
    server: LinkPublic,
    /// Of a bridge.
    secret: Option<BridgeSecret>,
    /// Unix nanoseconds; see [`Candidate::expires`].
    expires: Option<NonZeroU64>,
}

/// The same place and keys: a later descriptor of the same bridge is no second candidate.
impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        let (one, two) = (&*self.who, &*other.who);
        (self.at, &one.server, &one.secret) == (other.at, &two.server, &two.secret)
    }
}

impl Candidate {
    fn new(address: SocketAddr, who: Who) -> Self {
        let at = (address.ip(), address.port());
        Self {
            at,
            who: Arc::new(who),
        }
    }

    pub(crate) fn listed(address: SocketAddr, node: NodeId, server: LinkPublic) -> Self {
        let who = Who {
            node,
            server,
            secret: None,
            expires: None,
        };
        Self::new(address, who)
    }

    /// The same, of which this process holds no second copy.
    pub(crate) fn shared<S: Share>(self, rt: &S) -> Self {
        let Self { at, who } = self;
        let secret = who.secret.as_ref().map_or(&[][..], |secret| secret.as_bytes());
        let expires = who.expires.map_or(0, NonZeroU64::get).to_be_bytes();
        let key = SHARED.derive_fields(&[who.node.as_bytes(), who.server.as_bytes(), secret, &expires]);
        let who = rt.shared(key, || (*who).clone());
        Self { at, who }
    }

    /// What rotation calls it.
    pub(crate) fn way(&self) -> phantom_rotation::Candidate {
        phantom_rotation::Candidate {
            kind: Kind::new("plain").expect("a name"),
            server: ServerId(*self.who.node.as_bytes()),
            address: self.address(),
        }
    }

    /// Its name.
    pub(crate) fn node(&self) -> NodeId {
        self.who.node
    }

    /// The same, not to be dialled from `expires` on.
    #[cfg(test)]
    pub(crate) fn until(self, expires: WallTime) -> Self {
        let who = Who {
            expires: NonZeroU64::new(expires.as_unix_nanos()),
            ..(*self.who).clone()
        };
        Self::new(self.address(), who)
    }

    /// The published entry at one of its addresses.
    pub(crate) fn of_static(entry: &StaticEntry, address: SocketAddr) -> Self {
        Self::listed(address, entry.identity.node_id(), entry.link)
    }

    /// A listed node, at each of its addresses.
    pub(crate) fn of_listed(node: &NodeEntry) -> impl Iterator<Item = Self> {
        let addresses = node.addresses.iter();
        addresses.map(|address| Self::listed(*address, node.id, node.link))
    }

    /// A bridge, at each of its addresses.
    pub(crate) fn of_bridge(bridge: &BridgeDescriptor) -> impl Iterator<Item = Self> {
        bridge.addresses.iter().map(|address| {
            let who = Who {
                node: bridge.identity.node_id(),
                server: bridge.link,
                secret: Some(BridgeSecret::from_bytes(*bridge.psk)),
                expires: NonZeroU64::new(bridge.expires.as_unix_nanos().max(1)), // none is for ever
            };
            Self::new(*address, who)
        })
    }

    /// Whether the other is the same server, or at the same IP address.
    pub(crate) fn is_beside(&self, other: &Self) -> bool {
        self.who.node == other.who.node || self.at.0 == other.at.0
    }

    pub(crate) fn is_bridge(&self) -> bool {
        self.who.secret.is_some()
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        SocketAddr::new(self.at.0, self.at.1)
    }

    /// As whom to dial it.
    pub(crate) fn auth(&self) -> ClientAuth {
        let server = self.who.server;
        self.who
            .secret
            .as_ref()
            .map_or(ClientAuth::Listed { server }, |secret| {
                let secret = secret.clone();
                ClientAuth::Bridge { server, secret }
            })
    }

    /// Not to be dialled from then on, as its descriptor says.
    pub(crate) fn expires(&self) -> Option<WallTime> {
        self.who
            .expires
            .map(|nanos| WallTime::from_unix_nanos(nanos.get()))
    }

    pub(crate) fn is_usable(&self, time: WallTime) -> bool {
        self.expires().is_none_or(|expires| time < expires)
    }

    /// Its form in the client's state.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.put_socket_addr(self.address());
        out.put(self.who.node.as_bytes());
        out.put(self.who.server.as_bytes());
        out.put_u8(u8::from(self.is_bridge()));
        if let Some(secret) = &self.who.secret {
            out.put(secret.as_bytes());
        }
        out.put_u64(self.who.expires.map_or(0, NonZeroU64::get));
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let address = r.socket_addr()?;
        let node = NodeId::from_bytes(r.array()?);
        let server = LinkPublic::from_bytes(r.array()?);
        let secret = match r.u8()? {
            0 => None,
            1 => Some(BridgeSecret::from_bytes(r.array()?)),
            got => {
                return Err(DecodeError::BadValue {
                    field: "kind of entry",
                    got: u64::from(got),
                });
            }
        };
        let who = Who {
            node,
            server,
            secret,
            expires: NonZeroU64::new(r.u64()?),
        };
        Ok(Self::new(address, who))
    }
}

/// Tells the simulator what nobody may see of a bridge.
pub(crate) fn mark_sensitive<R: Runtime>(rt: &R, bridge: &BridgeDescriptor) {
    for bytes in [&*bridge.psk, bridge.link.as_bytes(), bridge.identity.as_bytes()] {
        rt.sensitive(Sensitive::BridgeKey, bytes);
    }
}

/// Dials, and reports how that ended. Sets `answered` when the server's host has taken the connection.
pub(crate) async fn dial<R: Runtime>(
    rt: &R,
    step: Step,
    candidate: &Candidate,
    config: &link::Config,
    answered: &AtomicBool,
) -> Result<Link, Outcome> {
    let dialled = async {
        let stream = rt
            .connect(candidate.address())
            .await
            .map_err(|e| of_io(e.kind()))?;
        answered.store(true, Ordering::Relaxed);
        // Boxed: most dials of a client that is shut out never come so far, and wait for two minutes.
        let link = Box::pin(async move {
            let auth = candidate.auth();
            link::connect(rt, stream, &auth, config).await
        });
        let link = link.await;
        link.map_err(|error| of_link(&error))
    };
    let result = dialled.await;
    rt.emit(Event::Attempt {
        step,
        target: Some(candidate.address()),
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
    let stream = rt.connect(candidate.address()).await.ok()?;
    // As in `dial`.
    let resumed = Box::pin(async move {
        let auth = candidate.auth();
        link::resume(rt, stream, &auth, &lost, config).await
    });
    resumed.await.ok()
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
    use phantom_core::runtime::tokio::{Config, TokioRuntime};
    use proptest::prelude::*;

    use super::*;

    #[tokio::test]
    async fn a_node_at_two_addresses_is_held_once_and_another_is_another() {
        let dir = tempfile::tempdir().expect("a directory");
        let rt = TokioRuntime::start(Config::new("test", dir.path())).expect("started");
        let listed = |port: u16, key: u8| {
            let (node, server) = (NodeId::from_bytes([key; 16]), LinkPublic::from_bytes([key; 32]));
            Candidate::listed(([192, 0, 2, 1], port).into(), node, server).shared(&rt)
        };
        let (one, same, other) = (listed(1, 7), listed(2, 7), listed(1, 8));
        assert!(Arc::ptr_eq(&one.who, &same.who) && one != same);
        assert!(!Arc::ptr_eq(&one.who, &other.who) && one != other);
    }

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
                prop_assert_eq!(again.expires(), candidate.expires());
            }
        }
    }
}
