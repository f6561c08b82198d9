//! A laboratory in discrete time: TCP as a window with losses, an access link, routes with pacing, and a censor.
//!
//! Steps of 20 ms; every packet is 1,400 bytes. What matters is how goodput falls and stalls, not each segment: the window
//! halves when three later packets arrive, goes to one when the timer fires, and bytes are delivered in order.

mod ladder;
mod tcp;
mod world;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use phantom_core::units::{Instant, WallTime};
use phantom_rotation::*;
use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng as _;

use ladder::Ladder;
use tcp::Conn;
pub(crate) use world::*;

pub(crate) const STEP_MS: u64 = 20;
const PACKET: u64 = 1_400;

/// Names a connection, before and after the machine does.
type ConnId = u64;

pub(crate) const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

pub(crate) fn ms(ms: u64) -> Instant {
    Instant::from_nanos(ms * 1_000_000)
}

pub(crate) fn kind(name: &str) -> Kind {
    Kind::new(name).expect("a name")
}

pub(crate) fn candidate(name: &str, server: u8, port: u16) -> Candidate {
    Candidate {
        kind: kind(name),
        server: ServerId([server; 16]),
        address: SocketAddr::new(IpAddr::V4([192, 0, 2, server].into()), port),
    }
}

/// Something that happened.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    pub(crate) at_ms: u64,
    pub(crate) output: Output,
}

pub(crate) struct Lab {
    pub(crate) now: u64,
    pub(crate) seed: u64,
    pub(crate) machine: Rotation<ChaCha12Rng>,
    pub(crate) access: Link,
    pub(crate) routes: Vec<Route>,
    pub(crate) load: Load,
    pub(crate) events: Vec<Event>,
    pub(crate) in_use: Option<PathId>,
    pub(crate) delivered: u64,
    /// Of each path ever dialled, what it was.
    pub(crate) paths: BTreeMap<PathId, Candidate>,
    pub(crate) sockets_most: usize,
    /// The censor's boxes: until when.
    pub(crate) boxes: BTreeMap<SocketAddr, u64>,
    /// When the first packet was swallowed by a freeze.
    pub(crate) stalled_at: Option<u64>,
    /// What the ladder dialled.
    pub(crate) dialled: Vec<(u64, Candidate)>,
    /// Dials that fell into one.
    pub(crate) dials_in_box: usize,
    conns: BTreeMap<ConnId, Conn>,
    next_conn: ConnId,
    ladder: Ladder,
    /// What the ladder reached, until the machine gives it a name.
    arriving: Option<ConnId>,
    sharing: Option<PathId>,
    backlog: u64,
    next_file: u64,
    dice: Dice,
    wake: Option<u64>,
}

impl Lab {
    pub(crate) fn new(seed: u64, access: Link, routes: Vec<Route>, load: Load) -> Self {
        Self::remembering(seed, access, routes, load, Memory::default())
    }

    pub(crate) fn remembering(
        seed: u64,
        access: Link,
        routes: Vec<Route>,
        load: Load,
        memory: Memory,
    ) -> Self {
        let machine = Rotation::new(Config::default(), memory, ChaCha12Rng::seed_from_u64(seed));
        let mut lab = Self {
            now: 0,
            seed,
            machine,
            access,
            routes,
            load,
            events: Vec::new(),
            in_use: None,
            delivered: 0,
            paths: BTreeMap::new(),
            sockets_most: 0,
            boxes: BTreeMap::new(),
            stalled_at: None,
            dialled: Vec::new(),
            dials_in_box: 0,
            conns: BTreeMap::new(),
            next_conn: 0,
            ladder: Ladder::default(),
            arriving: None,
            sharing: None,
            backlog: 0,
            next_file: 0,
            dice: Dice::new(seed),
            wake: None,
        };
        lab.tell(Input::Start {
            network: NetworkId([7; 16]),
            client: CLIENT,
            wall: WallTime::from_unix_secs(1_800_000_000),
        });
        lab
    }

    pub(crate) fn run_until(&mut self, secs: u64) {
        while self.now < secs * 1_000 {
            self.step();
        }
    }

    pub(crate) fn run_to_ms(&mut self, ms: u64) {
        while self.now < ms {
            self.step();
        }
    }

    /// Switches: adoptions after the first.
    pub(crate) fn switches(&self) -> Vec<(u64, Why, Candidate)> {
        let adopted = self.events.iter().filter_map(|event| match event.output {
            Output::Adopt { path, why } => Some((event.at_ms, why, self.paths[&path].clone())),
            _ => None,
        });
        adopted.filter(|(_, why, _)| *why != Why::First).collect()
    }

