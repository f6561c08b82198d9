//! The wide-block cipher of payloads: a permutation of the whole payload in which every bit of the output depends on
//! every bit of the input, in both directions. Spec: SPEC §3.4.
//!
//! LIONESS (Anderson and Biham, 1996) is an unbalanced Feistel network: a stream cipher and a keyed hash by turns, four
//! rounds. As in Naor and Reingold (1999), of the two hash rounds the outer one need only be a universal hash, so it is
//! Poly1305; the inner one must be a pseudo-random function, so it is keyed BLAKE3 of a Poly1305 hash. Hashing all of
//! the payload with BLAKE3 costs 2.3 times as much at 2 KiB. The left half is added modulo 2^128, the operation for
//! which Poly1305 is almost universal. A key serves one payload, so the bound (queries² · 2^-91 at 32 KiB) is far away.

use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit, StreamCipher};
use poly1305::Poly1305;
use poly1305::universal_hash::KeyInit;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Bytes of the left half. A block is at least twice as long.
pub(super) const LEFT_LEN: usize = 16;

/// Bytes of a key: five independent keys.
pub(super) const WIDE_KEY_LEN: usize = 160;

/// The key of one payload at one hop.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(super) struct WideKey {
    outer_hash: [u8; 32],
    inner_stream: [u8; 32],
    inner_hash: [u8; 32],
    inner_function: [u8; 32],
    outer_stream: [u8; 32],
}

impl WideKey {
    /// Takes derived key bytes: outer hash, inner stream, inner hash and function, outer stream.
    pub(super) fn from_bytes(bytes: &[u8; WIDE_KEY_LEN]) -> Self {
        let part = |n: usize| {
            let mut out = [0; 32];
            out.copy_from_slice(&bytes[32 * n..32 * (n + 1)]);
            out
        };
        Self {
            outer_hash: part(0),
            inner_stream: part(1),
            inner_hash: part(2),
            inner_function: part(3),
            outer_stream: part(4),
        }
    }

    /// Encrypts `block` where it stands: what the maker of a packet does, last hop first.
    ///
    /// # Panics
    /// When the block is shorter than two left halves: a broken bound of ours.
    pub(super) fn encrypt(&self, block: &mut [u8]) {
        let (left, right) = halves(block);
        let mut l = u128::from_le_bytes(*left);
        l = l.wrapping_add(universal_hash(&self.outer_hash, right));
        apply_stream(&self.inner_stream, l, right);
        l = l.wrapping_add(self.inner_round(right));
        apply_stream(&self.outer_stream, l, right);
        *left = l.to_le_bytes();
    }

    /// Decrypts `block` where it stands: what a hop does.
    ///
    /// # Panics
    /// As [`WideKey::encrypt`].
    pub(super) fn decrypt(&self, block: &mut [u8]) {
        let (left, right) = halves(block);
        let mut l = u128::from_le_bytes(*left);
        apply_stream(&self.outer_stream, l, right);
        l = l.wrapping_sub(self.inner_round(right));
        apply_stream(&self.inner_stream, l, right);
        l = l.wrapping_sub(universal_hash(&self.outer_hash, right));
        *left = l.to_le_bytes();
    }

    /// A pseudo-random function of `right`: the first 16 bytes of keyed BLAKE3 of its universal hash.
    fn inner_round(&self, right: &[u8]) -> u128 {
        let hash = universal_hash(&self.inner_hash, right);
        let mut out = [0; LEFT_LEN];
        out.copy_from_slice(
            &blake3::keyed_hash(&self.inner_function, &hash.to_le_bytes()).as_bytes()[..LEFT_LEN],
        );
        u128::from_le_bytes(out)
    }
}

fn halves(block: &mut [u8]) -> (&mut [u8; LEFT_LEN], &mut [u8]) {
    assert!(block.len() >= 2 * LEFT_LEN, "a payload of {} bytes", block.len());
    block.split_first_chunk_mut().expect("longer than the left half")
}

/// The Poly1305 function of RFC 8439 §2.5 under a one-time key.
fn universal_hash(key: &[u8; 32], right: &[u8]) -> u128 {
    u128::from_le_bytes(Poly1305::new(key.into()).compute_unpadded(right).into())
}

