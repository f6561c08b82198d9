//! The testbed.

pub mod host;
