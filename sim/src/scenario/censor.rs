//! What a scenario file says of the censor: where it sits, its lists, its rules, and censors by name whose rules it has as well.
//!
//! A rule is written as in a censor's own file (`phantom_censor::file`, docs/CENSOR.md). What a scenario adds are lists that
//! only the world knows: `@published`, `@directory`, everybody in a population by its name, and what insiders learn.

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use phantom_censor::file::units::{Address, Pattern, Time as FlowIdle};
use phantom_censor::file::{List, Lists, RuleText};
use phantom_placed::Placed;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::file::{Node, Scenario, yes};
use super::units::Time;

/// The list of what every copy of the client ships with, and of the DHT's published routers: addresses and names.
pub const PUBLISHED: &str = "published";
/// The list of the addresses of the authorities and of every service node that the directory lists.
pub const DIRECTORY: &str = "directory";

/// The censor and its rules.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Censor {
    /// The two regions between which it sits; the first is the inside.
    pub at: [Placed<String>; 2],
    /// After so long without a packet it has forgotten a flow. Default: 120 s, or what a preset says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flow_idle: Option<Placed<FlowIdle>>,
    /// So many flows it remembers; one more, and it forgets the one that was idle longest. Default: 1,048,576, or what a preset says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flows_max: Option<Placed<NonZeroU32>>,
    /// Sets of addresses and names, for rules to speak of as "@name".
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub list: BTreeMap<String, Placed<ListText>>,
    /// Censors by name whose rules come behind those of `rule`; none are left once the scenario is resolved.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub preset: Vec<Preset>,
    /// Tried in order, the first that does something to a packet decides.
    #[serde(default)]
    pub rule: Vec<Placed<RuleText>>,
}

/// A set of addresses and names: all that is said here together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ListText {
    /// Addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<Address>,
    /// Names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<Pattern>,
    /// Bridges that an insider has learned of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learned_by_insiders: Option<Learned>,
    /// Everybody in so many autonomous systems of a region, the first ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub systems: Option<Systems>,
}

/// What insiders learn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Learned {
    /// From learning to being on the list.
    #[serde(default)]
    pub lag: Time,
}

/// Autonomous systems of a region.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Systems {
    /// The region.
    pub of: Placed<String>,
    /// How many of them.
    pub first: Placed<u32>,
}

/// A censor by name: one of the catalogue, or `censors/<name>.toml` beside the scenarios.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Preset {
    /// Its name; "none" for none, so that a parameter can choose.
    pub name: Placed<String>,
    /// Whether it is used at all.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Its rules hold from here on. Default: from the beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Placed<Time>>,
    /// Its rules hold until here. Default: until the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Placed<Time>>,
}

impl Scenario {
    /// The lists that rules may speak of, as far as they are known before a world is drawn: what is not, may grow.
    pub(super) fn lists(&self) -> Lists {
        let mut lists = Lists::default();
        let Some(censor) = &self.censor else {
            return lists;
        };
        let open = |grows| List {
            grows,
            ..List::default()
        };
        let published = || {
            self.population
                .values()
                .filter_map(|population| population.published.as_ref())
        };
        let domains = published().filter_map(|published| published.domain.as_ref());
        lists.insert(
            PUBLISHED,
            List {
                names: domains
                    .map(|domain| Pattern(format!("*.{}", domain.as_str())))
                    .collect(),
                ..open(published().next().is_some())
            },
        );
        let listed =
            |population: &super::file::Population| matches!(population.node, Node::Service | Node::Authority);
        lists.insert(DIRECTORY, open(self.population.values().any(listed)));
        for name in self.population.keys() {
            lists.insert(name, open(true));
        }
        for (name, text) in &censor.list {
            lists.insert(
                name,
                List {
                    addresses: text.addresses.clone(),
                    names: text.names.clone(),
                    grows: text.learned_by_insiders.is_some() || text.systems.is_some(),
                },
            );
        }
        lists
    }
}
