//! The machine: its states, what it hears and what it wants done.
//!
//! [`race`] finds a path, [`session`] judges the one in use.

mod race;
mod session;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU64;
use std::time::Duration;

use rand_core::Rng;

use crate::config::Config;
use crate::error::Error;
use crate::flow::Flow;
use crate::memory::{Memory, SavedWindow, Weights};
use crate::path::{Candidate, Direction, Kind, NetworkId, PathId, ServerId};
use crate::report::{Diary, InUse, Report, Tried};
use crate::time::{Instant, UnixSecs};
use crate::windows::{Window, Windows};

/// Candidates held.
pub const CANDIDATES_MAX: usize = 64;
/// Outputs that may wait; a driver that drains after every input stays far below.
pub const OUTPUTS_MAX: usize = 256;

/// What the driver tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A way in is wanted on this network. On another network than before, or from another address, all paths are closed
    /// first; on the same one nothing happens.
    Start {
        /// The network.
        network: NetworkId,
        /// The address that packets leave from, as far as the client knows it.
        client: IpAddr,
        /// The wall clock: what is remembered is dated with it.
        wall: UnixSecs,
    },
    /// The ways in, in place of those given before; at most [`CANDIDATES_MAX`]. Paths in use stay.
    Candidates(Vec<Candidate>),
    /// A dial succeeded: the server is authenticated and user bytes can be sent.
    Connected(PathId),
    /// A dial failed.
    Failed(PathId, Failure),
    /// How far user bytes got on a path: at least every [`Config::report_every`] while any are queued, when the queue
    /// fills or empties, and before each [`Input::Tick`].
    Progress {
        /// The path.
        path: PathId,
        /// Which way.
        direction: Direction,
        /// User bytes that wait: see [`Direction`].
        queued: u64,
        /// User bytes that arrived since the path opened.
        delivered: u64,
        /// The smoothed round trip of the path.
        rtt: Duration,
    },
    /// A connected path ended, and not because the machine wanted it.
    Closed(PathId, Failure),
    /// The instant of the last [`Output::WaitUntil`] has come.
    Tick,
    /// No way in is wanted: everything is closed.
    Stop,
}

/// How a dial failed or a path ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Failure {
    /// Nothing came back.
    Silence,
    /// Reset by whoever.
    Reset,
    /// Refused at the first packet.
    Refused,
    /// What came was not the protocol's: a block page, a wrong key.
    Garbled,
    /// Ended in order.
    Ended,
    /// The host's own fault: no route, no such program. Says nothing about the path.
    Local,
}

impl Failure {
    /// Whether a censor could have done it, so that a residual block may follow.
    const fn may_be_a_cut(self) -> bool {
        matches!(self, Self::Silence | Self::Reset | Self::Refused | Self::Garbled)
    }
}

/// What the machine found out about a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Far slower than before: to be confirmed.
    MaybeThrottled,
    /// Silent with data queued: to be confirmed.
    MaybeFrozen,
    /// Slow, and another path is not: throttled.
    Throttled,
    /// Some bytes passed, then none with data queued.
    Frozen,
    /// No byte ever passed with data queued, or the connection is gone.
    Dead,
    /// Slow, but so is another path: the network is slow.
    NetworkSlow,
    /// It moves again.
    Recovered,
    /// Slow, but nothing to compare with, or too little data: it stays.
    Undecided,
    /// Throttled, and this cause had its switch already: it stays, being no worse than the others.
    BestOfTheBad,
}

/// Why a path is taken into use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// Won the race after a start.
    First,
    /// The one before was confirmed throttled.
    Throttled,
    /// The one before was frozen.
    Frozen,
    /// The one before was dead.
    Dead,
    /// A kind that was left works again, and better.
    Return,
}

