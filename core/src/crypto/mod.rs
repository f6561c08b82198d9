//! Cryptography: thin, typed layers over well-kept crates. No primitive is implemented here.
//!
//! Nothing in here draws randomness by itself: every key is made from a generator that the caller passes in
//! ([`crate::runtime::Entropy`]). Secrets are wiped when dropped, are never printed, and are compared in constant time.

pub mod aead;
pub mod kdf;
pub mod keys;
pub mod noise;
