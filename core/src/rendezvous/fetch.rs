//! How a client finds its bridges in the DHT: several slots and days at the same time, each newest record as it comes. SPEC §7.7.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::cohort::{Cohort, Day, SealedRecord, Slot};
use super::ledger::version;
use crate::dht::{DhtClient, MutableItem};
use crate::directory::descriptor::BridgeDescriptor;
use crate::event::{Event, Refusal, Step};
use crate::queue::queue;
use crate::runtime::{Owned, Runtime};
use crate::units::WallTime;
use crate::wire::{DecodeError, Reader, Writer};

/// A bridge that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its slot.
    pub slot: Slot,
    /// The day whose record it was.
    pub day: Day,
    /// How to reach it.
    pub bridge: BridgeDescriptor,
    /// Whether a quorum showed a record; without one it is authentic, but perhaps not the newest.
    pub quorum: bool,
}

/// The highest sequence number seen per slot and day: nothing lower is ever taken again. To be persisted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SequencePins(BTreeMap<(Day, Slot), i64>);

const VERSION: u8 = 1;
/// Days kept: those around now and one more.
const DAYS_KEPT: u32 = 2;
const PINS_MAX: usize = 64;

impl SequencePins {
    /// The lowest number that is taken.
    pub fn get(&self, slot: Slot, day: Day) -> i64 {
        self.0.get(&(day, slot)).copied().unwrap_or(0)
    }

    /// Takes note of a number that was seen, and forgets days that are over.
    pub fn raise(&mut self, slot: Slot, day: Day, sequence: i64, today: Day) {
        self.0
            .retain(|(held, _), _| held.0.abs_diff(today.0) <= DAYS_KEPT);
        let pin = self.0.entry((day, slot)).or_insert(0);
        *pin = sequence.max(*pin);
    }

    /// The file.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(3 + self.0.len() * 13);
        out.put_u8(VERSION);
        out.put_u16(self.0.len().min(PINS_MAX) as u16);
        for ((day, slot), sequence) in self.0.iter().take(PINS_MAX) {
            out.put_u32(day.0);
            out.put_u8(slot.number());
            out.put_u64(sequence.unsigned_abs());
        }
        out
    }

    /// Reads the file.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        version(&mut r, "pins version", VERSION)?;
        let mut pins = BTreeMap::new();
        for _ in 0..r.count("pins", PINS_MAX)? {
            let key = (Day(r.u32()?), Slot::new(r.u8()?)?);
            let got = r.u64()?;
            let sequence = i64::try_from(got).map_err(|_| DecodeError::BadValue {
                field: "sequence",
                got,
            })?;
            if pins.last_key_value().is_some_and(|(last, _)| *last >= key) {
                return Err(DecodeError::BadValue {
                    field: "order of pins",
                    got,
                });
            }
            pins.insert(key, sequence);
        }
        r.finish()?;
        Ok(Self(pins))
    }
}

/// Looks, at this `time`, for the bridges in these `slots` of `cohort` and hands each to `found` as soon as it is known; ends when all lookups have.
/// Returns how many were found. Dropping it ends the lookups.
pub async fn fetch<R: Runtime>(
    rt: &R,
    time: WallTime,
    client: &Arc<DhtClient<R>>,
    cohort: &Cohort,
    slots: &[Slot],
    pins: &mut SequencePins,
    mut found: impl FnMut(Found) + Send,
) -> usize {
    let today = Day::of(time);
    let days = Day::around(time);
    let (told, mut reports) = queue(LOOKUPS_AT_ONCE);
    let mut left = VecDeque::new();
    for day in days {
        left.extend(slots.iter().map(|slot| (*slot, day)));
    }
    let mut lookups = BTreeMap::new();
    let mut count = 0;
    loop {
        while lookups.len() < LOOKUPS_AT_ONCE
            && let Some((slot, day)) = left.pop_front()
        {
            let (key, pinned) = (cohort.dht_key(slot, day), pins.get(slot, day));
            let (client, told) = (Arc::clone(client), told.clone());
            let lookup = Owned(rt.spawn("rendezvous lookup", async move {
                // Without a socket there is nothing to report but that it is over.
                let report = client.get_mutable(key, &day.salt(), pinned).await.ok();
                let found = report.and_then(|report| Some((report.quorum, report.best?)));
                // The channel has room for every lookup, and closes only when nobody waits for this one.
                let _ = told.send((slot, day, found)).await;
            }));
            lookups.insert((day, slot), lookup);
        }
        if lookups.is_empty() {
            return count;
        }
        // Never closed: `told` is held here.
        let Some((slot, day, result)) = reports.recv().await else {
            return count;
        };
        lookups.remove(&(day, slot));
        let Some((quorum, item)) = result else { continue };
        pins.raise(slot, day, item.sequence(), today);
        match open(cohort, slot, day, &item, time) {
            Some(bridge) => {
                for address in bridge.ways.addresses() {
                    rt.emit(Event::BridgeLearned {
                        step: Step::Dht,
                        bridge: address,
                    });
                }
                count += 1;
                found(Found {
                    slot,
                    day,
                    bridge,
                    quorum,
                });
            }
            None => rt.emit(Event::Refused {
                what: "rendezvous record",
                why: Refusal::BadAuthentication,
            }),
        }
    }
}

/// Lookups under way at once: a client that is shut out asks all slots of one to three days again and again, and each
/// lookup keeps four queries open. Those of a first question, two slots of a day, both run.
const LOOKUPS_AT_ONCE: usize = 2;

fn open(
    cohort: &Cohort,
    slot: Slot,
    day: Day,
    item: &MutableItem,
    time: WallTime,
) -> Option<BridgeDescriptor> {
    let sealed = SealedRecord::from_slice(item.value_string()?).ok()?;
    cohort.open(slot, day, &sealed, time).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_pin_only_rises_and_old_days_are_forgotten() {
        let mut pins = SequencePins::default();
        let slot = Slot::ALL[1];
        pins.raise(slot, Day(100), 7, Day(100));
        pins.raise(slot, Day(100), 5, Day(100));
        assert_eq!((pins.get(slot, Day(100)), pins.get(slot, Day(101))), (7, 0));
        pins.raise(slot, Day(103), 1, Day(103));
        assert_eq!(pins.get(slot, Day(100)), 0);
    }

    /// A file can say any day; found by fuzzing.
    #[test]
    fn a_pin_of_the_last_day_there_is_does_not_overflow() {
        let mut pins = SequencePins::default();
        let slot = Slot::ALL[1];
        pins.raise(slot, Day(u32::MAX), 7, Day(u32::MAX));
        pins.raise(slot, Day(100), 1, Day(100));
        assert_eq!((pins.get(slot, Day(u32::MAX)), pins.get(slot, Day(100))), (0, 1));
    }

    proptest! {
        #[test]
        fn pins_round_trip_and_arbitrary_files_never_panic(
            seen in proptest::collection::vec((0_u32..5, 0_u8..4, 0..i64::MAX), 0..20),
            noise in proptest::collection::vec(any::<u8>(), 0..60),
        ) {
            let mut pins = SequencePins::default();
            for (day, slot, sequence) in seen {
                pins.raise(Slot::new(slot).expect("below four"), Day(day), sequence, Day(2));
            }
            prop_assert_eq!(SequencePins::decode(&pins.encode()), Ok(pins));
            if let Ok(pins) = SequencePins::decode(&noise) {
                prop_assert_eq!(pins.encode(), noise);
            }
        }
    }
}
