//! Quantities with their unit in the type: time, rates, sizes, probabilities.
//!
//! Time is whole nanoseconds in `u64`, so that it is the same on every platform; nothing here is floating point
//! except [`Probability`], which never enters a digest as such.

use std::fmt;
use std::ops::{Add, AddAssign, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A point on a peer's monotonic clock: nanoseconds since its runtime started. Never steps back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Instant(u64);

impl Instant {
    /// The start of the run.
    pub const ZERO: Self = Self(0);
    /// Later than any instant that is reached.
    pub const FAR_FUTURE: Self = Self(u64::MAX);

    /// The instant `nanos` after the start of the run.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the start of the run.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Time passed since the start of the run.
    pub const fn since_start(self) -> Duration {
        Duration::from_nanos(self.0)
    }

    /// Time from `earlier` to `self`, zero if `earlier` is later.
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Instant {
    type Output = Self;
    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(nanos(by)))
    }
}

impl AddAssign<Duration> for Instant {
    fn add_assign(&mut self, by: Duration) {
        *self = *self + by;
    }
}

impl Sub<Duration> for Instant {
    type Output = Self;
    fn sub(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(by)))
    }
}

impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:09}s", self.0 / 1_000_000_000, self.0 % 1_000_000_000)
    }
}

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}.{:03} s",
            self.0 / 1_000_000_000,
            self.0 / 1_000_000 % 1_000
        )
    }
}

/// A reading of a peer's wall clock: nanoseconds since 1970-01-01 UTC. It may be skewed and may step either way.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct WallTime(u64);

impl WallTime {
    /// 1970-01-01 00:00 UTC.
    pub const UNIX_EPOCH: Self = Self(0);

    /// `secs` seconds after 1970-01-01 UTC.
    pub const fn from_unix_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1_000_000_000))
    }

    /// `nanos` nanoseconds after 1970-01-01 UTC.
    pub const fn from_unix_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Whole seconds since 1970-01-01 UTC, rounded down.
    pub const fn as_unix_secs(self) -> u64 {
        self.0 / 1_000_000_000
    }

    /// Nanoseconds since 1970-01-01 UTC.
    pub const fn as_unix_nanos(self) -> u64 {
        self.0
    }

    /// Time from `earlier` to `self`, zero if `earlier` is later.
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for WallTime {
    type Output = Self;
    fn add(self, by: Duration) -> Self {
        Self(self.0.saturating_add(nanos(by)))
    }
}

impl Sub<Duration> for WallTime {
    type Output = Self;
    fn sub(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(nanos(by)))
    }
}

impl fmt::Debug for WallTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "unix {}.{:03}s",
            self.0 / 1_000_000_000,
            self.0 / 1_000_000 % 1_000
        )
    }
}

fn nanos(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct ByteCount(pub u64);

/// A rate in bits per second; never zero, so that a transfer always ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BitRate(std::num::NonZeroU64);

impl BitRate {
    /// `bits_per_second`, or `None` for zero.
    pub const fn new(bits_per_second: u64) -> Option<Self> {
        match std::num::NonZeroU64::new(bits_per_second) {
            Some(rate) => Some(Self(rate)),
            None => None,
        }
    }

    /// Bits per second.
    pub const fn bits_per_second(self) -> u64 {
        self.0.get()
    }

    /// How long `bytes` occupy a link of this rate, rounded up to a nanosecond.
    pub const fn time_for(self, bytes: u64) -> Duration {
        let bits = bytes as u128 * 8 * 1_000_000_000;
        let nanos = bits.div_ceil(self.0.get() as u128);
        Duration::from_nanos(if nanos > u64::MAX as u128 {
            u64::MAX
        } else {
            nanos as u64
        })
    }
}

/// A probability in \[0, 1\].
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Probability(f64);

impl Probability {
    /// Never.
    pub const ZERO: Self = Self(0.0);
    /// Always.
    pub const ONE: Self = Self(1.0);

    /// `p`, or `None` when it is outside \[0, 1\] or not a number.
    pub fn new(p: f64) -> Option<Self> {
        (0.0..=1.0).contains(&p).then_some(Self(p))
    }

    /// The value in \[0, 1\].
    pub const fn get(self) -> f64 {
        self.0
    }

    /// Whether an event of this probability happens, given 64 uniformly random bits.
    ///
    /// Compares 53 bits exactly, so that the answer is the same on every platform.
    pub fn happens(self, random: u64) -> bool {
        // 2^53: both sides are exact in f64.
        let drawn = (random >> 11) as f64 / 9_007_199_254_740_992.0;
        drawn < self.0
    }
}

impl TryFrom<f64> for Probability {
    type Error = String;
    fn try_from(p: f64) -> Result<Self, String> {
        Self::new(p).ok_or_else(|| format!("a probability is between 0 and 1, not {p}"))
    }
}

impl From<Probability> for f64 {
    fn from(p: Probability) -> Self {
        p.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_occupied_for_the_time_its_rate_says() {
        let rate = BitRate::new(100_000_000).expect("not zero");
        assert_eq!(rate.time_for(1_024), Duration::from_nanos(81_920));
        assert_eq!(
            BitRate::new(3).expect("not zero").time_for(1),
            Duration::from_nanos(2_666_666_667)
        );
        assert_eq!(BitRate::new(0), None);
    }

    #[test]
    fn time_saturates_instead_of_wrapping() {
        assert_eq!(Instant::FAR_FUTURE + Duration::from_secs(1), Instant::FAR_FUTURE);
        assert_eq!(Instant::ZERO - Duration::from_secs(1), Instant::ZERO);
        assert_eq!(
            Instant::ZERO.saturating_since(Instant::from_nanos(5)),
            Duration::ZERO
        );
        assert_eq!(
            WallTime::from_unix_secs(u64::MAX) + Duration::MAX,
            WallTime::from_unix_nanos(u64::MAX)
        );
    }

    #[test]
    fn a_probability_is_refused_outside_its_range() {
        assert!(Probability::new(1.5).is_none());
        assert!(Probability::new(f64::NAN).is_none());
        assert!(!Probability::ZERO.happens(0));
        assert!(Probability::ONE.happens(u64::MAX));
    }
}
