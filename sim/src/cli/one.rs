//! `run` and `replay`: one world, from its plan to its verdicts.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use super::meter::{COMMIT, Meter, peak_rss_bytes, x25519_us};
use super::progress::Progress;
use super::store::{self, Draft, EventLog, RESULT_FORMAT, RunResult, link_latest, run_dir, run_key};
use super::words::{Words, from_root};
use super::{FAILED, HOLDS, Players, RunArgs, Stop, VIOLATED, library, table};
use crate::capture::{CaptureConfig, SharedCapture, Vantage};
use crate::check::claims::ClaimResult;
use crate::check::judge::{Judge, Judgement};
use crate::check::observe::{Observation, Seen, Sink};
use crate::host::record::{Detail, first_difference};
use crate::run::{Manner, Player, RunError, RunOutput};
use crate::scenario::load::{Directory, Loaded, from_text, read_file};
use crate::scenario::plan::Plan;

/// A run that came to its end.
pub struct Played {
    /// What is kept and printed.
    pub result: RunResult,
    /// The verdicts and the series.
    pub judgement: Judgement,
    /// What the engine left.
    pub output: RunOutput,
}

/// What plays, and what results say of it.
#[derive(Clone, Copy)]
pub struct On<'a> {
    /// The back end's name.
    pub runtime: &'a str,
    /// See [`Manner::shuffle`].
    pub shuffle: Option<u64>,
    /// It.
    pub player: &'a dyn Player,
}

/// Feeds the judge, the log and the progress line.
struct Recorder<'a> {
    judge: Judge,
    log: Option<EventLog>,
    progress: Option<&'a Progress>,
}

impl Sink for Recorder<'_> {
    fn observe(&mut self, observation: &Observation) {
        if let Some(log) = &mut self.log {
            log.observe(observation);
        }
        self.judge.observe(observation);
        if let (Seen::Tick { steps }, Some(progress), Some(moment)) =
            (&observation.seen, self.progress, self.judge.latest())
        {
            progress.tick(moment, *steps);
        }
    }
}

/// Plays `plan` and judges it. `log`: where its events go. A panic of the world is its failure.
///
/// # Errors
/// The run did not come to its end, or its events could not be written.
pub fn play(
    loaded: &Loaded,
    plan: &Arc<Plan>,
    on: On<'_>,
    log: Option<EventLog>,
    progress: Option<&Progress>,
) -> Result<Played, Stop> {
    let play = || play_out(loaded, plan, on, log, progress);
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(play)).unwrap_or_else(|payload| {
        let said = payload
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| payload.downcast_ref::<String>().cloned());
        Err(Stop::Run(RunError::Failed(format!(
            "it panicked: {}",
            said.unwrap_or_else(|| "without a word".to_owned())
        ))))
    })
}

fn play_out(
    loaded: &Loaded,
    plan: &Arc<Plan>,
    on: On<'_>,
    log: Option<EventLog>,
    progress: Option<&Progress>,
) -> Result<Played, Stop> {
    let player = on.player;
    let meter = Meter::start();
    let mut recorder = Recorder {
        judge: Judge::new(plan, player.epoch(plan), player.senses()),
        log,
        progress,
    };
    let output = player.play(plan, &mut recorder)?;
    if let Some(log) = recorder.log {
        log.finish()?;
    }
    let judgement = recorder.judge.finish(output.end);
    let claims: Vec<ClaimResult> = plan
        .claims
        .iter()
        .zip(&judgement.claims)
        .map(|(claim, sample)| ClaimResult::of(claim, &[*sample]))
        .collect();
    let holds = judgement.holds() && !claims.iter().any(ClaimResult::refuted);
    let result = RunResult {
        format: RESULT_FORMAT,
        scenario: plan.name.clone(),
        scenario_hash: plan.scenario_hash.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        commit: COMMIT.to_owned(),
        runtime: on.runtime.to_owned(),
        seed: plan.seed,
        shuffle: on.shuffle,
        params: loaded.params.clone(),
        peers: plan.peers(loaded),
        sim_seconds: output.end.since_start().as_secs_f64(),
        wall_seconds: meter.wall().as_secs_f64(),
        cpu_seconds: meter.cpu().as_secs_f64(),
        x25519_us: None,
        peak_rss_bytes: peak_rss_bytes(),
        events: output.events,
        segments: output.segments,
        trace_digest: output.trace_digest.clone(),
        asks_model: plan.rules.iter().any(|rule| rule.rule.uses_model()),
        verdict: if holds { "pass" } else { "fail" }.to_owned(),
        invariants: judgement.invariants.clone(),
        claims,
        violations: judgement.violations.clone(),
        metrics: judgement.metrics.clone(),
    };
    Ok(Played {
        result,
        judgement,
        output,
    })
}

