//! The machine itself: candidates, running attempts, and when to start the next.

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::time::Duration;

use litemap::LiteMap;
use rand_core::Rng;

use super::{Kind, ORDER, Outcome, Report, Step};
use crate::units::Instant;

/// Something to dial. Equal entries are one.
pub trait Entry: Clone + PartialEq {
    /// How it is spoken to, for the report.
    fn transport(&self) -> Kind;
}

/// How the ladder behaves. The defaults are those of SPEC §9.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Between two starts, of steps or of attempts. Default 250 ms (RFC 8305 §5).
    pub gap: Duration,
    /// An attempt that has not ended by itself is cancelled after this. Default 10 s: a handshake over a bad path
    /// takes three round trips and a lost packet or two.
    pub attempt_limit: Duration,
    /// Attempts under way at once. Default 10 (Psiphon's figure).
    pub parallel_max: usize,
    /// Of these, at most this many of one step, so that a list of dead entries cannot starve the others. Default 3.
    pub parallel_per_step_max: usize,
    /// Wait before a failed entry is tried again: doubled with each failure, half of it jittered. Default 2 s.
    pub retry_base: Duration,
    /// The longest such wait. Default 30 s.
    pub retry_max: Duration,
    /// Wait before a step is asked again, likewise doubled. Default 5 s.
    pub ask_base: Duration,
    /// The longest such wait. Default 60 s.
    pub ask_max: Duration,
    /// Candidates held; one more takes the place of the one that failed most, if any did. Default 64.
    pub candidates_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            gap: Duration::from_millis(250),
            attempt_limit: Duration::from_secs(10),
            parallel_max: 10,
            parallel_per_step_max: 3,
            retry_base: Duration::from_secs(2),
            retry_max: Duration::from_secs(30),
            ask_base: Duration::from_secs(5),
            ask_max: Duration::from_secs(60),
            candidates_max: 64,
        }
    }
}

/// Names an attempt between the machine and its driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptId(NonZeroU64);

/// What the machine wants done. Drain with [`Ladder::poll_output`] after every change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output<E> {
    /// Look for entries by this step; answer with [`Ladder::found`].
    Ask(Step),
    /// Dial an entry; answer with [`Ladder::ended`].
    Dial {
        /// Names the attempt.
        attempt: AttemptId,
        /// How the entry became known.
        step: Step,
        /// Where.
        entry: E,
    },
    /// Give up this attempt; no answer is needed.
    Cancel(AttemptId),
    /// Nothing to do before this instant, unless something is heard.
    WaitUntil(Instant),
    /// A link stands: nothing to do before [`Ladder::start`].
    Done,
}

struct Candidate<E> {
    step: Step,
    /// The name that was resolved to it.
    name: Option<u16>,
    entry: E,
    failures: u16,
    due: Instant,
    running: Option<AttemptId>,
}

struct Source {
    asks: u32,
    /// When to ask again; `None` while an answer is awaited.
    due: Option<Instant>,
}

struct Running {
    start: Instant,
    deadline: Instant,
    step: Step,
    transport: Kind,
}

/// The ladder machine over entries of type `E`.
pub struct Ladder<E, G> {
    config: Config,
    rng: G,
    candidates: Vec<Candidate<E>>,
    sources: LiteMap<Step, Source>,
    running: LiteMap<AttemptId, Running>,
    pending: VecDeque<Output<E>>,
    next_attempt: NonZeroU64,
    /// The earliest instant of the next start.
    next_start: Instant,
    done: bool,
    report: Report,
}

impl<E: Entry, G: Rng> Ladder<E, G> {
    /// A ladder that climbs `steps` (in [`ORDER`]), not started yet.
    pub fn new(config: Config, steps: &[Step], rng: G) -> Self {
        let sources = ORDER
            .iter()
            .filter(|step| steps.contains(step))
            .map(|step| {
                (
                    *step,
                    Source {
                        asks: 0,
                        due: Some(Instant::ZERO),
                    },
                )
            })
            .collect();
        Self {
            config,
            rng,
            candidates: Vec::new(),
            sources,
            running: LiteMap::new_vec(),
            pending: VecDeque::new(),
            next_attempt: NonZeroU64::MIN,
            next_start: Instant::ZERO,
            done: true,
            report: Report::default(),
        }
    }

    /// What was tried since the last start.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Climbs (again): every step is asked anew, in order, one per gap; entries known from before stay known.
    pub fn start(&mut self, now: Instant) {
        self.done = false;
        self.report = Report::default();
        self.pending.clear();
        self.next_start = now;
        for (_, source) in self.sources.iter_mut() {
            *source = Source {
                asks: 0,
                due: Some(now),
            };
        }
        for candidate in &mut self.candidates {
            candidate.due = now;
            candidate.failures = candidate.failures.min(1);
        }
    }

