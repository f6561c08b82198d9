//! The autonomous systems of a world: in which region each is, how far out, and which addresses its hosts have.
//!
//! Addresses look public, so that what depends on that (BEP 42, which exempts private ones) acts as it does on the
//! Internet. A system's place and prefixes come from a stream of its own, and so does each host's address within them:
//! one more peer moves nobody, but for the rare one that had drawn the same address and draws again.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use rand_core::Rng;

use super::plan::{below, stream};

/// Most systems of a world: each has a /12 of its own, of which there are 3,424.
pub const SYSTEMS_MAX: u64 = 3_000;
/// Most hosts of one system: two fifths of its prefix, so that a draw soon finds a free address.
pub const HOSTS_PER_SYSTEM_MAX: u64 = 400_000;

/// First octets that are not given away, as a whole: special ranges of RFC 6890 are in them, the addresses that a censor
/// forges (198.18.0.0/15) and those that documents use, a root server of the DNS (198.41.0.4), and 11, from which swarm
/// gives to hosts without one. From 224 on is multicast, and then reserved space.
const SPARED: [u8; 10] = [0, 10, 11, 100, 127, 169, 172, 192, 198, 203];
const UNICAST_END: u8 = 224;
/// Bits of an IPv4 address below a system's prefix.
const V4_BITS: u32 = 20;
/// Where the /32 of each system is taken from: RIPE's part of global unicast space.
const V6_SPACE: u128 = 0x2a00 << 112;
/// A system's number stands behind the first 12 bits of that; its prefix ends at bit 32.
const V6_SHIFT: u32 = 128 - 24;
/// Round trip from a system's edge to the rest of its region.
const EXTRA_US: std::ops::Range<u64> = 1_000..8_000;

/// An autonomous system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct System {
    /// `<region>-<n>`, n from 0.
    pub name: String,
    /// Index of its region.
    pub region: usize,
    /// How much longer the round trip to its hosts is than to the region.
    pub extra: Duration,
    /// Its IPv4 prefix, of 12 bits.
    v4: u32,
    /// Its IPv6 prefix, of 32 bits.
    v6: u128,
}

/// Draws the systems of regions, given by name and number of systems, region by region.
pub(super) fn draw<'a>(seed: u64, regions: impl Iterator<Item = (&'a str, u32)>) -> Vec<System> {
    let mut taken = BTreeSet::new();
    let mut systems = Vec::new();
    for (region, (name, count)) in regions.enumerate() {
        for n in 0..count {
            let name = format!("{name}-{n}");
            let mut rng = stream(seed, &format!("system {name}"));
            let extra = EXTRA_US.start + below(&mut rng, EXTRA_US.end - EXTRA_US.start);
            let v4 = loop {
                let drawn = (rng.next_u32() >> V4_BITS) << V4_BITS;
                let first = drawn.to_be_bytes()[0];
                if first < UNICAST_END && !SPARED.contains(&first) && taken.insert(drawn) {
                    break drawn;
                }
            };
            let v6 = V6_SPACE | (u128::from(v4 >> V4_BITS) << V6_SHIFT);
            systems.push(System {
                name,
                region,
                extra: Duration::from_micros(extra),
                v4,
                v6,
            });
        }
    }
    systems
}

/// The addresses of a world that are taken.
#[derive(Debug, Default)]
pub(super) struct Given {
    v4: BTreeSet<Ipv4Addr>,
    v6: BTreeSet<Ipv6Addr>,
}

impl Given {
    /// The addresses of the host called `host`, which is in `system`.
    pub(super) fn draw(&mut self, seed: u64, host: &str, system: &System) -> (Ipv4Addr, Ipv6Addr) {
        let mut rng = stream(seed, &format!("address {host}"));
        let v4 = loop {
            let drawn = Ipv4Addr::from(system.v4 | (rng.next_u32() & ((1 << V4_BITS) - 1)));
            // Networks and broadcasts of a /24 would be odd.
            if !matches!(drawn.octets()[3], 0 | 255) && self.v4.insert(drawn) {
                break drawn;
            }
        };
        let v6 = loop {
            let (subnet, interface) = (u128::from(rng.next_u32()), u128::from(rng.next_u64()));
            let drawn = Ipv6Addr::from(system.v6 | (subnet << 64) | interface);
            if self.v6.insert(drawn) {
                break drawn;
            }
        };
        (v4, v6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_systems_get_distinct_prefixes_outside_of_every_special_range() {
        let systems = draw(1, [("a", 1_000), ("b", 1_000), ("c", 1_000)].into_iter());
        assert_eq!(systems.len() as u64, SYSTEMS_MAX);
        let distinct: BTreeSet<_> = systems.iter().map(|system| (system.v4, system.v6)).collect();
        assert_eq!(distinct.len(), systems.len());
        for system in &systems {
            let [first, ..] = system.v4.to_be_bytes();
            assert!(
                first < UNICAST_END && !SPARED.contains(&first),
                "{first} is special"
            );
            let v6 = Ipv6Addr::from(system.v6);
            assert_eq!(v6.segments()[0] & 0xfff0, 0x2a00, "{v6}");
            assert_eq!(system.v6 << 32, 0, "{v6} is longer than 32 bits");
            assert!((1..8).contains(&system.extra.as_millis()), "{:?}", system.extra);
        }
    }

    #[test]
    fn two_hosts_of_one_draw_get_two_addresses() {
        let systems = draw(1, [("a", 1)].into_iter());
        let mut given = Given::default();
        let first = given.draw(1, "client-0", &systems[0]);
        let again = given.draw(1, "client-0", &systems[0]);
        assert!(first.0 != again.0 && first.1 != again.1);
        let mut fresh = Given::default();
        assert_eq!(
            fresh.draw(1, "client-0", &systems[0]),
            first,
            "an address is its host's name and the seed"
        );
    }
}