/// `phantom-sim run`.
///
/// # Errors
/// Usage, the scenario, the run, the disk.
pub fn run(
    args: &RunArgs,
    players: Players<'_>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<u8, Stop> {
    let library = library();
    let words = Words::read(&args.words)?;
    let name = words.one(&library)?;
    let loaded = words.load(&library, name)?;
    let seed = words.seed.unwrap_or(loaded.scenario.run.seed);
    let plan = Arc::new(Plan::draw(&loaded, seed));
    let runtime = args.runtime.name();
    let shuffle = args.shuffle;
    let capture = capture(args)?;
    let manner = Manner {
        shuffle,
        detail: Detail::World,
        capture: capture.clone(),
    };
    let player = players(runtime, manner)?;
    if args.twice && !player.repeats() {
        return Err(Stop::Usage(format!(
            "--twice: {runtime} does not repeat, so two plays are never the same; wanted another runtime"
        )));
    }
    if !args.json {
        let say = format!(
            "{}: {}\nseed {seed}, {} peers, {} simulated, on {runtime}\n",
            plan.name,
            loaded.scenario.summary,
            plan.peers(&loaded),
            loaded.scenario.run.duration.value
        );
        err.write_all(say.as_bytes())
            .map_err(Stop::disk("writing to stderr"))?;
    }
    let replay = words.replay(name, seed, runtime, shuffle);
    let key = run_key(&loaded.hash, runtime, seed, shuffle);
    let draft = Draft::begin(run_dir(&args.out, &plan.name, &key))?;
    let progress = Progress::new(plan.duration, args.json);
    let x25519_us = args.json.then(x25519_us);
    let on = On {
        runtime,
        shuffle,
        player: &*player,
    };
    let log = EventLog::create(draft.path())?;
    let played = play(&loaded, &plan, on, Some(log), Some(&progress));
    progress.finish();
    if let Some(capture) = &capture {
        finish(capture, args, err)?;
    }
    let mut played = match played {
        Ok(played) => played,
        Err(stop) if stop.code() == FAILED => {
            let why = format!("the run failed: {stop}");
            let dir = draft.fail(&why)?;
            return failed(err, &why, &replay, &dir);
        }
        Err(stop) => return Err(stop),
    };
    played.result.x25519_us = x25519_us;
    store::write(draft.path(), &loaded, &plan, &played.result, &played.judgement)?;
    let dir = draft.complete()?;
    link_latest(&args.out, &dir)?;
    let mut code = conclude(&played, args.json, out)?;
    if args.twice {
        let again = play(&loaded, &plan, on, None, None)?;
        let (first, second) = (&played.output, &again.output);
        if first.trace_digest == second.trace_digest && first.events == second.events {
            if !args.json {
                writeln!(err, "played twice: the same digest, {}", second.trace_digest)
                    .map_err(Stop::disk("writing to stderr"))?;
            }
        } else {
            let manner = Manner {
                shuffle,
                detail: Detail::PerPeer,
                capture: None,
            };
            let player = players(runtime, manner)?;
            let on = On {
                player: &*player,
                ..on
            };
            let closer = [
                play(&loaded, &plan, on, None, None)?.output,
                play(&loaded, &plan, on, None, None)?.output,
            ];
            let difference = difference(&plan, first, second, &closer);
            writeln!(err, "played twice: NOT the same: {difference}")
                .map_err(Stop::disk("writing to stderr"))?;
            code = VIOLATED;
        }
    }
    if code == VIOLATED {
        last_lines(err, &replay, &played.result.commit, &dir)?;
    } else if !args.json {
        writeln!(
            err,
            "run:    {}\ntable and picture: just report {}",
            dir.display(),
            from_root(&dir)
        )
        .map_err(Stop::disk("writing to stderr"))?;
    }
    Ok(code)
}

