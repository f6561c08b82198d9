//! Whom a client takes a server for.
//!
//! What is carried inside proves for itself who answers (a link of ours by Noise, tor by its own TLS), so this check is against whoever would read the
//! secret path and who else is behind it. By default it is a browser's: a chain to a public root, the name, the dates. A bridge's line can pin
//! the certificate instead; then name and dates count for nothing, which lets a bridge do without a public certificate, but not pass for a site that has one.

use std::sync::Arc;

use base64ct::{Base64, Encoding};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, DigitallySignedStruct, Error, PeerIncompatible, RootCertStore, SignatureScheme,
};
use sha2::{Digest, Sha256};

use super::provider;

/// Whom to believe.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Trust {
    /// Mozilla's roots, as of the `webpki-roots` that the program was built with.
    #[default]
    WebPki,
    /// These roots and no others.
    Roots(Vec<CertificateDer<'static>>),
    /// The one chain with this hash ([`chain_hash`]): `cert=` of a webtunnel line.
    Chain([u8; 32]),
    /// Any certificate of the key whose SubjectPublicKeyInfo has this SHA-256, as RFC 7469 §2.4 takes it: `spki=` of a line.
    Spki([u8; 32]),
}

/// What pins are written as: SHA-256 in base64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a pin is the 32 bytes of a SHA-256 hash in base64 (whose fault: the bridge line's)")]
pub struct BadPin;

/// A pin's bytes.
///
/// # Errors
/// [`BadPin`]
pub fn pin_from_base64(text: &str) -> Result<[u8; 32], BadPin> {
    let mut pin = [0; 32];
    match Base64::decode(text, &mut pin) {
        Ok(bytes) if bytes.len() == 32 => Ok(pin),
        _ => Err(BadPin),
    }
}

/// A pin as a bridge's line has it.
pub fn pin_to_base64(pin: &[u8; 32]) -> String {
    Base64::encode_string(pin)
}

/// The hash of a chain, leaf first: H(leaf), then H(so far ‖ H(next)) (webtunnel's `certiChainHashCalc`, from V2Ray).
pub fn chain_hash<'a>(chain: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
    let mut so_far: Option<[u8; 32]> = None;
    for certificate in chain {
        let hash: [u8; 32] = Sha256::digest(certificate).into();
        so_far = Some(match so_far {
            None => hash,
            Some(before) => Sha256::digest([before, hash].concat()).into(),
        });
    }
    so_far.unwrap_or_default()
}

/// Why there is no verifier.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// A root is no certificate.
    #[error("a root certificate cannot be used (ours): {0}")]
    Root(Error),
    /// No root was given.
    #[error("no root to verify a server by (ours): {0}")]
    Verifier(#[from] rustls::client::VerifierBuilderError),
}

impl Trust {
    pub(super) fn verifier(&self) -> Result<Arc<dyn ServerCertVerifier>, TrustError> {
        let mut roots = RootCertStore::empty();
        match self {
            Self::WebPki => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
            Self::Roots(given) => {
                for root in given {
                    roots.add(root.clone()).map_err(TrustError::Root)?;
                }
            }
            Self::Chain(_) | Self::Spki(_) => return Ok(Arc::new(Pinned(self.clone()))),
        }
        let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider());
        Ok(verifier.build()?)
    }
}

/// Looks at nothing but the pin, and that the server has the certificate's key.
#[derive(Debug)]
struct Pinned(Trust);

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        rest: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let (wanted, got) = match &self.0 {
            Trust::Spki(wanted) => {
                let leaf = ParsedCertificate::try_from(leaf)?;
                (wanted, Sha256::digest(leaf.subject_public_key_info()).into())
            }
            Trust::Chain(wanted) => {
                let chain = std::iter::once(leaf).chain(rest);
                (wanted, chain_hash(chain.map(|certificate| certificate.as_ref())))
            }
            Trust::WebPki | Trust::Roots(_) => return Err(CertificateError::UnknownIssuer.into()),
        };
        match *wanted == got {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        rustls::crypto::verify_tls13_signature(message, leaf, signed, &super::verify::ALL)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        super::verify::ALL.supported_schemes()
    }
}
