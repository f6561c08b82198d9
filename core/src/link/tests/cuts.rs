//! Resumption: whatever breaks, nothing is lost and nothing comes twice.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use super::world::*;
use crate::link::session::Session;
use crate::link::{self, Accepted, Channel, FRAME_LEN, Link, LinkError, Resumption, ServerAuth, Until};
use crate::runtime::Spawn;

/// Where a connection breaks: in which direction, after how many bytes.
#[derive(Clone, Copy, Debug)]
struct Cut {
    up: bool,
    at: usize,
}

/// How a story is told: lengths of the messages each end sends, and pauses in milliseconds between them.
#[derive(Clone, Debug)]
struct Script {
    lens: Vec<usize>,
    pause_ms: u64,
    chunk: Option<usize>,
}

fn message(n: usize, len: usize) -> Bytes {
    (0..len).map(|i| (i + n) as u8).collect()
}

/// Sends what the script says, and checks that exactly that comes from the other end.
async fn talk(rt: TestRt, link: Link, script: Script, done: mpsc::UnboundedSender<Link>) {
    let sender = link.sender();
    let (lens, pause) = (script.lens.clone(), script.pause_ms);
    rt.spawn("talker", async move {
        for (n, len) in lens.iter().enumerate() {
            sender.send(Channel::PACKET, message(n, *len)).await.unwrap();
            pass(pause as f64 / 1000.0).await;
        }
    });
    for (n, len) in script.lens.iter().enumerate() {
        assert_eq!(
            link.recv().await,
            Some((Channel::PACKET, message(n, *len))),
            "message {n}"
        );
    }
    done.send(link).unwrap();
}

/// Plays `script` over connections that break where `cuts` says; the one after them is good. Returns how many
/// resumptions there were, or `None` when not even the first handshake ended well.
async fn play(world: &World, cuts: &[Cut], script: &Script) -> Option<usize> {
    let mut cuts: VecDeque<Cut> = cuts.iter().copied().collect();
    let (done, mut server_done) = mpsc::unbounded_channel();
    let mut connection = |script: &Script| {
        let (a, b) = wires(16 * 1024);
        if let Some(cut) = cuts.pop_front() {
            let path = if cut.up { &a.path } else { &b.path };
            path.lock().unwrap().cut_at = Some(cut.at);
        }
        a.path.lock().unwrap().chunk = script.chunk;
        let (rt, auth, config) = (world.server.clone(), world.auth.clone(), world.config.clone());
        let (script, done) = (script.clone(), done.clone());
        world.server.spawn("server", async move {
            if let Ok(Accepted::New(link, _)) = link::accept(&rt, b, &auth, &config).await {
                talk(rt, link, script, done).await;
            }
        });
        a
    };
    let mut link = link::connect(&world.dialler, connection(script), &world.dial, &world.config)
        .await
        .ok()?;
    let sender = link.sender();
    let (lens, pause) = (script.lens.clone(), script.pause_ms);
    world.dialler.spawn("talker", async move {
        for (n, len) in lens.iter().enumerate() {
            if sender.send(Channel::PACKET, message(n, *len)).await.is_err() {
                return; // the server never came up: this link is over
            }
            pass(pause as f64 / 1000.0).await;
        }
    });
    let mut resumptions = 0;
    let mut got = 0;
    let mut server_link = None;
    while got < script.lens.len() || server_link.is_none() {
        tokio::select! {
            biased;
            at_server = server_done.recv(), if server_link.is_none() => server_link = at_server,
            received = link.recv() => match received {
                Some(received) => {
                    assert_eq!(received, (Channel::PACKET, message(got, script.lens[got])), "message {got}");
                    got += 1;
                }
                None => {
                    if !link.can_resume() {
                        assert_eq!((got, resumptions), (0, 0), "cut before a ticket arrived, or too often");
                        return None;
                    }
                    match link::resume(&world.dialler, connection(script), &world.dial, &link, &world.config).await {
                        Ok(Resumption::Continued(next)) => {
                            link = next;
                            resumptions += 1;
                        }
                        Ok(Resumption::Fresh { .. }) => panic!("the server knows the ticket"),
                        Err(_) => {}
                    }
                }
            }
        }
    }
    Some(resumptions)
}

