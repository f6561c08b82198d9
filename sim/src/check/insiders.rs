//! What an insider costs: the bridges it has learned of, from all sources together.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use phantom_core::event::Event;

use super::observe::{Observation, Seen};
use crate::scenario::plan::{HostId, Plan, Role};

/// Insiders and what they know.
#[derive(Clone, Debug, Default)]
pub struct Insiders {
    learned: BTreeMap<HostId, BTreeSet<IpAddr>>,
}

impl Insiders {
    /// The insiders of `plan`.
    pub fn new(plan: &Plan) -> Self {
        let insiders = plan
            .hosts
            .iter()
            .enumerate()
            .filter(|(_, host)| matches!(host.role, Role::Insider(_)));
        Self {
            learned: insiders.map(|(id, _)| (id as HostId, BTreeSet::new())).collect(),
        }
    }

    /// Takes note of what insiders learn. A bridge is a host: another port of it costs nothing more.
    pub fn observe(&mut self, observation: &Observation) {
        if let Seen::Event(Event::BridgeLearned { bridge, .. }) = &observation.seen
            && let Some(learned) = observation.host.and_then(|host| self.learned.get_mut(&host))
        {
            learned.insert(bridge.ip());
        }
    }

    /// Per insider, how many bridges it knows.
    pub fn bridges(&self) -> Vec<f64> {
        self.learned
            .values()
            .map(|learned| learned.len() as f64)
            .collect()
    }
}
