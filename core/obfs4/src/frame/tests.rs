//! Frames in any pieces, forged lengths, and the wire form against NaCl's.

use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::*;
use crate::hex;

fn keys() -> DirectionKey {
    let material: Vec<u8> = (0..DIRECTION_KEY_LEN).map(|i| i as u8).collect();
    DirectionKey::from_slice(&material)
}

fn rng() -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(1)
}

/// The stream of `frames`, each of so many bytes of its own number.
fn stream(frames: &[usize]) -> Vec<u8> {
    let mut encoder = Encoder::new(&keys());
    let mut wire = Vec::new();
    for (i, len) in frames.iter().enumerate() {
        encoder
            .seal(&[&vec![i as u8; *len]], 0, &mut wire)
            .expect("far from the end");
    }
    wire
}

/// NaCl's own example (`tests/secretbox.c`): its key, nonce, message and box.
#[test]
fn the_box_is_that_of_nacl() {
    let first_key =
        hex::decode("1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389").expect("hex");
    let nonce: [u8; 24] = hex::decode("69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37").expect("hex");
    let mut contents: [u8; 131] = hex::decode(concat!(
        "be075fc53c81f2d5cf141316ebeb0c7b5228c52a4c62cbd44b66849b64244ffc",
        "e5ecbaaf33bd751a1ac728d45e6c61296cdc3c01233561f41db66cce314adb31",
        "0e3be8250c46f06dceea3a7fa1348057e2f6556ad6b1318a024a838f21af1fde",
        "048977eb48f59ffd4924ca1c60902e52f0a089bc76897040e082f93776384864",
        "5e0705",
    ))
    .expect("hex");
    let sealed: [u8; 131] = hex::decode(concat!(
        "8e993b9f48681273c29650ba32fc76ce48332ea7164d96a4476fb8c531a1186a",
        "c0dfc17c98dce87b4da7f011ec48c97271d2c20f9b928fe2270d6fb863d51738",
        "b48eeee314a7cc8ab932164548e526ae90224368517acfeabd6bb3732bc0e9da",
        "99832b61ca01b6de56244a9e88d5f9b37973f622a43d14a6599b1f654cb45a74",
        "e355a5",
    ))
    .expect("hex");
    let tag: [u8; 16] = hex::decode("f3ffc7703f9400e52a7dfb4b3d3305d9").expect("hex");
    let mut prefix = [0; PREFIX_LEN];
    prefix.copy_from_slice(&nonce[..PREFIX_LEN]);
    let mut boxes = Boxes {
        key: first_key,
        prefix,
        masks: HashDrbg::new(&Seed::from_bytes([0; SEED_LEN])),
        number: u64::from_be_bytes(std::array::from_fn(|i| nonce[PREFIX_LEN + i])),
    };
    assert_eq!(boxes.seal(&mut contents), tag);
    assert_eq!(contents, sealed);
}

#[test]
fn a_whole_frame_in_the_buffer_is_never_waited_for() {
    // Empty contents too: the bug of the existing crate was to ask for more bytes after a frame of padding.
    let wire = stream(&[0, 5, 0, CONTENTS_MAX, 1]);
    let (mut decoder, mut rng) = (Decoder::new(&keys()), rng());
    let mut rest = wire.as_slice();
    let mut lens = Vec::new();
    while let Some(contents) = decoder.next(&mut rest, &mut rng).expect("untouched") {
        lens.push(contents.len());
    }
    assert_eq!(lens, [0, 5, 0, CONTENTS_MAX, 1]);
    assert!(!decoder.is_inside_frame());
}

#[test]
fn the_largest_frame_is_1448_bytes() {
    assert_eq!(
        (CONTENTS_MAX, FRAME_OVERHEAD, stream(&[CONTENTS_MAX]).len()),
        (1430, 18, 1448)
    );
}

