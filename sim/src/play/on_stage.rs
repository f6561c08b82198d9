//! Playing on any back end by the interface that all share: the witnesses, and real time on loopback.
//!
//! The same programs, people, censor and oracle as on swarm, over another network: no NAT, no loss, no queues at access
//! links, and a censor that stands in front of each host inside instead of at the border. It counts what it does to calls
//! (attempts, streams, datagrams, questions), not packets; the bytes that cross the border are not seen.

use std::collections::{BTreeMap, BTreeSet};
use std::marker::PhantomData;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use phantom_core::event::Event;
use phantom_core::runtime::rules::{Remote, Rule};
use phantom_core::units::{Instant, WallTime};

use super::border;
use super::loopback::{self, Moved};
use super::times;
use super::world::{self, Ground, LINK_PORT, Opening, extra, rtt};
use crate::check::observe::Sink;
use crate::host::record::{Checkpoint, Detail};
use crate::host::{Digest, Wall};
use crate::run::{Player, RunError, RunOutput};
use crate::scenario::metric::Sense;
use crate::scenario::plan::Plan;
use crate::stage::{Act, Delays, HostSpec, Record, Stage};

/// From a host to the edge of its region's network, as on swarm.
const ACCESS_DELAY: Duration = Duration::from_millis(4);
/// In real time, the least between being asked for the date of a scenario's beginning and the start of its world.
const HEAD_START: Duration = Duration::from_secs(2);

/// Plays on a back end of type `S`.
pub struct StagePlayer<S> {
    /// In real time: the date at which the scenario's time begins in the next world.
    begins: Mutex<Option<WallTime>>,
    detail: Detail,
    stage: PhantomData<fn() -> S>,
}

impl<S: Stage> StagePlayer<S> {
    /// A player whose checkpoints keep `detail`.
    pub fn new(detail: Detail) -> Self {
        Self {
            begins: Mutex::default(),
            detail,
            stage: PhantomData,
        }
    }

    /// Whether time is simulated. The same for every stage of a type.
    fn simulated(&self) -> bool {
        S::ABILITIES.simulated_time
    }

    /// The next beginning of an interval in real time, and the warm-up after it.
    fn next_beginning(plan: &Plan) -> WallTime {
        let interval = plan.document_interval.as_secs().max(1);
        let earliest = loopback::date() + HEAD_START;
        let aligned = earliest.as_unix_secs().div_ceil(interval) * interval;
        WallTime::from_unix_secs(aligned) + times::warm_up(plan)
    }
}

impl<S: Stage> Player for StagePlayer<S> {
    fn senses(&self) -> &[Sense] {
        match (S::ABILITIES.hosts_are_ours, S::ABILITIES.dual_stack) {
            (true, true) => &[
                Sense::Events,
                Sense::Censor,
                Sense::Traps,
                Sense::Disk,
                Sense::Paths,
                Sense::Boxes,
                Sense::Faults,
            ],
            // One address to a host: the censor's own hosts have one of their many.
            (true, false) => &[
                Sense::Events,
                Sense::Censor,
                Sense::Disk,
                Sense::Paths,
                Sense::Boxes,
                Sense::Faults,
            ],
            // On loopback a host may listen at any address.
            (false, _) => &[
                Sense::Events,
                Sense::Censor,
                Sense::Traps,
                Sense::Paths,
                Sense::Faults,
            ],
        }
    }

    fn repeats(&self) -> bool {
        S::ABILITIES.repeatable
    }

    fn epoch(&self, plan: &Plan) -> WallTime {
        if self.simulated() {
            return times::world_begins(plan) + times::warm_up(plan);
        }
        let begins = Self::next_beginning(plan);
        *self.begins.lock().unwrap_or_else(PoisonError::into_inner) = Some(begins);
        begins
    }

    fn play(&self, plan: &Arc<Plan>, sink: &mut dyn Sink) -> Result<RunOutput, RunError> {
        for planned in &plan.rules {
            // Said before anything is played.
            border::rule(planned)?;
        }
        let mut plan = Plan::clone(plan);
        if !S::ABILITIES.dual_stack {
            plan.hosts.iter_mut().for_each(|host| host.address6 = None);
        }
        let Moved { link_port, forged } = if S::ABILITIES.hosts_are_ours {
            Moved {
                link_port: LINK_PORT,
                forged: BTreeMap::new(),
            }
        } else {
            let moved = loopback::move_in(&mut plan);
            // The censor's own hosts go where its answers now lead.
            let here: BTreeMap<IpAddr, IpAddr> = moved
                .forged
                .iter()
                .map(|(here, planned)| (*planned, *here))
                .collect();
            for address in plan.traps.iter_mut().flat_map(|trap| &mut trap.addresses) {
                *address = here.get(address).copied().unwrap_or(*address);
            }
            moved
        };
        let plan = &Arc::new(plan);
        world::play(plan, link_port, sink, || self.open(plan, forged))
    }
}

