//! A packet of a simulated world as the censor's engine reads packets off a wire.

use phantom_censor::engine::Direction;
use phantom_censor::packet::{Header, Packet as Wire, TcpFlags};

use crate::swarm::border::{self, Kind, Packet, Protocol};

/// Hops that a packet has left at the border: nothing here looks at it.
const TTL: u8 = 64;

/// The packet as it would be read off a wire.
pub(super) fn wire(packet: &Packet) -> Wire<'_> {
    let header = match packet.protocol {
        Protocol::Udp | Protocol::Dns => Header::Udp,
        Protocol::Tcp => Header::Tcp {
            flags: TcpFlags {
                syn: matches!(packet.kind, Kind::Syn | Kind::SynAck),
                ack: packet.kind != Kind::Syn,
                rst: packet.kind == Kind::Reset,
                fin: packet.tcp.fin,
                psh: packet.tcp.push,
            },
            seq: packet.tcp.seq,
            ack: packet.tcp.ack,
            window: packet.tcp.window.min(u16::MAX.into()) as u16,
        },
    };
    Wire {
        source: packet.src,
        destination: packet.dst,
        ttl: TTL,
        header,
        payload: &packet.payload,
        payload_len: u32::try_from(packet.payload.len()).unwrap_or(u32::MAX),
    }
}

/// Which way it crosses, in the engine's words.
pub(super) const fn direction(packet: &Packet) -> Direction {
    match packet.direction {
        border::Direction::Outbound => Direction::Outbound,
        border::Direction::Inbound => Direction::Inbound,
    }
}
