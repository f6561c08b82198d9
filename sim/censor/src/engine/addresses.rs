//! Sets of addresses: single ones, with a port or without, and prefixes.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

/// A set.
#[derive(Clone, Debug, Default)]
pub struct Addresses {
    hosts: BTreeSet<IpAddr>,
    endpoints: BTreeSet<SocketAddr>,
    /// First address and bits, the wide ones first in a lookup by length.
    prefixes: BTreeSet<(u8, IpAddr)>,
}

impl Addresses {
    /// Nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an address at all ports.
    pub fn add(&mut self, host: IpAddr) {
        self.hosts.insert(host);
    }

    /// Adds an address at one port.
    pub fn add_endpoint(&mut self, endpoint: SocketAddr) {
        self.endpoints.insert(endpoint);
    }

    /// Adds all addresses that agree with this one in so many bits; more than it has count as all.
    pub fn add_prefix(&mut self, address: IpAddr, bits: u8) {
        let bits = bits.min(if address.is_ipv4() { 32 } else { 128 });
        self.prefixes.insert((bits, truncated(address, bits)));
    }

    /// Whether it has this one.
    pub fn has(&self, endpoint: SocketAddr) -> bool {
        let host = endpoint.ip();
        self.hosts.contains(&host)
            || self.endpoints.contains(&endpoint)
            || self
                .prefixes
                .iter()
                .any(|(bits, prefix)| prefix.is_ipv4() == host.is_ipv4() && truncated(host, *bits) == *prefix)
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty() && self.endpoints.is_empty() && self.prefixes.is_empty()
    }
}

impl FromIterator<IpAddr> for Addresses {
    fn from_iter<I: IntoIterator<Item = IpAddr>>(hosts: I) -> Self {
        Self {
            hosts: hosts.into_iter().collect(),
            ..Self::default()
        }
    }
}

/// The first address of the prefix of so many bits that this one is in.
pub(crate) fn truncated(address: IpAddr, bits: u8) -> IpAddr {
    match address {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
            IpAddr::V4((ip.to_bits() & mask).into())
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(bits)).unwrap_or(0);
            IpAddr::V6((ip.to_bits() & mask).into())
        }
    }
}
