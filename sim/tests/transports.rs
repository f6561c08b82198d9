//! Transports under links: a link that goes on over another one, a bridge whose line stays, and a door that bounds who says nothing.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod net;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use net::Net;
use phantom_core::crypto::keys::{IdentitySecret, LinkSecret};
use phantom_core::directory::descriptor::Roles;
use phantom_core::link::{self, Accepted, BridgeSecret, Channel, ClientAuth, Link, Resumption, ServerAuth};
use phantom_core::mailbox::OperatorId;
use phantom_core::rendezvous::BridgeSlots;
use phantom_core::runtime::{Clock, Entropy, Listener, Net as _, Spawn};
use phantom_core::transport::obfs4::{Bridge as Obfs4, IatMode, Prefix};
use phantom_core::transport::{Kind, STATE_FILE, Server, Transport, obfs4_identity};
use phantom_core::units::Instant;
use phantom_node::config::{Bridge, Keys, Limits, Listening, NodeConfig};
use phantom_node::store::StoreConfig;
use phantom_sim::host::store::Disk;
use phantom_sim::stage::{Act, HostSpec as StageSpec, Stage, program};
use phantom_sim::swarm::{self, Access, HostSpec, Network, World, WorldConfig};
use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;
use tokio::io::AsyncReadExt;

const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// Each way.
const MESSAGES: u32 = 400;
const SIZE: usize = 1_500;

type Log = Arc<Mutex<Vec<u32>>>;

fn place(kind: Kind) -> SocketAddr {
    let number = Kind::ALL.iter().position(|known| *known == kind).unwrap();
    (SERVER, 443 + number as u16).into()
}

fn message(number: u32) -> Bytes {
    let mut bytes = vec![number as u8; SIZE];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    bytes.into()
}

/// Sends all its messages, one every so often, while it takes those of the other end.
async fn talk(rt: swarm::Runtime, link: Arc<Link>, heard: Log) {
    let (sender, own) = (link.sender(), rt.clone());
    rt.spawn("sends", async move {
        for number in 0..MESSAGES {
            sender.send(Channel::PACKET, message(number)).await.unwrap();
            own.sleep(Duration::from_millis(20)).await;
        }
    });
    loop {
        let Some((_, bytes)) = link.recv().await else {
            // At the dialling end: its connection is gone, and another one is on its way.
            rt.sleep(Duration::from_millis(10)).await;
            continue;
        };
        assert_eq!(bytes.len(), SIZE);
        let mut number = [0; 4];
        number.copy_from_slice(&bytes[..4]);
        heard.lock().unwrap().push(u32::from_be_bytes(number));
    }
}

/// Speaks everything, each at its own port.
async fn serve(rt: swarm::Runtime, auth: ServerAuth, told: Arc<Mutex<Vec<Transport>>>, heard: Log) {
    let identity = obfs4_identity(&rt, None).await.unwrap();
    let bridge = Obfs4::new(identity, &mut rt.rng("bridge"));
    for kind in Kind::ALL {
        let server = match Prefix::of_kind(kind) {
            None => Server::Plain,
            Some(prefix) => Server::Obfs4 {
                bridge: bridge.clone(),
                prefix,
            },
        };
        told.lock().unwrap().push(server.transport());
        let mut listener = rt.listen(place(kind)).await.unwrap();
        let (own, auth, heard) = (rt.clone(), auth.clone(), heard.clone());
        rt.spawn("listener", async move {
            while let Ok(stream) = listener.accept().await {
                let (rt, server, auth, heard) = (own.clone(), server.clone(), auth.clone(), heard.clone());
                own.spawn("handshake", async move {
                    let stream = server.accept(&rt, stream, || {}).await.unwrap();
                    let accepted = link::accept(&rt, stream, &auth, &link::Config::default()).await;
                    if let Ok(Accepted::New(link, _)) = accepted {
                        talk(rt, Arc::new(link), heard).await;
                    }
                });
            }
        });
    }
}

