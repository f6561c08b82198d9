//! Playing on the default engine, with everything observed.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use phantom_censor::prober::{Answer, Limits, Reaction};
use phantom_core::transport::Kind;
use phantom_core::units::{Instant, Probability, WallTime};
use rand_core::Rng;

use super::access::access;
use super::border;
use super::observe::Observer;
use super::times;
use super::world::{self, Ground, LINK_PORT, Opening, extra, rtt};
use crate::capture::SharedCapture;
use crate::censor::Censor;
use crate::censor::first::{FirstPackets, Tally};
use crate::censor::prober::{Crew, Office, direct, lend};
use crate::check::observe::{Acted, Seen, Sink};
use crate::host::record::{Checkpoint, Detail};
use crate::host::{PeerId, Wall};
use crate::run::{Player, RunError, RunOutput};
use crate::scenario::metric::Sense;
use crate::scenario::plan::{Host, HostId, Plan, stream};
use crate::scenario::units::Spread;
use crate::stage::{Act, Stage, program};
use crate::swarm::jitter::Jitter;
use crate::swarm::{Access, AsId, HostSpec, NatSpec, Network, SwarmStage, Topology, WorldConfig};

/// Datagrams through a NAT keep their mapping for this long (RFC 4787 asks for at least two minutes).
const NAT_UDP: Duration = Duration::from_secs(120);

/// What a host behind a NAT of its own has on its side of it, like millions of others.
const HOME: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 168, 1, 2));

/// The default back end.
#[derive(Clone, Debug, Default)]
pub struct SwarmPlayer {
    /// Draws the order of wakes of one instant from this; `None`: the order in which they were caused.
    pub shuffle: Option<u64>,
    /// How much the checkpoints keep.
    pub detail: Detail,
    /// Where to write what crosses the border.
    pub capture: Option<SharedCapture>,
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

    fn play(&self, plan: &Arc<Plan>, sink: &mut dyn Sink) -> Result<RunOutput, RunError> {
        world::play(plan, LINK_PORT, sink, || self.open(plan))
    }
}

impl SwarmPlayer {
    /// A world with the hosts of `plan`, about to begin.
    pub(super) fn open(&self, plan: &Plan) -> Result<Opening<Swarm>, RunError> {
        let begins = Instant::ZERO + times::warm_up(plan);
        let mut stage = stage(plan, self);
        hosts(plan, &mut stage);
        *stage.censor().lock() = Censor::new(border::engine(plan, begins));
        let spoken = plan.hosts.iter().flat_map(places);
        let first = FirstPackets::of(spoken);
        stage.censor().lock().count_first_packets(first);
        let office = probers(plan, &mut stage);
        if let Some(capture) = &self.capture {
            watch(plan, capture, &mut stage)?;
        }
        Ok(Opening {
            ground: Swarm {
                stage,
                searched: 0,
                office,
                told: 0,
            },
            begins,
            date: times::world_begins(plan),
        })
    }
}

/// Swarm with the hosts of a plan.
pub(super) struct Swarm {
    stage: SwarmStage,
    searched: u64,
    /// Of the censor's prober, if it has one.
    office: Option<Office>,
    /// So many servers that the prober found are told.
    told: usize,
}

impl Ground for Swarm {
    type Stage = SwarmStage;

    fn stage(&mut self) -> &mut SwarmStage {
        &mut self.stage
    }

    fn learn(&mut self, _plan: &Plan, list: &str, address: IpAddr, at: Instant) {
        self.stage.censor().lock().learn(list, address, at);
    }

    fn acted(&mut self, rule: &str) -> [u64; 3] {
        let acted = self.stage.censor().lock().acted(rule);
        [acted.dropped, acted.reset, acted.forged]
    }

