//! `phantom`: one user's client on tokio.
//!
//! Exit codes: 0 done; 1 it could not be done (no way in, refused, expired); 2 a mistake in the command or its files.

mod args;
mod contacts;
mod daemon;
mod duration;
mod files;
mod home;
mod pt;
mod session;
mod talk;

use std::process::ExitCode;

use clap::Parser;
use thiserror::Error;

use self::args::{Action, Args};
use self::home::Home;
use self::session::Session;

/// Why a command failed.
#[derive(Clone, Debug, Error)]
pub(crate) enum Failure {
    /// The user's: a wrong argument or file. Says what was wanted.
    #[error("{0}")]
    Usage(String),
    /// The world's: it was tried and did not work.
    #[error("{0}")]
    Failed(String),
}

impl Failure {
    fn code(&self) -> ExitCode {
        match self {
            Self::Usage(_) => ExitCode::from(2),
            Self::Failed(_) => ExitCode::from(1),
        }
    }
}

pub(crate) fn usage(text: impl Into<String>) -> Failure {
    Failure::Usage(text.into())
}

pub(crate) fn failed(text: impl Into<String>) -> Failure {
    Failure::Failed(text.into())
}

/// Runs the command that the arguments say.
pub(crate) fn main() -> ExitCode {
    let args = Args::parse();
    let filter = tracing_subscriber::EnvFilter::try_from_env("PHANTOM_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .init();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("phantom: this host gives no event loop: {error}");
            return ExitCode::from(1);
        }
    };
    let result = runtime.block_on(perform(args));
    // A thread may wait for a line of standard input that never comes.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("phantom: {failure}");
            failure.code()
        }
    }
}

async fn perform(args: Args) -> Result<(), Failure> {
    if matches!(args.action, Action::Verify) {
        return verify();
    }
    if matches!(args.action, Action::Pt) {
        return pt::serve().await;
    }
    let home = Home::open(&args)?;
    match &args.action {
        Action::Init { bundle } => return home.init(bundle).await,
        Action::Invite { my_cohort: true, .. } => return contacts::print_cohort(&home).await,
        Action::Invite { name: Some(name), .. } => return contacts::offer(&home, name).await,
        _ => {}
    }
    let mut session = Session::start(&home, &args).await?;
    let work = async {
        match &args.action {
            Action::Invite {
                for_cohort: Some(cohort),
                within,
                ..
            } => contacts::invite(&mut session, cohort, *within).await,
            Action::Accept { text, name } => {
                contacts::accept(&home, &mut session, text, name.as_deref()).await
            }
            Action::Send {
                contact,
                text,
                file,
                ttl,
                wait,
                within,
            } => {
                let what = match (text, file) {
                    (_, Some(path)) => talk::What::File(path),
                    (text, None) => talk::What::Text(text.as_deref().unwrap_or("-")),
                };
                talk::send(&mut session, contact, what, *ttl, *wait, *within).await
            }
            Action::Receive { within, count, files } => {
                talk::receive(&mut session, *within, *count, files.as_deref()).await
            }
            Action::Daemon => daemon::serve(&home, &mut session).await,
            Action::Doctor { within } => talk::doctor(&mut session, *within).await,
            Action::Invite { .. } | Action::Init { .. } | Action::Pt | Action::Verify => Err(usage(
                "say what to invite: a NAME, --for-cohort or --my-cohort; see `phantom invite --help`",
            )),
        }
    };
    let result = tokio::select! {
        biased;
        result = work => result,
        () = interrupted() => Ok(()),
    };
    let ended = session.stop().await;
    result.and(ended)
}

/// Ctrl-C, or the system asks to end.
async fn interrupted() {
    use tokio::signal::unix::{SignalKind, signal};
    let terminate = async {
        match signal(SignalKind::terminate()) {
            Ok(mut signal) => {
                signal.recv().await;
            }
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        _ = tokio::signal::ctrl_c() => {}
        () = terminate => {}
    }
}

fn verify() -> Result<(), Failure> {
    let path =
        std::env::current_exe().map_err(|e| failed(format!("this program cannot find itself: {e}")))?;
    let bytes = std::fs::read(&path).map_err(|e| failed(format!("reading {}: {e}", path.display())))?;
    println!("phantom {}", env!("CARGO_PKG_VERSION"));
    println!("file    {}", path.display());
    println!("BLAKE3  {}", blake3::hash(&bytes).to_hex());
    println!(
        "There is no registry of releases yet: compare this with the hash that somebody you trust has published."
    );
    Ok(())
}
