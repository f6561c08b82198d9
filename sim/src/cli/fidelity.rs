//! `fidelity`: simulated transfers beside those of this machine's kernel over the same link, cell by cell.
//!
//! | file | what |
//! |---|---|
//! | `measured.txt` | what was measured: `--from` takes it again |
//! | `fidelity.csv` | one row for each cell, measured and simulated |
//!
//! `phantom-reports DIR` draws `fidelity.svg` from the latter.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use comfy_table::{ContentArrangement, Table};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use phantom_path::dice::Dice;
use phantom_path::fidelity::{Cell, Compared, Group, Measured, errors};
use phantom_path::tcp::Algorithm;
use phantom_rig::pool::{Job, Limits, measure};
use phantom_rig::sharing::{self, BAR, SharedCell, SharedCompared, SharedMeasured, What};
use phantom_rig::{Lateness, RigError, grid};

use super::{HOLDS, Stop, VIOLATED};
use crate::run::RunError;

/// Simulated repeats of a cell in which something is drawn.
const SIMULATED: u64 = 41;
/// Of those that share: chance decides who is the fastest even without losses.
const SHARED_REPEATS: usize = 20;
/// Cells that are named as the worst.
const WORST: usize = 5;

/// What `fidelity` takes.
#[derive(Clone, Debug, Args)]
pub struct FidelityArgs {
    /// Which transfers: the grid that the model was made beside, one drawn from the seed, several that share a link, or a few
    #[arg(long, value_enum, default_value = "quick")]
    pub grid: Grid,
    /// What losses, and the cells of `fresh`, are drawn from
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Cells that `fresh` draws of each kind: without loss, with 0.5 %, with 2 %, behind a policer
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub cells: u32,
    /// Transfers measured in a cell [default: 40 where there is loss, 10 behind a policer, 5 else; 20 that share]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub repeats: Option<u32>,
    /// Transfers at once, each between network namespaces of its own
    #[arg(long, value_name = "N", default_value_t = 24, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub lanes: u16,
    /// What all transfers together need on average at most
    #[arg(long, value_name = "MBIT", default_value_t = 40, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub rate: u64,
    /// Where the results go [default: store/fidelity/<grid>-<seed>]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Compare what this file holds, and measure nothing: it works everywhere. Results are written with --out only
    #[arg(long, value_name = "FILE")]
    pub from: Option<PathBuf>,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Grid {
    /// The grid that the model was made beside: two hours
    Main,
    /// Drawn from the seed
    Fresh,
    /// Two to ten transfers share a link
    Sharing,
    /// A few cells: seconds
    Quick,
}

impl Grid {
    const fn name(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::Fresh => "fresh",
            Self::Sharing => "sharing",
            Self::Quick => "quick",
        }
    }
}

/// How well the measurement itself went.
#[derive(Clone, Copy, Debug, Default)]
struct Quality {
    transfers: usize,
    again: usize,
    flagged: usize,
    failed: usize,
    late: Lateness,
}

/// What was measured in each cell, how late the worst packet of any of its transfers was, and how it went in all.
struct Measurement<M> {
    all: Vec<M>,
    late_ms: Vec<f64>,
    quality: Quality,
}

/// `phantom-sim fidelity`. Exit code 1 if a bar is missed.
///
/// # Errors
/// A file is not as it should be, nothing can be measured here, or the disk.
pub fn fidelity(args: &FidelityArgs, out: &mut dyn Write, err: &mut dyn Write) -> Result<u8, Stop> {
    let dir = match (&args.out, &args.from) {
        (Some(dir), _) => Some(dir.clone()),
        (None, Some(_)) => None,
        (None, None) => Some(PathBuf::from(format!(
            "store/fidelity/{}-{}",
            args.grid.name(),
            args.seed
        ))),
    };
    let results = if args.grid == Grid::Sharing {
        shared(args, err)?
    } else {
        alone(args, err)?
    };
    write!(out, "{}", results.text).map_err(Stop::disk("writing the comparison"))?;
    if let Some(dir) = dir {
        store(&dir, &results)?;
        writeln!(out, "written to {}", dir.display()).map_err(Stop::disk("writing the comparison"))?;
    }
    Ok(if results.missed { VIOLATED } else { HOLDS })
}

/// What is shown and what is kept.
struct Results {
    text: String,
    missed: bool,
    measured: String,
    csv: String,
}

