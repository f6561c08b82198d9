//! Items of BEP 44: immutable ones named by their hash, mutable ones by an Ed25519 key and a salt. SPEC §7.2.
//!
//! A value `v` is kept and signed as the bencoded bytes it came in. Signatures are checked strictly
//! (`verify_strict`): keys of small order and non-canonical encodings are refused.

use std::sync::Arc;

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha1::{Digest, Sha1};
use thiserror::Error;

use super::bencode::{Value, put_int, put_string};
use super::id::DhtId;
use crate::crypto::kdf::Context;
use crate::runtime::Share;

/// Most bytes of an encoded value.
pub const VALUE_BYTES_MAX: usize = 1000;
/// Most bytes of a salt.
pub const SALT_BYTES_MAX: usize = 64;

/// Why an item is refused. Always the sender's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ItemError {
    /// The encoded value is too long.
    #[error("the value is {got} bytes, at most {VALUE_BYTES_MAX} are allowed")]
    ValueTooLong {
        /// What was found.
        got: usize,
    },
    /// The salt is too long.
    #[error("the salt is {got} bytes, at most {SALT_BYTES_MAX} are allowed")]
    SaltTooLong {
        /// What was found.
        got: usize,
    },
    /// The value is not canonical bencode.
    #[error("the value is not canonical bencode")]
    NotBencode,
    /// The sequence number is negative.
    #[error("the sequence number {got} is negative")]
    NegativeSequence {
        /// What was found.
        got: i64,
    },
    /// The key is no Ed25519 key, or a weak one, or the signature is wrong.
    #[error("the signature does not verify")]
    BadSignature,
}

/// Signs items under one public key: an ordinary key, or one blinded for a day (SPEC §7.5).
pub trait ItemSigner {
    /// The public key.
    fn public_key(&self) -> [u8; 32];
    /// An Ed25519 signature that verifies under it.
    fn sign_item(&self, message: &[u8]) -> [u8; 64];
}

impl ItemSigner for SigningKey {
    fn public_key(&self) -> [u8; 32] {
        self.verifying_key().to_bytes()
    }

    fn sign_item(&self, message: &[u8]) -> [u8; 64] {
        self.sign(message).to_bytes()
    }
}

/// A mutable item whose signature was checked. The only ways to one are [`MutableItem::sign`] and
/// [`MutableItem::verify`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MutableItem(Arc<Judged>);

/// An item as it came, and what was found wrong with it.
#[derive(Debug, PartialEq, Eq)]
struct Judged {
    key: [u8; 32],
    sequence: i64,
    signature: [u8; 64],
    /// Salt and value in one piece: nodes hold tens of thousands.
    bytes: Box<[u8]>,
    salt_len: u8,
    refused: Option<ItemError>,
}

impl Judged {
    fn new(
        key: [u8; 32],
        salt: &[u8],
        sequence: i64,
        value: &[u8],
        signature: [u8; 64],
        refused: Option<ItemError>,
    ) -> Self {
        Self {
            key,
            sequence,
            signature,
            bytes: [salt, value].concat().into(),
            salt_len: salt.len() as u8,
            refused,
        }
    }

    /// Checks the signature; bounds are checked before.
    fn judge(key: &[u8; 32], salt: &[u8], sequence: i64, value: &[u8], signature: &[u8; 64]) -> Self {
        let refused = check_signature(key, salt, sequence, value, signature).err();
        Self::new(*key, salt, sequence, value, *signature, refused)
    }
}

/// Names what [`MutableItem::verify`] depends on.
const SHARED: Context = Context::new("phantom-net 2026 shared dht item v1");

impl MutableItem {
    /// Signs `value`, which must be canonical bencode.
    pub fn sign(
        signer: &impl ItemSigner,
        salt: &[u8],
        sequence: i64,
        value: &[u8],
    ) -> Result<Self, ItemError> {
        check(salt, sequence, value)?;
        let signature = signer.sign_item(&signable(salt, sequence, value));
        Ok(Self(Arc::new(Judged::new(
            signer.public_key(),
            salt,
            sequence,
            value,
            signature,
            None,
        ))))
    }

    /// Takes an item of a peer, if it is within bounds and its signature is right.
    pub fn verify(
        key: &[u8; 32],
        salt: &[u8],
        sequence: i64,
        value: &[u8],
        signature: &[u8; 64],
    ) -> Result<Self, ItemError> {
        check(salt, sequence, value)?;
        Self::taken(Arc::new(Judged::judge(key, salt, sequence, value, signature)))
    }

