//! Processes: every one has a name and a log, and none outlives its owner.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::Failure;

/// How long processes may take to end when asked to.
const END_LIMIT: Duration = Duration::from_secs(5);
/// How often something that is waited for is looked at.
const LOOK: Duration = Duration::from_millis(150);

/// What is put before the command of the process of a name, as `nsenter …`; nothing: it runs where the caller does.
pub type Prefix = Box<dyn Fn(&str) -> Vec<OsString> + Send + Sync>;

/// What runs, and where its files are.
pub struct Processes {
    programs: PathBuf,
    dir: PathBuf,
    prefix: Prefix,
    running: BTreeMap<String, Child>,
}

impl Processes {
    /// Nothing runs yet. `programs`: where `phantom-node` and `phantom` are; `dir`: where processes find and leave their files.
    pub fn new(programs: PathBuf, dir: PathBuf) -> Self {
        Self {
            programs,
            dir,
            prefix: Box::new(|_| Vec::new()),
            running: BTreeMap::new(),
        }
    }

    /// Puts `prefix` before the command of whatever is started (not of what is run to its end).
    #[must_use]
    pub fn behind(self, prefix: Prefix) -> Self {
        Self { prefix, ..self }
    }

    /// Everything is below it.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// How many run.
    pub fn count(&self) -> usize {
        self.running.len()
    }

    /// Whether the process of this name was started and not ended or killed since.
    pub fn runs(&self, name: &str) -> bool {
        self.running.contains_key(name)
    }

    fn command(&self, program: &str, prefix: Vec<OsString>) -> Command {
        let program = self.programs.join(program);
        let mut words = prefix.into_iter();
        let mut command = match words.next() {
            Some(first) => {
                let mut command = Command::new(first);
                command.args(words).arg(program);
                command
            }
            None => Command::new(program),
        };
        command
            .current_dir(&self.dir)
            .kill_on_drop(true)
            .stdin(Stdio::null());
        command
    }

    /// Runs a program to its end; its output, which is an error if the program says so.
    ///
    /// # Errors
    /// It cannot be run, or it failed: with what it said.
    pub async fn run(&self, program: &str, args: &[String]) -> Result<String, Failure> {
        let (success, out, err) = self.try_run(program, args).await?;
        if success {
            return Ok(out);
        }
        Err(Failure(format!(
            "{program} {}\n  {}{}",
            args.join(" "),
            out.trim(),
            err.trim()
        )))
    }

    /// Runs a program to its end; whether it succeeded, and what it printed.
    ///
    /// # Errors
    /// It cannot be run.
    pub async fn try_run(&self, program: &str, args: &[String]) -> Result<(bool, String, String), Failure> {
        let ran = self.command(program, Vec::new()).args(args).output().await;
        let output =
            ran.map_err(|error| Failure(format!("{}: {error}", self.programs.join(program).display())))?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok((
            output.status.success(),
            text(&output.stdout),
            text(&output.stderr),
        ))
    }

    /// Starts a program under a name; its log goes to a file of that name.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start(&mut self, name: &str, program: &str, args: &[String]) -> Result<(), Failure> {
        let log = self.log(name)?;
        let mut command = self.command(program, (self.prefix)(name));
        let child = command.args(args).stdout(Stdio::null()).stderr(log).spawn()?;
        self.running.insert(name.to_owned(), child);
        Ok(())
    }

    /// Starts a program to talk to; the caller has its input and output.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn start_piped(
        &mut self,
        name: &str,
        program: &str,
        args: &[String],
    ) -> Result<(ChildStdin, ChildStdout), Failure> {
        let log = self.log(name)?;
        let mut command = self.command(program, (self.prefix)(name));
        command
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log);
        let mut child = command.spawn()?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        self.running.insert(name.to_owned(), child);
        pipes.ok_or_else(|| Failure(format!("{name} has no pipes")))
    }

    /// Where logs are.
    pub fn logs(&self) -> PathBuf {
        self.dir.join("logs")
    }

    /// One that starts again goes on with its log.
    fn log(&self, name: &str) -> Result<File, Failure> {
        fs::create_dir_all(self.logs())?;
        let path = self.logs().join(format!("{name}.log"));
        Ok(File::options().create(true).append(true).open(path)?)
    }

    /// The last lines of a process's log.
    pub fn last_words(&self, name: &str) -> String {
        let text = fs::read_to_string(self.logs().join(format!("{name}.log"))).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(3)..].join("\n  ")
    }

    /// Kills a process as a power cut does.
    ///
    /// # Errors
    /// None of this name runs.
    pub async fn kill(&mut self, name: &str) -> Result<(), Failure> {
        let mut child = self
            .running
            .remove(name)
            .ok_or_else(|| Failure(format!("{name} does not run")))?;
        Ok(child.kill().await?)
    }

    /// An error if a process has ended that should run.
    ///
    /// # Errors
    /// One has.
    pub fn all_run(&mut self) -> Result<(), Failure> {
        for (name, child) in &mut self.running {
            if let Some(status) = child.try_wait()? {
                let name = name.clone();
                return Err(Failure(format!(
                    "{name} has ended ({status})\n  {}",
                    self.last_words(&name)
                )));
            }
        }
        Ok(())
    }

    /// Looks until `look` finds what it looks for; every process must go on running meanwhile. On failure: what `look`
    /// saw last.
    ///
    /// # Errors
    /// It did not find it in time, it failed, or a process ended.
    pub async fn until<T>(
        &mut self,
        limit: Duration,
        mut look: impl AsyncFnMut(&Self) -> Result<Result<T, String>, Failure>,
    ) -> Result<T, Failure> {
        let end = Instant::now() + limit;
        loop {
            self.all_run()?;
            match look(self).await? {
                Ok(found) => return Ok(found),
                Err(seen) if Instant::now() >= end => {
                    return Err(Failure(format!(
                        "not within {} s; last seen: {seen}",
                        limit.as_secs()
                    )));
                }
                Err(_) => sleep(LOOK).await,
            }
        }
    }

    /// Asks every process to end, as an init system does, and waits; kills what does not.
    ///
    /// # Errors
    /// When one did not end by itself, or not well.
    pub async fn end(&mut self) -> Result<(), Failure> {
        let ids: Vec<String> = self
            .running
            .values()
            .filter_map(Child::id)
            .map(|id| id.to_string())
            .collect();
        if !ids.is_empty() {
            // Those that ended by themselves meanwhile make `kill` complain; the wait below tells.
            let _ = Command::new("kill")
                .args(&ids)
                .stderr(Stdio::null())
                .status()
                .await;
        }
        let end = Instant::now() + END_LIMIT;
        let mut bad = Vec::new();
        for (name, mut child) in std::mem::take(&mut self.running) {
            let left = end.saturating_duration_since(Instant::now());
            match timeout(left, child.wait()).await {
                Ok(Ok(status)) if ExitStatus::success(&status) => {}
                Ok(Ok(status)) => bad.push(format!("{name} ended with {status}")),
                Ok(Err(error)) => bad.push(format!("{name}: {error}")),
                Err(_) => {
                    bad.push(format!("{name} did not end when asked to"));
                    child.kill().await?;
                }
            }
        }
        if bad.is_empty() {
            Ok(())
        } else {
            Err(Failure(bad.join("; ")))
        }
    }
}
