//! A bounded queue between tasks of one process: many writers, one reader.
//!
//! As tokio's `mpsc` with a bound, which takes 930 bytes before the first message comes: its two ends lie on cache lines of their own,
//! and it keeps room for 32 messages. Every client of a simulation has three that are empty nearly always. This one takes a fifth of
//! that, and lets nobody write without a lock.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// A queue that holds at most `bound` messages (at least one): its writing end, which can be cloned, and its reading end.
pub fn queue<T>(bound: usize) -> (Sender<T>, Receiver<T>) {
    let shared = Arc::new(Shared(Mutex::new(State {
        messages: VecDeque::new(),
        bound: bound.max(1),
        senders: 1,
        closed: false,
        reader: None,
        writers: Vec::new(),
        next_writer: 0,
    })));
    (Sender(shared.clone()), Receiver(shared))
}

/// The reading end is gone: nobody will take the message, which is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nobody reads from the queue any more")]
pub struct Closed;

/// Why a message was not taken at once. It is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrySendError {
    /// There is no room.
    #[error("the queue is full")]
    Full,
    /// The reading end is gone.
    #[error(transparent)]
    Closed(#[from] Closed),
}

struct State<T> {
    messages: VecDeque<T>,
    bound: usize,
    senders: usize,
    /// The reading end is gone.
    closed: bool,
    reader: Option<Waker>,
    /// Who waits for room, in the order in which they came. Each goes with its future, so that there are no more than futures.
    writers: Vec<(u64, Waker)>,
    next_writer: u64,
}

impl<T> State<T> {
    fn has_room(&self) -> bool {
        self.messages.len() < self.bound
    }
}

struct Shared<T>(Mutex<State<T>>);

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Appends a message for which there is room, and wakes the reader.
    fn push(&self, mut state: MutexGuard<'_, State<T>>, message: T) {
        state.messages.push_back(message);
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

/// The writing end.
pub struct Sender<T>(Arc<Shared<T>>);

impl<T> Sender<T> {
    /// Appends a message as soon as there is room. Whoever stops waiting loses it.
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn send(&self, message: T) -> Result<(), Closed> {
        loop {
            {
                let state = self.0.lock();
                if state.closed {
                    // The message goes after the lock: it may hold a writing end of this queue.
                    return Err(Closed);
                }
                if state.has_room() {
                    self.0.push(state, message);
                    return Ok(());
                }
            }
            self.room().await;
        }
    }

    /// Appends a message if there is room now.
    ///
    /// # Errors
    /// [`TrySendError`].
    pub fn try_send(&self, message: T) -> Result<(), TrySendError> {
        let state = self.0.lock();
        if state.closed {
            return Err(Closed.into());
        }
        if !state.has_room() {
            return Err(TrySendError::Full);
        }
        self.0.push(state, message);
        Ok(())
    }

    /// Until there is room, which another writer may take first, or nobody reads any more.
    pub fn room(&self) -> Room<'_, T> {
        Room {
            shared: &self.0,
            number: None,
        }
    }

    /// Whether [`Sender::try_send`] takes a message now.
    pub fn has_room(&self) -> bool {
        let state = self.0.lock();
        !state.closed && state.has_room()
    }

    /// Whether nobody reads any more.
    pub fn is_closed(&self) -> bool {
        self.0.lock().closed
    }
}

/// The future of [`Sender::room`].
#[must_use = "a future does nothing until it is awaited"]
pub struct Room<'a, T> {
    shared: &'a Shared<T>,
    /// Which of [`State::writers`] it is, once it waits.
    number: Option<u64>,
}

impl<T> Future for Room<'_, T> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.shared.lock();
        if state.closed || state.has_room() {
            return Poll::Ready(());
        }
        let known = state
            .writers
            .iter_mut()
            .find(|(number, _)| Some(*number) == self.number);
        if let Some((_, waker)) = known {
            waker.clone_from(cx.waker());
        } else {
            let number = state.next_writer;
            state.next_writer += 1;
            state.writers.push((number, cx.waker().clone()));
            drop(state);
            self.number = Some(number);
        }
        Poll::Pending
    }
}

impl<T> Drop for Room<'_, T> {
    fn drop(&mut self) {
        if let Some(mine) = self.number {
            self.shared.lock().writers.retain(|(number, _)| *number != mine);
        }
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.lock().senders += 1;
        Self(self.0.clone())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.senders -= 1;
        let reader = if state.senders == 0 {
            state.reader.take()
        } else {
            None
        };
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

impl<T> fmt::Debug for Sender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = self.0.lock().messages.len();
        f.debug_struct("Sender").field("waiting", &waiting).finish()
    }
}

/// The reading end.
pub struct Receiver<T>(Arc<Shared<T>>);

impl<T> Receiver<T> {
    /// The next message; `None` when all writing ends are gone and everything was read. Cancel safe.
    pub async fn recv(&mut self) -> Option<T> {
        poll_fn(|cx| {
            let mut state = self.0.lock();
            if let Some(message) = state.messages.pop_front() {
                Self::wake_writers(state);
                return Poll::Ready(Some(message));
            }
            if state.senders == 0 {
                return Poll::Ready(None);
            }
            if !state
                .reader
                .as_ref()
                .is_some_and(|known| known.will_wake(cx.waker()))
            {
                state.reader = Some(cx.waker().clone());
            }
            Poll::Pending
        })
        .await
    }

