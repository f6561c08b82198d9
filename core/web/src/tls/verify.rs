//! Signatures of certificates and handshakes: ECDSA on P-256 and P-384, Ed25519, RSA from 2,048 bits up.

use std::marker::PhantomData;

use ed25519_dalek::VerifyingKey as Ed25519Key;
use p256::ecdsa::signature::hazmat::PrehashVerifier;
use rsa::pkcs1::DecodeRsaPublicKey;
use rsa::traits::{PublicKeyParts, SignatureScheme as RsaScheme};
use rsa::{Pkcs1v15Sign, Pss, PublicKey as RsaPublicKey};
use rustls::SignatureScheme;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm, alg_id};
use sha2::digest::FixedOutputReset;
use sha2::digest::const_oid::AssociatedOid;
use sha2::{Digest, Sha256, Sha384, Sha512};

/// For webpki, and by scheme for the handshake.
pub(super) static ALL: WebPkiSupportedAlgorithms = WebPkiSupportedAlgorithms {
    all: &[
        P256_SHA256,
        P256_SHA384,
        P384_SHA256,
        P384_SHA384,
        ED25519,
        RSA_PSS_SHA256,
        RSA_PSS_SHA384,
        RSA_PSS_SHA512,
        RSA_PKCS1_SHA256,
        RSA_PKCS1_SHA384,
        RSA_PKCS1_SHA512,
    ],
    // In the order of a browser's hello.
    mapping: &[
        (
            SignatureScheme::ECDSA_NISTP256_SHA256,
            &[P256_SHA256, P384_SHA256],
        ),
        (SignatureScheme::RSA_PSS_SHA256, &[RSA_PSS_SHA256]),
        (SignatureScheme::RSA_PKCS1_SHA256, &[RSA_PKCS1_SHA256]),
        (
            SignatureScheme::ECDSA_NISTP384_SHA384,
            &[P384_SHA384, P256_SHA384],
        ),
        (SignatureScheme::RSA_PSS_SHA384, &[RSA_PSS_SHA384]),
        (SignatureScheme::RSA_PKCS1_SHA384, &[RSA_PKCS1_SHA384]),
        (SignatureScheme::RSA_PSS_SHA512, &[RSA_PSS_SHA512]),
        (SignatureScheme::RSA_PKCS1_SHA512, &[RSA_PKCS1_SHA512]),
        (SignatureScheme::ED25519, &[ED25519]),
    ],
};

type Algorithm = &'static dyn SignatureVerificationAlgorithm;

/// Bits of an RSA key: what webpki's other providers take.
const RSA_BITS: std::ops::RangeInclusive<u32> = 2_048..=8_192;

static P256_SHA256: Algorithm = &P256::<Sha256>(alg_id::ECDSA_SHA256, PhantomData);
static P256_SHA384: Algorithm = &P256::<Sha384>(alg_id::ECDSA_SHA384, PhantomData);
static P384_SHA256: Algorithm = &P384::<Sha256>(alg_id::ECDSA_SHA256, PhantomData);
static P384_SHA384: Algorithm = &P384::<Sha384>(alg_id::ECDSA_SHA384, PhantomData);
static ED25519: Algorithm = &Ed25519;
static RSA_PSS_SHA256: Algorithm = &RsaPss::<Sha256>(alg_id::RSA_PSS_SHA256, PhantomData);
static RSA_PSS_SHA384: Algorithm = &RsaPss::<Sha384>(alg_id::RSA_PSS_SHA384, PhantomData);
static RSA_PSS_SHA512: Algorithm = &RsaPss::<Sha512>(alg_id::RSA_PSS_SHA512, PhantomData);
static RSA_PKCS1_SHA256: Algorithm = &RsaPkcs1::<Sha256>(alg_id::RSA_PKCS1_SHA256, PhantomData);
static RSA_PKCS1_SHA384: Algorithm = &RsaPkcs1::<Sha384>(alg_id::RSA_PKCS1_SHA384, PhantomData);
static RSA_PKCS1_SHA512: Algorithm = &RsaPkcs1::<Sha512>(alg_id::RSA_PKCS1_SHA512, PhantomData);