/// What the machine wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Dial; answer with [`Input::Connected`] or [`Input::Failed`].
    Dial {
        /// Names the connection from now on.
        path: PathId,
        /// What to dial.
        candidate: Candidate,
    },
    /// Move some of the user bytes queued on `from` to `to` as well, and keep both supplied while there are any: about half
    /// each, and what waits unacknowledged on a silent `from` too.
    Share {
        /// The path in use.
        from: PathId,
        /// The second path.
        to: PathId,
    },
    /// All user bytes go over this path from now on, those queued on another too.
    Adopt {
        /// The path.
        path: PathId,
        /// Why.
        why: Why,
    },
    /// Close the path or give up the dial; no answer is needed. User bytes that wait on it go to the path in use.
    Close {
        /// The path.
        path: PathId,
        /// At once and without another packet as far as the host can (no FIN, no retransmission): a censor may renew its
        /// block with each.
        silently: bool,
    },
    /// For logs and people: nothing to do.
    Found {
        /// The path.
        path: PathId,
        /// What was found.
        verdict: Verdict,
    },
    /// Nothing to do before this instant, unless something is heard.
    WaitUntil(Instant),
    /// Nothing to do unless something is heard.
    Idle,
}

/// A state by its name, for reports and the table of transitions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StateName {
    /// No way in is wanted.
    Stopped,
    /// Dials are under way, or the next is due soon.
    Racing,
    /// Nothing may be dialled now.
    Waiting,
    /// A path is in use and nothing is wrong with it.
    Steady,
    /// A path is in use and doubted; a second one is dialled, or there is none.
    Doubting,
    /// A path is in use and doubted; a second one carries user bytes too.
    Comparing,
    /// A path is in use; a kind that was left is dialled.
    Trying,
    /// A path is in use; a kind that was left carries user bytes too.
    Weighing,
}

impl fmt::Display for StateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The path in use.
#[derive(Clone, Copy, Debug)]
struct Session {
    path: PathId,
    since: Instant,
    why: Why,
}

/// Why the path in use is doubted.
#[derive(Clone, Copy, Debug)]
enum Doubted {
    /// Slow in this direction, at this many bytes per second.
    Slow { direction: Direction, rate: u64 },
    /// Silent.
    Silent,
}

/// A second path.
#[derive(Clone, Copy, Debug)]
enum Second {
    None,
    Dialling(PathId),
    Sharing(PathId, Comparison),
}

/// Comparisons so far.
#[derive(Clone, Copy, Debug, Default)]
struct Comparison {
    done: u8,
    agreed: u8,
    /// Bytes per second of the path in use in the last two, the last one first.
    before: [u64; 2],
    /// Bytes of the second path in the first comparison and in all.
    first_bytes: u64,
    bytes: u64,
}

#[derive(Clone, Copy, Debug)]
struct Doubt {
    began: Instant,
    of: Doubted,
    second: Second,
    /// Seconds dialled so far.
    seconds: u8,
}

#[derive(Clone, Debug)]
struct Trial {
    began: Instant,
    kind: Kind,
    second: Second,
}

/// A path that was found silent while nothing else was connected: it may move again.
#[derive(Clone, Copy, Debug)]
struct Limping {
    session: Session,
    verdict: Verdict,
    /// User bytes it had delivered then.
    delivered: u64,
    /// It is given up then.
    until: Instant,
}

#[derive(Clone, Debug)]
enum State {
    Stopped,
    Racing {
        /// The earliest instant of the next dial.
        next_dial: Instant,
        limping: Option<Limping>,
        /// Why the winner will be taken into use.
        why: Why,
    },
    Waiting {
        until: Instant,
        limping: Option<Limping>,
        why: Why,
    },
    Steady(Session),
    Doubting(Session, Doubt),
    Trying(Session, Trial),
}

/// A candidate and what this run of the machine did with it.
#[derive(Clone, Debug)]
struct Known {
    candidate: Candidate,
    /// Dials in this round.
    tries: u8,
    /// Not dialled before.
    due: Instant,
    /// Random order among equals, so that not every client dials the same one first.
    tie: u64,
    /// When it was last dialled as a second path.
    compared: Option<Instant>,
    last: Option<Failure>,
    /// Connections in a row that ended in order before they had moved much.
    short: u8,
}