fn store(dir: &Path, results: &Results) -> Result<(), Stop> {
    std::fs::create_dir_all(dir).map_err(Stop::disk(format!("making {}", dir.display())))?;
    for (name, text) in [
        ("measured.txt", &results.measured),
        ("fidelity.csv", &results.csv),
    ] {
        let path = dir.join(name);
        std::fs::write(&path, text).map_err(Stop::disk(format!("writing {}", path.display())))?;
    }
    Ok(())
}

fn read(path: &Path) -> Result<String, Stop> {
    std::fs::read_to_string(path)
        .map_err(|error| Stop::Usage(format!("cannot read {}: {error}", path.display())))
}

/// A file that says something else than measurements.
fn broken(path: &Path, why: impl std::fmt::Display) -> Stop {
    Stop::Usage(format!("{}: {why}", path.display()))
}

/// One transfer at a time on a link.
fn alone(args: &FidelityArgs, err: &mut dyn Write) -> Result<Results, Stop> {
    let measurement = if let Some(from) = &args.from {
        let all = Measured::parse_all(&read(from)?).map_err(|error| broken(from, error))?;
        if all.is_empty() {
            return Err(broken(from, "no measurement in it"));
        }
        Measurement::stored(all)
    } else {
        let cells = match args.grid {
            Grid::Main => grid::main(),
            Grid::Fresh => grid::fresh(args.seed, args.cells as usize),
            Grid::Quick | Grid::Sharing => grid::quick(),
        };
        measure_alone(args, &cells, err)?
    };
    let bar = progress("simulated", measurement.all.len() as u64);
    let compared: Vec<Compared> = measurement
        .all
        .iter()
        .map(|measured| {
            bar.inc(1);
            measured.compare(Algorithm::Cubic, SIMULATED)
        })
        .collect();
    bar.finish_and_clear();
    let (groups, missed) = groups(&compared);
    let mut text = format!("{groups}\n");
    let mut worst: Vec<&Compared> = compared.iter().collect();
    worst.sort_by(|a, b| b.error().abs().total_cmp(&a.error().abs()));
    text.push_str("the worst cells (bytes rtt_ms bits_per_second loss queue_bytes policer):\n");
    for compared in worst.iter().take(WORST) {
        text.push_str(&format!(
            "  {}: {:+.1} %, {:.3} s measured ({:.3} to {:.3}), {:.3} s simulated\n",
            grid::line(&compared.cell),
            compared.error(),
            compared.measured,
            compared.interval.0,
            compared.interval.1,
            compared.simulated
        ));
    }
    text.push_str(&measurement.quality.told());
    Ok(Results {
        text,
        missed: missed || measurement.quality.failed > 0,
        measured: measurement
            .all
            .iter()
            .fold(head(args, CELL_COLUMNS), |mut text, measured| {
                text.push_str(&grid::written(measured));
                text.push('\n');
                text
            }),
        csv: csv(&compared, &measurement.late_ms),
    })
}

const CELL_COLUMNS: &str =
    "bytes rtt_ms link_bits_per_second loss queue_bytes policer_bits_per_second : seconds of each repeat";
const SHARED_COLUMNS: &str = "rtt_ms link_bits_per_second loss queue_bytes bytes@start_ms[/policer_bits_per_second] of each flow : seconds=share of each flow";

/// The first lines of a stored measurement.
fn head(args: &FidelityArgs, columns: &str) -> String {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let kernel = match kernel.trim() {
        _ if args.from.is_some() => "a stored measurement",
        "" => "an unknown kernel",
        kernel => kernel,
    };
    format!(
        "# Transfer times of {kernel} (CUBIC) between two network namespaces joined by the simulated link, in seconds: from connect() to\n\
         # the receiver's last byte, on a fresh connection. The link loses in both directions, the policer (16,384 bytes of burst) only\n\
         # drops data. Grid {}, seed {}.\n# {columns}\n",
        args.grid.name(),
        args.seed
    )
}

fn groups(compared: &[Compared]) -> (Table, bool) {
    let mut table = table(&["group", "cells", "error %: median / p90 / worst", "the bar", ""]);
    let mut missed = false;
    let bar = |bar: Option<f64>| bar.map_or_else(|| "-".to_owned(), |bar| bar.to_string());
    for group in Group::ALL {
        let [median, p90, worst] = group.bars().map(bar);
        let bars = format!("{median} / {p90} / {worst}");
        let Some(errors) = errors(compared, group) else {
            table.add_row([&group.to_string(), "0", "", &bars, "not measured"]);
            continue;
        };
        let met = errors.within(group.bars());
        missed |= !met;
        table.add_row([
            group.to_string(),
            errors.cells.to_string(),
            format!("{:.2} / {:.1} / {:.1}", errors.median, errors.p90, errors.worst),
            bars,
            verdict(met).to_owned(),
        ]);
    }
    (table, missed)
}

const fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "MISSED" }
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.set_content_arrangement(ContentArrangement::Dynamic);
    if table.width().is_none() {
        table.set_width(140);
    }
    table.set_header(header);
    table
}

fn csv(compared: &[Compared], late_ms: &[f64]) -> String {
    let mut text = String::from(
        "group,bytes,rtt_ms,bits_per_second,loss,queue_bytes,policer_bits_per_second,hard,measured_seconds,interval_low,interval_high,\
         simulated_seconds,error_percent,certain_error_percent,late_max_ms\n",
    );
    for (compared, late_ms) in compared.iter().zip(late_ms) {
        let group = Group::ALL.into_iter().find(|group| group.holds(compared));
        let cell = grid::line(&compared.cell).replace(' ', ",");
        text.push_str(&format!(
            "{},{cell},{},{:.6},{:.6},{:.6},{:.6},{:.3},{:.3},{}\n",
            group.map_or_else(String::new, |group| group.to_string()),
            Group::Hard.holds(compared),
            compared.measured,
            compared.interval.0,
            compared.interval.1,
            compared.simulated,
            compared.error(),
            compared.certain_error(),
            number(*late_ms),
        ));
    }
    text
}

/// Nothing where nothing is known.
fn number(value: f64) -> String {
    if value.is_nan() {
        String::new()
    } else {
        format!("{value:.3}")
    }
}

/// What the seed and a place in the grid make: no two transfers have the same losses.
fn seed_of(args: &FidelityArgs, cell: usize, repeat: usize) -> u64 {
    Dice::new(args.seed ^ (cell as u64) << 20 ^ (repeat as u64) << 44).draw()
}

fn limits(args: &FidelityArgs) -> Limits {
    Limits {
        lanes: usize::from(args.lanes),
        bits_per_second: args.rate * 1_000_000,
    }
}

/// How long the model says that a transfer takes: only the order and the load depend on it.
fn about(cell: &Cell) -> f64 {
    let (seconds, _) = cell.simulate(Algorithm::Cubic, 1);
    if seconds.is_finite() { seconds } else { 60.0 }
}

fn measure_alone(
    args: &FidelityArgs,
    cells: &[Cell],
    err: &mut dyn Write,
) -> Result<Measurement<Measured>, Stop> {
    let mut jobs = Vec::new();
    for (number, cell) in cells.iter().enumerate() {
        let repeats = args.repeats.map_or_else(
            || grid::repeats(cell, 40),
            |repeats| grid::repeats(cell, repeats as usize),
        );
        let seconds = about(cell);
        jobs.extend((0..repeats).map(|repeat| Job {
            what: (number, repeat),
            seconds,
            bits: 8 * cell.bytes,
        }));
    }
    let mut seconds = vec![Vec::new(); cells.len()];
    let (late_ms, quality) = run(
        args,
        cells.len(),
        jobs,
        |lane, &(cell, repeat)| {
            let sample = lane.transfer(&cells[cell], seed_of(args, cell, repeat))?;
            Ok((sample.seconds, sample.late, sample.tries))
        },
        |cell, took| seconds[cell].push(took),
        err,
    )?;
    let all = cells.iter().zip(seconds).zip(late_ms);
    let (all, late_ms) = all
        .filter(|((_, seconds), _)| !seconds.is_empty())
        .map(|((cell, mut seconds), late_ms)| {
            seconds.sort_by(f64::total_cmp);
            (Measured { cell: *cell, seconds }, late_ms)
        })
        .unzip();
    Ok(Measurement {
        all,
        late_ms,
        quality,
    })
}

