//! Judging the path in use: a doubt, a second path to settle it, a verdict.

use std::time::Duration;

use phantom_core::event::{PathReason as Why, PathVerdict as Verdict};
use phantom_core::units::Instant;
use rand_core::Rng;

use super::state::{Comparison, Doubt, Doubted, Limping, Path, Second, Session, State};
use super::words::Output;
use super::{Cause, Rotation};
use crate::flow::Amount;
use crate::memory::weights_of;
use crate::path::{Direction, PathId};

/// A kind that was compared lately goes last, so that the next doubt asks another.
pub(super) const COMPARED_LATELY: Duration = Duration::from_secs(600);
/// Dismissals are forgotten after this, if no doubt came up.
const DISMISSED_AGE_MAX: Duration = Duration::from_secs(20 * 60);

/// What two paths showed in one comparison.
struct Evidence {
    /// Bytes per second of the path in use.
    first: u64,
    /// The second one moved so much more that a shared link does not explain it.
    faster: bool,
    /// The one in use is still far below what it was.
    slow: bool,
    /// It is not any more.
    recovered: bool,
}

impl<G: Rng> Rotation<G> {
    /// How long a path has been silent with data queued.
    pub(super) fn silence(&self, id: PathId) -> Duration {
        self.path(id)
            .map_or(Duration::ZERO, |path| path.silence(&self.config, self.now))
    }

    pub(super) fn steady_step(&mut self, session: Session) {
        let silence = self.silence(session.path);
        let slow = self
            .path(session.path)
            .and_then(|path| path.slow(&self.config, self.now));
        if silence >= self.config.silence_doubt {
            self.found(session.path, Verdict::MaybeFrozen);
            self.doubt(session, Doubted::Silent);
        } else if let Some((direction, slow)) = slow.filter(|_| self.now >= self.next_doubt) {
            self.found(session.path, Verdict::MaybeThrottled);
            let rate = slow.rate;
            self.doubt(session, Doubted::Slow { direction, rate });
        } else if slow.is_none() {
            self.begin_trial(session);
        }
    }

    fn doubt(&mut self, session: Session, of: Doubted) {
        if self.now.saturating_since(self.next_doubt) > DISMISSED_AGE_MAX {
            self.dismissed = 0;
        }
        self.state = State::Doubting(
            session,
            Doubt {
                began: self.now,
                of,
                second: Second::None,
                seconds: 0,
            },
        );
    }

    pub(super) fn doubt_step(&mut self) {
        let State::Doubting(session, mut doubt) = self.state else {
            return;
        };
        let silence = self.silence(session.path);
        if matches!(doubt.of, Doubted::Slow { .. }) && silence >= self.config.silence_doubt {
            doubt.of = Doubted::Silent;
            self.found(session.path, Verdict::MaybeFrozen);
        }
        if matches!(doubt.of, Doubted::Silent) {
            if silence < self.config.silence_doubt {
                return self.dismiss(session, doubt, Verdict::Recovered);
            }
            if silence >= self.config.silence_verdict {
                return self.silent(session, doubt);
            }
        }
        if let Second::Sharing(second, _) = doubt.second
            && self.silence(second) >= self.config.silence_doubt
        {
            // What was moved to it goes back to the path in use.
            self.doom_second(second);
            doubt.second = Second::None;
        }
        let races = self.race_at(&doubt).is_some_and(|at| at <= self.now);
        if (matches!(doubt.second, Second::None) || races) && doubt.seconds < self.config.seconds_max {
            if self.may_dial_second() {
                self.pending.push_back(Output::Survey);
                doubt.second = Second::Asked;
                doubt.seconds += 1;
            } else if races {
                doubt.seconds = self.config.seconds_max;
            }
        }
        self.state = State::Doubting(session, doubt);
        let Doubted::Slow { direction, rate } = doubt.of else {
            return;
        };
        let late = self.now >= doubt.began + self.config.doubt_limit;
        match doubt.second {
            Second::None => self.dismiss(session, doubt, Verdict::Undecided),
            _ if late => self.dismiss(session, doubt, Verdict::Undecided),
            Second::Asked | Second::Dialling(..) => {}
            Second::Sharing(second, comparison) => {
                self.compare(session, doubt, second, comparison, direction, rate);
            }
        }
    }

    /// When another second path is dialled beside those that have not connected, if at all.
    pub(super) fn race_at(&self, doubt: &Doubt) -> Option<Instant> {
        match (doubt.second, doubt.of) {
            (Second::Dialling(_, at), Doubted::Slow { .. }) if doubt.seconds < self.config.seconds_max => at,
            _ => None,
        }
    }

