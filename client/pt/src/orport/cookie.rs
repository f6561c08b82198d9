//! The secret of the file that both sides can read, and the hashes that show it. Spec: ext-orport-spec §2.1.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

use hmac::{Hmac, KeyInit, Mac};
use rand_core::CryptoRng;
use sha2::Sha256;
use thiserror::Error;
use zeroize::Zeroizing;

use super::HASH_LEN;

const HEADER: &[u8; 32] = b"! Extended ORPort Auth Cookie !\x0a";
const COOKIE_LEN: usize = 32;
const SERVER: &[u8] = b"ExtORPort authentication server-to-client hash";
const CLIENT: &[u8] = b"ExtORPort authentication client-to-server hash";

/// The shared secret. Never shown; overwritten when dropped.
#[derive(Clone)]
pub struct Cookie(Zeroizing<[u8; COOKIE_LEN]>);

/// Random bytes that make a handshake unlike any other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nonce([u8; 32]);

/// Why there is no cookie.
#[derive(Debug, Error)]
pub enum CookieError {
    /// The file cannot be read or written.
    #[error("the cookie of the Extended ORPort: {0}")]
    Io(#[from] io::Error),
    /// It has not the 64 bytes of a cookie's file.
    #[error("the cookie of the Extended ORPort: wanted a file of 64 bytes, and this has {0}")]
    Length(String),
    /// It does not begin as it must: it is something else.
    #[error(
        "the cookie of the Extended ORPort: the file does not begin with \"! Extended ORPort Auth Cookie !\""
    )]
    Header,
}

impl Cookie {
    /// A new one.
    pub fn from_rng(rng: &mut impl CryptoRng) -> Self {
        let mut bytes = Zeroizing::new([0; COOKIE_LEN]);
        rng.fill_bytes(&mut *bytes);
        Self(bytes)
    }

    /// One that is known.
    pub fn from_bytes(bytes: [u8; COOKIE_LEN]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Reads its file, of any size no more than 65 bytes.
    ///
    /// # Errors
    /// It cannot be read, or is no cookie's file.
    pub fn read(path: &Path) -> Result<Self, CookieError> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(65));
        File::open(path)?.take(65).read_to_end(&mut bytes)?;
        let (header, cookie) = bytes
            .split_first_chunk::<32>()
            .ok_or_else(|| CookieError::Length(bytes.len().to_string()))?;
        if header != HEADER {
            return Err(CookieError::Header);
        }
        let cookie = <[u8; COOKIE_LEN]>::try_from(cookie).map_err(|_| {
            CookieError::Length(match bytes.len() {
                65 => "more".to_owned(),
                fewer => fewer.to_string(),
            })
        })?;
        Ok(Self::from_bytes(cookie))
    }

    /// Writes its file, for the owner's eyes only.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), CookieError> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        // A new file: whoever holds the old one open, or made it for others to read, learns nothing.
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let mut file = options.open(path)?;
        file.write_all(HEADER)?;
        file.write_all(&*self.0)?;
        Ok(file.sync_all()?)
    }

    /// What shows the client that this is the server.
    pub(super) fn server_hash(&self, client: &Nonce, server: &Nonce) -> [u8; HASH_LEN] {
        self.mac(SERVER, client, server).finalize().into_bytes().into()
    }

    /// What shows the server that the client may come in.
    pub(super) fn client_hash(&self, client: &Nonce, server: &Nonce) -> [u8; HASH_LEN] {
        self.mac(CLIENT, client, server).finalize().into_bytes().into()
    }

    /// In constant time.
    pub(super) fn is_server_hash(&self, hash: &[u8], client: &Nonce, server: &Nonce) -> bool {
        self.mac(SERVER, client, server).verify_slice(hash).is_ok()
    }

    /// In constant time.
    pub(super) fn is_client_hash(&self, hash: &[u8], client: &Nonce, server: &Nonce) -> bool {
        self.mac(CLIENT, client, server).verify_slice(hash).is_ok()
    }

    fn mac(&self, label: &[u8], client: &Nonce, server: &Nonce) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&*self.0).expect("HMAC takes keys of every length");
        mac.update(label);
        mac.update(&client.0);
        mac.update(&server.0);
        mac
    }
}

impl Nonce {
    /// A new one.
    pub fn from_rng(rng: &mut impl CryptoRng) -> Self {
        let mut bytes = [0; 32];
        rng.fill_bytes(&mut bytes);
        Self(bytes)
    }

    /// One that is known.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Shows nothing.
impl fmt::Debug for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cookie(not shown)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_survives_its_file_which_nobody_else_can_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cookie");
        std::fs::write(&path, "an old one").unwrap();
        let cookie = Cookie::from_bytes([7; 32]);
        cookie.write(&path).unwrap();
        assert_eq!(*Cookie::read(&path).unwrap().0, [7; 32]);
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(format!("{cookie:?}"), "Cookie(not shown)");
    }

    #[test]
    fn a_file_that_is_no_cookies_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cookie");
        let refusal = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            Cookie::read(&path).unwrap_err().to_string()
        };
        assert!(refusal(b"short").ends_with("has 5"));
        assert!(refusal(&[&HEADER[..], &[1; 31]].concat()).ends_with("has 63"));
        assert!(refusal(&[&HEADER[..], &[1; 3300]].concat()).ends_with("has more"));
        assert!(refusal(&[b'!'; 64]).contains("does not begin"));
        assert!(
            Cookie::read(&folder.path().join("none"))
                .unwrap_err()
                .to_string()
                .contains("No such file")
        );
    }
}