    /// As [`MutableItem::verify`], with one judgement for all peers of this process that are shown the same bytes.
    pub fn verify_shared(
        rt: &impl Share,
        key: &[u8; 32],
        salt: &[u8],
        sequence: i64,
        value: &[u8],
        signature: &[u8; 64],
    ) -> Result<Self, ItemError> {
        check(salt, sequence, value)?;
        let name = SHARED.derive_fields(&[key, salt, &sequence.to_be_bytes(), value, signature]);
        Self::taken(rt.shared(name, || Judged::judge(key, salt, sequence, value, signature)))
    }

    fn taken(judged: Arc<Judged>) -> Result<Self, ItemError> {
        match judged.refused {
            None => Ok(Self(judged)),
            Some(error) => Err(error),
        }
    }

    /// Where it is stored.
    pub fn target(&self) -> DhtId {
        mutable_target(self.key(), self.salt())
    }

    /// The public key.
    pub fn key(&self) -> &[u8; 32] {
        &self.0.key
    }

    /// The salt; empty for none.
    pub fn salt(&self) -> &[u8] {
        &self.0.bytes[..usize::from(self.0.salt_len)]
    }

    /// The sequence number: of two items the higher one is newer.
    pub fn sequence(&self) -> i64 {
        self.0.sequence
    }

    /// The bencoded value.
    pub fn value(&self) -> &[u8] {
        &self.0.bytes[usize::from(self.0.salt_len)..]
    }

    /// The value's bytes, if it is a string.
    pub fn value_string(&self) -> Option<&[u8]> {
        Value::parse(self.value()).ok().and_then(|value| value.bytes())
    }

    /// The signature.
    pub fn signature(&self) -> &[u8; 64] {
        &self.0.signature
    }
}

/// Where a mutable item of `key` and `salt` is stored.
pub fn mutable_target(key: &[u8; 32], salt: &[u8]) -> DhtId {
    DhtId(Sha1::new().chain_update(key).chain_update(salt).finalize().into())
}

/// Where an immutable item is stored: the hash of its bencoded value.
pub fn immutable_target(value: &[u8]) -> DhtId {
    DhtId(Sha1::digest(value).into())
}

/// `bytes` as a bencoded string, the form of every value that we store.
pub fn string_value(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len() + 4);
    put_string(&mut out, bytes);
    out
}

/// What a signature of BEP 44 covers: salt (left out when empty), sequence and value as they are encoded in a message.
pub fn signable(salt: &[u8], sequence: i64, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(value.len() + salt.len() + 48);
    if !salt.is_empty() {
        put_string(&mut out, b"salt");
        put_string(&mut out, salt);
    }
    put_string(&mut out, b"seq");
    put_int(&mut out, sequence);
    put_string(&mut out, b"v");
    out.extend_from_slice(value);
    out
}

/// Refuses a value that no node may store.
pub fn check_value(value: &[u8]) -> Result<(), ItemError> {
    if value.len() > VALUE_BYTES_MAX {
        return Err(ItemError::ValueTooLong { got: value.len() });
    }
    Value::parse(value).map(|_| ()).map_err(|_| ItemError::NotBencode)
}

fn check_signature(
    key: &[u8; 32],
    salt: &[u8],
    sequence: i64,
    value: &[u8],
    signature: &[u8; 64],
) -> Result<(), ItemError> {
    let message = signable(salt, sequence, value);
    VerifyingKey::from_bytes(key)
        .and_then(|key| key.verify_strict(&message, &Signature::from_bytes(signature)))
        .map_err(|_| ItemError::BadSignature)
}

