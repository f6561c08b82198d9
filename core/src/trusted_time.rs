//! What the date is, judged from a wall clock that may be wrong, stopped or stepped, and from evidence.
//!
//! Whoever forgets by date must never be talked into an earlier one, and must not forget everything because a clock
//! leapt. [`TrustedTime`] therefore never goes back, follows the wall clock only while that stays near the time that
//! the monotonic clock predicts, and is moved forward at once by evidence (a document that k directory authorities
//! signed). It performs no I/O: the caller persists [`TrustedTime::highest`] and hands it back at the next start.
//! Spec: SPEC §6.6.

use std::ops::Range;
use std::time::Duration;

use crate::units::{Instant, WallTime};

/// How far a wall clock is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeLimits {
    /// A wall clock this far ahead of the prediction is followed; further ahead it is refused.
    pub ahead: Duration,
    /// A wall clock this far behind the prediction is followed (the time then stands still until it is no longer
    /// behind what was believed before); further behind it is refused and the monotonic clock is followed.
    pub behind: Duration,
    /// At a start, the wall clock may be this far ahead of the highest time persisted: how long a peer may be off.
    pub downtime: Duration,
    /// How often the prediction is anchored anew while both clocks agree; bounds how fast a clock may creep ahead.
    pub anchor: Duration,
}

impl Default for TimeLimits {
    /// 1 h ahead, 10 min behind, 90 days off, anchored hourly.
    fn default() -> Self {
        Self {
            ahead: Duration::from_secs(3_600),
            behind: Duration::from_secs(600),
            downtime: Duration::from_secs(90 * 86_400),
            anchor: Duration::from_secs(3_600),
        }
    }
}

/// Why a wall clock is not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClockFault {
    /// It leapt further ahead than is believed.
    Ahead,
    /// It was set back, or stands still, or runs far too slowly.
    Behind,
}

/// One judgement of the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The time to judge by. Never earlier than any reading before it.
    pub time: WallTime,
    /// Whether, and why, the wall clock was not followed.
    pub fault: Option<ClockFault>,
    /// Whether that is news: the fault of the reading before was another one.
    pub news: bool,
}

/// The judge. See the module.
#[derive(Clone, Debug)]
pub struct TrustedTime {
    limits: TimeLimits,
    highest: WallTime,
    anchor: Option<(Instant, WallTime)>,
    fault: Option<ClockFault>,
}

impl TrustedTime {
    /// Starts from the highest time persisted in an earlier run; `None` if there was none, and then the first reading
    /// of the wall clock is believed whatever it is.
    pub const fn new(limits: TimeLimits, persisted: Option<WallTime>) -> Self {
        let highest = match persisted {
            Some(time) => time,
            None => WallTime::UNIX_EPOCH,
        };
        Self {
            limits,
            highest,
            anchor: None,
            fault: None,
        }
    }

    /// The latest time ever believed: what is to be persisted.
    pub const fn highest(&self) -> WallTime {
        self.highest
    }

    /// Judges the time from both clocks.
    pub fn observe(&mut self, now: Instant, wall: WallTime) -> Reading {
        let (time, fault) = match self.anchor {
            None => self.first(now, wall),
            Some((at, then)) => {
                let elapsed = now.saturating_since(at);
                let expected = then + elapsed;
                if wall > expected + self.limits.ahead {
                    (expected, Some(ClockFault::Ahead))
                } else if wall + self.limits.behind < expected {
                    (expected, Some(ClockFault::Behind))
                } else {
                    if elapsed >= self.limits.anchor {
                        self.anchor = Some((now, wall));
                    }
                    (wall, None)
                }
            }
        };
        self.highest = self.highest.max(time);
        let news = fault != self.fault;
        self.fault = fault;
        Reading {
            time: self.highest,
            fault,
            news,
        }
    }

