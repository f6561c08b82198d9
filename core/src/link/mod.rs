//! The link: an authenticated, encrypted, ordered and reliable channel for messages between two ends, over any stream.
//! Spec: SPEC §2.
//!
//! A dialler calls [`connect`], a server [`accept`]; both get a [`Link`]. Everything on the wire, handshake included, is
//! in units of [`FRAME_LEN`] bytes. When the connection breaks, the dialler brings a new stream and calls [`resume`]: the
//! link goes on, loses no message and repeats none. [`rpc`] adds requests and answers on one channel.
//!
//! Inside: `handshake` (who is who), `frame` (what is on the wire), `session` (the machine: what is owed and when),
//! `driver` (moves bytes and time), `handle` (what programs hold).

mod answered;
mod auth;
mod config;
mod control;
mod driver;
mod error;
mod establish;
mod frame;
#[cfg(fuzzing)]
pub mod fuzz;
mod handle;
mod handshake;
mod hello;
mod incoming;
mod outgoing;
pub mod rpc;
mod session;
mod tickets;

use std::fmt;

pub use auth::{BridgeSecret, ClientAuth, PeerKind, ServerAuth};
pub use config::{Config, MESSAGE_MAX};
pub use error::LinkError;
pub use establish::{Accepted, Carrier, Resumption, accept, accept_telling, connect, resume};
pub use frame::FRAME_LEN;
pub use handle::{Link, Sender, Until};
pub use hello::VERSIONS;
pub use session::Progress;

/// What a message is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Channel(pub u8);

impl Channel {
    /// The link's own messages; programs cannot send on it.
    pub const CONTROL: Self = Self(0);
    /// Onion packets (SPEC §3), in both directions.
    pub const PACKET: Self = Self(1);
    /// Requests and answers.
    pub const RPC: Self = Self(2);
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::CONTROL => f.write_str("Channel::CONTROL"),
            Self::PACKET => f.write_str("Channel::PACKET"),
            Self::RPC => f.write_str("Channel::RPC"),
            Self(other) => write!(f, "Channel({other})"),
        }
    }
}

#[cfg(test)]
mod tests;
