use std::net::SocketAddr;

use proptest::prelude::*;

use super::*;
use crate::classify::fet::Variant;
use crate::classify::quic::Version;
use crate::craft::{Hello, dns_query, http_request, quic_initial, tls_records};
use crate::engine::addresses::Addresses;
use crate::engine::names::Names;
use crate::engine::{Engine, EngineConfig};
use crate::packet::{Header, Packet, TcpFlags};

fn end(ipv4: bool, client: bool, port: u16) -> SocketAddr {
    let host = match (ipv4, client) {
        (true, true) => IpAddr::from([10, 0, 0, 1]),
        (true, false) => IpAddr::from([192, 0, 2, 1]),
        (false, true) => IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 1]),
        (false, false) => IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1]),
    };
    SocketAddr::new(host, port)
}

/// What a client says first, and over what.
fn first_packets() -> Vec<(Transport, Vec<u8>)> {
    let hello = Hello::to("a.example");
    vec![
        (Transport::Tcp, tls_records(&hello.message(), 1 << 14)),
        (Transport::Tcp, http_request("GET", "/", "a.example")),
        (Transport::Tcp, b"SSH-2.0-OpenSSH_9.6\r\n".to_vec()),
        (
            Transport::Tcp,
            (0..400_u32).map(|n| ((n * n * 167) >> 3) as u8).collect(),
        ),
        (Transport::Udp, dns_query(7, "a.example", 1)),
        (
            Transport::Udp,
            quic_initial(Version::V1, &[1; 8], &[(0, &hello.message())]),
        ),
        (Transport::Udp, hello.dtls()),
        (Transport::Udp, vec![0x80; 300]),
    ]
}

fn any_condition() -> impl Strategy<Value = Condition> {
    let set = |ipv4: bool, client: bool| [end(ipv4, client, 1).ip()].into_iter().collect::<Addresses>();
    let protocols = [
        Protocol::Tls,
        Protocol::Quic,
        Protocol::Dtls,
        Protocol::Http,
        Protocol::Ssh,
        Protocol::Dns,
    ];
    let mut leaves = vec![
        Condition::Opened(Direction::Outbound),
        Condition::Opened(Direction::Inbound),
        Condition::Transport(Transport::Tcp),
        Condition::Transport(Transport::Udp),
        Condition::ServerPort(vec![443..=443, 53..=53]),
        Condition::ServerPort(vec![65_535..=65_535]),
        Condition::SourcePortAbove,
        Condition::Unlike([Protocol::Tls, Protocol::Dns].into(), 1),
        Condition::Unlike([Protocol::Http].into(), 2),
        Condition::Name(Names::from_iter(["a.example"])),
        Condition::Flagged(Variant::Paper),
        Condition::FirstPacketLen(100..=500),
        Condition::FirstPacketLen(20..=25),
        Condition::FirstPacketMod16(0b1111_0000_1010_0001),
        Condition::FirstPacketMod16(0b0000_1111_0101_1110),
        Condition::Packets(Way::Both, 0),
    ];
    for (ipv4, client) in [(true, true), (true, false), (false, true), (false, false)] {
        leaves.push(Condition::Client(set(ipv4, client)));
        leaves.push(Condition::Server(set(ipv4, client)));
    }
    leaves.extend(protocols.map(Condition::Protocol));
    proptest::sample::select(leaves).prop_recursive(2, 6, 3, |inner| {
        prop_oneof![
            inner.clone().prop_map(|one| Condition::Not(Box::new(one))),
            prop::collection::vec(inner.clone(), 1..3).prop_map(Condition::All),
            prop::collection::vec(inner, 1..3).prop_map(Condition::Any),
        ]
    })
}

