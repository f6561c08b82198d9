//! A cohort: its secret, its four slots, the day's keys, and records sealed for it. SPEC §7.5, §7.6.
//!
//! Per slot there is one key pair for all time (A, a). The bridge that holds the slot signs for k·A, where k comes from the
//! slot's secret and the day, so the DHT sees keys that nobody outside the cohort can link to each other or to the slot.
//! The blinding is that of boxes ([`crate::mailbox::WriteCap`]): one mechanism for both.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rand_core::CryptoRng;
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::crypto::aead::{AeadKey, NONCE_ZERO, TAG_LEN};
use crate::crypto::kdf::Context;
use crate::dht::item::ItemSigner;
use crate::directory::descriptor::{BRIDGE_LEN_MAX, BridgeDescriptor};
use crate::mailbox::{BoxAddress, BoxSeed, CapError, ReadCap, WriteCap};
use crate::units::WallTime;
use crate::wire::{DecodeError, Reader, Writer};

/// Slots of a cohort, for all time: the most bridges that one user's compromise can ever expose.
pub const SLOTS: usize = 4;
/// How far two clocks may each be off around midnight: bridges publish, and clients look, for every day that is within
/// this of now.
pub const OVERLAP: Duration = Duration::from_secs(3 * 3600);

const COHORT_ID: Context = Context::new("phantom-net 2026 cohort id v1");
const SLOT_DHT: Context = Context::new("phantom-net 2026 rendezvous slot key v1");
const SLOT_SEAL: Context = Context::new("phantom-net 2026 rendezvous slot seal v1");
const COURIER: Context = Context::new("phantom-net 2026 rendezvous courier v1");
const RECORD_KEY: Context = Context::new("phantom-net 2026 rendezvous record v1");

const RECORD_VERSION: u8 = 1;
const SALT_LEN: usize = 16;
/// Length of what is sealed, padding included.
const PLAIN_LEN: usize = 256;
/// Length of every sealed record. As a bencoded string it is 292 bytes, of the 1,000 that the DHT takes.
pub const SEALED_LEN: usize = SALT_LEN + PLAIN_LEN + TAG_LEN;

const _: () = assert!(2 + BRIDGE_LEN_MAX <= PLAIN_LEN);

/// A day of the wall clock, UTC, counted from 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(pub u32);

impl Day {
    /// The day of `wall`.
    pub fn of(wall: WallTime) -> Self {
        Self(u32::try_from(wall.as_unix_secs() / 86_400).unwrap_or(u32::MAX))
    }

    /// The days within [`OVERLAP`] of `wall`, the day of `wall` first.
    pub fn around(wall: WallTime) -> Vec<Self> {
        let mut days = vec![Self::of(wall)];
        for other in [Self::of(wall - OVERLAP), Self::of(wall + OVERLAP)] {
            if !days.contains(&other) {
                days.push(other);
            }
        }
        days
    }

    /// When the day ends.
    pub fn end(self) -> WallTime {
        WallTime::from_unix_secs((u64::from(self.0) + 1) * 86_400)
    }

    /// The salt of the day's items in the DHT.
    pub const fn salt(self) -> [u8; 4] {
        self.0.to_be_bytes()
    }
}

/// One of the four slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u8);

impl Slot {
    /// All slots.
    pub const ALL: [Self; SLOTS] = [Self(0), Self(1), Self(2), Self(3)];

    /// The slot with this number.
    pub const fn new(number: u8) -> Result<Self, DecodeError> {
        if (number as usize) < SLOTS {
            Ok(Self(number))
        } else {
            Err(DecodeError::BadValue {
                field: "slot",
                got: number as u64,
            })
        }
    }

    /// Its number, 0 to 3.
    pub const fn number(self) -> u8 {
        self.0
    }

    const fn index(self) -> usize {
        self.0 as usize
    }
}

/// The public name of a cohort.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CohortId(pub [u8; 16]);

/// What an installation keeps: finds and opens the records of its slots.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct CohortSecret([u8; 32]);

impl CohortSecret {
    /// Draws one.
    pub fn from_rng(rng: &mut impl CryptoRng) -> Self {
        let mut bytes = [0; 32];
        rng.fill_bytes(&mut bytes);
        Self(bytes)
    }

    /// One that was stored.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// For storage, and to be marked as sensitive.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The part of it that the bridge of one slot gets. It says nothing about other slots.
    pub fn slot(&self, slot: Slot) -> SlotSecret {
        SlotSecret {
            dht: SLOT_DHT.derive_fields(&[&self.0, &[slot.0]]),
            seal: SLOT_SEAL.derive_fields(&[&self.0, &[slot.0]]),
        }
    }
}

impl fmt::Debug for CohortSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CohortSecret(secret)")
    }
}

/// What the bridge of a slot shares with the slot's readers.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SlotSecret {
    /// Blinds the slot's key per day.
    dht: [u8; 32],
    /// Seals its records.
    seal: [u8; 32],
}

impl SlotSecret {
    fn seed(&self, day: Day) -> BoxSeed {
        BoxSeed::derive(&self.dht, b"rendezvous dht", u64::from(day.0))
    }

