//! What programs feel of a censor's engine at the border of a world.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use phantom_censor::craft::{Hello, tls_records};
use phantom_censor::engine::names::Names;
use phantom_censor::engine::residual::{Residual, Tuple};
use phantom_censor::engine::rule::{ALWAYS, Action, Bucket, Condition, Rule, Way};
use phantom_censor::engine::{Engine, EngineConfig};
use phantom_censor::file::CensorFile;
use phantom_core::runtime::{Clock, Listener, Net, Spawn, timeout};
use phantom_core::units::Instant;
use phantom_path::fidelity::Cell;
use phantom_path::tcp::Algorithm;
use phantom_script::load::Scripts;
use phantom_sim::censor::Censor;
use phantom_sim::swarm::{Access, HostSpec, Network, Topology, World, WorldConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const SERVER: [u8; 4] = [192, 0, 2, 1];
const SECOND: u64 = 1_000_000_000;

fn server() -> SocketAddr {
    SocketAddr::from((SERVER, 443))
}

/// A client inside and a server outside, 50 ms apart, 10 Mbit/s.
fn world(rules: Vec<Rule>) -> (World, Arc<Mutex<Censor>>, [phantom_sim::host::PeerId; 2]) {
    let mut topology = Topology::new();
    let region = topology.add_region("all", Duration::from_millis(50));
    for name in ["one", "two"] {
        topology.add_system(name, region, Duration::ZERO);
    }
    let mut world = World::new(WorldConfig {
        network: Network::Modelled(topology),
        ..WorldConfig::new(1)
    });
    let access = Access {
        queue_bytes: 125_000,
        ..Access::new(10_000_000, 1_000_000_000)
    };
    let host = |address: [u8; 4], inside| HostSpec {
        addresses: vec![address.into()],
        inside,
        access,
        ..HostSpec::new("host")
    };
    let hosts = [
        world.add_host(host(SERVER, false)),
        world.add_host(host([10, 0, 0, 1], true)),
    ];
    let censor = Arc::new(Mutex::new(Censor::new(Engine::new(
        EngineConfig::default(),
        rules,
    ))));
    world.set_middlebox(Arc::clone(&censor));
    (world, censor, hosts)
}

/// The client says a hello to `name`, is answered, and sends `bytes`; when the last one arrived, in seconds after the dial, and what
/// the client saw if it did not come so far.
fn upload(rules: Vec<Rule>, name: &str, bytes: usize) -> (Option<f64>, Option<std::io::ErrorKind>) {
    let (mut world, _, [there, here]) = world(rules);
    let done = Arc::new(Mutex::new((None, None)));
    let arrived = Arc::clone(&done);
    let hello = tls_records(&Hello::to(name).message(), 1 << 14);
    let len = hello.len();
    world.start(there, move |rt| async move {
        let mut listener = rt.listen(server()).await.unwrap();
        loop {
            let (mut stream, clock, arrived) =
                (listener.accept().await.unwrap(), rt.clone(), Arc::clone(&arrived));
            rt.spawn("serve", async move {
                let mut all = vec![0; len + bytes];
                if stream.read_exact(&mut all[..len]).await.is_ok()
                    && stream.write_all(b"hello").await.is_ok()
                    && stream.read_exact(&mut all[len..]).await.is_ok()
                {
                    arrived.lock().unwrap().0 = Some(clock.now().as_nanos() as f64 / 1e9);
                }
            });
        }
    });
    let failed = Arc::clone(&done);
    world.start(here, move |rt| async move {
        let sent = timeout(&rt, Duration::from_secs(600), async {
            let mut stream = rt.connect(server()).await?;
            stream.write_all(&hello).await?;
            stream.read_exact(&mut [0; 5]).await?;
            stream.write_all(&vec![7; bytes]).await?;
            stream.read_u8().await
        });
        failed.lock().unwrap().1 = match sent.await {
            Ok(ended) => ended.err().map(|error| error.kind()),
            Err(_late) => Some(std::io::ErrorKind::TimedOut),
        };
    });
    world
        .run_until(Instant::ZERO + Duration::from_secs(700), &mut ())
        .unwrap();
    *done.lock().unwrap()
}

fn of_name(action: Action) -> Rule {
    Rule {
        all: vec![Condition::Name(Names::from_iter(["*.blocked.example"]))],
        action,
        ..Rule::new("name")
    }
}

/// A policed upload takes what the machines alone take behind the same policer, and those what Linux takes (`sim/path`).
#[test]
fn a_throttled_upload_takes_what_the_policer_lets_through() {
    let police = |burst_bytes| {
        of_name(Action::Police {
            bits_per_second: 140_000,
            burst_bytes,
            bucket: Bucket::Flow,
        })
    };
    let (took, _) = upload(vec![police(16_384)], "www.blocked.example", 300_000);
    let took = took.unwrap();
    let cell = Cell {
        bytes: 300_000,
        rtt_ms: 50,
        bits_per_second: 10_000_000,
        loss: 0.0,
        queue_bytes: 125_000,
        policer_bits_per_second: 140_000,
    };
    let alone = cell.simulate(Algorithm::Cubic, 1).0;
    assert!((took / alone - 1.0).abs() < 0.1, "{took} s, alone {alone} s");
    let (others, _) = upload(vec![police(16_384)], "www.example.org", 300_000);
    assert!(others.unwrap() < 1.0, "{others:?}");
}

#[test]
fn a_reset_ends_a_stream_by_its_name_and_the_residual_block_refuses_the_next() {
    let reset = Action::Reset {
        client: true,
        server: true,
    };
    let residual = Some(Residual {
        tuple: Tuple::Three,
        for_ns: 90 * SECOND,
        share: ALWAYS,
        renewed: false,
        way: Way::Both,
        resets: true,
    });
    let rule = || Rule {
        residual,
        ..of_name(reset.clone())
    };
    let (took, error) = upload(vec![rule()], "www.blocked.example", 1_000);
    assert_eq!((took, error), (None, Some(std::io::ErrorKind::ConnectionReset)));
    assert!(upload(vec![rule()], "www.example.org", 1_000).0.is_some());
    // Dials after the first was caught.
    let (mut world, censor, [there, here]) = world(vec![rule()]);
    world.start(there, |rt| async move {
        let mut listener = rt.listen(server()).await.unwrap();
        let mut streams = Vec::new();
        while let Ok(stream) = listener.accept().await {
            streams.push(stream);
        }
    });
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    world.start(here, move |rt| async move {
        let mut stream = rt.connect(server()).await.unwrap();
        let hello = tls_records(&Hello::to("a.blocked.example").message(), 1 << 14);
        stream.write_all(&hello).await.unwrap();
        for after in [10, 80, 100] {
            rt.sleep_until(Instant::ZERO + Duration::from_secs(after)).await;
            let dialled = rt.connect(server()).await.map(drop).map_err(|error| error.kind());
            log.lock().unwrap().push(dialled);
        }
    });
    world
        .run_until(Instant::ZERO + Duration::from_secs(200), &mut ())
        .unwrap();
    let refused = Err(std::io::ErrorKind::ConnectionRefused);
    assert_eq!(*seen.lock().unwrap(), [refused, refused, Ok(())]);
    assert_eq!(censor.lock().unwrap().engine().counts()[0].sentenced, 1);
}

/// net4people#490: nobody is told; the stream is silent after 25 packets, and the sender gives up on its own.
#[test]
fn a_frozen_upload_stalls_without_a_sign() {
    let freeze = Rule {
        all: vec![Condition::Packets(Way::Both, 25)],
        ..Rule::new("freeze")
    };
    assert!(upload(vec![freeze.clone()], "www.example.org", 5_000).0.is_some());
    let (took, error) = upload(vec![freeze], "www.example.org", 100_000);
    assert_eq!((took, error), (None, Some(std::io::ErrorKind::TimedOut)));
}

/// With every kind of action on, two runs are the same.
#[test]
fn runs_under_a_censor_repeat() {
    let run = || {
        let rules = vec![
            of_name(Action::Delay(30_000_000)),
            Rule {
                all: vec![Condition::Bytes(Way::FromClient, 20_000)],
                action: Action::Police {
                    bits_per_second: 500_000,
                    burst_bytes: 16_384,
                    bucket: Bucket::Shared,
                },
                ..Rule::new("later")
            },
        ];
        upload(rules, "www.blocked.example", 200_000)
    };
    assert!(run().0.is_some());
    assert_eq!(run(), run());
}

/// The files of docs/CENSOR-SCRIPTS.md, as `classify` takes them.
#[test]
fn a_script_judges_simulated_packets_as_it_judges_a_capture() {
    let tutorial = include_str!("../../docs/CENSOR-SCRIPTS.md");
    let file = |name: &str| {
        let (_, rest) = tutorial
            .split_once(&format!("<!-- file: {name} -->\n```"))
            .unwrap();
        let (_, rest) = rest.split_once('\n').unwrap();
        rest.split_once("```").unwrap().0
    };
    let rules = || {
        let mut scripts = Scripts::new(|name, _| Ok(file(name).as_bytes().to_vec()));
        let censor = CensorFile::parse_scripted("mine.toml", file("mine.toml"), &mut scripts);
        censor.unwrap_or_else(|error| panic!("{error}")).rules()
    };
    // Full segments, one after the other: the third is lost, and all that follows.
    let (arrived, failed) = upload(rules(), "www.example.org", 300_000);
    assert_eq!((arrived, failed), (None, Some(std::io::ErrorKind::TimedOut)));
    // One short one.
    let (arrived, _) = upload(rules(), "www.example.org", 100);
    assert!(arrived.is_some());
}
