//! Where hosts are: regions, autonomous systems, and the round-trip times between them.
//!
//! The built-in default is the region matrix of SimBlock for 2019: round-trip times between six regions and their median
//! access rates. From `NetworkConfiguration.java` of SimBlock (dsg-titech/simblock, © 2019 Distributed Systems Group,
//! Apache-2.0), `LATENCY_2019`, and the diagonals of `UPLOAD_BANDWIDTH_2019` and `DOWNLOAD_BANDWIDTH_2019`. The figures are
//! taken as round trips, as the measurements behind them are (SimBlock itself delays one way by them).

use std::net::IpAddr;
use std::time::Duration;

use petgraph::algo::dijkstra;
use petgraph::graph::{NodeIndex, UnGraph};
use phantom_core::units::{BitRate, Probability};

use phantom_path::mishap::Mishaps;

use super::jitter::Jitter;
use crate::host::Wall;

/// The regions of the built-in default, in the order of its matrix.
pub const REGIONS_2019: [&str; 6] = [
    "north-america",
    "europe",
    "south-america",
    "asia-pacific",
    "japan",
    "australia",
];

/// Round-trip times between [`REGIONS_2019`] in milliseconds.
pub const RTT_MS_2019: [[u64; 6]; 6] = [
    [32, 124, 184, 198, 151, 189],
    [124, 11, 227, 237, 252, 294],
    [184, 227, 88, 325, 301, 322],
    [198, 237, 325, 85, 58, 198],
    [151, 252, 301, 58, 12, 126],
    [189, 294, 322, 198, 126, 16],
];

/// Access rates in [`REGIONS_2019`], up and down, in bits per second.
pub const ACCESS_2019: [(u64, u64); 6] = [
    (19_200_000, 52_000_000),
    (20_700_000, 40_000_000),
    (5_800_000, 18_000_000),
    (15_700_000, 22_800_000),
    (10_200_000, 22_800_000),
    (11_300_000, 29_900_000),
];

/// An autonomous system of a [`Topology`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct AsId(pub u16);

/// A region of a [`Topology`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionId(NodeIndex);

impl Default for Topology {
    fn default() -> Self {
        Self::new()
    }
}

/// Regions, the autonomous systems in them, and what lies between.
#[derive(Clone, Debug)]
pub struct Topology {
    /// Nodes are names; edges are round-trip times in nanoseconds. A region's edge to itself is the time within it.
    graph: UnGraph<String, u64>,
    regions: Vec<RegionId>,
    systems: Vec<(NodeIndex, RegionId)>,
    /// Of every packet between two hosts.
    loss: Probability,
    jitter: Jitter,
    /// Lost in addition between two regions.
    losses: Vec<(RegionId, RegionId, Probability)>,
}

impl Topology {
    /// No regions yet.
    pub fn new() -> Self {
        Self {
            graph: UnGraph::default(),
            regions: Vec::new(),
            systems: Vec::new(),
            loss: Probability::ZERO,
            jitter: Jitter::default(),
            losses: Vec::new(),
        }
    }

    /// The six regions of [`REGIONS_2019`] with one autonomous system each, [`AsId`] 0 to 5 in that order.
    pub fn simblock_2019() -> Self {
        let mut topology = Self::new();
        let regions: Vec<RegionId> = REGIONS_2019
            .iter()
            .enumerate()
            .map(|(n, name)| topology.add_region(name, rtt(n, n)))
            .collect();
        for (a, one) in regions.iter().enumerate() {
            for (b, two) in regions.iter().enumerate().skip(a + 1) {
                topology.connect(*one, *two, rtt(a, b));
            }
            topology.add_system(REGIONS_2019[a], *one, Duration::ZERO);
        }
        topology
    }

