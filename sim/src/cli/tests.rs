//! Tests of the command line with a player whose worlds are made up.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use phantom_core::event::{Event, Step, Tag};
use phantom_core::transport::Kind;
use phantom_core::units::{Instant, WallTime};

use super::words::Words;
use super::*;
use crate::check::observe::{Acted, Observation, Seen, Sink};
use crate::host::PeerId;
use crate::host::record::Checkpoint;
use crate::run::RunOutput;
use crate::scenario::metric::Sense;
use crate::scenario::plan::{Plan, Role};

/// Plays `first-look` as it should go, or not.
#[derive(Clone, Copy, PartialEq)]
enum Fake {
    Fine,
    /// Half of the clients never get in.
    Broken,
    /// No two plays are the same.
    Wobbly,
    /// Cannot see the censor.
    Blind,
    /// Of this seed.
    Panics(u64),
    /// It says so, and plays one world at a time.
    NeverRepeats,
    /// Clients of this seed connect late.
    Slow(u64),
}

static PLAYS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

impl Player for Fake {
    fn senses(&self) -> &[Sense] {
        match self {
            Self::Blind => &[Sense::Events, Sense::Paths],
            _ => Sense::ALL,
        }
    }
    fn repeats(&self) -> bool {
        *self != Self::NeverRepeats
    }
    fn epoch(&self, _: &Plan) -> WallTime {
        WallTime::from_unix_secs(1_700_000_000)
    }
    fn play(&self, plan: &Arc<Plan>, sink: &mut dyn Sink) -> Result<RunOutput, RunError> {
        static REAL_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());
        let alone = (*self == Self::NeverRepeats).then(|| {
            REAL_TIME
                .try_lock()
                .expect("another world is at the same addresses")
        });
        let first_beat = if *self == Self::Slow(plan.seed) { 6 } else { 1 };
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
            if *self != Self::Broken || i % 2 == 0 {
                for beat in first_beat..28 {
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
                        transport: Kind::Plain,
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
            let shown = at + Duration::from_secs(3);
            see(shown, Some(id), Seen::Shown { message, expires });
            see(
                shown,
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
        assert!(*self != Self::Panics(plan.seed), "a rule of the code is broken");
        drop(alone);
        let plays = PLAYS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let drift = if *self == Self::Wobbly { plays } else { 0 };
        Ok(RunOutput {
            end: Instant::ZERO + plan.duration,
            events: 3_000,
            segments: 0,
            trace_digest: format!("{:016x}", plan.seed + drift),
            checkpoints: [1, 2, 3 + drift]
                .into_iter()
                .zip(0..)
                .map(|(digest, second)| Checkpoint {
                    second,
                    digest,
                    peers: vec![(PeerId(0), 1), (PeerId(20), digest)],
                })
                .collect(),
        })
    }
}

struct Ran {
    code: u8,
    out: String,
    err: String,
}

fn phantom_sim(args: &[&str], fake: Fake) -> Ran {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let args = std::iter::once("phantom-sim")
        .chain(args.iter().copied())
        .map(OsString::from);
    let players = move |runtime: &str, manner| -> Result<Box<dyn Player>, RunError> {
        match runtime {
            "swarm" => Ok(Box::new(fake)),
            other => crate::run::player(other, manner),
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

/// Takes a line, and is gone.
struct Closed(usize);

impl Write for Closed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        match self.0 {
            0..50 => Ok(bytes.len()),
            _ => Err(ErrorKind::BrokenPipe.into()),
        }
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn whoever_closes_the_pipe_of_a_listing_has_read_enough() {
    for words in [
        &["list"][..],
        &["list", "--json"],
        &["scenario", "schema"],
        &["censors"],
    ] {
        let args = ["phantom-sim"].iter().chain(words).map(OsString::from);
        let (mut out, mut err) = (Closed(0), Vec::new());
        let code = main(args, &crate::run::player, &mut out, &mut err);
        assert!(out.0 >= 50, "{words:?} is too short to tell");
        assert_eq!(
            (code, err.len()),
            (HOLDS, 0),
            "{words:?}: {}",
            String::from_utf8_lossy(&err)
        );
    }
}

#[test]
fn a_run_that_holds_exits_0_and_leaves_its_files() {
    let (dir, path) = scratch();
    let ran = phantom_sim(
        &["run", "first-look", "seed=7", "--out", &path, "--twice"],
        Fake::Fine,
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
    let again = phantom_sim(&["replay", &latest.display().to_string()], Fake::Fine);
    assert_eq!(again.code, HOLDS, "{}{}", again.out, again.err);
}

#[test]
fn json_is_one_object_with_the_contracted_fields_and_nothing_else() {
    let (_dir, path) = scratch();
    let ran = phantom_sim(
        &["run", "scenario=first-look", "peers=30", "--json", "--out", &path],
        Fake::Fine,
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
        "segments",
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
        Fake::Broken,
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
fn two_plays_that_differ_are_told_apart_by_their_second_and_peer() {
    let (_dir, path) = scratch();
    let ran = phantom_sim(&["run", "first-look", "--out", &path, "--twice"], Fake::Wobbly);
    assert_eq!(ran.code, VIOLATED);
    assert!(
        ran.err
            .contains("NOT the same: they part in simulated second 2 at peer 20 (")
            && ran
                .err
                .contains("two more plays part in simulated second 2 at peer 20 ("),
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
    let ran = phantom_sim(&args, Fake::Fine);
    assert_eq!(ran.code, HOLDS, "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("first-look: 5 of 5 seeds pass"), "{}", ran.out);
    let ran = phantom_sim(&args, Fake::Broken);
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

#[test]
fn the_gate_plays_at_the_size_of_the_scenario_unless_told_otherwise() {
    let (_dir, path) = scratch();
    for (args, wanted) in [
        (&["check", "udp-off"][..], "udp-off peers=60: 0 of 2 seeds pass"),
        (
            &["check", "udp-off", "peers=40"],
            "udp-off peers=40: 0 of 2 seeds pass",
        ),
        (
            &["check", "udp-off", "--seeds", "3"],
            "udp-off peers=60: 0 of 3 seeds pass",
        ),
    ] {
        let args = [args, &["--out", &path]].concat();
        let ran = phantom_sim(&args, Fake::Broken);
        assert!(ran.out.contains(wanted), "{wanted}:\n{}", ran.out);
    }
    let ran = phantom_sim(&["check", "udp-off", "peers=40", "--out", &path], Fake::Broken);
    assert!(
        ran.err
            .contains("replay: just sim scenario=udp-off seed=1 peers=40"),
        "{}",
        ran.err
    );
}

#[test]
fn the_gate_says_the_same_for_any_number_of_threads() {
    let (dir, path) = scratch();
    let mut reports = Vec::new();
    for threads in ["threads=1", "threads=2", "threads=7"] {
        let junit = dir.path().join(threads);
        let file = junit.display().to_string();
        let args = [
            "check",
            "first-look",
            "poisoned-dns",
            "--seeds",
            "6",
            threads,
            "--out",
            &path,
            "--junit",
            &file,
        ];
        let ran = phantom_sim(&args, Fake::Panics(4));
        assert_eq!(ran.code, VIOLATED, "poisoned-dns cannot pass here");
        // What is broken is told as it happens; the rest goes by scenario and seed.
        let summary: Vec<String> = ran
            .out
            .lines()
            .filter(|line| line.contains(" seeds pass") || line.contains("runs)"))
            .map(str::to_owned)
            .collect();
        assert_eq!(summary.len(), 3, "{}", ran.out);
        let last: Vec<String> = ran.err.lines().rev().take(3).map(str::to_owned).collect();
        reports.push((std::fs::read(junit).expect("written"), summary, last));
    }
    assert!(reports.iter().all(|report| *report == reports[0]));
}

#[test]
fn the_gate_tells_what_is_broken_at_once_with_its_replay_command() {
    let (_dir, path) = scratch();
    let args = ["check", "first-look", "--seeds", "3", "threads=1", "--out", &path];
    let ran = phantom_sim(&args, Fake::Broken);
    let lines: Vec<&str> = ran.out.lines().collect();
    assert!(
        lines[0]
            .starts_with("first-look seed 1 VIOLATED: every client is connected within 10 seconds (observed"),
        "{}",
        ran.out
    );
    assert!(lines[1].starts_with("  run:    "));
    assert_eq!(lines[2], "  replay: just sim scenario=first-look seed=1");
    assert!(
        lines[9].starts_with("first-look: 0 of 3 seeds pass, digest "),
        "{}",
        ran.out
    );
}

#[test]
fn what_the_gate_cannot_observe_is_listed_once() {
    let (_dir, path) = scratch();
    let ran = phantom_sim(
        &["check", "first-look", "--seeds", "5", "--out", &path],
        Fake::Blind,
    );
    assert_eq!(ran.code, HOLDS, "{}{}", ran.out, ran.err);
    assert_eq!(ran.out.matches("N/A").count(), 1, "{}", ran.out);
    assert!(
        ran.out
            .contains("  N/A       the censor drops: not observable on swarm"),
        "{}",
        ran.out
    );
}

#[test]
fn a_claim_over_fewer_seeds_than_wanted_is_marked() {
    let (_dir, path) = scratch();
    let args = ["check", "poisoned-dns", "--seeds", "12", "--out", &path];
    let ran = phantom_sim(&args, Fake::Panics(4));
    assert!(
        ran.out
            .contains("poisoned-dns seed 4 the run failed: it panicked: a rule of the code is broken"),
        "{}",
        ran.out
    );
    assert!(
        ran.out
            .contains("(11 runs): INCOMPLETE, 1 of 12 runs failed and are missing here"),
        "{}",
        ran.out
    );
    let whole = phantom_sim(&args, Fake::Fine);
    assert!(!whole.out.contains("INCOMPLETE"), "{}", whole.out);
}

/// A scenario of which every invariant holds, and a claim does not: half of the clients are in at once.
fn with_a_bold_claim(dir: &tempfile::TempDir) -> String {
    let good = std::fs::read_to_string("../scenarios/first-look.toml").expect("shipped");
    let claim = "[[claim]]\nname = \"half are in at once\"\nvalue = \"quantile(client.time_to_connect, 0.5)\"\n\
                 interval = { at-most = \"1 ms\" }\n";
    let file = dir.path().join("bold.toml");
    std::fs::write(
        &file,
        format!("{}\n{claim}", good.replace("\"first-look\"", "\"bold\"")),
    )
    .expect("written");
    file.display().to_string()
}

/// The last three lines: replay command, commit, and the directory, which is that of one whole run.
fn ends_with(ran: &Ran, replay: &str) -> PathBuf {
    let last: Vec<&str> = ran.err.lines().rev().take(3).collect();
    assert_eq!(last[2], format!("replay: {replay}"), "{}", ran.err);
    assert!(last[1].starts_with("commit: "), "{}", ran.err);
    PathBuf::from(last[0].strip_prefix("run:    ").expect("the directory"))
}

fn is_whole(dir: &Path) -> bool {
    let files = [
        "result.json",
        "scenario.toml",
        "series.csv",
        "phases.json",
        "violations.json",
        "events.jsonl",
    ];
    files.iter().all(|file| dir.join(file).is_file())
}

/// Nobody can look into a claim that is refuted without the run that speaks most against it.
#[test]
fn a_refuted_claim_exits_1_and_ends_with_its_worst_run() {
    let (dir, path) = scratch();
    let file = with_a_bold_claim(&dir);
    let mut ends = Vec::new();
    for threads in ["threads=1", "threads=3"] {
        let ran = phantom_sim(
            &["check", &file, "--seeds", "12", threads, "--out", &path],
            Fake::Slow(7),
        );
        assert_eq!(ran.code, VIOLATED, "{}{}", ran.out, ran.err);
        assert!(ran.out.contains("12 of 12 seeds pass"), "{}", ran.out);
        assert!(
            ran.out.contains("REFUTED   half are in at once") && ran.out.contains("worst:  seed 7"),
            "{}",
            ran.out
        );
        let worst = ends_with(&ran, &format!("just sim {file} seed=7"));
        assert!(is_whole(&worst));
        let kept = std::fs::read_dir(dir.path().join("bold")).expect("there").count();
        assert_eq!(kept, 1, "the other runs hold, and nobody asked for them");
        ends.push(worst);
    }
    assert_eq!(ends[0], ends[1]);
}

#[test]
fn a_gate_in_which_a_run_failed_exits_3_and_ends_with_what_there_is_of_it() {
    let (_dir, path) = scratch();
    let ran = phantom_sim(
        &["check", "first-look", "--seeds", "3", "--out", &path],
        Fake::Panics(2),
    );
    assert_eq!(ran.code, FAILED, "{}{}", ran.out, ran.err);
    let failed = ends_with(&ran, "just sim scenario=first-look seed=2");
    assert!(failed.join("failure.txt").is_file() && failed.join("events.jsonl").is_file());
}

/// The same key is the same run: whoever plays it, all of it is there afterwards.
#[test]
fn the_gate_replaces_no_run_by_less_than_a_run() {
    let (_dir, path) = scratch();
    let ran = phantom_sim(&["run", "first-look", "seed=2", "--out", &path], Fake::Broken);
    let dir = ends_with(&ran, "just sim scenario=first-look seed=2");
    let events = std::fs::read(dir.join("events.jsonl")).expect("written");
    let ran = phantom_sim(
        &["check", "first-look", "--seeds", "3", "--out", &path],
        Fake::Broken,
    );
    assert!(ran.out.contains(&dir.display().to_string()), "{}", ran.out);
    assert!(is_whole(&dir));
    assert_eq!(
        std::fs::read(dir.join("events.jsonl")).expect("still there"),
        events
    );
}

/// Worlds in real time share the machine's loopback addresses.
#[test]
fn what_does_not_repeat_is_checked_one_world_at_a_time() {
    let (_dir, path) = scratch();
    let args = ["check", "first-look", "--seeds", "6", "threads=6", "--out", &path];
    let ran = phantom_sim(&args, Fake::NeverRepeats);
    assert_eq!(ran.code, HOLDS, "{}{}", ran.out, ran.err);
}

/// A run that must repeat and did not is a finding, never something to be tried again.
#[test]
fn a_replay_that_comes_to_another_digest_exits_1() {
    let (dir, path) = scratch();
    let ran = phantom_sim(&["run", "first-look", "seed=7", "--out", &path], Fake::Fine);
    assert_eq!(ran.code, HOLDS, "{}{}", ran.out, ran.err);
    let latest = dir.path().join("latest");
    let again = phantom_sim(&["replay", &latest.display().to_string()], Fake::Wobbly);
    assert_eq!(again.code, VIOLATED, "{}{}", again.out, again.err);
    assert!(again.err.contains("NOT the same run: digest"), "{}", again.err);
    ends_with(&again, &format!("just replay {}", latest.display()));
}

/// Whatever seed is taken can be replayed: it is in the run's own scenario, as TOML.
#[test]
fn the_largest_seed_can_be_replayed_and_a_larger_one_is_refused() {
    let (dir, path) = scratch();
    let seed = format!("seed={}", words::SEED_MAX);
    let ran = phantom_sim(&["run", "first-look", &seed, "--out", &path], Fake::Fine);
    assert_eq!(ran.code, HOLDS, "{}{}", ran.out, ran.err);
    let latest = dir.path().join("latest").display().to_string();
    let again = phantom_sim(&["replay", &latest], Fake::Fine);
    assert_eq!(again.code, HOLDS, "{}{}", again.out, again.err);
    let seed = format!("seed={}", words::SEED_MAX + 1);
    let ran = phantom_sim(&["run", "first-look", &seed, "--out", &path], Fake::Fine);
    assert_eq!(ran.code, USAGE, "{}{}", ran.out, ran.err);
}

#[test]
fn a_run_that_panics_exits_3_and_leaves_the_older_result_whole() {
    let (dir, path) = scratch();
    let args = ["run", "first-look", "seed=7", "--out", &path];
    assert_eq!(phantom_sim(&args, Fake::Fine).code, HOLDS);
    let latest = dir.path().join("latest");
    let before = std::fs::read(latest.join("events.jsonl")).expect("written");
    let ran = phantom_sim(&args, Fake::Panics(7));
    assert_eq!((ran.code, ran.out.as_str()), (FAILED, ""), "{}", ran.err);
    assert!(
        ran.err
            .contains("the run failed: it panicked: a rule of the code is broken"),
        "{}",
        ran.err
    );
    let last: Vec<&str> = ran.err.lines().rev().take(3).collect();
    assert_eq!(last[2], "replay: just sim scenario=first-look seed=7");
    let failed = PathBuf::from(last[0].strip_prefix("run:    ").expect("the directory"));
    assert!(failed.join("failure.txt").is_file() && failed.join("events.jsonl").is_file());
    assert!(!failed.join("result.json").exists());
    assert_eq!(
        before,
        std::fs::read(latest.join("events.jsonl")).expect("still there")
    );
    let names: Vec<_> = std::fs::read_dir(dir.path().join("first-look"))
        .expect("there")
        .map(|entry| entry.expect("read").file_name())
        .collect();
    assert_eq!(
        names.len(),
        2,
        "the run and the failed one, nothing hidden: {names:?}"
    );
    let again = phantom_sim(&["replay", &latest.display().to_string()], Fake::Panics(7));
    assert_eq!(again.code, FAILED);
    assert!(
        again.err.contains("it panicked") && again.err.contains("replay: just replay "),
        "{}",
        again.err
    );
}

#[test]
fn playing_twice_what_does_not_repeat_is_a_mistake_of_the_user() {
    let (dir, path) = scratch();
    let ran = phantom_sim(
        &["run", "first-look", "--twice", "--out", &path],
        Fake::NeverRepeats,
    );
    assert_eq!(ran.code, USAGE);
    assert!(ran.err.contains("--twice: swarm does not repeat"), "{}", ran.err);
    assert_eq!(
        phantom_sim(&["run", "first-look", "--out", &path], Fake::Fine).code,
        HOLDS
    );
    let latest = dir.path().join("latest").display().to_string();
    let ran = phantom_sim(&["replay", &latest], Fake::NeverRepeats);
    assert_eq!(ran.code, USAGE);
    assert!(
        ran.err.contains("nothing to compare a replay with"),
        "{}",
        ran.err
    );
}

/// The picture in the README is of the present behaviour and the present scenario: whoever changes either draws it again, by
/// `just sim scenario=blocked-bootstrap peers=100` and `just report`.
#[test]
fn the_picture_in_the_readme_is_of_the_run_that_it_names() {
    let words = Words::read(&["blocked-bootstrap".to_owned(), "peers=100".to_owned()]).expect("words");
    let loaded = words.load(&library(), "blocked-bootstrap").expect("the scenario");
    let seed = loaded.scenario.run.seed;
    let key = store::run_key(&loaded.hash, "swarm", seed, None);
    let picture = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/blocked-bootstrap.svg");
    let picture = std::fs::read_to_string(picture).expect("the picture");
    assert!(picture.contains(&format!("run {key}")), "wanted the run {key}");
}
