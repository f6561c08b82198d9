//! `check`: the gate of CI. Scenarios over a fixed list of seeds, worlds side by side on threads.
//!
//! What is broken is told at once; each scenario's summary, the JUnit report and the last lines go by the order of the
//! seeds, so they are the same for any number of threads.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::meter::COMMIT;
use super::one::{On, Played, last_lines, play};
use super::pool::side_by_side;
use super::store::{self, Draft, run_dir, run_key};
use super::watch::Watch;
use super::words::Words;
use super::{CheckArgs, FAILED, HOLDS, Players, Stop, USAGE, VIOLATED, library};
use crate::check::claims::{ClaimResult, Sample};
use crate::check::judge::Verdict;
use crate::run::{Manner, RunError};
use crate::scenario::file::CHECK_SEEDS;
use crate::scenario::load::{Directory, Library as _, Loaded};
use crate::scenario::plan::Plan;

/// A scenario at the size at which it is checked.
struct Entry {
    name: String,
    /// With the size of the gate among its parameters, for the replay command.
    words: Words,
    loaded: Loaded,
    seeds: u64,
}

/// What a thread hands back.
type Ended = Result<(Played, Plan), Stop>;

/// What is kept of a world.
struct Outcome {
    end: End,
    samples: Vec<Sample>,
    /// Invariants that could not be observed.
    unseen: Vec<String>,
    digest: String,
}

enum End {
    Holds,
    /// What was violated, in a line, and where the run is.
    Violated(String, PathBuf),
    Failed(String),
}

/// `phantom-sim check`.
///
/// # Errors
/// Usage, a scenario, a runtime that is not there, the disk. A single run that fails is reported in its place.
pub fn check(
    args: &CheckArgs,
    players: Players<'_>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<u8, Stop> {
    let words = Words::read(&args.words)?;
    if words.seed.is_some() {
        return Err(Stop::Usage(
            "check goes through seeds 1 to N: give --seeds N, or play one with run".to_owned(),
        ));
    }
    let runtime = args.runtime.name();
    players(runtime, Manner::default())?;
    let entries = entries(&words, args.seeds, &library())?;
    let threads = words
        .threads
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let jobs: Vec<(usize, u64)> = entries
        .iter()
        .enumerate()
        .flat_map(|(n, entry)| (1..=entry.seeds).map(move |seed| (n, seed)))
        .collect();
    let weight = |entry: &Entry| {
        let hosts: u64 = entry.loaded.checked.counts.values().sum();
        hosts as f64 * entry.loaded.scenario.run.duration.0.as_secs_f64()
    };
    let mut watch = Watch::start(jobs.len(), jobs.iter().map(|(n, _)| weight(&entries[*n])).sum());
    let mut outcomes: Vec<Vec<Option<Outcome>>> = entries
        .iter()
        .map(|entry| (0..entry.seeds).map(|_| None).collect())
        .collect();
    let mut report = Report::new("phantom-sim check");
    let (mut violated, mut failed) = (false, false);
    let mut summed = 0;
    let work = |(n, seed): &(usize, u64)| {
        let plan = Plan::draw(&entries[*n].loaded, *seed);
        let player = players(runtime, Manner::default())?;
        let on = On {
            runtime,
            shuffle: None,
            player: &*player,
        };
        Ok((play(&entries[*n].loaded, &plan, on, None, None)?, plan))
    };
    let done = |result: Option<(usize, Ended)>| {
        let Some((job, result)) = result else {
            return watch.beat(err);
        };
        let (n, seed) = jobs[job];
        let entry = &entries[n];
        let outcome = match result {
            Ok((played, plan)) => keep(entry, &plan, &played, &args.out)?,
            // Not one world's failure: it is the same for every seed.
            Err(stop) if stop.code() == USAGE => return Err(stop),
            Err(stop) => Outcome {
                end: End::Failed(stop.to_string()),
                samples: Vec::new(),
                unseen: Vec::new(),
                digest: String::new(),
            },
        };
        watch.done(weight(entry), matches!(outcome.end, End::Holds));
        if let Some(told) = told(entry, seed, runtime, &outcome.end) {
            watch
                .aside(|| writeln!(out, "{told}"))
                .map_err(Stop::disk("writing the verdict"))?;
        }
        outcomes[n][usize::try_from(seed - 1).unwrap_or(usize::MAX)] = Some(outcome);
        // Summaries come in the order of the scenarios, each as soon as it is complete.
        while let Some(entry) = entries.get(summed)
            && outcomes[summed].iter().all(Option::is_some)
        {
            let complete: Vec<&Outcome> = outcomes[summed].iter().flatten().collect();
            let (text, suite, finding) = summary(entry, runtime, &complete);
            watch
                .aside(|| write!(out, "{text}"))
                .map_err(Stop::disk("writing the verdict"))?;
            report.add_test_suite(suite);
            violated |= finding.violated;
            failed |= finding.failed;
            summed += 1;
        }
        watch.beat(err)
    };
    let result = side_by_side(&jobs, threads, Watch::patience(), work, done);
    watch.finish();
    result?;
    if let Some(path) = &args.junit {
        write_junit(&report, path)?;
    }
    let bad = entries.iter().zip(&outcomes).find_map(|(entry, outcomes)| {
        let seeded = (1..).zip(outcomes.iter().flatten());
        seeded.into_iter().find_map(|(seed, outcome)| match &outcome.end {
            End::Violated(_, dir) => Some((entry, seed, dir)),
            _ => None,
        })
    });
    if let Some((entry, seed, dir)) = bad {
        last_lines(err, &entry.replay(seed, runtime), COMMIT, dir)?;
    }
    Ok(if violated {
        VIOLATED
    } else if failed {
        FAILED
    } else {
        HOLDS
    })
}

