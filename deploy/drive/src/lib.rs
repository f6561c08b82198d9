//! The real `phantom-node` and `phantom`, driven as operators and users drive them: by command lines, files and the lines of
//! the client's daemon. For the demo on loopback and for `phantom-sim emulate`.
//!
//! Nothing in here knows where a process runs: [`processes::Processes`] is told what to put before a command.
#![allow(
    clippy::disallowed_methods,
    reason = "this crate drives real processes in real time; nothing of it is ever simulated"
)]

pub mod client;
pub mod network;
pub mod processes;
pub mod programs;

use std::fmt;

/// Why something was not done, in words for people.
#[derive(Clone, Debug)]
pub struct Failure(pub String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Failure {}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self(error.to_string())
    }
}

/// Owned arguments.
pub fn texts(args: &[&str]) -> Vec<String> {
    args.iter().map(|arg| (*arg).to_owned()).collect()
}
