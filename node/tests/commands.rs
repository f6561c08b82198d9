//! The program as an operator meets it: the commands of docs/OPERATOR.md, their output and exit codes.
#![allow(clippy::unwrap_used, reason = "a failed helper fails the test")]

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use phantom_core::rendezvous::{BridgeSlots, Bundle};

use programs::{Running, done, line, phantom_node};

mod programs;

/// Runs `phantom-node` in `dir`; it must fail with this code. What it complained.
fn fails(dir: &Path, code: i32, args: &[&str]) -> String {
    let output = phantom_node(dir, args);
    assert_eq!(output.status.code(), Some(code), "{args:?}");
    String::from_utf8(output.stderr).unwrap() + &String::from_utf8(output.stdout).unwrap()
}

#[expect(
    clippy::disallowed_methods,
    reason = "a test of real processes waits for them in real time"
)]
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..300 {
        if holds() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    panic!("not within 30 s: {what}");
}

#[test]
fn a_network_is_set_up_with_the_documented_commands() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    // An authority, a node and a bridge.
    let common = ["--interval", "2 s", "--listen"];
    let printed = done(
        dir,
        &[
            &["directory", "init", "--dir", "a"][..],
            &common,
            &["127.77.1.1:9100"],
        ]
        .concat(),
    );
    let authority = line(&printed);
    let node_args = [
        &[
            "init",
            "--dir",
            "n",
            "--operator",
            "example.org",
            "--authority",
            &authority,
        ][..],
        &common,
        &["127.77.2.1:4430"],
    ]
    .concat();
    let node = line(&done(dir, &node_args));
    assert!(
        node.starts_with("node:") && node.ends_with("@127.77.2.1:4430"),
        "{node}"
    );
    assert_eq!(
        fs::metadata(dir.join("n/node.keys")).unwrap().mode() & 0o777,
        0o600
    );
    // A second time it changes nothing: keys are kept, settings are not overwritten.
    let keys = fs::read(dir.join("n/node.keys")).unwrap();
    assert!(fails(dir, 2, &node_args).contains("exists"));
    done(dir, &[&node_args[..], &["--rewrite"]].concat());
    assert_eq!(fs::read(dir.join("n/node.keys")).unwrap(), keys);

    done(
        dir,
        &[
            "cohorts",
            "mint",
            "--cohorts",
            "2",
            "--bridges",
            "2",
            "--out",
            "ledger",
        ],
    );
    assert!(
        fails(
            dir,
            2,
            &[
                "cohorts",
                "mint",
                "--cohorts",
                "2",
                "--bridges",
                "2",
                "--out",
                "ledger"
            ]
        )
        .contains("exists")
    );
    let slots = BridgeSlots::decode(&fs::read(dir.join("ledger/bridge-1.slots")).unwrap()).unwrap();
    assert_eq!(slots.0.len(), 2);
    let bridge = [
        &[
            "init",
            "--bridge",
            "--dir",
            "b",
            "--slots",
            "../ledger/bridge-0.slots",
            "--authority",
            &authority,
            "--router",
            "127.77.3.1:6881",
        ][..],
        &common,
        &["127.77.2.2:4430"],
    ]
    .concat();
    let printed = done(dir, &bridge);
    assert!(
        !printed.contains("line "),
        "a bridge has no line to give away: {printed}"
    );

    // A client's bundle.
    let network = format!(
        "entries = [\"{node}\"]\n[directory]\nthreshold = 1\nauthorities = [\"{authority}\"]\n[dht]\nrouters = [\"127.77.3.1:6881\"]\n"
    );
    fs::write(dir.join("network.toml"), network).unwrap();
    let bundle = [
        "bundle",
        "--network",
        "network.toml",
        "--ledger",
        "ledger/ledger",
        "--cohort",
        "1",
        "--out",
        "c.bundle",
    ];
    done(dir, &bundle);
    let bytes = fs::read(dir.join("c.bundle")).unwrap();
    let decoded = Bundle::decode(&bytes).unwrap();
    assert_eq!(
        (
            decoded.entries.len(),
            decoded.routers.len(),
            decoded.directory.n()
        ),
        (1, 1, 1)
    );
    assert_eq!(decoded.cohort.public.id(), slots.0[1].cohort());
    assert!(fails(dir, 1, &bundle).contains("exists"));
    let other = [
        "bundle",
        "--network",
        "network.toml",
        "--ledger",
        "ledger/ledger",
        "--cohort",
        "2",
        "--out",
        "d.bundle",
    ];
    assert!(fails(dir, 2, &other).contains("no cohort 2"));

    // Run it, look at it, end it.
    assert!(fails(dir, 1, &["status", "--config", "n/node.toml"]).contains("never ran"));
    assert!(done(dir, &["check", "--offline", "--config", "n/node.toml"]).contains("ok    address"));
    assert!(fails(dir, 1, &["check", "--config", "n/node.toml"]).contains("FAIL  directory"));
    let a = Running::start(
        dir,
        &["directory", "run", "--config", "a/directory.toml"],
        "a.log",
    );
    let n = Running::start(
        dir,
        &["run", "--log", "debug", "--config", "n/node.toml"],
        "n.log",
    );
    until("the node is listed", || {
        let output = phantom_node(dir, &["status", "--config", "n/node.toml"]);
        String::from_utf8(output.stdout)
            .unwrap()
            .contains("1 nodes, this one among them")
    });
    let checked = done(dir, &["check", "--config", "n/node.toml"]);
    for expected in [
        "in use by the node",
        "ok    clock",
        "takes writes",
        "1 of 1 authorities answer",
        "1 nodes, this one among them",
    ] {
        assert!(checked.contains(expected), "{expected}: {checked}");
    }
    assert_eq!((n.terminate(), a.terminate()), (Some(0), Some(0)));
    assert!(fails(dir, 1, &["status", "--config", "n/node.toml"]).contains("not running"));

    // No key was printed or logged.
    let log = fs::read_to_string(dir.join("n.log")).unwrap() + &checked;
    let keys = String::from_utf8(keys).unwrap();
    let secrets: Vec<&str> = keys
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(_, hex)| hex)
        .filter(|hex| hex.len() == 64)
        .collect();
    assert_eq!(secrets.len(), 2);
    assert!(secrets.iter().all(|secret| !log.contains(secret)));
}