    /// Puts the candidates into the order of `key`, the greatest first: among those that are due for equally long the first is
    /// dialled first. Equals keep their order.
    pub fn arrange(&mut self, key: impl Fn(&E) -> u64) {
        self.candidates
            .sort_by_cached_key(|candidate| std::cmp::Reverse(key(&candidate.entry)));
    }

    /// Every candidate held, with the step that gave it.
    pub fn candidates(&self) -> impl Iterator<Item = (Step, &E)> {
        self.candidates
            .iter()
            .map(|candidate| (candidate.step, &candidate.entry))
    }

    /// A step's answer: the entries it found, maybe none.
    pub fn found(&mut self, now: Instant, step: Step, entries: Vec<E>) {
        self.add(now, step, None, entries);
    }

    /// A name of `step`, the driver's number of it, was resolved: what it led to before is forgotten, unless it is being
    /// dialled. A censor that forges answers could fill the list with them otherwise.
    pub fn resolved(&mut self, now: Instant, step: Step, name: u16, entries: Vec<E>) {
        self.candidates.retain(|c| {
            (c.step, c.name) != (step, Some(name)) || c.running.is_some() || entries.contains(&c.entry)
        });
        self.add(now, step, Some(name), entries);
    }

    fn add(&mut self, now: Instant, step: Step, name: Option<u16>, entries: Vec<E>) {
        let Some(source) = self.sources.get_mut(&step) else {
            return;
        };
        let wait = backoff(
            &mut self.rng,
            self.config.ask_base,
            self.config.ask_max,
            source.asks,
        );
        source.due = Some(now + wait);
        if entries.is_empty() {
            self.report.step_mut(step).empty += 1;
        }
        for entry in entries {
            let known = self.candidates.iter().any(|candidate| candidate.entry == entry);
            if !known && self.make_room() {
                self.report.step_mut(step).entries += 1;
                self.candidates.push(Candidate {
                    step,
                    name,
                    entry,
                    failures: 0,
                    due: now,
                    running: None,
                });
            }
        }
    }

    /// Whether there is room for one more candidate, if need be in the place of the one that failed most: a list of dead
    /// entries must not keep a living one out for ever.
    fn make_room(&mut self) -> bool {
        if self.candidates.len() < self.config.candidates_max {
            return true;
        }
        let worst = self
            .candidates
            .iter()
            .enumerate()
            .filter(|(_, candidate)| candidate.running.is_none() && candidate.failures > 0)
            .max_by_key(|(_, candidate)| candidate.failures)
            .map(|(index, _)| index);
        worst.map(|index| self.candidates.swap_remove(index)).is_some()
    }

    /// The race is over without the ladder, because a lost link was resumed. The driver gives up what is under way; nothing
    /// is to do before [`Ladder::start`].
    pub fn stop(&mut self) {
        self.done = true;
        self.pending.clear();
        self.running = LiteMap::new_vec();
        for candidate in &mut self.candidates {
            candidate.running = None;
        }
        // Held through hours in which nobody climbs.
        self.candidates.shrink_to_fit();
        self.pending.shrink_to_fit();
    }

    /// How an attempt ended. `Connected` ends the race: all others are cancelled.
    pub fn ended(&mut self, now: Instant, attempt: AttemptId, outcome: Outcome) {
        let Some(running) = self.running.remove(&attempt) else {
            return;
        };
        self.report.ended(running.step, running.transport, outcome);
        if outcome == Outcome::Connected {
            self.done = true;
            self.pending.clear();
            self.pending.extend(
                std::mem::take(&mut self.running)
                    .into_iter()
                    .map(|(id, _)| Output::Cancel(id)),
            );
        }
        for candidate in &mut self.candidates {
            if candidate.running == Some(attempt) {
                candidate.running = None;
                if outcome == Outcome::Connected {
                    candidate.failures = 0;
                } else {
                    let wait = backoff(
                        &mut self.rng,
                        self.config.retry_base,
                        self.config.retry_max,
                        u32::from(candidate.failures),
                    );
                    candidate.failures = candidate.failures.saturating_add(1);
                    candidate.due = now + wait;
                }
            } else if self.done {
                candidate.running = None;
            }
        }
    }

