//! Which probe follows which answer, when, and who is blocked.
//!
//! Suspects and answers go in, probes and blocks come out, each change followed by a full drain. All chances follow from the
//! seed. A server has two stages (Alice et al., IMC 2020, §4.2): every suspect that is seen makes a round of R1, R2, NR1 and NR2
//! (and HTTP and TLS, if they are asked for); once a replay was answered with data, R3, R4 and R5 follow too.
//!
//! Everything that is kept is bounded by [`Limits`]; what does not fit is counted and left out.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use phantom_path::dice::Dice;

use super::Suspect;
use super::config::Config;
use super::judge::{Answer, Seen, Sign, Verdict};
use super::kind::Kind;

/// NR2 came about three times as often as all NR1 together (IMC 2020, §3.2, Figure 2).
const NR2_PER_NR1: u32 = 3;

/// A probe of which nothing was heard for so long is given up, in nanoseconds: whoever sent it is gone.
const LOST_NS: u64 = 600_000_000_000;

/// Bounds of a prober. Where 0 makes no sense it counts as 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Servers under suspicion at once; beyond, the oldest of which nothing is due is forgotten, or else the new one is
    /// not taken up. Default 1,024.
    pub servers_max: usize,
    /// First packets that are kept of each server. Default 4.
    pub replays_max: usize,
    /// Bytes that are kept of each. Default 1,460, a full segment.
    pub replay_bytes_max: usize,
    /// Probes that are sent in a second; beyond, they wait for the next. Default 100.
    pub per_second: u32,
    /// Probes that wait for an answer at once; beyond, others wait. Default 256.
    pub in_flight_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            servers_max: 1_024,
            replays_max: 4,
            replay_bytes_max: 1_460,
            per_second: 100,
            in_flight_max: 256,
        }
    }
}

/// What a prober is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A rule met a flow.
    Suspect(Suspect),
    /// The probe of this number was answered, or was not.
    Answered(u64, Answer),
    /// Time passed.
    Tick,
}

/// What a prober wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// A probe is to be sent, and its answer told.
    Send(Probe),
    /// A server is to be blocked from now on, as the rule's configuration says.
    Block {
        /// The rule.
        rule: usize,
        /// The server.
        server: SocketAddr,
        /// By what it was found.
        sign: Sign,
    },
    /// Nothing more before this time, in nanoseconds, unless there is something to tell.
    WaitUntil(u64),
    /// Nothing more unless there is something to tell.
    Done,
}

/// A probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// By which its answer is told.
    pub number: u64,
    /// The rule whose suspect it is about.
    pub rule: usize,
    /// Where it goes.
    pub server: SocketAddr,
    /// Its kind.
    pub kind: Kind,
    /// What is said.
    pub payload: Vec<u8>,
    /// From which of the rule's addresses, by number.
    pub from: usize,
    /// How long an answer is waited for, in nanoseconds.
    pub patience_ns: u64,
}

/// An input that the machine did not wait for. It changes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProbeError {
    /// A suspect of a rule that does not probe.
    #[error("rule {0} does not probe")]
    Rule(usize),
    /// An answer to a probe that is not under way.
    #[error("no probe {0} is under way")]
    Probe(u64),
    /// There is no room, or nothing to replay.
    #[error("{0} is not taken up: {1}")]
    NotTaken(SocketAddr, &'static str),
}

/// What a prober did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Suspects that made a round.
    pub rounds: u64,
    /// Suspects that made none: of a server that is blocked, or was asked often enough, or for want of room.
    pub passed_over: u64,
    /// Probes sent.
    pub sent: u64,
    /// Of them, those that were given up without a word.
    pub lost: u64,
    /// Servers that were found.
    pub found: u64,
    /// Servers that were blocked.
    pub blocked: u64,
}

/// A rule, and a server that it suspects.
type Key = (usize, SocketAddr);

