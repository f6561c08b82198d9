//! `check`: the gate of CI. Scenarios over a fixed list of seeds, worlds side by side on threads.
//!
//! What is broken is told at once; each scenario's summary, the JUnit report and the last lines go by the order of the
//! seeds, so they are the same for any number of threads.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use quick_junit::Report;

use super::meter::COMMIT;
use super::one::{On, Played, last_lines, play};
use super::pool::side_by_side;
use super::store::{self, Draft, EventLog, run_dir, run_key};
use super::tally::{Run, Sum, Witnesses};
use super::watch::Watch;
use super::words::Words;
use super::{CheckArgs, FAILED, HOLDS, Players, Stop, VIOLATED, library, names};
use crate::check::claims::Sample;
use crate::check::judge::Verdict;
use crate::run::{Manner, RunError};
use crate::scenario::file::CHECK_SEEDS;
use crate::scenario::load::{Directory, Loaded};
use crate::scenario::plan::Plan;

/// A scenario at the size at which it is checked.
pub(super) struct Entry {
    pub(super) name: String,
    /// With the size of the gate among its parameters, for the replay command.
    pub(super) words: Words,
    pub(super) loaded: Loaded,
    seeds: u64,
}

/// What is kept of a world.
pub(super) struct Outcome {
    pub(super) end: End,
    /// Of the claims; none if it failed.
    pub(super) samples: Vec<Sample>,
    /// Invariants that could not be observed.
    pub(super) unseen: Vec<String>,
    pub(super) digest: String,
}

/// How a world ended.
pub(super) enum End {
    Holds,
    /// What was violated, in a line, and where the run is.
    Violated(String, PathBuf),
    /// Why, and where what there is of it is.
    Failed(String, PathBuf),
}

/// How one world went, with its run if that is kept.
type WorldPlayed = Result<(Outcome, Option<Run>), Stop>;

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
    let repeats = players(runtime, Manner::default())?.repeats();
    let entries = entries(&words, args.seeds, &library())?;
    let threads = if repeats {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        words.threads.unwrap_or_else(cores)
    } else {
        // Worlds in real time share the addresses and the clock of the machine.
        1
    };
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
    let mut witnesses: Vec<Witnesses> = entries.iter().map(|_| Witnesses::default()).collect();
    let mut sums: Vec<Sum> = Vec::new();
    let work = |(n, seed): &(usize, u64)| world(&entries[*n], *seed, runtime, players, &args.out);
    let done = |result: Option<(usize, WorldPlayed)>| {
        let Some((job, result)) = result else {
            return watch.beat(err);
        };
        let (n, seed) = jobs[job];
        let entry = &entries[n];
        // Not one world's: usage is the same for every seed, and the disk is everybody's.
        let (outcome, run) = result?;
        if let Some(run) = run {
            witnesses[n].hear(&entry.loaded.checked.claims, seed, &outcome.samples, run);
        }
        watch.done(weight(entry), matches!(outcome.end, End::Holds));
        if let Some(told) = told(entry, seed, runtime, &outcome.end) {
            watch
                .aside(|| writeln!(out, "{told}"))
                .map_err(Stop::disk("writing the verdict"))?;
        }
        outcomes[n][usize::try_from(seed - 1).unwrap_or(usize::MAX)] = Some(outcome);
        // Summaries come in the order of the scenarios, each as soon as it is complete.
        while let Some(entry) = entries.get(sums.len())
            && outcomes[sums.len()].iter().all(Option::is_some)
        {
            let complete: Vec<&Outcome> = outcomes[sums.len()].iter().flatten().collect();
            let sum = Sum::of(entry, runtime, &complete, &mut witnesses[sums.len()])?;
            watch
                .aside(|| write!(out, "{}", sum.text))
                .map_err(Stop::disk("writing the verdict"))?;
            sums.push(sum);
        }
        watch.beat(err)
    };
    let result = side_by_side(&jobs, threads, Watch::patience(), work, done);
    watch.finish();
    result?;
    if let Some(path) = &args.junit {
        let mut report = Report::new("phantom-sim check");
        report.add_test_suites(sums.iter().map(|sum| sum.suite.clone()));
        write_junit(&report, path)?;
    }
    // What is shown last is the first of the worst kind, by the order of scenarios and seeds.
    let first = |pick: fn(&Sum) -> Option<&(u64, PathBuf)>| {
        let mut all = entries.iter().zip(&sums);
        all.find_map(|(entry, sum)| pick(sum).map(|shown| (entry, shown)))
    };
    let (shown, code) = match first(|sum| sum.violated.as_ref()).or_else(|| first(|sum| sum.refuted.as_ref()))
    {
        Some(shown) => (shown, VIOLATED),
        None => match first(|sum| sum.failed.as_ref()) {
            Some(shown) => (shown, FAILED),
            None => return Ok(HOLDS),
        },
    };
    let (entry, (seed, dir)) = shown;
    last_lines(err, &entry.replay(*seed, runtime), COMMIT, dir)?;
    Ok(code)
}

