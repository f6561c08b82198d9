//! The three cipher suites of TLS 1.3 (RFC 8446 §B.4).

use std::marker::PhantomData;

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::{Aes128Gcm, Aes256Gcm};
use chacha20poly1305::ChaCha20Poly1305;
use rustls::crypto::CipherSuiteCommon;
use rustls::crypto::cipher::{
    AeadKey, InboundOpaqueMessage, InboundPlainMessage, Iv, MessageDecrypter, MessageEncrypter, Nonce,
    OutboundOpaqueMessage, OutboundPlainMessage, PrefixedPayload, Tls13AeadAlgorithm,
    UnsupportedOperationError, make_tls13_aad,
};
use rustls::crypto::tls13::HkdfUsingHmac;
use rustls::{
    CipherSuite, ConnectionTrafficSecrets, ContentType, Error, ProtocolVersion, SupportedCipherSuite,
    Tls13CipherSuite,
};

use super::hash;

/// All of them, in the order of a browser's hello.
pub(super) static ALL: [SupportedCipherSuite; 3] = [
    SupportedCipherSuite::Tls13(&AES_128),
    SupportedCipherSuite::Tls13(&AES_256),
    SupportedCipherSuite::Tls13(&CHACHA20),
];

/// Records under one key of AES-GCM (RFC 8446 §5.5).
const AES_RECORDS_MAX: u64 = 1 << 24;
/// The tag of all three ciphers, and the byte of the inner content type.
const TAG: usize = 16;
const CONTENT_TYPE: usize = 1;

static AES_128: Tls13CipherSuite = Tls13CipherSuite {
    common: CipherSuiteCommon {
        suite: CipherSuite::TLS13_AES_128_GCM_SHA256,
        hash_provider: &hash::SHA256,
        confidentiality_limit: AES_RECORDS_MAX,
    },
    hkdf_provider: &HkdfUsingHmac(&hash::HMAC_SHA256),
    aead_alg: &Aead::<Aes128Gcm>::new(16, |key, iv| ConnectionTrafficSecrets::Aes128Gcm { key, iv }),
    quic: None,
};

static AES_256: Tls13CipherSuite = Tls13CipherSuite {
    common: CipherSuiteCommon {
        suite: CipherSuite::TLS13_AES_256_GCM_SHA384,
        hash_provider: &hash::SHA384,
        confidentiality_limit: AES_RECORDS_MAX,
    },
    hkdf_provider: &HkdfUsingHmac(&hash::HMAC_SHA384),
    aead_alg: &Aead::<Aes256Gcm>::new(32, |key, iv| ConnectionTrafficSecrets::Aes256Gcm { key, iv }),
    quic: None,
};

static CHACHA20: Tls13CipherSuite = Tls13CipherSuite {
    common: CipherSuiteCommon {
        suite: CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
        hash_provider: &hash::SHA256,
        confidentiality_limit: u64::MAX,
    },
    hkdf_provider: &HkdfUsingHmac(&hash::HMAC_SHA256),
    aead_alg: &Aead::<ChaCha20Poly1305>::new(32, |key, iv| ConnectionTrafficSecrets::Chacha20Poly1305 {
        key,
        iv,
    }),
    quic: None,
};

type Secrets = fn(AeadKey, Iv) -> ConnectionTrafficSecrets;

struct Aead<C> {
    key_len: usize,
    secrets: Secrets,
    cipher: PhantomData<fn() -> C>,
}

impl<C> Aead<C> {
    const fn new(key_len: usize, secrets: Secrets) -> Self {
        Self {
            key_len,
            secrets,
            cipher: PhantomData,
        }
    }
}

/// One direction of a connection.
struct Half<C> {
    cipher: C,
    iv: Iv,
}

impl<C: AeadInOut + KeyInit> Half<C> {
    fn new(key: &AeadKey, iv: Iv) -> Self {
        let cipher = C::new_from_slice(key.as_ref()).expect("rustls makes keys of the length that we said");
        Self { cipher, iv }
    }

    fn nonce(&self, seq: u64) -> aes_gcm::aead::Nonce<C> {
        let nonce = Nonce::new(&self.iv, seq);
        aes_gcm::aead::Nonce::<C>::try_from(nonce.0.as_slice()).expect("the nonces of TLS 1.3 have 12 bytes")
    }
}

impl<C: AeadInOut + KeyInit + Send + Sync + 'static> Tls13AeadAlgorithm for Aead<C> {
    fn encrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageEncrypter> {
        Box::new(Half::<C>::new(&key, iv))
    }

    fn decrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageDecrypter> {
        Box::new(Half::<C>::new(&key, iv))
    }

    fn key_len(&self) -> usize {
        self.key_len
    }

    fn extract_keys(
        &self,
        key: AeadKey,
        iv: Iv,
    ) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        Ok((self.secrets)(key, iv))
    }
}

impl<C: AeadInOut + KeyInit + Send + Sync> MessageEncrypter for Half<C> {
    fn encrypt(
        &mut self,
        message: OutboundPlainMessage<'_>,
        seq: u64,
    ) -> Result<OutboundOpaqueMessage, Error> {
        let len = self.encrypted_payload_len(message.payload.len());
        let mut payload = PrefixedPayload::with_capacity(len);
        payload.extend_from_chunks(&message.payload);
        payload.extend_from_slice(&message.typ.to_array());
        let tag = self
            .cipher
            .encrypt_inout_detached(&self.nonce(seq), &make_tls13_aad(len), payload.as_mut().into())
            .map_err(|_| Error::EncryptError)?;
        payload.extend_from_slice(&tag);
        // TLS 1.3 records say that they are of 1.2 (RFC 8446 §5.2).
        let (kind, version) = (ContentType::ApplicationData, ProtocolVersion::TLSv1_2);
        Ok(OutboundOpaqueMessage::new(kind, version, payload))
    }

    fn encrypted_payload_len(&self, payload_len: usize) -> usize {
        payload_len + CONTENT_TYPE + TAG
    }
}

impl<C: AeadInOut + KeyInit + Send + Sync> MessageDecrypter for Half<C> {
    fn decrypt<'a>(
        &mut self,
        mut message: InboundOpaqueMessage<'a>,
        seq: u64,
    ) -> Result<InboundPlainMessage<'a>, Error> {
        let payload = &mut message.payload;
        let aad = make_tls13_aad(payload.len());
        let body = payload.len().checked_sub(TAG).ok_or(Error::DecryptError)?;
        let (text, tag) = payload.split_at_mut(body);
        let tag = aes_gcm::aead::Tag::<C>::try_from(&*tag).map_err(|_| Error::DecryptError)?;
        self.cipher
            .decrypt_inout_detached(&self.nonce(seq), &aad, text.into(), &tag)
            .map_err(|_| Error::DecryptError)?;
        payload.truncate(body);
        message.into_tls13_unpadded_message()
    }
}
