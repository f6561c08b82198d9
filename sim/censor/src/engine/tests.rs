mod blocks;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::addresses::Addresses;
use super::names::Names;
use super::residual::{Residual, Tuple};
use super::rule::{ALWAYS, Action, Bucket, Condition, Forgery, Rule, RuleError, Way};
use super::*;
use crate::classify::fet::Variant;
use crate::classify::{Protocol, Transport};
use crate::craft::{Hello, tls_records};
use crate::packet::{Header, TcpFlags};

const SECOND: u64 = 1_000_000_000;

fn client(n: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], 40_000 + n))
}

fn server(n: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, n], 443))
}

/// A connection that a test plays, packet by packet.
struct Talk {
    client: SocketAddr,
    server: SocketAddr,
    seq: [u32; 2],
}

impl Talk {
    fn new(client: SocketAddr, server: SocketAddr) -> Self {
        Self {
            client,
            server,
            seq: [1_000, 9_000],
        }
    }

    fn send(
        &mut self,
        engine: &mut Engine,
        at_ns: u64,
        from_client: bool,
        syn: bool,
        payload: &[u8],
    ) -> Verdict {
        let flags = TcpFlags {
            syn,
            ack: !syn || !from_client,
            ..TcpFlags::default()
        };
        self.segment(engine, at_ns, from_client, flags, payload)
    }

    fn segment(
        &mut self,
        engine: &mut Engine,
        at_ns: u64,
        from_client: bool,
        flags: TcpFlags,
        payload: &[u8],
    ) -> Verdict {
        let (source, destination) = match from_client {
            true => (self.client, self.server),
            false => (self.server, self.client),
        };
        let seq = &mut self.seq[usize::from(!from_client)];
        let packet = Packet {
            source,
            destination,
            ttl: 64,
            header: Header::Tcp {
                flags,
                seq: *seq,
                ack: 0,
                window: 1_000,
            },
            payload,
            payload_len: payload.len() as u32,
        };
        *seq += payload.len() as u32 + u32::from(flags.syn);
        let direction = if from_client {
            Direction::Outbound
        } else {
            Direction::Inbound
        };
        engine.decide(at_ns, direction, &packet).verdict
    }

    fn open(&mut self, engine: &mut Engine, at_ns: u64) -> Verdict {
        let syn = self.send(engine, at_ns, true, true, &[]);
        if syn == Verdict::Pass {
            self.send(engine, at_ns, false, true, &[])
        } else {
            syn
        }
    }

    fn say(&mut self, engine: &mut Engine, at_ns: u64, payload: &[u8]) -> Verdict {
        self.send(engine, at_ns, true, false, payload)
    }

    fn hear(&mut self, engine: &mut Engine, at_ns: u64, payload: &[u8]) -> Verdict {
        self.send(engine, at_ns, false, false, payload)
    }
}

fn hello(name: &str) -> Vec<u8> {
    tls_records(&Hello::to(name).message(), 1 << 14)
}

fn engine(rules: Vec<Rule>) -> Engine {
    for rule in &rules {
        rule.check().expect("a rule that makes sense");
    }
    Engine::new(EngineConfig::default(), rules)
}

fn random(n: u64, len: usize) -> Vec<u8> {
    let mut dice = Dice::new(n);
    (0..len).map(|_| dice.draw() as u8).collect()
}

/// Wu et al., USENIX Security 2023 §6: 26.3 % of flagged connections are blocked, towards the server, and the 3-tuple for 180 s.
fn fully_encrypted() -> Rule {
    Rule {
        all: vec![
            Condition::Transport(Transport::Tcp),
            Condition::Opened(Direction::Outbound),
            Condition::Flagged(Variant::Paper),
        ],
        acts_on: (0.263 * ALWAYS as f64) as u64,
        way: Way::FromClient,
        residual: Some(Residual {
            tuple: Tuple::Three,
            for_ns: 180 * SECOND,
            share: ALWAYS,
            renewed: false,
            way: Way::FromClient,
            resets: false,
        }),
        ..Rule::new("fully-encrypted")
    }
}

