//! Jobs side by side on threads, their results one by one on the caller's.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

/// Does `jobs`, begun in their order, at most `threads` at a time. `done` gets each result with the job's number as it
/// comes, and nothing when `beat` has passed without one. After an error of `done` no job is begun.
///
/// # Errors
/// The first of `done`.
pub fn side_by_side<J: Sync, T: Send, E>(
    jobs: &[J],
    threads: usize,
    beat: Duration,
    work: impl Fn(&J) -> T + Sync,
    mut done: impl FnMut(Option<(usize, T)>) -> Result<(), E>,
) -> Result<(), E> {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        // A result is as large as a run's series: a thread that is ahead waits.
        let (sender, results) = sync_channel(1);
        for _ in 0..threads.min(jobs.len()).max(1) {
            let sender = sender.clone();
            let (next, work) = (&next, &work);
            scope.spawn(move || {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(job) = jobs.get(number) else { break };
                    if sender.send((number, work(job))).is_err() {
                        break;
                    }
                }
            });
        }
        drop(sender);
        loop {
            match results.recv_timeout(beat) {
                Ok(result) => done(Some(result))?,
                Err(RecvTimeoutError::Timeout) => done(None)?,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_job_is_done_once_by_any_number_of_threads() {
        for threads in [1, 2, 7, 100] {
            let jobs: Vec<u32> = (0..50).collect();
            let mut sums = vec![None; 50];
            let done = |result: Option<(usize, u32)>| {
                if let Some((number, sum)) = result {
                    assert_eq!(sums[number].replace(sum), None);
                }
                Ok::<_, ()>(())
            };
            side_by_side(&jobs, threads, Duration::from_secs(1), |job| job * 2, done).expect("no error");
            let wanted: Vec<_> = jobs.iter().map(|job| Some(job * 2)).collect();
            assert_eq!(sums, wanted);
        }
    }

    #[test]
    fn an_error_ends_it_before_all_is_done() {
        let done = AtomicUsize::new(0);
        let work = |_: &u32| done.fetch_add(1, Ordering::Relaxed);
        let result = side_by_side(&[0; 1_000], 2, Duration::from_secs(1), work, |_| Err("full"));
        assert_eq!(result, Err("full"));
        assert!(done.into_inner() < 20);
    }
}
