//! The machine: what it hears and what it wants done ([`words`]), and what it keeps ([`state`]).
//!
//! [`dials`] says who may be dialled and what failures say, [`doubt`] judges the path in use, [`leave`] changes it, [`trial`] finds
//! the way back.

mod dials;
mod doubt;
mod leave;
mod report;
mod state;
mod trial;
mod words;

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use phantom_core::event::{PathReason as Why, PathVerdict as Verdict};
use phantom_core::units::{Instant, WallTime};
use rand_core::Rng;

use self::state::{Cause, Charge, Comparison, Known, Left, Path, Phase, Second, Session, State};
pub use self::words::{Failure, Input, Output, StateName};
use crate::config::Config;
use crate::error::Error;
use crate::memory::{Memory, SavedWindow, WEIGHTS_PROVEN};
use crate::path::{Candidate, Direction, NetworkId, PathId};
use crate::report::{Diary, Happened};
use crate::windows::{Window, Windows};

/// Candidates held.
pub const CANDIDATES_MAX: usize = 64;
/// Outputs that may wait; a driver that drains after every input stays far below.
pub const OUTPUTS_MAX: usize = 256;

/// The rotation machine with a random number generator `G`.
pub struct Rotation<G> {
    config: Arc<Config>,
    rng: G,
    memory: Memory,
    now: Instant,
    /// The wall clock and the monotonic one at the last start.
    wall: (WallTime, Instant),
    network: Option<NetworkId>,
    client: IpAddr,
    candidates: Vec<Known>,
    /// Two, seldom three: in use, second, and one that is being closed.
    paths: Vec<Path>,
    windows: Windows,
    state: State,
    pending: VecDeque<Output>,
    next_path: NonZeroU64,
    charges: Vec<Charge>,
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
    /// Whether what is remembered has changed since [`Rotation::memory`].
    changed: bool,
}

