//! Bridge lines, and the arguments in them.
//!
//! ```text
//! [Bridge] obfs4 IP:PORT [FINGERPRINT] cert=CERT iat-mode=N
//! ```
//! A certificate is the base64 of the bridge's name and public key, 70 characters without the two of padding. Lines of before
//! 2015 have `node-id=` and `public-key=` in hexadecimal instead; they are read and never written. Arguments that are not
//! known are ignored, as obfs4proxy does. A pluggable transport gets the arguments as `cert=CERT;iat-mode=N` in the user name
//! of its SOCKS5 request (pt-spec §3.5).

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use base64ct::{Base64Unpadded, Encoding};
use thiserror::Error;

use crate::hex;
use crate::ntor::{NodeId, PublicKey};

const CERT_LEN: usize = 52;
const CERT_CHARS: usize = 70;
/// No line is longer; what is pasted may be.
const LINE_MAX: usize = 1024;

/// What is wrong with a bridge line, a certificate or arguments: the fault of who wrote or copied them.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BridgeError {
    /// More text than any line has.
    #[error("the bridge line has {got} bytes, wanted at most {LINE_MAX}")]
    TooLong {
        /// Its length.
        got: usize,
    },
    /// Another transport, or none: a line that names none is for plain Tor.
    #[error("the bridge line begins with `{got}`, wanted `obfs4` (or `Bridge obfs4`)")]
    NotObfs4 {
        /// The word found.
        got: String,
    },
    /// No address where one belongs.
    #[error("the word after `obfs4` is `{got}`, wanted IP:PORT (an IPv6 address in brackets)")]
    BadAddress {
        /// The word found.
        got: String,
    },
    /// The word after the address is neither a fingerprint nor an argument.
    #[error("`{got}` is no fingerprint: wanted 40 hexadecimal digits")]
    BadFingerprint {
        /// The word found.
        got: String,
    },
    /// A word that should be an argument has no `=`.
    #[error("`{got}` is no argument: wanted NAME=VALUE")]
    NotAnArgument {
        /// The word found.
        got: String,
    },
    /// Twice the same argument.
    #[error("the argument `{name}` is given twice")]
    Repeated {
        /// Its name.
        name: String,
    },
    /// An argument that must be there is not.
    #[error("the argument `{name}` is missing")]
    Missing {
        /// Its name.
        name: &'static str,
    },
    /// A certificate of another length: cut when it was copied, mostly.
    #[error("the certificate has {got} characters, wanted {CERT_CHARS}")]
    CertLength {
        /// Its length.
        got: usize,
    },
    /// A character that base64 does not have.
    #[error("character {at} of the certificate is `{got}`, which base64 does not have")]
    CertCharacter {
        /// Its place, from 1.
        at: usize,
        /// The character.
        got: char,
    },
    /// The last character has bits beyond the last byte: a typing mistake.
    #[error("the last character of the certificate has bits that belong to no byte: it was mistyped")]
    CertTail,
    /// `node-id` or `public-key` of an old line is not so many digits.
    #[error("the argument `{name}`: wanted {wanted} hexadecimal digits, got {got} characters")]
    BadHex {
        /// The argument.
        name: &'static str,
        /// Its length.
        wanted: usize,
        /// What was found (any of them may be no digit).
        got: usize,
    },
    /// `iat-mode` is none of the three.
    #[error("the argument `iat-mode` is `{got}`, wanted 0, 1 or 2")]
    BadIatMode {
        /// What was found.
        got: String,
    },
    /// A backslash that escapes nothing.
    #[error("byte {at} of the arguments is a backslash before neither `;`, `=` nor another")]
    BadEscape {
        /// Its place, from 1.
        at: usize,
    },
}

/// How an end paces its writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum IatMode {
    /// Each burst is written at once.
    #[default]
    None,
    /// Whole segments, with a random pause of at most 10 ms between them: 1.5 Mbit/s.
    Enabled,
    /// Every write of a random length, too: 0.7 Mbit/s.
    Paranoid,
}

