//! Jobs on lanes, with their progress, and how well the measurement itself went.

use std::io::Write;

use phantom_path::dice::Dice;
use phantom_rig::pool::{Job, Limits, measure};
use phantom_rig::{Lane, Lateness, RigError};

use super::{FidelityArgs, Stop, progress};
use crate::run::RunError;

/// Failures that are told one by one.
const TOLD: usize = 5;

/// How well the measurement itself went.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Quality {
    transfers: usize,
    again: usize,
    flagged: usize,
    pub(super) failed: usize,
    late: Lateness,
}

/// What was measured in each cell, how late the worst packet of any of its transfers was, and how it went in all.
pub(super) struct Measurement<M> {
    pub(super) all: Vec<M>,
    pub(super) late_ms: Vec<f64>,
    pub(super) quality: Quality,
}

impl<M> Measurement<M> {
    /// Of a file, which does not tell how late packets were.
    pub(super) fn stored(all: Vec<M>) -> Self {
        Self {
            late_ms: vec![f64::NAN; all.len()],
            quality: Quality::default(),
            all,
        }
    }
}

impl Quality {
    fn add(&mut self, late: Lateness, tries: u32) {
        self.transfers += 1;
        self.again += tries as usize - 1;
        self.flagged += usize::from(late.spoils());
        self.late.max = self.late.max.max(late.max);
        self.late.over_1ms += late.over_1ms;
        self.late.packets += late.packets;
    }

    /// For people.
    pub(super) fn told(&self) -> String {
        if self.transfers == 0 {
            return "a stored measurement: how late its packets were is not known\n".to_owned();
        }
        let mut text = format!(
            "{} measured: {} tried again for a packet over 5 ms late, {} flagged (late each time); of {} packets {} were over 1 ms late, the worst {:.1} ms\n",
            self.transfers,
            self.again,
            self.flagged,
            self.late.packets,
            self.late.over_1ms,
            self.late.max.as_secs_f64() * 1e3
        );
        if self.failed > 0 {
            text.push_str(&format!("{} FAILED\n", self.failed));
        }
        text
    }
}

/// Runs jobs on lanes, with their progress on a terminal; `keep` takes what comes of each in its cell.
pub(super) fn run<R: Send>(
    args: &FidelityArgs,
    cells: usize,
    jobs: Vec<Job<(usize, usize)>>,
    one: impl Fn(&Lane, &(usize, usize)) -> Result<(R, Lateness, u32), RigError> + Sync,
    mut keep: impl FnMut(usize, R),
    err: &mut dyn Write,
) -> Result<(Vec<f64>, Quality), Stop> {
    let mut left = vec![0_usize; cells];
    for job in &jobs {
        left[job.what.0] += 1;
    }
    // Of lane time: the longest transfers come first, so their number alone would promise too little.
    let mut about_ms = vec![0; cells];
    for job in &jobs {
        about_ms[job.what.0] = (job.seconds * 1e3) as u64;
    }
    let total_ms = jobs.iter().map(|job| about_ms[job.what.0]).sum();
    let bar = progress("measured", total_ms);
    let mut done = 0;
    let mut late_ms = vec![0.0_f64; cells];
    let mut quality = Quality::default();
    let mut failures = Vec::new();
    let realtime = measure(limits(args), jobs, one, |(cell, _), result| {
        left[cell] -= 1;
        done += usize::from(left[cell] == 0);
        bar.inc(about_ms[cell]);
        bar.set_message(format!("{done} of {cells} cells"));
        match result {
            Ok((kept, late, tries)) => {
                late_ms[cell] = late_ms[cell].max(late.max.as_secs_f64() * 1e3);
                quality.add(late, tries);
                keep(cell, kept);
            }
            Err(error) => {
                quality.failed += 1;
                failures.push((cell, error));
            }
        }
    });
    bar.finish_and_clear();
    let realtime = realtime.map_err(unable)?;
    let mut told = String::new();
    if !realtime {
        told.push_str("no SCHED_FIFO for this process: what else runs makes packets late\n");
    }
    for (cell, error) in failures.iter().take(TOLD) {
        told.push_str(&format!("FAILED: a transfer in cell {}: {error}\n", cell + 1));
    }
    err.write_all(told.as_bytes())
        .map_err(Stop::disk("writing to stderr"))?;
    if quality.transfers == 0 {
        return Err(Stop::Run(RunError::Failed("no transfer ended".to_owned())));
    }
    Ok((late_ms, quality))
}

/// What the seed and a place in the grid make: no two transfers have the same losses.
pub(super) fn seed_of(args: &FidelityArgs, cell: usize, repeat: usize) -> u64 {
    Dice::new(args.seed ^ (cell as u64) << 20 ^ (repeat as u64) << 44).draw()
}

fn limits(args: &FidelityArgs) -> Limits {
    Limits {
        lanes: usize::from(args.lanes),
        bits_per_second: args.rate * 1_000_000,
    }
}

fn unable(error: RigError) -> Stop {
    Stop::Run(RunError::Failed(format!(
        "{error}\na stored measurement is compared everywhere: phantom-sim fidelity --from FILE"
    )))
}