/// Whether a flow that says this first meets a rule with these conditions, in any of its packets.
fn meets(
    all: &[Condition],
    opened: Direction,
    transport: Transport,
    first: &[u8],
    ipv4: bool,
    ports: (u16, u16),
) -> bool {
    let rule = Rule {
        all: all.to_vec(),
        ..Rule::new("r")
    };
    let mut engine = Engine::new(EngineConfig::default(), vec![rule]);
    let (client, server) = (end(ipv4, true, ports.0), end(ipv4, false, ports.1));
    let mut packet = |at_ns, flags: TcpFlags, seq, payload: &[u8]| {
        let header = match transport {
            Transport::Tcp => Header::Tcp {
                flags,
                seq,
                ack: 0,
                window: 1_000,
            },
            Transport::Udp => Header::Udp,
        };
        let packet = Packet {
            source: client,
            destination: server,
            ttl: 64,
            header,
            payload,
            payload_len: payload.len() as u32,
        };
        engine.decide(at_ns, opened, &packet);
    };
    if transport == Transport::Tcp {
        let syn = TcpFlags {
            syn: true,
            ..TcpFlags::default()
        };
        packet(0, syn, 1_000, &[]);
    }
    let ack = TcpFlags {
        ack: true,
        ..TcpFlags::default()
    };
    packet(1, ack, 1_001, first);
    packet(2, ack, 1_001 + first.len() as u32, b"more");
    engine.counts()[0].met > 0
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// What is called a contradiction is one: no flow of any sort meets it.
    #[test]
    fn a_rule_that_a_flow_meets_is_never_refused(all in prop::collection::vec(any_condition(), 1..4)) {
        let rule = Rule { all: all.clone(), ..Rule::new("r") };
        if rule.check_sense().is_ok() {
            return Ok(());
        }
        for (transport, first) in first_packets() {
            for opened in [Direction::Outbound, Direction::Inbound] {
                for ipv4 in [true, false] {
                    for ports in [(40_000, 443), (40_000, 53), (40_000, 65_535), (65_535, 65_535), (20, 443)] {
                        prop_assert!(!meets(&all, opened, transport, &first, ipv4, ports), "{all:?} {transport:?} {ports:?}");
                    }
                }
            }
        }
    }

    /// A rule that hides another lets it act on no flow.
    #[test]
    fn a_rule_behind_one_that_hides_it_is_never_met(
        first in prop::collection::vec(any_condition(), 0..3),
        more in prop::collection::vec(any_condition(), 0..2),
    ) {
        let before = Rule { all: first.clone(), ..Rule::new("before") };
        let behind = Rule { all: [first, more].concat(), ..Rule::new("behind") };
        prop_assert!(before.hides(&behind));
        for (transport, first) in first_packets() {
            let mut engine = Engine::new(EngineConfig::default(), vec![before.clone(), behind.clone()]);
            for (n, port) in [443, 53, 65_535].into_iter().enumerate() {
                let header = match transport {
                    Transport::Tcp => Header::Tcp { flags: TcpFlags { ack: true, ..TcpFlags::default() }, seq: 1, ack: 0, window: 1_000 },
                    Transport::Udp => Header::Udp,
                };
                let packet = Packet {
                    source: end(true, true, 40_000),
                    destination: end(true, false, port),
                    ttl: 64,
                    header,
                    payload: &first,
                    payload_len: first.len() as u32,
                };
                engine.decide(n as u64, Direction::Outbound, &packet);
            }
            prop_assert_eq!(engine.counts()[1].met, 0);
        }
    }
}

#[test]
fn a_ja4_is_told_from_what_is_none() {
    assert!(is_ja4("t13d1516h2_8daaf6152771_b186095e22b6"));
    assert!(is_ja4("q13d0310h3_55b375c5d22e_cd85d2d88918"));
    for none in [
        "",
        "nonsense",
        "t13d1516h2_8daaf6152771",
        "x13d1516h2_8daaf6152771_b186095e22b6",
        "t13d1516h2_8DAAF6152771_b186095e22b6",
    ] {
        assert!(!is_ja4(none), "{none}");
    }
}