fn check(salt: &[u8], sequence: i64, value: &[u8]) -> Result<(), ItemError> {
    if salt.len() > SALT_BYTES_MAX {
        return Err(ItemError::SaltTooLong { got: salt.len() });
    }
    if sequence < 0 {
        return Err(ItemError::NegativeSequence { got: sequence });
    }
    check_value(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn hex<const N: usize>(text: &str) -> [u8; N] {
        let bytes: Vec<u8> = (0..N)
            .map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).expect("hex"))
            .collect();
        bytes.try_into().expect("length")
    }

    const KEY: &str = "77ff84905a91936367c01360803104f92432fcd904a43511876df5cdf3e7e548";
    const PLAIN: &str = "305ac8aeb6c9c151fa120f120ea2cfb923564e11552d06a5d856091e5e853cff\
                         1260d3f39e4999684aa92eb73ffd136e6f4f3ecbfda0ce53a1608ecd7ae21f01";
    const SALTED: &str = "6834284b6b24c3204eb2fea824d82f88883a3d95e8b4a21b8c0ded553d17d17d\
                          df9a8a7104b1258f30bed3787e6cb896fca78c58f8e03b5f18f14951a87d9a08";

    #[test]
    fn the_vectors_of_bep_44_hold() {
        let value = b"12:Hello World!";
        assert_eq!(signable(b"", 1, value), b"3:seqi1e1:v12:Hello World!");
        assert_eq!(
            signable(b"foobar", 1, value),
            b"4:salt6:foobar3:seqi1e1:v12:Hello World!"
        );

        let plain = MutableItem::verify(&hex(KEY), b"", 1, value, &hex(PLAIN)).expect("vector 1");
        assert_eq!(
            plain.target(),
            DhtId(hex("4a533d47ec9c7d95b1ad75f576cffc641853b750"))
        );
        assert_eq!(plain.value_string(), Some(&b"Hello World!"[..]));
        let salted = MutableItem::verify(&hex(KEY), b"foobar", 1, value, &hex(SALTED)).expect("vector 2");
        assert_eq!(
            salted.target(),
            DhtId(hex("411eba73b6f087ca51a3795d9c8c938d365e32c1"))
        );
        assert_eq!(
            immutable_target(value),
            DhtId(hex("e5f96f6f38320f0f33959cb4d3d656452117aadb"))
        );
    }

    #[test]
    fn a_changed_item_does_not_verify() {
        let value = b"12:Hello World!";
        let refused = Err(ItemError::BadSignature);
        assert_eq!(
            MutableItem::verify(&hex(KEY), b"", 2, value, &hex(PLAIN)),
            refused
        );
        assert_eq!(
            MutableItem::verify(&hex(KEY), b"foobar", 1, value, &hex(PLAIN)),
            refused
        );
        assert_eq!(
            MutableItem::verify(&hex(KEY), b"", 1, b"12:Hello world!", &hex(PLAIN)),
            refused
        );
        // A key of small order with a signature that the lax equation accepts.
        assert_eq!(
            MutableItem::verify(
                &{
                    let mut k = [0; 32];
                    k[0] = 1;
                    k
                },
                b"",
                1,
                value,
                &{
                    let mut s = [0; 64];
                    s[0] = 1;
                    s
                }
            ),
            refused
        );
    }

    #[test]
    fn the_bounds_of_bep_44_are_kept() {
        let signer = SigningKey::from_bytes(&[7; 32]);
        let longest = string_value(&[b'x'; 996]);
        assert_eq!(longest.len(), VALUE_BYTES_MAX);
        assert!(MutableItem::sign(&signer, &[0; 64], i64::MAX, &longest).is_ok());
        assert_eq!(
            MutableItem::sign(&signer, b"", 1, &string_value(&[0; 997])),
            Err(ItemError::ValueTooLong { got: 1001 })
        );
        assert_eq!(
            MutableItem::sign(&signer, &[0; 65], 1, b"0:"),
            Err(ItemError::SaltTooLong { got: 65 })
        );
        assert_eq!(
            MutableItem::sign(&signer, b"", -1, b"0:"),
            Err(ItemError::NegativeSequence { got: -1 })
        );
        assert_eq!(
            MutableItem::sign(&signer, b"", 1, b"i01e"),
            Err(ItemError::NotBencode)
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_is_signed_verifies(seed in any::<[u8; 32]>(), salt in proptest::collection::vec(any::<u8>(), 0..=64),
                                   sequence in 0..i64::MAX, body in proptest::collection::vec(any::<u8>(), 0..400)) {
            let signer = SigningKey::from_bytes(&seed);
            let item = MutableItem::sign(&signer, &salt, sequence, &string_value(&body)).expect("in bounds");
            let again = MutableItem::verify(item.key(), &salt, sequence, item.value(), item.signature());
            prop_assert_eq!(again, Ok(item));
        }
    }
}
