//! What our own nodes answer to an active prober: every kind of probe, against a bridge and a listed node as their operators
//! run them.

mod net;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use net::{Net, PORT};
use phantom_censor::prober::judge::Speech;
use phantom_censor::prober::{Answer, Kind, Reaction};
use phantom_core::crypto::keys::{IdentitySecret, LinkSecret};
use phantom_core::directory::descriptor::Roles;
use phantom_core::link::{self, BridgeSecret, ClientAuth};
use phantom_core::mailbox::OperatorId;
use phantom_core::rendezvous::BridgeSlots;
use phantom_core::runtime::{Clock, Net as _, Runtime, Spawn};
use phantom_core::units::Instant;
use phantom_node::config::{Bridge, Keys, Limits, NodeConfig};
use phantom_node::store::StoreConfig;
use phantom_path::dice::Dice;
use phantom_sim::censor::prober::probe;
use phantom_sim::host::PeerId;
use phantom_sim::stage::{Act, HostSpec, Stage, program};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const KINDS: [Kind; 9] = [
    Kind::R1,
    Kind::R2,
    Kind::R3,
    Kind::R4,
    Kind::R5,
    Kind::Nr1,
    Kind::Nr2,
    Kind::Http,
    Kind::Tls,
];
/// Each kind so often.
const ROUNDS: u64 = 40;
/// Longer than any node waits.
const PATIENCE: Duration = Duration::from_secs(90);

/// What is sent: a published kind, or so many random bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Said {
    Kind(Kind),
    Random(usize),
}

/// The hello of a client that may dial `auth`.
async fn hello<R: Runtime>(rt: &R, auth: &ClientAuth) -> Vec<u8> {
    let (near, mut far) = tokio::io::duplex(1 << 16);
    let (own, auth) = (rt.clone(), auth.clone());
    rt.spawn("dial", async move {
        let _ = link::connect(&own, near, &auth, &link::Config::default()).await;
    });
    let mut hello = vec![0; 1_072];
    far.read_exact(&mut hello).await.expect("a hello");
    hello
}

/// A client's hello is answered; then everything in `all` is said, in parallel, again and again. What came of it, by what was said.
fn answers(
    net: &mut Net,
    to: SocketAddr,
    auth: ClientAuth,
    all: Vec<Said>,
    rounds: u64,
) -> BTreeMap<Said, Vec<Answer>> {
    let ip = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 1));
    let prober = net.stage.add_host(HostSpec::new("prober", ip));
    let answers = Arc::new(Mutex::new(BTreeMap::<Said, Vec<Answer>>::new()));
    let log = answers.clone();
    net.stage.set_program(
        prober,
        program(move |rt: phantom_sim::swarm::Runtime| {
            let (log, auth, all) = (log.clone(), auth.clone(), all.clone());
            async move {
                let first = hello(&rt, &auth).await;
                let mut genuine = rt.connect(to).await.expect("it listens");
                genuine.write_all(&first).await.expect("it reads");
                let mut answer = vec![0; 1_072];
                genuine
                    .read_exact(&mut answer)
                    .await
                    .expect("a client is answered");
                let mut dice = Dice::new(7);
                for _ in 0..rounds {
                    for said in &all {
                        let payload = match said {
                            Said::Kind(kind) => kind.payload(&first, &to.to_string(), &mut dice),
                            Said::Random(len) => Some((0..*len).map(|_| dice.draw() as u8).collect()),
                        };
                        let payload = payload.expect("a hello is long enough");
                        let (own, said, log) = (rt.clone(), *said, log.clone());
                        rt.spawn("probe", async move {
                            let answer = probe(&own, to, &payload, PATIENCE).await;
                            log.lock()
                                .expect("no panic")
                                .entry(said)
                                .or_default()
                                .push(answer);
                        });
                    }
                    rt.sleep(Duration::from_secs(60)).await;
                }
            }
        }),
    );
    let begins = Instant::ZERO + Duration::from_secs(30);
    net.stage.at(begins, Act::Start(prober));
    net.stage
        .run_until(begins + Duration::from_secs(60 * rounds + 100));
    let answers = answers.lock().expect("no panic").clone();
    assert!(answers.values().all(|answers| answers.len() as u64 == rounds));
    answers
}

