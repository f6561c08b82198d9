//! A process that does not outlive its owner, nor do those it started.

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

/// A running program and its pipes. Dropped, it and its process group are killed; the runtime reaps it.
#[derive(Debug)]
pub(super) struct Process {
    group: Group,
    child: Child,
    input: Option<ChildStdin>,
    pub(super) output: Option<ChildStdout>,
    pub(super) errors: Option<ChildStderr>,
}

impl Process {
    /// Starts it; `command` pipes all three.
    pub(super) fn start(mut command: Command) -> io::Result<Self> {
        let mut child = command.spawn()?;
        Ok(Self {
            group: Group(child.id()),
            // `Child::wait` would close it, and the program end.
            input: child.stdin.take(),
            output: child.stdout.take(),
            errors: child.stderr.take(),
            child,
        })
    }

    pub(super) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits until it ends by itself. Cancel safe.
    pub(super) async fn ended(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await;
        self.group.kill(); // what it leaves behind
        status
    }

    /// Ends it: closes its input, then asks, then kills. Spec: pt-spec §3.4.
    pub(super) async fn end(mut self, close: Duration, terminate: Duration) -> io::Result<()> {
        // What it still says is read, or it might wait for that for ever.
        let (output, errors) = (self.output.take(), self.errors.take());
        tokio::select! {
            biased;
            ended = self.end_gently(close, terminate) => return ended,
            () = read_away(output, errors) => {}
        }
        self.end_gently(close, terminate).await
    }

    async fn end_gently(&mut self, close: Duration, terminate: Duration) -> io::Result<()> {
        self.input = None;
        if within(close, self.child.wait()).await.transpose()?.is_none() {
            self.group.ask();
            if within(terminate, self.child.wait()).await.transpose()?.is_none() {
                self.group.kill();
                self.child.kill().await?;
            }
        }
        self.group.kill();
        Ok(())
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "waits for a process of the real world, on tokio"
)]
async fn within<F: Future>(limit: Duration, future: F) -> Option<F::Output> {
    tokio::time::timeout(limit, future).await.ok()
}

/// Ends when both have.
async fn read_away(output: Option<ChildStdout>, errors: Option<ChildStderr>) {
    let mut both = [away(output), away(errors)];
    let [output, errors] = &mut both;
    let (mut one, mut two) = (false, false);
    while !(one && two) {
        tokio::select! {
            biased;
            () = &mut *output, if !one => one = true,
            () = &mut *errors, if !two => two = true,
        }
    }
}

/// Reads it to its end.
fn away(
    source: Option<impl AsyncRead + Unpin + Send + 'static>,
) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>> {
    Box::pin(async move {
        let Some(mut source) = source else { return };
        let mut buffer = [0; 1024];
        while let Ok(1..) = source.read(&mut buffer).await {}
    })
}

/// The process group that the program leads: itself, and what it started.
#[derive(Debug)]
struct Group(Option<u32>);

impl Group {
    fn ask(&self) {
        self.signal(false);
    }

    /// Once: the number may be another's later.
    fn kill(&mut self) {
        self.signal(true);
        self.0 = None;
    }

    #[cfg(unix)]
    fn signal(&self, kill: bool) {
        use nix::sys::signal::{Signal, killpg};

        let signal = if kill { Signal::SIGKILL } else { Signal::SIGTERM };
        if let Some(id) = self.0.and_then(|id| i32::try_from(id).ok()) {
            // It fails if nobody is left, which is what is wanted.
            let _ = killpg(nix::unistd::Pid::from_raw(id), signal);
        }
    }

    #[cfg(not(unix))]
    fn signal(&self, _kill: bool) {}
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}
