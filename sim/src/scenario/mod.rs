//! Scenarios: what a file says ([`mod@file`]), how it is read ([`load`]), and the typed, checked [`plan::Plan`] it becomes.

pub mod censor;
pub mod check;
pub mod de;
mod deeds;
pub mod expr;
pub mod fault;
pub mod file;
pub mod load;
pub mod metric;
pub mod params;
pub mod plan;
mod preset;
pub mod promises;
mod scripts;
pub mod source;
pub mod systems;
pub mod tree;
pub mod units;
