//! A server's signatures: ECDSA on P-256 or P-384 for an operator's chain, Ed25519 for simulations (browsers take no such certificate).
//!
//! All are deterministic (RFC 6979, RFC 8032): no randomness is drawn, so none can be bad. RSA is not signed with: the crate's private operation is known
//! to leak its time (RUSTSEC-2023-0071), and certificate authorities make ECDSA certificates by default.

use std::sync::Arc;

use ed25519_dalek::pkcs8::DecodePrivateKey;
use p256::ecdsa::signature::Signer as Signs;
use rustls::crypto::KeyProvider;
use rustls::pki_types::{PrivateKeyDer, SubjectPublicKeyInfoDer, alg_id};
use rustls::sign::{Signer, SigningKey, public_key_to_spki};
use rustls::{Error, OtherError, SignatureAlgorithm, SignatureScheme};

#[derive(Debug)]
pub(super) struct Keys;

impl KeyProvider for Keys {
    fn load_private_key(&self, der: PrivateKeyDer<'static>) -> Result<Arc<dyn SigningKey>, Error> {
        let key = match &der {
            PrivateKeyDer::Pkcs8(der) => Key::from_pkcs8(der.secret_pkcs8_der()),
            PrivateKeyDer::Sec1(der) => Key::from_sec1(der.secret_sec1_der()),
            _ => None,
        };
        let key = key.ok_or_else(|| Error::Other(OtherError(Arc::new(UnknownKey))))?;
        Ok(Arc::new(key))
    }
}

/// A private key of a kind that we do not sign with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the private key is none that this program signs with: wanted ECDSA on P-256 or P-384 (or Ed25519, for tests), PKCS #8 or SEC 1"
)]
pub struct UnknownKey;

#[derive(Clone)]
pub(super) enum Key {
    P256(Arc<p256::ecdsa::SigningKey>),
    P384(Arc<p384::ecdsa::SigningKey>),
    Ed25519(Arc<ed25519_dalek::SigningKey>),
}

impl Key {
    pub(super) fn from_pkcs8(der: &[u8]) -> Option<Self> {
        if let Ok(key) = p256::ecdsa::SigningKey::from_pkcs8_der(der) {
            return Some(Self::P256(Arc::new(key)));
        }
        if let Ok(key) = p384::ecdsa::SigningKey::from_pkcs8_der(der) {
            return Some(Self::P384(Arc::new(key)));
        }
        let key = ed25519_dalek::SigningKey::from_pkcs8_der(der).ok()?;
        Some(Self::Ed25519(Arc::new(key)))
    }

    fn from_sec1(der: &[u8]) -> Option<Self> {
        if let Ok(key) = p256::SecretKey::from_sec1_der(der) {
            return Some(Self::P256(Arc::new(key.into())));
        }
        let key = p384::SecretKey::from_sec1_der(der).ok()?;
        Some(Self::P384(Arc::new(key.into())))
    }

    fn scheme(&self) -> SignatureScheme {
        match self {
            Self::P256(_) => SignatureScheme::ECDSA_NISTP256_SHA256,
            Self::P384(_) => SignatureScheme::ECDSA_NISTP384_SHA384,
            Self::Ed25519(_) => SignatureScheme::ED25519,
        }
    }
}

impl SigningKey for Key {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered
            .contains(&self.scheme())
            .then(|| Box::new(self.clone()) as Box<dyn Signer>)
    }

    fn public_key(&self) -> Option<SubjectPublicKeyInfoDer<'_>> {
        Some(match self {
            Self::P256(key) => {
                let point = key.verifying_key().to_sec1_point(false);
                public_key_to_spki(&alg_id::ECDSA_P256, point.as_bytes())
            }
            Self::P384(key) => {
                let point = key.verifying_key().to_sec1_point(false);
                public_key_to_spki(&alg_id::ECDSA_P384, point.as_bytes())
            }
            Self::Ed25519(key) => public_key_to_spki(&alg_id::ED25519, key.verifying_key().as_bytes()),
        })
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        match self {
            Self::P256(_) | Self::P384(_) => SignatureAlgorithm::ECDSA,
            Self::Ed25519(_) => SignatureAlgorithm::ED25519,
        }
    }
}

impl Signer for Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let failed = |_| Error::General("the key does not sign".into());
        Ok(match self {
            Self::P256(key) => {
                let signature: p256::ecdsa::DerSignature = key.try_sign(message).map_err(failed)?;
                signature.as_bytes().to_vec()
            }
            Self::P384(key) => {
                let signature: p384::ecdsa::DerSignature = key.try_sign(message).map_err(failed)?;
                signature.as_bytes().to_vec()
            }
            Self::Ed25519(key) => key.try_sign(message).map_err(failed)?.to_vec(),
        })
    }

    fn scheme(&self) -> SignatureScheme {
        Self::scheme(self)
    }
}

/// Which key it is says what is in it.
impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Key").field(&self.scheme()).finish()
    }
}
