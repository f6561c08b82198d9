//! A captured frame as addresses, ports, flags and a payload.
//!
//! Headers are read by `etherparse` (0.21 of 2026, MIT or Apache-2.0, no dependency but `arrayvec`, no allocation): it goes by
//! the lengths in IP headers where they are right, bears a frame that was cut when it was captured, and walks IPv6 extension
//! headers. Link layers that it does not know are taken off here first. Fragments are named and not looked into.

mod link;

use std::net::{IpAddr, SocketAddr};

use etherparse::{LaxNetSlice, LaxSlicedPacket, TransportSlice};

pub use link::LinkType;

/// Flags of a TCP segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpFlags {
    /// No more data from the sender.
    pub fin: bool,
    /// Opens.
    pub syn: bool,
    /// Aborts.
    pub rst: bool,
    /// Deliver at once.
    pub psh: bool,
    /// The acknowledgement counts.
    pub ack: bool,
}

/// The transport header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// TCP.
    Tcp {
        /// Flags.
        flags: TcpFlags,
        /// Sequence number of the first byte.
        seq: u32,
        /// Acknowledgement number.
        ack: u32,
        /// Window as sent, without its scale.
        window: u16,
    },
    /// UDP.
    Udp,
}

/// A TCP segment or a UDP datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Address and port of the sender.
    pub source: SocketAddr,
    /// Address and port of the receiver.
    pub destination: SocketAddr,
    /// TTL or hop limit.
    pub ttl: u8,
    /// The transport header.
    pub header: Header,
    /// As much of the payload as was captured.
    pub payload: &'a [u8],
    /// Bytes of the payload on the wire.
    pub payload_len: u32,
}

impl Packet<'_> {
    /// Bytes of the IP packet, with the headers that are usual: TCP's with time stamps.
    pub fn wire_bytes(&self) -> u32 {
        let network = if self.source.is_ipv4() { 20 } else { 40 };
        let transport = match self.header {
            Header::Tcp { .. } => 32,
            Header::Udp => 8,
        };
        self.payload_len.saturating_add(network + transport)
    }
}

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A TCP segment or a UDP datagram.
    Packet(Packet<'a>),
    /// A fragment of an IP packet, the first one too: its payload is not whole.
    Fragment {
        /// Sender.
        source: IpAddr,
        /// Receiver.
        destination: IpAddr,
        /// Protocol number of what was fragmented.
        protocol: u8,
    },
    /// IP that carries neither TCP nor UDP.
    OtherProtocol(u8),
    /// No IP: ARP, LLDP, …
    NotIp,
}

/// Why a frame cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The link type is not known here.
    #[error("link type {0} is not read here; those that are: {all}", all = LinkType::list())]
    UnknownLink(u32),
    /// A header is cut off or contradicts itself.
    #[error("a header is cut off or contradicts itself")]
    Malformed,
}

/// Reads a frame that was captured on a link of a type.
///
/// # Errors
/// The frame is malformed.
pub fn parse(link: LinkType, frame: &[u8]) -> Result<Frame<'_>, FrameError> {
    let sliced = match link::network(link, frame)? {
        link::Network::Ethernet => {
            LaxSlicedPacket::from_ethernet(frame).map_err(|_| FrameError::Malformed)?
        }
        link::Network::EtherType(kind, rest) => LaxSlicedPacket::from_ether_type(kind.into(), rest),
        link::Network::Ip(rest) => LaxSlicedPacket::from_ip(rest).map_err(|_| FrameError::Malformed)?,
        link::Network::Other => return Ok(Frame::NotIp),
    };
    let (source, destination, ttl, payload, protocol_len): (IpAddr, IpAddr, u8, _, usize) = match &sliced.net
    {
        Some(LaxNetSlice::Ipv4(ip)) => {
            let header = ip.header();
            let len = usize::from(header.total_len());
            (
                header.source_addr().into(),
                header.destination_addr().into(),
                header.ttl(),
                ip.payload(),
                len.saturating_sub(header.slice().len()),
            )
        }
        Some(LaxNetSlice::Ipv6(ip)) => {
            let header = ip.header();
            (
                header.source_addr().into(),
                header.destination_addr().into(),
                header.hop_limit(),
                ip.payload(),
                usize::from(header.payload_length()).saturating_sub(ip.extensions().slice().len()),
            )
        }
        Some(LaxNetSlice::Arp(_)) => return Ok(Frame::NotIp),
        None if sliced.stop_err.is_some() => return Err(FrameError::Malformed),
        None => return Ok(Frame::NotIp),
    };
    if payload.fragmented {
        return Ok(Frame::Fragment {
            source,
            destination,
            protocol: payload.ip_number.0,
        });
    }
    // Offloading leaves the length 0 in what is captured on the sender; the frame's own length then counts.
    let on_wire = if payload.incomplete {
        protocol_len.max(payload.payload.len())
    } else {
        payload.payload.len()
    };
    let (ports, header, header_len, bytes) = match &sliced.transport {
        Some(TransportSlice::Tcp(tcp)) => {
            let flags = TcpFlags {
                fin: tcp.fin(),
                syn: tcp.syn(),
                rst: tcp.rst(),
                psh: tcp.psh(),
                ack: tcp.ack(),
            };
            let header = Header::Tcp {
                flags,
                seq: tcp.sequence_number(),
                ack: tcp.acknowledgment_number(),
                window: tcp.window_size(),
            };
            let ports = (tcp.source_port(), tcp.destination_port());
            (ports, header, tcp.header_slice().len(), tcp.payload())
        }
        Some(TransportSlice::Udp(udp)) => {
            let ports = (udp.source_port(), udp.destination_port());
            (ports, Header::Udp, udp.header_slice().len(), udp.payload())
        }
        Some(_) => return Ok(Frame::OtherProtocol(payload.ip_number.0)),
        None if sliced.stop_err.is_some() => return Err(FrameError::Malformed),
        None => return Ok(Frame::OtherProtocol(payload.ip_number.0)),
    };
    Ok(Frame::Packet(Packet {
        source: SocketAddr::new(source, ports.0),
        destination: SocketAddr::new(destination, ports.1),
        ttl,
        header,
        payload: bytes,
        // An IP packet has at most 65,535 bytes, and a frame 262,144.
        payload_len: u32::try_from(on_wire.saturating_sub(header_len).max(bytes.len())).unwrap_or(u32::MAX),
    }))
}

#[cfg(test)]
mod tests;
