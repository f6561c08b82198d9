//! A laboratory in discrete time: TCP as a window with losses, an access link, routes with pacing, and a censor.
//!
//! Steps of 20 ms; every packet is 1,400 bytes. What matters is how goodput falls and stalls, not each segment: the window
//! halves when three later packets arrive, goes to one when the timer fires, and bytes are delivered in order.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use phantom_rotation::*;
use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng as _;

pub(crate) const STEP_MS: u64 = 20;
const PACKET: u64 = 1_400;
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

/// Bursty loss: a two-state chain in time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bursts {
    pub(crate) good_ms: f64,
    pub(crate) bad_ms: f64,
    pub(crate) bad_loss: f64,
}

/// How fast a link is, over time.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// kbit/s.
    Steady(f64),
    /// Anywhere between `low` and `high`, drawn anew every `every_ms`.
    Varying { low: f64, high: f64, every_ms: u64 },
    /// One, then another.
    Step { before: f64, at_ms: u64, after: f64 },
}

/// A link that several connections may share.
#[derive(Clone, Debug)]
pub(crate) struct Link {
    pub(crate) pace: Pace,
    pub(crate) bursts: Option<Bursts>,
    pub(crate) queue_ms: f64,
    bad: bool,
    kbit: f64,
    busy_until: f64,
}

impl Link {
    pub(crate) fn new(pace: Pace, bursts: Option<Bursts>) -> Self {
        let kbit = match pace {
            Pace::Steady(kbit) => kbit,
            Pace::Varying { low, high, .. } => (low + high) / 2.0,
            Pace::Step { before, .. } => before,
        };
        Self {
            pace,
            bursts,
            queue_ms: 250.0,
            bad: false,
            kbit,
            busy_until: 0.0,
        }
    }

    fn step(&mut self, now: u64, rng: &mut Dice) {
        match self.pace {
            Pace::Steady(kbit) => self.kbit = kbit,
            Pace::Varying { low, high, every_ms } => {
                if now.is_multiple_of(every_ms) {
                    self.kbit = low + (high - low) * rng.unit();
                }
            }
            Pace::Step { before, at_ms, after } => self.kbit = if now < at_ms { before } else { after },
        }
        if let Some(bursts) = self.bursts {
            let mean = if self.bad { bursts.bad_ms } else { bursts.good_ms };
            if rng.unit() < STEP_MS as f64 / mean {
                self.bad = !self.bad;
            }
        }
    }

    /// When a packet leaves at the other end, unless it is lost.
    fn pass(&mut self, now: f64, rng: &mut Dice) -> Option<f64> {
        let start = self.busy_until.max(now);
        if start - now > self.queue_ms {
            return None;
        }
        self.busy_until = start + PACKET as f64 * 8.0 / self.kbit;
        let lost = self.bad && self.bursts.is_some_and(|bursts| rng.unit() < bursts.bad_loss);
        (!lost).then_some(self.busy_until)
    }
}

/// What a censor does to a kind.
#[derive(Clone, Debug)]
pub(crate) enum Censor {
    /// From then on each connection of the kind passes a bucket of 140 kbit/s that drops.
    Police {
        from_ms: u64,
        until_ms: u64,
        kbit: f64,
        burst: f64,
    },
    /// The same without drops: excess waits.
    Cap { from_ms: u64, until_ms: u64, kbit: f64 },
    /// So long after the path was taken into use.
    PoliceAfterAdoption { after_ms: u64, kbit: f64, burst: f64 },
    /// After so many bytes of a connection nothing passes; from then on, old connections too.
    FreezeAfter { from_ms: u64, bytes: u64 },
    /// Nothing passes, and dials get no answer.
    Cut { from_ms: u64, until_ms: u64 },
    /// A first packet is flagged with a probability: (client, server, port) is then dropped for so long; `renewed`: from the
    /// last packet seen.
    Flag {
        probability: f64,
        box_ms: u64,
        renewed: bool,
        reset: bool,
    },
}

/// A way to reach the servers of a kind.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) candidate: Candidate,
    pub(crate) rtt_ms: f64,
    /// The transport's own ceiling, kbit/s.
    pub(crate) ceiling: f64,
    /// A link of its own behind the access link.
    pub(crate) own: Option<Link>,
    pub(crate) censors: Vec<Censor>,
}

