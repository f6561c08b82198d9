//! Judging the path in use: a doubt, a second path to settle it, a verdict.

use std::time::Duration;

use phantom_core::event::{PathReason as Why, PathVerdict as Verdict};
use rand_core::Rng;

use super::state::{Comparison, Doubt, Doubted, Limping, Path, Second, Session, State};
use super::words::Output;
use super::{Cause, Rotation};
use crate::flow::{Amount, Flow};
use crate::memory::weights_of;
use crate::path::{Direction, PathId};

/// A kind that was compared lately goes last, so that the next doubt asks another.
pub(super) const COMPARED_LATELY: Duration = Duration::from_secs(600);
/// Dismissals are forgotten after this, if no doubt came up.
const DISMISSED_AGE_MAX: Duration = Duration::from_secs(20 * 60);

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
        if let Second::None = doubt.second
            && doubt.seconds < self.config.seconds_max
            && self.may_dial_second()
        {
            self.pending.push_back(Output::Survey);
            doubt.second = Second::Asked;
            doubt.seconds += 1;
        }
        self.state = State::Doubting(session, doubt);
        let Doubted::Slow { direction, rate } = doubt.of else {
            return;
        };
        let late = self.now >= doubt.began + self.config.doubt_limit;
        match doubt.second {
            Second::None => self.dismiss(session, doubt, Verdict::Undecided),
            _ if late => self.dismiss(session, doubt, Verdict::Undecided),
            Second::Asked | Second::Dialling(_) => {}
            Second::Sharing(second, comparison) => {
                self.compare(session, doubt, second, comparison, direction, rate);
            }
        }
    }

    /// The driver said what there is.
    pub(super) fn dial_for_doubt(&mut self, session: Session, mut doubt: Doubt) {
        doubt.second = match self.pick_second(session, doubt.of) {
            Some(at) => Second::Dialling(self.dial_as_second(at)),
            None => {
                // There is nothing: no more questions in this doubt.
                doubt.seconds = self.config.seconds_max;
                Second::None
            }
        };
        self.state = State::Doubting(session, doubt);
    }

    pub(super) fn start_meters(&mut self, first: PathId, second: PathId) {
        for id in [first, second] {
            if let Some(path) = self.path_mut(id) {
                path.flows.iter_mut().for_each(Flow::start_meter);
            }
        }
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

    /// One comparison, if both paths had data queued for long enough.
    fn compare(
        &mut self,
        session: Session,
        doubt: Doubt,
        second: PathId,
        mut comparison: Comparison,
        direction: Direction,
        rate_before: u64,
    ) {
        let Some((first, other)) = self.meters(session.path, second, direction) else {
            return;
        };
        let baseline = self
            .path(session.path)
            .and_then(|path| path.flow(direction).baseline(&self.config))
            .unwrap_or(0);
        let (first, other) = (first.rate(), other.rate());
        if first.saturating_mul(2) >= baseline {
            return self.dismiss(session, doubt, Verdict::Recovered);
        }
        // On a slow link the two share what there is: the second is not faster than the first was alone.
        let held = first.max(rate_before);
        // Where it is slow by the first one's measure too, only a large lead counts: two connections that share what is left
        // of a link may share it unevenly.
        let percent = if other.saturating_mul(self.config.slow_factor) >= baseline {
            self.config.faster_percent
        } else {
            self.config.faster_percent.saturating_mul(2)
        };
        let faster = other.saturating_mul(100) >= held.saturating_mul(percent);
        // A third, not a quarter: two seconds of a rate just below a quarter are often above it.
        let still_slow = first.saturating_mul(self.config.slow_factor.saturating_sub(1)) < baseline;
        // After a burst of loss TCP climbs back slowly, and a fresh connection overtakes it; what is held back does not climb.
        let [last, before_last] = comparison.before;
        let climbs = comparison.done >= 2
            && first > last
            && last > before_last
            && first >= before_last.saturating_mul(2);
        comparison.before = [first, last];
        comparison.done = comparison.done.saturating_add(1);
        comparison.agreed = if faster && still_slow {
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
        if comparison.agreed >= agree && !climbs {
            self.throttled(session, doubt, second);
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
