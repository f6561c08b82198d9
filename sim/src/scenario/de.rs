//! From the placed tree to the typed structs: a serde deserialiser whose errors carry the place of the exact key or value.
//!
//! It knows the keys of a struct and the variants of an enum from serde, so it refuses an unknown one itself, at its
//! place and with the choices. Enums are externally tagged: text for a bare variant, else a table with one key.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::value::StrDeserializer;
use serde::de::{DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer, forward_to_deserialize_any};

use super::source::{At, Problem};
use super::tree::{Node, Value};

const PLACED: &str = "$placed";
const PLACED_FIELDS: &[&str] = &["at", "value"];

/// A value that remembers its place in a file, for checks that need more than its own type.
#[derive(Clone, Copy, Debug)]
pub struct Placed<T> {
    /// Where it stands; [`At::NONE`] when it was built in Rust.
    pub at: At,
    /// The value.
    pub value: T,
}

impl<T> From<T> for Placed<T> {
    fn from(value: T) -> Self {
        Self { at: At::NONE, value }
    }
}

impl From<&str> for Placed<String> {
    fn from(value: &str) -> Self {
        Self {
            at: At::NONE,
            value: value.to_owned(),
        }
    }
}

impl<T> Deref for Placed<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: Eq> Eq for Placed<T> {}

/// Places do not count: two scenarios with the same content are equal.
impl<T: PartialEq> PartialEq for Placed<T> {
    fn eq(&self, other: &Self) -> bool {
        self.value == other.value
    }
}

impl<T: Serialize> Serialize for Placed<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(serializer)
    }
}

impl<T: JsonSchema> JsonSchema for Placed<T> {
    fn inline_schema() -> bool {
        T::inline_schema()
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        T::schema_name()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        T::json_schema(generator)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Placed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PlacedVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for PlacedVisitor<T> {
            type Value = Placed<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value with its place")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let wanted = || serde::de::Error::custom("only this module's deserialiser gives places");
                let _: &str = map.next_key()?.ok_or_else(wanted)?;
                let at = At::unpack(map.next_value()?);
                let _: &str = map.next_key()?.ok_or_else(wanted)?;
                Ok(Placed {
                    at,
                    value: map.next_value()?,
                })
            }
        }
        deserializer.deserialize_struct(PLACED, PLACED_FIELDS, PlacedVisitor(PhantomData))
    }
}

/// Reads `T` from a tree.
///
/// # Errors
/// The first problem found, with its place.
pub fn from_node<'a, T: Deserialize<'a>>(node: &'a Node) -> Result<T, Problem> {
    T::deserialize(De(node)).map_err(|problem| problem.or_at(node.at))
}

#[derive(Clone, Copy)]
struct De<'a>(&'a Node);

impl<'a> De<'a> {
    fn visit<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Problem> {
        match &self.0.value {
            Value::Text(text) => visitor.visit_borrowed_str(text),
            Value::Int(number) => visitor.visit_i64(*number),
            Value::Float(number) => visitor.visit_f64(*number),
            Value::Bool(value) => visitor.visit_bool(*value),
            Value::List(items) => visitor.visit_seq(Items(items.iter())),
            Value::Table(table) => visitor.visit_map(Entries {
                left: table.iter(),
                value: None,
            }),
        }
    }
}

impl<'a> Deserializer<'a> for De<'a> {
    type Error = Problem;

    fn deserialize_any<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Problem> {
        self.visit(visitor).map_err(|problem| problem.or_at(self.0.at))
    }

    fn deserialize_option<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Problem> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'a>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Problem> {
        if name == phantom_censor::file::PLACED {
            return visitor.visit_seq(PlacedPair {
                node: self.0,
                step: 0,
            });
        }
        visitor
            .visit_newtype_struct(self)
            .map_err(|problem| problem.or_at(self.0.at))
    }

    fn deserialize_struct<V: Visitor<'a>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        if name == PLACED {
            return visitor.visit_map(PlacedAccess {
                node: self.0,
                step: 0,
            });
        }
        let Value::Table(table) = &self.0.value else {
            return Err(Problem::new(
                self.0.at,
                format!("wanted a table, got {}", self.0.value.describe()),
            )
            .help(format!("keys: {}", fields.join(", "))));
        };
        for (key, (at, _)) in table {
            if !fields.contains(&key.as_str()) {
                return Err(Problem::unknown(*at, "key", key, fields.iter().copied()));
            }
        }
        visitor
            .visit_map(Entries {
                left: table.iter(),
                value: None,
            })
            .map_err(|problem| problem.or_at(self.0.at))
    }

    fn deserialize_enum<V: Visitor<'a>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        let (at, tag, content) = match &self.0.value {
            Value::Text(text) => (self.0.at, text.as_str(), None),
            Value::Table(table) if table.len() == 1 => match table.get_index(0) {
                Some((key, (at, node))) => (*at, key.as_str(), Some(node)),
                None => (self.0.at, "", None),
            },
            other => {
                let got = match other {
                    Value::Table(table) if table.is_empty() => "an empty table".to_owned(),
                    Value::Table(table) => {
                        format!(
                            "{} keys: {}",
                            table.len(),
                            table.keys().cloned().collect::<Vec<_>>().join(", ")
                        )
                    }
                    other => other.describe().to_owned(),
                };
                return Err(
                    Problem::new(self.0.at, format!("wanted exactly one of the choices, got {got}"))
                        .help(format!("choices: {}", variants.join(", "))),
                );
            }
        };
        if !variants.contains(&tag) {
            return Err(Problem::unknown(at, "choice", tag, variants.iter().copied()));
        }
        visitor
            .visit_enum(Choice { at, tag, content })
            .map_err(|problem| problem.or_at(at))
    }

    forward_to_deserialize_any! {
        <W: Visitor<'a>>
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq
        tuple tuple_struct map identifier ignored_any
    }
}

