//! What an active prober finds: servers that answer replays are blocked for the published time, and servers that are silent
//! to strangers are not. All are real programs at addresses of their own, with the censor's engine at the border.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use phantom_censor::file::CensorFile;
use phantom_censor::prober::{Limits, Sign};
use phantom_core::crypto::keys::LinkSecret;
use phantom_core::link::{self, BridgeSecret, ClientAuth, ServerAuth};
use phantom_core::runtime::{Clock, Entropy, Listener, Net, Runtime, Spawn, timeout};
use phantom_core::units::Instant;
use phantom_sim::censor::Censor;
use phantom_sim::censor::prober::{Crew, Found, direct, lend};
use phantom_sim::host::PeerId;
use phantom_sim::swarm::{self, HostSpec, Network, Topology, World, WorldConfig};
use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const SERVER: [u8; 4] = [192, 0, 2, 1];
/// Salt and tag in front of what is sent.
const HEAD: usize = 64;

fn server() -> SocketAddr {
    SocketAddr::from((SERVER, 443))
}

fn seconds(n: u64) -> Instant {
    Instant::ZERO + Duration::from_secs(n)
}

/// Suspects every first packet of these lengths that looks random, and probes within three minutes: what takes the real one a
/// day is seen in an hour. Everything else is as published.
fn censor(lens: &str, more: &str) -> CensorFile {
    let text = format!(
        r#"
name = "prober"
summary = "Probes every server that gets a random first packet"
[[rule]]
name = "probe"
source = "as gfw-probe-2020, but for lengths, share and delays: a test"
match = {{ transport = "tcp", first-packet = {lens}, entropy-min = "6.5 bit" }}
action = {{ probe = {{ from = 4, delay = [{{ share = "100 %", within = "3 min" }}], {more} }} }}
"#
    );
    CensorFile::parse("prober.toml", &text).unwrap_or_else(|error| panic!("{error}"))
}

/// The lengths that drew probes.
const PUBLISHED: &str = r#"{ min = "160 B", max = "700 B" }"#;

/// A world with one client inside, one server outside and a censor between them; where the censor's office is.
struct Scene {
    world: World,
    crew: phantom_sim::censor::prober::Office,
    client: PeerId,
    server: PeerId,
    /// Addresses from which the server was dialled, with the first bytes, when the dial came.
    heard: Arc<Mutex<Vec<Heard>>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Heard {
    at: Instant,
    from: IpAddr,
    first: Vec<u8>,
}

fn scene(seed: u64, censor: &CensorFile) -> Scene {
    let mut topology = Topology::new();
    let region = topology.add_region("all", Duration::from_millis(50));
    for name in ["one", "two"] {
        topology.add_system(name, region, Duration::ZERO);
    }
    let mut world = World::new(WorldConfig {
        network: Network::Modelled(topology),
        ..WorldConfig::new(seed)
    });
    let mut host = |address: [u8; 4], inside| {
        world.add_host(HostSpec {
            addresses: vec![address.into()],
            inside,
            ..HostSpec::new("host")
        })
    };
    let (server, client, head) = (
        host(SERVER, false),
        host([10, 0, 0, 1], true),
        host([10, 9, 0, 1], true),
    );
    let crew = Crew::of(&censor.rules(), seed, Limits::default()).unwrap();
    assert_eq!(crew.hands.len(), 4);
    let hands: Vec<_> = (2..6).map(|n| [10, 9, 0, n]).collect();
    let peers: Vec<_> = hands.iter().map(|address| host(*address, true)).collect();
    let mut border = Censor::new(censor.engine(seed));
    border.employ(crew.office.clone(), hands.into_iter().map(IpAddr::from));
    world.set_middlebox(Arc::new(Mutex::new(border)));
    world.start(head, move |rt| direct(rt, crew.head));
    for (peer, hand) in peers.into_iter().zip(crew.hands) {
        world.start(peer, move |rt| lend(rt, hand));
    }
    Scene {
        world,
        crew: crew.office,
        client,
        server,
        heard: Arc::default(),
    }
}

impl Scene {
    /// Runs a server that reads a first message, and does with it what `serve` does.
    fn serve<F, Fut>(&mut self, serve: F)
    where
        F: Fn(swarm::Runtime, swarm::Stream, Vec<u8>) -> Fut + Clone + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let heard = self.heard.clone();
        self.world.start(self.server, move |rt| async move {
            let mut listener = rt.listen(server()).await.unwrap();
            while let Ok(mut stream) = listener.accept().await {
                let (own, serve, heard) = (rt.clone(), serve.clone(), heard.clone());
                rt.spawn("serve", async move {
                    let mut first = vec![0; 2_048];
                    let from = phantom_core::runtime::Stream::peer_addr(&stream).ip();
                    let Ok(n) = stream.read(&mut first).await else {
                        return;
                    };
                    first.truncate(n);
                    heard.lock().unwrap().push(Heard {
                        at: own.now(),
                        from,
                        first: first.clone(),
                    });
                    serve(own, stream, first).await;
                });
            }
        });
    }

