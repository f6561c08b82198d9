//! `bench`: the engine's own figures, as ratios against its peers in one run. Each measurement is a process of its own,
//! so that memory is its own too.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;
use comfy_table::{ContentArrangement, Table};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{FAILED, HOLDS, Stop, VIOLATED};
use crate::bench::compare::{Comparison, IDLE_BYTES_MAX, Row, compare, jobs};
use crate::bench::engine::{Engine, Job, Sample, measure};
use crate::run::RunError;

/// How the program that plays on madsim is built.
pub const MADSIM_BUILD: &str = "RUSTFLAGS=\"--cfg madsim\" cargo build --release --locked -p phantom-sim --bin phantom-sim --target-dir target/madsim";

/// What `bench` takes.
#[derive(Clone, Debug, Args)]
pub struct BenchArgs {
    /// One JSON object on stdout and nothing else
    #[arg(long)]
    pub json: bool,
    /// Turns of each measurement; medians are told
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=99))]
    pub turns: u32,
    /// The program built with --cfg madsim; without it the rows of madsim say "not built"
    #[arg(
        long,
        value_name = "PATH",
        default_value = "target/madsim/release/phantom-sim"
    )]
    pub madsim: PathBuf,
}

/// One measurement: what `bench` starts.
#[derive(Clone, Debug, Args)]
pub struct OneArgs {
    /// The engine
    #[arg(value_enum)]
    engine: Engine,
    /// Hosts
    #[arg(value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    peers: u32,
    /// Simulated seconds
    #[arg(value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// Peers only listen and sleep
    #[arg(long)]
    idle: bool,
}

/// `phantom-sim bench-one`, hidden: prints one JSON line.
///
/// # Errors
/// The engine is not in this build.
pub fn one(args: &OneArgs, out: &mut dyn Write) -> Result<u8, Stop> {
    let job = Job {
        engine: args.engine,
        peers: args.peers,
        seconds: args.seconds,
        idle: args.idle,
    };
    let sample = measure(job).ok_or_else(|| RunError::OtherBuild {
        runtime: args.engine.name().to_owned(),
        how: MADSIM_BUILD.to_owned(),
    })?;
    let line = serde_json::to_string(&sample).map_err(unreadable)?;
    writeln!(out, "{line}").map_err(Stop::disk("writing the sample"))?;
    Ok(HOLDS)
}

/// `phantom-sim bench`. Exit code 1 if a wish is not met; what is not measured is said and misses nothing.
///
/// # Errors
/// A measurement failed.
pub fn bench(args: &BenchArgs, out: &mut dyn Write, err: &mut dyn Write) -> Result<u8, Stop> {
    let own = std::env::current_exe().map_err(Stop::disk("finding this program"))?;
    let madsim = args.madsim.is_file();
    if !madsim {
        writeln!(err, "madsim: not built, {} is not there", args.madsim.display())
            .map_err(Stop::disk("writing to stderr"))?;
    }
    let bar = progress(jobs(args.turns), args.json);
    let comparison = compare(args.turns, |job| {
        bar.set_message(format!("{}, {} peers", job.engine.name(), job.peers));
        let sample = match job.engine {
            Engine::Madsim if !madsim => None,
            Engine::Madsim => Some(start(&args.madsim, job)?),
            _ => Some(start(&own, job)?),
        };
        bar.inc(1);
        Ok::<_, Stop>(sample)
    });
    bar.finish_and_clear();
    let comparison = comparison?;
    if args.json {
        let line = serde_json::to_string(&comparison).map_err(unreadable)?;
        writeln!(out, "{line}").map_err(Stop::disk("writing the comparison"))?;
    } else {
        write!(out, "{}", table(&comparison)).map_err(Stop::disk("writing the comparison"))?;
    }
    conclude(&comparison, err)
}

/// Says what is missed and what is open, and which exit code that makes.
fn conclude(comparison: &Comparison, err: &mut dyn Write) -> Result<u8, Stop> {
    let mut text = String::new();
    let unmeasured = comparison.unmeasured();
    for open in &unmeasured {
        text.push_str(&format!("NOT MEASURED: {open}\n"));
    }
    if !unmeasured.is_empty() {
        text.push_str(&format!("build the program for madsim with\n  {MADSIM_BUILD}\n"));
    }
    let failed: Vec<&Row> = comparison
        .rows
        .iter()
        .filter(|row| row.cost.as_ref().is_some_and(|cost| cost.errors > 0))
        .collect();
    for row in &failed {
        text.push_str(&format!(
            "FAILED: attempts failed on {} at {} peers: its figures say nothing\n",
            row.engine.name(),
            row.peers
        ));
    }
    let missed = comparison.missed();
    for missed in &missed {
        text.push_str(&format!("MISSED: {missed}\n"));
    }
    err.write_all(text.as_bytes())
        .map_err(Stop::disk("writing to stderr"))?;
    Ok(if !failed.is_empty() {
        FAILED
    } else if !missed.is_empty() {
        VIOLATED
    } else {
        HOLDS
    })
}

fn unreadable(error: serde_json::Error) -> Stop {
    Stop::Run(RunError::Failed(format!(
        "a figure does not pass through JSON: {error}"
    )))
}

