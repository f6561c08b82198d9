//! The action `probe` as a file has it: what is left out is as published.

use std::fmt;
use std::net::IpAddr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use super::ResidualText;
use super::units::{Percent, Time};
use crate::engine::residual::Residual;
use crate::prober::config::{FROM_MAX, Origins};
use crate::prober::delay::Delay;
use crate::prober::judge::Judge;
use crate::prober::{Config, Kind, Sign};

/// How the servers of suspects are probed. Each default has its source at [`Config`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct ProbeText {
    /// What is sent. Default: the seven kinds that were seen at Shadowsocks servers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kinds: Option<Vec<Kind>>,
    /// The least delay. Default: 0.28 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_min: Option<Time>,
    /// Which shares of the probes come within which times; the last share is 100 %. Default: 20 % within 1 s, 50 % within 1 min,
    /// 75 % within 15 min, all within 10 h.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay: Option<Vec<Within>>,
    /// How long an answer is waited for. Default: 10 s.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patience: Option<Time>,
    /// Where probes come from: so many addresses, or these. Default: 16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Origins>,
    /// By what a server is taken for a proxy. Default: a replay is answered, a random probe is closed by its length; as far
    /// as the kinds can show it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signs: Option<Vec<Sign>>,
    /// So many answers to replays make a sign. Default: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<u32>,
    /// So many silences, without anything else, make a sign. Default: 10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silences: Option<u32>,
    /// On so many of the servers that are found a block follows. Default: 100 %.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocks: Option<Percent>,
    /// The block. Default: the server's address for 12 h, renewed by packets, what comes from it dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block: Option<ResidualText>,
    /// The most probes of a server. Default: 200.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probes_max: Option<u32>,
}

/// A share of probes and the time within which they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Within {
    /// So many.
    pub share: Percent,
    /// The time.
    pub within: Time,
}

impl ProbeText {
    /// As the engine and the prober take it.
    pub(super) fn config(&self) -> Config {
        let published = Config::default();
        let kinds = match &self.kinds {
            Some(kinds) => kinds.iter().copied().collect(),
            None => published.kinds,
        };
        let delay = Delay {
            min_ns: self.delay_min.map_or(published.delay.min_ns, |time| time.0),
            within: match &self.delay {
                Some(points) => {
                    (points.iter().map(|point| (point.share.of_2_32(), point.within.0))).collect()
                }
                None => published.delay.within,
            },
        };
        let signs = match &self.signs {
            Some(signs) => signs.iter().copied().collect(),
            None => {
                let mut signs = published.judge.signs;
                signs.retain(|sign| match sign {
                    Sign::ReplayAnswered => kinds.iter().any(|kind: &Kind| kind.is_replay()),
                    Sign::CloseThreshold => kinds.contains(&Kind::Nr1),
                    Sign::Silence => true,
                });
                signs
            }
        };
        Config {
            kinds,
            delay,
            patience_ns: self.patience.map_or(published.patience_ns, |time| time.0),
            from: self.from.clone().unwrap_or(published.from),
            judge: Judge {
                signs,
                answers: self.answers.unwrap_or(published.judge.answers),
                silences: self.silences.unwrap_or(published.judge.silences),
                at_once_ns: published.judge.at_once_ns,
            },
            blocks: self.blocks.map_or(published.blocks, Percent::of_2_32),
            block: self.block.map_or(published.block, Residual::from),
            probes_max: self.probes_max.unwrap_or(published.probes_max),
        }
    }
}

impl<'de> Deserialize<'de> for Origins {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberOrList;
        impl<'de> Visitor<'de> for NumberOrList {
            type Value = Origins;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of addresses, or a list of them such as [\"192.0.2.1\"]")
            }

            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Origins, E> {
                let number = u16::try_from(number).ok().filter(|number| *number > 0);
                let number =
                    number.ok_or_else(|| E::custom(format!("wanted 1 to {} addresses", FROM_MAX)))?;
                Ok(Origins::Number(number))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Origins, A::Error> {
                let mut addresses: Vec<IpAddr> = Vec::new();
                while let Some(address) = list.next_element()? {
                    addresses.push(address);
                }
                Ok(Origins::These(addresses))
            }
        }
        deserializer.deserialize_any(NumberOrList)
    }
}

impl JsonSchema for Origins {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Origins".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [
                { "type": "integer", "minimum": 1, "maximum": FROM_MAX },
                { "type": "array", "items": { "type": "string" } }
            ],
            "description": "a number of addresses, or a list of them"
        })
    }
}

impl Serialize for Origins {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Number(number) => serializer.serialize_u16(*number),
            Self::These(addresses) => serializer.collect_seq(addresses),
        }
    }
}
