//! A box as it is written, stored and read: address, lifetime, sealed body, signature. Spec: SPEC §4.2.

use std::fmt;

use bytes::Bytes;
use thiserror::Error;

use super::address::BoxAddress;
use super::caps::{BoxSeed, WriteCap};
use super::ttl::TtlBucket;
use crate::packet::Class;
use crate::wire::{DecodeError, Reader, Writer};

/// Length of the sealed body of a small box.
pub const BODY_LEN: usize = 3_456;

/// Length of the sealed body of a bulk box.
pub const BULK_BODY_LEN: usize = 32_128;

/// Length of an encoded small record.
pub const RECORD_LEN: usize = record_len(Class::Small);

const HEADER_LEN: usize = BoxAddress::LEN + 1 + 8;
const SIGNATURE_LEN: usize = 64;

/// Length of the sealed body of a box that travels in packets of this class.
pub const fn body_len(class: Class) -> usize {
    match class {
        Class::Small => BODY_LEN,
        Class::Bulk => BULK_BODY_LEN,
    }
}

/// Length of an encoded record of this class.
pub const fn record_len(class: Class) -> usize {
    1 + HEADER_LEN + body_len(class) + SIGNATURE_LEN
}

/// The first byte of a record: format and class in one.
const fn version(class: Class) -> u8 {
    match class {
        Class::Small => 1,
        Class::Bulk => 2,
    }
}

const CONTEXT: &[u8] = b"phantom-net 2026 box record v1";

/// Why a record is not accepted. The sender's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum RecordError {
    /// It does not decode.
    #[error("a box record that does not decode: {0}")]
    Malformed(#[from] DecodeError),
    /// The signature is not that of its address.
    #[error("a box record whose signature is not that of its address")]
    BadSignature,
}

/// What a record says before it is signed.
#[derive(Clone, PartialEq, Eq)]
pub struct Unsigned {
    /// How long nodes keep it after receipt.
    pub bucket: TtlBucket,
    /// No node keeps it beyond this, in Unix seconds; on the grid of `bucket`.
    pub not_after: u64,
    /// Sealed: exactly [`BODY_LEN`] bytes, or [`BULK_BODY_LEN`].
    pub body: Bytes,
}

impl Unsigned {
    /// The class that its body has the length of.
    fn class(&self) -> Option<Class> {
        Class::ALL
            .into_iter()
            .find(|class| body_len(*class) == self.body.len())
    }
}

/// A box: signed, its fields in their canonical form. Nobody but its writer can make another for the same address.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    address: BoxAddress,
    content: Unsigned,
    signature: [u8; 64],
}

impl Record {
    /// Signs `content` for the box of `seed`. Deterministic.
    ///
    /// # Panics
    /// When the body has neither length or the bound is off its grid: the caller has broken the format.
    pub fn sign(cap: &WriteCap, seed: &BoxSeed, content: Unsigned) -> Self {
        assert!(
            content.class().is_some(),
            "a box body has the length of its class"
        );
        assert_eq!(
            content.not_after % content.bucket.grid_secs(),
            0,
            "a bound lies on its bucket's grid"
        );
        let (address, signature) = cap.sign(seed, |address| message(address, &content));
        Self {
            address,
            content,
            signature,
        }
    }

    /// Decodes without checking the signature: for a reader, whose AEAD covers every field, and for a node's own disk.
    ///
    /// # Errors
    /// [`DecodeError`]; input of another length, version or an off-grid bound included.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let record = Self::read(&mut r)?;
        r.finish()?;
        Ok(record)
    }

    /// Decodes and checks the signature: for a node that takes a box from anybody.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn decode_verified(bytes: &[u8]) -> Result<Self, RecordError> {
        let record = Self::decode(bytes)?;
        record.verify()?;
        Ok(record)
    }

    /// Checks the signature, strictly.
    ///
    /// # Errors
    /// [`RecordError::BadSignature`].
    pub fn verify(&self) -> Result<(), RecordError> {
        if self
            .address
            .verifies(&message(&self.address, &self.content), &self.signature)
        {
            Ok(())
        } else {
            Err(RecordError::BadSignature)
        }
    }

    pub(super) fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let got = r.u8()?;
        let class = Class::ALL.into_iter().find(|class| version(*class) == got);
        let class = class.ok_or(DecodeError::BadValue {
            field: "box record version",
            got: u64::from(got),
        })?;
        let address = BoxAddress::from_bytes(r.array()?);
        let bucket = TtlBucket::from_code(r.u8()?)?;
        let not_after = r.u64()?;
        if not_after % bucket.grid_secs() != 0 {
            return Err(DecodeError::BadValue {
                field: "box bound off its grid",
                got: not_after,
            });
        }
        let body = Bytes::copy_from_slice(r.take(body_len(class))?);
        Ok(Self {
            address,
            content: Unsigned {
                bucket,
                not_after,
                body,
            },
            signature: r.array()?,
        })
    }

    /// Appends the wire form, [`record_len`] bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.put_u8(version(self.class()));
        out.put(self.address.as_bytes());
        out.put_u8(self.content.bucket.code());
        out.put_u64(self.content.not_after);
        out.put(&self.content.body);
        out.put(&self.signature);
    }

    /// The wire form.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(record_len(self.class()));
        self.write(&mut out);
        out
    }

    /// Of which class the packets are that carry it.
    pub fn class(&self) -> Class {
        // Signed and decoded records have one.
        self.content.class().unwrap_or(Class::Small)
    }

    /// The box.
    pub const fn address(&self) -> &BoxAddress {
        &self.address
    }

    /// How long nodes keep it after receipt.
    pub const fn bucket(&self) -> TtlBucket {
        self.content.bucket
    }

    /// No node keeps it beyond this, in Unix seconds.
    pub const fn not_after(&self) -> u64 {
        self.content.not_after
    }

    /// The sealed body.
    pub const fn body(&self) -> &Bytes {
        &self.content.body
    }

    /// What the seal of the body covers besides it: the other fields that the writer chose. (The address is covered by
    /// the body's key, which belongs to this one box.)
    pub fn associated_data(class: Class, bucket: TtlBucket, not_after: u64) -> [u8; 10] {
        let mut out = [0; 10];
        (out[0], out[1]) = (version(class), bucket.code());
        out[2..].copy_from_slice(&not_after.to_be_bytes());
        out
    }
}

