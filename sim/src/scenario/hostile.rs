//! What a scenario file says of those who are against it: the censor's rules, and faults.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::de::Placed;
use super::file::{Switch, one, yes};
use super::units::{Spread, Time};

/// The censor and its rules.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Censor {
    /// The two regions between which it sits; the first is the inside.
    pub at: [Placed<String>; 2],
    /// Tried in order, the first that matches acts.
    #[serde(default)]
    pub rule: Vec<Rule>,
}

/// A rule of the censor: what it matches, what it does, and when.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Rule {
    /// Its name: in reports, and for a scenario that changes it.
    pub name: Placed<String>,
    /// Whether it is used at all.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Acts from here on.
    #[serde(default)]
    pub from: Placed<Time>,
    /// Acts until here; left out, until the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Placed<Time>>,
    /// What it acts on: all that is given must hold; nothing given matches everything.
    #[serde(rename = "match", default)]
    pub matching: Match,
    /// What it does.
    pub action: Action,
    /// Where the numbers come from.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
}

impl Default for Placed<Time> {
    fn default() -> Self {
        Time::default().into()
    }
}

/// What a rule acts on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Match {
    /// The address outside is one of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Addresses>,
    /// The packet asks DNS for one of these names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns_name: Option<Names>,
    /// The protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    /// The port outside is one of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<u16>,
    /// The port outside is none of these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub except_ports: Vec<u16>,
}

/// A set of addresses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Addresses {
    /// What every copy of the client ships with, and the DHT's published routers.
    Published,
    /// Every service node that the directory lists.
    Directory,
    /// Bridges that an insider has learned of, so long after it did.
    #[serde(rename_all = "kebab-case")]
    LearnedByInsiders {
        /// From learning to blocking.
        #[serde(default)]
        lag: Time,
    },
    /// Everybody in a population.
    Population(Placed<String>),
    /// These.
    These(Vec<IpAddr>),
}

/// A set of names.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Names {
    /// The names of all published entries.
    Published,
    /// These and what is below them.
    These(Vec<String>),
}

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// What a rule does with what it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Discards the packets, both ways; nobody is told.
    Drop {},
    /// Resets the connection at both ends.
    Reset {},
    /// Answers a DNS question itself, ahead of the true answer, which passes or not.
    #[serde(rename_all = "kebab-case")]
    ForgeDns {
        /// From how many addresses it picks.
        #[serde(default = "default_forged")]
        addresses: Placed<u32>,
        /// Whether the true answer still arrives.
        #[serde(default)]
        true_answer: Switch,
    },
}

/// Something that breaks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Fault {
    /// Its name.
    pub name: Placed<String>,
    /// Whether it happens at all.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// The population it befalls.
    pub on: Placed<String>,
    /// From here on.
    pub from: Placed<Time>,
    /// Until here; left out, it happens once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Placed<Time>>,
    /// How long from one to the next, over the whole population.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub every: Option<Placed<Spread>>,
    /// How many peers each time.
    #[serde(default = "one")]
    pub peers: u64,
    /// What happens.
    #[serde(rename = "do")]
    pub what: Breakage,
}

/// What happens to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Breakage {
    /// It stops at once, loses what it had not synced, and starts again.
    #[serde(rename_all = "kebab-case")]
    Crash {
        /// How long it stays down.
        down: Spread,
    },
    /// It crashes and starts again with an empty disk.
    #[serde(rename_all = "kebab-case")]
    LoseDisk {
        /// How long it stays down.
        down: Spread,
    },
    /// It crashes for good.
    Vanish {},
    /// Its wall clock jumps.
    #[serde(rename_all = "kebab-case")]
    StepClock {
        /// How far.
        by: Time,
        /// Which way.
        #[serde(default)]
        direction: Direction,
    },
}

/// Which way a clock jumps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// Into the past.
    #[default]
    Back,
    /// Into the future.
    Forward,
}

fn default_forged() -> Placed<u32> {
    600.into()
}