#[derive(Clone, Debug)]
enum Phase {
    Dialling { deadline: Instant },
    Open,
}

#[derive(Clone, Debug)]
struct Path {
    candidate: Candidate,
    phase: Phase,
    flows: [Flow; 2],
    proven: bool,
    /// It was slow and came back by itself.
    recovered: bool,
    /// When it showed last that it reaches its server.
    alive: Instant,
}

impl Path {
    fn flow(&self, direction: Direction) -> &Flow {
        &self.flows[direction as usize]
    }

    fn delivered(&self) -> u64 {
        self.flows
            .iter()
            .fold(0, |sum, flow| sum.saturating_add(flow.delivered()))
    }
}

/// What made a path be left. Each has one switch.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Cause {
    Throttled(Kind),
    Frozen(Kind, ServerId),
    Dead(Kind, ServerId),
}

/// A kind that was left, to be tried again.
#[derive(Clone, Debug)]
struct Left {
    kind: Kind,
    /// Its typical bytes per second.
    rate: u64,
    due: Instant,
    wait: Duration,
}

/// The rotation machine with a random number generator `G`.
pub struct Rotation<G> {
    config: Config,
    rng: G,
    memory: Memory,
    now: Instant,
    /// The wall clock and the monotonic one at the last start.
    wall: (UnixSecs, Instant),
    network: Option<NetworkId>,
    client: IpAddr,
    candidates: Vec<Known>,
    paths: BTreeMap<PathId, Path>,
    windows: Windows,
    state: State,
    pending: VecDeque<Output>,
    next_path: NonZeroU64,
    /// Rounds of the race without a connection.
    rounds: u32,
    /// Failures that count once something else has shown that the network works.
    charges: Vec<(Instant, Candidate, Weights)>,
    causes: Vec<Cause>,
    left: Vec<Left>,
    /// No doubt for slowness before this, and how many were dismissed in a row.
    next_doubt: Instant,
    dismissed: u32,
    /// Since when some path has reached its server again and again, and when one did last.
    works: (Instant, Instant),
    /// When second paths were dialled lately.
    seconds: VecDeque<Instant>,
    diary: Diary,
}

impl<G: Rng> Rotation<G> {
    /// A machine that remembers `memory`, not started yet.
    pub fn new(config: Config, memory: Memory, rng: G) -> Self {
        Self {
            config,
            rng,
            memory,
            now: Instant::ZERO,
            wall: (UnixSecs::default(), Instant::ZERO),
            network: None,
            client: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            candidates: Vec::new(),
            paths: BTreeMap::new(),
            windows: Windows::default(),
            state: State::Stopped,
            pending: VecDeque::new(),
            next_path: NonZeroU64::MIN,
            rounds: 0,
            charges: Vec::new(),
            causes: Vec::new(),
            left: Vec::new(),
            next_doubt: Instant::ZERO,
            dismissed: 0,
            works: (Instant::ZERO, Instant::ZERO),
            seconds: VecDeque::new(),
            diary: Diary::default(),
        }
    }

    /// Something happened. Drain [`Rotation::poll_output`] after it.
    ///
    /// # Errors
    /// The driver's mistakes; nothing has changed then.
    pub fn handle(&mut self, now: Instant, input: Input) -> Result<(), Error> {
        self.check(now, &input)?;
        self.now = now;
        match input {
            Input::Start {
                network,
                client,
                wall,
            } => self.start(network, client, wall),
            Input::Candidates(candidates) => self.set_candidates(candidates),
            Input::Connected(path) => self.connected(path),
            Input::Failed(path, how) => self.failed(path, how),
            Input::Progress {
                path,
                direction,
                queued,
                delivered,
                rtt,
            } => self.progress(path, direction, queued, delivered, rtt),
            Input::Closed(path, how) => self.closed(path, how),
            Input::Tick => {}
            Input::Stop => self.stop(),
        }
        self.advance();
        Ok(())
    }

