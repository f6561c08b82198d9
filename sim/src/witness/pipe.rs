//! One direction of a stream of the paused witness: bytes that arrive after a delay, at most a window of them under way.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::ReadBuf;
use tokio::time::Instant;

/// Bytes written and not yet read, at most: a socket buffer as systems have it by default.
pub(super) const WINDOW_BYTES: usize = 256 * 1024;

#[derive(Debug)]
struct State {
    delay: Duration,
    queue: VecDeque<(Instant, Bytes)>,
    buffered: usize,
    /// When the end arrives at the reader.
    ended: Option<Instant>,
    /// When the writer learns that the reader is gone.
    abandoned: Option<Instant>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// Makes a pipe whose bytes take `delay`.
pub(super) fn pipe(delay: Duration) -> (Sender, Receiver) {
    let state = Arc::new(Mutex::new(State {
        delay,
        queue: VecDeque::new(),
        buffered: 0,
        ended: None,
        abandoned: None,
        reader: None,
        writer: None,
    }));
    (Sender(state.clone()), Receiver { state, arrival: None })
}

/// The writing end. Dropping it ends the pipe after the bytes that are in it.
#[derive(Debug)]
pub(super) struct Sender(Arc<Mutex<State>>);

impl Sender {
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = lock(&self.0);
        let now = now();
        if state.ended.is_some() || state.abandoned.is_some_and(|at| at <= now) {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if state.abandoned.is_some() {
            // On its way to nobody.
            return Poll::Ready(Ok(bytes.len()));
        }
        let accepted = bytes.len().min(WINDOW_BYTES - state.buffered);
        if accepted == 0 && !bytes.is_empty() {
            state.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let arrives = now + state.delay;
        state.buffered += accepted;
        state
            .queue
            .push_back((arrives, Bytes::copy_from_slice(&bytes[..accepted])));
        wake(state.reader.take(), state);
        Poll::Ready(Ok(accepted))
    }

    pub(super) fn end(&mut self) {
        let mut state = lock(&self.0);
        if state.ended.is_none() {
            state.ended = Some(now() + state.delay);
            wake(state.reader.take(), state);
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.end();
    }
}

/// The reading end.
#[derive(Debug)]
pub(super) struct Receiver {
    state: Arc<Mutex<State>>,
    /// Waits for what is on its way.
    arrival: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Receiver {
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            let next = {
                let mut state = lock(&self.state);
                let now = now();
                let before = into.remaining();
                while into.remaining() > 0
                    && let Some((arrives, chunk)) = state.queue.front_mut()
                    && *arrives <= now
                {
                    let taken = chunk.len().min(into.remaining());
                    into.put_slice(&chunk[..taken]);
                    chunk.advance(taken);
                    if chunk.is_empty() {
                        state.queue.pop_front();
                    }
                }
                let read = before - into.remaining();
                if read > 0 || before == 0 {
                    state.buffered -= read;
                    wake(state.writer.take(), state);
                    return Poll::Ready(Ok(()));
                }
                let next = state.queue.front().map(|(arrives, _)| *arrives).or(state.ended);
                match next {
                    Some(at) if at <= now => return Poll::Ready(Ok(())),
                    Some(at) => at,
                    None => {
                        state.reader = Some(cx.waker().clone());
                        return Poll::Pending;
                    }
                }
            };
            let arrival = self.arrival.get_or_insert_with(|| Box::pin(sleep_until(next)));
            if arrival.deadline() != next {
                arrival.as_mut().reset(next);
            }
            std::task::ready!(arrival.as_mut().poll(cx));
        }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        state.abandoned = Some(now() + state.delay);
        state.queue.clear();
        wake(state.writer.take(), state);
    }
}

/// Wakes after the lock is let go: a waker may poll at once.
fn wake(waker: Option<Waker>, state: MutexGuard<'_, State>) {
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a back end of the runtime, on tokio's paused clock"
)]
fn now() -> Instant {
    Instant::now()
}

#[expect(
    clippy::disallowed_methods,
    reason = "a back end of the runtime, on tokio's paused clock"
)]
fn sleep_until(at: Instant) -> tokio::time::Sleep {
    tokio::time::sleep_until(at)
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
