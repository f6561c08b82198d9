//! Properties of whole packets: what each hop sees, what it refuses, what comes out at the end.

use proptest::prelude::*;
use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;

use super::*;
use crate::crypto::kdf::Context;
use crate::crypto::keys::NodeId;
use crate::wire::Reader;

const CONTENT: &[u8] = b"write this box, and answer with the SURB";

fn rng(seed: u64) -> ChaCha12Rng {
    ChaCha12Rng::seed_from_u64(seed)
}

fn handle(n: u8) -> LinkHandle {
    LinkHandle::from_bytes([n; 16])
}

/// Three nodes with a hop key each.
struct Path {
    secrets: [HopSecrets; HOPS],
    hops: [Hop; HOPS],
}

impl Path {
    fn new(seed: u64) -> Self {
        let mut rng = rng(seed ^ 0x5eed);
        let keys: [HopSecret; HOPS] =
            std::array::from_fn(|n| HopSecret::from_rng(HopKeyId(255 + n as u32 % 2), &mut rng));
        let hops = std::array::from_fn(|n| Hop {
            reach: NextHop::Node(NodeId::from_bytes([n as u8 + 1; 16])),
            key_id: keys[n].id(),
            key: keys[n].public(),
        });
        Self {
            secrets: keys.map(HopSecrets::new),
            hops,
        }
    }

    fn packet(&self, seed: u64, class: Class) -> Packet {
        build(&mut rng(seed), class, &self.hops, CONTENT).expect("fits")
    }

    /// The packet as hop `number` gets it.
    fn packet_at(&self, number: usize, seed: u64, class: Class) -> Packet {
        (0..number).fold(self.packet(seed, class), |packet, n| {
            forwarded(peel(&self.secrets[n], packet)).1
        })
    }
}

fn forwarded(peeled: Result<Peeled, PeelError>) -> (NextHop, Packet) {
    match peeled.expect("a good packet").action {
        Action::Forward { next, packet } => (next, packet),
        Action::Deliver { .. } => panic!("delivered too early"),
    }
}

fn delivered(peeled: Result<Peeled, PeelError>) -> Result<Bytes, PeelError> {
    match peeled?.action {
        Action::Deliver { payload, .. } => Ok(payload),
        Action::Forward { .. } => panic!("forwarded past the end"),
    }
}

fn flip(packet: &Packet, bit: usize) -> Packet {
    let mut bytes = BytesMut::from(packet.as_bytes());
    bytes[bit / 8] ^= 1 << (bit % 8);
    Packet::from_bytes(bytes).expect("as long as before")
}

