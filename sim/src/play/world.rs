//! The course of a run, the same on every back end: warm-up, the scenario's time second by second, faults, disks that are
//! searched. A back end adds how its world is built and what only it can show.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use phantom_core::units::{Instant, WallTime};
use phantom_node::store::residue::Residue;

use super::border::Blocks;
use super::cast::{self, Failures};
use super::ceremony;
use super::disks::{Cast, Reading};
use super::observe::Observer;
use super::oracle::Oracle;
use super::times;
use super::trap;
use super::user::Society;
use crate::check::observe::{Acted, Seen, Sink};
use crate::host::PeerId;
use crate::host::record::Checkpoint;
use crate::run::{RunError, RunOutput};
use crate::scenario::file::Area;
use crate::scenario::plan::{Happening, HostId, Plan, Role};
use crate::stage::{Act, Record, Stage};
use crate::swarm::topology::RTT_MS_2019;

const SECOND: Duration = Duration::from_secs(1);
/// What was seen is taken so often between two looks.
const PARTS: u32 = 4;
/// How often disks are searched for what was purged.
const SEARCH_EVERY_SECS: u64 = 300;
/// How long after its slot a box may still be on a disk: nodes purge every ten seconds at the latest, by clocks of their
/// own, and a search may fall into a restart.
const PURGE_GRACE: Duration = Duration::from_secs(60);
/// The port of links, as most services have it that a censor cannot block altogether.
pub(super) const LINK_PORT: u16 = 443;

/// A back end with the hosts of a plan on it, numbered as there.
pub(super) trait Ground {
    /// Its interface as all have it.
    type Stage: Stage;

    /// The stage.
    fn stage(&mut self) -> &mut Self::Stage;

    /// From `at` on, the rules of the plan that follow this list hit this address too.
    fn learn(&mut self, plan: &Plan, list: &str, address: IpAddr, at: Instant);

    /// How often the rule of this name dropped, reset and forged so far.
    fn acted(&mut self, rule: &str) -> [u64; 3];

    /// What the programs reported since the last call.
    fn records(&mut self) -> Vec<Record> {
        self.stage().take_records()
    }

