//! A censor of one rule whose script is given, and packets for it.

#![allow(dead_code, reason = "each test file uses what it needs")]

use std::net::SocketAddr;

use phantom_censor::craft;
use phantom_censor::engine::{Decision, Direction, Engine, Verdict};
use phantom_censor::file::{CensorFile, FileError};
use phantom_censor::packet::{Frame, LinkType, TcpFlags, parse};
use phantom_script::load::Scripts;

/// A file with one rule that drops what `script` sentences; `more` goes into the rule.
pub(crate) fn file(script: &str, more: &str) -> Result<CensorFile, FileError> {
    let text = format!(
        "name = \"mine\"\nsummary = \"a test\"\n\n[[rule]]\nname = \"asks\"\nsource = \"a test\"\nscript = \"s.rhai\"\naction = \
         \"drop\"\n{more}\n"
    );
    let bytes = script.as_bytes().to_vec();
    CensorFile::parse_scripted(
        "mine.toml",
        &text,
        &mut Scripts::new(|name, max| match name {
            "s.rhai" => Ok(bytes[..bytes.len().min(max)].to_vec()),
            _ => Err(std::io::ErrorKind::NotFound.into()),
        }),
    )
}

pub(crate) fn engine(script: &str) -> Engine {
    file(script, "")
        .unwrap_or_else(|error| panic!("{error}"))
        .engine(7)
}

/// What is said of a script that is not good.
pub(crate) fn refused(script: &str) -> String {
    match file(script, "") {
        Ok(_) => panic!("{script} is taken"),
        Err(error) => error.to_string(),
    }
}

pub(crate) const CLIENT: ([u8; 4], u16) = ([10, 0, 0, 1], 40_000);
pub(crate) const SERVER: ([u8; 4], u16) = ([198, 51, 100, 7], 443);

pub(crate) fn address((ip, port): ([u8; 4], u16)) -> SocketAddr {
    SocketAddr::new(ip.into(), port)
}

/// A segment with data from the client, after `seq - 1` bytes.
pub(crate) fn up(seq: u32, data: &[u8]) -> Vec<u8> {
    let flags = TcpFlags {
        ack: true,
        ..TcpFlags::default()
    };
    craft::tcp(address(CLIENT), address(SERVER), flags, seq, 1, data)
}

pub(crate) fn down(seq: u32, data: &[u8]) -> Vec<u8> {
    let flags = TcpFlags {
        ack: true,
        ..TcpFlags::default()
    };
    craft::tcp(address(SERVER), address(CLIENT), flags, seq, 1, data)
}

pub(crate) fn syn() -> Vec<u8> {
    let flags = TcpFlags {
        syn: true,
        ..TcpFlags::default()
    };
    craft::tcp(address(CLIENT), address(SERVER), flags, 0, 0, b"")
}

pub(crate) fn decide(engine: &mut Engine, at_ns: u64, ip: &[u8]) -> Decision {
    let Ok(Frame::Packet(packet)) = parse(LinkType::from_number(101).expect("raw IP"), ip) else {
        panic!("a packet");
    };
    let direction = match packet.source.ip() {
        std::net::IpAddr::V4(ip) if ip.is_private() => Direction::Outbound,
        _ => Direction::Inbound,
    };
    engine.decide(at_ns, direction, &packet)
}

/// What becomes of packets, a millisecond apart.
pub(crate) fn play(engine: &mut Engine, packets: &[Vec<u8>]) -> Vec<Verdict> {
    packets
        .iter()
        .enumerate()
        .map(|(at, packet)| decide(engine, at as u64 * 1_000_000, packet).verdict)
        .collect()
}

/// At how many packets the script failed, and what is told of the first.
pub(crate) fn faults(engine: &Engine) -> (u64, String) {
    let faults = engine.program(0).expect("a script").faults();
    (faults.packets, faults.first.clone().unwrap_or_default())
}
