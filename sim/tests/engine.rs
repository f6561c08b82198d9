//! The engine: order, repeatability, crashes, clocks, limits.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use phantom_core::event::{Event, Tag};
use phantom_core::runtime::{
    Clock, Entropy, Events, Listener, Net, Owned, Runtime, Spawn, Store, Task, Udp, timeout,
};
use phantom_core::units::Instant;
use phantom_sim::host::record::{Detail, first_difference};
use phantom_sim::host::{Observer, PeerId};
use phantom_sim::swarm::{HostSpec, Network, RunError, World, WorldConfig};
use rand_core::Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

type Record = Vec<(Instant, PeerId, Event)>;

fn at(ms: u64) -> Instant {
    Instant::ZERO + Duration::from_millis(ms)
}

fn config(seed: u64) -> WorldConfig {
    WorldConfig {
        step_limit: 10_000_000,
        detail: Detail::PerPeer,
        ..WorldConfig::new(seed)
    }
}

/// Every peer greets a random other one now and then, over jittery links.
async fn gossip<R: Runtime>(rt: R, others: Vec<SocketAddr>) {
    let any = SocketAddr::from(([0, 0, 0, 0], 7000));
    let mut listener = rt.listen(any).await.expect("nobody else listens");
    let server = rt.clone();
    rt.spawn("server", async move {
        while let Ok(mut stream) = listener.accept().await {
            let rt = server.clone();
            server.spawn("serve", async move {
                let mut buf = [0; 8];
                if stream.read_exact(&mut buf).await.is_ok() {
                    rt.emit(Event::MessageStored {
                        message: Tag::of(&buf),
                    });
                    let _ = stream.write_all(&buf).await;
                }
            });
        }
    });
    let mut rng = rt.rng("gossip");
    loop {
        rt.sleep(Duration::from_micros(rng.next_u64() % 700_000)).await;
        let to = others[rng.next_u32() as usize % others.len()];
        let greeting = rng.next_u64().to_be_bytes();
        let talk = async {
            let mut stream = rt.connect(to).await?;
            stream.write_all(&greeting).await?;
            let mut back = [0; 8];
            stream.read_exact(&mut back).await
        };
        if let Ok(Ok(_)) = timeout(&rt, Duration::from_secs(3), talk).await {
            rt.emit(Event::RoundTrip);
        }
    }
}

fn gossip_world(config: WorldConfig, observer: &mut dyn Observer) -> World {
    let mut world = World::new(config);
    let addresses: Vec<SocketAddr> = (0..12u8)
        .map(|n| SocketAddr::from(([192, 0, 2, n + 1], 7000)))
        .collect();
    for address in &addresses {
        let mut spec = HostSpec::new(format!("peer-{address}"));
        spec.addresses = vec![address.ip()];
        let peer = world.add_host(spec);
        let others = addresses
            .iter()
            .copied()
            .filter(|other| other != address)
            .collect();
        world.start(peer, |rt| gossip(rt, others));
    }
    world.at(at(4_500), |world| world.crash(PeerId(3)));
    world.run_until(at(10_000), observer).expect("the limit is high");
    world
}

#[test]
fn one_seed_gives_one_digest_and_another_seed_another() {
    let (mut one, mut two, mut other) = (Record::new(), Record::new(), Record::new());
    let a = gossip_world(config(7), &mut one);
    let b = gossip_world(config(7), &mut two);
    let c = gossip_world(config(8), &mut other);
    assert!(one.len() > 200, "something happened: {}", one.len());
    assert_eq!((a.trace_digest(), one), (b.trace_digest(), two));
    assert_eq!(a.counters(), b.counters());
    assert_ne!(a.trace_digest(), c.trace_digest());
    assert_eq!(a.checkpoints().len(), 10);
    assert_eq!(
        first_difference(a.checkpoints(), c.checkpoints()).map(|d| d.second),
        Some(0)
    );
}

