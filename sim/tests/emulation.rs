//! `phantom-sim emulate`: a tiny world of real programs. Where namespaces cannot be had, each test says so and passes.
#![cfg(target_os = "linux")]
#![allow(
    clippy::disallowed_methods,
    reason = "real processes are waited for in real time"
)]

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use phantom_drive::programs;
use phantom_rig::switch::{Course, Out};
use phantom_rig::{RigError, Switch};

/// One authority, three nodes of which one is on the list, two clients who write to each other. They know two entries, so each
/// dials the blocked one: real clients draw their order anew each time, and of three they would leave out one.
const WORLD: &str = r#"
format = 1
name = "tiny"
summary = "Two clients get in past a blocked entry"
run = { duration = "12 s", document-interval = "4 s" }
topology.region = [{ name = "inside", area = "asia-pacific", ipv6 = "off" }, { name = "outside", area = "europe", ipv6 = "off" }]
population.authority = { region = "outside", count = { extra = 1 }, node = "authority" }
population.listed = { region = "outside", count = { extra = 1 }, node = "service", published = { domain = "entry.example" } }
population.fresh = { region = "outside", count = { extra = 1 }, node = "service", published = {} }
population.more = { region = "outside", count = { extra = 1 }, node = "service" }
population.client = { region = "inside", count = { extra = 2 }, node = { client = { dht = "off", friends = "off", poll = "500 ms" } } }
graph.contacts = { among = ["client"], model = { small-world = { degree = 2 } }, carries = "messages" }
censor.at = ["inside", "outside"]
[[censor.rule]]
name = "list"
match = { to = ["@LISTED"] }
action = "drop"
[[workload]]
name = "write"
by = "client"
start = "connected"
until = "9 s"
do = { write = { to = "contacts", every = "exp(500 ms)", size = "50 B..500 B", ttl = "1 h" } }
[[invariant]]
name = "all get in"
always = "share(client.connected_within(8 s)) >= 1"
[[invariant]]
name = "nothing twice"
always = "message.duplicated == 0"
[[invariant]]
name = "the list drops"
sometimes = "censor.dropped('list') > 0"
[[invariant]]
name = "nothing leaks"
never = "wire.leaks > 0"
"#;

/// What shows that the world above is one.
const LIVELY: &str = r#"
[[invariant]]
name = "messages arrive"
sometimes = "message.delivered > 0"
"#;

struct Nothing;

impl Course for Nothing {
    fn sent(&mut self, _: u64, _: usize, _: Vec<u8>, _: &mut Out<'_>) {}
    fn due(&mut self, _: u64, _: usize, _: Vec<u8>, _: &mut Out<'_>) {}
}

/// Whether this machine has namespaces for us.
fn able() -> bool {
    match Switch::new(&[Ipv4Addr::new(198, 51, 100, 1)], Nothing) {
        Ok(_) => true,
        Err(error @ (RigError::NotLinux | RigError::Rights { .. })) => {
            println!("SKIPPED: {error}");
            false
        }
        Err(error) => panic!("{error}"),
    }
}

fn programs() -> PathBuf {
    programs::beside(Path::new(env!("CARGO_BIN_EXE_phantom-sim"))).expect("the programs build")
}

/// Plays a world with the programs of this build, or those that `more` says.
fn emulate(dir: &Path, world: &str, more: &[&str]) -> Output {
    let file = dir.join("tiny.toml");
    fs::write(&file, world).expect("written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_phantom-sim"));
    if !more.contains(&"--programs") {
        command.args(["emulate", "--programs", &programs().display().to_string()]);
    } else {
        command.arg("emulate");
    }
    command
        .arg(&file)
        .args(["--out", &dir.join("store").display().to_string()])
        .args(more)
        .output()
        .expect("it runs")
}

fn said(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// When the document of an event, if it is of one, begins to be valid.
fn document(line: &str) -> Option<u64> {
    let event: serde_json::Value = serde_json::from_str(line).expect("an event");
    event["event"]["DocumentAccepted"]["valid_after"].as_u64()
}

/// Processes that run in the directory of an emulation of this process.
fn left_behind(of: u32) -> Vec<String> {
    let mine = format!("phantom-emulate-{of}-");
    let mut left: Vec<String> = fs::read_dir("/proc")
        .expect("Linux")
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path().join("cwd")).ok())
        .map(|cwd| cwd.display().to_string())
        .filter(|cwd| cwd.contains(&mine))
        .collect();
    let temp = fs::read_dir(std::env::temp_dir()).expect("there").flatten();
    left.extend(
        temp.map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| name.starts_with(&mine)),
    );
    left
}

