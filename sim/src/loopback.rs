//! The stage of real time: the production back end on addresses of 127.0.0.0/8, one per host.
//!
//! Everything is the system's: clock, sockets, files, entropy. So a run takes as long as it says and no two are the same;
//! delays between regions are none, and a crash loses no bytes that the system has (which the contract of
//! [`Store`](phantom_core::runtime::Store) allows). Wall clocks are the system's and an offset of each host. It shows that
//! what holds in simulation holds on sockets.

mod skewed;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use phantom_core::runtime::Spawn;
use phantom_core::runtime::ruled::Ruled;
use phantom_core::runtime::rules::{Counts, RuleId, SharedRules};
use phantom_core::runtime::share::Shares;
use phantom_core::runtime::tokio::{Config, Ended, Hosts, TokioRuntime};
use phantom_core::units::Instant;
use tokio::sync::mpsc;

use self::skewed::{Offset, Skewed};
use crate::host::{Disk, PeerId};
use crate::scratch::Scratch;
use crate::stage::{Abilities, Act, Delays, HostSpec, Program, Record, Stage};

/// Events between two looks at them, per peer.
const EVENTS_MAX: usize = 1 << 16;
/// How often events are taken off the peers' queues.
const SLICE: Duration = Duration::from_millis(100);

/// A stage in real time.
pub struct LoopbackStage {
    rt: tokio::runtime::Runtime,
    start: tokio::time::Instant,
    dir: Scratch,
    hosts: Vec<Host>,
    names: Hosts,
    shares: Shares,
    rules: SharedRules,
    /// Every rule that a key has had; the last is in force, if any is.
    keys: BTreeMap<String, Vec<RuleId>>,
    acts: BTreeMap<(Instant, u64), Act>,
    acts_added: u64,
    records: Vec<Record>,
    now: Instant,
}

struct Host {
    spec: HostSpec,
    offset: Offset,
    program: Option<Program<Ruled<Skewed<TokioRuntime>>>>,
    running: Option<Running>,
}

struct Running {
    rt: TokioRuntime,
    events: mpsc::Receiver<phantom_core::runtime::tokio::Record>,
}

impl LoopbackStage {
    fn store(&self, peer: PeerId) -> PathBuf {
        self.dir.path().join(peer.0.to_string())
    }

    fn play(&mut self, act: Act) {
        match act {
            Act::Start(peer) => self.start(peer),
            Act::Crash(peer) => {
                if let Some(running) = self.hosts[peer.index()].running.take() {
                    self.rt.block_on(running.rt.shutdown());
                    self.collect(peer, running);
                }
            }
            Act::LoseDisk(peer) => {
                if self.hosts[peer.index()].running.is_none() {
                    // Not there before the first start.
                    let _ = fs::remove_dir_all(self.store(peer));
                }
            }
            Act::StepWall(peer, by_ns) => self.hosts[peer.index()].offset.step(by_ns),
            Act::AddRule(key, rule) => {
                let ids = self.keys.entry(key).or_default();
                let standing = ids.last().copied();
                // A rule that has ended has lost its place; what it did still counts under its key.
                if standing.is_none_or(|id| self.rules.replace(id, rule.clone()).is_none()) {
                    ids.push(self.rules.add(rule));
                }
            }
            Act::RemoveRule(key) => {
                if let Some(id) = self.keys.get(&key).and_then(|ids| ids.last()) {
                    self.rules.remove(*id);
                }
            }
            Act::SetName(name, addresses) => self.names.set(&name, addresses),
        }
    }

    fn start(&mut self, peer: PeerId) {
        let store = self.store(peer);
        let host = &mut self.hosts[peer.index()];
        let (None, Some(program)) = (&host.running, &host.program) else {
            return;
        };
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let config = Config {
            address: host.spec.addresses.first().copied(),
            hosts: self.names.clone(),
            start: Some(self.start),
            events: Some(sender),
            shares: self.shares.clone(),
            ..Config::new(host.spec.name.clone(), store)
        };
        let _context = self.rt.enter();
        let rt = TokioRuntime::start(config).unwrap_or_else(|e| panic!("{peer} cannot start: {e}"));
        let skewed = Skewed::new(rt.clone(), host.offset.clone());
        let ruled = if host.spec.inside {
            Ruled::new(skewed, self.rules.clone())
        } else {
            Ruled::open(skewed)
        };
        rt.spawn("program", program(ruled));
        host.running = Some(Running { rt, events });
    }