/// The canary: one peer behaves differently in one place, as iteration in hash order would make it.
#[test]
fn a_difference_in_one_peer_is_traced_to_its_second_and_peer() {
    let run = |swapped: bool| {
        let mut world = World::new(config(1));
        for n in 0..20 {
            let peer = world.add_host(HostSpec::new("peer"));
            world.start(peer, move |rt| async move {
                for second in 0..8u64 {
                    rt.sleep_until(at(second * 1_000 + 500)).await;
                    let mut order = [1u8, 2];
                    if swapped && n == 13 && second == 5 {
                        order.reverse();
                    }
                    for tag in order {
                        rt.emit(Event::MessageStored {
                            message: Tag::of(&[tag]),
                        });
                    }
                }
            });
        }
        world.run_until(at(9_000), &mut ()).unwrap();
        world
    };
    let (one, two) = (run(false), run(true));
    assert_ne!(one.trace_digest(), two.trace_digest());
    let difference = first_difference(one.checkpoints(), two.checkpoints()).unwrap();
    assert_eq!((difference.second, difference.peer), (5, Some(PeerId(13))));
}

#[test]
fn shuffled_wakes_repeat_and_change_no_count() {
    let outcome = |shuffle| {
        let mut world = World::new(WorldConfig { shuffle, ..config(1) });
        let peer = world.add_host(HostSpec::new("peer"));
        let order = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&order);
        world.start(peer, move |rt| async move {
            for n in 0..50u32 {
                let (task, seen) = (rt.clone(), Arc::clone(&seen));
                rt.spawn("sleeper", async move {
                    task.sleep_until(at(10)).await;
                    seen.lock().unwrap().push(n);
                    task.emit(Event::RoundTrip);
                });
            }
        });
        let mut record = Record::new();
        world.run_until(at(20), &mut record).unwrap();
        let order = order.lock().unwrap().clone();
        (order, record.len())
    };
    let plain = outcome(None);
    assert_eq!(
        plain,
        (0..50)
            .collect::<Vec<_>>()
            .into_iter()
            .fold((Vec::new(), 50), |(mut v, n), x| {
                v.push(x);
                (v, n)
            })
    );
    let orders: Vec<_> = (0..20).map(|seed| outcome(Some(seed))).collect();
    for (seed, (order, count)) in orders.iter().enumerate() {
        assert_eq!(*count, 50);
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, plain.0);
        assert_eq!(outcome(Some(seed as u64)).0, *order, "the same again");
    }
    assert!(orders.windows(2).any(|pair| pair[0].0 != pair[1].0));
}

#[test]
fn time_passes_only_when_all_sleep_and_to_the_nanosecond() {
    let mut world = World::new(config(1));
    let peer = world.add_host(HostSpec::new("peer"));
    let mut record = Record::new();
    world.start(peer, |rt| async move {
        rt.sleep(Duration::from_nanos(3)).await;
        rt.emit(Event::RoundTrip);
        assert!(
            timeout(&rt, Duration::from_secs(5), std::future::pending::<()>())
                .await
                .is_err()
        );
        rt.emit(Event::Stopped);
    });
    world.run_until(at(10_000), &mut record).unwrap();
    let times: Vec<u64> = record.iter().map(|(at, _, _)| at.as_nanos()).collect();
    assert_eq!(times, [3, 5_000_000_003]);
    assert_eq!(world.now(), at(10_000));
}

#[test]
fn a_handle_that_is_used_on_another_thread_panics_and_its_world_goes_on() {
    let mut world = World::new(config(1));
    let peer = world.add_host(HostSpec::new("one"));
    let runtime = world.power(peer);
    let elsewhere = std::thread::scope(|scope| scope.spawn(|| runtime.now()).join());
    assert!(elsewhere.is_err());
    assert_eq!(runtime.now(), Instant::ZERO);
    world.run_until(at(1), &mut ()).unwrap();
    assert_eq!(runtime.now(), at(1));
}

