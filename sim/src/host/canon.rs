//! The canonical encoding of events for the trace digest: the same bytes on every platform and in every build.
//!
//! Integers are fixed-width little-endian, texts and byte strings carry a 32-bit length, enum variants their index,
//! options a byte. Floating point is refused, since it may differ between platforms. Nobody decodes this.

use std::fmt;

use serde::Serialize;
use serde::ser::{self, Error as _};

/// Appends the canonical encoding of `value` to `out`.
///
/// # Errors
/// If `value` holds a floating-point number or a sequence of unknown length.
pub fn encode<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), Error> {
    value.serialize(Writer(out))
}

/// What cannot stand in a digest.
#[derive(Debug, thiserror::Error)]
#[error("not canonical: {0}")]
pub struct Error(String);

impl ser::Error for Error {
    fn custom<T: fmt::Display>(msg: T) -> Self {
        Self(msg.to_string())
    }
}

struct Writer<'a>(&'a mut Vec<u8>);

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    fn len(&mut self, len: usize) -> Result<(), Error> {
        let len = u32::try_from(len).map_err(Error::custom)?;
        self.put(&len.to_le_bytes());
        Ok(())
    }
}

macro_rules! integers {
    ($($method:ident $type:ty),*) => {
        $(fn $method(mut self, v: $type) -> Result<(), Error> {
            self.put(&v.to_le_bytes());
            Ok(())
        })*
    };
}

impl<'a> ser::Serializer for Writer<'a> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Self;
    type SerializeTuple = Self;
    type SerializeTupleStruct = Self;
    type SerializeTupleVariant = Self;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Self;

    integers!(serialize_i8 i8, serialize_i16 i16, serialize_i32 i32, serialize_i64 i64, serialize_i128 i128);
    integers!(serialize_u8 u8, serialize_u16 u16, serialize_u32 u32, serialize_u64 u64, serialize_u128 u128);

    fn is_human_readable(&self) -> bool {
        false
    }
    fn serialize_bool(self, v: bool) -> Result<(), Error> {
        self.serialize_u8(v.into())
    }
    fn serialize_f32(self, _: f32) -> Result<(), Error> {
        Err(Error::custom("a floating-point number"))
    }
    fn serialize_f64(self, _: f64) -> Result<(), Error> {
        Err(Error::custom("a floating-point number"))
    }
    fn serialize_char(self, v: char) -> Result<(), Error> {
        self.serialize_u32(v.into())
    }
    fn serialize_str(self, v: &str) -> Result<(), Error> {
        self.serialize_bytes(v.as_bytes())
    }
    fn serialize_bytes(mut self, v: &[u8]) -> Result<(), Error> {
        self.len(v.len())?;
        self.put(v);
        Ok(())
    }
    fn serialize_none(self) -> Result<(), Error> {
        self.serialize_u8(0)
    }
    fn serialize_some<T: Serialize + ?Sized>(mut self, value: &T) -> Result<(), Error> {
        self.put(&[1]);
        value.serialize(self)
    }
    fn serialize_unit(self) -> Result<(), Error> {
        Ok(())
    }
    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Error> {
        Ok(())
    }
    fn serialize_unit_variant(self, _: &'static str, index: u32, _: &'static str) -> Result<(), Error> {
        self.serialize_u32(index)
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        value.serialize(self)
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        mut self,
        _: &'static str,
        index: u32,
        _: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        self.put(&index.to_le_bytes());
        value.serialize(self)
    }
    fn serialize_seq(mut self, len: Option<usize>) -> Result<Self, Error> {
        self.len(len.ok_or_else(|| Error::custom("a sequence of unknown length"))?)?;
        Ok(self)
    }
    fn serialize_tuple(self, _: usize) -> Result<Self, Error> {
        Ok(self)
    }
    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self, Error> {
        Ok(self)
    }
    fn serialize_tuple_variant(
        mut self,
        _: &'static str,
        index: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self, Error> {
        self.put(&index.to_le_bytes());
        Ok(self)
    }
    fn serialize_map(self, len: Option<usize>) -> Result<Self, Error> {
        self.serialize_seq(len)
    }
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, Error> {
        Ok(self)
    }
    fn serialize_struct_variant(
        self,
        _: &'static str,
        index: u32,
        name: &'static str,
        len: usize,
    ) -> Result<Self, Error> {
        self.serialize_tuple_variant(name, index, name, len)
    }
}

macro_rules! compound {
    ($($trait:ident $method:ident),*) => {
        $(impl ser::$trait for Writer<'_> {
            type Ok = ();
            type Error = Error;
            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
                value.serialize(Writer(self.0))
            }
            fn end(self) -> Result<(), Error> {
                Ok(())
            }
        })*
    };
}

compound!(SerializeSeq serialize_element, SerializeTuple serialize_element);
compound!(SerializeTupleStruct serialize_field, SerializeTupleVariant serialize_field);

macro_rules! fields {
    ($($trait:ident),*) => {
        $(impl ser::$trait for Writer<'_> {
            type Ok = ();
            type Error = Error;
            fn serialize_field<T: Serialize + ?Sized>(&mut self, _: &'static str, value: &T) -> Result<(), Error> {
                value.serialize(Writer(self.0))
            }
            fn end(self) -> Result<(), Error> {
                Ok(())
            }
        })*
    };
}

fields!(SerializeStruct, SerializeStructVariant);

impl ser::SerializeMap for Writer<'_> {
    type Ok = ();
    type Error = Error;
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        key.serialize(Writer(self.0))
    }
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        value.serialize(Writer(self.0))
    }
    fn end(self) -> Result<(), Error> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use phantom_core::event::{Event, Outcome, Refusal, Step, Tag};
    use phantom_core::transport::Kind;

    fn bytes(event: &Event) -> Vec<u8> {
        let mut out = Vec::new();
        encode(event, &mut out).expect("events hold no floating point");
        out
    }

    #[test]
    fn the_encoding_of_an_event_is_fixed() {
        let attempt = |transport| Event::Attempt {
            step: Step::Dht,
            target: Some("192.0.2.1:443".parse().unwrap()),
            outcome: Outcome::Refused,
            transport,
        };
        // Without a transport as it was before there were any.
        let wanted = [
            3, 0, 0, 0, 3, 0, 0, 0, 1, 0, 0, 0, 0, 192, 0, 2, 1, 187, 1, 2, 0, 0, 0,
        ];
        assert_eq!(bytes(&attempt(Kind::Plain)), wanted);
        let obfs4 = bytes(&attempt(Kind::Obfs4));
        assert_eq!((&obfs4[..23], &obfs4[23..]), (&wanted[..], &[1, 0, 0, 0][..]));
        let refused = Event::Refused {
            what: "packet",
            why: Refusal::Replayed,
        };
        assert_ne!(
            bytes(&refused),
            bytes(&Event::Refused {
                what: "packet",
                why: Refusal::Expired
            })
        );
    }

    #[test]
    fn different_events_have_different_encodings() {
        assert_ne!(
            bytes(&Event::MessageStored { message: Tag(1) }),
            bytes(&Event::MessageStored { message: Tag(2) })
        );
        assert_ne!(
            bytes(&Event::MessageStored { message: Tag(1) }),
            bytes(&Event::MessageAcknowledged { message: Tag(1) })
        );
    }

    #[test]
    fn floating_point_is_refused() {
        assert!(encode(&1.5f64, &mut Vec::new()).is_err());
    }
}
