//! An address of a DHT node as it is kept by the hundred.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// An address and a port in 19 bytes, where a [`SocketAddr`] takes 32: a client that is cut off runs a dozen lookups of up to a
/// hundred addresses each. Flow labels and scopes of IPv6, which no message of the DHT carries, are left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Addr {
    /// IPv4 in its first four bytes.
    ip: [u8; 16],
    port: [u8; 2],
    v6: bool,
}

impl From<SocketAddr> for Addr {
    fn from(addr: SocketAddr) -> Self {
        let mut bytes = [0; 16];
        match addr.ip() {
            IpAddr::V4(ip) => bytes[..4].copy_from_slice(&ip.octets()),
            IpAddr::V6(ip) => bytes = ip.octets(),
        }
        Self {
            ip: bytes,
            port: addr.port().to_be_bytes(),
            v6: addr.is_ipv6(),
        }
    }
}

impl Addr {
    pub(crate) fn ip(self) -> IpAddr {
        if self.v6 {
            Ipv6Addr::from(self.ip).into()
        } else {
            let [a, b, c, d, ..] = self.ip;
            [a, b, c, d].into()
        }
    }

    pub(crate) fn socket(self) -> SocketAddr {
        SocketAddr::new(self.ip(), u16::from_be_bytes(self.port))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_of_an_address_is_the_address() {
        for text in ["192.0.2.7:6881", "[2001:db8::7]:1", "[::ffff:192.0.2.7]:443"] {
            let addr: SocketAddr = text.parse().expect("an address");
            assert_eq!(Addr::from(addr).socket(), addr);
            assert_eq!(Addr::from(addr).ip(), addr.ip());
        }
        let [v4, mapped] = ["192.0.2.7:1", "[::ffff:192.0.2.7]:1"]
            .map(|text| Addr::from(text.parse::<SocketAddr>().expect("an address")));
        assert_ne!(v4, mapped);
        assert!(size_of::<Addr>() <= 19);
    }
}
