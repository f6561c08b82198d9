//! The iterative lookup as a machine without I/O: ask the nearest known nodes, learn nearer ones, stop when the nearest
//! have answered. SPEC §7.3.
//!
//! It collects write tokens and, when it looks for a mutable item, every valid value that it is shown. Everything a node
//! says is hostile until shown otherwise: values are verified, at most [`PER_IP_MAX`] nodes of one address take part, ids that
//! BEP 42 forbids do not count among the nearest, and a node that says nothing within [`Config::slow`] holds nobody up,
//! although its answer is still taken as long as the lookup runs.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::addr::Addr;
use super::id::{DhtId, Distance};
use super::item::{MutableItem, mutable_target};
use super::krpc::{NodeInfo, Response};
use crate::units::Instant;

/// Nodes of one address that take part in one lookup. Loopback addresses, which many test nodes share, are exempt.
pub const PER_IP_MAX: usize = 2;
/// Candidates held at once; the farthest that were not asked yet give way.
const CANDIDATES_MAX: usize = 96;

/// How a lookup behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// Queries whose answer is awaited at once. Default 4.
    pub parallel: usize,
    /// How many of the nearest nodes must have answered. Default 8.
    pub nearest: usize,
    /// Queries sent in all. Default 96.
    pub queries_max: usize,
    /// Time after which an unanswered query frees its place. Default 1 s: above the round trips of most of the world.
    pub slow: Duration,
    /// Time after which a node that did not answer counts as dead. Default 3 s.
    pub dead: Duration,
    /// Once a quorum of values is in and the nearest nodes have been asked, how long stragglers are awaited. Default 300 ms.
    pub settle: Duration,
    /// The whole lookup. Default 15 s.
    pub limit: Duration,
    /// Valid values from different addresses that make a quorum. Default 3.
    pub quorum: usize,
    /// Whether ids must fit their addresses (BEP 42) to count. Default true.
    pub enforce_ids: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            parallel: 4,
            nearest: 8,
            queries_max: 96,
            slow: Duration::from_secs(1),
            dead: Duration::from_secs(3),
            settle: Duration::from_millis(300),
            limit: Duration::from_secs(15),
            quorum: 3,
            enforce_ids: true,
        }
    }
}

/// What is looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Goal {
    /// The nodes nearest to an id, asked with `find_node`.
    Nodes(DhtId),
    /// A mutable item, asked with `get`.
    Item {
        /// Its key.
        key: [u8; 32],
        /// Its salt.
        salt: Vec<u8>,
        /// Values with a lower sequence number are old ones played back, and do not count.
        pinned: i64,
    },
}

impl Goal {
    /// The id whose neighbourhood is searched.
    pub fn target(&self) -> DhtId {
        match self {
            Self::Nodes(target) => *target,
            Self::Item { key, salt, .. } => mutable_target(key, salt),
        }
    }
}

/// What the machine wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Ask the node at this address, and report with [`Lookup::answered`] or [`Lookup::failed`].
    Ask(SocketAddr),
    /// Nothing to do before this instant, unless something is heard.
    WaitUntil(Instant),
    /// The lookup has ended.
    Done,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Fresh,
    Asked { at: Instant },
    Slow { at: Instant },
    Answered { token: Option<Box<[u8]>> },
    Dead,
}

#[derive(Clone, Debug)]
struct Candidate {
    /// To the target. While the id is unknown: by the id that others name for it, or the largest.
    distance: Distance,
    addr: Addr,
    /// The id is known, and follows from the distance; it is unknown for a seed that has not answered.
    has_id: bool,
    state: State,
}

// Up to a hundred are in each of the dozen lookups of a client that is cut off.
const _: () = assert!(size_of::<Candidate>() <= 64);

impl Candidate {
    fn id(&self, target: DhtId) -> Option<DhtId> {
        self.has_id.then(|| target.at(self.distance))
    }
}

/// A node that answered and gave a token to store with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// The node.
    pub node: NodeInfo,
    /// Its token.
    pub token: Vec<u8>,
}

/// What a lookup saw, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Queries sent.
    pub asked: u32,
    /// Nodes that answered.
    pub answered: u32,
    /// Addresses that showed a valid value, not older than the pin.
    pub responders: u32,
    /// Values that were forged or malformed.
    pub forged: u32,
    /// Valid values that were older than the pin.
    pub rolled_back: u32,
}

/// One lookup.
#[derive(Clone, Debug)]
pub struct Lookup {
    config: Config,
    goal: Goal,
    target: DhtId,
    me: DhtId,
    candidates: Vec<Candidate>,
    until: Instant,
    /// When the quorum was reached.
    quorum_at: Option<Instant>,
    more_seeds: bool,
    best: Option<MutableItem>,
    responders: Vec<IpAddr>,
    tally: Tally,
    done: bool,
}

