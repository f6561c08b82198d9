//! Protocol rules of Phantom Net, and the runtime they are written against.
//!
//! Nothing in here opens a socket, reads a clock or draws ambient randomness: all of that comes from a handle that
//! implements [`runtime::Runtime`]. The same code therefore runs as a tokio service and as one of thousands of
//! simulated peers. The numbered rules are in `docs/SPEC.md`; code cites them as `SPEC §n`.

pub mod attachment;
mod base32;
pub mod crypto;
pub mod dht;
pub mod directory;
pub mod event;
pub mod high_water;
pub mod invite;
pub mod ladder;
pub mod link;
pub mod mailbox;
pub mod message;
pub mod packet;
pub mod queue;
pub mod rendezvous;
mod rest;
pub mod route;
pub mod runtime;
pub mod service;
pub mod transport;
pub mod trusted_time;
pub mod units;
pub mod wire;