#[test]
fn real_clients_get_in_past_a_blocked_entry_and_write_and_the_same_judges_say_so() {
    if !able() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let world = format!("{WORLD}{LIVELY}").replace("LISTED", "listed");
    let kept = dir.path().join("kept");
    let output = emulate(
        dir.path(),
        &world,
        &["--json", "--keep", &kept.display().to_string()],
    );
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    // A client asks for the next document while it may still use the one that it has: it seldom misses one.
    for client in ["client-0", "client-1"] {
        let events = fs::read_to_string(kept.join(format!("{client}.events"))).expect("its events");
        let documents: Vec<u64> = events.lines().filter_map(document).collect();
        let steps: Vec<u64> = documents.windows(2).map(|two| two[1] - two[0]).collect();
        let one = steps.iter().filter(|step| **step == 4_000_000_000).count();
        assert!(one > 0 && 2 * one >= steps.len(), "{client}: {steps:?} ns apart");
    }
    let result: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one object");
    assert_eq!(
        (&result["runtime"], &result["verdict"]),
        (&"emulation".into(), &"pass".into())
    );
    let verdict = |name: &str| {
        let all = result["invariants"].as_array().expect("a list");
        let one = all
            .iter()
            .find(|one| one["name"] == name)
            .expect("an invariant of the world");
        one["verdict"].as_str().expect("a word").to_owned()
    };
    for held in ["all get in", "nothing twice", "the list drops", "messages arrive"] {
        assert_eq!(verdict(held), "pass", "{held}");
    }
    // Nobody searches what real programs send for their secrets.
    assert_eq!(verdict("nothing leaks"), "na");
    // Half a round trip between the regions is 118 ms, and to connect takes more than one.
    let connect = result["metrics"]["client.time_to_connect"]["min"]
        .as_f64()
        .expect("a number");
    assert!((0.4..8.0).contains(&connect), "{connect}");
}

#[test]
fn a_censor_that_drops_all_that_leads_to_an_entry_is_a_violation_with_exit_code_1() {
    if !able() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let world = WORLD
        .replace("@LISTED", "@directory")
        .replace("LISTED", "listed")
        .replace("12 s", "9 s");
    let output = emulate(dir.path(), &world, &[]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let text = said(&output);
    assert!(
        text.contains("all get in") && text.contains("replay: just emulate"),
        "{text}"
    );
}

#[test]
fn nothing_is_left_when_it_is_killed_or_interrupted() {
    if !able() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("tiny.toml");
    fs::write(&file, WORLD.replace("LISTED", "listed")).expect("written");
    for (signal, files_stay) in [("-KILL", true), ("-INT", false), ("-HUP", false)] {
        let mut running = Command::new(env!("CARGO_BIN_EXE_phantom-sim"))
            .arg("emulate")
            .arg(&file)
            .args(["--programs", &programs().display().to_string()])
            .args(["--out", &dir.path().join("store").display().to_string()])
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("it runs");
        let own = running.id();
        let runs = |wanted: usize| {
            (0..600).any(|_| {
                std::thread::sleep(Duration::from_millis(50));
                left_behind(own).len() > wanted
            })
        };
        // Its directory, and processes in it.
        assert!(runs(3), "{signal}: it never began");
        Command::new("kill")
            .args([signal, &own.to_string()])
            .status()
            .expect("kill");
        let status = running.wait().expect("it ends");
        let gone = (0..100).any(|_| {
            std::thread::sleep(Duration::from_millis(50));
            left_behind(own).len() <= usize::from(files_stay)
        });
        assert!(gone, "{signal} ({status}): {:?}", left_behind(own));
    }
}

#[test]
fn what_cannot_be_emulated_is_said_before_anything_runs() {
    let dir = tempfile::tempdir().expect("a directory");
    let many = WORLD.replace("LISTED", "listed").replace(
        "population.client = { region = \"inside\", count = { extra = 2 }",
        "population.client = { region = \"inside\", count = { extra = 30 }",
    );
    let output = emulate(dir.path(), &many, &[]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("at most 20"), "{}", said(&output));
    let nowhere = emulate(
        dir.path(),
        &WORLD.replace("LISTED", "listed"),
        &["--programs", "/nonexistent"],
    );
    assert_eq!(nowhere.status.code(), Some(2), "{}", said(&nowhere));
    assert!(
        said(&nowhere).contains("no phantom-node in /nonexistent"),
        "{}",
        said(&nowhere)
    );
}
