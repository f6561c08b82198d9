//! Leaks: secrets in bytes that the censor sees.

use std::collections::BTreeMap;

use phantom_core::event::Sensitive;

use super::observe::{Observation, Seen};

/// What the search of the wire found.
#[derive(Clone, Debug, Default)]
pub struct Leaks {
    found: BTreeMap<Sensitive, u64>,
    bytes: u64,
    secrets: u64,
}

impl Leaks {
    /// Takes note of searches and finds.
    pub fn observe(&mut self, observation: &Observation) {
        match observation.seen {
            Seen::Searched { bytes, secrets } => {
                self.bytes += bytes;
                self.secrets = self.secrets.max(secrets);
            }
            Seen::Leak { kind } => *self.found.entry(kind).or_default() += 1,
            _ => {}
        }
    }

    /// Finds of `kind`, or of any; and how many secrets were searched for. A search of no bytes, or for nothing, is no
    /// sample.
    pub fn found(&self, kind: Option<Sensitive>) -> (u64, u64) {
        let found = match kind {
            Some(kind) => self.found.get(&kind).copied().unwrap_or(0),
            None => self.found.values().sum(),
        };
        // What was found counts as looked for, whatever the search said of itself.
        (found, (if self.bytes == 0 { 0 } else { self.secrets }).max(found))
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