    /// The next message, if it is here already.
    pub fn try_recv(&mut self) -> Option<T> {
        let mut state = self.0.lock();
        let message = state.messages.pop_front()?;
        Self::wake_writers(state);
        Some(message)
    }

    /// There is room. All of them: the first to come takes it, and one that has stopped waiting keeps nobody from it.
    fn wake_writers(mut state: MutexGuard<'_, State<T>>) {
        let writers = std::mem::take(&mut state.writers);
        drop(state);
        writers.into_iter().for_each(|(_, writer)| writer.wake());
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.closed = true;
        let (messages, writers) = (
            std::mem::take(&mut state.messages),
            std::mem::take(&mut state.writers),
        );
        drop(state);
        // Without the lock: what a message holds may be a writing end of this queue.
        drop(messages);
        writers.into_iter().for_each(|(_, writer)| writer.wake());
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let waiting = self.0.lock().messages.len();
        f.debug_struct("Receiver").field("waiting", &waiting).finish()
    }
}

#[cfg(test)]
#[expect(
    clippy::disallowed_methods,
    reason = "tasks of their own, and a watchdog: what a queue is for"
)]
mod tests {
    use std::pin::pin;
    use std::time::Duration;

    use super::*;

    /// Lets other tasks run until nothing moves.
    async fn settle() {
        for _ in 0..20 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn what_is_written_is_read_in_its_order_and_then_the_end() {
        let (sender, mut receiver) = queue(3);
        let writing = tokio::spawn(async move {
            for number in 0..100 {
                sender.send(number).await.unwrap();
            }
        });
        for number in 0..100 {
            assert_eq!(receiver.recv().await, Some(number));
        }
        assert_eq!(receiver.recv().await, None);
        writing.await.unwrap();
    }

    #[tokio::test]
    async fn nobody_writes_beyond_the_bound_and_all_who_wait_are_served() {
        let (sender, mut receiver) = queue(2);
        let writers: Vec<_> = (0..10)
            .map(|number| {
                let sender = sender.clone();
                tokio::spawn(async move { sender.send(number).await })
            })
            .collect();
        settle().await;
        assert_eq!(sender.0.lock().messages.len(), 2);
        assert!(!sender.has_room());
        assert_eq!(sender.try_send(10), Err(TrySendError::Full));
        let mut all = Vec::new();
        while all.len() < 10 {
            all.push(receiver.recv().await.unwrap());
            assert!(sender.0.lock().messages.len() <= 2);
        }
        all.sort_unstable();
        assert_eq!(all, Vec::from_iter(0..10));
        for writer in writers {
            writer.await.unwrap().unwrap();
        }
    }

    #[tokio::test]
    async fn one_who_stops_waiting_for_room_keeps_nobody_else_from_it() {
        let (sender, mut receiver) = queue(1);
        sender.try_send(0).unwrap();
        let impatient = tokio::spawn({
            let sender = sender.clone();
            async move { sender.send(1).await }
        });
        settle().await;
        let patient = tokio::spawn({
            let sender = sender.clone();
            async move { sender.send(2).await }
        });
        settle().await;
        impatient.abort();
        assert_eq!(receiver.recv().await, Some(0));
        let next = tokio::time::timeout(Duration::from_secs(5), receiver.recv());
        assert_eq!(next.await, Ok(Some(2)));
        patient.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn whoever_asks_for_room_again_and_again_is_remembered_once() {
        let (sender, receiver) = queue(1);
        sender.try_send(0).unwrap();
        for _ in 0..100 {
            let mut room = pin!(sender.room());
            for _ in 0..2 {
                poll_fn(|cx| {
                    assert!(room.as_mut().poll(cx).is_pending());
                    Poll::Ready(())
                })
                .await;
            }
            assert_eq!(sender.0.lock().writers.len(), 1);
        }
        assert!(sender.0.lock().writers.is_empty(), "nobody waits any more");
        drop(receiver);
        sender.room().await;
        assert!(sender.is_closed());
    }

    #[tokio::test]
    async fn without_a_reader_messages_are_refused_and_what_waits_is_dropped() {
        /// A message that holds a writing end of its own queue.
        struct Knot(#[expect(dead_code, reason = "it is held")] Sender<Knot>);
        let (sender, receiver) = queue(4);
        sender.try_send(Knot(sender.clone())).unwrap();
        drop(receiver);
        assert_eq!(sender.0.lock().senders, 1);
        assert_eq!(sender.send(Knot(sender.clone())).await, Err(Closed));
        let refused = sender.try_send(Knot(sender.clone()));
        assert_eq!(refused, Err(TrySendError::Closed(Closed)));
    }

    #[tokio::test]
    async fn a_reader_that_waits_hears_of_the_end() {
        let (sender, mut receiver) = queue::<()>(1);
        let second = sender.clone();
        let reading = tokio::spawn(async move { receiver.recv().await });
        settle().await;
        drop(sender);
        settle().await;
        assert!(!reading.is_finished(), "one can still write");
        drop(second);
        assert_eq!(reading.await.unwrap(), None);
    }

    #[test]
    fn an_empty_queue_is_small() {
        assert!(
            size_of::<Shared<Box<u64>>>() <= 128,
            "{}",
            size_of::<Shared<Box<u64>>>()
        );
    }
}
