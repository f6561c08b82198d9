//! Swarm behind the interface that all back ends share.

use std::collections::BTreeMap;
use std::time::Duration;

use phantom_core::event::Event;
use phantom_core::runtime::rules::Counts;
use phantom_core::units::Instant;

use super::{Access, AsId, Network, Runtime, Topology, World, WorldConfig};
use crate::censor::SharedCensor;
use crate::censor::plain::engaged;
use crate::host::record::Leak;
use crate::host::{Disk, Observer, PeerId};
use crate::stage::{Abilities, Act, Delays, HostSpec, Program, Record, Stage};

/// How long names may be kept.
const NAME_TTL: Duration = Duration::from_secs(300);
/// Events and polls before a run counts as stuck.
const STEP_LIMIT: u64 = 20_000_000_000;

/// A stage on swarm. What the common interface lacks is done to the [`World`] itself.
pub struct SwarmStage {
    world: World,
    censor: SharedCensor,
    programs: BTreeMap<PeerId, Program<Runtime>>,
    acts: BTreeMap<(Instant, u64), Act>,
    acts_added: u64,
    seen: Seen,
    /// Whether a spinning task is a panic: the common interface knows no failed run.
    strict: bool,
}

/// What an observer has seen.
#[derive(Default)]
struct Seen {
    records: Vec<Record>,
    leaks: Vec<Leak>,
}

impl Observer for Seen {
    fn on_event(&mut self, at: Instant, peer: PeerId, event: &Event) {
        self.records.push(Record {
            at,
            peer,
            event: event.clone(),
        });
    }

    fn on_leak(&mut self, leak: &Leak) {
        self.leaks.push(leak.clone());
    }
}

impl SwarmStage {
    /// A stage on a world of this configuration.
    pub fn with(config: WorldConfig) -> Self {
        let censor = SharedCensor::default();
        let mut world = World::new(config);
        world.set_middlebox(censor.clone());
        Self {
            world,
            censor,
            programs: BTreeMap::new(),
            acts: BTreeMap::new(),
            acts_added: 0,
            seen: Seen::default(),
            strict: false,
        }
    }

    /// The world, for what only swarm can do: its own host specifications, cuts, links, digests, counters.
    pub fn world(&mut self) -> &mut World {
        &mut self.world
    }

    /// The censor at the border.
    pub fn censor(&self) -> &SharedCensor {
        &self.censor
    }

    /// Adds a host as swarm describes it.
    pub fn add_swarm_host(&mut self, spec: super::HostSpec) -> PeerId {
        self.world.add_host(spec)
    }

    /// Secrets seen at the border since the last call.
    pub fn take_leaks(&mut self) -> Vec<Leak> {
        std::mem::take(&mut self.seen.leaks)
    }

    fn play(&mut self, act: Act) {
        match act {
            Act::Start(peer) => {
                if !self.world.host(peer).up
                    && let Some(program) = self.programs.get(&peer).cloned()
                {
                    self.world.start(peer, move |rt| program(rt));
                }
            }
            Act::Crash(peer) => self.world.crash(peer),
            Act::LoseDisk(peer) => {
                if !self.world.host(peer).up {
                    self.world.lose_disk(peer);
                }
            }
            Act::StepWall(peer, by_ns) => self.world.step_clock(peer, by_ns),
            Act::AddRule(key, rule) => self.censor.lock().add(engaged(key, &rule)),
            Act::RemoveRule(key) => self.censor.lock().remove(&key),
            Act::SetName(name, addresses) => self.world.names(|names| {
                if addresses.is_empty() {
                    names.remove(&name);
                } else {
                    names.insert(&name, addresses, NAME_TTL);
                }
            }),
        }
    }

    fn run(&mut self, until: Instant) {
        if let Err(error) = self.world.run_until(until, &mut self.seen) {
            assert!(!self.strict, "{error}");
            // Whoever set the limit looks at the steps. That this comes again with every slice does no harm.
            tracing::warn!(%error, "the world stands still");
        }
    }
}

impl Stage for SwarmStage {
    type Runtime = Runtime;
    const ABILITIES: Abilities = Abilities {
        simulated_time: true,
        repeatable: true,
        hosts_are_ours: true,
        dual_stack: true,
    };

    fn new(seed: u64, delays: Delays) -> Self {
        let mut topology = Topology::new();
        let regions: Vec<_> = (0..delays.regions())
            .map(|n| topology.add_region(&format!("region-{n}"), 2 * delays.one_way(n, n)))
            .collect();
        for (a, one) in regions.iter().enumerate() {
            for (b, two) in regions.iter().enumerate().skip(a + 1) {
                // A topology is symmetric: the round trip counts.
                topology.connect(*one, *two, delays.one_way(a, b) + delays.one_way(b, a));
            }
            topology.add_system(&format!("system-{a}"), *one, Duration::ZERO);
        }
        let network = Network::Modelled(topology);
        let config = WorldConfig {
            network,
            step_limit: STEP_LIMIT,
            ..WorldConfig::new(seed)
        };
        Self {
            strict: true,
            ..Self::with(config)
        }
    }

    fn add_host(&mut self, host: HostSpec) -> PeerId {
        self.world.add_host(super::HostSpec {
            system: AsId(u16::try_from(host.region).unwrap_or(u16::MAX)),
            addresses: host.addresses,
            access: Access::server(),
            inside: host.inside,
            wall: host.wall,
            ..super::HostSpec::new(host.name)
        })
    }

    fn set_program(&mut self, peer: PeerId, program: Program<Runtime>) {
        self.programs.insert(peer, program);
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
            if when > self.world.now() {
                self.run(when);
            }
            self.play(act);
        }
        self.run(until.max(self.world.now()));
    }

    fn now(&self) -> Instant {
        self.world.now()
    }

    fn take_records(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.seen.records)
    }

    fn counts(&self) -> Counts {
        self.censor.lock().counts()
    }

    fn counts_of(&self, key: &str) -> Counts {
        self.censor.lock().counts_of(key)
    }

    fn is_up(&self, peer: PeerId) -> bool {
        self.world.host(peer).up
    }

    fn with_disk<T>(&self, peer: PeerId, look: impl FnOnce(&mut Disk) -> T) -> Option<T> {
        Some(self.world.disk(peer, look))
    }

    fn disk_contains(&self, peer: PeerId, needle: &[u8]) -> bool {
        self.world.disk(peer, |disk| disk.contains(needle))
    }
}