    /// The first time a verdict was given, after `from_ms`.
    pub(crate) fn found(&self, from_ms: u64, wanted: Verdict) -> Option<u64> {
        self.events
            .iter()
            .find(|event| {
                event.at_ms >= from_ms
                    && matches!(event.output, Output::Found { verdict, .. } if verdict == wanted)
            })
            .map(|event| event.at_ms)
    }

    pub(crate) fn kind_in_use(&self) -> Option<Kind> {
        self.in_use.map(|path| self.paths[&path].kind.clone())
    }

    pub(crate) fn candidate_in_use(&self) -> Option<Candidate> {
        self.in_use.map(|path| self.paths[&path].clone())
    }

    /// What must hold in every run: the rules of dwell, causes, sockets and windows.
    pub(crate) fn check(&self) {
        let seed = self.seed;
        assert!(
            self.sockets_most <= 6,
            "seed {seed}: {} sockets to one server",
            self.sockets_most
        );
        assert_eq!(
            self.dials_in_box, 0,
            "seed {seed}: a dial inside a residual window"
        );
        let mut last: Option<(u64, PathId)> = None;
        let mut verdicts: BTreeMap<PathId, Verdict> = BTreeMap::new();
        let mut spent: Vec<Kind> = Vec::new();
        for event in &self.events {
            match event.output {
                Output::Found { path, verdict } => {
                    verdicts.insert(path, verdict);
                }
                Output::Adopt { path, why } => {
                    if let Some((since, old)) = last {
                        let dwelt = event.at_ms - since;
                        let verdict = verdicts.get(&old).copied();
                        let allowed = match why {
                            Why::Throttled => verdict == Some(Verdict::Throttled),
                            Why::Frozen => verdict == Some(Verdict::Frozen),
                            Why::Dead => verdict == Some(Verdict::Dead),
                            Why::Return => dwelt >= 120_000,
                            Why::First => false,
                        };
                        assert!(
                            allowed,
                            "seed {seed}: left after {dwelt} ms for {why:?} with {verdict:?}"
                        );
                        let old_kind = self.paths[&old].kind.clone();
                        if why == Why::Throttled {
                            assert!(
                                !spent.contains(&old_kind),
                                "seed {seed}: two switches for one cause"
                            );
                            spent.push(old_kind);
                        }
                        if why == Why::Return {
                            let new = &self.paths[&path].kind;
                            spent.retain(|kind| kind != new);
                        }
                    }
                    last = Some((event.at_ms, path));
                }
                _ => {}
            }
        }
    }

    pub(crate) fn tell(&mut self, input: Input) {
        let now = self.now;
        let told = self.machine.handle(ms(now), input.clone());
        assert_eq!(told, Ok(()), "seed {}: {input:?}", self.seed);
        loop {
            let output = self.machine.poll_output();
            match &output {
                Output::WaitUntil(at) => {
                    self.wake = Some(at.as_nanos().div_ceil(1_000_000));
                    return;
                }
                Output::Idle => {
                    self.wake = None;
                    return;
                }
                Output::Seek => self.ladder.seeks(now, true),
                Output::Rest => self.ladder.seeks(now, false),
                Output::Survey => {
                    let candidates = self.routes.iter().map(|route| route.candidate.clone()).collect();
                    let told = self.machine.handle(ms(now), Input::Candidates(candidates));
                    assert_eq!(told, Ok(()));
                }
                Output::Dial { path, candidate } => {
                    self.paths.insert(*path, candidate.clone());
                    self.dial(candidate, Some(*path));
                }
                Output::Share { to, .. } => self.sharing = Some(*to),
                Output::Adopt { path, .. } => {
                    self.name(*path);
                    self.ladder.seeks(now, false);
                    if self.sharing == Some(*path) {
                        self.sharing = None;
                    }
                    self.in_use = Some(*path);
                    if let Some(id) = self.conn_of(*path)
                        && let Some(conn) = self.conns.get_mut(&id)
                    {
                        conn.adopted = Some(now);
                    }
                }
                Output::Close { path, .. } => {
                    self.name(*path);
                    self.drop_path(*path);
                }
                Output::Found { .. } => {}
            }
            self.events.push(Event { at_ms: now, output });
        }
    }

    fn conn_of(&self, path: PathId) -> Option<ConnId> {
        let mut conns = self.conns.iter();
        conns.find(|(_, conn)| conn.path == Some(path)).map(|(id, _)| *id)
    }

