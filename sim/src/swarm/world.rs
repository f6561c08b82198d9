//! The world: what the scenario runner holds.

use std::cell::{RefCell, RefMut};
use std::collections::BTreeMap;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;

use fragile::Fragile;
use phantom_core::event::{Event, Sensitive};
use phantom_core::runtime::share::Shares;
use phantom_core::units::{Instant, Probability};

use super::Happening;
use super::border::{BorderCounters, Middlebox, Tap};
use super::dns::Question;
use super::executor::{Body, Ready, Tasks};
use super::heap::{Item, RadixHeap};
use super::leak::Leaks;
use super::listener::Listening;
use super::nat::Nat;
use super::network::{Host, Net, NetCounters, Owner, nanos};
use super::runtime::Runtime;
use super::segments::{Conn, Spare};
use super::slab::{Key, Slab};
use super::tcp::Packet;
use super::topology::{HostSpec, Network, Topology};
use super::udp::{Datagram, Socket};
use crate::host::record::{Detail, mix};
use crate::host::{Checkpoint, Digest, Disk, Names, Observer, PeerId, entropy};

const SECOND_NS: u64 = 1_000_000_000;

/// The source number of what the world itself causes.
const WORLD: u32 = (1 << 24) - 1;

/// How a world is made.
#[derive(Clone, Debug)]
pub struct WorldConfig {
    /// Everything random follows from it.
    pub seed: u64,
    /// Draws the order of wakes within an instant from this; `None`: the order in which they were caused.
    pub shuffle: Option<u64>,
    /// Events and polls before a run is given up as stuck. Default: no limit.
    pub step_limit: u64,
    /// What lies between hosts.
    pub network: Network,
    /// How streams behave.
    pub streams: StreamModel,
    /// Bytes of a stream that may be in flight or unread. Default 256 KiB, between Linux's initial and largest window.
    pub window_bytes: u64,
    /// Chance that a datagram comes twice.
    pub duplicate: Probability,
    /// How much the digest keeps.
    pub detail: Detail,
}

impl WorldConfig {
    /// The default network with this seed.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            shuffle: None,
            step_limit: u64::MAX,
            network: Network::default(),
            streams: StreamModel::default(),
            window_bytes: 256 << 10,
            duplicate: Probability::ZERO,
            detail: Detail::World,
        }
    }
}

/// How streams behave between their ends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StreamModel {
    /// Reliable and in order, in segments of up to 16 KiB, bounded by [`WorldConfig::window_bytes`]; a loss costs a time-out.
    /// Without a congestion window: cheap, and what other engines have.
    Plain,
    /// As Linux does it: see [`phantom_path::tcp`].
    #[default]
    Tcp,
}

/// Why a run itself failed, as opposed to what it shows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// More happened than the limit allows: something spins.
    #[error("{steps} steps by {at}: the limit; last polled was task {task:?} of {peer}")]
    StepLimit {
        /// When.
        at: Instant,
        /// The limit.
        steps: u64,
        /// Whose task was polled last.
        peer: PeerId,
        /// The task polled last.
        task: &'static str,
    },
}

/// What a world did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorldCounters {
    /// Events that became due.
    pub happenings: u64,
    /// Polls of tasks.
    pub polls: u64,
    /// Tasks alive.
    pub tasks: usize,
    /// Events pending, dead ones included.
    pub pending: usize,
    /// Streams alive.
    pub streams: usize,
    /// The network.
    pub net: NetCounters,
    /// The border.
    pub border: BorderCounters,
}

/// One host as the runner sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostStatus {
    /// Its name.
    pub name: String,
    /// Its own addresses.
    pub addresses: Vec<IpAddr>,
    /// Powered.
    pub up: bool,
    /// Inside the border.
    pub inside: bool,
    /// How often it crashed.
    pub crashes: u32,
    /// Bytes that wait on its access link, up and down.
    pub queued_bytes: (u64, u64),
}

