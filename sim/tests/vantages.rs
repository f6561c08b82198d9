//! A capture from several places: the border, behind the censor, and two hosts that speak DNS, TLS and HTTP over lossy links.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use etherparse::{NetSlice, SlicedPacket, TcpOptionElement, TcpSlice, TransportSlice};
use phantom_censor::craft::{Hello, http_request, tls_records};
use phantom_core::runtime::{Listener, Net, Spawn, Udp, timeout};
use phantom_core::units::{Instant, Probability, WallTime};
use phantom_sim::capture::{CaptureConfig, SharedCapture, Summary, Vantage};
use phantom_sim::host::PeerId;
use phantom_sim::swarm::border::{Kind, Middlebox, Packet, Verdict};
use phantom_sim::swarm::{Access, HostSpec, Network, Runtime, Topology, World, WorldConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const CLIENT: [u8; 4] = [198, 51, 100, 1];
const NEIGHBOUR: [u8; 4] = [198, 51, 100, 2];
const SERVER: [u8; 4] = [192, 0, 2, 1];
const RESOLVER: [u8; 4] = [192, 0, 2, 53];
/// Says nothing on the wire of its own; the censor forges its address.
const LIE: [u8; 4] = [203, 0, 113, 66];
const FORBIDDEN: &str = "forbidden.example";
const BODY: usize = 400_000;

/// Loses requests for a name, resets streams to one port, lies about another name.
struct Censor;

impl Middlebox for Censor {
    fn on_packet(&mut self, _: Instant, packet: &Packet) -> Verdict {
        let holds = |name: &str| {
            packet
                .payload
                .windows(name.len())
                .any(|part| part == name.as_bytes())
        };
        if packet.kind == Kind::Query && packet.name.as_deref() == Some("lied.example") {
            return Verdict::ForgeDns {
                addresses: vec![LIE.into()],
                truth_follows: true,
            };
        }
        if packet.kind == Kind::Data && packet.dst.port() == 8_080 {
            return Verdict::Reset {
                client: true,
                server: true,
            };
        }
        match holds(FORBIDDEN) {
            true => Verdict::Drop,
            false => Verdict::Pass,
        }
    }
}

fn host(name: &str, address: [u8; 4], inside: bool, loss: f64) -> HostSpec {
    HostSpec {
        addresses: vec![address.into()],
        inside,
        resolver: inside.then_some(RESOLVER.into()),
        access: Access {
            loss: Probability::new(loss).unwrap(),
            ..Access::new(20_000_000, 20_000_000)
        },
        ..HostSpec::new(name)
    }
}

/// A ServerHello that takes TLS_AES_128_GCM_SHA256, and records of what is encrypted.
fn tls_answer(bytes: usize) -> Vec<u8> {
    let mut hello = vec![3, 3];
    hello.extend([7; 32]);
    hello.extend([0, 0x13, 0x01, 0]);
    hello.extend([0, 6, 0, 43, 0, 2, 3, 4]);
    let mut stream = vec![22, 3, 3, 0, hello.len() as u8 + 4, 2, 0, 0, hello.len() as u8];
    stream.extend(hello);
    for part in vec![0xA5; bytes].chunks(16_000) {
        stream.extend([23, 3, 3]);
        stream.extend((part.len() as u16).to_be_bytes());
        stream.extend(part);
    }
    stream
}

async fn serve(rt: Runtime, port: u16) {
    let mut listener = rt.listen(SocketAddr::from(([0; 4], port))).await.unwrap();
    while let Ok(mut stream) = listener.accept().await {
        rt.spawn("answer", async move {
            let mut request = [0; 2_048];
            if let Ok(1..) = stream.read(&mut request).await {
                let answer = match port {
                    443 => tls_answer(BODY),
                    _ => {
                        let mut answer = format!(
                            "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {BODY}\r\n\r\n"
                        )
                        .into_bytes();
                        answer.extend(vec![b'x'; BODY]);
                        answer
                    }
                };
                let _ = stream.write_all(&answer).await;
                let _ = stream.shutdown().await;
            }
        });
    }
}

/// Asks and reads to the end; how many bytes came.
async fn ask(rt: &Runtime, port: u16, request: Vec<u8>) -> std::io::Result<usize> {
    let mut stream = rt.connect(SocketAddr::from((SERVER, port))).await?;
    stream.write_all(&request).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await
}

async fn browse(rt: Runtime) {
    let found = rt.resolve("www.example").await.unwrap();
    assert_eq!(found, [IpAddr::from(SERVER)]);
    let lied = rt.resolve("lied.example").await.unwrap();
    assert_eq!(lied, [IpAddr::from(LIE)]);
    let udp = rt.bind_udp(SocketAddr::from(([0; 4], 5_000))).await.unwrap();
    udp.send_to(b"good morning", SocketAddr::from((NEIGHBOUR, 5_000)))
        .await
        .unwrap();
    udp.send_to(b"is anybody there", SocketAddr::from((LIE, 5_000)))
        .await
        .unwrap();
    let hello = tls_records(&Hello::to("www.example").message(), 16_000);
    assert!(ask(&rt, 443, hello).await.unwrap() > BODY);
    let request = http_request("GET", "/", "www.example");
    assert!(ask(&rt, 80, request).await.unwrap() > BODY);
    let reset = ask(&rt, 8_080, b"hello".to_vec()).await;
    assert_eq!(reset.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    let request = http_request("GET", "/", FORBIDDEN);
    let waited = timeout(&rt, Duration::from_secs(5), ask(&rt, 80, request)).await;
    assert!(waited.is_err(), "the request is lost and lost again");
}

/// Plays the story and writes what is seen of it.
fn played(path: &Path, config: impl FnOnce(&mut CaptureConfig)) -> Summary {
    let mut topology = Topology::new();
    let region = topology.add_region("here", Duration::from_millis(60));
    let system = topology.add_system("all", region, Duration::ZERO);
    let mut world = World::new(WorldConfig {
        network: Network::Modelled(topology),
        step_limit: 5_000_000,
        ..WorldConfig::new(7)
    });
    let hosts = [
        host("client", CLIENT, true, 0.02),
        host("neighbour", NEIGHBOUR, true, 0.0),
        host("server", SERVER, false, 0.01),
    ];
    let peers = hosts.map(|host| world.add_host(HostSpec { system, ..host }));
    world.add_resolver(HostSpec {
        system,
        resolver: None,
        ..host("resolver", RESOLVER, false, 0.0)
    });
    for name in ["www.example", "lied.example"] {
        world.names(|names| names.insert(name, vec![SERVER.into()], Duration::from_secs(60)));
    }
    world.set_middlebox(Censor);
    let mut wanted = CaptureConfig {
        hosts: vec!["client".to_owned(), "server".to_owned()],
        vantages: vec![Vantage::Border, Vantage::Behind, Vantage::Hosts],
        ..CaptureConfig::new(path)
    };
    config(&mut wanted);
    let watched: Vec<PeerId> = wanted
        .hosts
        .iter()
        .map(|name| peers[usize::from(name == "server") * 2])
        .collect();
    let capture = SharedCapture::create(wanted).unwrap();
    capture.begin(WallTime::from_unix_secs(1_793_620_200), &watched);
    world.set_tap(capture.clone());
    world.start(peers[2], |rt| async move {
        for port in [80, 443, 8_080] {
            let server = serve(rt.clone(), port);
            rt.spawn("serve", server);
        }
        std::future::pending::<()>().await;
    });
    world.start(peers[0], browse);
    world
        .run_until(Instant::ZERO + Duration::from_secs(120), &mut ())
        .unwrap();
    capture.finish().unwrap()
}

/// A packet of a file.
#[derive(Clone, Debug)]
struct Record {
    interface: String,
    at_ns: u64,
    bytes: Vec<u8>,
    comment: String,
    inbound: Option<bool>,
}

impl Record {
    fn tcp<T>(&self, with: impl FnOnce(&TcpSlice<'_>) -> T) -> Option<T> {
        match SlicedPacket::from_ip(&self.bytes).unwrap().transport {
            Some(TransportSlice::Tcp(tcp)) => Some(with(&tcp)),
            _ => None,
        }
    }

    fn ends(&self) -> (IpAddr, IpAddr) {
        match SlicedPacket::from_ip(&self.bytes).unwrap().net {
            Some(NetSlice::Ipv4(ip)) => (
                ip.header().source_addr().into(),
                ip.header().destination_addr().into(),
            ),
            other => panic!("{other:?}"),
        }
    }

    fn holds(&self, text: &str) -> bool {
        self.bytes.windows(text.len()).any(|part| part == text.as_bytes())
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// Options of a block, as (kind, value).
fn options(mut bytes: &[u8]) -> Vec<(u16, Vec<u8>)> {
    let mut found = Vec::new();
    while bytes.len() >= 4 {
        let kind = u16::from_le_bytes([bytes[0], bytes[1]]);
        let len = usize::from(u16::from_le_bytes([bytes[2], bytes[3]]));
        if kind == 0 {
            break;
        }
        found.push((kind, bytes[4..4 + len].to_vec()));
        bytes = &bytes[4 + len.next_multiple_of(4)..];
    }
    found
}

/// The names of the interfaces, and the packets, read here by the draft and by nothing of ours.
fn read(path: &Path) -> (Vec<String>, Vec<Record>) {
    let file = std::fs::read(path).unwrap();
    let (mut rest, mut names, mut records) = (file.as_slice(), Vec::new(), Vec::new());
    while !rest.is_empty() {
        let (block, len) = (word(rest, 0), word(rest, 4) as usize);
        let body = &rest[8..len - 4];
        match block {
            1 => {
                let options = options(&body[8..]);
                let name = options.iter().find(|(kind, _)| *kind == 2).unwrap();
                names.push(String::from_utf8(name.1.clone()).unwrap());
            }
            6 => {
                let size = word(body, 12) as usize;
                let options = options(&body[20 + size.next_multiple_of(4)..]);
                let of = |wanted: u16| {
                    options
                        .iter()
                        .find(|(kind, _)| *kind == wanted)
                        .map(|o| o.1.clone())
                };
                records.push(Record {
                    interface: names[word(body, 0) as usize].clone(),
                    at_ns: u64::from(word(body, 4)) << 32 | u64::from(word(body, 8)),
                    bytes: body[20..20 + size].to_vec(),
                    comment: String::from_utf8(of(1).unwrap_or_default()).unwrap(),
                    inbound: of(2).map(|flags| word(&flags, 0) & 3 == 1),
                });
            }
            _ => {}
        }
        rest = &rest[len..];
    }
    (names, records)
}

#[test]
fn each_place_has_an_interface_and_a_packet_passes_them_in_order_of_time() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("all.pcapng");
    let summary = played(&file, |_| {});
    let (names, records) = read(&file);
    assert_eq!(names, ["border", "behind-censor", "client", "server"]);
    assert_eq!(summary.packets, records.len() as u64);
    assert!(
        records.is_sorted_by_key(|record| record.at_ns),
        "in order of time"
    );

    // The times at which the same bytes were at each place, on their way from the client to the server and back.
    let mut seen: BTreeMap<&[u8], [Vec<u64>; 4]> = BTreeMap::new();
    let ends = [IpAddr::from(CLIENT), IpAddr::from(SERVER)];
    for record in &records {
        let (source, destination) = record.ends();
        if !(ends.contains(&source) && ends.contains(&destination)) || record.comment == "censor: forged" {
            continue;
        }
        let place = match (record.interface.as_str(), record.inbound) {
            ("border", None) => 1,
            ("behind-censor", None) => 2,
            ("client" | "server", Some(false)) => 0,
            ("client" | "server", Some(true)) => 3,
            other => panic!("{other:?}"),
        };
        // What the censor forges arrives as well, and nobody sent it.
        if place == 3 && record.tcp(|tcp| tcp.rst()) == Some(true) {
            continue;
        }
        seen.entry(&record.bytes).or_default()[place].push(record.at_ns);
    }
    let mut lost = [0; 3];
    for places in seen.values() {
        for (n, step) in places.windows(2).enumerate() {
            assert!(step[0].len() >= step[1].len(), "nothing comes from nowhere");
            lost[n] += step[0].len() - step[1].len();
        }
        if let [left, border, behind, arrived] = places
            && let ([left], [border], [behind], [arrived]) =
                (&left[..], &border[..], &behind[..], &arrived[..])
        {
            assert!(left <= border && border <= behind, "{left} {border} {behind}");
            assert!(behind + 30_000_000 <= *arrived, "30 ms one way");
        }
    }
    assert!(seen.len() > 800, "{} packets", seen.len());
    assert!(lost[0] > 10, "links lose some: {lost:?}");
    assert!(lost[1] >= 3, "the censor drops some: {lost:?}");
}

#[test]
fn what_the_censor_does_shows_before_and_behind_it() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("all.pcapng");
    played(&file, |_| {});
    let (_, records) = read(&file);
    let at = |interface: &'static str, wanted: &dyn Fn(&Record) -> bool| {
        records
            .iter()
            .filter(|record| record.interface == interface && wanted(record))
            .map(|record| record.comment.as_str())
            .collect::<Vec<_>>()
    };
    let forbidden: &dyn Fn(&Record) -> bool = &|record| record.holds(FORBIDDEN);
    assert!(at("client", forbidden).len() >= 3, "sent again and again");
    let dropped = at("border", forbidden);
    assert!(dropped.len() >= 3 && dropped.iter().all(|comment| *comment == "censor: dropped"));
    assert!(at("behind-censor", forbidden).is_empty() && at("server", forbidden).is_empty());

    let reset: &dyn Fn(&Record) -> bool = &|record| record.tcp(|tcp| tcp.rst()) == Some(true);
    assert!(at("border", reset).is_empty(), "nobody but the censor resets");
    assert_eq!(at("behind-censor", reset), ["censor: forged"; 2]);
    assert_eq!((at("client", reset).len(), at("server", reset).len()), (1, 1));

    let lie: &dyn Fn(&Record) -> bool = &|record| record.bytes.ends_with(&LIE);
    assert_eq!(at("behind-censor", lie), ["censor: forged"]);
    assert_eq!(at("client", lie), [""]);
    assert!(at("border", lie).is_empty(), "the lie does not come from outside");
    let lied: &dyn Fn(&Record) -> bool = &|record| record.holds("lied");
    assert_eq!(at("border", lied), ["censor: answered with 1 forged addresses"]);
    assert_eq!(
        at("behind-censor", lied),
        ["", "censor: forged"],
        "the question goes on"
    );

    for text in ["good morning", "is anybody there"] {
        let local: &dyn Fn(&Record) -> bool = &|record| record.holds(text);
        assert_eq!(
            (at("client", local).len(), at("border", local).len()),
            (1, 0),
            "{text}"
        );
    }
}

#[test]
fn segments_have_the_options_of_linux_and_blocks_say_what_arrived() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("all.pcapng");
    played(&file, |_| {});
    let (_, records) = read(&file);
    let (mut handshakes, mut stamped, mut blocks_seen, mut echoes) = (0, 0, 0, 0);
    // Bytes that were through the client's link, by stream; time stamps that the other end sent.
    let mut arrived: BTreeMap<(u16, u16), BTreeSet<u32>> = BTreeMap::new();
    let mut stamps: BTreeMap<(u16, u16), BTreeSet<u32>> = BTreeMap::new();
    for record in records.iter().filter(|record| record.interface == "client") {
        record.tcp(|tcp| {
            let options: Vec<_> = tcp.options_iterator().map(Result::unwrap).collect();
            let (local, remote) = match record.inbound.unwrap() {
                true => (tcp.destination_port(), tcp.source_port()),
                false => (tcp.source_port(), tcp.destination_port()),
            };
            if tcp.rst() {
                assert!(options.is_empty());
                return;
            }
            let stamp = options.iter().find_map(|option| match option {
                TcpOptionElement::Timestamp(own, echo) => Some((*own, *echo)),
                _ => None,
            });
            let (own, echo) = stamp.expect("all but resets have time stamps");
            stamped += 1;
            if tcp.syn() {
                handshakes += 1;
                let [mss, sack, _, noop, scale] = &options[..] else {
                    panic!("{options:?}");
                };
                assert_eq!(*mss, TcpOptionElement::MaximumSegmentSize(1_460));
                assert_eq!(*sack, TcpOptionElement::SelectiveAcknowledgementPermitted);
                assert_eq!(
                    (noop, scale),
                    (&TcpOptionElement::Noop, &TcpOptionElement::WindowScale(7))
                );
                assert_eq!(tcp.window_size(), 64_240, "not scaled in a handshake");
            }
            let places = arrived.entry((local, remote)).or_default();
            if record.inbound == Some(true) {
                stamps.entry((local, remote)).or_default().insert(own);
                let first = tcp.sequence_number();
                places.extend(first..first + tcp.payload().len() as u32 + u32::from(tcp.fin()));
                return;
            }
            if tcp.ack() {
                echoes += 1;
                let sent = stamps.get(&(local, remote)).unwrap();
                assert!(sent.contains(&echo), "{echo} is a time stamp that arrived");
            }
            for option in &options {
                if let TcpOptionElement::SelectiveAcknowledgement(first, more) = option {
                    for (start, end) in std::iter::once(*first).chain(more.iter().flatten().copied()) {
                        blocks_seen += 1;
                        assert!(start < end);
                        assert!(
                            places.range(start..end).count() == (end - start) as usize,
                            "{start}..{end}"
                        );
                    }
                    assert!(
                        !places.contains(&tcp.acknowledgment_number()),
                        "what is asked for is missing"
                    );
                }
            }
        });
    }
    assert!(handshakes >= 8, "{handshakes} SYN and SYN-ACK");
    assert!(
        stamped > 300 && echoes > 100,
        "{stamped} segments, {echoes} echoes"
    );
    assert!(blocks_seen > 20, "{blocks_seen} blocks");
}

/// What tshark says of a file; `None`, and why, if it is not here.
fn tshark(file: &Path, words: &[&str]) -> Option<String> {
    let output = Command::new("tshark")
        .args(["-n", "-r", file.to_str().unwrap()])
        .args(words)
        .output();
    match output {
        Ok(output) => {
            assert!(
                output.status.success(),
                "{}",
                String::from_utf8_lossy(&output.stderr)
            );
            Some(String::from_utf8(output.stdout).unwrap())
        }
        Err(error) => {
            let required = std::env::var_os("PHANTOM_REQUIRE_INTEROP").is_some();
            assert!(
                !required,
                "tshark does not start ({error}), and PHANTOM_REQUIRE_INTEROP is set"
            );
            eprintln!("not tested: tshark does not start ({error}); apt-get install tshark");
            None
        }
    }
}

const CHECKED: [&str; 8] = [
    "-o",
    "tcp.check_checksum:TRUE",
    "-o",
    "udp.check_checksum:TRUE",
    "-o",
    "ip.check_checksum:TRUE",
    // Otherwise a segment that is sent again is an error of reassembly.
    "-o",
    "tcp.reassemble_out_of_order:TRUE",
];

#[test]
fn tshark_finds_nothing_malformed_no_wrong_sum_and_every_protocol() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("all.pcapng");
    played(&file, |_| {});
    let count = |file: &Path, filter: &str| {
        let words: Vec<&str> = CHECKED.into_iter().chain(["-Y", filter]).collect();
        tshark(file, &words).map(|text| text.lines().count())
    };
    let Some(all) = count(&file, "frame") else { return };
    assert!(all > 3_000, "{all} packets");
    let wrong =
        "_ws.malformed || tcp.checksum.status == 0 || udp.checksum.status == 0 || ip.checksum.status == 0";
    // Place by place: together, what tshark puts together of a stream has each segment several times.
    for name in read(&file).0 {
        let alone = dir.path().join(&name);
        let filter = format!("frame.interface_name == \"{name}\"");
        tshark(&file, &["-Y", &filter, "-w", alone.to_str().unwrap()]);
        assert_eq!(count(&alone, wrong), Some(0), "{name}");
    }
    let wrong = "tcp.checksum.status == 0 || udp.checksum.status == 0 || ip.checksum.status == 0";
    assert_eq!(count(&file, wrong), Some(0));
    for (place, named) in [
        ("client", "dns.qry.name == \"www.example\""),
        ("behind-censor", "dns.a == 192.0.2.1"),
        (
            "server",
            "tls.handshake.extensions_server_name == \"www.example\"",
        ),
        ("server", "tls.handshake.type == 2"),
        (
            "client",
            "tls.record.content_type == 23 || tls.record.opaque_type == 23",
        ),
        (
            "server",
            "http.request.method == \"GET\" && http.host == \"www.example\"",
        ),
        ("client", "http.response.code == 200"),
        ("server", "tcp.options.sack_le"),
        (
            "border",
            "frame.comment contains \"censor: dropped\" && http.host == \"forbidden.example\"",
        ),
        ("client", "frame.packet_flags_direction == 1"),
    ] {
        assert!(
            count(&dir.path().join(place), named).unwrap() > 0,
            "{place}: {named}"
        );
    }
    // A sum that is wrong is found: what holds above is not for want of looking.
    let mut bytes = std::fs::read(&file).unwrap();
    let place = bytes.windows(11).position(|part| part == b"Host: www.e").unwrap();
    bytes[place + 6] = b'v';
    let spoilt = dir.path().join("spoilt.pcapng");
    std::fs::write(&spoilt, bytes).unwrap();
    assert_eq!(count(&spoilt, wrong), Some(1));
}

