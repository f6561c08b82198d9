//! Connections that the tests play packet by packet, and what the counts of many may be.

use std::net::{Ipv4Addr, SocketAddr};

use phantom_censor::catalogue;
use phantom_censor::classify::Transport;
use phantom_censor::classify::quic::Version;
use phantom_censor::craft::{Hello, quic_initial, tls_records};
use phantom_censor::engine::{Decision, Direction, Engine, Verdict};
use phantom_censor::file::CensorFile;
use phantom_censor::packet::{Header, Packet, TcpFlags};
use phantom_path::dice::Dice;

pub(crate) const SECOND: u64 = 1_000_000_000;
pub(crate) const BOTH: Verdict = Verdict::Reset {
    client: true,
    server: true,
};
/// A name on every list of the catalogue, which nobody has.
pub(crate) const BLOCKED: &str = "www.blocked.example";
pub(crate) const FINE: &str = "fine.example";

pub(crate) fn censor(name: &str) -> CensorFile {
    catalogue::censor(name).unwrap_or_else(|error| panic!("{error}"))
}

pub(crate) fn engine(name: &str) -> Engine {
    censor(name).engine(1)
}

/// The same censor with a piece of its file replaced: another parameter, that a test must notice.
pub(crate) fn perturbed(name: &str, from: &str, to: &str) -> Engine {
    varied(name, &[(from, to)])
}

/// The same with several pieces replaced, each wherever it stands.
pub(crate) fn varied(name: &str, pieces: &[(&str, &str)]) -> Engine {
    let mut text = catalogue::text(name).expect("a name of the catalogue").to_owned();
    for (from, to) in pieces {
        assert!(text.contains(from), "{name} has no {from}");
        text = text.replace(from, to);
    }
    CensorFile::parse(name, &text)
        .unwrap_or_else(|error| panic!("{error}"))
        .engine(1)
}

pub(crate) fn client(port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], port))
}

/// One of many servers, in no range of any list.
pub(crate) fn server(n: u32, port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::from_bits(0x2D00_0000 + n), port))
}

pub(crate) fn hello(name: &str) -> Vec<u8> {
    tls_records(&Hello::to(name).message(), 1 << 14)
}

pub(crate) fn initial(name: &str) -> Vec<u8> {
    quic_initial(Version::V1, &[7; 8], &[(0, &Hello::to(name).message())])
}

pub(crate) fn random(n: u64, len: usize) -> Vec<u8> {
    let mut dice = Dice::new(n);
    (0..len).map(|_| dice.draw() as u8).collect()
}

/// A flow that a test plays, packet by packet.
pub(crate) struct Talk {
    pub(crate) transport: Transport,
    pub(crate) client: SocketAddr,
    pub(crate) server: SocketAddr,
    pub(crate) seq: [u32; 2],
}

impl Talk {
    pub(crate) fn tcp(client: SocketAddr, server: SocketAddr) -> Self {
        Self {
            transport: Transport::Tcp,
            client,
            server,
            seq: [1_000, 9_000],
        }
    }

    pub(crate) fn udp(client: SocketAddr, server: SocketAddr) -> Self {
        Self {
            transport: Transport::Udp,
            ..Self::tcp(client, server)
        }
    }

    pub(crate) fn send(
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

    pub(crate) fn segment(
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
    pub(crate) fn open(&mut self, engine: &mut Engine, at_ns: u64) -> Verdict {
        match self.send(engine, at_ns, true, true, &[]).verdict {
            Verdict::Pass => self.send(engine, at_ns, false, true, &[]).verdict,
            other => other,
        }
    }

    pub(crate) fn say(&mut self, engine: &mut Engine, at_ns: u64, payload: &[u8]) -> Verdict {
        self.send(engine, at_ns, true, false, payload).verdict
    }

    pub(crate) fn hear(&mut self, engine: &mut Engine, at_ns: u64, payload: &[u8]) -> Verdict {
        self.send(engine, at_ns, false, false, payload).verdict
    }
}

/// Opens a connection and says something: what becomes of that.
pub(crate) fn first(engine: &mut Engine, at_ns: u64, from: u16, to: SocketAddr, payload: &[u8]) -> Verdict {
    let mut talk = Talk::tcp(client(from), to);
    match talk.open(engine, at_ns) {
        Verdict::Pass => talk.say(engine, at_ns, payload),
        other => other,
    }
}

pub(crate) fn datagram(
    engine: &mut Engine,
    at_ns: u64,
    from: u16,
    to: SocketAddr,
    payload: &[u8],
) -> Verdict {
    Talk::udp(client(from), to).say(engine, at_ns, payload)
}

/// When a block ends: the first second in which `passes`, looked for up to `seconds`.
pub(crate) fn ends(seconds: u64, mut passes: impl FnMut(u64) -> bool) -> Option<u64> {
    (1..=seconds).find(|second| passes(*second))
}

/// Asserts that a count is within the central 99.9 % of a binomial (normal approximation; z = 3.2905).
pub(crate) fn assert_binomial(hits: u64, of: u64, chance: f64) {
    assert!(is_binomial(hits, of, chance), "{hits} of {of}, expected {chance}");
}

pub(crate) fn is_binomial(hits: u64, of: u64, chance: f64) -> bool {
    let (hits, of) = (hits as f64, of as f64);
    (hits - of * chance).abs() <= 3.2905 * (of * chance * (1.0 - chance)).sqrt() + 0.5
}

/// The share of 4,000 connections, each to a server of its own, whose first packet is dropped.
pub(crate) fn dropped(engine: &mut Engine, payload: impl Fn(u64) -> Vec<u8>) -> u64 {
    let hit = (0..4_000_u32)
        .filter(|n| first(engine, 0, 40_000, server(*n, 443), &payload(u64::from(*n))) == Verdict::Drop);
    hit.count() as u64
}

/// Starts as no exempt packet does: four bits of each byte are set, and none is printable.
pub(crate) fn looks_encrypted(n: u64) -> Vec<u8> {
    let mut payload = vec![0x93; 300];
    payload[299] = if n.is_multiple_of(2) { 0x93 } else { 0xc9 };
    payload
}
