//! How soon a client asks again: at once while bytes flow, then slower and slower.

use std::time::Duration;

/// The first wait after a quiet answer.
pub const FIRST: Duration = Duration::from_millis(100);
/// The longest.
pub const LAST: Duration = Duration::from_secs(5);

/// The wait before the next request, as meek_lite counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace(Duration);

impl Default for Pace {
    fn default() -> Self {
        Self(FIRST)
    }
}

impl Pace {
    /// How long to wait for bytes of the user's.
    pub const fn wait(self) -> Duration {
        self.0
    }

    /// After a request with `sent` bytes whose answer had `received`.
    #[must_use]
    pub fn after(self, sent: usize, received: usize) -> Self {
        Self(if sent > 0 || received > 0 {
            Duration::ZERO
        } else if self.0.is_zero() {
            FIRST
        } else {
            (self.0 * 3 / 2).min(LAST)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn polls_begin_at_100_ms_grow_by_half_and_end_at_5_s() {
        let mut pace = Pace::default();
        let mut waits = Vec::new();
        for _ in 0..12 {
            waits.push(pace.wait().as_millis());
            pace = pace.after(0, 0);
        }
        assert_eq!(
            waits,
            [
                100, 150, 225, 337, 506, 759, 1_139, 1_708, 2_562, 3_844, 5_000, 5_000
            ]
        );
    }

    #[test]
    fn a_byte_either_way_makes_the_next_poll_immediate_and_the_one_after_that_100_ms() {
        for (sent, received) in [(1, 0), (0, 1)] {
            let busy = Pace(LAST).after(sent, received);
            assert_eq!(busy.wait(), Duration::ZERO);
            assert_eq!(busy.after(0, 0).wait(), FIRST);
        }
    }
}
