//! Each censor of the catalogue does what is published of it, played packet by packet.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};

use phantom_censor::catalogue::{self, CatalogueError};
use phantom_censor::classify::Transport;
use phantom_censor::classify::quic::Version;
use phantom_censor::craft::{Hello, dns_query, http_request, quic_initial, tls_records};
use phantom_censor::engine::{Decision, Direction, Engine, Verdict};
use phantom_censor::file::CensorFile;
use phantom_censor::packet::{Header, Packet, TcpFlags};
use phantom_censor::prober::judge::Speech;
use phantom_censor::prober::{Answer, Input, Kind, Limits, Output, Prober, Reaction, Suspect};
use phantom_path::dice::Dice;
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;
const BOTH: Verdict = Verdict::Reset {
    client: true,
    server: true,
};
/// A name on every list of the catalogue, which nobody has.
const BLOCKED: &str = "www.blocked.example";
const FINE: &str = "fine.example";

fn censor(name: &str) -> CensorFile {
    catalogue::censor(name).unwrap_or_else(|error| panic!("{error}"))
}

fn engine(name: &str) -> Engine {
    censor(name).engine(1)
}

/// The same censor with a piece of its file replaced: another parameter, that a test must notice.
fn perturbed(name: &str, from: &str, to: &str) -> Engine {
    let text = catalogue::text(name).expect("a name of the catalogue");
    assert!(text.contains(from), "{name} has no {from}");
    CensorFile::parse(name, &text.replace(from, to))
        .unwrap_or_else(|error| panic!("{error}"))
        .engine(1)
}

fn client(port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], port))
}

/// One of many servers, in no range of any list.
fn server(n: u32, port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::from_bits(0x2D00_0000 + n), port))
}

fn hello(name: &str) -> Vec<u8> {
    tls_records(&Hello::to(name).message(), 1 << 14)
}

fn initial(name: &str) -> Vec<u8> {
    quic_initial(Version::V1, &[7; 8], &[(0, &Hello::to(name).message())])
}

fn random(n: u64, len: usize) -> Vec<u8> {
    let mut dice = Dice::new(n);
    (0..len).map(|_| dice.draw() as u8).collect()
}

/// A flow that a test plays, packet by packet.
struct Talk {
    transport: Transport,
    client: SocketAddr,
    server: SocketAddr,
    seq: [u32; 2],
}

impl Talk {
    fn tcp(client: SocketAddr, server: SocketAddr) -> Self {
        Self {
            transport: Transport::Tcp,
            client,
            server,
            seq: [1_000, 9_000],
        }
    }

    fn udp(client: SocketAddr, server: SocketAddr) -> Self {
        Self {
            transport: Transport::Udp,
            ..Self::tcp(client, server)
        }
    }

    fn send(
        &mut self,
        engine: &mut Engine,
        at_ns: u64,
        from_client: bool,
        syn: bool,
        payload: &[u8],
    ) -> Decision {
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
    ) -> Decision {
        let (source, destination) = match from_client {
            true => (self.client, self.server),
            false => (self.server, self.client),
        };
        let seq = &mut self.seq[usize::from(!from_client)];
        let header = match self.transport {
            Transport::Tcp => Header::Tcp {
                flags,
                seq: *seq,
                ack: 0,
                window: 1_000,
            },
            Transport::Udp => Header::Udp,
        };
        let packet = Packet {
            source,
            destination,
            ttl: 64,
            header,
            payload,
            payload_len: payload.len() as u32,
        };
        *seq = seq.wrapping_add(payload.len() as u32 + u32::from(flags.syn));
        let direction = match from_client {
            true => Direction::Outbound,
            false => Direction::Inbound,
        };
        engine.decide(at_ns, direction, &packet)
    }

    /// SYN and its answer; the first verdict that is no pass, else a pass.
    fn open(&mut self, engine: &mut Engine, at_ns: u64) -> Verdict {
        match self.send(engine, at_ns, true, true, &[]).verdict {
            Verdict::Pass => self.send(engine, at_ns, false, true, &[]).verdict,
            other => other,
        }
    }

    fn say(&mut self, engine: &mut Engine, at_ns: u64, payload: &[u8]) -> Verdict {
        self.send(engine, at_ns, true, false, payload).verdict
    }

    fn hear(&mut self, engine: &mut Engine, at_ns: u64, payload: &[u8]) -> Verdict {
        self.send(engine, at_ns, false, false, payload).verdict
    }
}

/// Opens a connection and says something: what becomes of that.
fn first(engine: &mut Engine, at_ns: u64, from: u16, to: SocketAddr, payload: &[u8]) -> Verdict {
    let mut talk = Talk::tcp(client(from), to);
    match talk.open(engine, at_ns) {
        Verdict::Pass => talk.say(engine, at_ns, payload),
        other => other,
    }
}

fn datagram(engine: &mut Engine, at_ns: u64, from: u16, to: SocketAddr, payload: &[u8]) -> Verdict {
    Talk::udp(client(from), to).say(engine, at_ns, payload)
}

/// When a block ends: the first second in which `passes`, looked for up to `seconds`.
fn ends(seconds: u64, mut passes: impl FnMut(u64) -> bool) -> Option<u64> {
    (1..=seconds).find(|second| passes(*second))
}

