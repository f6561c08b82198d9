//! Command line of the testbed; see [`phantom_sim::cli`].

use std::io::{stderr, stdout};
use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(phantom_sim::cli::main(
        std::env::args_os(),
        &phantom_sim::run::player,
        &mut stdout(),
        &mut stderr(),
    ))
}
