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
mod tests;
