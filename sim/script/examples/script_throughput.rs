//! Packets a second through a censor with a script, on one core: file, frames, flow table, classifiers, script.
//!
//! ```text
//! cargo run --release -p phantom-script --example script_throughput
//! ```
//!
//! The usual capture of `phantom-censor`'s own measurement: 50,000 small packets in connections of five, a quarter each TLS,
//! random, HTTP, SSH. It fails below 50,000 packets a second of this thread's processor time; without the kernel's word for
//! that, of the median turn. One script is told and not judged: it reads every field of every packet, in loops.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use phantom_censor::capture::Capture;
use phantom_censor::craft::{self, Hello, PcapFile};
use phantom_censor::engine::{Direction, Engine};
use phantom_censor::file::CensorFile;
use phantom_censor::flow::{FlowConfig, FlowTable};
use phantom_censor::packet::{Frame, LinkType, TcpFlags, parse};
use phantom_script::load::Scripts;
use phantom_script::shipped::SHIPPED;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};

const PACKETS: usize = 50_000;
const TURNS: u32 = 5;
const CURIOUS: &str = "one that reads every field";
const WANTED_PER_SECOND: f64 = 50_000.0;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let capture = usual();
    let tutorial = include_str!("../../../docs/CENSOR-SCRIPTS.md");
    let (_, tutorial) = tutorial
        .split_once("mine.rhai -->\n```rust\n")
        .ok_or("no script in the tutorial")?;
    let (tutorial, _) = tutorial.split_once("```").ok_or("no end of it")?;
    let mut censors = vec![
        (CURIOUS, file(include_str!("../tests/curious.rhai"))?),
        ("the tutorial's, asked at every packet", file(tutorial)?),
    ];
    for shipped in SHIPPED {
        match shipped.censor() {
            Ok(censor) => censors.push((shipped.name, censor)),
            Err(_) => println!("{}: not measured, this build reads no models", shipped.name),
        }
    }
    let mut missed = false;
    for (name, censor) in censors {
        let (mut times, mut acted) = (Vec::new(), 0);
        let before = cpu_time();
        for _ in 0..TURNS {
            let start = now();
            let mut engine = censor.engine(0);
            acted = run(&capture, &mut engine)?;
            times.push(start.elapsed());
            let faults = engine.program(0).ok_or("no script")?.faults();
            if let Some(first) = &faults.first {
                return Err(format!("{name} fails: {first}").into());
            }
        }
        let cpu = before
            .zip(cpu_time())
            .map(|(before, after)| (after - before) / TURNS);
        times.sort_unstable();
        let median = times[times.len() / 2];
        let rate = |time: Duration| PACKETS as f64 / time.as_secs_f64();
        let per_core = rate(cpu.unwrap_or(median));
        missed |= name != CURIOUS && per_core < WANTED_PER_SECOND;
        println!(
            "{name}: {per_core:.0} packets/s per core, by the clock {:.0} (median of {TURNS}), {acted} acted on",
            rate(median)
        );
    }
    if missed {
        return Err(format!("below {WANTED_PER_SECOND} packets/s").into());
    }
    Ok(())
}

fn file(script: &str) -> Result<CensorFile, Box<dyn std::error::Error>> {
    let text = "name = \"x\"\nsummary = \"x\"\n[[rule]]\nname = \"x\"\nsource = \"a benchmark\"\nscript = \"x.rhai\"\naction = \"drop\"\n";
    let mut scripts = Scripts::new(|_, _| Ok(script.as_bytes().to_vec()));
    Ok(CensorFile::parse_scripted("x.toml", text, &mut scripts)?)
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures real time")]
fn now() -> Instant {
    Instant::now()
}

/// What the kernel says this thread ran, where it says so.
fn cpu_time() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}

/// As `classify` does: a flow table of its own beside the censor's.
fn run(capture: &[u8], engine: &mut Engine) -> Result<u64, Box<dyn std::error::Error>> {
    let mut acted = 0;
    let mut labelled = 0_u64;
    let mut capture = Capture::new(capture)?;
    let mut table = FlowTable::new(FlowConfig::default());
    while let Some(record) = capture.read()? {
        if let Frame::Packet(packet) = parse(LinkType::from_number(record.link)?, record.data)? {
            table.add(record.at_ns, &packet, |flow| {
                labelled += u64::from(flow.labels().protocol.is_some());
            });
            let direction = match packet.source.ip() {
                IpAddr::V4(ip) if ip.is_private() => Direction::Outbound,
                _ => Direction::Inbound,
            };
            acted += u64::from(engine.decide(record.at_ns, direction, &packet).rule.is_some());
        }
    }
    table.finish(|flow| labelled += u64::from(flow.labels().protocol.is_some()));
    if labelled == 0 {
        return Err("no flow was labelled".into());
    }
    Ok(acted)
}

fn usual() -> Vec<u8> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut file = PcapFile::new(1, false, true);
    let flags = |syn, ack| TcpFlags {
        syn,
        ack,
        ..TcpFlags::default()
    };
    for turn in 0..PACKETS / 5 {
        let [_, b, c, d] = (turn as u32 / 100).to_be_bytes();
        let client = SocketAddr::new([10, b, c, d].into(), 40_000 + (turn % 100) as u16);
        let server = SocketAddr::new([198, 51, 100, (turn % 200) as u8].into(), 443);
        let mut random = vec![0; 300];
        rng.fill_bytes(&mut random);
        let data = match turn % 4 {
            0 => craft::tls_records(&Hello::to("www.example.org").message(), 16_384),
            1 => random,
            2 => craft::http_request("GET", "/index.html", "www.example.org"),
            _ => b"SSH-2.0-OpenSSH_9.2p1\r\n".to_vec(),
        };
        let packets = [
            craft::tcp(client, server, flags(true, false), 1, 0, b""),
            craft::tcp(server, client, flags(true, true), 1, 2, b""),
            craft::tcp(client, server, flags(false, true), 2, 2, b""),
            craft::tcp(client, server, flags(false, true), 2, 2, &data),
            craft::tcp(server, client, flags(false, true), 2, 2, b"answer"),
        ];
        for (at, packet) in packets.iter().enumerate() {
            file.add((turn * 5 + at) as u64 * 100_000, &craft::ethernet(&[], packet));
        }
    }
    file.bytes().to_vec()
}