impl IatMode {
    /// The mode of a number.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::None),
            1 => Some(Self::Enabled),
            2 => Some(Self::Paranoid),
            _ => None,
        }
    }

    /// Its number in a bridge line.
    pub const fn number(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Enabled => 1,
            Self::Paranoid => 2,
        }
    }
}

/// What a client knows of a bridge besides its address. Not for everyone's eyes: who has it can recognise the bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BridgeArgs {
    /// The bridge's name.
    pub node: NodeId,
    /// The bridge's key.
    pub identity: PublicKey,
    /// How the client should pace its writes.
    pub iat_mode: IatMode,
}

impl BridgeArgs {
    /// The certificate: 70 characters.
    pub fn cert(&self) -> String {
        let mut bytes = [0; CERT_LEN];
        bytes[..20].copy_from_slice(&self.node.0);
        bytes[20..].copy_from_slice(&self.identity.0);
        Base64Unpadded::encode_string(&bytes)
    }

    /// As a SOCKS5 user name of a pluggable transport: `cert=…;iat-mode=N`, 86 bytes. Nothing in it needs an escape.
    pub fn to_pt_args(&self) -> String {
        format!("cert={};iat-mode={}", self.cert(), self.iat_mode.number())
    }

    /// Reads `NAME=VALUE;NAME=VALUE`, where a backslash escapes `;`, `=` and itself.
    ///
    /// # Errors
    /// [`BridgeError`] says which argument is wrong, and how.
    pub fn from_pt_args(text: &str) -> Result<Self, BridgeError> {
        if text.len() > LINE_MAX {
            return Err(BridgeError::TooLong { got: text.len() });
        }
        let mut args = Arguments::default();
        let (mut name, mut word) = (None, String::new());
        let mut chars = text.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => match chars.next() {
                    Some((_, escaped @ (';' | '=' | '\\'))) => word.push(escaped),
                    _ => return Err(BridgeError::BadEscape { at: at + 1 }),
                },
                '=' if name.is_none() => name = Some(std::mem::take(&mut word)),
                ';' => args.insert(name.take(), std::mem::take(&mut word))?,
                _ => word.push(c),
            }
        }
        args.insert(name, word)?;
        args.finish()
    }
}

/// A bridge: where it is and what a client needs to know of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BridgeLine {
    /// Where it listens.
    pub address: SocketAddr,
    /// The fingerprint of the Tor relay behind it, if it is one.
    pub fingerprint: Option<[u8; 20]>,
    /// The rest.
    pub args: BridgeArgs,
}

impl FromStr for BridgeLine {
    type Err = BridgeError;

    fn from_str(line: &str) -> Result<Self, BridgeError> {
        if line.len() > LINE_MAX {
            return Err(BridgeError::TooLong { got: line.len() });
        }
        let mut words = line.split_ascii_whitespace().peekable();
        words.next_if(|word| word.eq_ignore_ascii_case("bridge"));
        let transport = words.next().unwrap_or_default();
        if transport != "obfs4" {
            return Err(BridgeError::NotObfs4 {
                got: transport.into(),
            });
        }
        let address = words.next().unwrap_or_default();
        let address = address
            .parse()
            .map_err(|_| BridgeError::BadAddress { got: address.into() })?;
        let fingerprint = match words.next_if(|word| !word.contains('=')) {
            Some(word) => Some(hex::decode(word).ok_or(BridgeError::BadFingerprint { got: word.into() })?),
            None => None,
        };
        let mut args = Arguments::default();
        for word in words {
            match word.split_once('=') {
                Some((name, value)) => args.insert(Some(name.into()), value.into())?,
                None => args.insert(None, word.into())?,
            }
        }
        Ok(Self {
            address,
            fingerprint,
            args: args.finish()?,
        })
    }
}

impl fmt::Display for BridgeLine {
    /// Without `Bridge`: as Tor Browser, bridges.torproject.org and moat give lines.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "obfs4 {}", self.address)?;
        if let Some(fingerprint) = self.fingerprint {
            write!(f, " {}", hex::encode(&fingerprint).to_ascii_uppercase())?;
        }
        write!(
            f,
            " cert={} iat-mode={}",
            self.args.cert(),
            self.args.iat_mode.number()
        )
    }
}

