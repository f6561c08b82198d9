//! obfs4's key exchange: Tor's ntor (proposal 216) with hidden keys, and the key derivation after it.
//!
//! Two exchanges, one with the server's ephemeral key and one with its identity, give a seed and a proof (`AUTH`) that the
//! server holds that identity. obfs4 puts the identity into the hash twice where ntor has it once: part of the wire format.
//! Spec: obfs4-spec.txt §4; `ntorCommon` of obfs4proxy 0.0.14.

use curve25519_dalek::montgomery::MontgomeryPoint;
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use rand_core::CryptoRng;
use sha2::Sha256;
use subtle::{Choice, ConstantTimeEq};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::elligator::{HiddenKey, REPRESENTATIVE_LEN, public_of};
use crate::frame::{DIRECTION_KEY_LEN, DirectionKey};
use crate::hex;

/// Bytes of `AUTH`.
pub(crate) const AUTH_LEN: usize = 32;

const PROTOCOL: &[u8] = b"ntor-curve25519-sha256-1";
const T_KEY: &[u8] = b"ntor-curve25519-sha256-1:key_extract";
const T_VERIFY: &[u8] = b"ntor-curve25519-sha256-1:key_verify";
const T_MAC: &[u8] = b"ntor-curve25519-sha256-1:mac";
const M_EXPAND: &[u8] = b"ntor-curve25519-sha256-1:key_expand";

/// The name of a bridge: 20 bytes that go with its key. Logs show the beginning: name and key together let anyone find the
/// bridge.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub [u8; 20]);

impl std::fmt::Debug for NodeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NodeId({}…)", hex::encode(&self.0[..4]))
    }
}

/// The identity key of a bridge, as its certificate shows it. Logs show the beginning.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublicKey(pub [u8; 32]);

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublicKey({}…)", hex::encode(&self.0[..4]))
    }
}

/// The secret half of a bridge's identity.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SecretKey([u8; 32]);

impl SecretKey {
    /// Draws a key.
    pub fn from_rng(rng: &mut impl CryptoRng) -> Self {
        let mut bytes = [0; 32];
        rng.fill_bytes(&mut bytes);
        Self(bytes)
    }

    /// A key that was stored. Any 32 bytes are one: X25519 clamps them when it uses them.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The key, for storage.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The public half: an ordinary X25519 key, never hidden.
    pub fn public(&self) -> PublicKey {
        PublicKey(MontgomeryPoint::mul_base_clamped(self.0).to_bytes())
    }
}

impl std::fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretKey(secret)")
    }
}

/// What an exchange gives.
pub(crate) struct Agreed {
    /// What the server shows, and the client compares in constant time.
    pub(crate) auth: [u8; AUTH_LEN],
    /// The keys of the connection.
    pub(crate) keys: LinkKeys,
}

/// The frame keys of both directions.
pub(crate) struct LinkKeys {
    pub(crate) to_server: DirectionKey,
    pub(crate) to_client: DirectionKey,
}

/// The client's half. `None` when an exchange gives zero: the server's ephemeral key, or the bridge line's key, is a point of
/// small order.
pub(crate) fn client(
    mine: &HiddenKey,
    theirs: &[u8; REPRESENTATIVE_LEN],
    identity: &PublicKey,
    node: &NodeId,
) -> Option<Agreed> {
    let ephemeral = public_of(theirs);
    let shared = [
        exchange(mine.secret(), &ephemeral),
        exchange(mine.secret(), &identity.0),
    ];
    agree(&shared, node, identity, mine.public(), &ephemeral)
}

/// The server's half. `None` when an exchange gives zero: the client's key is a point of small order.
pub(crate) fn server(
    mine: &HiddenKey,
    theirs: &[u8; REPRESENTATIVE_LEN],
    secret: &SecretKey,
    identity: &PublicKey,
    node: &NodeId,
) -> Option<Agreed> {
    let ephemeral = public_of(theirs);
    let shared = [
        exchange(mine.secret(), &ephemeral),
        exchange(&secret.0, &ephemeral),
    ];
    agree(&shared, node, identity, &ephemeral, mine.public())
}

