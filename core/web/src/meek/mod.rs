//! meek: a byte stream in the bodies of HTTP requests and answers, polled by the client, so that it passes whatever passes the web, a front among it.
//!
//! One request is under way at a time and has no number: what a broken connection loses in between is lost, and the stream fails then. With 64 KiB a
//! request its ceiling is 64 KiB in a round trip each way.
//!
//! Source: Tor's meek (`meek-server.go`) and obfs4proxy 0.0.14 (`transports/meeklite/meek.go`).

mod client;
mod exchange;
mod front;
pub mod pace;
mod server;

#[cfg(fuzzing)]
pub(crate) use exchange::request;

pub use client::{Connect, MeekStream, dial};
pub use front::{Front, Fronts};
pub use server::{Limits, Server, Sessions};

use std::time::Duration;

/// Bytes of a body, each way.
pub const BODY_MAX: usize = 0x1_0000;
/// A session's name, which is its secret: 16 random bytes in hexadecimal of a client of ours and of meek_lite; a server takes from 8 bytes up.
pub const SESSION_HEADER: &str = "x-session-id";
/// How long a server waits for something to send back before it answers with nothing.
pub const TURNAROUND: Duration = Duration::from_millis(10);
/// A session that nobody asks for is over.
pub const SESSION_IDLE: Duration = Duration::from_secs(120);