/// Runs jobs on lanes, with their progress on a terminal; `keep` takes what comes of each in its cell.
fn run<R: Send>(
    args: &FidelityArgs,
    cells: usize,
    jobs: Vec<Job<(usize, usize)>>,
    one: impl Fn(&phantom_rig::Lane, &(usize, usize)) -> Result<(R, Lateness, u32), RigError> + Sync,
    mut keep: impl FnMut(usize, R),
    err: &mut dyn Write,
) -> Result<(Vec<f64>, Quality), Stop> {
    let mut left = vec![0_usize; cells];
    for job in &jobs {
        left[job.what.0] += 1;
    }
    let total: f64 = jobs.iter().map(|job| job.seconds).sum();
    // Lane seconds: the longest transfers come first, so their number alone would promise too little.
    let bar = progress("measured", (total * 1e3) as u64);
    let about: Vec<u64> = {
        let mut about = vec![0; cells];
        for job in &jobs {
            about[job.what.0] = (job.seconds * 1e3) as u64;
        }
        about
    };
    let mut done = 0;
    let mut late_ms = vec![0.0_f64; cells];
    let mut quality = Quality::default();
    let mut failures = Vec::new();
    let realtime = measure(limits(args), jobs, one, |(cell, _), result| {
        left[cell] -= 1;
        done += usize::from(left[cell] == 0);
        bar.inc(about[cell]);
        bar.set_message(format!("{done} of {cells} cells"));
        match result {
            Ok((kept, late, tries)) => {
                late_ms[cell] = late_ms[cell].max(late.max.as_secs_f64() * 1e3);
                quality.add(late, tries);
                keep(cell, kept);
            }
            Err(error) => {
                quality.failed += 1;
                failures.push((cell, error));
            }
        }
    });
    bar.finish_and_clear();
    let realtime = realtime.map_err(unable)?;
    let mut told = String::new();
    if !realtime {
        told.push_str("no SCHED_FIFO for this process: what else runs makes packets late\n");
    }
    for (cell, error) in failures.iter().take(WORST) {
        told.push_str(&format!("FAILED: a transfer in cell {}: {error}\n", cell + 1));
    }
    err.write_all(told.as_bytes())
        .map_err(Stop::disk("writing to stderr"))?;
    if quality.transfers == 0 {
        return Err(Stop::Run(RunError::Failed("no transfer ended".to_owned())));
    }
    Ok((late_ms, quality))
}

fn unable(error: RigError) -> Stop {
    Stop::Run(RunError::Failed(format!(
        "{error}\na stored measurement is compared everywhere: phantom-sim fidelity --from FILE"
    )))
}

fn progress(what: &str, length: u64) -> ProgressBar {
    use std::io::IsTerminal as _;
    let target = if std::io::stderr().is_terminal() {
        ProgressDrawTarget::stderr_with_hz(8)
    } else {
        ProgressDrawTarget::hidden()
    };
    let bar = ProgressBar::with_draw_target(Some(length), target);
    // The template is fixed and good; the plain bar would do otherwise.
    let style =
        ProgressStyle::with_template(&format!("{{bar:24}} {what} {{percent}} %  {{msg}}  ETA {{eta}}"))
            .unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.set_style(style);
    bar
}

impl Quality {
    fn add(&mut self, late: Lateness, tries: u32) {
        self.transfers += 1;
        self.again += tries as usize - 1;
        self.flagged += usize::from(late.spoils());
        self.late.max = self.late.max.max(late.max);
        self.late.over_1ms += late.over_1ms;
        self.late.packets += late.packets;
    }

    /// For people.
    fn told(&self) -> String {
        if self.transfers == 0 {
            return "a stored measurement: how late its packets were is not known\n".to_owned();
        }
        let mut text = format!(
            "{} measured: {} tried again for a packet over 5 ms late, {} flagged (late all three times); of {} packets {} were over 1 ms late, the worst {:.1} ms\n",
            self.transfers,
            self.again,
            self.flagged,
            self.late.packets,
            self.late.over_1ms,
            self.late.max.as_secs_f64() * 1e3
        );
        if self.failed > 0 {
            text.push_str(&format!("{} FAILED\n", self.failed));
        }
        text
    }
}

impl<M> Measurement<M> {
    /// Of a file, which does not tell how late packets were.
    fn stored(all: Vec<M>) -> Self {
        Self {
            late_ms: vec![f64::NAN; all.len()],
            quality: Quality::default(),
            all,
        }
    }
}

