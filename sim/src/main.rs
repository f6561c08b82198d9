//! Command line of the testbed; see [`phantom_sim::cli`].

use std::io::{stderr, stdout};
use std::process::ExitCode;

// A run's memory is many small pieces, of which a busy minute frees most: glibc's allocator keeps the holes (docs/SIMULATION.md, "Memory"). Not with madsim, which
// answers in libc's place who asks for the time, and an allocator does so in the middle of its work.
#[cfg(all(unix, not(madsim)))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

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