/// 32-byte pieces that two payloads share: 2^-256 each for independent bytes.
fn pieces_kept(a: &Packet, b: &Packet) -> usize {
    let pieces = |packet: &Packet| {
        packet.as_bytes()[HEADER_LEN..]
            .chunks_exact(32)
            .map(<[u8]>::to_vec)
            .collect::<Vec<_>>()
    };
    pieces(a)
        .into_iter()
        .zip(pieces(b))
        .filter(|(a, b)| a == b)
        .count()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_request_arrives_over_any_path_and_is_as_long_at_each_hop(
        seed: u64,
        bulk: bool,
        bridge: bool,
        fill in 0.0..=1.0_f64,
    ) {
        let class = if bulk { Class::Bulk } else { Class::Small };
        let mut path = Path::new(seed);
        if bridge {
            path.hops[1].reach = NextHop::Link(handle(9));
        }
        let content = vec![0xa5; (class.capacity() as f64 * fill) as usize];
        let packet = build(&mut rng(seed), class, &path.hops, &content).expect("fits");
        prop_assert_eq!(packet.as_bytes().len(), class.packet_len());
        let (next, packet) = forwarded(peel(&path.secrets[0], packet));
        prop_assert_eq!((next, packet.as_bytes().len()), (path.hops[1].reach, class.packet_len()));
        let (next, packet) = forwarded(peel(&path.secrets[1], packet));
        prop_assert_eq!((next, packet.as_bytes().len()), (path.hops[2].reach, class.packet_len()));
        prop_assert_eq!(delivered(peel(&path.secrets[2], packet)), Ok(content.into()));
    }

    #[test]
    fn a_reply_comes_back_whatever_happened_to_the_surb_on_the_wire(seed: u64, bulk: bool, bridge: bool, fill in 0.0..=1.0_f64) {
        let class = if bulk { Class::Bulk } else { Class::Small };
        let mut path = Path::new(seed);
        if bridge {
            path.hops[2].reach = NextHop::Link(handle(8));
        }
        let (surb, keys) = Surb::create(&mut rng(seed), class, &path.hops, handle(7)).expect("good hops");
        let wire = surb.encode();
        let mut reader = Reader::new(&wire);
        let read = Surb::decode(&mut reader).expect("what was encoded");
        prop_assert_eq!(reader.remaining(), 0);
        prop_assert!(read == surb);

        let content = vec![0x5a; (class.capacity() as f64 * fill) as usize];
        let (first, packet) = read.reply(class, &content).expect("fits");
        prop_assert_eq!(NextHop::Node(first), path.hops[0].reach);
        let (next, packet) = forwarded(peel(&path.secrets[0], packet));
        prop_assert_eq!((next, packet.as_bytes().len()), (path.hops[1].reach, class.packet_len()));
        let (next, packet) = forwarded(peel(&path.secrets[1], packet));
        prop_assert_eq!((next, packet.as_bytes().len()), (path.hops[2].reach, class.packet_len()));
        let (next, packet) = forwarded(peel(&path.secrets[2], packet));
        prop_assert_eq!((next, packet.as_bytes().len()), (NextHop::Link(handle(7)), class.packet_len()));
        prop_assert_eq!((ReplyId::of(&packet), HopKeyId(255)), (keys.id(), keys.oldest_key()));
        let packet = Packet::from_bytes(packet.into_bytes()).expect("as it went over a link");
        prop_assert_eq!(keys.open(packet.clone()), Ok(content.into()));

        let damaged = flip(&packet, HEADER_LEN * 8 + seed as usize % 8_000);
        prop_assert_eq!(keys.open(damaged), Err(OpenError::BadPayload));
    }

    #[test]
    fn arbitrary_bytes_are_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let path = Path::new(1);
        let mut small = BytesMut::zeroed(Class::Small.packet_len());
        small[..bytes.len()].copy_from_slice(&bytes);
        small[0] = VERSION;
        let packet = Packet::from_bytes(small).expect("a class's length");
        prop_assert!(peel(&path.secrets[0], packet).is_err());
        prop_assert!(peel_sized(&path.secrets[0], &mut bytes.clone()).is_err());
        prop_assert_eq!(Surb::decode(&mut Reader::new(&bytes)).is_ok(), bytes.len() >= SURB_LEN);
    }
}

#[test]
fn every_bit_of_the_header_is_authenticated_at_every_hop() {
    let path = Path::new(2);
    for number in 0..HOPS {
        let packet = path.packet_at(number, 3, Class::Small);
        for bit in 0..HEADER_LEN * 8 {
            let refused = peel(&path.secrets[number], flip(&packet, bit)).expect_err("a changed header");
            let right = match bit / 8 {
                0 => matches!(refused, PeelError::UnknownVersion { .. }),
                1 => refused == PeelError::UnknownKey,
                // The tag makes the mask of the share.
                34..50 => matches!(refused, PeelError::UnknownKey | PeelError::BadHeader),
                _ => refused == PeelError::BadHeader,
            };
            assert!(right, "hop {number}, bit {bit}: {refused}");
        }
    }
}

#[test]
fn one_bit_of_the_payload_garbles_all_of_it_and_the_last_hop_sees_that() {
    let path = Path::new(4);
    for class in Class::ALL {
        for number in 0..HOPS {
            let packet = path.packet_at(number, 5, class);
            let bits = HEADER_LEN * 8..class.packet_len() * 8;
            for bit in bits
                .clone()
                .step_by(bits.len() / 40)
                .chain([bits.start, bits.end - 1])
            {
                let mut damaged = flip(&packet, bit);
                let mut good = packet.clone();
                for secrets in &path.secrets[number..HOPS - 1] {
                    damaged = forwarded(peel(secrets, damaged)).1;
                    good = forwarded(peel(secrets, good)).1;
                    assert_eq!(pieces_kept(&good, &damaged), 0, "hop {number}, bit {bit}");
                }
                assert_eq!(
                    delivered(peel(&path.secrets[HOPS - 1], damaged)),
                    Err(PeelError::BadPayload)
                );
            }
        }
    }
}