    /// A client that dials at each of these seconds, says something of `len` bytes and waits for an answer; whether it came.
    fn dial(&mut self, at: Vec<u64>, len: usize) -> Arc<Mutex<Vec<Result<(), ErrorKind>>>> {
        let results = Arc::new(Mutex::new(Vec::new()));
        let log = results.clone();
        self.world.start(self.client, move |rt| async move {
            let mut rng = rt.rng("what is said");
            for second in at {
                rt.sleep_until(seconds(second)).await;
                let message = sealed(&mut rng, len);
                let answered = timeout(&rt, Duration::from_secs(10), async {
                    let mut stream = rt.connect(server()).await?;
                    stream.write_all(&message).await?;
                    stream.read_u8().await
                });
                let answered = match answered.await {
                    Ok(answer) => answer.map(drop).map_err(|error| error.kind()),
                    Err(_late) => Err(ErrorKind::TimedOut),
                };
                log.lock().unwrap().push(answered);
            }
        });
        results
    }

    fn run(&mut self, second: u64) {
        self.world.run_until(seconds(second), &mut ()).unwrap();
    }

    /// What others than the client said, by its length.
    fn probes(&self) -> Vec<Heard> {
        let heard = self.heard.lock().unwrap();
        let strangers = heard
            .iter()
            .filter(|heard| heard.from != IpAddr::from([10, 0, 0, 1]));
        strangers.cloned().collect()
    }

    fn found(&self) -> Vec<Found> {
        self.crew.found()
    }
}

/// A first message as Shadowsocks has it in essence: a salt, a tag that only who knows the password can make, and what looks
/// random.
fn sealed(rng: &mut impl Rng, len: usize) -> Vec<u8> {
    let mut message = vec![0; len];
    rng.fill_bytes(&mut message);
    let tag = tag(&message);
    message[32..HEAD].copy_from_slice(&tag);
    message
}

fn tag(message: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new_derive_key("password of a test");
    hasher.update(&message[..32]);
    hasher.update(&message[HEAD..]);
    *hasher.finalize().as_bytes()
}

fn is_sealed(message: &[u8]) -> bool {
    message.len() > HEAD && message[32..HEAD] == tag(message)
}

/// Says nothing until the other end closes or a minute has passed, as most implementations do.
async fn silent<R: Runtime, S: tokio::io::AsyncRead + Unpin>(rt: &R, mut stream: S) {
    let _ = timeout(rt, Duration::from_secs(60), async {
        while stream.read(&mut [0; 256]).await.is_ok_and(|n| n > 0) {}
    })
    .await;
}

