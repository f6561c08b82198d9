//! Playing on the default engine, with everything observed.

use std::net::IpAddr;
use std::time::Duration;

use phantom_core::runtime::rules::Rule;
use phantom_core::units::{Instant, Probability, WallTime};

use super::border;
use super::observe::Observer;
use super::times;
use super::world::{self, Ground, LINK_PORT, Opening, extra, rtt};
use crate::censor::Timed;
use crate::check::observe::{Seen, Sink};
use crate::host::Wall;
use crate::host::record::{Checkpoint, Detail};
use crate::run::{Player, RunError, RunOutput};
use crate::scenario::metric::Sense;
use crate::scenario::plan::{Host, HostId, Plan};
use crate::swarm::{Access, HostSpec, NatSpec, Network, SwarmStage, Topology, WorldConfig};

/// Datagrams through a NAT keep their mapping for this long (RFC 4787 asks for at least two minutes).
const NAT_UDP: Duration = Duration::from_secs(120);

/// The default back end.
#[derive(Clone, Copy, Debug, Default)]
pub struct SwarmPlayer {
    /// Draws the order of wakes of one instant from this; `None`: the order in which they were caused.
    pub shuffle: Option<u64>,
    /// How much the checkpoints keep.
    pub detail: Detail,
}

impl Player for SwarmPlayer {
    fn senses(&self) -> &[Sense] {
        Sense::ALL
    }

    fn repeats(&self) -> bool {
        true
    }

    fn epoch(&self, plan: &Plan) -> WallTime {
        times::world_begins(plan) + times::warm_up(plan)
    }

    fn play(&self, plan: &Plan, sink: &mut dyn Sink) -> Result<RunOutput, RunError> {
        world::play(plan, LINK_PORT, sink, || {
            let begins = Instant::ZERO + times::warm_up(plan);
            let mut stage = stage(plan, *self);
            hosts(plan, &mut stage);
            censor(plan, begins, &stage)?;
            Ok(Opening {
                ground: Swarm { stage, searched: 0 },
                begins,
                date: times::world_begins(plan),
            })
        })
    }
}

/// Swarm with the hosts of a plan.
struct Swarm {
    stage: SwarmStage,
    searched: u64,
}

impl Ground for Swarm {
    type Stage = SwarmStage;

    fn stage(&mut self) -> &mut SwarmStage {
        &mut self.stage
    }

    fn block(&mut self, plan: &Plan, rule: usize, address: IpAddr, at: Instant) {
        self.stage
            .censor()
            .lock()
            .learn_address(&plan.rules[rule].name, address, at);
    }

    fn acted(&mut self, rule: &str) -> [u64; 3] {
        let censor = self.stage.censor().lock();
        let seconds = censor
            .acted(rule)
            .into_iter()
            .flat_map(|seconds| seconds.values());
        seconds.fold([0; 3], |sum, acted| {
            [
                sum[0] + acted.dropped,
                sum[1] + acted.reset,
                sum[2] + acted.forged,
            ]
        })
    }

    /// Secrets at the border, and how much was searched for them.
    fn tell(&mut self, observer: &mut Observer<'_>, now: Instant) {
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
    }

    fn steps(&mut self) -> u64 {
        let counters = self.stage.world().counters();
        counters.happenings + counters.polls
    }

    fn digest(&mut self) -> (u64, String, Vec<Checkpoint>) {
        let world = self.stage.world();
        let checkpoints = world.checkpoints().to_vec();
        (world.counters().happenings, world.trace_digest(), checkpoints)
    }
}

/// The world's network: the plan's regions, each with its networks.
fn stage(plan: &Plan, SwarmPlayer { shuffle, detail }: SwarmPlayer) -> SwarmStage {
    let mut topology = Topology::new();
    let regions: Vec<_> = plan
        .network
        .regions
        .iter()
        .map(|(name, area)| topology.add_region(name, rtt(*area, *area)))
        .collect();
    for (a, (_, one)) in plan.network.regions.iter().enumerate() {
        for (b, (_, two)) in plan.network.regions.iter().enumerate().skip(a + 1) {
            topology.connect(regions[a], regions[b], rtt(*one, *two) + 2 * extra(plan, a, b));
        }
    }
    for (n, (name, _)) in plan.network.regions.iter().enumerate() {
        topology.add_system(&format!("{name}-0"), regions[n], Duration::from_millis(4));
    }
    SwarmStage::with(WorldConfig {
        shuffle,
        detail,
        network: Network::Modelled(topology),
        step_limit: plan.step_limit,
        ..WorldConfig::new(plan.seed)
    })
}

fn hosts(plan: &Plan, stage: &mut SwarmStage) {
    let border_loss: f64 = plan.network.links.iter().map(|link| link.2).sum();
    for host in &plan.hosts {
        stage.add_swarm_host(spec(plan, host, border_loss));
    }
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
    let mut wall = Wall::new(times::world_begins(plan));
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
