//! BitTorrent's Mainline DHT, spoken by our own code: BEP 5 (queries), 32 (IPv6), 42 (ids tied to addresses),
//! 43 (read-only nodes) and 44 (stored items). SPEC §7.1 to §7.4.
//!
//! From the bottom up: [`bencode`] and [`krpc`] are the messages, [`id`] and [`item`] what they are about, [`table`] and
//! [`storage`] what a node keeps, [`lookup`] the iterative search, [`server`] a whole node and [`operation`] a read-only
//! node's get or put, all without I/O; [`node`] and [`client`] are the drivers over a [`crate::runtime::Runtime`].
//! Clients are read-only nodes: they ask and store, nobody asks them. [`memory`] is a network for tests and benchmarks.

mod addr;
pub mod bencode;
pub mod client;
pub mod endpoint;
pub mod id;
pub mod item;
pub mod krpc;
pub mod lookup;
pub mod memory;
pub mod node;
pub mod operation;
pub mod pending;
pub mod server;
mod sightings;
pub mod storage;
pub mod table;

pub use client::{ClientConfig, ClientError, DhtClient, KnownNodes};
pub use endpoint::Endpoint;
pub use id::DhtId;
pub use item::{ItemSigner, MutableItem};
pub use node::{NodeConfig, serve};
pub use operation::{GetReport, PutReport};
