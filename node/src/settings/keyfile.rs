//! The file of a server's long-term keys: one `name HEX` per line, owner-only.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use phantom_core::crypto::keys::{IdentitySecret, LinkSecret};
use phantom_core::link::BridgeSecret;
use rand_core::CryptoRng;
use thiserror::Error;
use zeroize::Zeroizing;

use super::text::{hex, unhex};
use crate::config::Keys;

/// Why keys are not read or written.
#[derive(Debug, Error)]
pub enum KeyFileError {
    /// The host's storage failed, or there is no such file.
    #[error("{path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the host said.
        error: io::Error,
    },
    /// Others may read it.
    #[error("{path}: mode {mode:03o} lets others read these secrets; `chmod 600 {path}`")]
    Open {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It is not in the format. Never says what was found.
    #[error("{path}:{line}: {wanted}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What was wanted.
        wanted: &'static str,
    },
}

/// The long-term keys of a node, a bridge or an authority.
#[derive(Clone, Debug)]
pub struct KeyFile {
    /// Identity and link key.
    pub keys: Keys,
    /// A bridge's secret.
    pub bridge: Option<BridgeSecret>,
}

impl KeyFile {
    /// Draws new keys.
    pub fn from_rng(rng: &mut impl CryptoRng, bridge: bool) -> Self {
        Self {
            keys: Keys {
                identity: IdentitySecret::from_rng(rng),
                link: LinkSecret::from_rng(rng),
            },
            bridge: bridge.then(|| BridgeSecret::from_rng(rng)),
        }
    }

    /// Writes a new file, 0600 and durable.
    ///
    /// # Errors
    /// [`KeyFileError::Io`], also when there is a file already: keys are never overwritten.
    pub fn create(&self, path: &Path) -> Result<(), KeyFileError> {
        let mut text = Zeroizing::new(String::with_capacity(512));
        text.push_str("# Secret. Who has this file can pose as this server.\n");
        let mut line = |name: &str, bytes: &[u8; 32]| {
            let digits = Zeroizing::new(hex(bytes));
            for part in [name, " ", &digits, "\n"] {
                text.push_str(part);
            }
        };
        line("identity", &self.keys.identity.to_bytes());
        line("link", &self.keys.link.to_bytes());
        if let Some(bridge) = &self.bridge {
            line("bridge", bridge.as_bytes());
        }
        create_secret(path, text.as_bytes())
    }

    /// Reads the file.
    ///
    /// # Errors
    /// [`KeyFileError`].
    pub fn read(path: &Path) -> Result<Self, KeyFileError> {
        let bytes = read_secret(path)?;
        let malformed = |line, wanted| KeyFileError::Malformed {
            path: path.to_owned(),
            line,
            wanted,
        };
        let text = std::str::from_utf8(&bytes).map_err(|_| malformed(1, "wanted text"))?;
        let (mut identity, mut link, mut bridge) = (None, None, None);
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wanted = |wanted| malformed(at + 1, wanted);
            let (name, digits) = line.split_once(' ').ok_or_else(|| wanted("wanted `name HEX`"))?;
            let slot = match name {
                "identity" => &mut identity,
                "link" => &mut link,
                "bridge" => &mut bridge,
                _ => return Err(wanted("wanted identity, link or bridge")),
            };
            let key = unhex::<32>(digits.trim()).ok_or_else(|| wanted("wanted 64 hexadecimal digits"))?;
            if slot.replace(Zeroizing::new(key)).is_some() {
                return Err(wanted("this key was given before"));
            }
        }
        let end = text.lines().count().max(1);
        let identity = identity.ok_or_else(|| malformed(end, "the identity key is missing"))?;
        let link = link.ok_or_else(|| malformed(end, "the link key is missing"))?;
        Ok(Self {
            keys: Keys {
                identity: IdentitySecret::from_bytes(&identity),
                link: LinkSecret::from_bytes(*link),
            },
            bridge: bridge.map(|secret| BridgeSecret::from_bytes(*secret)),
        })
    }
}

fn failed(path: &Path) -> impl Fn(io::Error) -> KeyFileError {
    let path = path.to_owned();
    move |error| KeyFileError::Io {
        path: path.clone(),
        error,
    }
}

/// Writes a new owner-only file, durably; an error if there is one.
///
/// # Errors
/// [`KeyFileError::Io`].
pub fn create_secret(path: &Path, bytes: &[u8]) -> Result<(), KeyFileError> {
    let failed = failed(path);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(&failed)?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(&failed)
}

/// Reads a secret file.
///
/// # Errors
/// [`KeyFileError::Open`] when others may read it too.
pub fn read_secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
    let failed = failed(path);
    let mode = fs::metadata(path).map_err(&failed)?.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyFileError::Open {
            path: path.to_owned(),
            mode,
        });
    }
    fs::read(path).map(Zeroizing::new).map_err(&failed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use rand_core::SeedableRng;

    use super::*;

    #[test]
    fn keys_read_back_and_are_for_their_owner_only() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("keys");
        let mut rng = rand_chacha::ChaCha12Rng::seed_from_u64(1);
        let keys = KeyFile::from_rng(&mut rng, true);
        keys.create(&path).expect("new");
        assert_eq!(fs::metadata(&path).expect("there").mode() & 0o777, 0o600);
        assert!(keys.create(&path).is_err(), "never overwritten");
        let again = KeyFile::read(&path).expect("its own file");
        assert_eq!(again.keys.identity.public(), keys.keys.identity.public());
        assert_eq!(again.keys.link.public(), keys.keys.link.public());
        assert_eq!(
            again.bridge.expect("a bridge").as_bytes(),
            keys.bridge.expect("a bridge").as_bytes()
        );
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("ours");
        let refused = KeyFile::read(&path).expect_err("others may read it").to_string();
        assert!(refused.contains("mode 640"), "{refused}");
    }

    #[test]
    fn a_damaged_file_is_refused_with_its_line_and_without_its_content() {
        let dir = tempfile::tempdir().expect("a directory");
        let key = "11".repeat(32);
        for (at, (text, line)) in [
            (format!("identity {key}\nlink {key}0\n"), 2),
            (format!("identity {key}\n"), 1),
            (format!("identity {key}\nlink {key}\nidentity {key}\n"), 3),
            (format!("# x\nidentity\t{key}\n"), 2),
            (format!("other {key}\n"), 1),
        ]
        .into_iter()
        .enumerate()
        {
            let path = dir.path().join(at.to_string());
            create_secret(&path, text.as_bytes()).expect("new");
            let error = KeyFile::read(&path).expect_err("damaged").to_string();
            assert!(error.contains(&format!("{}:{line}:", path.display())), "{error}");
            assert!(!error.contains("1111"), "{error}");
        }
    }
}