/// Asserts that a count is within the central 99.9 % of a binomial (normal approximation; z = 3.2905).
fn assert_binomial(hits: u64, of: u64, chance: f64) {
    assert!(is_binomial(hits, of, chance), "{hits} of {of}, expected {chance}");
}

fn is_binomial(hits: u64, of: u64, chance: f64) -> bool {
    let (hits, of) = (hits as f64, of as f64);
    (hits - of * chance).abs() <= 3.2905 * (of * chance * (1.0 - chance)).sqrt() + 0.5
}

/// The share of 4,000 connections, each to a server of its own, whose first packet is dropped.
fn dropped(engine: &mut Engine, payload: impl Fn(u64) -> Vec<u8>) -> u64 {
    let hit = (0..4_000_u32)
        .filter(|n| first(engine, 0, 40_000, server(*n, 443), &payload(u64::from(*n))) == Verdict::Drop);
    hit.count() as u64
}

/// Starts as no exempt packet does: four bits of each byte are set, and none is printable.
fn looks_encrypted(n: u64) -> Vec<u8> {
    let mut payload = vec![0x93; 300];
    payload[299] = if n.is_multiple_of(2) { 0x93 } else { 0xc9 };
    payload
}

#[test]
fn every_censor_has_a_name_a_summary_and_a_source_for_each_rule() {
    let all = catalogue::catalogue().unwrap_or_else(|error| panic!("{error}"));
    let names: Vec<&str> = catalogue::names().collect();
    assert!(names.is_sorted() && names.len() == 10);
    for (censor, name) in all.iter().zip(names) {
        assert_eq!(censor.name(), name);
        assert!(
            (30..=130).contains(&censor.summary().len()),
            "{name}: {}",
            censor.summary().len()
        );
        assert!(censor.texts().all(|rule| rule.source.len() > 15));
        assert_eq!(censor.rules().len(), censor.texts().count());
    }
    let error = catalogue::censor("gwf-2023").expect_err("a slip of the pen");
    assert!(matches!(error, CatalogueError::Unknown(_)));
    assert_eq!(
        error.to_string(),
        "unknown censor 'gwf-2023'; did you mean 'gfw-2023'?; choices: conn-count-2025, gfw-2023, gfw-probe-2020, gfw-quic-2024, \
         iran-blackout-2025, iran-whitelist-2020, shutdown, tspu-freeze-2025, tspu-throttle-2021, turkmenistan"
    );
}

/// Wu et al., 2023: 26.3 % of connections whose first packet looks fully encrypted, towards the server.
#[test]
fn gfw_2023_drops_a_quarter_of_random_looking_connections_and_none_other() {
    let mut gfw = engine("gfw-2023");
    let hits = dropped(&mut gfw, looks_encrypted);
    assert_binomial(hits, 4_000, 0.263);
    // A tenth of the chance more or less would be noticed.
    for other in ["28.93 %", "23.67 %"] {
        let hits = dropped(
            &mut perturbed("gfw-2023", "\"26.3 %\"", &format!("\"{other}\"")),
            looks_encrypted,
        );
        assert!(!is_binomial(hits, 4_000, 0.263), "{hits} at {other}");
    }
    let mut gfw = engine("gfw-2023");
    assert_eq!(dropped(&mut gfw, |_| hello(FINE)), 0);
    let mut gfw = engine("gfw-2023");
    assert_eq!(dropped(&mut gfw, |_| http_request("GET", "/", FINE)), 0);
    let mut gfw = engine("gfw-2023");
    assert_eq!(dropped(&mut gfw, |_| b"SSH-2.0-OpenSSH_9.2p1\r\n".to_vec()), 0);
    // UDP is not looked at, and the server's packets pass.
    let mut sure = perturbed("gfw-2023", "\"26.3 %\"", "\"100 %\"");
    assert_eq!(
        datagram(&mut sure, 0, 50_000, server(1, 443), &looks_encrypted(0)),
        Verdict::Pass
    );
    let mut talk = Talk::tcp(client(50_001), server(1, 443));
    assert_eq!(talk.open(&mut sure, 0), Verdict::Pass);
    assert_eq!(talk.say(&mut sure, 0, &looks_encrypted(0)), Verdict::Drop);
    assert_eq!(talk.hear(&mut sure, 0, &looks_encrypted(0)), Verdict::Pass);
}

/// By the rule itself random bytes are exempt with a chance of some thousandths: those with a printable start, most of all.
#[test]
fn gfw_2023_lets_through_the_random_bytes_that_the_paper_exempts() {
    let mut sure = perturbed("gfw-2023", "\"26.3 %\"", "\"100 %\"");
    let passed = 4_000 - dropped(&mut sure, |n| random(n, 300));
    // (95/256)^6 = 0.26 % start printable; the other exemptions are rarer by far.
    assert_binomial(passed, 4_000, (95.0_f64 / 256.0).powi(6));
}

