//! A plan: one world, resolved. Pure data, drawn from a checked scenario and a seed; an engine plays it.
//!
//! Every host, edge and fault is drawn from a stream of its own, keyed by its name, so that one more peer shifts no
//! other's draws (common random numbers: two scenarios that differ in one thing differ in nothing else).

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use phantom_censor::engine::rule::{Action, Rule as Engaged};
use phantom_censor::file::units::{Address, Pattern};
use phantom_censor::file::{List, Lists};
use phantom_core::transport::Kind;
use phantom_core::units::Probability;
use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};

use super::censor::{DIRECTORY, PUBLISHED};
use super::check::{Claim, Invariant};
use super::file::{
    self, Access, Area, Breakage, Carries, ClientNode, Count, Deed, Direction, Model, Node, Population, Start,
};
use super::load::Loaded;
use super::systems::{self, Given, System};
use super::units::Spread;

/// A host's number: its place in [`Plan::hosts`].
pub type HostId = u32;

/// One world, resolved.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The scenario's name.
    pub name: String,
    /// BLAKE3 of the resolved scenario, in hex.
    pub scenario_hash: String,
    /// The seed that this was drawn from, and that the engine draws from.
    pub seed: u64,
    /// How long.
    pub duration: Duration,
    /// Events after which the run is an error.
    pub step_limit: u64,
    /// How far a wall clock may be wrong.
    pub clock_bound: Duration,
    /// From one directory document to the next.
    pub document_interval: Duration,
    /// What the network is like.
    pub network: Network,
    /// The hosts.
    pub hosts: Vec<Host>,
    /// Who knows whom.
    pub edges: Vec<Edge>,
    /// The censor's rules in order, the enabled ones.
    pub rules: Vec<Rule>,
    /// Lists that take in the bridges that insiders learn of, so long after they did.
    pub learned: BTreeMap<String, Duration>,
    /// After so long without a packet the censor has forgotten a flow; `None`: it has no opinion.
    pub flow_idle: Option<Duration>,
    /// How many flows it remembers, if that is said.
    pub flows_max: Option<u32>,
    /// The censor's own hosts, besides [`Plan::hosts`] and numbered after them.
    pub traps: Vec<Trap>,
    /// What breaks, in order of time.
    pub faults: Vec<Fault>,
    /// Who does what.
    pub workloads: Vec<Workload>,
    /// What must hold.
    pub invariants: Vec<Invariant>,
    /// What is claimed over seeds.
    pub claims: Vec<Claim>,
}

/// What the network is like beyond its hosts.
#[derive(Clone, Debug)]
pub struct Network {
    /// The regions: name and place on earth.
    pub regions: Vec<(String, Area)>,
    /// The autonomous systems in them, region by region.
    pub systems: Vec<System>,
    /// Share of packets lost on any path.
    pub loss: f64,
    /// Extra delay of a packet, each time anew.
    pub jitter: Spread,
    /// Between two regions (indices): share of packets lost and round-trip time added, on top.
    pub links: Vec<(usize, usize, f64, Duration)>,
}

/// One host.
#[derive(Clone, Debug)]
pub struct Host {
    /// `<population>-<n>`, n from 0.
    pub name: String,
    /// Its population.
    pub population: String,
    /// What it is.
    pub role: Role,
    /// Index of its region.
    pub region: usize,
    /// Index of its autonomous system, one of the region's.
    pub system: usize,
    /// Whether it is behind the censor.
    pub inside: bool,
    /// Its IPv4 address as others see it.
    pub address: Ipv4Addr,
    /// Its IPv6 address, if its region has any.
    pub address6: Option<Ipv6Addr>,
    /// Whether it is behind a NAT: it can dial and not be dialled.
    pub nat: bool,
    /// Its own link.
    pub access: Access,
    /// When it starts.
    pub arrives: Duration,
    /// How far its wall clock is ahead of the truth, in nanoseconds.
    pub clock_skew_ns: i64,
    /// Whether every copy of the client ships with its address.
    pub published: bool,
    /// The DNS name it is published under.
    pub dns_name: Option<String>,
    /// What a bridge speaks, the first at the port of links, each further one at the next port; nobody else has any.
    pub transports: Vec<Kind>,
}

