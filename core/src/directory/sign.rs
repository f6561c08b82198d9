//! k of n signatures over a document, and how the keys change. Spec: SPEC §6.4.

use std::collections::BTreeSet;

use thiserror::Error;

use crate::crypto::kdf::Context;
use crate::crypto::keys::{IdentityPublic, IdentitySecret};
use crate::wire::{DecodeError, Reader, Writer};

const AUTHORITY_ID: Context = Context::new("phantom-net 2026 authority id v1");
const KEY_SET: Context = Context::new("phantom-net 2026 authority key set v1");
const CHANGE: Context = Context::new("phantom-net 2026 authority key change v1");

/// Authorities that a key set may have.
pub const AUTHORITIES_MAX: usize = 16;
/// Key changes that a signed document may carry, oldest first.
pub const CHANGES_MAX: usize = 4;

/// Why keys or signatures are refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SignError {
    /// The signatures do not decode.
    #[error("signatures: {0}")]
    Decode(#[from] DecodeError),
    /// Not a set of 1 to [`AUTHORITIES_MAX`] different keys with n/2 < k <= n.
    #[error("a key set needs 1 to 16 different keys and n/2 < k <= n, not k = {k} of n = {n}")]
    BadKeySet {
        /// Signatures asked for.
        k: usize,
        /// Keys.
        n: usize,
    },
    /// Fewer valid signatures of different pinned keys than asked for.
    #[error("signed by {got} of the pinned keys, {wanted} are needed")]
    TooFew {
        /// Signatures needed.
        wanted: usize,
        /// Valid ones.
        got: usize,
    },
}

/// A short name for an authority: 8 bytes of a hash of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AuthorityId(pub [u8; 8]);

impl AuthorityId {
    /// The name of the holder of `key`.
    pub fn of(key: &IdentityPublic) -> Self {
        Self(AUTHORITY_ID.derive_array(key.as_bytes()))
    }
}

/// The keys of the authorities, and how many of them must sign. What a client pins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySet {
    /// Raised by one with each change of keys; a client never goes back to a lower one.
    sequence: u32,
    k: u8,
    keys: Vec<(AuthorityId, IdentityPublic)>,
}

impl KeySet {
    /// A set of `keys`, `k` of which must sign; `sequence` is 0 for the first set and one higher for each that follows.
    ///
    /// # Errors
    /// [`SignError::BadKeySet`].
    pub fn new(sequence: u32, k: usize, keys: &[IdentityPublic]) -> Result<Self, SignError> {
        let n = keys.len();
        let bad = SignError::BadKeySet { k, n };
        let mut named: Vec<_> = keys.iter().map(|key| (AuthorityId::of(key), *key)).collect();
        named.sort_unstable();
        named.dedup_by_key(|(id, _)| *id);
        if n == 0 || n > AUTHORITIES_MAX || named.len() != n || 2 * k <= n || k > n {
            return Err(bad);
        }
        Ok(Self {
            sequence,
            k: u8::try_from(k).map_err(|_| bad)?,
            keys: named,
        })
    }

    /// How many must sign.
    pub fn k(&self) -> usize {
        usize::from(self.k)
    }

    /// How many there are.
    pub fn n(&self) -> usize {
        self.keys.len()
    }

    /// How many changes of keys led to this set.
    pub const fn sequence(&self) -> u32 {
        self.sequence
    }

    /// The authorities by name, ascending.
    pub fn authorities(&self) -> impl Iterator<Item = (AuthorityId, &IdentityPublic)> {
        self.keys.iter().map(|(id, key)| (*id, key))
    }

    /// The key of an authority.
    pub fn key(&self, id: AuthorityId) -> Option<&IdentityPublic> {
        let at = self.keys.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        self.keys.get(at).map(|(_, key)| key)
    }

