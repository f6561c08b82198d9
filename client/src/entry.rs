//! Getting in: drives the ladder, dials what it says and rotation allows, resumes what was lost. Spec: SPEC §9.
//!
//! What takes time (a lookup, a name, a dial) is a task of its own that reports through one channel; it ends when its
//! handle is dropped, so winning the race is dropping the rest.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use litemap::LiteMap;
use phantom_core::dht::{DhtClient, Endpoint, KnownNodes};
use phantom_core::event::{Event, Outcome, Step};
use phantom_core::ladder::{AttemptId, Kind, Ladder, Output, Report};
use phantom_core::link::{Link, Resumption};
use phantom_core::queue;
use phantom_core::rendezvous::fetch::fetch;
use phantom_core::rendezvous::{SequencePins, Slot, StaticEntry};
use phantom_core::runtime::{Frugal, Owned, Runtime};
use phantom_core::units::{Instant, WallTime};
use phantom_rotation::{Failure, PathId};
use rand_core::Rng;
use std::net::SocketAddr;

use crate::candidate::{Candidate, dial, mark_sensitive, redial};
use crate::config::ClientConfig;
use crate::documents::Documents;
use crate::news::News;
use crate::rotor::{Rotor, failure_of_dial};
use crate::state::Kept;

/// Dials that may go on when another has won. More would hold sockets and memory of many clients for as long as a dial takes, in the
/// very second in which all of them find their way back.
const LOSERS_MAX: usize = 2;

/// Nodes of the document that one question to it gives.
const LISTED_PER_ASK: usize = 8;
/// Addresses of a name that are tried: who forges an answer may put many into it.
const ADDRESSES_PER_NAME: usize = 4;
/// How long an entry waits that may not be dialled before a connection to the same server ends.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// What a task of this module found out.
pub(crate) enum Found {
    /// A step knows these.
    Candidates(Step, Vec<Candidate>),
    /// A name of the static list, by its number there, leads to these.
    Resolved(u16, Vec<Candidate>),
    /// A step has said all it knows, in this climb; whether that was nothing.
    End(Step, u64, bool),
    /// What the DHT taught besides bridges.
    Dht(SequencePins, KnownNodes),
    /// How a dial ended.
    Dialled(AttemptId, Result<Link, Outcome>),
    /// How the dial of a second path ended.
    Second(PathId, Result<Link, Failure>),
    /// How a resumption ended.
    Resumed(Option<Resumption>),
}

/// A dial of the ladder's.
struct Dial<R: Runtime> {
    _task: Owned<R::Task>,
    step: Step,
    candidate: Candidate,
    /// Set by the task: see [`dial`].
    answered: Arc<AtomicBool>,
    /// It is given up then.
    until: Instant,
}

impl<R: Runtime> Dial<R> {
    fn failure(&self, outcome: Outcome) -> Failure {
        failure_of_dial(outcome, self.answered.load(Ordering::Relaxed))
    }
}

/// The driver of the ladder.
pub(crate) struct Entrance<R: Runtime> {
    rt: R,
    config: Arc<ClientConfig>,
    ladder: Ladder<Candidate, Frugal>,
    climbing: bool,
    /// Which climb this is: what an earlier one asked ends without ending what this one asks.
    climb: u64,
    dials: LiteMap<AttemptId, Dial<R>>,
    /// Those under way when another won: they end by themselves, so that what became of their first packets is known.
    losers: Vec<(AttemptId, Dial<R>)>,
    /// Dials that failed, for the machine of rotation.
    pub(crate) missed: Vec<(Candidate, Failure)>,
    asking: LiteMap<Step, Owned<R::Task>>,
    resuming: Option<Owned<R::Task>>,
    rng: Frugal,
    dht: Arc<DhtClient<R>>,
    /// How often the DHT was asked in this climb.
    dht_asks: u32,
    found: queue::Sender<Box<News>>,
}

/// What the ladder learns from; and whether friends should be asked.
pub(crate) struct Sources<'a> {
    /// The time believed: a wall clock that leapt must not make every bridge look expired.
    pub(crate) time: WallTime,
    pub(crate) kept: &'a Kept,
    pub(crate) documents: &'a mut Documents,
    /// Whom to dial, and in which order.
    pub(crate) rotor: &'a Rotor,
    /// Set when the friends' step was asked.
    pub(crate) want_invitation: bool,
}