pub(crate) struct Shared {
    /// No lock: one thread runs a world, and an atomic exchange waits for all writes before it, which wait for memory. Any
    /// other thread that comes here panics.
    state: Fragile<RefCell<State>>,
    ready: Arc<Ready>,
    pub(crate) shares: Shares,
}

impl Shared {
    /// The state, for as long as no task is polled or dropped: those may come here too.
    pub(crate) fn state(&self) -> RefMut<'_, State> {
        self.state.get().borrow_mut()
    }
}

pub(crate) struct State {
    pub(crate) seed: u64,
    pub(crate) now: u64,
    pub(crate) heap: RadixHeap<Happening>,
    pub(crate) timers: Slab<Option<std::task::Waker>>,
    pub(crate) dead_timers: usize,
    pub(crate) tasks: Tasks,
    pub(crate) net: Net,
    pub(crate) conns: Slab<Conn>,
    pub(crate) spare: Spare,
    pub(crate) stream_model: StreamModel,
    /// Packets of TCP streams on their way.
    pub(crate) packets: Slab<Packet>,
    /// What a sender is about to send; empty in between.
    pub(crate) segments_out: Vec<phantom_path::tcp::Segment>,
    pub(crate) listeners: Slab<Listening>,
    pub(crate) sockets: Slab<Socket>,
    pub(crate) datagrams: Slab<Datagram>,
    pub(crate) questions: Slab<Question>,
    pub(crate) names: Names,
    pub(crate) window: u64,
    pub(crate) duplicate: Probability,
    pub(crate) events: Vec<(Instant, PeerId, Event)>,
    dice: u64,
    caused: u64,
    happenings: u64,
    polls: u64,
}

impl State {
    /// Adds an event that `source` causes.
    pub(crate) fn schedule(&mut self, source: u32, at: u64, event: Happening) {
        let count = match self.net.hosts.get_mut(source as usize) {
            Some(host) => &mut host.caused,
            None => &mut self.caused,
        };
        *count += 1;
        let order = u64::from(source) << 40 | *count & ((1 << 40) - 1);
        self.heap.push(Item {
            at: at.max(self.now),
            order,
            event,
        });
    }

    /// 64 random bits of the world's own.
    pub(crate) fn dice(&mut self) -> u64 {
        self.dice = self.dice.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.dice, 1)
    }

    pub(crate) fn spawn(
        &mut self,
        peer: u32,
        name: &'static str,
        future: Pin<Box<dyn Future<Output = ()> + Send>>,
    ) -> Key {
        self.tasks
            .spawn(peer, &mut self.net.hosts[peer as usize].tasks, name, future)
    }

    /// Ends a task; its body is to be dropped when the state is free again.
    pub(crate) fn abort(&mut self, key: Key) -> Option<Body> {
        let (peer, _) = self.tasks.whose(key)?;
        if self.tasks.polled(key) {
            self.tasks.mark_aborted(key);
            return None;
        }
        self.tasks.remove(key, &mut self.net.hosts[peer as usize].tasks)
    }

    /// Takes and handles the next event at or before `until`; `false` if there is none.
    fn next(&mut self, until: u64) -> bool {
        let timers = &self.timers;
        let alive = |event: &Happening| match event {
            Happening::Timer(timer) => timers.alive(*timer),
            _ => true,
        };
        let Some(item) = self.heap.pop(until, alive) else {
            return false;
        };
        self.now = item.at;
        self.happenings += 1;
        match item.event {
            Happening::Timer(timer) => self.timer_fires(timer),
            Happening::Stream { conn, side, step } => self.stream_step(conn, side.into(), step),
            Happening::Packet { packet, landing } => self.packet_step(packet, landing),
            Happening::Datagram(datagram) => self.datagram_arrives(datagram),
            Happening::Dns(question, asked) => self.dns_step(question, asked),
        }
        true
    }
}

/// What is to be done after a batch of polls.
#[derive(Clone, Copy)]
struct After {
    /// Something is to be told to the observer or the digest.
    news: bool,
    /// Events and polls so far.
    steps: u64,
}

