//! Playing on the default engine, with everything observed.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use phantom_core::runtime::rules::Rule;
use phantom_core::units::{Instant, Probability, WallTime};

use super::border::{self, Blocks};
use super::cast::{self, Failures};
use super::ceremony::{self, WARM_UP, WORLD_BEGINS};
use super::disks;
use super::observe::{Observer, PURGED_AFTER};
use super::oracle::Oracle;
use super::user::Society;
use crate::censor::Timed;
use crate::check::observe::{Acted, Seen, Sink};
use crate::host::{PeerId, Wall};
use crate::run::{Player, RunError, RunOutput};
use crate::scenario::file::Area;
use crate::scenario::metric::Sense;
use crate::scenario::plan::{Happening, Host, HostId, Plan, Role};
use crate::stage::{Act, Stage};
use crate::swarm::topology::RTT_MS_2019;
use crate::swarm::{Access, HostSpec, NatSpec, Network, SwarmStage, Topology, WorldConfig};

const SECOND: Duration = Duration::from_secs(1);
/// Datagrams through a NAT keep their mapping for this long (RFC 4787 asks for at least two minutes).
const NAT_UDP: Duration = Duration::from_secs(120);

/// The default back end.
#[derive(Clone, Copy, Debug, Default)]
pub struct SwarmPlayer {
    /// Draws the order of wakes of one instant from this; `None`: the order in which they were caused.
    pub shuffle: Option<u64>,
}

impl Player for SwarmPlayer {
    fn senses(&self) -> &[Sense] {
        Sense::ALL
    }

    fn epoch(&self) -> WallTime {
        WORLD_BEGINS + WARM_UP
    }

    fn play(&self, plan: &Plan, sink: &mut dyn Sink) -> Result<RunOutput, RunError> {
        let begins = Instant::ZERO + WARM_UP;
        let shared = Arc::new(plan.clone());
        let ceremony = ceremony::perform(plan)?;
        let oracle = Oracle::new(plan, ceremony.bridges_of.clone());
        let society = Society::new(shared.clone(), begins);
        let failures = Failures::default();

        let mut stage = stage(plan, self.shuffle);
        let peers = hosts(plan, &mut stage);
        for (peer, program) in peers
            .iter()
            .zip(cast::programs(&shared, ceremony, &society, &failures))
        {
            stage.set_program(*peer, program);
        }
        starts(plan, &peers, begins, &mut stage);
        censor(plan, begins, &stage)?;

        let mut observer = Observer::new(plan, begins, sink, oracle, Blocks::new(plan));
        faults(plan, &peers, begins, &mut stage, &mut observer);
        let mut world = Run {
            stage,
            society,
            failures,
            begins,
            acted: BTreeMap::new(),
            searched: 0,
        };
        world.until(begins, plan, &mut observer)?;
        let mut at = begins;
        let end = begins + plan.duration;
        while at < end {
            at = (at + SECOND).min(end);
            world.until(at, plan, &mut observer)?;
            if at == end {
                world.search(plan, &mut observer, true)?;
            } else if observer.scenario(at).since_start().as_secs() % 300 == 0 {
                world.search(plan, &mut observer, false)?;
            }
            let steps = world.steps();
            observer.tell(observer.scenario(at), steps);
            if steps > plan.step_limit {
                return Err(RunError::StepLimit {
                    limit: plan.step_limit,
                    at: observer.scenario(at),
                });
            }
        }
        let digests = world.stage.world();
        Ok(RunOutput {
            end: Instant::ZERO + plan.duration,
            events: digests.counters().happenings,
            trace_digest: digests.trace_digest(),
            checkpoints: digests
                .checkpoints()
                .iter()
                .map(|checkpoint| checkpoint.digest)
                .collect(),
        })
    }
}

struct Run {
    stage: SwarmStage,
    society: Arc<Society>,
    failures: Failures,
    begins: Instant,
    /// What each rule of the plan had done by the last look.
    acted: BTreeMap<usize, [u64; 3]>,
    searched: u64,
}

