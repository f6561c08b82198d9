//! Tests of the command line with a player whose worlds are made up.

use std::path::PathBuf;
use std::time::Duration;

use phantom_core::event::{Event, Step, Tag};
use phantom_core::units::{Instant, WallTime};

use super::*;
use crate::check::observe::{Acted, Observation, Seen, Sink};
use crate::run::RunOutput;
use crate::scenario::metric::Sense;
use crate::scenario::plan::{Plan, Role};

/// Plays `first-look` as it should go; with `broken`, half of the clients never get in.
struct Fake {
    broken: bool,
    wobbly: bool,
}

static PLAYS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

impl Player for Fake {
    fn senses(&self) -> &[Sense] {
        Sense::ALL
    }
    fn epoch(&self, _: &Plan) -> WallTime {
        WallTime::from_unix_secs(1_700_000_000)
    }
    fn play(&self, plan: &Plan, sink: &mut dyn Sink) -> Result<RunOutput, RunError> {
        let mut all = Vec::new();
        let mut see = |at: Duration, host: Option<u32>, seen| {
            all.push(Observation {
                at: Instant::ZERO + at,
                host,
                seen,
            });
        };
        for (i, host) in plan
            .hosts
            .iter()
            .enumerate()
            .filter(|(_, host)| matches!(host.role, Role::Client(_)))
        {
            let (id, at) = (i as u32, host.arrives);
            see(at, Some(id), Seen::Event(Event::Arrived));
            see(at, Some(id), Seen::OpenPath(true));
            if !self.broken || i % 2 == 0 {
                for beat in 1..28 {
                    see(
                        at + Duration::from_secs(beat),
                        Some(id),
                        Seen::Event(Event::RoundTrip),
                    );
                }
            } else {
                let outcome = phantom_core::event::Outcome::TimedOut;
                see(
                    at,
                    Some(id),
                    Seen::Event(Event::Attempt {
                        step: Step::Dht,
                        target: None,
                        outcome,
                    }),
                );
            }
            let expires = self.epoch(plan) + Duration::from_secs(3_600);
            let message = Tag(i as u64);
            see(
                at + Duration::from_secs(2),
                Some(id),
                Seen::Event(Event::MessageAccepted { message, expires }),
            );
            see(
                at + Duration::from_secs(3),
                Some(id),
                Seen::Event(Event::MessageDelivered { message, expires }),
            );
        }
        see(
            Duration::from_secs(3),
            None,
            Seen::Censor {
                rule: 0,
                act: Acted::Dropped,
                count: 5,
            },
        );
        for at in 1..=plan.duration.as_secs() {
            see(Duration::from_secs(at), None, Seen::Tick { steps: at * 100 });
        }
        all.sort_by_key(|observation| observation.at);
        all.iter()
            .filter(|seen| seen.at.since_start() <= plan.duration)
            .for_each(|seen| sink.observe(seen));
        let plays = PLAYS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let drift = if self.wobbly { plays } else { 0 };
        Ok(RunOutput {
            end: Instant::ZERO + plan.duration,
            events: 3_000,
            trace_digest: format!("{:016x}", plan.seed + drift),
            checkpoints: vec![1, 2, 3 + drift],
        })
    }
}

struct Ran {
    code: u8,
    out: String,
    err: String,
}

fn phantom_sim(args: &[&str], broken: bool, wobbly: bool) -> Ran {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let args = std::iter::once("phantom-sim")
        .chain(args.iter().copied())
        .map(OsString::from);
    let players = move |runtime: &str| -> Result<Box<dyn Player>, RunError> {
        match runtime {
            "swarm" => Ok(Box::new(Fake { broken, wobbly })),
            other => crate::run::player(other),
        }
    };
    let code = main(args, &players, &mut out, &mut err);
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Ran {
        code,
        out: text(out),
        err: text(err),
    }
}

fn scratch() -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().display().to_string();
    (dir, path)
}