#[test]
fn a_length_out_of_range_ends_the_connection_after_as_many_bytes_as_some_frame_has() {
    let mut ends = std::collections::BTreeSet::new();
    for seed in 0..20 {
        let mut wire = stream(&[100; 20]);
        // 116 becomes 116 + 0x8000.
        wire[0] ^= 0x80;
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let mut decoder = Decoder::new(&keys());
        let mut end = 0;
        for byte in &wire {
            end += 1;
            match decoder.next(&mut [*byte].as_slice(), &mut rng) {
                Ok(None) => {}
                Ok(Some(_)) => panic!("opened"),
                Err(FrameError::BadTag { number: 1 }) => break,
                Err(error) => panic!("{error}"),
            }
        }
        assert!((LENGTH_LEN + BOX_MIN..=FRAME_MAX).contains(&end));
        ends.insert(end);
    }
    assert!(ends.len() > 10, "{ends:?}");
}

#[test]
fn the_counter_does_not_wrap() {
    let mut encoder = Encoder::new(&keys());
    encoder.0.number = u64::MAX;
    let mut wire = Vec::new();
    encoder.seal(&[], 0, &mut wire).expect("the last one");
    let sent = wire.len();
    assert_eq!(encoder.seal(&[], 0, &mut wire), Err(FrameError::Exhausted));
    assert_eq!(wire.len(), sent);
    let mut decoder = Decoder::new(&keys());
    decoder.boxes.number = u64::MAX;
    let mut input = wire.as_slice();
    assert_eq!(decoder.next(&mut input, &mut rng()), Ok(Some(&[][..])));
    assert_eq!(
        decoder.next(&mut [0; 2].as_slice(), &mut rng()),
        Err(FrameError::Exhausted)
    );
}

proptest! {
    #[test]
    fn frames_arrive_whole_and_in_order_however_the_stream_is_cut(
        lens in prop::collection::vec(0..=CONTENTS_MAX, 1..12), cuts in prop::collection::vec(1_usize..3000, 1..40),
    ) {
        let wire = stream(&lens);
        let (mut decoder, mut rng) = (Decoder::new(&keys()), rng());
        let (mut at, mut opened) = (0, Vec::new());
        for cut in cuts.iter().cycle() {
            let mut piece = &wire[at..wire.len().min(at + cut)];
            at += piece.len();
            while let Some(contents) = decoder.next(&mut piece, &mut rng).expect("untouched") {
                prop_assert!(contents.iter().all(|b| usize::from(*b) == opened.len()));
                opened.push(contents.len());
            }
            prop_assert!(piece.is_empty());
            if at == wire.len() {
                break;
            }
        }
        prop_assert_eq!(opened, lens);
    }

    #[test]
    fn one_changed_bit_anywhere_ends_the_stream_and_nothing_after_it_opens(
        lens in prop::collection::vec(0..200_usize, 1..8), bit: prop::sample::Index,
    ) {
        let mut wire = stream(&lens);
        let bit = bit.index(wire.len() * 8);
        wire[bit / 8] ^= 1 << (bit % 8);
        // What waits for more bytes than there are is brought to an end by a stream that goes on.
        wire.extend([0; 2 * FRAME_MAX]);
        let (mut decoder, mut rng) = (Decoder::new(&keys()), rng());
        let mut rest = wire.as_slice();
        let (mut before, mut opened) = (0, 0);
        let error = loop {
            match decoder.next(&mut rest, &mut rng) {
                Ok(Some(contents)) => {
                    before += contents.len() + FRAME_OVERHEAD;
                    opened += 1;
                }
                Ok(None) => return Err(TestCaseError::fail("waits")),
                Err(error) => break error,
            }
        };
        prop_assert!(before <= bit / 8, "the changed frame did not open");
        prop_assert_eq!(error, FrameError::BadTag { number: opened + 1 });
        prop_assert_eq!(decoder.next(&mut rest, &mut rng), Err(error));
    }

    #[test]
    fn random_bytes_never_open(bytes in prop::collection::vec(any::<u8>(), 0..4000)) {
        let (mut decoder, mut rng) = (Decoder::new(&keys()), rng());
        prop_assert!(!matches!(decoder.next(&mut bytes.as_slice(), &mut rng), Ok(Some(_))));
    }
}
