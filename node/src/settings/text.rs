//! Values that settings files write as text: quantities with a unit, contact lines, names.
//!
//! A unit is never guessed: a bare number where a time is wanted is an error that says how to write one.

use std::fmt::{self, Display};
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use phantom_core::crypto::kdf::Context;
use phantom_core::crypto::keys::{IdentityPublic, LinkPublic, NodeId};
use phantom_core::dht::Endpoint;
use phantom_core::mailbox::OperatorId;
use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// A value that is written as a string and read by its [`FromStr`]; errors point at it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Text<T>(pub T);

impl<'de, T> Deserialize<'de> for Text<T>
where
    T: FromStr,
    T::Err: Display,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reads<T>(PhantomData<T>);
        impl<T> Visitor<'_> for Reads<T>
        where
            T: FromStr,
            T::Err: Display,
        {
            type Value = Text<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text in quotes")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<Text<T>, E> {
                text.parse().map(Text).map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Reads(PhantomData))
    }
}

const TIMES: &[(&str, u64)] = &[
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("min", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];
const SIZES: &[(&str, u64)] = &[
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// A whole number and a unit.
fn quantity(text: &str, units: &[(&str, u64)], example: &str) -> Result<u64, String> {
    let wanted = || {
        let names: Vec<_> = units.iter().map(|(name, _)| *name).collect();
        format!(
            "wanted a whole number and a unit, such as \"{example}\" (units: {}), got {text:?}",
            names.join(", ")
        )
    };
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = (&text[..digits], text[digits..].trim());
    let number: u64 = number.parse().map_err(|_| wanted())?;
    let (_, factor) = units.iter().find(|(name, _)| *name == unit).ok_or_else(wanted)?;
    number
        .checked_mul(*factor)
        .ok_or_else(|| format!("{text:?} is more than fits"))
}

fn print(value: u64, units: &[(&str, u64)]) -> String {
    let fits = |(_, factor): &&(&str, u64)| value != 0 && value.is_multiple_of(*factor);
    let (unit, factor) = units.iter().rev().find(fits).unwrap_or(&units[0]);
    format!("{} {unit}", value / factor)
}

/// A length of time, such as "30 s" or "1 h".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub Duration);

impl FromStr for Time {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        quantity(text, TIMES, "30 s").map(|nanos| Self(Duration::from_nanos(nanos)))
    }
}

impl Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&print(
            u64::try_from(self.0.as_nanos()).unwrap_or(u64::MAX),
            TIMES,
        ))
    }
}

/// A number of bytes, such as "4 GiB".
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        quantity(text, SIZES, "4 GiB").map(Self)
    }
}

impl Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&print(self.0, SIZES))
    }
}

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `N` bytes from hexadecimal digits; `None` for anything else. Does not say what was found: it may be a secret.
pub fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |c: u8| char::from(c).to_digit(16);
        *byte = u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok()?;
    }
    Some(out)
}

/// The name of a node, as `phantom-node init` prints it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NodeName(pub NodeId);

impl FromStr for NodeName {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let bytes = unhex(text)
            .ok_or_else(|| format!("wanted a node's name, 32 hexadecimal digits, got {text:?}"))?;
        Ok(Self(NodeId::from_bytes(bytes)))
    }
}

const OPERATOR: Context = Context::new("phantom-net 2026 operator name v1");

/// Who runs a node: any text, the same for all nodes of one operator. No box has two replicas with one operator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OperatorName(pub String);

impl OperatorName {
    /// Its form in descriptors and documents; zeros for an empty name.
    pub fn id(&self) -> OperatorId {
        if self.0.is_empty() {
            return OperatorId([0; 16]);
        }
        OperatorId(OPERATOR.derive_array(self.0.as_bytes()))
    }
}

impl FromStr for OperatorName {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text.len() > 128 || text.chars().any(char::is_control) {
            return Err(format!(
                "an operator's name is at most 128 bytes of text on one line, got {text:?}"
            ));
        }
        Ok(Self(text.to_owned()))
    }
}

/// What a server prints for others to know it by: `KIND:IDENTITY:LINK@ENDPOINT,ENDPOINT`, the keys in hexadecimal.
/// Nothing in it is secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contact {
    /// What it is.
    pub kind: ContactKind,
    /// Its identity.
    pub identity: IdentityPublic,
    /// Its link key.
    pub link: LinkPublic,
    /// Where it is; at least one.
    pub endpoints: Vec<Endpoint>,
}

/// What a contact line is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContactKind {
    /// A directory authority.
    Authority,
    /// A listed node.
    Node,
}

