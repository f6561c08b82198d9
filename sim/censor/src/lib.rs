//! What a censor can tell from the bytes of a flow, and how those bytes are had from a capture.
//!
//! Everything here is a pure function of its input: no clock, no entropy, no socket, no floating point in a verdict. The same
//! bytes therefore get the same verdict on every machine. The crate knows nothing of the simulator, of a runtime or of the
//! protocol of Phantom Net; what it reads may be hostile, and none of it may make a function here panic.
//!
//! - [`classify`]: classifiers, each a function on bytes with its source.
//! - [`packet`]: a captured frame as addresses, ports, flags and a payload.
//! - [`capture`]: packets out of pcap and pcapng, streamed, within bounds.
//! - [`flow`]: packets gathered into flows, within a budget.
//! - [`engine`]: rules over packets and flows: what a censor on the path does.
//! - [`prober`]: what a censor says to the servers of suspects, and what it makes of the answers.
//! - [`mod@file`]: a censor as a file, its rules with their sources.
//! - [`catalogue`]: censors as published, by name.
//! - [`craft`]: builds what the others read, for tests and benchmarks.

pub mod capture;
pub mod catalogue;
pub mod classify;
pub mod craft;
pub mod engine;
pub mod file;
pub mod flow;
pub mod packet;
pub mod prober;
