//! Handshakes as machines that name how many bytes they want next, and the one driver of all of them.
//!
//! Naming the count, instead of being fed whatever arrived, means that a handshake never holds a byte of what follows it.

use std::fmt;
use std::io;
use std::time::Duration;

use thiserror::Error;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// No machine asks for more at once.
pub const READ_MAX: usize = 512;

/// A handshake. Drained with `poll_output` until it wants to read, then given just what it wanted.
pub trait Exchange {
    /// What it comes to.
    type Done;
    /// Why it did not.
    type Error;

    /// The bytes that [`Output::Read`] asked for, all of them.
    fn handle(&mut self, bytes: &[u8]);

    /// What to do next. Not to be called again after [`Output::Done`] or [`Output::Failed`].
    fn poll_output(&mut self) -> Output<Self::Done, Self::Error>;
}

/// What a handshake wants of its driver.
#[derive(PartialEq, Eq)]
pub enum Output<D, E> {
    /// To send these bytes.
    Send(Vec<u8>),
    /// To be given so many bytes, 1 to [`READ_MAX`].
    Read(usize),
    /// It is over, and well.
    Done(D),
    /// It is over. What the other side must be told of it has been sent.
    Failed(E),
}

/// Not the bytes: they may be a cookie's hash or a bridge's arguments.
impl<D: fmt::Debug, E: fmt::Debug> fmt::Debug for Output<D, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Send(bytes) => write!(f, "Send({} bytes)", bytes.len()),
            Self::Read(wanted) => write!(f, "Read({wanted})"),
            Self::Done(done) => f.debug_tuple("Done").field(done).finish(),
            Self::Failed(error) => f.debug_tuple("Failed").field(error).finish(),
        }
    }
}

/// What a machine has in hand: what to send, then how it goes on.
pub(crate) struct Outbox<D, E> {
    send: Option<Vec<u8>>,
    end: Option<Result<D, E>>,
}

impl<D, E> Outbox<D, E> {
    pub(crate) const fn new() -> Self {
        Self {
            send: None,
            end: None,
        }
    }

    pub(crate) fn send(&mut self, bytes: impl Into<Vec<u8>>) {
        self.send.get_or_insert_default().extend(bytes.into());
    }

    pub(crate) fn end(&mut self, end: Result<D, E>) {
        self.end = Some(end);
    }

    /// `wanted` is what to read if nothing is in hand.
    pub(crate) fn poll(&mut self, wanted: usize) -> Output<D, E> {
        if let Some(bytes) = self.send.take() {
            return Output::Send(bytes);
        }
        match self.end.take() {
            Some(Ok(done)) => Output::Done(done),
            Some(Err(error)) => Output::Failed(error),
            None => Output::Read(wanted),
        }
    }
}

/// Why a handshake came to nothing.
#[derive(Debug, Error)]
pub enum ExchangeError<E> {
    /// The other side was too slow.
    #[error("the other side did not finish the handshake within {0:?}")]
    TimedOut(Duration),
    /// The connection broke or was closed.
    #[error("the connection broke in the handshake: {0}")]
    Io(#[from] io::Error),
    /// What the other side said, or refused.
    #[error(transparent)]
    Refused(E),
}

/// Carries a handshake out, within `limit`. Not cancel safe: a handshake that is dropped half way cannot go on.
///
/// # Errors
/// The connection broke, the limit passed, or the handshake failed.
pub async fn carry_out<S, X>(
    stream: &mut S,
    exchange: X,
    limit: Duration,
) -> Result<X::Done, ExchangeError<X::Error>>
where
    S: AsyncRead + AsyncWrite + Unpin,
    X: Exchange,
{
    within::<_, X::Error>(limit, exchange_bytes(stream, exchange)).await?
}

/// The future's output, or [`ExchangeError::TimedOut`].
#[expect(
    clippy::disallowed_methods,
    reason = "drives sockets of the real world, on tokio"
)]
pub(crate) async fn within<F: Future, E>(limit: Duration, future: F) -> Result<F::Output, ExchangeError<E>> {
    let timed = tokio::time::timeout(limit, future).await;
    timed.map_err(|_| ExchangeError::TimedOut(limit))
}

async fn exchange_bytes<S, X>(stream: &mut S, mut exchange: X) -> Result<X::Done, ExchangeError<X::Error>>
where
    S: AsyncRead + AsyncWrite + Unpin,
    X: Exchange,
{
    let mut buffer = [0; READ_MAX];
    loop {
        match exchange.poll_output() {
            Output::Send(bytes) => {
                stream.write_all(&bytes).await?;
                stream.flush().await?;
            }
            Output::Read(wanted) => {
                let room = &mut buffer[..wanted];
                stream.read_exact(room).await?;
                exchange.handle(room);
            }
            Output::Done(done) => return Ok(done),
            Output::Failed(error) => return Err(ExchangeError::Refused(error)),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) type End<X> = Result<<X as Exchange>::Done, <X as Exchange>::Error>;

    /// Plays `theirs` to a machine; what it sent, and its end if `theirs` sufficed for one.
    pub(crate) fn play<X: Exchange>(exchange: &mut X, mut theirs: &[u8]) -> (Vec<u8>, Option<End<X>>) {
        let mut sent = Vec::new();
        loop {
            match exchange.poll_output() {
                Output::Send(bytes) => sent.extend(bytes),
                Output::Read(wanted) => {
                    assert!((1..=READ_MAX).contains(&wanted), "{wanted}");
                    let Some((now, later)) = theirs.split_at_checked(wanted) else {
                        return (sent, None);
                    };
                    exchange.handle(now);
                    theirs = later;
                }
                Output::Done(done) => return (sent, Some(Ok(done))),
                Output::Failed(error) => return (sent, Some(Err(error))),
            }
        }
    }

    struct Never;

    impl Exchange for Never {
        type Done = ();
        type Error = ();

        fn handle(&mut self, _: &[u8]) {}

        fn poll_output(&mut self) -> Output<(), ()> {
            Output::Read(1)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_side_that_says_nothing_meets_the_limit_and_one_that_goes_away_is_noticed() {
        let limit = Duration::from_secs(3);
        let (mut ours, theirs) = tokio::io::duplex(64);
        let silent = carry_out(&mut ours, Never, limit).await.unwrap_err();
        assert!(matches!(silent, ExchangeError::TimedOut(time) if time == limit));
        drop(theirs);
        let gone = carry_out(&mut ours, Never, limit).await.unwrap_err();
        assert!(matches!(gone, ExchangeError::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof));
    }
}
