//! Arbitrary bytes as packets between few hosts and ports, so that flows have more than one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use phantom_censor::engine::{Decision, Direction, Engine};
use phantom_censor::packet::{Header, Packet, TcpFlags};

/// Packets at most: what is looked for needs few.
pub(crate) const PACKETS_MAX: usize = 64;
/// Bytes of a packet before its payload: see [`packets`].
const HEAD: usize = 10;

/// A packet with its time and direction.
pub(crate) struct Crossing<'a> {
    at_ns: u64,
    direction: Direction,
    packet: Packet<'a>,
}

/// Each packet is ten bytes and a payload: how long it waits (in steps of 2^30 ns, squared), bits (inward, IPv6, UDP, hosts), its two ports
/// (of eight), TCP's flags, four bytes of sequence number, and two of the payload's length, of which the highest bit says that it was
/// cut when it was captured.
pub(crate) fn packets(mut rest: &[u8]) -> Vec<Crossing<'_>> {
    let mut packets = Vec::new();
    let mut at_ns = 0_u64;
    while let Some((head, behind)) = rest.split_first_chunk::<HEAD>() {
        if packets.len() == PACKETS_MAX {
            break;
        }
        let [waits, bits, ports, flags, s0, s1, s2, s3, high, low] = *head;
        let len = usize::from(u16::from_be_bytes([high & 0x7F, low])).min(behind.len());
        let (payload, next) = behind.split_at(len);
        rest = next;
        at_ns = at_ns.saturating_add((u64::from(waits) * u64::from(waits)) << 30);
        let host = |n: u8| match bits >> 1 & 1 {
            0 => IpAddr::V4(Ipv4Addr::new(10, 0, 0, n)),
            _ => IpAddr::V6(Ipv6Addr::new(0xFD00, 0, 0, 0, 0, 0, 0, n.into())),
        };
        let port = |n: u8| [53, 80, 443, 444, 853, 9_001, 40_000, u16::MAX][usize::from(n & 7)];
        let seq = u32::from_be_bytes([s0, s1, s2, s3]);
        let header = match bits >> 2 & 1 {
            0 => Header::Tcp {
                flags: TcpFlags {
                    fin: flags & 1 > 0,
                    syn: flags & 2 > 0,
                    rst: flags & 4 > 0,
                    psh: flags & 8 > 0,
                    ack: flags & 16 > 0,
                },
                seq,
                ack: seq,
                window: 1_000,
            },
            _ => Header::Udp,
        };
        packets.push(Crossing {
            at_ns,
            direction: match bits & 1 {
                0 => Direction::Outbound,
                _ => Direction::Inbound,
            },
            packet: Packet {
                source: SocketAddr::new(host(bits >> 3 & 1), port(ports)),
                destination: SocketAddr::new(host(2 + (bits >> 4 & 1)), port(ports >> 4)),
                ttl: 64,
                header,
                payload,
                payload_len: (payload.len() as u32).saturating_add(match high >> 7 {
                    0 => 0,
                    _ => seq,
                }),
            },
        });
    }
    packets
}

/// What a censor makes of them: rules that it has, and the same each time.
pub(crate) fn decisions(engine: &mut Engine, packets: &[Crossing<'_>]) -> Vec<Decision> {
    let rules = engine.rules().len();
    let each = packets.iter().map(|crossing| {
        let decision = engine.decide(crossing.at_ns, crossing.direction, &crossing.packet);
        assert!(decision.rule.is_none_or(|rule| rule < rules));
        let _ = engine.take_suspects();
        decision
    });
    each.collect()
}

/// A packet as [`packets`] reads it, for seeds.
pub(crate) fn packet(bits: u8, ports: u8, flags: u8, seq: u32, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![1, bits, ports, flags];
    packet.extend(seq.to_be_bytes());
    packet.extend((payload.len() as u16).to_be_bytes());
    packet.extend(payload);
    packet
}
