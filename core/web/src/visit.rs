//! A server's end of one connection: TLS if it speaks it, then requests and answers until one opens a tunnel or the visitor leaves.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, StatusCode};
use phantom_core::link::Carrier;
use phantom_core::runtime::{Runtime, timeout};
use phantom_core::units::Instant;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::watch;

use crate::error::WebError;
use crate::io::{ForHyper, WebStream};
use crate::site::Answer;
use crate::tls;

/// A handshake takes no longer.
const TLS_LIMIT: Duration = Duration::from_secs(30);
/// From one request's head to the next, whatever trickles in between: longer than meek's slowest poll and any idle limit of a front's that matters.
const REQUEST_LIMIT: Duration = Duration::from_secs(75);
/// A request's head, in bytes and in headers: what nginx and Apache take.
const HEAD_MAX: usize = 16 << 10;
const HEADERS_MAX: usize = 100;

/// TLS, or none where another server has spoken it already.
pub(crate) async fn open<R: Runtime, S: Carrier>(
    rt: &R,
    tls: Option<&tls::Server>,
    stream: S,
) -> Result<WebStream<S>, WebError> {
    let Some(server) = tls else {
        return Ok(WebStream::plain(stream));
    };
    match timeout(rt, TLS_LIMIT, tls::accept(rt, server, stream)).await {
        Ok(opened) => Ok(WebStream::tls(opened.map_err(WebError::Tls)?)),
        Err(_) => Err(WebError::Slow(TLS_LIMIT, "a TLS handshake")),
    }
}

/// Answers requests on `stream` by `answer`. The stream comes back when one was answered by 101.
pub(crate) async fn serve<R, S, A, F>(
    rt: &R,
    stream: WebStream<S>,
    answer: A,
) -> Result<WebStream<S>, WebError>
where
    R: Runtime,
    S: Carrier,
    A: Fn(Request<Incoming>) -> F + Send + Sync,
    F: Future<Output = Answer> + Send,
{
    let is_tunnel = Arc::new(AtomicBool::new(false));
    let (asked, mut heard) = watch::channel(rt.now());
    let service = {
        // Behind pointers: what hyper polls may move.
        let (rt, answer, is_tunnel) = (Arc::new(rt.clone()), Arc::new(answer), is_tunnel.clone());
        service_fn(move |request| {
            asked.send_replace(rt.now());
            let (answering, is_tunnel) = (answer(request), is_tunnel.clone());
            Box::pin(async move {
                let answer = answering.await;
                if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
                    is_tunnel.store(true, Ordering::Relaxed);
                }
                Ok::<_, std::convert::Infallible>(answer)
            })
        })
    };
    let mut builder = http1::Builder::new();
    builder
        // The date is the runtime's: the site writes it.
        .auto_date_header(false)
        .header_read_timeout(None)
        .title_case_headers(true)
        .max_headers(HEADERS_MAX)
        .max_buf_size(HEAD_MAX);
    let mut serving = builder.serve_connection(ForHyper(stream), service);
    let mut last: Instant = *heard.borrow_and_update();
    loop {
        let alarm = rt.sleep_until(last + REQUEST_LIMIT);
        tokio::select! {
            biased;
            ended = std::future::poll_fn(|cx| serving.poll_without_shutdown(cx)) => {
                ended.map_err(|error| WebError::from_hyper("serving a visitor", error))?;
                break;
            }
            () = alarm => {
                let newest = *heard.borrow_and_update();
                if newest == last {
                    return Err(WebError::Visitor);
                }
                last = newest;
            }
        }
    }
    if !is_tunnel.load(Ordering::Relaxed) {
        let mut stream = serving.into_parts().io.0;
        // As a web server says goodbye; whether it is heard is no matter.
        let _ = timeout(rt, TLS_LIMIT, tokio::io::AsyncWriteExt::shutdown(&mut stream)).await;
        return Err(WebError::Visitor);
    }
    let parts = serving.into_parts();
    Ok(parts.io.0.with_early(parts.read_buf))
}

/// A path that only clients know. Compared by its hash, so that the time tells nothing of how much of a guess is right.
#[derive(Clone)]
pub(crate) struct SecretPath([u8; 32]);

impl SecretPath {
    pub(crate) fn new(path: &str) -> Self {
        Self(Sha256::digest(path).into())
    }

    pub(crate) fn is(&self, path: &str) -> bool {
        Self::new(path).0.ct_eq(&self.0).into()
    }
}

impl std::fmt::Debug for SecretPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretPath(..)")
    }
}
