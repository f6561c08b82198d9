//! Long-term keys of service nodes: Ed25519 to sign with, X25519 to be reached with, and the name made from them.
//! Spec: SPEC §1.

use std::fmt;
use std::str::FromStr;

use curve25519_dalek::MontgomeryPoint;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use rand_core::CryptoRng;
use subtle::{Choice, ConstantTimeEq};
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::kdf::Context;

const NODE_ID: Context = Context::new("phantom-net 2026 node id v1");

/// Why bytes are no key or signature. Always the sender's (or the file's) fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum KeyError {
    /// Not a point of the curve, not in canonical form, or of small order.
    #[error("not an Ed25519 public key: no point, not canonical, or of small order")]
    BadIdentity,
    /// The key exchange gives zero whatever the secret is.
    #[error("X25519 with this public key gives zero: a point of small order")]
    NonContributory,
    /// The signature is not that of this key over these bytes.
    #[error("the signature is wrong")]
    BadSignature,
    /// Text that is not the hexadecimal form of the wanted number of bytes.
    #[error("wanted {wanted} hexadecimal digits, got {got} characters")]
    BadHex {
        /// Digits that the type has.
        wanted: usize,
        /// Characters found (any of them may be no digit).
        got: usize,
    },
}

/// The secret half of an X25519 key pair: a node's link key, or an ephemeral one.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct LinkSecret([u8; 32]);

impl LinkSecret {
    /// Draws a key.
    pub fn from_rng(rng: &mut impl CryptoRng) -> Self {
        let mut bytes = [0; 32];
        rng.fill_bytes(&mut bytes);
        Self(bytes)
    }

    /// A key that was stored with [`LinkSecret::to_bytes`].
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key, for storage; wiped when dropped.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0)
    }

    /// The public half (costs a fixed-base multiplication, about a third of an exchange).
    pub fn public(&self) -> LinkPublic {
        LinkPublic(MontgomeryPoint::mul_base_clamped(self.0).to_bytes())
    }

    /// The secret shared with the holder of `theirs`. Hash it before use.
    ///
    /// # Errors
    /// [`KeyError::NonContributory`] when it is zero.
    pub fn exchange(&self, theirs: &LinkPublic) -> Result<Zeroizing<[u8; 32]>, KeyError> {
        let shared = Zeroizing::new(MontgomeryPoint(theirs.0).mul_clamped(self.0).to_bytes());
        if bool::from(shared.ct_eq(&[0; 32])) {
            return Err(KeyError::NonContributory);
        }
        Ok(shared)
    }
}

impl ConstantTimeEq for LinkSecret {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

/// The public half of an X25519 key pair.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkPublic([u8; 32]);

impl LinkPublic {
    /// Any 32 bytes are an X25519 key; those of small order fail in [`LinkSecret::exchange`].
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its wire form.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// The secret half of an Ed25519 key pair: who a node is.
#[derive(Clone)]
pub struct IdentitySecret(SigningKey);

impl IdentitySecret {
    /// Draws a key.
    pub fn from_rng(rng: &mut impl CryptoRng) -> Self {
        let mut bytes = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut *bytes);
        Self::from_bytes(&bytes)
    }

    /// A key that was stored with [`IdentitySecret::to_bytes`].
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(bytes))
    }

    /// The seed of the key, for storage; wiped when dropped.
    pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// The public half.
    pub fn public(&self) -> IdentityPublic {
        IdentityPublic(self.0.verifying_key().to_bytes())
    }

    /// Signs `bytes`, which must begin with a context of their own, so that a signature serves one purpose only.
    pub fn sign(&self, bytes: &[u8]) -> [u8; 64] {
        self.0.sign(bytes).to_bytes()
    }
}

impl ConstantTimeEq for IdentitySecret {
    fn ct_eq(&self, other: &Self) -> Choice {
        self.0.as_bytes().ct_eq(other.0.as_bytes())
    }
}

/// The public half of an Ed25519 key pair, checked when it was decoded: on the curve and not of small order.
///
/// Kept as its 32 bytes; [`IdentityPublic::verify`] decompresses them anew, because 2,000 of them are held for each
/// one that is used.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdentityPublic([u8; 32]);

impl IdentityPublic {
    /// Decodes a key.
    ///
    /// # Errors
    /// [`KeyError::BadIdentity`].
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Self, KeyError> {
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| KeyError::BadIdentity)?;
        // Decompression accepts encodings that are not canonical: compressing again tells them apart.
        if key.is_weak() || key.to_edwards().compress().to_bytes() != bytes {
            return Err(KeyError::BadIdentity);
        }
        Ok(Self(bytes))
    }

    /// Its wire form.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Checks a signature of `bytes`, strictly: no second encoding of it is accepted.
    ///
    /// # Errors
    /// [`KeyError::BadSignature`].
    pub fn verify(&self, bytes: &[u8], signature: &[u8; 64]) -> Result<(), KeyError> {
        VerifyingKey::from_bytes(&self.0)
            .and_then(|key| key.verify_strict(bytes, &Signature::from_bytes(signature)))
            .map_err(|_| KeyError::BadSignature)
    }

    /// The short name of the node that holds this key.
    pub fn node_id(&self) -> NodeId {
        NodeId(NODE_ID.derive_array(&self.0))
    }
}

/// The short name of a service node: 16 bytes of a hash of its identity key (SPEC §1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId([u8; 16]);

