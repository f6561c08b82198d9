//! `phantom-sim classify`, run as a user runs it, on captures that are made here.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use phantom_censor::classify::quic::Version;
use phantom_censor::craft::{self, Hello, PcapFile, PcapNgFile};
use phantom_censor::packet::TcpFlags;
use serde_json::Value;
use tempfile::TempDir;

fn classify(args: &[&str], stdin: &[u8]) -> (i32, String, String) {
    command("classify", args, stdin)
}

fn command(name: &str, args: &[&str], stdin: &[u8]) -> (i32, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_phantom-sim"))
        .arg(name)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    // A usage error ends it before it reads.
    let _ = child.stdin.take().expect("piped").write_all(stdin);
    let output = child.wait_with_output().expect("it ends");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (
        output.status.code().expect("an exit code"),
        text(output.stdout),
        text(output.stderr),
    )
}

fn stored(dir: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.path().join(name);
    std::fs::write(&path, bytes).expect("it is written");
    path
}

fn show(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

const fn flags(syn: bool, ack: bool, fin: bool) -> TcpFlags {
    TcpFlags {
        fin,
        syn,
        rst: false,
        psh: false,
        ack,
    }
}

/// A connection in which the client sends `up` in segments, the server answers `down` and the client says goodbye.
fn connection(client: SocketAddr, server: SocketAddr, up: &[&[u8]], down: &[u8]) -> Vec<Vec<u8>> {
    let mut packets = vec![
        craft::tcp(client, server, flags(true, false, false), 999, 0, b""),
        craft::tcp(server, client, flags(true, true, false), 4999, 1000, b""),
        craft::tcp(client, server, flags(false, true, false), 1000, 5000, b""),
    ];
    let mut seq = 1000;
    for segment in up {
        packets.push(craft::tcp(
            client,
            server,
            flags(false, true, false),
            seq,
            5000,
            segment,
        ));
        seq += segment.len() as u32;
    }
    packets.push(craft::tcp(
        server,
        client,
        flags(false, true, false),
        5000,
        seq,
        down,
    ));
    let acked = 5000 + down.len() as u32;
    packets.push(craft::tcp(
        client,
        server,
        flags(false, true, true),
        seq,
        acked,
        b"",
    ));
    packets
}

/// No byte is printable and four bits of each are set.
const RANDOM_LOOKING: [u8; 300] = [0x93; 300];

/// IP packets of one flow of each kind, and of what is in none: a fragment and an ICMP packet.
fn packets() -> Vec<Vec<u8>> {
    let client = |port| SocketAddr::new([192, 0, 2, 1].into(), port);
    let server = |last, port| SocketAddr::new([198, 51, 100, last].into(), port);
    let hello = craft::tls_records(&Hello::to("tls.example.org").message(), 16_384);
    let request = craft::http_request("GET", "/", "http.example.org");
    let mut looks_like_get = b"GET\x93".to_vec();
    looks_like_get.extend_from_slice(&RANDOM_LOOKING);
    let message = Hello::to("quic.example.org").message();
    let mut packets = Vec::new();
    packets.extend(connection(
        client(40_001),
        server(1, 443),
        &[&hello[..50], &hello[50..]],
        b"\x16\x03\x03",
    ));
    packets.extend(connection(
        client(40_002),
        server(2, 80),
        &[&request],
        b"HTTP/1.1 200 OK\r\n\r\n",
    ));
    packets.extend(connection(
        client(40_003),
        server(3, 22),
        &[b"SSH-2.0-OpenSSH_9.2p1\r\n"],
        b"SSH-2.0-x\r\n",
    ));
    packets.extend(connection(
        client(40_004),
        server(4, 9001),
        &[&RANDOM_LOOKING],
        &[0x93; 100],
    ));
    packets.extend(connection(
        client(40_005),
        server(5, 9001),
        &[&looks_like_get],
        b"x",
    ));
    let (name_server, resolver) = (server(6, 53), client(40_006));
    packets.push(craft::udp(
        resolver,
        name_server,
        &craft::dns_query(7, "dns.example.org", 1),
    ));
    let initial = craft::quic_initial(Version::V1, &[7; 8], &[(0, &message)]);
    packets.push(craft::udp(client(40_007), server(7, 443), &initial));
    packets.push(craft::udp(
        client(40_008),
        server(8, 3478),
        &Hello::to("dtls.example.org").dtls(),
    ));
    let mut fragment = craft::udp(client(40_009), server(9, 9), b"a fragment");
    fragment[6] = 0x20;
    packets.push(fragment);
    let mut icmp = craft::udp(client(40_010), server(9, 9), b"an echo");
    icmp[9] = 1;
    packets.push(icmp);
    packets
}

const NOON: u64 = 1_700_000_000_000_000_000;

fn capture() -> PcapFile {
    let mut file = PcapFile::new(1, false, true);
    for (at, packet) in packets().iter().enumerate() {
        file.add(NOON + at as u64 * 1_000_000, &craft::ethernet(&[], packet));
    }
    file
}

fn rows(out: &str) -> Vec<Value> {
    out.lines()
        .map(|line| serde_json::from_str(line).expect("a JSON object a line"))
        .collect()
}

#[test]
fn the_table_tells_label_name_and_verdict_of_every_flow() {
    let dir = TempDir::new().expect("a directory");
    let path = stored(&dir, "all.pcap", capture().bytes());
    let (code, out, err) = classify(&[show(&path)], b"");
    assert_eq!(code, 0, "{err}");
    for (client, words) in [
        (40_001, &["tls", "tls.example.org", "Ex1"][..]),
        (40_002, &["http", "http.example.org", "Ex2"]),
        (40_003, &["ssh", "OpenSSH_9.2p1", "Ex2"]),
        (40_004, &["flagged", "4 / 2", "300 / 100"]),
        (40_005, &["flagged"]),
        (40_006, &["udp", "dns", "dns.example.org"]),
        (40_007, &["udp", "quic", "quic.example.org"]),
        (40_008, &["udp", "dtls", "dtls.example.org"]),
    ] {
        let row = out
            .lines()
            .find(|line| line.contains(&format!("192.0.2.1:{client}")))
            .unwrap_or_else(|| panic!("no row of {client} in\n{out}"));
        for word in words {
            assert!(row.contains(word), "{word} is not in {row}");
        }
    }
    assert_eq!(
        err,
        "36 packets, 8 flows; packets in no flow: fragments (1), neither TCP nor UDP (1)\n"
    );
}

#[test]
fn json_is_one_object_a_flow_and_csv_has_the_same_values() {
    let dir = TempDir::new().expect("a directory");
    let path = stored(&dir, "all.pcap", capture().bytes());
    let (code, out, _) = classify(
        &[show(&path), "--json", "--rule", "fet", "--rule", "tls:segment"],
        b"",
    );
    assert_eq!(code, 0);
    let rows = rows(&out);
    assert_eq!(rows.len(), 8);
    let tls = &rows[0];
    assert_eq!(tls["name"], "tls.example.org");
    assert_eq!(tls["split"], true);
    assert_eq!(tls["first_ns"], NOON);
    assert_eq!(tls["first_packet_bytes"], 50);
    assert_eq!(tls["verdicts"]["fet:paper"], "Ex1 popcount");
    assert_eq!(tls["verdicts"]["tls:segment"], "yes, incomplete");
    assert_eq!(rows[3]["verdicts"]["fet:paper"], "flagged");
    assert_eq!(rows[5]["syn"], Value::Null);

    let (code, out, _) = classify(
        &[show(&path), "--csv", "--rule", "fet", "--rule", "tls:segment"],
        b"",
    );
    assert_eq!(code, 0);
    let mut reader = csv::Reader::from_reader(out.as_bytes());
    let header: Vec<String> = reader
        .headers()
        .expect("a header")
        .iter()
        .map(str::to_owned)
        .collect();
    let lines: Vec<csv::StringRecord> = reader.records().collect::<Result<_, _>>().expect("CSV");
    assert_eq!(lines.len(), rows.len());
    for (line, row) in lines.iter().zip(&rows) {
        for (column, cell) in header.iter().zip(line) {
            let value = row.get(column).unwrap_or(&row["verdicts"][column]);
            let wanted = match value {
                Value::Null => String::new(),
                Value::String(text) => text.clone(),
                Value::Array(_) => continue,
                other => other.to_string(),
            };
            assert_eq!(cell, wanted, "{column}");
        }
    }
}

/// The same packets in another format, on another link, through stdin: the same flows.
#[test]
fn neither_format_nor_link_nor_stdin_changes_a_verdict() {
    let dir = TempDir::new().expect("a directory");
    let path = stored(&dir, "all.pcap", capture().bytes());
    let (_, wanted, _) = classify(&[show(&path), "--json"], b"");
    let (code, out, _) = classify(&["-", "--json"], capture().bytes());
    assert_eq!((code, &out), (0, &wanted));
    let mut file = PcapNgFile::new(true);
    file.interface(113, Some(9))
        .interface(276, Some(9))
        .interface(101, Some(9))
        .interface(1, Some(9));
    for (at, packet) in packets().iter().enumerate() {
        let frame = match at % 4 {
            0 => craft::cooked(packet),
            1 => craft::cooked_v2(packet),
            2 => packet.clone(),
            _ => craft::ethernet(&[5, 6], packet),
        };
        file.add(
            at as u32 % 4,
            NOON + at as u64 * 1_000_000,
            &frame,
            Some("sent by a test"),
        );
    }
    let (code, out, err) = classify(&["-", "--json"], file.bytes());
    assert_eq!((code, &out), (0, &wanted), "{err}");
}

#[test]
fn rules_are_chosen_by_name_and_variants_differ() {
    let dir = TempDir::new().expect("a directory");
    let path = stored(&dir, "all.pcap", capture().bytes());
    let (_, out, _) = classify(
        &[
            show(&path),
            "--json",
            "--rule",
            "fet:opengfw",
            "--rule",
            "fet:paper",
        ],
        b"",
    );
    let verdicts = &rows(&out)[4]["verdicts"];
    assert_eq!(verdicts["fet:paper"], "flagged");
    assert_eq!(verdicts["fet:opengfw"], "Ex5 HTTP");
    let (code, out, err) = classify(&[show(&path), "--rule", "gfw"], b"");
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(err.contains("fet:detect-py") && err.contains("entropy"), "{err}");
}

#[test]
fn a_cut_file_tells_the_flows_before_the_cut_then_the_packet_and_exits_2() {
    let dir = TempDir::new().expect("a directory");
    let file = capture();
    let cut = &file.bytes()[..file.bytes().len() - 10];
    let path = stored(&dir, "cut.pcap", cut);
    let (code, out, err) = classify(&[show(&path), "--json"], b"");
    assert_eq!((code, rows(&out).len()), (2, 8));
    assert!(
        err.contains("packet 36 at byte") && err.contains("cut short"),
        "{err}"
    );
}

#[test]
fn what_cannot_be_read_exits_2_and_says_what_to_do() {
    let dir = TempDir::new().expect("a directory");
    let mut wireless = PcapFile::new(105, false, false);
    wireless.add(0, &[0; 40]);
    for (name, bytes, wanted) in [
        ("empty.pcap", &b""[..], "empty"),
        ("text.pcap", b"GET / HTTP/1.1", "neither pcap nor pcapng"),
        ("packed.pcap.gz", &[0x1f, 0x8b, 8, 0, 0], "zcat"),
        ("wireless.pcap", wireless.bytes(), "packet 1: link type 105"),
    ] {
        let path = stored(&dir, name, bytes);
        let (code, out, err) = classify(&[show(&path)], b"");
        assert_eq!((code, out.as_str()), (2, ""), "{err}");
        assert!(err.contains(name) && err.contains(wanted), "{err}");
    }
    for missing in ["missing.pcap", "."] {
        let (code, _, err) = classify(&[show(&dir.path().join(missing))], b"");
        assert_eq!(code, 2, "{err}");
    }
}

#[test]
fn flows_beyond_the_budget_are_told_early_and_counted() {
    let dir = TempDir::new().expect("a directory");
    let path = stored(&dir, "all.pcap", capture().bytes());
    let (code, out, err) = classify(&[show(&path), "--json", "--flows", "3"], b"");
    assert_eq!(code, 0);
    let ends: Vec<Value> = rows(&out).iter().map(|row| row["end"].clone()).collect();
    assert_eq!(ends.iter().filter(|end| *end == "forgotten").count(), 5);
    assert!(
        err.contains("5 flows were forgotten") && err.contains("--flows"),
        "{err}"
    );
}

#[test]
fn help_teaches_with_an_example() {
    let (code, out, _) = classify(&["--help"], b"");
    assert_eq!(code, 0);
    assert!(
        out.contains("phantom-sim classify my.pcap") && out.contains("docs/CENSOR.md"),
        "{out}"
    );
}

#[test]
fn names_in_a_capture_cannot_steer_the_terminal() {
    let (client, server): (SocketAddr, SocketAddr) = (
        "192.0.2.1:1".parse().expect("an address"),
        "192.0.2.2:80".parse().expect("an address"),
    );
    let mut file = PcapFile::new(101, false, false);
    let request = b"GET / HTTP/1.1\r\nHost: \x1b]0;owned\x07\r\n\r\n";
    for packet in connection(client, server, &[request], b"x") {
        file.add(0, &packet);
    }
    for format in [&["-"][..], &["-", "--json"], &["-", "--csv"]] {
        let (code, out, _) = classify(format, file.bytes());
        assert_eq!(code, 0);
        assert!(
            out.contains("owned") && !out.contains('\x1b') && !out.contains('\x07'),
            "{out}"
        );
    }
}

/// What a stream is: its two ends with the client first, packets and bytes of payload from each, and the name.
type Stream = (String, String, [u64; 2], [u64; 2], String);

/// The same streams as Wireshark's, where it is installed. Otherwise nothing is compared, and that is said.
#[test]
fn flows_agree_with_tshark() {
    let dir = TempDir::new().expect("a directory");
    let path = stored(&dir, "all.pcap", capture().bytes());
    let fields = "ip.src udp.srcport tcp.srcport ip.dst udp.dstport tcp.dstport tcp.stream udp.stream tcp.len udp.length \
                  tls.handshake.extensions_server_name dtls.handshake.extensions_server_name http.host dns.qry.name";
    let mut command = Command::new("tshark");
    command.args(["-n", "-r", show(&path), "-T", "fields", "-E", "separator=;"]);
    for field in fields.split_whitespace() {
        command.args(["-e", field]);
    }
    let output = match command.output() {
        Ok(output) if output.status.success() => output,
        other => {
            let reason = other.map(|output| String::from_utf8_lossy(&output.stderr).into_owned());
            let required = std::env::var_os("PHANTOM_REQUIRE_INTEROP").is_some();
            assert!(
                !required,
                "tshark cannot be run here, and PHANTOM_REQUIRE_INTEROP is set: {reason:?}"
            );
            eprintln!("SKIPPED: tshark cannot be run here, so flows are NOT compared with it: {reason:?}");
            return;
        }
    };
    let mut theirs: BTreeMap<String, Stream> = BTreeMap::new();
    for line in String::from_utf8(output.stdout).expect("UTF-8").lines() {
        let cells: Vec<&str> = line.split(';').collect();
        // Not in a stream: the fragment and the ICMP packet, which quotes another.
        if cells[6].is_empty() == cells[7].is_empty() {
            continue;
        }
        let source = format!("{}:{}{}", cells[0], cells[1], cells[2]);
        let destination = format!("{}:{}{}", cells[3], cells[4], cells[5]);
        let bytes: u64 = if cells[6].is_empty() {
            // With the header.
            cells[9].parse::<u64>().expect("a length") - 8
        } else {
            cells[8].parse().expect("a length")
        };
        let stream = theirs
            .entry(format!("tcp {} udp {}", cells[6], cells[7]))
            .or_insert((source.clone(), destination, [0; 2], [0; 2], String::new()));
        let way = usize::from(stream.0 != source);
        stream.2[way] += 1;
        stream.3[way] += bytes;
        stream.4.push_str(&cells[10..].concat());
    }
    let (_, out, _) = classify(&[show(&path), "--json"], b"");
    let ours: Vec<Stream> = rows(&out)
        .iter()
        .map(|row| {
            let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
            let number = |key: &str| row[key].as_u64().expect("a number");
            // Wireshark has no name of SSH's software here.
            let name = if row["protocol"] == "ssh" {
                String::new()
            } else {
                text("name")
            };
            (
                text("client"),
                text("server"),
                [number("packets_up"), number("packets_down")],
                [number("bytes_up"), number("bytes_down")],
                name,
            )
        })
        .collect();
    let sorted = |mut streams: Vec<Stream>| {
        streams.sort();
        streams
    };
    assert_eq!(sorted(ours), sorted(theirs.into_values().collect()));
}

/// Resets by Host whoever opened the connection; drops what looks encrypted if it was opened from inside.
const CENSOR: &str = r#"
name = "of-a-test"
summary = "Resets by Host, drops what looks encrypted"

[[rule]]
name = "by-host"
source = "a test"
action = { reset = { client = true } }
match = { protocols = ["http"], names = ["*.example.org"] }

[[rule]]
name = "encrypted"
source = "a test"
way = "from-client"
action = "drop"
match = { opened = "outbound", flagged = "paper" }
"#;

#[test]
fn a_censor_is_told_with_its_rule_its_first_packet_and_what_it_took() {
    let dir = TempDir::new().expect("a directory");
    let path = stored(&dir, "all.pcap", capture().bytes());
    let censor = stored(&dir, "mine.toml", CENSOR.as_bytes());
    let args = [
        show(&path),
        "--censor",
        show(&censor),
        "--inside",
        "203.0.113.1,192.0.2.0/24",
    ];
    let (code, out, err) = classify(&[&args[..], &["--json"]].concat(), b"");
    assert_eq!(code, 0, "{err}");
    let told: Vec<Value> = rows(&out).iter().map(|row| row["censor"].clone()).collect();
    let pass = serde_json::json!({"verdict": "pass", "rule": null, "packet": null, "dropped": 0});
    // Packets 8 to 13 are those of the second flow, whose request is the fourth; 20 to 25 are those of the fourth flow, of
    // which the client sends the fourth and the sixth from then on.
    let reset = serde_json::json!({"verdict": "reset", "rule": "by-host", "packet": 11, "dropped": 3});
    let dropped =
        |packet| serde_json::json!({"verdict": "drop", "rule": "encrypted", "packet": packet, "dropped": 2});
    let [p, r, d, e] = [&pass, &reset, &dropped(23), &dropped(29)];
    assert_eq!(told.iter().collect::<Vec<_>>(), [p, r, p, d, e, p, p, p]);
    assert!(err.ends_with("acted on 3 flows, 7 packets lost\n"), "{err}");

    let (_, csv, _) = classify(&[&args[..], &["--csv"]].concat(), b"");
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let columns = reader.headers().expect("a header").clone();
    let last: Vec<&str> = columns.iter().rev().take(4).collect();
    assert_eq!(
        last,
        ["censor_dropped", "censor_packet", "censor_rule", "censor_verdict"]
    );
    let cells: Vec<String> = reader
        .records()
        .map(|record| {
            record
                .expect("a row")
                .iter()
                .skip(columns.len() - 4)
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect();
    assert_eq!(
        cells[..4],
        [
            "pass   0",
            "reset by-host 11 3",
            "pass   0",
            "drop encrypted 23 2"
        ]
    );

    let (_, table, _) = classify(&args, b"");
    for words in ["by-host", "packet 11"] {
        assert!(table.contains(words), "{words} is not in\n{table}");
    }
}

#[test]
fn who_is_inside_decides_which_way_a_flow_goes() {
    let dir = TempDir::new().expect("a directory");
    let path = stored(&dir, "all.pcap", capture().bytes());
    let censor = stored(&dir, "mine.toml", CENSOR.as_bytes());
    let hit = |inside: &[&str]| {
        let args = [&[show(&path), "--json", "--censor", show(&censor)], inside].concat();
        let (code, out, err) = classify(&args, b"");
        assert_eq!(code, 0, "{err}");
        // Whoever forgot to say who is inside is told so.
        assert_eq!(
            err.contains("no packet came from inside"),
            inside.is_empty(),
            "{err}"
        );
        rows(&out)
            .iter()
            .filter(|row| row["censor"]["verdict"] != "pass")
            .count()
    };
    // The clients of the capture are in no private range.
    assert_eq!(hit(&[]), 1);
    assert_eq!(hit(&["--inside", "192.0.2.1"]), 3);
    assert_eq!(hit(&["--inside", "198.51.100.0/24"]), 1);
    let (code, _, err) = classify(
        &[show(&path), "--inside", "192.0.2.1:80", "--censor", "shutdown"],
        b"",
    );
    assert!(code == 2 && err.contains("without a port"), "{err}");
    let (code, _, err) = classify(&[show(&path), "--inside", "192.0.2.1"], b"");
    assert!(code == 2 && err.contains("--censor"), "{err}");
}

#[test]
fn censors_of_the_catalogue_go_by_name_and_chances_by_the_seed() {
    let dir = TempDir::new().expect("a directory");
    let path = stored(&dir, "all.pcap", capture().bytes());
    let told = |censor: &str, seed: &str| {
        let args = [
            show(&path),
            "--json",
            "--censor",
            censor,
            "--inside",
            "192.0.2.1",
            "--seed",
            seed,
        ];
        let (code, out, err) = classify(&args, b"");
        assert_eq!(code, 0, "{err}");
        rows(&out)
    };
    for row in told("shutdown", "0") {
        let packets = row["packets_up"].as_u64().zip(row["packets_down"].as_u64());
        let (up, down) = packets.expect("two counts");
        assert_eq!(row["censor"]["dropped"], up + down, "{row}");
    }
    // Two flows look encrypted to the paper; in 40 captures some 21 of them are dropped.
    let drops = |seed: u32| {
        let rows = told("gfw-2023", &seed.to_string());
        rows.iter()
            .filter(|row| row["censor"]["verdict"] == "drop")
            .count()
    };
    let sum: usize = (0..40).map(drops).sum();
    assert!((9..=34).contains(&sum), "{sum}");
    assert_eq!(told("gfw-2023", "3"), told("gfw-2023", "3"));
}

#[test]
fn a_censor_that_is_not_there_or_not_good_exits_2_with_the_place_and_the_choices() {
    let dir = TempDir::new().expect("a directory");
    let path = stored(&dir, "all.pcap", capture().bytes());
    let refused = |censor: &str| {
        let (code, out, err) = classify(&[show(&path), "--censor", censor], b"");
        assert_eq!((code, out.as_str()), (2, ""), "{err}");
        err
    };
    let err = refused("gfw-2032");
    assert!(
        err.contains("unknown censor 'gfw-2032'; did you mean 'gfw-2023'?"),
        "{err}"
    );
    assert!(err.contains("choices: conn-count-2025, gfw-2023,"), "{err}");
    assert!(refused("none.toml").contains("none.toml: cannot be read"));
    let broken = stored(
        &dir,
        "broken.toml",
        CENSOR
            .replace("flagged = \"paper\"", "flaged = \"paper\"")
            .as_bytes(),
    );
    let err = refused(show(&broken));
    assert!(
        err.contains("broken.toml:16:32: unknown key 'flaged'; did you mean 'flagged'?"),
        "{err}"
    );
    let binary = stored(&dir, "binary.toml", &[0xff, 0xfe]);
    assert!(refused(show(&binary)).contains("cannot be read"));
}

#[test]
fn the_catalogue_is_listed_with_summaries_and_sources_and_each_file_can_be_had() {
    let (code, out, err) = command("censors", &[], b"");
    assert_eq!((code, err.as_str()), (0, ""));
    for words in [
        "gfw-2023 ",
        "tspu-freeze-2025",
        "Wu et al., USENIX Security 2023",
        "net4people/bbs#490",
    ] {
        assert!(out.contains(words), "{words} is not in\n{out}");
    }
    let (code, out, _) = command("censors", &["--json"], b"");
    let all: Value = serde_json::from_str(&out).expect("JSON");
    let all = all.as_array().expect("an array");
    assert_eq!((code, all.len()), (0, 10));
    assert_eq!(all[1]["rules"][3]["name"], "fully-encrypted");
    let dir = TempDir::new().expect("a directory");
    let path = stored(&dir, "all.pcap", capture().bytes());
    for censor in all {
        let name = censor["name"].as_str().expect("a name");
        let (code, text, _) = command("censors", &[name], b"");
        assert!(code == 0 && text.contains("source = "), "{name}");
        let file = stored(&dir, &format!("{name}.toml"), text.as_bytes());
        let by_file = classify(&[show(&path), "--json", "--censor", show(&file)], b"");
        let by_name = classify(&[show(&path), "--json", "--censor", name], b"");
        assert_eq!((by_file.0, by_file.1), (0, by_name.1), "{name}");
    }
    let (code, _, err) = command("censors", &["gfw"], b"");
    assert!(code == 2 && err.contains("did you mean 'gfw-2023'?"), "{err}");
}