    /// The next thing to do; call until it answers [`Output::WaitUntil`] or [`Output::Idle`].
    pub fn poll_output(&mut self) -> Output {
        if let Some(output) = self.pending.pop_front() {
            return output;
        }
        match self.next_wake() {
            Some(at) => Output::WaitUntil(at),
            None => Output::Idle,
        }
    }

    /// The state by its name.
    pub fn state(&self) -> StateName {
        match &self.state {
            State::Stopped => StateName::Stopped,
            State::Racing { .. } => StateName::Racing,
            State::Waiting { .. } => StateName::Waiting,
            State::Steady(_) => StateName::Steady,
            State::Doubting(_, doubt) => match doubt.second {
                Second::Sharing(..) => StateName::Comparing,
                Second::None | Second::Dialling(_) => StateName::Doubting,
            },
            State::Trying(_, trial) => match trial.second {
                Second::Sharing(..) => StateName::Weighing,
                Second::None | Second::Dialling(_) => StateName::Trying,
            },
        }
    }

    /// The path that user bytes go over, if there is one. One that was found frozen while nothing else was connected counts:
    /// it may move again.
    pub fn in_use(&self) -> Option<PathId> {
        self.session().map(|session| session.path)
    }

    /// What to keep for the next run.
    pub fn memory(&mut self) -> &Memory {
        self.save_windows();
        &self.memory
    }

    /// For people: what is in use and why, what was tried, what each showed.
    pub fn report(&self) -> Report {
        let wall = self.wall_now();
        let in_use = self.session().and_then(|session| {
            let path = self.paths.get(&session.path)?;
            let rate = |direction| {
                let flow = path.flow(direction);
                (flow.typical() > 0).then(|| flow.typical())
            };
            Some(InUse {
                candidate: path.candidate.clone(),
                since: session.since,
                why: session.why,
                typical_up: rate(Direction::Up),
                typical_down: rate(Direction::Down),
            })
        });
        let tried = self
            .candidates
            .iter()
            .map(|known| {
                let address = known.candidate.address;
                let free = self.windows.free_at(self.now, self.client, address, 0);
                Tried {
                    candidate: known.candidate.clone(),
                    dials: known.tries,
                    last: known.last,
                    score: self.memory.score(wall, &known.candidate),
                    kind_score: self.memory.kind_score(wall, &known.candidate.kind),
                    not_before: free.filter(|free| *free > self.now),
                }
            })
            .collect();
        Report {
            now: self.now,
            state: self.state(),
            in_use,
            tried,
            lines: self.diary.lines(),
        }
    }

    fn check(&self, now: Instant, input: &Input) -> Result<(), Error> {
        if now < self.now {
            return Err(Error::TimeWentBack {
                known: self.now,
                given: now,
            });
        }
        if self.pending.len() >= OUTPUTS_MAX / 2 {
            return Err(Error::NotDrained(self.pending.len()));
        }
        let find = |path: &PathId| self.paths.get(path).ok_or(Error::UnknownPath(*path));
        match input {
            Input::Connected(id) | Input::Failed(id, _) => match find(id)?.phase {
                Phase::Dialling { .. } => Ok(()),
                Phase::Open => Err(Error::NotDialling(*id)),
            },
            Input::Closed(id, _) => match find(id)?.phase {
                Phase::Open => Ok(()),
                Phase::Dialling { .. } => Err(Error::NotConnected(*id)),
            },
            Input::Progress {
                path: id,
                direction,
                delivered,
                ..
            } => {
                let path = find(id)?;
                let known = path.flow(*direction).delivered();
                match path.phase {
                    Phase::Dialling { .. } => Err(Error::NotConnected(*id)),
                    Phase::Open if *delivered < known => Err(Error::DeliveredWentBack {
                        path: *id,
                        known,
                        given: *delivered,
                    }),
                    Phase::Open => Ok(()),
                }
            }
            Input::Candidates(candidates) if candidates.len() > CANDIDATES_MAX => {
                Err(Error::TooManyCandidates {
                    given: candidates.len(),
                    wanted: CANDIDATES_MAX,
                })
            }
            Input::Candidates(_) | Input::Start { .. } | Input::Tick | Input::Stop => Ok(()),
        }
    }