    /// The first reading of a run: there is nothing to predict from but the highest time persisted.
    fn first(&mut self, now: Instant, wall: WallTime) -> (WallTime, Option<ClockFault>) {
        let fresh = self.highest == WallTime::UNIX_EPOCH;
        let fault = if fresh {
            None
        } else if wall > self.highest + self.limits.downtime {
            Some(ClockFault::Ahead)
        } else if wall + self.limits.behind < self.highest {
            Some(ClockFault::Behind)
        } else {
            None
        };
        let time = if fault.is_none() { wall } else { self.highest };
        self.anchor = Some((now, time.max(self.highest)));
        (time, fault)
    }

    /// Takes evidence that it is not earlier than `between` begins, and hardly later than it ends. The time moves forward to its
    /// beginning; a wall clock that was refused for a leap ahead and shows a time between the two is followed from now on: it was the
    /// monotonic clock that stood still, as where a machine sleeps.
    pub fn witness(&mut self, now: Instant, wall: WallTime, between: Range<WallTime>) {
        let expected = self.anchor.map(|(then, time)| time + now.saturating_since(then));
        let leapt = expected.is_some_and(|expected| wall > expected + self.limits.ahead);
        let at = if leapt && between.contains(&wall) {
            wall
        } else {
            between.start
        };
        if at > self.highest {
            self.highest = at;
            if expected.is_none_or(|expected| at > expected) {
                self.anchor = Some((now, at));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: u64 = 1_800_000_000;

    fn at(secs: u64) -> (Instant, WallTime) {
        (
            Instant::ZERO + Duration::from_secs(secs),
            WallTime::from_unix_secs(START + secs),
        )
    }

    fn judge() -> TrustedTime {
        let mut judge = TrustedTime::new(TimeLimits::default(), None);
        let (now, wall) = at(0);
        assert_eq!(
            judge.observe(now, wall),
            Reading {
                time: wall,
                fault: None,
                news: false
            }
        );
        judge
    }

    #[test]
    fn a_sound_clock_is_followed() {
        let mut judge = judge();
        for secs in [1, 60, 4_000, 90_000] {
            let (now, wall) = at(secs);
            assert_eq!(
                judge.observe(now, wall),
                Reading {
                    time: wall,
                    fault: None,
                    news: false
                }
            );
        }
    }

    #[test]
    fn a_clock_set_back_revives_nothing_and_time_goes_on() {
        let mut judge = judge();
        let reading = judge.observe(at(5_000).0, WallTime::from_unix_secs(START - 86_400));
        assert_eq!(
            reading,
            Reading {
                time: at(5_000).1,
                fault: Some(ClockFault::Behind),
                news: true
            }
        );
        let reading = judge.observe(at(6_000).0, WallTime::from_unix_secs(START - 85_400));
        assert_eq!(
            reading,
            Reading {
                time: at(6_000).1,
                fault: Some(ClockFault::Behind),
                news: false
            }
        );
    }

    #[test]
    fn a_stopped_clock_is_found_out_within_its_limit() {
        let mut judge = judge();
        let stopped = at(10).1;
        assert_eq!(judge.observe(at(500).0, stopped).fault, None);
        assert_eq!(judge.observe(at(611).0, stopped).fault, Some(ClockFault::Behind));
        assert_eq!(judge.observe(at(612).0, stopped).time, at(612).1);
    }

    #[test]
    fn a_small_step_back_holds_time_until_the_clock_catches_up() {
        let mut judge = judge();
        assert_eq!(judge.observe(at(100).0, at(160).1).time, at(160).1);
        assert_eq!(judge.observe(at(120).0, at(120).1).time, at(160).1);
        assert_eq!(judge.observe(at(170).0, at(170).1).time, at(170).1);
    }

    #[test]
    fn a_leap_ahead_is_refused_until_it_is_undone() {
        let mut judge = judge();
        let reading = judge.observe(at(10).0, WallTime::from_unix_secs(START + 365 * 86_400));
        assert_eq!(
            reading,
            Reading {
                time: at(10).1,
                fault: Some(ClockFault::Ahead),
                news: true
            }
        );
        assert_eq!(
            judge.observe(at(20).0, at(20).1),
            Reading {
                time: at(20).1,
                fault: None,
                news: true
            }
        );
    }

    #[test]
    fn many_small_leaps_do_not_add_up_to_a_large_one() {
        let mut judge = judge();
        let mut wall = WallTime::from_unix_secs(START);
        for secs in 1..3_000 {
            wall = wall + Duration::from_secs(600);
            let _ = judge.observe(at(secs).0, wall);
        }
        assert!(judge.highest() <= at(3_000 + 3_600).1);
    }

    #[test]
    fn the_highest_time_survives_a_restart() {
        let persisted = at(50_000).1;
        let mut judge = TrustedTime::new(TimeLimits::default(), Some(persisted));
        let reading = judge.observe(Instant::ZERO, WallTime::from_unix_secs(START));
        assert_eq!(
            reading,
            Reading {
                time: persisted,
                fault: Some(ClockFault::Behind),
                news: true
            }
        );
        let mut judge = TrustedTime::new(TimeLimits::default(), Some(persisted));
        let years = WallTime::from_unix_secs(START + 3 * 365 * 86_400);
        assert_eq!(judge.observe(Instant::ZERO, years).time, persisted);
    }

    #[test]
    fn evidence_corrects_a_refused_clock() {
        let mut judge = TrustedTime::new(TimeLimits::default(), Some(at(0).1));
        let year = 365 * 86_400;
        assert_eq!(
            judge.observe(Instant::ZERO, at(year).1).fault,
            Some(ClockFault::Ahead)
        );
        let wall = at(year + 1).1;
        judge.witness(at(1).0, wall, at(year - 600).1..at(year - 600).1);
        let reading = judge.observe(at(1).0, at(year + 1).1);
        assert_eq!((reading.time, reading.fault), (at(year + 1).1, None));
    }

    /// A laptop that slept for five hours: its monotonic clock did too.
    #[test]
    fn a_clock_that_went_on_while_the_machine_slept_is_followed_as_soon_as_evidence_agrees() {
        const HOUR: u64 = 3_600;
        let (now, wall) = (at(60).0, at(5 * HOUR).1);
        for (evidence, followed) in [
            (5 * HOUR - 5_000..5 * HOUR + 2_200, true),
            // An older document, or one of another day, says nothing for it.
            (3 * HOUR..5 * HOUR, false),
            (29 * HOUR..31 * HOUR, false),
        ] {
            let mut judge = judge();
            assert_eq!(judge.observe(now, wall).fault, Some(ClockFault::Ahead));
            let between = at(evidence.start).1..at(evidence.end).1;
            judge.witness(now, wall, between.clone());
            let time = if followed { wall } else { between.start };
            assert_eq!(judge.highest(), time, "{evidence:?}");
            let later = (at(70).0, wall + Duration::from_secs(10));
            let reading = judge.observe(later.0, later.1);
            assert_eq!(reading.fault.is_none(), followed, "{evidence:?}");
        }
    }

    proptest! {
        #[test]
        fn time_never_goes_back(steps in proptest::collection::vec((0u64..10_000, 0u64..4_000_000_000, any::<bool>()), 1..60)) {
            let mut judge = TrustedTime::new(TimeLimits::default(), None);
            let (mut now, mut last) = (Instant::ZERO, WallTime::UNIX_EPOCH);
            for (elapsed, wall, witness) in steps {
                now += Duration::from_secs(elapsed);
                if witness {
                    let at = WallTime::from_unix_secs(wall);
                    judge.witness(now, at, at..at + Duration::from_secs(elapsed));
                }
                let reading = judge.observe(now, WallTime::from_unix_secs(wall));
                prop_assert!(reading.time >= last);
                last = reading.time;
            }
        }
    }
}
