//! What a rule does to packets, and what follows for other flows, as a file says it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::forgery::ForgeText;
use super::probe::ProbeText;
use super::units::{Percent, Rate, Size, Time};
use super::{all, is_all, is_default, yes};
use crate::engine::residual::{Residual, Tuple};
use crate::engine::rule::{self, Bucket, Way};

/// What is done to packets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Action {
    /// They are lost.
    Drop,
    /// They are lost, and these ends get a reset.
    #[serde(rename_all = "kebab-case")]
    Reset {
        /// The end that opened the connection. Default: yes.
        #[serde(default = "yes")]
        client: bool,
        /// The other. Default: yes.
        #[serde(default = "yes")]
        server: bool,
    },
    /// What exceeds a token bucket is lost, each way for itself.
    Police {
        /// What comes in.
        rate: Rate,
        /// How much is in it at most.
        burst: Size,
        /// Whose it is. Default: each flow's own.
        #[serde(default = "own_bucket")]
        bucket: Bucket,
    },
    /// They come later.
    Delay(Time),
    /// A question gets an answer with these addresses ahead of the true one; none: there is no such name. A number: so many
    /// made-up addresses.
    ForgeDns(ForgeText),
    /// They pass; the server is probed, and blocked if it answers like a proxy.
    Probe(Box<ProbeText>),
}

/// What follows for other flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ResidualText {
    /// What they have in common with the one that was caught.
    pub tuple: Tuple,
    /// For how long.
    #[serde(rename = "for")]
    pub lasts: Time,
    /// On which share of them it falls: a flow is hit as a whole or not at all. Default: 100 %.
    #[serde(default = "all", skip_serializing_if = "is_all")]
    pub share: Percent,
    /// Every packet that it hits starts the time anew. Default: no.
    #[serde(default, skip_serializing_if = "is_default")]
    pub renewed: bool,
    /// Which of their packets. Default: both ways.
    #[serde(default, skip_serializing_if = "is_default")]
    pub way: Way,
    /// What is done to them. Default: they are lost.
    #[serde(default, skip_serializing_if = "is_default")]
    pub action: ResidualAction,
}

/// What a residual block does to packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ResidualAction {
    /// They are lost.
    #[default]
    Drop,
    /// They are lost, and both ends get a reset.
    Reset,
}

impl From<ResidualText> for Residual {
    fn from(text: ResidualText) -> Self {
        Self {
            tuple: text.tuple,
            for_ns: text.lasts.0,
            share: text.share.of_2_32(),
            renewed: text.renewed,
            way: text.way,
            resets: text.action == ResidualAction::Reset,
        }
    }
}

impl Action {
    pub(super) fn action(&self) -> rule::Action {
        match self {
            Self::Drop => rule::Action::Drop,
            Self::Reset { client, server } => rule::Action::Reset {
                client: *client,
                server: *server,
            },
            Self::Police { rate, burst, bucket } => rule::Action::Police {
                bits_per_second: rate.0,
                burst_bytes: burst.0,
                bucket: *bucket,
            },
            Self::Delay(time) => rule::Action::Delay(time.0),
            Self::ForgeDns(forged) => rule::Action::Forge(forged.forgery()),
            Self::Probe(probe) => rule::Action::Probe(Box::new(probe.config())),
        }
    }
}

const fn own_bucket() -> Bucket {
    Bucket::Flow
}