pub(crate) fn route(name: &str, server: u8, rtt_ms: f64, ceiling: f64) -> Route {
    Route {
        candidate: candidate(name, server, 443),
        rtt_ms,
        ceiling,
        own: None,
        censors: Vec::new(),
    }
}

impl Route {
    pub(crate) fn with(mut self, censor: Censor) -> Self {
        self.censors.push(censor);
        self
    }

    pub(crate) fn over(mut self, link: Link) -> Self {
        self.own = Some(link);
        self
    }
}

/// What the user does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Load {
    /// Data is always queued.
    Bulk,
    /// Files of up to so many bytes, with pauses of up to so many ms.
    Files { bytes: u64, pause_ms: u64 },
    /// Nothing.
    Idle,
}

/// SplitMix64: fast, and good enough for a world.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x2545_f491_4f6c_dd1d) ^ 0x1ab)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / 9_007_199_254_740_992.0
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }
}

struct Packet {
    sent: f64,
    /// When its acknowledgement is back; none if it was lost.
    ack: Option<f64>,
    acked: bool,
}

/// A connection.
struct Conn {
    route: usize,
    /// Connected from this time on, and how the dial ends.
    dial_ends: Option<(u64, Result<(), Failure>)>,
    open: bool,
    adopted: Option<u64>,
    window: f64,
    threshold: f64,
    flight: VecDeque<Packet>,
    lost: u64,
    recover_until: f64,
    srtt: f64,
    timer: f64,
    backoff: u32,
    /// User bytes taken from the backlog and not sent yet, packets to be sent again included.
    buffer: u64,
    sent: u64,
    delivered: u64,
    tokens: f64,
    credit: f64,
    cap_busy: f64,
    reported: Option<(u64, u64, u64)>,
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
    /// Dials that fell into one.
    pub(crate) dials_in_box: usize,
    conns: BTreeMap<PathId, Conn>,
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
            dials_in_box: 0,
            conns: BTreeMap::new(),
            sharing: None,
            backlog: 0,
            next_file: 0,
            dice: Dice::new(seed),
            wake: None,
        };
        let candidates = lab.routes.iter().map(|route| route.candidate.clone()).collect();
        lab.tell(Input::Candidates(candidates));
        lab.tell(Input::Start {
            network: NetworkId([7; 16]),
            client: CLIENT,
            wall: UnixSecs(1_800_000_000),
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
                Output::Dial { path, candidate } => self.dial(*path, candidate),
                Output::Share { to, .. } => self.sharing = Some(*to),
                Output::Adopt { path, .. } => {
                    if self.sharing == Some(*path) {
                        self.sharing = None;
                    }
                    self.in_use = Some(*path);
                    if let Some(conn) = self.conns.get_mut(path) {
                        conn.adopted = Some(now);
                    }
                }
                Output::Close { path, .. } => self.drop_conn(*path),
                Output::Found { .. } => {}
            }
            self.events.push(Event { at_ms: now, output });
        }
    }

    fn drop_conn(&mut self, path: PathId) {
        if let Some(conn) = self.conns.remove(&path) {
            let flight = conn.flight.iter().filter(|packet| !packet.acked).count() as u64;
            self.backlog += conn.buffer + flight * PACKET;
        }
        if self.sharing == Some(path) {
            self.sharing = None;
        }
        if self.in_use == Some(path) {
            self.in_use = None;
        }
    }

    /// The connection is gone, and not because the machine wanted it.
    pub(crate) fn kill(&mut self, path: PathId, how: Failure) {
        self.drop_conn(path);
        self.tell(Input::Closed(path, how));
    }

    fn dial(&mut self, path: PathId, candidate: &Candidate) {
        let at = self
            .routes
            .iter()
            .position(|route| route.candidate == *candidate)
            .expect("a known route");
        let now = self.now;
        self.paths.insert(path, candidate.clone());
        let route = &self.routes[at];
        let mut ends = Some((now + (route.rtt_ms * 3.0) as u64, Ok(())));
        for censor in &route.censors {
            match censor {
                Censor::Cut { from_ms, until_ms } if (*from_ms..*until_ms).contains(&now) => {
                    // The host sends again, so an end of the cut is noticed after a while.
                    let noticed = until_ms.saturating_add(1_000 + (route.rtt_ms * 3.0) as u64);
                    ends = (*until_ms < u64::MAX).then_some((noticed, Ok(())));
                }
                Censor::Flag {
                    probability,
                    box_ms,
                    renewed,
                    reset,
                } => {
                    let until = self.boxes.get(&candidate.address).copied().unwrap_or(0);
                    if now < until {
                        self.dials_in_box += 1;
                        if *renewed {
                            self.boxes.insert(candidate.address, now + box_ms);
                        }
                        ends = None;
                    } else if self.dice.unit() < *probability {
                        // The host sends again for as long as the socket is open: 10 s at most.
                        let last_packet = if *reset { now } else { now + 10_000 };
                        let from = if *renewed { last_packet } else { now };
                        self.boxes.insert(candidate.address, from + box_ms);
                        ends = reset.then_some((now + route.rtt_ms as u64, Err(Failure::Reset)));
                    }
                }
                _ => {}
            }
        }
        self.conns.insert(
            path,
            Conn {
                route: at,
                dial_ends: ends,
                open: false,
                adopted: None,
                window: 10.0,
                threshold: f64::MAX,
                flight: VecDeque::new(),
                lost: 0,
                recover_until: 0.0,
                srtt: route.rtt_ms,
                timer: now as f64,
                backoff: 0,
                buffer: 0,
                sent: 0,
                delivered: 0,
                tokens: 16_000.0,
                credit: 0.0,
                cap_busy: 0.0,
                reported: None,
            },
        );
        let mut per_server: BTreeMap<ServerId, usize> = BTreeMap::new();
        for conn in self.conns.values() {
            *per_server
                .entry(self.routes[conn.route].candidate.server)
                .or_default() += 1;
        }
        self.sockets_most = self.sockets_most.max(per_server.into_values().max().unwrap_or(0));
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
        let ids: Vec<PathId> = self.conns.keys().copied().collect();
        for id in &ids {
            let ended = self.conns.get_mut(id).and_then(|conn| match conn.dial_ends {
                Some((at, how)) if at <= now => {
                    conn.dial_ends = None;
                    Some(how)
                }
                _ => None,
            });
            match ended {
                Some(Ok(())) => {
                    if let Some(conn) = self.conns.get_mut(id) {
                        conn.open = true;
                    }
                    self.tell(Input::Connected(*id));
                }
                Some(Err(how)) => {
                    self.drop_conn(*id);
                    self.tell(Input::Failed(*id, how));
                }
                None => {}
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

    fn move_packets(&mut self, id: PathId) {
        let now = self.now as f64;
        let takes = self.in_use == Some(id) || self.sharing == Some(id);
        let Some(conn) = self.conns.get_mut(&id).filter(|conn| conn.open) else {
            return;
        };
        let route = &mut self.routes[conn.route];
        // Acknowledgements.
        let mut acked_after = 0;
        for packet in conn.flight.iter_mut() {
            if !packet.acked && packet.ack.is_some_and(|ack| ack <= now) {
                packet.acked = true;
                acked_after += 1;
                conn.srtt = conn.srtt * 0.875 + (packet.ack.unwrap_or(now) - packet.sent) * 0.125;
                conn.window += if conn.window < conn.threshold {
                    1.0
                } else {
                    1.0 / conn.window
                };
                conn.backoff = 0;
                conn.timer = now;
            }
        }
        conn.window = conn.window.min(400.0);
        // Three later ones arrived: it is lost.
        let later: usize = conn.flight.iter().filter(|packet| packet.acked).count();
        if acked_after > 0 && later >= 3 {
            let mut seen = 0;
            let mut lost = 0;
            for packet in conn.flight.iter_mut().rev() {
                if packet.acked {
                    seen += 1;
                } else if seen >= 3 && packet.ack.is_none() && packet.sent + conn.srtt <= now {
                    // Sent again at once, in its place.
                    packet.ack = Some(f64::MAX);
                    lost += 1;
                }
            }
            if lost > 0 {
                conn.lost += lost;
                if now > conn.recover_until {
                    conn.threshold = (conn.window / 2.0).max(2.0);
                    conn.window = conn.threshold;
                    conn.recover_until = now + conn.srtt;
                }
            }
        }
        while conn.flight.front().is_some_and(|packet| packet.acked) {
            conn.flight.pop_front();
            conn.delivered += PACKET;
            self.delivered += PACKET;
        }
        // The timer.
        let timeout = (conn.srtt * 2.0).clamp(300.0, 3_000.0) * f64::from(1_u32 << conn.backoff.min(6));
        if !conn.flight.is_empty() && now - conn.timer > timeout {
            conn.threshold = (conn.window / 2.0).max(2.0);
            conn.window = 1.0;
            conn.backoff += 1;
            conn.timer = now;
            conn.lost = 0;
            for packet in conn.flight.iter_mut().filter(|packet| !packet.acked) {
                if packet.ack.is_none_or(|ack| ack == f64::MAX) {
                    packet.ack = Some(f64::MAX);
                    conn.lost += 1;
                }
            }
        }
        // Sending.
        if takes && conn.buffer < 16_000 {
            let taken = self.backlog.min(16_000);
            self.backlog -= taken;
            conn.buffer += taken;
        }
        let credit = route.ceiling * STEP_MS as f64 / 8.0;
        conn.credit = (conn.credit + credit).min(credit.max(4_000.0));
        let mut limits: Vec<(f64, f64, bool)> = Vec::new();
        let mut frozen = false;
        for censor in &route.censors {
            let range = |from: &u64, until: &u64| (*from..*until).contains(&self.now);
            match censor {
                Censor::Police {
                    from_ms,
                    until_ms,
                    kbit,
                    burst,
                } if range(from_ms, until_ms) => {
                    limits.push((*kbit, *burst, true));
                }
                Censor::Cap {
                    from_ms,
                    until_ms,
                    kbit,
                } if range(from_ms, until_ms) => {
                    limits.push((*kbit, 0.0, false));
                }
                Censor::PoliceAfterAdoption {
                    after_ms,
                    kbit,
                    burst,
                } if conn.adopted.is_some_and(|at| self.now >= at + after_ms) => {
                    limits.push((*kbit, *burst, true));
                }
                Censor::FreezeAfter { from_ms, bytes } => {
                    frozen |= self.now >= *from_ms && conn.sent > *bytes;
                }
                Censor::Cut { from_ms, until_ms } => frozen |= range(from_ms, until_ms),
                _ => {}
            }
        }
        if let Some((kbit, burst, true)) = limits.first() {
            conn.tokens = (conn.tokens + kbit * STEP_MS as f64 / 8.0).min(*burst);
        }
        let mut unacked = conn.flight.iter().filter(|packet| !packet.acked).count() as f64;
        loop {
            let out = unacked - conn.lost as f64;
            if out >= conn.window.floor().max(1.0) || conn.credit < PACKET as f64 {
                break;
            }
            let again = if conn.lost > 0 {
                conn.flight
                    .iter_mut()
                    .find(|packet| !packet.acked && packet.ack == Some(f64::MAX))
            } else {
                None
            };
            if again.is_none() && conn.buffer == 0 {
                break;
            }
            conn.credit -= PACKET as f64;
            conn.sent += PACKET;
            let mut leaves = self.access.pass(now, &mut self.dice);
            if let (Some(at), Some(own)) = (leaves, route.own.as_mut()) {
                leaves = own.pass(at, &mut self.dice);
            }
            for (kbit, _, drops) in &limits {
                if *drops {
                    if conn.tokens >= PACKET as f64 {
                        conn.tokens -= PACKET as f64;
                    } else {
                        leaves = None;
                    }
                } else if let Some(at) = leaves {
                    let start = conn.cap_busy.max(at);
                    leaves = if start - at > 2_000.0 {
                        None
                    } else {
                        conn.cap_busy = start + PACKET as f64 * 8.0 / kbit;
                        Some(conn.cap_busy)
                    };
                }
            }
            if frozen {
                leaves = None;
                self.stalled_at.get_or_insert(self.now);
            }
            let ack = leaves.map(|at| at + route.rtt_ms);
            if let Some(packet) = again {
                (packet.sent, packet.ack) = (now, ack);
                conn.lost -= 1;
            } else {
                if conn.flight.is_empty() {
                    conn.timer = now;
                }
                unacked += 1.0;
                conn.buffer = conn.buffer.saturating_sub(PACKET);
                conn.flight.push_back(Packet {
                    sent: now,
                    ack,
                    acked: false,
                });
            }
        }
    }

    /// A driver reports every 500 ms while data waits, and when a queue fills or empties.
    fn progress(&mut self, id: PathId, ticks: bool) {
        let takes = self.in_use == Some(id) || self.sharing == Some(id);
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
            path: id,
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
