//! obfs4 over a stream of the runtime: moves bytes and time for [`phantom_obfs4`], and nothing else.
//!
//! What a paced connection (iat-mode 1 or 2) holds back goes out when anybody polls the stream, to read as well as to write, so
//! that a program that waits for an answer sends its question.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

pub use phantom_obfs4::{Bridge, BridgeArgs, IatMode};
use phantom_obfs4::{EpochHour, HandshakeError, Now, Output, Session, SessionError};
use rand_chacha::ChaCha12Rng;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::Kind;
use crate::link::Carrier;
use crate::runtime::Runtime;
use crate::units::Instant;

/// Read from the network at once; on the stack of a poll, so that a connection that waits holds none of it.
const READ_BYTES: usize = 16 << 10;

/// Why there is no connection, or no more.
#[derive(Debug, Error)]
pub enum Obfs4Error {
    /// The stream under it failed.
    #[error("obfs4: the connection failed while {doing}: {source}")]
    Stream {
        /// What was being done.
        doing: &'static str,
        /// What the runtime says.
        source: io::Error,
    },
    /// The other end is not who it should be, or something on the way changed what it said.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// Whoever connected to a bridge does not know it, and got no byte in answer until the bridge hung up.
    #[error("obfs4: a stranger was kept in silence: {0}")]
    Stranger(HandshakeError),
}

/// What a client says before its hello, so that a censor takes the connection for something else.
///
/// The rule on fully encrypted traffic (Wu et al., USENIX Security 2023, §4) lets through what begins like HTTP or TLS, and a list of
/// protocols that looks at no more than a record's header does as well (Bock et al., FOCI 2020). Who reads on sees that nothing
/// of the sort follows: the prefix is for censors that do not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Prefix {
    /// Nothing: plain obfs4.
    #[default]
    None,
    /// `GET / `, the beginning of a request.
    Http,
    /// The header of a TLS record with 512 bytes of a handshake.
    Tls,
}

impl Prefix {
    /// Its bytes.
    pub const fn bytes(self) -> &'static [u8] {
        match self {
            Self::None => b"",
            Self::Http => b"GET / ",
            Self::Tls => &[0x16, 3, 1, 2, 0],
        }
    }

    /// As a bridge line's argument `prefix` says it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Http => "http",
            Self::Tls => "tls",
        }
    }

    /// The kind of transport that obfs4 behind it is.
    pub const fn kind(self) -> Kind {
        match self {
            Self::None => Kind::Obfs4,
            Self::Http => Kind::Obfs4Http,
            Self::Tls => Kind::Obfs4Tls,
        }
    }

    /// What a client of such a kind says first; `None` for a kind that is no obfs4.
    pub const fn of_kind(kind: Kind) -> Option<Self> {
        match kind {
            Kind::Plain => None,
            Kind::Obfs4 => Some(Self::None),
            Kind::Obfs4Http => Some(Self::Http),
            Kind::Obfs4Tls => Some(Self::Tls),
        }
    }

    /// The one of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::None, Self::Http, Self::Tls]
            .into_iter()
            .find(|prefix| prefix.name() == name)
    }
}