impl<G: Rng> Rotation<G> {
    /// A machine that remembers `memory`, not started yet.
    pub fn new(config: impl Into<Arc<Config>>, memory: Memory, rng: G) -> Self {
        Self {
            config: config.into(),
            rng,
            memory,
            now: Instant::ZERO,
            wall: (WallTime::default(), Instant::ZERO),
            network: None,
            client: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            candidates: Vec::new(),
            paths: Vec::new(),
            windows: Windows::default(),
            state: State::Stopped,
            pending: VecDeque::new(),
            next_path: NonZeroU64::MIN,
            charges: Vec::new(),
            causes: Vec::new(),
            left: Vec::new(),
            next_doubt: Instant::ZERO,
            dismissed: 0,
            works: (Instant::ZERO, Instant::ZERO),
            seconds: VecDeque::new(),
            diary: Diary::default(),
            changed: false,
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
            Input::Entered(candidate) => self.entered(candidate),
            Input::Missed(candidate, how) => {
                if !matches!(self.state, State::Stopped) {
                    self.dial_failed(&candidate, how);
                }
            }
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
    pub const fn state(&self) -> StateName {
        self.state.name()
    }

    /// The path that user bytes go over, if there is one. One that was found frozen while nothing else was connected counts:
    /// it may move again.
    pub fn in_use(&self) -> Option<PathId> {
        self.state.session().map(|session| session.path)
    }

    /// Whether [`Rotation::memory`] has changed in a way that is worth keeping since it was last asked for.
    pub const fn has_news(&self) -> bool {
        self.changed
    }

    /// What to keep for the next run.
    pub fn memory(&mut self) -> &Memory {
        self.save_windows();
        self.changed = false;
        &self.memory
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
        let find = |path: &PathId| self.path(*path).ok_or(Error::UnknownPath(*path));
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
            Input::Candidates(_)
            | Input::Entered(_)
            | Input::Missed(..)
            | Input::Start { .. }
            | Input::Tick
            | Input::Stop => Ok(()),
        }
    }

    fn path(&self, id: PathId) -> Option<&Path> {
        self.paths.iter().find(|path| path.id == id)
    }

    fn path_mut(&mut self, id: PathId) -> Option<&mut Path> {
        self.paths.iter_mut().find(|path| path.id == id)
    }

    fn take_path(&mut self, id: PathId) -> Option<Path> {
        let at = self.paths.iter().position(|path| path.id == id)?;
        Some(self.paths.remove(at))
    }

    fn new_path(&mut self, candidate: Candidate, phase: Phase) -> PathId {
        let id = PathId(self.next_path);
        self.next_path = self.next_path.saturating_add(1);
        // Few, and large: a client has one or two.
        self.paths.reserve_exact(1);
        self.paths.push(Path {
            id,
            candidate,
            phase,
            flows: Default::default(),
            proven: false,
            recovered: false,
            since: self.now,
            alive: self.now,
        });
        id
    }

    fn wall_now(&self) -> WallTime {
        let (wall, at) = self.wall;
        wall + self.now.saturating_since(at)
    }

    fn start(&mut self, network: NetworkId, client: IpAddr, wall: WallTime) {
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
        (self.dismissed, self.next_doubt) = (0, self.now);
        self.charges.clear();
        self.memory.enter(network, wall);
        for saved in self.memory.windows().to_vec() {
            // Dates are the file's: no further ahead than a window can be.
            let left = |until: WallTime| {
                let most = Duration::from_secs(crate::memory::WINDOW_SECS_MAX);
                self.now + until.saturating_since(wall).min(most)
            };
            self.windows.restore(Window {
                client: saved.client,
                server: saved.server,
                until: left(saved.until),
                quiet_until: left(saved.quiet_until),
                cuts: saved.cuts,
            });
        }
        self.diary.note(self.now, Happened::Started);
        self.seek(Why::First);
    }

    /// Nothing is in use: the ladder is to look.
    fn seek(&mut self, why: Why) {
        self.state = State::Seeking(why);
        self.pending.push_back(Output::Seek);
    }

    fn stop(&mut self) {
        let open: Vec<PathId> = self.paths.iter().map(|path| path.id).collect();
        for id in open {
            self.abandon(id);
        }
        self.save_windows();
        self.state = State::Stopped;
    }

    fn save_windows(&mut self) {
        if self.network.is_none() {
            // What was read is not in use yet.
            return;
        }
        let wall = self.wall_now();
        // Rounded up to a second: too late is better than too early.
        let saved = |until: Instant| {
            let left = until.saturating_since(self.now);
            let secs = (wall + left).as_unix_nanos().div_ceil(1_000_000_000);
            WallTime::from_unix_secs(secs)
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
                    due: self.now,
                    tie: self.rng.next_u64(),
                    compared: None,
                    last: None,
                },
            };
            self.candidates.push(known);
        }
        if let State::Doubting(session, doubt) = self.state
            && matches!(doubt.second, Second::Asked)
        {
            self.dial_for_doubt(session, doubt);
        } else if let State::Trying(session, trial) = self.state.clone()
            && matches!(trial.second, Second::Asked)
        {
            self.dial_for_trial(session, trial);
        }
    }

    /// Forgets a path and has it closed.
    fn close(&mut self, id: PathId, silently: bool) {
        if self.take_path(id).is_some() {
            self.pending.push_back(Output::Close { path: id, silently });
        }
    }

    fn found(&mut self, path: PathId, verdict: Verdict) {
        self.pending.push_back(Output::Found { path, verdict });
        if let Some(known) = self.path(path) {
            let judged = Happened::Judged(known.candidate.kind.clone(), known.candidate.server, verdict);
            self.diary.note(self.now, judged);
        }
    }

    /// A path that limps is blamed only where another connected soon after its verdict: later than that, the network may have been
    /// silent all the time.
    fn is_soon(&self, limping: state::Limping) -> bool {
        self.now <= limping.since + dials::ALIVE_AGE_MAX
    }

    /// The ladder reached one.
    fn entered(&mut self, candidate: Candidate) {
        self.reached();
        self.network_works(&candidate);
        let id = self.new_path(candidate, Phase::Open);
        match self.state {
            State::Seeking(why) => self.adopt(id, why),
            State::Limping(limping) => {
                self.adopt(id, limping.why);
                self.drop_limping(limping, self.is_soon(limping));
            }
            State::Stopped | State::Steady(_) | State::Doubting(..) | State::Trying(..) => {
                self.close(id, false)
            }
        }
    }

    /// Takes a connected path into use. The one before is the caller's to close, afterwards: its bytes need somewhere to go.
    fn adopt(&mut self, id: PathId, why: Why) {
        self.pending.push_back(Output::Adopt { path: id, why });
        if let Some(path) = self.path(id) {
            let (candidate, proven) = (path.candidate.clone(), path.proven);
            let taken = Happened::Taken(candidate.kind.clone(), candidate.server, why);
            self.diary.note(self.now, taken);
            if proven {
                self.memory.won(self.wall_now(), &candidate);
                self.changed = true;
            }
        }
        self.state = State::Steady(Session {
            path: id,
            since: self.now,
            why,
        });
    }

    fn connected(&mut self, id: PathId) {
        let now = self.now;
        let Some(path) = self.path_mut(id) else { return };
        (path.phase, path.alive) = (Phase::Open, now);
        let candidate = path.candidate.clone();
        self.reached();
        self.network_works(&candidate);
        let awaited = match &self.state {
            State::Doubting(_, doubt) => doubt.awaits(id),
            State::Trying(_, trial) => matches!(trial.second, Second::Dialling(dialled, _) if dialled == id),
            State::Stopped | State::Seeking(_) | State::Limping(_) | State::Steady(_) => false,
        };
        if awaited
            && let Some(session) = self.state.session()
            && let Some(second) = self.state.second_mut()
        {
            *second = Second::Sharing(id, Comparison::default());
            self.pending.push_back(Output::Share {
                from: session.path,
                to: id,
            });
            self.start_meters(session.path, id);
        } else if let State::Seeking(why) = self.state {
            // The path in use ended while this one was dialled.
            self.adopt(id, why);
            self.pending.push_back(Output::Rest);
        } else if let State::Limping(limping) = self.state {
            self.adopt(id, limping.why);
            self.pending.push_back(Output::Rest);
            self.drop_limping(limping, self.is_soon(limping));
        } else {
            // Nobody waits for it any more: that it answers is known now.
            self.close(id, false);
        }
    }

    fn failed(&mut self, id: PathId, how: Failure) {
        let Some(path) = self.take_path(id) else {
            return;
        };
        self.dial_failed(&path.candidate, how);
        self.second_lost(id);
    }

    fn closed(&mut self, id: PathId, how: Failure) {
        let in_use = self.in_use() == Some(id);
        if in_use {
            self.found(id, Verdict::Dead);
        }
        let Some(path) = self.take_path(id) else {
            return;
        };
        self.path_ended(&path, how);
        if in_use {
            self.lost(&path, how);
        } else {
            self.second_lost(id);
        }
    }

    fn progress(&mut self, id: PathId, direction: Direction, queued: u64, delivered: u64, rtt: Duration) {
        let (now, wall) = (self.now, self.wall_now());
        let Some(path) = self.paths.iter_mut().find(|path| path.id == id) else {
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
            self.windows.clear(now, self.client, candidate.address);
            if self.in_use() == Some(id) {
                self.memory.won(wall, &candidate);
            }
            self.changed = true;
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
            .filter(|path| matches!(path.phase, Phase::Dialling { deadline } if deadline <= self.now))
            .map(|path| path.id)
            .collect();
        for id in late {
            if let Some(path) = self.path(id) {
                let candidate = path.candidate.clone();
                self.close(id, true);
                self.dial_failed(&candidate, Failure::Silence);
                self.second_lost(id);
            }
        }
        // A step may change the state, and the new one has its own step at the same instant: a doubt that finds no second
        // path, a silence without one. Each change leads forward, so few are enough.
        for _ in 0..4 {
            let before = std::mem::discriminant(&self.state);
            match self.state {
                State::Stopped | State::Seeking(_) => {}
                State::Limping(limping) => self.limping_step(limping),
                State::Steady(session) => self.steady_step(session),
                State::Doubting(..) => self.doubt_step(),
                State::Trying(..) => self.trial_step(),
            }
            if std::mem::discriminant(&self.state) == before {
                break;
            }
        }
        self.rest();
    }

    /// An idle machine holds little: thousands of clients run in one simulation.
    fn rest(&mut self) {
        if matches!(self.state.second(), Second::None) && !self.candidates.is_empty() {
            let now = self.now;
            self.candidates.retain(|known| {
                known
                    .compared
                    .is_some_and(|at| now.saturating_since(at) < doubt::COMPARED_LATELY)
            });
            self.candidates.shrink_to_fit();
        }
        if self.pending.is_empty() && self.pending.capacity() > 8 {
            self.pending = VecDeque::new();
        }
    }

    fn next_wake(&self) -> Option<Instant> {
        let dials = self.paths.iter().filter_map(|path| match path.phase {
            Phase::Dialling { deadline } => Some(deadline),
            Phase::Open => None,
        });
        let readings = self
            .paths
            .iter()
            .flat_map(|path| &path.flows)
            .filter_map(|flow| flow.next_reading(&self.config));
        let own = match &self.state {
            State::Stopped => return None,
            State::Seeking(_) | State::Steady(_) => None,
            State::Limping(limping) => Some(limping.until),
            State::Doubting(_, doubt) => {
                let end = doubt.began + self.config.doubt_limit;
                Some(self.race_at(doubt).map_or(end, |at| end.min(at)))
            }
            State::Trying(_, trial) => Some(trial.began + self.trial_limit()),
        };
        // Never in the past: a driver that is late would spin.
        let at = dials.chain(readings).chain(own).min()?;
        Some(at.max(self.now + Duration::from_millis(1)))
    }
}