    /// Tells what only this back end sees.
    fn tell(&mut self, _observer: &mut Observer<'_>, _now: Instant) {}

    /// Steps so far, against the step limit.
    fn steps(&mut self) -> u64;

    /// Segments of streams with data so far, on a back end that has segments.
    fn segments(&mut self) -> u64 {
        0
    }

    /// Events so far, the digest of them, and its checkpoints.
    fn digest(&mut self) -> (u64, String, Vec<Checkpoint>);
}

/// A world that is about to begin.
pub(super) struct Opening<G> {
    /// Where.
    pub(super) ground: G,
    /// The instant of the world at which the scenario's time begins.
    pub(super) begins: Instant,
    /// The true date at the world's first instant.
    pub(super) date: WallTime,
}

/// Plays `plan` from its warm-up to its end. `open` builds the world; that comes last, because in real time it begins then.
pub(super) fn play<G: Ground>(
    plan: &Arc<Plan>,
    link_port: u16,
    sink: &mut dyn Sink,
    open: impl FnOnce() -> Result<Opening<G>, RunError>,
) -> Result<RunOutput, RunError> {
    let ceremony = ceremony::perform(plan, link_port)?;
    let oracle = Oracle::new(plan, ceremony.bridges_of.clone());
    let cast = Cast::of(&ceremony.parts);
    let failures = Failures::default();

    let Opening {
        mut ground,
        begins,
        date,
    } = open()?;
    let society = Society::new(plan.clone(), begins);
    let stage = ground.stage();
    let programs = cast::programs(plan, ceremony, &society, &failures);
    for (n, (start, program)) in times::starts(plan, begins).into_iter().zip(programs).enumerate() {
        let peer = PeerId(n as u32);
        stage.set_program(peer, program);
        stage.at(start, Act::Start(peer));
    }
    names(plan, stage);
    let lured = trap::set(plan, link_port, stage, &failures);

    let mut observer = Observer::new(plan, begins, sink, oracle, Blocks::new(plan, link_port));
    faults(plan, begins, stage, &mut observer);
    let mut world = Run {
        ground,
        society,
        failures,
        begins,
        date,
        cast,
        residue: BTreeMap::new(),
        acted: BTreeMap::new(),
        lured,
    };
    world.until(begins, plan, &mut observer)?;
    let mut at = begins;
    let end = begins + plan.duration;
    while at < end {
        at = (at + SECOND).min(end);
        world.until(at, plan, &mut observer)?;
        if at == end {
            world.search(plan, &mut observer, true)?;
        } else if observer
            .scenario(at)
            .since_start()
            .as_secs()
            .is_multiple_of(SEARCH_EVERY_SECS)
        {
            world.search(plan, &mut observer, false)?;
        }
        let steps = world.ground.steps();
        observer.tell(observer.scenario(at), steps);
        if steps > plan.step_limit {
            return Err(RunError::StepLimit {
                limit: plan.step_limit,
                at: observer.scenario(at),
            });
        }
    }
    let (events, trace_digest, checkpoints) = world.ground.digest();
    Ok(RunOutput {
        end: Instant::ZERO + plan.duration,
        events,
        segments: world.ground.segments(),
        trace_digest,
        checkpoints,
    })
}

struct Run<G> {
    ground: G,
    society: Arc<Society>,
    failures: Failures,
    begins: Instant,
    date: WallTime,
    cast: Cast,
    /// What was seen on each disk.
    residue: BTreeMap<HostId, Residue>,
    /// What each rule of the plan had done by the last look.
    acted: BTreeMap<usize, [u64; 3]>,
    lured: Vec<trap::Lured>,
}

impl<G: Ground> Run<G> {
    /// Runs to `until` and takes what was seen.
    fn until(&mut self, until: Instant, plan: &Plan, observer: &mut Observer<'_>) -> Result<(), RunError> {
        // In parts: a busy second of thousands of peers reports a hundred thousand events.
        let begin = self.ground.stage().now();
        for part in 1..=PARTS {
            let so_far = until.saturating_since(begin) * part / PARTS;
            self.ground.stage().run_until(begin + so_far);
            for note in self.society.take_notes() {
                observer.say(observer.scenario(note.at), note.host, note.seen);
            }
            let records = self.ground.records();
            for given in observer.records(records) {
                let at = self.begins + given.at.since_start();
                self.ground.learn(plan, &given.list, given.address, at);
            }
            if part < PARTS {
                observer.pass_on(observer.scenario(begin + so_far));
            }
        }
        let now = observer.scenario(until);
        for host in std::mem::take(&mut observer.stored) {
            self.note(host);
        }
        self.ground.tell(observer, now);
        self.deeds(plan, now, observer);
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        match failures.first() {
            Some(failure) => Err(RunError::Failed(format!("a program ended: {failure}"))),
            None => Ok(()),
        }
    }

    /// What the censor's rules did since the last look.
    fn deeds(&mut self, plan: &Plan, now: Instant, observer: &mut Observer<'_>) {
        for (n, rule) in plan.rules.iter().enumerate() {
            let total = self.ground.acted(&rule.name);
            let before = self.acted.insert(n, total).unwrap_or_default();
            for (i, act) in [Acted::Dropped, Acted::Reset, Acted::Forged]
                .into_iter()
                .enumerate()
            {
                if total[i] > before[i] {
                    observer.say(
                        now,
                        None,
                        Seen::Censor {
                            rule: n as u32,
                            act,
                            count: total[i] - before[i],
                        },
                    );
                }
            }
        }
        for lured in &mut self.lured {
            let count = lured.fresh();
            if count > 0 {
                let (rule, act) = (lured.rule, Acted::Lured);
                observer.say(now, None, Seen::Censor { rule, act, count });
            }
        }
    }

    /// Remembers what is new on a disk, to look for it when its time is over.
    fn note(&mut self, host: HostId) {
        let residue = self.residue.entry(host).or_default();
        self.ground.stage().with_disk(PeerId(host), |disk| {
            residue.note(disk.list("box-"), |file, at, len| {
                disk.read_at(file, at, len).ok()
            });
        });
    }

