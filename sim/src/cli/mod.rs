//! The command line of `phantom-sim`. Results go to stdout, everything else to stderr.
//!
//! Exit codes: 0 all hold; 1 an invariant or claim is violated, or a run that must repeat did not; 2 usage or scenario error; 3 the run itself failed, which
//! alone may be retried; 130 interrupted.

pub mod bench;
pub mod censors;
pub mod classify;
pub mod emulate;
pub mod fidelity;
pub mod gate;
pub mod meter;
pub mod one;
pub mod pool;
pub mod progress;
pub mod store;
pub mod table;
mod tally;
pub mod watch;
pub mod words;

use std::ffi::OsString;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Parser, Subcommand, ValueEnum};
use phantom_placed::FileError;

use self::words::counted;
use crate::capture::Vantage;
use crate::run::{Manner, Player, RunError};
use crate::scenario::file::{CHECK_SEEDS_MAX, Scenario};
use crate::scenario::load::{self, Directory, Loaded};

/// All hold.
pub const HOLDS: u8 = 0;
/// An invariant or claim is violated, or a run that must repeat did not.
pub const VIOLATED: u8 = 1;
/// Usage or scenario error.
pub const USAGE: u8 = 2;
/// The run itself failed.
pub const FAILED: u8 = 3;

/// What results call the back end of `emulate`.
pub const EMULATION: &str = "emulation";

/// Finds the player of a runtime.
pub type Players<'a> = &'a (dyn Fn(&str, Manner) -> Result<Box<dyn Player>, RunError> + Sync);

#[derive(Debug, Parser)]
#[command(
    name = "phantom-sim",
    version,
    about = "Plays scenarios of a censored network and checks what must hold"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the scenarios, what each shows and what it lets you set
    List {
        /// One JSON array on stdout and nothing else
        #[arg(long)]
        json: bool,
    },
    /// Play a scenario: phantom-sim run blocked-bootstrap seed=7 peers=5000
    Run(RunArgs),
    /// The gate of CI: play scenarios over many seeds, all that are tagged `ci` unless named, at the size of their `[ci]`
    Check(CheckArgs),
    /// Work on scenario files
    Scenario {
        #[command(subcommand)]
        what: ScenarioCommand,
    },
    /// Play a stored run again and compare its digest: exit code 1 if it is another
    Replay {
        /// A directory under store/
        run_dir: PathBuf,
    },
    /// Tell what a censor sees in a capture: phantom-sim classify my.pcap
    Classify(classify::ClassifyArgs),
    /// List the censors that `classify --censor` knows, what each does and where it was published
    Censors(censors::CensorsArgs),
    /// The engine's own figures, as ratios against its peers in one run
    Bench(bench::BenchArgs),
    /// Simulated transfers beside those of this machine's kernel over the same link: exit code 1 if a bar is missed
    Fidelity(fidelity::FidelityArgs),
    /// Play a small scenario with the real programs, in network namespaces over the simulated links and the same censor (root, Linux)
    Emulate(emulate::EmulateArgs),
    /// A part of `emulate`: become a program within a namespace
    #[command(hide = true)]
    Within(emulate::WithinArgs),
    /// One measurement of `bench`: one JSON line
    #[command(hide = true)]
    BenchOne(bench::OneArgs),
}

#[derive(Debug, Subcommand)]
enum ScenarioCommand {
    /// Parse and type-check a file without playing it
    Check {
        /// The file, or a name of `phantom-sim list`
        file: PathBuf,
    },
    /// Print the JSON Schema of the format
    Schema,
}

/// What `run` takes.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// A scenario's name or file, and key=value words: scenario, seed, peers, threads and the scenario's own parameters
    #[arg(value_name = "NAME|FILE|KEY=VALUE")]
    pub words: Vec<String>,
    /// One JSON object on stdout and nothing else
    #[arg(long)]
    pub json: bool,
    /// Where results go
    #[arg(long, value_name = "DIR", default_value = "store")]
    pub out: PathBuf,
    /// The back end to play on
    #[arg(long, value_enum, default_value = "swarm")]
    pub runtime: Runtime,
    /// Play twice and compare the digests; where they differ, name the second and the peer, and exit with 1
    #[arg(long)]
    pub twice: bool,
    /// Draw the order of wakes of one instant from N: another trace of the same world, whose verdicts must be the same
    #[arg(long, value_name = "N")]
    pub shuffle: Option<u64>,
    /// Write what crosses the border to a pcapng file, for Wireshark; what the censor did is a comment on the packet
    #[arg(long, value_name = "FILE")]
    pub pcap: Option<PathBuf>,
    /// Watch this host, as in client-3, on an interface of its own, and at the border its packets alone (as often as you like)
    #[arg(long, value_name = "NAME", requires = "pcap")]
    pub pcap_host: Vec<String>,
    /// Where to watch, each on an interface of its own (as often as you like); if not said, at the border and at each --pcap-host
    #[arg(long, value_name = "PLACE", value_enum, requires = "pcap")]
    pub pcap_at: Vec<Vantage>,
    /// The file does not become larger than so many megabytes
    #[arg(long, value_name = "N", requires = "pcap", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub pcap_mb: u64,
}

