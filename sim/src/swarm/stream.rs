//! A stream as a program holds it; what happens to it in the network is in `transport`.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::segments::{Endpoint, endpoint};
use super::slab::Key;
use super::world::Shared;

/// One end of a simulated stream.
pub struct Stream {
    shared: Arc<Shared>,
    conn: Key,
    side: usize,
    local: Endpoint,
    remote: Endpoint,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream")
            .field("local", &SocketAddr::from(self.local))
            .field("remote", &SocketAddr::from(self.remote))
            .finish_non_exhaustive()
    }
}

impl Stream {
    /// Dials `to`; the stream is not connected yet, see [`Stream::poll_connected`].
    pub(crate) fn dial(
        shared: &Arc<Shared>,
        peer: u32,
        incarnation: u32,
        to: SocketAddr,
    ) -> io::Result<Self> {
        let (conn, local) = shared.state().dial(peer, incarnation, to)?;
        Ok(Self {
            shared: Arc::clone(shared),
            conn,
            side: 0,
            local: endpoint(local),
            remote: endpoint(to),
        })
    }

    pub(crate) fn accepted(shared: &Arc<Shared>, conn: Key, local: Endpoint, remote: Endpoint) -> Self {
        Self {
            shared: Arc::clone(shared),
            conn,
            side: 1,
            local,
            remote,
        }
    }

    pub(crate) fn poll_connected(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut state = self.shared.state();
        let Some(conn) = state.conns.get_mut(self.conn) else {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        };
        if let Some(error) = conn.ends[0].error {
            return Poll::Ready(Err(error.into()));
        }
        if conn.established {
            return Poll::Ready(Ok(()));
        }
        wait(&mut conn.dialling, cx);
        Poll::Pending
    }
}

impl phantom_core::runtime::Stream for Stream {
    fn peer_addr(&self) -> SocketAddr {
        self.remote.into()
    }
    fn local_addr(&self) -> SocketAddr {
        self.local.into()
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.shared.state().read(self.conn, self.side, cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.shared.state().write(self.conn, self.side, cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shared.state().finish(self.conn, self.side);
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.shared.state().close(self.conn, self.side);
    }
}

/// Leaves `cx`'s waker in `place`.
pub(crate) fn wait(place: &mut Option<Waker>, cx: &Context<'_>) {
    if !place.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
        *place = Some(cx.waker().clone());
    }
}