    fn record_key(&self, salt: &[u8], associated: &[u8]) -> AeadKey {
        AeadKey::from_bytes(RECORD_KEY.derive_fields(&[&self.seal, salt, associated]))
    }
}

/// What a user tells friends who are to fetch for it: the read side of its four slots. Whoever has it finds the boxes
/// into which bridges drop sealed records, and can neither open nor write them, nor find anything in the DHT.
#[derive(Clone)]
pub struct CohortPublic {
    /// Shared: a simulator holds each installation several times.
    slots: Arc<[ReadCap; SLOTS]>,
}

impl CohortPublic {
    /// Length of its wire form.
    pub const LEN: usize = SLOTS * ReadCap::LEN;

    /// From the read capabilities of the slots, in order.
    pub fn new(slots: [ReadCap; SLOTS]) -> Self {
        Self {
            slots: Arc::new(slots),
        }
    }

    /// Decodes its wire form.
    ///
    /// # Errors
    /// [`CapError`] when a slot's key is none.
    pub fn from_bytes(bytes: &[u8; Self::LEN]) -> Result<Self, CapError> {
        let slot = |n: usize| {
            let mut key = [0; ReadCap::LEN];
            key.copy_from_slice(&bytes[n * ReadCap::LEN..(n + 1) * ReadCap::LEN]);
            ReadCap::from_bytes(key)
        };
        Ok(Self::new([slot(0)?, slot(1)?, slot(2)?, slot(3)?]))
    }

    /// Its wire form.
    pub fn to_bytes(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        for (to, slot) in bytes.chunks_exact_mut(ReadCap::LEN).zip(&*self.slots) {
            to.copy_from_slice(slot.as_bytes());
        }
        bytes
    }

    /// The cohort's name.
    pub fn id(&self) -> CohortId {
        CohortId(COHORT_ID.derive_array(&self.to_bytes()))
    }

    /// The box into which the bridge of `slot` drops its sealed record of `day` for couriers (SPEC §8.1).
    pub fn courier_address(&self, slot: Slot, day: Day) -> BoxAddress {
        self.slots[slot.index()].address(&courier_seed(self.id(), slot, day))
    }
}

impl PartialEq for CohortPublic {
    fn eq(&self, other: &Self) -> bool {
        self.to_bytes() == other.to_bytes()
    }
}

impl Eq for CohortPublic {}

impl fmt::Debug for CohortPublic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CohortPublic({:?})", self.id())
    }
}

/// A record sealed for the readers of a slot; always [`SEALED_LEN`] bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedRecord(Box<[u8; SEALED_LEN]>);

impl SealedRecord {
    /// Bytes that may be one.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let sealed = r.array()?;
        r.finish()?;
        Ok(Self(Box::new(sealed)))
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; SEALED_LEN] {
        &self.0
    }
}

impl fmt::Debug for SealedRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealedRecord(sealed)")
    }
}

/// Why a record does not open or is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum OpenError {
    /// It was sealed for another cohort, slot or day, or by somebody without the slot's secret.
    #[error("the record is not sealed for this cohort, slot and day")]
    BadSeal,
    /// What was sealed is no bridge descriptor: the bridge's fault.
    #[error("the sealed record holds no bridge descriptor")]
    Malformed,
    /// The descriptor has expired.
    #[error("the bridge descriptor expired at {expired:?}, it is {now:?}")]
    Expired {
        /// Its bound.
        expired: WallTime,
        /// The reader's time.
        now: WallTime,
    },
}

/// A cohort as its clients hold it.
#[derive(Clone, Debug)]
pub struct Cohort {
    /// Opens records and finds them in the DHT.
    pub secret: CohortSecret,
    /// The read side of its slots.
    pub public: CohortPublic,
}

impl Cohort {
    /// The key of a slot's item in the DHT on `day`.
    pub fn dht_key(&self, slot: Slot, day: Day) -> [u8; 32] {
        *self.public.slots[slot.index()]
            .address(&self.secret.slot(slot).seed(day))
            .as_bytes()
    }

    /// Opens a record of `slot` and `day`.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(
        &self,
        slot: Slot,
        day: Day,
        sealed: &SealedRecord,
        now: WallTime,
    ) -> Result<BridgeDescriptor, OpenError> {
        let associated = associated(self.public.id(), slot, day);
        let (salt, body) = sealed.0.split_at(SALT_LEN);
        let plain = zeroize::Zeroizing::new(
            self.secret
                .slot(slot)
                .record_key(salt, &associated)
                .open(NONCE_ZERO, &associated, body)
                .map_err(|_| OpenError::BadSeal)?,
        );
        let descriptor = unpad(&plain).ok_or(OpenError::Malformed)?;
        let descriptor = BridgeDescriptor::decode(descriptor).map_err(|_| OpenError::Malformed)?;
        if descriptor.expires <= now {
            return Err(OpenError::Expired {
                expired: descriptor.expires,
                now,
            });
        }
        Ok(descriptor)
    }
}

