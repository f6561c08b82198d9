//! Whole sessions over a stream in memory that is cut anywhere, changed, closed or late.

use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::{Rng, SeedableRng};

use super::*;
use crate::bridge::IatMode;

const HOUR: EpochHour = EpochHour(500_000);

fn at(seconds: u64) -> Now {
    Now {
        since_start: Duration::from_secs(seconds),
        hour: HOUR,
    }
}

fn rng(seed: u64) -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(seed)
}

/// A client and a server, each with what it has read.
struct Pair {
    client: Session<ChaCha20Rng>,
    server: Session<ChaCha20Rng>,
    at_client: Vec<u8>,
    at_server: Vec<u8>,
}

impl Pair {
    fn new(seed: u64, mode: IatMode) -> Self {
        let mut identity = Identity::from_rng(&mut rng(seed));
        identity.iat_mode = mode;
        let bridge = Bridge::new(identity, &mut rng(seed ^ 1));
        Self {
            client: Session::client(&bridge.identity().args(), at(0), rng(seed ^ 2)),
            server: bridge.accept(at(0), rng(seed ^ 3)),
            at_client: Vec::new(),
            at_server: Vec::new(),
        }
    }

    /// Moves bytes both ways, cut by `cuts`, until neither has any.
    fn settle(&mut self, cuts: &[usize]) {
        let mut lens = cuts.iter().copied().cycle();
        loop {
            let up = writes(&mut self.client);
            let down = writes(&mut self.server);
            if up.is_empty() && down.is_empty() {
                return;
            }
            give(&mut self.server, &up, &mut lens, &mut self.at_server);
            give(&mut self.client, &down, &mut lens, &mut self.at_client);
        }
    }
}

fn give(
    to: &mut Session<ChaCha20Rng>,
    wire: &[u8],
    lens: &mut impl Iterator<Item = usize>,
    plain: &mut Vec<u8>,
) {
    let mut rest = wire;
    while !rest.is_empty() {
        let (piece, later) = rest.split_at(rest.len().min(lens.next().expect("endless")));
        rest = later;
        to.receive(at(1), piece, plain).expect("untouched");
    }
}

fn writes(session: &mut Session<ChaCha20Rng>) -> Vec<u8> {
    let mut wire = Vec::new();
    loop {
        match session.poll_output() {
            Output::Write { bytes, .. } => wire.extend(bytes),
            Output::Opened => assert!(session.is_open()),
            Output::DiscardUntil { .. } => panic!("discards"),
            Output::WaitUntil(_) | Output::Idle | Output::Close => return wire,
        }
    }
}

fn send_all(session: &mut Session<ChaCha20Rng>, mut plain: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    while !plain.is_empty() {
        let taken = session.send(plain).expect("open");
        assert!(taken > 0);
        plain = &plain[taken..];
        wire.extend(writes(session));
    }
    wire
}

#[test]
fn nothing_is_taken_before_the_handshake_or_while_writes_wait() {
    let mut pair = Pair::new(1, IatMode::None);
    assert_eq!(pair.client.send(b"early"), Ok(0));
    pair.settle(&[1000]);
    assert_eq!(pair.client.send(b"now"), Ok(3));
    assert_eq!(pair.client.send(b"and more"), Ok(0));
    pair.settle(&[1000]);
    assert_eq!(pair.at_server, b"now");
    assert_eq!(pair.client.send(&vec![0; BURST_MAX + 1]), Ok(BURST_MAX));
}

#[test]
fn the_client_takes_the_servers_distribution_and_the_server_no_ones() {
    let mut pair = Pair::new(2, IatMode::None);
    let lengths = |shape: &mut Shape| shape.lengths_for_test();
    assert_ne!(lengths(&mut pair.client.shape), lengths(&mut pair.server.shape));
    pair.settle(&[7]);
    let servers = lengths(&mut pair.server.shape);
    assert_eq!(lengths(&mut pair.client.shape), servers);
    // A client's seed changes nothing.
    let State::Open { encoder, .. } = &mut pair.client.state else {
        panic!("open")
    };
    let mut wire = Vec::new();
    encoder
        .seal(&[&packet::seed_header(), &[9; 24]], 0, &mut wire)
        .expect("far from the end");
    pair.server
        .receive(at(1), &wire, &mut Vec::new())
        .expect("ignored");
    assert_eq!(lengths(&mut pair.server.shape), servers);
}

