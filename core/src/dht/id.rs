//! Ids of Mainline nodes and items, their XOR distance, and ids tied to addresses. BEP 5, BEP 42; SPEC §7.1.

use std::fmt;
use std::net::IpAddr;

use rand_core::Rng;

/// An id of 20 bytes: a node, or the target under which something is stored.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct DhtId(pub [u8; 20]);

/// The XOR of two ids; smaller is nearer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Distance(pub [u8; 20]);

impl DhtId {
    /// An id from exactly 20 bytes.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// A random id that is tied to no address.
    pub fn random(rng: &mut impl Rng) -> Self {
        let mut id = [0; 20];
        rng.fill_bytes(&mut id);
        Self(id)
    }

    /// A random id that BEP 42 allows for a node at `ip`.
    pub fn for_ip(ip: IpAddr, rng: &mut impl Rng) -> Self {
        let mut id = Self::random(rng).0;
        let prefix = prefix(ip, id[19]);
        id[0] = prefix[0];
        id[1] = prefix[1];
        id[2] = (prefix[2] & 0xf8) | (id[2] & 0x07);
        Self(id)
    }

    /// Whether BEP 42 allows this id for a node at `ip`. Addresses that are not routed globally are exempt.
    pub fn fits_ip(&self, ip: IpAddr) -> bool {
        if is_local(ip) {
            return true;
        }
        let prefix = prefix(ip, self.0[19]);
        self.0[..2] == prefix[..2] && self.0[2] & 0xf8 == prefix[2] & 0xf8
    }

    /// The distance to `other`.
    pub fn distance(&self, other: &Self) -> Distance {
        let mut out = [0; 20];
        for (to, (a, b)) in out.iter_mut().zip(self.0.iter().zip(&other.0)) {
            *to = a ^ b;
        }
        Distance(out)
    }

    /// The id at this distance.
    pub fn at(&self, distance: Distance) -> Self {
        Self(self.distance(&Self(distance.0)).0)
    }

    /// A random id that shares exactly `bits` leading bits with this one (all of them when `bits` is 160 or more).
    pub fn random_at(&self, bits: usize, rng: &mut impl Rng) -> Self {
        if bits >= 160 {
            return *self;
        }
        let mut out = Self::random(rng).0;
        for bit in 0..=bits {
            let mask = 0x80_u8 >> (bit % 8);
            let ours = if bit < bits {
                self.0[bit / 8] & mask
            } else {
                !self.0[bit / 8] & mask
            };
            out[bit / 8] = (out[bit / 8] & !mask) | ours;
        }
        Self(out)
    }
}

impl Distance {
    /// How many leading bits are zero: 0 for the far half of the id space, 160 for the id itself.
    pub fn leading_zeros(&self) -> usize {
        let mut zeros = 0;
        for byte in self.0 {
            zeros += byte.leading_zeros() as usize;
            if byte != 0 {
                break;
            }
        }
        zeros
    }
}

impl fmt::Debug for DhtId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The first three bytes that BEP 42 demands for `ip` and the last byte `rand` of the id; of the third, five bits.
fn prefix(ip: IpAddr, rand: u8) -> [u8; 3] {
    let r = (rand & 0x07) << 5;
    let crc = match ip {
        IpAddr::V4(ip) => {
            let mut masked = ip.octets();
            for (byte, mask) in masked.iter_mut().zip([0x03, 0x0f, 0x3f, 0xff]) {
                *byte &= mask;
            }
            masked[0] |= r;
            crc32c(&masked)
        }
        IpAddr::V6(ip) => {
            let mut masked = [0; 8];
            masked.copy_from_slice(&ip.octets()[..8]);
            for (byte, mask) in masked
                .iter_mut()
                .zip([0x01, 0x03, 0x07, 0x0f, 0x1f, 0x3f, 0x7f, 0xff])
            {
                *byte &= mask;
            }
            masked[0] |= r;
            crc32c(&masked)
        }
    };
    let [a, b, c, _] = crc.to_be_bytes();
    [a, b, c]
}

pub(crate) fn is_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_private() || ip.is_link_local() || ip.is_loopback(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

/// CRC-32C (Castagnoli), bit by bit: eight bytes at most are summed.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0_u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 {
                (crc >> 1) ^ 0x82f6_3b78
            } else {
                crc >> 1
            };
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand_chacha::ChaCha12Rng;
    use rand_core::SeedableRng;

    use super::*;

    fn hex(text: &str) -> DhtId {
        let bytes: Vec<u8> = (0..20)
            .map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).expect("hex"))
            .collect();
        DhtId::from_slice(&bytes).expect("20 bytes")
    }

    #[test]
    fn the_vectors_of_bep_42_hold() {
        for (ip, id) in [
            ("124.31.75.21", "5fbfbff10c5d6a4ec8a88e4c6ab4c28b95eee401"),
            ("21.75.31.124", "5a3ce9c14e7a08645677bbd1cfe7d8f956d53256"),
            ("65.23.51.170", "a5d43220bc8f112a3d426c84764f8c2a1150e616"),
            ("84.124.73.14", "1b0321dd1bb1fe518101ceef99462b947a01ff41"),
            ("43.213.53.83", "e56f6cbf5b7c4be0237986d5243b87aa6d51305a"),
        ] {
            let ip: IpAddr = ip.parse().expect("literal");
            assert!(hex(id).fits_ip(ip), "{ip}");
            let mut other = hex(id);
            other.0[0] ^= 1;
            assert!(!other.fits_ip(ip), "{ip}");
        }
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn ids_of_local_addresses_are_free() {
        for ip in [
            "10.1.2.3",
            "127.0.0.1",
            "192.168.0.9",
            "172.16.0.1",
            "169.254.1.1",
            "::1",
            "fd00::1",
            "fe80::1",
        ] {
            assert!(DhtId([7; 20]).fits_ip(ip.parse().expect("literal")), "{ip}");
        }
        assert!(!DhtId([7; 20]).fits_ip("203.0.113.9".parse().expect("literal")));
    }

    proptest! {
        #[test]
        fn an_id_made_for_an_address_fits_it(seed in any::<u64>(), v4 in any::<[u8; 4]>(), v6 in any::<[u8; 16]>()) {
            let mut rng = ChaCha12Rng::seed_from_u64(seed);
            for ip in [IpAddr::from(v4), IpAddr::from(v6)] {
                prop_assert!(DhtId::for_ip(ip, &mut rng).fits_ip(ip));
            }
        }

        #[test]
        fn a_random_id_of_a_bucket_falls_into_it(seed in any::<u64>(), bits in 0_usize..160) {
            let mut rng = ChaCha12Rng::seed_from_u64(seed);
            let me = DhtId::random(&mut rng);
            prop_assert_eq!(me.distance(&me.random_at(bits, &mut rng)).leading_zeros(), bits);
            prop_assert_eq!(me.distance(&me).leading_zeros(), 160);
        }
    }
}