fn progress(jobs: u64, quiet: bool) -> ProgressBar {
    use std::io::IsTerminal as _;
    let shown = !quiet && std::io::stderr().is_terminal();
    let target = if shown {
        ProgressDrawTarget::stderr_with_hz(8)
    } else {
        ProgressDrawTarget::hidden()
    };
    let bar = ProgressBar::with_draw_target(Some(jobs), target);
    // The template is fixed and good; the plain bar would do otherwise.
    let style = ProgressStyle::with_template("{bar:24} {pos} of {len} measurements  {msg}")
        .unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.set_style(style);
    bar
}

fn start(program: &Path, job: Job) -> Result<Sample, Stop> {
    let mut command = Command::new(program);
    command.args([
        "bench-one",
        job.engine.name(),
        &job.peers.to_string(),
        &job.seconds.to_string(),
    ]);
    if job.idle {
        command.arg("--idle");
    }
    let output = command
        .output()
        .map_err(Stop::disk(format!("starting {}", program.display())))?;
    if !output.status.success() {
        return Err(Stop::Run(RunError::Failed(format!(
            "{} bench-one {} failed, {}: {}",
            program.display(),
            job.engine.name(),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        ))));
    }
    serde_json::from_slice(&output.stdout).map_err(unreadable)
}

/// For people.
fn table(comparison: &Comparison) -> String {
    let new = |header: &[&str]| {
        let mut table = Table::new();
        table.set_content_arrangement(ContentArrangement::Dynamic);
        if table.width().is_none() {
            table.set_width(140);
        }
        table.set_header(header);
        table
    };
    let met = |met: bool| if met { "met" } else { "MISSED" };
    let mut cpu = new(&[
        "peers",
        "engine",
        "CPU s (median)",
        "min to max",
        "x swarm",
        "wanted",
        "peer-s per CPU s",
        "peak MiB",
    ]);
    for row in &comparison.rows {
        let mut cells = vec![row.peers.to_string(), row.engine.name().to_owned()];
        if let Some(cost) = &row.cost {
            let least = cost.cpu_seconds.iter().copied().fold(f64::INFINITY, f64::min);
            let most = cost.cpu_seconds.iter().copied().fold(0.0, f64::max);
            cells.extend([
                format!("{:.3}", cost.cpu_seconds_median),
                format!("{least:.3} to {most:.3}"),
                format!("{:.2}", cost.ratio_to_swarm),
                row.wanted_ratio.map_or(String::new(), |wanted| {
                    format!("at least {wanted}: {}", met(cost.ratio_to_swarm >= wanted))
                }),
                format!("{:.0}", cost.peer_seconds_per_cpu_second),
                format!("{:.1}", cost.peak_rss_bytes as f64 / f64::from(1 << 20)),
            ]);
        } else {
            cells.push("not built".to_owned());
        }
        cpu.add_row(cells);
    }
    let mut memory = new(&["idle peer", "bytes", "its own futures", "runtime", "wanted"]);
    for idle in &comparison.idle {
        let mut cells = vec![idle.engine.name().to_owned()];
        if let (Some(bytes), Some(futures), Some(runtime)) =
            (idle.bytes, idle.future_bytes, idle.runtime_bytes())
        {
            cells.extend([bytes, futures, runtime].map(|bytes| format!("{bytes:.0}")));
            if idle.engine == Engine::Swarm {
                cells.push(format!(
                    "under {IDLE_BYTES_MAX}: {}",
                    met(runtime < IDLE_BYTES_MAX)
                ));
            }
        } else {
            cells.push("not built".to_owned());
        }
        memory.add_row(cells);
    }
    format!(
        "{cpu}\n{memory}\n{} turns; CPU time of the simulating thread, set-up included\n",
        comparison.turns
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ends(madsim: Option<f64>, errors: u64, idle_bytes: f64) -> (u8, String) {
        let comparison = compare(1, |job| {
            let ratio = match job.engine {
                Engine::Madsim => madsim,
                Engine::Paused => Some(4.0),
                _ => Some(1.0),
            };
            Ok::<_, Stop>(ratio.map(|ratio| Sample {
                messages: 1,
                errors,
                cpu_seconds: ratio,
                peak_rss_bytes: (f64::from(job.peers) * idle_bytes) as u64,
                future_bytes: 0,
            }))
        });
        let mut err = Vec::new();
        let code = conclude(&comparison.expect("made up"), &mut err).expect("written");
        (code, String::from_utf8(err).expect("UTF-8"))
    }

    #[test]
    fn a_missed_ratio_exits_1_and_is_named() {
        assert_eq!(ends(Some(9.0), 0, 900.0), (HOLDS, String::new()));
        let (code, said) = ends(Some(6.0), 0, 900.0);
        assert_eq!(code, VIOLATED);
        assert_eq!(
            said,
            "MISSED: madsim at 10000 peers: 6.00 times swarm's CPU time, wanted at least 8\n"
        );
        let (code, said) = ends(Some(9.0), 0, 1_100.0);
        assert!(
            code == VIOLATED && said.starts_with("MISSED: swarm: 1100 bytes"),
            "{said}"
        );
        assert_eq!(
            ends(Some(6.0), 1, 900.0).0,
            FAILED,
            "figures of failures miss nothing"
        );
    }

    #[test]
    fn what_is_not_measured_is_said_with_how_to_build_it() {
        let (code, said) = ends(None, 0, 900.0);
        assert_eq!(code, HOLDS);
        assert!(
            said.starts_with("NOT MEASURED: madsim at 1000 peers") && said.contains(MADSIM_BUILD),
            "{said}"
        );
    }
}
