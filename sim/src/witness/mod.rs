//! Witnesses: strangers' executors behind our traits, so that a result does not rest on our own engine alone.
//!
//! Files, entropy, clocks, names and the record are ours on each of them; what differs is who schedules the tasks and
//! who carries the bytes. Small worlds only. What each can do is in docs/ARCHITECTURE.md, "Runtime back ends".

#[cfg(madsim)]
pub mod madsim;
pub mod paused;
mod peer;
mod pipe;
pub mod turmoil;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use phantom_core::runtime::ruled::Ruled;
use phantom_core::runtime::rules::{Counts, RuleId};
use phantom_core::units::Instant;

use crate::host::entropy;
use crate::host::{Disk, PeerId};
use crate::stage::{Abilities, Act, Delays, HostSpec, Program, Record, Stage};
use peer::World;
pub use peer::{Host, Substrate, Witness};

/// What a witness's runtime is for programs: its handle behind the border's rules.
pub type WitnessRuntime<P> = Ruled<Witness<<P as Player>::Substrate>>;

/// A stranger's executor: what differs between the witnesses.
pub trait Player: Sized {
    /// Its clock, tasks and sockets as one host sees them.
    type Substrate: Substrate;
    /// What it cannot do.
    const ABILITIES: Abilities;

    /// An empty world.
    fn new(seed: u64, delays: Delays) -> Self;
    /// A host exists from now on.
    fn add(&mut self, host: &Arc<Host>);
    /// Runs `program` on a host on which nothing runs.
    fn start(&mut self, host: &Arc<Host>, program: Program<WitnessRuntime<Self>>);
    /// Drops everything that runs on the host.
    fn kill(&mut self, host: &Arc<Host>);
    /// Runs until `to`. Panics if a task did.
    fn advance(&mut self, to: Instant);
}

/// A stage on a witness.
pub struct WitnessStage<P: Player> {
    player: P,
    world: Arc<World>,
    seed: u64,
    hosts: Vec<Slot<P>>,
    acts: BTreeMap<(Instant, u64), Act>,
    acts_added: u64,
    /// Every rule that a key has had; the last is in force, if any is.
    rules: BTreeMap<String, Vec<RuleId>>,
    now: Instant,
}

struct Slot<P: Player> {
    host: Arc<Host>,
    program: Option<Program<WitnessRuntime<P>>>,
    runs: bool,
    crashes: u32,
}

impl<P: Player> WitnessStage<P> {
    fn play(&mut self, act: Act) {
        match act {
            Act::Start(peer) => {
                let slot = &mut self.hosts[peer.index()];
                if let (false, Some(program)) = (slot.runs, slot.program.clone()) {
                    slot.runs = true;
                    slot.host.begin();
                    self.player.start(&slot.host, program);
                }
            }
            Act::Crash(peer) => {
                let slot = &mut self.hosts[peer.index()];
                if std::mem::take(&mut slot.runs) {
                    self.player.kill(&slot.host);
                    // What a crash tears depends on the seed, the peer and how often it crashed, and on nothing else.
                    let mut fate = entropy::stream(self.seed, peer, slot.crashes, "crash", 0);
                    slot.crashes += 1;
                    slot.host.disk().crash(&mut fate);
                }
            }
            Act::LoseDisk(peer) => {
                let slot = &self.hosts[peer.index()];
                if !slot.runs {
                    slot.host.disk().lose();
                }
            }
            Act::StepWall(peer, by_ns) => self.hosts[peer.index()].host.wall().step(self.now, by_ns),
            Act::AddRule(key, rule) => {
                let ids = self.rules.entry(key).or_default();
                let standing = ids.last().copied();
                // A rule that has ended has lost its place; what it did still counts under its key.
                if standing.is_none_or(|id| self.world.rules.replace(id, rule.clone()).is_none()) {
                    ids.push(self.world.rules.add(rule));
                }
            }
            Act::RemoveRule(key) => {
                if let Some(id) = self.rules.get(&key).and_then(|ids| ids.last()) {
                    self.world.rules.remove(*id);
                }
            }
            Act::SetName(name, addresses) => self.world.set_name(&name, addresses),
        }
    }
}

impl<P: Player> Stage for WitnessStage<P> {
    type Runtime = WitnessRuntime<P>;
    const ABILITIES: Abilities = P::ABILITIES;

    fn new(seed: u64, delays: Delays) -> Self {
        Self {
            player: P::new(seed, delays),
            world: Arc::new(World::new(seed)),
            seed,
            hosts: Vec::new(),
            acts: BTreeMap::new(),
            acts_added: 0,
            rules: BTreeMap::new(),
            now: Instant::ZERO,
        }
    }

    fn add_host(&mut self, spec: HostSpec) -> PeerId {
        let id = PeerId(u32::try_from(self.hosts.len()).expect("witnesses are for small worlds"));
        let host = Arc::new(Host::new(id, spec, self.world.clone()));
        self.player.add(&host);
        self.hosts.push(Slot {
            host,
            program: None,
            runs: false,
            crashes: 0,
        });
        let inside = self.hosts.iter().filter(|slot| slot.host.spec.inside);
        let inside: BTreeSet<IpAddr> = inside.flat_map(|slot| slot.host.spec.addresses.clone()).collect();
        self.world.rules.set_inside(inside);
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
            if when > self.now {
                self.player.advance(when);
                self.now = when;
            }
            self.play(act);
        }
        if until > self.now {
            self.player.advance(until);
            self.now = until;
        }
    }

    fn now(&self) -> Instant {
        self.now
    }

    fn take_records(&mut self) -> Vec<Record> {
        self.world.take_records()
    }

    fn counts(&self) -> Counts {
        self.world.rules.counts()
    }

    fn counts_of(&self, key: &str) -> Counts {
        let ids = self.rules.get(key).into_iter().flatten();
        ids.fold(Counts::default(), |sum, id| sum + self.world.rules.counts_of(*id))
    }

    fn is_up(&self, peer: PeerId) -> bool {
        self.hosts[peer.index()].runs
    }

    fn with_disk<T>(&self, peer: PeerId, look: impl FnOnce(&mut Disk) -> T) -> Option<T> {
        Some(look(&mut self.hosts[peer.index()].host.disk()))
    }

    fn disk_contains(&self, peer: PeerId, needle: &[u8]) -> bool {
        self.hosts[peer.index()].host.disk().contains(needle)
    }
}

/// A host's resolver answers after this long: it is near by, and its cache is warm.
const RESOLVE_TIME: Duration = Duration::from_millis(20);
/// How long a host tries to connect where nobody is: as Linux does, 1 + 2 + … + 64 s.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(127);
