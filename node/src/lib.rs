//! The service node.

pub mod hopkeys;
pub mod store;
