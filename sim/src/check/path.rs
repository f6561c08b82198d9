//! For how long a client has had an open path: the clock behind "stranded" and "lost".
//!
//! The oracle's judgement flaps where a way in depends on friends, who count as connected for 30 s after a round trip. An
//! interruption that is over within a minute stops the clock and does not set it back; else whoever has a path for 59 of
//! every 60 seconds could never be called stranded.

use std::time::Duration;

use phantom_core::units::Instant;

/// An interruption as long as this sets the clock back.
pub const INTERRUPTION: Duration = Duration::from_secs(60);

/// The clock of one client.
#[derive(Clone, Debug, Default)]
pub struct Path {
    /// When this spell began; `None` before the first.
    since: Option<Instant>,
    /// Since when the path is closed, if it is.
    closed: Option<Instant>,
    /// The interruptions of this spell: from, until, and the length of all up to here.
    pauses: Vec<(Instant, Instant, Duration)>,
}

impl Path {
    /// The oracle says whether the path is open from `now` on.
    pub fn set(&mut self, now: Instant, open: bool) {
        match (open, self.since, self.closed) {
            (false, Some(_), None) => self.closed = Some(now),
            (true, Some(_), Some(closed)) if now.saturating_since(closed) < INTERRUPTION => {
                let before = self.pauses.last().map_or(Duration::ZERO, |pause| pause.2);
                self.pauses
                    .push((closed, now, before + now.saturating_since(closed)));
                self.closed = None;
            }
            (true, Some(_), None) | (false, ..) => {}
            (true, ..) => {
                *self = Self {
                    since: Some(now),
                    ..Self::default()
                }
            }
        }
    }

    /// Whether it is open now.
    pub const fn is_open(&self) -> bool {
        self.since.is_some() && self.closed.is_none()
    }

    /// For how long the path was open between `from` and `now`, in the spell that lasts at `now`.
    pub fn open_for(&self, from: Instant, now: Instant) -> Duration {
        let Some(since) = self.since else {
            return Duration::ZERO;
        };
        let until = match self.closed {
            Some(closed) if now.saturating_since(closed) >= INTERRUPTION => return Duration::ZERO,
            Some(closed) => closed,
            None => now,
        };
        let from = from.max(since);
        until
            .saturating_since(from)
            .saturating_sub(self.paused_since(from))
    }

    /// How much of the interruptions lies after `from`.
    fn paused_since(&self, from: Instant) -> Duration {
        let first = self.pauses.partition_point(|(_, until, _)| *until <= from);
        let Some(last) = self.pauses.last().filter(|_| first < self.pauses.len()) else {
            return Duration::ZERO;
        };
        let (begins, ..) = self.pauses[first];
        let before = first.checked_sub(1).map_or(Duration::ZERO, |n| self.pauses[n].2);
        (last.2 - before).saturating_sub(from.saturating_since(begins))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(secs)
    }

    /// A path that opens and closes by turns, and for how long it was open from `from` to `now`.
    fn open_for(turns: &[u64], from: u64, now: u64) -> u64 {
        let mut path = Path::default();
        for (n, turn) in turns.iter().enumerate() {
            path.set(at(*turn), n % 2 == 0);
        }
        path.open_for(at(from), at(now)).as_secs()
    }

    #[test]
    fn a_short_interruption_stops_the_clock_and_a_long_one_sets_it_back() {
        assert_eq!(open_for(&[], 0, 500), 0);
        assert_eq!(open_for(&[100], 0, 500), 400);
        assert_eq!(open_for(&[100, 200, 259], 0, 500), 341);
        assert_eq!(open_for(&[100, 200, 260], 0, 500), 240);
    }

    #[test]
    fn the_clock_stands_while_a_path_is_closed_until_that_has_lasted() {
        assert_eq!(open_for(&[100, 200], 0, 200), 100);
        assert_eq!(open_for(&[100, 200], 0, 259), 100);
        assert_eq!(open_for(&[100, 200], 0, 260), 0);
    }

    #[test]
    fn only_interruptions_after_the_start_count() {
        let flapping = [0, 50, 60, 150, 160, 250, 260];
        assert_eq!(open_for(&flapping, 0, 300), 270);
        assert_eq!(open_for(&flapping, 60, 300), 220);
        assert_eq!(open_for(&flapping, 155, 300), 130, "from within an interruption");
        assert_eq!(open_for(&flapping, 270, 300), 30);
        assert_eq!(open_for(&flapping, 400, 300), 0);
    }

    #[test]
    fn to_be_told_the_same_twice_changes_nothing() {
        let mut path = Path::default();
        for (secs, open) in [
            (5, false),
            (10, true),
            (20, true),
            (30, false),
            (40, false),
            (50, true),
        ] {
            path.set(at(secs), open);
        }
        assert!(path.is_open());
        assert_eq!(path.open_for(at(0), at(60)), Duration::from_secs(30));
    }
}