impl Entry {
    fn replay(&self, seed: u64, runtime: &str) -> String {
        self.words.replay(&self.name, seed, runtime, None)
    }
}

/// The scenarios that are meant, at the sizes that are meant: what was typed, else what the scenario says of the gate.
fn entries(words: &Words, seeds: Option<u64>, library: &Directory) -> Result<Vec<Entry>, Stop> {
    let all_tagged = words.scenarios.is_empty();
    let names = if all_tagged {
        library.names()
    } else {
        words.scenarios.clone()
    };
    let mut entries = Vec::new();
    for name in names {
        let plain = words.load(library, &name)?;
        if all_tagged && !plain.scenario.tags.iter().any(|tag| tag == "ci") {
            continue;
        }
        let of_gate = plain.scenario.ci.as_ref().map(|ci| ci.seeds.value);
        let words = words.sized(&plain.scenario);
        entries.push(Entry {
            loaded: words.load(library, &name)?,
            seeds: seeds.or(of_gate).unwrap_or(CHECK_SEEDS),
            name,
            words,
        });
    }
    Ok(entries)
}

/// What is kept of a world that came to its end; a violated one is written to disk.
fn keep(entry: &Entry, plan: &Plan, played: &Played, out: &Path) -> Result<Outcome, Stop> {
    let judgement = &played.judgement;
    let end = if judgement.holds() {
        End::Holds
    } else {
        let key = run_key(&entry.loaded.hash, &played.result.runtime, plan.seed, None);
        let draft = Draft::begin(run_dir(out, &plan.name, &key))?;
        store::write(draft.path(), &entry.loaded, plan, &played.result, judgement)?;
        End::Violated(broken(played), draft.complete()?)
    };
    let unseen = judgement
        .invariants
        .iter()
        .filter(|result| result.verdict == Verdict::Na);
    Ok(Outcome {
        end,
        samples: judgement.claims.clone(),
        unseen: unseen.map(|result| result.name.clone()).collect(),
        digest: played.result.trace_digest.clone(),
    })
}

/// What is said at once.
fn told(entry: &Entry, seed: u64, runtime: &str, end: &End) -> Option<String> {
    let what = match end {
        End::Holds => return None,
        End::Violated(what, dir) => format!("VIOLATED: {what}\n  run:    {}", dir.display()),
        End::Failed(why) => format!("the run failed: {why}"),
    };
    Some(format!(
        "{} seed {seed} {what}\n  replay: {}",
        entry.name,
        entry.replay(seed, runtime)
    ))
}

/// What a scenario's worlds come to.
struct Found {
    violated: bool,
    failed: bool,
}