/// 180 s for client, server and port; another port, server or client is free.
#[test]
fn gfw_2023_goes_on_blocking_the_three_tuple_for_180_seconds() {
    let text = ("\"26.3 %\"", "\"100 %\"");
    let until = |mut gfw: Engine| {
        assert_eq!(
            first(&mut gfw, 0, 40_000, server(1, 443), &looks_encrypted(0)),
            Verdict::Drop
        );
        let other_port = first(&mut gfw, SECOND, 40_001, server(1, 80), &hello(FINE));
        let other_server = first(&mut gfw, SECOND, 40_002, server(2, 443), &hello(FINE));
        assert_eq!((other_port, other_server), (Verdict::Pass, Verdict::Pass));
        let mut other_client = Talk::tcp(SocketAddr::from(([10, 0, 0, 2], 40_000)), server(1, 443));
        assert_eq!(other_client.open(&mut gfw, SECOND), Verdict::Pass);
        ends(400, |second| {
            let from = 41_000 + second as u16;
            first(&mut gfw, second * SECOND, from, server(1, 443), &hello(FINE)) == Verdict::Pass
        })
    };
    assert_eq!(until(perturbed("gfw-2023", text.0, text.1)), Some(180));
    let longer = catalogue::text("gfw-2023")
        .expect("known")
        .replace(text.0, text.1)
        .replace("for = \"180 s\"", "for = \"181 s\"");
    let longer = CensorFile::parse("longer", &longer).expect("good").engine(1);
    assert_eq!(until(longer), Some(181));
}

#[test]
fn gfw_2023_resets_by_host_and_sni_and_remembers_for_90_seconds() {
    let request = http_request("GET", "/", BLOCKED);
    let mut gfw = engine("gfw-2023");
    let hits = (0..4_000).filter(|n| first(&mut gfw, 0, 40_000, server(*n, 80), &request) == BOTH);
    assert_binomial(hits.count() as u64, 4_000, 0.75);
    for (port, payload) in [(80, &request), (443, &hello(BLOCKED)), (9_001, &hello(BLOCKED))] {
        let mut gfw = perturbed("gfw-2023", "\"75 %\"", "\"100 %\"");
        assert_eq!(first(&mut gfw, 0, 40_000, server(1, port), payload), BOTH);
        let until = ends(200, |second| {
            let from = 41_000 + second as u16;
            let verdict = first(&mut gfw, second * SECOND, from, server(1, port), &hello(FINE));
            assert!(verdict == Verdict::Pass || verdict == BOTH);
            verdict == Verdict::Pass
        });
        assert_eq!(until, Some(90), "port {port}");
    }
    // A hello over two segments has no name for a censor that joins none.
    let mut gfw = engine("gfw-2023");
    let mut talk = Talk::tcp(client(50_000), server(3, 443));
    talk.open(&mut gfw, 0);
    let bytes = hello(BLOCKED);
    assert_eq!(talk.say(&mut gfw, 0, &bytes[..40]), Verdict::Pass);
    assert_eq!(talk.say(&mut gfw, 0, &bytes[40..]), Verdict::Pass);
    let joins = "name = \"sni\"\ninspects = \"reassembled\"";
    let mut gfw = perturbed("gfw-2023", "name = \"sni\"", joins);
    let mut talk = Talk::tcp(client(50_000), server(3, 443));
    talk.open(&mut gfw, 0);
    assert_eq!(talk.say(&mut gfw, 0, &bytes[..40]), Verdict::Pass);
    assert_eq!(talk.say(&mut gfw, 0, &bytes[40..]), BOTH);
}

#[test]
fn questions_for_listed_names_get_forged_answers_and_others_none() {
    for (name, of, forged) in [
        ("gfw-2023", Transport::Udp, "203.0.113.11"),
        ("turkmenistan", Transport::Udp, "127.0.0.1"),
        ("iran-blackout-2025", Transport::Udp, "10.10.34.36"),
    ] {
        let mut engine = engine(name);
        let mut ask = |from: u16, name: &str| {
            let mut talk = Talk {
                transport: of,
                ..Talk::udp(client(from), server(1, 53))
            };
            let question = dns_query(7, name, 1);
            let verdict = talk.say(&mut engine, 0, &question);
            // The true answer comes too, later.
            assert_eq!(talk.hear(&mut engine, 1, &question), Verdict::Pass);
            verdict
        };
        let Verdict::Forge { addresses, .. } = ask(40_000, BLOCKED) else {
            panic!("{name} forges no answer");
        };
        assert_eq!(addresses[0].to_string(), forged, "{name}");
        assert_eq!(ask(40_001, FINE), Verdict::Pass, "{name}");
    }
}

