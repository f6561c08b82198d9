//! Arbitrary packets through each of them.

use std::net::SocketAddr;

use phantom_censor::catalogue;
use phantom_censor::craft::{dns_query, http_request};
use phantom_censor::engine::{Decision, Direction, Engine};
use phantom_censor::packet::{Header, Packet, TcpFlags};
use proptest::prelude::*;

use crate::play::*;

/// A packet among few hosts and ports, so that flows have more than one, with any header and any payload.
#[derive(Clone, Debug)]
struct Any {
    after_ns: u64,
    inward: bool,
    hosts: (u8, u8),
    ports: (u16, u16),
    udp: bool,
    bits: u8,
    seq: u32,
    payload: Vec<u8>,
    cut: u32,
}

fn any_packet() -> impl Strategy<Value = Any> {
    let payload = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..80),
        Just(hello(BLOCKED)),
        Just(hello(BLOCKED)[..60].to_vec()),
        Just(initial(BLOCKED)),
        Just(http_request("GET", "/", BLOCKED)),
        Just(dns_query(7, BLOCKED, 1)),
        Just(looks_encrypted(0)),
    ];
    let port = prop_oneof![Just(53), Just(80), Just(443), 442_u16..446];
    let seq = prop_oneof![Just(1_000_u32), Just(1_001), Just(u32::MAX), any::<u32>()];
    (
        (
            prop_oneof![Just(0), 0..SECOND, Just(70 * SECOND), Just(u64::MAX / 4)],
            any::<bool>(),
            (0_u8..3, 0_u8..3),
        ),
        (
            (port.clone(), port),
            any::<bool>(),
            any::<u8>(),
            seq,
            payload,
            prop_oneof![Just(0), any::<u32>()],
        ),
    )
        .prop_map(
            |((after_ns, inward, hosts), (ports, udp, bits, seq, payload, cut))| Any {
                after_ns,
                inward,
                hosts,
                ports,
                udp,
                bits,
                seq,
                payload,
                cut,
            },
        )
}

fn decisions(engine: &mut Engine, packets: &[Any]) -> Vec<Decision> {
    let mut at_ns = 0_u64;
    let bit = |packet: &Any, bit: u8| packet.bits >> bit & 1 == 1;
    let each = packets.iter().map(|packet| {
        at_ns = at_ns.saturating_add(packet.after_ns);
        let header = match packet.udp {
            true => Header::Udp,
            false => Header::Tcp {
                flags: TcpFlags {
                    fin: bit(packet, 0),
                    syn: bit(packet, 1),
                    rst: bit(packet, 2) && bit(packet, 3),
                    psh: bit(packet, 4),
                    ack: bit(packet, 5),
                },
                seq: packet.seq,
                ack: packet.seq,
                window: 1_000,
            },
        };
        let direction = match packet.inward {
            true => Direction::Inbound,
            false => Direction::Outbound,
        };
        let packet = Packet {
            source: SocketAddr::from(([10, 0, 0, packet.hosts.0], packet.ports.0)),
            destination: SocketAddr::from(([10, 0, 0, packet.hosts.1], packet.ports.1)),
            ttl: 64,
            header,
            payload: &packet.payload,
            payload_len: (packet.payload.len() as u32).saturating_add(packet.cut),
        };
        engine.decide(at_ns, direction, &packet)
    });
    each.collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// With every censor of the catalogue.
    #[test]
    fn arbitrary_packets_never_panic_and_get_the_same_verdicts_again(
        packets in proptest::collection::vec(any_packet(), 1..120),
        seed in any::<u64>(),
    ) {
        for censor in catalogue::catalogue().expect("good") {
            let once = decisions(&mut censor.engine(seed), &packets);
            let rules = censor.rules().len();
            prop_assert!(once.iter().all(|decision| decision.rule.is_none_or(|rule| rule < rules)));
            prop_assert_eq!(once, decisions(&mut censor.engine(seed), &packets), "{}", censor.name());
        }
    }
}
