//! The command line of the client. `phantom --help` says what there is; the library does the work.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
