//! Link types, by the numbers of <https://www.tcpdump.org/linktypes.html>.

use super::FrameError;

/// A link type that is read here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LinkType {
    /// 0: BSD loopback, the address family first in the byte order of the host that captured.
    Null,
    /// 1: Ethernet, with VLAN tags if there are any.
    Ethernet,
    /// 101: IP, whose version tells which; 228 and 229 are the same with one version alone.
    RawIp,
    /// 108: OpenBSD loopback, the address family first in network byte order.
    Loop,
    /// 113: Linux "any" device, cooked.
    LinuxSll,
    /// 276: the same, version 2.
    LinuxSll2,
}

impl LinkType {
    /// The type with a number.
    ///
    /// # Errors
    /// It is not read here.
    pub const fn from_number(number: u32) -> Result<Self, FrameError> {
        match number {
            0 => Ok(Self::Null),
            1 => Ok(Self::Ethernet),
            // 12 and 14 are what some systems write for 101.
            12 | 14 | 101 | 228 | 229 => Ok(Self::RawIp),
            108 => Ok(Self::Loop),
            113 => Ok(Self::LinuxSll),
            276 => Ok(Self::LinuxSll2),
            _ => Err(FrameError::UnknownLink(number)),
        }
    }

    /// Those that are read, for messages.
    pub(super) const fn list() -> &'static str {
        "0 (loopback), 1 (Ethernet), 101, 228, 229 (raw IP), 108 (OpenBSD loopback), 113 and 276 (Linux cooked)"
    }
}

/// What follows the link's header.
pub(super) enum Network<'a> {
    /// The frame is Ethernet from its first byte.
    Ethernet,
    /// An EtherType and what it announces.
    EtherType(u16, &'a [u8]),
    /// IP of the version that its first byte tells.
    Ip(&'a [u8]),
    /// No IP.
    Other,
}

/// Takes the link's header off.
pub(super) fn network(link: LinkType, frame: &[u8]) -> Result<Network<'_>, FrameError> {
    let short = FrameError::Malformed;
    Ok(match link {
        LinkType::Ethernet => Network::Ethernet,
        LinkType::RawIp => Network::Ip(frame),
        LinkType::Null | LinkType::Loop => {
            let (family, rest) = frame.split_first_chunk::<4>().ok_or(short)?;
            // Families are small, so the byte order shows. 24, 28 and 30 are IPv6 on the BSDs and on macOS, 10 on Linux.
            match u32::from_le_bytes(*family).min(u32::from_be_bytes(*family)) {
                2 | 10 | 24 | 28 | 30 => Network::Ip(rest),
                _ => Network::Other,
            }
        }
        LinkType::LinuxSll => {
            let (header, rest) = frame.split_first_chunk::<16>().ok_or(short)?;
            cooked([header[2], header[3]], [header[14], header[15]], rest)
        }
        LinkType::LinuxSll2 => {
            let (header, rest) = frame.split_first_chunk::<20>().ok_or(short)?;
            cooked([header[8], header[9]], [header[0], header[1]], rest)
        }
    })
}

/// The protocol field is an EtherType unless the device's type gives it another meaning (netlink, 802.11 radio, …).
fn cooked(device: [u8; 2], protocol: [u8; 2], rest: &[u8]) -> Network<'_> {
    /// ARPHRD_NETLINK, ARPHRD_IPGRE, ARPHRD_IEEE80211_RADIOTAP, ARPHRD_FRAD.
    const OTHER: [u16; 4] = [824, 778, 803, 770];
    let (device, protocol) = (u16::from_be_bytes(device), u16::from_be_bytes(protocol));
    // Below 1536 it is no EtherType but a frame type of Linux.
    if protocol < 1536 || OTHER.contains(&device) {
        Network::Other
    } else {
        Network::EtherType(protocol, rest)
    }
}
