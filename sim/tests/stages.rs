//! What every stage adds to a runtime: acts in time, a border, records that repeat.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use phantom_core::event::{Event, Tag};
use phantom_core::runtime::rules::{Remote, Rule};
use phantom_core::runtime::{Clock, Entropy, Events, Listener, Net, Runtime, Spawn, Store, timeout};
use phantom_core::units::Instant;
use phantom_sim::host::{PeerId, entropy};
use phantom_sim::loopback::LoopbackStage;
use phantom_sim::stage::{Act, Delays, HostSpec, Record, Stage, program};
use phantom_sim::swarm::SwarmStage;
#[cfg(madsim)]
use phantom_sim::witness::madsim::MadsimStage;
use phantom_sim::witness::paused::PausedStage;
use phantom_sim::witness::turmoil::TurmoilStage;
use rand_core::Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn ms(ms: u64) -> Instant {
    Instant::ZERO + Duration::from_millis(ms)
}

fn secs(secs: u64) -> Instant {
    ms(secs * 1_000)
}

/// An event that carries a number, for tests.
fn mark(number: u64) -> Event {
    Event::MessageStored { message: Tag(number) }
}

/// Real addresses that no other process which runs these tests is likely to use.
fn own_loopback(first: u8) -> [u8; 4] {
    let id = std::process::id();
    [127, 200 + (id % 50) as u8, (id / 50 % 250) as u8, first]
}

/// A stage with hosts at consecutive addresses from `first`; those for which `inside` says so are behind the border.
fn stage<S: Stage>(seed: u64, first: [u8; 4], inside: &[bool]) -> (S, Vec<SocketAddr>) {
    let mut stage = S::new(seed, Delays::uniform(Duration::from_millis(40)));
    let mut services = Vec::new();
    for (number, inside) in inside.iter().enumerate() {
        let [a, b, c, d] = first;
        let address = IpAddr::from([a, b, c, d + number as u8]);
        services.push(SocketAddr::new(address, 7_100));
        stage.add_host(HostSpec {
            inside: *inside,
            ..HostSpec::new(format!("host-{number}"), address)
        });
    }
    (stage, services)
}

async fn echo<R: Runtime>(rt: R) {
    let Ok(mut listener) = rt.listen(SocketAddr::from(([0; 4], 7_100))).await else {
        return;
    };
    while let Ok(mut stream) = listener.accept().await {
        rt.spawn("echo", async move {
            let mut buf = [0; 64];
            while let Ok(n @ 1..) = stream.read(&mut buf).await {
                if stream.write_all(&buf[..n]).await.is_err() {
                    break;
                }
            }
        });
    }
}

/// Asks `service` over one stream every 250 ms, and marks each answer with `number`.
async fn ask<R: Runtime>(rt: R, service: SocketAddr, number: u64) {
    rt.sleep(Duration::from_millis(300)).await;
    let Ok(mut stream) = rt.connect(service).await else {
        return;
    };
    let mut buf = [0; 4];
    while stream.write_all(b"ping").await.is_ok() && stream.read_exact(&mut buf).await.is_ok() {
        rt.emit(mark(number));
        rt.sleep(Duration::from_millis(250)).await;
    }
}

fn marks(records: &[Record], number: u64, from: Instant, to: Instant) -> usize {
    let wanted = |r: &&Record| r.event == mark(number) && r.at >= from && r.at < to;
    records.iter().filter(wanted).count()
}