impl<R: Runtime> Entrance<R> {
    pub(crate) fn new(
        rt: &R,
        config: &Arc<ClientConfig>,
        kept: &Kept,
        found: queue::Sender<Box<News>>,
    ) -> Self {
        let installation = &config.installation;
        let mut cached = installation.dht_nodes.to_vec();
        cached.retain(|node| !kept.dht_nodes.contains(&(node.ip(), node.port())));
        cached.extend(kept.dht_nodes.iter().copied().map(SocketAddr::from));
        let dht = phantom_core::dht::ClientConfig {
            // The latest that answered come last there, and are asked first.
            cached: cached.split_off(cached.len().saturating_sub(phantom_core::dht::client::CACHED_MAX)),
            routers: installation.routers.clone(),
            lookup: config.dht,
        };
        Self {
            rt: rt.clone(),
            config: config.clone(),
            ladder: Ladder::new(config.ladder.clone(), &config.steps, rt.rng("ladder").into()),
            climbing: false,
            climb: 0,
            dials: LiteMap::new_vec(),
            losers: Vec::new(),
            missed: Vec::new(),
            asking: LiteMap::new_vec(),
            resuming: None,
            rng: rt.rng("client entry").into(),
            dht: Arc::new(DhtClient::new(rt.clone(), dht)),
            dht_asks: 0,
            found,
        }
    }

    pub(crate) fn report(&self) -> &Report {
        self.ladder.report()
    }

    /// Looks for a way in, from the start.
    pub(crate) fn climb(&mut self, rotor: &Rotor) {
        self.climbing = true;
        self.climb += 1;
        self.dht_asks = 0;
        self.ladder.start(self.rt.now());
        self.ladder.arrange(|candidate| rotor.rank(candidate));
    }

    pub(crate) const fn is_climbing(&self) -> bool {
        self.climbing
    }

    /// What could be dialled beside the way in that is used.
    pub(crate) fn ways(&mut self, sources: &Sources<'_>) -> Vec<(Step, Candidate)> {
        let time = sources.time;
        let cached = sources
            .kept
            .entries
            .iter()
            .map(|entry| (Step::Cached, entry.clone()));
        let mut ways: Vec<(Step, Candidate)> = cached.collect();
        let known = self.ladder.candidates();
        ways.extend(known.map(|(step, candidate)| (step, candidate.clone())));
        let bridges = sources.kept.friends.iter().flat_map(Candidate::of_bridge);
        ways.extend(bridges.map(|bridge| (Step::Friend, bridge)));
        let listed = self.listed(sources.documents);
        ways.extend(listed.into_iter().map(|node| (Step::Directory, node)));
        ways.retain(|(_, candidate)| candidate.is_usable(time));
        ways
    }

    /// Dials a second path; how that ends comes as [`Found::Second`].
    pub(crate) fn dial_second(&self, path: PathId, step: Step, candidate: Candidate) -> Owned<R::Task> {
        let (rt, config, found) = (self.rt.clone(), self.config.clone(), self.found.clone());
        Owned(self.rt.spawn("client dials a second path", async move {
            let answered = AtomicBool::new(false);
            let link = dial(&rt, step, &candidate, &config.link, &answered).await;
            let link = link.map_err(|outcome| failure_of_dial(outcome, answered.load(Ordering::Relaxed)));
            let _ = found.send(Box::new(News::Found(Found::Second(path, link)))).await; // as in `resume`
        }))
    }

    /// Tries, beside the ladder and once, to carry a lost link on.
    pub(crate) fn resume(&mut self, candidate: Candidate, lost: Link) {
        if !lost.can_resume() {
            return;
        }
        let (rt, config, found) = (self.rt.clone(), self.config.clone(), self.found.clone());
        let limit = config.ladder.attempt_limit;
        self.resuming = Some(Owned(self.rt.spawn("client resumes", async move {
            let redial = redial(&rt, &candidate, lost, &config.link);
            let resumed = phantom_core::runtime::timeout(&rt, limit, redial)
                .await
                .ok()
                .flatten();
            // Whoever dropped the other end does not wait for it.
            let _ = found.send(Box::new(News::Found(Found::Resumed(resumed)))).await;
        })));
    }

