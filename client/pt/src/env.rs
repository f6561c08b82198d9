//! What a parent tells the program it starts: the environment, both ways. Spec: pt-spec §3.2.

mod error;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::args::{Args, options_from_text, options_to_text};
use crate::name::TransportName;
use crate::proxy::Proxy;

pub use error::EnvError;

/// The version of the specification that this is.
pub const VERSION: &str = "1";

/// What all of the variables begin with.
pub const PREFIX: &str = "TOR_PT_";

const VERSIONS: &str = "TOR_PT_MANAGED_TRANSPORT_VER";
const STATE: &str = "TOR_PT_STATE_LOCATION";
const EXIT: &str = "TOR_PT_EXIT_ON_STDIN_CLOSE";
const CLIENT: &str = "TOR_PT_CLIENT_TRANSPORTS";
const PROXY: &str = "TOR_PT_PROXY";
const SERVER: &str = "TOR_PT_SERVER_TRANSPORTS";
const BIND: &str = "TOR_PT_SERVER_BINDADDR";
const OPTIONS: &str = "TOR_PT_SERVER_TRANSPORT_OPTIONS";
const ORPORT: &str = "TOR_PT_ORPORT";
const EXTENDED: &str = "TOR_PT_EXTENDED_SERVER_PORT";
const COOKIE: &str = "TOR_PT_AUTH_COOKIE_FILE";

/// So much of a value is shown in an error.
const SHOWN_MAX: usize = 80;

/// What a parent asks of the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    /// The one folder the program may write to; absolute. It need not exist.
    pub state: PathBuf,
    /// Whether the parent closes the program's standard input to end it.
    pub exit_on_stdin_close: bool,
    /// Which side, and what of it.
    pub role: Role,
}

/// A program is one or the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// Listens on loopback as a SOCKS proxy and dials servers.
    Client {
        /// Those wanted, each once; the program ignores what it does not know.
        transports: Vec<TransportName>,
        /// What every connection to the network must go through.
        proxy: Option<Proxy>,
    },
    /// Accepts connections of clients and forwards them.
    Server {
        /// Those wanted, each once; the program ignores what it does not know.
        transports: Vec<ServerTransport>,
        /// Where connections go on to.
        orport: OrPort,
    },
}

impl Role {
    /// The names of the transports asked for.
    pub fn transports(&self) -> Vec<&TransportName> {
        match self {
            Self::Client { transports, .. } => transports.iter().collect(),
            Self::Server { transports, .. } => transports.iter().map(|transport| &transport.name).collect(),
        }
    }
}

/// A transport that a server is to offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTransport {
    /// Its name.
    pub name: TransportName,
    /// Where it must listen; anywhere, if not said.
    pub bind: Option<SocketAddr>,
    /// Its configuration.
    pub options: Args,
}

impl ServerTransport {
    /// One that listens where it likes, without options.
    pub const fn new(name: TransportName) -> Self {
        Self {
            name,
            bind: None,
            options: Args::new(),
        }
    }
}

/// Where a server's connections go on to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OrPort {
    /// Gets the bytes of the client and nothing else.
    Plain(SocketAddr),
    /// Is told first who the client is. Preferred where a parent offers both.
    Extended {
        /// Where it listens.
        address: SocketAddr,
        /// The file that shows that one may; absolute.
        cookie_file: PathBuf,
    },
}

impl OrPort {
    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        match self {
            Self::Plain(address) | Self::Extended { address, .. } => *address,
        }
    }
}

/// The variables of this specification among those of a process.
pub struct Variables(BTreeMap<String, OsString>);

impl Variables {
    /// Picks them out of what `std::env::vars_os` gives; of a name that comes twice, the last.
    pub fn collect(pairs: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let named = pairs.into_iter().filter_map(|(name, value)| {
            let name = name.into_string().ok()?;
            name.starts_with(PREFIX).then_some((name, value))
        });
        Self(named.collect())
    }