    /// Adds a region; `within` is the round trip between two hosts of it.
    pub fn add_region(&mut self, name: &str, within: Duration) -> RegionId {
        let node = self.graph.add_node(name.to_owned());
        self.graph.add_edge(node, node, nanos(within));
        self.regions.push(RegionId(node));
        RegionId(node)
    }

    /// Sets the round trip between two regions.
    pub fn connect(&mut self, one: RegionId, two: RegionId, round_trip: Duration) {
        self.graph.update_edge(one.0, two.0, nanos(round_trip));
    }

    /// Sets what befalls every packet between two hosts: the chance that it is lost, and how much longer it takes.
    pub fn weather(&mut self, loss: Probability, jitter: Jitter) {
        (self.loss, self.jitter) = (loss, jitter);
    }

    /// Loses packets between two regions, either way, on top of what is lost anyway.
    pub fn lose(&mut self, one: RegionId, two: RegionId, loss: Probability) {
        self.losses.push((one, two, loss));
    }

    /// Adds an autonomous system in `region`, whose hosts are `extra` (round trip) further from everybody else.
    pub fn add_system(&mut self, name: &str, region: RegionId, extra: Duration) -> AsId {
        let node = self.graph.add_node(name.to_owned());
        self.graph.add_edge(node, region.0, nanos(extra));
        self.systems.push((node, region));
        AsId(u16::try_from(self.systems.len() - 1).unwrap_or(u16::MAX))
    }

    /// The region called `name`.
    pub fn region(&self, name: &str) -> Option<RegionId> {
        self.regions
            .iter()
            .copied()
            .find(|region| self.graph[region.0] == name)
    }

    /// The autonomous system called `name`.
    pub fn system(&self, name: &str) -> Option<AsId> {
        let found = self
            .systems
            .iter()
            .position(|(node, _)| self.graph[*node] == name)?;
        u16::try_from(found).ok().map(AsId)
    }

    /// How many autonomous systems there are.
    pub fn systems(&self) -> usize {
        self.systems.len()
    }

    /// One-way delays in nanoseconds between systems. A direct edge between two regions is what was measured and stands
    /// as it is; only regions without one are joined by their shortest path.
    pub(crate) fn delays(&self) -> Delays {
        let between = self.regions.iter().flat_map(|one| {
            let reach = dijkstra(&self.graph, one.0, None, |edge| *edge.weight());
            self.regions.iter().map(move |two| {
                let round_trip = self.edge(one.0, two.0).or_else(|| reach.get(&two.0).copied())?;
                Some(Between {
                    round_trip,
                    loss: self.loss_between(*one, *two),
                })
            })
        });
        Delays {
            regions: self.regions.len(),
            between: between.collect(),
            jitter: self.jitter.clone(),
            systems: self
                .systems
                .iter()
                .map(|(node, region)| {
                    let number = self.regions.iter().position(|other| other == region);
                    (number.unwrap_or(0), self.edge(*node, region.0).unwrap_or(0))
                })
                .collect(),
        }
    }

    /// What gets through all that lies between two regions is not lost.
    fn loss_between(&self, one: RegionId, two: RegionId) -> Probability {
        let through = self
            .losses
            .iter()
            .filter(|(a, b, _)| (*a, *b) == (one, two) || (*b, *a) == (one, two))
            .fold(1.0 - self.loss.get(), |through, (_, _, loss)| {
                through * (1.0 - loss.get())
            });
        Probability::new(1.0 - through).unwrap_or(Probability::ONE)
    }

    fn edge(&self, one: NodeIndex, two: NodeIndex) -> Option<u64> {
        self.graph.find_edge(one, two).map(|edge| self.graph[edge])
    }
}

