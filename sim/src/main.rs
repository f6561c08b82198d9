//! Command line of the testbed; see [`phantom_sim::cli`].

use std::io::{stderr, stdout};
use std::process::ExitCode;

fn main() -> ExitCode {
    if let Err(error) = phantom_sim::scratch::end_cleanly_when_interrupted() {
        eprintln!("phantom-sim: Ctrl-C will leave unfinished directories behind: {error}");
    }
    ExitCode::from(phantom_sim::cli::main(
        std::env::args_os(),
        &phantom_sim::run::player,
        &mut stdout(),
        &mut stderr(),
    ))
}