type Action = Box<dyn FnOnce(&mut World) + Send>;

/// Hosts, their programs, and the network between them. It stays on the thread that made it, and so do its handles and
/// the wakers of its tasks: what is used on another one panics, and what is dropped there may abort the process.
pub struct World {
    shared: Arc<Shared>,
    actions: BTreeMap<(Instant, u64), Action>,
    actions_added: u64,
    digest: Digest,
    noted: NetCounters,
    shuffle: Option<u64>,
    step_limit: u64,
    last: (u32, &'static str),
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World")
            .field("now", &self.now())
            .field("counters", &self.counters())
            .finish_non_exhaustive()
    }
}

impl World {
    /// A world without hosts, at the start of its run.
    pub fn new(config: WorldConfig) -> Self {
        let ready = Arc::new(Ready::default());
        let (fixed, delays) = match &config.network {
            Network::Fixed(delay) => (Some(nanos(*delay)), Topology::new().delays()),
            Network::Modelled(topology) => (None, topology.delays()),
        };
        let net = Net {
            hosts: Vec::new(),
            nats: Vec::new(),
            age_at: 0,
            addresses: Default::default(),
            fixed,
            delays,
            middlebox: None,
            tap: None,
            leaks: Leaks::default(),
            hits: Vec::new(),
            reports: Vec::new(),
            cut: false,
            border: BorderCounters::default(),
            counters: NetCounters::default(),
            last_given: 0,
            spill: Arc::default(),
        };
        let state = State {
            seed: config.seed,
            now: 0,
            heap: RadixHeap::new(),
            timers: Slab::new(),
            dead_timers: 0,
            tasks: Tasks::new(Arc::clone(&ready)),
            net,
            conns: Slab::new(),
            spare: Spare::default(),
            stream_model: config.streams,
            packets: Slab::new(),
            segments_out: Vec::new(),
            listeners: Slab::new(),
            sockets: Slab::new(),
            datagrams: Slab::new(),
            questions: Slab::new(),
            names: Names::default(),
            window: config.window_bytes.max(1),
            duplicate: config.duplicate,
            events: Vec::new(),
            dice: mix(config.seed, 0x0077_6F72_6C64),
            caused: 0,
            happenings: 0,
            polls: 0,
        };
        Self {
            shared: Arc::new(Shared {
                state: Fragile::new(RefCell::new(state)),
                ready,
                shares: Shares::default(),
            }),
            actions: BTreeMap::new(),
            actions_added: 0,
            digest: Digest::new(config.detail),
            noted: NetCounters::default(),
            shuffle: config.shuffle,
            step_limit: config.step_limit,
            last: (WORLD, ""),
        }
    }

    /// Adds a host. It is not powered before its first [`World::start`].
    ///
    /// # Panics
    /// If an address is taken, or after 16 million hosts.
    pub fn add_host(&mut self, spec: HostSpec) -> PeerId {
        let mut spec = spec;
        let mut state = self.shared.state();
        let id = state.net.hosts.len() as u32;
        assert!(id < WORLD, "a world has at most {WORLD} hosts");
        assert!(
            state.net.fixed.is_some() || state.net.delays.knows(spec.system),
            "{} is in {:?}, which the topology does not have: nobody could reach it",
            spec.name,
            spec.system
        );
        if spec.addresses.is_empty() {
            spec.addresses.push(state.net.give_address(spec.nat.is_some()));
        }
        let nat = spec.nat.as_ref().map(|nat| {
            let known = state
                .net
                .nats
                .iter()
                .position(|other| other.outside == nat.outside);
            known.unwrap_or_else(|| {
                let number = state.net.nats.len();
                state
                    .net
                    .nats
                    .push(Nat::new(nat.outside.clone(), nanos(nat.udp_idle)));
                for outside in &nat.outside {
                    let taken = state.net.addresses.insert(*outside, Owner::Nat(number as u32));
                    assert!(taken.is_none(), "{outside} is taken");
                }
                number
            }) as u32
        });
        if nat.is_none() {
            for address in &spec.addresses {
                let taken = state.net.addresses.insert(*address, Owner::Host(id));
                assert!(taken.is_none(), "{address} of {} is taken", spec.name);
            }
        }
        let (seed, spill) = (state.seed, state.net.spill.clone());
        state.net.hosts.push(Host::new(spec, nat, seed, id, spill));
        PeerId(id)
    }

