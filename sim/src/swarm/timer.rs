//! Sleeping. A sleep that is dropped leaves a dead entry in the heap, which is dropped when it is met; when dead entries
//! outnumber live ones the heap is swept.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::Happening;
use super::slab::Key;
use super::world::{Shared, State};

/// Dead entries are not worth a sweep below this number.
const SWEEP_MIN: usize = 4_096;

/// Completes at its instant.
pub struct Sleep {
    shared: Arc<Shared>,
    peer: u32,
    at: u64,
    timer: Option<Key>,
}

impl std::fmt::Debug for Sleep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sleep")
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

impl Sleep {
    pub(crate) fn new(shared: Arc<Shared>, peer: u32, at: u64) -> Self {
        Self {
            shared,
            peer,
            at,
            timer: None,
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        let mut state = this.shared.state();
        if state.now >= this.at {
            if let Some(timer) = this.timer.take() {
                state.cancel_timer(timer);
            }
            return Poll::Ready(());
        }
        if let Some(waker) = this.timer.and_then(|timer| state.timers.get_mut(timer)) {
            if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                *waker = Some(cx.waker().clone());
            }
        } else {
            this.timer = Some(state.start_timer(this.peer, this.at, cx.waker().clone()));
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(timer) = self.timer.take() {
            self.shared.state().cancel_timer(timer);
        }
    }
}

impl State {
    fn start_timer(&mut self, peer: u32, at: u64, waker: Waker) -> Key {
        let timer = self.timers.insert(Some(waker));
        self.schedule(peer, at, Happening::Timer(timer));
        timer
    }

    fn cancel_timer(&mut self, timer: Key) {
        if self.timers.remove(timer).is_some() {
            self.dead_timers += 1;
            if self.dead_timers > SWEEP_MIN && self.dead_timers > self.heap.len() / 2 {
                let timers = &self.timers;
                self.heap.retain(|event| match event {
                    Happening::Timer(timer) => timers.alive(*timer),
                    _ => true,
                });
                self.dead_timers = 0;
            }
        }
    }

    pub(crate) fn timer_fires(&mut self, timer: Key) {
        if let Some(waker) = self.timers.remove(timer).flatten() {
            waker.wake();
        }
    }
}
