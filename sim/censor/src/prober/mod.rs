//! Active probing: a suspect's first bytes are taken, and after a while somebody else connects to its server and says the
//! same, nearly the same, or something random. What is answered gives it away, or does not.
//!
//! - [`kind`]: what is said, from the first bytes of a suspect.
//! - [`delay`]: how long that takes.
//! - [`judge`]: what the answers tell.
//! - [`config`]: all parameters, with what is published as default.
//! - [`machine`]: which probe follows which answer, when, and who is blocked: bytes and times in, bytes and times out.
//!
//! Sources: Alice, Bob, Carol, Beznazwy and Houmansadr, "How China Detects and Blocks Shadowsocks", IMC 2020: kinds of probes
//! in §3.2, delays in §3.5, triggers and stages in §4.2, reactions of servers in §5, blocks in §6 (read as text; its
//! figures were not). Dunna, O'Brien and Gill, "Analyzing China's Blocking of Unpublished Tor Bridges", FOCI 2018: the whole
//! address for 12 hours, renewed by whoever tries. Frolov, Wampler and Wustrow, "Detecting Probe-resistant Proxies", NDSS
//! 2020: how and when a server closes tells what it is. What a real prober concludes from an answer nobody outside knows
//! (IMC 2020, §6): [`judge`] is a model with named signs.
//!
//! Nothing here connects to anything: who drives the machine does.

pub mod config;
pub mod delay;
pub mod judge;
pub mod kind;
pub mod machine;

pub use config::{Config, ConfigError};
pub use judge::{Answer, Reaction, Sign, Verdict};
pub use kind::Kind;
pub use machine::{Input, Limits, Output, Probe, ProbeError, Prober};

/// A flow that a rule took for one of a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suspect {
    /// The rule, by its place.
    pub rule: usize,
    /// When it was seen, in nanoseconds.
    pub at_ns: u64,
    /// The server: what is probed.
    pub server: std::net::SocketAddr,
    /// The first data packet of its client, as far as it is kept: what is replayed.
    pub first: Vec<u8>,
}

#[cfg(test)]
mod tests;