/// A cut stops what crosses the border, on established streams, and nothing else; and it heals.
fn a_cut_stops_what_crosses_the_border_only<S: Stage>(first: [u8; 4]) {
    let (mut stage, services) = stage::<S>(1, first, &[true, true, false]);
    let [client, neighbour, abroad] = [0, 1, 2].map(PeerId);
    let (near, far) = (services[neighbour.index()], services[abroad.index()]);
    stage.set_program(neighbour, program(echo));
    stage.set_program(abroad, program(echo));
    stage.set_program(
        client,
        program(move |rt: S::Runtime| async move {
            rt.spawn("near", ask(rt.clone(), near, 1));
            ask(rt, far, 2).await;
        }),
    );
    for peer in [client, neighbour, abroad] {
        stage.at(Instant::ZERO, Act::Start(peer));
    }
    let cut = Rule::Drop {
        remote: Remote::Any,
        protocol: None,
    };
    stage.at(secs(2), Act::AddRule("cut".into(), cut));
    stage.at(secs(4), Act::RemoveRule("cut".into()));
    stage.run_until(secs(6));
    let records = stage.take_records();
    let phases = [(ms(500), secs(2)), (ms(2_200), secs(4)), (ms(4_300), secs(6))];
    let [near, far] = [1, 2].map(|number| phases.map(|(from, to)| marks(&records, number, from, to)));
    assert!(near.iter().all(|n| *n >= 2), "inside: {near:?}");
    assert!(far[0] >= 2 && far[1] == 0 && far[2] >= 2, "across: {far:?}");
    assert_eq!(stage.counts().streams_stalled, 1, "{:?}", stage.counts());
    assert!(records.is_sorted_by_key(|record| record.at));
    assert_eq!(stage.take_records(), [], "records are handed out once");
}

/// Crash, loss of the disk, change of a name: each at its instant.
fn acts_are_played_at_their_instants<S: Stage>(first: [u8; 4]) {
    let (mut stage, services) = stage::<S>(1, first, &[false]);
    let peer = PeerId(0);
    let (old, new) = (services[0].ip(), IpAddr::from([192, 0, 2, 7]));
    stage.set_program(
        peer,
        program(move |rt: S::Runtime| async move {
            let kept = rt.read("kept").await.expect("a readable store").is_some();
            rt.write("kept", b"needle in a disk")
                .await
                .expect("a writable store");
            let renamed = timeout(&rt, Duration::from_secs(5), rt.resolve("name.invalid")).await;
            let renamed = renamed.expect("an answer").expect("a name") == [new];
            rt.emit(mark(u64::from(kept) + 10 * u64::from(renamed)));
            std::future::pending().await
        }),
    );
    stage.at(Instant::ZERO, Act::SetName("name.invalid".into(), vec![old]));
    for second in [0, 2, 4] {
        stage.at(secs(second), Act::Start(peer));
        stage.at(secs(second + 1), Act::Crash(peer));
    }
    stage.at(ms(1_500), Act::SetName("name.invalid".into(), vec![new]));
    stage.at(ms(3_500), Act::LoseDisk(peer));
    stage.run_until(ms(3_200));
    assert!(stage.disk_contains(peer, b"needle") && !stage.disk_contains(peer, b"noodle"));
    stage.run_until(ms(3_700));
    assert!(
        !stage.disk_contains(peer, b"needle"),
        "the lost disk is still there"
    );
    stage.run_until(secs(6));
    let seen: Vec<Event> = stage
        .take_records()
        .into_iter()
        .map(|record| record.event)
        .collect();
    // Nothing yet; then the file and the new name; then the name alone.
    assert_eq!(seen, [mark(0), mark(11), mark(10)]);
}

/// Where wall clocks are ours, they step when they are told to.
fn wall_clocks_step_at_their_instant<S: Stage>(first: [u8; 4]) {
    let (mut stage, _) = stage::<S>(1, first, &[false]);
    assert!(stage.abilities().hosts_are_ours);
    stage.set_program(
        PeerId(0),
        program(|rt: S::Runtime| async move {
            let started = rt.wall().as_unix_secs();
            for _ in 0..3 {
                rt.sleep(Duration::from_secs(2)).await;
                rt.emit(mark(rt.wall().as_unix_secs().wrapping_sub(started)));
            }
        }),
    );
    stage.at(Instant::ZERO, Act::Start(PeerId(0)));
    stage.at(secs(3), Act::StepWall(PeerId(0), 3_600_000_000_000));
    stage.at(secs(5), Act::StepWall(PeerId(0), -7_200_000_000_000));
    stage.run_until(secs(7));
    let seen: Vec<Event> = stage
        .take_records()
        .into_iter()
        .map(|record| record.event)
        .collect();
    assert_eq!(seen, [mark(2), mark(3_604), mark(6_u64.wrapping_sub(3_600))]);
}

