//! What the program tells its parent, one line each, both ways. Spec: pt-spec §3.3.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use thiserror::Error;

use crate::args::{Args, ArgsError};
use crate::cstring::{quote, unquote};
use crate::name::{NameError, TransportName};

/// One line, without its end. `Display` writes it: whatever would break the line or is not ASCII becomes a `?`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// The version that holds from here on.
    Version(String),
    /// No common version; the program ends.
    VersionError(String),
    /// The environment cannot be read; the program ends.
    EnvError(String),
    /// The upstream proxy will be used.
    ProxyDone,
    /// The upstream proxy cannot be used; the program ends.
    ProxyError(String),
    /// A client's transport is ready.
    Cmethod {
        /// Which.
        transport: TransportName,
        /// How to speak to it.
        socks: SocksVersion,
        /// Where.
        address: SocketAddr,
    },
    /// A client's transport cannot be had.
    CmethodError {
        /// Which.
        transport: TransportName,
        /// Why.
        reason: String,
    },
    /// There will be no more of them.
    CmethodsDone,
    /// A server's transport is ready.
    Smethod {
        /// Which.
        transport: TransportName,
        /// Where clients find it.
        address: SocketAddr,
        /// What clients must know; without blanks.
        args: Args,
    },
    /// A server's transport cannot be had.
    SmethodError {
        /// Which.
        transport: TransportName,
        /// Why.
        reason: String,
    },
    /// There will be no more of them.
    SmethodsDone,
    /// Something for people to read.
    Log {
        /// How bad it is.
        severity: Severity,
        /// What it is, in the words of the program; may have line breaks.
        text: String,
    },
    /// Something for the parent to read.
    Status {
        /// Of which transport; newer programs also speak of themselves.
        transport: Option<TransportName>,
        /// All else. May name bridges, so that `Debug` does not show it.
        fields: Args,
    },
}

/// How a client's transport is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SocksVersion {
    /// SOCKS 4, which nothing in use still asks for.
    Socks4,
    /// SOCKS 5.
    Socks5,
}

/// How bad what is logged is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Of interest to developers.
    Debug,
    /// Of interest to those who look for something.
    Info,
    /// Of interest to all.
    Notice,
    /// Something is not as it should be.
    Warning,
    /// Something does not work.
    Error,
}

/// Why a line with a known keyword is malformed. Shows nothing of the line, which may hold secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MessageError {
    /// It ends too early.
    #[error("{0} lacks {1}")]
    Lacks(&'static str, &'static str),
    /// Something else stands there.
    #[error("{0} has no valid {1}")]
    Invalid(&'static str, &'static str),
    /// The transport has an impossible name.
    #[error("{0}: {1}")]
    Name(&'static str, NameError),
    /// Arguments or fields cannot be read.
    #[error("{0}: {1}")]
    Args(&'static str, ArgsError),
}

impl Severity {
    /// As a line has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Notice => "notice",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

impl SocksVersion {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Socks4 => "socks4",
            Self::Socks5 => "socks5",
        }
    }
}

impl Message {
    /// Reads a line, given without its end; `None`: its keyword is unknown, and the parent must ignore it.
    ///
    /// # Errors
    /// What is wrong with a line of a known keyword.
    pub fn parse(line: &str) -> Result<Option<Self>, MessageError> {
        let (keyword, rest) = line.split_once(' ').unwrap_or((line, ""));
        let text = || rest.to_owned();
        Ok(Some(match keyword {
            "VERSION" if rest.is_empty() => return Err(MessageError::Lacks("VERSION", "a version")),
            "VERSION" => Self::Version(text()),
            "VERSION-ERROR" => Self::VersionError(text()),
            "ENV-ERROR" => Self::EnvError(text()),
            "PROXY" if rest == "DONE" => Self::ProxyDone,
            "PROXY-ERROR" => Self::ProxyError(text()),
            "CMETHOD" => Self::cmethod(rest)?,
            "CMETHOD-ERROR" => {
                let (transport, reason) = named("CMETHOD-ERROR", rest)?;
                let reason = reason.to_owned();
                Self::CmethodError { transport, reason }
            }
            "CMETHODS" if rest == "DONE" => Self::CmethodsDone,
            "SMETHOD" => Self::smethod(rest)?,
            "SMETHOD-ERROR" => {
                let (transport, reason) = named("SMETHOD-ERROR", rest)?;
                let reason = reason.to_owned();
                Self::SmethodError { transport, reason }
            }
            "SMETHODS" if rest == "DONE" => Self::SmethodsDone,
            "LOG" => Self::log(rest)?,
            "STATUS" => Self::status(rest)?,
            _ => return Ok(None),
        }))
    }