#[test]
fn a_stream_cut_at_any_byte_loses_and_repeats_nothing() {
    let script = Script {
        lens: vec![1500, 10, 700],
        pause_ms: 0,
        chunk: None,
    };
    let (mut whole, mut resumed, mut none) = (0, 0, 0);
    for up in [true, false] {
        // Inside a frame every byte is alike, so there every 17th stands for all; around its ends each one counts.
        let near =
            |at: &usize| at % FRAME_LEN <= 1 || at % FRAME_LEN == FRAME_LEN - 1 || at.is_multiple_of(17);
        for at in (0..6 * FRAME_LEN).filter(near) {
            match block_on(async { play(&World::listed(), &[Cut { up, at }], &script).await }) {
                None => none += 1,
                Some(0) => whole += 1,
                Some(_) => resumed += 1,
            }
        }
    }
    println!("{resumed} resumed, {none} cut before there was a link to resume, {whole} cut after the end");
    assert!(resumed > 150 && none > 100, "the cuts did cut");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn streams_cut_again_and_again_lose_and_repeat_nothing(
        first in 4..12usize,
        cuts in prop::collection::vec((any::<bool>(), 0..12 * FRAME_LEN), 0..4),
        lens in prop::collection::vec(0..9000usize, 1..20),
        pause_ms in 0..50u64,
        chunk in prop::option::of(1..2000usize),
    ) {
        // The first cut leaves room for the handshake and the tickets; then come three more, as many as tickets are left.
        let script = Script { lens, pause_ms, chunk };
        let mut all = vec![Cut { up: false, at: first * FRAME_LEN - 7 }];
        all.extend(cuts.iter().take(3).map(|(up, at)| Cut { up: *up, at: *at }));
        block_on(async { play(&World::bridge(), &all, &script).await });
    }
}

/// Breaks the connection of `pair` in both directions.
fn cut(pair: &Pair) {
    for path in [&pair.up, &pair.down] {
        let mut path = path.lock().unwrap();
        path.cut_at = Some(path.seen.len());
    }
}

async fn resume(
    world: &World,
    link: &Link,
) -> (
    Result<Resumption, LinkError>,
    Result<Accepted, LinkError>,
    Arc<Mutex<Path>>,
) {
    let (a, b) = wires(64 * 1024);
    let path = a.path.clone();
    let (client, server) = both(
        link::resume(&world.dialler, a, &world.dial, link, &world.config),
        link::accept(&world.server, b, &world.auth, &world.config),
    )
    .await;
    (client, server, path)
}