impl Host {
    /// What it speaks to clients, and how far behind the port of links.
    pub fn speaks(&self) -> impl Iterator<Item = (Kind, u16)> {
        let plain: &[Kind] = if self.transports.is_empty() {
            &[Kind::Plain]
        } else {
            &[]
        };
        plain.iter().chain(&self.transports).copied().zip(0..)
    }

    /// Its addresses as others see them.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        std::iter::once(IpAddr::V4(self.address)).chain(self.address6.map(IpAddr::V6))
    }
}

/// What a host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A directory authority.
    Authority,
    /// A listed service node.
    Service,
    /// A bridge.
    Bridge,
    /// A client.
    Client(ClientNode),
    /// The censor's own client.
    Insider(ClientNode),
    /// A node of the Mainline DHT.
    Dht,
    /// A published router of it.
    DhtRouter,
}

impl Role {
    /// Whether it runs the client program.
    pub const fn is_client(self) -> bool {
        matches!(self, Self::Client(_) | Self::Insider(_))
    }

    /// The steps of the ladder that it has, if it is a client.
    pub const fn client(self) -> Option<ClientNode> {
        match self {
            Self::Client(node) | Self::Insider(node) => Some(node),
            _ => None,
        }
    }
}

/// Two hosts that know each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edge {
    /// The graph.
    pub graph: String,
    /// What goes along.
    pub carries: Carries,
    /// One; for invitations, the one that invites.
    pub from: HostId,
    /// The other.
    pub to: HostId,
    /// How long what goes along takes.
    pub delay: Duration,
}

/// A rule of the censor, resolved as far as it can be before the run.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// When it acts: from, until; at least one.
    pub phases: Vec<(Duration, Duration)>,
    /// What it does to what. Its phases are the same, in nanoseconds of the scenario's time.
    pub rule: Engaged,
    /// Lists that it follows while they grow.
    pub follows: BTreeSet<String>,
}

impl Rule {
    /// Acts from here.
    pub fn from(&self) -> Duration {
        self.phases.iter().map(|phase| phase.0).min().unwrap_or_default()
    }

    /// Until here.
    pub fn until(&self) -> Duration {
        self.phases.iter().map(|phase| phase.1).max().unwrap_or_default()
    }

    /// Whether it acts at a time.
    pub fn holds_at(&self, now: Duration) -> bool {
        self.phases
            .iter()
            .any(|(from, until)| (*from..*until).contains(&now))
    }

    /// Whether it stops everything while it acts, so that no path is open.
    pub fn is_total(&self) -> bool {
        let always = Engaged {
            phases: Vec::new(),
            ..self.rule.clone()
        };
        always.hides(&Engaged::new("anything"))
    }

    /// The forged addresses that its answers are drawn from, if it forges.
    pub fn forged(&self) -> &[IpAddr] {
        match &self.rule.action {
            Action::Forge(forgery) => &forgery.pool,
            _ => &[],
        }
    }
}

/// A host of the censor at addresses that it forges: who believes them gets to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trap {
    /// `trap-<rule>`.
    pub name: String,
    /// The forging rule: its index in [`Plan::rules`].
    pub rule: usize,
    /// Index of its region, the one outside.
    pub region: usize,
    /// Index of its autonomous system.
    pub system: usize,
    /// Its share of the rule's addresses.
    pub addresses: Vec<IpAddr>,
}

/// Something that breaks at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// When.
    pub at: Duration,
    /// The fault's name.
    pub name: String,
    /// Whom it befalls.
    pub host: HostId,
    /// What happens.
    pub what: Happening,
}

