//! When a program that died is started again: a policy that is told the time.

use std::time::Duration;

/// How patient to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestartConfig {
    /// The first pause; each next one is twice as long. Default: 1 s, so that a crash costs a user hardly more than the
    /// dial that met it.
    pub pause_min: Duration,
    /// The longest pause. Default: 60 s, so that a program that is mended meanwhile is soon found.
    pub pause_max: Duration,
    /// A program that lived so long begins anew, whatever ended it. Default: 60 s.
    pub settled: Duration,
    /// So many deaths in a row, none of them after having settled, and it is given up. Default: 12, about 8 minutes.
    pub deaths_max: u32,
}

impl Default for RestartConfig {
    fn default() -> Self {
        Self {
            pause_min: Duration::from_secs(1),
            pause_max: Duration::from_secs(60),
            settled: Duration::from_secs(60),
            deaths_max: 12,
        }
    }
}

/// What to do about a death.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Start it again then, on the clock of `now`.
    RestartAt(Duration),
    /// Leave it.
    GiveUp,
}

/// Counts deaths.
#[derive(Clone, Debug)]
pub struct Restarts {
    config: RestartConfig,
    in_a_row: u32,
}

impl Restarts {
    /// None yet.
    pub const fn new(config: RestartConfig) -> Self {
        Self { config, in_a_row: 0 }
    }

    /// It died at `now`, on any clock that only goes forward, having been started at `started`.
    pub fn died(&mut self, started: Duration, now: Duration) -> Decision {
        if now.saturating_sub(started) >= self.config.settled {
            self.in_a_row = 0;
        }
        self.in_a_row = self.in_a_row.saturating_add(1);
        if self.in_a_row >= self.config.deaths_max {
            return Decision::GiveUp;
        }
        let doublings = (self.in_a_row - 1).min(16);
        let pause = self.config.pause_min.saturating_mul(1 << doublings);
        Decision::RestartAt(now.saturating_add(pause.min(self.config.pause_max)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn pauses_double_up_to_their_bound_and_then_it_is_given_up() {
        let mut restarts = Restarts::new(RestartConfig::default());
        let mut now = Duration::ZERO;
        let mut pauses = Vec::new();
        while let Decision::RestartAt(at) = restarts.died(now, now) {
            pauses.push((at - now).as_secs());
            now = at;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60, 60, 60]);
    }

    #[test]
    fn one_that_lived_long_begins_anew() {
        let mut restarts = Restarts::new(RestartConfig::default());
        for _ in 0..5 {
            restarts.died(SECOND, SECOND);
        }
        assert_eq!(
            restarts.died(SECOND, 61 * SECOND),
            Decision::RestartAt(62 * SECOND)
        );
    }

    proptest! {
        #[test]
        fn a_restart_is_never_before_its_death(lives in prop::collection::vec((any::<u32>(), any::<u32>()), 0..40)) {
            let config = RestartConfig { deaths_max: u32::MAX, ..RestartConfig::default() };
            let mut restarts = Restarts::new(config);
            let mut now = Duration::ZERO;
            for (lived, idle) in lives {
                let started = now + Duration::from_millis(idle.into());
                now = started + Duration::from_millis(lived.into());
                let Decision::RestartAt(at) = restarts.died(started, now) else { panic!("given up") };
                prop_assert!(at >= now + SECOND && at <= now + 60 * SECOND);
            }
        }
    }
}
