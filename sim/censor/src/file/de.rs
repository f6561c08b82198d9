//! From parsed TOML to typed structs: a serde deserialiser whose errors carry the place of the exact key or value.
//!
//! The one of the crate `toml` gives places too, but its errors are sentences, from which the choices for a wrong word would
//! have to be read back. Enums are externally tagged: text for a bare word, else a table with one key.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::value::{MapDeserializer, StrDeserializer, U64Deserializer};
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error as _, MapAccess, SeqAccess, VariantAccess, Visitor,
};
use serde::{Deserialize, Serialize, Serializer, forward_to_deserialize_any};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::Problem;

/// A value that remembers its place in the file.
#[derive(Clone, Copy, Debug, Default)]
pub struct Placed<T> {
    /// Where it stands, as a byte of the text; 0 if it was built in Rust.
    pub at: usize,
    /// The value.
    pub value: T,
}

impl<T> From<T> for Placed<T> {
    fn from(value: T) -> Self {
        Self { at: 0, value }
    }
}

impl<T> Deref for Placed<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: Eq> Eq for Placed<T> {}

/// Places do not count: two files with the same content are equal.
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

/// What [`Placed`] asks for, so that it is given the place and then the value: a newtype of this name, of a sequence of both.
/// Another deserialiser that knows this may have places of its own kind in the number.
pub const PLACED: &str = "$placed";

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
        struct Pair<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Pair<T> {
            type Value = Placed<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value with its place")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut pair: A) -> Result<Placed<T>, A::Error> {
                let wanted = || A::Error::custom("only this module's deserialiser gives places");
                let at: u64 = pair.next_element()?.ok_or_else(wanted)?;
                let value = pair.next_element()?.ok_or_else(wanted)?;
                Ok(Placed {
                    at: usize::try_from(at).unwrap_or(0),
                    value,
                })
            }
        }
        deserializer.deserialize_newtype_struct(PLACED, Pair(PhantomData))
    }
}

/// Reads a `T`.
pub(super) fn read<T: for<'de> Deserialize<'de>>(text: &str) -> Result<T, Problem> {
    let table = DeTable::parse(text).map_err(|error| {
        Problem::new(
            error.span().map(|span| span.start),
            format!("not TOML: {}", error.message().replace('\n', ", ")),
        )
    })?;
    let root = Spanned::new(0..0, DeValue::Table(table.into_inner()));
    T::deserialize(De(&root)).map_err(|problem| problem.or_at(0))
}

#[derive(Clone, Copy)]
struct De<'a, 't>(&'a Spanned<DeValue<'t>>);

impl De<'_, '_> {
    fn at(self) -> usize {
        self.0.span().start
    }

    fn visit<'de, V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        match self.0.get_ref() {
            DeValue::String(text) => visitor.visit_str(text),
            DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => visitor.visit_i64(number),
                Err(_) => Err(Problem::custom("the number does not fit in 64 bits")),
            },
            DeValue::Float(number) => Err(Problem::custom(format!(
                "fractions stand in quotes with their unit, as \"26.3 %\" or \"1.5 s\"; got the number {}",
                number.as_str()
            ))),
            DeValue::Boolean(value) => visitor.visit_bool(*value),
            DeValue::Datetime(_) => Err(Problem::custom(
                "dates are not used here; times are text such as \"30 s\"",
            )),
            DeValue::Array(items) => visitor.visit_seq(Items(items.iter())),
            DeValue::Table(table) => visitor.visit_map(Entries::new(table)),
        }
    }
}

