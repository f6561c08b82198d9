//! Leaving a path: what it is left for, what is remembered of it, and when its kind is tried again.

use std::time::Duration;

use phantom_core::event::{PathReason as Why, PathVerdict as Verdict};
use rand_core::Rng;

use super::state::{Left, Path, Second, Session};
use super::words::Failure;
use super::{Cause, Rotation};
use crate::memory::weights_of;
use crate::path::{Kind, PathId};

/// A return that ends within this time was a mistake.
const RELAPSE: Duration = Duration::from_secs(30 * 60);
/// Causes and left kinds held: more than there are kinds and servers in use.
const CAUSES_MAX: usize = 64;

impl<G: Rng> Rotation<G> {
    /// The path in use is gone.
    pub(super) fn lost(&mut self, path: &Path, how: Failure) {
        let second = self.state.second();
        if how.may_be_a_cut() {
            self.spend(Cause::Dead(path.candidate.kind.clone(), path.candidate.server));
            self.leave_kind(path.candidate.kind.clone(), path.typical());
        }
        match second {
            Second::Sharing(second, _) => self.adopt(second, Why::Dead),
            Second::Asked | Second::Dialling(..) | Second::None => self.seek(Why::Dead),
        }
    }

    /// A second path failed or closed.
    pub(super) fn second_lost(&mut self, id: PathId) {
        let is = matches!(self.state.second(), Second::Dialling(known, _) | Second::Sharing(known, _) if known == id);
        if !is {
            return;
        }
        if let super::State::Trying(session, trial) = &self.state {
            let (session, kind) = (*session, trial.kind.clone());
            self.trial_over(session, &kind, true);
        } else if let Some(second) = self.state.second_mut() {
            *second = Second::None;
        }
    }

    /// Writes down that the path in use is left, while another is connected.
    pub(super) fn leave(&mut self, session: Session, verdict: Verdict) {
        let Some(path) = self.path(session.path) else {
            return;
        };
        let (candidate, rate) = (path.candidate.clone(), path.typical());
        let wall = self.wall_now();
        self.memory.learn(wall, &candidate, false, weights_of(verdict));
        self.changed = true;
        let cause = match verdict {
            Verdict::Throttled => Cause::Throttled(candidate.kind.clone()),
            Verdict::Frozen => Cause::Frozen(candidate.kind.clone(), candidate.server),
            _ => Cause::Dead(candidate.kind.clone(), candidate.server),
        };
        self.spend(cause);
        self.leave_kind(candidate.kind, rate);
        (self.dismissed, self.next_doubt) = (0, self.now);
    }

    pub(super) fn remember_left(&mut self, session: Session) {
        if let Some(path) = self.path(session.path) {
            let (kind, rate) = (path.candidate.kind.clone(), path.typical());
            self.leave_kind(kind, rate);
        }
    }

    fn spend(&mut self, cause: Cause) {
        if !self.causes.contains(&cause) {
            if self.causes.len() >= CAUSES_MAX {
                self.causes.remove(0);
            }
            self.causes.reserve_exact(1);
            self.causes.push(cause);
        }
    }

    /// The kind is to be tried again later; later still each time.
    fn leave_kind(&mut self, kind: Kind, rate: u64) {
        let base = self.config.return_base;
        let soon = self.state.session().filter(|session| {
            session.why != Why::First && self.now.saturating_since(session.since) < RELAPSE
        });
        let longest = self.left.iter().map(|left| left.wait).max().unwrap_or(base);
        if soon.is_some_and(|session| session.why == Why::Return) {
            // A censor that follows: whatever was left is left alone for longer.
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
                // It follows here too: this one would be tried again while the others wait.
                let wait = if soon.is_some() { longest } else { base };
                self.left.reserve_exact(1);
                self.left.push(Left {
                    kind,
                    rate,
                    due: self.now + wait,
                    wait,
                });
            }
        }
    }
}
