//! The engine of `phantom_censor` at the border of a world: the same rules that judge a capture judge simulated packets.

use std::time::Duration;

use phantom_censor::engine::{self, Engine};
use phantom_censor::packet::{Header, Packet as Wire, TcpFlags};
use phantom_core::units::Instant;

use crate::swarm::border::{Direction, Kind, Middlebox, Packet, Protocol, Verdict};

/// Hops that a packet has left at the border: nothing here looks at it.
const TTL: u8 = 64;

/// An engine as a [`Middlebox`].
pub struct OnPath {
    /// The engine, for its counters and lists.
    pub engine: Engine,
}

impl OnPath {
    /// At the border stands this engine.
    pub const fn new(engine: Engine) -> Self {
        Self { engine }
    }
}

impl Middlebox for OnPath {
    fn on_packet(&mut self, now: Instant, packet: &Packet) -> Verdict {
        let direction = match packet.direction {
            Direction::Outbound => engine::Direction::Outbound,
            Direction::Inbound => engine::Direction::Inbound,
        };
        match self
            .engine
            .decide(now.as_nanos(), direction, &wire(packet))
            .verdict
        {
            engine::Verdict::Pass => Verdict::Pass,
            engine::Verdict::Drop => Verdict::Drop,
            engine::Verdict::Reset { client, server } => Verdict::Reset { client, server },
            engine::Verdict::Delay(ns) => Verdict::Delay(Duration::from_nanos(ns)),
            engine::Verdict::Forge(addresses) => Verdict::ForgeDns {
                addresses,
                truth_follows: true,
            },
        }
    }
}

/// The packet as it would be read off a wire.
fn wire(packet: &Packet) -> Wire<'_> {
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
