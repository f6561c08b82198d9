//! Bencode, zero-copy and canonical: what a strict encoder would not have written is refused. SPEC §7.1.
//!
//! Signatures of BEP 44 cover the encoded bytes of `v`, so every [`Value`] keeps the slice it was read from
//! ([`Value::raw`]). A budget of values and of depth bounds what hostile input can make us allocate.

use thiserror::Error;

/// Most values (integers, strings, lists, dictionaries) that one message may hold.
pub const VALUES_MAX: usize = 512;
/// Deepest nesting of lists and dictionaries.
pub const DEPTH_MAX: u8 = 8;

/// Why bytes are not canonical bencode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum BencodeError {
    /// The input ended inside a value.
    #[error("input ended inside a value")]
    Truncated,
    /// A byte that begins or continues no value.
    #[error("not bencode at byte {at}")]
    Syntax {
        /// Offset of the byte.
        at: usize,
    },
    /// Leading zeros, a negative zero, or dictionary keys that are unsorted or double.
    #[error("not canonical at byte {at}")]
    NotCanonical {
        /// Offset after the offending part.
        at: usize,
    },
    /// A number outside 64 bits.
    #[error("number out of range at byte {at}")]
    Overflow {
        /// Offset of the number.
        at: usize,
    },
    /// More than [`DEPTH_MAX`] levels or [`VALUES_MAX`] values.
    #[error("deeper than {DEPTH_MAX} levels or more than {VALUES_MAX} values")]
    TooComplex,
    /// Bytes are left after the value.
    #[error("{extra} bytes left after the value")]
    Trailing {
        /// How many.
        extra: usize,
    },
}

/// A value and the bytes it was read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value<'a> {
    raw: &'a [u8],
    kind: Kind<'a>,
}

/// What a value is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind<'a> {
    /// A signed integer.
    Int(i64),
    /// A byte string.
    Bytes(&'a [u8]),
    /// A list.
    List(Vec<Value<'a>>),
    /// A dictionary, sorted by key.
    Dict(Vec<(&'a [u8], Value<'a>)>),
}

impl<'a> Value<'a> {
    /// Reads exactly one value.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BencodeError> {
        let mut parser = Parser {
            bytes,
            at: 0,
            budget: VALUES_MAX,
        };
        let value = parser.value(DEPTH_MAX)?;
        match bytes.len() - parser.at {
            0 => Ok(value),
            extra => Err(BencodeError::Trailing { extra }),
        }
    }

    /// The bytes this value was read from.
    pub const fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// What it is.
    pub const fn kind(&self) -> &Kind<'a> {
        &self.kind
    }

    /// The value under `key`, if this is a dictionary that has it.
    pub fn get(&self, key: &str) -> Option<&Self> {
        let Kind::Dict(entries) = &self.kind else {
            return None;
        };
        let found = entries.binary_search_by(|(k, _)| (*k).cmp(key.as_bytes())).ok()?;
        entries.get(found).map(|(_, value)| value)
    }

    /// The string, if this is one.
    pub const fn bytes(&self) -> Option<&'a [u8]> {
        match self.kind {
            Kind::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The integer, if this is one.
    pub const fn int(&self) -> Option<i64> {
        match self.kind {
            Kind::Int(int) => Some(int),
            _ => None,
        }
    }

    /// The list, if this is one.
    pub fn list(&self) -> Option<&[Self]> {
        match &self.kind {
            Kind::List(list) => Some(list),
            _ => None,
        }
    }
}

