//! Capabilities to write and to name boxes, by multiplicative blinding of one Ed25519 key pair. Spec: SPEC §4.1.
//!
//! Box key = k·A, box scalar = k·a, k = SHA-512(label, seed, A) mod ℓ, where `seed` is a fresh secret per box. Whoever
//! knows A and the seed names the box; only whoever knows a as well can sign for it. Three rules keep this sound
//! (facts: a per-box scalar together with the read side gives the master scalar):
//! - a per-box scalar lives inside [`WriteCap::sign`] and nowhere else;
//! - the signature's nonce prefix is bound to the box, never shared between two blinded keys;
//! - a point that carries torsion is no read capability.

use std::fmt;

use curve25519_dalek::edwards::CompressedEdwardsY;
use curve25519_dalek::traits::IsIdentity;
use curve25519_dalek::{EdwardsPoint, Scalar};
use ed25519_dalek::VerifyingKey;
use ed25519_dalek::hazmat::{ExpandedSecretKey, raw_sign};
use rand_core::CryptoRng;
use sha2::{Digest, Sha512};
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::address::BoxAddress;
use crate::crypto::kdf::Context;

const SEED: Context = Context::new("phantom-net 2026 box seed v1");
const BLIND_LABEL: &[u8] = b"phantom-net 2026 box blind v1";
const NONCE_LABEL: &[u8] = b"phantom-net 2026 box nonce v1";

/// Why bytes are no capability. The giver's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CapError {
    /// Not a point, not canonical, the identity, or not in the prime-order group.
    #[error("a read capability is a canonical point of the prime-order group other than the identity")]
    BadPoint,
    /// Zero, or not below the group's order.
    #[error("a write capability is a canonical scalar other than zero")]
    BadScalar,
}

/// The secret that tells one box of a relationship from all others; shared by its writer and its reader, and by no two
/// boxes.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct BoxSeed([u8; 32]);

impl BoxSeed {
    /// A seed that was derived elsewhere, from a one-way chain for instance.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The seed of box `index` for a purpose whose `secret` both sides hold for as long as it lasts.
    ///
    /// Whoever learns `secret` later can name all these boxes: messages use a one-way chain instead.
    pub fn derive(secret: &[u8; 32], purpose: &[u8], index: u64) -> Self {
        Self(SEED.derive_fields(&[secret, purpose, &index.to_be_bytes()]))
    }

    /// The seed, for encrypted storage only.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0)
    }
}

impl fmt::Debug for BoxSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BoxSeed(secret)")
    }
}

/// What a reader holds: with a seed it names a box, and it can sign for none.
///
/// The encoded point, which was checked: a client holds two for each contact, and decoding one again takes a tenth of what
/// naming a box takes.
#[derive(Clone)]
pub struct ReadCap([u8; 32]);

impl ReadCap {
    /// Its length in a contact card or a file.
    pub const LEN: usize = 32;

    /// Decodes the capability another party gave.
    ///
    /// # Errors
    /// [`CapError::BadPoint`].
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Self, CapError> {
        let point = CompressedEdwardsY(bytes).decompress().ok_or(CapError::BadPoint)?;
        if point.is_identity() || !point.is_torsion_free() || point.compress().to_bytes() != bytes {
            return Err(CapError::BadPoint);
        }
        Ok(Self(bytes))
    }

    /// Its wire form. To be treated as a secret: it is the same for all boxes of a relationship.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The box of `seed`.
    pub fn address(&self, seed: &BoxSeed) -> BoxAddress {
        BoxAddress::from_bytes((self.point() * self.factor(seed)).compress().to_bytes())
    }

    fn point(&self) -> EdwardsPoint {
        let point = CompressedEdwardsY(self.0).decompress();
        point.expect("checked when it was made")
    }

    fn factor(&self, seed: &BoxSeed) -> Scalar {
        let mut wide = hash(BLIND_LABEL, &seed.0, &self.0);
        let factor = Scalar::from_bytes_mod_order_wide(&wide);
        wide.zeroize();
        factor
    }
}

impl fmt::Debug for ReadCap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReadCap(secret)")
    }
}

/// What a writer holds. Given to exactly one party, ever.
#[derive(Clone)]
pub struct WriteCap {
    scalar: Scalar,
    nonce_key: [u8; 32],
    read: ReadCap,
}

