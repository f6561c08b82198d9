//! The tickets that are out. Spec: SPEC §2.7.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use super::control::TicketId;
use super::handle::Shared;

/// Tickets that are out at most; above, sessions get none and cannot be resumed.
const TICKETS_OUT_MAX: usize = 262_144;

/// The tickets that are out, by the sessions that they resume and that have them. A session that ends takes its tickets
/// with it.
#[derive(Default)]
pub(crate) struct TicketStore(BTreeMap<TicketId, Weak<Shared>>);

impl TicketStore {
    /// Remembers a ticket of `session`; `false` when there are too many.
    pub(crate) fn insert(&mut self, id: TicketId, session: &Arc<Shared>) -> bool {
        let room = self.0.len() < TICKETS_OUT_MAX;
        if room {
            self.0.insert(id, Arc::downgrade(session));
        }
        room
    }

    /// The session that has the ticket with this identifier. It stays until [`TicketStore::remove`].
    pub(crate) fn get(&self, id: &TicketId) -> Option<Arc<Shared>> {
        self.0.get(id)?.upgrade()
    }

    /// Forgets a ticket; `false` if it is not there (any more).
    pub(crate) fn remove(&mut self, id: &TicketId) -> bool {
        self.0.remove(id).is_some()
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}