/// A connection whose handshake is done.
pub struct Obfs4Stream<R: Runtime, S> {
    rt: R,
    inner: S,
    session: Session<ChaCha12Rng>,
    /// Decoded and not yet read.
    plain: Vec<u8>,
    plain_read: usize,
    /// Being written.
    chunk: Option<Chunk>,
    /// Until when the next chunk waits.
    pause: Option<Pin<Box<R::Sleep>>>,
    written_at: Instant,
    /// Whoever waits to write, to be told by whoever writes it.
    writer: Option<Waker>,
    /// When the machine wants to be asked again.
    due: Option<Duration>,
    /// Of a bridge whose caller is a stranger.
    silence: Option<(Duration, HandshakeError)>,
    ended: bool,
    failed: Option<SessionError>,
    /// What the first write begins with.
    says_first: &'static [u8],
    /// What is left of the prefix that the other end should begin with, and all of it.
    hears_first: (&'static [u8], Prefix),
}

struct Chunk {
    bytes: Vec<u8>,
    written: usize,
}

/// Nothing in it is ever pinned but the sleep, which has a place of its own.
impl<R: Runtime, S: Unpin> Unpin for Obfs4Stream<R, S> {}

/// Dials a bridge over `stream`, which is connected to it and wants to hear this prefix.
///
/// # Errors
/// The stream fails, nobody who knows the bridge's key answers, or not within [`phantom_obfs4::CLIENT_LIMIT`].
pub async fn dial<R: Runtime, S: Carrier>(
    rt: &R,
    stream: S,
    bridge: &BridgeArgs,
    prefix: Prefix,
) -> Result<Obfs4Stream<R, S>, Obfs4Error> {
    let session = Session::client(bridge, now(rt), rt.rng("obfs4 dial"));
    Obfs4Stream::begin(rt, stream, session, (prefix, Prefix::None), || {}).await
}

/// Answers on `stream`, on which somebody called who should begin with this prefix.
///
/// # Errors
/// The stream fails, or the caller does not know the bridge: it was told nothing, and its bytes were thrown away until the
/// bridge's time was over.
pub async fn accept<R: Runtime, S: Carrier>(
    rt: &R,
    stream: S,
    bridge: &Bridge,
    prefix: Prefix,
) -> Result<Obfs4Stream<R, S>, Obfs4Error> {
    accept_telling(rt, stream, bridge, prefix, || {}).await
}

/// As [`accept`], and calls `silent` when the caller is known to be a stranger and the silence begins.
///
/// # Errors
/// As [`accept`].
pub async fn accept_telling<R: Runtime, S: Carrier>(
    rt: &R,
    stream: S,
    bridge: &Bridge,
    prefix: Prefix,
    silent: impl FnOnce() + Send,
) -> Result<Obfs4Stream<R, S>, Obfs4Error> {
    let session = bridge.accept(now(rt), rt.rng("obfs4 accept"));
    Obfs4Stream::begin(rt, stream, session, (Prefix::None, prefix), silent).await
}

fn now<R: Runtime>(rt: &R) -> Now {
    Now {
        since_start: rt.now().saturating_since(Instant::ZERO),
        hour: EpochHour::from_unix_seconds(rt.wall().as_unix_secs()),
    }
}

impl<R: Runtime, S: Carrier> Obfs4Stream<R, S> {
    async fn begin(
        rt: &R,
        inner: S,
        session: Session<ChaCha12Rng>,
        (says, hears): (Prefix, Prefix),
        silent: impl FnOnce() + Send,
    ) -> Result<Self, Obfs4Error> {
        let mut stream = Self {
            rt: rt.clone(),
            inner,
            session,
            plain: Vec::new(),
            plain_read: 0,
            chunk: None,
            pause: None,
            written_at: rt.now(),
            writer: None,
            due: None,
            silence: None,
            ended: false,
            failed: None,
            says_first: says.bytes(),
            hears_first: (hears.bytes(), hears),
        };
        loop {
            poll_fn(|cx| stream.send(cx))
                .await
                .map_err(failed_while("saying hello"))?;
            if stream.session.is_open() {
                return Ok(stream);
            }
            if let Some((until, why)) = stream.silence {
                silent();
                stream.stay_silent(until).await;
                return Err(Obfs4Error::Stranger(why));
            }
            if stream.ended {
                return Err(SessionError::ClosedEarly.into());
            }
            let due = stream.due.map_or(Instant::ZERO, |due| Instant::ZERO + due);
            let alarm = rt.sleep_until(due);
            ::tokio::select! {
                biased;
                received = poll_fn(|cx| stream.receive(cx)) => {
                    received.map_err(failed_while("waiting for a hello"))?;
                    if let Some(failed) = stream.failed {
                        return Err(failed.into());
                    }
                }
                () = alarm => stream.session.tick(now(rt))?,
            }
        }
    }

    /// Reads and forgets until then, or until the other end has enough of it.
    async fn stay_silent(&mut self, until: Duration) {
        let alarm = self.rt.sleep_until(Instant::ZERO + until);
        let inner = &mut self.inner;
        let forget = async {
            let mut bytes = [0; 1 << 10];
            loop {
                let mut buf = ReadBuf::new(&mut bytes);
                let read = poll_fn(|cx| Pin::new(&mut *inner).poll_read(cx, &mut buf)).await;
                if read.is_err() || buf.filled().is_empty() {
                    return;
                }
            }
        };
        ::tokio::select! {
            biased;
            () = forget => {}
            () = alarm => {}
        }
    }