impl WriteCap {
    /// Its length in an encrypted file.
    pub const LEN: usize = 64;

    /// Draws a capability.
    pub fn from_rng(rng: &mut impl CryptoRng) -> Self {
        let mut wide = Zeroizing::new([0; 64]);
        let mut nonce_key = [0; 32];
        rng.fill_bytes(&mut *wide);
        rng.fill_bytes(&mut nonce_key);
        Self::assemble(Scalar::from_bytes_mod_order_wide(&wide), nonce_key)
    }

    /// The capability that follows from 96 uniform bytes, for two who derive them from one secret: both can then write.
    pub(crate) fn from_uniform(bytes: &[u8; 96]) -> Self {
        let (mut wide, mut nonce_key) = (Zeroizing::new([0; 64]), [0; 32]);
        wide.copy_from_slice(&bytes[..64]);
        nonce_key.copy_from_slice(&bytes[64..]);
        Self::assemble(Scalar::from_bytes_mod_order_wide(&wide), nonce_key)
    }

    /// A capability that was stored with [`WriteCap::to_bytes`].
    ///
    /// # Errors
    /// [`CapError::BadScalar`].
    pub fn from_bytes(bytes: &[u8; 64]) -> Result<Self, CapError> {
        let (mut scalar, mut nonce_key) = (Zeroizing::new([0; 32]), [0; 32]);
        scalar.copy_from_slice(&bytes[..32]);
        nonce_key.copy_from_slice(&bytes[32..]);
        let scalar =
            Option::<Scalar>::from(Scalar::from_canonical_bytes(*scalar)).ok_or(CapError::BadScalar)?;
        if scalar == Scalar::ZERO {
            return Err(CapError::BadScalar);
        }
        Ok(Self::assemble(scalar, nonce_key))
    }

    fn assemble(scalar: Scalar, nonce_key: [u8; 32]) -> Self {
        Self {
            scalar,
            nonce_key,
            read: ReadCap(EdwardsPoint::mul_base(&scalar).compress().to_bytes()),
        }
    }

    /// The capability, for encrypted storage only.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 64]> {
        let mut bytes = Zeroizing::new([0; 64]);
        bytes[..32].copy_from_slice(self.scalar.as_bytes());
        bytes[32..].copy_from_slice(&self.nonce_key);
        bytes
    }

    /// What to give to the reader.
    pub const fn read_cap(&self) -> &ReadCap {
        &self.read
    }

    /// Makes a write to the box of `seed`: `message` is what to sign, given the address. The same input gives the same
    /// signature.
    pub fn sign(
        &self,
        seed: &BoxSeed,
        message: impl FnOnce(&BoxAddress) -> Vec<u8>,
    ) -> (BoxAddress, [u8; 64]) {
        let scalar = Zeroizing::new(self.scalar * self.read.factor(seed));
        let key = VerifyingKey::from(EdwardsPoint::mul_base(&scalar));
        let address = BoxAddress::from_bytes(key.to_bytes());
        let mut wide = hash(NONCE_LABEL, &self.nonce_key, address.as_bytes());
        let mut hash_prefix = [0; 32];
        hash_prefix.copy_from_slice(&wide[..32]);
        wide.zeroize();
        // Wipes its scalar and prefix when dropped.
        let secret = ExpandedSecretKey {
            scalar: *scalar,
            hash_prefix,
        };
        let signature = raw_sign::<Sha512>(&secret, &message(&address), &key);
        (address, signature.to_bytes())
    }
}

impl Drop for WriteCap {
    fn drop(&mut self) {
        self.scalar.zeroize();
        self.nonce_key.zeroize();
    }
}

impl fmt::Debug for WriteCap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WriteCap(secret)")
    }
}