/// What happens to a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening {
    /// It stops at once; what it had not synced is lost.
    Crash {
        /// Whether its disk is empty when it starts again.
        lose_disk: bool,
        /// When it starts again; `None`: never.
        restart: Option<Duration>,
    },
    /// Its wall clock jumps by so many nanoseconds.
    StepClock(i64),
}

/// What the hosts of a population do.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Its name.
    pub name: String,
    /// Who.
    pub hosts: Vec<HostId>,
    /// From when on.
    pub start: Start,
    /// Until when.
    pub until: Duration,
    /// What. Contacts are the edges of the graph that `write` names.
    pub what: Deed,
}

/// A stream of randomness for one purpose.
pub fn stream(seed: u64, label: &str) -> ChaCha12Rng {
    let mut key = Vec::with_capacity(8 + label.len());
    key.extend_from_slice(&seed.to_le_bytes());
    key.extend_from_slice(label.as_bytes());
    ChaCha12Rng::from_seed(blake3::derive_key("phantom-net 2026 scenario stream v1", &key))
}

/// A number below `bound` (not zero), without bias worth mentioning: 64 bits against at most 32.
pub(super) fn below(rng: &mut ChaCha12Rng, bound: u64) -> u64 {
    ((u128::from(rng.next_u64()) * u128::from(bound)) >> 64) as u64
}

impl Plan {
    /// Draws the world of `loaded` for `seed`.
    pub fn draw(loaded: &Loaded, seed: u64) -> Self {
        let scenario = &loaded.scenario;
        let duration = scenario.run.duration.0;
        let region_of = |name: &str| {
            scenario
                .topology
                .region
                .iter()
                .position(|r| r.name.value == name)
                .unwrap_or(0)
        };
        let regions = &scenario.topology.region;
        let systems = systems::draw(
            seed,
            regions.iter().map(|r| (r.name.value.as_str(), r.ases.value)),
        );
        let hosts = hosts(loaded, seed, &systems);
        let edges = edges(loaded, seed, &hosts);
        let rules = rules(loaded, &hosts);
        let outside = scenario.censor.as_ref().map(|censor| &censor.at[1].value);
        let outside = outside.map_or(0, |name| region_of(name));
        let traps = traps(&rules, outside, &systems);
        Self {
            name: scenario.name.value.clone(),
            scenario_hash: loaded.hash.clone(),
            seed,
            duration,
            step_limit: scenario.run.step_limit,
            clock_bound: scenario.run.clock_bound.0,
            document_interval: scenario.run.document_interval.0,
            network: Network {
                regions: scenario
                    .topology
                    .region
                    .iter()
                    .map(|r| (r.name.value.clone(), r.area))
                    .collect(),
                systems,
                loss: scenario.topology.loss.get(),
                jitter: scenario.topology.jitter,
                links: scenario
                    .topology
                    .link
                    .iter()
                    .map(|link| {
                        (
                            region_of(&link.between[0]),
                            region_of(&link.between[1]),
                            link.loss.get(),
                            link.extra.0,
                        )
                    })
                    .collect(),
            },
            traps,
            rules,
            learned: learned(loaded),
            flows_max: scenario
                .censor
                .as_ref()
                .and_then(|censor| censor.flows_max)
                .map(|flows| flows.get()),
            flow_idle: scenario
                .censor
                .as_ref()
                .and_then(|censor| censor.flow_idle)
                .map(|idle| Duration::from_nanos(idle.0)),
            faults: faults(loaded, seed, &hosts),
            workloads: scenario
                .workload
                .iter()
                .map(|workload| Workload {
                    name: workload.name.value.clone(),
                    hosts: members(&hosts, &workload.by).collect(),
                    start: workload.start.value,
                    until: workload
                        .until
                        .as_ref()
                        .map_or(duration, |until| until.0)
                        .min(duration),
                    what: workload.what.clone(),
                })
                .collect(),
            invariants: loaded.checked.invariants.clone(),
            claims: loaded.checked.claims.clone(),
            edges,
            hosts,
        }
    }