/// The arguments of a line, by name.
#[derive(Default)]
struct Arguments(BTreeMap<String, String>);

impl Arguments {
    fn insert(&mut self, name: Option<String>, value: String) -> Result<(), BridgeError> {
        match name {
            None => Err(BridgeError::NotAnArgument { got: value }),
            Some(name) if name.is_empty() => Err(BridgeError::NotAnArgument {
                got: format!("={value}"),
            }),
            Some(name) if self.0.contains_key(&name) => Err(BridgeError::Repeated { name }),
            Some(name) => {
                self.0.insert(name, value);
                Ok(())
            }
        }
    }

    fn get(&self, name: &'static str) -> Result<&str, BridgeError> {
        self.0
            .get(name)
            .map(String::as_str)
            .ok_or(BridgeError::Missing { name })
    }

    fn hex<const N: usize>(&self, name: &'static str) -> Result<[u8; N], BridgeError> {
        let text = self.get(name)?;
        hex::decode(text).ok_or_else(|| BridgeError::BadHex {
            name,
            wanted: 2 * N,
            got: text.chars().count(),
        })
    }

    fn finish(&self) -> Result<BridgeArgs, BridgeError> {
        // What misses is the certificate, unless the line is clearly of the old kind.
        let (node, identity) = if self.0.contains_key("cert") || !self.0.contains_key("node-id") {
            parse_cert(self.get("cert")?)?
        } else {
            (NodeId(self.hex("node-id")?), PublicKey(self.hex("public-key")?))
        };
        let mode = self.get("iat-mode")?;
        let iat_mode = match mode {
            "0" => IatMode::None,
            "1" => IatMode::Enabled,
            "2" => IatMode::Paranoid,
            _ => return Err(BridgeError::BadIatMode { got: mode.into() }),
        };
        Ok(BridgeArgs {
            node,
            identity,
            iat_mode,
        })
    }
}

