//! What links do with ends and networks that keep no rules.

use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::world::*;
use crate::crypto::keys::LinkPublic;
use crate::link::auth::{BridgeSecret, ClientAuth};
use crate::link::frame::{Codec, DATA_MAX, FRAME_LEN, Header, Plain};
use crate::link::handshake::{dial, finish, judge};
use crate::link::hello::{ClientHello, VERSIONS};
use crate::link::session::{Input, Phase, Role, Session};
use crate::link::{self, Accepted, Channel, Config, LinkError};
use crate::runtime::Clock;
use crate::units::{Instant, WallTime};

const WALL: WallTime = WallTime::from_unix_secs(1_800_000_000);

fn hello(versions: (u8, u8)) -> ClientHello {
    ClientHello {
        versions,
        window: 256 * 1024,
        received: 0,
    }
}

fn codecs() -> (Codec, Codec) {
    let world = World::listed();
    let rng = &mut ChaCha12Rng::from_seed([3; 32]);
    let (unit, state) = dial(&world.dial, hello(VERSIONS), WALL, rng).unwrap();
    let accepted = judge(&world.auth, &unit, WALL, rng).unwrap();
    let answer = accepted.hello.choose(VERSIONS, 256 * 1024, 0);
    let (unit, server) = accepted.answer(answer).unwrap();
    (finish(state, &unit, VERSIONS).unwrap().0, server)
}

fn sealed(codec: &mut Codec, n: u64) -> [u8; FRAME_LEN] {
    let mut plain = Plain::new();
    plain.set_header(
        Header {
            consumed: n,
            ..Header::default()
        },
        0,
    );
    let mut out = Vec::new();
    codec.seal(&plain, &mut out);
    out.try_into().unwrap()
}