/// Answers whoever knows the password, strangers not; but a replay is not told from its original (OutlineVPN before 1.1: IMC
/// 2020, Table 5).
async fn without_replay_memory(rt: swarm::Runtime, mut stream: swarm::Stream, first: Vec<u8>) {
    if is_sealed(&first) {
        let mut answer = [0; 300];
        rt.rng("answer").fill_bytes(&mut answer);
        let _ = stream.write_all(&answer).await;
    }
    silent(&rt, stream).await;
}

#[test]
fn a_server_that_answers_replays_is_found_and_blocked_for_12_hours() {
    const HOUR: u64 = 3_600;
    let mut scene = scene(1, &censor(PUBLISHED, ""));
    scene.serve(without_replay_memory);
    // One connection draws the probes. The tries behind it: while it is blocked, once more than 12 hours after it was found but
    // not after that try, and when nobody has tried for 12 hours.
    let dialled = scene.dial(vec![1, HOUR, 12 * HOUR + 1_800, 24 * HOUR + 2_400], 402);
    scene.run(25 * HOUR);
    let found = scene.found();
    assert_eq!((found[0].server, found[0].sign), (server(), Sign::ReplayAnswered));
    assert!(found[0].at < seconds(200), "{:?}", found[0].at);
    let timed_out = Err(ErrorKind::TimedOut);
    assert_eq!(*dialled.lock().unwrap(), [Ok(()), timed_out, timed_out, Ok(())]);
    assert!(
        found.len() == 2 && found[1].at > seconds(24 * HOUR),
        "then it is found anew: {found:?}"
    );
    // What was said is what is published, from addresses of the censor's, at the published distance.
    let first = scene.heard.lock().unwrap()[0].first.clone();
    let probes: Vec<Heard> = scene
        .probes()
        .into_iter()
        .filter(|probe| probe.at < seconds(HOUR))
        .collect();
    let from: BTreeSet<IpAddr> = probes.iter().map(|probe| probe.from).collect();
    assert!(from.len() >= 2 && from.iter().all(|from| from.to_string().starts_with("10.9.0.")));
    let least = seconds(1) + Duration::from_millis(280);
    assert!(probes.iter().all(|probe| probe.at > least));
    assert!(
        probes.iter().any(|probe| probe.first == first),
        "an identical replay"
    );
    for probe in &probes {
        let same = probe.first.len() == first.len();
        let changed = same.then(|| {
            (0..first.len())
                .filter(|at| probe.first[*at] != first[*at])
                .collect::<Vec<_>>()
        });
        match changed.as_deref() {
            Some([] | [0] | [16] | [6, 16] | [0, 1, 2, 3, 4, 5, 6, 7, 62, 63]) => {}
            None => assert!(probe.first.len() <= 50 || probe.first.len() == 221),
            Some(other) => panic!("bytes {other:?} were changed"),
        }
    }
}

#[test]
fn a_block_that_nobody_tries_ends_after_its_time_and_the_search_begins_anew() {
    let block = r#"block = { tuple = "server-port", for = "1 h", way = "from-server" }"#;
    let mut scene = scene(1, &censor(PUBLISHED, block));
    scene.serve(without_replay_memory);
    let dialled = scene.dial(vec![1, 1_800, 3_500, 3_900, 5_000], 402);
    scene.run(6_000);
    let timed_out = Err(ErrorKind::TimedOut);
    assert_eq!(
        *dialled.lock().unwrap(),
        [Ok(()), timed_out, timed_out, Ok(()), timed_out]
    );
    assert_eq!(scene.found().len(), 2, "it was found again");
}