    /// Peers without those that count as extra (the world's DHT, the authorities).
    pub fn peers(&self, loaded: &Loaded) -> u64 {
        loaded
            .scenario
            .population
            .iter()
            .filter(|(_, population)| !matches!(population.count.value, Count::Extra(_)))
            .filter_map(|(name, _)| loaded.checked.counts.get(name))
            .sum()
    }

    /// The rule called `name`.
    pub fn rule(&self, name: &str) -> Option<&Rule> {
        self.rules.iter().find(|rule| rule.name == name)
    }
}

fn members<'a>(hosts: &'a [Host], population: &'a str) -> impl Iterator<Item = HostId> + 'a {
    hosts
        .iter()
        .enumerate()
        .filter(move |(_, host)| host.population == population)
        .map(|(i, _)| i as HostId)
}

fn hosts(loaded: &Loaded, seed: u64, systems: &[System]) -> Vec<Host> {
    let scenario = &loaded.scenario;
    let inside = scenario.censor.as_ref().map(|censor| censor.at[0].value.as_str());
    let mut given = Given::default();
    let mut hosts: Vec<Host> = Vec::new();
    for (name, population) in &scenario.population {
        let count = loaded.checked.counts.get(name).copied().unwrap_or(0);
        let published = published_count(population, count);
        for n in 0..count {
            let Some(region) = scenario
                .topology
                .region
                .iter()
                .position(|r| r.name.value == population.region.value)
            else {
                continue;
            };
            let place = &scenario.topology.region[region];
            let host_name = format!("{name}-{n}");
            let mut rng = stream(seed, &format!("host {host_name}"));
            let role = role(population.node);
            let arrives = population.arrive.map_or(Duration::ZERO, |arrive| {
                let over = u64::try_from(arrive.over.0.as_nanos()).unwrap_or(u64::MAX);
                arrive.from.0 + Duration::from_nanos(below(&mut rng, over.max(1)))
            });
            let skew = population.clock_skew.map_or(0, |spread| {
                let size = i64::try_from(spread.draw(rng.next_u64()).as_nanos()).unwrap_or(i64::MAX);
                if rng.next_u64() & 1 == 0 { size } else { -size }
            });
            let first = systems.iter().position(|system| system.region == region);
            let system = first.unwrap_or(0) + below(&mut rng, u64::from(place.ases.value)) as usize;
            let (address, address6) = given.draw(seed, &host_name, &systems[system]);
            hosts.push(Host {
                name: host_name,
                population: name.clone(),
                role,
                region,
                system,
                inside: inside == Some(place.name.value.as_str()),
                address,
                address6: place.ipv6.is_on().then_some(address6),
                nat: place.nat.is_on() && role.is_client(),
                access: population.access.unwrap_or(scenario.topology.access),
                arrives,
                clock_skew_ns: skew,
                published: n < published,
                dns_name: population
                    .published
                    .as_ref()
                    .and_then(|published| published.domain.as_ref())
                    .filter(|_| n < published)
                    .map(|domain| format!("{name}-{n}.{}", domain.value)),
                transports: population
                    .transports
                    .iter()
                    .flat_map(|transports| transports.iter().map(|transport| transport.kind()))
                    .collect(),
            });
        }
    }
    hosts
}

fn published_count(population: &Population, count: u64) -> u64 {
    population.published.as_ref().map_or(0, |published| {
        published.share.of(count).max(published.at_least).min(count)
    })
}

const fn role(node: Node) -> Role {
    match node {
        Node::Authority => Role::Authority,
        Node::Service => Role::Service,
        Node::Bridge => Role::Bridge,
        Node::Client(node) => Role::Client(node),
        Node::Insider(node) => Role::Insider(node),
        Node::Dht => Role::Dht,
        Node::DhtRouter => Role::DhtRouter,
    }
}

