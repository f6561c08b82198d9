//! What a scenario file says: these structs are the format, its JSON Schema, and what Rust tests build directly.
//!
//! No `kind =`, no `flatten`, no `untagged`: enums are externally tagged (`action = { drop = {} }`, or `"drop"`), so an
//! error points at the exact key. See `docs/SCENARIOS.md` for the format in prose.

use indexmap::IndexMap;
use phantom_core::transport::Kind;
use phantom_core::units::ByteCount;
use phantom_placed::Placed;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::units::{Rate, Seeds, Share, Size, SizeRange, Spread, Time};

/// The only format there is so far.
pub const FORMAT: u64 = 1;

/// A scenario: a claim about the world, the world, and who is against it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Scenario {
    /// The version of the format: 1.
    pub format: Placed<u64>,
    /// The file's name without `.toml`: `a-z`, `0-9` and `-`.
    pub name: Placed<String>,
    /// One line: what it shows.
    pub summary: String,
    /// Words to select by; `ci` puts it into the gate of every merge.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Another scenario that this one changes: tables merge by key, arrays of named tables by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extends: Option<Placed<String>>,
    /// How long, and how the run is bounded.
    pub run: Run,
    /// What `key=value` on the command line may set.
    #[serde(default)]
    pub params: IndexMap<String, Param>,
    /// Where: regions, links between them, access links.
    pub topology: Topology,
    /// Who.
    #[serde(default)]
    pub population: IndexMap<String, Population>,
    /// Who knows whom.
    #[serde(default)]
    pub graph: IndexMap<String, Graph>,
    /// Against whom; left out, nobody censors.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub censor: Option<Censor>,
    /// What breaks.
    #[serde(default)]
    pub fault: Vec<Fault>,
    /// Who does what.
    #[serde(default)]
    pub workload: Vec<Workload>,
    /// What must hold on every single seed.
    #[serde(default)]
    pub invariant: Vec<Invariant>,
    /// What must hold over many seeds.
    #[serde(default)]
    pub claim: Vec<Claim>,
    /// Which seeds and which grid a sweep goes through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sweep: Option<Sweep>,
    /// The size at which `check` plays it where the command line says nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ci: Option<Ci>,
}

impl Scenario {
    /// A scenario built in Rust: two regions, "inside" (behind NAT) and "outside", nobody in them yet. Everything that a
    /// file can say is a public field; [`super::load::built`] checks it as it checks a file.
    pub fn new(name: &str, duration: Time) -> Self {
        let region = |name: &str, area, nat| Region {
            name: name.into(),
            area,
            ases: one_as(),
            nat,
            ipv6: Switch::Off,
        };
        Self {
            format: FORMAT.into(),
            name: name.into(),
            summary: String::new(),
            tags: Vec::new(),
            extends: None,
            run: Run {
                duration: duration.into(),
                seed: one(),
                step_limit: default_step_limit(),
                clock_bound: default_clock_bound(),
                document_interval: default_document_interval(),
            },
            params: IndexMap::new(),
            topology: Topology {
                latency: Latency::default(),
                loss: no_share(),
                jitter: no_spread(),
                access: Access::default(),
                region: vec![
                    region("inside", Area::AsiaPacific, Switch::On),
                    region("outside", Area::Europe, Switch::Off),
                ],
                link: Vec::new(),
            },
            population: IndexMap::new(),
            graph: IndexMap::new(),
            censor: None,
            fault: Vec::new(),
            workload: Vec::new(),
            invariant: Vec::new(),
            claim: Vec::new(),
            sweep: None,
            ci: None,
        }
    }

    /// Adds `count` peers of one kind, all there from the start.
    #[must_use]
    pub fn with(mut self, population: &str, region: &str, count: u64, node: Node) -> Self {
        let population_of = Population {
            region: region.into(),
            count: Count::Extra(count).into(),
            node,
            arrive: None,
            access: None,
            clock_skew: None,
            published: None,
            transports: None,
        };
        self.population.insert(population.to_owned(), population_of);
        self
    }
}

/// How long, and how the run is bounded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Run {
    /// Simulated time from start to end.
    pub duration: Placed<Time>,
    /// The seed unless `seed=N` is given.
    #[serde(default = "one")]
    pub seed: u64,
    /// Events after which the run is an error (exit 3), never a pass.
    #[serde(default = "default_step_limit")]
    pub step_limit: u64,
    /// How far a peer's wall clock may be wrong; expiry is judged with this much slack.
    #[serde(default = "default_clock_bound")]
    pub clock_bound: Time,
    /// From one directory document to the next, in whole seconds. The world warms up for one interval and six more of
    /// them (at most 90 s) before the scenario's time begins, so that in real time a short one is a short wait.
    #[serde(default = "default_document_interval")]
    pub document_interval: Placed<Time>,
}

