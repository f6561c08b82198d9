//! Judging a run: observations in ([`observe`]), verdicts out ([`judge`]); claims over seeds ([`claims`], [`stats`]).
//!
//! Nothing here knows an engine: whoever plays a plan feeds a [`observe::Sink`], in order of time.

pub mod boxes;
pub mod censor;
pub mod claims;
pub mod connect;
pub mod insiders;
pub mod judge;
pub mod leaks;
pub mod messages;
pub mod observe;
pub mod path;
pub mod queues;
pub mod residue;
pub mod stats;
pub mod transports;
pub mod ways;
pub mod world;
