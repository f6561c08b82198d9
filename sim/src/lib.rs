//! The testbed.

pub mod bench;
pub mod capture;
pub mod censor;
pub mod check;
pub mod cli;
pub mod host;
pub mod loopback;
pub mod play;
pub mod run;
pub mod scenario;
pub mod scratch;
pub mod stage;
pub mod swarm;
pub mod witness;
