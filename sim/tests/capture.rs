//! `run --pcap`: what crosses the border, as a capture. What other places see is in `vantages`.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Output};

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use phantom_censor::capture::Capture;
use phantom_censor::packet::{Frame, Header, LinkType, parse};

fn run(dir: &Path, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_phantom-sim"))
        .args(["run", "first-look", "--out"])
        .arg(dir)
        .args(words)
        .output()
        .unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn digest(output: &Output) -> String {
    let result: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    result["trace_digest"].as_str().unwrap().to_owned()
}

#[test]
fn a_capture_has_whole_packets_with_right_check_sums_in_order_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("all.pcapng");
    let with = run(dir.path(), &["--json", "--pcap", file.to_str().unwrap()]);
    assert!(with.status.success(), "{}", said(&with));
    assert_eq!(digest(&with), digest(&run(dir.path(), &["--json"])));

    let bytes = std::fs::read(&file).unwrap();
    let mut capture = Capture::new(bytes.as_slice()).unwrap();
    let (mut packets, mut last_ns) = (0, 0);
    let mut next: BTreeMap<_, u32> = BTreeMap::new();
    let (mut data, mut holes) = (0, 0);
    while let Some(record) = capture.read().unwrap() {
        packets += 1;
        assert!(record.at_ns >= last_ns, "packet {packets} steps back");
        last_ns = record.at_ns;
        check_sums(record.data);
        let frame = parse(LinkType::from_number(record.link).unwrap(), record.data).unwrap();
        let Frame::Packet(packet) = frame else {
            panic!("packet {packets} is {frame:?}");
        };
        if let Header::Tcp { flags, seq, .. } = packet.header
            && packet.payload_len > 0
        {
            assert!(!flags.syn);
            data += 1;
            // A stream begins with 1, after its SYN; what is lost before the border leaves a hole until it is sent again.
            let next = next.entry((packet.source, packet.destination)).or_insert(1);
            holes += u32::from(seq.wrapping_sub(*next).cast_signed() > 0);
            *next = seq.wrapping_add(packet.payload_len);
        }
    }
    assert!(
        packets > 2_000 && data > 1_000,
        "{packets} packets, {data} with data"
    );
    assert!(holes < data / 50, "{holes} holes in {data} segments");
    let text = String::from_utf8_lossy(&bytes);
    assert!(
        text.contains("censor: dropped"),
        "the censor acts in this scenario"
    );
}

/// Sums over header and payload are what their fields say.
fn check_sums(packet: &[u8]) {
    let sliced = SlicedPacket::from_ip(packet).unwrap();
    let Some(NetSlice::Ipv4(ip)) = &sliced.net else {
        panic!("the scenario has IPv4 alone");
    };
    let header = ip.header().to_header();
    assert_eq!(header.calc_header_checksum(), header.header_checksum);
    match sliced.transport.unwrap() {
        TransportSlice::Tcp(tcp) => {
            let sum = tcp
                .to_header()
                .calc_checksum_ipv4(&header, tcp.payload())
                .unwrap();
            assert_eq!(sum, tcp.checksum());
        }
        TransportSlice::Udp(udp) => {
            let sum = udp
                .to_header()
                .calc_checksum_ipv4(&header, udp.payload())
                .unwrap();
            assert_eq!(sum, udp.checksum());
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_capture_keeps_to_its_size_and_to_the_host_that_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("small.pcapng");
    let path = file.to_str().unwrap();
    let output = run(dir.path(), &["--pcap", path, "--pcap-mb", "1"]);
    assert!(output.status.success());
    assert!(said(&output).contains("more did not fit"), "{}", said(&output));
    assert!(std::fs::metadata(&file).unwrap().len() <= 1_000_000);

    let output = run(dir.path(), &["--pcap", path, "--pcap-host", "client-0"]);
    assert!(output.status.success(), "{}", said(&output));
    let bytes = std::fs::read(&file).unwrap();
    let mut capture = Capture::new(bytes.as_slice()).unwrap();
    let mut common: Option<BTreeSet<IpAddr>> = None;
    let mut packets = 0;
    while let Some(record) = capture.read().unwrap() {
        packets += 1;
        let Frame::Packet(packet) = parse(LinkType::from_number(record.link).unwrap(), record.data).unwrap()
        else {
            panic!("no packet");
        };
        let ends = BTreeSet::from([packet.source.ip(), packet.destination.ip()]);
        common = Some(common.map_or(ends.clone(), |common| &common & &ends));
    }
    assert!(packets > 20, "{packets} packets");
    assert_eq!(common.unwrap().len(), 1, "one address is an end of every packet");
}

#[test]
fn behind_the_censor_nothing_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let packets = |place: &str| {
        let file = dir.path().join(place);
        let path = file.to_str().unwrap();
        let output = run(dir.path(), &["--pcap", path, "--pcap-at", place]);
        assert!(output.status.success(), "{}", said(&output));
        let bytes = std::fs::read(&file).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        let (dropped, named) = (
            text.matches("censor: dropped").count(),
            text.contains("behind-censor"),
        );
        let mut capture = Capture::new(bytes.as_slice()).unwrap();
        let mut packets = 0;
        while capture.read().unwrap().is_some() {
            packets += 1;
        }
        (packets, dropped, named)
    };
    let (before, dropped, named) = packets("border");
    assert!(dropped > 0 && !named, "the censor acts in this scenario");
    assert_eq!(packets("behind"), (before - dropped, 0, true));
}

#[test]
fn a_capture_that_cannot_be_is_refused_with_what_can() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x.pcapng");
    let path = file.to_str().unwrap();
    for (words, wanted) in [
        (
            &["--pcap", "/nowhere/x.pcapng"][..],
            "cannot write /nowhere/x.pcapng",
        ),
        (&["--pcap", path, "--runtime", "paused"], "wanted swarm"),
        (
            &["--pcap", path, "--pcap-host", "nobody"],
            "no host is called 'nobody'",
        ),
        (&["--pcap-host", "client-0"], "--pcap"),
        (&["--pcap", path, "--pcap-at", "hosts"], "--pcap-host NAME"),
        (
            &["--pcap", path, "--pcap-at", "nowhere"],
            "possible values: border, behind, hosts",
        ),
    ] {
        // A capture of an earlier run stays as it was.
        std::fs::write(&file, "an older one").unwrap();
        let output = run(dir.path(), words);
        assert_eq!(output.status.code(), Some(2), "{words:?}: {}", said(&output));
        assert!(said(&output).contains(wanted), "{words:?}: {}", said(&output));
        assert!(
            !said(&output).contains("captured"),
            "{words:?}: {}",
            said(&output)
        );
        assert_eq!(
            std::fs::read_to_string(&file).unwrap(),
            "an older one",
            "{words:?}"
        );
    }
}
