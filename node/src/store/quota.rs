//! How fast one link may fill the store: a token bucket for each, in a table of bounded size. Spec: SPEC §4.7.

use std::collections::BTreeMap;
use std::time::Duration;

use phantom_core::units::Instant;

/// What one link may write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaConfig {
    /// Boxes at once, after a pause.
    pub burst: u32,
    /// Time for one more box.
    pub per_box: Duration,
    /// Links that are remembered at a time.
    pub links_max: usize,
}

impl Default for QuotaConfig {
    /// 4,096 boxes at once, then 50 a second; 4,096 links. A replica that repairs or takes over stays below it.
    fn default() -> Self {
        Self {
            burst: 4_096,
            per_box: Duration::from_millis(20),
            links_max: 4_096,
        }
    }
}

/// Who writes: a number that the node gives each link, never anything that outlives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source(pub u64);

impl Source {
    /// The node itself: no quota.
    pub const OWN: Self = Self(u64::MAX);
}

/// The token buckets. Each is kept as the instant at which it will be full again (generic cell rate algorithm).
#[derive(Debug)]
pub(super) struct Quota {
    config: QuotaConfig,
    full_at: BTreeMap<Source, Instant>,
}

impl Quota {
    pub(super) const fn new(config: QuotaConfig) -> Self {
        Self {
            config,
            full_at: BTreeMap::new(),
        }
    }

    /// Takes so many boxes' worth from `source`; false if there is not as much.
    pub(super) fn take(&mut self, source: Source, boxes: u32, now: Instant) -> bool {
        if source == Source::OWN {
            return true;
        }
        if !self.full_at.contains_key(&source) && self.full_at.len() >= self.config.links_max {
            // Full buckets say nothing and can be forgotten. Where none is full, newcomers wait.
            self.full_at.retain(|_, full_at| *full_at > now);
            if self.full_at.len() >= self.config.links_max {
                return false;
            }
        }
        let full_at = self.full_at.entry(source).or_insert(now);
        let after = (*full_at).max(now) + self.config.per_box * boxes;
        if after.saturating_since(now) > self.config.per_box * self.config.burst {
            return false;
        }
        *full_at = after;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: QuotaConfig = QuotaConfig {
        burst: 3,
        per_box: Duration::from_millis(10),
        links_max: 2,
    };

    fn at(millis: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(millis)
    }

    #[test]
    fn a_link_gets_its_burst_then_its_rate_and_others_theirs() {
        let mut quota = Quota::new(CONFIG);
        let taken = (0..5).filter(|_| quota.take(Source(1), 1, at(0))).count();
        assert_eq!(taken, 3);
        assert!(quota.take(Source(2), 1, at(0)));
        assert!(!quota.take(Source(1), 1, at(9)));
        assert!(quota.take(Source(1), 1, at(10)) && !quota.take(Source(1), 1, at(10)));
        assert!((0..100).all(|_| quota.take(Source::OWN, 1, at(10))));
    }

    #[test]
    fn the_table_is_bounded_and_forgets_only_idle_links() {
        let mut quota = Quota::new(CONFIG);
        assert!(quota.take(Source(1), 1, at(0)) && quota.take(Source(2), 1, at(0)));
        assert!(!quota.take(Source(3), 1, at(0)), "no room for a third");
        assert!(quota.take(Source(3), 1, at(10)), "both others are idle");
        assert!(quota.full_at.len() <= 2);
    }
}
