//! Workloads that measure the engine itself, written once for every back end.

pub mod compare;
pub mod engine;
pub mod on_stage;
pub mod ping;
