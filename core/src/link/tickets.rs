//! What a server remembers between connections: tickets that are out, and entry hellos it has seen.
//! Spec: SPEC §2.2 (replays), §2.7 (tickets).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};

use super::control::TicketId;
use super::handle::Shared;

/// Hellos remembered at most; above, the oldest are forgotten. Only who knows the bridge's secret can add one.
const REPLAYS_MAX: usize = 65_536;
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

/// Hellos of the last hours that were answered: the same one again is a replay.
#[derive(Default)]
pub(crate) struct Replays {
    seen: BTreeMap<u64, BTreeSet<[u8; 16]>>,
    held: usize,
    /// Hours before this one are refused: what was seen in them is forgotten. It never steps back, so a clock that does
    /// revives no hello.
    floor: u64,
}

impl Replays {
    /// The hours whose hellos are accepted when the clock says `now`: one to either side, for clocks that differ.
    pub(crate) fn accepted(&self, now: u64) -> impl Iterator<Item = u64> + use<> {
        let floor = self.floor;
        [now, now.wrapping_sub(1), now.wrapping_add(1)]
            .into_iter()
            .filter(move |hour| *hour >= floor)
    }

    /// Remembers a hello of `hour`; `false` when it was seen before.
    pub(crate) fn insert(&mut self, now: u64, hour: u64, hint: [u8; 16]) -> bool {
        self.floor = self.floor.max(now.saturating_sub(1));
        while let Some(entry) = self.seen.first_entry()
            && *entry.key() < self.floor
        {
            self.held -= entry.remove().len();
        }
        let fresh = self.seen.entry(hour).or_default().insert(hint);
        self.held += usize::from(fresh);
        if self.held > REPLAYS_MAX
            && let Some(mut oldest) = self.seen.first_entry()
        {
            self.held -= usize::from(oldest.get_mut().pop_first().is_some());
            if oldest.get().is_empty() {
                oldest.remove();
            }
        }
        fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hello_is_fresh_once_even_when_the_clock_steps_back() {
        let mut replays = Replays::default();
        assert!(replays.insert(10, 10, [1; 16]));
        assert!(!replays.insert(10, 10, [1; 16]));
        assert!(replays.insert(13, 13, [2; 16]), "hour 10 is forgotten here");
        assert_eq!(replays.held, 1);
        assert_eq!(replays.accepted(10).count(), 0, "and refused from then on");
        assert_eq!(replays.accepted(13).collect::<Vec<_>>(), [13, 12, 14]);
    }

    #[test]
    fn the_memory_of_hellos_is_bounded() {
        let mut replays = Replays::default();
        for n in 0..REPLAYS_MAX as u128 + 10 {
            assert!(replays.insert(1, 1, n.to_be_bytes()));
        }
        assert_eq!(replays.held, REPLAYS_MAX);
    }
}
