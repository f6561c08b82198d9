//! The testbed.

pub mod host;
pub mod stage;
pub mod witness;
