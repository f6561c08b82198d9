//! Leaks: secrets in bytes that the censor sees.

use std::collections::{BTreeMap, BTreeSet};

use phantom_core::event::Sensitive;

use super::observe::{Observation, Seen};
use crate::scenario::file::Deed;
use crate::scenario::plan::{Plan, Role};

/// What the search of the wire found.
#[derive(Clone, Debug, Default)]
pub struct Leaks {
    /// The kinds that the scenario is sure to have.
    kinds: BTreeSet<Sensitive>,
    found: BTreeMap<Sensitive, u64>,
    bytes: u64,
    secrets: BTreeMap<Sensitive, u64>,
}

impl Leaks {
    /// Nothing searched yet in the world of `plan`.
    pub fn new(plan: &Plan) -> Self {
        let has = |wanted: fn(Role) -> bool| plan.hosts.iter().any(|host| wanted(host.role));
        let mut kinds = BTreeSet::new();
        if has(|role| matches!(role, Role::Client(_))) {
            kinds.extend([Sensitive::UserKey, Sensitive::InvitationSecret]);
        }
        if has(|role| role == Role::Bridge) {
            kinds.insert(Sensitive::BridgeKey);
        }
        if plan
            .workloads
            .iter()
            .any(|w| matches!(w.what, Deed::Write { .. }))
        {
            kinds.extend([Sensitive::MessageId, Sensitive::BoxAddress, Sensitive::Payload]);
        }
        Self {
            kinds,
            ..Self::default()
        }
    }

    /// Takes note of searches and finds.
    pub fn observe(&mut self, observation: &Observation) {
        match &observation.seen {
            Seen::Searched { bytes, secrets } => {
                self.bytes += bytes;
                for (kind, count) in secrets {
                    let known = self.secrets.entry(*kind).or_default();
                    *known = (*known).max(*count);
                }
            }
            Seen::Leak { kind } => *self.found.entry(*kind).or_default() += 1,
            _ => {}
        }
    }

    /// Finds of `kind`, or of any; and how many secrets of it were searched for. A search of no bytes is no sample, nor is
    /// one for no secret of `kind`; of any, one that lacks a kind that the scenario has.
    pub fn found(&self, kind: Option<Sensitive>) -> (u64, u64) {
        let of = |counts: &BTreeMap<Sensitive, u64>| match kind {
            Some(kind) => counts.get(&kind).copied().unwrap_or(0),
            None => counts.values().sum(),
        };
        let whole = kind.is_some() || self.kinds.iter().all(|kind| self.secrets.contains_key(kind));
        let searched = if self.bytes > 0 && whole {
            of(&self.secrets)
        } else {
            0
        };
        // What was found counts as looked for, whatever the search said of itself.
        let found = of(&self.found);
        (found, searched.max(found))
    }
}

/// The kind of secret that expressions call `name`.
pub fn kind(name: &str) -> Option<Sensitive> {
    Some(match name {
        "user-key" => Sensitive::UserKey,
        "message-id" => Sensitive::MessageId,
        "box-address" => Sensitive::BoxAddress,
        "invitation-secret" => Sensitive::InvitationSecret,
        "bridge-key" => Sensitive::BridgeKey,
        "payload" => Sensitive::Payload,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_that_expressions_know_exists() {
        assert!(
            crate::scenario::metric::SECRETS
                .iter()
                .all(|name| kind(name).is_some())
        );
    }
}
