//! What can go wrong, and whose fault it is.

use std::io;
use std::time::Duration;

use hyper::StatusCode;
use thiserror::Error;

use crate::tls::TrustError;
use crate::url::UrlError;

/// Why there is no connection, or no more.
#[derive(Debug, Error)]
pub enum WebError {
    /// The stream under it failed.
    #[error("web: the connection failed while {doing}: {source}")]
    Stream {
        /// What was being done.
        doing: &'static str,
        /// What the runtime says.
        source: io::Error,
    },
    /// No TLS came about, or the server is not who it should be: rustls's reason is in it.
    #[error("web: no TLS: {0}")]
    Tls(io::Error),
    /// What came is no HTTP.
    #[error("web: the other end speaks no HTTP (theirs) while {doing}: {source}")]
    Http {
        /// What was being done.
        doing: &'static str,
        /// What hyper says.
        source: hyper::Error,
    },
    /// The other end took too long.
    #[error("web: nothing within {0:?} while {1}")]
    Slow(Duration, &'static str),
    /// A web server answers there, but no bridge: the path is wrong, or the front leads elsewhere.
    #[error(
        "web: the server answers {got} where {wanted} was wanted: not a bridge, or the address is wrong (the line's or the front's)"
    )]
    Answer {
        /// Its answer.
        got: StatusCode,
        /// Ours of a bridge.
        wanted: StatusCode,
    },
    /// An answer of the right number that is none of a bridge's.
    #[error("web: the server's answer is none of a bridge's (theirs): {0}")]
    Strange(&'static str),
    /// Whom to trust cannot be had.
    #[error("web: {0}")]
    Trust(#[from] TrustError),
    /// An address cannot be dialled.
    #[error("web: {0}")]
    Url(#[from] UrlError),
    /// Whoever connected is no client: it was shown the web site until it left or had nothing to ask.
    #[error("web: a visitor was shown the web site")]
    Visitor,
}

impl WebError {
    /// Of hyper, which wraps the stream's errors.
    pub(crate) fn from_hyper(doing: &'static str, error: hyper::Error) -> Self {
        Self::Http { doing, source: error }
    }
}

impl From<WebError> for io::Error {
    fn from(error: WebError) -> Self {
        let kind = match &error {
            WebError::Stream { source, .. } | WebError::Tls(source) => source.kind(),
            WebError::Http { source, .. } if source.is_incomplete_message() => io::ErrorKind::UnexpectedEof,
            WebError::Slow(..) => io::ErrorKind::TimedOut,
            WebError::Http { .. } | WebError::Answer { .. } | WebError::Strange(_) => {
                io::ErrorKind::InvalidData
            }
            WebError::Url(_) | WebError::Trust(_) => io::ErrorKind::InvalidInput,
            WebError::Visitor => io::ErrorKind::ConnectionAborted,
        };
        Self::new(kind, error)
    }
}