#[test]
fn a_crash_ends_all_tasks_and_keeps_what_was_synced() {
    let mut world = World::new(config(5));
    let peer = world.add_host(HostSpec::new("peer"));
    let program = |rt: phantom_sim::swarm::Runtime| async move {
        let found = rt.read("log").await.unwrap().unwrap_or_default();
        rt.emit(Event::QueueHigh {
            queue: "found",
            depth: found.len() as u32,
            bound: rt.incarnation(),
        });
        rt.append("log", &[1; 10]).await.unwrap();
        rt.sync("log").await.unwrap();
        let deep = rt.clone();
        rt.spawn("child", async move {
            let deeper = deep.clone();
            deep.spawn("grandchild", async move {
                loop {
                    deeper.append("log", &[2; 100]).await.unwrap();
                    deeper.emit(Event::RoundTrip);
                    deeper.sleep(Duration::from_millis(100)).await;
                }
            });
            std::future::pending::<()>().await;
        });
    };
    world.start(peer, program);
    world.at(at(950), move |world| world.crash(peer));
    world.at(at(2_000), move |world| world.start(peer, program));
    world.at(at(2_050), move |world| {
        world.crash(peer);
        world.lose_disk(peer);
        world.start(peer, program);
    });
    let mut record = Record::new();
    world.run_until(at(2_060), &mut record).unwrap();
    let ticks: Vec<u64> = record
        .iter()
        .filter(|r| r.2 == Event::RoundTrip)
        .map(|r| r.0.as_nanos() / 1_000_000)
        .collect();
    assert_eq!(
        ticks,
        [0, 100, 200, 300, 400, 500, 600, 700, 800, 900, 2_000, 2_050]
    );
    let found: Vec<(u32, u32)> = record
        .iter()
        .filter_map(|r| match r.2 {
            Event::QueueHigh { depth, bound, .. } => Some((bound, depth)),
            _ => None,
        })
        .collect();
    assert_eq!(found[0], (0, 0));
    assert!(found[1].0 == 1 && (10..=1_010).contains(&found[1].1), "{found:?}");
    assert_eq!(found[2], (2, 0), "the disk was lost");
    assert_eq!(world.host(peer).crashes, 2);
}

#[test]
fn streams_dropped_by_a_crash_may_use_the_world_and_old_handles_are_dead() {
    let mut world = World::new(config(5));
    let (a, b) = (
        world.add_host(HostSpec::new("a")),
        world.add_host(HostSpec::new("b")),
    );
    let to = SocketAddr::new(world.host(b).addresses[0], 9);
    let kept = Arc::new(Mutex::new(None));
    world.start(b, |rt| async move {
        let mut listener = rt.listen("0.0.0.0:9".parse().unwrap()).await.unwrap();
        let mut held = Vec::new();
        while let Ok(stream) = listener.accept().await {
            held.push(stream);
        }
    });
    let keep = Arc::clone(&kept);
    world.start(a, move |rt| async move {
        let mut streams = Vec::new();
        for _ in 0..10 {
            streams.push(rt.connect(to).await.unwrap());
        }
        *keep.lock().unwrap() = Some((rt.clone(), streams.pop()));
        let _owned = Owned(rt.spawn("child", std::future::pending()));
        std::future::pending::<()>().await;
    });
    world.at(at(2_000), move |world| world.crash(a));
    world.at(at(3_000), move |world| world.crash(b));
    world.run_until(at(4_000), &mut ()).unwrap();
    let counters = world.counters();
    assert_eq!((counters.tasks, counters.streams), (0, 1), "{counters:?}");
    let (rt, stream) = kept.lock().unwrap().take().unwrap();
    drop(stream);
    rt.spawn("ghost", async { panic!("a dead start runs nothing") })
        .abort();
    rt.emit(Event::RoundTrip);
    world.start(a, |_| async {});
    let mut record = Record::new();
    world.run_until(at(5_000), &mut record).unwrap();
    assert_eq!((record.len(), world.counters().streams), (0, 0));
}

