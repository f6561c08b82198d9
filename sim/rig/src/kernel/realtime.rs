//! Threads that other programs do not delay.

use std::sync::mpsc;
use std::thread::{Builder, JoinHandle};

use nix::sys::prctl::set_timerslack;
use thread_priority::{
    RealtimeThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy, set_thread_priority_and_policy,
    thread_native_id,
};

use crate::RigError;

/// Of the thread that forwards: before those whose packets it carries.
const FORWARDING: u8 = 10;
/// Of the threads that send and receive.
pub(super) const TRANSFERRING: u8 = 5;

/// From now on this thread is woken as exactly as the kernel can, and by SCHED_FIFO before all others but those of a higher
/// priority. Whether the latter is permitted: without it the lane works, later and less evenly.
pub(super) fn hurry(priority: u8) -> bool {
    // The least slack there is; real-time threads have none anyway, so a refusal costs microseconds.
    let _ = set_timerslack(1);
    let Ok(priority) = priority.try_into() else {
        return false;
    };
    let policy = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::Fifo);
    set_thread_priority_and_policy(
        thread_native_id(),
        ThreadPriority::Crossplatform(priority),
        policy,
    )
    .is_ok()
}

/// Starts a thread that carries packets; returns when it is known whether it may go before others.
pub(super) fn start_forwarding(
    name: &str,
    work: impl FnOnce() + Send + 'static,
) -> Result<(JoinHandle<()>, bool), RigError> {
    let (told, realtime) = mpsc::channel();
    let thread = Builder::new()
        .name(name.to_owned())
        .spawn(move || {
            // Whoever waits for this is there until it is told.
            let _ = told.send(hurry(FORWARDING));
            work();
        })
        .map_err(RigError::system("starting a thread"))?;
    Ok((thread, realtime.recv().map_err(|_| RigError::Ended)?))
}
