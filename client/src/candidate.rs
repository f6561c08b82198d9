//! A place where a way in may be, and dialling it.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use phantom_core::crypto::kdf::Context;
use phantom_core::crypto::keys::{LinkPublic, NodeId};
use phantom_core::directory::descriptor::BridgeDescriptor;
use phantom_core::directory::document::NodeEntry;
use phantom_core::event::{Event, Outcome, Sensitive, Step};
use phantom_core::ladder;
use phantom_core::link::{self, BridgeSecret, ClientAuth, Link, LinkError, Resumption};
use phantom_core::rendezvous::StaticEntry;
use phantom_core::runtime::{Runtime, Share};
use phantom_core::transport::{Kind, Transport};
use phantom_core::units::WallTime;
use phantom_core::wire::{DecodeError, Reader, Writer};
use phantom_rotation::ServerId;

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
    /// How to speak there.
    transport: Transport,
}

/// The same place, keys and transport: a later descriptor of the same bridge is no second candidate.
impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        let (one, two) = (&*self.who, &*other.who);
        (self.at, &one.server, &one.secret, &one.transport)
            == (other.at, &two.server, &two.secret, &two.transport)
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
            transport: Transport::Plain,
        };
        Self::new(address, who)
    }

    /// The same, of which this process holds no second copy.
    pub(crate) fn shared<S: Share>(self, rt: &S) -> Self {
        let Self { at, who } = self;
        let secret = who.secret.as_ref().map_or(&[][..], |secret| secret.as_bytes());
        let expires = who.expires.map_or(0, NonZeroU64::get).to_be_bytes();
        let mut transport = Vec::new();
        who.transport.write(&mut transport);
        let key = SHARED.derive_fields(&[
            who.node.as_bytes(),
            who.server.as_bytes(),
            secret,
            &expires,
            &transport,
        ]);
        let who = rt.shared(key, || (*who).clone());
        Self { at, who }
    }

    /// What rotation calls it.
    pub(crate) fn way(&self) -> phantom_rotation::Candidate {
        phantom_rotation::Candidate {
            kind: phantom_rotation::Kind::new(self.kind().name()).expect("a name"),
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

    /// A bridge, at each place where it listens. Those come first that look least like what they are: a plain link gives its
    /// server away to whoever looks for bytes that are like nothing known, so it is what is left.
    pub(crate) fn of_bridge(bridge: &BridgeDescriptor) -> impl Iterator<Item = Self> {
        let mut ways: Vec<_> = bridge.ways.known().iter().collect();
        ways.sort_by_key(|way| std::cmp::Reverse(way.transport.kind()));
        ways.into_iter().map(|way| {
            let who = Who {
                node: bridge.identity.node_id(),
                server: bridge.link,
                secret: Some(BridgeSecret::from_bytes(*bridge.psk)),
                expires: NonZeroU64::new(bridge.expires.as_unix_nanos().max(1)), // none is for ever
                transport: way.transport.clone(),
            };
            Self::new(way.at, who)
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

    /// How to speak there.
    pub(crate) fn kind(&self) -> Kind {
        self.who.transport.kind()
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
        let bridge = match self.who.transport {
            Transport::Plain => BRIDGE,
            _ => BRIDGE_WITH_TRANSPORT,
        };
        out.put_u8(if self.is_bridge() { bridge } else { LISTED });
        if let Some(secret) = &self.who.secret {
            out.put(secret.as_bytes());
            if bridge == BRIDGE_WITH_TRANSPORT {
                self.who.transport.write(out);
            }
        }
        out.put_u64(self.who.expires.map_or(0, NonZeroU64::get));
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let address = r.socket_addr()?;
        let node = NodeId::from_bytes(r.array()?);
        let server = LinkPublic::from_bytes(r.array()?);
        let (secret, transport) = match r.u8()? {
            LISTED => (None, Transport::Plain),
            BRIDGE => (Some(BridgeSecret::from_bytes(r.array()?)), Transport::Plain),
            BRIDGE_WITH_TRANSPORT => (Some(BridgeSecret::from_bytes(r.array()?)), Transport::read(r)?),
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
            transport,
        };
        Ok(Self::new(address, who))
    }
}

impl ladder::Entry for Candidate {
    fn transport(&self) -> Kind {
        self.kind()
    }
}

/// Kinds of entries in the client's state.
const LISTED: u8 = 0;
const BRIDGE: u8 = 1;
const BRIDGE_WITH_TRANSPORT: u8 = 2;

/// Tells the simulator what nobody may see of a bridge.
pub(crate) fn mark_sensitive<R: Runtime>(rt: &R, bridge: &BridgeDescriptor) {
    for bytes in [&*bridge.psk, bridge.link.as_bytes(), bridge.identity.as_bytes()] {
        rt.sensitive(Sensitive::BridgeKey, bytes);
    }
    for way in bridge.ways.known() {
        way.transport.mark_sensitive(rt);
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
        let stream = rt.connect(candidate.address()).await;
        let stream = stream.map_err(|error| Outcome::of_io(error.kind()))?;
        answered.store(true, Ordering::Relaxed);
        // Boxed: most dials of a client that is shut out never come so far, and wait for two minutes.
        let link = Box::pin(async move {
            let stream = candidate.who.transport.dial(rt, stream).await;
            let stream = stream.map_err(|error| error.outcome())?;
            let auth = candidate.auth();
            let link = link::connect(rt, stream, &auth, config).await;
            link.map_err(|error| of_link(&error))
        });
        link.await
    };
    let result = dialled.await;
    rt.emit(Event::Attempt {
        step,
        target: Some(candidate.address()),
        outcome: result
            .as_ref()
            .map_or_else(|outcome| *outcome, |_| Outcome::Connected),
        transport: candidate.kind(),
    });
    result
}

/// Carries a lost link on over a new stream to the same server, at this place of it and with its transport, whichever the link
/// had before; `None` when that fails.
pub(crate) async fn redial<R: Runtime>(
    rt: &R,
    candidate: &Candidate,
    lost: Link,
    config: &link::Config,
) -> Option<Resumption> {
    let transport = &candidate.who.transport;
    let stream = transport.connect(rt, candidate.address()).await.ok()?;
    // As in `dial`.
    let resumed = Box::pin(async move {
        let auth = candidate.auth();
        link::resume(rt, stream, &auth, &lost, config).await
    });
    resumed.await.ok()
}

fn of_link(error: &LinkError) -> Outcome {
    match error {
        LinkError::Stream { kind, .. } => Outcome::of_io(*kind),
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
        fn what_decodes_encodes_back_and_nothing_panics(mut bytes in prop::collection::vec(any::<u8>(), 143..200), over in 0..3_u8) {
            // A kind of entry and of transport that there is, so that all of them are read.
            (bytes[55], bytes[88], bytes[141], bytes[142]) = (over, 1, over, over);
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