#[test]
fn a_task_can_abort_itself_and_others() {
    let mut world = World::new(config(1));
    let peer = world.add_host(HostSpec::new("peer"));
    let mut record = Record::new();
    world.start(peer, |rt| async move {
        let other = rt.clone();
        let task = rt.spawn("other", async move {
            other.sleep(Duration::from_secs(1)).await;
            other.emit(Event::Stopped);
        });
        let own: Arc<Mutex<Option<phantom_sim::swarm::Task>>> = Arc::default();
        let (seen, me) = (rt.clone(), Arc::clone(&own));
        let suicide = rt.spawn("suicide", async move {
            seen.sleep(Duration::from_millis(1)).await;
            if let Some(task) = me.lock().unwrap().as_ref() {
                task.abort();
            }
            seen.emit(Event::RoundTrip);
            seen.sleep(Duration::from_millis(1)).await;
            seen.emit(Event::Stopped);
        });
        *own.lock().unwrap() = Some(suicide);
        rt.sleep(Duration::from_millis(500)).await;
        task.abort();
        task.abort();
    });
    world.run_until(at(3_000), &mut record).unwrap();
    assert_eq!(
        record.iter().map(|r| r.2.clone()).collect::<Vec<_>>(),
        [Event::RoundTrip]
    );
    assert_eq!(world.counters().tasks, 0);
}

#[test]
fn traffic_that_no_event_tells_of_changes_the_digest_and_how_a_run_is_sliced_does_not() {
    let digest = |bytes: usize, slices: &[u64]| {
        let mut world = World::new(config(1));
        let peer = world.add_host(HostSpec::new("peer"));
        let own = world.host(peer).addresses[0];
        world.start(peer, move |rt| async move {
            let socket = rt.bind_udp(SocketAddr::new(own, 0)).await.expect("a port");
            let to = socket.local_addr();
            for n in 1..4_u64 {
                rt.sleep_until(Instant::from_nanos(n * 1_000_000_000 + n * 7))
                    .await;
                let _ = socket.send_to(&vec![0; bytes], to).await;
            }
        });
        for until in slices {
            world.run_until(at(*until), &mut ()).expect("a short run");
        }
        (world.trace_digest(), world.checkpoints().to_vec())
    };
    let whole = digest(100, &[6_000]);
    assert_eq!(digest(100, &[1_000, 2_000, 3_000, 4_000, 5_000, 6_000]), whole);
    assert_eq!(digest(100, &[1_700, 3_999, 5_001, 6_000]), whole);
    assert_ne!(digest(101, &[6_000]).0, whole.0);
}

#[test]
fn a_spinning_program_is_an_error_and_not_a_hang() {
    let mut world = World::new(WorldConfig {
        step_limit: 1_000,
        ..config(1)
    });
    let peer = world.add_host(HostSpec::new("peer"));
    world.start(peer, |_| async {
        loop {
            tokio::task::yield_now().await;
        }
    });
    // Outside of a tokio runtime `yield_now` wakes at once.
    let error = world.run_until(at(1), &mut ()).unwrap_err();
    let RunError::StepLimit {
        at: when,
        peer: whose,
        task,
        ..
    } = error;
    assert_eq!((when, whose, task), (Instant::ZERO, peer, "main"));
}

#[test]
fn cancelled_sleeps_leave_nothing_behind() {
    let mut world = World::new(config(1));
    let peer = world.add_host(HostSpec::new("peer"));
    world.start(peer, |rt| async move {
        for _ in 0..100_000 {
            let _ = timeout(
                &rt,
                Duration::from_secs(3_600),
                rt.sleep(Duration::from_micros(1)),
            )
            .await;
        }
    });
    world.run_until(at(1_000), &mut ()).unwrap();
    assert!(world.counters().pending < 5_000, "{:?}", world.counters());
}

#[test]
fn clocks_step_and_draws_in_one_place_shift_no_other() {
    let draws = |more: bool| {
        let mut world = World::new(WorldConfig {
            network: Network::Fixed(Duration::from_millis(1)),
            ..config(9)
        });
        let peer = world.add_host(HostSpec::new("peer"));
        let rt = world.power(peer);
        if more {
            rt.rng("other").next_u64();
        }
        let wall = rt.wall();
        world.step_clock(peer, -5_000_000_000);
        assert_eq!(wall.as_unix_secs() - rt.wall().as_unix_secs(), 5);
        (rt.rng("label").next_u64(), rt.rng("label").next_u64())
    };
    let (one, two) = draws(false);
    assert_ne!(one, two);
    assert_eq!(draws(true), (one, two));
}
