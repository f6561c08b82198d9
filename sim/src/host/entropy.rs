//! Entropy streams: one per (seed, peer, start of the peer, label, how often the label was asked for).
//!
//! A stream is named by everything that distinguishes it and by nothing else, so that one more draw in one place shifts
//! no other, and the same seed gives the same bytes on every back end.

use litemap::LiteMap;
use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;

use super::PeerId;

/// The stream of the `nth` request (from 0) for `label` by start number `incarnation` of `peer`.
pub fn stream(seed: u64, peer: PeerId, incarnation: u32, label: &str, nth: u64) -> ChaCha12Rng {
    let mut hasher = blake3::Hasher::new_derive_key("phantom-sim 2026 entropy stream v1");
    hasher.update(&seed.to_be_bytes());
    hasher.update(&peer.0.to_be_bytes());
    hasher.update(&incarnation.to_be_bytes());
    hasher.update(&nth.to_be_bytes());
    hasher.update(label.as_bytes());
    ChaCha12Rng::from_seed(*hasher.finalize().as_bytes())
}

/// What one start of one peer has asked for so far.
#[derive(Clone, Debug, Default)]
pub struct Streams {
    asked: LiteMap<&'static str, u64>,
}

impl Streams {
    /// The next stream for `label`.
    pub fn next(&mut self, seed: u64, peer: PeerId, incarnation: u32, label: &'static str) -> ChaCha12Rng {
        let nth = self.asked.get(label).copied().unwrap_or(0);
        self.asked.insert(label, nth + 1);
        stream(seed, peer, incarnation, label, nth)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::Rng;

    #[test]
    fn every_part_of_a_streams_name_changes_it() {
        let first = |seed, peer, incarnation, label, nth| {
            stream(seed, PeerId(peer), incarnation, label, nth).next_u64()
        };
        let base = first(1, 2, 3, "a", 4);
        assert_eq!(base, first(1, 2, 3, "a", 4));
        for other in [
            first(2, 2, 3, "a", 4),
            first(1, 3, 3, "a", 4),
            first(1, 2, 4, "a", 4),
            first(1, 2, 3, "b", 4),
            first(1, 2, 3, "a", 5),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn no_two_requests_share_a_stream_and_no_label_shifts_another() {
        let mut one = Streams::default();
        let mut two = Streams::default();
        let first = one.next(7, PeerId(0), 0, "x").next_u64();
        assert_ne!(first, one.next(7, PeerId(0), 0, "x").next_u64());
        two.next(7, PeerId(0), 0, "y");
        assert_eq!(first, two.next(7, PeerId(0), 0, "x").next_u64());
    }
}