fn edges(loaded: &Loaded, seed: u64, hosts: &[Host]) -> Vec<Edge> {
    let mut edges = Vec::new();
    for (name, graph) in &loaded.scenario.graph {
        let sides: Vec<Vec<HostId>> = graph
            .among
            .iter()
            .map(|among| members(hosts, among).collect())
            .collect();
        let mut pairs: Vec<(HostId, HostId)> = match (&graph.model, sides.as_slice()) {
            (Model::SmallWorld { degree, rewire }, sides) => small_world(
                seed,
                name,
                &ring(seed, name, sides, hosts),
                hosts,
                degree.value,
                rewire.get(),
            ),
            (Model::Each { degree, share }, [givers, takers]) if !givers.is_empty() => {
                each(seed, name, givers, takers, hosts, degree.value, share.get())
            }
            _ => Vec::new(),
        };
        pairs.retain(|(from, to)| from != to);
        pairs.sort_unstable();
        pairs.dedup();
        for (from, to) in pairs {
            let mut rng = stream(
                seed,
                &format!(
                    "edge {name} {} {}",
                    hosts[from as usize].name, hosts[to as usize].name
                ),
            );
            let delay = graph.delay.draw(rng.next_u64());
            edges.push(Edge {
                graph: name.clone(),
                carries: graph.carries,
                from,
                to,
                delay,
            });
        }
    }
    edges
}

/// Hosts of several populations around one ring, in an order drawn by their names, so that populations mix.
fn ring(seed: u64, name: &str, sides: &[Vec<HostId>], hosts: &[Host]) -> Vec<HostId> {
    let mut placed: Vec<(u64, HostId)> = sides
        .iter()
        .flatten()
        .map(|id| {
            (
                stream(seed, &format!("ring {name} {}", hosts[*id as usize].name)).next_u64(),
                *id,
            )
        })
        .collect();
    placed.sort_unstable();
    placed.into_iter().map(|(_, id)| id).collect()
}

/// A share of the takers, each tied to `degree` givers.
fn each(
    seed: u64,
    name: &str,
    givers: &[HostId],
    takers: &[HostId],
    hosts: &[Host],
    degree: u32,
    share: f64,
) -> Vec<(HostId, HostId)> {
    let mut pairs = Vec::new();
    for taker in takers {
        let mut rng = stream(seed, &format!("graph {name} {}", hosts[*taker as usize].name));
        if happens(&mut rng, share) {
            pairs
                .extend((0..degree).map(|_| (givers[below(&mut rng, givers.len() as u64) as usize], *taker)));
        }
    }
    pairs
}

/// Whether an event of this probability happens; 53 bits, exact in `f64`, the same on every platform.
fn happens(rng: &mut ChaCha12Rng, probability: f64) -> bool {
    Probability::new(probability).is_some_and(|probability| probability.happens(rng.next_u64()))
}

/// Watts and Strogatz 1998: neighbours on a ring, a share of the edges' far ends moved to a peer drawn at random.
fn small_world(
    seed: u64,
    name: &str,
    all: &[HostId],
    hosts: &[Host],
    degree: u32,
    rewire: f64,
) -> Vec<(HostId, HostId)> {
    let n = all.len();
    let mut pairs = Vec::new();
    for (i, from) in all.iter().enumerate() {
        let mut rng = stream(seed, &format!("graph {name} {}", hosts[*from as usize].name));
        for step in 1..=(degree as usize / 2).min(n.saturating_sub(1)) {
            let moved = happens(&mut rng, rewire);
            let far = below(&mut rng, n as u64) as usize;
            let to = all[if moved { far } else { (i + step) % n }];
            pairs.push(if *from < to { (*from, to) } else { (to, *from) });
        }
    }
    pairs
}

