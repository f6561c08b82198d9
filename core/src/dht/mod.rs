//! BitTorrent's Mainline DHT, spoken by our own code: BEP 5 (queries), 32 (IPv6), 42 (ids tied to addresses),
//! 43 (read-only nodes) and 44 (stored items). SPEC §7.1 to §7.4.
//!
//! From the bottom up: [`bencode`] and [`krpc`] are the messages, [`id`] and [`item`] what they are about, table and
//! storage what a node keeps, lookup the iterative search as a machine without I/O, server a whole node without
//! I/O, node and client the drivers over a [`crate::runtime::Runtime`]. Clients are read-only nodes: they ask and
//! store, nobody asks them.

pub mod bencode;
pub mod id;
pub mod item;
pub mod krpc;
