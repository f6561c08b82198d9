//! Censors with scripts, run as a user runs them: every file and command of docs/CENSOR-SCRIPTS.md.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use phantom_censor::craft::{self, Hello, PcapFile};
use phantom_censor::packet::TcpFlags;
use serde_json::Value;
use tempfile::TempDir;

const TUTORIAL: &str = include_str!("../../docs/CENSOR-SCRIPTS.md");

/// What stands in the fenced blocks behind a mark, with the rest of the mark.
fn blocks(mark: &str) -> Vec<(&'static str, &'static str)> {
    let start = format!("<!-- {mark}");
    TUTORIAL
        .split(start.as_str())
        .skip(1)
        .map(|rest| {
            let (more, rest) = rest.split_once(" -->\n```").expect("a block follows the mark");
            let (_, rest) = rest.split_once('\n').expect("a line");
            let (block, _) = rest.split_once("```").expect("the block ends");
            (more, block)
        })
        .collect()
}

fn run(dir: &Path, args: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_phantom-sim"))
        .args(args)
        .current_dir(dir)
        .output()
        .expect("it starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (
        output.status.code().expect("a code"),
        text(output.stdout),
        text(output.stderr),
    )
}

const ACK: TcpFlags = TcpFlags {
    fin: false,
    syn: false,
    rst: false,
    psh: false,
    ack: true,
};

fn at(last: u8, port: u16) -> SocketAddr {
    SocketAddr::new([10, 0, 0, last].into(), port)
}

fn server() -> SocketAddr {
    SocketAddr::new([198, 51, 100, 1].into(), 443)
}

/// A flow whose client sends 100 bytes four times, one that sends ever more, and a hello.
fn capture() -> PcapFile {
    let mut file = PcapFile::new(1, false, true);
    let hello = craft::tls_records(&Hello::to("www.example.org").message(), 16_384);
    let mut packets = vec![craft::tcp(at(3, 40_000), server(), ACK, 1, 1, &hello)];
    let mut sent = 1;
    for turn in 0..4_u32 {
        packets.push(craft::tcp(
            at(1, 40_000),
            server(),
            ACK,
            1 + turn * 100,
            1,
            &[7; 100],
        ));
        packets.push(craft::tcp(
            at(2, 40_000),
            server(),
            ACK,
            sent,
            1,
            &vec![7; 100 + turn as usize],
        ));
        sent += 100 + turn;
    }
    for (at, packet) in packets.iter().enumerate() {
        file.add(at as u64 * 1_000_000, &craft::ethernet(&[], packet));
    }
    file
}

/// A folder with the files of the tutorial and a capture.
fn folder() -> TempDir {
    let dir = TempDir::new().expect("a directory");
    std::fs::write(dir.path().join("my.pcap"), capture().bytes()).expect("it is written");
    for (name, text) in blocks("file: ") {
        std::fs::write(dir.path().join(name), text).expect("it is written");
    }
    dir
}

/// Puts something else into a file.
fn change(dir: &TempDir, name: &str, from: &str, to: &str) {
    let path = dir.path().join(name);
    let text = std::fs::read_to_string(&path).expect("it is there");
    assert!(text.contains(from), "{from} is not in\n{text}");
    std::fs::write(path, text.replace(from, to)).expect("it is written");
}

const MINE: [&str; 4] = ["classify", "my.pcap", "--censor", "mine.toml"];

#[test]
fn every_command_of_the_tutorial_does_what_it_says() {
    let dir = folder();
    let commands: Vec<&str> = blocks("run")
        .iter()
        .flat_map(|(_, block)| block.lines())
        .collect();
    assert!(commands.len() >= 5, "{commands:?}");
    for command in commands {
        let command = command.strip_prefix("$ phantom-sim ").expect("a command");
        let words: Vec<&str> = command.split_whitespace().collect();
        let (code, out, err) = run(dir.path(), &words);
        assert!(code == 0 && !out.is_empty(), "{command}: {code}\n{out}{err}");
    }
    let (_, out, err) = run(dir.path(), &[&MINE[..], &["--json"]].concat());
    let told: Vec<Value> = out
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    // The third packet of that flow is the sixth of the file.
    let dropped = serde_json::json!({"verdict": "drop", "rule": "same-lengths", "packet": 6, "dropped": 2});
    assert_eq!(told[1]["censor"], dropped, "{out}");
    assert!(
        err.ends_with("censor mine.toml: acted on 1 flow, 2 packets lost\n"),
        "{err}"
    );
}