    fn wall_now(&self) -> UnixSecs {
        let (wall, at) = self.wall;
        UnixSecs(wall.0.saturating_add(self.now.saturating_since(at).as_secs()))
    }

    fn start(&mut self, network: NetworkId, client: IpAddr, wall: UnixSecs) {
        let same = self.network == Some(network) && self.client == client;
        if same && !matches!(self.state, State::Stopped) {
            return;
        }
        self.stop();
        self.wall = (wall, self.now);
        if self.network != Some(network) {
            (self.causes, self.left) = (Vec::new(), Vec::new());
        }
        (self.network, self.client) = (Some(network), client);
        (self.rounds, self.dismissed, self.next_doubt) = (0, 0, self.now);
        self.charges.clear();
        self.memory.enter(network, wall);
        for saved in self.memory.windows().to_vec() {
            // Dates are the file's: no further ahead than a window can be.
            let left = |until: UnixSecs| {
                let secs = until.saturating_since(wall).min(crate::memory::WINDOW_SECS_MAX);
                self.now + Duration::from_secs(secs)
            };
            self.windows.restore(Window {
                client: saved.client,
                server: saved.server,
                until: left(saved.until),
                quiet_until: left(saved.quiet_until),
                cuts: saved.cuts,
            });
        }
        self.diary.note(self.now, "started on a network".to_owned());
        self.new_round();
        self.race(Why::First, None);
    }

    fn stop(&mut self) {
        let open: Vec<PathId> = self.paths.keys().copied().collect();
        for id in open {
            self.abandon(id);
        }
        self.save_windows();
        self.state = State::Stopped;
    }

    /// Closes a path whose fate nobody will know: where a first packet may have been flagged, a block may follow.
    fn abandon(&mut self, id: PathId) {
        if let Some(Path {
            phase: Phase::Dialling { .. },
            candidate,
            ..
        }) = self.paths.get(&id)
        {
            let address = candidate.address;
            self.windows
                .cut(&self.config, &mut self.rng, self.now, self.client, address, true);
            self.close(id, true);
        } else {
            self.close(id, false);
        }
    }

    fn save_windows(&mut self) {
        if self.network.is_none() {
            // What was read is not in use yet.
            return;
        }
        let wall = self.wall_now();
        let saved = |until: Instant| {
            // Rounded up: a second too late is better than one too early.
            let left = until.saturating_since(self.now);
            UnixSecs(
                wall.0
                    .saturating_add(left.as_nanos().div_ceil(1_000_000_000) as u64),
            )
        };
        let mut live: Vec<SavedWindow> = self
            .windows
            .iter()
            .filter(|window| window.until.max(window.quiet_until) > self.now)
            .map(|window| SavedWindow {
                client: window.client,
                server: window.server,
                until: saved(window.until),
                quiet_until: saved(window.quiet_until),
                cuts: window.cuts,
            })
            .collect();
        // Those of the address in use first, then those that last longest, since not all may have room.
        live.sort_by_key(|window| (window.client != self.client, std::cmp::Reverse(window.until)));
        self.memory.save_windows(live);
    }

