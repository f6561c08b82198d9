//! Elligator 2 for Curve25519: public keys that look like 32 random bytes.
//!
//! Half of all points have a *representative*, a number below 2^254 from which the map gives the point back. Three details
//! decide whether representatives can be told from noise, and obfs4 had each of them wrong until 0.0.14 (Fifield, eprint
//! 2023/1362): the map covers the whole curve and not only its prime-order subgroup, so a key gets a random point of small
//! order added ([`HiddenKey`]; X25519 multiplies by 8 and so never notices); of the two representatives either may be sent;
//! and the two bits above 2^254 are random.
//!
//! Spec: obfs4-spec.txt §2 and RFC 9380 §6.7.1 (curve25519, Z = 2).

use curve25519_dalek::constants::EIGHT_TORSION;
use curve25519_dalek::edwards::EdwardsPoint;
use curve25519_dalek::traits::Identity;
use rand_core::CryptoRng;
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::field::Fe;

/// Bytes of a representative.
pub(crate) const REPRESENTATIVE_LEN: usize = 32;

/// An X25519 key pair for one handshake whose public half can be sent as [`HiddenKey::representative`].
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(crate) struct HiddenKey {
    secret: [u8; 32],
    public: [u8; 32],
    representative: [u8; REPRESENTATIVE_LEN],
}

impl HiddenKey {
    /// Draws keys until one has a representative: two on average. A peer that could time this would learn how many, so
    /// it is done before anything is read or sent.
    pub(crate) fn from_rng(rng: &mut impl CryptoRng) -> Self {
        loop {
            let mut drawn = Zeroizing::new([0; 33]);
            rng.fill_bytes(&mut *drawn);
            let [secret @ .., tweak] = *drawn;
            if let Some(key) = Self::from_parts(secret, tweak) {
                return key;
            }
        }
    }

    /// The key of 32 uniform bytes, if it has a representative: which of its two, and their highest bits, `tweak` says.
    fn from_parts(secret: [u8; 32], tweak: u8) -> Option<Self> {
        let public = dirty_public(&secret);
        let (found, representative) = representative(Fe::from_bytes(&public), tweak);
        bool::from(found).then_some(Self {
            secret,
            public,
            representative,
        })
    }

    /// The public key, a point of small order included: what the other end makes of the representative.
    pub(crate) const fn public(&self) -> &[u8; 32] {
        &self.public
    }

    /// What is sent.
    pub(crate) const fn representative(&self) -> &[u8; REPRESENTATIVE_LEN] {
        &self.representative
    }

    /// The X25519 secret.
    pub(crate) const fn secret(&self) -> &[u8; 32] {
        &self.secret
    }
}

/// The public key that a representative stands for: its two highest bits are ignored.
pub(crate) fn public_of(representative: &[u8; REPRESENTATIVE_LEN]) -> [u8; 32] {
    let mut bytes = *representative;
    bytes[31] &= 0x3f;
    map(Fe::from_bytes(&bytes)).to_bytes()
}

/// RFC 9380's `map_to_curve_elligator2` without its y.
///
/// The candidate w = -A / (1 + 2 r^2) and its partner -A - w: exactly one of them is on the curve. 1 + 2 r^2 is never zero,
/// because -1/2 is no square, and w is never a root of the curve's equation.
fn map(r: Fe) -> Fe {
    let square = r.square();
    let w = Fe::A.neg().mul(square.add(square).add(Fe::ONE).invert());
    let partner = Fe::A.neg().add(w.neg());
    let curve = w.square().add(Fe::A.mul(w)).add(Fe::ONE).mul(w);
    Fe::conditional_select(&partner, &w, curve.is_square())
}

/// The inverse of [`map`], in constant time: whether `u` has representatives, and the one that `tweak` picks.
///
/// r^2 is -u / (2 (u + A)) or -(u + A) / (2 u), by the sign of the point's other coordinate: bit 0 of `tweak`. Of r and -r the
/// one below 2^254 is taken; bits 6 and 7 of `tweak` are then the two highest.
fn representative(u: Fe, tweak: u8) -> (Choice, [u8; REPRESENTATIVE_LEN]) {
    let partner = u.add(Fe::A);
    let product = u.mul(partner);
    let (found, root) = product.add(product).neg().inverse_sqrt();
    let numerator = Fe::conditional_select(&u, &partner, Choice::from(tweak & 1));
    let r = numerator.mul(root);
    // 2 r mod p is odd exactly when r is above (p - 1) / 2.
    let r = Fe::conditional_select(&r, &r.neg(), r.add(r).is_odd());
    let mut bytes = r.to_bytes();
    bytes[31] |= tweak & 0xc0;
    (found, bytes)
}

/// The u coordinate of the clamped `secret` times the base point plus the point of small order that the three bits which
/// clamping clears choose, the same one as obfs4proxy takes.
fn dirty_public(secret: &[u8; 32]) -> [u8; 32] {
    // obfs4proxy counts in multiples of a point that is three times dalek's.
    let index = secret[0].wrapping_mul(3) & 7;
    let small = (0_u8..)
        .zip(&EIGHT_TORSION)
        .fold(EdwardsPoint::identity(), |chosen, (i, point)| {
            EdwardsPoint::conditional_select(&chosen, point, i.ct_eq(&index))
        });
    (EdwardsPoint::mul_base_clamped(*secret) + small)
        .to_montgomery()
        .to_bytes()
}

#[cfg(test)]
mod tests;