#[test]
fn a_quarter_of_random_looking_connections_is_blocked_and_no_other() {
    let mut engine = engine(vec![fully_encrypted()]);
    let mut dropped = 0;
    for n in 0..4_000_u16 {
        // Each to a server of its own, so that no residual block hits another.
        let there = SocketAddr::from((Ipv4Addr::from_bits(0xC000_0200 + u32::from(n)), 443));
        let mut talk = Talk::new(client(n), there);
        assert_eq!(talk.open(&mut engine, 0), Verdict::Pass);
        dropped += u32::from(talk.say(&mut engine, 1, &random(n.into(), 300)) == Verdict::Drop);
        // Only towards the server.
        assert_eq!(talk.hear(&mut engine, 2, &random(7, 300)), Verdict::Pass);
    }
    // 0.26 % of random packets are exempt by a printable start; three standard deviations are 0.021.
    let share = f64::from(dropped) / 4_000.0;
    assert!((share - 0.262).abs() < 0.021, "{share}");
    let before = engine.counts()[0].dropped;
    for n in 0..500 {
        let mut talk = Talk::new(client(n), SocketAddr::from(([198, 51, 100, 1], 443)));
        talk.open(&mut engine, SECOND);
        let http = b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n";
        let bytes = hello("example.org");
        talk.say(&mut engine, SECOND, if n % 2 == 0 { http } else { &bytes });
    }
    assert_eq!(engine.counts()[0].dropped, before);
}

#[test]
fn a_name_in_a_hello_is_reset_and_a_split_hello_passes_a_censor_that_does_not_reassemble() {
    let rule = |reassembles| Rule {
        all: vec![Condition::Name(Names::from_iter(["*.blocked.example"]))],
        reassembles,
        action: Action::Reset {
            client: true,
            server: true,
        },
        ..Rule::new("sni")
    };
    let bytes = hello("www.Blocked.example");
    let reset = Verdict::Reset {
        client: true,
        server: true,
    };
    for (reassembles, split, wanted) in [
        (false, false, &reset),
        (true, false, &reset),
        (false, true, &Verdict::Pass),
        (true, true, &reset),
    ] {
        let mut engine = engine(vec![rule(reassembles)]);
        let mut talk = Talk::new(client(1), server(1));
        talk.open(&mut engine, 0);
        let seen = if split {
            assert_eq!(talk.say(&mut engine, 0, &bytes[..40]), Verdict::Pass);
            talk.say(&mut engine, 0, &bytes[40..])
        } else {
            talk.say(&mut engine, 0, &bytes)
        };
        assert_eq!(&seen, wanted, "reassembles {reassembles}, split {split}");
        let mut other = Talk::new(client(2), server(1));
        other.open(&mut engine, 0);
        let fine = hello("notblocked.example");
        assert_eq!(other.say(&mut engine, 0, &fine), Verdict::Pass);
    }
}

/// Xue et al., IMC 2021: both directions at 130 to 150 kbit/s once a hello named t.co, by substring.
#[test]
fn a_policed_flow_gets_its_rate_each_way_and_others_all() {
    let mut engine = engine(vec![Rule {
        all: vec![Condition::Name(Names::from_iter(["*t.co*"]))],
        action: Action::Police {
            bits_per_second: 140_000,
            burst_bytes: 16_384,
            bucket: Bucket::Flow,
        },
        ..Rule::new("throttle")
    }]);
    let mut passed = |name: &str, n: u16| {
        let mut talk = Talk::new(client(n), server(1));
        talk.open(&mut engine, 0);
        talk.say(&mut engine, 0, &hello(name));
        let full = [0; 1_448];
        // 100 packets a second for 60 seconds, each way.
        let counted =
            (0..6_000_u64).filter(|k| talk.hear(&mut engine, k * SECOND / 100, &full) == Verdict::Pass);
        counted.count() as f64 * 1_500.0 * 8.0 / 60.0
    };
    let throttled = passed("microsoft.com", 1);
    assert!((138_000.0..146_000.0).contains(&throttled), "{throttled} bit/s");
    assert!(passed("example.org", 2) > 1_190_000.0);
}