/// What `check` takes.
#[derive(Clone, Debug, Args)]
pub struct CheckArgs {
    /// Scenarios by name (all tagged `ci` if there are none), and key=value words for all of them
    #[arg(value_name = "NAME|KEY=VALUE")]
    pub words: Vec<String>,
    /// Seeds 1 to N: a fixed list, so that a rerun cannot flip a verdict [default: the scenario's in `[ci]`, or 20]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=CHECK_SEEDS_MAX))]
    pub seeds: Option<u64>,
    /// Also write a JUnit report
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Where results of violated runs go
    #[arg(long, value_name = "DIR", default_value = "store")]
    pub out: PathBuf,
    /// The back end to play on
    #[arg(long, value_enum, default_value = "swarm")]
    pub runtime: Runtime,
}

/// The back ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Runtime {
    /// Ours, the default simulator
    Swarm,
    /// tokio with a paused clock
    Paused,
    /// turmoil 0.7
    Turmoil,
    /// madsim 0.2, in a build of its own
    Madsim,
    /// Real time on loopback
    Tokio,
    /// The real programs: `phantom-sim emulate`
    #[value(skip)]
    Emulation,
}

impl Runtime {
    /// As the command line and results write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Swarm => "swarm",
            Self::Paused => "paused",
            Self::Turmoil => "turmoil",
            Self::Madsim => "madsim",
            Self::Tokio => "tokio",
            Self::Emulation => EMULATION,
        }
    }
}

/// Why a command ended without a verdict.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// Exit code 2.
    #[error("{0}")]
    Usage(String),
    /// Exit code 2.
    #[error(transparent)]
    Scenario(#[from] FileError),
    /// Exit code 3, or 2 if another build would do.
    #[error(transparent)]
    Run(#[from] RunError),
    /// Exit code 3.
    #[error("{what}: {error}")]
    Disk {
        /// What was being done.
        what: String,
        /// What the system says.
        error: std::io::Error,
    },
}

impl Stop {
    /// A failure of the disk (or of stdout) while doing `what`.
    pub fn disk(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |error| Self::Disk { what, error }
    }

    const fn code(&self) -> u8 {
        match self {
            Self::Usage(_)
            | Self::Scenario(_)
            | Self::Run(RunError::OtherBuild { .. } | RunError::Unable(_)) => USAGE,
            Self::Run(_) | Self::Disk { .. } => FAILED,
        }
    }
}

/// Runs the command line and returns the exit code.
pub fn main(
    args: impl IntoIterator<Item = OsString>,
    players: Players<'_>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> u8 {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            let text = error.render().to_string();
            // `--help` and `--version` are answers, not errors. A closed pipe is nothing to report to.
            let (to, code): (&mut dyn Write, u8) = if error.use_stderr() {
                (err, USAGE)
            } else {
                (out, HOLDS)
            };
            let _ = to.write_all(text.as_bytes());
            return code;
        }
    };
    let result = match cli.command {
        Command::List { json } => read_enough(list(json, out)),
        Command::Run(args) => one::run(&args, players, out, err),
        Command::Check(args) => gate::check(&args, players, out, err),
        Command::Scenario {
            what: ScenarioCommand::Check { file },
        } => read_enough(check_file(&file, out)),
        Command::Scenario {
            what: ScenarioCommand::Schema,
        } => read_enough(schema(out)),
        Command::Classify(args) => read_enough(classify::classify(&args, out, err)),
        Command::Censors(args) => read_enough(censors::censors(&args, out)),
        Command::Bench(args) => bench::bench(&args, out, err),
        Command::BenchOne(args) => bench::one(&args, out),
        Command::Fidelity(args) => fidelity::fidelity(&args, out, err),
        Command::Emulate(args) => emulate::emulate(&args, players, out, err),
        Command::Within(args) => emulate::within(&args),
        Command::Replay { run_dir } => one::replay(&run_dir, players, out, err),
    };
    result.unwrap_or_else(|stop| {
        let _ = writeln!(err, "phantom-sim: {stop}");
        stop.code()
    })
}

