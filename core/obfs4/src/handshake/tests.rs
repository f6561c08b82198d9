//! Handshakes in any pieces, an hour off, replayed, changed, and random bytes in place of them.

use std::time::Duration;

use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::server::Accepted;
use super::*;
use crate::identity::Identity;
use crate::replay::ReplayFilter;

const HOUR: EpochHour = EpochHour(500_000);

/// A bridge, and what it has seen.
struct World {
    rng: ChaCha20Rng,
    identity: Identity,
    replays: ReplayFilter,
}

impl World {
    fn seeded(seed: u64) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        Self {
            identity: Identity::from_rng(&mut rng),
            replays: ReplayFilter::from_rng(&mut rng),
            rng,
        }
    }

    fn client(&mut self, hour: EpochHour) -> (ClientHandshake, Vec<u8>) {
        ClientHandshake::new(*self.identity.public(), self.identity.node, hour, &mut self.rng)
    }

    fn server(&mut self) -> ServerHandshake {
        ServerHandshake::new(&self.identity, &mut self.rng)
    }

    fn give(
        &mut self,
        server: &mut ServerHandshake,
        piece: &[u8],
    ) -> Result<Option<Accepted>, HandshakeError> {
        server.receive(
            piece,
            (Duration::ZERO, HOUR),
            &self.identity,
            &mut self.replays,
            &mut self.rng,
        )
    }

    /// What a new server says to a whole message.
    fn answer(&mut self, message: &[u8]) -> Result<Option<Accepted>, HandshakeError> {
        let mut server = self.server();
        self.give(&mut server, message)
    }
}

fn is_same(a: &crate::ntor::LinkKeys, b: &crate::ntor::LinkKeys) -> bool {
    a.to_client.expose() == b.to_client.expose() && a.to_server.expose() == b.to_server.expose()
}

/// A generator of zeros or ones: the shortest and the longest padding.
struct Extreme(ChaCha20Rng, u64);

impl rand_core::TryRng for Extreme {
    type Error = std::convert::Infallible;
    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        Ok(self.1 as u32)
    }
    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        Ok(self.1)
    }
    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
        rand_core::TryRng::try_fill_bytes(&mut self.0, bytes)
    }
}
impl rand_core::TryCryptoRng for Extreme {}

#[test]
fn the_shortest_and_longest_messages_are_obfs4proxys_and_are_understood() {
    assert_eq!((CLIENT_PAD_MIN, CLIENT_PAD_MAX, SERVER_PAD_MAX), (77, 8128, 8051));
    for (draw, client_len, server_len) in [(0, 141, 96), (u64::MAX, 8192, 8147)] {
        let mut world = World::seeded(1);
        let mut rng = Extreme(ChaCha20Rng::seed_from_u64(2), draw);
        let (mut client, hello) =
            ClientHandshake::new(*world.identity.public(), world.identity.node, HOUR, &mut rng);
        let mut server = ServerHandshake::new(&world.identity, &mut rng);
        assert_eq!(hello.len(), client_len);
        let accepted = world.give(&mut server, &hello).expect("right").expect("whole");
        assert_eq!(accepted.hello.len(), server_len);
        let greeted = client.receive(&accepted.hello).expect("right").expect("whole");
        assert!(is_same(&greeted.keys, &accepted.keys));
    }
}

#[test]
fn clocks_may_be_an_hour_apart_and_no_more() {
    let mut world = World::seeded(2);
    for (hour, fits) in [(-2_i64, false), (-1, true), (0, true), (1, true), (2, false)] {
        let (mut client, hello) = world.client(EpochHour(HOUR.0.wrapping_add_signed(hour)));
        match world.answer(&hello) {
            Ok(Some(accepted)) => {
                assert!(fits, "{hour}");
                assert!(
                    client
                        .receive(&accepted.hello)
                        .expect("the client's own hour")
                        .is_some()
                );
            }
            other => assert!(!fits && matches!(other, Err(HandshakeError::BadMac)), "{hour}"),
        }
    }
}

#[test]
fn a_replay_is_refused() {
    let mut world = World::seeded(3);
    let (_, hello) = world.client(HOUR);
    assert!(matches!(world.answer(&hello), Ok(Some(_))));
    assert!(matches!(world.answer(&hello), Err(HandshakeError::Replayed)));
}