#[test]
fn a_slip_in_a_script_exits_2_as_the_tutorial_shows() {
    let dir = folder();
    change(&dir, "mine.rhai", "packet.len == 0", "packet.lenght == 0");
    let (code, out, err) = run(dir.path(), &MINE);
    assert_eq!((code, out.as_str()), (2, ""), "{err}");
    let shown = blocks("wrong")[0].1;
    let (exact, _) = shown.split_once('…').expect("the choices are cut");
    assert!(err.contains(exact), "{exact} is not in\n{err}");
    assert!(err.contains("halves"), "{err}");
    // From another folder too the script is the one beside the censor.
    let path = dir.path().join("mine.toml");
    let capture = dir.path().join("my.pcap");
    let (code, _, other) = run(
        Path::new("/"),
        &[
            "classify",
            capture.to_str().expect("UTF-8"),
            "--censor",
            path.to_str().expect("UTF-8"),
        ],
    );
    assert!(
        code == 2 && other.contains("unknown field of packet 'lenght'"),
        "{other}"
    );
}

#[test]
fn a_script_that_fails_is_told_with_its_count_and_the_first_time() {
    let dir = folder();
    change(&dir, "mine.rhai", "state.times += 1", "state.time += 1");
    let (code, _, err) = run(dir.path(), &MINE);
    assert_eq!(code, 0, "{err}");
    let shown = blocks("failing")[0].1;
    let (exact, _) = shown.split_once('…').expect("the message is cut");
    assert!(err.contains(exact), "{exact} is not in\n{err}");
    assert!(err.contains("acted on 0 flows"), "{err}");

    change(&dir, "mine.rhai", "state.time += 1", "loop { }");
    let (code, _, err) = run(dir.path(), &MINE);
    assert!(
        code == 0 && err.contains("more than 10000 steps at one packet"),
        "{err}"
    );
}

#[test]
fn what_a_script_prints_stands_below_the_table() {
    let dir = folder();
    change(
        &dir,
        "mine.rhai",
        "state.times == 3",
        &format!("{}\nfalse", blocks("print")[0].1),
    );
    let (code, _, err) = run(dir.path(), &MINE);
    assert_eq!(code, 0, "{err}");
    assert!(
        err.contains("rule same-lengths prints: 10.0.0.1 100 bytes, 0 thousandths of a bit\n"),
        "{err}"
    );
}

#[test]
fn scripts_are_files_beside_the_censor_and_no_others() {
    let dir = folder();
    for (name, told) in [
        (
            "none.rhai",
            "mine.toml:7:10: rule 'same-lengths': the script \"none.rhai\" cannot be read",
        ),
        (
            "../mine.rhai",
            "a script stands beside the censor's file or below it",
        ),
        (
            "/etc/passwd",
            "a script stands beside the censor's file or below it",
        ),
    ] {
        let dir = folder();
        change(&dir, "mine.toml", "mine.rhai", name);
        let (code, _, err) = run(dir.path(), &MINE);
        assert!(code == 2 && err.contains(told), "{told} is not in\n{err}");
    }
    std::fs::create_dir(dir.path().join("below")).expect("a directory");
    std::fs::rename(dir.path().join("mine.rhai"), dir.path().join("below/mine.rhai")).expect("it is moved");
    change(&dir, "mine.toml", "mine.rhai", "below/mine.rhai");
    assert_eq!(run(dir.path(), &MINE).0, 0);
}

#[test]
fn two_processes_come_to_the_same_verdicts() {
    let dir = folder();
    let args = [&MINE[..], &["--json"]].concat();
    assert_eq!(run(dir.path(), &args), run(dir.path(), &args));
}

#[test]
fn shipped_censors_are_listed_and_can_be_had() {
    let dir = folder();
    let (code, out, _) = run(dir.path(), &["censors"]);
    assert_eq!(code, 0);
    assert!(
        out.contains("trojan-lengths ") && out.contains("XTLS/Trojan-killer"),
        "{out}"
    );
    assert!(out.contains("random-first "), "{out}");
    let (code, out, _) = run(dir.path(), &["censors", "trojan-lengths"]);
    assert!(
        code == 0 && out.contains("script = \"trojan-lengths.rhai\""),
        "{out}"
    );
    let (code, _, err) = run(dir.path(), &["classify", "my.pcap", "--censor", "trojan-length"]);
    assert!(
        code == 2 && err.contains("random-first, trojan-lengths; or the path of a file"),
        "{err}"
    );
}

/// Which is told depends on the build; both are told.
#[test]
fn a_censor_with_a_model_says_so_or_says_what_is_missing() {
    let dir = folder();
    let (code, _, err) = run(dir.path(), &["classify", "my.pcap", "--censor", "random-first"]);
    if cfg!(feature = "model") {
        assert_eq!(code, 0, "{err}");
        assert!(
            err.contains("it asks a model: another machine may come to other verdicts"),
            "{err}"
        );
    } else {
        assert_eq!(code, 2, "{err}");
        assert!(err.contains("models are not read by this build"), "{err}");
    }
}
