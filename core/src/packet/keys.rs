//! Hop keys: an X25519 key per node and period, and what a layer derives from an exchange with it.
//! Spec: SPEC §3.1 (hop keys), §3.3 (derivation).

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::header::LAYER_LEN;
use super::replay::ReplayTag;
use super::wide::{WIDE_KEY_LEN, WideKey};
use crate::crypto::aead::{AeadKey, TAG_LEN};
use crate::crypto::kdf::Context;
use crate::crypto::keys::{KeyError, LinkPublic, LinkSecret};
use crate::units::WallTime;

const MASK: Context = Context::new("phantom-net 2026 packet mask v1");
const LAYER: Context = Context::new("phantom-net 2026 packet layer v1");

/// How long a hop key is the current one. It is accepted for as long again.
pub const HOP_KEY_PERIOD: Duration = Duration::from_secs(3_600);

/// Hop keys a node holds at most: the previous, the current and those published ahead.
pub const HOP_KEYS_MAX: usize = 6;

/// The number of a hop key's period: whole periods since 1970-01-01 UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct HopKeyId(pub u32);

impl HopKeyId {
    /// The period that contains `wall`. Periods last `period` ([`HOP_KEY_PERIOD`] but in demonstrations), at least 1 s.
    pub fn at(wall: WallTime, period: Duration) -> Self {
        Self(u32::try_from(wall.as_unix_secs() / period.as_secs().max(1)).unwrap_or(u32::MAX))
    }

    /// When this period begins.
    pub fn starts(self, period: Duration) -> WallTime {
        WallTime::from_unix_secs(u64::from(self.0).saturating_mul(period.as_secs().max(1)))
    }

    /// The period after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// The period before this one.
    #[must_use]
    pub const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

/// The public half of a hop key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HopPublic(LinkPublic);

impl HopPublic {
    /// Any 32 bytes; those of small order make [`super::build`] fail.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(LinkPublic::from_bytes(bytes))
    }

    /// Its wire form.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for HopPublic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HopPublic({:?})", self.0)
    }
}

/// The secret half of a hop key. Wiped when dropped, which is what makes recorded packets unreadable for good.
#[derive(Clone, Debug)]
pub struct HopSecret {
    id: HopKeyId,
    secret: LinkSecret,
    public: HopPublic,
    mask: SlotMask,
}

impl HopSecret {
    /// Draws the key of a period.
    pub fn from_rng(id: HopKeyId, rng: &mut impl CryptoRng) -> Self {
        Self::from_secret(id, LinkSecret::from_rng(rng))
    }

    /// A key that was stored with [`HopSecret::to_bytes`].
    pub fn from_bytes(id: HopKeyId, bytes: [u8; 32]) -> Self {
        Self::from_secret(id, LinkSecret::from_bytes(bytes))
    }

    fn from_secret(id: HopKeyId, secret: LinkSecret) -> Self {
        let public = HopPublic(secret.public());
        Self {
            id,
            secret,
            public,
            mask: SlotMask::of(&public),
        }
    }

    /// The key, for storage; wiped when dropped.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        self.secret.to_bytes()
    }

    /// Its period.
    pub const fn id(&self) -> HopKeyId {
        self.id
    }

    /// The public half, for the descriptor.
    pub const fn public(&self) -> HopPublic {
        self.public
    }

    pub(super) const fn mask(&self) -> &SlotMask {
        &self.mask
    }

    /// The keys of a layer from the share in its header.
    ///
    /// # Errors
    /// [`KeyError::NonContributory`].
    pub(super) fn decapsulate(&self, share: &[u8; 32]) -> Result<LayerKeys, KeyError> {
        let shared = self.secret.exchange(&LinkPublic::from_bytes(*share))?;
        Ok(LayerKeys::derive(&shared, share, &self.public))
    }
}

/// The hop keys a node accepts at a time.
#[derive(Clone, Debug)]
pub struct HopSecrets {
    held: BTreeMap<HopKeyId, HopSecret>,
}

impl HopSecrets {
    /// A node's first key.
    pub fn new(first: HopSecret) -> Self {
        Self {
            held: BTreeMap::from([(first.id, first)]),
        }
    }

    /// Adds a key. Above [`HOP_KEYS_MAX`] the oldest is destroyed.
    pub fn insert(&mut self, secret: HopSecret) {
        self.held.insert(secret.id, secret);
        while self.held.len() > HOP_KEYS_MAX {
            self.held.pop_first();
        }
    }

    /// Destroys the keys of all periods before `oldest`: packets and SURBs made for them are refused from now on.
    pub fn retire_before(&mut self, oldest: HopKeyId) {
        self.held = self.held.split_off(&oldest);
    }

