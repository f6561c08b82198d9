//! Quantities and words as files write them: text with a unit ("180 s", "140 kbit/s", "16 KB", "26.3 %"), addresses, ports
//! and names.
//!
//! Nothing here is a float.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use phantom_placed::quantity::{self, RATES, SIZES, TIMES, Units};
use phantom_placed::text_form;
use phantom_placed::words::shortened;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::engine::rule::ALWAYS;

const PERCENT: &Units = &[("%", 10_000_000)];
const BITS: &Units = &[("bit", 1_000)];

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
        quantity::parse(text, TIMES, "a time", "180 s").map(Self)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        quantity::print(self.0, TIMES, f)
    }
}

/// A rate, in bits per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rate(pub u64);

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        quantity::parse(text, RATES, "a rate", "140 kbit/s").map(Self)
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        quantity::print(self.0, RATES, f)
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        quantity::parse(text, SIZES, "a size", "16 KB").map(Self)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        quantity::print(self.0, SIZES, f)
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
        match quantity::parse(text, PERCENT, "a share", "26.3 %")? {
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
        match quantity::parse(text, BITS, "bits in a byte", "7.2 bit")? {
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