    /// Checks that at least k of the keys signed `message`. Signatures of others and wrong ones do not count.
    ///
    /// # Errors
    /// [`SignError::TooFew`].
    pub fn verify(&self, message: &[u8], signatures: &Signatures) -> Result<(), SignError> {
        let mut signers = BTreeSet::new();
        for (id, signature) in &signatures.0 {
            if self
                .key(*id)
                .is_some_and(|key| key.verify(message, signature).is_ok())
            {
                signers.insert(*id);
            }
        }
        if signers.len() < self.k() {
            return Err(SignError::TooFew {
                wanted: self.k(),
                got: signers.len(),
            });
        }
        Ok(())
    }

    /// A hash of the set.
    pub fn hash(&self) -> [u8; 32] {
        let mut bytes = Vec::new();
        self.write(&mut bytes);
        KEY_SET.derive(&bytes)
    }

    /// Appends the encoding.
    pub fn write(&self, out: &mut impl Writer) {
        out.put_u32(self.sequence);
        out.put_u8(self.k);
        out.put_u8(u8::try_from(self.keys.len()).expect("at most AUTHORITIES_MAX"));
        self.keys.iter().for_each(|(_, key)| out.put(key.as_bytes()));
    }

    /// Reads an encoding.
    ///
    /// # Errors
    /// [`SignError`].
    pub fn read(r: &mut Reader<'_>) -> Result<Self, SignError> {
        let (sequence, k, n) = (r.u32()?, usize::from(r.u8()?), usize::from(r.u8()?));
        if n > AUTHORITIES_MAX {
            return Err(SignError::BadKeySet { k, n });
        }
        let mut keys = Vec::with_capacity(n);
        for _ in 0..n {
            let bad = DecodeError::BadValue {
                field: "authority key",
                got: keys.len() as u64,
            };
            keys.push(IdentityPublic::from_bytes(r.array()?).map_err(|_| bad)?);
        }
        let set = Self::new(sequence, k, &keys)?;
        // Canonical: the keys stand in the order of their names.
        match set.keys.iter().map(|(_, key)| key).eq(keys.iter()) {
            true => Ok(set),
            false => Err(DecodeError::BadValue {
                field: "order of authority keys",
                got: n as u64,
            }
            .into()),
        }
    }
}

/// Signatures by authorities, in the order of their names, one each.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Signatures(Vec<(AuthorityId, [u8; 64])>);

impl Signatures {
    /// Adds or replaces the signature of one authority; false if there is no room for another authority.
    pub fn insert(&mut self, id: AuthorityId, signature: [u8; 64]) -> bool {
        match self.0.binary_search_by_key(&id, |(id, _)| *id) {
            Ok(at) => self.0[at].1 = signature,
            Err(_) if self.0.len() == AUTHORITIES_MAX => return false,
            Err(at) => self.0.insert(at, (id, signature)),
        }
        true
    }

    /// The signatures.
    pub fn iter(&self) -> impl Iterator<Item = (AuthorityId, &[u8; 64])> {
        self.0.iter().map(|(id, signature)| (*id, signature))
    }

    /// How many there are.
    pub const fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Appends the encoding: count byte, then name and signature of each.
    pub fn write(&self, out: &mut impl Writer) {
        out.put_u8(u8::try_from(self.0.len()).expect("at most AUTHORITIES_MAX"));
        for (id, signature) in &self.0 {
            out.put(&id.0);
            out.put(signature);
        }
    }

    /// Reads an encoding.
    ///
    /// # Errors
    /// [`DecodeError`]: too many, or not in ascending order.
    pub fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let count = usize::from(r.u8()?);
        if count > AUTHORITIES_MAX {
            return Err(DecodeError::TooLong {
                field: "signatures",
                bound: AUTHORITIES_MAX,
                got: count,
            });
        }
        let mut out: Vec<(AuthorityId, [u8; 64])> = Vec::with_capacity(count);
        for _ in 0..count {
            let (id, signature) = (AuthorityId(r.array()?), r.array()?);
            if out.last().is_some_and(|(last, _)| *last >= id) {
                return Err(DecodeError::BadValue {
                    field: "order of signatures",
                    got: out.len() as u64,
                });
            }
            out.push((id, signature));
        }
        Ok(Self(out))
    }
}

