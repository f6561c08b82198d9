//! Many lanes at once: measurements one after the other on each, their traffic bounded in all.
//!
//! One machine forwards some 50,000 packets a second before they come late. What is bounded here are bits a second of all
//! transfers that run, by what each needs on average; a fast one sends more than that at times.

use std::sync::mpsc::{Sender, channel};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::{Lane, RigError};

/// How much is measured at once.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Lanes, at least one.
    pub lanes: usize,
    /// Bits a second of all lanes. What needs more alone is measured alone.
    pub bits_per_second: u64,
}

/// A measurement that waits.
#[derive(Clone, Copy, Debug)]
pub struct Job<T> {
    /// What.
    pub what: T,
    /// How long it will take, as far as is known.
    pub seconds: f64,
    /// Bits that it will transfer in all.
    pub bits: u64,
}

/// What a pool tells.
#[derive(Debug)]
enum Told<T, R> {
    Done(T, Result<R, RigError>),
    NoLane(RigError),
    HasLane { realtime: bool },
}

/// What remains to be done, the longest last.
struct Queue<T> {
    jobs: Vec<Job<T>>,
    /// Bits a second of what runs.
    busy: u64,
    running: usize,
    stop: bool,
}

impl<T> Job<T> {
    fn bits_per_second(&self) -> u64 {
        (self.bits as f64 / self.seconds.max(0.001)) as u64
    }
}

impl<T> Queue<T> {
    /// The longest job that fits beside what runs. `Err`: there is none now, or (`true`) none any more.
    fn next(&mut self, limit: u64) -> Result<Job<T>, bool> {
        if self.stop || self.jobs.is_empty() {
            return Err(true);
        }
        let fits = |job: &Job<T>| self.running == 0 || self.busy + job.bits_per_second() <= limit;
        let at = self.jobs.iter().rposition(fits).ok_or(false)?;
        let job = self.jobs.remove(at);
        self.busy += job.bits_per_second();
        self.running += 1;
        Ok(job)
    }
}

/// Measures all jobs, the longest first, and tells each result as it comes. Whether all lanes forward in real time
/// (see [`Lane::realtime`]).
///
/// # Errors
/// A lane cannot be had. What failed in one job is told to `done` instead.
pub fn measure<T: Copy + Send, R: Send>(
    limits: Limits,
    mut jobs: Vec<Job<T>>,
    run: impl Fn(&Lane, &T) -> Result<R, RigError> + Sync,
    mut done: impl FnMut(T, Result<R, RigError>),
) -> Result<bool, RigError> {
    jobs.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
    let lanes = limits.lanes.clamp(1, jobs.len().max(1));
    let queue = Mutex::new(Queue {
        jobs,
        busy: 0,
        running: 0,
        stop: false,
    });
    let changed = Condvar::new();
    let (tell, told) = channel();
    std::thread::scope(|scope| {
        for _ in 0..lanes {
            let (queue, changed, run, tell) = (&queue, &changed, &run, tell.clone());
            scope.spawn(move || serve(limits, queue, changed, run, &tell));
        }
        drop(tell);
        let mut realtime = true;
        let mut failed = None;
        for told in told {
            match told {
                Told::Done(what, result) => done(what, result),
                Told::HasLane { realtime: this } => realtime &= this,
                Told::NoLane(error) => {
                    lock(&queue).stop = true;
                    changed.notify_all();
                    failed.get_or_insert(error);
                }
            }
        }
        failed.map_or(Ok(realtime), Err)
    })
}

/// One lane's work.
fn serve<T: Copy, R>(
    limits: Limits,
    queue: &Mutex<Queue<T>>,
    changed: &Condvar,
    run: &impl Fn(&Lane, &T) -> Result<R, RigError>,
    tell: &Sender<Told<T, R>>,
) {
    // Whoever is told waits until all lanes have ended: no word is lost.
    let lane = match Lane::new() {
        Ok(lane) => lane,
        Err(error) => {
            let _ = tell.send(Told::NoLane(error));
            return;
        }
    };
    let _ = tell.send(Told::HasLane {
        realtime: lane.realtime(),
    });
    while let Some(job) = take(limits, queue, changed) {
        let result = run(&lane, &job.what);
        {
            let mut queue = lock(queue);
            queue.busy -= job.bits_per_second();
            queue.running -= 1;
        }
        changed.notify_all();
        let _ = tell.send(Told::Done(job.what, result));
    }
}

/// Waits for a job that fits.
fn take<T>(limits: Limits, queue: &Mutex<Queue<T>>, changed: &Condvar) -> Option<Job<T>> {
    let mut queue = lock(queue);
    loop {
        match queue.next(limits.bits_per_second) {
            Ok(job) => return Some(job),
            Err(true) => return None,
            Err(false) => queue = changed.wait(queue).unwrap_or_else(PoisonError::into_inner),
        }
    }
}

/// A panic between two changes of the queue leaves it whole.
fn lock<T>(queue: &Mutex<Queue<T>>) -> MutexGuard<'_, Queue<T>> {
    queue.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(what: u32, seconds: f64, mbit_per_second: f64) -> Job<u32> {
        Job {
            what,
            seconds,
            bits: (seconds * mbit_per_second * 1e6) as u64,
        }
    }

    #[test]
    fn the_longest_that_fits_is_next_and_what_never_fits_runs_alone() {
        let mut queue = Queue {
            jobs: vec![
                job(0, 1.0, 90.0),
                job(1, 2.0, 5.0),
                job(2, 3.0, 8.0),
                job(3, 4.0, 8.0),
            ],
            busy: 0,
            running: 0,
            stop: false,
        };
        let mut next = || queue.next(15_000_000).map(|job| job.what);
        assert_eq!([next(), next(), next()], [Ok(3), Ok(1), Err(false)]);
        (queue.busy, queue.running) = (0, 0);
        queue.jobs.truncate(1);
        assert_eq!(queue.next(15_000_000).map(|job| job.what), Ok(0));
        assert_eq!(queue.next(15_000_000).map(|job| job.what), Err(true));
    }
}
