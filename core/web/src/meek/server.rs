//! A server's end: sessions by their name, each a pipe to whoever takes it.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};
use phantom_core::link::Carrier;
use phantom_core::runtime::{Runtime, timeout};
use phantom_core::units::Instant;
use rand_core::Rng;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, DuplexStream, ReadBuf};
use tokio::sync::mpsc;

use super::{BODY_MAX, SESSION_HEADER, SESSION_IDLE, TURNAROUND};
use crate::error::WebError;
use crate::site::{Answer, Site};
use crate::tls;
use crate::url::WebUrl;
use crate::visit::{self, SecretPath};

/// How long whoever has a session may leave its bytes lying before the session is given up.
const TAKE_LIMIT: Duration = Duration::from_secs(20);
/// How long a request's body may take.
const BODY_LIMIT: Duration = Duration::from_secs(60);
/// How often idle sessions are looked for.
const SWEEP: Duration = Duration::from_secs(10);
/// The name of a session, in bytes: meek's server wants 8 at least, and nobody sends more than this.
const NAME_LEN: std::ops::RangeInclusive<usize> = 8..=128;

/// What a server holds at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Sessions, those that ended within [`SESSION_IDLE`] among them. Each has two pipes of [`BODY_MAX`] bytes when both are full.
    pub sessions: usize,
    /// Sessions that nobody has taken yet.
    pub waiting: usize,
}

impl Default for Limits {
    /// 512 sessions, 64 MiB in the worst case, and 16 that wait.
    fn default() -> Self {
        Self {
            sessions: 512,
            waiting: 16,
        }
    }
}

/// A server: who asks on the secret path and names a session is answered with its bytes, everybody else with the web site.
#[derive(Clone)]
pub struct Server {
    inner: Arc<Inner>,
}

struct Inner {
    path: SecretPath,
    site: Site,
    tls: Option<tls::Server>,
    limits: Limits,
    /// Hashed with a session's name, so that how long a search takes says nothing of any name.
    key: [u8; 32],
    sessions: Mutex<BTreeMap<[u8; 32], Arc<Session>>>,
    taken: mpsc::Sender<DuplexStream>,
}

struct Session {
    /// One request is served at a time; `None` when the session is over.
    pipe: tokio::sync::Mutex<Option<DuplexStream>>,
    asked: Mutex<Instant>,
}

/// Where a server's sessions come out.
#[derive(Debug)]
pub struct Sessions(mpsc::Receiver<DuplexStream>);

impl Sessions {
    /// The next session's bytes; `None` when the server is gone. Cancel safe.
    pub async fn next(&mut self) -> Option<DuplexStream> {
        self.0.recv().await
    }
}

impl Server {
    /// One that is asked at the path of `url`; without TLS behind a web server that speaks it.
    pub fn new<R: Runtime>(
        rt: &R,
        url: &WebUrl,
        site: Site,
        tls: Option<tls::Server>,
        limits: Limits,
    ) -> (Self, Sessions) {
        let (taken, sessions) = mpsc::channel(limits.waiting.max(1));
        let mut key = [0; 32];
        rt.rng("meek sessions").fill_bytes(&mut key);
        let inner = Inner {
            path: SecretPath::new(url.path_only()),
            site,
            tls,
            limits,
            key,
            sessions: Mutex::default(),
            taken,
        };
        let inner = Arc::new(inner);
        let (here, forgets) = (rt.clone(), Arc::downgrade(&inner));
        rt.spawn("meek sessions", async move {
            loop {
                here.sleep(SWEEP).await;
                match forgets.upgrade() {
                    Some(inner) => inner.forget_idle(here.now()),
                    None => return,
                }
            }
        });
        (Self { inner }, Sessions(sessions))
    }

    /// Serves whoever connected on `stream` until they leave.
    ///
    /// # Errors
    /// [`WebError::Visitor`] when they left as one leaves a web server; else what failed.
    pub async fn serve<R: Runtime, S: Carrier>(
        &self,
        rt: &R,
        stream: S,
    ) -> Result<std::convert::Infallible, WebError> {
        let stream = visit::open(rt, self.inner.tls.as_ref(), stream).await?;
        let answer = {
            let (rt, inner) = (rt.clone(), self.inner.clone());
            move |request| {
                let (rt, inner) = (rt.clone(), inner.clone());
                async move { inner.answer(&rt, request).await }
            }
        };
        // No answer of ours opens a tunnel.
        visit::serve(rt, stream, answer).await?;
        Err(WebError::Visitor)
    }

