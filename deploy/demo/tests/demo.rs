//! `just demo`, as a test: the whole story with real processes on loopback.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use phantom_drive::programs;

#[test]
fn the_story_ends_well() {
    let demo = Path::new(env!("CARGO_BIN_EXE_phantom-demo"));
    programs::beside(demo).expect("the programs build");
    let told = Command::new(demo).output().expect("it runs");
    let story = String::from_utf8_lossy(&told.stdout);
    assert!(
        told.status.success(),
        "{story}{}",
        String::from_utf8_lossy(&told.stderr)
    );
    for said in [
        "20 messages passed each way",
        "Alice sent Bob a file of 1 MB: with him, byte for byte",
        "the 2 published entries are killed",
        "Carol wrote to Alice",
        "Dave wrote to Bob",
        "all processes have ended",
    ] {
        assert!(story.contains(said), "{said}: {story}");
    }
    // Nobody waits longer for a demo; building it is apart.
    let all = story
        .lines()
        .find_map(|line| line.trim().strip_suffix(" s  in all"))
        .and_then(|seconds| seconds.parse::<f64>().ok())
        .expect("the table ends with the sum");
    assert!(all < 60.0, "{story}");
}

#[test]
fn an_interrupted_story_leaves_neither_processes_nor_files() {
    let demo = Path::new(env!("CARGO_BIN_EXE_phantom-demo"));
    programs::beside(demo).expect("the programs build");
    for signal in ["INT", "HUP"] {
        let mut told = Command::new(demo)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it runs");
        let dir = std::env::temp_dir().join(format!("phantom-demo-{}", told.id()));
        // Until the network runs.
        let mut story = BufReader::new(told.stdout.take().expect("piped")).lines();
        let first = story.next().expect("a line").expect("text");
        assert!(dir.exists(), "{first}");
        let id = told.id().to_string();
        let sent = Command::new("kill").args(["-s", signal, &id]).status();
        assert!(sent.expect("kill runs").success());
        let status = told.wait().expect("it ends");
        assert_eq!(status.code(), Some(130), "{signal} after {first}");
        assert!(!dir.exists(), "{signal}: {}", dir.display());
        // Each process has the directory as its own.
        let left = fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .flatten()
            .filter(|process| {
                fs::read_link(process.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(&dir))
            });
        assert_eq!(left.count(), 0, "{signal}");
    }
}

#[test]
fn wrong_usage_exits_with_2_and_a_failure_with_1_and_its_logs() {
    let demo = || Command::new(env!("CARGO_BIN_EXE_phantom-demo"));
    let usage = demo().arg("--loud").output().expect("it runs");
    assert_eq!(usage.status.code(), Some(2));
    let failed = demo()
        .args(["--programs", "/nonexistent"])
        .output()
        .expect("it runs");
    assert_eq!(failed.status.code(), Some(1));
    let said = String::from_utf8_lossy(&failed.stdout);
    assert!(said.contains("FAILED at: setting up keys"), "{said}");
    let logs = said.split("kept in ").nth(1).expect("where the logs are").trim();
    let dir = Path::new(logs).parent().expect("a directory");
    assert!(dir.exists(), "{}", dir.display());
    fs::remove_dir_all(dir).expect("ours");
}