/// Alice et al., 2020, §4.2: of replays of 168 to 263 bytes 72 % were of a length of remainder 9 modulo 16, of 264 to 383 bytes
/// 37 % of remainder 9 and 32 % of remainder 2, of 384 to 687 bytes 96 % of remainder 2; none were shorter than 160 bytes, and
/// of 1,000 connections with lengths up to 2,000 two were replayed.
#[test]
fn gfw_probe_2020_takes_first_packets_of_the_published_lengths_for_suspect() {
    let mut gfw = engine("gfw-probe-2020");
    const CONNECTIONS: u32 = 60_000;
    let mut suspects: Vec<Vec<u8>> = Vec::new();
    for n in 0..CONNECTIONS {
        let len = 1 + n as usize % 2_000;
        let said = random(u64::from(n), len);
        assert_eq!(first(&mut gfw, 0, 40_000, server(n, 443), &said), Verdict::Pass);
        let taken = gfw.take_suspects();
        assert!(
            taken
                .iter()
                .all(|suspect| suspect.first == said && suspect.server == server(n, 443))
        );
        suspects.extend(taken.into_iter().map(|suspect| suspect.first));
    }
    assert_binomial(suspects.len() as u64, u64::from(CONNECTIONS), 0.0022);
    let lens = |range: std::ops::RangeInclusive<usize>| {
        suspects
            .iter()
            .map(Vec::len)
            .filter(move |len| range.contains(len))
    };
    assert_eq!(lens(1..=167).count() + lens(688..=2_000).count(), 0);
    for (range, remainder, share) in [
        (168..=263, 9, 0.72),
        (264..=383, 9, 0.37),
        (264..=383, 2, 0.32),
        (384..=687, 2, 0.96),
    ] {
        let of = lens(range.clone()).count() as u64;
        let hits = lens(range.clone()).filter(|len| len % 16 == remainder).count() as u64;
        assert_binomial(hits, of, share);
        // Were every length as likely, it would be noticed.
        assert!(!is_binomial(hits, of, 1.0 / 16.0), "{hits} of {of} in {range:?}");
    }
    // A packet of low entropy is replayed a quarter as often.
    let mut gfw = engine("gfw-probe-2020");
    for n in 0..CONNECTIONS / 4 {
        let said: Vec<u8> = random(u64::from(n), 168 + n as usize % 520)
            .iter()
            .map(|byte| byte & 7)
            .collect();
        first(&mut gfw, 0, 40_000, server(n, 443), &said);
    }
    assert_binomial(
        gfw.take_suspects().len() as u64,
        u64::from(CONNECTIONS / 4),
        0.0022 * 2_000.0 / 520.0 / 4.0,
    );
}

/// A server that is suspected once, what it is sent when, and when it is blocked: of a prober by the file.
fn probed(
    prober: &mut Prober,
    at_ns: u64,
    to: SocketAddr,
    reacts: impl Fn(Kind) -> Reaction,
) -> (Vec<(u64, Kind)>, Option<u64>) {
    let (rule, first) = (0, random(7, 201));
    let suspect = Suspect {
        rule,
        at_ns,
        server: to,
        first,
    };
    prober
        .handle(at_ns, Input::Suspect(suspect))
        .expect("it is taken up");
    let (mut sent, mut blocked) = (Vec::new(), None);
    let mut now = at_ns;
    loop {
        match prober.poll_output() {
            Output::Send(probe) => {
                sent.push((now, probe.kind));
                let (after_ns, reaction) = (SECOND / 10, reacts(probe.kind));
                let answer = Answer { after_ns, reaction };
                prober
                    .handle(now, Input::Answered(probe.number, answer))
                    .expect("it is under way");
            }
            Output::Block { .. } => blocked = Some(now),
            Output::WaitUntil(at) => {
                now = at;
                prober.handle(now, Input::Tick).expect("time passes");
            }
            Output::Done => return (sent, blocked),
        }
    }
}

fn prober_of(engine: &Engine) -> Prober {
    let rules = engine.rules().iter().enumerate();
    let probing = rules.filter_map(|(place, rule)| Some((place, rule.probe()?.clone())));
    let limits = Limits {
        servers_max: 10_000,
        ..Limits::default()
    };
    Prober::new(1, limits, probing)
}

/// Alice et al., 2020, §3.5: more than 20 % of first replays within a second, 50 % within a minute, 75 % within 15 minutes; the
/// shortest delay was 0.28 s.
#[test]
fn gfw_probe_2020_replays_after_the_published_times() {
    let delays = |engine: &Engine| -> Vec<u64> {
        let mut prober = prober_of(engine);
        let each = (0..4_000_u32).map(|n| {
            let at = u64::from(n) * 100_000 * SECOND;
            let (sent, blocked) = probed(&mut prober, at, server(n, 443), |_| Reaction::Silence);
            assert_eq!(blocked, None);
            let replay = sent.iter().find(|(_, kind)| *kind == Kind::R1).expect("a replay");
            replay.0 - at
        });
        each.collect()
    };
    let within = |delays: &[u64], ns: u64| delays.iter().filter(|delay| **delay <= ns).count() as u64;
    let published = delays(&engine("gfw-probe-2020"));
    let least = published.iter().min().expect("many");
    assert!((280_000_000..300_000_000).contains(least), "{least} ns");
    for (ns, share) in [(SECOND, 0.20), (60 * SECOND, 0.50), (900 * SECOND, 0.75)] {
        assert_binomial(within(&published, ns), 4_000, share);
    }
    let other = "{ probe = { delay = [{ share = \"22 %\", within = \"1 s\" }, { share = \"100 %\", within = \"10 h\" }] } }";
    let other = delays(&perturbed("gfw-probe-2020", "{ probe = {} }", other));
    assert!(!is_binomial(within(&other, 60 * SECOND), 4_000, 0.50));
}