    /// The driver did not dial this one, so there is nothing to report and the next may start at once: it is due again at `until`,
    /// or forgotten, to be learned anew.
    pub fn passed_over(&mut self, attempt: AttemptId, until: Option<Instant>) {
        if let Some(running) = self.running.remove(&attempt) {
            self.next_start = self.next_start.min(running.start);
        }
        let Some(index) = self.candidates.iter().position(|c| c.running == Some(attempt)) else {
            return;
        };
        match until {
            Some(until) => (self.candidates[index].running, self.candidates[index].due) = (None, until),
            None => drop(self.candidates.swap_remove(index)),
        }
    }

    /// The next thing to do; call until it answers `WaitUntil` or `Done`.
    pub fn poll_output(&mut self, now: Instant) -> Output<E> {
        if let Some(output) = self.pending.pop_front() {
            return output;
        }
        if self.done {
            return Output::Done;
        }
        if let Some(late) = self
            .running
            .iter()
            .find(|(_, running)| running.deadline <= now)
            .map(|(id, _)| *id)
        {
            self.ended(now, late, Outcome::TimedOut);
            return Output::Cancel(late);
        }
        if self.next_start > now {
            return Output::WaitUntil(self.next_start.min(self.next_deadline()));
        }
        if let Some(step) = self.due_source(now) {
            self.next_start = now + self.config.gap;
            return self.ask(step);
        }
        if let Some(index) = self.due_candidate(now) {
            self.next_start = now + self.config.gap;
            return self.dial(now, index);
        }
        Output::WaitUntil(self.next_due().min(self.next_deadline()))
    }

    /// Steps start before dials of the same instant: an answer may take long, and it is cheap to ask.
    fn due_source(&self, now: Instant) -> Option<Step> {
        let due = |source: &Source| source.due.is_some_and(|due| due <= now);
        ORDER
            .iter()
            .find(|step| self.sources.get(step).is_some_and(due))
            .copied()
    }

    fn ask(&mut self, step: Step) -> Output<E> {
        if let Some(source) = self.sources.get_mut(&step) {
            source.asks = source.asks.saturating_add(1);
            source.due = None;
        }
        self.report.step_mut(step).asked += 1;
        Output::Ask(step)
    }

    /// A due candidate of the step with the fewest attempts under way; of its candidates the one that has been due for
    /// longest. Whoever invents names or addresses can add fresh candidates without end: if these came before one that has
    /// failed, it would not be tried again.
    fn due_candidate(&self, now: Instant) -> Option<usize> {
        if self.running.len() >= self.config.parallel_max {
            return None;
        }
        self.candidates
            .iter()
            .enumerate()
            .filter(|(_, c)| c.running.is_none() && c.due <= now)
            .map(|(index, c)| (self.running_of(c.step), c.due, c.step, index))
            .filter(|(running, ..)| *running < self.config.parallel_per_step_max)
            .min()
            .map(|(.., index)| index)
    }

    fn running_of(&self, step: Step) -> usize {
        self.running
            .values()
            .filter(|running| running.step == step)
            .count()
    }

    fn dial(&mut self, now: Instant, index: usize) -> Output<E> {
        let attempt = AttemptId(self.next_attempt);
        self.next_attempt = self.next_attempt.saturating_add(1);
        let candidate = &mut self.candidates[index];
        candidate.running = Some(attempt);
        let step = candidate.step;
        self.running.insert(
            attempt,
            Running {
                start: now,
                deadline: now + self.config.attempt_limit,
                step,
                transport: candidate.entry.transport(),
            },
        );
        Output::Dial {
            attempt,
            step,
            entry: candidate.entry.clone(),
        }
    }

    fn next_deadline(&self) -> Instant {
        self.running
            .values()
            .map(|running| running.deadline)
            .min()
            .unwrap_or(Instant::FAR_FUTURE)
    }

    /// When the next source or candidate falls due; those held back by a bound wait for a deadline or an answer.
    fn next_due(&self) -> Instant {
        let sources = self.sources.values().filter_map(|source| source.due);
        let full = self.running.len() >= self.config.parallel_max;
        let candidates = self
            .candidates
            .iter()
            .filter(|c| {
                !full && c.running.is_none() && self.running_of(c.step) < self.config.parallel_per_step_max
            })
            .map(|c| c.due);
        sources.chain(candidates).min().unwrap_or(Instant::FAR_FUTURE)
    }
}

/// `base` doubled `failures` times, at most `max`; the upper half of it is random.
fn backoff(rng: &mut impl Rng, base: Duration, max: Duration, failures: u32) -> Duration {
    let whole = base.saturating_mul(1_u32 << failures.min(16)).min(max);
    let half = u64::try_from(whole.as_nanos() / 2).unwrap_or(u64::MAX / 2);
    Duration::from_nanos(half + rng.next_u64() % half.max(1))
}
