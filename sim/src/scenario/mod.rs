//! Scenarios: what a file says ([`mod@file`]), how it is read ([`load`]), and the typed, checked [`plan::Plan`] it becomes.

mod access;
pub mod censor;
pub mod check;
mod deeds;
pub mod expr;
pub mod fault;
pub mod file;
pub mod load;
pub mod merge;
pub mod metric;
pub mod params;
pub mod plan;
mod preset;
pub mod promises;
mod scripts;
pub mod systems;
pub mod units;