fn parse_cert(text: &str) -> Result<(NodeId, PublicKey), BridgeError> {
    let odd = |c: &char| !(c.is_ascii_alphanumeric() || matches!(c, '+' | '/'));
    if let Some((at, got)) = (1..).zip(text.chars()).find(|(_, c)| odd(c)) {
        return Err(BridgeError::CertCharacter { at, got });
    }
    if text.len() != CERT_CHARS {
        return Err(BridgeError::CertLength { got: text.len() });
    }
    let mut bytes = [0; CERT_LEN];
    Base64Unpadded::decode(text, &mut bytes).map_err(|_| BridgeError::CertTail)?;
    let (mut node, mut identity) = ([0; 20], [0; 32]);
    node.copy_from_slice(&bytes[..20]);
    identity.copy_from_slice(&bytes[20..]);
    Ok((NodeId(node), PublicKey(identity)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Of this shape are the lines that Tor Browser ships.
    const LINE: &str = "Bridge obfs4 192.0.2.7:443 0123456789ABCDEF0123456789ABCDEF01234567 \
        cert=AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4vMDEyMw iat-mode=0";

    #[test]
    fn a_line_is_read_and_written_back() {
        let line: BridgeLine = LINE.parse().expect("a good line");
        assert_eq!(line.address, "192.0.2.7:443".parse().expect("an address"));
        assert_eq!(line.args.node.0[..3], [0, 1, 2]);
        assert_eq!(line.args.identity.0[31], 51);
        assert_eq!(line.to_string(), LINE.trim_start_matches("Bridge "));
    }

    #[test]
    fn lines_without_fingerprint_and_lines_of_the_old_kind_are_read() {
        let line: BridgeLine = LINE.parse().expect("a good line");
        let without = LINE.replace("0123456789ABCDEF0123456789ABCDEF01234567 ", "");
        assert_eq!(without.parse::<BridgeLine>().expect("good").fingerprint, None);
        let old = format!(
            "obfs4 [2001:db8::1]:9 node-id={} public-key={} iat-mode=0 shared-secret=ignored",
            hex::encode(&line.args.node.0),
            hex::encode(&line.args.identity.0),
        );
        assert_eq!(old.parse::<BridgeLine>().expect("good").args, line.args);
    }

    #[test]
    fn errors_say_what_is_wrong_where_and_what_is_wanted() {
        for (from, to, wanted) in [
            ("obfs4", "webtunnel", "begins with `webtunnel`, wanted `obfs4`"),
            ("192.0.2.7:443", "192.0.2.7", "is `192.0.2.7`, wanted IP:PORT"),
            ("CDEF01234567 cert", "CDEF cert", "wanted 40 hexadecimal digits"),
            ("cert=AAEC", "cert=AA!C", "character 3 of the certificate is `!`"),
            ("cert=AAEC", "cert=", "66 characters, wanted 70"),
            ("MDEyMw", "MDEyMx", "mistyped"),
            ("cert=", "crt=", "the argument `cert` is missing"),
            ("iat-mode=0", "", "the argument `iat-mode` is missing"),
            ("iat-mode=0", "iat-mode=3", "`iat-mode` is `3`, wanted 0, 1 or 2"),
            ("iat-mode=0", "iat-mode=0 iat-mode=1", "`iat-mode` is given twice"),
            ("iat-mode=0", "iat-mode=0 fast", "`fast` is no argument"),
            (" iat-mode=0", "\u{2026}", "which base64 does not have"),
        ] {
            let error = LINE
                .replace(from, to)
                .parse::<BridgeLine>()
                .expect_err(wanted)
                .to_string();
            assert!(error.contains(wanted), "{error:?} should contain {wanted:?}");
        }
        let long = format!("{LINE} x={}", "y".repeat(LINE_MAX));
        assert_eq!(
            long.parse::<BridgeLine>(),
            Err(BridgeError::TooLong { got: long.len() })
        );
    }

    #[test]
    fn arguments_of_a_pluggable_transport_fit_a_user_name_and_may_be_escaped() {
        let args = LINE.parse::<BridgeLine>().expect("a good line").args;
        let text = args.to_pt_args();
        assert_eq!(text.len(), 86);
        assert_eq!(BridgeArgs::from_pt_args(&text), Ok(args));
        let escaped = format!(r"a\=\;\\b=c=d;{text}");
        assert_eq!(BridgeArgs::from_pt_args(&escaped), Ok(args));
        assert_eq!(
            BridgeArgs::from_pt_args(r"a\b=c"),
            Err(BridgeError::BadEscape { at: 2 })
        );
        assert_eq!(
            BridgeArgs::from_pt_args("a=\\"),
            Err(BridgeError::BadEscape { at: 3 })
        );
        assert!(matches!(
            BridgeArgs::from_pt_args(""),
            Err(BridgeError::NotAnArgument { .. })
        ));
        assert!(matches!(
            BridgeArgs::from_pt_args(&format!("{text};")),
            Err(BridgeError::NotAnArgument { .. })
        ));
    }

    proptest! {
        #[test]
        fn lines_read_back(
            node: [u8; 20], identity: [u8; 32], mode in 0_u8..3, v6: bool, address: u128, port: u16,
            fingerprint: Option<[u8; 20]>,
        ) {
            let ip = if v6 { std::net::Ipv6Addr::from(address).into() } else { std::net::Ipv4Addr::from(address as u32).into() };
            let line = BridgeLine {
                address: SocketAddr::new(ip, port),
                fingerprint,
                args: BridgeArgs {
                    node: NodeId(node),
                    identity: PublicKey(identity),
                    iat_mode: IatMode::from_number(mode).expect("one of three"),
                },
            };
            prop_assert_eq!(line.to_string().parse(), Ok(line));
            prop_assert_eq!(BridgeArgs::from_pt_args(&line.args.to_pt_args()), Ok(line.args));
        }

        #[test]
        fn any_text_gives_an_answer(text: String, cut in 0..LINE.len()) {
            let _ = text.parse::<BridgeLine>();
            let _ = BridgeArgs::from_pt_args(&text);
            let _ = format!("{}{text}", &LINE[..cut]).parse::<BridgeLine>();
        }
    }
}