/// net4people#490: silence after 25 packets in either direction; what the list allows is exempt.
/// Each of so many packets is looked at by itself, and what comes after them is not.
#[test]
fn a_flow_is_unlike_a_protocol_once_so_many_packets_begin_as_none() {
    let passed = |packets, said: &[&[u8]]| {
        let mut engine = engine(vec![Rule {
            all: vec![Condition::Unlike([Protocol::Tls].into(), packets)],
            ..Rule::new("r")
        }]);
        let mut talk = Talk::new(client(0), server(1));
        assert_eq!(talk.open(&mut engine, 0), Verdict::Pass);
        // Neither acknowledgements nor the server's packets count.
        assert_eq!(talk.say(&mut engine, 0, &[]), Verdict::Pass);
        assert_eq!(talk.hear(&mut engine, 0, b"x"), Verdict::Pass);
        let verdicts = said.iter().map(|payload| talk.say(&mut engine, 0, payload));
        verdicts.take_while(|verdict| *verdict == Verdict::Pass).count()
    };
    let tls = hello("a.example");
    let cases: [(u8, [&[u8]; 4], usize); 6] = [
        (1, [b"x", &tls, b"x", b"x"], 0),
        (2, [b"x", b"x", b"x", b"x"], 1),
        (3, [b"x", b"x", b"x", b"x"], 2),
        (3, [b"x", b"x", &tls, b"x"], 4),
        (3, [b"x", b"x", b"x", &tls], 2),
        // A hello in two parts is TLS, and no packet of it is.
        (2, [&tls[..2], &tls[2..], b"x", b"x"], 1),
    ];
    for (packets, said, wanted) in cases {
        assert_eq!(passed(packets, &said), wanted, "{packets} of {said:?}");
    }
}

#[test]
fn a_flow_freezes_after_so_many_packets_unless_its_name_is_allowed() {
    let mut engine = engine(vec![Rule {
        all: vec![
            Condition::Packets(Way::Both, 25),
            Condition::Not(Box::new(Condition::Name(Names::from_iter(["*.allowed.example"])))),
        ],
        ..Rule::new("freeze")
    }]);
    let mut until_silence = |name: &str, n: u16| {
        let mut talk = Talk::new(client(n), server(1));
        talk.open(&mut engine, 0);
        talk.say(&mut engine, 0, &hello(name));
        (4..200).find(|_| talk.hear(&mut engine, 1, &[0; 1_448]) == Verdict::Drop)
    };
    assert_eq!(until_silence("example.org", 1), Some(26));
    assert_eq!(until_silence("www.allowed.example", 2), None);
}

#[test]
fn too_many_flows_to_one_server_are_cut_and_idle_ones_do_not_count() {
    let rule = Rule {
        all: vec![Condition::Flows(12)],
        residual: Some(Residual {
            tuple: Tuple::Three,
            for_ns: 60 * SECOND,
            share: ALWAYS,
            renewed: false,
            way: Way::Both,
            resets: false,
        }),
        ..Rule::new("count")
    };
    let mut engine = engine(vec![rule]);
    for n in 0..12 {
        assert_eq!(
            Talk::new(client(n), server(1)).open(&mut engine, 0),
            Verdict::Pass
        );
        assert_eq!(
            Talk::new(client(n), server(2)).open(&mut engine, 0),
            Verdict::Pass
        );
    }
    // The thirteenth brings all of them down.
    assert_eq!(
        Talk::new(client(12), server(1)).open(&mut engine, 0),
        Verdict::Drop
    );
    assert_eq!(
        Talk::new(client(3), server(1)).hear(&mut engine, SECOND, b"x"),
        Verdict::Drop
    );
    assert_eq!(
        Talk::new(client(3), server(2)).hear(&mut engine, SECOND, b"x"),
        Verdict::Pass
    );
    // All were idle for two minutes.
    assert_eq!(
        Talk::new(client(40), server(1)).open(&mut engine, 200 * SECOND),
        Verdict::Pass
    );
}

#[test]
fn closed_connections_are_not_parallel_ones() {
    let over = |n| Rule {
        all: vec![Condition::Flows(n)],
        ..Rule::new("count")
    };
    let (fin, rst) = (
        TcpFlags {
            fin: true,
            ack: true,
            ..TcpFlags::default()
        },
        TcpFlags {
            rst: true,
            ..TcpFlags::default()
        },
    );
    let mut engine = engine(vec![over(2)]);
    for n in 0..50 {
        let mut talk = Talk::new(client(n), server(1));
        assert_eq!(talk.open(&mut engine, 0), Verdict::Pass, "connection {n}");
        if n % 2 == 0 {
            talk.segment(&mut engine, 0, true, fin, &[]);
            talk.segment(&mut engine, 0, false, fin, &[]);
            // A last acknowledgement does not take it out again.
            talk.say(&mut engine, 0, &[]);
        } else {
            talk.segment(&mut engine, 0, false, rst, &[]);
        }
    }
    assert!(engine.pairs.is_empty());
    // Half closed is under way.
    for n in 60..62 {
        let mut talk = Talk::new(client(n), server(1));
        assert_eq!(talk.open(&mut engine, 0), Verdict::Pass);
        talk.segment(&mut engine, 0, true, fin, &[]);
    }
    assert_eq!(
        Talk::new(client(62), server(1)).open(&mut engine, 0),
        Verdict::Drop
    );
    // Neither those that idled out nor those that were closed before are counted twice.
    Talk::new(client(63), server(2)).open(&mut engine, 200 * SECOND);
    assert_eq!(engine.pairs.len(), 1);
}

