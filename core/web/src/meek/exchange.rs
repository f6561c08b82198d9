//! One connection to a front: a request, its answer, and whether the front is still there in between.

use std::future::poll_fn;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, Connection, SendRequest};
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use phantom_core::link::Carrier;
use phantom_core::runtime::Runtime;

use super::front::Front;
use super::{BODY_MAX, SESSION_HEADER};
use crate::error::WebError;
use crate::io::{ForHyper, WebStream};
use crate::tls;
use crate::url::server_name;

/// The head of an answer, in bytes.
const HEAD_MAX: usize = 16 << 10;

/// A connection with HTTP on it.
pub(super) struct Exchange<S: Carrier> {
    sender: SendRequest<Full<Bytes>>,
    connection: Connection<ForHyper<WebStream<S>>, Full<Bytes>>,
    front: Front,
}

impl<S: Carrier> Exchange<S> {
    /// Begins TLS, if the front speaks it, and HTTP on `stream`.
    pub(super) async fn open<R: Runtime>(
        rt: &R,
        tls: Option<&tls::Client>,
        front: &Front,
        stream: S,
    ) -> Result<Self, WebError> {
        let stream = match tls {
            None => WebStream::plain(stream),
            Some(tls) => {
                let opened = tls::connect(rt, tls, server_name(&front.host)?, stream).await;
                WebStream::tls(opened.map_err(WebError::Tls)?)
            }
        };
        let mut builder = http1::Builder::new();
        builder.title_case_headers(true).max_buf_size(HEAD_MAX);
        let (sender, connection) = builder
            .handshake(ForHyper(stream))
            .await
            .map_err(|error| WebError::from_hyper("beginning HTTP", error))?;
        Ok(Self {
            sender,
            connection,
            front: front.clone(),
        })
    }

    /// Asks with `body`, at most [`BODY_MAX`] long; what is answered, no longer than that.
    pub(super) async fn ask(
        &mut self,
        session: &HeaderValue,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), WebError> {
        let request = request(&self.front, session, body);
        let answering = async {
            let answer = self.sender.send_request(request).await;
            read(answer.map_err(|error| WebError::from_hyper("asking a front", error))?).await
        };
        let mut answering = std::pin::pin!(answering);
        tokio::select! {
            biased;
            answer = &mut answering => answer,
            // Whatever ended it, the request knows.
            _ = poll_fn(|cx| self.connection.poll_without_shutdown(cx)) => answering.await,
        }
    }

    /// Ready when the front has hung up.
    pub(super) async fn closed(&mut self) {
        let _ = poll_fn(|cx| self.connection.poll_without_shutdown(cx)).await;
    }

    /// Whether it can be asked again.
    pub(super) fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }
}

pub(crate) fn request(front: &Front, session: &HeaderValue, body: Bytes) -> Request<Full<Bytes>> {
    Request::builder()
        .method(Method::POST)
        .uri(&front.url.path)
        .header(header::HOST, front.url.authority())
        .header(SESSION_HEADER, session)
        .header(header::CONTENT_LENGTH, body.len())
        .body(Full::new(body))
        .expect("a parsed url is good in a request")
}

async fn read(answer: Response<Incoming>) -> Result<(StatusCode, Bytes), WebError> {
    let status = answer.status();
    if status != StatusCode::OK {
        // Whatever page comes with it is not read.
        return Ok((status, Bytes::new()));
    }
    let kind = answer.headers().get(header::CONTENT_TYPE);
    if kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/html")) {
        return Err(WebError::Strange("a page of HTML: the front leads elsewhere"));
    }
    match Limited::new(answer.into_body(), BODY_MAX).collect().await {
        Ok(body) => Ok((status, body.to_bytes())),
        Err(error) => match error.downcast::<hyper::Error>() {
            Ok(error) => Err(WebError::from_hyper("reading an answer", *error)),
            Err(error) => {
                debug_assert!(error.is::<LengthLimitError>());
                Err(WebError::Strange("a body of more than 64 KiB"))
            }
        },
    }
}
