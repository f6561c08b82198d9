//! How long a box lives: a bucket that bounds the time from a node's own receipt, and an absolute bound that the writer
//! signs. Spec: SPEC §4.3.

use std::time::Duration;

use crate::units::WallTime;
use crate::wire::DecodeError;

/// How far a writer's clock may be ahead of a node's before the node refuses its boxes.
pub const CLOCK_BOUND: Duration = Duration::from_secs(300);

/// A lifetime class. Few of them, so that a box hides among others; seconds for tests and demonstrations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TtlBucket(u8);

const SECONDS: [u64; 12] = [
    10, 30, 60, 300, 900, 3_600, 14_400, 43_200, 86_400, 259_200, 604_800, 1_209_600,
];

impl TtlBucket {
    /// All buckets, shortest first.
    pub const ALL: [Self; SECONDS.len()] = {
        let mut all = [Self(0); SECONDS.len()];
        let mut i = 0;
        while i < SECONDS.len() {
            all[i] = Self(i as u8);
            i += 1;
        }
        all
    };
    /// The longest: 14 days.
    pub const LONGEST: Self = Self(SECONDS.len() as u8 - 1);

    /// The bucket with this code.
    ///
    /// # Errors
    /// [`DecodeError::BadValue`] when there is none.
    pub const fn from_code(code: u8) -> Result<Self, DecodeError> {
        if (code as usize) < SECONDS.len() {
            Ok(Self(code))
        } else {
            Err(DecodeError::BadValue {
                field: "TTL bucket",
                got: code as u64,
            })
        }
    }

    /// Its code on the wire and in names of segments.
    pub const fn code(self) -> u8 {
        self.0
    }

    /// The shortest bucket that lasts for `ttl`, `None` beyond 14 days.
    pub fn covering(ttl: Duration) -> Option<Self> {
        Self::ALL.into_iter().find(|bucket| bucket.ttl() >= ttl)
    }

    /// How long a node keeps a box of this bucket after its own receipt, at most.
    pub const fn ttl(self) -> Duration {
        Duration::from_secs(SECONDS[self.0 as usize])
    }

    /// The grid that signed bounds of this bucket lie on: a 64th of its time, at least a second. It keeps boxes of one
    /// message from being told by a common, exact bound.
    pub const fn grid_secs(self) -> u64 {
        let step = SECONDS[self.0 as usize] / 64;
        if step == 0 { 1 } else { step }
    }

    /// The bound to sign for a box that is to live until `until`: the next point of the grid, in Unix seconds.
    pub const fn bound(self, until: WallTime) -> u64 {
        let secs = until.as_unix_nanos().div_ceil(1_000_000_000);
        secs.div_ceil(self.grid_secs()) * self.grid_secs()
    }
}

/// What a node does with a box that it is given at `now`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Keep it until then by this node's clock.
    Until(WallTime),
    /// Its signed bound has passed.
    Expired,
    /// Its signed bound lies further ahead than its bucket and [`CLOCK_BOUND`] allow.
    TooFar,
}

/// Judges a box by `now`, the highest wall time that the node has ever persisted.
///
/// The node keeps it for its bucket's time from its own receipt, never beyond the signed bound. So an honest node keeps
/// no box longer than its bucket's time, however wrong its clock is; a replica that gets it later by repair or hand-over
/// does not prolong it beyond the bound; and a node whose clock is ahead by s forgets it up to s early.
pub fn admit(bucket: TtlBucket, not_after: u64, now: WallTime) -> Admission {
    let bound = WallTime::from_unix_secs(not_after);
    let latest = now + bucket.ttl() + Duration::from_secs(bucket.grid_secs()) + CLOCK_BOUND;
    if bound <= now {
        Admission::Expired
    } else if bound > latest {
        Admission::TooFar
    } else {
        Admission::Until(bound.min(now + bucket.ttl()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn buckets_run_from_seconds_to_fourteen_days() {
        assert_eq!(TtlBucket::ALL[0].ttl(), Duration::from_secs(10));
        assert_eq!(TtlBucket::LONGEST.ttl(), Duration::from_secs(14 * 86_400));
        assert!(TtlBucket::ALL.is_sorted_by(|a, b| a.ttl() < b.ttl()));
        assert_eq!(
            TtlBucket::covering(Duration::from_secs(11)),
            TtlBucket::from_code(1).ok()
        );
        assert_eq!(TtlBucket::covering(Duration::from_secs(14 * 86_400 + 1)), None);
        assert!(TtlBucket::from_code(12).is_err());
    }

    #[test]
    fn a_bound_that_passed_or_lies_too_far_ahead_is_refused() {
        let (bucket, now) = (TtlBucket::ALL[0], WallTime::from_unix_secs(1_000_000));
        assert_eq!(admit(bucket, 1_000_000, now), Admission::Expired);
        assert_eq!(
            admit(bucket, 1_000_311, now),
            Admission::Until(now + Duration::from_secs(10))
        );
        assert_eq!(admit(bucket, 1_000_312, now), Admission::TooFar);
        assert_eq!(admit(bucket, u64::MAX, now), Admission::TooFar);
    }

    proptest! {
        /// Writer and node may each be wrong by up to the bound: the box is taken and outlives neither limit.
        #[test]
        fn a_box_is_kept_within_both_limits(
            code in 5u8..12, written in 1_000_000u64..2_000_000_000, skew in -290i64..290, later in 0u64..100
        ) {
            let bucket = TtlBucket::from_code(code).expect("a bucket");
            let bound = bucket.bound(WallTime::from_unix_secs(written) + bucket.ttl());
            let now = WallTime::from_unix_secs((written + later).saturating_add_signed(skew));
            let Admission::Until(until) = admit(bucket, bound, now) else { panic!("refused") };
            prop_assert!(until <= now + bucket.ttl());
            prop_assert!(until <= WallTime::from_unix_secs(bound));
            // At most `skew` early, once the grid is rounded up.
            prop_assert!(until + Duration::from_secs(290 + 100) >= now + bucket.ttl());
        }
    }
}
