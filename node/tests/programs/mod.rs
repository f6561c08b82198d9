//! `phantom-node` as a process: run to its end, or in the background of a test.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

/// Runs `phantom-node` in `dir`.
pub(crate) fn phantom_node(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_phantom-node"))
        .current_dir(dir)
        .args(args)
        .output()
        .unwrap()
}

/// The same; it must succeed. What it printed.
pub(crate) fn done(dir: &Path, args: &[&str]) -> String {
    let output = phantom_node(dir, args);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{args:?}: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

/// The contact line that `init` prints.
pub(crate) fn line(printed: &str) -> String {
    printed
        .lines()
        .find_map(|line| line.strip_prefix("line   "))
        .unwrap()
        .to_owned()
}

/// A program in the background, killed (SIGKILL) when it is dropped.
pub(crate) struct Running(Child);

impl Running {
    /// Starts it; its log goes to the file `log` in `dir`, after what is there.
    pub(crate) fn start(dir: &Path, args: &[&str], log: &str) -> Self {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(dir.join(log))
            .unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_phantom-node"));
        command
            .current_dir(dir)
            .args(args)
            // Killed, a DHT node leaves an empty directory: not in the machine's.
            .env("TMPDIR", dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        Self(command.spawn().unwrap())
    }

    /// Asks it to end, as an init system does; its exit code.
    pub(crate) fn terminate(mut self) -> Option<i32> {
        Command::new("kill")
            .arg(self.0.id().to_string())
            .status()
            .unwrap();
        self.0.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
