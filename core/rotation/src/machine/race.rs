//! Finding a path: dials 250 ms apart, the most promising first, none inside a window, and no more than may be.

use std::time::Duration;

use rand_core::Rng;

use super::{
    Failure, Known, Limping, Output, Path, Phase, Rotation, Session, State, Verdict, WEIGHTS_DEAD,
    WEIGHTS_DIAL, WEIGHTS_FROZEN, Why,
};
use crate::memory::Weights;
use crate::path::{Candidate, PathId};
use crate::time::Instant;
use crate::windows::random;

/// A failure counts only if something else connects within this time: who is offline condemns nobody.
const CHARGE_AGE_MAX: Duration = Duration::from_secs(2);
/// A path that reached its server within this time shows that the network works.
const ALIVE_AGE_MAX: Duration = Duration::from_secs(3);
/// And if one did so again and again for this long, a dial should have been answered.
const WORKS_MIN: Duration = Duration::from_secs(5);
/// Failures that wait for that.
const CHARGES_MAX: usize = 64;
/// A candidate that may be dialled this soon is waited for within the round.
const SOON: Duration = Duration::from_secs(10);

impl<G: Rng> Rotation<G> {
    /// Starts a race.
    pub(super) fn race(&mut self, why: Why, limping: Option<Limping>) {
        self.state = State::Racing {
            next_dial: self.now,
            limping,
            why,
        };
    }

    /// Every candidate has its dials again.
    pub(super) fn new_round(&mut self) {
        for known in &mut self.candidates {
            (known.tries, known.due) = (0, self.now);
        }
    }

    pub(super) fn race_step(&mut self) {
        match self.state {
            State::Racing {
                limping: Some(limping),
                ..
            }
            | State::Waiting {
                limping: Some(limping),
                ..
            } => {
                if self.delivered(limping.session.path) > limping.delivered {
                    self.found(limping.session.path, Verdict::Recovered);
                    self.rounds = 0;
                    self.state = State::Steady(limping.session);
                    return;
                }
                if limping.until <= self.now {
                    // Without a word: for as long as it is open the host sends on it, and a censor may renew its block.
                    self.drop_limping(limping, false);
                    if let State::Racing { limping, .. } | State::Waiting { limping, .. } = &mut self.state {
                        *limping = None;
                    }
                }
            }
            _ => {}
        }
        if let State::Waiting { until, why, limping } = self.state
            && until <= self.now
        {
            self.new_round();
            self.race(why, limping);
        }
        let State::Racing {
            next_dial,
            limping,
            why,
        } = self.state
        else {
            return;
        };
        if next_dial > self.now {
            return;
        }
        if let Some(at) = self.next_candidate() {
            self.dial(at);
            self.state = State::Racing {
                next_dial: self.now + self.config.dial_gap,
                limping,
                why,
            };
            return;
        }
        let soonest = self.soonest(true);
        if let Some(soonest) = soonest.filter(|at| *at <= self.now + SOON && *at > self.now) {
            self.state = State::Racing {
                next_dial: soonest,
                limping,
                why,
            };
        } else if self.dialling() == 0 {
            self.round_over(limping, why);
        }
    }

    fn delivered(&self, id: PathId) -> u64 {
        self.paths.get(&id).map_or(0, Path::delivered)
    }

    /// Nothing connected and nothing may be dialled soon.
    fn round_over(&mut self, limping: Option<Limping>, why: Why) {
        let whole = self
            .config
            .round_base
            .saturating_mul(1 << self.rounds.min(16))
            .min(self.config.round_max);
        let wait = whole / 2 + random(&mut self.rng, whole / 2);
        self.rounds = self.rounds.saturating_add(1);
        let until = (self.now + wait).max(self.soonest(false).unwrap_or(self.now));
        self.diary.note(
            self.now,
            format!(
                "nothing could be reached; next try in {} s",
                until.saturating_since(self.now).as_secs()
            ),
        );
        self.state = State::Waiting { until, limping, why };
    }

    /// Closes a path that limps. It is blamed only where another connected soon after its verdict: later than that, the network may
    /// have been silent all the time.
    fn drop_limping(&mut self, limping: Limping, blamed: bool) {
        if let Some(path) = self.paths.get(&limping.session.path) {
            let candidate = path.candidate.clone();
            let (client, address) = (self.client, candidate.address);
            self.windows
                .cut(&self.config, &mut self.rng, self.now, client, address, true);
            if blamed {
                self.charge(candidate, weights_of(limping.verdict));
            }
            self.close(limping.session.path, true);
        }
    }

    /// A dial won the race.
    pub(super) fn won(&mut self, id: PathId) {
        let (limping, why) = match self.state {
            State::Racing { limping, why, .. } | State::Waiting { limping, why, .. } => (limping, why),
            _ => return,
        };
        self.rounds = 0;
        self.new_round();
        self.adopt(id, why);
        if let Some(limping) = limping {
            let soon = self.now + self.config.limp_max <= limping.until + ALIVE_AGE_MAX;
            self.drop_limping(limping, soon);
        }
    }

