//! Judging the path in use: a doubt, a second path to settle it, a switch or none; and the cautious way back.

use std::time::Duration;

use rand_core::Rng;

use super::race::weights_of;
use super::{
    Cause, Comparison, Doubt, Doubted, Failure, Left, Limping, Path, Rotation, Second, Session, State, Trial,
    Verdict, Why,
};
use crate::flow::{Amount, Slow};
use crate::path::{Direction, Kind, PathId};
use crate::time::Instant;

/// Both directions, the one that a censor of downloads holds back first.
const DIRECTIONS: [Direction; 2] = [Direction::Down, Direction::Up];
/// A kind that was compared lately goes last, so that the next doubt asks another.
const COMPARED_LATELY: Duration = Duration::from_secs(600);
/// Dismissals are forgotten after this, if no doubt came up.
const DISMISSED_AGE_MAX: Duration = Duration::from_secs(20 * 60);
/// A return that ends within this time was a mistake.
const RELAPSE: Duration = Duration::from_secs(30 * 60);
/// Causes and left kinds held: more than there are kinds and servers in use.
const CAUSES_MAX: usize = 64;

impl<G: Rng> Rotation<G> {
    /// How long a path has been silent with data queued, and whether it is slow.
    fn symptoms(&self, id: PathId) -> (Duration, Option<(Direction, Slow)>) {
        let Some(path) = self.paths.get(&id) else {
            return (Duration::ZERO, None);
        };
        let silence = DIRECTIONS.map(|direction| path.flow(direction).silence(&self.config, self.now));
        let slow = DIRECTIONS.iter().find_map(|direction| {
            let slow = path.flow(*direction).slow_now(&self.config, self.now)?;
            Some((*direction, slow))
        });
        (silence[0].max(silence[1]), slow)
    }