#[test]
fn a_packet_is_bound_to_its_hop_its_key_and_its_length() {
    let path = Path::new(6);
    let packet = path.packet(7, Class::Small);
    assert_eq!(
        peel(&path.secrets[2], packet.clone()).expect_err("another hop"),
        PeelError::UnknownKey
    );

    let mut rotated = path.secrets[0].clone();
    rotated.insert(HopSecret::from_rng(HopKeyId(256), &mut rng(8)));
    assert!(
        peel(&rotated, packet.clone()).is_ok(),
        "the previous key is accepted"
    );
    rotated.retire_before(HopKeyId(256));
    let stale = peel(&rotated, packet.clone()).expect_err("a retired key");
    assert_eq!(stale, PeelError::UnknownKey);
    assert_eq!(stale.refusal(), Refusal::Expired);

    let mut stretched = BytesMut::from(packet.as_bytes());
    stretched.resize(Class::Bulk.packet_len(), 0);
    let stretched = Packet::from_bytes(stretched).expect("the other class");
    assert_eq!(
        peel(&path.secrets[0], stretched).expect_err("another class"),
        PeelError::BadHeader
    );
    for got in [0, 1, HEADER_LEN, 4_095, 4_097, 32_767, 32_769] {
        assert_eq!(Packet::from_bytes(BytesMut::zeroed(got)), Err(BadLength { got }));
        assert!(peel_sized(&path.secrets[0], &mut vec![VERSION; got]).is_err());
    }
}

#[test]
fn a_replay_is_known_even_with_another_payload_and_a_surb_serves_once() {
    let path = Path::new(9);
    let tag = |packet| peel(&path.secrets[0], packet).expect("good").tag;
    let packet = path.packet(10, Class::Small);
    assert_eq!(tag(packet.clone()), tag(flip(&packet, HEADER_LEN * 8)));
    assert_ne!(tag(packet.clone()), tag(path.packet(11, Class::Small)));

    let (surb, _) = Surb::create(&mut rng(12), Class::Small, &path.hops, handle(1)).expect("good hops");
    let mut filter = ReplayFilter::new(HopKeyId(255), 10);
    let uses = [&b"one"[..], b"two"].map(|content| {
        let (_, packet) = surb.clone().reply(Class::Small, content).expect("fits");
        filter.insert(&tag(packet))
    });
    assert_eq!(uses, [Ok(()), Err(Replay::Seen)]);
}

#[test]
fn a_header_does_not_show_its_place_or_its_direction() {
    let path = Path::new(13);
    let (surb, _) = Surb::create(&mut rng(14), Class::Small, &path.hops, handle(1)).expect("good hops");
    let (_, reply) = surb.reply(Class::Small, CONTENT).expect("fits");
    let mut seen = vec![reply];
    for number in 0..HOPS {
        seen.push(path.packet_at(number, 15, Class::Small));
        if number + 1 < HOPS {
            let (_, next) = forwarded(peel(&path.secrets[number], seen.remove(0)));
            seen.insert(0, next);
        }
    }
    for packet in &seen {
        let bytes = packet.as_bytes();
        assert_eq!((bytes.len(), bytes[0]), (4_096, VERSION));
        // Behind the version everything is random bytes: about half of all bits, and no run of zeros.
        let ones: u32 = bytes[1..].iter().map(|byte| byte.count_ones()).sum();
        assert!((15_700..17_050).contains(&ones), "{ones} of 32,760 bits are set");
        assert!(!bytes[1..].windows(8).any(|run| run == [0; 8]));
    }
}

