//! A value that remembers where in a file it stands.

use std::fmt;
use std::marker::PhantomData;
use std::ops::Deref;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use super::source::At;

/// A value and its place, for checks that need more than its own type.
#[derive(Clone, Copy, Debug, Default)]
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
        value.to_owned().into()
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

/// The newtype that a [`Placed`] asks for. serde has no word for places, so that the deserialiser of this crate is asked for
/// one under this name, and gives file, offset and value one after the other.
pub(crate) const PLACED: &str = "$placed";

/// Only from [`from_node`](super::from_node): nothing else knows places.
impl<'de, T: Deserialize<'de>> Deserialize<'de> for Placed<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Parts<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Parts<T> {
            type Value = Placed<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value with its place")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<Placed<T>, A::Error> {
                let wanted = || A::Error::custom("only this crate's deserialiser gives places");
                let file = parts.next_element()?.ok_or_else(wanted)?;
                let offset = parts.next_element()?.ok_or_else(wanted)?;
                let value = parts.next_element()?.ok_or_else(wanted)?;
                Ok(Placed {
                    at: At { file, offset },
                    value,
                })
            }
        }

        deserializer.deserialize_newtype_struct(PLACED, Parts(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_values_are_equal_wherever_they_stand() {
        let here = Placed {
            at: At::new(0, 3),
            value: 7,
        };
        assert_eq!(here, 7.into());
        assert_ne!(here, 8.into());
    }

    #[test]
    fn a_schema_is_that_of_the_value() {
        let of = |schema: Schema| schema.to_value();
        assert_eq!(
            of(schemars::schema_for!(Placed<u32>)),
            of(schemars::schema_for!(u32))
        );
    }

    #[test]
    fn another_deserialiser_gives_no_place_and_is_refused() {
        #[derive(Debug, Deserialize)]
        struct Table {
            #[expect(dead_code, reason = "it is never read")]
            x: Placed<u32>,
        }
        assert!(toml::from_str::<Table>("x = 7").is_err());
    }
}