    fn cmethod(rest: &str) -> Result<Self, MessageError> {
        const LINE: &str = "CMETHOD";
        let (transport, rest) = named(LINE, rest)?;
        let (socks, rest) = rest.split_once(' ').unwrap_or((rest, ""));
        let socks = match socks {
            "socks4" => SocksVersion::Socks4,
            "socks5" => SocksVersion::Socks5,
            "" => return Err(MessageError::Lacks(LINE, "socks4 or socks5")),
            _ => return Err(MessageError::Invalid(LINE, "socks4 or socks5")),
        };
        let (address, _) = addressed(LINE, rest)?;
        Ok(Self::Cmethod {
            transport,
            socks,
            address,
        })
    }

    fn smethod(rest: &str) -> Result<Self, MessageError> {
        const LINE: &str = "SMETHOD";
        let (transport, rest) = named(LINE, rest)?;
        let (address, options) = addressed(LINE, rest)?;
        let mut args = Args::new();
        for option in options.split(' ') {
            if let Some(text) = option.strip_prefix("ARGS:") {
                args = Args::from_smethod(text).map_err(|error| MessageError::Args(LINE, error))?;
            }
        }
        Ok(Self::Smethod {
            transport,
            address,
            args,
        })
    }

    fn log(rest: &str) -> Result<Self, MessageError> {
        const LINE: &str = "LOG";
        let fields = fields(LINE, rest)?;
        let find = |key: &str| {
            fields
                .iter()
                .find(|(found, _)| found == key)
                .map(|(_, value)| value)
        };
        let severity = find("SEVERITY").ok_or(MessageError::Lacks(LINE, "SEVERITY"))?;
        let text = find("MESSAGE").ok_or(MessageError::Lacks(LINE, "MESSAGE"))?;
        Ok(Self::Log {
            severity: severity
                .parse()
                .map_err(|()| MessageError::Invalid(LINE, "SEVERITY"))?,
            text: text.clone(),
        })
    }

    fn status(rest: &str) -> Result<Self, MessageError> {
        const LINE: &str = "STATUS";
        let mut transport = None;
        let mut others = Args::new();
        for (key, value) in fields(LINE, rest)? {
            if key == "TRANSPORT" && transport.is_none() {
                transport = Some(value.parse().map_err(|error| MessageError::Name(LINE, error))?);
            } else {
                others
                    .push(key, value)
                    .map_err(|error| MessageError::Args(LINE, error))?;
            }
        }
        Ok(Self::Status {
            transport,
            fields: others,
        })
    }
}

impl FromStr for Severity {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let all = [Self::Debug, Self::Info, Self::Notice, Self::Warning, Self::Error];
        all.into_iter()
            .find(|severity| severity.as_str() == text)
            .ok_or(())
    }
}

/// A transport's name, and what follows it.
fn named<'a>(line: &'static str, rest: &'a str) -> Result<(TransportName, &'a str), MessageError> {
    let (name, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    if name.is_empty() {
        return Err(MessageError::Lacks(line, "a transport"));
    }
    let name = name.parse().map_err(|error| MessageError::Name(line, error))?;
    Ok((name, rest))
}

/// An address, and what follows it.
fn addressed<'a>(line: &'static str, rest: &'a str) -> Result<(SocketAddr, &'a str), MessageError> {
    let (address, rest) = rest.split_once(' ').unwrap_or((rest, ""));
    if address.is_empty() {
        return Err(MessageError::Lacks(line, "an address"));
    }
    let address = address
        .parse()
        .map_err(|_| MessageError::Invalid(line, "address:port"))?;
    Ok((address, rest))
}

