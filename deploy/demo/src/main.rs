//! A network of real processes on loopback, told as a story: messages pass, the published entries are killed, one newcomer
//! gets in through the DHT and another through a friend.
//!
//! Everything it does is what operators and users do: it runs `phantom-node` and `phantom` and talks to them through their
//! command lines, files and the daemon's lines. Exit codes: 0 all went well, 1 a step failed (the logs are kept), 2 usage, 130
//! interrupted.
#![allow(
    clippy::disallowed_methods,
    reason = "this program drives real processes in real time; nothing of it is ever simulated"
)]

mod network;
mod stage;
mod story;

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use phantom_drive::Failure;
use tokio::signal::unix::{SignalKind, signal};

use stage::Stage;

/// The whole story takes a fraction of this.
const LIMIT: Duration = Duration::from_secs(150);

/// What the shell gives to a program that a signal ended: 128 and SIGINT.
const INTERRUPTED: u8 = 130;

const USAGE: &str = "usage: phantom-demo [--keep] [--programs DIR]\n\
    --keep           keep the files of the network when all went well or it is interrupted, too\n\
    --programs DIR   where phantom-node and phantom are [default: beside this program]";

fn main() -> ExitCode {
    let (mut keep, mut programs) = (false, None);
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match (arg.as_str(), args.len()) {
            ("--keep", _) => keep = true,
            ("--programs", 1..) => programs = args.next().map(PathBuf::from),
            ("--help" | "-h", _) => {
                println!("{USAGE}");
                return ExitCode::SUCCESS;
            }
            _ => {
                eprintln!("phantom-demo: what is {arg:?}?\n{USAGE}");
                return ExitCode::from(2);
            }
        }
    }
    let beside = std::env::current_exe()
        .ok()
        .and_then(|own| own.parent().map(Path::to_owned));
    let Some(programs) = programs.or(beside) else {
        eprintln!("phantom-demo: where are phantom-node and phantom?\n{USAGE}");
        return ExitCode::from(2);
    };
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(play(&programs, keep)),
        Err(error) => {
            eprintln!("phantom-demo: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn play(programs: &Path, keep: bool) -> ExitCode {
    let dir = std::env::temp_dir().join(format!("phantom-demo-{}", std::process::id()));
    let mut stage = Stage::new(programs.to_owned(), dir.clone());
    let mut interrupted = false;
    let told = tokio::select! {
        biased;
        () = asked_to_end() => {
            interrupted = true;
            Ok(())
        }
        () = tokio::time::sleep(LIMIT) => Err(Failure(format!("not done after {} s", LIMIT.as_secs()))),
        told = story::tell(&mut stage) => told,
    };
    // Whatever happened, no process is left.
    let ended = stage.end().await;
    if interrupted {
        // Ctrl-C in a terminal reaches the processes too, and how those that had just begun ended tells nobody anything.
        eprintln!("phantom-demo: interrupted; all processes have ended");
        return match removed(&dir, keep) {
            Ok(()) => ExitCode::from(INTERRUPTED),
            Err(code) => code,
        };
    }
    match told.and(ended) {
        Ok(()) => {
            stage.say("all processes have ended");
            print!("\nWhat took how long:\n{}", stage.times());
            match removed(&dir, keep) {
                Ok(()) => ExitCode::SUCCESS,
                Err(code) => code,
            }
        }
        Err(failure) => {
            println!(
                "FAILED at: {}\n  {failure}\n{}  logs are kept in {}",
                stage.step(),
                stage.times(),
                stage.logs().display()
            );
            ExitCode::FAILURE
        }
    }
}

/// Removes the files of the network, or says where they are kept.
fn removed(dir: &Path, keep: bool) -> Result<(), ExitCode> {
    if keep {
        println!("files are kept in {}", dir.display());
        return Ok(());
    }
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            eprintln!("phantom-demo: {}: {error}", dir.display());
            Err(ExitCode::FAILURE)
        }
        _ => Ok(()),
    }
}

/// Ctrl-C, an init system, or a terminal that is gone.
async fn asked_to_end() {
    let (Ok(mut interrupt), Ok(mut terminate), Ok(mut hangup)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
        signal(SignalKind::hangup()),
    ) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
    }
}