/// Alice et al., 2020, §4.2: R3 to R5 only for servers that answered R1 or R2. Who answers replays and not random bytes is
/// blocked; who is silent, or answers anybody, is not.
#[test]
fn gfw_probe_2020_has_two_stages_and_blocks_who_answers_replays() {
    let gfw = engine("gfw-probe-2020");
    let kinds = |sent: &[(u64, Kind)]| sent.iter().map(|(_, kind)| *kind).collect::<BTreeSet<_>>();
    let data = Reaction::Data(Speech::Other);
    let replays = |kind: Kind| if kind.is_replay() { data } else { Reaction::Silence };
    let mut prober = prober_of(&gfw);
    let (sent, blocked) = probed(&mut prober, 0, server(1, 443), |_| Reaction::Silence);
    assert_eq!(
        (kinds(&sent), blocked),
        ([Kind::R1, Kind::R2, Kind::Nr1, Kind::Nr2].into(), None)
    );
    let (_, blocked) = probed(&mut prober, 0, server(2, 443), |_| data);
    assert_eq!(blocked, None, "it answers anybody");
    let (sent, blocked) = probed(&mut prober, 0, server(3, 443), replays);
    let last = sent.iter().map(|(at, _)| *at).max();
    assert!(blocked.is_some() && blocked >= last, "found, and asked no more");
    // Where nobody is blocked the second stage is seen whole.
    let spared = perturbed(
        "gfw-probe-2020",
        "{ probe = {} }",
        "{ probe = { blocks = \"0.0000001 %\" } }",
    );
    let (sent, _) = probed(&mut prober_of(&spared), 0, server(3, 443), replays);
    assert_eq!(kinds(&sent), Kind::PUBLISHED.into());
}

/// Dunna et al., 2018: the whole address for 12 hours, and whoever tries begins them anew; what comes from the server is dropped
/// (Alice et al., 2020, §6).
#[test]
fn gfw_probe_2020_blocks_the_address_for_12_hours_after_the_last_try() {
    const HOUR: u64 = 3_600 * SECOND;
    let from = |text: &str| text.parse::<SocketAddr>().expect("an address");
    let opens = |engine: &mut Engine, at: u64, client: &str, to: SocketAddr| {
        let mut talk = Talk::tcp(from(client), to);
        assert_eq!(
            talk.send(engine, at, true, true, &[]).verdict,
            Verdict::Pass,
            "what goes there passes"
        );
        talk.send(engine, at, false, true, &[]).verdict == Verdict::Pass
    };
    let mut gfw = engine("gfw-probe-2020");
    gfw.spare([from("10.9.9.9:1").ip()]);
    assert!(opens(&mut gfw, 0, "10.0.0.1:40000", server(1, 443)));
    gfw.block(0, server(1, 443), 0);
    // From everybody, at every port, but for the censor's own.
    assert!(!opens(&mut gfw, HOUR, "10.0.0.1:40001", server(1, 443)));
    assert!(!opens(&mut gfw, 2 * HOUR, "10.0.0.2:40001", server(1, 80)));
    assert!(opens(&mut gfw, 2 * HOUR, "10.0.0.1:40001", server(2, 443)));
    assert!(opens(&mut gfw, 3 * HOUR, "10.9.9.9:40001", server(1, 443)));
    // The last try was at 2 h.
    assert!(!opens(&mut gfw, 14 * HOUR - 1, "10.0.0.1:40002", server(1, 443)));
    assert!(opens(&mut gfw, 26 * HOUR, "10.0.0.1:40003", server(1, 443)));
    let short = "{ probe = { block = { tuple = \"server-port\", for = \"1 h\", way = \"from-server\" } } }";
    let mut short = perturbed("gfw-probe-2020", "{ probe = {} }", short);
    short.block(0, server(1, 443), 0);
    assert!(!opens(&mut short, HOUR - 1, "10.0.0.1:40001", server(1, 443)));
    assert!(opens(&mut short, HOUR - 1, "10.0.0.1:40001", server(1, 80)));
    assert!(
        opens(&mut short, HOUR, "10.0.0.1:40002", server(1, 443)),
        "nothing renews it"
    );
}