/// A parameter: what `key=value` may set. `"$name"` anywhere else in the file is its value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Param {
    /// Its value unless one is given; also its type.
    pub default: ParamValue,
    /// The least allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<ParamValue>,
    /// The most allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<ParamValue>,
    /// The only values allowed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<ParamValue>,
    /// One line for `phantom-sim list`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub help: String,
}

pub use super::censor::Censor;
pub use super::fault::{Breakage, Direction, Fault};
pub use super::params::ParamValue;

/// Where peers are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Topology {
    /// Round-trip times between the real regions that `region.area` names.
    #[serde(default)]
    pub latency: Latency,
    /// Share of packets lost on any path between two hosts.
    #[serde(default = "no_share")]
    pub loss: Share,
    /// Extra delay of a packet, each time anew.
    #[serde(default = "no_spread")]
    pub jitter: Spread,
    /// A host's own link unless its population says otherwise.
    #[serde(default)]
    pub access: Access,
    /// The regions.
    #[serde(default)]
    pub region: Vec<Region>,
    /// What lies between two regions beyond distance.
    #[serde(default)]
    pub link: Vec<Link>,
}

/// Where round-trip times come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Latency {
    /// The 2019 matrix of six regions of SimBlock (Apache-2.0).
    #[default]
    Regions2019,
}

/// A real part of the world, as the latency matrix divides it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Area {
    /// North America.
    NorthAmerica,
    /// Europe.
    Europe,
    /// South America.
    SouthAmerica,
    /// Asia and the Pacific.
    AsiaPacific,
    /// Japan.
    Japan,
    /// Australia.
    Australia,
}

/// A region of the scenario: one side of a border.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Region {
    /// Its name in this file.
    pub name: Placed<String>,
    /// Where on earth, for round-trip times.
    pub area: Area,
    /// Over how many networks its hosts are spread.
    #[serde(default = "one_as")]
    pub ases: Placed<u32>,
    /// Whether its home hosts sit behind a NAT.
    #[serde(default)]
    pub nat: Switch,
    /// Whether its hosts have IPv6 as well.
    #[serde(default)]
    pub ipv6: Switch,
}

/// What lies between two regions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Link {
    /// The two regions.
    pub between: [Placed<String>; 2],
    /// Share of packets lost, on top of the topology's.
    #[serde(default = "no_share")]
    pub loss: Share,
    /// Round-trip time on top of the matrix.
    #[serde(default)]
    pub extra: Time,
}

/// A host's own link.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Access {
    /// Towards the host.
    pub down: Rate,
    /// From the host.
    pub up: Rate,
    /// Bytes that may wait in front of each direction.
    #[serde(default = "access_queue")]
    pub queue: Placed<Size>,
    /// Whether either queue drops by waiting time as well (CoDel, RFC 8289).
    #[serde(default)]
    pub codel: Switch,
    /// Packets lost, in each direction by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bursts: Option<Bursts>,
    /// Packets that others overtake, in each direction by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reordered: Option<Reordered>,
    /// Share of packets that come twice, in each direction by itself.
    #[serde(default = "no_share")]
    pub duplicated: Share,
}

/// Losses in bursts (Gilbert 1960): while it is bad all packets are lost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Bursts {
    /// Share of packets that are lost, over a long time; less than all.
    pub lost: Placed<Share>,
    /// Packets of a burst, in the mean; at least 1.
    pub length: Placed<u32>,
}

/// Packets that come late, and are overtaken by those behind them.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Reordered {
    /// Their share.
    pub share: Share,
    /// How much later they come.
    pub late: Time,
}

fn access_queue() -> Placed<Size> {
    Size(ByteCount(256 << 10)).into()
}

impl Default for Access {
    fn default() -> Self {
        let rate =
            |bits| Rate(phantom_core::units::BitRate::new(bits).unwrap_or_else(|| unreachable!("not zero")));
        Self {
            down: rate(30_000_000),
            up: rate(10_000_000),
            queue: access_queue(),
            codel: Switch::Off,
            bursts: None,
            reordered: None,
            duplicated: no_share(),
        }
    }
}

/// On or off, as people type it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Switch {
    /// Yes.
    On,
    /// No.
    #[default]
    Off,
}

impl Switch {
    /// Whether it is on.
    pub const fn is_on(self) -> bool {
        matches!(self, Self::On)
    }
}

/// Peers of one kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Population {
    /// The region they live in.
    pub region: Placed<String>,
    /// How many.
    pub count: Placed<Count>,
    /// What they are.
    pub node: Node,
    /// When they start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arrive: Option<Arrive>,
    /// Their own links, if not the topology's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access: Option<Access>,
    /// How wrong their wall clocks are, either way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clock_skew: Option<Spread>,
    /// The part of them that every copy of the client ships with, by address and by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<Published>,
    /// What bridges speak: the first at the port of links (443), each further one at the next port. Left out, `["plain"]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transports: Option<Placed<Vec<Transport>>>,
}