/// A scenario's lines and its part of the JUnit report.
fn summary(entry: &Entry, runtime: &str, outcomes: &[&Outcome]) -> (String, TestSuite, Found) {
    let mut suite = TestSuite::new(entry.name.clone());
    let mut found = Found {
        violated: false,
        failed: false,
    };
    let mut digest = blake3::Hasher::new();
    let (mut passed, mut failed) = (0, 0);
    for (seed, outcome) in (1..).zip(outcomes) {
        digest.update(outcome.digest.as_bytes()).update(b"\n");
        let case = format!("seed {seed}");
        let replay = entry.replay(seed, runtime);
        suite.add_test_case(match &outcome.end {
            End::Holds => {
                passed += 1;
                TestCase::new(case, TestCaseStatus::success())
            }
            End::Violated(what, _) => {
                found.violated = true;
                failure(case, NonSuccessKind::Failure, format!("{what}\nreplay: {replay}"))
            }
            End::Failed(why) => {
                failed += 1;
                failure(case, NonSuccessKind::Error, format!("{why}\nreplay: {replay}"))
            }
        });
    }
    found.failed = failed > 0;
    let sizes = entry.words.params.iter();
    let sizes: String = sizes.map(|(name, value)| format!(" {name}={value}")).collect();
    let all = outcomes.len();
    let digest = &digest.finalize().to_hex()[..16];
    let mut text = format!(
        "{}{sizes}: {passed} of {all} seeds pass, digest {digest}\n",
        entry.name
    );
    let unseen: BTreeSet<&String> = outcomes.iter().flat_map(|outcome| &outcome.unseen).collect();
    for name in unseen {
        text.push_str(&format!("  N/A       {name}: not observable on {runtime}\n"));
    }
    for (i, claim) in entry.loaded.checked.claims.iter().enumerate() {
        let samples: Vec<Sample> = outcomes
            .iter()
            .filter_map(|o| o.samples.get(i).copied())
            .collect();
        if samples.is_empty() {
            // That all runs failed says nothing about the claim; "no samples" would refute it.
            text.push_str(&format!("  UNJUDGED  {}: no run came to its end\n", claim.name));
            suite.add_test_case(TestCase::new(
                format!("claim: {}", claim.name),
                TestCaseStatus::skipped(),
            ));
            continue;
        }
        let result = ClaimResult::of(claim, &samples);
        let incomplete = if samples.len() < all {
            format!(
                ": INCOMPLETE, {} of {all} runs failed and are missing here",
                all - samples.len()
            )
        } else {
            String::new()
        };
        text.push_str(&format!(
            "  {:<9} {}: {} ({} runs){incomplete}\n",
            result.verdict.to_uppercase(),
            result.name,
            result.observed,
            result.n
        ));
        let case = format!("claim: {}", result.name);
        suite.add_test_case(if result.refuted() {
            found.violated = true;
            let message = format!(
                "observed {}, wanted {}{incomplete}",
                result.observed, result.wanted
            );
            failure(case, NonSuccessKind::Failure, message)
        } else if incomplete.is_empty() {
            TestCase::new(case, TestCaseStatus::success())
        } else {
            let mut status = TestCaseStatus::skipped();
            status.set_message(format!("{}{incomplete}", result.verdict));
            TestCase::new(case, status)
        });
    }
    (text, suite, found)
}

/// What a run violated, in a line.
fn broken(played: &Played) -> String {
    let failed = played
        .judgement
        .invariants
        .iter()
        .filter(|result| result.verdict == Verdict::Fail);
    let each = failed.map(|result| {
        format!(
            "{} (observed {}, wanted {})",
            result.name, result.observed, result.wanted
        )
    });
    each.collect::<Vec<_>>().join("; ")
}

fn failure(name: String, kind: NonSuccessKind, message: String) -> TestCase {
    let mut status = TestCaseStatus::non_success(kind);
    status.set_message(message);
    TestCase::new(name, status)
}

fn write_junit(report: &Report, path: &Path) -> Result<(), Stop> {
    let text = report.to_string().map_err(|error| {
        Stop::Run(RunError::Failed(format!(
            "the JUnit report does not serialise: {error}"
        )))
    })?;
    std::fs::write(path, text).map_err(Stop::disk(format!("writing {}", path.display())))
}
