//! What a scenario file says of what breaks.

use phantom_placed::Placed;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::file::{one, yes};
use super::units::{Spread, Time};

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