    /// A link stands.
    pub(crate) fn stop(&mut self) {
        self.climbing = false;
        self.ladder.stop();
        self.losers.extend(std::mem::take(&mut self.dials));
        // Those dialled last: the others have been without an answer for longer.
        self.losers.drain(..self.losers.len().saturating_sub(LOSERS_MAX));
        self.asking = LiteMap::new_vec(); // it would keep its memory
        self.resuming = None;
    }

    /// Takes what friends gave.
    pub(crate) fn friends(&mut self, candidates: Vec<Candidate>, rotor: &Rotor) {
        self.offer(Step::Friend, candidates, rotor);
    }

    /// Does what is due; returns when to call again at the latest.
    pub(crate) fn drive(&mut self, sources: &mut Sources<'_>) -> Option<Instant> {
        let now = self.rt.now();
        while self.climbing {
            match self.ladder.poll_output(now) {
                Output::Ask(step) => self.ask(step, sources),
                Output::Dial { attempt, step, entry } => {
                    self.dial(now, attempt, step, entry, sources);
                }
                Output::Cancel(attempt) => {
                    // While the race is on, only what is over its time is cancelled.
                    if let Some(dial) = self.dials.remove(&attempt) {
                        self.give_up(dial);
                    }
                }
                Output::WaitUntil(at) => return Some(at.min(self.give_up_losers(now))),
                Output::Done => self.stop(),
            }
        }
        Some(self.give_up_losers(now)).filter(|at| *at != Instant::FAR_FUTURE)
    }

    /// A dial is over its time.
    fn give_up(&mut self, dial: Dial<R>) {
        self.rt.emit(Event::Attempt {
            step: dial.step,
            target: Some(dial.candidate.address()),
            outcome: Outcome::TimedOut,
            transport: dial.candidate.kind(),
        });
        let how = dial.failure(Outcome::TimedOut);
        self.missed.push((dial.candidate, how));
    }

    /// When the next one is over its time.
    fn give_up_losers(&mut self, now: Instant) -> Instant {
        while let Some(at) = self.losers.iter().position(|(_, dial)| dial.until <= now) {
            let (_, dial) = self.losers.remove(at);
            self.give_up(dial);
        }
        if self.losers.is_empty() {
            self.losers = Vec::new(); // an idle client holds no buffers
        }
        let untils = self.losers.iter().map(|(_, dial)| dial.until);
        untils.min().unwrap_or(Instant::FAR_FUTURE)
    }

    /// Takes what a task found out; a link that won the race, with where it leads and how that became known.
    pub(crate) fn take(&mut self, found: Found, kept: &mut Kept, rotor: &Rotor) -> Option<Won> {
        let now = self.rt.now();
        match found {
            Found::Candidates(step, candidates) => self.offer(step, candidates, rotor),
            Found::Resolved(name, candidates) => {
                let candidates = self.shared(candidates, rotor);
                self.ladder.resolved(now, Step::Static, name, candidates);
            }
            Found::End(step, climb, nothing) => {
                if climb == self.climb {
                    self.asking.remove(&step);
                    if nothing {
                        self.nothing(step);
                    }
                }
            }
            Found::Dht(pins, nodes) => {
                kept.pins = pins;
                kept.dht_nodes = nodes;
            }
            Found::Dialled(attempt, result) => {
                if let Some(at) = self.losers.iter().position(|(loser, _)| *loser == attempt) {
                    let (_, dial) = self.losers.remove(at);
                    // A link that nobody needs any more is closed; that it stands says what there was to know.
                    let failed = result.err().map(|outcome| dial.failure(outcome));
                    self.missed.extend(failed.map(|how| (dial.candidate, how)));
                    return None;
                }
                let dial = self.dials.remove(&attempt)?;
                match result {
                    Ok(link) => {
                        self.ladder.ended(now, attempt, Outcome::Connected);
                        self.stop();
                        return Some(Won {
                            step: dial.step,
                            candidate: dial.candidate,
                            link,
                        });
                    }
                    Err(outcome) => {
                        self.ladder.ended(now, attempt, outcome);
                        let how = dial.failure(outcome);
                        self.missed.push((dial.candidate, how));
                    }
                }
            }
            Found::Second(..) => {}
            Found::Resumed(_) => self.resuming = None,
        }
        None
    }