impl Run {
    /// Runs to `until` and takes what was seen.
    fn until(&mut self, until: Instant, plan: &Plan, observer: &mut Observer<'_>) -> Result<(), RunError> {
        self.stage.run_until(until);
        let now = observer.scenario(until);
        for note in self.society.take_notes() {
            observer.say(observer.scenario(note.at), note.host, note.seen);
        }
        for given in observer.records(self.stage.take_records()) {
            let at = self.begins + given.at.since_start();
            self.stage
                .censor()
                .lock()
                .learn_address(&plan.rules[given.rule].name, given.address, at);
        }
        for leak in self.stage.take_leaks() {
            observer.say(
                observer.scenario(leak.at),
                Some(leak.sender.index() as HostId),
                Seen::Leak { kind: leak.kind },
            );
        }
        let (secrets, bytes) = self.stage.world().leak_search_volume();
        if bytes > self.searched {
            observer.say(
                now,
                None,
                Seen::Searched {
                    bytes: bytes - self.searched,
                    secrets: secrets as u64,
                },
            );
            self.searched = bytes;
        }
        self.deeds(plan, now, observer);
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        match failures.first() {
            Some(failure) => Err(RunError::Failed(format!("a program ended: {failure}"))),
            None => Ok(()),
        }
    }

    /// What the censor's rules did since the last look.
    fn deeds(&mut self, plan: &Plan, now: Instant, observer: &mut Observer<'_>) {
        let censor = self.stage.censor().lock();
        for (n, rule) in plan.rules.iter().enumerate() {
            let Some(seconds) = censor.acted(&rule.name) else {
                continue;
            };
            let mut total = [0; 3];
            for acted in seconds.values() {
                total[0] += acted.dropped;
                total[1] += acted.reset;
                total[2] += acted.forged;
            }
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
    }

    /// Searches the disks of storage nodes for what should be gone, and at the end for what should be there.
    fn search(&mut self, plan: &Plan, observer: &mut Observer<'_>, end: bool) -> Result<(), RunError> {
        let now = self.stage.now();
        let wall = WORLD_BEGINS + now.since_start();
        let mut readable = std::collections::BTreeSet::new();
        for (n, host) in plan
            .hosts
            .iter()
            .enumerate()
            .filter(|(_, host)| host.role == Role::Service)
        {
            let purged = observer.purged.remove(&(n as HostId)).unwrap_or_default();
            if purged == 0 && !end {
                continue;
            }
            let peer = PeerId(n as u32);
            let up = self.stage.world().host(peer).up;
            let found = self.stage.world().disk(peer, disks::seize)?;
            let left = found
                .boxes
                .iter()
                .filter(|(_, expires)| *expires + PURGED_AFTER <= wall)
                .count();
            // A node that is down cannot purge; it does so before it serves again.
            let left = if up { left + found.orphans } else { 0 };
            tracing::trace!(host = host.name, purged, left, "searched a disk");
            let seen = Seen::DiskSearched {
                boxes: purged,
                found: left as u32,
            };
            observer.say(observer.scenario(now), Some(n as HostId), seen);
            if up {
                readable.extend(found.boxes.into_iter().map(|(tag, _)| tag));
            }
        }
        if end {
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

    fn steps(&mut self) -> u64 {
        let counters = self.stage.world().counters();
        counters.happenings + counters.polls
    }
}

/// The world's network: the plan's regions, each with its networks.
fn stage(plan: &Plan, shuffle: Option<u64>) -> SwarmStage {
    let mut topology = Topology::new();
    let row = |area: Area| match area {
        Area::NorthAmerica => 0,
        Area::Europe => 1,
        Area::SouthAmerica => 2,
        Area::AsiaPacific => 3,
        Area::Japan => 4,
        Area::Australia => 5,
    };
    let rtt = |a: Area, b: Area| Duration::from_millis(RTT_MS_2019[row(a)][row(b)]);
    let regions: Vec<_> = plan
        .network
        .regions
        .iter()
        .map(|(name, area)| topology.add_region(name, rtt(*area, *area)))
        .collect();
    for (a, (_, one)) in plan.network.regions.iter().enumerate() {
        for (b, (_, two)) in plan.network.regions.iter().enumerate().skip(a + 1) {
            let extra: Duration = plan
                .network
                .links
                .iter()
                .filter(|l| (l.0, l.1) == (a, b) || (l.1, l.0) == (a, b))
                .map(|l| l.3)
                .sum();
            topology.connect(regions[a], regions[b], rtt(*one, *two) + 2 * extra);
        }
    }
    for (n, (name, _)) in plan.network.regions.iter().enumerate() {
        topology.add_system(&format!("{name}-0"), regions[n], Duration::from_millis(4));
    }
    SwarmStage::with(WorldConfig {
        shuffle,
        network: Network::Modelled(topology),
        step_limit: plan.step_limit,
        ..WorldConfig::new(plan.seed)
    })
}

fn hosts(plan: &Plan, stage: &mut SwarmStage) -> Vec<PeerId> {
    let border_loss: f64 = plan.network.links.iter().map(|link| link.2).sum();
    plan.hosts
        .iter()
        .map(|host| {
            let spec = spec(plan, host, border_loss);
            stage.add_swarm_host(spec)
        })
        .collect()
}

fn spec(plan: &Plan, host: &Host, border_loss: f64) -> HostSpec {
    let (up, down) = (
        host.access.up.0.bits_per_second(),
        host.access.down.0.bits_per_second(),
    );
    let mut access = Access::new(up, down);
    // A packet passes two access links: each loses half of the path's share, and the border's falls to those inside.
    let loss = plan.network.loss / 2.0 + if host.inside { border_loss } else { 0.0 };
    access.loss = Probability::new(loss).unwrap_or(Probability::ONE);
    access.jitter = plan.network.jitter.draw(u64::MAX / 2) / 2;
    let mut addresses = vec![IpAddr::V4(host.address)];
    addresses.extend(host.address6.map(IpAddr::V6));
    let mut wall = Wall::new(WORLD_BEGINS);
    wall.offset_ns = host.clock_skew_ns;
    HostSpec {
        system: crate::swarm::AsId(u16::try_from(host.region).unwrap_or_default()),
        nat: host.nat.then(|| NatSpec {
            outside: addresses.clone(),
            udp_idle: NAT_UDP,
        }),
        addresses: if host.nat { vec![private(host)] } else { addresses },
        access,
        inside: host.inside,
        wall,
        ..HostSpec::new(host.name.clone())
    }
}

/// The address of a host behind a NAT, on its own side.
fn private(host: &Host) -> IpAddr {
    let [_, b, c, d] = host.address.octets();
    IpAddr::V4(std::net::Ipv4Addr::new(10, b, c, d))
}

/// When everybody starts: the infrastructure over the first minute of the warm-up, clients when the plan says.
fn starts(plan: &Plan, peers: &[PeerId], begins: Instant, stage: &mut SwarmStage) {
    let mut early = 0_u64;
    for (host, peer) in plan.hosts.iter().zip(peers) {
        let at = if host.role.is_client() {
            begins + host.arrives
        } else {
            early += 1;
            Instant::ZERO + Duration::from_millis(early * 7 % 45_000)
        };
        stage.at(at, Act::Start(*peer));
        if let Some(name) = &host.dns_name {
            let mut addresses = vec![IpAddr::V4(host.address)];
            addresses.extend(host.address6.map(IpAddr::V6));
            stage.at(Instant::ZERO, Act::SetName(name.clone(), addresses));
        }
    }
}

/// Puts the plan's rules at the border.
fn censor(plan: &Plan, begins: Instant, stage: &SwarmStage) -> Result<(), RunError> {
    for planned in &plan.rules {
        let rule: Rule = border::rule(plan, planned)?;
        let (from, until) = (begins + planned.from, begins + planned.until);
        stage
            .censor()
            .lock()
            .add(Timed::new(planned.name.clone(), rule).between(from, until));
    }
    Ok(())
}

fn faults(
    plan: &Plan,
    peers: &[PeerId],
    begins: Instant,
    stage: &mut SwarmStage,
    observer: &mut Observer<'_>,
) {
    for fault in &plan.faults {
        let (peer, at) = (peers[fault.host as usize], begins + fault.at);
        let said = Instant::ZERO + fault.at;
        match fault.what {
            Happening::Crash { lose_disk, restart } => {
                stage.at(at, Act::Crash(peer));
                observer.say(said, Some(fault.host), Seen::Crashed);
                if lose_disk {
                    stage.at(at, Act::LoseDisk(peer));
                    observer.say(said, Some(fault.host), Seen::DiskLost);
                }
                if let Some(after) = restart {
                    stage.at(at + after, Act::Start(peer));
                    observer.say(said + after, Some(fault.host), Seen::Restarted);
                }
            }
            Happening::StepClock(by_ns) => stage.at(at, Act::StepWall(peer, by_ns)),
        }
    }
}
