//! Moves bytes and time between a stream and a [`Session`]: one task per link end, no buffer while it is idle.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::event::{Event, Refusal};
use crate::runtime::Runtime;
use crate::units::Instant;

use super::LinkError;
use super::auth::ServerAuth;
use super::frame::{Codec, FRAME_LEN};
use super::handle::Shared;
use super::session::{Changes, Input, Phase, Role, Session};

/// Frames made before they are written.
const BATCH: usize = 16;
/// Rounds of reading and writing before other tasks have their turn.
const ROUNDS: usize = 8;
/// Bytes read at a time, into the stack.
const READ_LEN: usize = 4 * FRAME_LEN;
/// A send buffer that is fuller than ever is reported from here on, and again whenever it has doubled.
const HIGH_FROM: u64 = 64 * 1024;

/// Drives a session over one connection, and through the parking time after it.
pub(crate) struct Driver<R: Runtime, S> {
    rt: R,
    shared: Arc<Shared>,
    /// The number of this connection.
    connection: u64,
    /// At the accepting end: whose tickets to forget when the session is over.
    server: Option<ServerAuth>,
    report_round_trips: bool,
    send_buffer: u32,
    high: u64,
    up: Option<Up<S>>,
    sleep: Option<Pin<Box<R::Sleep>>>,
    armed: Instant,
}

/// A connection.
struct Up<S> {
    stream: S,
    codec: Codec,
    out: Vec<u8>,
    written: usize,
    unflushed: bool,
    partial: Vec<u8>,
}

/// Why the driver stops reading and writing.
enum Stop {
    /// Another connection carries the session now.
    TakenOver,
    /// This connection is of no more use.
    Lost(LinkError),
    /// The session is over and said goodbye.
    Done,
}

/// What a driver is made of, besides the runtime and the stream.
pub(crate) struct Parts {
    pub(crate) shared: Arc<Shared>,
    pub(crate) connection: u64,
    pub(crate) codec: Codec,
    pub(crate) server: Option<ServerAuth>,
    /// Written before the first frame.
    pub(crate) first: Vec<u8>,
    pub(crate) report_round_trips: bool,
    pub(crate) send_buffer: u32,
}