#[test]
fn a_relay_sees_its_own_next_hop_and_no_other() {
    let path = Path::new(16);
    let ids = path.hops.map(|hop| match hop.reach {
        NextHop::Node(id) => *id.as_bytes(),
        NextHop::Link(handle) => *handle.as_bytes(),
    });
    for number in 0..HOPS - 1 {
        let (next, packet) = forwarded(peel(
            &path.secrets[number],
            path.packet_at(number, 17, Class::Small),
        ));
        assert_eq!(next, path.hops[number + 1].reach);
        let named = |id: &&[u8; 16]| packet.as_bytes().windows(16).any(|run| run == *id);
        assert_eq!(ids.iter().find(named), None);
    }
}

/// The share of a real layer is a point of the curve with a top bit of zero; random bytes are that once in four times.
#[test]
fn a_relay_cannot_tell_a_packet_for_a_bridge_from_one_for_a_client() {
    let is_share = |packet: &Packet| {
        let mut share = [0; 32];
        share.copy_from_slice(&packet.as_bytes()[2..34]);
        let point = curve25519_dalek::MontgomeryPoint(share);
        share[31] < 128 && point.to_edwards(0).is_some()
    };
    let (mut for_bridge, mut for_client) = (0, 0);
    for seed in 0..200 {
        let mut path = Path::new(seed);
        path.hops[2].reach = NextHop::Link(handle(8));
        let (surb, _) = Surb::create(&mut rng(seed), Class::Small, &path.hops, handle(7)).expect("good hops");
        let (_, mut packet) = surb.reply(Class::Small, CONTENT).expect("fits");
        for (number, secrets) in path.secrets.iter().enumerate() {
            packet = forwarded(peel(secrets, packet)).1;
            match number {
                1 => for_bridge += u32::from(is_share(&packet)),
                2 => for_client += u32::from(is_share(&packet)),
                _ => {}
            }
        }
    }
    // 50 expected of each, standard deviation 6.
    assert!(
        (25..75).contains(&for_bridge) && (25..75).contains(&for_client),
        "{for_bridge} {for_client}"
    );
}

#[test]
fn two_builds_from_one_generator_state_are_equal_and_from_two_are_not() {
    let path = Path::new(23);
    assert_eq!(path.packet(1, Class::Small), path.packet(1, Class::Small));
    assert_ne!(path.packet(1, Class::Small), path.packet(2, Class::Small));
    let surb = |seed| {
        Surb::create(&mut rng(seed), Class::Bulk, &path.hops, handle(1))
            .expect("good hops")
            .0
    };
    assert!(surb(1) == surb(1) && surb(1) != surb(2));
}

#[test]
fn what_does_not_fit_or_cannot_be_read_is_not_built() {
    let mut path = Path::new(18);
    for (class, capacity) in [(Class::Small, 3_879), (Class::Bulk, 32_551)] {
        let got = capacity + 1;
        let refused = Err(BuildError::TooLong { got, capacity });
        assert_eq!(build(&mut rng(1), class, &path.hops, &vec![1; got]), refused);
        let (surb, _) = Surb::create(&mut rng(1), class, &path.hops, handle(1)).expect("good hops");
        assert_eq!(
            surb.reply(class, &vec![1; got]).map(|(_, packet)| packet),
            refused
        );
    }
    assert_eq!(Class::ALL.map(Class::capacity_beside_surb), [3_632, 32_304]);
    assert_eq!(
        build_sized(&mut rng(1), 70_000, &path.hops, &[0; 65_536]).map(|_| ()),
        Err(BuildError::TooLong {
            got: 65_536,
            capacity: 65_535
        })
    );

    path.hops[1].key = HopPublic::from_bytes([0; 32]);
    assert_eq!(
        build(&mut rng(1), Class::Small, &path.hops, CONTENT),
        Err(BuildError::BadHopKey { number: 1 })
    );
    path.hops[0].reach = NextHop::Link(handle(1));
    let surb = Surb::create(&mut rng(1), Class::Small, &path.hops, handle(1));
    assert_eq!(surb.map(|_| ()), Err(BuildError::UnlistedFirstHop));
}

