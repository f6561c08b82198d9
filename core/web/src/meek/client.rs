//! A client's end: one task asks, again and again, and moves what comes and goes through a pipe to whoever has the stream.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::StatusCode;
use hyper::header::HeaderValue;
use phantom_core::link::Carrier;
use phantom_core::runtime::{Runtime, timeout};
use rand_core::Rng;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, ReadBuf, ReadHalf};
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use super::BODY_MAX;
use super::exchange::Exchange;
use super::front::{Front, Fronts};
use super::pace::Pace;
use crate::error::WebError;
use crate::tls;

/// From connecting to the end of TLS.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);
/// From a request to the end of its answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);
/// A server that is busy (429, 5xx) is asked again, after twice the time each time, and as often as meek_lite does.
const TRIES_MAX: u32 = 10;
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LAST: Duration = Duration::from_secs(30);

/// How to come by a stream to a front: by the network, by a proxy, or as a test likes it.
pub trait Connect: Send + Sync + 'static {
    /// What comes of it.
    type Stream: Carrier;

    /// Connects to one of the front's addresses, or to its host and port.
    fn connect(&self, front: &Front) -> impl Future<Output = io::Result<Self::Stream>> + Send;

    /// How TLS with the front begins.
    ///
    /// # Errors
    /// A root that it is to be trusted by cannot be used.
    fn tls<R: Runtime>(&self, rt: &R, front: &Front) -> Result<tls::Client, tls::TrustError> {
        tls::Client::new(rt, &front.trust)
    }
}

/// A byte stream over meek.
///
/// A shutdown ends what this end sends, which the other end learns when the session is over: meek has no way to say it. What was written before the
/// stream is dropped is still sent.
pub struct MeekStream {
    pipe: DuplexStream,
    failed: Arc<Mutex<Option<WebError>>>,
    /// Tells the task when nobody has the stream any more.
    _held: oneshot::Sender<()>,
}

/// Opens a session with the server behind `fronts`, and asks it once to see that it is there.
///
/// # Errors
/// No front can be reached, or what answers is no meek server: another status than 200, a page of HTML, a body longer than [`BODY_MAX`]. One that is busy
/// is asked again, for some minutes.
pub async fn dial<R: Runtime, C: Connect>(
    rt: &R,
    fronts: &Fronts,
    connect: C,
) -> Result<MeekStream, WebError> {
    let mut session = Session::new(rt, fronts.clone(), connect);
    let first = session.ask(Bytes::new()).await?.unwrap_or_default();
    let (pipe, theirs) = tokio::io::duplex(BODY_MAX);
    let (held, dropped) = oneshot::channel();
    let failed = Arc::new(Mutex::new(None));
    let told = failed.clone();
    rt.spawn("meek", async move {
        // The pipe ends after the reason is there: whoever reads the end finds it.
        let (reader, mut writer) = tokio::io::split(theirs);
        let (reader, writer) = (&mut { reader }, &mut writer);
        if writer.write_all(&first).await.is_err() {
            return;
        }
        if let Err(error) = session.run(reader, writer, dropped).await {
            tracing::debug!(%error, "a meek session failed");
            *told.lock().expect("nobody panics with it") = Some(error);
        }
    });
    Ok(MeekStream {
        pipe,
        failed,
        _held: held,
    })
}

struct Session<R: Runtime, C: Connect> {
    rt: R,
    connect: C,
    fronts: Fronts,
    id: HeaderValue,
    open: Option<Exchange<C::Stream>>,
    /// Those that `open` is one of.
    of: Arc<[Front]>,
    /// Whether the server has answered once.
    began: bool,
}

impl<R: Runtime, C: Connect> Session<R, C> {
    fn new(rt: &R, fronts: Fronts, connect: C) -> Self {
        let mut id = [0_u8; 16];
        rt.rng("meek session").fill_bytes(&mut id);
        let id: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut id = HeaderValue::from_str(&id).expect("hexadecimal is printable");
        id.set_sensitive(true);
        Self {
            rt: rt.clone(),
            connect,
            of: fronts.current(),
            fronts,
            id,
            open: None,
            began: false,
        }
    }

    /// Asks until the session is over, the pipe's other end is gone, or something fails.
    async fn run(
        &mut self,
        reader: &mut ReadHalf<DuplexStream>,
        writer: &mut (impl AsyncWrite + Unpin),
        mut dropped: oneshot::Receiver<()>,
    ) -> Result<(), WebError> {
        let (mut pace, mut ended) = (Pace::default(), false);
        let mut body = vec![0; BODY_MAX];
        loop {
            let mut len = 0;
            let alarm = self.rt.sleep(pace.wait());
            let quiet = async {
                tokio::select! {
                    biased;
                    () = alarm => {}
                    () = left(&mut self.open) => {}
                }
            };
            tokio::select! {
                biased;
                end = fill(reader, &mut body, &mut len), if !ended => ended = end,
                _ = &mut dropped, if ended => return Ok(()),
                () = quiet => {}
            }
            if ended && len == 0 && dropped.try_recv() == Err(TryRecvError::Closed) {
                return Ok(());
            }
            let Some(received) = self.ask(Bytes::copy_from_slice(&body[..len])).await? else {
                return Ok(());
            };
            pace = pace.after(len, received.len());
            if writer.write_all(&received).await.is_err() {
                return Ok(());
            }
        }
    }