struct Items<'a>(std::slice::Iter<'a, Node>);

impl<'a> SeqAccess<'a> for Items<'a> {
    type Error = Problem;
    fn next_element_seed<T: DeserializeSeed<'a>>(&mut self, seed: T) -> Result<Option<T::Value>, Problem> {
        let Some(node) = self.0.next() else {
            return Ok(None);
        };
        seed.deserialize(De(node))
            .map(Some)
            .map_err(|problem| problem.or_at(node.at))
    }
}

struct Entries<'a> {
    left: indexmap::map::Iter<'a, String, (At, Node)>,
    value: Option<&'a Node>,
}

impl<'a> MapAccess<'a> for Entries<'a> {
    type Error = Problem;
    fn next_key_seed<K: DeserializeSeed<'a>>(&mut self, seed: K) -> Result<Option<K::Value>, Problem> {
        let Some((key, (at, node))) = self.left.next() else {
            return Ok(None);
        };
        self.value = Some(node);
        seed.deserialize(StrDeserializer::<Problem>::new(key))
            .map(Some)
            .map_err(|problem| problem.or_at(*at))
    }
    fn next_value_seed<V: DeserializeSeed<'a>>(&mut self, seed: V) -> Result<V::Value, Problem> {
        let node = self
            .value
            .take()
            .ok_or_else(|| Problem::new(At::NONE, "a value was read before its key"))?;
        seed.deserialize(De(node))
            .map_err(|problem| problem.or_at(node.at))
    }
}

struct PlacedAccess<'a> {
    node: &'a Node,
    step: u8,
}

impl<'a> MapAccess<'a> for PlacedAccess<'a> {
    type Error = Problem;
    fn next_key_seed<K: DeserializeSeed<'a>>(&mut self, seed: K) -> Result<Option<K::Value>, Problem> {
        let Some(field) = PLACED_FIELDS.get(usize::from(self.step)) else {
            return Ok(None);
        };
        self.step += 1;
        seed.deserialize(serde::de::value::BorrowedStrDeserializer::new(field))
            .map(Some)
    }
    fn next_value_seed<V: DeserializeSeed<'a>>(&mut self, seed: V) -> Result<V::Value, Problem> {
        if self.step == 1 {
            seed.deserialize(serde::de::value::U64Deserializer::new(self.node.at.pack()))
        } else {
            seed.deserialize(De(self.node))
                .map_err(|problem: Problem| problem.or_at(self.node.at))
        }
    }
}

/// A place and a value as the censor's files ask for them.
struct PlacedPair<'a> {
    node: &'a Node,
    step: u8,
}

impl<'a> SeqAccess<'a> for PlacedPair<'a> {
    type Error = Problem;
    fn next_element_seed<T: DeserializeSeed<'a>>(&mut self, seed: T) -> Result<Option<T::Value>, Problem> {
        self.step += 1;
        match self.step {
            1 => seed
                .deserialize(serde::de::value::U64Deserializer::new(self.node.at.pack()))
                .map(Some),
            2 => seed
                .deserialize(De(self.node))
                .map(Some)
                .map_err(|problem: Problem| problem.or_at(self.node.at)),
            _ => Ok(None),
        }
    }
}

struct Choice<'a> {
    at: At,
    tag: &'a str,
    content: Option<&'a Node>,
}

impl<'a> EnumAccess<'a> for Choice<'a> {
    type Error = Problem;
    type Variant = Self;
    fn variant_seed<V: DeserializeSeed<'a>>(self, seed: V) -> Result<(V::Value, Self), Problem> {
        let tag = seed.deserialize(StrDeserializer::<Problem>::new(self.tag))?;
        Ok((tag, self))
    }
}

impl<'a> VariantAccess<'a> for Choice<'a> {
    type Error = Problem;

    fn unit_variant(self) -> Result<(), Problem> {
        match self.content {
            None => Ok(()),
            Some(Node {
                value: Value::Table(table),
                ..
            }) => match table.get_index(0) {
                None => Ok(()),
                Some((key, (at, _))) => Err(Problem::new(
                    *at,
                    format!("'{}' takes no keys, got '{key}'", self.tag),
                )),
            },
            Some(node) => Err(Problem::new(
                node.at,
                format!("'{}' takes no value; write {{}}", self.tag),
            )),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'a>>(self, seed: T) -> Result<T::Value, Problem> {
        match self.content {
            Some(node) => seed
                .deserialize(De(node))
                .map_err(|problem| problem.or_at(node.at)),
            None => Err(Problem::new(
                self.at,
                format!("'{0}' needs a value: {{ {0} = ... }}", self.tag),
            )),
        }
    }

    fn tuple_variant<V: Visitor<'a>>(self, _len: usize, visitor: V) -> Result<V::Value, Problem> {
        let node = self
            .content
            .ok_or_else(|| Problem::new(self.at, format!("'{}' needs an array", self.tag)))?;
        De(node).deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'a>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        match self.content {
            Some(node) => De(node).deserialize_struct("", fields, visitor),
            // Text alone stands for the variant with everything at its default.
            None => visitor
                .visit_map(Entries {
                    left: indexmap::map::Iter::default(),
                    value: None,
                })
                .map_err(|problem| problem.or_at(self.at)),
        }
    }
}
