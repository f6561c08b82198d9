//! The program itself, on a made-up run.

use std::path::Path;
use std::process::Command;

fn phantom_reports(args: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_phantom-reports"))
        .args(args)
        .output()
        .expect("it starts");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (
        output.status.code().expect("a code"),
        text(output.stdout),
        text(output.stderr),
    )
}

/// A run in which clients arrive over ten minutes, a cut falls from 20 to 22 min, and two promises are broken.
fn write_run(dir: &Path) {
    let result = serde_json::json!({
        "format": 1, "scenario": "blocked-bootstrap", "scenario_hash": "ab", "version": "0.1.0", "commit": "c",
        "runtime": "swarm", "seed": 7, "params": { "peers": 1000, "dht": "on" }, "peers": 1000, "sim_seconds": 2400.0,
        "wall_seconds": 10.0, "cpu_seconds": 9.5, "peak_rss_bytes": 1, "events": 5, "trace_digest": "d", "verdict": "fail",
        "invariants": [{ "name": "no message is lost", "kind": "always", "verdict": "fail",
            "first_violation_seconds": 2400.0, "observed": "3", "wanted": "message.lost(15 min) == 0", "samples": 99 }],
        "claims": [{ "name": "median", "verdict": "undecided", "observed": "2.1 s", "wanted": "w", "n": 1 }],
        "metrics": { "client.time_to_connect": { "unit": "s", "n": 780, "mean": 3.0, "p50": 2.1, "p90": 5.0, "p99": 20.0,
            "min": 0.5, "max": 31.0 } },
    });
    let mut series = "seconds,clients,connected,share,open_paths\n".to_owned();
    for at in 1..=2_400_u32 {
        let clients = (780 * at.min(600)).div_ceil(600);
        let up = match at {
            0..1_200 => 0.97,
            1_200..1_230 => 0.97 - 0.97 * f64::from(at - 1_200) / 30.0,
            1_230..1_320 => 0.0,
            1_320..1_400 => 0.96 * f64::from(at - 1_320) / 80.0,
            _ => 0.96,
        };
        let open = if (1_200..1_320).contains(&at) {
            0
        } else {
            clients * 98 / 100
        };
        let connected = (f64::from(clients) * up).round();
        series.push_str(&format!(
            "{at},{clients},{connected},{:.6},{open}\n",
            connected / f64::from(clients)
        ));
    }
    let phases = r#"[{"name":"cut","from_seconds":1200,"until_seconds":1320},
        {"name":"published-entries","from_seconds":0,"until_seconds":2400},
        {"name":"published-names","from_seconds":0,"until_seconds":2400},
        {"name":"directory-listed","from_seconds":120,"until_seconds":2400},
        {"name":"learned-bridges","from_seconds":0,"until_seconds":2400}]"#;
    let violations = r#"[{"invariant":"a client with an open path is connected within 5 minutes","at_seconds":905.0,"details":[]},
        {"invariant":"no message is lost","at_seconds":2400.0,"details":[]}]"#;
    for (file, text) in [
        ("result.json", result.to_string().as_str()),
        ("series.csv", &series),
        ("phases.json", phases),
        ("violations.json", violations),
    ] {
        std::fs::write(dir.join(file), text).expect("written");
    }
}

#[test]
fn a_run_becomes_a_long_table_and_a_picture() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().display().to_string();
    write_run(dir.path());
    let (code, out, err) = phantom_reports(&[&path]);
    assert_eq!((code, out.lines().count(), err.as_str()), (0, 2, ""));
    let table = std::fs::read_to_string(dir.path().join("metrics.csv")).expect("written");
    let mut lines = table.lines();
    assert_eq!(
        lines.next(),
        Some(
            "run_key,scenario,scenario_hash,sim_version,seed,params.dht,params.peers,metric,unit,value,n,verdict"
        )
    );
    let key = dir
        .path()
        .file_name()
        .expect("a name")
        .to_string_lossy()
        .into_owned();
    let row = format!("{key},blocked-bootstrap,ab,0.1.0,7,on,1000,client.time_to_connect.p99,s,20,780,");
    assert!(lines.any(|line| line == row), "{table}");
    assert!(
        table.contains("invariant: no message is lost,,,99,fail"),
        "{table}"
    );
    let picture = std::fs::read_to_string(dir.path().join("timeline.svg")).expect("written");
    assert!(picture.starts_with("<svg") && picture.trim_end().ends_with("</svg>"));
    for part in [
        "published-entries",
        "at 905.0 s: a client with an open path",
        "simulated time (min)",
        "FAIL",
    ] {
        assert!(picture.contains(part), "{part}");
    }
}

#[test]
fn the_same_run_gives_the_same_picture() {
    let dir = tempfile::tempdir().expect("a directory");
    write_run(dir.path());
    let (first, second) = (dir.path().join("a"), dir.path().join("b"));
    for out in [&first, &second] {
        assert_eq!(
            phantom_reports(&[
                &dir.path().display().to_string(),
                "--out",
                &out.display().to_string()
            ])
            .0,
            0
        );
    }
    let read = |out: &Path| std::fs::read(out.join("timeline.svg")).expect("written");
    assert_eq!(read(&first), read(&second));
}

#[test]
fn a_directory_that_is_no_run_is_refused_with_what_is_missing() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().display().to_string();
    let refused = |wanted: &str| {
        let (code, out, err) = phantom_reports(&[&path]);
        assert_eq!((code, out.as_str()), (2, ""));
        assert!(err.contains(wanted), "{err}");
    };
    refused("is not the directory of a run: it has no result.json; a run is store/<scenario>/<key>");
    write_run(dir.path());
    std::fs::remove_file(dir.path().join("series.csv")).expect("removed");
    refused("it has no series.csv");
    std::fs::write(dir.path().join("result.json"), "{}").expect("written");
    refused("format 1 wanted, none found");
    std::fs::write(dir.path().join("result.json"), "{\"format\":9}").expect("written");
    refused("format 1 wanted, 9 found");
    std::fs::write(dir.path().join("result.json"), "not json").expect("written");
    refused("is damaged or of another version");
    assert_eq!(phantom_reports(&["/nowhere/at/all"]).0, 2);
}