/// XORs the ChaCha20 key stream of a key that depends on the left half.
fn apply_stream(key: &[u8; 32], left: u128, right: &mut [u8]) {
    let key = Zeroizing::new(*blake3::keyed_hash(key, &left.to_le_bytes()).as_bytes());
    ChaCha20::new((&*key).into(), &[0; 12].into()).apply_keystream(right);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(seed: u8) -> WideKey {
        WideKey::from_bytes(
            &crate::crypto::kdf::Context::new("phantom-net 2026 wide test v1").derive_array(&[seed]),
        )
    }

    /// Share of the 32-byte pieces of `a` that `b` leaves as they are: 2^-256 each for independent bytes.
    fn pieces_kept(a: &[u8], b: &[u8]) -> usize {
        a.chunks_exact(32)
            .zip(b.chunks_exact(32))
            .filter(|(a, b)| a == b)
            .count()
    }

    /// The construction written a second time, from the text of SPEC §3.4 and on other interfaces of the primitives.
    fn encrypt_by_the_book(key: &[u8; 160], block: &[u8]) -> Vec<u8> {
        use poly1305::universal_hash::UniversalHash;
        let add = |a: &[u8], b: &[u8]| {
            let mut carry = 0_u16;
            let sum = a.iter().zip(b).map(|(x, y)| {
                carry += u16::from(*x) + u16::from(*y);
                let low = carry.to_le_bytes()[0];
                carry >>= 8;
                low
            });
            sum.collect::<Vec<u8>>()
        };
        let stream = |k: &[u8], left: &[u8], right: &[u8]| -> Vec<u8> {
            let mut hasher = blake3::Hasher::new_keyed(k.try_into().expect("32"));
            hasher.update(left);
            let mut aead_key = [0; 32];
            hasher.finalize_xof().fill(&mut aead_key);
            let mut out = right.to_vec();
            ChaCha20::new_from_slices(&aead_key, &[0; 12])
                .expect("lengths")
                .apply_keystream(&mut out);
            out
        };
        let (left, right) = block.split_at(16);
        assert_eq!(
            right.len() % 16,
            0,
            "whole blocks only, where padded and unpadded Poly1305 agree but for the end bit"
        );
        let poly = |k: &[u8], right: &[u8]| {
            let mut poly = Poly1305::new((&<[u8; 32]>::try_from(k).expect("32")).into());
            poly.update_padded(right);
            poly.finalize()
        };
        let left = add(left, &poly(&key[..32], right));
        let right = stream(&key[32..64], &left, right);
        let mut hasher = blake3::Hasher::new_keyed(key[96..128].try_into().expect("32"));
        hasher.update(&poly(&key[64..96], &right));
        let left = add(&left, &hasher.finalize().as_bytes()[..16]);
        let right = stream(&key[128..], &left, &right);
        [left, right].concat()
    }

    #[test]
    fn the_cipher_is_the_one_of_the_specification() {
        let bytes: [u8; 160] = std::array::from_fn(|n| n as u8);
        let block: Vec<u8> = (0..2_048).map(|n| (n % 251) as u8).collect();
        let mut ours = block.clone();
        WideKey::from_bytes(&bytes).encrypt(&mut ours);
        assert_eq!(ours, encrypt_by_the_book(&bytes, &block));
    }

    #[test]
    fn one_bit_garbles_every_piece_in_both_directions() {
        let plain = vec![0; 2_048];
        let mut sealed = plain.clone();
        key(1).encrypt(&mut sealed);
        for bit in (0..plain.len() * 8).step_by(61) {
            let mut flipped = sealed.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            key(1).decrypt(&mut flipped);
            assert_eq!(pieces_kept(&plain, &flipped), 0, "bit {bit} of the ciphertext");

            let mut flipped = plain.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            key(1).encrypt(&mut flipped);
            assert_eq!(pieces_kept(&sealed, &flipped), 0, "bit {bit} of the plaintext");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn decryption_is_the_inverse_under_the_same_key_only(
            block in proptest::collection::vec(any::<u8>(), 32..600),
            seed: u8,
        ) {
            let mut work = block.clone();
            key(seed).encrypt(&mut work);
            prop_assert_ne!(&work, &block);
            let mut other = work.clone();
            key(seed.wrapping_add(1)).decrypt(&mut other);
            prop_assert_ne!(&other, &block);
            key(seed).decrypt(&mut work);
            prop_assert_eq!(&work, &block);
            // A relay decrypts what its successor must encrypt back: the other order is an inverse as well.
            key(seed).decrypt(&mut work);
            key(seed).encrypt(&mut work);
            prop_assert_eq!(&work, &block);
        }
    }
}
