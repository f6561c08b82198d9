//! `check`: the gate of CI. Scenarios over a fixed list of seeds, worlds side by side on threads.

use std::io::Write;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::one::{Played, last_lines, play};
use super::store::{self, run_dir, run_key};
use super::words::Words;
use super::{CheckArgs, FAILED, HOLDS, Players, Stop, VIOLATED, library};
use crate::check::claims::{ClaimResult, Sample};
use crate::check::judge::Verdict;
use crate::run::RunError;
use crate::scenario::load::{Library as _, Loaded};
use crate::scenario::plan::Plan;

type Outcomes = Vec<(u64, Result<Played, Stop>)>;

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
    let library = library();
    let mut words = Words::read(&args.words)?;
    if words.seed.is_some() {
        return Err(Stop::Usage(
            "check goes through seeds 1 to N: give --seeds N, or play one with run".to_owned(),
        ));
    }
    let all_tagged = words.scenarios.is_empty();
    if all_tagged {
        words.scenarios = library.names();
    }
    let mut all: Vec<(String, Loaded)> = Vec::new();
    for name in &words.scenarios {
        let loaded = words.load(&library, name)?;
        if !all_tagged || loaded.scenario.tags.iter().any(|tag| tag == "ci") {
            all.push((name.clone(), loaded));
        }
    }
    let runtime = args.runtime.name();
    players(runtime)?;
    let threads = words
        .threads
        .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let mut report = Report::new("phantom-sim check");
    let (mut violated, mut failed) = (false, false);
    for (name, loaded) in &all {
        let outcomes = worlds(loaded, players, runtime, args.seeds, threads);
        let mut suite = TestSuite::new(name.clone());
        let write = |error| Stop::disk("writing the verdict")(error);
        let mut bad = Vec::new();
        for (seed, outcome) in &outcomes {
            let case = format!("seed {seed}");
            match outcome {
                Ok(played) if played.judgement.holds() => {
                    suite.add_test_case(TestCase::new(case, TestCaseStatus::success()))
                }
                Ok(played) => {
                    bad.push((*seed, played));
                    let replay = words.replay(name, *seed, runtime);
                    suite.add_test_case(failure(
                        case,
                        NonSuccessKind::Failure,
                        format!("{}\nreplay: {replay}", broken(played)),
                    ))
                }
                Err(stop) => {
                    failed = true;
                    writeln!(out, "{name} seed={seed}: the run failed: {stop}").map_err(write)?;
                    suite.add_test_case(failure(case, NonSuccessKind::Error, stop.to_string()))
                }
            };
        }
        let passed = outcomes
            .iter()
            .filter(|(_, outcome)| outcome.as_ref().is_ok_and(|p| p.judgement.holds()))
            .count();
        writeln!(out, "{name}: {passed} of {} seeds pass", outcomes.len()).map_err(write)?;
        for (i, claim) in loaded.checked.claims.iter().enumerate() {
            let samples: Vec<Sample> = outcomes
                .iter()
                .filter_map(|(_, outcome)| outcome.as_ref().ok()?.judgement.claims.get(i).copied())
                .collect();
            let result = ClaimResult::of(claim, &samples);
            writeln!(
                out,
                "  {:<9} {}: {} ({} runs)",
                result.verdict.to_uppercase(),
                result.name,
                result.observed,
                result.n
            )
            .map_err(write)?;
            violated |= result.refuted();
            let case = format!("claim: {}", result.name);
            suite.add_test_case(if result.refuted() {
                failure(
                    case,
                    NonSuccessKind::Failure,
                    format!("observed {}, wanted {}", result.observed, result.wanted),
                )
            } else {
                TestCase::new(case, TestCaseStatus::success())
            });
        }
        for (seed, played) in &bad {
            violated = true;
            let plan = Plan::draw(loaded, *seed);
            let dir = run_dir(&args.out, &plan.name, &run_key(&loaded.hash, runtime, *seed));
            store::write(&dir, loaded, &plan, &played.result, &played.judgement)?;
            writeln!(out, "  seed {seed}: {}", broken(played)).map_err(write)?;
        }
        if let Some((seed, played)) = bad.first() {
            let dir = run_dir(
                &args.out,
                &loaded.scenario.name,
                &run_key(&loaded.hash, runtime, *seed),
            );
            last_lines(
                err,
                &words.replay(name, *seed, runtime),
                &played.result.commit,
                &dir,
            )?;
        }
        report.add_test_suite(suite);
    }
    if let Some(path) = &args.junit {
        write_junit(&report, path)?;
    }
    Ok(if violated {
        VIOLATED
    } else if failed {
        FAILED
    } else {
        HOLDS
    })
}

/// Plays seeds 1 to `seeds`, at most `threads` worlds at a time. The order of the outcomes is that of the seeds.
fn worlds(loaded: &Loaded, players: Players<'_>, runtime: &str, seeds: u64, threads: usize) -> Outcomes {
    let next = AtomicUsize::new(1);
    let outcomes = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads.min(usize::try_from(seeds).unwrap_or(usize::MAX)).max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed) as u64;
                    if seed > seeds {
                        break;
                    }
                    let outcome = players(runtime).map_err(Stop::from).and_then(|player| {
                        let plan = Plan::draw(loaded, seed);
                        // A panic in one world is that world's failure.
                        let play = || play(loaded, &plan, &*player, runtime, None, None);
                        std::panic::catch_unwind(std::panic::AssertUnwindSafe(play)).unwrap_or_else(|_| {
                            Err(Stop::Run(RunError::Failed("the run panicked".to_owned())))
                        })
                    });
                    outcomes
                        .lock()
                        .unwrap_or_else(std::sync::PoisonError::into_inner)
                        .push((seed, outcome));
                }
            });
        }
    });
    let mut outcomes = outcomes
        .into_inner()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    outcomes.sort_by_key(|(seed, _)| *seed);
    outcomes
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