impl<R, S> Driver<R, S>
where
    R: Runtime,
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    /// Starts a driver as a task.
    pub(crate) fn spawn(rt: &R, stream: S, parts: Parts) {
        let mut driver = Self {
            rt: rt.clone(),
            shared: parts.shared,
            connection: parts.connection,
            server: parts.server,
            report_round_trips: parts.report_round_trips,
            send_buffer: parts.send_buffer,
            high: HIGH_FROM / 2,
            up: Some(Up {
                stream,
                codec: parts.codec,
                out: parts.first,
                written: 0,
                unflushed: false,
                partial: Vec::new(),
            }),
            sleep: None,
            armed: Instant::FAR_FUTURE,
        };
        rt.spawn("link", async move { poll_fn(|cx| driver.poll(cx)).await });
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match self.run(cx) {
                Ok(()) => {}
                Err(Stop::TakenOver) => return Poll::Ready(()),
                Err(Stop::Lost(cause)) => self.lost(cx, cause),
                Err(Stop::Done) => {
                    if let Some(up) = &mut self.up {
                        // Best effort: what was written is delivered whether or not this succeeds.
                        let _ = Pin::new(&mut up.stream).poll_shutdown(cx);
                    }
                    self.up = None;
                    self.shared.announce(Changes::ALL);
                }
            }
            let Some((phase, role, deadline)) = self.with(cx, |session| {
                (session.phase(), session.role(), session.deadline())
            }) else {
                return Poll::Ready(());
            };
            match phase {
                Phase::Closed => {
                    if let Some(server) = &self.server {
                        forget_tickets(server, &self.shared);
                    }
                    return Poll::Ready(());
                }
                // Nobody but the program can bring it up again.
                Phase::Parked(_) if role == Role::Dialler => return Poll::Ready(()),
                Phase::Up | Phase::Closing(_) | Phase::Parked(_) => {}
            }
            ready!(self.wait_until(cx, deadline));
        }
    }

    /// Runs `f` on the session; `None` when another connection has taken over.
    fn with<T>(&self, cx: &Context<'_>, f: impl FnOnce(&mut Session) -> T) -> Option<T> {
        self.shared.drive(self.connection, cx.waker(), f)
    }

    /// Completes at `deadline` at the latest. A timer that is too early is kept: setting one anew at every frame would
    /// cost more than waking once in vain.
    fn wait_until(&mut self, cx: &mut Context<'_>, deadline: Option<Instant>) -> Poll<()> {
        let deadline = deadline.unwrap_or(Instant::FAR_FUTURE);
        if deadline == Instant::FAR_FUTURE && self.sleep.is_none() {
            return Poll::Pending;
        }
        if self.sleep.is_none() || deadline < self.armed {
            self.sleep = Some(Box::pin(self.rt.sleep_until(deadline)));
            self.armed = deadline;
        }
        if let Some(sleep) = &mut self.sleep {
            ready!(sleep.as_mut().poll(cx));
        }
        self.sleep = None;
        Poll::Ready(())
    }

    /// Everything that can be done now.
    fn run(&mut self, cx: &mut Context<'_>) -> Result<(), Stop> {
        let now = self.rt.now();
        let handled = self
            .with(cx, |session| {
                let due = session.deadline().is_some_and(|deadline| now >= deadline);
                let handled = if due {
                    session.handle(now, Input::Timeout)
                } else {
                    Ok(Changes::default())
                };
                session.count_from(now);
                handled
            })
            .ok_or(Stop::TakenOver)?;
        self.shared.announce(handled.map_err(Stop::Lost)?);
        if self.up.is_none() {
            return Ok(());
        }
        for _ in 0..ROUNDS {
            let read = self.read(cx, now)?;
            if !self.write(cx, now)? && !read {
                return Ok(());
            }
        }
        cx.waker().wake_by_ref();
        Ok(())
    }

    /// Reads once; whether there may be more.
    fn read(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<bool, Stop> {
        let Some(up) = &mut self.up else { return Ok(false) };
        let mut buffer = [MaybeUninit::uninit(); READ_LEN];
        let mut buffer = ReadBuf::uninit(&mut buffer);
        match Pin::new(&mut up.stream).poll_read(cx, &mut buffer) {
            Poll::Pending => return Ok(false),
            Poll::Ready(Err(error)) => return Err(Stop::Lost(failed("reading", &error))),
            Poll::Ready(Ok(())) if buffer.filled().is_empty() => {
                return Err(Stop::Lost(LinkError::Gone { doing: "reading" }));
            }
            Poll::Ready(Ok(())) => {}
        }
        let mut bytes = buffer.filled();
        let mut changes = Changes::default();
        while let Some(frame) = next_frame(&mut up.partial, &mut bytes) {
            let plain = up.codec.open(&frame).map_err(Stop::Lost)?;
            let handled = self
                .shared
                .drive(self.connection, cx.waker(), |session| {
                    session.handle(now, Input::Frame(&plain))
                })
                .ok_or(Stop::TakenOver)?
                .map_err(Stop::Lost)?;
            changes.readable |= handled.readable;
            changes.other |= handled.other;
            if handled.round_trip && self.report_round_trips {
                self.rt.emit(Event::RoundTrip);
            }
        }
        self.shared.announce(changes);
        Ok(true)
    }

    /// Writes once; whether there may be more.
    fn write(&mut self, cx: &mut Context<'_>, now: Instant) -> Result<bool, Stop> {
        let Some(up) = &mut self.up else { return Ok(false) };
        if up.written == up.out.len() {
            up.out.clear();
            up.written = 0;
            let codec = &mut up.codec;
            let out = &mut up.out;
            let buffered = self
                .shared
                .drive(self.connection, cx.waker(), |session| {
                    for _ in 0..BATCH {
                        let Some(plain) = session.poll_frame(now) else {
                            break;
                        };
                        codec.seal(&plain, out);
                    }
                    session.buffered()
                })
                .ok_or(Stop::TakenOver)?;
            if buffered >= self.high * 2 {
                self.high = buffered;
                let short = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
                let (depth, bound) = (short(buffered), self.send_buffer);
                self.rt.emit(Event::QueueHigh {
                    queue: "link send",
                    depth,
                    bound,
                });
            }
        }
        if up.out.is_empty() {
            up.out = Vec::new();
            if up.unflushed {
                match Pin::new(&mut up.stream).poll_flush(cx) {
                    Poll::Pending => return Ok(false),
                    Poll::Ready(Err(error)) => return Err(Stop::Lost(failed("flushing", &error))),
                    Poll::Ready(Ok(())) => up.unflushed = false,
                }
            }
            return match self.with(cx, Session::flushed) {
                None => Err(Stop::TakenOver),
                Some(true) => Err(Stop::Done),
                Some(false) => Ok(false),
            };
        }
        match Pin::new(&mut up.stream).poll_write(cx, &up.out[up.written..]) {
            Poll::Pending => Ok(false),
            Poll::Ready(Err(error)) => Err(Stop::Lost(failed("writing", &error))),
            Poll::Ready(Ok(0)) => Err(Stop::Lost(LinkError::Gone { doing: "writing" })),
            Poll::Ready(Ok(n)) => {
                up.written += n;
                up.unflushed = true;
                Ok(true)
            }
        }
    }

    /// The connection is of no more use: drops it and tells the session.
    fn lost(&mut self, cx: &Context<'_>, cause: LinkError) {
        self.up = None;
        let why = match &cause {
            LinkError::BadFrame => Some(Refusal::BadAuthentication),
            LinkError::Malformed(_) | LinkError::Violation { .. } => Some(Refusal::Malformed),
            _ => None,
        };
        if let Some(why) = why {
            self.rt.emit(Event::Refused {
                what: "link frame",
                why,
            });
        }
        let now = self.rt.now();
        if let Some(Ok(_)) = self.with(cx, |session| session.handle(now, Input::Lost(cause))) {
            self.shared.announce(Changes::ALL);
        }
    }
}

