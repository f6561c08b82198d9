//! What every simulated back end shares: files with crash semantics, entropy streams, wall clocks, the event record and
//! its digest, the table of names.
//!
//! Store, DNS and crash semantics are ours on every back end, so that a difference between two of them is a difference
//! in scheduling or in the network and nothing else. Nothing in here knows of an executor.

pub mod canon;
pub mod entropy;
pub mod names;
pub mod record;
pub mod spill;
pub mod store;
pub mod wall;

use std::fmt;

pub use entropy::Streams;
pub use names::Names;
pub use record::{Checkpoint, Difference, Digest, Observer};
pub use spill::Spill;
pub use store::Disk;
pub use wall::Wall;

/// A simulated host and the peer that runs on it: an index in order of creation.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct PeerId(pub u32);

impl PeerId {
    /// The index into tables of peers.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "peer {}", self.0)
    }
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "peer {}", self.0)
    }
}
