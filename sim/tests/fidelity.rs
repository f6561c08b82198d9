//! `phantom-sim fidelity`, run as a user runs it.

use std::path::Path;
use std::process::{Command, Output};

use phantom_path::fidelity::Measured;

fn said(mut command: Command) -> (i32, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().expect("it starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (status.code().expect("an exit code"), text(stdout), text(stderr))
}

fn fidelity(dir: &Path, args: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_phantom-sim"));
    command.arg("fidelity").args(args).current_dir(dir);
    said(command)
}

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What is missing on this machine, if something is.
fn unable(code: i32, err: &str) -> bool {
    let unable = code == 3 && err.contains("this needs Linux");
    if unable {
        println!("SKIPPED: {err}");
    }
    unable
}

#[test]
fn the_stored_grids_meet_their_bars_without_any_right() {
    for (grid, cells) in [("linux-cubic.txt", 162), ("linux-cubic-fresh.txt", 48)] {
        let dir = tempfile::tempdir().expect("a directory");
        let out = dir.path().to_str().expect("UTF-8");
        let (code, told, err) = fidelity(here(), &["--from", &format!("path/tests/{grid}"), "--out", out]);
        assert_eq!((code, err.as_str()), (0, ""), "{told}");
        assert_eq!(told.matches(" met ").count(), 5, "{told}");
        let csv = std::fs::read_to_string(dir.path().join("fidelity.csv")).expect("written");
        assert_eq!(csv.lines().count(), cells + 1);
        let again = std::fs::read_to_string(dir.path().join("measured.txt")).expect("written");
        let before = std::fs::read_to_string(here().join("path/tests").join(grid)).expect("stored");
        assert_eq!(Measured::parse_all(&again), Measured::parse_all(&before));
    }
}

#[test]
fn a_file_that_says_something_else_exits_2_and_names_the_line() {
    let dir = tempfile::tempdir().expect("a directory");
    for (text, grid, wanted) in [
        (
            "# head\n10000 10 1000000 0 12500 0 : much\n",
            "quick",
            "line 2: wanted `bytes ",
        ),
        (
            "# head\n\n40 10000000 0 1000 5@0 : 1.0\n",
            "sharing",
            "line 3: wanted `rtt_ms ",
        ),
        (
            "40 10000000 0 1000 5000*1000*100@0 : 1.0=1.0=0=0.5\n",
            "bursts",
            "line 1: wanted `rtt_ms ",
        ),
        ("# head\n", "quick", "no measurement in it"),
        ("# head\n", "sharing", "no measurement in it"),
    ] {
        std::fs::write(dir.path().join("grid.txt"), text).expect("written");
        let (code, told, err) = fidelity(dir.path(), &["--grid", grid, "--from", "grid.txt"]);
        assert_eq!((code, told.as_str()), (2, ""), "{err}");
        assert!(err.contains("grid.txt: ") && err.contains(wanted), "{err}");
    }
    let (code, _, err) = fidelity(dir.path(), &["--from", "none.txt"]);
    assert!(code == 2 && err.contains("cannot read none.txt"), "{err}");
}

#[test]
fn a_missed_bar_exits_1_and_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    // Half of what it takes at that rate.
    let alone = "1000000 10 10000000 0 125000 0 : 0.42 0.42 0.42\n";
    std::fs::write(dir.path().join("alone.txt"), alone).expect("written");
    let (code, told, _) = fidelity(dir.path(), &["--from", "alone.txt"]);
    assert!(
        code == 1 && told.contains("MISSED") && told.contains("not measured"),
        "{told}"
    );
    assert!(!told.contains("written to"), "{told}");
    let shared = "20 10000000 0 125000 500000@0 500000@0/500000 : 0.5=0.97 8.0=0.03\n";
    std::fs::write(dir.path().join("shared.txt"), shared).expect("written");
    let (code, told, _) = fidelity(dir.path(), &["--grid", "sharing", "--from", "shared.txt"]);
    assert!(code == 1 && told.contains("MISSED"), "{told}");
    assert!(told.contains("1 x 500000@0/500000"), "{told}");
    // Half a round trip each is right, and a third one is not.
    let bursts = |took: &str| {
        let text = format!("40 10000000 0 125000 3000*1000*300@0 : 0.661=1.0=0={took}\n");
        std::fs::write(dir.path().join("bursts.txt"), text).expect("written");
        fidelity(dir.path(), &["--grid", "bursts", "--from", "bursts.txt"])
    };
    let (code, told, _) = bursts("0.0208,0.0208,0.0208");
    assert!(code == 0 && told.contains("burst p90: 1 medians"), "{told}");
    let (code, told, _) = bursts("0.0308,0.0308,0.0308");
    assert!(code == 1 && told.contains("MISSED"), "{told}");
}

#[test]
fn a_real_measurement_is_stored_as_it_is_read() {
    let dir = tempfile::tempdir().expect("a directory");
    let (code, told, err) = fidelity(dir.path(), &["--repeats", "2", "--lanes", "4"]);
    if unable(code, &err) {
        return;
    }
    // A bar may be missed on a busy machine: two transfers say little. Nothing may fail.
    assert!(code <= 1, "{code}: {told}{err}");
    let dir = dir.path().join("store/fidelity/quick-1");
    let measured = std::fs::read_to_string(dir.join("measured.txt")).expect("written");
    let measured = Measured::parse_all(&measured).expect("a grid");
    assert_eq!(measured.len(), 6);
    for measured in measured {
        assert!(
            measured.seconds.len() == 2
                && measured
                    .seconds
                    .iter()
                    .all(|seconds| (0.05..10.0).contains(seconds)),
            "{measured:?}"
        );
    }
    let csv = std::fs::read_to_string(dir.join("fidelity.csv")).expect("written");
    assert_eq!(csv.lines().count(), 7, "{csv}");
}

#[test]
fn without_the_rights_it_exits_3_and_says_which() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(env!("CARGO_BIN_EXE_phantom-sim"))
        .args(["fidelity", "--repeats", "1", "--out", "results"])
        .current_dir(dir.path());
    let probe = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "true"])
        .output();
    if !probe.is_ok_and(|probe| probe.status.success()) {
        println!("SKIPPED: nobody to be, or no setpriv");
        return;
    }
    let (code, told, err) = said(command);
    assert_eq!((code, told.as_str()), (3, ""), "{err}");
    for wanted in ["Linux", "root", "CAP_NET_ADMIN", "--from FILE"] {
        assert!(err.contains(wanted), "{err}");
    }
    assert!(!dir.path().join("results").exists());
}