    /// One request and its answer, however often it takes; `None` when the session, which there was, is over.
    async fn ask(&mut self, body: Bytes) -> Result<Option<Bytes>, WebError> {
        let mut pause = RETRY_FIRST;
        for _ in 0..TRIES_MAX {
            let (status, answer) = self.ask_once(body.clone()).await?;
            match status {
                StatusCode::OK => {
                    self.began = true;
                    return Ok(Some(answer));
                }
                StatusCode::NOT_FOUND if self.began => return Ok(None),
                busy if busy.is_server_error() || busy == StatusCode::TOO_MANY_REQUESTS => {}
                got => {
                    let wanted = StatusCode::OK;
                    return Err(WebError::Answer { got, wanted });
                }
            }
            // The page that came with it is still on the way.
            self.open = None;
            self.rt.sleep(pause).await;
            pause = (pause * 2).min(RETRY_LAST);
        }
        Err(WebError::Strange("it is busy, however often it is asked"))
    }

    async fn ask_once(&mut self, body: Bytes) -> Result<(StatusCode, Bytes), WebError> {
        let rt = self.rt.clone();
        let id = self.id.clone();
        let asking = self.opened().await?.ask(&id, body);
        let answer = timeout(&rt, ANSWER_LIMIT, asking).await;
        let answer = answer.unwrap_or(Err(WebError::Slow(ANSWER_LIMIT, "asking a front")));
        if answer.is_err() {
            self.open = None;
        }
        answer
    }

    /// The connection there is, or another: to the first front that can be reached.
    async fn opened(&mut self) -> Result<&mut Exchange<C::Stream>, WebError> {
        let fronts = self.fronts.current();
        let is_current = Arc::ptr_eq(&fronts, &self.of);
        if !(is_current && self.open.as_ref().is_some_and(Exchange::is_open)) {
            self.open = None;
            self.of = fronts.clone();
            let mut last = WebError::Strange("there is no front to ask");
            for front in fronts.iter() {
                let opening = timeout(&self.rt, CONNECT_LIMIT, reach(&self.rt, &self.connect, front)).await;
                match opening.unwrap_or(Err(WebError::Slow(CONNECT_LIMIT, "connecting to a front"))) {
                    Ok(open) => {
                        self.open = Some(open);
                        break;
                    }
                    Err(error) => last = error,
                }
            }
            if self.open.is_none() {
                return Err(last);
            }
        }
        Ok(self.open.as_mut().expect("it was opened"))
    }
}

async fn reach<R: Runtime, C: Connect>(
    rt: &R,
    connect: &C,
    front: &Front,
) -> Result<Exchange<C::Stream>, WebError> {
    let tls = match front.url.tls {
        true => Some(connect.tls(rt, front)?),
        false => None,
    };
    let connected = connect.connect(front).await;
    let stream = connected.map_err(|source| WebError::Stream {
        doing: "connecting to a front",
        source,
    })?;
    Exchange::open(rt, tls.as_ref(), front, stream).await
}

/// Reads until nothing is there or `body` is full, one byte at least; whether that was the end.
async fn fill(reader: &mut ReadHalf<DuplexStream>, body: &mut [u8], len: &mut usize) -> bool {
    match reader.read(body).await {
        Ok(read @ 1..) => *len = read,
        _ => return true,
    }
    while *len < body.len() {
        // What is there now; a wait would be a poll's later.
        let more = std::future::poll_fn(|cx| {
            let mut rest = ReadBuf::new(&mut body[*len..]);
            let read = Pin::new(&mut *reader).poll_read(cx, &mut rest);
            Poll::Ready(match read {
                Poll::Ready(Ok(())) => Some(rest.filled().len()),
                Poll::Ready(Err(_)) => Some(0),
                Poll::Pending => None,
            })
        });
        match more.await {
            Some(0) => return true,
            Some(read) => *len += read,
            None => break,
        }
    }
    false
}

/// Never ready: sees to a connection while nothing is asked, and forgets it when the front hangs up.
async fn left<S: Carrier>(open: &mut Option<Exchange<S>>) {
    if let Some(exchange) = open {
        exchange.closed().await;
        *open = None;
    }
    std::future::pending().await
}

impl AsyncRead for MeekStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.pipe).poll_read(cx, buf))?;
        let is_end = buf.filled().len() == before && buf.remaining() > 0;
        match this
            .failed
            .lock()
            .expect("nobody panics with it")
            .take_if(|_| is_end)
        {
            Some(error) => Poll::Ready(Err(error.into())),
            None => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for MeekStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().pipe).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().pipe).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().pipe).poll_shutdown(cx)
    }
}

impl std::fmt::Debug for MeekStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MeekStream").finish_non_exhaustive()
    }
}
