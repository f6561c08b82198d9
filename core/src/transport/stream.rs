//! A connection of any transport, as a link sees it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::obfs4::Obfs4Stream;
use crate::link::Carrier;
use crate::runtime::Runtime;

/// A byte stream that a transport carries over `S`.
#[derive(Debug)]
pub enum Conveyed<R: Runtime, S> {
    /// The stream itself.
    Plain(S),
    /// Its bytes in obfs4. Behind a pointer: a link without it has no use for the room.
    Obfs4(Box<Obfs4Stream<R, S>>),
}

macro_rules! carried {
    ($self:ident, $method:ident ( $($argument:expr),* )) => {
        match $self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).$method($($argument),*),
            Self::Obfs4(stream) => Pin::new(&mut **stream).$method($($argument),*),
        }
    };
}

impl<R: Runtime, S: Carrier> AsyncRead for Conveyed<R, S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        carried!(self, poll_read(cx, buf))
    }
}

impl<R: Runtime, S: Carrier> AsyncWrite for Conveyed<R, S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        carried!(self, poll_write(cx, buf))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        carried!(self, poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        carried!(self, poll_shutdown(cx))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        carried!(self, poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Obfs4(stream) => stream.is_write_vectored(),
        }
    }
}
