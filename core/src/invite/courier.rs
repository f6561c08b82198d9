//! Sealed records on the way to a user through friends: signed by the slot, dropped into a box of the day. SPEC §8.1.
//!
//! The signature is needed besides the seal: every member of a cohort can seal for the others, only the bridge can sign
//! for its slot.

use std::time::Duration;

use bytes::Bytes;
use rand_core::CryptoRng;
use thiserror::Error;

use crate::crypto::aead::{AeadKey, NONCE_ZERO, TAG_LEN};
use crate::crypto::kdf::Context;
use crate::mailbox::{BODY_LEN, BoxAddress, Record, TtlBucket, Unsigned};
use crate::packet::Class;
use crate::rendezvous::cohort::{OVERLAP, SEALED_LEN};
use crate::rendezvous::{CohortId, CohortPublic, Day, SealedRecord, Slot, SlotWriter};
use crate::wire::{DecodeError, Reader, Writer};

const SIGNED: &[u8] = b"phantom-net 2026 courier record v1";
const BOX_KEY: Context = Context::new("phantom-net 2026 courier box v1");

/// Length of a record's wire form.
pub const COURIER_LEN: usize = 1 + 4 + SEALED_LEN + 64;
/// How long before its day ends a record may be dropped: the day itself and most of the one before.
const BOX_LIFETIME: Duration = Duration::from_secs(3 * 86_400);
const SALT_LEN: usize = 16;

/// A sealed record with the signature of its slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CourierRecord {
    /// The slot.
    pub slot: Slot,
    /// The day it is sealed for.
    pub day: Day,
    /// What only the cohort opens.
    pub sealed: SealedRecord,
    signature: [u8; 64],
}

/// Why a record is refused. Its giver's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CourierError {
    /// It does not decode.
    #[error("a courier record that does not decode: {0}")]
    Malformed(#[from] DecodeError),
    /// It is not signed by the slot of this cohort and day.
    #[error("a courier record that the slot did not sign")]
    BadSignature,
    /// The box does not open: it is another box, or no courier box.
    #[error("a box that holds no courier record of this cohort, slot and day")]
    NotOurs,
}

impl CourierRecord {
    /// Signs a sealed record for the couriers of `day`.
    pub fn sign(writer: &SlotWriter, day: Day, sealed: SealedRecord) -> Self {
        let (cap, seed) = writer.courier(day);
        let (_, signature) = cap.sign(&seed, |_| message(writer.cohort(), writer.slot(), day, &sealed));
        Self {
            slot: writer.slot(),
            day,
            sealed,
            signature,
        }
    }

    /// Checks that the slot of `cohort` signed it.
    ///
    /// # Errors
    /// [`CourierError::BadSignature`].
    pub fn verify(&self, cohort: &CohortPublic) -> Result<(), CourierError> {
        let signed = message(cohort.id(), self.slot, self.day, &self.sealed);
        if cohort
            .courier_address(self.slot, self.day)
            .verifies(&signed, &self.signature)
        {
            Ok(())
        } else {
            Err(CourierError::BadSignature)
        }
    }

    /// Appends its wire form, [`COURIER_LEN`] bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.put_u8(self.slot.number());
        out.put_u32(self.day.0);
        out.put(self.sealed.as_bytes());
        out.put(&self.signature);
    }

    /// Reads its wire form; the signature is not checked yet.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            slot: Slot::new(r.u8()?)?,
            day: Day(r.u32()?),
            sealed: SealedRecord::from_slice(r.take(SEALED_LEN)?)?,
            signature: r.array()?,
        })
    }
}

fn message(cohort: CohortId, slot: Slot, day: Day, sealed: &SealedRecord) -> Vec<u8> {
    let mut out = Vec::with_capacity(SIGNED.len() + 21 + SEALED_LEN);
    out.put(SIGNED);
    out.put(&cohort.0);
    out.put_u8(slot.number());
    out.put_u32(day.0);
    out.put(sealed.as_bytes());
    out
}

/// Where a friend looks for the records of a user's cohort on `day`, in the order of the slots.
pub fn courier_box(cohort: &CohortPublic, day: Day) -> [(Slot, BoxAddress); 4] {
    Slot::ALL.map(|slot| (slot, cohort.courier_address(slot, day)))
}

