//! Streams: for hyper, whose traits are its own, and with or without TLS.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use hyper::rt::ReadBufCursor;
use phantom_core::link::Carrier;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::tls::TlsStream;

/// Read at once for hyper; on the stack of a poll, so that a connection that waits holds none of it.
const READ_BYTES: usize = 8 << 10;

/// A stream as hyper wants it. The copy spares `unsafe`: its cursor may be uninitialised.
pub(crate) struct ForHyper<S>(pub(crate) S);

impl<S: AsyncRead + Unpin> hyper::rt::Read for ForHyper<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let mut bytes = [0; READ_BYTES];
        let wanted = buf.remaining().min(READ_BYTES);
        let mut read = ReadBuf::new(&mut bytes[..wanted]);
        ready!(Pin::new(&mut self.get_mut().0).poll_read(cx, &mut read))?;
        buf.put_slice(read.filled());
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> hyper::rt::Write for ForHyper<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }
}

/// A stream, within TLS or as it is, of which something was read already.
#[derive(Debug)]
pub struct WebStream<S> {
    inner: Inner<S>,
    early: Bytes,
}

#[derive(Debug)]
enum Inner<S> {
    Plain(S),
    /// On the heap: a TLS session has some kilobytes.
    Tls(Box<TlsStream<S>>),
}

impl<S> WebStream<S> {
    pub(crate) const fn plain(stream: S) -> Self {
        Self {
            inner: Inner::Plain(stream),
            early: Bytes::new(),
        }
    }

    pub(crate) fn tls(stream: TlsStream<S>) -> Self {
        Self {
            inner: Inner::Tls(Box::new(stream)),
            early: Bytes::new(),
        }
    }

    /// With what hyper read beyond the message that it was asked for.
    pub(crate) fn with_early(self, early: Bytes) -> Self {
        Self { early, ..self }
    }
}

impl<S: Carrier> AsyncRead for WebStream<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.early.is_empty() {
            let taken = this.early.len().min(buf.remaining());
            buf.put_slice(&this.early[..taken]);
            this.early.advance(taken);
            return Poll::Ready(Ok(()));
        }
        match &mut this.inner {
            Inner::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Inner::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl<S: Carrier> AsyncWrite for WebStream<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().inner {
            Inner::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Inner::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().inner {
            Inner::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Inner::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().inner {
            Inner::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Inner::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