/// A memory for replays alone does not help who closes at once on what is long and false (IMC 2020, Figure 10).
#[test]
fn a_server_that_closes_by_length_is_found_and_one_that_never_closes_is_not() {
    let closes = |rt: swarm::Runtime, stream: swarm::Stream, first: Vec<u8>| async move {
        if first.len() < HEAD - 13 {
            silent(&rt, stream).await;
        }
    };
    let silent =
        |rt: swarm::Runtime, stream: swarm::Stream, _: Vec<u8>| async move { silent(&rt, stream).await };
    let every_minute: Vec<u64> = (0..30).map(|n| 1 + n * 60).collect();
    let mut old = scene(1, &censor(PUBLISHED, ""));
    old.serve(closes);
    old.dial(every_minute.clone(), 402);
    old.run(4_000);
    let found = old.found();
    assert_eq!(
        found.iter().map(|found| found.sign).collect::<Vec<_>>(),
        [Sign::CloseThreshold]
    );
    let mut new = scene(1, &censor(PUBLISHED, ""));
    new.serve(silent);
    new.dial(every_minute, 402);
    new.run(4_000);
    let counts = new.crew.counts();
    assert!(
        new.found().is_empty() && counts.rounds == 30 && counts.sent > 170,
        "{counts:?}"
    );
    // A censor that takes silence for a sign finds both kinds; it would find every server that waits to be spoken to.
    let mut strict = scene(1, &censor(PUBLISHED, r#"signs = ["silence"]"#));
    strict.serve(silent);
    strict.dial(vec![1, 60, 120], 402);
    strict.run(1_000);
    assert_eq!(strict.found().len(), 1);
}

/// The link of a bridge, as a client makes one: whoever lacks the secret, and whoever repeats a hello, hears nothing. By the
/// published lengths it is not even suspected: its first packet has 1,072 bytes.
#[test]
fn a_bridge_is_suspected_only_by_a_wider_censor_and_is_never_found() {
    for (lens, suspected) in [(PUBLISHED, false), (r#"{ min = "160 B", max = "1500 B" }"#, true)] {
        let mut scene = scene(1, &censor(lens, ""));
        let mut rng = ChaCha12Rng::seed_from_u64(5);
        let secret = LinkSecret::from_rng(&mut rng);
        let descriptor = BridgeSecret::from_rng(&mut rng);
        let client_auth = ClientAuth::Bridge {
            server: secret.public(),
            secret: descriptor.clone(),
        };
        let auth = ServerAuth::bridge(secret, descriptor);
        scene.world.start(scene.server, move |rt| async move {
            let mut listener = rt.listen(server()).await.unwrap();
            while let Ok(stream) = listener.accept().await {
                let (own, auth) = (rt.clone(), auth.clone());
                rt.spawn("link", async move {
                    if let Ok(link::Accepted::New(link, _)) =
                        link::accept(&own, stream, &auth, &link::Config::default()).await
                    {
                        while link.recv().await.is_some() {}
                    }
                });
            }
        });
        let up = Arc::new(Mutex::new(0));
        let links = up.clone();
        scene.world.start(scene.client, move |rt| async move {
            for n in 0..20 {
                rt.sleep_until(seconds(10 + n * 300)).await;
                let stream = rt.connect(server()).await.unwrap();
                let link = link::connect(&rt, stream, &client_auth, &link::Config::client())
                    .await
                    .unwrap();
                *links.lock().unwrap() += 1;
                drop(link);
            }
        });
        scene.run(7_000);
        let counts = scene.crew.counts();
        assert_eq!(*up.lock().unwrap(), 20);
        assert!(scene.found().is_empty(), "{:?}", scene.found());
        assert_eq!(
            (counts.rounds > 0, counts.sent > 100),
            (suspected, suspected),
            "{counts:?}"
        );
    }
}

#[test]
fn runs_with_a_prober_repeat() {
    let run = |seed| {
        let mut scene = scene(seed, &censor(PUBLISHED, ""));
        scene.serve(without_replay_memory);
        let dialled = scene.dial(vec![1, 30, 60, 3_000], 402);
        scene.run(3_600);
        let dialled = dialled.lock().unwrap().clone();
        (scene.found(), scene.probes(), dialled, scene.world.trace_digest())
    };
    let once = run(7);
    assert_eq!(once, run(7));
    assert_ne!(once.1, run(8).1);
}
