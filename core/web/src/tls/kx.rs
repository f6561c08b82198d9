//! Key agreement: X25519, which nearly every server takes, and P-256 for those that do not.

use p256::elliptic_curve::Generate;
use p256::elliptic_curve::sec1::ToSec1Point;
use rustls::crypto::{ActiveKeyExchange, GetRandomFailed, SharedSecret, SupportedKxGroup};
use rustls::{Error, NamedGroup, PeerMisbehaved};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use super::random::{self, Lent};

pub(super) static ALL: [&dyn SupportedKxGroup; 2] = [&X25519, &P256];

#[derive(Debug)]
struct X25519;

struct X25519Key {
    /// Taken once; rustls's trait wants what can be shared, which the ephemeral type of the crate is not.
    secret: StaticSecret,
    public: PublicKey,
}

impl SupportedKxGroup for X25519 {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let mut bytes = Zeroizing::new([0; 32]);
        random::fill(bytes.as_mut())?;
        let secret = StaticSecret::from(*bytes);
        let public = PublicKey::from(&secret);
        Ok(Box::new(X25519Key { secret, public }))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

impl ActiveKeyExchange for X25519Key {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        let peer: [u8; 32] = peer.try_into().map_err(|_| bad_share())?;
        let shared = self.secret.diffie_hellman(&PublicKey::from(peer));
        // A point of low order: the secret would be known to everybody (RFC 8446 §7.4.2).
        if !shared.was_contributory() {
            return Err(bad_share());
        }
        Ok(SharedSecret::from(shared.as_bytes().as_slice()))
    }

    fn pub_key(&self) -> &[u8] {
        self.public.as_bytes()
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::X25519
    }
}

#[derive(Debug)]
struct P256;

struct P256Key {
    secret: p256::SecretKey,
    public: Box<[u8]>,
}

impl SupportedKxGroup for P256 {
    fn start(&self) -> Result<Box<dyn ActiveKeyExchange>, Error> {
        let secret = p256::SecretKey::try_generate_from_rng(&mut Lent).map_err(|_| GetRandomFailed)?;
        let public = secret.public_key().to_sec1_point(false);
        Ok(Box::new(P256Key {
            secret,
            public: public.as_bytes().into(),
        }))
    }

    fn name(&self) -> NamedGroup {
        NamedGroup::secp256r1
    }
}

impl ActiveKeyExchange for P256Key {
    fn complete(self: Box<Self>, peer: &[u8]) -> Result<SharedSecret, Error> {
        // Uncompressed alone, and on the curve (RFC 8446 §4.2.8.2).
        if peer.first() != Some(&4) {
            return Err(bad_share());
        }
        let peer = p256::PublicKey::from_sec1_bytes(peer).map_err(|_| bad_share())?;
        let shared = p256::ecdh::diffie_hellman(self.secret.to_nonzero_scalar(), peer.as_affine());
        Ok(SharedSecret::from(shared.raw_secret_bytes().as_slice()))
    }

    fn pub_key(&self) -> &[u8] {
        &self.public
    }

    fn group(&self) -> NamedGroup {
        NamedGroup::secp256r1
    }
}

fn bad_share() -> Error {
    PeerMisbehaved::InvalidKeyShare.into()
}
