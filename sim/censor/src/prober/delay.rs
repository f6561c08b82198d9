//! How long a prober waits, as shares of its probes that came within a time.
//!
//! Alice et al., IMC 2020, §3.5: of the first replays of a payload more than 20 % came within a second, more than 50 % within a
//! minute and more than 75 % within a quarter of an hour; the least delay was 0.28 s. Between two such points every time is
//! as likely as any other, which is a simplification: the paper's curve is smooth over a logarithmic axis.

use phantom_path::dice::Dice;

use super::config::ConfigError;
use crate::engine::rule::ALWAYS;

/// A distribution of delays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delay {
    /// The least, in nanoseconds.
    pub min_ns: u64,
    /// Shares, in parts of 2^32, and the time within which so many come, in nanoseconds. Both ascend; the last share is
    /// [`ALWAYS`].
    pub within: Vec<(u64, u64)>,
}

const SECOND: u64 = 1_000_000_000;

impl Default for Delay {
    fn default() -> Self {
        let percent = |share: u64| share * ALWAYS / 100;
        Self {
            min_ns: 280_000_000,
            within: vec![
                (percent(20), SECOND),
                (percent(50), 60 * SECOND),
                (percent(75), 900 * SECOND),
                // A guess: the text has no end for first replays; that of all replays was 570 h.
                (ALWAYS, 36_000 * SECOND),
            ],
        }
    }
}

impl Delay {
    /// Any time from `min_ns` to `max_ns`, each as likely.
    pub fn between(min_ns: u64, max_ns: u64) -> Self {
        Self {
            min_ns,
            within: vec![(ALWAYS, max_ns)],
        }
    }

    /// The next delay, in nanoseconds.
    pub fn draw(&self, dice: &mut Dice) -> u64 {
        let part = dice.draw() >> 32;
        let mut from = (0, self.min_ns);
        for &(share, ns) in &self.within {
            if part < share {
                let (of, span) = (share - from.0, ns.saturating_sub(from.1));
                let along = u128::from(part - from.0) * u128::from(span) / u128::from(of.max(1));
                return from.1.saturating_add(u64::try_from(along).unwrap_or(span));
            }
            from = (share, ns);
        }
        from.1
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let mut from = (0, self.min_ns);
        for &(share, ns) in &self.within {
            if share <= from.0 || ns < from.1 {
                return Err(ConfigError::DelayOrder);
            }
            from = (share, ns);
        }
        if from.0 == ALWAYS {
            Ok(())
        } else {
            Err(ConfigError::DelayEnd)
        }
    }
}