fn seconds(answers: &[Answer]) -> (f64, f64, f64) {
    let seconds: Vec<f64> = answers
        .iter()
        .map(|answer| answer.after_ns as f64 / 1e9)
        .collect();
    let mean = seconds.iter().sum::<f64>() / seconds.len() as f64;
    let least = seconds.iter().copied().fold(f64::INFINITY, f64::min);
    (least, mean, seconds.iter().copied().fold(0.0, f64::max))
}

/// Asserts that everything is met with silence and an end at a time that does not depend on what was said: between 20 and 40 s,
/// even over that range.
fn assert_silent(answers: &BTreeMap<Said, Vec<Answer>>) {
    for (said, answers) in answers {
        let (least, mean, most) = seconds(answers);
        println!(
            "{said:?}: {:?} after {least:.1} to {most:.1} s, on average {mean:.1} s",
            answers[0].reaction
        );
        assert!(
            answers
                .iter()
                .all(|answer| answer.reaction == answers[0].reaction),
            "{said:?}: {answers:?}"
        );
        assert!(
            matches!(answers[0].reaction, Reaction::Fin | Reaction::Reset),
            "{said:?}"
        );
        assert!(least >= 20.0 && most <= 40.2, "{said:?}: {least} to {most} s");
        // 20 s / sqrt(12 * 40) is 0.91 s; the central 99.9 %.
        assert!((mean - 30.0).abs() < 3.2905 * 0.913, "{said:?}: {mean} s");
    }
}

/// A network with a bridge, which host that is and where, and who may dial it.
fn bridge() -> (Net, PeerId, SocketAddr, ClientAuth) {
    let mut net = Net::new(3, 3, 3);
    let keys = Keys {
        identity: IdentitySecret::from_rng(&mut net.rng),
        link: LinkSecret::from_rng(&mut net.rng),
    };
    let secret = BridgeSecret::from_rng(&mut net.rng);
    let auth = ClientAuth::Bridge {
        server: keys.link.public(),
        secret: secret.clone(),
    };
    let ip = IpAddr::V4(Ipv4Addr::new(10, 5, 0, 1));
    let address = SocketAddr::new(ip, PORT);
    let config = NodeConfig {
        keys,
        listen: vec![address],
        addresses: vec![address],
        roles: Roles::ENTRY,
        operator: OperatorId([0; 16]),
        directory: net.directory.clone(),
        bridge: Some(Bridge {
            secret,
            ways_back: 3,
            slots: BridgeSlots(Vec::new()),
            dht: None,
            transports: Vec::new(),
            iat_mode: phantom_core::transport::obfs4::IatMode::default(),
        }),
        limits: Limits::default(),
        link: link::Config::default(),
    };
    let bridge = net.stage.add_host(HostSpec::new("bridge", ip));
    net.stage.set_program(
        bridge,
        program(move |rt| {
            let config = config.clone();
            async move {
                phantom_node::run(rt, config, StoreConfig::default())
                    .await
                    .expect("the bridge starts");
            }
        }),
    );
    net.stage
        .at(Instant::ZERO + Duration::from_secs(10), Act::Start(bridge));
    (net, bridge, address, auth)
}

/// The published kinds, and lengths at which something could change: one hello and two.
fn all() -> Vec<Said> {
    let kinds = KINDS.into_iter().map(Said::Kind);
    kinds
        .chain([1_071, 1_073, 2_143, 2_144, 3_000].map(Said::Random))
        .collect()
}