fn exchange(secret: &[u8; 32], public: &[u8; 32]) -> Zeroizing<[u8; 32]> {
    Zeroizing::new(MontgomeryPoint(*public).mul_clamped(*secret).to_bytes())
}

/// What both ends compute alike: `x` is the client's key, `y` the server's, as their representatives give them.
fn agree(
    shared: &[Zeroizing<[u8; 32]>; 2],
    node: &NodeId,
    identity: &PublicKey,
    x: &[u8; 32],
    y: &[u8; 32],
) -> Option<Agreed> {
    let zero = shared
        .iter()
        .fold(Choice::from(0), |zero, s| zero | s.ct_eq(&[0; 32]));
    if bool::from(zero) {
        return None;
    }
    let common: [&[u8]; 6] = [&identity.0, &identity.0, x, y, PROTOCOL, &node.0];
    let input = || shared.iter().map(|s| s.as_slice()).chain(common);
    let seed = Zeroizing::new(hmac(T_KEY, input()));
    let verify = Zeroizing::new(hmac(T_VERIFY, input()));
    let auth = hmac(
        T_MAC,
        std::iter::once(verify.as_slice())
            .chain(common)
            .chain([b"Server".as_slice()]),
    );
    Some(Agreed {
        auth,
        keys: expand(&seed),
    })
}

fn hmac<'a>(key: &[u8], parts: impl Iterator<Item = &'a [u8]>) -> [u8; 32] {
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(key).expect("a key of any length");
    parts.for_each(|part| mac.update(part));
    mac.finalize().into_bytes().into()
}

/// HKDF-SHA256 to the 144 bytes of both directions, the client's first.
fn expand(seed: &[u8; 32]) -> LinkKeys {
    let mut material = Zeroizing::new([0; 2 * DIRECTION_KEY_LEN]);
    Hkdf::<Sha256>::new(Some(T_KEY), seed)
        .expand(M_EXPAND, material.as_mut_slice())
        .expect("144 bytes are within HKDF's 8,160");
    let (to_server, to_client) = material.split_at(DIRECTION_KEY_LEN);
    LinkKeys {
        to_server: DirectionKey::from_slice(to_server),
        to_client: DirectionKey::from_slice(to_client),
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    use super::*;

    const NODE: NodeId = NodeId([3; 20]);

    #[test]
    fn both_ends_agree_and_a_wrong_identity_or_node_does_not() {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        for _ in 0..20 {
            let secret = SecretKey::from_rng(&mut rng);
            let identity = secret.public();
            let (x, y) = (HiddenKey::from_rng(&mut rng), HiddenKey::from_rng(&mut rng));
            let server = server(&y, x.representative(), &secret, &identity, &NODE).expect("contributory");
            let good = client(&x, y.representative(), &identity, &NODE).expect("contributory");
            assert_eq!(good.auth, server.auth);
            assert_eq!(good.keys.to_server.expose(), server.keys.to_server.expose());
            assert_eq!(good.keys.to_client.expose(), server.keys.to_client.expose());
            assert_ne!(good.keys.to_client.expose(), good.keys.to_server.expose());
            let other = SecretKey::from_rng(&mut rng).public();
            let wrong = client(&x, y.representative(), &other, &NODE).expect("contributory");
            assert_ne!(wrong.auth, server.auth);
            let wrong = client(&x, y.representative(), &identity, &NodeId([4; 20])).expect("contributory");
            assert_ne!(wrong.auth, server.auth);
        }
    }

    #[test]
    fn points_of_small_order_are_refused_by_both_ends() {
        let mut rng = ChaCha20Rng::seed_from_u64(2);
        let secret = SecretKey::from_rng(&mut rng);
        let key = HiddenKey::from_rng(&mut rng);
        // The representative 0 stands for u = 0, of order 2.
        assert!(server(&key, &[0; 32], &secret, &secret.public(), &NODE).is_none());
        assert!(client(&key, &[0; 32], &secret.public(), &NODE).is_none());
        let good = HiddenKey::from_rng(&mut rng);
        assert!(client(&key, good.representative(), &PublicKey([0; 32]), &NODE).is_none());
    }

    #[test]
    fn secrets_are_not_printed() {
        assert_eq!(
            format!("{:?}", SecretKey::from_bytes([7; 32])),
            "SecretKey(secret)"
        );
    }
}