/// `KEY=value KEY="value" …`.
fn fields(line: &'static str, text: &str) -> Result<Vec<(String, String)>, MessageError> {
    let mut fields = Vec::new();
    let mut rest = text.trim_matches(' ');
    while !rest.is_empty() {
        let (key, after) = rest
            .split_once('=')
            .ok_or(MessageError::Invalid(line, "KEY=value"))?;
        if key.is_empty() || key.contains([' ', '"']) {
            return Err(MessageError::Invalid(line, "KEY=value"));
        }
        let (value, after) = if after.starts_with('"') {
            unquote(after).ok_or(MessageError::Invalid(line, "quoted value"))?
        } else {
            let end = after.find(' ').unwrap_or(after.len());
            (after[..end].to_owned(), &after[end..])
        };
        if !(after.is_empty() || after.starts_with(' ')) {
            return Err(MessageError::Invalid(line, "blank after a quoted value"));
        }
        fields.push((key.to_owned(), value));
        rest = after.trim_start_matches(' ');
    }
    Ok(fields)
}

/// Text of whatever origin, made fit for a line.
struct Plain<'a>(&'a str);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let printable = |character: char| {
            if matches!(character, ' '..='~') {
                character
            } else {
                '?'
            }
        };
        self.0
            .chars()
            .try_for_each(|character| fmt::Write::write_char(f, printable(character)))
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => write!(f, "VERSION {}", Plain(version)),
            Self::VersionError(reason) => write!(f, "VERSION-ERROR {}", Plain(reason)),
            Self::EnvError(reason) => write!(f, "ENV-ERROR {}", Plain(reason)),
            Self::ProxyDone => f.write_str("PROXY DONE"),
            Self::ProxyError(reason) => write!(f, "PROXY-ERROR {}", Plain(reason)),
            Self::Cmethod {
                transport,
                socks,
                address,
            } => write!(f, "CMETHOD {transport} {} {address}", socks.as_str()),
            Self::CmethodError { transport, reason } => {
                write!(f, "CMETHOD-ERROR {transport} {}", Plain(reason))
            }
            Self::CmethodsDone => f.write_str("CMETHODS DONE"),
            Self::Smethod {
                transport,
                address,
                args,
            } => {
                write!(f, "SMETHOD {transport} {address}")?;
                if !args.is_empty() {
                    // Whoever makes the message keeps blanks out of it, or says so beforehand.
                    let text = args.to_smethod().map_err(|_| fmt::Error)?;
                    write!(f, " ARGS:{}", Plain(&text))?;
                }
                Ok(())
            }
            Self::SmethodError { transport, reason } => {
                write!(f, "SMETHOD-ERROR {transport} {}", Plain(reason))
            }
            Self::SmethodsDone => f.write_str("SMETHODS DONE"),
            Self::Log { severity, text } => {
                write!(f, "LOG SEVERITY={} MESSAGE={}", severity.as_str(), quote(text))
            }
            Self::Status { transport, fields } => {
                f.write_str("STATUS")?;
                if let Some(transport) = transport {
                    write!(f, " TRANSPORT={transport}")?;
                }
                fields
                    .iter()
                    .try_for_each(|(key, value)| write!(f, " {}={}", Plain(key), quote(value)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::args::tests::{args, name};

    fn message() -> impl Strategy<Value = Message> {
        let text = || "[ -~]{0,30}";
        let address = || any::<([u8; 16], u16)>().prop_map(SocketAddr::from);
        let ascii = |args: Args| {
            let replaced = args
                .iter()
                .map(|(key, value)| (key.replace('é', "e"), value.replace('é', "e")));
            replaced.fold(Args::new(), |args, (key, value)| args.with(key, value).unwrap())
        };
        let fields = prop::collection::vec(("[A-Z_]{1,8}", "[^\\p{C}]{0,12}"), 0..4).prop_map(|all| {
            let mut args = Args::new();
            for (key, value) in all {
                args.push(key, value).unwrap();
            }
            args
        });
        let severity = prop::sample::select(vec![Severity::Debug, Severity::Notice, Severity::Error]);
        prop_oneof![
            "[!-~]{1,5}".prop_map(Message::Version),
            text().prop_map(Message::VersionError),
            text().prop_map(Message::EnvError),
            text().prop_map(Message::ProxyError),
            Just(Message::ProxyDone),
            Just(Message::CmethodsDone),
            Just(Message::SmethodsDone),
            (name(), address()).prop_map(|(transport, address)| Message::Cmethod {
                transport,
                socks: SocksVersion::Socks5,
                address
            }),
            (name(), text()).prop_map(|(transport, reason)| Message::CmethodError { transport, reason }),
            (name(), text()).prop_map(|(transport, reason)| Message::SmethodError { transport, reason }),
            (name(), address(), args().prop_map(ascii)).prop_map(|(transport, address, args)| {
                Message::Smethod {
                    transport,
                    address,
                    args,
                }
            }),
            (severity, any::<String>()).prop_map(|(severity, text)| Message::Log { severity, text }),
            (prop::option::of(name()), fields)
                .prop_map(|(transport, fields)| Message::Status { transport, fields }),
        ]
    }

    proptest! {
        #[test]
        fn a_message_survives_its_line(message in message()) {
            // A second TRANSPORT of a STATUS cannot be told from the first.
            if let Message::Status { fields, .. } = &message {
                prop_assume!(fields.value("TRANSPORT").is_none());
            }
            let line = message.to_string();
            prop_assert!(line.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{}", line);
            prop_assert_eq!(Message::parse(&line), Ok(Some(message)));
        }

        #[test]
        fn no_line_makes_the_parser_panic(
            any in any::<String>(),
            keyword in prop::sample::select(vec!["VERSION", "CMETHOD", "SMETHOD", "CMETHOD-ERROR", "LOG", "STATUS"]),
            rest in "( |[a1:=,.\"\\\\A]|ARGS:|socks5|127.0.0.1:1){0,12}",
        ) {
            let _ = Message::parse(&any);
            let _ = Message::parse(&format!("{keyword} {rest}"));
            let _ = Message::parse(&format!("{keyword} {any}"));
        }

        #[test]
        fn no_reason_breaks_its_line(reason in any::<String>()) {
            let line = Message::EnvError(reason).to_string();
            prop_assert!(line.bytes().all(|byte| (0x20..0x7f).contains(&byte)));
        }
    }

    #[test]
    fn the_examples_of_the_specification_are_read() {
        let parsed = |line| Message::parse(line).unwrap().unwrap();
        let Message::Smethod { address, args, .. } = parsed(
            "SMETHOD obfs4 198.51.100.1:43734 ARGS:cert=HszPy3vWfjsESCEOo9ZBkRv6zQ/1mGHzc8ar,iat-mode=0",
        ) else {
            panic!("no SMETHOD");
        };
        assert_eq!((address.port(), args.value("iat-mode")), (43734, Some("0")));
        let Message::Status { transport, fields } = parsed(
            r#"STATUS TRANSPORT=obfs4 ADDRESS=198.51.100.222:2222 CONNECT=Failed ERRSTR="Connection refused""#,
        ) else {
            panic!("no STATUS");
        };
        assert_eq!(transport.unwrap().as_str(), "obfs4");
        assert_eq!(fields.value("ERRSTR"), Some("Connection refused"));
        let log = parsed(r#"LOG SEVERITY=debug MESSAGE="Connected to bridge A""#);
        let text = "Connected to bridge A".to_owned();
        let severity = Severity::Debug;
        assert_eq!(log, Message::Log { severity, text });
    }

    #[test]
    fn unknown_keywords_are_ignored_and_known_ones_must_be_right() {
        for unknown in ["", "HELLO", "PROXY MAYBE", "CMETHODS", "version 1", "\u{1f512}"] {
            assert_eq!(Message::parse(unknown), Ok(None), "{unknown}");
        }
        for (wrong, why) in [
            ("VERSION", "VERSION lacks a version"),
            ("CMETHOD", "CMETHOD lacks a transport"),
            ("CMETHOD a", "CMETHOD lacks socks4 or socks5"),
            (
                "CMETHOD a socks6 127.0.0.1:1",
                "CMETHOD has no valid socks4 or socks5",
            ),
            ("CMETHOD a socks5", "CMETHOD lacks an address"),
            ("SMETHOD a localhost:1", "SMETHOD has no valid address:port"),
            (
                "SMETHOD a 127.0.0.1:1 ARGS:hush",
                "SMETHOD: argument 1 has no equals sign: wanted key=value",
            ),
            ("LOG MESSAGE=a", "LOG lacks SEVERITY"),
            ("LOG SEVERITY=loud MESSAGE=a", "LOG has no valid SEVERITY"),
            ("STATUS TRANSPORT=\"a", "STATUS has no valid quoted value"),
        ] {
            assert_eq!(Message::parse(wrong).unwrap_err().to_string(), why, "{wrong}");
        }
    }
}