    /// Searches the disks of storage nodes for what should be gone, and at the end for what should be there.
    fn search(&mut self, plan: &Plan, observer: &mut Observer<'_>, end: bool) -> Result<(), RunError> {
        let now = self.ground.stage().now();
        let wall = self.date + now.since_start();
        let mut up = Vec::new();
        for (n, host) in plan
            .hosts
            .iter()
            .enumerate()
            .filter(|(_, host)| host.role == Role::Service)
        {
            let (id, peer) = (n as HostId, PeerId(n as u32));
            self.note(id);
            let stage = self.ground.stage();
            // A node that is down cannot purge; it does so before it serves again, and is searched then.
            if !stage.is_up(peer) {
                continue;
            }
            let due = self.residue.entry(id).or_default().due(wall, PURGE_GRACE);
            let Some(left) = stage.with_disk(peer, |disk| due.search(disk.files().map(|(_, bytes)| bytes)))
            else {
                return Ok(());
            };
            tracing::trace!(host = host.name, due = due.boxes(), ?left, "searched a disk");
            let found = left.boxes + left.keys;
            if due.boxes() > 0 || found > 0 {
                let boxes = due.boxes() as u32;
                observer.say(
                    observer.scenario(now),
                    Some(id),
                    Seen::DiskSearched { boxes, found },
                );
            }
            up.push((id, peer));
        }
        if end {
            let (cast, stage) = (&self.cast, self.ground.stage());
            let mut reading = Reading::default();
            for (_, peer) in &up {
                let _ = stage.with_disk(*peer, |disk| reading.read_document(cast, disk)); // Without disks nothing came here.
            }
            for (id, peer) in &up {
                stage
                    .with_disk(*peer, |disk| reading.add(cast, *id, disk))
                    .transpose()?;
            }
            let readable = reading.readable();
            let due: Vec<_> = observer.due(wall).collect();
            for address in due {
                let seen = Seen::BoxProbed {
                    address,
                    readable: readable.contains(&address),
                };
                observer.say(observer.scenario(now), None, seen);
            }
        }
        Ok(())
    }
}

/// The round trip between two real regions.
pub(super) fn rtt(a: Area, b: Area) -> Duration {
    let row = |area: Area| match area {
        Area::NorthAmerica => 0,
        Area::Europe => 1,
        Area::SouthAmerica => 2,
        Area::AsiaPacific => 3,
        Area::Japan => 4,
        Area::Australia => 5,
    };
    Duration::from_millis(RTT_MS_2019[row(a)][row(b)])
}

/// What the links between two regions of a plan add to a round trip.
pub(super) fn extra(plan: &Plan, a: usize, b: usize) -> Duration {
    plan.network
        .links
        .iter()
        .filter(|l| (l.0, l.1) == (a, b) || (l.1, l.0) == (a, b))
        .map(|l| l.3)
        .sum()
}

fn names<S: Stage>(plan: &Plan, stage: &mut S) {
    for host in &plan.hosts {
        if let Some(name) = &host.dns_name {
            let addresses = host.addresses().collect();
            stage.at(Instant::ZERO, Act::SetName(name.clone(), addresses));
        }
    }
}

fn faults<S: Stage>(plan: &Plan, begins: Instant, stage: &mut S, observer: &mut Observer<'_>) {
    for fault in &plan.faults {
        let (peer, at) = (PeerId(fault.host), begins + fault.at);
        let said = Instant::ZERO + fault.at;
        match fault.what {
            Happening::Crash { lose_disk, restart } => {
                stage.at(at, Act::Crash(peer));
                observer.say(said, Some(fault.host), Seen::Crashed);
                if lose_disk {
                    stage.at(at, Act::LoseDisk(peer));
                    observer.say(said, Some(fault.host), Seen::DiskLost);
                }
                if let Some(restart) = restart {
                    stage.at(begins + restart, Act::Start(peer));
                    observer.say(Instant::ZERO + restart, Some(fault.host), Seen::Restarted);
                }
            }
            Happening::StepClock(by_ns) => {
                stage.at(at, Act::StepWall(peer, by_ns));
                observer.say(said, Some(fault.host), Seen::ClockStepped);
            }
        }
    }
}

#[cfg(test)]
#[path = "world_tests.rs"]
mod tests;