/// One link, which in mid-transfer goes on over each of these transports in turn; what each end heard, how often it was resumed,
/// and the digest.
fn carry(seed: u64, kinds: &[Kind]) -> ([Vec<u32>; 2], usize, String) {
    let mut world = World::new(WorldConfig {
        network: Network::Fixed(Duration::from_millis(50)),
        step_limit: 20_000_000,
        ..WorldConfig::new(seed)
    });
    let host = |last: u8| HostSpec {
        addresses: vec![[192, 0, 2, last].into()],
        access: Access::server(),
        ..HostSpec::new("host")
    };
    let mut rng = ChaCha12Rng::seed_from_u64(5);
    let (key, secret) = (LinkSecret::from_rng(&mut rng), BridgeSecret::from_rng(&mut rng));
    let auth = ClientAuth::Bridge {
        server: key.public(),
        secret: secret.clone(),
    };
    let server_auth = ServerAuth::bridge(key, secret);
    let [up, down] = [Log::default(), Log::default()];
    let (told, resumed) = (Arc::<Mutex<Vec<Transport>>>::default(), Arc::new(Mutex::new(0)));
    let server = world.add_host(host(1));
    let (known, heard) = (told.clone(), up.clone());
    world.start(server, move |rt| serve(rt, server_auth, known, heard));
    let client = world.add_host(host(2));
    let (kinds, heard, count) = (kinds.to_vec(), down.clone(), resumed.clone());
    world.start(client, move |rt| async move {
        rt.sleep(Duration::from_secs(1)).await;
        let transport = |kind| {
            let told = told.lock().unwrap();
            told.iter().find(|known| known.kind() == kind).unwrap().clone()
        };
        let config = link::Config::client();
        let mut kinds = kinds.into_iter();
        let first = kinds.next().unwrap();
        let stream = transport(first).connect(&rt, place(first)).await.unwrap();
        let link = link::connect(&rt, stream, &auth, &config).await.unwrap();
        let link = Arc::new(link);
        rt.spawn("talks", talk(rt.clone(), link.clone(), heard));
        for kind in kinds {
            rt.sleep(Duration::from_millis(1_300)).await;
            // The old connection still stands and carries messages, both ways.
            let stream = transport(kind).connect(&rt, place(kind)).await.unwrap();
            let went_on = link::resume(&rt, stream, &auth, &link, &config).await.unwrap();
            assert!(matches!(went_on, Resumption::Continued(_)), "{kind:?}");
            *count.lock().unwrap() += 1;
        }
        std::future::pending::<()>().await;
    });
    world
        .run_until(Instant::ZERO + Duration::from_secs(60), &mut ())
        .unwrap();
    let heard = [up, down].map(|log| log.lock().unwrap().clone());
    let resumed = *resumed.lock().unwrap();
    (heard, resumed, world.trace_digest())
}

#[test]
fn a_link_resumed_over_another_transport_in_mid_transfer_loses_and_duplicates_nothing() {
    let all: Vec<u32> = (0..MESSAGES).collect();
    for (seed, kinds) in [
        (1, vec![Kind::Obfs4, Kind::Obfs4Tls]),
        (2, vec![Kind::Obfs4Http, Kind::Plain, Kind::Obfs4]),
        (3, vec![Kind::Plain, Kind::Obfs4Tls, Kind::Plain, Kind::Obfs4Http]),
    ] {
        let (heard, resumed, digest) = carry(seed, &kinds);
        assert_eq!(resumed, kinds.len() - 1, "{kinds:?}");
        for (way, heard) in ["up", "down"].into_iter().zip(&heard) {
            assert_eq!(*heard, all, "{way}: {kinds:?}");
        }
        assert_eq!(carry(seed, &kinds).2, digest, "it repeats");
    }
}

const PORT: u16 = 444;

