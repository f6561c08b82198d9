//! The processes of the demo: every one has a name and a log, and none outlives the story.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use crate::Failure;

/// How long processes may take to end when asked to.
const END_LIMIT: Duration = Duration::from_secs(5);
/// How often something that is waited for is looked at.
const LOOK: Duration = Duration::from_millis(150);

/// Where the story plays.
pub(crate) struct Stage {
    programs: PathBuf,
    /// Everything is below it.
    pub(crate) dir: PathBuf,
    running: BTreeMap<String, Child>,
    started: Instant,
    /// What was done, and when each began.
    steps: Vec<(String, Instant)>,
    net: u8,
}

impl Stage {
    pub(crate) fn new(programs: PathBuf, dir: PathBuf) -> Self {
        Self {
            programs,
            dir,
            running: BTreeMap::new(),
            started: Instant::now(),
            steps: Vec::new(),
            // Two demos at the same time hardly ever meet.
            net: 16 + (std::process::id() % 200) as u8,
        }
    }

    /// A loopback address of this demo's own.
    pub(crate) fn address(&self, group: u8, number: u8) -> Ipv4Addr {
        Ipv4Addr::new(127, self.net, group, number)
    }

    /// Tells what happened, with the time.
    pub(crate) fn say(&self, text: impl std::fmt::Display) {
        println!("{:6.1} s  {text}", self.started.elapsed().as_secs_f64());
    }

    /// What is being done now, for the report of a failure and the table of times.
    pub(crate) fn begin(&mut self, step: &str) {
        self.steps.push((step.to_owned(), Instant::now()));
    }

    pub(crate) fn step(&self) -> &str {
        self.steps
            .last()
            .map_or("the beginning", |(step, _)| step.as_str())
    }

    /// How long each step took, and all of them: which one was slow.
    pub(crate) fn times(&self) -> String {
        let line = |from: Instant, to: Instant, what: &str| {
            format!("{:6.1} s  {what}\n", to.duration_since(from).as_secs_f64())
        };
        let now = Instant::now();
        let ends = self.steps.iter().skip(1).map(|(_, begun)| *begun).chain([now]);
        let mut table: String = self
            .steps
            .iter()
            .zip(ends)
            .map(|((step, begun), end)| line(*begun, end, step))
            .collect();
        table.push_str(&line(self.started, now, "in all"));
        table
    }

    pub(crate) fn count(&self) -> usize {
        self.running.len()
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.programs.join(program));
        command
            .current_dir(&self.dir)
            .kill_on_drop(true)
            .stdin(Stdio::null());
        command
    }

    /// Runs a program to its end; its output, which is an error if the program says so.
    pub(crate) async fn run(&self, program: &str, args: &[String]) -> Result<String, Failure> {
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
    pub(crate) async fn try_run(
        &self,
        program: &str,
        args: &[String],
    ) -> Result<(bool, String, String), Failure> {
        let ran = self.command(program).args(args).output().await;
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
    pub(crate) fn start(&mut self, name: &str, program: &str, args: &[String]) -> Result<(), Failure> {
        let log = self.log(name)?;
        let mut command = self.command(program);
        let child = command.args(args).stdout(Stdio::null()).stderr(log).spawn()?;
        self.running.insert(name.to_owned(), child);
        Ok(())
    }

    /// Starts a program to talk to; the caller has its input and output.
    pub(crate) fn start_piped(
        &mut self,
        name: &str,
        program: &str,
        args: &[String],
    ) -> Result<(tokio::process::ChildStdin, tokio::process::ChildStdout), Failure> {
        let log = self.log(name)?;
        let mut command = self.command(program);
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

    fn log(&self, name: &str) -> Result<File, Failure> {
        let dir = self.dir.join("logs");
        fs::create_dir_all(&dir)?;
        Ok(File::create(dir.join(format!("{name}.log")))?)
    }

    /// Kills a process as a power cut does.
    pub(crate) async fn kill(&mut self, name: &str) -> Result<(), Failure> {
        let mut child = self
            .running
            .remove(name)
            .ok_or_else(|| Failure(format!("{name} does not run")))?;
        Ok(child.kill().await?)
    }

    /// An error if a process has ended that should run.
    pub(crate) fn all_run(&mut self) -> Result<(), Failure> {
        for (name, child) in &mut self.running {
            if let Some(status) = child.try_wait()? {
                return Err(Failure(format!("{name} has ended ({status})")));
            }
        }
        Ok(())
    }

    /// Looks until `look` finds what it looks for; every process must go on running meanwhile. On failure: what `look`
    /// saw last.
    pub(crate) async fn until<T>(
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
    pub(crate) async fn end(&mut self) -> Result<(), Failure> {
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