    /// Sessions that there are, ended ones among them until they are forgotten.
    pub fn len(&self) -> usize {
        self.inner.sessions.lock().expect("nobody panics with it").len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Inner {
    async fn answer<R: Runtime>(&self, rt: &R, request: Request<Incoming>) -> Answer {
        let (parts, body) = request.into_parts();
        let name = parts.headers.get(SESSION_HEADER).map(|name| name.as_bytes());
        let name = name.filter(|name| NAME_LEN.contains(&name.len()));
        let is_for_us = parts.method == Method::POST && self.path.is(parts.uri.path());
        let Some(name) = name.filter(|_| is_for_us) else {
            return self.site.answer(&parts.method, parts.uri.path(), rt.wall());
        };
        let says = |status| self.site.error(status, false, rt.wall());
        let body = timeout(rt, BODY_LIMIT, Limited::new(body, BODY_MAX).collect()).await;
        let Ok(Ok(body)) = body else {
            return says(StatusCode::BAD_REQUEST);
        };
        let name = Sha256::new()
            .chain_update(self.key)
            .chain_update(name)
            .finalize()
            .into();
        let Some(session) = self.session(name, rt.now()) else {
            return says(StatusCode::SERVICE_UNAVAILABLE);
        };
        match session.exchange(rt, &body.to_bytes()).await {
            Some(bytes) => {
                let kind = "application/octet-stream";
                self.site.plain(StatusCode::OK, bytes, kind, false, rt.wall())
            }
            None => says(StatusCode::NOT_FOUND),
        }
    }

    /// The session of this name, or a new one if there is room.
    fn session(&self, name: [u8; 32], now: Instant) -> Option<Arc<Session>> {
        if let Some(session) = self.sessions.lock().expect("nobody panics with it").get(&name) {
            *session.asked.lock().expect("nobody panics with it") = now;
            return Some(session.clone());
        }
        self.forget_idle(now);
        let mut sessions = self.sessions.lock().expect("nobody panics with it");
        if sessions.len() >= self.limits.sessions {
            return None;
        }
        let (ours, theirs) = tokio::io::duplex(BODY_MAX);
        self.taken.try_send(theirs).ok()?;
        let session = Arc::new(Session {
            pipe: tokio::sync::Mutex::new(Some(ours)),
            asked: Mutex::new(now),
        });
        sessions.insert(name, session.clone());
        Some(session)
    }

    /// Forgets the sessions that nobody has asked for in [`SESSION_IDLE`]: whoever has their bytes reads the end.
    fn forget_idle(&self, now: Instant) {
        let mut sessions = self.sessions.lock().expect("nobody panics with it");
        sessions.retain(|_, session| {
            let asked = *session.asked.lock().expect("nobody panics with it");
            now.saturating_since(asked) < SESSION_IDLE
        });
    }
}

impl Session {
    /// Hands over what came and takes what there is to send back; `None` when the session is over.
    async fn exchange<R: Runtime>(&self, rt: &R, body: &[u8]) -> Option<Bytes> {
        let mut place = self.pipe.lock().await;
        let pipe = place.as_mut()?;
        let taken = timeout(rt, TAKE_LIMIT, pipe.write_all(body)).await;
        // Whoever had it may be gone: what they said last is sent all the same.
        if taken.is_err() {
            *place = None;
            return None;
        }
        let mut answer = vec![0; BODY_MAX];
        let mut len = match timeout(rt, TURNAROUND, pipe.read(&mut answer)).await {
            Ok(Ok(read @ 1..)) => read,
            Ok(_) => {
                *place = None;
                return None;
            }
            Err(_) => 0,
        };
        while len > 0 && len < BODY_MAX {
            // What is there now.
            let more = std::future::poll_fn(|cx| {
                let mut rest = ReadBuf::new(&mut answer[len..]);
                Poll::Ready(match Pin::new(&mut *pipe).poll_read(cx, &mut rest) {
                    Poll::Ready(Ok(())) => rest.filled().len(),
                    _ => 0,
                })
            });
            match more.await {
                0 => break,
                more => len += more,
            }
        }
        answer.truncate(len);
        Some(answer.into())
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("meek::Server")
            .field("sessions", &self.len())
            .finish_non_exhaustive()
    }
}