    /// Runs until `to`, and takes the events off the queues meanwhile.
    #[expect(
        clippy::disallowed_methods,
        reason = "a back end of the runtime, in real time"
    )]
    fn advance(&mut self, to: Instant) {
        while self.now < to {
            self.now = to.min(self.now + SLICE);
            let until = self.start + self.now.since_start();
            self.rt.block_on(async { tokio::time::sleep_until(until).await });
            for index in 0..self.hosts.len() {
                if let Some(running) = self.hosts[index].running.take() {
                    let peer = PeerId(index as u32);
                    self.hosts[index].running = Some(self.collect(peer, running));
                }
            }
        }
    }

    fn collect(&mut self, peer: PeerId, mut running: Running) -> Running {
        while let Ok(record) = running.events.try_recv() {
            assert_eq!(record.dropped_before, 0, "{peer} emits more events than are kept");
            self.records.push(Record {
                at: record.at,
                peer,
                event: record.event,
            });
        }
        if let Some(Ended::Panicked(task)) = running.rt.ended() {
            panic!("{peer}: task {task:?} panicked");
        }
        running
    }
}

impl Stage for LoopbackStage {
    type Runtime = Ruled<Skewed<TokioRuntime>>;
    const ABILITIES: Abilities = Abilities {
        simulated_time: false,
        repeatable: false,
        hosts_are_ours: false,
        dual_stack: false,
    };

    /// Seed and delays have no effect: see the module.
    #[expect(
        clippy::disallowed_methods,
        reason = "a back end of the runtime, in real time"
    )]
    fn new(_seed: u64, _delays: Delays) -> Self {
        static WORLDS: AtomicU64 = AtomicU64::new(0);
        let number = WORLDS.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("phantom-loopback-{}-{number}", std::process::id()));
        let rt = tokio::runtime::Builder::new_current_thread().enable_all().build();
        Self {
            rt: rt.expect("the system refuses a poll descriptor"),
            start: tokio::time::Instant::now(),
            dir: Scratch::make(dir).expect("the system refuses a directory for temporary files"),
            hosts: Vec::new(),
            names: Hosts::default(),
            shares: Shares::default(),
            rules: SharedRules::default(),
            keys: BTreeMap::new(),
            acts: BTreeMap::new(),
            acts_added: 0,
            records: Vec::new(),
            now: Instant::ZERO,
        }
    }

    fn add_host(&mut self, spec: HostSpec) -> PeerId {
        let id = PeerId(u32::try_from(self.hosts.len()).expect("there are fewer loopback addresses"));
        self.hosts.push(Host {
            offset: Offset::new(spec.wall.offset_ns),
            spec,
            program: None,
            running: None,
        });
        let inside = self.hosts.iter().filter(|host| host.spec.inside);
        let inside: BTreeSet<IpAddr> = inside.flat_map(|host| host.spec.addresses.clone()).collect();
        self.rules.set_inside(inside);
        id
    }

    fn set_program(&mut self, peer: PeerId, program: Program<Self::Runtime>) {
        self.hosts[peer.index()].program = Some(program);
    }

    fn at(&mut self, when: Instant, act: Act) {
        self.acts.insert((when, self.acts_added), act);
        self.acts_added += 1;
    }

    fn run_until(&mut self, until: Instant) {
        while let Some(entry) = self.acts.first_entry()
            && entry.key().0 <= until
        {
            let ((when, _), act) = entry.remove_entry();
            self.advance(when);
            self.play(act);
        }
        self.advance(until);
    }

    fn now(&self) -> Instant {
        self.now
    }

    fn take_records(&mut self) -> Vec<Record> {
        let mut records = std::mem::take(&mut self.records);
        records.sort_by_key(|record| record.at);
        records
    }

    fn counts(&self) -> Counts {
        self.rules.counts()
    }

    fn counts_of(&self, key: &str) -> Counts {
        let ids = self.keys.get(key).into_iter().flatten();
        ids.fold(Counts::default(), |sum, id| sum + self.rules.counts_of(*id))
    }

    fn is_up(&self, peer: PeerId) -> bool {
        self.hosts[peer.index()].running.is_some()
    }

    fn with_disk<T>(&self, _: PeerId, _: impl FnOnce(&mut Disk) -> T) -> Option<T> {
        None
    }

    fn disk_contains(&self, peer: PeerId, needle: &[u8]) -> bool {
        let Ok(files) = fs::read_dir(self.store(peer)) else {
            return false;
        };
        files
            .flatten()
            .filter_map(|file| fs::read(file.path()).ok())
            .any(|bytes| !needle.is_empty() && bytes.windows(needle.len()).any(|window| window == needle))
    }
}

impl Drop for LoopbackStage {
    fn drop(&mut self) {
        for host in &mut self.hosts {
            if let Some(running) = host.running.take() {
                self.rt.block_on(running.rt.shutdown());
            }
        }
    }
}