    /// Adds a host that answers DNS queries at its addresses and runs no program.
    pub fn add_resolver(&mut self, spec: HostSpec) -> PeerId {
        let id = self.add_host(spec);
        self.shared.state().net.hosts[id.index()].up = true;
        id
    }

    /// Powers `peer` if it is down, and runs `program` on it as a task called "main".
    pub fn start<P, F>(&mut self, peer: PeerId, program: P)
    where
        P: FnOnce(Runtime) -> F,
        F: Future<Output = ()> + Send + 'static,
    {
        let runtime = self.power(peer);
        let future = Box::pin(program(runtime));
        self.shared.state().spawn(peer.0, "main", future);
    }

    /// Powers `peer` if it is down, and returns its handle: for what is not a task.
    pub fn power(&mut self, peer: PeerId) -> Runtime {
        let mut state = self.shared.state();
        let host = &mut state.net.hosts[peer.index()];
        host.up = true;
        Runtime {
            shared: Arc::clone(&self.shared),
            peer: peer.0,
            incarnation: host.incarnation,
        }
    }

    /// The host loses power: its tasks end wherever they wait, its streams fall silent, what its store had not synced is
    /// lost or torn. Nobody is told. No effect on a host that is down.
    pub fn crash(&mut self, peer: PeerId) {
        let bodies = {
            let state = &mut *self.shared.state();
            let host = &mut state.net.hosts[peer.index()];
            if !host.up {
                return;
            }
            host.disk.crash(&mut entropy::stream(
                state.seed,
                peer,
                host.incarnation,
                "crash",
                0,
            ));
            host.up = false;
            host.incarnation += 1;
            host.listeners.clear();
            host.sockets.clear();
            host.streams = Default::default();
            state.tasks.remove_all(&mut host.tasks)
        };
        drop(bodies);
    }

    /// The disk is lost; meant for a host that is down.
    pub fn lose_disk(&mut self, peer: PeerId) {
        self.shared.state().net.hosts[peer.index()].disk.lose();
    }

    /// The wall clock of `peer` steps by `by_ns` nanoseconds now, backwards if negative.
    pub fn step_clock(&mut self, peer: PeerId, by_ns: i64) {
        let mut state = self.shared.state();
        let now = Instant::from_nanos(state.now);
        state.net.hosts[peer.index()].wall.step(now, by_ns);
    }

    /// Plugs the access link of `peer` in or out: all its packets are lost while it is out.
    pub fn set_link(&mut self, peer: PeerId, plugged: bool) {
        self.shared.state().net.hosts[peer.index()].linked = plugged;
    }

    /// Cuts the border, or ends the cut: all packets that cross it are lost meanwhile.
    pub fn set_cut(&mut self, cut: bool) {
        self.shared.state().net.cut = cut;
    }

    /// Puts a censor at the border.
    pub fn set_middlebox(&mut self, middlebox: impl Middlebox + 'static) {
        let former = self.shared.state().net.middlebox.replace(Box::new(middlebox));
        // It may hold handles.
        drop(former);
    }

    /// Watches the border.
    pub fn set_tap(&mut self, tap: impl Tap + 'static) {
        let former = self.shared.state().net.tap.replace(Box::new(tap));
        // It may hold handles.
        drop(former);
    }

    /// Changes what names resolve to.
    pub fn names<T>(&mut self, with: impl FnOnce(&mut Names) -> T) -> T {
        with(&mut self.shared.state().names)
    }

    /// Runs `action` at `at`, before anything else of that instant; at once when the run goes on if that has passed.
    pub fn at(&mut self, at: Instant, action: impl FnOnce(&mut World) + Send + 'static) {
        self.actions_added += 1;
        self.actions.insert((at, self.actions_added), Box::new(action));
    }