/// The box that the bridge writes for couriers: looks like any other box to the nodes that store it. A second one of the
/// same day is refused by them, so it is written once a day.
pub fn drop_box(writer: &SlotWriter, rng: &mut impl CryptoRng, record: &CourierRecord) -> Record {
    let (cap, seed) = writer.courier(record.day);
    // Afterwards nobody looks for it any more.
    let until = record.day.end() + OVERLAP;
    let bucket = TtlBucket::covering(BOX_LIFETIME).unwrap_or(TtlBucket::LONGEST);
    let not_after = bucket.bound(until);
    let mut body = Vec::with_capacity(BODY_LEN);
    body.resize(SALT_LEN, 0);
    rng.fill_bytes(&mut body);
    let key = box_key(writer.cohort(), record.slot, record.day, &body);
    record.write(&mut body);
    body.resize(BODY_LEN - TAG_LEN, 0);
    let associated = Record::associated_data(Class::Small, bucket, not_after);
    let tag = key.seal_in_place(NONCE_ZERO, &associated, &mut body[SALT_LEN..]);
    body.extend_from_slice(&tag);
    Record::sign(
        cap,
        &seed,
        Unsigned {
            bucket,
            not_after,
            body: Bytes::from(body),
        },
    )
}

/// Takes the record of `slot` and `day` out of a box, and checks that the slot signed it.
///
/// # Errors
/// [`CourierError`].
pub fn open_box(
    cohort: &CohortPublic,
    slot: Slot,
    day: Day,
    found: &Record,
) -> Result<CourierRecord, CourierError> {
    let (salt, sealed) = found
        .body()
        .split_at_checked(SALT_LEN)
        .ok_or(CourierError::NotOurs)?;
    let plain = box_key(cohort.id(), slot, day, salt)
        .open(
            NONCE_ZERO,
            &Record::associated_data(Class::Small, found.bucket(), found.not_after()),
            sealed,
        )
        .map_err(|_| CourierError::NotOurs)?;
    let mut r = Reader::new(&plain);
    let record = CourierRecord::read(&mut r)?;
    if (record.slot, record.day) != (slot, day) || r.rest().iter().any(|byte| *byte != 0) {
        return Err(CourierError::NotOurs);
    }
    record.verify(cohort)?;
    Ok(record)
}

/// Anybody who knows the public cohort derives it: it hides the record from those who store it, nobody else.
fn box_key(cohort: CohortId, slot: Slot, day: Day, salt: &[u8]) -> AeadKey {
    AeadKey::from_bytes(BOX_KEY.derive_fields(&[&cohort.0, &[slot.number()], &day.salt(), salt]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rendezvous::cohort::tests::{NOON, cohort, descriptor, rng};

    fn record() -> (CohortPublic, SlotWriter, CourierRecord) {
        let (cohort, mut writers) = cohort(1);
        let (writer, day) = (writers.remove(2), Day::of(NOON));
        let sealed = writer.seal(&mut rng(1), day, &descriptor(2, NOON + BOX_LIFETIME));
        let record = CourierRecord::sign(&writer, day, sealed);
        (cohort.public, writer, record)
    }

    #[test]
    fn a_friend_finds_the_box_by_the_public_cohort_and_takes_the_record_out() {
        let (public, writer, record) = record();
        let dropped = drop_box(&writer, &mut rng(3), &record);
        let stored = Record::decode_verified(&dropped.encode()).expect("a node takes it");
        assert_eq!(
            courier_box(&public, record.day)[2],
            (record.slot, *stored.address())
        );
        assert_eq!(
            open_box(&public, record.slot, record.day, &stored),
            Ok(record.clone())
        );
        assert!(stored.not_after() >= record.day.end().as_unix_secs());

        let wrong_day = open_box(&public, record.slot, Day(record.day.0 + 1), &stored);
        assert_eq!(wrong_day, Err(CourierError::NotOurs));
        let (stranger, _) = cohort(2);
        assert_eq!(
            open_box(&stranger.public, record.slot, record.day, &stored),
            Err(CourierError::NotOurs)
        );
    }

    #[test]
    fn another_slot_of_the_cohort_cannot_sign_for_this_one() {
        let (cohort, writers) = cohort(1);
        let day = Day::of(NOON);
        let sealed = writers[0].seal(&mut rng(1), day, &descriptor(2, NOON + BOX_LIFETIME));
        let forged = CourierRecord {
            slot: Slot::ALL[1],
            ..CourierRecord::sign(&writers[0], day, sealed)
        };
        assert_eq!(forged.verify(&cohort.public), Err(CourierError::BadSignature));
    }

    #[test]
    fn a_record_moved_to_another_day_does_not_verify() {
        let (public, _, record) = record();
        assert_eq!(record.verify(&public), Ok(()));
        let moved = CourierRecord {
            day: Day(record.day.0 + 1),
            ..record
        };
        assert_eq!(moved.verify(&public), Err(CourierError::BadSignature));
    }
}
