//! Residue: payload bytes still on a disk after the purge that should have destroyed them.

use super::observe::{Observation, Seen};

/// What the searches of disks found.
#[derive(Clone, Debug, Default)]
pub struct Residue {
    found: u64,
    searched: u64,
}

impl Residue {
    /// Takes note of searches.
    pub fn observe(&mut self, observation: &Observation) {
        if let Seen::DiskSearched { boxes, found } = observation.seen {
            self.searched += u64::from(boxes);
            self.found += u64::from(found);
        }
    }

    /// Purged boxes of which bytes were left, and purged boxes looked for.
    pub const fn found(&self) -> (u64, u64) {
        (self.found, self.searched)
    }
}
