//! The service node.

pub mod store;