/// What is known of a server.
struct Case {
    /// Cases are numbered; what is due of an earlier one of the same server is void.
    number: u64,
    replays: Vec<Vec<u8>>,
    /// Probes that were planned, sent or not.
    planned: u32,
    /// Of them, those without an answer.
    open: u32,
    seen: Vec<Seen>,
    /// A replay was answered.
    staged: bool,
    /// It was found; the chance of a block is drawn once.
    found: bool,
    /// It is blocked at least until then.
    blocked_until_ns: Option<u64>,
}

/// A probe that is to be sent.
struct Due {
    key: Key,
    case: u64,
    kind: Kind,
    replay: usize,
}

/// A probe that was sent.
struct Flying {
    key: Key,
    case: u64,
    kind: Kind,
    len: usize,
    sent_ns: u64,
}

/// A prober.
pub struct Prober {
    limits: Limits,
    rules: BTreeMap<usize, Config>,
    dice: Dice,
    cases: BTreeMap<Key, Case>,
    opened: u64,
    /// By time and the order in which they were planned.
    due: BTreeMap<(u64, u64), Due>,
    planned: u64,
    /// By number, in the order in which they were sent.
    flying: BTreeMap<u64, Flying>,
    /// A second, and how many probes were sent in it.
    second: (u64, u32),
    outputs: VecDeque<Output>,
    now_ns: u64,
    counts: Counts,
}

impl Prober {
    /// A prober for the suspects of these rules.
    pub fn new(seed: u64, limits: Limits, rules: impl IntoIterator<Item = (usize, Config)>) -> Self {
        Self {
            limits: Limits {
                servers_max: limits.servers_max.max(1),
                replays_max: limits.replays_max.max(1),
                replay_bytes_max: limits.replay_bytes_max.max(1),
                per_second: limits.per_second.max(1),
                in_flight_max: limits.in_flight_max.max(1),
            },
            rules: rules.into_iter().collect(),
            dice: Dice::new(seed),
            cases: BTreeMap::new(),
            opened: 0,
            due: BTreeMap::new(),
            planned: 0,
            flying: BTreeMap::new(),
            second: (0, 0),
            outputs: VecDeque::new(),
            now_ns: 0,
            counts: Counts::default(),
        }
    }

    /// What it did.
    pub const fn counts(&self) -> Counts {
        self.counts
    }

    /// Servers under suspicion, probes that are due, and probes under way.
    pub fn held(&self) -> (usize, usize, usize) {
        (self.cases.len(), self.due.len(), self.flying.len())
    }

    /// What it thinks of a server that a rule suspects; `None`: nothing is known of it.
    pub fn verdict(&self, rule: usize, server: SocketAddr) -> Option<Verdict> {
        let (case, config) = (self.cases.get(&(rule, server))?, self.rules.get(&rule)?);
        Some(config.judge.verdict(&case.seen, contrast(config)))
    }

    /// Takes an input at `now_ns`. Times that go back count as the latest so far.
    ///
    /// # Errors
    /// It did not wait for that; nothing changed but that time passed.
    pub fn handle(&mut self, now_ns: u64, input: Input) -> Result<(), ProbeError> {
        self.now_ns = self.now_ns.max(now_ns);
        let taken = match input {
            Input::Suspect(suspect) => self.suspect(suspect),
            Input::Answered(number, answer) => self.answered(number, answer),
            Input::Tick => Ok(()),
        };
        self.give_up_lost();
        self.send_due();
        taken
    }

    /// What is to be done now. To be called until it says to wait, or that it is done.
    pub fn poll_output(&mut self) -> Output {
        if let Some(output) = self.outputs.pop_front() {
            return output;
        }
        let lost = (self.flying.values().next()).map(|first| first.sent_ns.saturating_add(LOST_NS));
        let due = self.due.keys().next().map(|(at_ns, _)| *at_ns);
        let next = match due {
            Some(_) if self.flying.len() >= self.limits.in_flight_max => lost,
            // What is due and was not sent waits for the next second.
            Some(at_ns) if at_ns <= self.now_ns => Some((self.second.0 + 1).saturating_mul(SECOND_NS)),
            Some(at_ns) => Some(at_ns),
            None => lost,
        };
        next.map_or(Output::Done, Output::WaitUntil)
    }

