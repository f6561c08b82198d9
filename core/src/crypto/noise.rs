//! The primitives that snow runs the Noise protocol on: X25519 and ChaCha20-Poly1305 and BLAKE2s of the crates that the
//! rest of the program uses, and a generator that the caller passes in. snow's own features are all off, because they
//! draw OS entropy. Spec: SPEC §2.2; Noise revision 34.

use std::sync::Mutex;

use blake2::{Blake2s256, Digest};
use curve25519_dalek::MontgomeryPoint;
use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};
use snow::params::{CipherChoice, DHChoice, HashChoice};
use snow::resolvers::CryptoResolver;
use snow::types::{Cipher, Dh, Hash, Random};
use zeroize::Zeroize;

use super::aead::{AeadKey, TAG_LEN, nonce};

/// The handshake patterns of SPEC §2.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Pattern {
    /// Node to node: both static keys, the dialler's sent encrypted.
    Ik,
    /// A client to a listed node: the server's static key only.
    Nk,
    /// A client to a bridge: as [`Pattern::Nk`], and a secret without which the server is silent.
    NkPsk0,
    /// Resumption: a one-use secret from an earlier link, and fresh ephemeral keys.
    NnPsk0,
}

impl Pattern {
    /// The Noise protocol name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ik => "Noise_IK_25519_ChaChaPoly_BLAKE2s",
            Self::Nk => "Noise_NK_25519_ChaChaPoly_BLAKE2s",
            Self::NkPsk0 => "Noise_NKpsk0_25519_ChaChaPoly_BLAKE2s",
            Self::NnPsk0 => "Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s",
        }
    }

    /// Starts a handshake that draws from a stream forked off `rng`.
    pub fn builder<'a>(self, rng: &mut ChaCha12Rng) -> snow::Builder<'a> {
        let params = self
            .name()
            .parse()
            .expect("the name of a pattern that snow knows");
        snow::Builder::with_resolver(params, Box::new(Resolver(Mutex::new(ChaCha12Rng::from_rng(rng)))))
    }
}

/// Hands snow its primitives. Each handshake gets a generator of its own, forked off the one inside.
struct Resolver(Mutex<ChaCha12Rng>);

impl CryptoResolver for Resolver {
    fn resolve_rng(&self) -> Option<Box<dyn Random>> {
        let mut parent = self.0.lock().ok()?;
        Some(Box::new(Injected(ChaCha12Rng::from_rng(&mut *parent))))
    }

    fn resolve_dh(&self, choice: &DHChoice) -> Option<Box<dyn Dh>> {
        matches!(choice, DHChoice::Curve25519).then(|| Box::<X25519>::default() as _)
    }

    fn resolve_hash(&self, choice: &HashChoice) -> Option<Box<dyn Hash>> {
        matches!(choice, HashChoice::Blake2s).then(|| Box::<Blake2s>::default() as _)
    }

    fn resolve_cipher(&self, choice: &CipherChoice) -> Option<Box<dyn Cipher>> {
        matches!(choice, CipherChoice::ChaChaPoly)
            .then(|| Box::new(ChaChaPoly(AeadKey::from_bytes([0; 32]))) as _)
    }
}

struct Injected(ChaCha12Rng);

impl Random for Injected {
    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), snow::Error> {
        self.0.fill_bytes(out);
        Ok(())
    }
}

#[derive(Default)]
struct X25519 {
    secret: [u8; 32],
    public: [u8; 32],
}

impl Drop for X25519 {
    fn drop(&mut self) {
        self.secret.zeroize();
    }
}

impl Dh for X25519 {
    fn name(&self) -> &'static str {
        "25519"
    }
    fn pub_len(&self) -> usize {
        32
    }
    fn priv_len(&self) -> usize {
        32
    }
    fn set(&mut self, secret: &[u8]) {
        self.secret.copy_from_slice(secret);
        self.public = MontgomeryPoint::mul_base_clamped(self.secret).to_bytes();
    }
    fn generate(&mut self, rng: &mut dyn Random) -> Result<(), snow::Error> {
        let mut secret = [0; 32];
        rng.try_fill_bytes(&mut secret)?;
        self.set(&secret);
        secret.zeroize();
        Ok(())
    }
    fn pubkey(&self) -> &[u8] {
        &self.public
    }
    fn privkey(&self) -> &[u8] {
        &self.secret
    }
    fn dh(&self, theirs: &[u8], out: &mut [u8]) -> Result<(), snow::Error> {
        let theirs = *theirs.first_chunk::<32>().ok_or(snow::Error::Dh)?;
        let out = out.first_chunk_mut::<32>().ok_or(snow::Error::Dh)?;
        *out = MontgomeryPoint(theirs).mul_clamped(self.secret).to_bytes();
        // Noise leaves this check to the application: a zero result means a key of small order was sent.
        if *out == [0; 32] {
            Err(snow::Error::Dh)
        } else {
            Ok(())
        }
    }
}

#[derive(Default)]
struct Blake2s(Blake2s256);

impl Hash for Blake2s {
    fn name(&self) -> &'static str {
        "BLAKE2s"
    }
    fn block_len(&self) -> usize {
        64
    }
    fn hash_len(&self) -> usize {
        32
    }
    fn reset(&mut self) {
        self.0 = Blake2s256::new();
    }
    fn input(&mut self, data: &[u8]) {
        self.0.update(data);
    }
    fn result(&mut self, out: &mut [u8]) {
        out[..32].copy_from_slice(&self.0.finalize_reset());
    }
}

struct ChaChaPoly(AeadKey);

impl Cipher for ChaChaPoly {
    fn name(&self) -> &'static str {
        "ChaChaPoly"
    }
    fn set(&mut self, key: &[u8; 32]) {
        self.0 = AeadKey::from_bytes(*key);
    }
    fn encrypt(&self, n: u64, associated: &[u8], plaintext: &[u8], out: &mut [u8]) -> usize {
        let len = plaintext.len();
        out[..len].copy_from_slice(plaintext);
        let tag = self.0.seal_in_place(nonce(n), associated, &mut out[..len]);
        out[len..len + TAG_LEN].copy_from_slice(&tag);
        len + TAG_LEN
    }
    fn decrypt(
        &self,
        n: u64,
        associated: &[u8],
        sealed: &[u8],
        out: &mut [u8],
    ) -> Result<usize, snow::Error> {
        let (body, tag) = sealed.split_last_chunk::<TAG_LEN>().ok_or(snow::Error::Decrypt)?;
        let out = out.get_mut(..body.len()).ok_or(snow::Error::Decrypt)?;
        out.copy_from_slice(body);
        self.0
            .open_in_place(nonce(n), associated, out, tag)
            .map_err(|_| snow::Error::Decrypt)?;
        Ok(body.len())
    }
}

#[cfg(test)]
mod tests;
