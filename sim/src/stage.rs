//! One interface to every back end on which a scenario can be played: swarm, the witnesses, and real time on loopback.
//!
//! A stage holds hosts, runs one program on each, plays acts at their instants (crashes, rules, clock steps) and
//! collects events. It is run in slices: between two calls of [`Stage::run_until`] the caller may look at the events and
//! add acts, so that a censor can react. What a stage cannot show it says in [`Abilities`]; whoever judges a run reports
//! N/A then, never a pass.

use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use phantom_core::event::Event;
use phantom_core::runtime::Runtime;
use phantom_core::runtime::rules::{Counts, Rule};
use phantom_core::units::Instant;

use crate::host::{Disk, PeerId, Wall};

/// A host to be.
#[derive(Clone, Debug)]
pub struct HostSpec {
    /// For people.
    pub name: String,
    /// Its addresses, at least one. Turmoil and madsim give a host its first only.
    pub addresses: Vec<IpAddr>,
    /// Which row of [`Delays`] it is in.
    pub region: usize,
    /// Whether it is behind the censor's border: rules act on what it exchanges with hosts that are not.
    pub inside: bool,
    /// What its wall clock shows.
    pub wall: Wall,
}

impl HostSpec {
    /// A host with a correct clock, outside the border, in the first region.
    pub fn new(name: impl Into<String>, address: IpAddr) -> Self {
        Self {
            name: name.into(),
            addresses: vec![address],
            region: 0,
            inside: false,
            wall: Wall::default(),
        }
    }
}

/// One-way delays between regions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delays {
    one_way: Vec<Vec<Duration>>,
}

impl Delays {
    /// A square matrix, row by row: `one_way[from][to]`. `None` if it is not square or empty.
    pub fn new(one_way: Vec<Vec<Duration>>) -> Option<Self> {
        let square = !one_way.is_empty() && one_way.iter().all(|row| row.len() == one_way.len());
        square.then_some(Self { one_way })
    }

    /// One region, with this delay between any two hosts.
    pub fn uniform(one_way: Duration) -> Self {
        Self {
            one_way: vec![vec![one_way]],
        }
    }

    /// From a host in region `from` to one in `to`.
    ///
    /// # Panics
    /// If there is no such region: the scenario checker has let an unknown one pass.
    pub fn one_way(&self, from: usize, to: usize) -> Duration {
        self.one_way[from][to]
    }

    /// How many regions there are.
    pub fn regions(&self) -> usize {
        self.one_way.len()
    }
}

/// Something that is done to the world at an instant.
#[derive(Clone, Debug)]
pub enum Act {
    /// Starts the host's program. No effect if it runs.
    Start(PeerId),
    /// Ends everything that runs on the host; what its store had not synced is lost. The host stays down.
    Crash(PeerId),
    /// The disk of a host that is down is lost with everything on it.
    LoseDisk(PeerId),
    /// The host's wall clock steps by so many nanoseconds, backwards if negative.
    StepWall(PeerId, i64),
    /// A rule comes into force, under a key by which it can be taken back; an earlier one of that key is replaced, in
    /// its place among the rules.
    AddRule(String, Rule),
    /// The rule of this key ends. No effect if there is none.
    RemoveRule(String),
    /// From now on the honest answer for a name is this; empty: there is no such name.
    SetName(String, Vec<IpAddr>),
}

/// A fact about one peer.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// When it was.
    pub at: Instant,
    /// Whose it is.
    pub peer: PeerId,
    /// What happened.
    pub event: Event,
}

/// What a stage can do and show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abilities {
    /// Time is simulated: a run takes as long as it takes to compute.
    pub simulated_time: bool,
    /// The same seed gives the same run.
    pub repeatable: bool,
    /// Files, dates and addresses are kept by us: disks may be looked into, and the date and the addresses are the plan's.
    pub hosts_are_ours: bool,
    /// Hosts may have addresses of both families.
    pub dual_stack: bool,
}

/// A program as a host runs it: a new future for every start.
pub type Program<R> = Arc<dyn Fn(R) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// Makes a [`Program`] of an async function of a runtime.
pub fn program<R, F, Fut>(function: F) -> Program<R>
where
    F: Fn(R) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    Arc::new(move |rt| Box::pin(function(rt)))
}

/// A back end with hosts on it.
pub trait Stage {
    /// What programs run against.
    type Runtime: Runtime;

    /// An empty world. `seed` determines every draw where [`Abilities::repeatable`] says so.
    fn new(seed: u64, delays: Delays) -> Self
    where
        Self: Sized;

    /// What stages of this type can do and show.
    const ABILITIES: Abilities;

    /// What this stage can do and show.
    fn abilities(&self) -> Abilities {
        Self::ABILITIES
    }

    /// Adds a host; nothing runs on it before [`Act::Start`]. Numbered from 0 in order.
    fn add_host(&mut self, host: HostSpec) -> PeerId;

    /// Says what the host runs.
    fn set_program(&mut self, peer: PeerId, program: Program<Self::Runtime>);

    /// Plays `act` at `when`, or at the next slice if that has passed. Acts of one instant are played in the order in
    /// which they were added.
    fn at(&mut self, when: Instant, act: Act);

    /// Runs until `until`.
    ///
    /// # Panics
    /// If a task of any peer panicked: an invariant of the code is broken.
    fn run_until(&mut self, until: Instant);

    /// How far the run has come.
    fn now(&self) -> Instant;

    /// The events since the last call, in the order in which they happened.
    fn take_records(&mut self) -> Vec<Record>;

    /// What the rules did so far.
    fn counts(&self) -> Counts;

    /// What the rule of this key did so far, also when it has ended.
    fn counts_of(&self, key: &str) -> Counts;

    /// Whether the host is up: its program was started and not crashed since.
    fn is_up(&self, peer: PeerId) -> bool;

    /// Lets somebody look at the host's disk; `None` where the stage has no disks of ours.
    fn with_disk<T>(&self, peer: PeerId, look: impl FnOnce(&mut Disk) -> T) -> Option<T>
    where
        Self: Sized;

    /// Whether any file of the host holds `needle`.
    fn disk_contains(&self, peer: PeerId, needle: &[u8]) -> bool;
}
