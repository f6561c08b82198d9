//! Durability of boxes: what was acknowledged stays readable while one replica that stored it keeps its disk.

use std::collections::BTreeMap;

use phantom_core::event::{Event, Tag};
use phantom_core::units::{Instant, WallTime};

use super::observe::{Observation, Seen};
use crate::scenario::plan::HostId;

#[derive(Clone, Debug, Default)]
struct Stored {
    /// Replicas whose disk has held it ever since they stored it: seldom more than three.
    holders: Vec<HostId>,
    expires: WallTime,
    acknowledged: bool,
    readable: Option<bool>,
}

/// How often what happened to hosts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    /// They crashed.
    pub crashes: u64,
    /// They started again.
    pub restarts: u64,
    /// Their disk was lost.
    pub disks_lost: u64,
    /// Their wall clock jumped.
    pub clock_steps: u64,
}

/// All boxes of a run, and the faults that befall their disks.
#[derive(Clone, Debug, Default)]
pub struct Boxes {
    boxes: BTreeMap<Tag, Stored>,
    repaired: u64,
    faults: Faults,
    epoch: WallTime,
}

impl Boxes {
    /// No boxes yet; the world's clock starts at `epoch`.
    pub fn new(epoch: WallTime) -> Self {
        Self {
            epoch,
            ..Self::default()
        }
    }

    /// Takes note of what concerns boxes and disks.
    pub fn observe(&mut self, observation: &Observation) {
        match (&observation.seen, observation.host) {
            (Seen::Event(Event::BoxStored { address, expires }), Some(host)) => {
                let stored = self.boxes.entry(*address).or_default();
                if !stored.holders.contains(&host) {
                    stored.holders.reserve_exact(1);
                    stored.holders.push(host);
                }
                stored.expires = *expires;
            }
            (Seen::Event(Event::BoxAcknowledged { address, .. }), _) => {
                self.boxes.entry(*address).or_default().acknowledged = true;
            }
            (Seen::Event(Event::BoxRepaired { .. }), _) => self.repaired += 1,
            (Seen::Crashed, _) => self.faults.crashes += 1,
            (Seen::Restarted, _) => self.faults.restarts += 1,
            (Seen::ClockStepped, _) => self.faults.clock_steps += 1,
            (Seen::DiskLost, Some(host)) => {
                self.faults.disks_lost += 1;
                // Disks are lost seldom, and boxes are many: going through all of them takes less than an index would.
                for stored in self.boxes.values_mut() {
                    stored.holders.retain(|holder| *holder != host);
                }
            }
            (Seen::BoxProbed { address, readable }, _) => {
                self.boxes.entry(*address).or_default().readable = Some(*readable);
            }
            _ => {}
        }
    }

    /// Of the boxes probed that were acknowledged, are unexpired and still have a holder: how many are unreadable, and
    /// how many there are.
    pub fn lost(&self, end: Instant) -> (u64, u64) {
        let now = self.epoch + end.since_start();
        let mut counted = (0, 0);
        for stored in self.boxes.values() {
            if let (true, Some(readable)) = (
                stored.acknowledged && stored.expires > now && !stored.holders.is_empty(),
                stored.readable,
            ) {
                counted.0 += u64::from(!readable);
                counted.1 += 1;
            }
        }
        counted
    }

    /// Boxes that a replica took over.
    pub const fn repaired(&self) -> u64 {
        self.repaired
    }

    /// What befell hosts.
    pub const fn faults(&self) -> Faults {
        self.faults
    }
}