#[test]
fn a_stranger_is_listened_to_until_the_bridges_own_time_whatever_it_sends() {
    let bridge = Bridge::new(Identity::from_rng(&mut rng(3)), &mut rng(4));
    let until = SERVER_LIMIT + Duration::from_secs(bridge.identity().close_delay().into());
    let mut noise = vec![0; 20_000];
    rng(5).fill_bytes(&mut noise);
    // Too long, nothing at all, and a byte now and then.
    for pieces in [
        vec![(0, &noise[..])],
        vec![],
        vec![(1, &noise[..1]), (29, &noise[..1])],
    ] {
        let mut server = bridge.accept(at(0), rng(6));
        let mut plain = Vec::new();
        for (second, piece) in pieces {
            server.receive(at(second), piece, &mut plain).expect("silence");
        }
        server.tick(at(30)).expect("silence");
        let Output::DiscardUntil { until: said, .. } = server.poll_output() else {
            panic!("discards")
        };
        assert_eq!(said, until);
        assert_eq!(server.poll_output(), Output::WaitUntil(until));
        server.receive(at(30), &noise, &mut plain).expect("silence");
        assert_eq!(server.send(b"x"), Err(SessionError::Over));
        assert_eq!(server.poll_output(), Output::WaitUntil(until));
        server.tick(at(until.as_secs())).expect("silence");
        assert_eq!(server.poll_output(), Output::Close);
        assert!(plain.is_empty());
    }
}

#[test]
fn a_handshake_that_is_late_is_not_answered() {
    let mut pair = Pair::new(7, IatMode::None);
    let hello = writes(&mut pair.client);
    pair.server
        .receive(at(30), &hello, &mut pair.at_server)
        .expect("silence");
    assert!(matches!(
        pair.server.poll_output(),
        Output::DiscardUntil {
            why: HandshakeError::TimedOut,
            ..
        }
    ));
    assert_eq!(pair.client.poll_output(), Output::WaitUntil(CLIENT_LIMIT));
    assert_eq!(pair.client.tick(at(60)), Err(HandshakeError::TimedOut.into()));
    assert_eq!(pair.client.poll_output(), Output::Close);
    assert_eq!(pair.client.send(b"x"), Err(SessionError::Over));
}

#[test]
fn clones_of_a_bridge_share_what_they_have_seen() {
    let bridge = Bridge::new(Identity::from_rng(&mut rng(8)), &mut rng(9));
    let mut client = Session::client(&bridge.identity().args(), at(0), rng(10));
    let hello = writes(&mut client);
    let mut first = bridge.accept(at(0), rng(11));
    first.receive(at(0), &hello, &mut Vec::new()).expect("right");
    assert!(first.is_open());
    let mut second = bridge.clone().accept(at(1), rng(12));
    second.receive(at(1), &hello, &mut Vec::new()).expect("silence");
    assert!(matches!(
        second.poll_output(),
        Output::DiscardUntil {
            why: HandshakeError::Replayed,
            ..
        }
    ));
}

#[test]
fn an_end_within_a_frame_or_a_handshake_is_told_from_one_between_frames() {
    let mut pair = Pair::new(13, IatMode::None);
    assert_eq!(pair.client.peer_closed(), Err(SessionError::ClosedEarly));
    for (keep, wanted) in [
        (0, Ok(())),
        (1, Err(SessionError::Cut)),
        (30, Err(SessionError::Cut)),
    ] {
        let mut pair = Pair::new(14, IatMode::None);
        pair.settle(&[100]);
        let wire = send_all(&mut pair.client, &[1; 100]);
        pair.server
            .receive(at(1), &wire[..keep], &mut pair.at_server)
            .expect("untouched");
        assert_eq!(pair.server.peer_closed(), wanted);
        assert_eq!(pair.server.poll_output(), Output::Close);
    }
}

#[test]
fn debug_shows_a_state_and_no_secret() {
    let mut pair = Pair::new(15, IatMode::None);
    assert_eq!(
        format!("{:?} {:?}", pair.client, pair.server),
        "Session(greeting) Session(listening)"
    );
    pair.settle(&[100]);
    assert_eq!(format!("{:?}", pair.client), "Session(open)");
}

/// What obfs4proxy 0.0.14 said (`records_what_obfs4proxys_server_says` in tests/obfs4proxy.rs): its state file, the hour, its
/// answer to a client of seed 0 with the first byte that it echoed, and the lengths of its bursts of one byte.
const RECORDED: &str = include_str!("vectors/obfs4proxy.txt");