impl<S: Stage> StagePlayer<S> {
    /// A world with the hosts of `plan`, about to begin. `forged`: see [`Moved::forged`].
    pub(super) fn open(
        &self,
        plan: &Plan,
        forged: BTreeMap<IpAddr, IpAddr>,
    ) -> Result<Opening<OnStage<S>>, RunError> {
        let begins = self.begins.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut stage = S::new(plan.seed, delays(plan)?);
        let (begins, date) = if self.simulated() {
            (times::warm_up(plan), times::world_begins(plan))
        } else {
            let date = loopback::date();
            (
                begins
                    .unwrap_or_else(|| Self::next_beginning(plan))
                    .saturating_since(date),
                date,
            )
        };
        let begins = Instant::ZERO + begins;
        for host in &plan.hosts {
            let mut wall = Wall::new(date);
            wall.offset_ns = host.clock_skew_ns;
            stage.add_host(HostSpec {
                name: host.name.clone(),
                addresses: host.addresses().collect(),
                region: host.region,
                inside: host.inside,
                wall,
            });
        }
        for trap in &plan.traps {
            stage.add_host(HostSpec {
                name: trap.name.clone(),
                addresses: trap.addresses.clone(),
                region: trap.region,
                inside: false,
                wall: Wall::new(date),
            });
        }
        let mut ground = OnStage {
            stage,
            begins,
            learned: Vec::new(),
            forged,
            digest: Digest::new(self.detail),
        };
        ground.censor(plan)?;
        Ok(Opening { ground, begins, date })
    }
}

/// One-way delays between the plan's regions.
fn delays(plan: &Plan) -> Result<Delays, RunError> {
    let regions = &plan.network.regions;
    let between =
        |a: usize, b: usize| (rtt(regions[a].1, regions[b].1) + extra(plan, a, b)) / 2 + ACCESS_DELAY;
    let matrix = (0..regions.len())
        .map(|a| (0..regions.len()).map(|b| between(a, b)).collect())
        .collect();
    Delays::new(matrix).ok_or_else(|| RunError::Failed("the scenario has no region".to_owned()))
}

/// A stage with the hosts of a plan.
pub(super) struct OnStage<S> {
    stage: S,
    begins: Instant,
    /// Addresses that insiders gave away: from when on they are in which list.
    learned: Vec<(Instant, String, IpAddr)>,
    /// See [`Moved::forged`].
    forged: BTreeMap<IpAddr, IpAddr>,
    digest: Digest,
}

impl<S: Stage> OnStage<S> {
    /// Has the plan's rules come and go.
    fn censor(&mut self, plan: &Plan) -> Result<(), RunError> {
        for planned in &plan.rules {
            let rule = border::rule(planned)?;
            // The first that matches acts, so all take their places at once, those whose time has not come without effect.
            let none = Rule::Drop {
                remote: Remote::Addresses(BTreeSet::new()),
                protocol: None,
            };
            self.stage
                .at(Instant::ZERO, Act::AddRule(planned.name.clone(), none));
            for (from, until) in &planned.phases {
                let comes = Act::AddRule(planned.name.clone(), rule.clone());
                self.stage.at(self.begins + *from, comes);
                self.stage
                    .at(self.begins + *until, Act::RemoveRule(planned.name.clone()));
            }
        }
        Ok(())
    }
}

impl<S: Stage> Ground for OnStage<S> {
    type Stage = S;

    fn stage(&mut self) -> &mut S {
        &mut self.stage
    }

    fn learn(&mut self, plan: &Plan, list: &str, address: IpAddr, at: Instant) {
        self.learned.push((at, list.to_owned(), address));
        for planned in plan.rules.iter().filter(|planned| planned.follows.contains(list)) {
            let phases = planned.phases.iter();
            let phases = phases.map(|(from, until)| (self.begins + *from, self.begins + *until));
            for (from, _) in phases.filter(|(_, until)| at < *until) {
                let at = at.max(from);
                let mut rule = planned.clone();
                let known = self.learned.iter().filter(|(from, ..)| *from <= at);
                known.for_each(|(_, list, address)| rule.rule.learn(list, *address));
                // It was played before it learned this.
                if let Ok(longer) = border::rule(&rule) {
                    self.stage.at(at, Act::AddRule(planned.name.clone(), longer));
                }
            }
        }
    }

    fn acted(&mut self, rule: &str) -> [u64; 3] {
        let counts = self.stage.counts_of(rule);
        [counts.dropped(), counts.streams_reset, counts.names_forged]
    }

    fn records(&mut self) -> Vec<Record> {
        let mut records = self.stage.take_records();
        // Some executors run one host after the other through the same slice of time.
        records.sort_by_key(|record| record.at);
        for record in &mut records {
            if let Event::Connected { entry, .. } = &mut record.event
                && let Some(planned) = self.forged.get(&entry.ip())
            {
                entry.set_ip(*planned);
            }
            self.digest.event(record.at, record.peer, &record.event);
        }
        records
    }

    /// Events are all that these back ends count.
    fn steps(&mut self) -> u64 {
        self.digest.events()
    }

    fn digest(&mut self) -> (u64, String, Vec<Checkpoint>) {
        self.digest.advance(self.stage.now());
        let checkpoints = self.digest.checkpoints().to_vec();
        (self.digest.events(), self.digest.trace(), checkpoints)
    }
}
