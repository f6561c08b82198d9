//! The service node: relays packets, stores boxes, forgets them on time. Bridges are service nodes run unlisted.
//!
//! [`run`] is a node over any [`phantom_core::runtime::Runtime`]; the binary `phantom-node` runs it over tokio, the
//! simulator over its own back ends.

pub mod authority;
mod bridge;
pub mod config;
mod courier;
pub mod directory;
mod door;
mod entrances;
pub mod hopkeys;
pub mod links;
pub mod mailbox;
mod publish;
pub mod relay;
mod service;
#[cfg(feature = "service")]
pub mod settings;
pub mod store;

pub use service::{DocumentFigures, Figures, Gauges, NodeError, Prepared, fetch_document, run};
