//! What a node is told. Parsed once into valid types; the file form is in [`crate::settings`].

use std::net::SocketAddr;
use std::time::Duration;

use phantom_core::crypto::keys::{IdentitySecret, LinkPublic, LinkSecret};
use phantom_core::dht;
use phantom_core::directory::descriptor::Roles;
use phantom_core::directory::document::Timing;
use phantom_core::directory::sign::{AuthorityId, KeySet};
use phantom_core::link::{self, BridgeSecret};
use phantom_core::mailbox::OperatorId;
use phantom_core::rendezvous::BridgeSlots;
use phantom_core::transport::Kind;
use phantom_core::transport::obfs4::IatMode;
use phantom_core::trusted_time::TimeLimits;

/// The long-term keys of a node. Losing them means a new node; leaking them lets another pose as this one.
#[derive(Clone, Debug)]
pub struct Keys {
    /// Signs descriptors; the node's name derives from it.
    pub identity: IdentitySecret,
    /// Authenticates links.
    pub link: LinkSecret,
}

/// Where a directory authority is reached.
#[derive(Clone, Debug)]
pub struct AuthorityContact {
    /// Its name.
    pub id: AuthorityId,
    /// Its link key.
    pub link: LinkPublic,
    /// Its addresses, tried in order.
    pub addresses: Vec<SocketAddr>,
}

/// Whom to believe about the network.
#[derive(Clone, Debug)]
pub struct Directory {
    /// The authorities' keys and how many must sign.
    pub pinned: KeySet,
    /// Where they are.
    pub authorities: Vec<AuthorityContact>,
    /// How far a wall clock is believed.
    pub limits: TimeLimits,
    /// Intervals, for a node that has no document yet. The document's own count once there is one.
    pub timing: Timing,
}

/// What makes a node a bridge.
#[derive(Clone, Debug)]
pub struct Bridge {
    /// Known from its descriptor; whoever does not know it gets no byte in answer.
    pub secret: BridgeSecret,
    /// Links to listed nodes over which replies come back. Default 3: a client needs one that works.
    pub ways_back: usize,
    /// The slots in which it publishes its descriptor.
    pub slots: BridgeSlots,
    /// How it reaches the DHT; `None`: it does not publish there.
    pub dht: Option<dht::client::ClientConfig>,
    /// Where it listens with transports, besides the plain places of [`NodeConfig`], of which there may be none then.
    pub transports: Vec<Listening>,
    /// How obfs4 paces what the bridge and its clients write.
    pub iat_mode: IatMode,
}

/// The places where a bridge speaks one transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listening {
    /// Which.
    pub kind: Kind,
    /// Where it listens.
    pub listen: Vec<SocketAddr>,
    /// Under which addresses clients reach that.
    pub addresses: Vec<SocketAddr>,
}

/// Bounds of what others can make a node hold or do.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Links of others at once; listed nodes are counted apart, up to as many. Default 4,096.
    pub links_max: usize,
    /// Packets waiting for one peer node while its link comes up or is full. Default 32: an eighth of what a relay has in work,
    /// so that one node that does not answer leaves the others theirs.
    pub outbox_max: usize,
    /// A link to another node that carried nothing for this long is closed. Default 30 s.
    pub idle_after: Duration,
    /// How long to wait for another node's answer. Default 10 s.
    pub answer_within: Duration,
    /// Requests of one link worked on at once. Default 16.
    pub requests_per_link: u16,
    /// Packets a second that the replay filters are made for, per hop key period. Default 200.
    pub packets_per_second: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            links_max: 4_096,
            outbox_max: 32,
            idle_after: Duration::from_secs(30),
            answer_within: Duration::from_secs(10),
            requests_per_link: 16,
            packets_per_second: 200,
        }
    }
}

/// A service node or a bridge.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Its keys.
    pub keys: Keys,
    /// Where it listens.
    pub listen: Vec<SocketAddr>,
    /// Under which addresses others reach it.
    pub addresses: Vec<SocketAddr>,
    /// What it offers, if it is listed.
    pub roles: Roles,
    /// Who runs it.
    pub operator: OperatorId,
    /// Whom it believes.
    pub directory: Directory,
    /// Present if it is unlisted.
    pub bridge: Option<Bridge>,
    /// Bounds.
    pub limits: Limits,
    /// Its links.
    pub link: link::Config,
}

/// A node that knows nobody, for tests.
#[cfg(test)]
pub(crate) fn alone<R: phantom_core::runtime::Entropy>(rt: &R) -> NodeConfig {
    let identity = IdentitySecret::from_rng(&mut rt.rng("identity"));
    NodeConfig {
        directory: Directory {
            pinned: KeySet::new(0, 1, &[identity.public()]).unwrap(),
            authorities: Vec::new(),
            limits: TimeLimits::default(),
            timing: Timing::default(),
        },
        keys: Keys {
            identity,
            link: LinkSecret::from_rng(&mut rt.rng("link")),
        },
        listen: Vec::new(),
        addresses: Vec::new(),
        roles: Roles::ALL,
        operator: OperatorId([1; 16]),
        bridge: None,
        limits: Limits::default(),
        link: link::Config::default(),
    }
}