    pub(super) fn steady_step(&mut self, session: Session) {
        let (silence, slow) = self.symptoms(session.path);
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
        let (silence, _) = self.symptoms(session.path);
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
            && self.symptoms(second).0 >= self.config.silence_doubt
        {
            // What was moved to it goes back to the path in use.
            self.doom_second(second);
            doubt.second = Second::None;
        }
        if let Second::None = doubt.second
            && doubt.seconds < self.config.seconds_max
            && let Some(id) = self.dial_second(session, doubt.of)
        {
            doubt.second = Second::Dialling(id);
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
            Second::Dialling(_) => {}
            Second::Sharing(second, comparison) => {
                self.compare(session, doubt, second, comparison, direction, rate);
            }
        }
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
            .paths
            .get(&session.path)
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
            .paths
            .get(&session.path)
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
        let Some(path) = self.paths.get(&session.path) else {
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
    /// that is silent: the first stays while others are raced, and nothing is held against it unless one of them connects.
    fn silent(&mut self, session: Session, doubt: Doubt) {
        let delivered = self.paths.get(&session.path).map_or(0, Path::delivered);
        let (verdict, why) = if delivered > 0 {
            (Verdict::Frozen, Why::Frozen)
        } else {
            (Verdict::Dead, Why::Dead)
        };
        self.found(session.path, verdict);
        if let Second::Sharing(second, _) = doubt.second {
            self.leave(session, verdict);
            self.adopt(second, why);
            if let Some(path) = self.paths.get(&session.path) {
                let (client, address) = (self.client, path.candidate.address);
                self.windows
                    .cut(&self.config, &mut self.rng, self.now, client, address, true);
            }
            self.close(session.path, true);
        } else {
            self.remember_left(session);
            self.new_round();
            self.race(
                why,
                Some(Limping {
                    session,
                    verdict,
                    delivered,
                    until: self.now + self.config.limp_max,
                }),
            );
        }
    }

    /// The path in use is gone.
    pub(super) fn lost(&mut self, path: Path, how: Failure) {
        let second = match &self.state {
            State::Doubting(_, Doubt { second, .. }) | State::Trying(_, Trial { second, .. }) => *second,
            _ => Second::None,
        };
        if how.may_be_a_cut() {
            self.charge(path.candidate.clone(), weights_of(Verdict::Dead));
            self.spend(Cause::Dead(path.candidate.kind.clone(), path.candidate.server));
            self.leave_kind(path.candidate.kind.clone(), typical(&path));
        }
        match second {
            Second::Sharing(second, _) => self.adopt(second, Why::Dead),
            Second::Dialling(_) | Second::None => {
                self.new_round();
                self.race(Why::Dead, None);
            }
        }
        if !path.proven {
            self.put_off(&path);
        }
    }

    /// A path that connects and ends in order before it has moved much is dialled less and less often: no window forbids it.
    fn put_off(&mut self, path: &Path) {
        for known in &mut self.candidates {
            if known.candidate == path.candidate {
                let wait = self.config.retry_base.saturating_mul(1 << known.short.min(16));
                known.due = known.due.max(self.now + wait.min(self.config.round_max));
                known.short = known.short.saturating_add(1);
            }
        }
    }

    /// A second path failed or closed.
    pub(super) fn second_lost(&mut self, id: PathId) {
        let is = |second: &Second| match second {
            Second::Dialling(known) | Second::Sharing(known, _) => *known == id,
            Second::None => false,
        };
        match &mut self.state {
            State::Doubting(_, doubt) if is(&doubt.second) => doubt.second = Second::None,
            State::Trying(session, trial) if is(&trial.second) => {
                let (session, kind) = (*session, trial.kind.clone());
                self.trial_over(session, &kind, true);
            }
            _ => {}
        }
    }

    /// Closes a second path that went silent itself.
    fn doom_second(&mut self, id: PathId) {
        if let Some(path) = self.paths.get(&id) {
            let candidate = path.candidate.clone();
            let (client, address) = (self.client, candidate.address);
            self.windows
                .cut(&self.config, &mut self.rng, self.now, client, address, true);
            self.close(id, true);
            self.charge(candidate, weights_of(Verdict::Frozen));
        }
    }

    /// The doubt is over and the path stays in use.
    fn dismiss(&mut self, session: Session, doubt: Doubt, verdict: Verdict) {
        self.found(session.path, verdict);
        if verdict == Verdict::Recovered
            && let Some(path) = self.paths.get_mut(&session.path)
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

    /// Writes down that the path in use is left, while another is connected.
    fn leave(&mut self, session: Session, verdict: Verdict) {
        let Some(path) = self.paths.get(&session.path) else {
            return;
        };
        let (candidate, rate) = (path.candidate.clone(), typical(path));
        let wall = self.wall_now();
        self.memory.learn(wall, &candidate, false, weights_of(verdict));
        let cause = match verdict {
            Verdict::Throttled => Cause::Throttled(candidate.kind.clone()),
            Verdict::Frozen => Cause::Frozen(candidate.kind.clone(), candidate.server),
            _ => Cause::Dead(candidate.kind.clone(), candidate.server),
        };
        self.spend(cause);
        self.leave_kind(candidate.kind, rate);
        (self.dismissed, self.next_doubt) = (0, self.now);
    }

    fn remember_left(&mut self, session: Session) {
        if let Some(path) = self.paths.get(&session.path) {
            let (kind, rate) = (path.candidate.kind.clone(), typical(path));
            self.leave_kind(kind, rate);
        }
    }

    fn spend(&mut self, cause: Cause) {
        if !self.causes.contains(&cause) {
            if self.causes.len() >= CAUSES_MAX {
                self.causes.remove(0);
            }
            self.causes.push(cause);
        }
    }

    /// The kind is to be tried again later; later still each time.
    fn leave_kind(&mut self, kind: Kind, rate: u64) {
        let base = self.config.return_base;
        let relapse = self.session().is_some_and(|session| {
            session.why == Why::Return && self.now.saturating_since(session.since) < RELAPSE
        });
        if relapse {
            // A censor that follows: whatever was left is left alone for longer.
            let longest = self.left.iter().map(|left| left.wait).max().unwrap_or(base);
            let wait = longest.saturating_mul(2).min(self.config.return_max);
            for left in &mut self.left {
                left.wait = wait;
                left.due = left.due.max(self.now + wait);
            }
        }
        match self.left.iter_mut().find(|left| left.kind == kind) {
            Some(left) => {
                left.wait = left.wait.saturating_mul(2).min(self.config.return_max);
                (left.due, left.rate) = (self.now + left.wait, rate.max(left.rate));
            }
            None => {
                if self.left.len() >= CAUSES_MAX {
                    self.left.remove(0);
                }
                self.left.push(Left {
                    kind,
                    rate,
                    due: self.now + base,
                    wait: base,
                });
            }
        }
    }

    /// Dials a second path to hold the one in use against: of another kind where there is one, one not asked lately, of
    /// another server; then by score.
    fn dial_second(&mut self, session: Session, of: Doubted) -> Option<PathId> {
        if !self.may_dial_second() {
            return None;
        }
        let first = self.paths.get(&session.path)?.candidate.clone();
        let wall = self.wall_now();
        let lately = |kind: &Kind| {
            self.candidates.iter().any(|known| {
                known.candidate.kind == *kind
                    && known
                        .compared
                        .is_some_and(|at| self.now.saturating_since(at) < COMPARED_LATELY)
            })
        };
        let may = |known: &super::Known| {
            // The same address again says nothing about a silent path, and something about a slow one.
            (known.candidate != first || matches!(of, Doubted::Slow { .. }))
                && known.due <= self.now
                && self.dialable_at(known).is_some_and(|free| free <= self.now)
        };
        let at = (0..self.candidates.len())
            .filter(|&at| may(&self.candidates[at]))
            .max_by_key(|&at| {
                let known = &self.candidates[at];
                (
                    known.candidate.kind != first.kind,
                    !lately(&known.candidate.kind),
                    known.candidate != first,
                    known.candidate.server != first.server,
                    self.memory.score(wall, &known.candidate),
                    known.tie,
                )
            })?;
        Some(self.dial_as_second(at))
    }

    fn may_dial_second(&mut self) -> bool {
        let now = self.now;
        let old = |at: &Instant| now.saturating_since(*at) >= Duration::from_secs(600);
        while self.seconds.front().is_some_and(old) {
            self.seconds.pop_front();
        }
        self.seconds.len() < self.config.seconds_per_ten_minutes
    }

    fn dial_as_second(&mut self, at: usize) -> PathId {
        self.seconds.push_back(self.now);
        self.candidates[at].compared = Some(self.now);
        self.dial(at)
    }

    pub(super) fn start_meters(&mut self, first: PathId, second: PathId) {
        for id in [first, second] {
            if let Some(path) = self.paths.get_mut(&id) {
                path.flows.iter_mut().for_each(crate::flow::Flow::start_meter);
            }
        }
    }

    /// What both moved in one direction, once both had data queued for long enough.
    fn meters(&self, first: PathId, second: PathId, direction: Direction) -> Option<(Amount, Amount)> {
        let meter = |id| self.paths.get(&id).map(|path| path.flow(direction).meter());
        let (first, second) = (meter(first)?, meter(second)?);
        (first.time >= self.config.compare && second.time >= self.config.compare).then_some((first, second))
    }

    /// How long a trial may take: it needs data to be queued.
    pub(super) fn trial_limit(&self) -> Duration {
        self.config.dial_limit
            + self
                .config
                .compare
                .saturating_mul(3 * u32::from(self.config.return_compares))
    }

    /// Dials a kind that was left, if it is time, the path in use has been in use for long enough, and it was better.
    fn begin_trial(&mut self, session: Session) {
        let now = self.now;
        if self.left.iter().all(|left| left.due > now)
            || now.saturating_since(session.since) < self.config.dwell
            || !self.may_dial_second()
        {
            return;
        }
        let Some(path) = self.paths.get(&session.path) else {
            return;
        };
        // Without user bytes to share there is nothing to judge by.
        if !DIRECTIONS.iter().any(|direction| path.flow(*direction).is_busy()) {
            return;
        }
        let (in_use, rate) = (path.candidate.kind.clone(), typical(path));
        let percent = self.config.return_percent;
        let better = |left: &Left| {
            left.kind != in_use && left.rate.saturating_mul(100) >= rate.saturating_mul(percent)
        };
        let Some(kind) = self
            .left
            .iter()
            .filter(|left| left.due <= now && better(left))
            .max_by_key(|left| left.rate)
            .map(|left| left.kind.clone())
        else {
            return;
        };
        let wall = self.wall_now();
        let at = (0..self.candidates.len())
            .filter(|&at| {
                let known = &self.candidates[at];
                known.candidate.kind == kind && self.dialable_at(known).is_some_and(|free| free <= now)
            })
            .max_by_key(|&at| self.memory.score(wall, &self.candidates[at].candidate));
        let Some(at) = at else {
            self.postpone(&kind, false);
            return;
        };
        let second = Second::Dialling(self.dial_as_second(at));
        self.state = State::Trying(
            session,
            Trial {
                began: now,
                kind,
                second,
            },
        );
    }

    /// The next trial of a kind; twice as long from now if this one showed that it is still bad.
    fn postpone(&mut self, kind: &Kind, failed: bool) {
        for left in self.left.iter_mut().filter(|left| left.kind == *kind) {
            if failed {
                left.wait = left.wait.saturating_mul(2).min(self.config.return_max);
            }
            left.due = self.now + left.wait;
        }
    }

    fn trial_over(&mut self, session: Session, kind: &Kind, failed: bool) {
        self.postpone(kind, failed);
        let outcome = if failed {
            "is not better yet"
        } else {
            "could not be judged"
        };
        self.diary
            .note(self.now, format!("{kind} was tried again: it {outcome}"));
        let second = match &self.state {
            State::Trying(_, trial) => trial.second,
            _ => Second::None,
        };
        self.state = State::Steady(session);
        if let Second::Sharing(second, _) = second {
            self.close(second, false);
        }
    }

    pub(super) fn trial_step(&mut self) {
        let State::Trying(session, trial) = self.state.clone() else {
            return;
        };
        let (silence, slow) = self.symptoms(session.path);
        if silence >= self.config.silence_doubt || slow.is_some() {
            return self.trial_over(session, &trial.kind, false);
        }
        let Second::Sharing(second, mut comparison) = trial.second else {
            if self.now >= trial.began + self.trial_limit() {
                self.trial_over(session, &trial.kind, false);
            }
            return;
        };
        if self.symptoms(second).0 >= self.config.silence_doubt {
            self.trial_over(session, &trial.kind, true);
            return;
        }
        let meters = DIRECTIONS
            .iter()
            .find_map(|direction| self.meters(session.path, second, *direction));
        let Some((first, other)) = meters else {
            if self.now >= trial.began + self.trial_limit() {
                self.trial_over(session, &trial.kind, false);
            }
            return;
        };
        let better =
            other.rate().saturating_mul(100) >= first.rate().saturating_mul(self.config.return_percent);
        if !better {
            return self.trial_over(session, &trial.kind, true);
        }
        comparison.done = comparison.done.saturating_add(1);
        comparison.bytes = comparison.bytes.saturating_add(other.bytes);
        if comparison.done == 1 {
            comparison.first_bytes = other.bytes;
        }
        if comparison.done < self.config.return_compares {
            self.start_meters(session.path, second);
            let second = Second::Sharing(second, comparison);
            self.state = State::Trying(session, Trial { second, ..trial });
            return;
        }
        // A bucket that has run empty shows itself at the end.
        let lasting = other.bytes.saturating_mul(2) >= comparison.first_bytes;
        if !lasting || comparison.bytes < self.config.proven_bytes {
            return self.trial_over(session, &trial.kind, !lasting);
        }
        // It moved user bytes at its old pace: what it did before is over, and would be a cause of its own.
        self.causes
            .retain(|cause| !matches!(cause, Cause::Throttled(kind) if *kind == trial.kind));
        for left in self.left.iter_mut().filter(|left| left.kind == trial.kind) {
            left.due = Instant::FAR_FUTURE;
        }
        self.adopt(second, Why::Return);
        self.close(session.path, false);
    }
}

/// Typical bytes per second of the faster direction.
fn typical(path: &Path) -> u64 {
    DIRECTIONS
        .iter()
        .map(|direction| path.flow(*direction).typical())
        .max()
        .unwrap_or(0)
}
