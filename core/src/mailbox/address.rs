//! The name of a box: an Ed25519 public key, made for one box and used for one write. Spec: SPEC §4.1.

use std::fmt;

use ed25519_dalek::{Signature, VerifyingKey};

use crate::event::Tag;

/// The name of a box. Any 32 bytes may be asked for; only a valid public key can ever be written to.
///
/// Whoever knows it may read the box, so it is printed as its one-way [`Tag`] only.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BoxAddress([u8; 32]);

impl BoxAddress {
    /// Its length on the wire.
    pub const LEN: usize = 32;

    /// The address with this wire form.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its wire form.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Its one-way name, for events.
    pub fn tag(&self) -> Tag {
        Tag::of(&self.0)
    }

    /// Whether `signature` is that of this box over `message`, by the strict rules: the key and the signature's point are
    /// canonical and not of small order, and the equation holds without a cofactor, so that all nodes agree.
    pub fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        if !is_canonical(&self.0) {
            return false;
        }
        VerifyingKey::from_bytes(&self.0).is_ok_and(|key| {
            key.verify_strict(message, &Signature::from_bytes(signature))
                .is_ok()
        })
    }
}

/// Whether the y coordinate is below 2^255 - 19. (The other ambiguous encodings, of x = 0, are points of small order,
/// which strict verification refuses.)
fn is_canonical(bytes: &[u8; 32]) -> bool {
    let all_ones = bytes[1..31].iter().all(|&b| b == 0xff) && bytes[31] & 0x7f == 0x7f;
    !(all_ones && bytes[0] >= 0xed)
}

impl fmt::Debug for BoxAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BoxAddress(#{:016x})", self.tag().0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_printed_as_its_tag_only() {
        let address = BoxAddress::from_bytes([0xab; 32]);
        assert!(!format!("{address:?}").contains("abab"));
        assert!(format!("{address:?}").contains(&format!("{:016x}", Tag::of(&[0xab; 32]).0)));
    }

    #[test]
    fn small_order_and_non_canonical_addresses_verify_nothing() {
        // y = 1 (identity), y = -1 (order 2), y = p (0 in another form), y = p + 1 (1 in another form).
        let mut p = [0xff; 32];
        (p[0], p[31]) = (0xed, 0x7f);
        let mut p1 = p;
        p1[0] = 0xee;
        let mut minus_one = p;
        minus_one[0] = 0xec;
        let mut one = [0; 32];
        one[0] = 1;
        // With A = identity, R = identity and s = 0 the plain equation holds for every message.
        let mut forged = [0; 64];
        forged[0] = 1;
        for bytes in [p, p1, minus_one, one, [0; 32]] {
            assert!(
                !BoxAddress::from_bytes(bytes).verifies(b"message", &forged),
                "{bytes:x?}"
            );
        }
        assert!(is_canonical(&minus_one) && !is_canonical(&p) && !is_canonical(&p1));
    }
}