/// A new key set, signed by k of the one before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyChange {
    /// The hash of the set that is replaced.
    from: [u8; 32],
    to: KeySet,
    signatures: Signatures,
}

impl KeyChange {
    /// An unsigned change from `from` to `k` of `keys`.
    ///
    /// # Errors
    /// [`SignError::BadKeySet`].
    pub fn new(from: &KeySet, k: usize, keys: &[IdentityPublic]) -> Result<Self, SignError> {
        let to = KeySet::new(from.sequence.saturating_add(1), k, keys)?;
        Ok(Self {
            from: from.hash(),
            to,
            signatures: Signatures::default(),
        })
    }

    /// Signs with a key of the set that is replaced.
    pub fn sign(&mut self, secret: &IdentitySecret) {
        let signature = secret.sign(&self.message());
        self.signatures
            .insert(AuthorityId::of(&secret.public()), signature);
    }

    /// The new set, if this change replaces `pinned` and k of its keys signed it.
    ///
    /// # Errors
    /// [`SignError::TooFew`]; a change of some other set counts as signed by none.
    pub fn apply(&self, pinned: &KeySet) -> Result<KeySet, SignError> {
        if self.from != pinned.hash() || self.to.sequence != pinned.sequence.saturating_add(1) {
            return Err(SignError::TooFew {
                wanted: pinned.k(),
                got: 0,
            });
        }
        pinned.verify(&self.message(), &self.signatures)?;
        Ok(self.to.clone())
    }

    fn message(&self) -> [u8; 32] {
        let mut to = Vec::new();
        self.to.write(&mut to);
        CHANGE.derive_fields(&[&self.from, &to])
    }

    /// Appends the encoding.
    pub fn write(&self, out: &mut impl Writer) {
        out.put(&self.from);
        self.to.write(out);
        self.signatures.write(out);
    }

    /// Reads an encoding. The signatures are checked by [`KeyChange::apply`].
    ///
    /// # Errors
    /// [`SignError`].
    pub fn read(r: &mut Reader<'_>) -> Result<Self, SignError> {
        Ok(Self {
            from: r.array()?,
            to: KeySet::read(r)?,
            signatures: Signatures::read(r)?,
        })
    }
}