    /// Servers that the prober found, secrets at the border, and how much was searched for them.
    fn tell(&mut self, observer: &mut Observer<'_>, now: Instant) {
        let office = self.office.as_ref();
        let found = office.map_or_else(Vec::new, |office| office.found_after(self.told));
        for found in found {
            self.told += 1;
            observer.blocks.found(found.server.ip());
            let (rule, act) = (found.rule as u32, Acted::Blocked);
            observer.say(
                observer.scenario(found.at),
                None,
                Seen::Censor { rule, act, count: 1 },
            );
        }
        for ended in office.map_or_else(Vec::new, Office::take_ended) {
            let Answer { after_ns, reaction } = ended.answer;
            let seen = Seen::Probed {
                server: ended.server,
                answered: matches!(reaction, Reaction::Data(_)),
                closed_after_ns: matches!(reaction, Reaction::Fin | Reaction::Reset).then_some(after_ns),
            };
            observer.say(now, None, seen);
        }
        let judged = self.stage.censor().lock().first_packets().take();
        for (transport, Tally { flagged, judged }) in judged {
            let seen = Seen::Flagged {
                transport,
                flagged,
                judged,
            };
            observer.say(now, None, seen);
        }
        for leak in self.stage.take_leaks() {
            observer.say(
                observer.scenario(leak.at),
                Some(leak.sender.index() as HostId),
                Seen::Leak { kind: leak.kind },
            );
        }
        let (secrets, bytes) = self.stage.world().leak_search();
        if bytes > self.searched {
            observer.say(
                now,
                None,
                Seen::Searched {
                    bytes: bytes - self.searched,
                    secrets,
                },
            );
            self.searched = bytes;
        }
    }

    fn steps(&mut self) -> u64 {
        let counters = self.stage.world().counters();
        counters.happenings + counters.polls
    }

    fn segments(&mut self) -> u64 {
        self.stage.world().counters().net.segments
    }

    fn digest(&mut self) -> (u64, String, Vec<Checkpoint>) {
        let world = self.stage.world();
        let checkpoints = world.checkpoints().to_vec();
        (world.counters().happenings, world.trace_digest(), checkpoints)
    }
}

/// The world's network: the plan's regions, each with its networks.
pub(super) fn topology(plan: &Plan) -> Topology {
    let mut topology = Topology::new();
    let regions: Vec<_> = plan
        .network
        .regions
        .iter()
        .map(|(name, area)| topology.add_region(name, rtt(*area, *area)))
        .collect();
    for (a, (_, one)) in plan.network.regions.iter().enumerate() {
        for (b, (_, two)) in plan.network.regions.iter().enumerate().skip(a + 1) {
            topology.connect(regions[a], regions[b], rtt(*one, *two) + extra(plan, a, b));
        }
    }
    for system in &plan.network.systems {
        topology.add_system(&system.name, regions[system.region], system.extra);
    }
    topology.weather(chance(plan.network.loss), jitter(plan.network.jitter));
    for (one, two, loss, _) in &plan.network.links {
        topology.lose(regions[*one], regions[*two], chance(*loss));
    }
    topology
}

fn stage(plan: &Plan, player: &SwarmPlayer) -> SwarmStage {
    SwarmStage::with(WorldConfig {
        shuffle: player.shuffle,
        detail: player.detail,
        network: Network::Modelled(topology(plan)),
        step_limit: plan.step_limit,
        ..WorldConfig::new(plan.seed)
    })
}

/// Where a host speaks which transport, if its scenario says that.
fn places(host: &Host) -> impl Iterator<Item = (SocketAddr, Kind)> {
    let speaks = host.transports.iter().zip(LINK_PORT..);
    speaks.flat_map(|(kind, port)| host.addresses().map(move |ip| (SocketAddr::new(ip, port), *kind)))
}

