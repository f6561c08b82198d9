//! The program itself: exit codes and messages of `phantom-sim`, run as a user runs it.

use std::path::Path;
use std::process::{Command, Output};

fn phantom_sim(args: &[&str]) -> (i32, String, String) {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    phantom_sim_in(workspace.expect("the workspace"), args)
}

fn phantom_sim_in(dir: &Path, args: &[&str]) -> (i32, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(env!("CARGO_BIN_EXE_phantom-sim"))
        .args(args)
        .current_dir(dir)
        .output()
        .expect("it starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    (status.code().expect("an exit code"), text(stdout), text(stderr))
}

#[test]
fn every_scenario_is_listed_with_what_it_shows() {
    let (code, out, err) = phantom_sim(&["list"]);
    assert_eq!((code, err.as_str()), (0, ""));
    for name in [
        "active-probe",
        "blocked-bootstrap",
        "fet-obfs4",
        "first-look",
        "named-censor",
        "node-churn",
        "poisoned-dns",
        "policed-connect",
        "throttled-obfs4",
        "udp-off",
    ] {
        assert!(out.lines().any(|line| line.starts_with(name)), "{name}");
    }
    let (code, out, _) = phantom_sim(&["list", "--json"]);
    let rows: serde_json::Value = serde_json::from_str(&out).expect("JSON and nothing else");
    assert_eq!((code, rows.as_array().map(Vec::len)), (0, Some(10)));
    let named = |name: &str| {
        rows.as_array()
            .and_then(|rows| rows.iter().find(|row| row["name"] == name))
    };
    assert_eq!(
        named("blocked-bootstrap").expect("listed")["params"]["dht"]["choices"],
        serde_json::json!(["on", "off"])
    );
}

#[test]
fn usage_errors_exit_2_and_name_the_choices() {
    for (args, wanted) in [
        (
            &["run", "blokced-bootstrap"][..],
            "unknown scenario 'blokced-bootstrap'; did you mean 'blocked-bootstrap'?",
        ),
        (
            &["run", "seed=7"],
            "which scenario? as in: blocked-bootstrap seed=7; there are: active-probe, blocked-bootstrap, fet-obfs4,",
        ),
        (
            &["run", "first-look", "udp-off"],
            "two scenarios: 'first-look' and 'udp-off'",
        ),
        (
            &["run", "blocked-bootstrap", "dth=off"],
            "unknown key 'dth'; did you mean 'dht'?",
        ),
        (
            &["run", "blocked-bootstrap", "dth=off"],
            "choices: scenario, seed, threads, peers, dht, friends, dht-nodes",
        ),
        (
            &["run", "blocked-bootstrap", "dht=no"],
            "dht is one of on, off, not 'no'",
        ),
        (
            &["run", "blocked-bootstrap", "peers=0"],
            "peers is at least 20, not 0",
        ),
        (
            &["run", "blocked-bootstrap", "peers=-5"],
            "peers is at least 20, not -5",
        ),
        (
            &["run", "blocked-bootstrap", "seed=abc"],
            "seed is a whole number from 0 to 9223372036854775807, not 'abc'",
        ),
        (&["run", "../etc/passwd.toml"], "cannot read ../etc/passwd.toml"),
        (
            &["run", "first-look", "--runtime", "swram"],
            "possible values: swarm, paused, turmoil, madsim, tokio",
        ),
        (&["run"], "which scenario?"),
        (
            &["check", "first-look", "seed=3"],
            "check goes through seeds 1 to N",
        ),
        (
            &["check", "first-look", "--seeds", "0"],
            "0 is not in 1..=1000000",
        ),
        (
            &["replay", "/nowhere/at/all"],
            "/nowhere/at/all is not the directory of a run",
        ),
        (
            &["run", "first-look", "--runtime", "tokio", "--twice"],
            "--twice: tokio does not repeat",
        ),
        (
            &["run", "first-look", "--runtime", "paused", "--shuffle", "3"],
            "only swarm shuffles",
        ),
        (&["dance"], "unrecognized subcommand"),
    ] {
        let (code, out, err) = phantom_sim(args);
        assert_eq!((code, out.as_str()), (2, ""), "{args:?}: {err}");
        assert!(err.contains(wanted), "{args:?}:\n{err}\nwanted: {wanted}");
    }
}

/// A gate that finds nothing to check stays shut.
#[test]
fn a_check_of_nothing_exits_2_and_says_what_to_do() {
    let dir = tempfile::tempdir().expect("a directory");
    let scenarios = dir.path().join("scenarios");
    std::fs::create_dir(&scenarios).expect("made");
    let (code, out, err) = phantom_sim_in(dir.path(), &["check"]);
    assert_eq!((code, out.as_str()), (2, ""), "{err}");
    let wanted = format!(
        "no scenario is tagged ci in {}: name the scenarios to check",
        scenarios.display()
    );
    assert!(err.contains(&wanted), "{err}");
    let good = std::fs::read_to_string("../scenarios/first-look.toml").expect("shipped");
    let untagged = good.replace("\"ci\", ", "");
    std::fs::write(scenarios.join("first-look.toml"), untagged).expect("written");
    assert_eq!(phantom_sim_in(dir.path(), &["check"]).0, 2);
}

#[test]
fn a_bad_file_exits_2_with_its_line_and_column() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("mine.toml");
    let good = std::fs::read_to_string("../scenarios/first-look.toml").expect("shipped");
    let path = file.display().to_string();
    std::fs::write(
        &file,
        good.replace("\"first-look\"", "\"mine\"")
            .replace("\"outside\"\narea", "\"outsied\"\narea"),
    )
    .expect("written");
    let (code, out, err) = phantom_sim(&["scenario", "check", &path]);
    assert_eq!((code, out.as_str()), (2, ""));
    assert!(
        err.contains("unknown region 'outside'; did you mean 'outsied'?"),
        "{err}"
    );
    let place = err
        .strip_prefix("phantom-sim: ")
        .and_then(|rest| rest.strip_prefix(&path))
        .expect("the file first");
    assert!(place.starts_with(":25:13: "), "{err}");
    std::fs::write(&file, good.replace("\"first-look\"", "\"mine\"")).expect("written");
    let (code, out, _) = phantom_sim(&["scenario", "check", &path]);
    assert!(code == 0 && out.contains("good. 44 hosts"), "{out}");
    // One that is shipped goes by its name.
    let (code, out, _) = phantom_sim(&["scenario", "check", "first-look"]);
    assert!(
        code == 0 && out.contains("first-look.toml: good. 44 hosts"),
        "{out}"
    );
    let (code, _, err) = phantom_sim(&["scenario", "check", "first-lok"]);
    assert!(
        code == 2 && err.contains("first-lok") && err.contains("first-look, "),
        "{err}"
    );
}