    /// The present.
    pub fn now(&self) -> Instant {
        Instant::from_nanos(self.shared.state().now)
    }

    /// Reads (or, for a test, changes) the disk of `peer`.
    pub fn disk<T>(&self, peer: PeerId, with: impl FnOnce(&mut Disk) -> T) -> T {
        with(&mut self.shared.state().net.hosts[peer.index()].disk)
    }

    /// How many hosts there are.
    pub fn hosts(&self) -> u32 {
        self.shared.state().net.hosts.len() as u32
    }

    /// One host.
    pub fn host(&self, peer: PeerId) -> HostStatus {
        let state = self.shared.state();
        let host = &state.net.hosts[peer.index()];
        HostStatus {
            name: host.name.to_string(),
            addresses: host.addresses.clone(),
            up: host.up,
            inside: host.inside,
            crashes: host.incarnation,
            queued_bytes: (host.uplink.depth(state.now), host.downlink.depth(state.now)),
        }
    }

    /// What happened so far.
    pub fn counters(&self) -> WorldCounters {
        let state = self.shared.state();
        WorldCounters {
            happenings: state.happenings,
            polls: state.polls,
            tasks: state.tasks.len(),
            pending: state.heap.len(),
            streams: state.conns.len(),
            net: state.net.counters,
            border: state.net.border,
        }
    }

    /// Secrets of each kind that are marked, and bytes searched for them.
    pub fn leak_search(&self) -> (BTreeMap<Sensitive, u64>, u64) {
        self.shared.state().net.leaks.volume()
    }

    /// The digest of everything so far, as text.
    pub fn trace_digest(&self) -> String {
        self.digest.trace()
    }

    /// The state of the digest after each simulated second.
    pub fn checkpoints(&self) -> &[Checkpoint] {
        self.digest.checkpoints()
    }

    /// Runs until `until` and tells `observer` what happens.
    ///
    /// # Errors
    /// [`RunError::StepLimit`] if more happens than the configuration allows.
    pub fn run_until(&mut self, until: Instant, observer: &mut dyn Observer) -> Result<(), RunError> {
        loop {
            let action = self
                .actions
                .first_key_value()
                .map(|((at, _), _)| *at)
                .filter(|at| *at <= until);
            match action {
                Some(at) => {
                    if at.as_nanos() > 0 {
                        self.run(at.as_nanos() - 1, observer)?;
                    }
                    self.move_to(at, observer);
                    if let Some((_, action)) = self.actions.pop_first() {
                        action(self);
                    }
                    self.report(observer);
                }
                None => {
                    self.run(until.as_nanos(), observer)?;
                    self.report(observer);
                    self.move_to(until, observer);
                    return Ok(());
                }
            }
        }
    }

    fn move_to(&mut self, at: Instant, observer: &mut dyn Observer) {
        while at.as_nanos() > self.second_ends() {
            self.end_second(self.second_ends(), observer);
        }
        let state = &mut *self.shared.state();
        state.now = state.now.max(at.as_nanos());
    }

    /// The last nanosecond of the second under way.
    fn second_ends(&self) -> u64 {
        (self.digest.checkpoints().len() as u64 + 1) * SECOND_NS - 1
    }

    fn run(&mut self, until: u64, observer: &mut dyn Observer) -> Result<(), RunError> {
        let shared = Arc::clone(&self.shared);
        let mut batch: Vec<Key> = Vec::new();
        loop {
            shared.ready.swap(&mut batch);
            if !batch.is_empty() {
                let after = self.poll_all(&shared, &mut batch);
                if after.news {
                    self.report(observer);
                }
                if after.steps > self.step_limit {
                    return Err(self.stuck());
                }
                continue;
            }
            // Second by second, so that what enters the digest does not depend on how a run is sliced.
            let second_ends = self.second_ends();
            let mut state = shared.state();
            if !state.next(until.min(second_ends)) {
                if until <= second_ends {
                    return Ok(());
                }
                drop(state);
                self.end_second(second_ends, observer);
                continue;
            }
            // All that is due at this instant comes before the tasks it wakes, so that their order can be drawn.
            let now = state.now;
            while state.next(now) {}
        }
    }