/// Captures what is asked for.
fn watch(plan: &Plan, capture: &SharedCapture, stage: &mut SwarmStage) -> Result<(), RunError> {
    let mut peers = Vec::new();
    for name in capture.hosts() {
        let place = plan.hosts.iter().position(|host| host.name == name);
        let place = place.ok_or_else(|| {
            let some: Vec<&str> = plan.hosts.iter().take(6).map(|host| host.name.as_str()).collect();
            RunError::Unable(format!(
                "no host is called '{name}' to capture; there are {} and others",
                some.join(", ")
            ))
        })?;
        peers.push(PeerId(place as u32));
    }
    capture.begin(times::world_begins(plan), &peers);
    stage.world().set_tap(capture.clone());
    Ok(())
}

/// A share that the checker has found to be one.
fn chance(share: f64) -> Probability {
    Probability::new(share).unwrap_or(Probability::ONE)
}

fn jitter(spread: Spread) -> Jitter {
    match spread {
        Spread::Fixed(time) => Jitter::fixed(time.0),
        Spread::Uniform(low, high) => Jitter::uniform(low.0, high.0),
        Spread::Exponential(mean) => Jitter::exponential(mean.0),
    }
}

fn hosts(plan: &Plan, stage: &mut SwarmStage) {
    for host in &plan.hosts {
        stage.add_swarm_host(spec(plan, host));
    }
    for trap in &plan.traps {
        stage.add_swarm_host(HostSpec {
            system: as_id(trap.system),
            addresses: trap.addresses.clone(),
            access: Access::server(),
            wall: Wall::new(times::world_begins(plan)),
            ..HostSpec::new(trap.name.clone())
        });
    }
}

/// The hosts of the censor's prober, if a rule of the plan probes: inside, where the first host is that is, and numbered after
/// all others.
fn probers(plan: &Plan, stage: &mut SwarmStage) -> Option<Office> {
    let rules: Vec<_> = plan.rules.iter().map(|planned| planned.rule.clone()).collect();
    let seed = stream(plan.seed, "prober").next_u64();
    let crew = Crew::of(&rules, seed, Limits::default())?;
    let system = plan
        .hosts
        .iter()
        .find(|host| host.inside)
        .map_or(0, |host| host.system);
    let mut add = |name: String, address: Option<IpAddr>| {
        stage.add_swarm_host(HostSpec {
            system: as_id(system),
            addresses: address.into_iter().collect(),
            access: Access::server(),
            inside: true,
            wall: Wall::new(times::world_begins(plan)),
            ..HostSpec::new(name)
        })
    };
    let head = add("prober".to_owned(), None);
    let hands: Vec<_> = (crew.hands.into_iter().enumerate())
        .map(|(n, hand)| (add(format!("prober-{n}"), hand.address), hand))
        .collect();
    let own: Vec<IpAddr> = (hands.iter())
        .flat_map(|(peer, _)| stage.world().host(*peer).addresses)
        .collect();
    stage.censor().lock().employ(crew.office.clone(), own);
    stage.set_program(head, program(move |rt| direct(rt, crew.head.clone())));
    stage.at(Instant::ZERO, Act::Start(head));
    for (peer, hand) in hands {
        stage.set_program(peer, program(move |rt| lend(rt, hand.clone())));
        stage.at(Instant::ZERO, Act::Start(peer));
    }
    Some(crew.office)
}

fn as_id(system: usize) -> AsId {
    AsId(u16::try_from(system).unwrap_or(u16::MAX))
}

fn spec(plan: &Plan, host: &Host) -> HostSpec {
    let addresses: Vec<IpAddr> = host.addresses().collect();
    // IPv6 needs no translation: the address is the host's own, and still nobody dials in.
    let home = std::iter::once(HOME)
        .chain(host.address6.map(IpAddr::V6))
        .collect();
    let mut wall = Wall::new(times::world_begins(plan));
    wall.offset_ns = host.clock_skew_ns;
    HostSpec {
        system: as_id(host.system),
        nat: host.nat.then(|| NatSpec {
            outside: addresses.clone(),
            udp_idle: NAT_UDP,
        }),
        addresses: if host.nat { home } else { addresses },
        access: access(&host.access),
        inside: host.inside,
        wall,
        ..HostSpec::new(host.name.clone())
    }
}