    /// The driver said what there is.
    pub(super) fn dial_for_doubt(&mut self, session: Session, mut doubt: Doubt) {
        let races = matches!(doubt.of, Doubted::Slow { .. }).then(|| self.now + self.config.second_step);
        doubt.second = match (self.pick_second(session, doubt.of), self.last_dialled()) {
            (Some(at), _) => Second::Dialling(self.dial_as_second(at), races),
            // Nothing to race with: others only when this one has failed.
            (None, Some(dialled)) if races.is_some() => Second::Dialling(dialled, None),
            (None, _) => {
                // There is nothing: no more questions in this doubt.
                doubt.seconds = self.config.seconds_max;
                Second::None
            }
        };
        self.state = State::Doubting(session, doubt);
    }

    pub(super) fn start_meters(&mut self, first: PathId, second: PathId) {
        let now = self.now;
        for id in [first, second] {
            if let Some(path) = self.path_mut(id) {
                path.flows.iter_mut().for_each(|flow| flow.start_meter(now));
            }
        }
    }

    /// What the path in use moved in one direction, once it had data queued for long enough, and the second one meanwhile. Where that
    /// had too little queued, what it moved is a bound from below: enough to tell that it is faster, and not that it is not.
    fn bounds(&self, first: PathId, second: PathId, direction: Direction) -> Option<(Amount, Amount)> {
        let meter = self.path(first)?.flow(direction).meter();
        let least = self.path(second)?.flow(direction).moved_since_meter(self.now);
        (meter.time >= self.config.compare && least.time >= self.config.compare).then_some((meter, least))
    }

    /// What both moved in one direction, once both had data queued for long enough.
    pub(super) fn meters(
        &self,
        first: PathId,
        second: PathId,
        direction: Direction,
    ) -> Option<(Amount, Amount)> {
        let meter = |id| self.path(id).map(|path| path.flow(direction).meter());
        let (first, second) = (meter(first)?, meter(second)?);
        (first.time >= self.config.compare && second.time >= self.config.compare).then_some((first, second))
    }

    /// What the two show of the direction that is doubted, if both had data queued for long enough; else what they show of the other
    /// one, since a policer holds back both, and what is asked over a path that is held back comes back late, so that little is queued.
    fn evidence(
        &self,
        session: Session,
        second: PathId,
        direction: Direction,
        rate_before: u64,
    ) -> Option<Evidence> {
        let flow = self.path(session.path)?.flow(direction);
        let percent = self.config.faster_percent;
        let measured = self.meters(session.path, second, direction);
        let Some((first, other)) = measured.or_else(|| self.bounds(session.path, second, direction)) else {
            let (first, other) = self.meters(session.path, second, direction.other())?;
            let (first, other) = (first.rate(), other.rate());
            return Some(Evidence {
                first,
                faster: other.saturating_mul(100) >= first.saturating_mul(percent).saturating_mul(2),
                slow: flow.slow(&self.config).is_some(),
                recovered: false,
            });
        };
        let baseline = flow.baseline(&self.config).unwrap_or(0);
        let (first, other) = (first.rate(), other.rate());
        // On a slow link the two share what there is: the second is not faster than the first was alone.
        let held = first.max(rate_before);
        // Where it is slow by the first one's measure too, only a large lead counts: two connections that share what is left
        // of a link may share it unevenly.
        let large = other.saturating_mul(self.config.slow_factor) < baseline;
        let percent = percent.saturating_mul(1 + u64::from(large));
        let evidence = Evidence {
            first,
            faster: other.saturating_mul(100) >= held.saturating_mul(percent),
            // A third, not a quarter: two seconds of a rate just below a quarter are often above it.
            slow: first.saturating_mul(self.config.slow_factor.saturating_sub(1)) < baseline,
            recovered: first.saturating_mul(2) >= baseline,
        };
        // A bound from below tells that the second is faster, and not that it is not: more of its bytes may.
        (measured.is_some() || evidence.faster || evidence.recovered).then_some(evidence)
    }

