//! From one secret all boxes of an attachment, their names, their keys, and the right to write them.

use std::fmt;

use bytes::Bytes;
use rand_core::CryptoRng;
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::{PIECE_LEN, range};
use crate::crypto::aead::{AeadKey, NONCE_ZERO};
use crate::crypto::kdf::Context;
use crate::mailbox::{BoxAddress, BoxSeed, Record, TtlBucket, Unsigned, WriteCap};
use crate::packet::Class;
use crate::wire::Writer;

const CAP: Context = Context::new("phantom-net 2026 attachment capability v1");
const BODY: Context = Context::new("phantom-net 2026 attachment body v1");
const FILE: Context = Context::new("phantom-net 2026 attachment file v1");
const PURPOSE: &[u8] = b"attachment";

/// Why a piece that was found is not used. The contact's fault, or the storage hop's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ReadError {
    /// It is another box.
    #[error("a box that is not the piece that was asked for")]
    WrongBox,
    /// It does not open.
    #[error("a piece of an attachment that does not open")]
    Sealed,
    /// What is behind the end of the attachment is not zero.
    #[error("a piece of an attachment with bytes behind its end")]
    Padding,
}

/// Whoever has it can read the attachment, and nobody else. Fresh for each.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct AttachmentSecret([u8; 32]);

impl AttachmentSecret {
    /// Draws one.
    pub fn from_rng(rng: &mut impl CryptoRng) -> Self {
        let mut bytes = [0; 32];
        rng.fill_bytes(&mut bytes);
        Self(bytes)
    }

    /// From a manifest or an encrypted file.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// For a manifest or an encrypted file.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key under which the writer keeps the attachment on its own disk until nodes hold it: one use.
    pub fn file_key(&self) -> AeadKey {
        AeadKey::from_bytes(FILE.derive(&self.0))
    }
}

impl fmt::Debug for AttachmentSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AttachmentSecret(secret)")
    }
}

/// The boxes of one attachment.
#[derive(Debug)]
pub struct AttachmentKeys {
    secret: AttachmentSecret,
    cap: WriteCap,
    len: usize,
}

impl AttachmentKeys {
    /// Those of an attachment of `len` bytes.
    pub fn new(secret: AttachmentSecret, len: usize) -> Self {
        let wide = Zeroizing::new(CAP.derive_array::<96>(&secret.0));
        Self {
            cap: WriteCap::from_uniform(&wide),
            secret,
            len,
        }
    }

    fn seed(&self, number: u32) -> BoxSeed {
        BoxSeed::derive(&self.secret.0, PURPOSE, u64::from(number))
    }

    fn key(&self, number: u32) -> AeadKey {
        AeadKey::from_bytes(BODY.derive_fields(&[&self.secret.0, &number.to_be_bytes()]))
    }

    /// Where piece `number` is.
    pub fn address(&self, number: u32) -> BoxAddress {
        self.cap.read_cap().address(&self.seed(number))
    }

    /// The box of piece `number` of `whole`. Deterministic: the same arguments give the same record, so that it can be
    /// written again.
    pub fn seal(&self, number: u32, whole: &Bytes, bucket: TtlBucket, not_after: u64) -> Record {
        let mut body = Vec::with_capacity(crate::mailbox::BULK_BODY_LEN);
        body.put(&whole[range(self.len, number)]);
        body.resize(PIECE_LEN, 0);
        let associated = Record::associated_data(Class::Bulk, bucket, not_after);
        let tag = self.key(number).seal_in_place(NONCE_ZERO, &associated, &mut body);
        body.put(&tag);
        let content = Unsigned {
            bucket,
            not_after,
            body: body.into(),
        };
        Record::sign(&self.cap, &self.seed(number), content)
    }

    /// The bytes of piece `number`.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn open(&self, number: u32, record: &Record) -> Result<Bytes, ReadError> {
        if *record.address() != self.address(number) {
            return Err(ReadError::WrongBox);
        }
        let associated = Record::associated_data(Class::Bulk, record.bucket(), record.not_after());
        let opened = self.key(number).open(NONCE_ZERO, &associated, record.body());
        let mut plain = opened.map_err(|_| ReadError::Sealed)?;
        let len = range(self.len, number).len();
        if plain.len() < len || plain[len..].iter().any(|byte| *byte != 0) {
            return Err(ReadError::Padding);
        }
        plain.truncate(len);
        Ok(plain.into())
    }
}
