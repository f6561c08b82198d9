//! The testbed.

pub mod host;
pub mod loopback;
pub mod stage;
pub mod swarm;
pub mod witness;