/// What a bridge speaks at one of its ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// Links and nothing around them.
    Plain,
    /// obfs4.
    Obfs4,
    /// obfs4 behind the beginning of an HTTP request.
    Obfs4Http,
    /// obfs4 behind the header of a TLS record.
    Obfs4Tls,
}

impl Transport {
    /// As the programs know it.
    pub const fn kind(self) -> Kind {
        match self {
            Self::Plain => Kind::Plain,
            Self::Obfs4 => Kind::Obfs4,
            Self::Obfs4Http => Kind::Obfs4Http,
            Self::Obfs4Tls => Kind::Obfs4Tls,
        }
    }
}

/// How many peers a population has.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Count {
    /// A share of `peers`, within bounds.
    #[serde(rename_all = "kebab-case")]
    Share {
        /// The share of `peers`.
        of_peers: Share,
        /// The least, however few peers there are.
        #[serde(default)]
        at_least: u64,
        /// The most, however many peers there are.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        at_most: Option<u64>,
    },
    /// So many of `peers`.
    Fixed(u64),
    /// Whatever the other populations leave of `peers`.
    Rest,
    /// So many besides `peers`.
    Extra(u64),
}

/// What a peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Node {
    /// A directory authority: votes and signs.
    Authority,
    /// A service node: listed in the directory document, relays and stores.
    Service,
    /// A bridge: a service node run unlisted.
    Bridge,
    /// A client.
    Client(ClientNode),
    /// The censor's own client: asks for bridges as users do and tells the censor.
    Insider(ClientNode),
    /// A node of BitTorrent's Mainline DHT, not ours.
    Dht,
    /// A published entry point of that DHT.
    DhtRouter,
}

/// The steps of the bootstrap ladder that a client has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ClientNode {
    /// The static list, by address and by name, and the directory's listed nodes.
    #[serde(default = "on")]
    pub published: Switch,
    /// Rendezvous over the Mainline DHT.
    #[serde(default = "on")]
    pub dht: Switch,
    /// Friends' invitations.
    #[serde(default = "on")]
    pub friends: Switch,
    /// Mean time between two polls of the mailbox (a Poisson process); at least 1 ms.
    #[serde(default = "default_poll")]
    pub poll: Placed<Time>,
}

impl Default for ClientNode {
    fn default() -> Self {
        Self {
            published: Switch::On,
            dht: Switch::On,
            friends: Switch::On,
            poll: default_poll(),
        }
    }
}

/// When peers start.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Arrive {
    /// The first may start now.
    #[serde(default)]
    pub from: Time,
    /// All have started this much later.
    pub over: Placed<Time>,
}

/// The part of a population that is published.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Published {
    /// Which share of them.
    #[serde(default = "all_share")]
    pub share: Share,
    /// At least so many.
    #[serde(default)]
    pub at_least: u64,
    /// Also by name: `<population>-<n>.<domain>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<Placed<String>>,
}

/// Who knows whom.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Graph {
    /// `small-world`: within these populations taken together; `each`: from the first to the second.
    pub among: Vec<Placed<String>>,
    /// How the edges are drawn.
    pub model: Model,
    /// What goes along the edges.
    pub carries: Carries,
    /// How long that takes, each time anew.
    #[serde(default = "no_spread")]
    pub delay: Spread,
}

/// How the edges of a graph are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Model {
    /// Watts and Strogatz: a ring of `degree` neighbours, a share of the edges moved elsewhere.
    #[serde(rename_all = "kebab-case")]
    SmallWorld {
        /// Edges per peer, even.
        degree: Placed<u32>,
        /// Share of edges that lead elsewhere.
        #[serde(default = "no_share")]
        rewire: Share,
    },
    /// Peers of the second population are tied to `degree` of the first.
    #[serde(rename_all = "kebab-case")]
    Each {
        /// Edges per peer of the second population.
        degree: Placed<u32>,
        /// Which share of the second population has such edges.
        #[serde(default = "all_share")]
        share: Share,
    },
}

/// What goes along the edges of a graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Carries {
    /// Messages: the two have exchanged keys.
    Messages,
    /// Invitations, out of band.
    Invitations,
}

/// Who does what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Workload {
    /// Its name.
    pub name: Placed<String>,
    /// The population that does it.
    pub by: Placed<String>,
    /// From when on, for each peer; `connected` unless given.
    #[serde(default = "connected")]
    pub start: Placed<Start>,
    /// No more after this; left out, until the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Placed<Time>>,
    /// What it does.
    #[serde(rename = "do")]
    pub what: Deed,
}

