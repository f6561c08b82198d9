//! The runtime: everything protocol code may ask of the world it runs in.
//!
//! Small traits, one bundle ([`Runtime`]), static dispatch. A peer holds its own cheap handle; there are no globals and
//! no thread-locals. Futures are `Send`, so that the same code runs on tokio's threads; the simulator does not use that.
//! What each method promises is written on it and checked by [`conformance`] on every back end.
//!
//! Waiting for two things is `tokio::select! { biased; … }`: without `biased` it draws ambient entropy.

#[cfg(feature = "conformance")]
pub mod conformance;
pub mod file_name;
mod frugal;
pub mod ruled;
pub mod rules;
pub mod share;
#[cfg(feature = "tokio")]
pub mod tokio;

pub use frugal::Frugal;

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ::tokio::io::{AsyncRead, AsyncWrite};
use bytes::Bytes;
use rand_chacha::ChaCha12Rng;

use crate::event::{Event, Sensitive};
use crate::units::{Instant, WallTime};

/// A peer's handle to its world.
pub trait Runtime:
    Clock + Spawn + Net + Store + Entropy + Events + Share + Clone + Send + Sync + 'static
{
}

impl<T> Runtime for T where
    T: Clock + Spawn + Net + Store + Entropy + Events + Share + Clone + Send + Sync + 'static
{
}

/// Time: a monotonic clock to wait on, and a wall clock that may be wrong.
pub trait Clock {
    /// Completes at its instant, not before. Dropping it costs nothing later.
    type Sleep: Future<Output = ()> + Send;

    /// Time since the peer's run began. Never steps back.
    fn now(&self) -> Instant;

    /// What this peer believes the date is. May be skewed, may step forwards or backwards.
    fn wall(&self) -> WallTime;

    /// Waits until `at`; at once if that has passed.
    fn sleep_until(&self, at: Instant) -> Self::Sleep;

    /// Waits for `duration`.
    fn sleep(&self, duration: Duration) -> Self::Sleep {
        self.sleep_until(self.now() + duration)
    }
}

/// Tasks. They form a tree per peer: a crash of the peer ends all of them, wherever they wait.
pub trait Spawn {
    /// A handle to a running task.
    type Task: Task;

    /// Starts `future` as a task of this peer. `name` is for people: traces and stuck-task reports.
    fn spawn<F>(&self, name: &'static str, future: F) -> Self::Task
    where
        F: Future<Output = ()> + Send + 'static;
}

/// A handle to a running task. Dropping it leaves the task running; see [`Owned`] for the other way.
pub trait Task: Send + Sync + 'static {
    /// Ends the task: its future is dropped and not polled again. No effect on a finished one.
    fn abort(&self);
}

/// A task that ends when its handle is dropped.
#[derive(Debug)]
pub struct Owned<T: Task>(pub T);

impl<T: Task> Drop for Owned<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The network as one host sees it.
///
/// Errors use [`io::ErrorKind`]: `ConnectionRefused` (a reset answered), `TimedOut` (nothing did), `ConnectionReset`,
/// `BrokenPipe` (writing after the peer is gone), `AddrInUse`, `NotFound` (a name that does not exist).
pub trait Net {
    /// A reliable, ordered byte stream.
    type Stream: Stream;
    /// Accepts streams.
    type Listener: Listener<Stream = Self::Stream>;
    /// Datagrams.
    type Udp: Udp;

    /// Opens a stream. Takes a round trip; fails with `TimedOut` only after the host's own long limit, so callers set
    /// their own with [`timeout`].
    fn connect(&self, to: SocketAddr) -> impl Future<Output = io::Result<Self::Stream>> + Send;

    /// Accepts streams at `at`; port 0 picks a free one, the unspecified address means every address of the host.
    fn listen(&self, at: SocketAddr) -> impl Future<Output = io::Result<Self::Listener>> + Send;

    /// Binds a datagram socket; port 0 picks a free one.
    fn bind_udp(&self, at: SocketAddr) -> impl Future<Output = io::Result<Self::Udp>> + Send;

    /// Asks the host's resolver for the addresses of `name`. A censor may forge or block the answer: nothing in it is
    /// to be trusted before a handshake has shown who answers there.
    fn resolve(&self, name: &str) -> impl Future<Output = io::Result<Vec<IpAddr>>> + Send;
}

/// A reliable, ordered byte stream with back-pressure: writes wait while the peer does not read.
///
/// Dropping it closes both directions; bytes already accepted by a write are still delivered if the peer reads them.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// The other end's address as this host sees it (a NAT may stand between).
    fn peer_addr(&self) -> SocketAddr;
    /// This end's address.
    fn local_addr(&self) -> SocketAddr;
}

/// Accepts streams.
pub trait Listener: Send + 'static {
    /// What is accepted.
    type Stream: Stream;
    /// The next incoming stream. Cancel safe.
    fn accept(&mut self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
    /// Where it listens, with the port that was picked.
    fn local_addr(&self) -> SocketAddr;
}