#[test]
fn a_flow_from_a_low_port_is_told_from_others() {
    let mut engine = engine(vec![Rule {
        all: vec![
            Condition::SourcePortAbove,
            Condition::Not(Box::new(Condition::All(vec![
                Condition::ServerPort(vec![53..=53]),
                Condition::Transport(Transport::Tcp),
            ]))),
        ],
        ..Rule::new("ports")
    }]);
    let mut dial = |from: u16, to: u16| {
        let (client, server) = (
            SocketAddr::new(client(0).ip(), from),
            SocketAddr::new(server(1).ip(), to),
        );
        Talk::new(client, server).open(&mut engine, 0)
    };
    assert_eq!(dial(444, 443), Verdict::Drop);
    assert_eq!(dial(443, 443), Verdict::Pass);
    assert_eq!(dial(442, 443), Verdict::Pass);
    assert_eq!(dial(444, 53), Verdict::Pass);
    let empty = Rule {
        all: vec![Condition::All(Vec::new())],
        ..Rule::new("x")
    };
    assert_eq!(empty.check(), Err(RuleError::Empty { what: "condition" }));
}

/// Bock et al., FOCI 2020: what does not begin as DNS, HTTP or TLS on these ports is dropped.
#[test]
fn a_protocol_list_lets_through_what_is_on_it() {
    let known = [Protocol::Dns, Protocol::Http, Protocol::Tls].map(Condition::Protocol);
    let mut engine = engine(vec![Rule {
        all: vec![
            Condition::ServerPort(vec![443..=443, 80..=80]),
            Condition::Bytes(Way::FromClient, 0),
            Condition::Not(Box::new(Condition::Any(known.into()))),
        ],
        ..Rule::new("list")
    }]);
    let mut first = |payload: &[u8], n: u16, port: u16| {
        let mut talk = Talk::new(client(n), SocketAddr::new(server(1).ip(), port));
        talk.open(&mut engine, 0);
        talk.say(&mut engine, 0, payload)
    };
    assert_eq!(first(&random(1, 400), 1, 443), Verdict::Drop);
    assert_eq!(first(&hello("a.example"), 2, 443), Verdict::Pass);
    assert_eq!(first(&random(1, 400), 3, 9_001), Verdict::Pass);
}

#[test]
fn phases_false_positives_and_false_negatives_are_as_said() {
    let rule = Rule {
        phases: vec![(10 * SECOND, 20 * SECOND), (30 * SECOND, 40 * SECOND)],
        all: vec![
            Condition::ServerPort(vec![443..=443]),
            Condition::Bytes(Way::FromClient, 0),
        ],
        acts_on: ALWAYS / 2,
        acts_by_mistake_on: ALWAYS / 10,
        ..Rule::new("rates")
    };
    let mut engine = engine(vec![rule]);
    let mut share = |at: u64, port: u16, base: u16| {
        let hit = (0..2_000).filter(|n| {
            let there = SocketAddr::from((Ipv4Addr::from_bits(0xC633_0000 + u32::from(base + n)), port));
            let mut talk = Talk::new(client(base + n), there);
            talk.open(&mut engine, at * SECOND);
            talk.say(&mut engine, at * SECOND, b"hello") == Verdict::Drop
        });
        hit.count() as f64 / 2_000.0
    };
    assert_eq!(share(5, 443, 0), 0.0);
    assert!((share(15, 443, 2_000) - 0.5).abs() < 0.04);
    assert!((share(16, 80, 4_000) - 0.1).abs() < 0.025);
    assert_eq!(share(25, 443, 6_000), 0.0);
    assert!((share(35, 443, 8_000) - 0.5).abs() < 0.04);
}

