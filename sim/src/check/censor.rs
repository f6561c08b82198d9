//! What the censor did: so that a run in which it did nothing is no proof of anything.

use std::collections::BTreeMap;

use super::observe::{Acted, Observation, Seen};

/// Per rule and kind of act, how often.
#[derive(Clone, Debug, Default)]
pub struct Deeds {
    counts: BTreeMap<(u32, Acted), u64>,
}

impl Deeds {
    /// Takes note of what rules did.
    pub fn observe(&mut self, observation: &Observation) {
        if let Seen::Censor { rule, act, count } = observation.seen {
            *self.counts.entry((rule, act)).or_default() += count;
        }
    }

    /// How often `act` happened by `rule`, or by any.
    pub fn count(&self, act: Acted, rule: Option<u32>) -> u64 {
        self.counts
            .iter()
            .filter(|((by, what), _)| *what == act && rule.is_none_or(|rule| rule == *by))
            .map(|(_, count)| count)
            .sum()
    }
}