#[test]
fn a_recorded_answer_of_obfs4proxy_is_understood_and_its_bursts_have_our_lengths() {
    let lines: Vec<&str> = RECORDED.lines().collect();
    let identity = Identity::from_state_json(lines[0]).expect("obfs4proxy's own file");
    let now = Now {
        since_start: Duration::ZERO,
        hour: EpochHour(lines[1].parse().expect("a number")),
    };
    let answer: Vec<u8> = (0..lines[2].len() / 2)
        .map(|i| u8::from_str_radix(&lines[2][2 * i..2 * i + 2], 16).expect("hexadecimal"))
        .collect();
    let mut client = Session::client(&identity.args(), now, rng(0));
    let mut plain = Vec::new();
    client.receive(now, &answer, &mut plain).expect("obfs4");
    assert!(client.is_open());
    assert_eq!(plain, [0]);
    // The client has the server's distribution, and that is the one of the server's state.
    let lengths = client.shape.lengths_for_test();
    assert_eq!(
        lengths,
        Shape::new(IatMode::None, identity.seed.clone()).lengths_for_test()
    );
    let ends = client.shape.ends_for_test(packet::PACKET_OVERHEAD + 1);
    for burst in lines[3].split(' ') {
        let burst: usize = burst.parse().expect("a number");
        assert!(ends.contains(&(burst % crate::FRAME_MAX)), "{burst} bytes");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn both_streams_arrive_in_every_mode_however_they_are_cut(
        seed: u64, mode in 0_u8..3, cuts in prop::collection::vec(prop_oneof![1_usize..5, 1_usize..5000], 1..20),
        up in prop::collection::vec(any::<u8>(), 0..20_000), down in prop::collection::vec(any::<u8>(), 0..20_000),
    ) {
        let mut pair = Pair::new(seed, IatMode::from_number(mode).expect("one of three"));
        pair.settle(&cuts);
        let (mut sent_up, mut sent_down) = (0, 0);
        while sent_up < up.len() || sent_down < down.len() {
            sent_up += pair.client.send(&up[sent_up..]).expect("open");
            sent_down += pair.server.send(&down[sent_down..]).expect("open");
            pair.settle(&cuts);
        }
        prop_assert!(pair.at_server == up && pair.at_client == down);
    }

    #[test]
    fn one_changed_bit_ends_the_session_and_only_what_came_before_is_delivered(
        seed: u64, sent in prop::collection::vec(any::<u8>(), 1..6000), bit: prop::sample::Index,
    ) {
        let mut pair = Pair::new(seed, IatMode::None);
        pair.settle(&[10_000]);
        let mut wire = send_all(&mut pair.client, &sent);
        let bit = bit.index(wire.len() * 8);
        wire[bit / 8] ^= 1 << (bit % 8);
        wire.extend([0; 3000]);
        let error = pair.server.receive(at(1), &wire, &mut pair.at_server);
        let is_bad_tag = matches!(error, Err(SessionError::Frame(FrameError::BadTag { .. })));
        prop_assert!(is_bad_tag);
        prop_assert!(sent.starts_with(&pair.at_server));
        prop_assert_eq!(pair.server.receive(at(1), b"x", &mut pair.at_server), Err(SessionError::Over));
        prop_assert_eq!(pair.server.poll_output(), Output::Close);
    }

    #[test]
    fn a_server_says_nothing_to_random_bytes(
        seed: u64, pieces in prop::collection::vec((0_u64..100, prop::collection::vec(any::<u8>(), 0..4000)), 0..10),
    ) {
        let mut pair = Pair::new(seed, IatMode::None);
        for (second, piece) in pieces {
            match pair.server.receive(at(second), &piece, &mut pair.at_server) {
                Ok(()) => {}
                Err(error) => prop_assert_eq!(error, SessionError::Over),
            }
            let speaks = matches!(pair.server.poll_output(), Output::Write { .. } | Output::Opened);
            prop_assert!(!speaks);
        }
        prop_assert!(pair.at_server.is_empty());
    }

    #[test]
    fn a_client_survives_random_bytes(seed: u64, bytes in prop::collection::vec(any::<u8>(), 0..10_000)) {
        let mut pair = Pair::new(seed, IatMode::None);
        let _ = pair.client.receive(at(1), &bytes, &mut pair.at_client);
        prop_assert!(pair.at_client.is_empty() && !pair.client.is_open());
    }
}