/// The lists of the world and those of the scenario, filled.
fn lists(loaded: &Loaded, hosts: &[Host]) -> Lists {
    let scenario = &loaded.scenario;
    let of = |keep: &dyn Fn(&Host) -> bool| -> Vec<Address> {
        let kept = hosts.iter().filter(|host| keep(host));
        kept.flat_map(Host::addresses).map(Address::Host).collect()
    };
    let addresses = |addresses| List {
        addresses,
        ..List::default()
    };
    let mut lists = Lists::default();
    let names = hosts.iter().filter_map(|host| host.dns_name.as_ref());
    lists.insert(
        PUBLISHED,
        List {
            names: names.map(|name| Pattern(format!("*.{name}"))).collect(),
            ..addresses(of(&|host| host.published))
        },
    );
    let listed = |host: &Host| matches!(host.role, Role::Service | Role::Authority);
    lists.insert(DIRECTORY, addresses(of(&listed)));
    for name in scenario.population.keys() {
        lists.insert(name, addresses(of(&|host| host.population == *name)));
    }
    for (name, text) in scenario.censor.iter().flat_map(|censor| &censor.list) {
        let mut all = text.addresses.clone();
        if let Some(systems) = &text.systems {
            let in_system = |host: &Host| {
                let first = loaded_systems(scenario, &systems.of);
                (first..first + systems.first.value as usize).contains(&host.system)
            };
            all.extend(of(&in_system));
        }
        lists.insert(
            name,
            List {
                addresses: all,
                names: text.names.clone(),
                grows: text.learned_by_insiders.is_some(),
            },
        );
    }
    lists
}

/// The first system of a region: they stand region by region.
fn loaded_systems(scenario: &file::Scenario, region: &str) -> usize {
    let before = scenario
        .topology
        .region
        .iter()
        .take_while(|one| one.name.value != region);
    before.map(|one| one.ases.value as usize).sum()
}

/// The lists that insiders fill.
fn learned(loaded: &Loaded) -> BTreeMap<String, Duration> {
    let lists = loaded.scenario.censor.iter().flat_map(|censor| &censor.list);
    lists
        .filter_map(|(name, text)| Some((name.clone(), text.learned_by_insiders?.lag.0)))
        .collect()
}

fn rules(loaded: &Loaded, hosts: &[Host]) -> Vec<Rule> {
    let scenario = &loaded.scenario;
    let end = scenario.run.duration.0;
    let lists = lists(loaded, hosts);
    let rules = scenario.censor.iter().flat_map(|censor| &censor.rule);
    rules
        .filter(|rule| rule.enabled)
        .map(|text| {
            let mut rule = text.rule(&lists);
            let whole = [(0, u64::MAX)];
            let phases = if rule.phases.is_empty() {
                &whole[..]
            } else {
                &rule.phases
            };
            let clipped = |&(from, until): &(u64, u64)| {
                (
                    Duration::from_nanos(from).min(end),
                    Duration::from_nanos(until).min(end),
                )
            };
            let phases: Vec<_> = phases.iter().map(clipped).collect();
            let ns = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
            rule.phases = phases
                .iter()
                .map(|(from, until)| (ns(*from), ns(*until)))
                .collect();
            let mut follows = BTreeSet::new();
            rule.each_set(&mut |set| follows.extend(set.follows().map(str::to_owned)));
            Rule {
                name: rule.name.clone(),
                phases,
                rule,
                follows,
            }
        })
        .collect()
}

/// 198.18.0.0/15 is set aside for benchmarks (RFC 2544): only the censor's own hosts live there.
fn is_made_up(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(ip) if ip.octets()[0] == 198 && ip.octets()[1] & 0xfe == 18)
}

/// One of so many made-up addresses leads to the censor's own host; at the others nobody is.
const TRAP_EVERY: usize = 4;