struct Parser<'a> {
    bytes: &'a [u8],
    at: usize,
    budget: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Result<u8, BencodeError> {
        self.bytes.get(self.at).copied().ok_or(BencodeError::Truncated)
    }

    /// Decimal digits up to `end`, which is consumed.
    fn number(&mut self, end: u8) -> Result<i64, BencodeError> {
        let start = self.at;
        while self.peek()? != end {
            self.at += 1;
            // The longest number that fits is "-9223372036854775808".
            if self.at - start > 20 {
                return Err(BencodeError::Overflow { at: start });
            }
        }
        let text = &self.bytes[start..self.at];
        self.at += 1;
        let (negative, digits) = match text {
            [b'-', digits @ ..] => (true, digits),
            digits => (false, digits),
        };
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return Err(BencodeError::Syntax { at: start });
        }
        if digits[0] == b'0' && (digits.len() > 1 || negative) {
            return Err(BencodeError::NotCanonical { at: self.at });
        }
        digits
            .iter()
            .try_fold(0_i64, |sum, digit| {
                let digit = i64::from(digit - b'0');
                let sum = sum.checked_mul(10)?;
                if negative {
                    sum.checked_sub(digit)
                } else {
                    sum.checked_add(digit)
                }
            })
            .ok_or(BencodeError::Overflow { at: start })
    }

    fn string(&mut self) -> Result<&'a [u8], BencodeError> {
        let start = self.at;
        if !self.peek()?.is_ascii_digit() {
            return Err(BencodeError::Syntax { at: start });
        }
        let len = usize::try_from(self.number(b':')?).map_err(|_| BencodeError::Overflow { at: start })?;
        let end = self
            .at
            .checked_add(len)
            .ok_or(BencodeError::Overflow { at: start })?;
        let string = self.bytes.get(self.at..end).ok_or(BencodeError::Truncated)?;
        self.at = end;
        Ok(string)
    }

    fn value(&mut self, depth: u8) -> Result<Value<'a>, BencodeError> {
        self.budget = self.budget.checked_sub(1).ok_or(BencodeError::TooComplex)?;
        let start = self.at;
        let kind = match self.peek()? {
            b'i' => {
                self.at += 1;
                Kind::Int(self.number(b'e')?)
            }
            b'0'..=b'9' => Kind::Bytes(self.string()?),
            b'l' => {
                let depth = depth.checked_sub(1).ok_or(BencodeError::TooComplex)?;
                self.at += 1;
                let mut list = Vec::new();
                while self.peek()? != b'e' {
                    list.push(self.value(depth)?);
                }
                self.at += 1;
                Kind::List(list)
            }
            b'd' => {
                let depth = depth.checked_sub(1).ok_or(BencodeError::TooComplex)?;
                self.at += 1;
                let mut entries: Vec<(&[u8], Value<'a>)> = Vec::new();
                while self.peek()? != b'e' {
                    let key = self.string()?;
                    if entries.last().is_some_and(|(before, _)| *before >= key) {
                        return Err(BencodeError::NotCanonical { at: self.at });
                    }
                    entries.push((key, self.value(depth)?));
                }
                self.at += 1;
                Kind::Dict(entries)
            }
            _ => return Err(BencodeError::Syntax { at: start }),
        };
        Ok(Value {
            raw: &self.bytes[start..self.at],
            kind,
        })
    }
}

/// Appends a byte string.
pub fn put_string(out: &mut Vec<u8>, string: &[u8]) {
    put_decimal(out, string.len() as u64);
    out.push(b':');
    out.extend_from_slice(string);
}

/// Appends an integer.
pub fn put_int(out: &mut Vec<u8>, int: i64) {
    out.push(b'i');
    if int < 0 {
        out.push(b'-');
    }
    put_decimal(out, int.unsigned_abs());
    out.push(b'e');
}

fn put_decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        // A remainder by ten fits a byte.
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Writes a dictionary, key by key in order.
#[derive(Debug)]
pub struct DictWriter<'o> {
    out: &'o mut Vec<u8>,
    last: &'static str,
}

impl<'o> DictWriter<'o> {
    /// Begins a dictionary.
    pub fn new(out: &'o mut Vec<u8>) -> Self {
        out.push(b'd');
        Self { out, last: "" }
    }

    /// Writes `key`; what follows on the returned buffer must be one value.
    ///
    /// # Panics
    /// When `key` does not come after the key before: our own formats list their keys in order.
    pub fn key(&mut self, key: &'static str) -> &mut Vec<u8> {
        assert!(self.last < key, "dictionary key {key:?} after {:?}", self.last);
        self.last = key;
        put_string(self.out, key.as_bytes());
        self.out
    }

    /// Writes a string under `key`.
    pub fn string(&mut self, key: &'static str, string: &[u8]) {
        put_string(self.key(key), string);
    }

    /// Writes an integer under `key`.
    pub fn int(&mut self, key: &'static str, int: i64) {
        put_int(self.key(key), int);
    }

    /// Writes a value that is encoded already under `key`.
    pub fn raw(&mut self, key: &'static str, encoded: &[u8]) {
        self.key(key).extend_from_slice(encoded);
    }

