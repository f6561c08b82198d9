//! A host's wall clock: the run's epoch, plus monotonic time, plus its offset, plus its steps.

use phantom_core::units::{Instant, WallTime};

/// 2026-01-01 00:00 UTC: the date at which a run starts unless its scenario says otherwise. A constant, so that two runs
/// of one seed agree.
pub const EPOCH_DEFAULT: WallTime = WallTime::from_unix_secs(1_767_225_600);

/// How one host's date relates to simulated time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wall {
    /// The date at the start of the run, for everybody.
    pub epoch: WallTime,
    /// Nanoseconds that this host's clock is ahead (or behind, if negative) from the start.
    pub offset_ns: i64,
    /// Instants at which it steps, and by how many nanoseconds, in order of time.
    steps: Vec<(Instant, i64)>,
}

impl Default for Wall {
    fn default() -> Self {
        Self::new(EPOCH_DEFAULT)
    }
}

impl Wall {
    /// A correct clock.
    pub const fn new(epoch: WallTime) -> Self {
        Self {
            epoch,
            offset_ns: 0,
            steps: Vec::new(),
        }
    }

    /// Adds a step by `by_ns` nanoseconds at `at`, backwards if negative.
    pub fn step(&mut self, at: Instant, by_ns: i64) {
        let place = self.steps.partition_point(|(instant, _)| *instant <= at);
        self.steps.insert(place, (at, by_ns));
    }

    /// What the clock shows at `now`; never before 1970.
    pub fn read(&self, now: Instant) -> WallTime {
        let stepped: i128 = self
            .steps
            .iter()
            .take_while(|(at, _)| *at <= now)
            .map(|(_, by)| i128::from(*by))
            .sum();
        let elapsed = i128::from(now.as_nanos());
        let shown = i128::from(self.epoch.as_unix_nanos()) + elapsed + i128::from(self.offset_ns) + stepped;
        WallTime::from_unix_nanos(u64::try_from(shown.max(0)).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_clock_is_off_and_steps_both_ways() {
        let at = |secs: u64| Instant::ZERO + Duration::from_secs(secs);
        let mut wall = Wall::new(WallTime::from_unix_secs(1_000));
        wall.offset_ns = -2_000_000_000;
        wall.step(at(50), -10_000_000_000);
        wall.step(at(20), 5_000_000_000);
        assert_eq!(wall.read(at(10)), WallTime::from_unix_secs(1_008));
        assert_eq!(wall.read(at(20)), WallTime::from_unix_secs(1_023));
        assert_eq!(wall.read(at(50)), WallTime::from_unix_secs(1_043));
    }

    #[test]
    fn a_clock_never_wraps() {
        let mut wall = Wall::new(WallTime::from_unix_secs(1));
        wall.offset_ns = i64::MIN;
        assert_eq!(wall.read(Instant::ZERO), WallTime::UNIX_EPOCH);
        wall.offset_ns = i64::MAX;
        assert!(wall.read(Instant::FAR_FUTURE) > WallTime::from_unix_secs(1));
    }
}
