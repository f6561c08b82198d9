//! Quantities and words as files write them: text with a unit ("180 s", "140 kbit/s", "16 KB", "26.3 %"), addresses, ports
//! and names.
//!
//! A unit is never guessed, and nothing here is a float: decimal text becomes a whole number of the smallest unit, or is
//! refused.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use super::error::shortened;
use crate::engine::rule::ALWAYS;

const TIMES: &[(&str, u64)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("min", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];
const RATES: &[(&str, u64)] = &[
    ("bit/s", 1),
    ("kbit/s", 1_000),
    ("Mbit/s", 1_000_000),
    ("Gbit/s", 1_000_000_000),
];
/// KB is what papers write for kB.
const SIZES: &[(&str, u64)] = &[
    ("B", 1),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];
const PERCENT: &[(&str, u64)] = &[("%", 10_000_000)];
const BITS: &[(&str, u64)] = &[("bit", 1_000)];

/// Parses a decimal number and one of `units`, and gives whole units of the smallest.
fn quantity(text: &str, units: &[(&str, u64)], what: &str, example: &str) -> Result<u64, String> {
    let wanted = |got: String| format!("wanted {what} such as \"{example}\", got {got}");
    let text = text.trim();
    let split = text
        .find(|char: char| !(char.is_ascii_digit() || char == '.'))
        .unwrap_or(text.len());
    let (number, unit) = (&text[..split], text[split..].trim());
    if number.is_empty() {
        return Err(wanted(format!("\"{}\"", shortened(text))));
    }
    let Some((_, factor)) = units.iter().find(|(name, _)| *name == unit) else {
        let got = match unit {
            "" => "no unit".to_owned(),
            unit => format!("the unit '{}'", shortened(unit)),
        };
        let names: Vec<&str> = units.iter().map(|(name, _)| *name).collect();
        return Err(wanted(format!("{got}; units: {}", names.join(", "))));
    };
    let bad = || wanted(format!("the number '{}'", shortened(number)));
    let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || part.is_empty() || part.contains('.') || part.len() > 18 {
        return Err(bad());
    }
    let (whole, numerator): (u64, u64) = (
        whole.parse().map_err(|_| bad())?,
        part.parse().map_err(|_| bad())?,
    );
    let scale = 10_u128.pow(part.len() as u32);
    let parts = u128::from(numerator) * u128::from(*factor);
    if !parts.is_multiple_of(scale) {
        return Err(wanted(format!(
            "'{}', which is finer than is kept",
            shortened(text)
        )));
    }
    let value = u128::from(whole) * u128::from(*factor) + parts / scale;
    u64::try_from(value).map_err(|_| bad())
}

/// The largest unit that leaves a whole number; the first of its size.
fn print(value: u64, units: &[(&str, u64)], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let mut best = units[0];
    for unit in units {
        if value > 0 && value.is_multiple_of(unit.1) && unit.1 > best.1 {
            best = *unit;
        }
    }
    write!(f, "{} {}", value / best.1, best.0)
}

/// Whole and parts of a decimal number, without trailing zeros.
fn print_decimal(value: u64, one: u64, unit: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let digits = one.ilog10() as usize;
    let part = format!("{:0digits$}", value % one);
    match part.trim_end_matches('0') {
        "" => write!(f, "{} {unit}", value / one),
        part => write!(f, "{}.{part} {unit}", value / one),
    }
}

/// A length of time, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub u64);

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        quantity(text, TIMES, "a time", "180 s").map(Self)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(self.0, TIMES, f)
    }
}

/// A rate, in bits per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(pub u64);

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        quantity(text, RATES, "a rate", "140 kbit/s").map(Self)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(self.0, RATES, f)
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        quantity(text, SIZES, "a size", "16 KB").map(Self)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print(self.0, SIZES, f)
    }
}

/// A part of a whole, in thousand-millionths: `"26.3 %"` is 263,000,000.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Percent(u64);

impl Percent {
    /// All of it.
    pub const ALL: Self = Self(1_000_000_000);
    /// Nothing of it.
    pub const NONE: Self = Self(0);

    /// In parts of 2^32, rounded to the nearest.
    pub const fn of_2_32(self) -> u64 {
        (self.0 * ALWAYS + Self::ALL.0 / 2) / Self::ALL.0
    }
}

impl FromStr for Percent {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match quantity(text, PERCENT, "a share", "26.3 %")? {
            billionths if billionths <= Self::ALL.0 => Ok(Self(billionths)),
            _ => Err(format!(
                "wanted a share of at most \"100 %\", got \"{}\"",
                shortened(text)
            )),
        }
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print_decimal(self.0, PERCENT[0].1, "%", f)
    }
}

/// Entropy of a byte, in thousandths of a bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entropy(pub u32);

impl FromStr for Entropy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match quantity(text, BITS, "bits in a byte", "7.2 bit")? {
            millibits @ 0..=8_000 => Ok(Self(millibits as u32)),
            _ => Err(format!(
                "wanted at most \"8 bit\" in a byte, got \"{}\"",
                shortened(text)
            )),
        }
    }
}

impl fmt::Display for Entropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        print_decimal(self.0.into(), BITS[0].1, "bit", f)
    }
}

