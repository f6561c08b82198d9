//! A client's state at rest: sealed under a passphrase or a key. Spec: SPEC §5.9.
//!
//! ```text
//! "PNVAULT1" 8 | kind 1 | memory KiB 4 | passes 4 | lanes 4 | salt 16 | version 8 | nonce 24 | sealed
//! ```
//! `sealed` holds the length of the state, the state, and zeros up to a multiple of 4 KiB, so that its size says little.
//! Everything before it is authenticated with it. The driver replaces the file atomically; each write has the next version.

use std::fmt;

use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use rand_core::CryptoRng;
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::crypto::kdf::Context;
use crate::wire::{DecodeError, Reader, Writer};

const MAGIC: &[u8; 8] = b"PNVAULT1";
const RAW: Context = Context::new("phantom-net 2026 vault raw key v1");
const STRETCHED: Context = Context::new("phantom-net 2026 vault passphrase v1");
const SALT_LEN: usize = 16;
const NONCE_LEN: usize = 24;
const TAG_LEN: usize = 16;
const HEADER_LEN: usize = 8 + 1 + 12 + SALT_LEN + 8 + NONCE_LEN;
const PAGE: usize = 4_096;

/// The largest state that is sealed or opened: 256 MiB.
pub const STATE_MAX: usize = 256 << 20;

/// What a guess at a passphrase shall cost (Argon2id).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Memory in KiB. Default 65,536 (64 MiB), the second recommendation of RFC 9106 §4.
    pub memory_kib: u32,
    /// Passes over it. Default 3, as there.
    pub passes: u32,
    /// Lanes. Default 4, as there (worked through one after the other).
    pub lanes: u32,
}

impl Default for Cost {
    fn default() -> Self {
        Self {
            memory_kib: 65_536,
            passes: 3,
            lanes: 4,
        }
    }
}

impl Cost {
    /// The most that a file may ask of this machine: 1 GiB, 64 passes, 16 lanes.
    const MAX: Self = Self {
        memory_kib: 1 << 20,
        passes: 64,
        lanes: 16,
    };

    fn check(self) -> Result<Self, Error> {
        let within = self.memory_kib <= Self::MAX.memory_kib
            && self.passes <= Self::MAX.passes
            && self.lanes <= Self::MAX.lanes
            && self.passes >= 1
            && self.lanes >= 1
            && self.memory_kib >= 8 * self.lanes;
        if within {
            Ok(self)
        } else {
            Err(Error::BadCost(self))
        }
    }
}