#[test]
fn a_bridge_answers_no_probe_and_closes_at_a_time_that_tells_nothing_of_what_was_said() {
    let (mut net, _, address, auth) = bridge();
    assert_silent(&answers(&mut net, address, auth, all(), ROUNDS));
}

/// The same world again and again, in which a prober says something else each time: the bridge draws the same time to close, and
/// closes then to 10 ms.
#[test]
fn what_is_said_to_a_bridge_does_not_move_the_time_at_which_it_closes() {
    let mut closed = BTreeMap::new();
    // A repeated hello is opened before it is known, which takes draws of its own.
    for said in all().into_iter().filter(|said| *said != Said::Kind(Kind::R1)) {
        let (mut net, _, address, auth) = bridge();
        let answers = answers(&mut net, address, auth, vec![said], 1);
        let answer = answers[&said][0];
        assert!(
            matches!(answer.reaction, Reaction::Fin | Reaction::Reset),
            "{said:?}: {answer:?}"
        );
        closed.insert(answer.after_ns, said);
    }
    let (first, last) = (closed.first_key_value(), closed.last_key_value());
    let spread = last
        .zip(first)
        .map(|(last, first)| last.0 - first.0)
        .expect("many");
    println!(
        "closes after {} to {} ns",
        first.expect("many").0,
        last.expect("many").0
    );
    assert!(spread <= 10_000_000, "{closed:?}");
}

/// What a recorded hello is met with by a bridge whose program ended between the two, at once or in order.
#[test]
fn a_bridge_that_crashed_answers_no_hello_of_before_the_crash() {
    for crashes in [false, true] {
        let (mut net, bridge, to, auth) = bridge();
        let ip = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 1));
        let observer = net.stage.add_host(HostSpec::new("observer", ip));
        let again: Arc<Mutex<Option<Answer>>> = Arc::default();
        let told = again.clone();
        let at = |secs| Instant::ZERO + Duration::from_secs(secs);
        net.stage.set_program(
            observer,
            program(move |rt: phantom_sim::swarm::Runtime| {
                let (told, auth) = (told.clone(), auth.clone());
                async move {
                    let recorded = hello(&rt, &auth).await;
                    let first = probe(&rt, to, &recorded, Duration::from_secs(5)).await;
                    assert!(matches!(first.reaction, Reaction::Data(_)), "{first:?}");
                    rt.sleep_until(at(100)).await;
                    *told.lock().expect("no panic") = Some(probe(&rt, to, &recorded, PATIENCE).await);
                }
            }),
        );
        net.stage.at(at(30), Act::Start(observer));
        if crashes {
            net.stage.at(at(60), Act::Crash(bridge));
            net.stage.at(at(65), Act::Start(bridge));
        }
        net.stage.run_until(at(200));
        let again = again.lock().expect("no panic").expect("it was said again");
        assert!(
            matches!(again.reaction, Reaction::Fin | Reaction::Reset),
            "crashes {crashes}: {again:?}"
        );
        let seconds = again.after_ns as f64 / 1e9;
        assert!((20.0..40.2).contains(&seconds), "{seconds} s");
    }
}

/// A listed node is in a document that everybody may read. It answers a hello to its key, also a repeated one, since that tells
/// no more than the document; to all else it is as silent as a bridge.
#[test]
fn a_listed_node_answers_repeated_hellos_and_nothing_else() {
    let mut net = Net::new(4, 3, 3);
    let node = &net.nodes[0];
    let (address, auth) = (
        node.address,
        ClientAuth::Listed {
            server: node.keys.link.public(),
        },
    );
    let mut answers = answers(&mut net, address, auth, KINDS.map(Said::Kind).to_vec(), ROUNDS);
    let replays = answers.remove(&Said::Kind(Kind::R1)).expect("each kind was said");
    let data = Reaction::Data(Speech::Other);
    assert!(
        replays.iter().all(|answer| answer.reaction == data),
        "{replays:?}"
    );
    assert_silent(&answers);
}