/// Zohaib et al., 2025, §3-5.
#[test]
fn gfw_quic_2024_looks_into_datagrams_from_higher_ports_and_blocks_for_180_seconds() {
    let mut gfw = engine("gfw-quic-2024");
    assert_eq!(
        datagram(&mut gfw, 0, 40_000, server(1, 443), &initial(FINE)),
        Verdict::Pass
    );
    for (from, wanted) in [(442, Verdict::Pass), (443, Verdict::Pass), (444, Verdict::Drop)] {
        let verdict = datagram(&mut gfw, 0, from, server(u32::from(from), 443), &initial(BLOCKED));
        assert_eq!(verdict, wanted, "from port {from}");
    }
    // Everything over UDP to that port, towards the server; what it was caught for is no matter.
    let caught = server(444, 443);
    let mut talk = Talk::udp(client(50_000), caught);
    assert_eq!(talk.say(&mut gfw, SECOND, b"anything"), Verdict::Drop);
    assert_eq!(talk.hear(&mut gfw, SECOND, b"anything"), Verdict::Pass);
    assert_eq!(
        datagram(&mut gfw, SECOND, 50_001, server(444, 8_443), b"x"),
        Verdict::Pass
    );
    assert_eq!(
        first(&mut gfw, SECOND, 50_002, server(444, 443), &hello(BLOCKED)),
        Verdict::Pass
    );
    let until = ends(400, |second| {
        let from = 51_000 + second as u16;
        datagram(&mut gfw, second * SECOND, from, caught, b"anything") == Verdict::Pass
    });
    assert_eq!(until, Some(180));
    // A hello over two datagrams passes.
    let message = Hello::to(BLOCKED).message();
    let mut talk = Talk::udp(client(52_000), server(2, 443));
    for part in [(0, &message[..60]), (60, &message[60..])] {
        let sent = quic_initial(Version::V1, &[7; 8], &[part]);
        assert_eq!(talk.say(&mut gfw, 0, &sent), Verdict::Pass);
    }
    let mut blind = perturbed(
        "gfw-quic-2024",
        "source-port-above = true",
        "source-port-above = false",
    );
    assert_eq!(
        datagram(&mut blind, 0, 444, server(1, 443), &initial(BLOCKED)),
        Verdict::Pass
    );
}

/// Bock et al., FOCI 2020: 60 s after the last retransmission.
#[test]
fn iran_whitelist_2020_knows_three_protocols_on_three_ports() {
    let dns_over_tcp = {
        let question = dns_query(7, FINE, 1);
        let mut message = (question.len() as u16).to_be_bytes().to_vec();
        message.extend_from_slice(&question);
        message
    };
    let known = [hello(BLOCKED), http_request("GET", "/", BLOCKED), dns_over_tcp];
    for port in [53, 80, 443] {
        let mut iran = engine("iran-whitelist-2020");
        for (n, payload) in known.iter().enumerate() {
            let from = 40_000 + n as u16;
            assert_eq!(
                first(&mut iran, 0, from, server(1, port), payload),
                Verdict::Pass,
                "{port}"
            );
        }
        for (n, payload) in [looks_encrypted(0), b"SSH-2.0-x\r\n".to_vec()].iter().enumerate() {
            let from = 41_000 + n as u16;
            assert_eq!(
                first(&mut iran, 0, from, server(1, port), payload),
                Verdict::Drop,
                "{port}"
            );
        }
        // Another connection to the same server is free: addresses and ports of both ends are what is blocked.
        assert_eq!(
            first(&mut iran, 0, 42_000, server(1, port), &known[0]),
            Verdict::Pass
        );
    }
    let mut iran = engine("iran-whitelist-2020");
    assert_eq!(
        first(&mut iran, 0, 40_000, server(1, 9_001), &looks_encrypted(0)),
        Verdict::Pass
    );
    assert_eq!(
        datagram(&mut iran, 0, 40_000, server(1, 443), &looks_encrypted(0)),
        Verdict::Pass
    );
    // TLS is judged by its first bytes: what follows them does not matter. The source says five; the classifier here wants the
    // sixth too, the type of the message.
    let mut seems = vec![0x16, 3, 1, 1, 0, 0x93];
    seems.extend_from_slice(&looks_encrypted(0));
    assert_eq!(first(&mut iran, 0, 40_001, server(1, 443), &seems), Verdict::Drop);
    seems[5] = 1;
    assert_eq!(first(&mut iran, 0, 40_002, server(1, 443), &seems), Verdict::Pass);
}

#[test]
fn iran_whitelist_2020_forgets_after_60_seconds_of_silence() {
    let again = |silence: u64, resend_at: &[u64]| {
        let mut iran = engine("iran-whitelist-2020");
        let mut talk = Talk::tcp(client(40_000), server(1, 443));
        talk.open(&mut iran, 0);
        assert_eq!(talk.say(&mut iran, 0, &looks_encrypted(0)), Verdict::Drop);
        for at in resend_at {
            assert_eq!(
                talk.say(&mut iran, at * SECOND, &looks_encrypted(0)),
                Verdict::Drop
            );
            assert_eq!(talk.hear(&mut iran, at * SECOND, b"x"), Verdict::Pass);
        }
        // A new connection on the same addresses and ports.
        let last = resend_at.last().copied().unwrap_or(0);
        let mut next = Talk::tcp(client(40_000), server(1, 443));
        next.seq = [500_000, 600_000];
        let at = (last + silence) * SECOND;
        next.send(&mut iran, at, true, true, &[]).verdict
    };
    assert_eq!(again(59, &[]), Verdict::Drop);
    assert_eq!(again(60, &[]), Verdict::Pass);
    assert_eq!(again(59, &[30, 59, 100]), Verdict::Drop);
    assert_eq!(again(60, &[30, 59, 100]), Verdict::Pass);
}