    /// The machine named what the ladder reached.
    fn name(&mut self, path: PathId) {
        if self.conn_of(path).is_none()
            && let Some(id) = self.arriving.take()
            && let Some(conn) = self.conns.get_mut(&id)
        {
            conn.path = Some(path);
            let candidate = self.routes[conn.route].candidate.clone();
            self.paths.insert(path, candidate);
        }
    }

    fn takes(&self, id: ConnId) -> bool {
        let path = self.conns.get(&id).and_then(|conn| conn.path);
        path.is_some() && (self.in_use == path || self.sharing == path)
    }

    fn drop_path(&mut self, path: PathId) {
        if let Some(id) = self.conn_of(path) {
            self.drop_conn(id);
        }
        if self.sharing == Some(path) {
            self.sharing = None;
        }
        if self.in_use == Some(path) {
            self.in_use = None;
        }
    }

    fn drop_conn(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.remove(&id) {
            let flight = conn.flight.iter().filter(|packet| !packet.acked).count() as u64;
            self.backlog += conn.buffer + flight * PACKET;
        }
    }

    /// The connection is gone, and not because the machine wanted it.
    pub(crate) fn kill(&mut self, path: PathId, how: Failure) {
        self.drop_path(path);
        self.tell(Input::Closed(path, how));
    }

    pub(crate) fn step(&mut self) {
        self.now += STEP_MS;
        let now = self.now;
        match self.load {
            Load::Bulk => self.backlog = self.backlog.max(1_000_000),
            Load::Files { bytes, pause_ms } => {
                if now >= self.next_file && self.backlog == 0 {
                    self.backlog += 1 + self.dice.below(bytes);
                    self.next_file = now + self.dice.below(pause_ms);
                }
            }
            Load::Idle => {}
        }
        self.access.step(now, &mut self.dice);
        for route in &mut self.routes {
            if let Some(own) = &mut route.own {
                own.step(now, &mut self.dice);
            }
        }
        self.climb();
        let ids: Vec<ConnId> = self.conns.keys().copied().collect();
        for id in &ids {
            let ended = self.conns.get_mut(id).and_then(|conn| match conn.dial_ends {
                Some((at, how)) if at <= now => {
                    conn.dial_ends = None;
                    Some(how)
                }
                _ => None,
            });
            let path = self.conns.get(id).and_then(|conn| conn.path);
            match (ended, path) {
                (Some(Ok(())), _) => {
                    if let Some(conn) = self.conns.get_mut(id) {
                        conn.open = true;
                    }
                    match path {
                        Some(path) => self.tell(Input::Connected(path)),
                        None => self.entered(*id),
                    }
                }
                (Some(Err(how)), Some(path)) => {
                    self.drop_conn(*id);
                    self.tell(Input::Failed(path, how));
                }
                (Some(Err(how)), None) => self.missed(*id, how),
                (None, _) => {}
            }
        }
        for id in &ids {
            self.move_packets(*id);
        }
        let ticks = self.wake.is_some_and(|at| at <= now);
        for id in &ids {
            self.progress(*id, ticks);
        }
        if ticks {
            self.tell(Input::Tick);
        }
    }

    /// A driver reports every 500 ms while data waits, and when a queue fills or empties.
    fn progress(&mut self, id: ConnId, ticks: bool) {
        let takes = self.takes(id);
        let Some(conn) = self.conns.get_mut(&id).filter(|conn| conn.open) else {
            return;
        };
        let flight = conn.flight.iter().filter(|packet| !packet.acked).count() as u64 * PACKET;
        let queued = conn.buffer + flight + if takes { self.backlog } else { 0 };
        let due = match conn.reported {
            None => true,
            Some((at, before, _)) => {
                (before > 0) != (queued > 0) || (queued > 0 && (self.now >= at + 500 || ticks))
            }
        };
        if !due {
            return;
        }
        let Some(path) = conn.path else { return };
        conn.reported = Some((self.now, queued, conn.delivered));
        let (delivered, rtt) = (
            conn.delivered,
            Duration::from_micros((conn.srtt * 1_000.0) as u64),
        );
        let direction = if self.seed.is_multiple_of(2) {
            Direction::Up
        } else {
            Direction::Down
        };
        self.tell(Input::Progress {
            path,
            direction,
            queued,
            delivered,
            rtt,
        });
    }
}

/// The p-th percentile.
pub(crate) fn percentile(values: &mut [u64], p: usize) -> u64 {
    values.sort_unstable();
    let at = (values.len() * p).div_ceil(100).clamp(1, values.len().max(1)) - 1;
    values.get(at).copied().unwrap_or(0)
}
