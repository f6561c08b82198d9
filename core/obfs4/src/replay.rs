//! Which handshakes a server has seen: for three hours, since a client's MAC is good for as long.
//!
//! What is kept of each is a 64-bit hash under a key of this process, 102,400 at most: beyond, the oldest go first. After a
//! restart the filter is empty, as obfs4proxy's is, and a handshake of the last two hours can be sent again once.
//! Source: `replay_filter.go` of obfs4proxy 0.0.14. It forgets everything when its clock steps back; here such a step only
//! makes entries live longer.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use rand_core::CryptoRng;
use siphasher::sip::SipHasher24;

/// How long a handshake is remembered.
pub const REPLAY_TTL: Duration = Duration::from_secs(3 * 60 * 60);
/// How many are.
pub const REPLAY_MAX: usize = 100 * 1024;

/// The handshakes that were accepted lately. One serves all connections to a bridge.
pub struct ReplayFilter {
    hash: SipHasher24,
    seen: BTreeSet<u64>,
    /// In the order in which they came, each with its time.
    order: VecDeque<(Duration, u64)>,
}

impl ReplayFilter {
    /// An empty filter with a key of its own.
    pub fn from_rng(rng: &mut impl CryptoRng) -> Self {
        Self {
            hash: SipHasher24::new_with_keys(rng.next_u64(), rng.next_u64()),
            seen: BTreeSet::new(),
            order: VecDeque::new(),
        }
    }

    /// Whether `mac` was here before; from now on it was. `now` counts from any fixed origin.
    pub fn test_and_set(&mut self, now: Duration, mac: &[u8]) -> bool {
        while let Some((since, oldest)) = self.order.front().copied() {
            if self.order.len() < REPLAY_MAX && now.saturating_sub(since) < REPLAY_TTL {
                break;
            }
            self.seen.remove(&oldest);
            self.order.pop_front();
        }
        let hash = self.hash.hash(mac);
        let new = self.seen.insert(hash);
        if new {
            self.order.push_back((now, hash));
        }
        !new
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

impl std::fmt::Debug for ReplayFilter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ReplayFilter({} seen)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    use super::*;

    fn filter() -> ReplayFilter {
        ReplayFilter::from_rng(&mut ChaCha20Rng::seed_from_u64(1))
    }

    #[test]
    fn what_was_seen_is_known_for_three_hours_and_then_forgotten() {
        let mut filter = filter();
        let start = Duration::from_secs(7);
        assert!(!filter.test_and_set(start, b"a"));
        assert!(filter.test_and_set(start, b"a"));
        assert!(filter.test_and_set(start + REPLAY_TTL - Duration::from_nanos(1), b"a"));
        assert!(!filter.test_and_set(start + REPLAY_TTL, b"a"));
    }

    #[test]
    fn a_clock_that_steps_back_forgets_nothing() {
        let mut filter = filter();
        assert!(!filter.test_and_set(REPLAY_TTL * 2, b"a"));
        assert!(filter.test_and_set(Duration::ZERO, b"a"));
    }

    #[test]
    fn a_full_filter_forgets_the_oldest_only() {
        let mut filter = filter();
        for i in 0..=REPLAY_MAX {
            assert!(!filter.test_and_set(Duration::ZERO, &i.to_le_bytes()));
        }
        assert_eq!(filter.len(), REPLAY_MAX);
        assert!(filter.test_and_set(Duration::ZERO, &2_usize.to_le_bytes()));
        assert!(!filter.test_and_set(Duration::ZERO, &0_usize.to_le_bytes()));
    }
}
