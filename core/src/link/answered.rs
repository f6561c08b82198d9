//! The hellos that a bridge has answered: none is answered twice, whatever restarts lie between. Spec: SPEC §2.2.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Mutex as AsyncMutex;

use crate::runtime::Store;

use super::auth::{HINT_LEN, Hint};

/// Hellos remembered at most; above, the oldest are forgotten. Only who knows the bridge's secret can add one.
const HELLOS_MAX: usize = 65_536;
/// One file for each hour, so that what is forgotten is unlinked and nothing else is touched.
const PREFIX: &str = "hellos-";
/// `floor (8) ‖ hint (16)`: the floor of that moment goes with it, so that a clock set back before a restart revives no hour.
const RECORD_LEN: usize = 8 + HINT_LEN;
/// A file with more records than that is written anew from memory, which holds fewer.
const RECORDS_MAX: usize = 2 * HELLOS_MAX;

/// Hellos that were answered, in memory and on disk.
#[derive(Default)]
pub(crate) struct Answered {
    replays: Mutex<Replays>,
    files: AsyncMutex<BTreeMap<u64, File>>,
}

/// A hello that is no replay. It is not to be answered before [`Answered::keep`] has said so.
#[derive(Clone, Copy)]
pub(crate) struct Fresh {
    hour: u64,
    hint: Hint,
}

/// What is known of the file of one hour.
#[derive(Default)]
struct File {
    records: usize,
    /// An append may have been cut short, which would shift what follows: the file is to be written anew.
    torn: bool,
}

impl Answered {
    fn replays(&self) -> MutexGuard<'_, Replays> {
        self.replays.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The hours whose hellos are accepted when the clock says `now`: one to either side, for clocks that differ.
    pub(crate) fn accepted(&self, now: u64) -> impl Iterator<Item = u64> + use<> {
        self.replays().accepted(now)
    }

    /// Remembers a hello of `hour`; `None` when it was seen before.
    pub(crate) fn insert(&self, now: u64, hour: u64, hint: Hint) -> Option<Fresh> {
        self.replays()
            .insert(now, hour, hint)
            .then_some(Fresh { hour, hint })
    }

    /// Takes in what earlier starts have answered.
    ///
    /// # Errors
    /// Of the store: whoever accepts links nevertheless may answer a hello twice.
    pub(crate) async fn restore<S: Store>(&self, store: &S) -> io::Result<()> {
        let mut files = self.files.lock().await;
        for name in store.list(PREFIX).await? {
            let Some(hour) = name.strip_prefix(PREFIX).and_then(|hour| hour.parse().ok()) else {
                continue;
            };
            let held = store.read(&name).await?.unwrap_or_default();
            let (records, rest) = held.as_chunks::<RECORD_LEN>();
            let mut replays = self.replays();
            for (floor, hint) in records.iter().map(unpack) {
                replays.rise(floor);
                replays.add(hour, hint);
            }
            let file = File {
                records: records.len(),
                torn: !rest.is_empty(),
            };
            files.insert(hour, file);
        }
        let floor = {
            // What the bound forgot or a later file refuses.
            let mut replays = self.replays();
            let floor = replays.floor;
            replays.rise(floor);
            floor
        };
        unlink_before(store, &mut files, floor).await
    }

    /// Makes it last. When this returns `Ok`, the hello may be answered.
    ///
    /// # Errors
    /// Of the store: it must not be answered.
    pub(crate) async fn keep<S: Store>(&self, store: &S, fresh: Fresh) -> io::Result<()> {
        let mut files = self.files.lock().await;
        let name = name(fresh.hour);
        let floor = self.replays().floor;
        let file = files.entry(fresh.hour).or_default();
        // Whole again when all is done, and not if that fails or is given up half way.
        let torn = std::mem::replace(&mut file.torn, true);
        if torn || file.records >= RECORDS_MAX {
            let hints = self.replays().seen.get(&fresh.hour).cloned().unwrap_or_default();
            let whole: Vec<u8> = hints.iter().flat_map(|hint| pack(floor, hint)).collect();
            store.write(&name, &whole).await?;
            file.records = hints.len();
        } else {
            store.append(&name, &pack(floor, &fresh.hint)).await?;
            store.sync(&name).await?;
            file.records += 1;
        }
        file.torn = false;
        unlink_before(store, &mut files, floor).await
    }
}

/// Unlinks the files of hours that are refused.
async fn unlink_before<S: Store>(store: &S, files: &mut BTreeMap<u64, File>, floor: u64) -> io::Result<()> {
    while let Some(oldest) = files.first_entry()
        && *oldest.key() < floor
    {
        store.remove(&name(*oldest.key())).await?;
        oldest.remove();
    }
    Ok(())
}

fn name(hour: u64) -> String {
    format!("{PREFIX}{hour}")
}

fn pack(floor: u64, hint: &Hint) -> [u8; RECORD_LEN] {
    let mut record = [0; RECORD_LEN];
    record[..8].copy_from_slice(&floor.to_be_bytes());
    record[8..].copy_from_slice(hint);
    record
}

fn unpack(record: &[u8; RECORD_LEN]) -> (u64, Hint) {
    let (mut floor, mut hint) = ([0; 8], [0; HINT_LEN]);
    floor.copy_from_slice(&record[..8]);
    hint.copy_from_slice(&record[8..]);
    (u64::from_be_bytes(floor), hint)
}

/// What is in memory: hellos of the last hours that were answered. The same one again is a replay.
#[derive(Default)]
struct Replays {
    seen: BTreeMap<u64, BTreeSet<Hint>>,
    held: usize,
    /// Hours before this one are refused: what was seen in them is forgotten. It never steps back, so a clock that does
    /// revives no hello.
    floor: u64,
}

impl Replays {
    /// The hours whose hellos are accepted when the clock says `now`: one to either side, for clocks that differ.
    fn accepted(&self, now: u64) -> impl Iterator<Item = u64> + use<> {
        let floor = self.floor;
        [now, now.wrapping_sub(1), now.wrapping_add(1)]
            .into_iter()
            .filter(move |hour| *hour >= floor)
    }

    /// Remembers a hello of `hour`; `false` when it was seen before.
    fn insert(&mut self, now: u64, hour: u64, hint: Hint) -> bool {
        self.rise(now.saturating_sub(1));
        self.add(hour, hint)
    }

    /// Refuses the hours before `floor` and forgets them.
    fn rise(&mut self, floor: u64) {
        self.floor = self.floor.max(floor);
        while let Some(entry) = self.seen.first_entry()
            && *entry.key() < self.floor
        {
            self.held -= entry.remove().len();
        }
    }

    fn add(&mut self, hour: u64, hint: Hint) -> bool {
        let fresh = self.seen.entry(hour).or_default().insert(hint);
        self.held += usize::from(fresh);
        if self.held > HELLOS_MAX
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
        for n in 0..HELLOS_MAX as u128 + 10 {
            assert!(replays.insert(1, 1, n.to_be_bytes()));
        }
        assert_eq!(replays.held, HELLOS_MAX);
    }
}