/// What is signed: a context, all fields, and the body by its hash (so that a store reads it once).
fn message(address: &BoxAddress, content: &Unsigned) -> Vec<u8> {
    let mut out = Vec::with_capacity(CONTEXT.len() + 1 + HEADER_LEN + 32);
    out.put(CONTEXT);
    out.put(address.as_bytes());
    let class = content.class().unwrap_or(Class::Small); // as in `Record::class`
    out.put(&Record::associated_data(class, content.bucket, content.not_after));
    out.put(blake3::hash(&content.body).as_bytes());
    out
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("address", &self.address)
            .field("bucket", &self.content.bucket)
            .field("not_after", &self.content.not_after)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Unsigned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unsigned")
            .field("bucket", &self.bucket)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// What a write to a box that is held already comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteOnce {
    /// The same content (a repeat): acknowledged as the first was, its expiry unchanged.
    Same,
    /// Another content: refused.
    Conflict,
}

/// Compares a verified write with the record that is held for its address. What counts is the content: a second valid
/// signature over it changes nothing.
pub fn write_once(held: &Record, offered: &Record) -> WriteOnce {
    if held.address == offered.address && held.content == offered.content {
        WriteOnce::Same
    } else {
        WriteOnce::Conflict
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;
    use rand_chacha::ChaCha12Rng;
    use rand_core::SeedableRng;

    use super::*;

    pub(crate) fn record(seed: u64, fill: u8) -> Record {
        of_class(Class::Small, seed, fill)
    }

    pub(crate) fn bulk_record(seed: u64, fill: u8) -> Record {
        of_class(Class::Bulk, seed, fill)
    }

    fn of_class(class: Class, seed: u64, fill: u8) -> Record {
        let cap = WriteCap::from_rng(&mut ChaCha12Rng::seed_from_u64(1));
        Record::sign(
            &cap,
            &BoxSeed::derive(&[2; 32], b"test", seed),
            Unsigned {
                bucket: TtlBucket::ALL[2],
                not_after: 60,
                body: Bytes::from(vec![fill; body_len(class)]),
            },
        )
    }

    #[test]
    fn what_is_signed_decodes_and_verifies() {
        for (record, class) in [(record(1, 7), Class::Small), (bulk_record(1, 7), Class::Bulk)] {
            let bytes = record.encode();
            assert_eq!((bytes.len(), record.class()), (record_len(class), class));
            assert_eq!(Record::decode_verified(&bytes), Ok(record));
        }
        let mut relabelled = bulk_record(1, 7).encode();
        relabelled[0] = 1;
        assert!(Record::decode(&relabelled).is_err());
    }

    #[test]
    fn a_second_different_write_conflicts_and_a_repeat_does_not() {
        assert_eq!(write_once(&record(1, 7), &record(1, 7)), WriteOnce::Same);
        assert_eq!(write_once(&record(1, 7), &record(1, 8)), WriteOnce::Conflict);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Every bit of a record is covered: by the format or by the signature.
        #[test]
        fn a_changed_bit_is_refused(bit in 0..RECORD_LEN * 8) {
            let mut bytes = record(1, 7).encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(Record::decode_verified(&bytes).is_err());
        }

        #[test]
        fn arbitrary_bytes_never_panic_and_what_decodes_encodes_back(
            mut bytes in prop::collection::vec(any::<u8>(), RECORD_LEN - 1..RECORD_LEN + 2), fix: bool
        ) {
            if fix {
                (bytes[0], bytes[33]) = (version(Class::Small), 0);
            }
            if let Ok(record) = Record::decode(&bytes) {
                prop_assert_eq!(record.encode(), bytes);
                prop_assert!(record.verify().is_err());
            }
        }
    }
}