    /// An error unless the parent speaks version 1: the first thing to be asked and answered.
    ///
    /// # Errors
    /// [`EnvError::NoVersion`]; or the variable is missing or malformed.
    pub fn version(&self) -> Result<(), EnvError> {
        let wanted = "versions of the specification, separated by commas";
        let held = self.required(VERSIONS, wanted)?;
        let is_version =
            |version: &str| !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_graphic());
        if !held.split(',').all(is_version) {
            return Err(bad(VERSIONS, held, wanted));
        }
        if held.split(',').any(|version| version == VERSION) {
            Ok(())
        } else {
            Err(EnvError::NoVersion { held: shown(held) })
        }
    }

    /// All of it, if the parent speaks version 1.
    ///
    /// # Errors
    /// What is wrong with which variable. Of several errors that of the proxy is the last.
    pub fn environment(&self) -> Result<Environment, EnvError> {
        self.version()?;
        let state = self.path(STATE, "the absolute path of a folder")?;
        let state = state.ok_or(EnvError::Missing {
            variable: STATE,
            wanted: "the absolute path of a folder",
        })?;
        // Anything else than "1" must not end the program.
        let exit_on_stdin_close = self.text(EXIT, "1 or nothing")? == Some("1");
        let client = self.text(CLIENT, "names of transports, separated by commas")?;
        let server = self.text(SERVER, "names of transports, separated by commas")?;
        let role = match (client, server) {
            (Some(names), None) => self.client(names)?,
            (None, Some(names)) => self.server(names)?,
            (Some(_), Some(_)) => return Err(EnvError::BothSides),
            (None, None) => return Err(EnvError::NoSide),
        };
        Ok(Environment {
            state,
            exit_on_stdin_close,
            role,
        })
    }

    fn client(&self, names: &str) -> Result<Role, EnvError> {
        let transports = transports(CLIENT, names)?;
        let proxy = self
            .secret(PROXY, "a URI in UTF-8")?
            .map(str::parse)
            .transpose()?;
        Ok(Role::Client { transports, proxy })
    }

    fn server(&self, names: &str) -> Result<Role, EnvError> {
        let held = self.secret(OPTIONS, "options in UTF-8")?.unwrap_or_default();
        let mut options = options_from_text(held).map_err(|reason| EnvError::Options {
            held: counted(held.len()),
            reason,
        })?;
        let mut binds = self.binds()?;
        let mut transport = |name: TransportName| ServerTransport {
            bind: binds.remove(&name),
            options: options.remove(&name).unwrap_or_default(),
            name,
        };
        Ok(Role::Server {
            transports: transports(SERVER, names)?
                .into_iter()
                .map(&mut transport)
                .collect(),
            orport: self.orport()?,
        })
    }

    fn binds(&self) -> Result<BTreeMap<TransportName, SocketAddr>, EnvError> {
        let wanted =
            "transport-address:port for each transport once, separated by commas, addresses as numbers";
        let mut binds = BTreeMap::new();
        let Some(held) = self.text(BIND, wanted)? else {
            return Ok(binds);
        };
        for bind in held.split(',') {
            let parsed = bind.split_once('-').and_then(|(name, address)| {
                Some((
                    name.parse::<TransportName>().ok()?,
                    address.parse::<SocketAddr>().ok()?,
                ))
            });
            let (name, address) = parsed.ok_or_else(|| bad(BIND, bind, wanted))?;
            if binds.insert(name, address).is_some() {
                return Err(bad(BIND, held, wanted));
            }
        }
        Ok(binds)
    }

    fn orport(&self) -> Result<OrPort, EnvError> {
        let wanted = "an IP address and a port";
        let address = |variable: &'static str| {
            let held = self.text(variable, wanted)?;
            let parsed = held.map(|held| {
                held.parse::<SocketAddr>()
                    .map_err(|_| bad(variable, held, wanted))
            });
            parsed.transpose()
        };
        let plain = address(ORPORT)?;
        let wanted_cookie = "the absolute path of the cookie's file";
        match (address(EXTENDED)?, self.path(COOKIE, wanted_cookie)?, plain) {
            (Some(address), Some(cookie_file), _) => Ok(OrPort::Extended { address, cookie_file }),
            (Some(_), None, _) => Err(EnvError::Missing {
                variable: COOKIE,
                wanted: "the absolute path of the cookie's file, because TOR_PT_EXTENDED_SERVER_PORT is set",
            }),
            (None, _, Some(address)) => Ok(OrPort::Plain(address)),
            (None, _, None) => Err(EnvError::Missing {
                variable: ORPORT,
                wanted: "an IP address and a port, because TOR_PT_EXTENDED_SERVER_PORT is not set",
            }),
        }
    }

    /// `None`: not set, or empty, which is the same.
    fn raw(&self, variable: &'static str) -> Option<&OsString> {
        self.0.get(variable).filter(|value| !value.is_empty())
    }

    fn text(&self, variable: &'static str, wanted: &'static str) -> Result<Option<&str>, EnvError> {
        let Some(value) = self.raw(variable) else {
            return Ok(None);
        };
        let text = value.to_str().map(Some);
        text.ok_or_else(|| bad(variable, &value.to_string_lossy(), wanted))
    }

    /// Text that must not be shown.
    fn secret(&self, variable: &'static str, wanted: &'static str) -> Result<Option<&str>, EnvError> {
        self.text(variable, wanted).map_err(|_| EnvError::Bad {
            variable,
            held: counted(self.raw(variable).map_or(0, |value| value.len())),
            wanted,
        })
    }

    fn required(&self, variable: &'static str, wanted: &'static str) -> Result<&str, EnvError> {
        self.text(variable, wanted)?
            .ok_or(EnvError::Missing { variable, wanted })
    }

    fn path(&self, variable: &'static str, wanted: &'static str) -> Result<Option<PathBuf>, EnvError> {
        let path = self.raw(variable).map(PathBuf::from);
        match path {
            Some(path) if !path.is_absolute() => Err(bad(variable, &path.to_string_lossy(), wanted)),
            other => Ok(other),
        }
    }
}