    /// Takes a connected path into use. The one before is the caller's to close, afterwards: its bytes need somewhere to go.
    pub(super) fn adopt(&mut self, id: PathId, why: Why) {
        self.pending.push_back(Output::Adopt { path: id, why });
        if let Some(path) = self.paths.get(&id) {
            let (candidate, proven) = (path.candidate.clone(), path.proven);
            self.diary.note(
                self.now,
                format!("{} over {:?} is in use: {why}", candidate.kind, candidate.server),
            );
            if proven {
                self.memory.won(self.wall_now(), &candidate);
            }
        }
        self.state = State::Steady(Session {
            path: id,
            since: self.now,
            why,
        });
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

    /// Something connected: the failures of this moment were not the network's.
    pub(super) fn network_works(&mut self) {
        let wall = self.wall_now();
        for (at, candidate, weights) in std::mem::take(&mut self.charges) {
            if self.now.saturating_since(at) <= CHARGE_AGE_MAX {
                self.memory.learn(wall, &candidate, false, weights);
            }
        }
    }

    /// Holds something against a path: at once where another one is connected, else when one connects.
    pub(super) fn charge(&mut self, candidate: Candidate, weights: Weights) {
        let other = |path: &Path| {
            matches!(path.phase, Phase::Open)
                && path.candidate != candidate
                && self.now.saturating_since(path.alive) <= ALIVE_AGE_MAX
        };
        if self.paths.values().any(other) {
            let wall = self.wall_now();
            self.memory.learn(wall, &candidate, false, weights);
        } else {
            if self.charges.len() >= CHARGES_MAX {
                self.charges.remove(0);
            }
            self.charges.push((self.now, candidate, weights));
        }
    }

    pub(super) fn dial_failed(&mut self, candidate: &Candidate, how: Failure) {
        let (now, retry) = (self.now, self.config.retry_base);
        for known in &mut self.candidates {
            if known.candidate == *candidate {
                known.last = Some(how);
                known.due = now + retry.saturating_mul(1 << u32::from(known.tries.saturating_sub(1).min(8)));
            }
        }
        if how.may_be_a_cut() {
            let silent = how == Failure::Silence;
            self.windows.cut(
                &self.config,
                &mut self.rng,
                now,
                self.client,
                candidate.address,
                silent,
            );
        }
        // A dial that was not answered may have begun in an outage that is over.
        if how != Failure::Local && (how != Failure::Silence || self.works_for_a_while()) {
            self.charge(candidate.clone(), WEIGHTS_DIAL);
        }
        self.diary.note(
            now,
            format!(
                "{} over {:?}: not reached, {how}",
                candidate.kind, candidate.server
            ),
        );
    }

    pub(super) fn dialling(&self) -> usize {
        let dialling = |path: &&Path| matches!(path.phase, Phase::Dialling { .. });
        self.paths.values().filter(dialling).count()
    }

    /// Sockets that count against one more to this candidate.
    fn sockets(&self, candidate: &Candidate) -> usize {
        let same = |path: &&Path| {
            path.candidate.server == candidate.server || path.candidate.address.ip() == candidate.address.ip()
        };
        self.paths.values().filter(same).count()
    }

    /// When the bounds and windows let a candidate be dialled, now or later; `None`: not before a path closes.
    pub(super) fn dialable_at(&self, known: &Known) -> Option<Instant> {
        let candidate = &known.candidate;
        if self.dialling() >= self.config.dials_max
            || self.sockets(candidate) >= self.config.sockets_per_server_max
        {
            return None;
        }
        self.windows
            .free_at(self.now, self.client, candidate.address, self.paths.len())
    }

    fn is_open(&self, candidate: &Candidate) -> bool {
        self.paths.values().any(|path| path.candidate == *candidate)
    }

    /// When the next candidate may be dialled; within this round or in the next one.
    fn soonest(&self, in_this_round: bool) -> Option<Instant> {
        self.candidates
            .iter()
            .filter(|known| !in_this_round || known.tries < self.config.tries_max)
            .filter(|known| !self.is_open(&known.candidate))
            .filter_map(|known| self.dialable_at(known).map(|free| free.max(known.due)))
            .min()
    }

    /// Whether a race has a dial to wait for, or an end to find.
    pub(super) fn can_dial_soon(&self) -> bool {
        self.dialling() == 0 || self.soonest(true).is_some_and(|at| at <= self.now + SOON)
    }

    /// Who is dialled next in a race: who served last, unless another has twice its score by now; then by score.
    fn next_candidate(&self) -> Option<usize> {
        let wall = self.wall_now();
        let score = |known: &Known| self.memory.score(wall, &known.candidate);
        let free: Vec<usize> = (0..self.candidates.len())
            .filter(|&at| {
                let known = &self.candidates[at];
                known.tries < self.config.tries_max
                    && known.due <= self.now
                    && !self.is_open(&known.candidate)
                    && self.dialable_at(known).is_some_and(|free| free <= self.now)
            })
            .collect();
        let key = |&at: &usize| {
            let known = &self.candidates[at];
            (known.tries == 0, score(known), known.tie)
        };
        let best = free.iter().copied().max_by_key(key)?;
        let winner = free.iter().copied().find(|&at| {
            let known = &self.candidates[at];
            known.tries == 0 && self.memory.is_winner(wall, &known.candidate)
        });
        Some(
            winner
                .filter(|&at| score(&self.candidates[at]) * 2 > score(&self.candidates[best]))
                .unwrap_or(best),
        )
    }

    pub(super) fn dial(&mut self, at: usize) -> PathId {
        let id = PathId(self.next_path);
        self.next_path = self.next_path.saturating_add(1);
        let known = &mut self.candidates[at];
        known.tries = known.tries.saturating_add(1);
        let candidate = known.candidate.clone();
        self.paths.insert(
            id,
            Path {
                candidate: candidate.clone(),
                phase: Phase::Dialling {
                    deadline: self.now + self.config.dial_limit,
                },
                flows: Default::default(),
                proven: false,
                recovered: false,
                alive: self.now,
            },
        );
        self.pending.push_back(Output::Dial { path: id, candidate });
        id
    }
}

/// What a verdict says of the kind, the server and the address.
pub(super) fn weights_of(verdict: Verdict) -> Weights {
    match verdict {
        Verdict::Throttled => super::WEIGHTS_THROTTLED,
        Verdict::Frozen => WEIGHTS_FROZEN,
        _ => WEIGHTS_DEAD,
    }
}