impl ContactKind {
    const fn word(self) -> &'static str {
        match self {
            Self::Authority => "authority",
            Self::Node => "node",
        }
    }
}

impl Contact {
    /// The endpoints, if all are addresses.
    pub fn addresses(&self) -> Option<Vec<SocketAddr>> {
        self.endpoints
            .iter()
            .map(|endpoint| match endpoint {
                Endpoint::Addr(at) => Some(*at),
                Endpoint::Name { .. } => None,
            })
            .collect()
    }
}

impl FromStr for Contact {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        const WANTED: &str = "wanted a contact line, KIND:IDENTITY:LINK@ADDRESS:PORT[,…], as `phantom-node init` or \
                              `phantom-node directory init` prints it";
        let (keys, places) = text.split_once('@').ok_or(WANTED)?;
        let mut parts = keys.split(':');
        let (Some(kind), Some(identity), Some(link), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(WANTED.to_owned());
        };
        let kind = [ContactKind::Authority, ContactKind::Node]
            .into_iter()
            .find(|known| known.word() == kind)
            .ok_or_else(|| format!("{WANTED}; KIND is authority or node, got {kind:?}"))?;
        let key = |text: &str| {
            unhex::<32>(text).ok_or_else(|| format!("{WANTED}; a key is 64 hexadecimal digits, got {text:?}"))
        };
        let identity =
            IdentityPublic::from_bytes(key(identity)?).map_err(|error| format!("the identity: {error}"))?;
        let link = LinkPublic::from_bytes(key(link)?);
        let endpoints: Vec<Endpoint> = places
            .split(',')
            .map(|place| place.parse::<Endpoint>().map_err(|error| error.to_string()))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            kind,
            identity,
            link,
            endpoints,
        })
    }
}

impl Display for Contact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let places: Vec<String> = self.endpoints.iter().map(Endpoint::to_string).collect();
        write!(
            f,
            "{}:{}:{}@{}",
            self.kind.word(),
            hex(self.identity.as_bytes()),
            hex(self.link.as_bytes()),
            places.join(",")
        )
    }
}

#[cfg(test)]
mod tests {
    use phantom_core::crypto::keys::{IdentitySecret, LinkSecret};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantities_have_a_unit() {
        assert_eq!("1 h".parse(), Ok(Time(Duration::from_secs(3_600))));
        assert_eq!("250ms".parse(), Ok(Time(Duration::from_millis(250))));
        assert_eq!("4 GiB".parse(), Ok(Size(4 << 30)));
        for bad in [
            "",
            "1",
            "h",
            "1 hour",
            "1.5 h",
            "-1 s",
            "99999999999999999999 s",
            "99999999999 d",
        ] {
            assert!(bad.parse::<Time>().is_err(), "{bad}");
        }
        assert_eq!(Size(8 << 20).to_string(), "8 MiB");
        assert_eq!(Time(Duration::from_secs(90)).to_string(), "90 s");
    }

    #[test]
    fn a_contact_line_reads_back() {
        let contact = Contact {
            kind: ContactKind::Authority,
            identity: IdentitySecret::from_bytes(&[1; 32]).public(),
            link: LinkSecret::from_bytes([2; 32]).public(),
            endpoints: vec![
                "192.0.2.1:443".parse().expect("one"),
                "[2001:db8::1]:443".parse().expect("one"),
            ],
        };
        assert_eq!(contact.to_string().parse(), Ok(contact.clone()));
        assert!(contact.addresses().is_some());
        for bad in [
            "",
            "node:00:00@x:1",
            &contact.to_string().replace("authority", "friend"),
        ] {
            assert!(bad.parse::<Contact>().is_err(), "{bad}");
        }
    }

    #[test]
    fn operators_with_one_name_are_one_operator() {
        let id = |name: &str| name.parse::<OperatorName>().expect("a name").id();
        assert_eq!(id("example.org"), id("example.org"));
        assert_ne!(id("example.org"), id("example.net"));
        assert_eq!(id(""), OperatorId([0; 16]));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,80}", number in any::<u64>(), unit in "[a-zA-Z]{0,3}") {
            let _ = text.parse::<Contact>();
            let _ = text.parse::<NodeName>();
            for text in [text, format!("{number} {unit}")] {
                if let Ok(size) = text.parse::<Size>() {
                    prop_assert_eq!(size.to_string().parse::<Size>(), Ok(size));
                }
                if let Ok(time) = text.parse::<Time>() {
                    prop_assert_eq!(time.to_string().parse::<Time>(), Ok(time));
                }
            }
        }
    }
}