/// A datagram socket: unordered, may lose and duplicate.
pub trait Udp: Send + Sync + 'static {
    /// Sends one datagram. Success says nothing about arrival; larger than the path's MTU is lost or refused.
    fn send_to(&self, datagram: &[u8], to: SocketAddr) -> impl Future<Output = io::Result<()>> + Send;
    /// The next datagram and its source. Cancel safe.
    fn recv_from(&self) -> impl Future<Output = io::Result<(Bytes, SocketAddr)>> + Send;
    /// Where it is bound, with the port that was picked.
    fn local_addr(&self) -> SocketAddr;
}

/// A peer's files: flat names of `a-z 0-9 . _ -`, whole-file writes and appends.
///
/// What a method returned is visible to later reads at once. It survives a crash only after [`Store::sync`] on that
/// file (or [`Store::write`] or [`Store::remove`], which are durable when they return): of appended bytes that were not
/// synced, a crash keeps any prefix, and may tear the last one.
pub trait Store {
    /// Adds `bytes` at the end of `file`, which is made if it is not there; returns the offset of the first of them.
    fn append(&self, file: &str, bytes: &[u8]) -> impl Future<Output = io::Result<u64>> + Send;
    /// Replaces `file` by `bytes`, atomically and durably: after a crash there is the old content or the new.
    fn write(&self, file: &str, bytes: &[u8]) -> impl Future<Output = io::Result<()>> + Send;
    /// The whole of `file`, `None` if there is none.
    fn read(&self, file: &str) -> impl Future<Output = io::Result<Option<Bytes>>> + Send;
    /// `len` bytes of `file` from `offset`; `UnexpectedEof` if it is shorter.
    fn read_at(&self, file: &str, offset: u64, len: usize) -> impl Future<Output = io::Result<Bytes>> + Send;
    /// Removes `file`, durably; no error if there is none.
    fn remove(&self, file: &str) -> impl Future<Output = io::Result<()>> + Send;
    /// The names of all files that begin with `prefix`, sorted.
    fn list(&self, prefix: &str) -> impl Future<Output = io::Result<Vec<String>>> + Send;
    /// The durability point: when it returns, all that was appended to `file` survives a crash.
    fn sync(&self, file: &str) -> impl Future<Output = io::Result<()>> + Send;
}

/// Randomness.
pub trait Entropy {
    /// A fresh generator for one purpose. Each (peer, start of the peer, label, how often the label was asked for) has a
    /// stream of its own, so that one more draw in one place shifts no other, and no two callers ever share one.
    fn rng(&self, label: &'static str) -> ChaCha12Rng;
}

/// Facts for logs, metrics, reports and the trace digest.
pub trait Events {
    /// Records a fact, with the current time and this peer.
    fn emit(&self, event: Event);

    /// Marks bytes that must never be visible to an observer of the network. Production ignores it; the simulator
    /// searches everything a censor sees for them.
    fn sensitive(&self, kind: Sensitive, bytes: &[u8]) {
        let _ = (kind, bytes);
    }
}

/// Results of pure functions of bytes, shared by content hash between the peers of one process.
///
/// Without it, 8,000 simulated clients that each hold a parsed 2,000-node directory cost gigabytes.
pub trait Share {
    /// The value for `key`, made by `make` if this process does not hold it. `key` must be a hash of everything that
    /// `make` depends on, its type included; values nobody holds any more are forgotten.
    fn shared<T, F>(&self, key: [u8; 32], make: F) -> Arc<T>
    where
        T: Send + Sync + 'static,
        F: FnOnce() -> T;
}

/// The time limit of [`timeout`] passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nothing within {0:?}")]
pub struct Elapsed(pub Duration);

impl From<Elapsed> for io::Error {
    fn from(elapsed: Elapsed) -> Self {
        Self::new(io::ErrorKind::TimedOut, elapsed)
    }
}

/// Runs `future` for at most `limit` on the peer's own clock. On expiry the future is dropped.
///
/// No `async fn`: that would hold `future` twice, as it was given and where it is polled, and handshakes and requests are nested deeply.
pub fn timeout<R, F>(rt: &R, limit: Duration, future: F) -> impl Future<Output = Result<F::Output, Elapsed>>
where
    R: Clock,
    F: Future,
{
    Timeout {
        future,
        sleep: rt.sleep(limit),
        limit,
    }
}

pin_project_lite::pin_project! {
    struct Timeout<F, S> {
        #[pin]
        future: F,
        #[pin]
        sleep: S,
        limit: Duration,
    }
}

impl<F: Future, S: Future<Output = ()>> Future for Timeout<F, S> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(output) = this.future.poll(cx) {
            return Poll::Ready(Ok(output));
        }
        this.sleep.poll(cx).map(|()| Err(Elapsed(*this.limit)))
    }
}
