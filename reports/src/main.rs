//! Command line: `phantom-reports RUN_DIR` writes `metrics.csv` and `timeline.svg`; of a comparison with the kernel it writes
//! `fidelity.svg`.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use phantom_reports::run::Run;
use phantom_reports::{scatter, table, timeline};

/// A table and a picture of a run of phantom-sim
#[derive(Debug, Parser)]
#[command(name = "phantom-reports", version)]
struct Cli {
    /// The directory of a run: store/<scenario>/<key>, or store/latest; or of `phantom-sim fidelity`
    run_dir: PathBuf,
    /// Where to write; the run's own directory unless given
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut stdout = std::io::stdout();
    match report(&cli.run_dir, cli.out.as_deref().unwrap_or(&cli.run_dir)) {
        Ok(written) => {
            for path in written {
                // A closed pipe is nobody to report to.
                let _ = writeln!(stdout, "{}", path.display());
            }
            ExitCode::SUCCESS
        }
        Err(message) => {
            let _ = writeln!(std::io::stderr(), "phantom-reports: {message}");
            ExitCode::from(2)
        }
    }
}

/// Writes the report of the run in `dir` into `out`.
fn report(dir: &Path, out: &Path) -> Result<Vec<PathBuf>, String> {
    let fidelity = dir.join("fidelity.csv");
    if fidelity.is_file() {
        return compared(dir, &fidelity, out).map(|svg| vec![svg]);
    }
    let run = Run::read(dir).map_err(|error| error.to_string())?;
    let picture = timeline::svg(&run).map_err(|error| error.to_string())?;
    std::fs::create_dir_all(out).map_err(|error| format!("cannot make {}: {error}", out.display()))?;
    let (csv, svg) = (out.join("metrics.csv"), out.join("timeline.svg"));
    let file = File::create(&csv).map_err(|error| format!("cannot write {}: {error}", csv.display()))?;
    table::write(&run, file).map_err(|error| format!("cannot write {}: {error}", csv.display()))?;
    std::fs::write(&svg, picture).map_err(|error| format!("cannot write {}: {error}", svg.display()))?;
    Ok(vec![csv, svg])
}

/// Writes the picture of a comparison with the kernel.
fn compared(dir: &Path, csv: &Path, out: &Path) -> Result<PathBuf, String> {
    let file = File::open(csv).map_err(|error| format!("cannot read {}: {error}", csv.display()))?;
    let name = dir.file_name().unwrap_or_default().to_string_lossy();
    let picture = scatter::read(file)
        .and_then(|rows| scatter::svg(&rows, &format!("Transfers on Linux and simulated: {name}")))
        .map_err(|error| error.to_string())?;
    std::fs::create_dir_all(out).map_err(|error| format!("cannot make {}: {error}", out.display()))?;
    let svg = out.join("fidelity.svg");
    std::fs::write(&svg, picture).map_err(|error| format!("cannot write {}: {error}", svg.display()))?;
    Ok(svg)
}
