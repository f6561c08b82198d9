//! `fidelity`: simulated transfers beside those of this machine's kernel over the same link, cell by cell.
//!
//! | file | what |
//! |---|---|
//! | `measured.txt` | what was measured: `--from` takes it again |
//! | `fidelity.csv` | one row for each cell, measured and simulated |
//!
//! `phantom-reports DIR` draws `fidelity.svg` from the latter.

mod alone;
mod measuring;
mod shared;

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use comfy_table::presets::ASCII_BORDERS_ONLY_CONDENSED;
use comfy_table::{ContentArrangement, Table};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use phantom_path::comparison::Comparison;
use phantom_rig::sharing;

use super::{FAILED, HOLDS, Stop, VIOLATED};

/// Simulated repeats of a cell in which something is drawn.
const SIMULATED: u64 = 101;

/// What `fidelity` takes.
#[derive(Clone, Debug, Args)]
pub struct FidelityArgs {
    /// Which transfers: the grid that the model was made beside, one drawn from the seed, several that share a link,
    /// some that write in bursts, or a few
    #[arg(long, value_enum, default_value = "quick")]
    pub grid: Grid,
    /// What losses, and the cells of `fresh`, are drawn from
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Cells that `fresh` draws of each kind: without loss, with 0.5 %, with 2 %, behind a policer
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub cells: u32,
    /// Transfers measured in a cell [default: 40 where there is loss, 10 behind a policer, 5 else; 40 that share a link, 20 that
    /// write in bursts]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub repeats: Option<u32>,
    /// Transfers at once, each between network namespaces of its own
    #[arg(long, value_name = "N", default_value_t = 24, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub lanes: u16,
    /// What all transfers together need on average at most
    #[arg(long, value_name = "MBIT", default_value_t = 40, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub rate: u64,
    /// Where the results go [default: store/fidelity/GRID-SEED]
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
    /// Written in bursts: the time of each
    Bursts,
    /// A few cells: seconds
    Quick,
}

impl Grid {
    const fn name(self) -> &'static str {
        match self {
            Self::Main => "main",
            Self::Fresh => "fresh",
            Self::Sharing => "sharing",
            Self::Bursts => "bursts",
            Self::Quick => "quick",
        }
    }
}

/// `phantom-sim fidelity`. Exit code 1 if a bar is missed, 3 if a transfer failed.
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
    let results = match args.grid {
        Grid::Sharing => shared::shared(args, &sharing::grid(), shared::SHARING_REPEATS, err)?,
        Grid::Bursts => shared::shared(args, &sharing::bursts(), shared::BURSTS_REPEATS, err)?,
        Grid::Main | Grid::Fresh | Grid::Quick => alone::alone(args, err)?,
    };
    write!(out, "{}", results.text).map_err(Stop::disk("writing the comparison"))?;
    if let Some(dir) = dir {
        store(&dir, &results)?;
        writeln!(out, "written to {}", dir.display()).map_err(Stop::disk("writing the comparison"))?;
    }
    Ok(if results.failed {
        FAILED
    } else if results.missed {
        VIOLATED
    } else {
        HOLDS
    })
}

/// What is shown and what is kept.
struct Results {
    text: String,
    /// A bar is.
    missed: bool,
    /// A transfer did: what is missed then says little.
    failed: bool,
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
         # the receiver's last byte, on a fresh connection. The link loses in both directions, the policer (16,384 bytes of burst\n\
         # unless told) only drops data. Grid {}, seed {}.\n# {columns}\n",
        args.grid.name(),
        args.seed
    )
}

const fn verdict(met: bool) -> &'static str {
    if met { "met" } else { "MISSED" }
}

fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    // Many rows: no line between them.
    table.load_style(ASCII_BORDERS_ONLY_CONDENSED);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    if table.width().is_none() {
        table.set_width(140);
    }
    table.set_header(header);
    table
}

/// The columns from `measured` to `certain_error_percent`.
fn columns(of: &Comparison) -> String {
    let (measured, (low, high), simulated) = (of.measured, of.interval, of.simulated);
    let (error, certain_error) = (of.error(), of.certain_error());
    format!("{measured:.6},{low:.6},{high:.6},{simulated:.6},{error:.3},{certain_error:.3}")
}

/// Nothing where nothing is known.
fn number(value: f64) -> String {
    if value.is_nan() {
        String::new()
    } else {
        format!("{value:.3}")
    }
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
