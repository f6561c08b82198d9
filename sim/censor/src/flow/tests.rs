//! Claims about flows.

use proptest::prelude::*;

use super::*;
use crate::craft::{self, Hello};
use crate::packet::{Frame, LinkType, parse};

const S: u64 = 1_000_000_000;

fn flags(text: &str) -> TcpFlags {
    TcpFlags {
        fin: text.contains('F'),
        syn: text.contains('S'),
        rst: text.contains('R'),
        psh: text.contains('P'),
        ack: text.contains('A'),
    }
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// A table, and the flows that are over.
struct Fixture {
    table: FlowTable,
    over: Vec<Flow>,
}

impl Fixture {
    fn new(config: FlowConfig) -> Self {
        Self {
            table: FlowTable::new(config),
            over: Vec::new(),
        }
    }

    fn add(&mut self, at_ns: u64, ip: &[u8]) -> &mut Self {
        let Ok(Frame::Packet(packet)) = parse(LinkType::RawIp, ip) else {
            panic!("no packet");
        };
        self.table.add(at_ns, &packet, |flow| self.over.push(flow));
        self
    }

    /// A segment of the client, 192.0.2.1:40000, or of the server, 198.51.100.2:443.
    fn tcp(&mut self, at_ns: u64, up: bool, kind: &str, seq: u32, payload: &[u8]) -> &mut Self {
        let (client, server) = (address("192.0.2.1:40000"), address("198.51.100.2:443"));
        let (from, to) = if up { (client, server) } else { (server, client) };
        let ip = craft::tcp(from, to, flags(kind), seq, 0, payload);
        self.add(at_ns, &ip)
    }

    fn finish(mut self) -> Vec<Flow> {
        self.table.finish(|flow| self.over.push(flow));
        self.over
    }
}

fn only(flows: Vec<Flow>) -> Flow {
    let [flow] = <[Flow; 1]>::try_from(flows).expect("one flow");
    flow
}

#[test]
fn the_client_is_the_sender_of_the_syn_whatever_packet_comes_first() {
    let client = address("192.0.2.1:40000");
    let mut normal = Fixture::new(FlowConfig::default());
    normal
        .tcp(0, true, "S", 9, b"")
        .tcp(1, false, "SA", 99, b"")
        .tcp(2, true, "A", 10, b"hi");
    let normal = only(normal.finish());
    assert_eq!((normal.client(), normal.syn), (client, true));
    assert_eq!(
        (normal.up.packets, normal.down.packets, normal.up.bytes),
        (2, 1, 2)
    );

    let mut from_syn_ack = Fixture::new(FlowConfig::default());
    from_syn_ack
        .tcp(0, false, "SA", 99, b"")
        .tcp(1, true, "A", 10, b"hi");
    assert_eq!(only(from_syn_ack.finish()).client(), client);

    let mut midway = Fixture::new(FlowConfig::default());
    midway.tcp(0, true, "A", 10, b"hi").tcp(1, false, "A", 99, b"ho");
    let midway = only(midway.finish());
    assert_eq!((midway.client(), midway.syn), (client, false));
}

#[test]
fn first_bytes_are_kept_in_order_and_once() {
    // Around the end of the numbers.
    for isn in [9, u32::MAX - 3] {
        let at = |offset: u32| isn.wrapping_add(1 + offset);
        let mut fixture = Fixture::new(FlowConfig::default());
        fixture
            .tcp(0, true, "S", isn, b"")
            .tcp(1, true, "S", isn, b"")
            .tcp(2, true, "PA", at(0), b"abcd")
            .tcp(3, true, "PA", at(0), b"abcd")
            .tcp(4, true, "A", at(3), b"d")
            .tcp(5, true, "PA", at(2), b"cdef")
            .tcp(6, true, "PA", at(6), b"gh");
        let flow = only(fixture.finish());
        assert_eq!(flow.up.first(), b"abcdefgh");
        assert_eq!((flow.up.first_packet().len(), flow.up.gap), (4, false));
        assert_eq!(flow.up.bytes, 4 + 4 + 1 + 4 + 2);
        assert_eq!(flow.measured().expect("a packet").len, 4);
    }
}

#[test]
fn a_missing_segment_is_a_gap_and_nothing_is_kept_behind_it() {
    let mut fixture = Fixture::new(FlowConfig::default());
    fixture
        .tcp(0, true, "S", 0, b"")
        .tcp(1, true, "A", 1, b"ab")
        .tcp(2, true, "A", 5, b"ef")
        .tcp(3, true, "A", 7, b"gh");
    let flow = only(fixture.finish());
    assert_eq!((flow.up.first(), flow.up.gap), (&b"ab"[..], true));
}

#[test]
fn data_in_the_syn_is_the_first_packet() {
    let mut fixture = Fixture::new(FlowConfig::default());
    fixture
        .tcp(0, true, "S", 0, b"open")
        .tcp(1, true, "A", 5, b"more");
    let flow = only(fixture.finish());
    assert_eq!(
        (flow.up.first(), flow.up.first_packet().len()),
        (&b"openmore"[..], 4)
    );
}

#[test]
fn kept_bytes_are_bounded_and_the_rule_on_the_first_packet_sees_all_of_it() {
    let config = FlowConfig {
        client_bytes_max: 100,
        ..FlowConfig::default()
    };
    let mut fixture = Fixture::new(config);
    fixture
        .tcp(0, true, "S", 0, b"")
        .tcp(1, true, "A", 1, &[0x91; 1000])
        .tcp(2, true, "A", 1001, &[0x92; 1000]);
    let flow = only(fixture.finish());
    assert_eq!((flow.up.first().len(), flow.up.first_packet().len()), (100, 100));
    assert_eq!(flow.measured().expect("a packet").len, 1000);
    assert_eq!(flow.labels().first_packet_len, 1000);
}

#[test]
fn a_hello_in_two_segments_is_named_and_marked_as_split() {
    let hello = craft::tls_records(&Hello::to("example.org").message(), 16_384);
    let mut fixture = Fixture::new(FlowConfig::default());
    fixture
        .tcp(0, true, "S", 0, b"")
        .tcp(1, true, "A", 1, &hello[..60])
        .tcp(2, true, "A", 61, &hello[60..]);
    let labels = only(fixture.finish()).labels();
    assert_eq!(
        (labels.name.as_deref(), labels.split),
        (Some("example.org"), true)
    );
}

#[test]
fn a_new_connection_on_old_ports_is_a_flow_of_its_own() {
    let mut fixture = Fixture::new(FlowConfig::default());
    fixture
        .tcp(0, true, "S", 100, b"")
        .tcp(1, true, "A", 101, b"one")
        .tcp(2, true, "FA", 104, b"")
        .tcp(3, true, "S", 7000, b"")
        .tcp(4, true, "A", 7001, b"two");
    let flows = fixture.finish();
    let got: Vec<_> = flows.iter().map(|flow| (flow.up.first(), flow.end)).collect();
    assert_eq!(
        got,
        [
            (&b"one"[..], Some(End::Reused)),
            (&b"two"[..], Some(End::Capture))
        ]
    );
}

#[test]
fn idle_flows_end_and_a_packet_after_that_begins_another() {
    let config = FlowConfig {
        idle_ns: 10 * S,
        ..FlowConfig::default()
    };
    let mut fixture = Fixture::new(config);
    fixture
        .tcp(0, true, "A", 1, b"a")
        .tcp(10 * S, true, "A", 2, b"b")
        .tcp(21 * S, true, "A", 3, b"c");
    let ends: Vec<_> = fixture
        .finish()
        .iter()
        .map(|flow| (flow.up.packets, flow.end))
        .collect();
    assert_eq!(ends, [(2, Some(End::Idle)), (1, Some(End::Capture))]);
}

#[test]
fn a_full_table_forgets_the_flow_that_was_idle_longest_and_says_so() {
    let config = FlowConfig {
        flows_max: 2,
        ..FlowConfig::default()
    };
    let mut fixture = Fixture::new(config);
    let datagram = |port: u16| {
        craft::udp(
            SocketAddr::new([192, 0, 2, 1].into(), port),
            address("192.0.2.9:53"),
            b"x",
        )
    };
    // The first is used again, so the second is the oldest.
    for (at, port) in [(0, 1), (1, 2), (2, 1), (3, 3)] {
        fixture.add(at, &datagram(port));
    }
    assert_eq!((fixture.table.len(), fixture.table.forgotten()), (2, 1));
    let got: Vec<_> = fixture
        .finish()
        .iter()
        .map(|flow| (flow.client().port(), flow.end.map(End::name)))
        .collect();
    assert_eq!(
        got,
        [(2, Some("forgotten")), (1, Some("capture")), (3, Some("capture"))]
    );
}

#[test]
fn a_closed_flow_that_makes_room_is_not_forgotten() {
    for goodbye in ["FA", "R"] {
        let config = FlowConfig {
            flows_max: 1,
            ..FlowConfig::default()
        };
        let mut fixture = Fixture::new(config);
        fixture.tcp(0, true, "S", 0, b"").tcp(1, true, "FA", 1, b"");
        fixture.tcp(2, false, goodbye, 0, b"");
        let (from, to) = (address("192.0.2.1:1"), address("192.0.2.9:53"));
        fixture.add(3, &craft::udp(from, to, b"x"));
        assert_eq!(fixture.table.forgotten(), 0);
        let ends: Vec<_> = fixture.finish().iter().map(|flow| flow.end).collect();
        assert_eq!(ends, [Some(End::Closed), Some(End::Capture)]);
    }
}

#[test]
fn time_that_goes_back_neither_ends_a_flow_nor_panics() {
    let mut fixture = Fixture::new(FlowConfig::default());
    fixture
        .tcp(500 * S, true, "A", 1, b"a")
        .tcp(S, true, "A", 2, b"b")
        .tcp(501 * S, true, "A", 3, b"c");
    assert_eq!(only(fixture.finish()).up.first(), b"abc");
}

#[test]
fn tcp_and_udp_and_both_versions_of_ip_are_flows_of_their_own() {
    let mut fixture = Fixture::new(FlowConfig::default());
    let (a, b) = (address("0.0.0.1:5"), address("0.0.0.2:6"));
    let (a6, b6) = (address("[::1]:5"), address("[::2]:6"));
    fixture
        .add(0, &craft::udp(a, b, b"x"))
        .add(1, &craft::tcp(a, b, flags("A"), 1, 1, b"x"))
        .add(2, &craft::udp(a6, b6, b"x"))
        .add(3, &craft::udp(b, a, b"x"));
    let flows = fixture.finish();
    assert_eq!(flows.len(), 3);
    assert_eq!((flows[0].up.packets, flows[0].down.packets), (1, 1));
}

proptest! {
    /// Whatever comes: every packet is counted once, bounds hold, and the same packets give the same flows.
    #[test]
    fn every_packet_is_counted_in_one_flow_within_the_bounds(
        steps in prop::collection::vec((0..5_u64, any::<bool>(), 0..6_u16, 0..32_u8, 0..40_u32, 0..30_usize), 1..120),
    ) {
        let config = FlowConfig { flows_max: 3, idle_ns: 9, client_bytes_max: 16, server_bytes_max: 8 };
        let run = || {
            let mut fixture = Fixture::new(config);
            let mut now = 0;
            for (wait, up, port, bits, seq, len) in &steps {
                now += wait;
                let flags = TcpFlags { fin: bits & 1 > 0, syn: bits & 2 > 0, rst: bits & 4 > 0, psh: false, ack: bits & 16 > 0 };
                let (a, b) = (SocketAddr::new([10, 0, 0, 1].into(), 1000 + port), address("10.0.0.2:443"));
                let (from, to) = if *up { (a, b) } else { (b, a) };
                fixture.add(now, &craft::tcp(from, to, flags, *seq, 0, &vec![*bits; *len]));
                assert!(fixture.table.len() <= 3);
            }
            fixture.finish()
        };
        let flows = run();
        let packets: u64 = flows.iter().map(|flow| flow.up.packets + flow.down.packets).sum();
        let bytes: u64 = flows.iter().map(|flow| flow.up.bytes + flow.down.bytes).sum();
        prop_assert_eq!(packets, steps.len() as u64);
        prop_assert_eq!(bytes, steps.iter().map(|step| step.5 as u64).sum::<u64>());
        for flow in &flows {
            prop_assert!(flow.up.first().len() <= 16 && flow.down.first().len() <= 8);
            prop_assert!(flow.up.first_packet().len() <= flow.up.first().len());
        }
        prop_assert_eq!(flows, run());
    }
}

/// A border holds tens of thousands of them at once.
#[test]
fn a_flow_takes_at_most_168_bytes_beside_its_first_bytes() {
    assert!(size_of::<Flow>() <= 168, "{}", size_of::<Flow>());
}