#[test]
fn a_bridge_publishes_in_the_dht_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let authority = line(&done(
        dir,
        &[
            "directory",
            "init",
            "--dir",
            "a",
            "--interval",
            "2 s",
            "--listen",
            "127.77.4.1:9100",
        ],
    ));
    done(
        dir,
        &[
            "cohorts",
            "mint",
            "--cohorts",
            "1",
            "--bridges",
            "1",
            "--out",
            ".",
        ],
    );
    done(
        dir,
        &[
            "init",
            "--bridge",
            "--dir",
            "b",
            "--interval",
            "2 s",
            "--listen",
            "127.77.4.2:4430",
            "--slots",
            "../bridge-0.slots",
            "--router",
            "127.77.5.1:6881",
            "--authority",
            &authority,
        ],
    );
    let _dht: Vec<Running> = (1..=5)
        .map(|n| {
            let at = format!("127.77.5.{n}:6881");
            Running::start(
                dir,
                &["dht", "--bind", &at, "--join", "127.77.5.1:6881"],
                &format!("dht-{n}.log"),
            )
        })
        .collect();
    // A bridge is not published before replies can come back to it, over a listed node.
    let node = [
        "init",
        "--dir",
        "n",
        "--interval",
        "2 s",
        "--listen",
        "127.77.4.3:4430",
        "--authority",
        &authority,
    ];
    done(dir, &node);
    let _n = Running::start(dir, &["run", "--config", "n/node.toml"], "n.log");
    let _a = Running::start(
        dir,
        &["directory", "run", "--config", "a/directory.toml"],
        "a.log",
    );
    // The DHT's nodes find each other within seconds.
    until("the bridge's check finds the DHT", || {
        let output = phantom_node(dir, &["check", "--config", "b/bridge.toml"]);
        let text = String::from_utf8(output.stdout).unwrap();
        text.contains("ok    dht") && text.contains(", 1 slots")
    });
    let b = Running::start(dir, &["run", "--config", "b/bridge.toml"], "b.log");
    until("the bridge is published", || {
        let output = phantom_node(dir, &["status", "--config", "b/bridge.toml"]);
        String::from_utf8(output.stdout)
            .unwrap()
            .contains("items published, 0 not")
    });
    assert_eq!(b.terminate(), Some(0));
}

#[test]
fn wrong_usage_and_wrong_settings_exit_with_2() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::write(dir.join("node.toml"), "data = 5\n").unwrap();
    assert!(fails(dir, 2, &["run"]).contains("node.toml:1:8:"));
    assert!(fails(dir, 2, &["check"]).contains("node.toml:1:8:"));
    assert!(fails(dir, 2, &["run", "--config", "none.toml"]).contains("none.toml"));
    assert!(fails(dir, 2, &["run", "--log", "=a=b", "--config", "node.toml"]).contains("--log"));
    fails(dir, 2, &["walk"]);
    assert!(fails(dir, 2, &["init", "--dir", "n", "--listen", "0.0.0.0:443"]).contains("--address"));
    assert!(done(dir, &["--help"]).contains("Exit codes"));
}