#[test]
fn iran_blackout_2025_leaves_dns_and_known_protocols_outside_hosters() {
    let mut iran = engine("iran-blackout-2025");
    for port in [443, 123, 3_478, 51_820] {
        assert_eq!(
            datagram(&mut iran, 0, 40_000, server(1, port), &initial(FINE)),
            Verdict::Drop
        );
    }
    // A question at another port is UDP like any other.
    let elsewhere = datagram(&mut iran, 0, 40_005, server(1, 5_353), &dns_query(7, BLOCKED, 1));
    assert_eq!(elsewhere, Verdict::Drop);
    let mut question = Talk::udp(client(40_001), server(1, 53));
    assert_eq!(question.say(&mut iran, 0, &dns_query(7, FINE, 1)), Verdict::Pass);
    assert_eq!(question.hear(&mut iran, 0, &dns_query(7, FINE, 1)), Verdict::Pass);
    assert_eq!(
        first(&mut iran, 0, 40_002, server(1, 443), &hello(FINE)),
        Verdict::Pass
    );
    assert_eq!(
        first(&mut iran, 0, 40_003, server(1, 9_001), &looks_encrypted(0)),
        Verdict::Drop
    );
    let hoster = SocketAddr::from(([198, 51, 100, 7], 443));
    assert_eq!(first(&mut iran, 0, 40_004, hoster, &hello(FINE)), Verdict::Drop);
    let counts = |engine: &Engine| {
        engine
            .counts()
            .iter()
            .map(|counts| counts.dropped)
            .collect::<Vec<_>>()
    };
    assert_eq!(counts(&iran), [0, 5, 1, 1]);
    let mut off = perturbed(
        "iran-blackout-2025",
        "not = { ports = [53] }",
        "not = { ports = [53, 443] }",
    );
    assert_eq!(
        datagram(&mut off, 0, 40_000, server(1, 443), &initial(FINE)),
        Verdict::Pass
    );
}

/// Bits a second of payload that pass each way when ten times as much is sent for a minute.
fn goodput(engine: &mut Engine, from: u16, name: &str) -> [u64; 2] {
    let mut talk = Talk::tcp(client(from), server(1, 443));
    assert_eq!(talk.open(engine, 0), Verdict::Pass);
    assert_eq!(talk.say(engine, 0, &hello(name)), Verdict::Pass);
    let full = [0; 1_448];
    let mut passed = [0_u64; 2];
    for n in 0..6_000_u64 {
        let at_ns = n * SECOND / 100;
        passed[0] += u64::from(talk.say(engine, at_ns, &full) == Verdict::Pass);
        passed[1] += u64::from(talk.hear(engine, at_ns, &full) == Verdict::Pass);
    }
    passed.map(|packets| packets * 1_448 * 8 / 60)
}

/// Xue et al., IMC 2021: 130 to 150 kbit/s, both ways, by substring.
#[test]
fn tspu_throttle_2021_polices_whatever_contains_t_co_both_ways() {
    let mut tspu = engine("tspu-throttle-2021");
    // The published mistake: names that only contain the four letters.
    for (n, name) in ["t.co", "abs.twimg.com", "microsoft.com", "reddit.com"]
        .into_iter()
        .enumerate()
    {
        for rate in goodput(&mut tspu, 40_000 + n as u16, name) {
            assert!((130_000..=150_000).contains(&rate), "{name}: {rate} bit/s");
        }
    }
    for rate in goodput(&mut tspu, 41_000, FINE) {
        assert!(rate > 1_150_000, "{rate} bit/s");
    }
    for other in ["128 kbit/s", "156 kbit/s"] {
        let mut tspu = perturbed(
            "tspu-throttle-2021",
            "140 kbit/s\", burst",
            &format!("{other}\", burst"),
        );
        let [up, _] = goodput(&mut tspu, 40_000, "t.co");
        assert!(!(130_000..=150_000).contains(&up), "{up} bit/s at {other}");
    }
}

/// net4people/bbs#490: silence from the 26th packet on.
#[test]
fn tspu_freeze_2025_falls_silent_after_25_packets_unless_it_is_exempt() {
    let silent_from = |engine: &mut Engine, transport: Transport, to: SocketAddr, payload: &[u8]| {
        let mut talk = Talk {
            transport,
            ..Talk::tcp(client(40_000), to)
        };
        let mut packets = 1;
        if transport == Transport::Tcp {
            assert_eq!(talk.open(engine, 0), Verdict::Pass);
            packets += 2;
        }
        assert_eq!(talk.say(engine, 0, payload), Verdict::Pass);
        let from = (packets + 1..500).find(|_| talk.hear(engine, 0, &[0; 1_448]) == Verdict::Drop);
        if from.is_some() {
            // No way is left, and no reset comes.
            assert_eq!(talk.say(engine, SECOND, b"?"), Verdict::Drop);
            assert_eq!(talk.hear(engine, SECOND, b"!"), Verdict::Drop);
        }
        from
    };
    let mut tspu = engine("tspu-freeze-2025");
    let mut of = |transport, n, payload: &[u8]| silent_from(&mut tspu, transport, server(n, 443), payload);
    assert_eq!(of(Transport::Tcp, 1, &hello(FINE)), Some(26));
    assert_eq!(of(Transport::Tcp, 2, &looks_encrypted(0)), Some(26));
    assert_eq!(of(Transport::Udp, 3, &initial(FINE)), Some(26));
    assert_eq!(of(Transport::Tcp, 4, &hello("www.allowed.example")), None);
    assert_eq!(of(Transport::Tcp, 5, b"SSH-2.0-OpenSSH_9.2p1\r\n"), None);
    let listed = SocketAddr::from(([203, 0, 113, 5], 443));
    assert_eq!(silent_from(&mut tspu, Transport::Tcp, listed, &hello(FINE)), None);
    let mut later = perturbed("tspu-freeze-2025", "over = 25", "over = 26");
    assert_eq!(
        silent_from(&mut later, Transport::Tcp, server(1, 443), &hello(FINE)),
        Some(27)
    );
}

