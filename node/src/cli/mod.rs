//! The command line.

mod bundle;
mod check;
mod cohorts;
mod dht;
mod init;
mod run;
mod status;
mod template;

use std::fs::DirBuilder;
use std::future::Future;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use phantom_core::runtime::tokio::{Config, TokioRuntime};
use phantom_node::settings::{KeyFileError, SettingsError};
use thiserror::Error;
use tracing_subscriber::EnvFilter;

/// Runs a Phantom Net service node, bridge or directory authority.
#[derive(Debug, Parser)]
#[command(
    version,
    max_term_width = 100,
    after_help = "Exit codes: 0 done, 1 failed, 2 wrong usage or settings.\n\
    A first node: `phantom-node init --dir . --listen 0.0.0.0:443 --address 203.0.113.5:443 --authority LINE …`, then\n\
    `phantom-node check`, then `phantom-node run`. docs/OPERATOR.md tells the rest."
)]
pub(crate) struct Args {
    /// What to log on standard error: error, warn, info, debug, trace, or per module such as
    /// "info,phantom_node::store=debug". At debug every event is logged. No secret is, at any level.
    #[arg(long, global = true, default_value = "info", value_name = "FILTER")]
    log: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write new keys and settings of a node or bridge; print its contact line
    Init(init::NodeArgs),
    /// Say whether a node or bridge with these settings would work, and what was checked
    Check(check::Args),
    /// Run a node or bridge until Ctrl-C or SIGTERM
    Run(run::Args),
    /// Say how the node with these settings is doing
    Status(status::Args),
    /// A directory authority: init, run
    #[command(subcommand)]
    Directory(DirectoryCommand),
    /// Open cohorts and give their slots to bridges
    #[command(subcommand)]
    Cohorts(cohorts::Command),
    /// Make the file that an installation of a client begins with
    Bundle(bundle::Args),
    /// Run a plain node of the DHT (BitTorrent's Mainline) until Ctrl-C or SIGTERM
    Dht(dht::Args),
}

#[derive(Debug, Subcommand)]
enum DirectoryCommand {
    /// Write new keys and settings of an authority; print its contact line
    Init(init::AuthorityArgs),
    /// Run an authority until Ctrl-C or SIGTERM
    Run(run::AuthorityArgs),
}

/// Why a command did not do what it should.
#[derive(Debug, Error)]
pub(crate) enum Failure {
    /// The settings are wrong.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A file of secrets is wrong.
    #[error(transparent)]
    Keys(#[from] KeyFileError),
    /// The arguments are wrong.
    #[error("{0}")]
    Usage(String),
    /// Something failed.
    #[error("{0}")]
    Failed(String),
    /// Said already.
    #[error("")]
    Silent,
}

impl Failure {
    const fn code(&self) -> u8 {
        match self {
            Self::Settings(_) | Self::Usage(_) => 2,
            Self::Keys(_) | Self::Failed(_) | Self::Silent => 1,
        }
    }

    /// For `map_err`: what was being done, and what was said.
    pub(crate) fn doing<E: std::fmt::Display>(what: impl std::fmt::Display) -> impl FnOnce(E) -> Self {
        move |error| Self::Failed(format!("{what}: {error}"))
    }
}

/// Does what the arguments say.
pub(crate) fn main(args: Args) -> ExitCode {
    let done = log_to_stderr(&args.log).and_then(|()| match args.command {
        Command::Init(args) => init::node(&args),
        Command::Check(args) => check::check(&args),
        Command::Run(args) => run::node(&args),
        Command::Status(args) => status::status(&args),
        Command::Directory(DirectoryCommand::Init(args)) => init::authority(&args),
        Command::Directory(DirectoryCommand::Run(args)) => run::authority(&args),
        Command::Cohorts(command) => cohorts::run(&command),
        Command::Bundle(args) => bundle::bundle(&args),
        Command::Dht(args) => dht::dht(&args),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let message = failure.to_string();
            if !message.is_empty() {
                eprintln!("phantom-node: {message}");
            }
            ExitCode::from(failure.code())
        }
    }
}

fn log_to_stderr(filter: &str) -> Result<(), Failure> {
    let filter =
        EnvFilter::try_new(filter).map_err(|error| Failure::Usage(format!("--log {filter:?}: {error}")))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .init();
    Ok(())
}

/// Runs `program` on a tokio runtime of all cores.
fn on_tokio<F: Future<Output = Result<(), Failure>>>(program: F) -> Result<(), Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Failure::doing("starting threads"))?
        .block_on(program)
}

/// A peer; to be called on tokio.
fn peer(config: Config) -> Result<TokioRuntime, Failure> {
    TokioRuntime::start(config).map_err(Failure::doing("opening the data directory"))
}

/// An owner-only directory that goes away again, for peers that keep nothing. A peer clears unfinished writes out of its
/// directory when it starts, so nobody may share that of a running node.
struct Scratch(PathBuf);

impl Scratch {
    fn in_dir(dir: &Path) -> Result<Self, Failure> {
        let path = dir.join(format!("phantom-node-{}", std::process::id()));
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(Failure::doing(path.display()))?;
        Ok(Self(path))
    }

    fn new() -> Result<Self, Failure> {
        Self::in_dir(&std::env::temp_dir())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // If it stays it is empty but for what a crash would leave as well.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs `program` with a source of entropy.
fn with_entropy<T>(program: impl FnOnce(&TokioRuntime) -> Result<T, Failure>) -> Result<T, Failure> {
    let scratch = Scratch::new()?;
    let mut done = None;
    on_tokio(async {
        let rt = peer(Config::new("phantom-node", &scratch.0))?;
        done = Some(program(&rt));
        rt.shutdown().await;
        Ok(())
    })?;
    done.unwrap_or(Err(Failure::Silent))
}