impl Lookup {
    /// A lookup by the node `me`, which never asks itself. It needs seeds to begin.
    pub fn new(now: Instant, config: Config, goal: Goal, me: DhtId) -> Self {
        Self {
            target: goal.target(),
            goal,
            me,
            candidates: Vec::new(),
            until: now + config.limit,
            quorum_at: None,
            more_seeds: false,
            best: None,
            responders: Vec::new(),
            tally: Tally::default(),
            done: false,
            config,
        }
    }

    /// Adds an address to begin at, whose id is not known.
    pub fn seed(&mut self, addr: SocketAddr) {
        self.add(None, addr);
    }

    /// Adds a node to begin at.
    pub fn seed_node(&mut self, node: NodeInfo) {
        self.add(Some(node.id), node.addr);
    }

    /// Says whether seeds may still come (names being resolved): until then the lookup does not end unanswered.
    pub const fn expect_seeds(&mut self, more: bool) {
        self.more_seeds = more;
    }

    /// What is looked for.
    pub const fn goal(&self) -> &Goal {
        &self.goal
    }

    /// The newest valid item seen.
    pub const fn best(&self) -> Option<&MutableItem> {
        self.best.as_ref()
    }

    /// What was seen, in numbers.
    pub const fn tally(&self) -> Tally {
        self.tally
    }

    /// Whether enough addresses showed a valid value.
    pub fn has_quorum(&self) -> bool {
        self.responders.len() >= self.config.quorum
    }

    /// The nearest nodes that answered, nearest first; only those whose ids count.
    pub fn nearest(&self) -> Vec<NodeInfo> {
        self.answering()
            .filter_map(|c| {
                Some(NodeInfo {
                    id: c.id(self.target)?,
                    addr: c.addr.socket(),
                })
            })
            .take(self.config.nearest)
            .collect()
    }

    /// The nearest nodes that answered with a token, nearest first.
    pub fn holders(&self) -> Vec<Holder> {
        self.answering()
            .filter_map(|c| match (&c.state, c.id(self.target)) {
                (State::Answered { token: Some(token) }, Some(id)) => Some(Holder {
                    node: NodeInfo {
                        id,
                        addr: c.addr.socket(),
                    },
                    token: token.to_vec(),
                }),
                _ => None,
            })
            .take(self.config.nearest)
            .collect()
    }

    /// Every node that answered, nearest first: worth caching for the next run.
    pub fn alive(&self) -> Vec<SocketAddr> {
        self.candidates
            .iter()
            .filter(|c| matches!(c.state, State::Answered { .. }))
            .map(|c| c.addr.socket())
            .collect()
    }

    fn answering(&self) -> impl Iterator<Item = &Candidate> {
        self.candidates
            .iter()
            .filter(|c| matches!(c.state, State::Answered { .. }) && self.counts(c))
    }

    /// Whether a candidate may be one of the nearest.
    fn counts(&self, candidate: &Candidate) -> bool {
        let id = || candidate.id(self.target);
        !self.config.enforce_ids || id().is_none_or(|id| id.fits_ip(candidate.addr.ip()))
    }

    fn add(&mut self, id: Option<DhtId>, at: SocketAddr) {
        let (ip, addr) = (at.ip(), Addr::from(at));
        let distance = id.map(|id| self.target.distance(&id));
        // A seed that somebody names has a place: without one it would stay last, and never be asked although it may be the
        // nearest of all. Its id stays unknown until it answers, so a lie about it does no more than have it asked sooner.
        let seed = |c: &Candidate| c.addr == addr && !c.has_id && c.state == State::Fresh;
        if let Some(distance) = distance
            && let Some(at) = self.candidates.iter().position(seed)
        {
            if distance < self.candidates[at].distance {
                let seed = self.candidates.remove(at);
                self.insert(Candidate { distance, ..seed });
            }
            return;
        }
        let same_ip = self.candidates.iter().filter(|c| c.addr.ip() == ip).count();
        if id == Some(self.me)
            || at.port() == 0
            || ip.is_unspecified()
            || ip.is_multicast()
            || self
                .candidates
                .iter()
                .any(|c| c.addr == addr || (c.has_id && distance == Some(c.distance)))
            || (!ip.is_loopback() && same_ip >= PER_IP_MAX)
        {
            return;
        }
        self.insert(Candidate {
            distance: distance.unwrap_or(Distance([0xff; 20])),
            addr,
            has_id: id.is_some(),
            state: State::Fresh,
        });
        if self.candidates.len() > CANDIDATES_MAX {
            // Seeds are few and come first; of the rest the farthest that was not asked is the least use.
            let drop = self.candidates.iter().rposition(|c| c.state == State::Fresh);
            self.candidates.remove(drop.unwrap_or(CANDIDATES_MAX));
        }
    }

    fn insert(&mut self, candidate: Candidate) {
        let at = self
            .candidates
            .partition_point(|c| c.distance <= candidate.distance);
        self.candidates.insert(at, candidate);
    }

