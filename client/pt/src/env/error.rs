//! What can be wrong with an environment.

use thiserror::Error;

use super::{CLIENT, OPTIONS, PROXY, SERVER, VERSION, VERSIONS};
use crate::args::ArgsError;
use crate::message::Message;
use crate::name::NameError;
use crate::proxy::ProxyError;

/// What is wrong with an environment.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum EnvError {
    /// Neither is the parent of this version, nor can any answer but this be.
    #[error("{VERSIONS} holds {held}, and version {VERSION} is wanted")]
    NoVersion {
        /// What it offers.
        held: String,
    },
    /// It must be there.
    #[error("{variable} is not set: wanted {wanted}")]
    Missing {
        /// Which.
        variable: &'static str,
        /// What it should hold.
        wanted: &'static str,
    },
    /// It holds something else than it should.
    #[error("{variable} holds {held}: wanted {wanted}")]
    Bad {
        /// Which.
        variable: &'static str,
        /// What it holds, cut; of one with secrets only how much.
        held: String,
        /// What it should hold.
        wanted: &'static str,
    },
    /// A transport has an impossible name.
    #[error("{variable} holds {held}: {reason}")]
    Name {
        /// Which.
        variable: &'static str,
        /// The name.
        held: String,
        /// Why it is none.
        reason: NameError,
    },
    /// The options of transports cannot be read.
    #[error("{OPTIONS} holds {held}: {reason}")]
    Options {
        /// How much it holds: options may be secrets.
        held: String,
        /// What is wrong with it.
        reason: ArgsError,
    },
    /// A program is a client or a server.
    #[error("both {CLIENT} and {SERVER} are set: wanted one of them, for a program is a client or a server")]
    BothSides,
    /// A program is a client or a server.
    #[error("neither {CLIENT} nor {SERVER} is set: was this started by a program that speaks to transports?")]
    NoSide,
    /// The proxy is not usable.
    #[error("{PROXY}: {0}")]
    Proxy(#[from] ProxyError),
}

impl EnvError {
    /// What the program answers before it ends.
    pub fn answer(&self) -> Message {
        match self {
            // "for historical reasons"
            Self::NoVersion { .. } => Message::VersionError("no-version".to_owned()),
            Self::Proxy(error) => Message::ProxyError(error.to_string()),
            other => Message::EnvError(other.to_string()),
        }
    }
}