/// Follows `changes` from `pinned` as far as they lead; those that do not continue it are passed over.
///
/// # Errors
/// [`SignError`] of a change that claims to replace the set reached but is not signed for it.
pub fn follow(pinned: &KeySet, changes: &[KeyChange]) -> Result<KeySet, SignError> {
    let mut set = pinned.clone();
    for change in changes {
        if change.from == set.hash() {
            set = change.apply(&set)?;
        }
    }
    Ok(set)
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;
    use rand_chacha::ChaCha12Rng;
    use rand_core::SeedableRng;

    use super::*;

    pub(in crate::directory) fn secrets(n: u64) -> Vec<IdentitySecret> {
        (0..n)
            .map(|i| IdentitySecret::from_rng(&mut ChaCha12Rng::seed_from_u64(1_000 + i)))
            .collect()
    }

    pub(in crate::directory) fn publics(secrets: &[IdentitySecret]) -> Vec<IdentityPublic> {
        secrets.iter().map(IdentitySecret::public).collect()
    }

    fn sign(message: &[u8], by: &[IdentitySecret]) -> Signatures {
        let mut out = Signatures::default();
        for secret in by {
            out.insert(AuthorityId::of(&secret.public()), secret.sign(message));
        }
        out
    }

    #[test]
    fn half_of_the_keys_are_never_enough() {
        let keys = publics(&secrets(4));
        assert_eq!(KeySet::new(0, 2, &keys), Err(SignError::BadKeySet { k: 2, n: 4 }));
        assert_eq!(KeySet::new(0, 5, &keys), Err(SignError::BadKeySet { k: 5, n: 4 }));
        assert_eq!(KeySet::new(0, 1, &[]), Err(SignError::BadKeySet { k: 1, n: 0 }));
        let twice = [keys[0], keys[0], keys[1]];
        assert_eq!(
            KeySet::new(0, 2, &twice),
            Err(SignError::BadKeySet { k: 2, n: 3 })
        );
    }

    #[test]
    fn k_of_the_pinned_keys_must_sign_the_very_message() {
        let (secrets, strangers) = (secrets(5), secrets(9));
        let set = KeySet::new(0, 3, &publics(&secrets)).expect("3 of 5");
        assert_eq!(set.verify(b"m", &sign(b"m", &secrets[1..4])), Ok(()));
        assert_eq!(
            set.verify(b"m", &sign(b"m", &secrets[..2])),
            Err(SignError::TooFew { wanted: 3, got: 2 })
        );
        assert_eq!(
            set.verify(b"m", &sign(b"x", &secrets)),
            Err(SignError::TooFew { wanted: 3, got: 0 })
        );
        let mut mixed = sign(b"m", &strangers[5..]);
        secrets[..2].iter().for_each(|s| {
            mixed.insert(AuthorityId::of(&s.public()), s.sign(b"m"));
        });
        assert_eq!(
            set.verify(b"m", &mixed),
            Err(SignError::TooFew { wanted: 3, got: 2 })
        );
    }

    #[test]
    fn keys_change_only_by_k_signatures_of_the_set_before() {
        let all = secrets(8);
        let (old, new) = (&all[..3], &all[3..]);
        let pinned = KeySet::new(0, 2, &publics(old)).expect("2 of 3");
        let mut change = KeyChange::new(&pinned, 3, &publics(new)).expect("3 of 5");
        change.sign(&old[0]);
        new.iter().for_each(|secret| change.sign(secret));
        assert_eq!(
            follow(&pinned, std::slice::from_ref(&change)),
            Err(SignError::TooFew { wanted: 2, got: 1 })
        );
        change.sign(&old[2]);
        let second = follow(&pinned, std::slice::from_ref(&change)).expect("signed by two");
        assert_eq!((second.sequence(), second.k(), second.n()), (1, 3, 5));

        let mut back = KeyChange::new(&second, 2, &publics(old)).expect("2 of 3");
        new.iter().for_each(|secret| back.sign(secret));
        let third = follow(&pinned, &[change.clone(), back]).expect("a chain");
        assert_eq!(third.sequence(), 2);
        assert_ne!(
            third, pinned,
            "the same keys come back under a higher sequence number"
        );
        assert_eq!(
            follow(&third, &[change]),
            Ok(third.clone()),
            "an old change does not apply again"
        );
    }

    proptest! {
        #[test]
        fn what_decodes_encodes_to_the_same_bytes(at: proptest::sample::Index, to: u8, junk: Vec<u8>) {
            let secrets = secrets(3);
            let pinned = KeySet::new(0, 2, &publics(&secrets)).expect("2 of 3");
            let mut change = KeyChange::new(&pinned, 2, &publics(&secrets)).expect("2 of 3");
            secrets.iter().for_each(|secret| change.sign(secret));
            let mut bytes = Vec::new();
            change.write(&mut bytes);
            prop_assert_eq!(KeyChange::read(&mut Reader::new(&bytes)), Ok(change));
            let at = at.index(bytes.len());
            bytes[at] = to;
            for input in [&bytes, &junk] {
                let mut r = Reader::new(input);
                if let Ok(change) = KeyChange::read(&mut r) {
                    let mut again = Vec::new();
                    change.write(&mut again);
                    prop_assert_eq!(&again[..], &input[..input.len() - r.remaining()]);
                }
            }
        }
    }
}
