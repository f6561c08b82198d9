//! Lengths and pauses of what is sent, and that a burst always ends.

use proptest::prelude::*;
use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;

use super::*;
use crate::frame::{DIRECTION_KEY_LEN, Decoder, DirectionKey};
use crate::packet::{Packet, decode};

fn keys() -> DirectionKey {
    DirectionKey::from_slice(&[7; DIRECTION_KEY_LEN])
}

/// The writes of `bursts`, and what they carry when they are read.
fn play(shape: &mut Shape, bursts: &[&[u8]], seed: u64) -> (Vec<Vec<Chunk>>, Vec<u8>) {
    let mut rng = ChaCha20Rng::seed_from_u64(seed);
    let (mut encoder, mut decoder) = (Encoder::new(&keys()), Decoder::new(&keys()));
    let (mut all, mut plain) = (Vec::new(), Vec::new());
    for burst in bursts {
        let mut out = VecDeque::new();
        shape
            .burst(burst, &mut encoder, &mut rng, &mut out)
            .expect("far from the end");
        for chunk in &out {
            let mut wire = chunk.bytes.as_slice();
            while let Some(contents) = decoder.next(&mut wire, &mut rng).expect("ours") {
                match decode(contents).expect("ours") {
                    Packet::Payload(payload) => plain.extend_from_slice(payload),
                    other => panic!("{other:?}"),
                }
            }
        }
        assert!(!decoder.is_inside_frame(), "a burst ends with a frame");
        all.push(out.into());
    }
    (all, plain)
}

#[test]
fn bursts_have_the_bridges_lengths_and_without_pacing_are_one_write() {
    let mut shape = Shape::new(IatMode::None, Seed::from_bytes([3; 24]));
    let data = vec![1; 20_000];
    let bursts: Vec<&[u8]> = (1..200).map(|i| &data[..i * 100]).collect();
    let (writes, _) = play(&mut shape, &bursts, 1);
    for (payload, burst) in bursts.iter().zip(writes) {
        assert_eq!(burst.len(), 1);
        assert_eq!(burst[0].pause, Duration::ZERO);
        let frames = payload.len() + payload.len().div_ceil(PAYLOAD_MAX) * PACKET_OVERHEAD;
        assert!(
            shape
                .ends_for_test(frames)
                .contains(&(burst[0].bytes.len() % FRAME_MAX))
        );
    }
}

#[test]
fn pacing_cuts_into_segments_and_pauses_between_them_across_bursts() {
    let mut shape = Shape::new(IatMode::Enabled, Seed::from_bytes([4; 24]));
    let data = vec![1; 20_000];
    let (writes, _) = play(&mut shape, &[&data, &data, &data], 2);
    let pauses: Vec<Duration> = writes.iter().flatten().map(|chunk| chunk.pause).collect();
    assert_eq!(pauses[0], Duration::ZERO);
    assert!(
        pauses
            .iter()
            .all(|p| *p <= Duration::from_millis(10) && p.as_nanos() % 100_000 == 0)
    );
    assert!(pauses.iter().skip(1).any(|p| *p > Duration::ZERO));
    for burst in writes {
        let (last, whole) = burst.split_last().expect("some");
        assert!(whole.iter().all(|chunk| chunk.bytes.len() == FRAME_MAX) && last.bytes.len() <= FRAME_MAX);
    }
}

#[test]
fn paranoid_writes_have_the_bridges_lengths() {
    let seed = Seed::from_bytes([5; 24]);
    let values: Vec<u16> = WeightedDist::lengths(&seed).values().to_vec();
    let mut shape = Shape::new(IatMode::Paranoid, seed.clone());
    let data = vec![1; 20_000];
    let (writes, plain) = play(&mut shape, &[&data, b"x", &data], 3);
    assert_eq!(plain.len(), 40_001);
    for chunk in writes.iter().flatten() {
        assert!(
            values.contains(&(chunk.bytes.len() as u16)),
            "{} bytes",
            chunk.bytes.len()
        );
    }
}

/// obfs4proxy panics on a length of 0 and does not come back from a distribution of one short length.
#[test]
fn a_burst_ends_whatever_lengths_the_bridge_chose() {
    for only in [0, 1, 2, 3, 13, 20, 21, 22, 40, 1447, 1448] {
        let mut shape = Shape::new(IatMode::Paranoid, Seed::from_bytes([6; 24]));
        shape.tables();
        shape.tables = shape.tables.map(|tables| Tables {
            lengths: WeightedDist::only(only),
            ..tables
        });
        let data = vec![9; 3000];
        let (writes, plain) = play(&mut shape, &[&data, b"x"], 4);
        assert_eq!(plain.len(), 3001, "{only}");
        let wire: usize = writes.iter().flatten().map(|chunk| chunk.bytes.len()).sum();
        assert!(wire < 3001 + 20 * 2 * FRAME_MAX * 2, "{only}: {wire} bytes");
    }
}

proptest! {
    #[test]
    fn what_is_sent_arrives_in_every_mode(
        mode in 0_u8..3, seed: [u8; 24], draws: u64,
        bursts in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..5000), 1..5),
    ) {
        let mode = IatMode::from_number(mode).expect("one of three");
        let mut shape = Shape::new(mode, Seed::from_bytes(seed));
        let bursts: Vec<&[u8]> = bursts.iter().map(Vec::as_slice).collect();
        let (_, plain) = play(&mut shape, &bursts, draws);
        prop_assert_eq!(plain, bursts.concat());
    }
}