/// What the one bridge that holds a slot keeps: writes the slot, reads no other.
#[derive(Clone)]
pub struct SlotWriter {
    pub(super) cohort: CohortId,
    pub(super) slot: Slot,
    pub(super) keys: Arc<SlotKeys>,
}

/// What a [`SlotWriter`] writes with.
pub(super) struct SlotKeys {
    pub(super) cap: WriteCap,
    pub(super) secret: SlotSecret,
}

impl SlotWriter {
    /// The slot `slot` of `cohort`, with its write capability. Made by the ledger only.
    pub(super) fn new(cohort: &Cohort, slot: Slot, cap: WriteCap) -> Self {
        Self {
            cohort: cohort.public.id(),
            slot,
            keys: Arc::new(SlotKeys {
                cap,
                secret: cohort.secret.slot(slot),
            }),
        }
    }

    /// Whose slot it is.
    pub const fn cohort(&self) -> CohortId {
        self.cohort
    }

    /// Which slot it is.
    pub const fn slot(&self) -> Slot {
        self.slot
    }

    /// Seals the bridge's descriptor for the slot's readers on `day`.
    pub fn seal(&self, rng: &mut impl CryptoRng, day: Day, descriptor: &BridgeDescriptor) -> SealedRecord {
        let associated = associated(self.cohort, self.slot, day);
        let mut sealed = Box::new([0; SEALED_LEN]);
        let (salt, rest) = sealed.split_at_mut(SALT_LEN);
        let (plain, tag) = rest.split_at_mut(PLAIN_LEN);
        rng.fill_bytes(salt);
        let encoded = descriptor.encode();
        // At most BRIDGE_LEN_MAX bytes, which the format has room for (checked above at compile time).
        let len = encoded.len() as u16;
        plain[..2].copy_from_slice(&len.to_be_bytes());
        plain[2..2 + encoded.len()].copy_from_slice(&encoded);
        tag.copy_from_slice(&self.keys.secret.record_key(salt, &associated).seal_in_place(
            NONCE_ZERO,
            &associated,
            plain,
        ));
        SealedRecord(sealed)
    }

    /// Signs items in the DHT on `day`.
    pub fn signer(&self, day: Day) -> SlotSigner<'_> {
        SlotSigner {
            writer: self,
            seed: self.keys.secret.seed(day),
        }
    }

    /// What signs for the courier box of `day` (SPEC §8.1).
    pub(crate) fn courier(&self, day: Day) -> (&WriteCap, BoxSeed) {
        (&self.keys.cap, courier_seed(self.cohort, self.slot, day))
    }

    /// Its wire form, in an encrypted or 0600 file only.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.put(&self.cohort.0);
        out.put_u8(self.slot.0);
        out.put(&*self.keys.cap.to_bytes());
        out.put(&self.keys.secret.dht);
        out.put(&self.keys.secret.seal);
    }

    /// Reads its wire form.
    ///
    /// # Errors
    /// [`DecodeError`], for a capability that is none as well.
    pub fn decode(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            cohort: CohortId(r.array()?),
            slot: Slot::new(r.u8()?)?,
            keys: Arc::new(SlotKeys {
                cap: WriteCap::from_bytes(&r.array()?).map_err(|_| DecodeError::BadValue {
                    field: "slot write capability",
                    got: 0,
                })?,
                secret: SlotSecret {
                    dht: r.array()?,
                    seal: r.array()?,
                },
            }),
        })
    }
}

impl fmt::Debug for SlotWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SlotWriter({:?}, {:?})", self.cohort, self.slot)
    }
}

/// Signs a slot's items of one day.
pub struct SlotSigner<'w> {
    writer: &'w SlotWriter,
    seed: BoxSeed,
}

impl ItemSigner for SlotSigner<'_> {
    fn public_key(&self) -> [u8; 32] {
        *self.writer.keys.cap.read_cap().address(&self.seed).as_bytes()
    }

    fn sign_item(&self, message: &[u8]) -> [u8; 64] {
        self.writer.keys.cap.sign(&self.seed, |_| message.to_vec()).1
    }
}

fn courier_seed(cohort: CohortId, slot: Slot, day: Day) -> BoxSeed {
    let public = COURIER.derive_fields(&[&cohort.0, &[slot.0]]);
    BoxSeed::derive(&public, b"rendezvous courier", u64::from(day.0))
}

fn associated(cohort: CohortId, slot: Slot, day: Day) -> [u8; 22] {
    let mut out = [0; 22];
    out[0] = RECORD_VERSION;
    out[1..17].copy_from_slice(&cohort.0);
    out[17] = slot.0;
    out[18..].copy_from_slice(&day.salt());
    out
}

/// The bytes before the padding, which must be zeros.
fn unpad(plain: &[u8]) -> Option<&[u8]> {
    let mut r = Reader::new(plain);
    let inner = r.bytes("bridge descriptor", BRIDGE_LEN_MAX).ok()?;
    r.rest().iter().all(|byte| *byte == 0).then_some(inner)
}

#[cfg(test)]
pub(crate) mod tests;