/// The same seed gives the same records, to the nanosecond; another seed gives others.
fn a_run_repeats_by_its_seed<S: Stage>(first: [u8; 4]) {
    let run = |seed| {
        let (mut stage, services) = stage::<S>(seed, first, &[true, false, false, false]);
        assert!(stage.abilities().repeatable);
        for number in 0..4 {
            let service = services[(number + 1) % 4];
            let peer = PeerId(number as u32);
            stage.set_program(
                peer,
                program(move |rt: S::Runtime| async move {
                    rt.spawn("echo", echo(rt.clone()));
                    let mut rng = rt.rng("test");
                    for _ in 0..5 {
                        rt.sleep(Duration::from_millis(rng.next_u64() % 900)).await;
                        rt.emit(mark(rng.next_u64()));
                    }
                    ask(rt, service, 3).await;
                }),
            );
            stage.at(Instant::ZERO, Act::Start(peer));
        }
        stage.at(secs(6), Act::Crash(PeerId(2)));
        stage.at(secs(7), Act::Start(PeerId(2)));
        stage.run_until(secs(12));
        stage.take_records()
    };
    let once = run(1);
    assert!(once.len() > 30, "{} records", once.len());
    assert_eq!(once, run(1));
    assert_ne!(once, run(2));
}

/// A host's entropy depends on the seed, the host and its start, and not on what plays it: the bytes are those that the
/// simulator's own engine gives.
fn entropy_is_that_of_the_seed_on_every_back_end<S: Stage>(first: [u8; 4]) {
    let drawn = |records: Vec<Record>| records.into_iter().map(|record| record.event).collect::<Vec<_>>();
    let (mut stage, _) = stage::<S>(11, first, &[false]);
    stage.set_program(
        PeerId(0),
        program(|rt: S::Runtime| async move {
            rt.emit(mark(rt.rng("test").next_u64()));
            rt.emit(mark(rt.rng("test").next_u64()));
        }),
    );
    for (at, act) in [
        (secs(0), Act::Start(PeerId(0))),
        (secs(1), Act::Crash(PeerId(0))),
        (secs(2), Act::Start(PeerId(0))),
    ] {
        stage.at(at, act);
    }
    stage.run_until(secs(3));
    let wanted = [(0, 0), (0, 1), (1, 0), (1, 1)]
        .map(|(start, nth)| mark(entropy::stream(11, PeerId(0), start, "test", nth).next_u64()));
    assert_eq!(drawn(stage.take_records()), wanted);
}

macro_rules! on {
    ($module:ident, $stage:ty, $first:expr, $($name:ident),*) => {
        mod $module {
            use super::*;
            $(#[test]
            fn $name() {
                super::$name::<$stage>($first);
            })*
        }
    };
}

on!(
    swarm,
    SwarmStage,
    [10, 0, 0, 1],
    entropy_is_that_of_the_seed_on_every_back_end
);
on!(
    paused,
    PausedStage,
    [10, 0, 0, 1],
    a_cut_stops_what_crosses_the_border_only,
    acts_are_played_at_their_instants,
    wall_clocks_step_at_their_instant,
    a_run_repeats_by_its_seed,
    entropy_is_that_of_the_seed_on_every_back_end
);
on!(
    turmoil,
    TurmoilStage,
    [10, 0, 0, 1],
    a_cut_stops_what_crosses_the_border_only,
    acts_are_played_at_their_instants,
    wall_clocks_step_at_their_instant,
    a_run_repeats_by_its_seed,
    entropy_is_that_of_the_seed_on_every_back_end
);
#[cfg(madsim)]
on!(
    madsim,
    MadsimStage,
    [10, 0, 0, 1],
    a_cut_stops_what_crosses_the_border_only,
    acts_are_played_at_their_instants,
    wall_clocks_step_at_their_instant,
    a_run_repeats_by_its_seed,
    entropy_is_that_of_the_seed_on_every_back_end
);
on!(
    loopback_cut,
    LoopbackStage,
    own_loopback(1),
    a_cut_stops_what_crosses_the_border_only
);
on!(
    loopback_acts,
    LoopbackStage,
    own_loopback(101),
    acts_are_played_at_their_instants
);
