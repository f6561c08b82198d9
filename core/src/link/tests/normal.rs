//! What links do between ends that keep the rules.

use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;

use super::world::*;
use crate::event::Event;
use crate::link::{Channel, Config, FRAME_LEN, LinkError, MESSAGE_MAX, PeerKind};
use crate::runtime::Clock;

fn bytes(n: usize, seed: u8) -> Bytes {
    (0..n).map(|i| (i as u8).wrapping_mul(31) ^ seed).collect()
}

#[tokio::test(start_paused = true)]
async fn every_pattern_carries_messages_both_ways_and_shows_who_dialled() {
    let worlds = [
        (World::listed(), PeerKind::Anonymous),
        (World::nodes(), PeerKind::Node(secret(2).public())),
        (World::bridge(), PeerKind::Anonymous),
    ];
    for (world, kind) in worlds {
        let pair = world.link().await;
        assert_eq!(pair.kind, kind);
        let tickets = world.auth.with_tickets(|tickets| tickets.len());
        assert_eq!(tickets > 0, kind == PeerKind::Anonymous, "nodes resume nothing");
        for n in [0, 1, 60, 61, 62, 4096, 33_000, MESSAGE_MAX] {
            pair.client.send(Channel::PACKET, bytes(n, 1)).await.unwrap();
            pair.server.send(Channel::RPC, bytes(n, 2)).await.unwrap();
            assert_eq!(pair.server.recv().await, Some((Channel::PACKET, bytes(n, 1))));
            assert_eq!(pair.client.recv().await, Some((Channel::RPC, bytes(n, 2))));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_abandoned_link_says_nothing_more_and_the_other_end_only_sees_it_break() {
    let world = World::listed();
    let pair = world.link().await;
    pass(3.0).await;
    assert!(pair.client.why_down().is_none());
    let said = pair.up.lock().unwrap().seen.len();
    pair.client.send(Channel::PACKET, bytes(4_096, 1)).await.unwrap();
    pair.client.abandon();
    pass(60.0).await;
    assert_eq!(pair.up.lock().unwrap().seen.len(), said);
    assert_eq!(pair.client.why_down(), Some(LinkError::Closed));
    assert!(pair.server.recv_until(crate::link::Until::Down).await.is_none());
    assert_ne!(pair.server.why_down(), Some(LinkError::Closed), "no goodbye came");
}

#[tokio::test(start_paused = true)]
async fn all_that_is_written_comes_in_units_of_one_size_whatever_it_says() {
    for world in [World::listed(), World::nodes(), World::bridge()] {
        let mut counts = Vec::new();
        for filler in [0, 0xff] {
            let pair = world.link().await;
            pass(3.0).await;
            pair.client
                .send(Channel::PACKET, Bytes::from(vec![filler; 4096]))
                .await
                .unwrap();
            pair.server.recv().await.unwrap();
            pass(3.0).await;
            let (up, down) = (
                pair.up.lock().unwrap().seen.len(),
                pair.down.lock().unwrap().seen.len(),
            );
            assert_eq!((up % FRAME_LEN, down % FRAME_LEN), (0, 0));
            counts.push((up, down));
        }
        assert_eq!(counts[0], counts[1]);
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_seeds_write_the_same_bytes() {
    let run = async || {
        let world = World::bridge();
        let pair = world.link().await;
        pair.client.send(Channel::PACKET, bytes(5000, 1)).await.unwrap();
        pair.server.recv().await.unwrap();
        pass(2.0).await;
        let (up, down) = (
            pair.up.lock().unwrap().seen.clone(),
            pair.down.lock().unwrap().seen.clone(),
        );
        (up, down)
    };
    let first = run().await;
    assert_eq!(first, run().await);
}

#[tokio::test(start_paused = true)]
async fn a_sender_waits_while_the_other_program_takes_nothing() {
    let world = World::listed();
    let pair = world.link().await;
    pass(2.0).await;
    let mut accepted = 0;
    while pair.client.try_send(Channel::PACKET, bytes(4096, 0)).is_ok() {
        accepted += 1;
        pass(0.01).await;
    }
    let buffered = pair.client.buffered();
    assert!(
        buffered <= u64::from(world.config.send_buffer) && buffered > 240 * 1024,
        "{buffered}"
    );
    let full = pair.client.try_send(Channel::PACKET, bytes(4096, 0));
    assert!(matches!(full, Err(LinkError::Full { .. })), "{full:?}");

    let sender = pair.client.sender();
    let waiting = async {
        sender.send(Channel::PACKET, bytes(1, 9)).await.unwrap();
        "sent"
    };
    let taking = async {
        pass(60.0).await;
        for _ in 0..accepted {
            pair.server.recv().await.unwrap();
        }
        pair.server.recv().await
    };
    let (sent, last) = both(waiting, taking).await;
    assert_eq!((sent, last), ("sent", Some((Channel::PACKET, bytes(1, 9)))));
}

#[tokio::test(start_paused = true)]
async fn what_was_sent_is_acknowledged_when_nothing_else_is_to_be_said() {
    let pair = World::listed().link().await;
    pair.client.send(Channel::PACKET, bytes(4096, 0)).await.unwrap();
    pass(6.0).await;
    assert!(pair.client.buffered() > 4000, "nobody took it");
    pair.server.recv().await.unwrap();
    pass(0.1).await;
    assert_eq!(pair.client.buffered(), 0, "overdue, so at once");
    pair.client.send(Channel::PACKET, bytes(4096, 0)).await.unwrap();
    pair.server.recv().await.unwrap();
    pass(5.1).await;
    assert_eq!(pair.client.buffered(), 0, "after the delay");
}

#[tokio::test(start_paused = true)]
async fn pings_end_and_are_reported_where_asked_for() {
    let mut world = World::listed();
    world.config.report_round_trips = true;
    let pair = world.link().await;
    pair.client.ping().await.unwrap();
    pair.client.ping().await.unwrap();
    let trips = |rt: &TestRt| {
        rt.events
            .lock()
            .unwrap()
            .iter()
            .filter(|e| **e == Event::RoundTrip)
            .count()
    };
    assert_eq!(
        trips(&world.dialler),
        3,
        "the one that rode on the first frame, and two that were asked for"
    );
    assert_eq!(trips(&world.server), 0);
}

/// Whoever judges by round trips whether a client is connected must not take a busy link for a dead one.
#[tokio::test(start_paused = true)]
async fn a_busy_link_which_sends_no_pings_reports_a_round_trip_in_each_interval() {
    let mut world = World::listed();
    world.config.report_round_trips = true;
    world.config.keep_alive = Some(Duration::from_secs(10));
    let pair = world.link().await;
    let trips = |rt: &TestRt| {
        let events = rt.events.lock().unwrap();
        events.iter().filter(|event| **event == Event::RoundTrip).count()
    };
    let before = trips(&world.dialler);
    for n in 0..60 {
        pair.client.send(Channel::PACKET, bytes(100, n)).await.unwrap();
        pair.server.recv().await.unwrap();
        pair.server.send(Channel::PACKET, bytes(100, n)).await.unwrap();
        pair.client.recv().await.unwrap();
        pass(1.0).await;
    }
    let told = trips(&world.dialler) - before;
    assert!((5..=7).contains(&told), "one in ten seconds: {told}");
}

#[tokio::test(start_paused = true)]
async fn a_link_that_nothing_answers_on_is_found_dead() {
    let mut world = World::listed();
    world.config.keep_alive = Some(Duration::from_secs(10));
    let pair = world.link().await;
    pass(100.0).await;
    assert!(pair.client.is_up(), "pings are answered");
    pair.up.lock().unwrap().swallow = true;
    pair.down.lock().unwrap().swallow = true;
    let before = world.dialler.events.lock().unwrap().len();
    let why = pair.client.down().await;
    assert!(matches!(why, LinkError::TimedOut { .. }), "{why}");
    assert_eq!(world.dialler.events.lock().unwrap().len(), before);
    assert_eq!(pair.client.recv().await, None);
}

#[tokio::test(start_paused = true)]
async fn a_link_whose_other_end_takes_no_bytes_is_found_dead_though_no_ping_gets_out() {
    let mut world = World::listed();
    world.config.keep_alive = Some(Duration::from_secs(10));
    let pair = world.link().await;
    pass(30.0).await;
    for path in [&pair.up, &pair.down] {
        path.lock().unwrap().full = true;
    }
    pair.client.send(Channel::PACKET, bytes(9000, 1)).await.unwrap();
    let begun = world.dialler.now();
    let why = pair.client.down().await;
    assert!(matches!(why, LinkError::TimedOut { .. }), "{why}");
    let took = world.dialler.now().saturating_since(begun);
    assert!(took <= Duration::from_secs(10 + 15), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_link_that_is_closed_ends_in_time_though_its_other_end_takes_no_bytes() {
    let world = World::listed();
    let pair = world.link().await;
    pair.up.lock().unwrap().full = true;
    pair.client.send(Channel::PACKET, bytes(9000, 1)).await.unwrap();
    pass(1.0).await;
    let (sender, begun) = (pair.client.sender(), world.dialler.now());
    drop(pair.client);
    let why = sender.closed().await;
    assert!(
        matches!(
            why,
            LinkError::TimedOut {
                doing: "saying goodbye",
                ..
            }
        ),
        "{why}"
    );
    let took = world.dialler.now().saturating_since(begun);
    assert_eq!(took, world.config.handshake_limit);
}

#[tokio::test(start_paused = true)]
async fn an_idle_link_writes_keep_alives_and_nothing_else() {
    for (config, per_hour) in [
        (
            Config {
                keep_alive: None,
                ..Config::client()
            },
            0,
        ),
        (Config::client(), 360),
    ] {
        let mut world = World::listed();
        world.config = config;
        let pair = world.link().await;
        pass(6.0).await;
        let written = || pair.up.lock().unwrap().seen.len() + pair.down.lock().unwrap().seen.len();
        let before = written();
        pass(3600.0).await;
        // Each is a ping and its pong; both ends ping, and neither when it has just heard the other.
        let frames = (written() - before) / FRAME_LEN;
        assert!(
            frames >= 2 * per_hour - 10 * per_hour.min(1) && frames <= 4 * per_hour,
            "{frames}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_closed_link_delivers_what_was_sent_before() {
    let world = World::listed();
    let pair = world.link().await;
    for n in 0..20 {
        pair.client.send(Channel::PACKET, bytes(9000, n)).await.unwrap();
    }
    let sender = pair.client.sender();
    drop(pair.client);
    for n in 0..20 {
        assert_eq!(pair.server.recv().await, Some((Channel::PACKET, bytes(9000, n))));
    }
    assert_eq!(pair.server.recv().await, None);
    assert_eq!(sender.closed().await, LinkError::Closed);
    assert_eq!(
        sender.send(Channel::PACKET, Bytes::new()).await,
        Err(LinkError::Closed)
    );
    assert_eq!(
        world.auth.with_tickets(|tickets| tickets.len()),
        0,
        "its tickets went with it"
    );
}

#[tokio::test(start_paused = true)]
async fn keys_move_on_in_a_long_transfer() {
    let pair = World::listed().link().await;
    for n in 0..300u32 {
        // 300 messages of 4 frames: more frames than one key serves.
        pair.client
            .send(Channel::PACKET, bytes(4096, n as u8))
            .await
            .unwrap();
        assert_eq!(
            pair.server.recv().await,
            Some((Channel::PACKET, bytes(4096, n as u8)))
        );
    }
    assert!(pair.up.lock().unwrap().seen.len() as u64 / FRAME_LEN as u64 > crate::link::frame::REKEY_EVERY);
}

#[tokio::test(start_paused = true)]
async fn misuse_is_refused() {
    let pair = World::listed().link().await;
    assert_eq!(
        pair.client.try_send(Channel::CONTROL, Bytes::new()),
        Err(LinkError::ReservedChannel)
    );
    let long = pair.client.try_send(Channel::PACKET, bytes(MESSAGE_MAX + 1, 0));
    assert_eq!(
        long,
        Err(LinkError::TooLong {
            bound: MESSAGE_MAX,
            got: MESSAGE_MAX + 1
        })
    );
}

#[test]
fn an_idle_end_is_small() {
    let driver = crate::link::driver::driver_len::<TestRt, ()>();
    let shared = crate::link::handle::SHARED_LEN;
    // snow's two boxed keys, and four tickets.
    let boxed = 2 * 48 + 4 * 48;
    println!("idle link end: driver {driver} + session {shared} + boxed {boxed} bytes");
    assert!(driver + shared + boxed < 2048);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn messages_arrive_in_order_whatever_their_lengths_and_however_the_stream_splits_them(
        lens in prop::collection::vec((0..6000usize, 1..3u8), 1..30), chunk in 1..3000usize, capacity in 1..5000usize,
    ) {
        block_on(async {
            let world = World::bridge();
            let (a, b) = wires(capacity);
            a.path.lock().unwrap().chunk = Some(chunk);
            let (client, server) = world.link_over(a, b).await;
            let client = client.unwrap();
            let Ok(crate::link::Accepted::New(server, _)) = server else { panic!() };
            let sending = async {
                for (n, (len, channel)) in lens.iter().enumerate() {
                    client.send(Channel(*channel), bytes(*len, n as u8)).await.unwrap();
                }
            };
            let taking = async {
                for (n, (len, channel)) in lens.iter().enumerate() {
                    assert_eq!(server.recv().await, Some((Channel(*channel), bytes(*len, n as u8))));
                }
            };
            both(sending, taking).await;
        });
    }
}
