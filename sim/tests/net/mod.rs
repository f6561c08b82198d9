//! A small network of real node programs on swarm, as the tests of this folder tell their stories about.
#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use phantom_core::crypto::keys::{IdentitySecret, LinkSecret};
use phantom_core::dht;
use phantom_core::directory::authority::Admission;
use phantom_core::directory::descriptor::Roles;
use phantom_core::directory::document::Timing;
use phantom_core::directory::sign::{AuthorityId, KeySet};
use phantom_core::link::{self, BridgeSecret};
use phantom_core::mailbox::OperatorId;
use phantom_core::rendezvous::BridgeSlots;
use phantom_core::trusted_time::TimeLimits;
use phantom_core::units::Instant;
use phantom_node::authority::AuthorityConfig;
use phantom_node::config::{AuthorityContact, Bridge, Directory, Keys, Limits, NodeConfig};
use phantom_node::store::StoreConfig;
use phantom_sim::host::PeerId;
use phantom_sim::stage::{Act, Delays, HostSpec, Stage, program};
use phantom_sim::swarm::SwarmStage;
use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;

/// The port that everybody listens on.
pub const PORT: u16 = 443;

/// A service node of the network.
pub struct TestNode {
    pub peer: PeerId,
    pub name: String,
    pub keys: Keys,
    pub address: SocketAddr,
}

/// Authorities and nodes on a stage.
pub struct Net {
    pub stage: SwarmStage,
    pub authorities: Vec<PeerId>,
    pub directory: Directory,
    pub nodes: Vec<TestNode>,
    pub rng: ChaCha12Rng,
}

pub fn timing() -> Timing {
    Timing {
        interval: Duration::from_secs(60),
        hop_period: Duration::from_secs(3_600),
    }
}

impl Net {
    pub fn new(seed: u64, authorities: usize, nodes: usize) -> Self {
        let mut rng = ChaCha12Rng::seed_from_u64(seed);
        let mut stage = SwarmStage::new(seed, Delays::uniform(Duration::from_millis(40)));
        let secrets: Vec<(IdentitySecret, LinkSecret)> = (0..authorities)
            .map(|_| (IdentitySecret::from_rng(&mut rng), LinkSecret::from_rng(&mut rng)))
            .collect();
        let publics: Vec<_> = secrets.iter().map(|(identity, _)| identity.public()).collect();
        let pinned = KeySet::new(1, authorities / 2 + 1, &publics).expect("a good key set");
        let at = |net: u8, host: usize| {
            IpAddr::V4(Ipv4Addr::new(10, net, 0, u8::try_from(host + 1).expect("few")))
        };
        let contacts: Vec<_> = secrets
            .iter()
            .enumerate()
            .map(|(i, (identity, link))| AuthorityContact {
                id: AuthorityId::of(&identity.public()),
                link: link.public(),
                addresses: vec![SocketAddr::new(at(1, i), PORT)],
            })
            .collect();
        let directory = Directory {
            pinned: pinned.clone(),
            authorities: contacts.clone(),
            limits: TimeLimits::default(),
            timing: timing(),
        };
        let mut authority_peers = Vec::new();
        for (i, (identity, link_secret)) in secrets.into_iter().enumerate() {
            let peer = stage.add_host(HostSpec::new(format!("authority-{i}"), at(1, i)));
            let me = AuthorityId::of(&identity.public());
            let config = AuthorityConfig {
                identity,
                link_secret,
                listen: vec![SocketAddr::new(at(1, i), PORT)],
                keys: pinned.clone(),
                others: contacts.iter().filter(|c| c.id != me).cloned().collect(),
                limits: TimeLimits::default(),
                timing: timing(),
                admission: Admission::Open,
                link: link::Config::default(),
            };
            stage.set_program(
                peer,
                program(move |rt| {
                    let config = config.clone();
                    async move {
                        phantom_node::authority::run(rt, config)
                            .await
                            .expect("the authority starts")
                    }
                }),
            );
            stage.at(Instant::ZERO, Act::Start(peer));
            authority_peers.push(peer);
        }
        let mut net = Self {
            stage,
            authorities: authority_peers,
            directory,
            nodes: Vec::new(),
            rng,
        };
        for i in 0..nodes {
            net.add_node(i, at(2, i));
        }
        net
    }

    fn add_node(&mut self, i: usize, ip: IpAddr) {
        let keys = Keys {
            identity: IdentitySecret::from_rng(&mut self.rng),
            link: LinkSecret::from_rng(&mut self.rng),
        };
        let name = format!("node-{i}");
        let address = SocketAddr::new(ip, PORT);
        let peer = self.stage.add_host(HostSpec::new(name.clone(), ip));
        let config = NodeConfig {
            keys: keys.clone(),
            listen: vec![address],
            addresses: vec![address],
            roles: Roles::ALL,
            operator: OperatorId([u8::try_from(i).expect("few") + 1; 16]),
            directory: self.directory.clone(),
            bridge: None,
            limits: Limits::default(),
            link: link::Config::default(),
        };
        self.stage.set_program(
            peer,
            program(move |rt| {
                let config = config.clone();
                async move {
                    phantom_node::run(rt, config, StoreConfig::default())
                        .await
                        .expect("the node starts");
                }
            }),
        );
        self.stage.at(Instant::ZERO, Act::Start(peer));
        self.nodes.push(TestNode {
            peer,
            name,
            keys,
            address,
        });
    }

    /// A bridge that publishes in these slots, over DHT nodes that it knows.
    pub fn add_bridge(&mut self, i: usize, slots: BridgeSlots, dht_nodes: Vec<SocketAddr>) -> PeerId {
        let keys = Keys {
            identity: IdentitySecret::from_rng(&mut self.rng),
            link: LinkSecret::from_rng(&mut self.rng),
        };
        let ip = IpAddr::V4(Ipv4Addr::new(10, 5, 0, u8::try_from(i + 1).expect("few")));
        let address = SocketAddr::new(ip, PORT);
        let peer = self.stage.add_host(HostSpec::new(format!("bridge-{i}"), ip));
        let config = NodeConfig {
            keys,
            listen: vec![address],
            addresses: vec![address],
            roles: Roles::ENTRY,
            operator: OperatorId([0; 16]),
            directory: self.directory.clone(),
            bridge: Some(Bridge {
                secret: BridgeSecret::from_rng(&mut self.rng),
                ways_back: 3,
                slots,
                dht: Some(dht::ClientConfig::new(dht_nodes, Vec::new())),
                transports: Vec::new(),
                iat_mode: phantom_core::transport::obfs4::IatMode::default(),
            }),
            limits: Limits::default(),
            link: link::Config::default(),
        };
        self.stage.set_program(
            peer,
            program(move |rt| {
                let config = config.clone();
                async move {
                    phantom_node::run(rt, config, StoreConfig::default())
                        .await
                        .expect("the bridge starts");
                }
            }),
        );
        self.stage
            .at(Instant::ZERO + Duration::from_secs(10), Act::Start(peer));
        peer
    }
}