/// The capture that is asked for, begun.
fn capture(args: &RunArgs) -> Result<Option<SharedCapture>, Stop> {
    let Some(path) = &args.pcap else {
        return Ok(None);
    };
    if args.pcap_at.contains(&Vantage::Hosts) && args.pcap_host.is_empty() {
        let why = "--pcap-at hosts: which ones? --pcap-host NAME, as often as you like";
        return Err(Stop::Usage(why.to_owned()));
    }
    let mut config = CaptureConfig {
        bytes_max: args.pcap_mb * 1_000_000,
        hosts: args.pcap_host.clone(),
        ..CaptureConfig::new(path)
    };
    if !args.pcap_at.is_empty() {
        config.vantages = args.pcap_at.clone();
    }
    let capture = SharedCapture::create(config)
        .map_err(|error| Stop::Usage(format!("--pcap: cannot write {}: {error}", path.display())))?;
    Ok(Some(capture))
}

/// Ends a capture and says what is in it.
fn finish(capture: &SharedCapture, args: &RunArgs, err: &mut dyn Write) -> Result<(), Stop> {
    let summary = capture.finish().map_err(Stop::disk("writing the capture"))?;
    // Where no world began the file is as it was.
    if args.json || summary.bytes == 0 {
        return Ok(());
    }
    let mut said = format!(
        "captured: {} packets in {} ({} bytes)",
        summary.packets,
        capture.path().display(),
        summary.bytes
    );
    if summary.left_out > 0 {
        said.push_str(&format!(
            "; {} more did not fit: --pcap-mb, or --pcap-host for fewer",
            summary.left_out
        ));
    }
    writeln!(err, "{said}").map_err(Stop::disk("writing to stderr"))
}

/// Says that a run failed, and what is wanted after it.
fn failed(err: &mut dyn Write, why: &str, replay: &str, dir: &Path) -> Result<u8, Stop> {
    writeln!(err, "phantom-sim: {why}").map_err(Stop::disk("writing to stderr"))?;
    last_lines(err, replay, COMMIT, dir)?;
    Ok(FAILED)
}

/// `phantom-sim replay`.
///
/// # Errors
/// The directory is no run, the run, the disk.
pub fn replay(
    dir: &Path,
    players: Players<'_>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<u8, Stop> {
    let path = dir.join("result.json");
    let text = std::fs::read_to_string(&path).map_err(|error| {
        Stop::Usage(format!(
            "{} is not the directory of a run, as store/latest or what a run names last: {}: {error}",
            dir.display(),
            path.display()
        ))
    })?;
    let stored: RunResult = serde_json::from_str(&text).map_err(|error| {
        Stop::Usage(format!(
            "{} is not a result of this version: {error}",
            path.display()
        ))
    })?;
    let file = dir.join("scenario.toml");
    let text = read_file(&file).map_err(|error| {
        Stop::Usage(format!(
            "{} is not the directory of a run, as store/latest or what a run names last: {}: {error}",
            dir.display(),
            file.display()
        ))
    })?;
    // It is called scenario.toml whatever its name, and extends nothing any more.
    let mut loaded = from_text(
        &Directory(dir.to_path_buf()),
        &file.display().to_string(),
        text,
        None,
        &[],
    )?;
    // A resolved scenario says all there is; its parameters' values are the run's.
    loaded.params.clone_from(&stored.params);
    let plan = Arc::new(Plan::draw(&loaded, stored.seed));
    let manner = Manner {
        shuffle: stored.shuffle,
        detail: Detail::World,
        capture: None,
    };
    let player = players(&stored.runtime, manner)?;
    if !player.repeats() {
        return Err(Stop::Usage(format!(
            "{} was played on {}, which does not repeat: there is nothing to compare a replay with",
            dir.display(),
            stored.runtime
        )));
    }
    let progress = Progress::new(plan.duration, false);
    let on = On {
        runtime: &stored.runtime,
        shuffle: stored.shuffle,
        player: &*player,
    };
    let played = play(&loaded, &plan, on, None, Some(&progress));
    progress.finish();
    let replay = format!("just replay {}", from_root(dir));
    let played = match played {
        Err(stop) if stop.code() == FAILED => {
            return failed(err, &format!("the run failed: {stop}"), &replay, dir);
        }
        played => played?,
    };
    let mut code = conclude(&played, false, out)?;
    if played.result.trace_digest != stored.trace_digest {
        writeln!(
            err,
            "NOT the same run: digest {} now, {} then (commit {} now, {} then)",
            played.result.trace_digest, stored.trace_digest, played.result.commit, stored.commit
        )
        .map_err(Stop::disk("writing to stderr"))?;
        code = VIOLATED;
    } else {
        writeln!(err, "replayed: the same digest as then").map_err(Stop::disk("writing to stderr"))?;
    }
    if code == VIOLATED {
        last_lines(err, &replay, &played.result.commit, dir)?;
    }
    Ok(code)
}