    fn set_candidates(&mut self, candidates: Vec<Candidate>) {
        let mut old = std::mem::take(&mut self.candidates);
        for candidate in candidates {
            if self.candidates.iter().any(|known| known.candidate == candidate) {
                continue;
            }
            let known = match old.iter().position(|known| known.candidate == candidate) {
                Some(at) => old.swap_remove(at),
                None => Known {
                    candidate,
                    tries: 0,
                    due: self.now,
                    tie: self.rng.next_u64(),
                    compared: None,
                    last: None,
                    short: 0,
                },
            };
            self.candidates.push(known);
        }
        // Whoever waits because there was nothing to dial may have something now; a window still holds.
        if let State::Waiting { why, limping, .. } = self.state {
            self.race(why, limping);
        }
    }

    fn session(&self) -> Option<Session> {
        match &self.state {
            State::Stopped => None,
            State::Racing { limping, .. } | State::Waiting { limping, .. } => {
                limping.map(|limping| limping.session)
            }
            State::Steady(session) | State::Doubting(session, _) | State::Trying(session, _) => {
                Some(*session)
            }
        }
    }

    /// Forgets a path and has it closed.
    fn close(&mut self, id: PathId, silently: bool) {
        if self.paths.remove(&id).is_some() {
            self.pending.push_back(Output::Close { path: id, silently });
        }
    }

    fn found(&mut self, path: PathId, verdict: Verdict) {
        self.pending.push_back(Output::Found { path, verdict });
        if let Some(known) = self.paths.get(&path) {
            self.diary.note(
                self.now,
                format!(
                    "{} over {:?}: {verdict}",
                    known.candidate.kind, known.candidate.server
                ),
            );
        }
    }

    fn connected(&mut self, id: PathId) {
        if let Some(path) = self.paths.get_mut(&id) {
            path.phase = Phase::Open;
            path.alive = self.now;
        }
        self.reached();
        self.network_works();
        let session = self.session();
        match &mut self.state {
            State::Racing { .. } | State::Waiting { .. } => return self.won(id),
            State::Doubting(_, Doubt { second, .. }) | State::Trying(_, Trial { second, .. }) => {
                if matches!(second, Second::Dialling(dialled) if *dialled == id) {
                    *second = Second::Sharing(id, Comparison::default());
                    if let Some(session) = session {
                        self.pending.push_back(Output::Share {
                            from: session.path,
                            to: id,
                        });
                        self.start_meters(session.path, id);
                    }
                    return;
                }
            }
            State::Stopped | State::Steady(_) => {}
        }
        // One that lost the race: that it answers is known now.
        self.close(id, false);
    }

    fn failed(&mut self, id: PathId, how: Failure) {
        let Some(path) = self.paths.remove(&id) else {
            return;
        };
        self.dial_failed(&path.candidate, how);
        self.second_lost(id);
    }

    fn closed(&mut self, id: PathId, how: Failure) {
        let in_use = self.session().is_some_and(|session| session.path == id);
        if in_use {
            self.found(id, Verdict::Dead);
        }
        let Some(path) = self.paths.remove(&id) else {
            return;
        };
        if how.may_be_a_cut() {
            let address = path.candidate.address;
            let silent = how == Failure::Silence;
            self.windows.cut(
                &self.config,
                &mut self.rng,
                self.now,
                self.client,
                address,
                silent,
            );
        }
        if in_use {
            self.lost(path, how);
        } else {
            if how.may_be_a_cut() {
                self.charge(path.candidate, WEIGHTS_DEAD);
            }
            self.second_lost(id);
        }
    }

    fn progress(&mut self, id: PathId, direction: Direction, queued: u64, delivered: u64, rtt: Duration) {
        let (now, wall) = (self.now, self.wall_now());
        let Some(path) = self.paths.get_mut(&id) else {
            return;
        };
        let moved = delivered > path.flow(direction).delivered();
        if moved {
            path.alive = now;
        }
        path.flows[direction as usize].reading(&self.config, now, queued, delivered, rtt);
        if !path.proven && path.delivered() >= self.config.proven_bytes {
            path.proven = true;
            let candidate = path.candidate.clone();
            self.memory.learn(wall, &candidate, true, WEIGHTS_PROVEN);
            for known in &mut self.candidates {
                if known.candidate == candidate {
                    known.short = 0;
                }
            }
            self.windows.clear(now, self.client, candidate.address);
            if self.session().is_some_and(|session| session.path == id) {
                self.memory.won(wall, &candidate);
            }
        }
        if moved {
            self.reached();
        }
    }