impl NodeId {
    /// A name from the wire; it is nobody's until a key hashes to it.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Its wire form.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

/// Writes `bytes` in hexadecimal.
fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

/// Reads the hexadecimal form of `N` bytes; lower case only, so that each value has one form.
fn read_hex<const N: usize>(text: &str) -> Result<[u8; N], KeyError> {
    let bad = KeyError::BadHex {
        wanted: 2 * N,
        got: text.chars().count(),
    };
    let digit = |c: u8| match c {
        b'0'..=b'9' => Ok(c - b'0'),
        b'a'..=b'f' => Ok(c - b'a' + 10),
        _ => Err(bad),
    };
    if text.len() != 2 * N {
        return Err(bad);
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Ok(out)
}

macro_rules! hex_form {
    ($type:ident, $len:literal, $make:expr) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(f, &self.0)
            }
        }
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($type), "("))?;
                write_hex(f, &self.0[..4])?;
                f.write_str("…)")
            }
        }
        impl FromStr for $type {
            type Err = KeyError;
            fn from_str(text: &str) -> Result<Self, KeyError> {
                let make: fn([u8; $len]) -> Result<Self, KeyError> = $make;
                make(read_hex::<$len>(text)?)
            }
        }
    };
}

hex_form!(LinkPublic, 32, |bytes| Ok(LinkPublic(bytes)));
hex_form!(IdentityPublic, 32, IdentityPublic::from_bytes);
hex_form!(NodeId, 16, |bytes| Ok(NodeId(bytes)));

macro_rules! secret_debug {
    ($($type:ident),*) => {$(
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($type), "(secret)"))
            }
        }
        impl PartialEq for $type {
            fn eq(&self, other: &Self) -> bool {
                self.ct_eq(other).into()
            }
        }
        impl Eq for $type {}
    )*};
}

secret_debug!(LinkSecret, IdentitySecret);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand_chacha::ChaCha12Rng;
    use rand_core::SeedableRng;

    use super::*;

    fn rng(seed: u8) -> ChaCha12Rng {
        ChaCha12Rng::from_seed([seed; 32])
    }

    #[test]
    fn both_sides_of_an_exchange_share_a_secret_with_nobody_else() {
        let [a, b, c] = [1, 2, 3].map(|seed| LinkSecret::from_rng(&mut rng(seed)));
        assert_eq!(a.exchange(&b.public()), b.exchange(&a.public()));
        assert_ne!(a.exchange(&b.public()), a.exchange(&c.public()));
    }

    #[test]
    fn points_of_small_order_are_refused() {
        let secret = LinkSecret::from_rng(&mut rng(1));
        for low in [[0; 32], {
            let mut one = [0; 32];
            one[0] = 1;
            one
        }] {
            assert_eq!(secret.exchange(&LinkPublic(low)), Err(KeyError::NonContributory));
            assert_eq!(IdentityPublic::from_bytes(low), Err(KeyError::BadIdentity));
        }
    }

    #[test]
    fn a_non_canonical_identity_is_refused() {
        // y = p + 3 has the same meaning as y = 3 and fits 255 bits.
        let mut bytes = [0xff; 32];
        bytes[0] = 0xf0;
        bytes[31] = 0x7f;
        assert_eq!(IdentityPublic::from_bytes(bytes), Err(KeyError::BadIdentity));
    }

    #[test]
    fn a_signature_serves_its_key_and_bytes_only() {
        let (a, b) = (
            IdentitySecret::from_rng(&mut rng(1)),
            IdentitySecret::from_rng(&mut rng(2)),
        );
        let signature = a.sign(b"this");
        assert_eq!(a.public().verify(b"this", &signature), Ok(()));
        assert_eq!(
            a.public().verify(b"that", &signature),
            Err(KeyError::BadSignature)
        );
        assert_eq!(
            b.public().verify(b"this", &signature),
            Err(KeyError::BadSignature)
        );
        assert_eq!(IdentityPublic::from_bytes(*a.public().as_bytes()), Ok(a.public()));
    }

    #[test]
    fn secrets_are_never_printed() {
        let (link, identity) = (
            LinkSecret::from_rng(&mut rng(1)),
            IdentitySecret::from_rng(&mut rng(1)),
        );
        assert_eq!(
            format!("{link:?} {identity:?}"),
            "LinkSecret(secret) IdentitySecret(secret)"
        );
    }

    #[test]
    fn keys_stored_are_the_keys_read() {
        let (link, identity) = (
            LinkSecret::from_rng(&mut rng(1)),
            IdentitySecret::from_rng(&mut rng(1)),
        );
        assert_eq!(LinkSecret::from_bytes(*link.to_bytes()), link);
        assert_eq!(IdentitySecret::from_bytes(&identity.to_bytes()), identity);
        assert_ne!(LinkSecret::from_rng(&mut rng(2)), link);
    }

    proptest! {
        #[test]
        fn hexadecimal_forms_read_back(bytes: [u8; 16], link: [u8; 32]) {
            let id = NodeId(bytes);
            prop_assert_eq!(id.to_string().parse(), Ok(id));
            let link = LinkPublic(link);
            prop_assert_eq!(link.to_string().parse(), Ok(link));
        }

        #[test]
        fn arbitrary_text_is_refused_without_a_panic(text: String) {
            prop_assert!(text.parse::<NodeId>().is_err() || text.len() == 32);
            prop_assert!(text.parse::<IdentityPublic>().is_err() || text.len() == 64);
        }

        #[test]
        fn arbitrary_bytes_as_identity_never_panic(bytes: [u8; 32]) {
            if let Ok(key) = IdentityPublic::from_bytes(bytes) {
                prop_assert_eq!(key.as_bytes(), &bytes);
            }
        }
    }
}
