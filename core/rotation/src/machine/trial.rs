//! The cautious way back to a kind that was left.

use std::time::Duration;

use phantom_core::event::PathReason as Why;
use phantom_core::units::Instant;
use rand_core::Rng;

use super::state::{DIRECTIONS, Left, Second, Session, State, Trial};
use super::words::Output;
use super::{Cause, Rotation};
use crate::path::Kind;
use crate::report::Happened;

impl<G: Rng> Rotation<G> {
    /// How long a trial may take: it needs data to be queued.
    pub(super) fn trial_limit(&self) -> Duration {
        self.config.dial_limit
            + self
                .config
                .compare
                .saturating_mul(3 * u32::from(self.config.return_compares))
    }

    /// Asks for a kind that was left, if it is time, the path in use has been in use for long enough, and it was better.
    pub(super) fn begin_trial(&mut self, session: Session) {
        let now = self.now;
        if self.left.iter().all(|left| left.due > now)
            || now.saturating_since(session.since) < self.config.dwell
            || !self.may_dial_second()
        {
            return;
        }
        // Without user bytes to share there is nothing to judge by.
        let Some(path) = self.path(session.path).filter(|path| path.is_busy()) else {
            return;
        };
        let (in_use, rate) = (path.candidate.kind.clone(), path.typical());
        let percent = self.config.return_percent;
        let better = |left: &&Left| {
            left.kind != in_use && left.rate.saturating_mul(100) >= rate.saturating_mul(percent)
        };
        let due = self.left.iter().filter(|left| left.due <= now).filter(better);
        let Some(kind) = due.max_by_key(|left| left.rate).map(|left| left.kind.clone()) else {
            return;
        };
        self.pending.push_back(Output::Survey);
        let (began, second) = (now, Second::Asked);
        self.state = State::Trying(session, Trial { began, kind, second });
    }

    /// The driver said what there is.
    pub(super) fn dial_for_trial(&mut self, session: Session, mut trial: Trial) {
        let wall = self.wall_now();
        let at = (0..self.candidates.len())
            .filter(|&at| {
                let known = &self.candidates[at];
                known.candidate.kind == trial.kind && self.is_free(known)
            })
            .max_by_key(|&at| self.memory.score(wall, &self.candidates[at].candidate));
        let Some(at) = at else {
            self.postpone(&trial.kind, false);
            self.state = State::Steady(session);
            return;
        };
        trial.second = Second::Dialling(self.dial_as_second(at), None);
        self.state = State::Trying(session, trial);
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

    pub(super) fn trial_over(&mut self, session: Session, kind: &Kind, failed: bool) {
        self.postpone(kind, failed);
        let kind = kind.clone();
        self.diary.note(self.now, Happened::TriedAgain { kind, failed });
        let second = self.state.second();
        self.state = State::Steady(session);
        if let Second::Sharing(second, _) = second {
            self.close(second, false);
        }
    }

    pub(super) fn trial_step(&mut self) {
        let State::Trying(session, trial) = self.state.clone() else {
            return;
        };
        let silence = self.silence(session.path);
        let slow = self
            .path(session.path)
            .and_then(|path| path.slow(&self.config, self.now));
        if silence >= self.config.silence_doubt || slow.is_some() {
            return self.trial_over(session, &trial.kind, false);
        }
        let Second::Sharing(second, mut comparison) = trial.second else {
            if self.now >= trial.began + self.trial_limit() {
                self.trial_over(session, &trial.kind, false);
            }
            return;
        };
        if self.silence(second) >= self.config.silence_doubt {
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
