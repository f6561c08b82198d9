//! obfs4 between hosts of a world: what it carries arrives, two runs are the same, pacing takes its time, and strangers hear nothing.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use phantom_core::runtime::{Clock, Entropy, Listener, Net, Spawn};
use phantom_core::transport::obfs4::{self, Obfs4Error, Prefix};
use phantom_core::units::Instant;
use phantom_obfs4::{Bridge, IatMode, Identity};
use phantom_sim::swarm::{Access, HostSpec, Network, Runtime, World, WorldConfig};
use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const BRIDGE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), 443);
const ONE_WAY: Duration = Duration::from_millis(50);

type Times = Arc<Mutex<Vec<(&'static str, Duration)>>>;

fn identity(iat_mode: IatMode) -> Identity {
    let mut identity = Identity::from_rng(&mut ChaCha12Rng::seed_from_u64(7));
    identity.iat_mode = iat_mode;
    identity
}

fn note(times: &Times, rt: &Runtime, what: &'static str) {
    let at = rt.now().saturating_since(Instant::ZERO);
    times.lock().unwrap().push((what, at));
}

/// A bridge that sends back what it hears, and tells when it hangs up on a stranger.
async fn echo(rt: Runtime, identity: Identity, prefix: Prefix, times: Times) {
    let bridge = Bridge::new(identity, &mut rt.rng("bridge"));
    let mut listener = rt.listen(BRIDGE).await.unwrap();
    while let Ok(stream) = listener.accept().await {
        let (rt, bridge, times) = (rt.clone(), bridge.clone(), times.clone());
        rt.clone().spawn("caller", async move {
            let mut stream = match obfs4::accept(&rt, stream, &bridge, prefix).await {
                Ok(stream) => stream,
                Err(Obfs4Error::Stranger(_)) => return note(&times, &rt, "hung up"),
                Err(_) => return note(&times, &rt, "failed"),
            };
            let mut bytes = vec![0; 4_096];
            while let Ok(read @ 1..) = stream.read(&mut bytes).await {
                if stream.write_all(&bytes[..read]).await.is_err() || stream.flush().await.is_err() {
                    return;
                }
            }
        });
    }
}

fn world(seed: u64) -> World {
    World::new(WorldConfig {
        network: Network::Fixed(ONE_WAY),
        step_limit: 20_000_000,
        ..WorldConfig::new(seed)
    })
}

fn host(last: u8) -> HostSpec {
    HostSpec {
        addresses: vec![[192, 0, 2, last].into()],
        access: Access::server(),
        ..HostSpec::new("host")
    }
}

/// How long `bytes` took to the bridge and back after the handshake, with the digest of the run.
fn round_trip(seed: u64, iat_mode: IatMode, prefix: Prefix, bytes: usize) -> (Duration, String) {
    let (mut world, times) = (world(seed), Times::default());
    let bridge = world.add_host(host(1));
    let theirs = times.clone();
    world.start(bridge, move |rt| echo(rt, identity(iat_mode), prefix, theirs));
    let client = world.add_host(host(2));
    let ours = times.clone();
    world.start(client, move |rt| async move {
        let stream = rt.connect(BRIDGE).await.unwrap();
        let stream = obfs4::dial(&rt, stream, &identity(iat_mode).args(), prefix)
            .await
            .unwrap();
        note(&ours, &rt, "open");
        let said: Vec<u8> = (0..bytes).map(|n| (n % 251) as u8).collect();
        let (mut reader, mut writer) = tokio::io::split(stream);
        let expected = said.clone();
        rt.spawn("writer", async move {
            writer.write_all(&said).await.unwrap();
            writer.flush().await.unwrap();
        });
        let mut heard = vec![0; bytes];
        reader.read_exact(&mut heard).await.unwrap();
        assert!(heard == expected, "what comes back is what was said");
        note(&ours, &rt, "heard");
    });
    world
        .run_until(Instant::ZERO + Duration::from_secs(120), &mut ())
        .unwrap();
    let times = times.lock().unwrap();
    let of = |what| times.iter().find(|(name, _)| *name == what).unwrap().1;
    (of("heard") - of("open"), world.trace_digest())
}

#[test]
fn what_is_said_over_obfs4_comes_back_and_the_run_repeats() {
    for (mode, prefix) in [
        (IatMode::None, Prefix::None),
        (IatMode::Enabled, Prefix::Http),
        (IatMode::Paranoid, Prefix::Tls),
    ] {
        let once = round_trip(3, mode, prefix, 60_000);
        assert_eq!(once, round_trip(3, mode, prefix, 60_000), "{mode:?}");
        assert_ne!(once.1, round_trip(4, mode, prefix, 60_000).1, "{mode:?}");
    }
}

/// Mode 1 lets through some 1.5 Mbit/s and mode 2 half of it, each way at once here; mode 0 is as fast as the path.
#[test]
fn paced_modes_take_as_long_as_their_pauses() {
    let seconds = |mode| round_trip(3, mode, Prefix::None, 100_000).0.as_secs_f64();
    let [none, enabled, paranoid] = [IatMode::None, IatMode::Enabled, IatMode::Paranoid].map(seconds);
    assert!(none < 0.6, "{none}");
    let least = 100_000.0 * 8.0 / 2_000_000.0;
    assert!((least..4.0 * least).contains(&enabled), "{enabled}");
    assert!(
        (1.3 * enabled..4.0 * enabled).contains(&paranoid),
        "{enabled} {paranoid}"
    );
}

/// Random bytes of several lengths, HTTP, a TLS record's beginning (the bridge's own prefix), and nothing at all.
#[test]
fn strangers_hear_nothing_and_are_hung_up_on_after_the_same_time() {
    let mut world = world(5);
    let (times, heard) = (Times::default(), Arc::new(Mutex::new(Vec::new())));
    let bridge = world.add_host(host(1));
    let theirs = times.clone();
    world.start(bridge, move |rt| {
        echo(rt, identity(IatMode::None), Prefix::Tls, theirs)
    });
    let probes: Vec<Vec<u8>> = vec![
        Vec::new(),
        b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n".to_vec(),
        vec![0x16, 3, 1, 2, 0, 1],
        (0..64_u64).map(|n| (n * n * 31) as u8).collect(),
        (0..8_192_u64).map(|n| ((n * n * 31) >> 3) as u8).collect(),
        (0..20_000_u64).map(|n| ((n * n * 17) >> 5) as u8).collect(),
    ];
    let count = probes.len();
    for (n, probe) in probes.into_iter().enumerate() {
        let prober = world.add_host(host(10 + n as u8));
        let heard = heard.clone();
        world.start(prober, move |rt| async move {
            let mut stream = rt.connect(BRIDGE).await.unwrap();
            let _ = stream.write_all(&probe).await;
            let mut answer = Vec::new();
            let ended = stream.read_to_end(&mut answer).await;
            heard
                .lock()
                .unwrap()
                .push((answer.len(), rt.now(), ended.is_ok()));
        });
    }
    world
        .run_until(Instant::ZERO + Duration::from_secs(120), &mut ())
        .unwrap();
    let heard = heard.lock().unwrap();
    assert_eq!(heard.len(), count);
    assert!(heard.iter().all(|(bytes, ..)| *bytes == 0), "{heard:?}");
    let times = times.lock().unwrap();
    let hung_up: Vec<Duration> = times.iter().map(|(_, at)| *at).collect();
    assert_eq!(hung_up.len(), count);
    let (first, last) = (hung_up.iter().min().unwrap(), hung_up.iter().max().unwrap());
    assert!(*last - *first < Duration::from_millis(10), "{hung_up:?}");
    assert!((30.0..91.0).contains(&first.as_secs_f64()), "{hung_up:?}");
}

/// The first packets of two thousand connections, as the rule of the Great Firewall sees them (`fet-obfs4` of the corpus: 1,996 of
/// 2,000 of obfs4proxy's).
#[test]
fn plain_obfs4_looks_fully_encrypted_and_prefixed_obfs4_never_does() {
    use phantom_censor::classify::fet::{Measured, Variant};
    let flagged = |prefix: Prefix| {
        let (mut world, first) = (world(9), Arc::new(Mutex::new(Vec::new())));
        let bridge = world.add_host(host(1));
        let firsts = first.clone();
        world.start(bridge, move |rt| async move {
            let mut listener = rt.listen(BRIDGE).await.unwrap();
            while let Ok(mut stream) = listener.accept().await {
                let firsts = firsts.clone();
                rt.spawn("caller", async move {
                    // A censor sees no more of the first packet than one segment.
                    let mut bytes = vec![0; 1_448];
                    let read = stream.read(&mut bytes).await.unwrap();
                    bytes.truncate(read);
                    firsts.lock().unwrap().push(bytes);
                });
            }
        });
        let client = world.add_host(host(2));
        world.start(client, move |rt| async move {
            for _ in 0..2_000 {
                let stream = rt.connect(BRIDGE).await.unwrap();
                let args = identity(IatMode::None).args();
                let dialling = phantom_core::runtime::timeout(&rt, Duration::from_millis(500), async {
                    obfs4::dial(&rt, stream, &args, prefix).await.map(|_| ())
                });
                let _ = dialling.await;
            }
        });
        world
            .run_until(Instant::ZERO + Duration::from_secs(3_600), &mut ())
            .unwrap();
        let first = first.lock().unwrap();
        assert_eq!(first.len(), 2_000);
        let is_flagged = |bytes: &&Vec<u8>| {
            Measured::of(bytes).is_some_and(|measured| measured.verdict(Variant::Paper).is_flagged())
        };
        first.iter().filter(is_flagged).count()
    };
    let plain = flagged(Prefix::None);
    assert!(plain >= 1_980, "{plain} of 2,000");
    assert_eq!((flagged(Prefix::Http), flagged(Prefix::Tls)), (0, 0));
}