#[test]
fn a_run_that_holds_exits_0_and_leaves_its_files() {
    let (dir, path) = scratch();
    let ran = phantom_sim(
        &["run", "first-look", "seed=7", "--out", &path, "--twice"],
        false,
        false,
    );
    assert_eq!(ran.code, HOLDS, "{}{}", ran.out, ran.err);
    assert!(
        ran.out.contains("every client is connected") && ran.err.contains("played twice: the same digest")
    );
    let latest = dir.path().join("latest");
    for file in [
        "result.json",
        "scenario.toml",
        "series.csv",
        "phases.json",
        "violations.json",
        "events.jsonl",
    ] {
        assert!(latest.join(file).metadata().expect(file).len() > 0, "{file}");
    }
    let again = phantom_sim(&["replay", &latest.display().to_string()], false, false);
    assert_eq!(again.code, HOLDS, "{}{}", again.out, again.err);
}

#[test]
fn json_is_one_object_with_the_contracted_fields_and_nothing_else() {
    let (_dir, path) = scratch();
    let ran = phantom_sim(
        &["run", "scenario=first-look", "peers=30", "--json", "--out", &path],
        false,
        false,
    );
    assert_eq!(
        (ran.code, ran.err.as_str(), ran.out.lines().count()),
        (HOLDS, "", 1)
    );
    let object: serde_json::Value = serde_json::from_str(&ran.out).expect("JSON");
    let keys: Vec<&str> = object
        .as_object()
        .expect("an object")
        .keys()
        .map(String::as_str)
        .collect();
    let mut wanted = vec![
        "format",
        "scenario",
        "scenario_hash",
        "version",
        "commit",
        "runtime",
        "seed",
        "params",
        "peers",
        "sim_seconds",
        "violations",
        "wall_seconds",
        "cpu_seconds",
        "peak_rss_bytes",
        "x25519_us",
        "events",
        "trace_digest",
        "verdict",
        "invariants",
        "claims",
        "metrics",
    ];
    wanted.sort_unstable();
    let mut sorted = keys;
    sorted.sort_unstable();
    assert_eq!(sorted, wanted);
    assert_eq!(
        (&object["peers"], &object["params"]["peers"], &object["verdict"]),
        (&30.into(), &30.into(), &"pass".into())
    );
    let invariant = object["invariants"][0].as_object().expect("an object");
    for key in [
        "name",
        "kind",
        "verdict",
        "first_violation_seconds",
        "observed",
        "wanted",
        "samples",
    ] {
        assert!(invariant.contains_key(key), "{key}");
    }
    assert!(object["metrics"]["client.time_to_connect"]["p99"].is_number());
}

#[test]
fn a_violation_exits_1_names_clients_and_ends_with_how_to_replay_it() {
    let (_dir, path) = scratch();
    let ran = phantom_sim(
        &["run", "first-look", "seed=7", "peers=30", "--out", &path],
        true,
        false,
    );
    assert_eq!(ran.code, VIOLATED);
    assert!(
        ran.out
            .contains("never connected; a path was open; DHT: no answer x1"),
        "{}",
        ran.out
    );
    let last: Vec<&str> = ran.err.lines().rev().take(3).collect();
    assert!(
        last[0].starts_with("run:    ") && PathBuf::from(&last[0][8..]).join("result.json").is_file(),
        "{last:?}"
    );
    assert!(last[1].starts_with("commit: "));
    assert_eq!(last[2], "replay: just sim scenario=first-look seed=7 peers=30");
}

#[test]
fn two_plays_that_differ_are_told_apart_by_their_second() {
    let (_dir, path) = scratch();
    let ran = phantom_sim(&["run", "first-look", "--out", &path, "--twice"], false, true);
    assert_eq!(ran.code, VIOLATED);
    assert!(
        ran.err.contains("NOT the same: in simulated second 2"),
        "{}",
        ran.err
    );
}

#[test]
fn the_gate_counts_seeds_and_writes_junit() {
    let (dir, path) = scratch();
    let junit = dir.path().join("junit.xml");
    let args = [
        "check",
        "first-look",
        "--seeds",
        "5",
        "threads=2",
        "--out",
        &path,
        "--junit",
        &junit.display().to_string(),
    ];
    let ran = phantom_sim(&args, false, false);
    assert_eq!(ran.code, HOLDS, "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("first-look: 5 of 5 seeds pass"), "{}", ran.out);
    let ran = phantom_sim(&args, true, false);
    assert_eq!(ran.code, VIOLATED);
    assert!(
        ran.err.contains("replay: just sim scenario=first-look seed=1"),
        "{}",
        ran.err
    );
    let text = std::fs::read_to_string(junit).expect("written");
    assert!(
        text.contains("failures=\"5\"") && text.contains("seed 5"),
        "{text}"
    );
}
