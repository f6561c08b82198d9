//! A packet as bytes: IP, TCP or UDP, with the options that Linux sends and check sums.

use std::net::IpAddr;

use etherparse::{PacketBuilder, TcpOptionElement};
use phantom_path::tcp::MSS;

use crate::swarm::border::{Kind, Options, Protocol, Seen};

/// Hops that a packet has left.
const TTL: u8 = 64;
/// Windows are written in units of 2^7 bytes but for those of SYN and SYN-ACK, which say so (RFC 7323 §2).
const WINDOW_SHIFT: u8 = 7;
/// A segment is announced by what it carries without options: with time stamps, which take 12 bytes, it carries [`MSS`].
const MSS_ANNOUNCED: u16 = MSS + 12;

/// The packet with its headers; `None` if its addresses do not go together or it is too long.
pub(super) fn frame(seen: &Seen) -> Option<Vec<u8>> {
    let packet = &seen.packet;
    let ip = match (packet.src.ip(), packet.dst.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            PacketBuilder::ipv4(source.octets(), destination.octets(), TTL)
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            PacketBuilder::ipv6(source.octets(), destination.octets(), TTL)
        }
        _ => return None,
    };
    let (source, destination) = (packet.src.port(), packet.dst.port());
    let mut frame = Vec::with_capacity(packet.payload.len() + 100);
    let written = match packet.protocol {
        Protocol::Udp | Protocol::Dns => ip.udp(source, destination).write(&mut frame, &packet.payload),
        Protocol::Tcp => {
            let tcp = packet.tcp;
            let mut segment = ip.tcp(source, destination, tcp.seq, window(packet.kind, tcp.window));
            segment = match packet.kind {
                Kind::Syn => segment.syn(),
                Kind::SynAck => segment.syn().ack(tcp.ack),
                Kind::Reset => segment.rst().ack(tcp.ack),
                _ => segment.ack(tcp.ack),
            };
            if tcp.fin {
                segment = segment.fin();
            }
            if tcp.push {
                segment = segment.psh();
            }
            let segment = segment.options(&options(packet.kind, &seen.options)).ok()?;
            segment.write(&mut frame, &packet.payload)
        }
    };
    written.ok().map(|()| frame)
}

/// The field. It is rounded up: a sender that uses all of its window must not seem to go beyond it.
fn window(kind: Kind, bytes: u32) -> u16 {
    let field = match kind {
        Kind::Reset => 0,
        Kind::Syn | Kind::SynAck => bytes,
        _ => bytes.div_ceil(1 << WINDOW_SHIFT),
    };
    field.min(u16::MAX.into()) as u16
}

/// In Linux's order, aligned to four bytes.
fn options(kind: Kind, options: &Options) -> Vec<TcpOptionElement> {
    use TcpOptionElement::{
        MaximumSegmentSize, Noop, SelectiveAcknowledgement, SelectiveAcknowledgementPermitted, Timestamp,
        WindowScale,
    };
    let mut list = Vec::with_capacity(8);
    let stamps = options.stamps_ms.map(|(own, echo)| Timestamp(own, echo));
    if matches!(kind, Kind::Syn | Kind::SynAck) {
        list.push(MaximumSegmentSize(MSS_ANNOUNCED));
        if let Some(stamps) = stamps {
            list.extend([SelectiveAcknowledgementPermitted, stamps]);
        }
        list.extend([Noop, WindowScale(WINDOW_SHIFT)]);
        return list;
    }
    if let Some(stamps) = stamps {
        list.extend([Noop, Noop, stamps]);
    }
    if let [Some(first), more @ ..] = options.sacks {
        let mut rest = [None; 3];
        rest[..more.len()].copy_from_slice(&more);
        list.extend([Noop, Noop, SelectiveAcknowledgement(first, rest)]);
    }
    list
}