    /// A step had nothing: said once per question.
    fn nothing(&mut self, step: Step) {
        self.rt.emit(Event::Attempt {
            step,
            target: None,
            outcome: Outcome::NothingKnown,
            transport: Kind::Plain,
        });
        self.ladder.found(self.rt.now(), step, Vec::new());
    }

    fn dial(
        &mut self,
        now: Instant,
        attempt: AttemptId,
        step: Step,
        candidate: Candidate,
        sources: &Sources<'_>,
    ) {
        let under_way = self
            .dials
            .values()
            .chain(self.losers.iter().map(|(_, dial)| dial));
        let beside = under_way
            .filter(|dial| dial.candidate.is_beside(&candidate))
            .count();
        let free = sources.rotor.free_at(now, &candidate, beside);
        if free != Some(now) {
            let until = free.unwrap_or(now + ASK_AGAIN);
            return self.ladder.passed_over(attempt, Some(until));
        }
        let time = sources.time;
        if !candidate.is_usable(time) {
            // A later descriptor of the same bridge is to take its place.
            return self.ladder.passed_over(attempt, None);
        }
        let (rt, config, found, to) = (
            self.rt.clone(),
            self.config.clone(),
            self.found.clone(),
            candidate.clone(),
        );
        let answered = Arc::new(AtomicBool::new(false));
        let tell = answered.clone();
        let task = Owned(self.rt.spawn("client dials", async move {
            let result = dial(&rt, step, &to, &config.link, &tell).await;
            let _ = found
                .send(Box::new(News::Found(Found::Dialled(attempt, result))))
                .await; // as in `resume`
        }));
        let dial = Dial {
            _task: task,
            step,
            candidate,
            answered,
            until: now + self.config.ladder.attempt_limit,
        };
        self.dials.insert(attempt, dial);
    }

    fn ask(&mut self, step: Step, sources: &mut Sources<'_>) {
        if self.asking.contains_key(&step) {
            return; // Its answer is still to come.
        }
        let time = sources.time;
        match step {
            Step::Cached => {
                let usable = sources.kept.entries.iter().filter(|entry| entry.is_usable(time));
                let usable = usable.cloned().collect();
                self.known(step, usable, sources.rotor);
            }
            Step::Static => self.ask_static(sources.rotor),
            Step::Directory => {
                let listed = self.listed(sources.documents);
                self.known(step, listed, sources.rotor);
            }
            Step::Dht => self.ask_dht(time, sources.kept),
            Step::Friend => {
                sources.want_invitation = true;
                let bridges = sources.kept.friends.iter();
                let bridges = bridges.filter(|bridge| time < bridge.expires);
                let bridges = bridges.flat_map(Candidate::of_bridge).collect();
                self.known(step, bridges, sources.rotor);
            }
        }
    }

    fn known(&mut self, step: Step, candidates: Vec<Candidate>, rotor: &Rotor) {
        if candidates.is_empty() {
            self.nothing(step);
        } else {
            self.offer(step, candidates, rotor);
        }
    }

    fn offer(&mut self, step: Step, candidates: Vec<Candidate>, rotor: &Rotor) {
        let candidates = self.shared(candidates, rotor);
        self.ladder.found(self.rt.now(), step, candidates);
    }

    /// The most promising first; among equals as they were.
    fn shared(&self, mut candidates: Vec<Candidate>, rotor: &Rotor) -> Vec<Candidate> {
        candidates.sort_by_cached_key(|candidate| std::cmp::Reverse(rotor.rank(candidate)));
        let candidates = candidates.into_iter();
        candidates.map(|candidate| candidate.shared(&self.rt)).collect()
    }