/// SHA-512 over a label behind its length and two fields of fixed length.
fn hash(label: &[u8], secret: &[u8; 32], public: &[u8; 32]) -> [u8; 64] {
    let mut hash = Sha512::new();
    hash.update([label.len() as u8]);
    hash.update(label);
    hash.update(secret);
    hash.update(public);
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use curve25519_dalek::constants::EIGHT_TORSION;
    use proptest::prelude::*;
    use rand_chacha::ChaCha12Rng;
    use rand_core::SeedableRng;

    use super::*;

    fn cap(seed: u8) -> WriteCap {
        WriteCap::from_rng(&mut ChaCha12Rng::from_seed([seed; 32]))
    }

    fn seeds(n: u64) -> impl Iterator<Item = BoxSeed> {
        (0..n).map(|i| BoxSeed::derive(&[7; 32], b"test", i))
    }

    #[test]
    fn reader_and_writer_name_the_same_boxes_and_no_box_twice() {
        let (writer, mut seen) = (cap(1), BTreeSet::new());
        let reader = ReadCap::from_bytes(*writer.read_cap().as_bytes()).expect("a capability");
        for seed in seeds(100) {
            let (address, signature) = writer.sign(&seed, |_| b"message".to_vec());
            assert_eq!(address, reader.address(&seed));
            assert!(address.verifies(b"message", &signature));
            assert!(!address.verifies(b"another", &signature));
            assert_eq!(
                writer.sign(&seed, |_| b"message".to_vec()),
                (address, signature),
                "deterministic"
            );
            assert!(seen.insert(address));
            let point = CompressedEdwardsY(*address.as_bytes())
                .decompress()
                .expect("a point");
            assert!(point.is_torsion_free() && !point.is_identity());
        }
        assert!(
            !seen.contains(&BoxAddress::from_bytes(*reader.as_bytes())),
            "a box never is the stable key"
        );
    }

    #[test]
    fn a_signature_serves_its_own_box_only() {
        let writer = cap(1);
        let boxes: Vec<_> = seeds(8)
            .map(|seed| writer.sign(&seed, |_| b"message".to_vec()))
            .collect();
        for (i, (address, _)) in boxes.iter().enumerate() {
            for (j, (_, signature)) in boxes.iter().enumerate() {
                assert_eq!(address.verifies(b"message", signature), i == j);
            }
        }
    }

    #[test]
    fn no_two_boxes_share_a_nonce() {
        let writer = cap(1);
        let nonces: BTreeSet<Vec<u8>> = seeds(50)
            .map(|seed| writer.sign(&seed, |_| b"same".to_vec()).1[..32].to_vec())
            .collect();
        assert_eq!(nonces.len(), 50);
    }

    #[test]
    fn another_relationship_has_other_boxes() {
        let seed = BoxSeed::derive(&[7; 32], b"test", 0);
        assert_ne!(cap(1).read_cap().address(&seed), cap(2).read_cap().address(&seed));
    }

    #[test]
    fn what_a_reader_knows_signs_nothing() {
        // The best a reader can do with (A, k) is to sign with k itself: that is a signature of k·B, another key.
        let writer = cap(1);
        let seed = BoxSeed::derive(&[7; 32], b"test", 0);
        let factor = writer.read_cap().factor(&seed);
        let guess = EdwardsPoint::mul_base(&factor).compress().to_bytes();
        assert_ne!(&guess, writer.read_cap().address(&seed).as_bytes());
    }

    #[test]
    fn a_read_capability_with_torsion_or_of_small_order_is_refused() {
        let point = cap(1).read_cap().point();
        for torsion in &EIGHT_TORSION[1..] {
            assert_eq!(
                ReadCap::from_bytes((point + torsion).compress().to_bytes()).err(),
                Some(CapError::BadPoint)
            );
        }
        for torsion in &EIGHT_TORSION {
            assert_eq!(
                ReadCap::from_bytes(torsion.compress().to_bytes()).err(),
                Some(CapError::BadPoint)
            );
        }
    }

    #[test]
    fn a_stored_capability_is_the_capability_read() {
        let writer = cap(3);
        let back = WriteCap::from_bytes(&writer.to_bytes()).expect("a capability");
        let seed = BoxSeed::derive(&[1; 32], b"test", 9);
        assert_eq!(back.sign(&seed, |_| vec![1]), writer.sign(&seed, |_| vec![1]));
        assert_eq!(WriteCap::from_bytes(&[0; 64]).err(), Some(CapError::BadScalar));
        assert_eq!(WriteCap::from_bytes(&[0xff; 64]).err(), Some(CapError::BadScalar));
        assert_eq!(
            format!("{writer:?} {:?} {seed:?}", writer.read_cap()),
            "WriteCap(secret) ReadCap(secret) BoxSeed(secret)"
        );
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_a_capability_or_refused(bytes: [u8; 32]) {
            if let Ok(cap) = ReadCap::from_bytes(bytes) {
                prop_assert_eq!(*cap.as_bytes(), bytes);
            }
        }
    }
}