impl Environment {
    /// Reads it. See [`Variables`] for the same in steps.
    ///
    /// # Errors
    /// What is wrong with which variable.
    pub fn parse(pairs: impl IntoIterator<Item = (OsString, OsString)>) -> Result<Self, EnvError> {
        Variables::collect(pairs).environment()
    }

    /// Makes the state folder if it is not there, for the owner alone: keys of transports are kept in it.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn make_state_folder(&self) -> io::Result<()> {
        let mut builder = std::fs::DirBuilder::new();
        builder.recursive(true);
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&self.state)
    }

    /// The variables that say it.
    pub fn to_pairs(&self) -> Vec<(&'static str, OsString)> {
        let mut pairs: Vec<(&str, OsString)> =
            vec![(VERSIONS, VERSION.into()), (STATE, self.state.clone().into())];
        if self.exit_on_stdin_close {
            pairs.push((EXIT, "1".into()));
        }
        match &self.role {
            Role::Client { transports, proxy } => {
                pairs.push((CLIENT, joined(transports).into()));
                if let Some(proxy) = proxy {
                    pairs.push((PROXY, proxy.to_uri().into()));
                }
            }
            Role::Server { transports, orport } => {
                pairs.push((
                    SERVER,
                    joined(transports.iter().map(|transport| &transport.name)).into(),
                ));
                let binds = transports
                    .iter()
                    .filter_map(|transport| Some(format!("{}-{}", transport.name, transport.bind?)));
                let binds = joined(binds);
                if !binds.is_empty() {
                    pairs.push((BIND, binds.into()));
                }
                let options = transports
                    .iter()
                    .map(|transport| (&transport.name, &transport.options));
                let options = options_to_text(options);
                if !options.is_empty() {
                    pairs.push((OPTIONS, options.into()));
                }
                match orport {
                    OrPort::Plain(address) => {
                        pairs.push((ORPORT, address.to_string().into()));
                        // "If the parent process does not support the ExtORPort protocol, it MUST set" this.
                        pairs.push((EXTENDED, OsString::new()));
                    }
                    OrPort::Extended { address, cookie_file } => {
                        pairs.push((EXTENDED, address.to_string().into()));
                        pairs.push((COOKIE, cookie_file.clone().into()));
                    }
                }
            }
        }
        pairs
    }
}

/// Each once, in order.
fn transports(variable: &'static str, names: &str) -> Result<Vec<TransportName>, EnvError> {
    let mut transports = Vec::new();
    for name in names.split(',') {
        let parsed = name.parse().map_err(|reason| EnvError::Name {
            variable,
            held: shown(name),
            reason,
        })?;
        if !transports.contains(&parsed) {
            transports.push(parsed);
        }
    }
    Ok(transports)
}

fn joined(parts: impl IntoIterator<Item = impl ToString>) -> String {
    let parts: Vec<String> = parts.into_iter().map(|part| part.to_string()).collect();
    parts.join(",")
}

fn bad(variable: &'static str, held: &str, wanted: &'static str) -> EnvError {
    let held = shown(held);
    EnvError::Bad {
        variable,
        held,
        wanted,
    }
}

fn counted(bytes: usize) -> String {
    format!("{bytes} bytes (not shown: it may hold secrets)")
}

/// In quotes, and cut.
fn shown(text: &str) -> String {
    match text.char_indices().nth(SHOWN_MAX) {
        Some((end, _)) => format!("{:?} and more", &text[..end]),
        None => format!("{text:?}"),
    }
}

#[cfg(test)]
mod tests;
