//! What `forge-dns` may say: addresses, how many made-up ones, or a table with all there is to say.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use phantom_placed::words::shortened;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::engine::rule::Forgery;

/// Made-up addresses at most.
pub const MADE_UP_MAX: u32 = 10_000;
/// Addresses in an answer, if the file does not say it.
const EACH: u32 = 2;

/// The forged answers of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForgeText {
    /// The addresses in use.
    pub answers: Answers,
    /// How many of them in one answer. Default: 2, or all that are listed.
    pub each: Option<u32>,
    /// Whether the true answer comes as well, behind the lie. Default: yes, as behind a censor beside the path.
    pub true_answer: bool,
}

/// Which addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Answers {
    /// These; none: there is no such name.
    These(Vec<IpAddr>),
    /// So many of 198.18.0.0/15, where nobody lives (RFC 2544).
    MadeUp(u32),
}

impl Answers {
    /// The addresses.
    pub fn addresses(&self) -> Vec<IpAddr> {
        /// The block has 2^17 addresses; an odd step visits each once.
        const STEP: u32 = 0x9E37;
        match self {
            Self::These(these) => these.clone(),
            Self::MadeUp(count) => (1..=*count)
                .map(|n| Ipv4Addr::from_bits(0xC612_0000 + n.wrapping_mul(STEP) % (1 << 17)).into())
                .collect(),
        }
    }
}

impl ForgeText {
    /// What the engine does.
    pub fn forgery(&self) -> Forgery {
        let pool = self.answers.addresses();
        let each = match (self.each, &self.answers) {
            (Some(each), _) => each as usize,
            (None, Answers::These(these)) => these.len(),
            (None, Answers::MadeUp(_)) => EACH as usize,
        };
        Forgery {
            pool,
            each,
            holds_back: !self.true_answer,
        }
    }

    fn of(answers: Answers) -> Self {
        Self {
            answers,
            each: None,
            true_answer: true,
        }
    }
}

struct AnswersVisitor;

impl<'de> Visitor<'de> for AnswersVisitor {
    type Value = Answers;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of addresses, or how many made-up ones")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Answers, A::Error> {
        let mut these = Vec::new();
        while let Some(text) = seq.next_element::<String>()? {
            let wanted = || {
                format!(
                    "wanted an address such as \"192.0.2.1\", got \"{}\"",
                    shortened(&text)
                )
            };
            these.push(text.parse().map_err(|_| serde::de::Error::custom(wanted()))?);
        }
        Ok(Answers::These(these))
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Answers, E> {
        match u32::try_from(number) {
            Ok(count @ 1..=MADE_UP_MAX) => Ok(Answers::MadeUp(count)),
            _ => Err(E::custom(format!(
                "wanted 1 to {MADE_UP_MAX} forged addresses, got {number}"
            ))),
        }
    }
}

impl<'de> Deserialize<'de> for Answers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnswersVisitor)
    }
}

/// The table.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Table {
    answers: Answers,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    each: Option<u32>,
    #[serde(default = "yes")]
    true_answer: bool,
}

const fn yes() -> bool {
    true
}

impl<'de> Deserialize<'de> for ForgeText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = ForgeText;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of addresses, how many made-up ones, or a table with 'answers', 'each' and 'true-answer'")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<ForgeText, A::Error> {
                AnswersVisitor.visit_seq(seq).map(ForgeText::of)
            }

            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<ForgeText, E> {
                AnswersVisitor.visit_i64(number).map(ForgeText::of)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ForgeText, A::Error> {
                let table = Table::deserialize(MapAccessDeserializer::new(map))?;
                Ok(ForgeText {
                    answers: table.answers,
                    each: table.each,
                    true_answer: table.true_answer,
                })
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl Serialize for ForgeText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.each.is_none() && self.true_answer {
            return self.answers.serialize(serializer);
        }
        let table = Table {
            answers: self.answers.clone(),
            each: self.each,
            true_answer: self.true_answer,
        };
        table.serialize(serializer)
    }
}

impl JsonSchema for ForgeText {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ForgeText".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let answers = json_schema!({ "anyOf": [
            { "type": "array", "items": { "type": "string" }, "description": "These addresses; none: there is no such name." },
            { "type": "integer", "minimum": 1, "maximum": MADE_UP_MAX, "description": "So many made-up addresses." },
        ]});
        json_schema!({ "anyOf": [answers, {
            "type": "object",
            "properties": {
                "answers": answers,
                "each": { "type": "integer", "minimum": 1, "description": "How many in one answer." },
                "true-answer": { "type": "boolean", "default": true, "description": "Whether the true answer comes behind." },
            },
            "required": ["answers"],
            "additionalProperties": false,
        }]})
    }
}