impl Entry {
    /// The command that plays the world of `seed` again.
    pub(super) fn replay(&self, seed: u64, runtime: &str) -> String {
        self.words.replay(&self.name, seed, runtime, None)
    }
}

/// The scenarios that are meant, at the sizes that are meant: what was typed, else what the scenario says of the gate.
fn entries(words: &Words, seeds: Option<u64>, library: &Directory) -> Result<Vec<Entry>, Stop> {
    let all_tagged = words.scenarios.is_empty();
    let names = if all_tagged {
        names(library)?
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
    if entries.is_empty() {
        // A gate that plays nothing must not let anything through.
        return Err(Stop::Usage(format!(
            "no scenario is tagged ci in {}: name the scenarios to check, or write tags = [\"ci\"] in theirs",
            library.0.display()
        )));
    }
    Ok(entries)
}

/// Plays one world. A run that failed or is violated is put into the store as a whole; one that holds is given back as a
/// draft, since it may be what refutes a claim.
fn world(
    entry: &Entry,
    seed: u64,
    runtime: &str,
    players: Players<'_>,
    out: &Path,
) -> Result<(Outcome, Option<Run>), Stop> {
    let plan = Arc::new(Plan::draw(&entry.loaded, seed));
    let player = players(runtime, Manner::default())?;
    let on = On {
        runtime,
        shuffle: None,
        player: &*player,
    };
    let key = run_key(&entry.loaded.hash, runtime, seed, None);
    let draft = Draft::begin(run_dir(out, &plan.name, &key))?;
    let log = EventLog::create(draft.path())?;
    let played = match play(&entry.loaded, &plan, on, Some(log), None) {
        Ok(played) => played,
        Err(stop) if stop.code() == FAILED => {
            let why = stop.to_string();
            let dir = draft.fail(&format!("the run failed: {why}"))?;
            let outcome = Outcome {
                end: End::Failed(why, dir),
                samples: Vec::new(),
                unseen: Vec::new(),
                digest: String::new(),
            };
            return Ok((outcome, None));
        }
        Err(stop) => return Err(stop),
    };
    let judgement = &played.judgement;
    store::write(draft.path(), &entry.loaded, &plan, &played.result, judgement)?;
    let (end, run) = if judgement.holds() {
        (End::Holds, Run::Draft(draft))
    } else {
        let dir = draft.complete()?;
        (End::Violated(broken(&played), dir.clone()), Run::Kept(dir))
    };
    let unseen = judgement
        .invariants
        .iter()
        .filter(|result| result.verdict == Verdict::Na);
    let outcome = Outcome {
        end,
        samples: judgement.claims.clone(),
        unseen: unseen.map(|result| result.name.clone()).collect(),
        digest: played.result.trace_digest.clone(),
    };
    Ok((outcome, Some(run)))
}

/// What is said at once.
fn told(entry: &Entry, seed: u64, runtime: &str, end: &End) -> Option<String> {
    let (what, dir) = match end {
        End::Holds => return None,
        End::Violated(what, dir) => (format!("VIOLATED: {what}"), dir),
        End::Failed(why, dir) => (format!("the run failed: {why}"), dir),
    };
    Some(format!(
        "{} seed {seed} {what}\n  run:    {}\n  replay: {}",
        entry.name,
        dir.display(),
        entry.replay(seed, runtime)
    ))
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

fn write_junit(report: &Report, path: &Path) -> Result<(), Stop> {
    let text = report.to_string().map_err(|error| {
        Stop::Run(RunError::Failed(format!(
            "the JUnit report does not serialise: {error}"
        )))
    })?;
    std::fs::write(path, text).map_err(Stop::disk(format!("writing {}", path.display())))
}