#[tokio::test(start_paused = true)]
async fn a_link_changes_its_stream_in_the_middle_of_a_transfer() {
    let world = World::listed();
    let pair = world.link().await;
    pass(1.0).await;
    let sender = pair.client.sender();
    world.dialler.spawn("talker", async move {
        for n in 0..100 {
            sender.send(Channel::PACKET, message(n, 4096)).await.unwrap();
        }
    });
    let mut link = pair.client;
    for n in 0..100 {
        if n % 25 == 20 {
            // The old stream still stands.
            let (client, server, _) = resume(&world, &link).await;
            assert!(matches!(server, Ok(Accepted::Resumed)), "{server:?}");
            link = match client {
                Ok(Resumption::Continued(link)) => link,
                other => panic!("{other:?}"),
            };
        }
        assert_eq!(
            pair.server.recv().await,
            Some((Channel::PACKET, message(n, 4096)))
        );
    }
    pair.server.ping().await.unwrap();
    link.ping().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_ticket_used_twice_is_met_with_silence() {
    let world = World::listed();
    let pair = world.link().await;
    pass(1.0).await;
    cut(&pair);
    let _ = pair.client.try_send(Channel::PACKET, Bytes::new());
    pair.client.down().await;
    let (client, server, path) = resume(&world, &pair.client).await;
    assert!(matches!(
        (&client, &server),
        (Ok(Resumption::Continued(_)), Ok(Accepted::Resumed))
    ));
    let first = path.lock().unwrap().seen[..FRAME_LEN].to_vec();

    let (mut a, b) = wires(64 * 1024);
    let down = b.path.clone();
    let replay = async {
        a.write_all(&first).await.unwrap();
        let mut answer = Vec::new();
        a.read_to_end(&mut answer).await.unwrap();
        answer
    };
    let (answer, server) = both(replay, link::accept(&world.server, b, &world.auth, &world.config)).await;
    assert_eq!((answer.len(), server.err()), (0, Some(LinkError::NotForUs)));
    assert!(down.lock().unwrap().seen.is_empty());
    pair.server.ping().await.unwrap();
    drop(client);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_forgot_gives_a_fresh_link_and_the_unknown_messages_are_named() {
    for mut world in [World::listed(), World::bridge()] {
        let pair = world.link().await;
        pair.client.send(Channel::PACKET, message(0, 100)).await.unwrap();
        pair.server.recv().await.unwrap();
        pass(3.0).await;
        // Nobody takes these; then the server restarts.
        pair.client.send(Channel::PACKET, message(1, 100)).await.unwrap();
        pair.client.send(Channel::RPC, message(2, 9000)).await.unwrap();
        pass(3.0).await;
        cut(&pair);
        world.auth = match world.auth.bridge_secret() {
            Some(psk) => ServerAuth::bridge(secret(1), psk.clone()),
            None => ServerAuth::listed(secret(1)),
        };
        let (client, server, path) = resume(&world, &pair.client).await;
        let Ok(Resumption::Fresh { link, unknown }) = client else {
            panic!("{client:?}")
        };
        let Ok(Accepted::New(server, _)) = server else {
            panic!("{server:?}")
        };
        assert_eq!(
            unknown,
            [
                (Channel::PACKET, message(1, 100)),
                (Channel::RPC, message(2, 9000))
            ]
        );
        assert_eq!(path.lock().unwrap().seen.len() % FRAME_LEN, 0);
        assert_eq!(pair.client.recv().await, None);
        assert_eq!(pair.client.closed().await, LinkError::Closed);
        link.send(Channel::PACKET, message(3, 10)).await.unwrap();
        assert_eq!(server.recv().await, Some((Channel::PACKET, message(3, 10))));
    }
}

#[tokio::test(start_paused = true)]
async fn a_parked_session_ends_with_its_time_and_takes_its_tickets_along() {
    let world = World::listed();
    let pair = world.link().await;
    pass(1.0).await;
    cut(&pair);
    let waited = async {
        let start = crate::runtime::Clock::now(&world.server);
        assert_eq!(pair.server.recv().await, None);
        crate::runtime::Clock::now(&world.server).saturating_since(start)
    };
    let _ = pair.client.try_send(Channel::PACKET, Bytes::new());
    let _ = pair.server.try_send(Channel::PACKET, Bytes::new());
    let waited = waited.await;
    assert!(
        waited >= Duration::from_secs(600) && waited < Duration::from_secs(602),
        "{waited:?}"
    );
    assert_eq!(world.auth.with_tickets(|tickets| tickets.len()), 0);
    // Their secrets too, although handles are still held.
    assert!(pair.server.shared().with_session(Session::take_issued).is_empty());
}

#[tokio::test(start_paused = true)]
async fn whoever_wants_no_resumption_reads_to_the_end_and_hears_at_once_that_the_connection_is_gone() {
    let world = World::listed();
    let pair = world.link().await;
    pair.client.send(Channel::PACKET, message(1, 10)).await.unwrap();
    pass(1.0).await;
    cut(&pair);
    let _ = pair.server.try_send(Channel::PACKET, Bytes::new());
    pass(1.0).await;
    let start = crate::runtime::Clock::now(&world.server);
    let read = [
        pair.server.recv_until(Until::Down).await,
        pair.server.recv_until(Until::Down).await,
    ];
    assert_eq!(read, [Some((Channel::PACKET, message(1, 10))), None]);
    let waited = crate::runtime::Clock::now(&world.server).saturating_since(start);
    assert!(waited < Duration::from_secs(60), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_server_keeps_what_it_has_to_say_while_the_client_is_away() {
    let world = World::bridge();
    let pair = world.link().await;
    pass(1.0).await;
    cut(&pair);
    for n in 0..10 {
        pair.server.send(Channel::PACKET, message(n, 4096)).await.unwrap();
    }
    pass(300.0).await;
    let (client, ..) = resume(&world, &pair.client).await;
    let link = client.unwrap().into_link();
    for n in 0..10 {
        assert_eq!(link.recv().await, Some((Channel::PACKET, message(n, 4096))));
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_not_the_one_of_the_link_gives_a_fresh_one() {
    let mut world = World::listed();
    let pair = world.link().await;
    pass(1.0).await;
    world.dial = link::ClientAuth::Listed {
        server: secret(5).public(),
    };
    world.auth = ServerAuth::listed(secret(5));
    let (client, ..) = resume(&world, &pair.client).await;
    assert!(matches!(client, Ok(Resumption::Fresh { .. })));
    assert!(!pair.client.can_resume());
}
