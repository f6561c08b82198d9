//! A way through the network and back: which nodes a request goes over, and matching it with its answer. Spec: SPEC §3.1,
//! §3.5, §4.4.
//!
//! For everybody who asks the mailbox for something: clients, and bridges, which towards listed nodes are clients too.
//! No I/O: whoever uses it sends the packets over its entry link and hands in those that come back.

pub mod paths;
pub mod requests;
mod suspects;

pub use paths::{EntryHop, NoPath, Path, View};
pub use requests::{Ask, RequestCounts, Requests, Unsent};