    /// Ends the dictionary.
    pub fn finish(self) {
        self.out.push(b'e');
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn write(value: &Value<'_>, out: &mut Vec<u8>) {
        match value.kind() {
            Kind::Int(int) => put_int(out, *int),
            Kind::Bytes(bytes) => put_string(out, bytes),
            Kind::List(list) => {
                out.push(b'l');
                list.iter().for_each(|value| write(value, out));
                out.push(b'e');
            }
            Kind::Dict(entries) => {
                out.push(b'd');
                for (key, value) in entries {
                    put_string(out, key);
                    write(value, out);
                }
                out.push(b'e');
            }
        }
    }

    #[test]
    fn what_a_strict_encoder_would_not_write_is_refused() {
        use BencodeError::{NotCanonical, Overflow, Syntax, TooComplex, Trailing, Truncated};
        for (text, wanted) in [
            ("i03e", NotCanonical { at: 4 }),
            ("i-0e", NotCanonical { at: 4 }),
            ("03:abc", NotCanonical { at: 3 }),
            ("d1:b0:1:a0:e", NotCanonical { at: 9 }),
            ("d1:a0:1:a0:e", NotCanonical { at: 9 }),
            ("ie", Syntax { at: 1 }),
            ("i+1e", Syntax { at: 1 }),
            ("-1:", Syntax { at: 0 }),
            ("x", Syntax { at: 0 }),
            ("", Truncated),
            ("5:abc", Truncated),
            ("9223372036854775807:a", Truncated),
            ("li1e", Truncated),
            ("i1ei2e", Trailing { extra: 3 }),
            ("i9223372036854775808e", Overflow { at: 1 }),
            ("99999999999999999999999:", Overflow { at: 0 }),
            ("lllllllll", TooComplex),
        ] {
            assert_eq!(Value::parse(text.as_bytes()), Err(wanted), "{text}");
        }
        let long = format!("l{}e", "i1e".repeat(VALUES_MAX));
        assert_eq!(Value::parse(long.as_bytes()), Err(TooComplex));
        assert_eq!(
            Value::parse(b"i-9223372036854775808e")
                .expect("least integer")
                .int(),
            Some(i64::MIN)
        );
    }

    #[test]
    fn the_raw_bytes_of_an_inner_value_are_kept() {
        let message = b"d1:ad1:v12:Hello World!e1:t2:aae";
        let value = Value::parse(message).expect("canonical");
        let v = value.get("a").and_then(|a| a.get("v")).expect("there");
        assert_eq!(
            (v.raw(), v.bytes()),
            (&b"12:Hello World!"[..], Some(&b"Hello World!"[..]))
        );
    }

    #[test]
    #[should_panic(expected = "after")]
    fn keys_out_of_order_are_a_bug_of_ours() {
        let mut out = Vec::new();
        let mut dict = DictWriter::new(&mut out);
        dict.int("b", 1);
        dict.int("a", 1);
    }

    proptest! {
        #[test]
        fn whatever_parses_is_written_back_byte_for_byte(bytes in proptest::collection::vec(
            proptest::sample::select(b"0123456789:ieldabc-".to_vec()), 0..40)) {
            if let Ok(value) = Value::parse(&bytes) {
                let mut out = Vec::new();
                write(&value, &mut out);
                prop_assert_eq!(out, bytes);
            }
        }

        #[test]
        fn mutations_of_a_message_never_panic_and_stay_canonical(
            changes in proptest::collection::vec((0_usize..82, any::<u8>()), 1..4)) {
            let mut bytes =
                b"d1:ad2:id20:aaaaaaaaaaaaaaaaaaaa3:seqi5e1:vli1ei-2e3:abcee1:q3:put1:t2:xx1:y1:qe".to_vec();
            for (at, byte) in changes {
                let at = at % bytes.len();
                bytes[at] = byte;
            }
            if let Ok(value) = Value::parse(&bytes) {
                let mut out = Vec::new();
                write(&value, &mut out);
                prop_assert_eq!(out, bytes);
            }
        }

        #[test]
        fn integers_and_strings_round_trip(int in any::<i64>(), string in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut out = Vec::new();
            let mut dict = DictWriter::new(&mut out);
            dict.int("i", int);
            dict.string("s", &string);
            dict.finish();
            let value = Value::parse(&out).expect("canonical");
            prop_assert_eq!(value.get("i").and_then(Value::int), Some(int));
            prop_assert_eq!(value.get("s").and_then(Value::bytes), Some(&string[..]));
        }
    }
}