    fn suspect(&mut self, suspect: Suspect) -> Result<(), ProbeError> {
        let key = (suspect.rule, suspect.server);
        if !self.rules.contains_key(&suspect.rule) {
            return Err(ProbeError::Rule(suspect.rule));
        }
        let taken = self.round(key, suspect);
        match taken {
            Ok(()) => self.counts.rounds += 1,
            Err(_) => self.counts.passed_over += 1,
        }
        taken.map_err(|why| ProbeError::NotTaken(key.1, why))
    }

    fn round(&mut self, key: Key, suspect: Suspect) -> Result<(), &'static str> {
        if suspect.first.is_empty() {
            return Err("nothing was said that could be replayed");
        }
        let blocked = |case: &Case| case.blocked_until_ns;
        match self.cases.get(&key).map(blocked) {
            Some(Some(until_ns)) if until_ns > self.now_ns => return Err("it is blocked"),
            // The block is over, and all begins anew.
            Some(Some(_)) => _ = self.cases.remove(&key),
            Some(None) | None => {}
        }
        if !self.cases.contains_key(&key) {
            self.make_room()?;
            self.opened += 1;
            self.cases.insert(key, Case::new(self.opened));
        }
        let Some(case) = self.cases.get_mut(&key) else {
            return Err("it is not known");
        };
        if case.replays.len() < self.limits.replays_max {
            let mut replay = suspect.first;
            replay.truncate(self.limits.replay_bytes_max);
            case.replays.push(replay);
        }
        let (replay, staged) = (case.replays.len() - 1, case.staged);
        let mut any = false;
        for kind in self.kinds(key.0) {
            if staged || !kind.waits_for_an_answer() {
                any |= self.plan(key, kind, replay, suspect.at_ns);
            }
        }
        if any {
            Ok(())
        } else {
            Err("it was asked often enough")
        }
    }

    /// A server is forgotten of which nothing is due and nothing waited for, if there is no room for one more.
    fn make_room(&mut self) -> Result<(), &'static str> {
        if self.cases.len() < self.limits.servers_max {
            return Ok(());
        }
        let idle = self.cases.iter().filter(|(_, case)| case.open == 0);
        let oldest = idle.min_by_key(|(_, case)| case.number).map(|(key, _)| *key);
        oldest
            .and_then(|key| self.cases.remove(&key))
            .map(drop)
            .ok_or("too many others are suspected")
    }

    /// The kinds of a rule, each as often as it is sent in a round.
    fn kinds(&self, rule: usize) -> Vec<Kind> {
        let Some(config) = self.rules.get(&rule) else {
            return Vec::new();
        };
        let mut kinds = Vec::new();
        for &kind in &config.kinds {
            let often = match kind {
                Kind::Nr2 if config.kinds.contains(&Kind::Nr1) => NR2_PER_NR1,
                _ => 1,
            };
            kinds.extend((0..often).map(|_| kind));
        }
        kinds
    }

    /// Plans a probe some time after `from_ns`, if the server was not asked often enough.
    fn plan(&mut self, key: Key, kind: Kind, replay: usize, from_ns: u64) -> bool {
        let (Some(case), Some(config)) = (self.cases.get_mut(&key), self.rules.get(&key.0)) else {
            return false;
        };
        if case.planned >= config.probes_max {
            return false;
        }
        case.planned += 1;
        case.open += 1;
        self.planned += 1;
        let at_ns = from_ns.saturating_add(config.delay.draw(&mut self.dice));
        let due = Due {
            key,
            case: case.number,
            kind,
            replay,
        };
        self.due.insert((at_ns, self.planned), due);
        true
    }

    fn answered(&mut self, number: u64, answer: Answer) -> Result<(), ProbeError> {
        let Some(flying) = self.flying.remove(&number) else {
            return Err(ProbeError::Probe(number));
        };
        let key = flying.key;
        let Some(case) = self.cases.get_mut(&key).filter(|case| case.number == flying.case) else {
            return Ok(());
        };
        case.open -= 1;
        let seen = Seen {
            kind: flying.kind,
            len: flying.len,
            answer,
        };
        case.seen.push(seen);
        let data = matches!(answer.reaction, super::Reaction::Data(_));
        if data && flying.kind.is_replay() && !case.staged {
            case.staged = true;
            let replay = case.replays.len().saturating_sub(1);
            for kind in self.kinds(key.0) {
                if kind.waits_for_an_answer() {
                    self.plan(key, kind, replay, self.now_ns);
                }
            }
        }
        self.judge(key);
        Ok(())
    }

    fn judge(&mut self, key: Key) {
        let (Some(case), Some(config)) = (self.cases.get_mut(&key), self.rules.get(&key.0)) else {
            return;
        };
        if case.found {
            return;
        }
        let Verdict::Proxy(sign) = config.judge.verdict(&case.seen, contrast(config)) else {
            return;
        };
        case.found = true;
        self.counts.found += 1;
        if self.dice.chance(config.blocks) {
            self.counts.blocked += 1;
            case.blocked_until_ns = Some(self.now_ns.saturating_add(config.block.for_ns));
            let (rule, server) = key;
            self.outputs.push_back(Output::Block { rule, server, sign });
            // What is due is void: nobody asks on.
            let number = case.number;
            let before = self.due.len();
            self.due.retain(|_, due| due.case != number);
            case.open -= (before - self.due.len()) as u32;
        }
    }

    fn give_up_lost(&mut self) {
        while let Some(first) = self.flying.first_entry()
            && first.get().sent_ns.saturating_add(LOST_NS) <= self.now_ns
        {
            let lost = first.remove();
            self.counts.lost += 1;
            if let Some(case) = self.cases.get_mut(&lost.key)
                && case.number == lost.case
            {
                case.open -= 1;
            }
        }
    }

    fn send_due(&mut self) {
        let second = self.now_ns / SECOND_NS;
        if self.second.0 != second {
            self.second = (second, 0);
        }
        while self.flying.len() < self.limits.in_flight_max
            && self.second.1 < self.limits.per_second
            && let Some(entry) = self.due.first_entry()
            && entry.key().0 <= self.now_ns
        {
            let due = entry.remove();
            let case = self
                .cases
                .get_mut(&due.key)
                .filter(|case| case.number == due.case);
            let (Some(case), Some(config)) = (case, self.rules.get(&due.key.0)) else {
                continue;
            };
            let replay = case.replays.get(due.replay).map_or(&[][..], Vec::as_slice);
            let host = due.key.1.to_string();
            let Some(payload) = due.kind.payload(replay, &host, &mut self.dice) else {
                // Too short for what would be changed in it.
                case.open -= 1;
                continue;
            };
            self.second.1 += 1;
            self.counts.sent += 1;
            let number = self.counts.sent;
            let flying = Flying {
                key: due.key,
                case: due.case,
                kind: due.kind,
                len: payload.len(),
                sent_ns: self.now_ns,
            };
            self.flying.insert(number, flying);
            self.outputs.push_back(Output::Send(Probe {
                number,
                rule: due.key.0,
                server: due.key.1,
                kind: due.kind,
                payload,
                from: self.dice.below(config.from.count().max(1) as u64) as usize,
                patience_ns: config.patience_ns,
            }));
        }
    }
}

const SECOND_NS: u64 = 1_000_000_000;

/// Whether a server gets probes that are no replays, with which its answers to replays are compared.
fn contrast(config: &Config) -> bool {
    config.kinds.iter().any(|kind| !kind.is_replay())
}

impl Case {
    const fn new(number: u64) -> Self {
        Self {
            number,
            replays: Vec::new(),
            planned: 0,
            open: 0,
            seen: Vec::new(),
            staged: false,
            found: false,
            blocked_until_ns: None,
        }
    }
}
