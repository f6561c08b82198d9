//! `emulate`: a scenario with the real programs in network namespaces, over links with a simulation's rates and delays and the same censor.

mod beside;

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use clap::Args;

use super::words::Words;
use super::{Players, RunArgs, Runtime, Stop, library, one};
use crate::play::emulate::{EmulatePlayer, Tale};
use crate::run::{Player, RunError};

/// What `emulate` takes.
#[derive(Clone, Debug, Args)]
pub struct EmulateArgs {
    /// A scenario's name or file, and key=value words: scenario, seed and the scenario's own parameters
    #[arg(value_name = "NAME|FILE|KEY=VALUE")]
    pub words: Vec<String>,
    /// The same as seed=N
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// One JSON object on stdout and nothing else
    #[arg(long)]
    pub json: bool,
    /// Where results go
    #[arg(long, value_name = "DIR", default_value = "store")]
    pub out: PathBuf,
    /// Where phantom-node and phantom are [default: beside this program]
    #[arg(long, value_name = "DIR")]
    pub programs: Option<PathBuf>,
    /// Keep the processes' files and logs here; there are secrets of the emulated hosts among them
    #[arg(long, value_name = "DIR", conflicts_with = "repeats")]
    pub keep: Option<PathBuf>,
    /// Play so many seeds from this one on, and tell medians with their intervals instead of one table
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=1_000))]
    pub repeats: Option<u32>,
    /// Repeats at once, each in namespaces of its own
    #[arg(long, value_name = "N", requires = "repeats", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=4))]
    pub at_once: u8,
    /// Play the same seeds in the simulator too, and set both side by side: exit code 1 if verdicts or times differ
    #[arg(long, requires = "repeats")]
    pub compare: bool,
}

/// What `within` takes; a part of `emulate`.
#[derive(Clone, Debug, Args)]
pub struct WithinArgs {
    /// The file of a network namespace
    namespace: PathBuf,
    /// Where resolv.conf is, and temporary files go
    dir: PathBuf,
    /// The program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

/// Becomes a program within a namespace.
///
/// # Errors
/// The system refuses.
pub fn within(args: &WithinArgs) -> Result<u8, Stop> {
    let Some((program, rest)) = args.command.split_first() else {
        return Err(Stop::Usage("within: which program?".to_owned()));
    };
    let mut command = Command::new(program);
    command.args(rest).env("TMPDIR", &args.dir);
    match phantom_rig::become_within(&args.namespace, &args.dir.join("resolv.conf"), &mut command) {
        Err(error) => Err(Stop::Run(RunError::Failed(format!(
            "running {} within a namespace: {error}",
            program.display()
        )))),
        Ok(never) => match never {},
    }
}

/// `phantom-sim emulate`.
///
/// # Errors
/// Usage, the scenario, the run (no Linux, no right to make namespaces), the disk.
pub fn emulate(
    args: &EmulateArgs,
    simulated: Players<'_>,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> Result<u8, Stop> {
    let player = player(args)?;
    if let Some(repeats) = args.repeats {
        let simulated = if args.compare { Some(simulated) } else { None };
        return beside::beside(args, repeats, &player, simulated, out, err);
    }
    let mut words = args.words.clone();
    words.extend(args.seed.map(|seed| format!("seed={seed}")));
    if !args.json {
        let read = Words::read(&words)?;
        let library = library();
        let loaded = read.load(&library, read.one(&library)?)?;
        let hosts: u64 = loaded.checked.counts.values().sum();
        writeln!(
            err,
            "emulation: {hosts} processes are set up and started; that takes up to a minute and a half, then the scenario's time runs"
        )
        .map_err(Stop::disk("writing to stderr"))?;
    }
    let run = RunArgs {
        words,
        json: args.json,
        out: args.out.clone(),
        runtime: Runtime::Emulation,
        twice: false,
        shuffle: None,
        pcap: None,
        pcap_host: Vec::new(),
        pcap_at: Vec::new(),
        pcap_mb: 1,
    };
    let players = |_: &str, _| Ok(Box::new(player.clone()) as Box<dyn Player>);
    let code = one::run(&run, &players, out, err)?;
    if let Some(tale) = player.tale().filter(|_| !args.json) {
        tell(&tale, err)?;
    }
    Ok(code)
}

fn player(args: &EmulateArgs) -> Result<EmulatePlayer, Stop> {
    let exe = std::env::current_exe()
        .map_err(|error| Stop::Usage(format!("this program cannot find itself: {error}")))?;
    let beside = exe.parent().map(PathBuf::from).unwrap_or_default();
    let programs = args.programs.clone().unwrap_or(beside);
    let programs = std::path::absolute(&programs).unwrap_or(programs);
    let mut player = EmulatePlayer::new(programs, exe);
    player.keep.clone_from(&args.keep);
    Ok(player)
}

/// How far the run is to be believed.
fn tell(tale: &Tale, err: &mut dyn Write) -> Result<(), Stop> {
    let late = tale.late;
    let [sent, lost, nowhere, asked] = tale.packets;
    let share = late.over_1ms as f64 / (late.packets as f64).max(1.0) * 100.0;
    writeln!(
        err,
        "wire:   {sent} packets sent, {lost} lost on links, {nowhere} to nobody, {asked} names asked; {share:.2} % came more than \
         1 ms late, the worst {:.1} ms{}",
        late.max.as_secs_f64() * 1e3,
        if tale.realtime { "" } else { "; without real-time priority" }
    )
    .map_err(Stop::disk("writing to stderr"))
}
