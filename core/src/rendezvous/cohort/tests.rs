use std::collections::BTreeSet;

use proptest::prelude::*;
use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;
use zeroize::Zeroizing;

use super::*;
use crate::crypto::keys::{IdentitySecret, LinkSecret};
use crate::dht::MutableItem;
use crate::dht::item::string_value;
use crate::rendezvous::ledger::Ledger;

pub(crate) const NOON: WallTime = WallTime::from_unix_secs(20_000 * 86_400 + 43_200);

pub(crate) fn rng(seed: u64) -> ChaCha12Rng {
    ChaCha12Rng::seed_from_u64(seed)
}

/// A cohort and the writers of its slots.
pub(crate) fn cohort(seed: u64) -> (Cohort, Vec<SlotWriter>) {
    let mut ledger = Ledger::default();
    let index = ledger.open(&mut rng(seed));
    let give = |slot: Slot| ledger.give(index, slot, u32::from(slot.number()));
    let writers = Slot::ALL
        .into_iter()
        .map(give)
        .collect::<Result<_, _>>()
        .expect("free slots");
    (ledger.cohort(index).expect("just opened"), writers)
}

pub(crate) fn descriptor(seed: u64, expires: WallTime) -> BridgeDescriptor {
    let mut rng = rng(seed);
    BridgeDescriptor {
        versions: crate::directory::descriptor::VersionRange { min: 1, max: 1 },
        identity: IdentitySecret::from_rng(&mut rng).public(),
        link: LinkSecret::from_rng(&mut rng).public(),
        psk: Zeroizing::new([7; 32]),
        expires,
        ways: crate::directory::ways::Ways::plain(vec!["192.0.2.7:443".parse().expect("literal")]),
    }
}

fn later() -> WallTime {
    NOON + Duration::from_secs(86_400)
}

#[test]
fn a_reader_finds_and_opens_what_the_slots_bridge_signs() {
    let (cohort, writers) = cohort(1);
    let day = Day::of(NOON);
    for writer in &writers {
        let sealed = writer.seal(&mut rng(5), day, &descriptor(2, later()));
        let signer = writer.signer(day);
        let value = string_value(sealed.as_bytes());
        assert_eq!(value.len(), 292);
        let item = MutableItem::sign(&signer, &day.salt(), 1, &value).expect("in bounds");
        assert_eq!(*item.key(), cohort.dht_key(writer.slot(), day));
        let verified = MutableItem::verify(
            &cohort.dht_key(writer.slot(), day),
            &day.salt(),
            1,
            item.value(),
            item.signature(),
        );
        let sealed = SealedRecord::from_slice(verified.expect("signed").value_string().expect("a string"));
        let opened = cohort.open(writer.slot(), day, &sealed.expect("length"), NOON);
        assert_eq!(opened, Ok(descriptor(2, later())));
    }
}

#[test]
fn no_two_days_slots_or_cohorts_share_a_key() {
    let mut seen = BTreeSet::new();
    for seed in 0..3 {
        let (cohort, _) = cohort(seed);
        for day in 19_999..20_003 {
            for slot in Slot::ALL {
                assert!(seen.insert(cohort.dht_key(slot, Day(day))));
                assert!(seen.insert(*cohort.public.courier_address(slot, Day(day)).as_bytes()));
            }
        }
    }
}

#[test]
fn a_record_opens_for_its_cohort_slot_and_day_only() {
    let ((cohort, writers), (other, _)) = (cohort(1), cohort(2));
    let day = Day::of(NOON);
    let sealed = writers[1].seal(&mut rng(5), day, &descriptor(2, later()));
    assert!(cohort.open(Slot(1), day, &sealed, NOON).is_ok());
    assert_eq!(cohort.open(Slot(0), day, &sealed, NOON), Err(OpenError::BadSeal));
    assert_eq!(
        cohort.open(Slot(1), Day(day.0 + 1), &sealed, NOON),
        Err(OpenError::BadSeal)
    );
    assert_eq!(other.open(Slot(1), day, &sealed, NOON), Err(OpenError::BadSeal));
    assert_eq!(
        cohort.open(Slot(1), day, &sealed, later()),
        Err(OpenError::Expired {
            expired: later(),
            now: later()
        })
    );
}