/// net4people/bbs#546: twelve pass, the thirteenth ends all of them for a minute.
#[test]
fn conn_count_2025_bears_twelve_connections_and_kills_thirteen() {
    let start = |engine: &mut Engine, n: u16, payload: &[u8]| {
        let mut all: Vec<Talk> = (0..n)
            .map(|k| Talk::tcp(client(40_000 + k), server(1, 443)))
            .collect();
        let verdicts: Vec<Verdict> = all
            .iter_mut()
            .map(|talk| {
                assert_eq!(talk.open(engine, 0), Verdict::Pass);
                talk.say(engine, 0, payload)
            })
            .collect();
        (all, verdicts)
    };
    let mut counting = engine("conn-count-2025");
    let (mut all, verdicts) = start(&mut counting, 12, &hello(FINE));
    assert!(verdicts.iter().all(|verdict| *verdict == Verdict::Pass));
    assert!(
        all.iter_mut()
            .all(|talk| talk.hear(&mut counting, SECOND, b"x") == Verdict::Pass)
    );

    let mut counting = engine("conn-count-2025");
    let (mut all, verdicts) = start(&mut counting, 13, &hello(FINE));
    assert_eq!(
        verdicts.iter().position(|verdict| *verdict == Verdict::Drop),
        Some(12)
    );
    for talk in &mut all {
        assert_eq!(talk.hear(&mut counting, SECOND, b"x"), Verdict::Drop);
        assert_eq!(talk.say(&mut counting, 50 * SECOND, b"x"), Verdict::Drop);
    }
    assert_eq!(
        first(&mut counting, SECOND, 50_000, server(2, 443), &hello(FINE)),
        Verdict::Pass
    );
    // The client gives them up; a minute after the last of them was caught it may come again.
    let rst = TcpFlags {
        rst: true,
        ..TcpFlags::default()
    };
    for talk in &mut all {
        talk.segment(&mut counting, 51 * SECOND, true, rst, &[]);
    }
    for (second, wanted) in [(60, Verdict::Drop), (61, Verdict::Pass)] {
        let verdict = first(
            &mut counting,
            second * SECOND,
            50_000 + second as u16,
            server(1, 443),
            &hello(FINE),
        );
        assert_eq!(verdict, wanted, "after {second} s");
    }
    // What is not TLS brings nothing down.
    let mut counting = engine("conn-count-2025");
    let (_, verdicts) = start(&mut counting, 13, b"SSH-2.0-x\r\n");
    assert!(verdicts.iter().all(|verdict| *verdict == Verdict::Pass));
    let mut counting = perturbed("conn-count-2025", "over = 12", "over = 11");
    let (_, verdicts) = start(&mut counting, 12, &hello(FINE));
    assert_eq!(verdicts[11], Verdict::Drop);
}

/// Nourin et al., WWW 2023: patterns block much more than what was meant.
#[test]
fn turkmenistan_blocks_dns_http_and_https_and_names_that_only_look_alike() {
    let mut turkmenistan = engine("turkmenistan");
    for (n, name) in [
        BLOCKED,
        "twitter.com",
        "notblocked.example",
        "dawn.com",
        "crown.com",
    ]
    .into_iter()
    .enumerate()
    {
        let from = 40_000 + n as u16;
        assert_eq!(
            first(&mut turkmenistan, 0, from, server(1, 443), &hello(name)),
            BOTH,
            "{name}"
        );
        let request = http_request("GET", "/", name);
        assert_eq!(
            first(&mut turkmenistan, 0, from, server(1, 80), &request),
            BOTH,
            "{name}"
        );
        let question = datagram(&mut turkmenistan, 0, from, server(1, 53), &dns_query(7, name, 1));
        assert!(matches!(question, Verdict::Forge { .. }), "{name}");
    }
    for (port, payload) in [
        (443, hello(FINE)),
        (80, http_request("GET", "/", FINE)),
        (443, looks_encrypted(0)),
    ] {
        assert_eq!(
            first(&mut turkmenistan, 0, 41_000 + port, server(2, port), &payload),
            Verdict::Pass
        );
    }
}

#[test]
fn shutdown_drops_everything() {
    let mut shutdown = engine("shutdown");
    for n in 0..50 {
        assert_eq!(
            Talk::tcp(client(40_000), server(n, 443)).open(&mut shutdown, 0),
            Verdict::Drop
        );
        assert_eq!(
            datagram(&mut shutdown, 0, 40_000, server(n, 53), &dns_query(7, FINE, 1)),
            Verdict::Drop
        );
        let inward = Talk::udp(client(40_001), server(n, 53)).hear(&mut shutdown, 0, b"x");
        assert_eq!(inward, Verdict::Drop);
    }
    assert_eq!(shutdown.counts()[0].dropped, 150);
}

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