/// Of a command whose text is all that is wanted: whoever closed the pipe has read enough.
fn read_enough(result: Result<u8, Stop>) -> Result<u8, Stop> {
    match result {
        Err(Stop::Disk { error, .. }) if error.kind() == ErrorKind::BrokenPipe => Ok(HOLDS),
        result => result,
    }
}

/// The scenarios: `scenarios/` here or above, else those beside the source.
pub fn library() -> Directory {
    let here = std::env::current_dir().ok().and_then(|dir| Directory::find(&dir));
    here.or_else(|| Directory::find(Path::new(env!("CARGO_MANIFEST_DIR"))))
        .unwrap_or_else(|| Directory("scenarios".into()))
}

/// The names of all scenarios in `library`.
fn names(library: &Directory) -> Result<Vec<String>, Stop> {
    library.list().map_err(|error| {
        Stop::Usage(format!(
            "cannot list the scenarios in {}: {error}",
            library.0.display()
        ))
    })
}

fn list(json: bool, out: &mut dyn Write) -> Result<u8, Stop> {
    let library = library();
    let all: Vec<Loaded> = names(&library)?
        .iter()
        .map(|name| load::by_name(&library, name, &[]))
        .collect::<Result<_, _>>()?;
    let write = |error| Stop::disk("writing the list")(error);
    if json {
        let rows: Vec<_> = all
            .iter()
            .map(|loaded| {
                let scenario = &loaded.scenario;
                serde_json::json!({
                    "name": scenario.name.value, "summary": scenario.summary, "tags": scenario.tags,
                    "params": scenario.params, "sim_seconds": scenario.run.duration.0.as_secs_f64(),
                })
            })
            .collect();
        writeln!(out, "{}", serde_json::Value::from(rows)).map_err(write)?;
        return Ok(HOLDS);
    }
    for loaded in &all {
        let scenario = &loaded.scenario;
        writeln!(out, "{:<20} {}", scenario.name.value, scenario.summary).map_err(write)?;
        let params: Vec<String> = scenario
            .params
            .iter()
            .map(|(name, param)| format!("{name}={}", param.default))
            .collect();
        let duration = &scenario.run.duration.value;
        let mut second = format!("{:<20} {duration} simulated", "");
        if !params.is_empty() {
            second.push_str(&format!("; {}", params.join(" ")));
        }
        writeln!(out, "{second}").map_err(write)?;
    }
    writeln!(out, "\nplay one:  just sim scenario=first-look").map_err(write)?;
    Ok(HOLDS)
}

fn check_file(file: &Path, out: &mut dyn Write) -> Result<u8, Stop> {
    // A name of `phantom-sim list` will do as well.
    let library = library();
    let named = library.0.join(file).with_extension("toml");
    let file = match file.exists() || file.extension().is_some() {
        true => file,
        false if named.exists() => &named,
        false => {
            return Err(Stop::Usage(format!(
                "{}: no such file, and no scenario of that name; there are {}",
                file.display(),
                names(&library)?.join(", ")
            )));
        }
    };
    // What a file extends is looked for beside it.
    let beside = Directory(
        file.parent()
            .filter(|dir| !dir.as_os_str().is_empty())
            .unwrap_or(Path::new("."))
            .into(),
    );
    let loaded = load::by_path(&beside, file, &[])?;
    let censor = loaded.scenario.censor.as_ref();
    let rules = censor.map_or(0, |censor| censor.rule.len());
    let peers: u64 = loaded.checked.counts.values().sum();
    writeln!(
        out,
        "{}: good. {peers} hosts, {}, {}, {}, hash {}",
        file.display(),
        counted(rules as u64, "rule"),
        counted(loaded.checked.invariants.len() as u64, "invariant"),
        counted(loaded.checked.claims.len() as u64, "claim"),
        &loaded.hash[..16],
    )
    .map_err(Stop::disk("writing the verdict"))?;
    Ok(HOLDS)
}

fn schema(out: &mut dyn Write) -> Result<u8, Stop> {
    let schema = serde_json::to_string_pretty(&schemars::schema_for!(Scenario)).map_err(|error| {
        Stop::Run(RunError::Failed(format!(
            "the schema does not serialise: {error}"
        )))
    })?;
    writeln!(out, "{schema}").map_err(Stop::disk("writing the schema"))?;
    Ok(HOLDS)
}

#[cfg(test)]
mod tests;
