//! Rendezvous: files of installations, bridges and whoever runs them, and records that only a bridge can seal.

use phantom_core::rendezvous::{
    BridgeSlots, Bundle, CohortPublic, Day, Ledger, SealedRecord, SequencePins, Slot,
};
use phantom_core::units::WallTime;
use phantom_core::wire::Reader;

use crate::{canonical, overlay, world};

/// Formats.
pub fn rendezvous(data: &[u8]) -> bool {
    let Some((kind, bytes)) = data.split_first() else {
        return false;
    };
    match kind % 8 {
        0 => canonical(bytes, Bundle::decode(bytes), |bundle| bundle.encode().to_vec()),
        1 => canonical(bytes, BridgeSlots::decode(bytes), |slots| slots.encode().to_vec()),
        2 => canonical(bytes, SequencePins::decode(bytes), SequencePins::encode),
        3 => canonical(bytes, Ledger::decode(bytes), |ledger| ledger.encode().to_vec()),
        4 => bytes
            .first_chunk()
            .is_some_and(|bytes: &[u8; CohortPublic::LEN]| {
                canonical(bytes, CohortPublic::from_bytes(bytes), |public| {
                    public.to_bytes().to_vec()
                })
            }),
        5 => {
            let (cohort, writers, _) = &*world::COHORT;
            let (writer, day) = (&writers[1], Day::of(world::wall()));
            let sealed = writer.seal(&mut world::rng(2), day, &world::bridge());
            let mut changed = *sealed.as_bytes();
            let changed = if overlay(&mut changed, bytes) {
                Some(changed)
            } else {
                None
            };
            let offered = changed.map_or(sealed, |bytes| {
                SealedRecord::from_slice(&bytes).expect("its length")
            });
            let opened = cohort.open(writer.slot(), day, &offered, world::wall());
            assert_eq!(opened.is_ok(), changed.is_none());
            opened.is_ok()
        }
        6 => {
            let mut r = Reader::new(bytes);
            let (Ok(nanos), Ok(day), Ok(slot)) = (r.u64(), r.u32(), r.u8()) else {
                return false;
            };
            let wall = WallTime::from_unix_nanos(nanos);
            assert!(Day::around(wall).contains(&Day::of(wall)));
            let _ = Day(day).end();
            let Ok(slot) = Slot::new(slot) else { return false };
            let mut pins = SequencePins::default();
            pins.raise(slot, Day(day), nanos as i64, Day::of(wall));
            pins.raise(slot, Day::of(wall), 1, Day(day));
            // Only what was seen on a day near the other one is kept.
            let _ = pins.get(slot, Day(day));
            true
        }
        _ => {
            let Ok(sealed) = SealedRecord::from_slice(bytes) else {
                return false;
            };
            let (cohort, ..) = &*world::COHORT;
            cohort
                .open(Slot::ALL[0], Day::of(world::wall()), &sealed, world::wall())
                .is_ok()
        }
    }
}
