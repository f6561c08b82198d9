//! Authenticated encryption: ChaCha20-Poly1305 (RFC 8439), 32-byte keys, 12-byte nonces, 16-byte tags.
//!
//! A nonce must never serve twice under one key: either the key is used once and the nonce is [`NONCE_ZERO`], or the
//! nonce counts ([`nonce`]).

use chacha20poly1305::ChaCha20Poly1305;
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use rand_core::CryptoRng;
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Bytes that sealing adds.
pub const TAG_LEN: usize = 16;

/// The nonce of a key that seals one thing only.
pub const NONCE_ZERO: [u8; 12] = [0; 12];

/// The `n`-th nonce of a key: four zero bytes, then `n` little-endian, as Noise counts.
pub const fn nonce(n: u64) -> [u8; 12] {
    let n = n.to_le_bytes();
    [0, 0, 0, 0, n[0], n[1], n[2], n[3], n[4], n[5], n[6], n[7]]
}

/// What was to be opened was not sealed under this key, nonce and associated data: forged, damaged or misdirected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the authentication tag is wrong (sender's fault): {got} bytes do not open")]
pub struct BadTag {
    /// How long the input was, tag included.
    pub got: usize,
}

/// A key for [`AeadKey::seal`] and [`AeadKey::open`].
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct AeadKey([u8; 32]);

impl AeadKey {
    /// Takes key bytes that were derived or drawn for this purpose.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Draws a key.
    pub fn from_rng(rng: &mut impl CryptoRng) -> Self {
        let mut bytes = [0; 32];
        rng.fill_bytes(&mut bytes);
        Self(bytes)
    }

    /// The key bytes, for sealing the key itself under another.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Encrypts `plaintext` and authenticates it with `associated`; [`TAG_LEN`] bytes longer.
    pub fn seal(&self, nonce: [u8; 12], associated: &[u8], plaintext: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(plaintext.len() + TAG_LEN);
        out.extend_from_slice(plaintext);
        let tag = self.seal_in_place(nonce, associated, &mut out);
        out.extend_from_slice(&tag);
        out
    }

    /// Decrypts what [`AeadKey::seal`] made.
    ///
    /// # Errors
    /// [`BadTag`] when a bit of the input, the nonce or `associated` differs; nothing is decrypted then.
    pub fn open(&self, nonce: [u8; 12], associated: &[u8], sealed: &[u8]) -> Result<Vec<u8>, BadTag> {
        let (body, tag) = sealed
            .split_last_chunk::<TAG_LEN>()
            .ok_or(BadTag { got: sealed.len() })?;
        let mut out = body.to_vec();
        self.open_in_place(nonce, associated, &mut out, tag)?;
        Ok(out)
    }

    /// Encrypts `buffer` where it stands; returns the tag.
    ///
    /// # Panics
    /// Above 256 GiB, the limit of the cipher: a broken bound of ours.
    pub fn seal_in_place(&self, nonce: [u8; 12], associated: &[u8], buffer: &mut [u8]) -> [u8; TAG_LEN] {
        ChaCha20Poly1305::new(&self.0.into())
            .encrypt_inout_detached(&nonce.into(), associated, buffer.into())
            .expect("shorter than the limit of the cipher")
            .into()
    }

    /// Decrypts `buffer` where it stands.
    ///
    /// # Errors
    /// [`BadTag`]; the buffer is left as it was.
    pub fn open_in_place(
        &self,
        nonce: [u8; 12],
        associated: &[u8],
        buffer: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), BadTag> {
        let got = buffer.len() + TAG_LEN;
        ChaCha20Poly1305::new(&self.0.into())
            .decrypt_inout_detached(&nonce.into(), associated, buffer.into(), &(*tag).into())
            .map_err(|_| BadTag { got })
    }
}

impl std::fmt::Debug for AeadKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AeadKey(secret)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn agrees_with_the_example_of_rfc_8439_section_2_8_2() {
        let key = AeadKey::from_bytes(std::array::from_fn(|i| 0x80 + u8::try_from(i).expect("below 32")));
        let nonce = [7, 0, 0, 0, 0x40, 0x41, 0x42, 0x43, 0x44, 0x45, 0x46, 0x47];
        let associated = [
            0x50, 0x51, 0x52, 0x53, 0xc0, 0xc1, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7,
        ];
        let text = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.";
        let sealed = key.seal(nonce, &associated, text);
        assert_eq!(sealed[..8], [0xd3, 0x1a, 0x8d, 0x34, 0x64, 0x8e, 0x60, 0xdb]);
        assert_eq!(
            sealed[text.len()..],
            [
                0x1a, 0xe1, 0x0b, 0x59, 0x4f, 0x09, 0xe2, 0x6a, 0x7e, 0x90, 0x2e, 0xcb, 0xd0, 0x60, 0x06,
                0x91
            ]
        );
    }

    proptest! {
        #[test]
        fn what_is_sealed_opens_and_one_wrong_bit_does_not(
            key: [u8; 32], n: u64, associated: Vec<u8>, text: Vec<u8>, bit: proptest::sample::Index,
        ) {
            let key = AeadKey::from_bytes(key);
            let mut sealed = key.seal(nonce(n), &associated, &text);
            prop_assert_eq!(key.open(nonce(n), &associated, &sealed), Ok(text));
            prop_assert!(key.open(nonce(n.wrapping_add(1)), &associated, &sealed).is_err());
            let bit = bit.index(sealed.len() * 8);
            sealed[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(key.open(nonce(n), &associated, &sealed).is_err());
        }

        #[test]
        fn arbitrary_bytes_never_open(key: [u8; 32], bytes: Vec<u8>) {
            prop_assert!(AeadKey::from_bytes(key).open(NONCE_ZERO, b"", &bytes).is_err());
        }
    }
}
