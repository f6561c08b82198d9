//! Whom to dial and whom not: windows, sockets, order; and what failures say of whom.

use std::time::Duration;

use phantom_core::event::PathVerdict as Verdict;
use phantom_core::units::Instant;
use rand_core::Rng;

use super::state::{Charge, Doubted, Path, Phase};
use super::words::{Failure, Output};
use super::{Known, Rotation, Session};
use crate::memory::{WEIGHTS_DEAD, WEIGHTS_DIAL, Weights, weights_of};
use crate::path::{Candidate, Kind, PathId};
use crate::report::Happened;

/// A failure counts only if something else connects within this time: who is offline condemns nobody.
const CHARGE_AGE_MAX: Duration = Duration::from_secs(2);
/// A path that reached its server within this time shows that the network works.
pub(super) const ALIVE_AGE_MAX: Duration = Duration::from_secs(3);
/// And if one did so again and again for this long, a dial should have been answered.
const WORKS_MIN: Duration = Duration::from_secs(5);
/// Failures that wait for that.
const CHARGES_MAX: usize = 64;

impl<G: Rng> Rotation<G> {
    /// When the ladder may dial `candidate`: `now`, or later while a censor may be blocking it for a while. `None`: not before a
    /// connection to the same server or address ends, or a window of others does. `open` are the driver's own dials to that server
    /// or address.
    pub fn free_at(&self, now: Instant, candidate: &Candidate, open: usize) -> Option<Instant> {
        if self.sockets(candidate) + open >= self.config.sockets_per_server_max {
            return None;
        }
        let (client, under_way) = (self.client, self.paths.len() + open);
        self.windows.free_at(now, client, candidate.address, under_way)
    }

    /// How promising `candidate` is on this network: greater first. Who served last comes first unless another has twice its score.
    pub fn order(&self, candidate: &Candidate) -> u64 {
        let wall = self.wall_now();
        let score = self.memory.score(wall, candidate);
        score * (1 + u64::from(self.memory.is_winner(wall, candidate)))
    }

    /// A path reached its server.
    pub(super) fn reached(&mut self) {
        let (since, last) = self.works;
        let since = if self.now.saturating_since(last) > ALIVE_AGE_MAX {
            self.now
        } else {
            since
        };
        self.works = (since, self.now);
    }

    /// Whether the network has worked without a break for so long that a dial should have been answered.
    fn works_for_a_while(&self) -> bool {
        let (since, last) = self.works;
        self.now.saturating_since(last) <= ALIVE_AGE_MAX && self.now.saturating_since(since) >= WORKS_MIN
    }

    /// This one connected: the failures of others in this moment were not the network's.
    pub(super) fn network_works(&mut self, by: &Candidate) {
        for charge in std::mem::take(&mut self.charges) {
            if charge.candidate != *by && self.now.saturating_since(charge.at) <= CHARGE_AGE_MAX {
                self.convict(&charge.candidate, charge.weights, charge.window);
            }
        }
    }

    /// Holds something against a path, and opens a window if wanted: at once where another one is connected, else when one connects.
    pub(super) fn charge(&mut self, candidate: &Candidate, weights: Weights, window: bool) {
        let other = |path: &Path| {
            path.is_open()
                && path.candidate != *candidate
                && self.now.saturating_since(path.alive) <= ALIVE_AGE_MAX
        };
        if self.paths.iter().any(other) {
            return self.convict(candidate, weights, window);
        }
        if self.charges.len() >= CHARGES_MAX {
            self.charges.remove(0);
        }
        self.charges.push(Charge {
            at: self.now,
            candidate: candidate.clone(),
            weights,
            window,
        });
    }

    fn convict(&mut self, candidate: &Candidate, weights: Weights, window: bool) {
        self.memory.learn(self.wall_now(), candidate, false, weights);
        if window {
            self.cut(candidate, true);
        }
    }

    /// Opens a residual window.
    pub(super) fn cut(&mut self, candidate: &Candidate, silent: bool) {
        let (client, address) = (self.client, candidate.address);
        self.windows
            .cut(&self.config, &mut self.rng, self.now, client, address, silent);
        self.changed = true;
    }

    /// A dial failed, whoever made it.
    pub(super) fn dial_failed(&mut self, candidate: &Candidate, how: Failure) {
        let due = self.now + self.config.retry_base;
        for known in self
            .candidates
            .iter_mut()
            .filter(|known| known.candidate == *candidate)
        {
            (known.last, known.due) = (Some(how), due);
        }
        match how {
            // Its first packet may have been flagged, whatever else there is.
            Failure::Silence | Failure::Reset | Failure::Garbled => {
                self.cut(candidate, how == Failure::Silence);
                // A dial that was not answered may have begun in an outage that is over.
                if how != Failure::Silence || self.works_for_a_while() {
                    self.charge(candidate, WEIGHTS_DIAL, false);
                }
            }
            Failure::Unanswered if self.works_for_a_while() => self.charge(candidate, WEIGHTS_DIAL, true),
            Failure::Refused => self.charge(candidate, WEIGHTS_DIAL, true),
            Failure::Useless => self.put_off(candidate),
            Failure::Unanswered | Failure::Ended | Failure::Local => {}
        }
        let missed = Happened::NotReached(candidate.kind.clone(), candidate.server, how);
        self.diary.note(self.now, missed);
    }