    /// The key of a period.
    pub fn get(&self, id: HopKeyId) -> Option<&HopSecret> {
        self.held.get(&id)
    }

    /// All keys, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &HopSecret> {
        self.held.values()
    }

    /// All keys in the order in which they are likely to be meant.
    pub(super) fn newest_first(&self) -> impl Iterator<Item = &HopSecret> {
        self.held.values().rev()
    }
}

/// What hides the share in a slot from those who do not know the hop's public key.
#[derive(Clone)]
pub(super) struct SlotMask([u8; 32]);

impl SlotMask {
    pub(super) fn of(hop: &HopPublic) -> Self {
        Self(MASK.derive(hop.as_bytes()))
    }

    /// The mask of check byte and share in the slot with that tag.
    pub(super) fn stream(&self, tag: &[u8; TAG_LEN]) -> [u8; 33] {
        let mut out = [0; 33];
        blake3::Hasher::new_keyed(&self.0)
            .update(tag)
            .finalize_xof()
            .fill(&mut out);
        out
    }
}

impl fmt::Debug for SlotMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SlotMask")
    }
}

/// Everything one layer of one packet is sealed with.
#[derive(Clone)]
pub(super) struct LayerKeys {
    pub(super) aead: AeadKey,
    pub(super) tag: ReplayTag,
    /// What a hop puts at the end of the header for the layer that it took off.
    pub(super) filler: [u8; LAYER_LEN],
    pub(super) wide: WideKey,
}

impl LayerKeys {
    /// Makes a fresh exchange with `hop`: the share to send it, and the keys.
    ///
    /// # Errors
    /// [`KeyError::NonContributory`] when `hop` is a point of small order.
    pub(super) fn encapsulate(
        hop: &HopPublic,
        rng: &mut impl CryptoRng,
    ) -> Result<([u8; 32], Self), KeyError> {
        let ephemeral = LinkSecret::from_rng(rng);
        let share = *ephemeral.public().as_bytes();
        let shared = ephemeral.exchange(&hop.0)?;
        Ok((share, Self::derive(&shared, &share, hop)))
    }

    fn derive(shared: &[u8; 32], share: &[u8; 32], hop: &HopPublic) -> Self {
        const TAG: usize = 32;
        const FILLER: usize = TAG + ReplayTag::LEN;
        const WIDE: usize = FILLER + LAYER_LEN;
        let mut material = Zeroizing::new([0; 96]);
        material[..32].copy_from_slice(shared);
        material[32..64].copy_from_slice(share);
        material[64..].copy_from_slice(hop.as_bytes());
        let out: Zeroizing<[u8; WIDE + WIDE_KEY_LEN]> = Zeroizing::new(LAYER.derive_array(&*material));
        Self {
            aead: AeadKey::from_bytes(part(&out[..TAG])),
            tag: ReplayTag::from_bytes(part(&out[TAG..FILLER])),
            filler: part(&out[FILLER..WIDE]),
            wide: WideKey::from_bytes(&Zeroizing::new(part(&out[WIDE..]))),
        }
    }
}

fn part<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(bytes);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(id: u32) -> HopSecret {
        HopSecret::from_bytes(HopKeyId(id), [id.to_be_bytes()[3]; 32])
    }

    #[test]
    fn periods_follow_the_wall_clock() {
        let at = |secs| HopKeyId::at(WallTime::from_unix_secs(secs), HOP_KEY_PERIOD);
        assert_eq!(
            (at(3_599), at(3_600), at(7_199)),
            (HopKeyId(0), HopKeyId(1), HopKeyId(1))
        );
        assert_eq!(at(7_200).starts(HOP_KEY_PERIOD), WallTime::from_unix_secs(7_200));
        assert_eq!(
            HopKeyId::at(WallTime::from_unix_secs(9), Duration::ZERO),
            HopKeyId(9)
        );
        assert_eq!(at(7_200).previous().next(), at(7_200));
    }

    #[test]
    fn retired_keys_are_gone_and_the_number_held_is_bounded() {
        let mut keys = HopSecrets::new(secret(250));
        for id in 251..260 {
            keys.insert(secret(id));
        }
        assert_eq!(
            keys.iter().map(|key| key.id().0).collect::<Vec<_>>(),
            (254..260).collect::<Vec<_>>()
        );
        keys.retire_before(HopKeyId(258));
        assert!(keys.get(HopKeyId(257)).is_none() && keys.get(HopKeyId(258)).is_some());
    }

    #[test]
    fn secrets_are_never_printed() {
        let shown = format!("{:?}", HopSecrets::new(secret(7)));
        assert!(shown.contains("LinkSecret(secret)"), "{shown}");
        assert!(!shown.contains("0707") && !shown.contains("7, 7"), "{shown}");
    }
}
