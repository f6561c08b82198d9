use std::time::Duration;

use bytes::Bytes;
use proptest::prelude::*;
use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};

use super::*;
use crate::mailbox::TtlBucket;
use crate::units::Instant;

fn rng(seed: u64) -> ChaCha12Rng {
    ChaCha12Rng::seed_from_u64(seed)
}

fn manifest(seed: u64, len: usize) -> (Manifest, Bytes) {
    let mut rng = rng(seed);
    let secret = AttachmentSecret::from_rng(&mut rng);
    let mut content = vec![0; len];
    rng.fill_bytes(&mut content);
    let manifest = Manifest::of(secret, "plan.pdf", &content).expect("fits");
    (manifest, content.into())
}

#[test]
fn what_is_cut_into_boxes_comes_together_again_whatever_its_length() {
    for len in [0, 1, PIECE_LEN - 1, PIECE_LEN, PIECE_LEN + 1, 3 * PIECE_LEN + 7] {
        let (manifest, content) = manifest(1, len);
        let keys = manifest.keys();
        let mut whole = Vec::new();
        for number in 0..pieces(len) {
            let record = keys.seal(number, &content, TtlBucket::ALL[2], 60);
            assert_eq!(
                (record.verify(), *record.address()),
                (Ok(()), keys.address(number))
            );
            whole.extend_from_slice(&keys.open(number, &record).expect("opens"));
        }
        assert!(manifest.is_of(&whole), "{len} bytes");
        whole.push(0);
        assert!(!manifest.is_of(&whole));
    }
}

#[test]
fn a_piece_in_anothers_place_or_of_another_attachment_is_refused() {
    let (one, content) = manifest(1, 2 * PIECE_LEN);
    let (other, _) = manifest(2, 2 * PIECE_LEN);
    let record = one.keys().seal(0, &content, TtlBucket::ALL[2], 60);
    assert_eq!(one.keys().open(1, &record), Err(ReadError::WrongBox));
    assert_eq!(other.keys().open(0, &record), Err(ReadError::WrongBox));
    // A shorter attachment of the same secret, which its writer could claim: bytes behind the end do not vanish.
    let shorter = AttachmentKeys::new(one.secret.clone(), 10);
    assert_eq!(shorter.open(0, &record), Err(ReadError::Padding));
}

#[test]
fn a_name_that_leads_elsewhere_is_no_name() {
    for name in ["", ".", "..", ".ssh", "a/b", "..\\x", "a\nb", &"x".repeat(129)] {
        assert!(!Manifest::is_name(name), "{name:?}");
    }
    for name in ["plan.pdf", "ä b.txt", &"x".repeat(128)] {
        assert!(Manifest::is_name(name), "{name:?}");
    }
}

/// A path that answers after `delay` and loses every `lost`th question; how long all pieces took.
fn play(pieces: u32, at_once: u32, lost: u64) -> (Duration, u32) {
    let (answer, timeout) = (Duration::from_millis(500), Duration::from_secs(15));
    let mut transfer = Transfer::new(pieces, Config::default(), rng(1));
    let (mut now, mut asked, mut most) = (Instant::ZERO, 0, 0);
    let mut ends: Vec<(Instant, u32, bool)> = Vec::new();
    while !transfer.is_complete() {
        while let Some(number) = transfer.start(now) {
            asked += 1;
            // What is more than the path bears is lost.
            let fails = ends.len() as u32 >= at_once || (lost != 0 && asked % lost == 0);
            ends.push((now + if fails { timeout } else { answer }, number, fails));
        }
        most = most.max(ends.len() as u32);
        ends.sort_by_key(|(at, ..)| *at);
        let wake = transfer.wake().unwrap_or(Instant::FAR_FUTURE);
        match ends.first().copied() {
            Some((at, number, fails)) if at <= wake.max(now) => {
                ends.remove(0);
                now = at;
                if fails {
                    transfer.failed(now, number);
                } else {
                    transfer.succeeded(number);
                }
            }
            _ => now = wake.max(now),
        }
    }
    (now.saturating_since(Instant::ZERO), most)
}

#[test]
fn a_good_path_is_filled_and_a_bad_one_is_not_flooded() {
    let (good, most) = play(260, 1_000, 0);
    assert_eq!(most, Config::default().window_max);
    assert!(good < Duration::from_secs(20), "{good:?}: 130 s one by one");
    let (narrow, _) = play(260, 3, 0);
    assert!(narrow < Duration::from_secs(600), "{narrow:?}");
    let (lossy, _) = play(260, 1_000, 20);
    assert!(lossy < Duration::from_secs(600), "{lossy:?}");
}

#[test]
fn answers_that_come_twice_or_to_nothing_change_nothing() {
    let mut transfer = Transfer::new(2, Config::default(), rng(1));
    transfer.succeeded(0);
    transfer.failed(Instant::ZERO, 1);
    transfer.succeeded(7);
    assert_eq!(transfer.progress(), (0, 2));
    assert_eq!(
        (transfer.start(Instant::ZERO), transfer.start(Instant::ZERO)),
        (Some(0), Some(1))
    );
    transfer.succeeded(0);
    transfer.succeeded(0);
    transfer.failed(Instant::ZERO, 0);
    assert_eq!(transfer.progress(), (1, 2));
    transfer.failed(Instant::ZERO, 1);
    let wake = transfer.wake().expect("again later");
    assert!(wake > Instant::ZERO && transfer.start(Instant::ZERO).is_none());
    transfer.reachable(Instant::ZERO);
    assert_eq!(transfer.start(Instant::ZERO), Some(1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn manifests_read_back_and_arbitrary_bytes_stay_canonical(
        noise in prop::collection::vec(any::<u8>(), 0..256), seed: u64, at: prop::sample::Index, value: u8
    ) {
        let mut bytes = Vec::new();
        manifest(seed, 5).0.write(&mut bytes);
        prop_assert_eq!(Manifest::decode(&bytes), Ok(manifest(seed, 5).0));
        let at = at.index(bytes.len());
        bytes[at] = value;
        for input in [bytes, noise] {
            if let Ok(manifest) = Manifest::decode(&input) {
                let mut again = Vec::new();
                manifest.write(&mut again);
                prop_assert_eq!(again, input);
            }
        }
    }

    /// Whatever answers come in whatever order, no more is under way than the window allows, and no piece twice.
    #[test]
    fn no_order_of_answers_breaks_the_window(steps in prop::collection::vec((0u8..4, 0u32..12), 1..200)) {
        let mut transfer = Transfer::new(12, Config::default(), rng(3));
        let mut now = Instant::ZERO;
        let mut under_way = std::collections::BTreeSet::new();
        for (what, number) in steps {
            match what {
                0 => if let Some(number) = transfer.start(now) {
                    prop_assert!(under_way.insert(number), "twice");
                },
                1 => { transfer.succeeded(number); under_way.remove(&number); }
                2 => { transfer.failed(now, number); under_way.remove(&number); }
                _ => now += Duration::from_secs(u64::from(number)),
            }
            prop_assert!(under_way.len() <= Config::default().window_max as usize);
        }
    }
}