#[test]
fn a_reply_of_another_class_or_surb_is_refused() {
    let path = Path::new(19);
    let (surb, keys) = Surb::create(&mut rng(20), Class::Small, &path.hops, handle(1)).expect("good hops");
    let (_, bulk) = surb.clone().reply(Class::Bulk, CONTENT).expect("fits");
    assert_eq!(
        peel(&path.secrets[0], bulk).expect_err("not the SURB's class"),
        PeelError::BadHeader
    );
    let (_, unpeeled) = surb.reply(Class::Small, CONTENT).expect("fits");
    assert_eq!(keys.open(unpeeled), Err(OpenError::OtherReply));
}

#[test]
fn secrets_are_never_printed() {
    let path = Path::new(21);
    let (surb, keys) = Surb::create(&mut rng(22), Class::Small, &path.hops, handle(1)).expect("good hops");
    let peeled = peel(&path.secrets[2], path.packet_at(2, 1, Class::Small));
    let shown = format!("{surb:?} {keys:?} {:?}", path.packet(1, Class::Small));
    assert!(
        shown.starts_with("Surb(first ") && shown.ends_with("Packet(Small)") && shown.len() < 100,
        "{shown}"
    );
    assert!(peeled.is_ok());
}

/// What the format makes of fixed keys and a fixed generator. A change of these values is a change of the format: raise
/// [`VERSION`].
#[test]
fn the_format_is_the_one_that_was_published() {
    const HASH: Context = Context::new("phantom-net 2026 packet vector v1");
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let secrets: [HopSecret; HOPS] =
        std::array::from_fn(|n| HopSecret::from_bytes(HopKeyId(493_000 + n as u32), [0x41 + n as u8; 32]));
    let hops: [Hop; HOPS] = std::array::from_fn(|n| Hop {
        reach: NextHop::Node(NodeId::from_bytes([0xa0 + n as u8; 16])),
        key_id: secrets[n].id(),
        key: secrets[n].public(),
    });
    /// A generator that anybody can write: counts up from 0, a byte at a time.
    struct Counting(u8);
    impl rand_core::TryRng for Counting {
        type Error = std::convert::Infallible;
        fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
            rand_core::utils::next_word_via_fill(self)
        }
        fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
            rand_core::utils::next_word_via_fill(self)
        }
        fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Self::Error> {
            for byte in out {
                *byte = self.0;
                self.0 = self.0.wrapping_add(1);
            }
            Ok(())
        }
    }
    impl rand_core::TryCryptoRng for Counting {}

    let mut lines = Vec::new();
    let mut packet = build(&mut Counting(0), Class::Small, &hops, CONTENT).expect("fits");
    for secret in &secrets {
        let bytes = packet.as_bytes();
        lines.push(format!("request header {}", hex(&bytes[..HEADER_LEN])));
        lines.push(format!(
            "request payload {}",
            hex(&HASH.derive(&bytes[HEADER_LEN..]))
        ));
        let peeled = peel(&HopSecrets::new(secret.clone()), packet.clone()).expect("good");
        lines.push(format!("request tag {}", hex(peeled.tag.as_bytes())));
        if let Action::Forward { packet: next, .. } = peeled.action {
            packet = next;
        }
    }
    let (surb, keys) = Surb::create(&mut Counting(0), Class::Bulk, &hops, handle(0x99)).expect("good hops");
    lines.push(format!("surb {}", hex(&surb.encode())));
    let (_, mut packet) = surb.reply(Class::Bulk, CONTENT).expect("fits");
    for secret in &secrets {
        lines.push(format!("reply {}", hex(&HASH.derive(packet.as_bytes()))));
        packet = forwarded(peel(&HopSecrets::new(secret.clone()), packet)).1;
    }
    lines.push(format!(
        "reply at the client {}",
        hex(&HASH.derive(packet.as_bytes()))
    ));
    assert_eq!(keys.open(packet), Ok(Bytes::from_static(CONTENT)));
    lines.push(String::new());
    let made = lines.join("\n");
    assert!(
        made == include_str!("vectors.txt"),
        "the format has changed; it now gives\n{made}"
    );
}