/// Prints the verdicts.
fn conclude(played: &Played, json: bool, out: &mut dyn Write) -> Result<u8, Stop> {
    let write = |error| Stop::disk("writing the verdict")(error);
    let result = &played.result;
    let code = if result.verdict == "pass" { HOLDS } else { VIOLATED };
    if json {
        let line = serde_json::to_string(result).map_err(|error| {
            Stop::Run(crate::run::RunError::Failed(format!(
                "the result does not serialise: {error}"
            )))
        })?;
        writeln!(out, "{line}").map_err(write)?;
        return Ok(code);
    }
    write!(out, "{}", table::verdicts(&result.invariants, &result.claims)).map_err(write)?;
    for violation in played
        .judgement
        .violations
        .iter()
        .filter(|violation| !violation.details.is_empty())
    {
        writeln!(out, "{} (at {:.1} s):", violation.invariant, violation.at_seconds).map_err(write)?;
        for line in &violation.details {
            writeln!(out, "  {line}").map_err(write)?;
        }
    }
    writeln!(
        out,
        "{}: {:.0} s simulated in {:.1} s ({:.1} s CPU), {} events, digest {}{}",
        result.verdict.to_uppercase(),
        result.sim_seconds,
        result.wall_seconds,
        result.cpu_seconds,
        result.events,
        result.trace_digest,
        if result.asks_model {
            " (of this machine: a model is asked)"
        } else {
            ""
        }
    )
    .map_err(write)?;
    Ok(code)
}

/// What is wanted after a violation, last, so that it is not scrolled away.
pub fn last_lines(err: &mut dyn Write, replay: &str, commit: &str, dir: &Path) -> Result<(), Stop> {
    writeln!(
        err,
        "replay: {replay}\ncommit: {commit}\nrun:    {}",
        dir.display()
    )
    .map_err(Stop::disk("writing to stderr"))
}

/// Where two runs that should be the same first differ; `closer` are two more, played with more detail.
fn difference(plan: &Plan, first: &RunOutput, second: &RunOutput, closer: &[RunOutput; 2]) -> String {
    let place = |parted: Option<crate::host::record::Difference>| {
        parted.map_or("after the last checkpoint both have".to_owned(), |parted| {
            let host = |peer: crate::host::PeerId| plan.hosts.get(peer.index()).map_or("", |host| &host.name);
            let whose = parted
                .peer
                .map(|peer| format!(" at peer {} ({})", peer.0, host(peer)));
            format!(
                "in simulated second {}{}",
                parted.second,
                whose.unwrap_or_default()
            )
        })
    };
    let [third, fourth] = closer;
    let again = if third.trace_digest == fourth.trace_digest {
        "two more plays are the same: it does not happen every time".to_owned()
    } else {
        format!(
            "two more plays part {}",
            place(first_difference(&third.checkpoints, &fourth.checkpoints))
        )
    };
    format!(
        "they part {}; {again}; seconds count from the start of the world; digests {} and {}, {} and {} events",
        place(first_difference(&first.checkpoints, &second.checkpoints)),
        first.trace_digest,
        second.trace_digest,
        first.events,
        second.events
    )
}