/// The hosts of the censor, in the region outside.
fn traps(rules: &[Rule], region: usize, systems: &[System]) -> Vec<Trap> {
    let system = systems.iter().position(|system| system.region == region);
    let mut taken = BTreeSet::new();
    let forging = rules.iter().enumerate();
    forging
        .map(|(number, rule)| Trap {
            name: format!("trap-{}", rule.name),
            rule: number,
            region,
            system: system.unwrap_or(0),
            addresses: rule
                .forged()
                .iter()
                .filter(|address| is_made_up(**address))
                .step_by(TRAP_EVERY)
                .filter(|address| taken.insert(**address))
                .copied()
                .collect(),
        })
        .filter(|trap| !trap.addresses.is_empty())
        .collect()
}

/// What is drawn for a fault before it is known whether its host is up.
struct Blow<'a> {
    at: Duration,
    fault: &'a file::Fault,
    host: HostId,
    random: u64,
}

fn faults(loaded: &Loaded, seed: u64, hosts: &[Host]) -> Vec<Fault> {
    let mut blows = Vec::new();
    for fault in loaded.scenario.fault.iter().filter(|fault| fault.enabled) {
        blows.extend(drawn(fault, seed, hosts));
    }
    // Each fault draws from a stream of its own, and all of them strike in order of time.
    blows.sort_by(|a, b| (a.at, a.host, &a.fault.name.value).cmp(&(b.at, b.host, &b.fault.name.value)));
    // A host that is down is not hit again before it is up again, by whichever fault: the start that belongs to one
    // would end the other's time, and bring back what has vanished.
    let mut busy: BTreeMap<HostId, Duration> = BTreeMap::new();
    let mut faults = Vec::new();
    for blow in blows {
        if busy.get(&blow.host).is_some_and(|until| *until > blow.at) {
            continue;
        }
        let (what, free) = happening(blow.fault.what, blow.at, blow.random);
        busy.insert(blow.host, free);
        faults.push(Fault {
            at: blow.at,
            name: blow.fault.name.value.clone(),
            host: blow.host,
            what,
        });
    }
    faults
}

/// When a fault strikes, and whom.
fn drawn<'a>(fault: &'a file::Fault, seed: u64, hosts: &[Host]) -> Vec<Blow<'a>> {
    let all: Vec<HostId> = members(hosts, &fault.on).collect();
    let mut rng = stream(seed, &format!("fault {}", fault.name.value));
    let until = fault.until.as_ref().map(|until| until.0);
    let mut at = fault.from.0;
    let mut blows = Vec::new();
    while !all.is_empty() {
        for _ in 0..fault.peers.min(all.len() as u64) {
            let host = all[below(&mut rng, all.len() as u64) as usize];
            let random = rng.next_u64();
            blows.push(Blow {
                at,
                fault,
                host,
                random,
            });
        }
        let (Some(every), Some(until)) = (&fault.every, until) else {
            break;
        };
        // The check bounds the number of faults by the spread's mean; the floor ends a run of short draws.
        at += every.value.draw(rng.next_u64()).max(Duration::from_millis(1));
        if at >= until {
            break;
        }
    }
    blows
}

/// What happens, and when the host is free for the next thing.
fn happening(what: Breakage, at: Duration, random: u64) -> (Happening, Duration) {
    let crash = |lose_disk, down: Spread| {
        let restart = at + down.draw(random);
        (
            Happening::Crash {
                lose_disk,
                restart: Some(restart),
            },
            restart,
        )
    };
    match what {
        Breakage::Crash { down } => crash(false, down),
        Breakage::LoseDisk { down } => crash(true, down),
        Breakage::Vanish {} => (
            Happening::Crash {
                lose_disk: false,
                restart: None,
            },
            Duration::MAX,
        ),
        Breakage::StepClock { by, direction } => {
            let by = i64::try_from(by.0.as_nanos()).unwrap_or(i64::MAX);
            (
                Happening::StepClock(if direction == Direction::Back { -by } else { by }),
                at,
            )
        }
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
