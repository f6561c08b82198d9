//! Certificates that sign themselves: for simulations, and for bridges whose line pins them ([`Trust::Chain`](super::Trust::Chain)).
//!
//! The least of X.509 (RFC 5280 §4.1) that webpki takes: a name, dates of 2020 to 2049, one key, one alternative name.

use ed25519_dalek::pkcs8::EncodePrivateKey;
use p256::elliptic_curve::Generate;
use rand_core::CryptoRng;
use rustls::pki_types::{AlgorithmIdentifier, CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, alg_id};
use rustls::sign::{Signer, SigningKey};

use super::sign::Key;

/// A certificate and its private key.
#[derive(Debug)]
pub struct SelfSigned {
    /// The certificate.
    pub certificate: CertificateDer<'static>,
    /// Its key, as PKCS #8.
    pub key: PrivateKeyDer<'static>,
}

/// What key it is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// For simulations: no browser offers it.
    Ed25519,
    /// As public certificates have it.
    P256,
}

/// Draws a key and makes its certificate for the DNS name `name`.
///
/// # Panics
/// A name beyond 253 bytes: it is ours.
pub fn self_signed(rng: &mut impl CryptoRng, kind: KeyKind, name: &str) -> SelfSigned {
    assert!(name.len() <= 253, "a DNS name of {} bytes", name.len());
    let mut serial = [0; 16];
    rng.fill_bytes(&mut serial);
    // A positive number of 16 bytes.
    serial[0] = serial[0] & 0x7f | 0x40;
    let (pkcs8, algorithm) = match kind {
        KeyKind::Ed25519 => {
            let mut seed = zeroize::Zeroizing::new([0; 32]);
            rng.fill_bytes(seed.as_mut());
            let key = ed25519_dalek::SigningKey::from_bytes(&seed);
            (key.to_pkcs8_der(), alg_id::ED25519)
        }
        KeyKind::P256 => (
            p256::SecretKey::generate_from_rng(rng).to_pkcs8_der(),
            alg_id::ECDSA_SHA256,
        ),
    };
    let pkcs8 = pkcs8.expect("a key that was just made is good");
    let key = Key::from_pkcs8(pkcs8.as_bytes()).expect("it is a kind that we sign with");
    let body = body(
        &serial,
        &algorithm,
        name,
        key.public_key().expect("it has one").as_ref(),
    );
    let signature = key.sign(&body).expect("a good key signs");
    let certificate = sequence(&[&body, &sequence(&[algorithm.as_ref()]), &bits(&signature)]);
    SelfSigned {
        certificate: certificate.into(),
        key: PrivatePkcs8KeyDer::from(pkcs8.as_bytes().to_vec()).into(),
    }
}

impl SelfSigned {
    /// The text of two PEM files: the chain and the key.
    pub fn to_pem(&self) -> (String, zeroize::Zeroizing<String>) {
        let pem = |label, der: &[u8]| {
            use base64ct::{Base64, Encoding};
            let text = zeroize::Zeroizing::new(Base64::encode_string(der));
            let mut pem = format!("-----BEGIN {label}-----\n");
            for line in text.as_bytes().chunks(64) {
                pem.extend(line.iter().map(|&byte| char::from(byte)));
                pem.push('\n');
            }
            pem + &format!("-----END {label}-----\n")
        };
        let chain = pem("CERTIFICATE", &self.certificate);
        (
            chain,
            zeroize::Zeroizing::new(pem("PRIVATE KEY", self.key.secret_der())),
        )
    }
}

fn body(serial: &[u8], algorithm: &AlgorithmIdentifier, name: &str, public_key: &[u8]) -> Vec<u8> {
    const COMMON_NAME: &[u8] = &[0x06, 3, 0x55, 4, 3];
    const ALTERNATIVE_NAME: &[u8] = &[0x06, 3, 0x55, 0x1d, 0x11];
    let common = sequence(&[COMMON_NAME, &tagged(0x0c, &[name.as_bytes()])]);
    let names = sequence(&[&tagged(0x31, &[&common])]);
    let dates = sequence(&[
        &tagged(0x17, &[b"200101000000Z"]),
        &tagged(0x17, &[b"491231235959Z"]),
    ]);
    let alternative = sequence(&[&tagged(0x82, &[name.as_bytes()])]);
    let extension = sequence(&[ALTERNATIVE_NAME, &tagged(0x04, &[&alternative])]);
    let version_3 = tagged(0xa0, &[&[0x02, 1, 2]]);
    sequence(&[
        &version_3,
        &tagged(0x02, &[serial]),
        &sequence(&[algorithm.as_ref()]),
        &names,
        &dates,
        &names,
        public_key,
        &tagged(0xa3, &[&sequence(&[&extension])]),
    ])
}

fn sequence(parts: &[&[u8]]) -> Vec<u8> {
    tagged(0x30, parts)
}

fn bits(bytes: &[u8]) -> Vec<u8> {
    tagged(0x03, &[&[0], bytes])
}

/// A value of DER: its tag, its length in as few bytes as it takes, its parts.
fn tagged(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let value = parts.concat();
    let mut der = vec![tag];
    match value.len() {
        len @ 0..=0x7f => der.push(len as u8),
        len @ 0x80..=0xff => der.extend([0x81, len as u8]),
        len => der.extend([0x82, (len >> 8) as u8, len as u8]),
    }
    der.extend(value);
    der
}