    /// A connection ended.
    pub(super) fn path_ended(&mut self, path: &Path, how: Failure) {
        let candidate = &path.candidate;
        match how {
            Failure::Reset | Failure::Garbled => {
                self.cut(candidate, false);
                self.charge(candidate, WEIGHTS_DEAD, false);
            }
            // Of a connection that moved bytes no censor is known that blocks the next one: an outage is as likely.
            Failure::Silence | Failure::Unanswered | Failure::Refused => {
                self.charge(candidate, WEIGHTS_DEAD, true);
            }
            Failure::Useless => {
                self.charge(candidate, WEIGHTS_DEAD, false);
                self.put_off(candidate);
            }
            Failure::Ended => {
                if !path.proven && self.now.saturating_since(path.since) < self.config.settled_after {
                    self.windows
                        .put_off(self.now, self.config.retry_base, self.client, candidate.address);
                }
            }
            Failure::Local => {}
        }
    }

    /// It answers and carries nothing: others are asked for a while.
    fn put_off(&mut self, candidate: &Candidate) {
        self.windows
            .rest(self.now, self.config.useless, self.client, candidate.address);
        self.changed = true;
    }

    /// Closes a path whose fate nobody will know: where a first packet may have been flagged, a block may follow.
    pub(super) fn abandon(&mut self, id: PathId) {
        let dialled = self.path(id).filter(|path| !path.is_open());
        if let Some(candidate) = dialled.map(|path| path.candidate.clone()) {
            self.cut(&candidate, true);
            self.close(id, true);
        } else {
            self.close(id, false);
        }
    }

    /// Closes a second path that went silent itself.
    pub(super) fn doom_second(&mut self, id: PathId) {
        if let Some(path) = self.path(id) {
            let candidate = path.candidate.clone();
            self.cut(&candidate, true);
            self.close(id, true);
            self.charge(&candidate, weights_of(Verdict::Frozen), false);
        }
    }

    /// Sockets that count against one more to this candidate.
    fn sockets(&self, candidate: &Candidate) -> usize {
        let same = |path: &&Path| {
            path.candidate.server == candidate.server || path.candidate.address.ip() == candidate.address.ip()
        };
        self.paths.iter().filter(same).count()
    }

    /// Which second path to hold the one in use against: of another kind where there is one, one not asked lately, of another
    /// server; then by score.
    pub(super) fn pick_second(&self, session: Session, of: Doubted) -> Option<usize> {
        let first = &self.path(session.path)?.candidate;
        let wall = self.wall_now();
        let lately = |kind: &Kind| {
            self.candidates
                .iter()
                .any(|known| known.candidate.kind == *kind && self.was_compared_lately(known))
        };
        let slow = matches!(of, Doubted::Slow { .. });
        let dialled: Vec<&Kind> = self
            .paths
            .iter()
            .filter(|path| slow && !path.is_open())
            .map(|path| &path.candidate.kind)
            .collect();
        let may = |known: &Known| {
            let differs = if dialled.is_empty() {
                // The same address again says nothing about a silent path, and something about a slow one.
                slow || known.candidate != *first
            } else {
                // Beside a dial that may succeed, only what says more: the kind in use would be quicker and as slow as it is.
                known.candidate.kind != first.kind && !dialled.contains(&&known.candidate.kind)
            };
            differs && self.is_free(known)
        };
        (0..self.candidates.len())
            .filter(|&at| may(&self.candidates[at]))
            .max_by_key(|&at| {
                let known = &self.candidates[at];
                (
                    known.candidate.kind != first.kind,
                    !lately(&known.candidate.kind),
                    known.candidate != *first,
                    known.candidate.server != first.server,
                    self.memory.score(wall, &known.candidate),
                    known.tie,
                )
            })
    }

    fn was_compared_lately(&self, known: &Known) -> bool {
        let lately = |at: Instant| self.now.saturating_since(at) < super::doubt::COMPARED_LATELY;
        known.compared.is_some_and(lately)
    }

    /// Whether a candidate may be dialled now.
    pub(super) fn is_free(&self, known: &Known) -> bool {
        let free = self.free_at(self.now, &known.candidate, 0);
        known.due <= self.now && free.is_some_and(|free| free <= self.now)
    }

    /// The dial under way that was begun last.
    pub(super) fn last_dialled(&self) -> Option<PathId> {
        let dialled = self.paths.iter().filter(|path| !path.is_open());
        dialled.map(|path| path.id).max()
    }

    pub(super) fn may_dial_second(&mut self) -> bool {
        let now = self.now;
        let old = |at: &Instant| now.saturating_since(*at) >= Duration::from_secs(600);
        while self.seconds.front().is_some_and(old) {
            self.seconds.pop_front();
        }
        self.seconds.len() < self.config.seconds_per_ten_minutes
    }

    pub(super) fn dial_as_second(&mut self, at: usize) -> PathId {
        self.seconds.push_back(self.now);
        self.candidates[at].compared = Some(self.now);
        let candidate = self.candidates[at].candidate.clone();
        let deadline = self.now + self.config.dial_limit;
        let path = self.new_path(candidate.clone(), Phase::Dialling { deadline });
        self.pending.push_back(Output::Dial { path, candidate });
        path
    }
}