#[test]
fn rules_that_can_never_do_anything_are_refused() {
    let with = |all| Rule {
        all,
        ..Rule::new("x")
    };
    let police = |bits_per_second, burst_bytes| Rule {
        action: Action::Police {
            bits_per_second,
            burst_bytes,
            bucket: Bucket::Flow,
        },
        ..Rule::new("x")
    };
    let empty = |what| Err(RuleError::Empty { what });
    assert_eq!(
        with(vec![Condition::Server(Addresses::new())]).check(),
        empty("address")
    );
    assert_eq!(
        with(vec![Condition::Any(vec![Condition::Name(Names::new())])]).check(),
        empty("name")
    );
    assert_eq!(police(0, 9_000).check(), Err(RuleError::NoRate));
    assert_eq!(
        police(1, 1_000).check(),
        Err(RuleError::Burst { burst_bytes: 1_000 })
    );
    let phases = Rule {
        phases: vec![(5, 5)],
        ..Rule::new("x")
    };
    assert_eq!(
        phases.check(),
        Err(RuleError::Phase {
            from_ns: 5,
            until_ns: 5
        })
    );
    let never = Rule {
        acts_on: 0,
        ..Rule::new("x")
    };
    assert_eq!(never.check(), Err(RuleError::Never));
}

#[test]
fn what_is_kept_is_bounded_and_what_was_forgotten_is_told() {
    let config = EngineConfig {
        flows: FlowConfig {
            flows_max: 100,
            ..FlowConfig::default()
        },
        residuals_max: 50,
        ..EngineConfig::default()
    };
    let mut engine = Engine::new(
        config,
        vec![Rule {
            acts_on: ALWAYS,
            ..fully_encrypted()
        }],
    );
    for n in 0..1_000_u16 {
        let there = SocketAddr::from((Ipv4Addr::from_bits(0xC633_0000 + u32::from(n)), 443));
        let mut talk = Talk::new(client(n), there);
        talk.open(&mut engine, 1);
        talk.say(&mut engine, 1, &random(n.into(), 400));
    }
    assert_eq!(engine.overflowed(), (900, engine.counts()[0].sentenced - 50));
    assert!(engine.pairs.len() <= 100);
}

/// A rule that probes lets everything pass, hands out each flow once with its first packet, and forgets nobody silently.
#[test]
fn suspects_are_handed_out_with_their_first_packet_and_those_beyond_the_bound_are_counted() {
    let probing = |all| {
        let rules = vec![Rule {
            all,
            action: Action::Probe(Box::default()),
            ..Rule::new("probe")
        }];
        let config = EngineConfig {
            suspects_max: 2,
            ..EngineConfig::default()
        };
        Engine::new(config, rules)
    };
    let mut engine = probing(vec![Condition::FirstPacketMod16(1 << 9)]);
    for (n, len) in [(1, 201), (2, 202), (3, 217), (4, 9)] {
        let mut talk = Talk::new(client(n), server(n as u8));
        assert_eq!(talk.open(&mut engine, 0), Verdict::Pass);
        assert_eq!(talk.say(&mut engine, 5, &random(1, len)), Verdict::Pass);
        assert_eq!(talk.say(&mut engine, 6, &random(2, len)), Verdict::Pass);
    }
    assert_eq!((engine.counts()[0].sentenced, engine.suspects_lost()), (3, 1));
    let suspects = engine.take_suspects();
    let known: Vec<_> = suspects
        .iter()
        .map(|suspect| (suspect.server, suspect.at_ns))
        .collect();
    assert_eq!(known, [(server(1), 5), (server(3), 5)]);
    assert_eq!(suspects[1].first, random(1, 217));
    assert!(!engine.has_suspects());
    // Not even a rule for every flow suspects one that has said nothing, or one of the censor's own.
    let mut engine = probing(Vec::new());
    engine.spare([client(6).ip()]);
    Talk::new(SocketAddr::from(([10, 0, 0, 2], 4_000)), server(5)).open(&mut engine, 0);
    let mut own = Talk::new(client(6), server(6));
    own.open(&mut engine, 0);
    own.say(&mut engine, 0, b"something");
    assert!(!engine.has_suspects());
    // Nobody but a prober's rule blocks servers.
    let mut other = self::engine(vec![Rule::new("drop")]);
    other.block(0, server(1), 0);
    other.block(9, server(1), 0);
    assert_eq!(other.overflowed(), (0, 0));
}

