//! From a tree to typed structs: a serde deserialiser whose errors carry the place of the exact key or value.
//!
//! It knows the keys of a struct and the variants of an enum from serde, so it refuses an unknown one itself, at its
//! place and with the choices. Enums are externally tagged: text for a bare variant, else a table with one key.

use serde::de::value::{StrDeserializer, U32Deserializer};
use serde::de::{DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor};
use serde::{Deserialize, forward_to_deserialize_any};

use super::problem::Problem;
use super::source::At;
use super::tree::{Node, Table, Value};
use super::value::PLACED;
use super::words::shortened;

/// Keys that are told of a table that should have one.
const KEYS_SHOWN: usize = 4;

/// Reads a `T` from a tree.
///
/// # Errors
/// The first problem found, with its place. Tables are gone through in the order of the file.
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
            Value::Table(table) => visitor.visit_map(Entries::of(table, None)),
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
        if name == PLACED {
            return visitor.visit_seq(Parts {
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
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        // An array would be taken for the fields in order, which nobody could read.
        let Value::Table(table) = &self.0.value else {
            return Err(Problem::new(
                self.0.at,
                format!("wanted a table, got {}", self.0.value.describe()),
            )
            .help(format!("keys: {}", fields.join(", "))));
        };
        visitor
            .visit_map(Entries::of(table, Some(fields)))
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
                    Value::Table(table) => format!("{} keys: {}", table.len(), keys(table)),
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

/// At most [`KEYS_SHOWN`] keys of a table.
fn keys(table: &Table) -> String {
    let mut shown: Vec<_> = table.keys().take(KEYS_SHOWN).map(|key| shortened(key)).collect();
    if table.len() > KEYS_SHOWN {
        shown.push("...".to_owned());
    }
    shown.join(", ")
}

#[derive(Default)]
struct Entries<'a> {
    left: indexmap::map::Iter<'a, String, (At, Node)>,
    /// The keys of a struct, beside which there are no others.
    fields: Option<&'static [&'static str]>,
    value: Option<&'a Node>,
}

impl<'a> Entries<'a> {
    fn of(table: &'a Table, fields: Option<&'static [&'static str]>) -> Self {
        Self {
            left: table.iter(),
            fields,
            value: None,
        }
    }
}

impl<'a> MapAccess<'a> for Entries<'a> {
    type Error = Problem;

    fn next_key_seed<K: DeserializeSeed<'a>>(&mut self, seed: K) -> Result<Option<K::Value>, Problem> {
        let Some((key, (at, node))) = self.left.next() else {
            return Ok(None);
        };
        if let Some(fields) = self.fields
            && !fields.contains(&key.as_str())
        {
            return Err(Problem::unknown(*at, "key", key, fields.iter().copied()));
        }
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

/// A value with its place, as [`Placed`](super::Placed) asks for it: file, offset, value.
struct Parts<'a> {
    node: &'a Node,
    step: u8,
}

impl<'a> SeqAccess<'a> for Parts<'a> {
    type Error = Problem;

    fn next_element_seed<T: DeserializeSeed<'a>>(&mut self, seed: T) -> Result<Option<T::Value>, Problem> {
        self.step += 1;
        let part = match self.step {
            1 => seed.deserialize(U32Deserializer::<Problem>::new(self.node.at.file)),
            2 => seed.deserialize(U32Deserializer::<Problem>::new(self.node.at.offset)),
            3 => seed.deserialize(De(self.node)),
            _ => return Ok(None),
        };
        part.map(Some).map_err(|problem| problem.or_at(self.node.at))
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

impl Choice<'_> {
    fn needs(&self, what: &str) -> Problem {
        Problem::new(self.at, format!("'{0}' needs {what}: {{ {0} = ... }}", self.tag))
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
                    format!("'{}' takes no keys, got '{}'", self.tag, shortened(key)),
                )),
            },
            Some(node) => Err(Problem::new(
                node.at,
                format!("'{0}' takes no value: write \"{0}\"", self.tag),
            )),
        }
    }

    fn newtype_variant_seed<T: DeserializeSeed<'a>>(self, seed: T) -> Result<T::Value, Problem> {
        let node = self.content.ok_or_else(|| self.needs("a value"))?;
        seed.deserialize(De(node))
            .map_err(|problem| problem.or_at(node.at))
    }

    fn tuple_variant<V: Visitor<'a>>(self, _len: usize, visitor: V) -> Result<V::Value, Problem> {
        let node = self.content.ok_or_else(|| self.needs("an array"))?;
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
                .visit_map(Entries::default())
                .map_err(|_missing| self.needs("a table").help(format!("keys: {}", fields.join(", ")))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::tree::{self, TEXT_BYTES_MAX};
    use crate::{FileError, Placed, Sources};

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "kebab-case", deny_unknown_fields)]
    struct Shop {
        name: Placed<String>,
        #[serde(default)]
        open: bool,
        #[serde(default)]
        rooms: Vec<Placed<u8>>,
        #[serde(default)]
        shelf: BTreeMap<String, Shelf>,
        #[serde(default)]
        way: Option<Way>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "kebab-case", deny_unknown_fields)]
    struct Shelf {
        height: f64,
        // Not one of its own, and the tree refuses others all the same.
        #[serde(default)]
        note: String,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "kebab-case", deny_unknown_fields)]
    enum Way {
        Walk,
        Bus(u32),
        Car {
            #[serde(default)]
            seats: u8,
        },
        Train {
            line: String,
        },
        Ferry(u8, u8),
    }

    fn read(text: &str) -> Result<Shop, FileError> {
        let mut sources = Sources::default();
        let file = sources.add("s.toml", text);
        tree::parse(file, sources.text(file))
            .and_then(|node| from_node(&node))
            .map_err(|problem| FileError::new(&sources, [problem]))
    }

    fn way(text: &str) -> Result<Option<Way>, FileError> {
        read(&format!("name = 'x'\nway = {text}")).map(|shop| shop.way)
    }

    #[test]
    fn values_are_read_with_their_places() {
        let shop = read("name = 'x'\nrooms = [1, 20]\n[shelf.a]\nheight = 1.5\n").expect("good");
        assert_eq!((shop.name.as_str(), shop.name.at), ("x", At::new(0, 7)));
        let rooms: Vec<_> = shop.rooms.iter().map(|room| (room.value, room.at)).collect();
        assert_eq!(rooms, [(1, At::new(0, 20)), (20, At::new(0, 23))]);
        assert_eq!(shop.shelf["a"].height, 1.5);
    }

    #[test]
    fn a_choice_is_a_word_or_a_table_of_one_key() {
        for (text, wanted) in [
            ("'walk'", Way::Walk),
            ("{ walk = {} }", Way::Walk),
            ("{ bus = 7 }", Way::Bus(7)),
            ("'car'", Way::Car { seats: 0 }),
            ("{ car = { seats = 4 } }", Way::Car { seats: 4 }),
            ("{ ferry = [1, 2] }", Way::Ferry(1, 2)),
        ] {
            assert_eq!(way(text), Ok(Some(wanted)), "{text}");
        }
    }

    #[test]
    fn a_mistake_is_told_at_its_place_with_what_was_wanted() {
        for (text, wanted) in [
            ("nmae = 'x'", "1:1: unknown key 'nmae'; did you mean 'name'?"),
            ("open = true", "1:1: 'name' is missing here"),
            ("name = 5", "1:8: wanted text in quotes, got the number 5"),
            (
                "name = 'x'\nopen = 'no'",
                "2:8: wanted true or false, got the text \"no\"",
            ),
            ("name = 'x'\nrooms = 1", "2:9: wanted an array, got the number 1"),
            (
                "name = 'x'\nrooms = [1, -2]",
                "2:13: wanted a whole number from 0, got the number -2",
            ),
            (
                "name = 'x'\nrooms = [1, 2.5]",
                "2:13: wanted a whole number from 0, got the number 2.5",
            ),
            (
                "name = 'x'\nrooms = [1, 256]",
                "2:13: wanted a whole number from 0, got the number 256",
            ),
            ("name = 'x'\nshelf = 3", "2:9: wanted a table, got the number 3"),
            (
                "name = 'x'\nshelf.a = [1]",
                "2:11: wanted a table, got an array\n",
            ),
            (
                "name = 'x'\nshelf.a = { note = '' }",
                "2:11: 'height' is missing here",
            ),
            (
                "name = 'x'\nshelf.a = { height = 'x' }",
                "2:22: wanted a number, got the text \"x\"",
            ),
            // The first mistake of the file is told first, whatever its kind.
            ("name = 5\nopne = true", "1:8: wanted text in quotes"),
            ("opne = true\nname = 5", "1:1: unknown key 'opne'"),
        ] {
            let told = read(text).expect_err(text).to_string();
            assert!(
                told.starts_with(&format!("s.toml:{wanted}")),
                "{told}\nwanted: {wanted}"
            );
        }
    }

    #[test]
    fn a_wrong_choice_is_told_with_the_right_ones() {
        for (text, wanted) in [
            ("'wlak'", "2:7: unknown choice 'wlak'; did you mean 'walk'?"),
            ("{ buss = 7 }", "2:9: unknown choice 'buss'; did you mean 'bus'?"),
            ("5", "2:7: wanted exactly one of the choices, got a whole number"),
            ("{}", "2:7: wanted exactly one of the choices, got an empty table"),
            (
                "{ bus = 1, walk = {} }",
                "2:7: wanted exactly one of the choices, got 2 keys: bus, walk\n",
            ),
            (
                "{ a = 1, b = 1, c = 1, d = 1, e = 1 }",
                "2:7: wanted exactly one of the choices, got 5 keys: a, b, c, d, ...\n",
            ),
            ("{ walk = 1 }", "2:16: 'walk' takes no value: write \"walk\""),
            ("{ walk = { far = 1 } }", "2:18: 'walk' takes no keys, got 'far'"),
            ("'bus'", "2:7: 'bus' needs a value: { bus = ... }"),
            ("'ferry'", "2:7: 'ferry' needs an array: { ferry = ... }"),
            ("'train'", "2:7: 'train' needs a table: { train = ... }\n"),
            ("{ train = {} }", "2:17: 'line' is missing here"),
            ("{ train = 'S1' }", "2:17: wanted a table, got text\n"),
            (
                "{ car = { saets = 4 } }",
                "2:17: unknown key 'saets'; did you mean 'seats'?",
            ),
        ] {
            let told = way(text).expect_err(text).to_string();
            assert!(
                told.starts_with(&format!("s.toml:{wanted}")),
                "{told}\nwanted: {wanted}"
            );
        }
        let told = way("5").expect_err("no choice").to_string();
        assert!(
            told.ends_with("\n        choices: walk, bus, car, train, ferry"),
            "{told}"
        );
    }

    #[test]
    fn what_is_said_of_a_hostile_file_is_short() {
        let key = "\\u001b".repeat(TEXT_BYTES_MAX / 16);
        for text in [
            format!("\"{key}\" = 1"),
            format!("name = 'x'\nway = \"{key}\""),
            format!("name = 'x'\nway = {{ walk = {{ \"{key}\" = 1 }} }}"),
            format!("name = 'x'\nway = {{ \"{key}\" = 1, b = 2 }}"),
            format!("name = 'x'\nopen = \"{key}\""),
        ] {
            let told = read(&text).expect_err("a mistake").to_string();
            assert!(told.len() < 2_000 && !told.contains('\u{1b}'), "{}", told.len());
        }
    }
}