/// Addresses: `"192.0.2.1"`, `"192.0.2.1:443"`, `"[2001:db8::1]:443"`, `"192.0.2.0/24"`, or a list of them: `"@list"`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Address {
    /// At all ports.
    Host(IpAddr),
    /// At one port.
    Endpoint(SocketAddr),
    /// All that agree in so many bits.
    Prefix(IpAddr, u8),
    /// Those of the list of this name.
    List(String),
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(list) = text.strip_prefix('@') {
            return list_name(list).map(Self::List);
        }
        if let Ok(host) = text.parse() {
            return Ok(Self::Host(host));
        }
        if let Ok(endpoint) = text.parse() {
            return Ok(Self::Endpoint(endpoint));
        }
        let wanted = || {
            format!(
                "wanted an address such as \"192.0.2.1\", \"192.0.2.1:443\" or \"192.0.2.0/24\", or a list such as \"@hosters\", got \"{}\"",
                shortened(text)
            )
        };
        let (address, bits) = text.split_once('/').ok_or_else(wanted)?;
        let (address, bits): (IpAddr, u8) = (
            address.parse().map_err(|_| wanted())?,
            bits.parse().map_err(|_| wanted())?,
        );
        let most = if address.is_ipv4() { 32 } else { 128 };
        if bits > most {
            return Err(format!("wanted a prefix of at most {most} bits, got /{bits}"));
        }
        // Bits that do not count are a slip of the pen: either the address or the length is not what was meant.
        let first = crate::engine::addresses::truncated(address, bits);
        if first == address {
            Ok(Self::Prefix(address, bits))
        } else {
            Err(format!(
                "\"{}\" has bits beyond its length; the prefix is \"{first}/{bits}\"",
                shortened(text)
            ))
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host(host) => host.fmt(f),
            Self::Endpoint(endpoint) => endpoint.fmt(f),
            Self::Prefix(address, bits) => write!(f, "{address}/{bits}"),
            Self::List(name) => write!(f, "@{name}"),
        }
    }
}

/// The name of a list, without its `@`.
fn list_name(name: &str) -> Result<String, String> {
    let good = |char: char| char.is_ascii_lowercase() || char.is_ascii_digit() || char == '-';
    if (1..=64).contains(&name.len()) && name.chars().all(good) {
        Ok(name.to_owned())
    } else {
        Err(format!(
            "wanted the name of a list such as \"@hosters\" (a-z, 0-9 and -), got \"@{}\"",
            shortened(name)
        ))
    }
}

/// A name as [`Names::add`](crate::engine::names::Names::add) reads it: `example.org`, `*.example.org` or `*piece*`; or a list
/// of them: `@list`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pattern(pub String);

impl Pattern {
    /// The list that it stands for, if it stands for one.
    pub fn list(&self) -> Option<&str> {
        self.0.strip_prefix('@')
    }
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(list) = text.strip_prefix('@') {
            return list_name(list).map(|name| Self(format!("@{name}")));
        }
        let inner = match text.strip_prefix("*.") {
            Some(rest) if !rest.ends_with('*') => rest,
            _ => match text.strip_prefix('*').and_then(|rest| rest.strip_suffix('*')) {
                Some(piece) => piece,
                None => text,
            },
        };
        if inner.is_empty() || inner.contains('*') || inner.contains(char::is_whitespace) {
            return Err(format!(
                "wanted a name, with all below it or a piece of one, such as \"example.org\", \"*.example.org\" or \"*t.co*\", \
                 got \"{}\"",
                shortened(text)
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A port, or ports from first to last: `443` or `"8000-8999"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ports {
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
}

impl FromStr for Ports {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wanted = || {
            format!(
                "wanted a port or ports such as \"8000-8999\", got \"{}\"",
                shortened(text)
            )
        };
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let port = |text: &str| text.trim().parse().map_err(|_| wanted());
        let (first, last) = (port(first)?, port(last)?);
        if first <= last {
            Ok(Self { first, last })
        } else {
            Err(format!(
                "the ports end before they begin: {first} is more than {last}"
            ))
        }
    }
}

impl<'de> Deserialize<'de> for Ports {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NumberOrText;
        impl Visitor<'_> for NumberOrText {
            type Value = Ports;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a port, or ports such as \"8000-8999\"")
            }

            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Ports, E> {
                let port = u16::try_from(number)
                    .map_err(|_| E::custom(format!("wanted a port from 0 to 65535, got {number}")))?;
                Ok(Ports {
                    first: port,
                    last: port,
                })
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Ports, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(NumberOrText)
    }
}

impl Serialize for Ports {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.first == self.last {
            serializer.serialize_u16(self.first)
        } else {
            serializer.collect_str(&format_args!("{}-{}", self.first, self.last))
        }
    }
}

impl JsonSchema for Ports {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Ports".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": ["integer", "string"], "description": "a port, or ports such as \"8000-8999\"" })
    }
}

macro_rules! text_form {
    ($type:ident, $wanted:literal) => {
        impl JsonSchema for $type {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "description": $wanted })
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl Visitor<'_> for Text {
                    type Value = $type;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($wanted)
                    }

                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Text)
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
    };
}

text_form!(
    Time,
    "a time in quotes such as \"180 s\" (ns, us, ms, s, min, h, d)"
);
text_form!(
    Rate,
    "a rate in quotes such as \"140 kbit/s\" (bit/s, kbit/s, Mbit/s, Gbit/s)"
);
text_form!(
    Size,
    "a size in quotes such as \"16 KB\" (B, kB, KB, MB, GB, KiB, MiB, GiB)"
);
text_form!(Percent, "a share in quotes such as \"26.3 %\"");
text_form!(Entropy, "bits in a byte in quotes such as \"7.2 bit\"");
text_form!(
    Address,
    "an address in quotes such as \"192.0.2.1\", \"192.0.2.1:443\" or \"192.0.2.0/24\", or a list such as \"@hosters\""
);
text_form!(
    Pattern,
    "a name in quotes such as \"example.org\", \"*.example.org\" or \"*t.co*\", or a list such as \"@published\""
);