/// From when on a peer works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// When it starts.
    OnArrival,
    /// When it has been connected for the first time.
    Connected,
    /// At this time.
    At(Time),
}

/// What a workload does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Deed {
    /// Writes messages to contacts.
    #[serde(rename_all = "kebab-case")]
    Write {
        /// The graph whose edges are contacts.
        to: Placed<String>,
        /// From one message to the next, each time to a contact drawn anew; at least 1 ms on average.
        every: Placed<Spread>,
        /// How large.
        size: Placed<SizeRange>,
        /// How long a message may live.
        ttl: Placed<Time>,
    },
    /// Asks for bridges by every step it has, as a user does: insiders, from their arrival to the end.
    #[serde(rename_all = "kebab-case")]
    AskForBridges {
        /// From one asking to the next; at least 1 ms on average.
        every: Placed<Spread>,
    },
}

/// What must hold on every single seed: exactly one of `always`, `never`, `eventually`, `sometimes`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Invariant {
    /// What it promises, in words.
    pub name: Placed<String>,
    /// Holds whenever it is looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub always: Option<Placed<String>>,
    /// Holds at no time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub never: Option<Placed<String>>,
    /// Holds at some time from `after` until `within` later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eventually: Option<Placed<String>>,
    /// Holds at least once in the run: shows that the test tests something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sometimes: Option<Placed<String>>,
    /// Looked at from here on; for `eventually`, where its time begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Placed<Time>>,
    /// Looked at until here (`always`, `never`, `sometimes`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Placed<Time>>,
    /// How long `eventually` may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<Placed<Time>>,
}

/// What must hold over many seeds: `over` with `proportion`, or `value` with `interval`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Claim {
    /// What it promises, in words.
    pub name: Placed<String>,
    /// True or false for a run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over: Option<Placed<String>>,
    /// In which share of runs `over` is true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proportion: Option<Proportion>,
    /// A number for a run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Placed<String>>,
    /// Where a quantile of `value` over runs lies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Interval>,
}

/// In which share of runs something is true.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Proportion {
    /// The share claimed.
    pub at_least: Share,
    /// With what confidence it is proven.
    #[serde(default = "default_confidence")]
    pub confidence: Share,
}

/// Where a quantile over runs lies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Interval {
    /// The quantile over runs; the median unless given.
    #[serde(default = "median")]
    pub quantile: Share,
    /// It is at most this: a number, or text with a unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<Placed<ParamValue>>,
    /// It is at least this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<Placed<ParamValue>>,
    /// With what confidence it is proven.
    #[serde(default = "default_confidence")]
    pub confidence: Share,
    /// Undecided below so many runs: the unit of replication is the run, not the client.
    #[serde(default = "default_min_seeds")]
    pub min_seeds: u64,
}

/// Which seeds and which grid a sweep goes through.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Sweep {
    /// The seeds.
    pub seeds: Seeds,
    /// Parameter to the values it takes.
    #[serde(default)]
    pub grid: IndexMap<String, Placed<Vec<ParamValue>>>,
}

/// The size at which `check` plays a scenario where the command line says nothing else: the gate of every merge has minutes,
/// the scenario's own size may need hours.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Ci {
    /// How many seeds, from 1 on.
    #[serde(default = "ci_seeds")]
    pub seeds: Placed<u64>,
    /// Parameter to its value.
    #[serde(default)]
    pub set: IndexMap<String, Placed<ParamValue>>,
}

/// Seeds that `check` goes through where nobody says how many.
pub const CHECK_SEEDS: u64 = 20;
/// The most seeds that `check` goes through.
pub const CHECK_SEEDS_MAX: u64 = 1_000_000;

fn ci_seeds() -> Placed<u64> {
    CHECK_SEEDS.into()
}

pub(super) const fn one() -> u64 {
    1
}
const fn default_step_limit() -> u64 {
    2_000_000_000
}
const fn default_clock_bound() -> Time {
    Time::secs(5)
}
fn default_document_interval() -> Placed<Time> {
    Time::minutes(10).into()
}
fn default_poll() -> Placed<Time> {
    Time::secs(60).into()
}
fn connected() -> Placed<Start> {
    Start::Connected.into()
}
fn one_as() -> Placed<u32> {
    1.into()
}
const fn default_min_seeds() -> u64 {
    10
}
fn no_share() -> Share {
    share(0.0)
}
fn all_share() -> Share {
    Share::ALL
}
fn default_confidence() -> Share {
    share(0.95)
}
fn median() -> Share {
    share(0.5)
}
fn share(value: f64) -> Share {
    Share::new(value).unwrap_or(Share::ALL)
}
const fn no_spread() -> Spread {
    Spread::Fixed(Time::secs(0))
}
const fn on() -> Switch {
    Switch::On
}
pub(super) const fn yes() -> bool {
    true
}