impl<'de> Deserializer<'de> for De<'_, '_> {
    type Error = Problem;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        self.visit(visitor).map_err(|problem| problem.or_at(self.at()))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Problem> {
        if name == PLACED {
            return visitor.visit_seq(Pair { of: self, step: 0 });
        }
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        // An array would be taken for the fields in order, which nobody could read.
        let DeValue::Table(_) = self.0.get_ref() else {
            let got = match self.0.get_ref() {
                DeValue::Array(_) => "an array",
                DeValue::String(_) => "text",
                other => other.type_str(),
            };
            return Err(
                Problem::new(Some(self.at()), format!("wanted a table, got {got}"))
                    .help(format!("keys: {}", fields.join(", "))),
            );
        };
        self.deserialize_any(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        let choice = match self.0.get_ref() {
            DeValue::String(text) => Choice {
                at: self.at(),
                tag: text,
                content: None,
            },
            DeValue::Table(table) if table.len() == 1 => match table.iter().next() {
                Some((key, content)) => Choice {
                    at: key.span().start,
                    tag: key.get_ref(),
                    content: Some(De(content)),
                },
                None => return Err(Problem::new(Some(self.at()), "an empty table")),
            },
            other => {
                let got = match other {
                    DeValue::Table(table) => format!("{} keys", table.len()),
                    other => other.type_str().to_owned(),
                };
                return Err(Problem::new(
                    Some(self.at()),
                    format!("wanted exactly one of the choices, got {got}"),
                )
                .help(format!("choices: {}", variants.join(", "))));
            }
        };
        let at = choice.at;
        visitor.visit_enum(choice).map_err(|problem| problem.or_at(at))
    }

    forward_to_deserialize_any! {
        <W: Visitor<'de>>
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq
        tuple tuple_struct map identifier ignored_any
    }
}

struct Items<'a, 't>(std::slice::Iter<'a, Spanned<DeValue<'t>>>);

impl<'de> SeqAccess<'de> for Items<'_, '_> {
    type Error = Problem;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Problem> {
        let Some(item) = self.0.next() else {
            return Ok(None);
        };
        let at = item.span().start;
        seed.deserialize(De(item))
            .map(Some)
            .map_err(|problem| problem.or_at(at))
    }
}

struct Entries<'a, 't> {
    left: std::vec::IntoIter<(usize, &'a str, De<'a, 't>)>,
    value: Option<De<'a, 't>>,
}

impl<'a, 't> Entries<'a, 't> {
    fn new(table: &'a DeTable<'t>) -> Self {
        let mut left: Vec<_> = table
            .iter()
            .map(|(key, value)| (key.span().start, key.get_ref().as_ref(), De(value)))
            .collect();
        // The parser sorts by key; the first mistake of the file is told first.
        left.sort_unstable_by_key(|(at, ..)| *at);
        Self {
            left: left.into_iter(),
            value: None,
        }
    }
}

impl<'de> MapAccess<'de> for Entries<'_, '_> {
    type Error = Problem;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Problem> {
        let Some((at, key, value)) = self.left.next() else {
            return Ok(None);
        };
        self.value = Some(value);
        seed.deserialize(StrDeserializer::<Problem>::new(key))
            .map(Some)
            .map_err(|problem| problem.or_at(at))
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Problem> {
        let value = self
            .value
            .take()
            .ok_or_else(|| Problem::custom("a value was read before its key"))?;
        seed.deserialize(value)
            .map_err(|problem| problem.or_at(value.at()))
    }
}

struct Pair<'a, 't> {
    of: De<'a, 't>,
    step: u8,
}

impl<'de> SeqAccess<'de> for Pair<'_, '_> {
    type Error = Problem;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Problem> {
        self.step += 1;
        let at = self.of.at();
        match self.step {
            1 => seed
                .deserialize(U64Deserializer::<Problem>::new(at as u64))
                .map(Some),
            2 => seed
                .deserialize(self.of)
                .map(Some)
                .map_err(|problem| problem.or_at(at)),
            _ => Ok(None),
        }
    }
}

struct Choice<'a, 't> {
    at: usize,
    tag: &'a str,
    content: Option<De<'a, 't>>,
}

impl<'de> EnumAccess<'de> for Choice<'_, '_> {
    type Error = Problem;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Problem> {
        let tag = seed.deserialize(StrDeserializer::<Problem>::new(self.tag))?;
        Ok((tag, self))
    }
}

impl Choice<'_, '_> {
    fn needs(&self, what: &str) -> Problem {
        Problem::new(
            Some(self.at),
            format!("'{0}' needs {what}: {{ {0} = ... }}", self.tag),
        )
    }
}

impl<'de> VariantAccess<'de> for Choice<'_, '_> {
    type Error = Problem;

    fn unit_variant(self) -> Result<(), Problem> {
        match self.content {
            None => Ok(()),
            Some(content) => Err(Problem::new(
                Some(content.at()),
                format!("'{0}' takes no value: write \"{0}\"", self.tag),
            )),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Problem> {
        let content = self.content.ok_or_else(|| self.needs("a value"))?;
        seed.deserialize(content)
            .map_err(|problem| problem.or_at(content.at()))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _len: usize, visitor: V) -> Result<V::Value, Problem> {
        let content = self.content.ok_or_else(|| self.needs("an array"))?;
        content.deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        match self.content {
            Some(content) => content.deserialize_struct("", fields, visitor),
            // A word alone stands for the variant with everything at its default.
            None => visitor
                .visit_map(MapDeserializer::<_, Problem>::new(
                    std::iter::empty::<(&str, &str)>(),
                ))
                .map_err(|_missing| self.needs("a table").help(format!("keys: {}", fields.join(", ")))),
        }
    }
}