/// A network with a bridge that speaks obfs4, and nothing else, at [`PORT`].
fn obfs4_bridge() -> (Net, phantom_sim::host::PeerId, SocketAddr) {
    let mut net = Net::new(3, 3, 3);
    let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 5, 0, 1)), PORT);
    let config = NodeConfig {
        keys: Keys {
            identity: IdentitySecret::from_rng(&mut net.rng),
            link: LinkSecret::from_rng(&mut net.rng),
        },
        listen: Vec::new(),
        addresses: Vec::new(),
        roles: Roles::ENTRY,
        operator: OperatorId([0; 16]),
        directory: net.directory.clone(),
        bridge: Some(Bridge {
            secret: BridgeSecret::from_rng(&mut net.rng),
            ways_back: 3,
            slots: BridgeSlots(Vec::new()),
            dht: None,
            transports: vec![Listening {
                kind: Kind::Obfs4,
                listen: vec![address],
                addresses: vec![address],
            }],
            iat_mode: IatMode::None,
        }),
        limits: Limits::default(),
        link: link::Config::default(),
    };
    let bridge = net.stage.add_host(StageSpec::new("bridge", address.ip()));
    net.stage.set_program(
        bridge,
        program(move |rt| {
            let config = config.clone();
            async move {
                phantom_node::run(rt, config, StoreConfig::default())
                    .await
                    .unwrap();
            }
        }),
    );
    let begins = Instant::ZERO + Duration::from_secs(10);
    net.stage.at(begins, Act::Start(bridge));
    (net, bridge, address)
}

/// One address that opens 128 connections and one more without a word has its oldest closed, and not after obfs4's 30 s: the
/// door's bound holds through that handshake as well.
#[test]
fn who_says_nothing_to_obfs4_is_a_guest_at_the_door() {
    let (mut net, _, address) = obfs4_bridge();
    let closed = Arc::new(Mutex::new(Vec::new()));
    let crowd = net
        .stage
        .add_host(StageSpec::new("crowd", Ipv4Addr::new(10, 9, 0, 1).into()));
    let log = closed.clone();
    net.stage.set_program(
        crowd,
        program(move |rt: swarm::Runtime| {
            let log = log.clone();
            async move {
                for number in 0..129_u32 {
                    let mut stream = rt.connect(address).await.unwrap();
                    let (own, log) = (rt.clone(), log.clone());
                    rt.spawn("guest", async move {
                        let opened = own.now();
                        let mut bytes = Vec::new();
                        let _ = stream.read_to_end(&mut bytes).await;
                        let after = own.now().saturating_since(opened);
                        log.lock().unwrap().push((number, bytes.len(), after));
                    });
                    rt.sleep(Duration::from_millis(10)).await;
                }
                std::future::pending::<()>().await;
            }
        }),
    );
    let begins = Instant::ZERO + Duration::from_secs(20);
    net.stage.at(begins, Act::Start(crowd));
    net.stage.run_until(begins + Duration::from_secs(25));
    let early = closed.lock().unwrap().clone();
    assert_eq!(early.len(), 1, "{early:?}");
    assert_eq!((early[0].0, early[0].1), (0, 0), "the oldest, and without a byte");
    net.stage.run_until(begins + Duration::from_secs(120));
    let closed = closed.lock().unwrap();
    assert_eq!(closed.len(), 129);
    let times: Vec<Duration> = closed[1..].iter().map(|(.., after)| *after).collect();
    let (first, last) = (times.iter().min().unwrap(), times.iter().max().unwrap());
    assert!(*first >= Duration::from_secs(30), "{first:?}");
    assert!(*last - *first <= Duration::from_millis(10), "{first:?} {last:?}");
}

/// What a bridge tells its clients is good as long as its disk is.
#[test]
fn the_line_of_a_bridge_stays_over_a_restart() {
    let (mut net, bridge, _) = obfs4_bridge();
    let state = |net: &Net| {
        let read = |disk: &mut Disk| disk.read(STATE_FILE).unwrap();
        net.stage.with_disk(bridge, read).flatten()
    };
    let seconds = |n| Instant::ZERO + Duration::from_secs(n);
    net.stage.run_until(seconds(20));
    let first = state(&net);
    assert!(first.as_ref().is_some_and(|json| !json.is_empty()), "{first:?}");
    net.stage.at(seconds(21), Act::Crash(bridge));
    net.stage.at(seconds(25), Act::Start(bridge));
    net.stage.run_until(seconds(40));
    assert_eq!(state(&net), first);
}
