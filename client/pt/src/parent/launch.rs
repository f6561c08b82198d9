//! What to start, and how long to wait for it.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use super::restart::RestartConfig;
use crate::env::{Environment, PREFIX};

/// A program and what it is told.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The program; a name without a folder is looked for in `PATH`.
    pub program: PathBuf,
    /// Its arguments. Whoever may list processes sees them: no secrets.
    pub arguments: Vec<OsString>,
    /// All else. Its state folder is made if it is not there, and is where the program runs.
    pub environment: Environment,
}

/// How long to wait for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From the start to the last line about transports. Default: 30 s; real programs take less than a second.
    pub start: Duration,
    /// From the end of its input to its own. Default: 3 s.
    pub close: Duration,
    /// From the signal that asks it to end to the one that does not ask. Default: 2 s.
    pub terminate: Duration,
    /// When it died.
    pub restart: RestartConfig,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            start: Duration::from_secs(30),
            close: Duration::from_secs(3),
            terminate: Duration::from_secs(2),
            restart: RestartConfig::default(),
        }
    }
}

impl Launch {
    /// A program without arguments.
    pub fn new(program: impl Into<PathBuf>, environment: Environment) -> Self {
        Self {
            program: program.into(),
            arguments: Vec::new(),
            environment,
        }
    }

    /// The command, with a state folder that is there.
    pub(super) fn command(&self) -> io::Result<Command> {
        self.environment.make_state_folder()?;
        // The program runs in another folder, where a relative path would name another file.
        let program = match self.program.parent() {
            Some(folder) if folder != Path::new("") => std::path::absolute(&self.program)?,
            _ => self.program.clone(),
        };
        let mut command = Command::new(program);
        command.args(&self.arguments).current_dir(&self.environment.state);
        // What our own parent told us, if we are such a program ourselves, is not for this one.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with(PREFIX) {
                command.env_remove(name);
            }
        }
        command
            .envs(self.environment.to_pairs())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        #[cfg(unix)]
        command.process_group(0);
        Ok(command)
    }
}
