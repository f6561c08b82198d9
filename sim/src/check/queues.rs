//! Queues: how full the fullest got, against its bound.

use std::collections::BTreeMap;

use phantom_core::event::Event;

use super::observe::{Observation, Seen};
use crate::scenario::plan::HostId;

/// High-water marks of all queues.
#[derive(Clone, Debug, Default)]
pub struct Queues {
    fill: BTreeMap<(HostId, &'static str), f64>,
    highest: f64,
    marks: u64,
    overflows: u64,
}

impl Queues {
    /// Takes note of high-water marks.
    pub fn observe(&mut self, observation: &Observation) {
        if let (Seen::Event(Event::QueueHigh { queue, depth, bound }), Some(host)) =
            (&observation.seen, observation.host)
        {
            self.marks += 1;
            self.overflows += u64::from(depth > bound);
            // A queue without a bound is as bad as one that is over it.
            let fill = if *bound == 0 {
                f64::INFINITY
            } else {
                f64::from(*depth) / f64::from(*bound)
            };
            let highest = self.fill.entry((host, queue)).or_default();
            *highest = highest.max(fill);
            self.highest = self.highest.max(fill);
        }
    }

    /// Per queue and host, its deepest as a share of its bound.
    pub fn fills(&self) -> Vec<f64> {
        self.fill.values().copied().collect()
    }

    /// The fullest of them, and how many queues there are: looked at every simulated second, so it is kept at hand.
    pub fn highest(&self) -> (f64, u64) {
        (self.highest, self.fill.len() as u64)
    }

    /// Times that a queue was over its bound, and marks seen.
    pub const fn overflows(&self) -> (u64, u64) {
        (self.overflows, self.marks)
    }
}