#[test]
fn prefixes_have_their_addresses() {
    let mut addresses = Addresses::new();
    addresses.add_prefix("198.51.100.77".parse().expect("an address"), 24);
    addresses.add_prefix("2001:db8::".parse().expect("an address"), 32);
    addresses.add_endpoint(server(1));
    addresses.add_prefix("0.0.0.0".parse().expect("an address"), 200);
    let has =
        |text: &str, port| addresses.has(SocketAddr::new(text.parse::<IpAddr>().expect("an address"), port));
    assert!(has("198.51.100.1", 1) && has("2001:db8:1::1", 1) && has("192.0.2.1", 443));
    assert!(!has("198.51.101.1", 1) && !has("2001:db9::1", 1) && !has("192.0.2.1", 80));
    assert!(has("0.0.0.0", 1) && !has("0.0.0.1", 1));
}

/// A resolver that asks from one port: what is judged is the question, not the port that it comes from.
#[test]
fn each_question_of_one_port_is_judged_by_its_own_name() {
    let forgery = Forgery {
        pool: (0..600_u16)
            .map(|n| IpAddr::from([198, 18, (n >> 8) as u8, n as u8]))
            .collect(),
        each: 2,
        holds_back: false,
    };
    let mut engine = engine(vec![Rule {
        all: vec![
            Condition::Protocol(Protocol::Dns),
            Condition::Name(Names::from_iter(["*.blocked.example"])),
        ],
        action: Action::Forge(forgery.clone()),
        ..Rule::new("dns")
    }]);
    let mut ask = |n: u64, name: &str| {
        let payload = crate::craft::dns_query(n as u16, name, 1);
        let packet = Packet {
            source: client(1),
            destination: SocketAddr::from(([192, 0, 2, 53], 53)),
            ttl: 64,
            header: Header::Udp,
            payload: &payload,
            payload_len: payload.len() as u32,
        };
        engine.decide(n * SECOND, Direction::Outbound, &packet).verdict
    };
    let mut answers = std::collections::BTreeSet::new();
    for n in 0..50 {
        assert_eq!(ask(3 * n, "open.example"), Verdict::Pass);
        let Verdict::Forge {
            addresses,
            truth_follows: true,
        } = ask(3 * n + 1, "www.blocked.example")
        else {
            panic!("a forged answer")
        };
        assert!(addresses.len() == 2 && addresses[0] != addresses[1]);
        assert!(addresses.iter().all(|address| forgery.pool.contains(address)));
        answers.insert(addresses);
        assert_eq!(ask(3 * n + 2, "other.example"), Verdict::Pass);
    }
    assert!(answers.len() > 40, "each answer is drawn: {}", answers.len());
}

#[test]
fn bytes_that_no_rule_will_read_are_not_kept() {
    let rules = vec![Rule {
        all: vec![
            Condition::Transport(Transport::Udp),
            Condition::Protocol(Protocol::Dns),
        ],
        ..Rule::new("dns")
    }];
    let mut engine = engine(rules);
    let mut talk = Talk::new(client(1), server(1));
    talk.open(&mut engine, 0);
    talk.say(&mut engine, SECOND, &hello("www.blocked.example"));
    let flow = engine.flows.flow(0).expect("a flow");
    assert_eq!((flow.up.bytes > 0, flow.up.first().len()), (true, 0));
    // A rule that comes later reads what is sent from then on.
    engine.push(of_tls());
    let mut later = Talk::new(client(2), server(1));
    later.open(&mut engine, 2 * SECOND);
    assert_eq!(
        later.say(&mut engine, 3 * SECOND, &hello("www.blocked.example")),
        Verdict::Drop
    );
}

fn of_tls() -> Rule {
    Rule {
        all: vec![Condition::Protocol(Protocol::Tls)],
        ..Rule::new("tls")
    }
}

/// Captures and worlds that begin in the middle of a connection.
#[test]
fn a_connection_whose_beginning_was_not_seen_goes_to_the_port_for_services() {
    let mut engine = engine(vec![Rule {
        all: vec![Condition::Server([server(1).ip()].into_iter().collect())],
        ..Rule::new("listed")
    }]);
    let mut talk = Talk::new(client(1), server(1));
    assert_eq!(
        talk.hear(&mut engine, 0, b"what the server says first"),
        Verdict::Drop
    );
}