    fn ask_static(&mut self, rotor: &Rotor) {
        let entries = &self.config.installation.entries;
        let mut by_address: Vec<_> = entries
            .iter()
            .filter_map(|entry| match entry.endpoint {
                Endpoint::Addr(address) => Some(Candidate::of_static(entry, address)),
                Endpoint::Name { .. } => None,
            })
            .collect();
        // Not everybody begins with the same one.
        shuffle(&mut self.rng, &mut by_address);
        let is_name = |entry: &&StaticEntry| matches!(entry.endpoint, Endpoint::Name { .. });
        let entries = entries.clone();
        let none_named = !entries.iter().any(|entry| is_name(&entry));
        if none_named || !by_address.is_empty() {
            self.known(Step::Static, by_address, rotor);
        }
        if none_named {
            return;
        }
        let (rt, found, climb) = (self.rt.clone(), self.found.clone(), self.climb);
        let task = self.rt.spawn("client resolves", async move {
            let mut nothing = true;
            for (name, entry) in (0_u16..).zip(entries.iter().filter(is_name)) {
                let addresses = entry.endpoint.resolve(&rt).await;
                if addresses.is_empty() {
                    rt.emit(Event::Attempt {
                        step: Step::Static,
                        target: None,
                        outcome: Outcome::NoSuchName,
                        transport: Kind::Plain,
                    });
                    continue;
                }
                nothing = false;
                let candidates = addresses.into_iter().take(ADDRESSES_PER_NAME);
                let candidates = candidates.map(|at| Candidate::of_static(entry, at));
                let resolved = Box::new(News::Found(Found::Resolved(name, candidates.collect())));
                let _ = found.send(resolved).await; // as in `resume`
            }
            let end = Box::new(News::Found(Found::End(Step::Static, climb, nothing)));
            let _ = found.send(end).await; // as in `resume`
        });
        self.asking.insert(Step::Static, Owned(task));
    }

    /// Some entries of the newest document, others at each question.
    fn listed(&mut self, documents: &Documents) -> Vec<Candidate> {
        let Some(newest) = documents.newest() else {
            return Vec::new();
        };
        let entry = phantom_core::directory::descriptor::Roles::ENTRY;
        let mut nodes: Vec<_> = newest.document.with_roles(entry).collect();
        shuffle(&mut self.rng, &mut nodes);
        nodes
            .into_iter()
            .take(LISTED_PER_ASK)
            .flat_map(Candidate::of_listed)
            .collect()
    }

    /// Two slots first, all of them when these do not help: what a client never looked up, nobody learns from it.
    fn ask_dht(&mut self, time: WallTime, kept: &Kept) {
        let mut slots = Slot::ALL.to_vec();
        // The same two for an installation whenever it asks, but not for all installations.
        let first = usize::from(self.config.installation.cohort.public.id().0[0]) % slots.len();
        slots.rotate_left(first);
        if self.dht_asks == 0 {
            slots.truncate(2);
        }
        self.dht_asks += 1;
        let (rt, config, found, dht) = (
            self.rt.clone(),
            self.config.clone(),
            self.found.clone(),
            self.dht.clone(),
        );
        let (climb, mut pins) = (self.climb, kept.pins.clone());
        let task = self.rt.spawn("client looks in the DHT", async move {
            let told = found.clone();
            let marking = rt.clone();
            let count = fetch(
                &rt,
                time,
                &dht,
                &config.installation.cohort,
                &slots,
                &mut pins,
                move |new| {
                    mark_sensitive(&marking, &new.bridge);
                    let candidates = Candidate::of_bridge(&new.bridge).collect();
                    // If the channel is full, the next question finds it again.
                    let _ = told.try_send(Box::new(News::Found(Found::Candidates(Step::Dht, candidates))));
                },
            )
            .await;
            let taught = Box::new(News::Found(Found::Dht(pins, dht.known_nodes())));
            let _ = found.send(taught).await; // as in `resume`
            let end = Box::new(News::Found(Found::End(Step::Dht, climb, count == 0)));
            let _ = found.send(end).await; // as in `resume`
        });
        self.asking.insert(Step::Dht, Owned(task));
    }
}

/// The link that won the race.
pub(crate) struct Won {
    pub(crate) step: Step,
    pub(crate) candidate: Candidate,
    pub(crate) link: Link,
}

/// Fisher and Yates; the remainder's bias is below 2^-40.
fn shuffle<T>(rng: &mut impl Rng, items: &mut [T]) {
    for last in (1..items.len()).rev() {
        let other = rng.next_u64() % (last as u64 + 1);
        items.swap(last, other as usize);
    }
}

#[cfg(test)]
mod tests;
