//! Where the story plays: the processes, the time, the addresses of one demo.

use std::net::Ipv4Addr;
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;

use phantom_drive::processes::Processes;
use tokio::time::Instant;

/// Where the story plays.
pub(crate) struct Stage {
    processes: Processes,
    started: Instant,
    /// What was done, and when each began.
    steps: Vec<(String, Instant)>,
    net: u8,
}

impl Deref for Stage {
    type Target = Processes;
    fn deref(&self) -> &Processes {
        &self.processes
    }
}

impl DerefMut for Stage {
    fn deref_mut(&mut self) -> &mut Processes {
        &mut self.processes
    }
}

impl Stage {
    pub(crate) fn new(programs: PathBuf, dir: PathBuf) -> Self {
        Self {
            processes: Processes::new(programs, dir),
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
}