#[test]
fn frames_changed_repeated_or_out_of_order_do_not_open() {
    for bit in (0..FRAME_LEN * 8).step_by(97) {
        let (mut a, mut b) = codecs();
        let mut frame = sealed(&mut a, 1);
        frame[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(b.open(&frame).err(), Some(LinkError::BadFrame), "bit {bit}");
    }
    let (mut a, mut b) = codecs();
    let (first, second) = (sealed(&mut a, 1), sealed(&mut a, 2));
    assert_eq!(b.open(&second).err(), Some(LinkError::BadFrame), "out of order");
    assert!(b.open(&first).is_ok());
    assert_eq!(b.open(&first).err(), Some(LinkError::BadFrame), "repeated");
    assert!(b.open(&second).is_ok());
    assert_eq!(a.open(&first).err(), Some(LinkError::BadFrame), "sent back");
}

#[tokio::test(start_paused = true)]
async fn a_bit_flipped_on_the_way_ends_the_connection_and_costs_no_message() {
    let world = World::listed();
    let pair = world.link().await;
    pass(1.0).await;
    let at = pair.up.lock().unwrap().seen.len() + 2000;
    pair.up.lock().unwrap().flip_at = Some(at);
    pair.client
        .send(Channel::PACKET, Bytes::from(vec![1; 4096]))
        .await
        .unwrap();
    let why = pair.server.down().await;
    assert_eq!(why, LinkError::BadFrame);
    pair.client.down().await;
    let (a, b) = wires(64 * 1024);
    let (client, server) = both(
        link::resume(&world.dialler, a, &world.dial, &pair.client, &world.config),
        link::accept(&world.server, b, &world.auth, &world.config),
    )
    .await;
    assert!(matches!(
        (&client, &server),
        (Ok(link::Resumption::Continued(_)), Ok(Accepted::Resumed))
    ));
    assert_eq!(
        pair.server.recv().await,
        Some((Channel::PACKET, Bytes::from(vec![1; 4096])))
    );
}

/// What a prober who writes `bytes` gets: bytes in answer, and how long until the stream is closed.
async fn probe(world: &World, bytes: Vec<u8>, then_close: bool) -> (usize, Duration, Option<LinkError>) {
    let (mut a, b) = wires(256 * 1024);
    let start = world.server.now();
    let probing = async {
        let _ = a.write_all(&bytes).await;
        if then_close {
            let _ = a.shutdown().await;
        }
        let mut answer = Vec::new();
        let _ = a.read_to_end(&mut answer).await;
        (answer.len(), world.server.now().saturating_since(start))
    };
    let accepting = async {
        // The caller's part: the stream goes with the call.
        link::accept(&world.server, b, &world.auth, &world.config)
            .await
            .err()
    };
    let ((answer, time), error) = both(probing, accepting).await;
    (answer, time, error)
}

#[tokio::test(start_paused = true)]
async fn a_bridge_is_silent_to_whoever_does_not_know_its_secret() {
    let world = World::bridge();
    let rng = &mut ChaCha12Rng::from_seed([4; 32]);
    let server = *world.auth.public();
    let mut random = vec![0; 3000];
    rng.fill_bytes(&mut random);
    let wrong = ClientAuth::Bridge {
        server,
        secret: BridgeSecret::from_bytes([8; 32]),
    };
    let first = |auth: &ClientAuth, wall, rng: &mut ChaCha12Rng| {
        dial(auth, hello(VERSIONS), wall, rng).unwrap().0.to_vec()
    };
    let good = first(&world.dial, world.server.wall(), rng);
    let replayed = {
        let pair = world.link().await;
        pair.up.lock().unwrap().seen[..FRAME_LEN].to_vec()
    };
    let mut changed = good.clone();
    changed[500] ^= 1;
    let probes = [
        ("nothing", Vec::new()),
        ("random bytes", random),
        ("an HTTP request", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        (
            "a hello for a listed node",
            first(&ClientAuth::Listed { server }, world.server.wall(), rng),
        ),
        (
            "a hello as a node",
            first(
                &ClientAuth::Node {
                    secret: secret(9),
                    server,
                },
                world.server.wall(),
                rng,
            ),
        ),
        ("a wrong secret", first(&wrong, world.server.wall(), rng)),
        ("a changed hello", changed),
        ("a hello that was answered before", replayed),
        (
            "a hello of three hours ago",
            first(
                &world.dial,
                world.server.wall() - Duration::from_secs(3 * 3600),
                rng,
            ),
        ),
    ];
    let mut times = Vec::new();
    for (what, bytes) in probes {
        let (answer, time, error) = probe(&world, bytes, false).await;
        assert_eq!((answer, error), (0, Some(LinkError::NotForUs)), "{what}");
        assert!(
            (Duration::from_secs(10)..=Duration::from_secs(40)).contains(&time),
            "{what}: {time:?}"
        );
        times.push(time);
    }
    times.sort_unstable();
    times.dedup();
    assert_eq!(times.len(), 9, "no two alike");
    let (answer, ..) = probe(&world, vec![7; 200_000], false).await;
    assert_eq!(answer, 0, "volume");
    assert_eq!(
        probe(&world, vec![7; 100], true).await.0,
        0,
        "a prober who hangs up"
    );
}

/// A bridge of the same key and secret, begun anew on the disk of `world`.
async fn restarted(world: World) -> World {
    let mut again = World::bridge();
    (again.dialler, again.server) = (world.dialler, world.server);
    again.auth.restore(&again.server).await.unwrap();
    again
}

/// The first message of a link that comes up, as somebody on the way sees it.
async fn recorded(world: &World) -> Vec<u8> {
    let pair = world.link().await;
    pair.up.lock().unwrap().seen[..FRAME_LEN].to_vec()
}

#[tokio::test(start_paused = true)]
async fn a_hello_that_was_answered_before_a_restart_meets_silence_after_it() {
    let world = World::bridge();
    let hello = recorded(&world).await;
    let later = recorded(&world).await;
    let mut forgetful = World::bridge();
    forgetful.server = world.server.clone();
    let (answer, ..) = probe(&forgetful, hello.clone(), false).await;
    assert_eq!(answer, FRAME_LEN, "who reads nothing from the disk answers again");

    let world = restarted(restarted(world).await).await;
    for hello in [hello, later] {
        let (answer, _, error) = probe(&world, hello, false).await;
        assert_eq!((answer, error), (0, Some(LinkError::NotForUs)));
    }
    world.link().await;
}

#[tokio::test(start_paused = true)]
async fn a_clock_set_back_over_a_restart_revives_no_hello() {
    let world = World::bridge();
    let hello = recorded(&world).await;
    for skew in [&world.dialler.skew, &world.server.skew] {
        *skew.lock().unwrap() = 3 * 3600;
    }
    world.link().await;
    assert_eq!(
        world.server.disk.lock().unwrap().files.len(),
        1,
        "the first hour is unlinked"
    );
    *world.server.skew.lock().unwrap() = 0;
    let world = restarted(world).await;
    let (answer, ..) = probe(&world, hello, false).await;
    assert_eq!(answer, 0);
}

#[tokio::test(start_paused = true)]
async fn a_bridge_that_cannot_write_a_hello_down_does_not_answer_it_and_mends_its_file() {
    let mut world = World::bridge();
    let before = recorded(&world).await;
    world.server.disk.lock().unwrap().full = true;
    let good = {
        let rng = &mut ChaCha12Rng::from_seed([5; 32]);
        let dialled = dial(&world.dial, hello(VERSIONS), world.server.wall(), rng);
        dialled.unwrap().0.to_vec()
    };
    let (answer, time, error) = probe(&world, good.clone(), false).await;
    assert_eq!(answer, 0);
    assert!(matches!(error, Some(LinkError::NotKept { .. })), "{error:?}");
    assert!(time >= Duration::from_secs(10), "as a stranger sees it: {time:?}");

    world.server.disk.lock().unwrap().full = false;
    let after = recorded(&world).await;
    world = restarted(world).await;
    for hello in [before, good, after] {
        assert_eq!(probe(&world, hello, false).await.0, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_record_cut_short_by_a_crash_hides_none_of_the_others() {
    let world = World::bridge();
    let first = recorded(&world).await;
    let name = {
        let mut disk = world.server.disk.lock().unwrap();
        let (name, held) = disk.files.iter_mut().next().unwrap();
        held.extend_from_slice(&[9; 11]);
        name.clone()
    };
    let world = restarted(world).await;
    let second = recorded(&world).await;
    assert_eq!(
        world.server.disk.lock().unwrap().files[&name].len(),
        48,
        "written anew"
    );
    let world = restarted(world).await;
    for hello in [first, second] {
        assert_eq!(probe(&world, hello, false).await.0, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn clocks_an_hour_apart_still_agree() {
    for skew in [0, 3599, 7200 - 1] {
        let world = World::bridge();
        *world.dialler.skew.lock().unwrap() = 3600;
        *world.server.skew.lock().unwrap() = skew;
        world.link().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_replayed_hello_of_a_node_opens_no_link() {
    let world = World::nodes();
    let pair = world.link().await;
    let first = pair.up.lock().unwrap().seen[..FRAME_LEN].to_vec();
    let (answer, _, error) = probe(&world, first, false).await;
    assert_eq!(answer, FRAME_LEN, "the answer helps nobody");
    assert!(matches!(error, Some(LinkError::TimedOut { .. })), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn somebody_elses_answer_is_not_taken_for_the_servers() {
    let mut world = World::listed();
    let server = world.link().await;
    let recorded = server.down.lock().unwrap().seen[..FRAME_LEN].to_vec();
    let (a, mut b) = wires(64 * 1024);
    let (client, _) = both(
        link::connect(&world.dialler, a, &world.dial, &world.config),
        async {
            let mut hello = [0; FRAME_LEN];
            b.read_exact(&mut hello).await.unwrap();
            b.write_all(&recorded).await.unwrap();
        },
    )
    .await;
    assert_eq!(client.err(), Some(LinkError::WrongKey));

    world.config.handshake_limit = Duration::from_secs(3);
    let (a, _b) = wires(64 * 1024);
    let client = link::connect(&world.dialler, a, &world.dial, &world.config).await;
    assert!(matches!(client.err(), Some(LinkError::TimedOut { .. })));
}

#[test]
fn a_key_of_small_order_is_refused_before_a_byte_is_sent() {
    let auth = ClientAuth::Listed {
        server: LinkPublic::from_bytes([0; 32]),
    };
    let dialled = dial(&auth, hello(VERSIONS), WALL, &mut ChaCha12Rng::from_seed([1; 32]));
    assert!(matches!(dialled.err(), Some(LinkError::Build(_))));
}

#[test]
fn nobody_in_between_can_talk_the_ends_down() {
    let world = World::listed();
    let rng = &mut ChaCha12Rng::from_seed([3; 32]);
    // Any change of the offer is a change of the transcript.
    let (unit, _) = dial(&world.dial, hello((1, 3)), WALL, rng).unwrap();
    for at in (0..FRAME_LEN).step_by(13) {
        let mut changed = unit.clone();
        changed[at] ^= 1;
        assert!(judge(&world.auth, &changed, WALL, rng).is_none(), "byte {at}");
    }
    // A server that chooses less than the best is found out, and so is one with nothing in common.
    let answer = |ours: (u8, u8), choose: Option<u8>, rng: &mut ChaCha12Rng| {
        let (unit, state) = dial(&world.dial, hello((2, 3)), WALL, rng).unwrap();
        let accepted = judge(&world.auth, &unit, WALL, rng).unwrap();
        let mut hello = accepted.hello.choose(ours, 256 * 1024, 0);
        hello.version = choose.unwrap_or(hello.version);
        let (unit, _) = accepted.answer(hello).unwrap();
        finish(state, &unit, (2, 3)).map(|(_, hello)| hello.version)
    };
    assert_eq!(answer((1, 3), None, rng), Ok(3));
    assert_eq!(answer((1, 2), None, rng), Ok(2));
    assert!(matches!(
        answer((1, 3), Some(2), rng),
        Err(LinkError::Violation {
            wanted: 3,
            got: 2,
            ..
        })
    ));
    assert!(matches!(
        answer((1, 3), Some(1), rng),
        Err(LinkError::Violation { .. })
    ));
    assert_eq!(
        answer((1, 1), None, rng),
        Err(LinkError::Version {
            ours: (2, 3),
            theirs: (1, 1)
        })
    );
}

fn session(role: Role) -> Session {
    Session::new(role, &Config::default(), Instant::ZERO, 256 * 1024).unwrap()
}

fn frame(header: Header, data: &[u8]) -> Plain {
    let mut plain = Plain::new();
    plain.data_mut()[..data.len()].copy_from_slice(data);
    plain.set_header(header, data.len());
    plain
}

#[test]
fn whoever_breaks_a_rule_of_the_stream_loses_the_session() {
    let control = |body: &[u8]| {
        let mut record = vec![0, 0, body.len() as u8];
        record.extend_from_slice(body);
        record.resize(64, 0);
        record
    };
    let mut dirty = vec![1, 0, 1, 7];
    dirty.resize(64, 1);
    let ahead = Header {
        consumed: 1,
        ..Header::default()
    };
    let ticket = control(&[&[1][..], &[5; 48]].concat());
    let cases = [
        ("an acknowledgement of what was never sent", ahead, Vec::new()),
        ("dirty padding behind a message", Header::default(), dirty),
        ("an unknown control message", Header::default(), control(&[9])),
        ("a cut control message", Header::default(), control(&[1, 2])),
        ("a ticket from a dialler", Header::default(), ticket),
    ];
    for (what, header, data) in cases {
        let mut session = session(Role::Acceptor);
        let handled = session.handle(Instant::ZERO, Input::Frame(&frame(header, &data)));
        assert!(
            matches!(
                handled,
                Err(LinkError::Violation { .. } | LinkError::Malformed(_))
            ),
            "{what}: {handled:?}"
        );
        assert_eq!(session.phase(), Phase::Closed, "{what}");
    }
}

#[test]
fn nobody_makes_us_hold_more_than_the_window() {
    let mut session = session(Role::Acceptor);
    // Messages of the largest size that never end.
    let record: Vec<u8> = [1, 0xff, 0xff]
        .into_iter()
        .chain(std::iter::repeat_n(0, 65_535))
        .collect();
    let stream: Vec<u8> = record.iter().copied().cycle().take(300 * 1024).collect();
    let mut taken = 0;
    for chunk in stream.chunks(DATA_MAX) {
        match session.handle(Instant::ZERO, Input::Frame(&frame(Header::default(), chunk))) {
            Ok(_) => taken += chunk.len(),
            Err(error) => {
                assert!(
                    matches!(error, LinkError::Violation { wanted: 262_144, .. }),
                    "{error}"
                );
                break;
            }
        }
    }
    assert!(taken <= 256 * 1024 && taken > 250 * 1024, "{taken}");
}

#[test]
fn empty_messages_cost_their_sender_as_much_as_us() {
    let mut session = session(Role::Acceptor);
    let stream: Vec<u8> = std::iter::repeat_n([&[1, 0, 0][..], &[0; 61]].concat(), 5000)
        .flatten()
        .collect();
    for chunk in stream.chunks(DATA_MAX) {
        if session
            .handle(Instant::ZERO, Input::Frame(&frame(Header::default(), chunk)))
            .is_err()
        {
            break;
        }
    }
    let mut held = 0;
    while session.take().is_some() {
        held += 1;
    }
    assert!(held <= 256 * 1024 / 64, "{held}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_frames_never_panic(
        frames in prop::collection::vec(
            (0..300u64, 0..3u64, 0..3u64, prop::collection::vec(prop_oneof![0..3u8, any::<u8>()], 0..200)), 1..20),
        dialler: bool,
    ) {
        let mut session = session(if dialler { Role::Dialler } else { Role::Acceptor });
        session.send(Channel::PACKET, Bytes::from(vec![0; 200])).unwrap();
        for (consumed, ping, pong, data) in frames {
            let _ = session.handle(Instant::ZERO, Input::Frame(&frame(Header { consumed, ping, pong }, &data)));
            while session.poll_frame(Instant::ZERO).is_some() {}
            session.take();
            session.deadline();
        }
    }

    #[test]
    fn arbitrary_hellos_are_met_with_silence(bytes in prop::collection::vec(any::<u8>(), 0..2500), bridge: bool) {
        block_on(async {
            let world = if bridge { World::bridge() } else { World::listed() };
            let (answer, _, error) = probe(&world, bytes, true).await;
            assert_eq!(answer, 0);
            assert!(error.is_some());
        });
    }

    #[test]
    fn arbitrary_answers_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..2500)) {
        block_on(async {
            let world = World::listed();
            let (a, mut b) = wires(64 * 1024);
            let answering = async {
                let _ = b.write_all(&bytes).await;
                let _ = b.shutdown().await;
            };
            let (client, ()) = both(link::connect(&world.dialler, a, &world.dial, &world.config), answering).await;
            assert!(client.is_err());
        });
    }
}
