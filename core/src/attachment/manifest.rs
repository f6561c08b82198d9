//! The message that tells a reader where an attachment is.

use crate::wire::{DecodeError, Reader, Writer};

use super::{ATTACHMENT_MAX, AttachmentKeys, AttachmentSecret};

/// The longest name of an attachment, in bytes.
pub const NAME_LEN_MAX: usize = 128;

const VERSION: u8 = 1;

/// What a reader needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Opens its boxes.
    pub secret: AttachmentSecret,
    /// How long it is: at most [`ATTACHMENT_MAX`].
    pub len: u32,
    /// BLAKE3 of all of it: pieces of two attachments cannot be mixed, by anybody.
    pub hash: [u8; 32],
    /// What its writer calls it: [`Manifest::is_name`].
    pub name: String,
}

impl Manifest {
    /// That of `content`; `None` if it is too long or the name is none.
    pub fn of(secret: AttachmentSecret, name: &str, content: &[u8]) -> Option<Self> {
        (content.len() <= ATTACHMENT_MAX && Self::is_name(name)).then(|| Self {
            secret,
            len: content.len() as u32,
            hash: *blake3::hash(content).as_bytes(),
            name: name.to_owned(),
        })
    }

    /// Whether this can be the name of an attachment: 1 to [`NAME_LEN_MAX`] bytes without control characters, that no
    /// reader can take for a way into another directory.
    pub fn is_name(name: &str) -> bool {
        let fits = (1..=NAME_LEN_MAX).contains(&name.len()) && !name.starts_with('.');
        fits && !name.chars().any(|c| c.is_control() || matches!(c, '/' | '\\'))
    }

    /// Its boxes.
    pub fn keys(&self) -> AttachmentKeys {
        AttachmentKeys::new(self.secret.clone(), self.len as usize)
    }

    /// Whether `content` is what its writer had.
    pub fn is_of(&self, content: &[u8]) -> bool {
        // Compared by BLAKE3's own constant time; nothing secret is compared here.
        content.len() == self.len as usize && blake3::hash(content) == blake3::Hash::from_bytes(self.hash)
    }

    /// The wire form: `1 | secret (32) | length (4) | hash (32) | name (2 + up to 128)`.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.put_u8(VERSION);
        out.put(self.secret.as_bytes());
        out.put_u32(self.len);
        out.put(&self.hash);
        out.put_bytes(self.name.as_bytes());
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`DecodeError`]; a length or name that [`Manifest::of`] would not take included.
    pub fn read(r: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let bad = |field, got| DecodeError::BadValue { field, got };
        match r.u8()? {
            VERSION => {}
            got => return Err(bad("version of a manifest", u64::from(got))),
        }
        let secret = AttachmentSecret::from_bytes(r.array()?);
        let (len, hash) = (r.u32()?, r.array()?);
        if len as usize > ATTACHMENT_MAX {
            return Err(bad("length of an attachment", u64::from(len)));
        }
        let name = r.bytes("name of an attachment", NAME_LEN_MAX)?;
        let name = std::str::from_utf8(name).ok().filter(|name| Self::is_name(name));
        let name = name.ok_or(bad("name of an attachment", 0))?.to_owned();
        Ok(Self {
            secret,
            len,
            hash,
            name,
        })
    }

    /// Decodes what is a manifest and nothing else.
    ///
    /// # Errors
    /// [`DecodeError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let manifest = Self::read(&mut r)?;
        r.finish()?;
        Ok(manifest)
    }
}