fn rtt(one: usize, two: usize) -> Duration {
    Duration::from_millis(RTT_MS_2019[one][two])
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Ways between systems. Round trips are kept per pair of regions, of which there are few; a thousand systems add one
/// number each.
#[derive(Clone, Debug)]
pub(crate) struct Delays {
    regions: usize,
    /// Between two regions, row by row; `None`: nothing joins them.
    between: Vec<Option<Between>>,
    /// Each system's region, and how much longer the round trip to its hosts is.
    systems: Vec<(usize, u64)>,
    /// Of every packet.
    pub(crate) jitter: Jitter,
}

#[derive(Clone, Copy, Debug)]
struct Between {
    round_trip: u64,
    loss: Probability,
}

/// The way from one system to another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    /// Nanoseconds without jitter.
    pub(crate) delay: u64,
    pub(crate) loss: Probability,
}

impl Delays {
    /// From `one` to `two`; `None` if nothing joins them.
    pub(crate) fn way(&self, one: AsId, two: AsId) -> Option<Way> {
        let (region, extra) = *self.systems.get(usize::from(one.0))?;
        let (other, other_extra) = *self.systems.get(usize::from(two.0))?;
        let between = (*self.between.get(region * self.regions + other)?)?;
        let extra = if one == two { 0 } else { extra + other_extra };
        Some(Way {
            delay: (between.round_trip + extra) / 2,
            loss: between.loss,
        })
    }

    /// The one-way delay from `one` to `two` without jitter; `None` if nothing joins them.
    pub(crate) fn between(&self, one: AsId, two: AsId) -> Option<u64> {
        self.way(one, two).map(|way| way.delay)
    }

    /// Whether there is such a system.
    pub(crate) fn knows(&self, system: AsId) -> bool {
        usize::from(system.0) < self.systems.len()
    }
}

/// What lies between hosts.
#[derive(Clone, Debug)]
pub enum Network {
    /// The same one-way delay between all hosts; no rates, no jitter, no loss: for measuring the engine.
    Fixed(Duration),
    /// The full model.
    Modelled(Topology),
}

impl Default for Network {
    fn default() -> Self {
        Self::Modelled(Topology::simblock_2019())
    }
}

/// A host's access link.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Access {
    /// Towards the network.
    pub up: BitRate,
    /// From the network.
    pub down: BitRate,
    /// Bytes that wait in front of either direction before packets are dropped.
    pub queue_bytes: u64,
    /// The most that a packet is delayed at random, uniformly.
    pub jitter: Duration,
    /// Chance that a packet of this host is lost on the way, in either direction.
    pub loss: Probability,
    /// Whether either queue drops by waiting time as well (CoDel, RFC 8289).
    pub codel: bool,
    /// What else goes wrong, in each direction by itself.
    pub mishaps: Mishaps,
}

impl Access {
    /// A link with these rates in bits per second (at least 1), a queue of 256 KiB, no jitter and no loss.
    pub fn new(up: u64, down: u64) -> Self {
        Self {
            up: rate(up),
            down: rate(down),
            queue_bytes: 256 << 10,
            jitter: Duration::ZERO,
            loss: Probability::ZERO,
            codel: false,
            mishaps: Mishaps::default(),
        }
    }

    /// The median link of one of [`REGIONS_2019`] (Europe for an unknown index), with 2 ms of jitter.
    pub fn of_region_2019(region: usize) -> Self {
        let (up, down) = ACCESS_2019.get(region).copied().unwrap_or(ACCESS_2019[1]);
        Self {
            jitter: Duration::from_millis(2),
            ..Self::new(up, down)
        }
    }

    /// A server in a data centre: 1 Gbit/s both ways, a queue of 4 MiB.
    pub fn server() -> Self {
        Self {
            queue_bytes: 4 << 20,
            ..Self::new(1_000_000_000, 1_000_000_000)
        }
    }
}

impl Default for Access {
    fn default() -> Self {
        Self::of_region_2019(1)
    }
}

fn rate(bits_per_second: u64) -> BitRate {
    match BitRate::new(bits_per_second.max(1)) {
        Some(rate) => rate,
        None => unreachable!("at least 1"),
    }
}