#[test]
fn the_schema_is_json_and_describes_every_part() {
    let (code, out, _) = phantom_sim(&["scenario", "schema"]);
    let schema: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(code, 0);
    for part in [
        "run",
        "params",
        "topology",
        "population",
        "graph",
        "censor",
        "fault",
        "workload",
        "invariant",
        "claim",
        "sweep",
        "ci",
    ] {
        assert!(schema["properties"][part].is_object(), "{part}");
    }
    assert_eq!(schema["additionalProperties"], false);
}

#[test]
fn help_and_version_are_answers() {
    for flag in ["--help", "--version"] {
        let (code, out, err) = phantom_sim(&[flag]);
        assert!(code == 0 && !out.is_empty() && err.is_empty());
    }
}

#[test]
fn without_a_way_in_the_run_exits_1_and_names_the_broken_promise_the_clients_and_the_replay() {
    let store = tempfile::tempdir().expect("a directory");
    let path = store.path().display().to_string();
    let args = [
        "run",
        "blocked-bootstrap",
        "peers=24",
        "dht=off",
        "friends=off",
        "--out",
        &path,
    ];
    let (code, out, err) = phantom_sim(&args);
    assert_eq!(code, 1, "{out}{err}");
    let broken = "90 % of clients are connected within 5 minutes of arrival";
    assert!(out.contains("FAIL"), "{out}");
    // Below the table: whom it befell, and what each tried and saw.
    let told = out
        .lines()
        .skip_while(|line| !line.starts_with(broken))
        .skip(1)
        .take_while(|line| line.starts_with("  "));
    let clients: Vec<&str> = told.filter(|line| line.contains("client-")).collect();
    assert!(!clients.is_empty(), "{out}");
    for line in clients {
        assert!(
            line.contains("never connected") && line.contains("static list"),
            "{line}"
        );
    }
    let last: Vec<&str> = err.lines().rev().take(3).collect();
    assert_eq!(
        last[2],
        "replay: just sim scenario=blocked-bootstrap seed=1 peers=24 dht=off friends=off"
    );
    assert!(last[1].starts_with("commit: "), "{err}");
    let dir = Path::new(last[0].strip_prefix("run:    ").expect("the directory"));
    assert!(dir.join("result.json").is_file() && dir.join("events.jsonl").is_file());
}