    /// One comparison, if there is anything to compare.
    fn compare(
        &mut self,
        session: Session,
        doubt: Doubt,
        second: PathId,
        mut comparison: Comparison,
        direction: Direction,
        rate_before: u64,
    ) {
        let Some(evidence) = self.evidence(session, second, direction, rate_before) else {
            return;
        };
        if evidence.recovered {
            return self.dismiss(session, doubt, Verdict::Recovered);
        }
        let first = evidence.first;
        // After a burst of loss TCP climbs back slowly, and a fresh connection overtakes it; what is held back does not climb.
        let [last, before_last] = comparison.before;
        let climbs = comparison.done >= 2
            && first > last
            && last > before_last
            && first >= before_last.saturating_mul(2);
        comparison.before = [first, last];
        comparison.done = comparison.done.saturating_add(1);
        comparison.agreed = if evidence.faster && evidence.slow {
            comparison.agreed.saturating_add(1)
        } else {
            0
        };
        let uneven = self
            .path(session.path)
            .is_some_and(|path| path.recovered || path.flow(direction).is_uneven(&self.config));
        let (agree, most) = if uneven {
            (self.config.compares_agree_uneven, self.config.compares_max_uneven)
        } else {
            (self.config.compares_agree, self.config.compares_max)
        };
        let better = self
            .path(session.path)
            .and_then(|path| path.slow(&self.config, self.now));
        let better = better.filter(|(other, _)| uneven && *other != direction);
        let better = better.filter(|(other, _)| {
            let path = self.path(session.path);
            path.is_some_and(|path| !path.recovered && !path.flow(*other).is_uneven(&self.config))
        });
        if comparison.agreed >= agree && !climbs {
            self.throttled(session, doubt, second);
        } else if let Some((direction, slow)) = better {
            // It is slow the other way as well, of which more is known: fewer comparisons decide there.
            let of = Doubted::Slow {
                direction,
                rate: slow.rate,
            };
            self.start_meters(session.path, second);
            let second = Second::Sharing(second, Comparison::default());
            self.state = State::Doubting(session, Doubt { of, second, ..doubt });
        } else if comparison.done >= most {
            self.dismiss(session, doubt, Verdict::NetworkSlow);
        } else {
            self.start_meters(session.path, second);
            let second = Second::Sharing(second, comparison);
            self.state = State::Doubting(session, Doubt { second, ..doubt });
        }
    }

    fn throttled(&mut self, session: Session, doubt: Doubt, second: PathId) {
        self.found(session.path, Verdict::Throttled);
        let Some(path) = self.path(session.path) else {
            return;
        };
        let cause = Cause::Throttled(path.candidate.kind.clone());
        if self.causes.contains(&cause) {
            self.dismiss(session, doubt, Verdict::BestOfTheBad);
        } else {
            self.leave(session, Verdict::Throttled);
            self.adopt(second, Why::Throttled);
            self.close(session.path, false);
        }
    }

    /// Silence for too long. Where a second path is connected the first is left for it. Where none is, it may be the network
    /// that is silent: the first stays while the ladder looks for others, and nothing is held against it unless one of them connects.
    fn silent(&mut self, session: Session, doubt: Doubt) {
        let delivered = self.path(session.path).map_or(0, Path::delivered);
        let (verdict, why) = if delivered > 0 {
            (Verdict::Frozen, Why::Frozen)
        } else {
            (Verdict::Dead, Why::Dead)
        };
        self.found(session.path, verdict);
        if let Second::Sharing(second, _) = doubt.second {
            self.leave(session, verdict);
            self.adopt(second, why);
            if let Some(candidate) = self.path(session.path).map(|path| path.candidate.clone()) {
                self.cut(&candidate, true);
            }
            self.close(session.path, true);
        } else {
            self.remember_left(session);
            self.state = State::Limping(Limping {
                session,
                verdict,
                why,
                delivered,
                since: self.now,
                until: self.now + self.config.limp_max,
            });
            self.pending.push_back(Output::Seek);
        }
    }

    pub(super) fn limping_step(&mut self, limping: Limping) {
        let moved = self.path(limping.session.path).map_or(0, Path::delivered) > limping.delivered;
        if moved {
            self.found(limping.session.path, Verdict::Recovered);
            self.state = State::Steady(limping.session);
            self.pending.push_back(Output::Rest);
        } else if limping.until <= self.now {
            // Without a word: for as long as it is open the host sends on it, and a censor may renew its block.
            self.state = State::Seeking(limping.why);
            self.drop_limping(limping, false);
        }
    }

    /// Closes a path that limps.
    pub(super) fn drop_limping(&mut self, limping: Limping, blamed: bool) {
        if let Some(path) = self.path(limping.session.path) {
            let candidate = path.candidate.clone();
            if blamed {
                self.charge(&candidate, weights_of(limping.verdict), true);
            }
            self.close(limping.session.path, true);
        }
    }

    /// The doubt is over and the path stays in use.
    fn dismiss(&mut self, session: Session, doubt: Doubt, verdict: Verdict) {
        self.found(session.path, verdict);
        if verdict == Verdict::Recovered
            && let Some(path) = self.path_mut(session.path)
        {
            path.recovered = true;
        }
        if let Doubted::Slow { .. } = doubt.of {
            let times = 1 << self.dismissed.min(4);
            self.next_doubt = self.now + self.config.doubt_pause.saturating_mul(times);
            self.dismissed = self.dismissed.saturating_add(1);
        }
        self.state = State::Steady(session);
        // A dial under way ends by itself, so that its fate is known.
        if let Second::Sharing(second, _) = doubt.second {
            self.close(second, false);
        }
    }
}