#[test]
fn a_point_of_small_order_is_refused_though_its_sender_knows_the_bridge() {
    let mut world = World::seeded(4);
    let authenticator = Authenticator::new(world.identity.public(), &world.identity.node);
    let mut hello = vec![0; 32 + CLIENT_PAD_MIN];
    hello.extend(authenticator.mark(&[0; 32]));
    let mac = authenticator.mac(&hello, HOUR);
    hello.extend(mac);
    assert!(matches!(
        world.answer(&hello),
        Err(HandshakeError::NonContributory)
    ));
}

#[test]
fn another_bridge_with_the_same_line_but_not_its_key_is_found_out() {
    // Who has the line can make marks and MACs, but no AUTH.
    let mut world = World::seeded(5);
    let (mut client, hello) = world.client(HOUR);
    let accepted = world.answer(&hello).expect("right").expect("whole");
    let authenticator = Authenticator::new(world.identity.public(), &world.identity.node);
    let mut forged = accepted.hello;
    forged[40] ^= 1;
    forged.truncate(forged.len() - MAC_LEN);
    let mac = authenticator.mac(&forged, HOUR);
    forged.extend(mac);
    assert!(matches!(
        client.receive(&forged),
        Err(HandshakeError::WrongIdentity)
    ));
}

#[test]
fn a_client_gives_up_after_the_longest_answer() {
    let mut world = World::seeded(6);
    let (mut client, _) = world.client(HOUR);
    assert!(
        client
            .receive(&[0; HANDSHAKE_MAX - 1])
            .expect("not yet")
            .is_none()
    );
    assert!(matches!(client.receive(&[0]), Err(HandshakeError::NoMark)));
}

#[test]
fn bytes_behind_the_answer_are_left_for_the_frames() {
    let mut world = World::seeded(7);
    let (mut client, hello) = world.client(HOUR);
    let mut answer = world.answer(&hello).expect("right").expect("whole").hello;
    let len = answer.len();
    answer.extend([7; 10_000]);
    assert!(client.receive(&answer[..len - 1]).expect("right").is_none());
    assert_eq!(
        client
            .receive(&answer[len - 1..])
            .expect("right")
            .map(|g| g.taken),
        Some(1)
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn both_ends_agree_however_the_messages_are_cut(
        seed: u64, cuts in prop::collection::vec(prop_oneof![1_usize..20, 1_usize..4000], 1..20),
    ) {
        let mut world = World::seeded(seed);
        let (mut client, hello) = world.client(HOUR);
        let mut server = world.server();
        let mut lens = cuts.iter().copied().cycle();
        let mut rest = hello.as_slice();
        let accepted = loop {
            let (piece, later) = rest.split_at(rest.len().min(lens.next().expect("a cycle")));
            rest = later;
            if let Some(accepted) = world.give(&mut server, piece).expect("right") {
                break accepted;
            }
        };
        prop_assert!(rest.is_empty());
        let mut rest = accepted.hello.as_slice();
        let greeted = loop {
            let (piece, later) = rest.split_at(rest.len().min(lens.next().expect("a cycle")));
            rest = later;
            if let Some(greeted) = client.receive(piece).expect("right") {
                break greeted;
            }
        };
        prop_assert!(rest.is_empty() && is_same(&greeted.keys, &accepted.keys));
    }

    #[test]
    fn one_changed_bit_in_either_message_fails(seed: u64, bit: prop::sample::Index) {
        let mut world = World::seeded(seed);
        let (mut client, hello) = world.client(HOUR);
        let good = world.answer(&hello).expect("right").expect("whole").hello;
        let flip = |bytes: &[u8]| {
            let bit = bit.index(bytes.len() * 8);
            let mut bytes = bytes.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            bytes
        };
        // A server that finds no mark waits for more, up to its limit.
        prop_assert!(!matches!(world.answer(&flip(&hello)), Ok(Some(_))));
        prop_assert!(!matches!(client.receive(&flip(&good)), Ok(Some(_))));
    }

    #[test]
    fn a_server_never_answers_random_bytes(
        seed: u64, pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..3000), 0..8),
    ) {
        let mut world = World::seeded(seed);
        let mut server = world.server();
        for piece in pieces {
            match world.give(&mut server, &piece) {
                Ok(None) => {}
                Ok(Some(_)) => prop_assert!(false, "answered"),
                Err(error) => { prop_assert_eq!(error, HandshakeError::NoMark); break; }
            }
        }
    }
}
