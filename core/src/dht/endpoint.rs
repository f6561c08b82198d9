//! Where a published node is: an address, or a name and a port. SPEC §7.4.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use thiserror::Error;

use crate::runtime::{Net, Runtime, timeout};
use crate::wire::{DecodeError, Reader, Writer};

/// Longest name (RFC 1035).
pub const NAME_BYTES_MAX: usize = 253;
/// Addresses taken from one answer of a resolver.
const ADDRS_PER_NAME_MAX: usize = 4;
/// How long one name is being resolved.
const RESOLVE_LIMIT: Duration = Duration::from_secs(3);

/// An address, or a name that a resolver turns into some.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Endpoint {
    /// By address.
    Addr(SocketAddr),
    /// By name: letters, digits, `-` and `.`.
    Name {
        /// The name.
        name: String,
        /// The port.
        port: u16,
    },
}

/// Text that names no endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{got:?} is neither `address:port` nor `name:port`")]
pub struct NotAnEndpoint {
    /// What was found.
    pub got: String,
}

impl Endpoint {
    /// Asks the host's resolver for a name. Answers may be forged, so they are worth a question and nothing more. Nothing
    /// when it fails or takes longer than three seconds.
    pub async fn resolve<R: Runtime>(&self, rt: &R) -> Vec<SocketAddr> {
        match self {
            Self::Addr(addr) => vec![*addr],
            Self::Name { name, port } => match timeout(rt, RESOLVE_LIMIT, Net::resolve(rt, name)).await {
                Ok(Ok(ips)) => ips
                    .into_iter()
                    .take(ADDRS_PER_NAME_MAX)
                    .map(|ip| SocketAddr::new(ip, *port))
                    .collect(),
                Ok(Err(_)) | Err(_) => Vec::new(),
            },
        }
    }

    /// Writes its wire form: kind, then the address or the name and port.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Addr(addr) => {
                out.put_u8(0);
                out.put_socket_addr(*addr);
            }
            Self::Name { name, port } => {
                out.put_u8(1);
                out.put_bytes(name.as_bytes());
                out.put_u16(*port);
            }
        }
    }

    /// Reads its wire form.
    pub fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match r.u8()? {
            0 => Self::Addr(r.socket_addr()?),
            1 => {
                let bytes = r.bytes("endpoint name", NAME_BYTES_MAX)?;
                let name = std::str::from_utf8(bytes)
                    .ok()
                    .filter(|name| is_name(name))
                    .ok_or(DecodeError::BadValue {
                        field: "endpoint name",
                        got: bytes.len() as u64,
                    })?
                    .to_owned();
                Self::Name { name, port: r.u16()? }
            }
            got => {
                return Err(DecodeError::BadValue {
                    field: "endpoint kind",
                    got: u64::from(got),
                });
            }
        })
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= NAME_BYTES_MAX
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.')
}

impl FromStr for Endpoint {
    type Err = NotAnEndpoint;

    fn from_str(text: &str) -> Result<Self, NotAnEndpoint> {
        if let Ok(addr) = text.parse() {
            return Ok(Self::Addr(addr));
        }
        text.rsplit_once(':')
            .filter(|(name, _)| is_name(name))
            .and_then(|(name, port)| {
                Some(Self::Name {
                    name: name.to_owned(),
                    port: port.parse().ok()?,
                })
            })
            .ok_or_else(|| NotAnEndpoint { got: text.to_owned() })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Addr(addr) => addr.fmt(f),
            Self::Name { name, port } => write!(f, "{name}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_reads_back_and_nonsense_is_refused() {
        for text in ["192.0.2.1:6881", "[2001:db8::1]:6881", "router.example.org:6881"] {
            let endpoint: Endpoint = text.parse().expect("an endpoint");
            assert_eq!(endpoint.to_string(), text);
            let mut wire = Vec::new();
            endpoint.encode(&mut wire);
            assert_eq!(Endpoint::decode(&mut Reader::new(&wire)), Ok(endpoint));
        }
        for text in ["", "router", "router:", "router:70000", "a b:1", "x/y:1", ":6881"] {
            assert!(text.parse::<Endpoint>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_decodes_encodes_back(bytes in proptest::collection::vec(any::<u8>(), 0..40), kind in 0_u8..2, len in 0_u8..20) {
            for bytes in [bytes.clone(), [&[kind, 4][..], &bytes].concat(), [&[kind, 0, len][..], &[b'a'; 22]].concat()] {
                let mut r = Reader::new(&bytes);
                if let Ok(endpoint) = Endpoint::decode(&mut r) {
                    let mut again = Vec::new();
                    endpoint.encode(&mut again);
                    prop_assert_eq!(&again[..], &bytes[..bytes.len() - r.remaining()]);
                }
            }
        }
    }
}