#[test]
fn with_one_way_left_of_two_everybody_gets_in() {
    for left in ["dht=off", "friends=off"] {
        let store = tempfile::tempdir().expect("a directory");
        let path = store.path().display().to_string();
        let (code, out, err) = phantom_sim(&["run", "blocked-bootstrap", "peers=40", left, "--out", &path]);
        assert_eq!(code, 0, "{left}: {out}{err}");
    }
}

/// The commit is that of the program, wherever it is run.
#[test]
fn a_run_in_a_strangers_repository_records_the_commit_of_the_program() {
    let dir = tempfile::tempdir().expect("a directory");
    let git = |args: &[&str]| Command::new("git").args(args).current_dir(dir.path()).status();
    let who = ["-c", "user.name=x", "-c", "user.email=x@example.org"];
    let commit = [&who[..], &["commit", "--quiet", "--allow-empty", "-m", "x"]].concat();
    if !git(&["init", "--quiet"]).is_ok_and(|status| status.success()) {
        return; // No git, no stranger.
    }
    assert!(git(&commit).expect("git is there").success());
    let scenario = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/first-look.toml");
    let args = [
        "run",
        &scenario.display().to_string(),
        "peers=14",
        "--json",
        "--out",
        "store",
    ];
    let (_, out, err) = phantom_sim_in(dir.path(), &args);
    let result: serde_json::Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{err}"));
    assert_eq!(result["commit"], env!("PHANTOM_COMMIT"));
}

/// What is printed is pasted into a shell somewhere in the workspace, as the README leaves it: with `just` and cargo.
#[test]
fn the_replay_command_that_is_printed_plays_the_same_run() {
    use std::os::unix::fs::PermissionsExt as _;
    if Command::new("just").arg("--version").output().is_err() {
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    // A cargo that has built the program already.
    let cargo = dir.path().join("cargo");
    let program = env!("CARGO_BIN_EXE_phantom-sim");
    let script = format!(
        "#!/bin/sh\n[ \"$1\" != build ] || exit 0\nwhile [ \"$1\" != -- ]; do shift; done\nshift\nexec '{program}' \"$@\"\n"
    );
    std::fs::write(&cargo, script).expect("written");
    std::fs::set_permissions(&cargo, std::fs::Permissions::from_mode(0o755)).expect("ours");
    let path = std::env::var("PATH").expect("a PATH");
    let path = format!("{}:{path}", dir.path().display());

    let good = std::fs::read_to_string("../scenarios/first-look.toml").expect("shipped");
    let broken = good
        .replace("\"first-look\"", "\"mine\"")
        .replace("_within(10 s)) >= 1", "_within(10 s)) >= 2");
    let file = dir.path().join("mine.toml").display().to_string();
    std::fs::write(&file, broken).expect("written");
    let store = dir.path().join("a store").display().to_string();
    let (code, out, err) = phantom_sim_in(Path::new("/"), &["run", &file, "peers=14", "--out", &store]);
    assert_eq!(code, 1, "{out}{err}");
    let command = err
        .lines()
        .find_map(|line| line.strip_prefix("replay: "))
        .expect("a command");
    let pasted = Command::new("sh")
        .args(["-c", &format!("{command} --out '{store}'")])
        .env("PATH", &path)
        .output()
        .expect("a shell");
    let again = String::from_utf8_lossy(&pasted.stdout);
    let digest = |out: &str| out.split("digest ").nth(1).map(|rest| rest.trim().to_owned());
    assert_eq!(
        pasted.status.code(),
        Some(1),
        "{command}: {again}{}",
        String::from_utf8_lossy(&pasted.stderr)
    );
    assert_eq!(digest(&again), digest(&out), "{command}");
}

/// Ctrl-C in the middle of a run: 130, and not a trace of it in the store.
#[test]
fn an_interrupted_run_exits_130_and_leaves_nothing() {
    use std::io::{BufRead, BufReader};
    let store = tempfile::tempdir().expect("a directory");
    let mut child = Command::new(env!("CARGO_BIN_EXE_phantom-sim"))
        .args(["run", "blocked-bootstrap", "--out"])
        .arg(store.path())
        .current_dir("..")
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("it starts");
    // The header is said right before the run's directory is made.
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    lines.next().expect("a header").expect("UTF-8");
    let hidden = || {
        std::fs::read_dir(store.path().join("blocked-bootstrap"))
            .map(|dir| dir.count())
            .unwrap_or_default()
    };
    while hidden() == 0 {
        std::thread::yield_now();
    }
    let id = child.id().to_string();
    let killed = Command::new("kill").args(["-INT", &id]).status();
    assert!(killed.expect("kill is there").success());
    assert_eq!(child.wait().expect("it ends").code(), Some(130));
    assert_eq!(hidden(), 0);
    assert!(!store.path().join("latest").exists());
}