/// Several on a link.
fn shared(args: &FidelityArgs, err: &mut dyn Write) -> Result<Results, Stop> {
    let measurement = if let Some(from) = &args.from {
        let all = SharedMeasured::parse_all(&read(from)?).map_err(|error| broken(from, error))?;
        if all.is_empty() {
            return Err(broken(from, "no measurement in it"));
        }
        Measurement::stored(all)
    } else {
        measure_shared(args, &sharing::grid(), err)?
    };
    let bar = progress("simulated", measurement.all.len() as u64);
    let mut rows = table(&[
        "cell",
        "flows",
        "what",
        "which",
        "measured",
        "95 %",
        "simulated",
        "error %",
        "",
    ]);
    let mut csv = String::from(
        "rtt_ms,bits_per_second,loss,queue_bytes,flows,what,which,measured,interval_low,interval_high,simulated,error_percent,\
         certain_error_percent,late_max_ms\n",
    );
    let mut all: Vec<SharedCompared> = Vec::new();
    for (measured, late_ms) in measurement.all.iter().zip(&measurement.late_ms) {
        let cell = link(&measured.cell);
        for (nth, compared) in measured.compare(SIMULATED).into_iter().enumerate() {
            rows.add_row([
                if nth == 0 {
                    cell.replace(' ', " / ")
                } else {
                    String::new()
                },
                compared.flows.clone(),
                compared.what.to_string(),
                compared.rank.to_string(),
                format!("{:.3}", compared.measured),
                format!("{:.3} to {:.3}", compared.interval.0, compared.interval.1),
                format!("{:.3}", compared.simulated),
                format!("{:+.1}", compared.error()),
                verdict(compared.met()).to_owned(),
            ]);
            csv.push_str(&format!(
                "{},{},{},{},{:.6},{:.6},{:.6},{:.6},{:.3},{:.3},{}\n",
                cell.replace(' ', ","),
                compared.flows,
                compared.what,
                compared.rank,
                compared.measured,
                compared.interval.0,
                compared.interval.1,
                compared.simulated,
                compared.error(),
                compared.certain_error(),
                number(*late_ms),
            ));
            all.push(compared);
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    let mut text = format!("{rows}\n");
    let mut missed = false;
    for what in [What::Seconds, What::Share] {
        let of: Vec<&SharedCompared> = all.iter().filter(|compared| compared.what == what).collect();
        let misses = of.iter().filter(|compared| !compared.met()).count();
        missed |= misses > 0;
        let mut errors: Vec<f64> = of.iter().map(|compared| compared.error().abs()).collect();
        errors.sort_by(f64::total_cmp);
        let at = |share: f64| errors[((errors.len() - 1) as f64 * share).round() as usize];
        text.push_str(&format!(
            "{what}: {} medians, error {:.1} / {:.1} / {:.1} % (median / p90 / worst), over {BAR} % beyond the interval: {misses}, {}\n",
            of.len(),
            at(0.5),
            at(0.9),
            at(1.0),
            verdict(misses == 0)
        ));
    }
    text.push_str(&measurement.quality.told());
    Ok(Results {
        text,
        missed: missed || measurement.quality.failed > 0,
        measured: measurement
            .all
            .iter()
            .fold(head(args, SHARED_COLUMNS), |text, measured| {
                text + &measured.written()
            }),
        csv,
    })
}

/// A cell without its flows.
fn link(cell: &SharedCell) -> String {
    format!(
        "{} {} {} {}",
        cell.rtt_ms, cell.bits_per_second, cell.loss, cell.queue_bytes
    )
}

fn measure_shared(
    args: &FidelityArgs,
    cells: &[SharedCell],
    err: &mut dyn Write,
) -> Result<Measurement<SharedMeasured>, Stop> {
    let repeats = args.repeats.map_or(SHARED_REPEATS, |repeats| repeats as usize);
    let mut jobs = Vec::new();
    for (number, cell) in cells.iter().enumerate() {
        let ends = cell.simulate(1).unwrap_or_default();
        let ends = ends.iter().zip(&cell.flows);
        let seconds = ends
            .map(|((seconds, _), flow)| seconds + flow.start_ms as f64 / 1e3)
            .fold(1.0, f64::max);
        jobs.extend((0..repeats).map(|repeat| Job {
            what: (number, repeat),
            seconds,
            bits: 8 * cell.bytes(),
        }));
    }
    let mut kept = vec![Vec::new(); cells.len()];
    let (late_ms, quality) = run(
        args,
        cells.len(),
        jobs,
        |lane, &(cell, repeat)| {
            let samples = lane.share(&cells[cell].plan(), seed_of(args, cell, repeat))?;
            Ok((sharing::repeat(&samples), samples.late, samples.tries))
        },
        |cell, repeat| kept[cell].push(repeat),
        err,
    )?;
    let all = cells.iter().zip(kept).zip(late_ms);
    let (all, late_ms) = all
        .filter(|((_, repeats), _)| !repeats.is_empty())
        .map(|((cell, repeats), late_ms)| {
            let cell = cell.clone();
            (SharedMeasured { cell, repeats }, late_ms)
        })
        .unzip();
    Ok(Measurement {
        all,
        late_ms,
        quality,
    })
}
