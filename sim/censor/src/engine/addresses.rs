//! Sets of addresses: single ones, with a port or without, and prefixes.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

/// A set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    hosts: BTreeSet<IpAddr>,
    endpoints: BTreeSet<SocketAddr>,
    /// First address and bits, the wide ones first in a lookup by length.
    prefixes: BTreeSet<(u8, IpAddr)>,
    /// Lists that go on growing while the censor works, by name: what they learn is in the set from then on.
    follows: BTreeSet<String>,
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

    /// From now on it takes in what this list learns.
    pub fn follow(&mut self, list: impl Into<String>) {
        self.follows.insert(list.into());
    }

    /// A list learned of an address; no effect on a set that does not follow it.
    pub fn learn(&mut self, list: &str, host: IpAddr) {
        if self.follows.contains(list) {
            self.hosts.insert(host);
        }
    }

    /// The lists that it follows.
    pub fn follows(&self) -> impl Iterator<Item = &str> {
        self.follows.iter().map(String::as_str)
    }

    /// The single addresses in it, if it holds nothing else: no port, no prefix.
    pub fn hosts(&self) -> Option<&BTreeSet<IpAddr>> {
        (self.endpoints.is_empty() && self.prefixes.is_empty()).then_some(&self.hosts)
    }

    /// The same set with other addresses: hosts that moved. Prefixes stay.
    pub fn map(&mut self, mut to: impl FnMut(IpAddr) -> IpAddr) {
        self.hosts = self.hosts.iter().map(|host| to(*host)).collect();
        let moved = |endpoint: &SocketAddr| SocketAddr::new(to(endpoint.ip()), endpoint.port());
        self.endpoints = self.endpoints.iter().map(moved).collect();
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

    /// Whether it has none and never will.
    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty()
            && self.endpoints.is_empty()
            && self.prefixes.is_empty()
            && self.follows.is_empty()
    }

    /// Those in it, and the first of each prefix.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let endpoints = self.endpoints.iter().map(SocketAddr::ip);
        let prefixes = self.prefixes.iter().map(|(_, first)| *first);
        self.hosts.iter().copied().chain(endpoints).chain(prefixes)
    }

    /// Whether it may come to have more.
    pub fn grows(&self) -> bool {
        !self.follows.is_empty()
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