    /// The node at `addr` answered, be it late.
    pub fn answered(&mut self, now: Instant, addr: SocketAddr, response: &Response<'_>) {
        let known = |c: &Candidate| c.addr == addr.into();
        let Some(at) = self.candidates.iter().position(known) else {
            return;
        };
        let target = self.target;
        let candidate = &mut self.candidates[at];
        match candidate.state {
            State::Fresh | State::Answered { .. } => return,
            State::Asked { .. } | State::Slow { .. } | State::Dead => {}
        }
        // Somebody else than was named lives there: whoever named it was wrong or lied, so it does not count by that id.
        if candidate.id(target).is_some_and(|id| id != response.id) || response.id == self.me {
            candidate.state = State::Dead;
            return;
        }
        let mut candidate = self.candidates.remove(at);
        candidate.has_id = true;
        candidate.distance = self.target.distance(&response.id);
        candidate.state = State::Answered {
            token: response.token.map(Box::from),
        };
        self.insert(candidate);
        self.tally.answered += 1;
        for node in &response.nodes {
            self.add(Some(node.id), node.addr);
        }
        self.take_item(now, addr.ip(), response);
    }

    fn take_item(&mut self, now: Instant, from: IpAddr, response: &Response<'_>) {
        let Goal::Item { key, salt, pinned } = &self.goal else {
            return;
        };
        let (Some(value), Some(sequence)) = (response.value, response.sequence) else {
            return;
        };
        let (Some(its_key), Some(signature)) = (&response.key, &response.signature) else {
            self.tally.forged += 1;
            return;
        };
        // Most nodes show the same bytes; a signature is checked once for all of them.
        let known = self.best.as_ref().is_some_and(|best| {
            best.sequence() == sequence
                && best.value() == value
                && best.signature() == signature
                && key == its_key
        });
        if !known {
            let item = match MutableItem::verify(key, salt, sequence, value, signature) {
                Ok(item) if key == its_key => item,
                _ => {
                    self.tally.forged += 1;
                    return;
                }
            };
            if sequence < *pinned {
                self.tally.rolled_back += 1;
                return;
            }
            if self.best.as_ref().is_none_or(|best| best.sequence() < sequence) {
                self.best = Some(item);
            }
        }
        // Loopback nodes stand for hosts of their own.
        if !from.is_loopback() && self.responders.contains(&from) {
            return;
        }
        self.responders.push(from);
        self.tally.responders += 1;
        if self.has_quorum() && self.quorum_at.is_none() {
            self.quorum_at = Some(now);
        }
    }

    /// The node at `addr` answered with an error, or cannot be reached.
    pub fn failed(&mut self, addr: SocketAddr) {
        if let Some(candidate) = self.candidates.iter_mut().find(|c| c.addr == addr.into())
            && matches!(candidate.state, State::Asked { .. } | State::Slow { .. })
        {
            candidate.state = State::Dead;
        }
    }

    /// What to do now. Drain after every change until it is no [`Output::Ask`].
    pub fn poll_output(&mut self, now: Instant) -> Output {
        if self.done || now >= self.until {
            self.done = true;
            return Output::Done;
        }
        let (mut wake, mut under_way) = (self.until, 0);
        for candidate in &mut self.candidates {
            if let State::Asked { at } = candidate.state
                && at + self.config.slow <= now
            {
                candidate.state = State::Slow { at };
            }
            match candidate.state {
                State::Asked { at } => {
                    under_way += 1;
                    wake = wake.min(at + self.config.slow);
                }
                State::Slow { at } if at + self.config.dead <= now => candidate.state = State::Dead,
                State::Slow { at } => wake = wake.min(at + self.config.dead),
                State::Fresh | State::Answered { .. } | State::Dead => {}
            }
        }
        // The nearest that may still matter: those that are slow or dead make room for the next.
        let mut counted = 0;
        let (mut next, mut waiting) = (None, false);
        for (at, candidate) in self.candidates.iter().enumerate() {
            if counted >= self.config.nearest {
                break;
            }
            match candidate.state {
                State::Slow { .. } | State::Dead => continue,
                State::Fresh => next = next.or(Some(at)),
                State::Asked { .. } => waiting = true,
                State::Answered { .. } => {}
            }
            counted += usize::from(self.counts(candidate));
        }
        let spent = self.tally.asked as usize >= self.config.queries_max;
        if let Some(next) = next
            && !spent
        {
            if under_way < self.config.parallel {
                self.candidates[next].state = State::Asked { at: now };
                self.tally.asked += 1;
                return Output::Ask(self.candidates[next].addr.socket());
            }
            return Output::WaitUntil(wake);
        }
        if let Some(at) = self.quorum_at {
            if at + self.config.settle <= now {
                self.done = true;
                return Output::Done;
            }
            wake = wake.min(at + self.config.settle);
        }
        let slow = self
            .candidates
            .iter()
            .any(|c| matches!(c.state, State::Slow { .. }));
        let hopeful = self.tally.answered == 0 && (slow || self.more_seeds);
        if waiting || hopeful || (spent && under_way > 0) {
            return Output::WaitUntil(wake);
        }
        self.done = true;
        Output::Done
    }
}

#[cfg(test)]
mod tests;
