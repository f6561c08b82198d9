//! What a path is: a kind of transport to an address of a server, from a network.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU64;
use std::sync::{Arc, LazyLock};

use serde::{Deserialize, Serialize};

/// A kind of transport, by its name: `obfs4`, `webtunnel`, `meek`. 1 to 32 of `a-z`, `0-9`, `_`, `-`, `.`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Kind(Arc<str>);

impl Kind {
    /// `name`, or `None` when it is empty, longer than 32 bytes, or has other characters.
    pub fn new(name: &str) -> Option<Self> {
        let fits = (1..=32).contains(&name.len())
            && name
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"_-.".contains(&b));
        fits.then(|| Self(shared(name)))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The kinds that there are, of which a process with thousands of clients holds one copy each.
static COMMON: LazyLock<[Arc<str>; 6]> = LazyLock::new(|| {
    [
        "plain",
        "obfs4",
        "obfs4_prefixed",
        "webtunnel",
        "meek",
        "snowflake",
    ]
    .map(Arc::from)
});

fn shared(name: &str) -> Arc<str> {
    let known = COMMON.iter().find(|known| ***known == *name);
    known.map_or_else(|| name.into(), Arc::clone)
}

impl TryFrom<String> for Kind {
    type Error = String;
    fn try_from(name: String) -> Result<Self, String> {
        Self::new(&name).ok_or_else(|| "a kind is 1 to 32 of a-z 0-9 _ - .".to_owned())
    }
}

impl From<Kind> for String {
    fn from(kind: Kind) -> Self {
        kind.0.as_ref().to_owned()
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Defines a 16-byte name that is written as 32 hexadecimal digits and shown by its first eight.
macro_rules! name_of_16_bytes {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(pub [u8; 16]);

        impl TryFrom<String> for $name {
            type Error = String;
            fn try_from(text: String) -> Result<Self, String> {
                from_hex(&text).map(Self).ok_or_else(|| "wanted 32 hexadecimal digits".to_owned())
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0.iter().map(|byte| format!("{byte:02x}")).collect()
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0[..4].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    };
}

name_of_16_bytes! {
    /// A server, whatever its addresses: the node's identifier.
    ServerId
}
name_of_16_bytes! {
    /// A network the client can be on, named by the driver (a digest of gateway, operator or SSID): what is learned on one
    /// says little about another.
    NetworkId
}

fn from_hex(text: &str) -> Option<[u8; 16]> {
    let digits = text.as_bytes();
    if digits.len() != 32 {
        return None;
    }
    let mut out = [0; 16];
    for (byte, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *byte = u8::try_from(high * 16 + low).ok()?;
    }
    Some(out)
}

/// A way in: what can be dialled.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Candidate {
    /// The transport.
    pub kind: Kind,
    /// Who is reached.
    pub server: ServerId,
    /// Where: the address that the client's packets go to, a front's for `meek`.
    pub address: SocketAddr,
}

/// Names one connection, or the attempt at one, between the machine and its driver. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathId(pub(crate) NonZeroU64);

/// Which way user bytes go; each way has its own baseline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// From the client: *queued* is what is not acknowledged yet, *delivered* what is.
    Up,
    /// To the client: *queued* is what was asked for and has not come yet, as far as is known; *delivered* what has come.
    Down,
}

impl Direction {
    /// The other one.
    pub const fn other(self) -> Self {
        match self {
            Self::Up => Self::Down,
            Self::Down => Self::Up,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded_and_read_back_as_they_were_written() {
        assert!(Kind::new("").is_none());
        assert!(Kind::new("Obfs4").is_none());
        assert!(Kind::new(&"a".repeat(33)).is_none());
        let server = ServerId([0xab; 16]);
        assert_eq!(ServerId::try_from(String::from(server)), Ok(server));
        assert!(ServerId::try_from("zz".repeat(16)).is_err());
        assert!(ServerId::try_from("é".repeat(16)).is_err());
    }
}