#[test]
fn tshark_sees_as_many_retransmissions_as_the_server_sends() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("server.pcapng");
    // One place alone: in a file with several, each packet seems to be sent again.
    played(&file, |config| {
        config.hosts = vec!["server".to_owned()];
        config.vantages = vec![Vantage::Hosts];
    });
    let (names, records) = read(&file);
    assert_eq!(names, ["server"]);
    let mut highest: BTreeMap<(u16, u16), u32> = BTreeMap::new();
    let mut again = 0;
    for record in records.iter().filter(|record| record.inbound == Some(false)) {
        record.tcp(|tcp| {
            let end = tcp.sequence_number() + tcp.payload().len() as u32;
            let highest = highest
                .entry((tcp.source_port(), tcp.destination_port()))
                .or_default();
            again += u32::from(!tcp.payload().is_empty() && end <= *highest);
            *highest = end.max(*highest);
        });
    }
    assert!(again > 10, "{again} sent again");
    // By its time tshark calls one that is sent again early out of order.
    let filter =
        "(tcp.analysis.retransmission || tcp.analysis.out_of_order) && ip.src == 192.0.2.1 && tcp.len > 0";
    if let Some(text) = tshark(&file, &["-Y", filter]) {
        assert_eq!(text.lines().count(), again as usize, "{text}");
    }
}
