//! Valid inputs for every target, made by the code they test: where a fuzzer begins.

use std::net::SocketAddr;

use phantom_censor::catalogue;
use phantom_censor::classify::quic::Version;
use phantom_censor::craft::{
    Hello, PcapFile, PcapNgFile, cooked, cooked_v2, dns_query, ethernet, http_request, loopback,
    quic_initial, tcp, tls_records, udp,
};
use phantom_censor::packet::TcpFlags;
use phantom_script::shipped::SHIPPED;

use crate::packets::packet;

/// The seeds of a target; none for a name that is no target.
pub fn of(target: &str) -> Vec<Vec<u8>> {
    match target {
        "capture" => captures(),
        "classify" => said(),
        "censor_file" => censor_files(),
        "script" => scripts(),
        _ => Vec::new(),
    }
}

fn end(host: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, host], port))
}

fn captures() -> Vec<Vec<u8>> {
    let flags = TcpFlags {
        ack: true,
        ..TcpFlags::default()
    };
    let hello = tls_records(&Hello::to("a.example").message(), 1 << 14);
    let segment = tcp(end(1, 40_000), end(2, 443), flags, 1, 1, &hello);
    let question = udp(end(1, 40_000), end(2, 53), &dns_query(7, "a.example", 1));
    let mut files = Vec::new();
    for (big_endian, nanoseconds) in [(false, false), (true, true)] {
        for (link, frame) in [
            (1, ethernet(&[7], &segment)),
            (101, question.clone()),
            (0, loopback(&segment)),
            (113, cooked(&question)),
            (276, cooked_v2(&question)),
        ] {
            let mut file = PcapFile::new(link, big_endian, nanoseconds);
            file.add(1_000_000_000, &frame).add_cut(2_000_000_000, &frame, 60);
            files.push(file.bytes().to_vec());
        }
        let mut file = PcapNgFile::new(big_endian);
        file.interface(101, Some(9)).interface(1, None);
        file.add(0, 1_000, &segment, Some("a comment"))
            .add(1, 2_000, &ethernet(&[], &question), None);
        file.add_simple(&segment)
            .block(0x0BAD, &[1, 2, 3, 4])
            .section()
            .interface(101, Some(0x8A));
        file.add(0, 7, &question, None);
        files.push(file.bytes().to_vec());
    }
    files
}

fn first_words() -> Vec<(bool, Vec<u8>)> {
    let hello = Hello::to("a.example");
    let message = hello.message();
    let question = dns_query(7, "a.example", 1);
    let mut over_tcp = (question.len() as u16).to_be_bytes().to_vec();
    over_tcp.extend(&question);
    vec![
        (false, tls_records(&message, 1 << 14)),
        (false, tls_records(&message, 50)),
        (false, http_request("GET", "/a", "a.example")),
        (false, b"SSH-2.0-OpenSSH_9.6 Debian\r\n".to_vec()),
        (false, over_tcp),
        (false, vec![0x93; 200]),
        (true, question),
        (true, hello.dtls()),
        (true, quic_initial(Version::V1, &[1; 8], &[(0, &message)])),
        (
            true,
            quic_initial(
                Version::V2,
                &[2; 20],
                &[(60, &message[60..]), (0, &message[..60])],
            ),
        ),
    ]
}

fn said() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (udp, said) in first_words() {
        for cuts in [&[][..], &[3, 200, 1]] {
            let head = [u8::from(udp), cuts.len() as u8];
            seeds.push([&head, cuts, &said].concat());
        }
    }
    seeds
}

/// A text behind its length, and a flow of each kind.
fn with_packets(text: &str) -> Vec<u8> {
    let mut seed = (text.len() as u16).to_be_bytes().to_vec();
    seed.extend(text.as_bytes());
    for (n, (udp, said)) in first_words().into_iter().enumerate() {
        // Between hosts 0 and 2, from port 40,000 to the one of that number.
        let (bits, ports) = (u8::from(udp) << 2, 6 | ((n as u8 % 8) << 4));
        if !udp {
            seed.extend(packet(bits, ports, 2, 1_000, &[]));
        }
        seed.extend(packet(bits, ports, 16, 1_001, &said));
    }
    seed
}

fn censor_files() -> Vec<Vec<u8>> {
    let texts = catalogue::names().filter_map(catalogue::text);
    texts
        .chain([include_str!("../../censor/src/file/everything.toml")])
        .map(with_packets)
        .collect()
}

fn scripts() -> Vec<Vec<u8>> {
    let curious = include_str!("../../script/tests/curious.rhai");
    // This build reads no models.
    let asks_none = SHIPPED.iter().filter(|shipped| shipped.censor().is_ok());
    let shipped = asks_none
        .flat_map(|shipped| shipped.files)
        .filter(|(name, _)| name.ends_with(".rhai"));
    let shipped = shipped.filter_map(|(_, bytes)| std::str::from_utf8(bytes).ok());
    let looped = "let x = []; for i in 0..100 { x.push(packet.len + i); state[`${i}`] = x; } print(x.len()); if x.len() > 50 { sentence() }";
    shipped
        .chain([curious, looped, "loop { }", "delay_ms(5)"])
        .map(with_packets)
        .collect()
}