/// The session is over: so are its tickets.
pub(crate) fn forget_tickets(server: &ServerAuth, shared: &Shared) {
    let issued = shared.with_session(Session::take_issued);
    server.with_tickets(|tickets| {
        for ticket in &issued {
            tickets.remove(&ticket.id);
        }
    });
}

fn failed(doing: &'static str, error: &io::Error) -> LinkError {
    LinkError::Stream {
        doing,
        kind: error.kind(),
    }
}

/// Takes a whole frame off what was read before and `bytes`; what is left of `bytes` in the end is kept in `partial`.
fn next_frame(partial: &mut Vec<u8>, bytes: &mut &[u8]) -> Option<[u8; FRAME_LEN]> {
    if partial.is_empty()
        && let Some((frame, rest)) = bytes.split_first_chunk::<FRAME_LEN>()
    {
        *bytes = rest;
        return Some(*frame);
    }
    let (head, rest) = bytes.split_at(bytes.len().min(FRAME_LEN - partial.len()));
    partial.extend_from_slice(head);
    *bytes = rest;
    let frame = *partial.first_chunk::<FRAME_LEN>()?;
    *partial = Vec::new();
    Some(frame)
}

/// For tests of what an idle end costs.
#[cfg(test)]
pub(crate) const fn driver_len<R: Runtime, S>() -> usize {
    std::mem::size_of::<Driver<R, S>>()
}