/// What opens a vault.
pub enum Unlock<'a> {
    /// Something a person remembers.
    Passphrase(&'a [u8]),
    /// 32 random bytes from a key store.
    Key(&'a [u8; 32]),
}

/// Why a vault does not open or cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// Not a vault, or a damaged one.
    #[error("not a vault: {0}")]
    Malformed(#[from] DecodeError),
    /// The cost is impossible, or more than a file may ask for.
    #[error("a passphrase cost of {0:?} is impossible or above the bound")]
    BadCost(Cost),
    /// Made for a passphrase and given a key, or the other way round.
    #[error("the vault was sealed under a {wanted}")]
    OtherKind {
        /// What it wants.
        wanted: &'static str,
    },
    /// Wrong passphrase or key, or the file was changed.
    #[error("the passphrase or key is wrong, or the file was changed")]
    Wrong,
    /// The state is above [`STATE_MAX`].
    #[error("a state of {got} bytes, at most {STATE_MAX} are kept")]
    TooLong {
        /// Its length.
        got: usize,
    },
}

/// An open vault: holds the key, so that each write costs no stretching, and the version.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Vault {
    key: [u8; 32],
    #[zeroize(skip)]
    lock: Lock,
    #[zeroize(skip)]
    version: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lock {
    /// `None` for a raw key.
    cost: Option<Cost>,
    salt: [u8; SALT_LEN],
}

impl Vault {
    /// A new vault under a passphrase (with the cost of a guess) or a key. Nothing is written yet; its version is 0.
    ///
    /// # Errors
    /// [`Error::BadCost`].
    pub fn create(unlock: &Unlock<'_>, cost: Cost, rng: &mut impl CryptoRng) -> Result<Self, Error> {
        let mut salt = [0; SALT_LEN];
        rng.fill_bytes(&mut salt);
        let cost = matches!(unlock, Unlock::Passphrase(_)).then_some(cost);
        let lock = Lock { cost, salt };
        Ok(Self {
            key: lock.key(unlock)?,
            lock,
            version: 0,
        })
    }

    /// Opens what [`Vault::seal`] made.
    ///
    /// # Errors
    /// [`enum@Error`].
    pub fn open(file: &[u8], unlock: &Unlock<'_>) -> Result<(Self, Zeroizing<Vec<u8>>), Error> {
        let mut r = Reader::new(file);
        let magic = r.array::<8>()?;
        if &magic != MAGIC {
            return Err(DecodeError::BadValue {
                field: "vault magic",
                got: u64::from_be_bytes(magic),
            }
            .into());
        }
        let kind = r.u8()?;
        let cost = Cost {
            memory_kib: r.u32()?,
            passes: r.u32()?,
            lanes: r.u32()?,
        };
        let cost = match (kind, cost) {
            (
                0,
                Cost {
                    memory_kib: 0,
                    passes: 0,
                    lanes: 0,
                },
            ) => None,
            (1, cost) => Some(cost.check()?),
            (got, _) => {
                return Err(DecodeError::BadValue {
                    field: "vault kind",
                    got: u64::from(got),
                }
                .into());
            }
        };
        let lock = Lock {
            cost,
            salt: r.array()?,
        };
        let version = r.u64()?;
        let nonce: [u8; NONCE_LEN] = r.array()?;
        let sealed = r.rest();
        let Some((body, tag)) = sealed.split_last_chunk::<TAG_LEN>() else {
            return Err(DecodeError::Truncated {
                wanted: TAG_LEN,
                got: sealed.len(),
            }
            .into());
        };
        if body.len() > STATE_MAX + 2 * PAGE {
            return Err(Error::TooLong { got: body.len() });
        }
        let key = Zeroizing::new(lock.key(unlock)?);
        let mut body = Zeroizing::new(body.to_vec());
        XChaCha20Poly1305::new(&(*key).into())
            .decrypt_inout_detached(
                &XNonce::from(nonce),
                &file[..HEADER_LEN],
                body.as_mut_slice().into(),
                &(*tag).into(),
            )
            .map_err(|_| Error::Wrong)?;
        let mut r = Reader::new(&body);
        let len = usize::try_from(r.u64()?).unwrap_or(usize::MAX);
        let state = Zeroizing::new(r.take(len)?.to_vec());
        Ok((
            Self {
                key: *key,
                lock,
                version,
            },
            state,
        ))
    }

    /// The file for `state`, with the next version. Replace the old file by it atomically and durably.
    ///
    /// # Errors
    /// [`Error::TooLong`].
    pub fn seal(&mut self, state: &[u8], rng: &mut impl CryptoRng) -> Result<Vec<u8>, Error> {
        if state.len() > STATE_MAX {
            return Err(Error::TooLong { got: state.len() });
        }
        self.version += 1;
        let mut nonce = [0; NONCE_LEN];
        rng.fill_bytes(&mut nonce);
        let mut out = Vec::with_capacity(HEADER_LEN + 8 + state.len() + PAGE + TAG_LEN);
        out.put(MAGIC);
        let cost = self.lock.cost.unwrap_or(Cost {
            memory_kib: 0,
            passes: 0,
            lanes: 0,
        });
        out.put_u8(u8::from(self.lock.cost.is_some()));
        out.put_u32(cost.memory_kib);
        out.put_u32(cost.passes);
        out.put_u32(cost.lanes);
        out.put(&self.lock.salt);
        out.put_u64(self.version);
        out.put(&nonce);
        out.put_u64(state.len() as u64);
        out.put(state);
        out.resize(HEADER_LEN + (out.len() - HEADER_LEN).next_multiple_of(PAGE), 0);
        let (header, body) = out.split_at_mut(HEADER_LEN);
        let tag: [u8; TAG_LEN] = XChaCha20Poly1305::new(&self.key.into())
            .encrypt_inout_detached(&XNonce::from(nonce), header, body.into())
            .expect("shorter than the limit of the cipher")
            .into();
        out.put(&tag);
        Ok(out)
    }

    /// The version that was opened or sealed last.
    pub const fn version(&self) -> u64 {
        self.version
    }
}

impl Lock {
    fn key(&self, unlock: &Unlock<'_>) -> Result<[u8; 32], Error> {
        match (unlock, self.cost) {
            (Unlock::Key(key), None) => Ok(RAW.derive_fields(&[key.as_slice(), &self.salt])),
            (Unlock::Passphrase(passphrase), Some(cost)) => {
                let cost = cost.check()?;
                let params = Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(32))
                    .map_err(|_| Error::BadCost(cost))?;
                let mut stretched = Zeroizing::new([0; 32]);
                Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
                    .hash_password_into(passphrase, &self.salt, &mut *stretched)
                    .map_err(|_| Error::BadCost(cost))?;
                Ok(STRETCHED.derive(&*stretched))
            }
            (Unlock::Key(_), Some(_)) => Err(Error::OtherKind { wanted: "passphrase" }),
            (Unlock::Passphrase(_), None) => Err(Error::OtherKind { wanted: "key" }),
        }
    }
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault")
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Unlock<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Unlock(secret)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand_chacha::ChaCha12Rng;
    use rand_core::SeedableRng;

    use super::*;

    const CHEAP: Cost = Cost {
        memory_kib: 64,
        passes: 1,
        lanes: 2,
    };

    fn rng() -> ChaCha12Rng {
        ChaCha12Rng::seed_from_u64(1)
    }

    #[test]
    fn what_is_sealed_opens_with_the_same_secret_only() {
        let (pass, key) = (Unlock::Passphrase(b"correct horse"), Unlock::Key(&[3; 32]));
        let wrong = [Unlock::Passphrase(b"battery staple"), Unlock::Key(&[4; 32])];
        for (unlock, wrong) in [&pass, &key].into_iter().zip(&wrong) {
            let mut vault = Vault::create(unlock, CHEAP, &mut rng()).expect("made");
            let file = vault.seal(b"state", &mut rng()).expect("sealed");
            let (mut open, state) = Vault::open(&file, unlock).expect("opened");
            assert_eq!((&state[..], open.version()), (&b"state"[..], 1));
            let newer = open.seal(b"state", &mut rng()).expect("sealed");
            assert_eq!(Vault::open(&newer, unlock).expect("opened").0.version(), 2);
            assert_eq!(Vault::open(&file, wrong).err(), Some(Error::Wrong));
            assert!(!file.windows(5).any(|w| w == b"state"));
        }
        let file = Vault::create(&key, CHEAP, &mut rng())
            .expect("made")
            .seal(b"", &mut rng())
            .expect("sealed");
        assert_eq!(
            Vault::open(&file, &pass).err(),
            Some(Error::OtherKind { wanted: "key" })
        );
    }

    #[test]
    fn the_size_says_little() {
        let mut vault = Vault::create(&Unlock::Key(&[3; 32]), CHEAP, &mut rng()).expect("made");
        let sizes: Vec<usize> = [0, 1, 4_000, 4_088, 4_089]
            .map(|n| vault.seal(&vec![0; n], &mut rng()).expect("sealed").len())
            .into();
        assert_eq!(
            sizes,
            [4_096, 4_096, 4_096, 4_096, 8_192].map(|n| n + HEADER_LEN + TAG_LEN)
        );
    }

    #[test]
    fn a_file_cannot_ask_for_more_than_the_bound() {
        let unlock = Unlock::Passphrase(b"x");
        let mut file = Vault::create(&unlock, CHEAP, &mut rng())
            .expect("made")
            .seal(b"", &mut rng())
            .expect("sealed");
        file[9..13].copy_from_slice(&u32::MAX.to_be_bytes());
        assert!(matches!(Vault::open(&file, &unlock), Err(Error::BadCost(_))));
        let none = Cost {
            memory_kib: 0,
            passes: 0,
            lanes: 0,
        };
        assert_eq!(
            Vault::create(&unlock, none, &mut rng()).err(),
            Some(Error::BadCost(none))
        );
    }

    proptest! {
        #[test]
        fn a_changed_file_never_opens_and_never_panics(at: prop::sample::Index, bit in 0u8..8, cut: prop::sample::Index) {
            let unlock = Unlock::Key(&[3; 32]);
            let mut vault = Vault::create(&unlock, CHEAP, &mut rng()).expect("made");
            let mut file = vault.seal(b"state", &mut rng()).expect("sealed");
            prop_assert!(Vault::open(&file[..cut.index(file.len())], &unlock).is_err());
            let at = at.index(file.len());
            file[at] ^= 1 << bit;
            prop_assert!(Vault::open(&file, &unlock).is_err());
        }
    }
}