/// ECDSA on P-256 with a hash.
struct P256<D>(AlgorithmIdentifier, PhantomData<fn() -> D>);
/// ECDSA on P-384 with a hash.
struct P384<D>(AlgorithmIdentifier, PhantomData<fn() -> D>);
/// RSASSA-PSS, salt as long as the hash (RFC 8446 §4.2.3).
struct RsaPss<D>(AlgorithmIdentifier, PhantomData<fn() -> D>);
/// RSASSA-PKCS1-v1_5: in certificates alone, which rustls sees to.
struct RsaPkcs1<D>(AlgorithmIdentifier, PhantomData<fn() -> D>);
#[derive(Debug)]
struct Ed25519;

macro_rules! ecdsa {
    ($name:ident, $curve:ident, $key:expr) => {
        impl<D: Digest + 'static> SignatureVerificationAlgorithm for $name<D> {
            fn verify_signature(
                &self,
                key: &[u8],
                message: &[u8],
                signature: &[u8],
            ) -> Result<(), InvalidSignature> {
                let key = $curve::ecdsa::VerifyingKey::from_sec1_bytes(key).map_err(|_| InvalidSignature)?;
                let signature =
                    $curve::ecdsa::DerSignature::try_from(signature).map_err(|_| InvalidSignature)?;
                let hash = D::digest(message);
                key.verify_prehash(&hash, &signature)
                    .map_err(|_| InvalidSignature)
            }

            fn public_key_alg_id(&self) -> AlgorithmIdentifier {
                $key
            }

            fn signature_alg_id(&self) -> AlgorithmIdentifier {
                self.0
            }
        }

        impl<D> std::fmt::Debug for $name<D> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(stringify!($name))
            }
        }
    };
}

ecdsa!(P256, p256, alg_id::ECDSA_P256);
ecdsa!(P384, p384, alg_id::ECDSA_P384);

macro_rules! rsa {
    ($name:ident, $scheme:expr) => {
        impl<D> SignatureVerificationAlgorithm for $name<D>
        where
            D: Digest + FixedOutputReset + AssociatedOid + 'static,
        {
            fn verify_signature(
                &self,
                key: &[u8],
                message: &[u8],
                signature: &[u8],
            ) -> Result<(), InvalidSignature> {
                let key = rsa_key(key)?;
                let hash = D::digest(message);
                $scheme
                    .verify(&key, &hash, signature)
                    .map_err(|_| InvalidSignature)
            }

            fn public_key_alg_id(&self) -> AlgorithmIdentifier {
                alg_id::RSA_ENCRYPTION
            }

            fn signature_alg_id(&self) -> AlgorithmIdentifier {
                self.0
            }
        }

        impl<D> std::fmt::Debug for $name<D> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(stringify!($name))
            }
        }
    };
}

rsa!(RsaPss, Pss::<D>::new());
rsa!(RsaPkcs1, Pkcs1v15Sign::new::<D>());

/// Within bounds: the work of a check grows with the square of the length, and a peer chooses it.
fn rsa_key(der: &[u8]) -> Result<RsaPublicKey, InvalidSignature> {
    let key = RsaPublicKey::from_pkcs1_der(der).map_err(|_| InvalidSignature)?;
    match RSA_BITS.contains(&key.n().bit_width()) {
        true => Ok(key),
        false => Err(InvalidSignature),
    }
}

impl SignatureVerificationAlgorithm for Ed25519 {
    fn verify_signature(&self, key: &[u8], message: &[u8], signature: &[u8]) -> Result<(), InvalidSignature> {
        let key = key.try_into().map_err(|_| InvalidSignature)?;
        let key = Ed25519Key::from_bytes(key).map_err(|_| InvalidSignature)?;
        let signature = signature.try_into().map_err(|_| InvalidSignature)?;
        key.verify_strict(message, &signature)
            .map_err(|_| InvalidSignature)
    }

    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ED25519
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::ED25519
    }
}