    /// Everything that follows from the time and the last input.
    fn advance(&mut self) {
        let late: Vec<PathId> = self
            .paths
            .iter()
            .filter(|(_, path)| matches!(path.phase, Phase::Dialling { deadline } if deadline <= self.now))
            .map(|(id, _)| *id)
            .collect();
        for id in late {
            if let Some(path) = self.paths.get(&id) {
                let candidate = path.candidate.clone();
                self.close(id, true);
                self.dial_failed(&candidate, Failure::Silence);
                self.second_lost(id);
            }
        }
        // A step may change the state, and the new one has its own step at the same instant: a doubt that finds no second
        // path, a silence that ends in a race. Each change leads forward, so few are enough.
        for _ in 0..4 {
            let before = std::mem::discriminant(&self.state);
            match self.state {
                State::Stopped => {}
                State::Racing { .. } | State::Waiting { .. } => self.race_step(),
                State::Steady(session) => self.steady_step(session),
                State::Doubting(..) => self.doubt_step(),
                State::Trying(..) => self.trial_step(),
            }
            if std::mem::discriminant(&self.state) == before {
                break;
            }
        }
    }

    fn next_wake(&self) -> Option<Instant> {
        let dials = self.paths.values().filter_map(|path| match path.phase {
            Phase::Dialling { deadline } => Some(deadline),
            Phase::Open => None,
        });
        let readings = self
            .paths
            .values()
            .flat_map(|path| &path.flows)
            .filter_map(|flow| flow.next_reading(&self.config));
        let own = match &self.state {
            State::Stopped => return None,
            State::Racing {
                next_dial, limping, ..
            } => {
                let given_up = limping.map(|limping| limping.until);
                let next_dial = self.can_dial_soon().then_some(*next_dial);
                next_dial.into_iter().chain(given_up).min()
            }
            State::Waiting { until, limping, .. } => {
                Some(limping.map_or(*until, |limping| limping.until.min(*until)))
            }
            State::Steady(_) => None,
            State::Doubting(_, doubt) => Some(doubt.began + self.config.doubt_limit),
            State::Trying(_, trial) => Some(trial.began + self.trial_limit()),
        };
        // Never in the past: a driver that is late would spin.
        let at = dials.chain(readings).chain(own).min()?;
        Some(at.max(self.now + Duration::from_millis(1)))
    }
}

/// User bytes moved: full weight everywhere.
const WEIGHTS_PROVEN: Weights = Weights {
    kind: crate::memory::ONE,
    server: crate::memory::ONE,
    address: crate::memory::ONE,
};
/// A throttle picks a kind of traffic.
const WEIGHTS_THROTTLED: Weights = Weights {
    kind: 4 * crate::memory::ONE,
    server: crate::memory::ONE,
    address: crate::memory::ONE,
};
/// A freeze picks a kind, or a hoster's addresses.
const WEIGHTS_FROZEN: Weights = Weights {
    kind: 2 * crate::memory::ONE,
    server: 2 * crate::memory::ONE,
    address: 2 * crate::memory::ONE,
};
/// A dead path is more often a dead server.
const WEIGHTS_DEAD: Weights = Weights {
    kind: crate::memory::ONE / 2,
    server: crate::memory::ONE,
    address: 2 * crate::memory::ONE,
};
/// One failed dial says little.
const WEIGHTS_DIAL: Weights = Weights {
    kind: crate::memory::ONE / 4,
    server: crate::memory::ONE / 2,
    address: crate::memory::ONE,
};