/// The translator that a host stands behind. Hosts with the same outside addresses share one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NatSpec {
    /// What others see; one address per family.
    pub outside: Vec<IpAddr>,
    /// How long a UDP mapping lives without outgoing traffic. RFC 4787 asks for 2 minutes, many give 30 s.
    pub udp_idle: Duration,
}

impl NatSpec {
    /// A translator with this IPv4 or IPv6 address and mappings of 30 s.
    pub fn new(outside: IpAddr) -> Self {
        Self {
            outside: vec![outside],
            udp_idle: Duration::from_secs(30),
        }
    }
}

/// A host to be added.
#[derive(Clone, Debug)]
pub struct HostSpec {
    /// For people.
    pub name: String,
    /// Its autonomous system.
    pub system: AsId,
    /// Its addresses. None: the world gives it an IPv4 address (public, or private behind a NAT).
    pub addresses: Vec<IpAddr>,
    /// Its access link.
    pub access: Access,
    /// Its translator, if it cannot be dialled.
    pub nat: Option<NatSpec>,
    /// Whether it is inside the censor's border.
    pub inside: bool,
    /// The resolver it asks: a host's address; `None`: one in its own system, on its own side of the border.
    pub resolver: Option<IpAddr>,
    /// Its clock.
    pub wall: Wall,
}

impl HostSpec {
    /// A public host outside the border with a European access link and a correct clock.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            system: AsId(1),
            addresses: Vec::new(),
            access: Access::default(),
            nat: None,
            inside: false,
            resolver: None,
            wall: Wall::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_the_2019_matrix_halved() {
        let delays = Topology::simblock_2019().delays();
        for (a, row) in RTT_MS_2019.iter().enumerate() {
            for (b, ms) in row.iter().enumerate() {
                assert_eq!(*ms, RTT_MS_2019[b][a], "symmetric");
                let one_way = delays.between(AsId(a as u16), AsId(b as u16));
                assert_eq!(one_way, Some(ms * 500_000), "{a} {b}");
            }
        }
    }

    #[test]
    fn regions_without_an_edge_are_joined_by_the_shortest_path() {
        let ms = Duration::from_millis;
        let mut topology = Topology::new();
        let [a, b, c] = ["a", "b", "c"].map(|name| topology.add_region(name, ms(2)));
        topology.connect(a, b, ms(10));
        topology.connect(b, c, ms(20));
        let one = topology.add_system("one", a, ms(4));
        let three = topology.add_system("three", c, ms(6));
        let lonely = topology.add_region("island", ms(1));
        let island = topology.add_system("four", lonely, ms(0));
        let delays = topology.delays();
        assert_eq!(delays.between(one, three), Some(20_000_000));
        assert_eq!(delays.between(one, one), Some(1_000_000));
        assert_eq!(delays.between(one, island), None);
        assert_eq!(topology.system("three"), Some(three));
    }

    #[test]
    fn the_loss_between_two_regions_falls_on_no_other_pair() {
        let ms = Duration::from_millis;
        let mut topology = Topology::new();
        let [a, b, c] = ["a", "b", "c"].map(|name| topology.add_region(name, ms(2)));
        for (one, two) in [(a, b), (b, c), (a, c)] {
            topology.connect(one, two, ms(10));
        }
        let [a_as, b_as, c_as] = [a, b, c].map(|region| topology.add_system("", region, ms(0)));
        let half = Probability::new(0.5).unwrap();
        topology.weather(half, Jitter::default());
        topology.lose(a, b, half);
        let delays = topology.delays();
        let loss = |one, two| delays.way(one, two).map(|way| way.loss.get());
        assert_eq!((loss(a_as, b_as), loss(b_as, a_as)), (Some(0.75), Some(0.75)));
        for (one, two) in [(a_as, a_as), (a_as, c_as), (b_as, c_as)] {
            assert_eq!(loss(one, two), Some(0.5));
        }
    }
}