    /// Polls each task of a batch once. The state is borrowed once per task: to put the last one back and take the next.
    fn poll_all(&mut self, shared: &Shared, batch: &mut Vec<Key>) -> After {
        if let Some(shuffle) = &mut self.shuffle {
            for n in (1..batch.len()).rev() {
                *shuffle = mix(*shuffle, n as u64);
                batch.swap(n, (*shuffle % (n as u64 + 1)) as usize);
            }
        }
        let mut polled: Option<(Key, Body, bool)> = None;
        let mut keys = batch.drain(..);
        loop {
            let mut discarded = None;
            let mut next = None;
            let after;
            {
                let state = &mut *shared.state();
                if let Some((key, body, done)) = polled.take() {
                    discarded = state.put_back(key, body, done);
                }
                for key in keys.by_ref() {
                    if let Some((body, peer, name)) = state.tasks.begin(key) {
                        state.polls += 1;
                        self.last = (peer, name);
                        next = Some((key, body));
                        break;
                    }
                }
                let news = !state.events.is_empty() || !state.net.reports.is_empty();
                let steps = state.polls + state.happenings;
                after = After { news, steps };
            }
            drop(discarded);
            let Some((key, mut body)) = next else {
                return after;
            };
            body.begin_poll();
            let done = body.poll();
            polled = Some((key, body, done));
        }
    }

    fn stuck(&self) -> RunError {
        let (at, steps) = (self.now(), self.step_limit);
        RunError::StepLimit {
            at,
            steps,
            peer: PeerId(self.last.0),
            task: self.last.1,
        }
    }

    /// Ends the second whose last nanosecond is `at`. What the network did is part of what must repeat, even where no event
    /// tells of it.
    fn end_second(&mut self, at: u64, observer: &mut dyn Observer) {
        self.report(observer);
        let counters = {
            let net = &mut self.shared.state().net;
            net.age(at);
            net.counters
        };
        if counters != self.noted {
            self.noted = counters;
            self.digest.note(
                Instant::from_nanos(at),
                PeerId(u32::MAX),
                &[counters.packets, counters.bytes, counters.lost],
            );
        }
        self.digest.advance(Instant::from_nanos(at + 1));
    }

    /// Hands what was emitted to the digest and the observer.
    fn report(&mut self, observer: &mut dyn Observer) {
        let (mut events, leaks) = {
            let state = &mut *self.shared.state();
            if state.events.is_empty() && state.net.reports.is_empty() {
                return;
            }
            (
                std::mem::take(&mut state.events),
                std::mem::take(&mut state.net.reports),
            )
        };
        for leak in leaks {
            observer.on_leak(&leak);
        }
        for (at, peer, event) in events.drain(..) {
            self.digest.event(at, peer, &event);
            observer.on_event(at, peer, &event);
        }
        let state = &mut *self.shared.state();
        if state.events.is_empty() {
            // The allocation is used again.
            state.events = events;
        }
    }
}

impl State {
    /// A task was polled: frees it or puts it back. What is returned is dropped when the state is free again.
    fn put_back(&mut self, key: Key, body: Body, done: bool) -> Option<Body> {
        let (body, peer) = self.tasks.end(key, body, done)?;
        if let Some(peer) = peer {
            self.tasks.remove(key, &mut self.net.hosts[peer as usize].tasks);
        }
        Some(body)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // Tasks hold the world that holds them: take them out, so that both go.
        let bodies: Vec<Body> = {
            let state = &mut *self.shared.state();
            let mut bodies = Vec::new();
            for host in &mut state.net.hosts {
                host.up = false;
                host.incarnation += 1;
                bodies.extend(state.tasks.remove_all(&mut host.tasks));
            }
            bodies
        };
        drop(bodies);
    }
}
