//! The program `phantom-node`: runs a service node, a bridge, a directory authority or a DHT node, and makes the files
//! that they and clients need.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage or settings.

mod cli;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    cli::main(cli::Args::parse())
}