#[test]
fn the_bridge_of_one_slot_cannot_read_or_find_another() {
    let (cohort, writers) = cohort(1);
    let day = Day::of(NOON);
    // All that the bridge of slot 0 holds, used as if it were slot 1.
    let pretender = SlotWriter {
        slot: Slot(1),
        ..writers[0].clone()
    };
    assert_ne!(pretender.signer(day).public_key(), cohort.dht_key(Slot(1), day));
    let sealed = pretender.seal(&mut rng(5), day, &descriptor(2, later()));
    assert_eq!(cohort.open(Slot(1), day, &sealed, NOON), Err(OpenError::BadSeal));
}

#[test]
fn records_of_one_descriptor_look_unrelated_and_have_one_length() {
    let (_, writers) = cohort(1);
    let short = writers[0].seal(&mut rng(5), Day(1), &descriptor(2, later()));
    let again = writers[0].seal(&mut rng(6), Day(1), &descriptor(2, later()));
    let equal = short
        .as_bytes()
        .iter()
        .zip(again.as_bytes())
        .filter(|(a, b)| a == b)
        .count();
    assert!(equal < 16, "{equal} of {SEALED_LEN} bytes agree");
}

#[test]
fn around_midnight_two_days_are_looked_at_and_by_day_one() {
    let midnight = WallTime::from_unix_secs(20_001 * 86_400);
    assert_eq!(Day::around(NOON), [Day(20_000)]);
    assert_eq!(
        Day::around(midnight + Duration::from_secs(60)),
        [Day(20_001), Day(20_000)]
    );
    assert_eq!(
        Day::around(midnight - Duration::from_secs(60)),
        [Day(20_000), Day(20_001)]
    );
    assert_eq!(Day(20_000).end(), midnight);
}

#[test]
fn two_clocks_that_are_three_hours_off_each_way_meet_on_some_day() {
    for minute in 0..48 * 60 {
        let now = WallTime::from_unix_secs(20_000 * 86_400 + minute * 60);
        let (bridge, client) = (Day::around(now - OVERLAP), Day::around(now + OVERLAP));
        assert!(bridge.iter().any(|day| client.contains(day)), "minute {minute}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn one_changed_bit_of_a_record_does_not_open(bit in 0..SEALED_LEN * 8) {
        let (cohort, writers) = cohort(1);
        let mut bytes = *writers[0].seal(&mut rng(5), Day(1), &descriptor(2, later())).as_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let sealed = SealedRecord::from_slice(&bytes).expect("length");
        prop_assert_eq!(cohort.open(Slot(0), Day(1), &sealed, NOON), Err(OpenError::BadSeal));
    }

    #[test]
    fn public_cohorts_and_writers_round_trip_and_noise_never_panics(
        seed in any::<u64>(), noise in proptest::collection::vec(any::<u8>(), 0..300), public in any::<[u8; 32]>(),
    ) {
        let (cohort, writers) = cohort(seed);
        prop_assert_eq!(CohortPublic::from_bytes(&cohort.public.to_bytes()), Ok(cohort.public.clone()));
        let mut file = Vec::new();
        writers[2].encode(&mut file);
        let mut r = Reader::new(&file);
        let again = SlotWriter::decode(&mut r).expect("its own file");
        prop_assert_eq!(again.signer(Day(9)).public_key(), cohort.dht_key(Slot(2), Day(9)));
        let _ = SlotWriter::decode(&mut Reader::new(&noise));
        let _ = SealedRecord::from_slice(&noise);
        let mut bytes = cohort.public.to_bytes();
        bytes[..32].copy_from_slice(&public);
        let _ = CohortPublic::from_bytes(&bytes);
    }
}