    /// Writes all that the machine wants written; ready when nothing is left.
    fn send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            if let Some(chunk) = &mut self.chunk {
                while chunk.written < chunk.bytes.len() {
                    let rest = &chunk.bytes[chunk.written..];
                    match ready!(Pin::new(&mut self.inner).poll_write(cx, rest))? {
                        0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                        written => chunk.written += written,
                    }
                }
                self.chunk = None;
                self.written_at = self.rt.now();
            }
            match self.session.poll_output() {
                Output::Write { pause, mut bytes } => {
                    // In one packet with the hello: a censor judges the first.
                    let first = std::mem::take(&mut self.says_first);
                    bytes.splice(..0, first.iter().copied());
                    let due = self.written_at + pause;
                    if due > self.rt.now() {
                        self.pause = Some(Box::pin(self.rt.sleep_until(due)));
                    }
                    self.chunk = Some(Chunk { bytes, written: 0 });
                }
                Output::Opened => {}
                Output::DiscardUntil { until, why } => self.silence = Some((until, why)),
                Output::WaitUntil(due) => {
                    self.due = Some(due);
                    break;
                }
                Output::Idle | Output::Close => break,
            }
        }
        if let Some(writer) = self.writer.take() {
            writer.wake();
        }
        Poll::Ready(Ok(()))
    }

    /// Takes in what is there; ready when that was something, the end among it.
    fn receive(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut wire = [0; READ_BYTES];
        let mut wire = ReadBuf::new(&mut wire);
        ready!(Pin::new(&mut self.inner).poll_read(cx, &mut wire))?;
        let taken = if wire.filled().is_empty() {
            self.ended = true;
            self.session.peer_closed()
        } else {
            self.take(wire.filled())
        };
        // What came before the mistake is read first.
        self.failed = self.failed.or(taken.err());
        Poll::Ready(Ok(()))
    }

    /// Bytes without the prefix. What does not begin with it is a stranger's, whose bytes the machine judges like any other's.
    fn take(&mut self, wire: &[u8]) -> Result<(), SessionError> {
        let (left, prefix) = self.hears_first;
        let same = left
            .iter()
            .zip(wire)
            .take_while(|(wanted, got)| wanted == got)
            .count();
        let mut wire = wire;
        if same == left.len() {
            (self.hears_first.0, wire) = (b"", &wire[same..]);
        } else if same == wire.len() {
            self.hears_first.0 = &left[same..];
            return Ok(());
        } else {
            self.hears_first.0 = b"";
            let heard = &prefix.bytes()[..prefix.bytes().len() - left.len()];
            self.session.receive(now(&self.rt), heard, &mut self.plain)?;
        }
        if wire.is_empty() {
            return Ok(());
        }
        self.session.receive(now(&self.rt), wire, &mut self.plain)
    }

    fn failure(&self) -> Option<io::Error> {
        let failed = self.failed?;
        let kind = match failed {
            SessionError::Cut | SessionError::ClosedEarly => io::ErrorKind::UnexpectedEof,
            _ => io::ErrorKind::InvalidData,
        };
        Some(io::Error::new(kind, failed))
    }

    /// Sends what waits, whoever it is of. What it cannot send now is no matter of the reader.
    fn send_for_another(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.send(cx) {
            Poll::Ready(sent) => sent,
            Poll::Pending => Ok(()),
        }
    }
}

fn failed_while(doing: &'static str) -> impl Fn(io::Error) -> Obfs4Error {
    move |source| Obfs4Error::Stream { doing, source }
}

impl<R: Runtime, S: Carrier> AsyncRead for Obfs4Stream<R, S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.send_for_another(cx)?;
        loop {
            let unread = &this.plain[this.plain_read..];
            if !unread.is_empty() || buf.remaining() == 0 {
                let taken = unread.len().min(buf.remaining());
                buf.put_slice(&unread[..taken]);
                this.plain_read += taken;
                return Poll::Ready(Ok(()));
            }
            (this.plain, this.plain_read) = (Vec::new(), 0);
            if let Some(failure) = this.failure() {
                return Poll::Ready(Err(failure));
            }
            if this.ended {
                return Poll::Ready(Ok(()));
            }
            ready!(this.receive(cx))?;
        }
    }
}

impl<R: Runtime, S: Carrier> AsyncWrite for Obfs4Stream<R, S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if let Some(failure) = this.failure() {
            return Poll::Ready(Err(failure));
        }
        if this.send(cx)?.is_pending() {
            this.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let taken = this
            .session
            .send(buf)
            .map_err(|error| io::Error::new(io::ErrorKind::BrokenPipe, error))?;
        this.send_for_another(cx)?;
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.send(cx)?.is_pending() {
            this.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Pin::new(&mut this.inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.send(cx)?.is_pending() {
            this.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Pin::new(&mut this.inner).poll_shutdown(cx)
    }
}

impl<R: Runtime, S> std::fmt::Debug for Obfs4Stream<R, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Obfs4Stream")
            .field("open", &self.session.is_open())
            .finish_non_exhaustive()
    }
}
