//! Real sockets.

use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpSocket;

use crate::runtime::{Listener, Stream, Udp};

/// Connections the system may hold for a listener before they are accepted.
const BACKLOG: u32 = 1024;
/// The largest datagram there can be.
const DATAGRAM_BYTES_MAX: usize = 65_535;
/// Wait after the process ran out of descriptors: accepting again at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// What has arrived and was not read is discarded before a close, up to this much: see [`TokioStream`].
const DISCARD_BYTES_MAX: usize = 1 << 20;

#[expect(clippy::disallowed_types, reason = "the production back end of the runtime")]
type Tcp = tokio::net::TcpStream;
#[expect(clippy::disallowed_types, reason = "the production back end of the runtime")]
type TcpAccept = tokio::net::TcpListener;
#[expect(clippy::disallowed_types, reason = "the production back end of the runtime")]
type Datagrams = tokio::net::UdpSocket;

/// A TCP stream.
///
/// Closing a socket that holds unread bytes sends a reset, which destroys what the peer has not read yet. So a drop first
/// discards what has arrived. Bytes that arrive later still provoke a reset: a peer that goes on writing may lose the
/// tail, as with any TCP.
#[derive(Debug)]
pub struct TokioStream {
    /// `None` only while it is dropped.
    tcp: Option<Tcp>,
    peer: SocketAddr,
    local: SocketAddr,
}

impl TokioStream {
    fn new(tcp: Tcp) -> io::Result<Self> {
        // Frames are written whole: waiting for more to coalesce only costs latency.
        tcp.set_nodelay(true)?;
        let (peer, local) = (canonical(tcp.peer_addr()?), canonical(tcp.local_addr()?));
        Ok(Self {
            tcp: Some(tcp),
            peer,
            local,
        })
    }

    /// Connects from `source`, or from wherever the system chooses.
    pub(super) async fn connect(to: SocketAddr, source: Option<IpAddr>) -> io::Result<Self> {
        let socket = socket_for(to)?;
        if let Some(source) = source.filter(|source| source.is_ipv4() == to.is_ipv4()) {
            socket.bind(SocketAddr::new(source, 0))?;
        }
        Self::new(socket.connect(to).await?)
    }

    fn tcp(&mut self) -> io::Result<Pin<&mut Tcp>> {
        self.tcp
            .as_mut()
            .map(Pin::new)
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl Stream for TokioStream {
    fn peer_addr(&self) -> SocketAddr {
        self.peer
    }
    fn local_addr(&self) -> SocketAddr {
        self.local
    }
}

impl AsyncRead for TokioStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.tcp()?.poll_read(cx, buf)
    }
}

impl AsyncWrite for TokioStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.tcp()?.poll_write(cx, buf)
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp()?.poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp()?.poll_shutdown(cx)
    }
}

impl Drop for TokioStream {
    fn drop(&mut self) {
        // The standard library's type asks the system; tokio's would only ask what its driver saw last.
        let Some(mut tcp) = self.tcp.take().and_then(|tcp| tcp.into_std().ok()) else {
            return;
        };
        let mut discarded = 0;
        let mut buf = [0; 4096];
        while discarded < DISCARD_BYTES_MAX {
            match tcp.read(&mut buf) {
                Ok(0) | Err(_) => break,
                Ok(n) => discarded += n,
            }
        }
    }
}

/// A TCP listener.
#[derive(Debug)]
pub struct TokioListener {
    tcp: TcpAccept,
    local: SocketAddr,
}

impl TokioListener {
    pub(super) fn bind(at: SocketAddr) -> io::Result<Self> {
        let socket = socket_for(at)?;
        // A restarted service must get its port back while old connections linger in TIME_WAIT.
        socket.set_reuseaddr(true)?;
        socket.bind(at)?;
        let tcp = socket.listen(BACKLOG)?;
        let local = tcp.local_addr()?;
        Ok(Self { tcp, local })
    }
}

impl Listener for TokioListener {
    type Stream = TokioStream;

    #[expect(clippy::disallowed_methods, reason = "the production back end of the runtime")]
    async fn accept(&mut self) -> io::Result<TokioStream> {
        loop {
            match self.tcp.accept().await {
                // Fails if the peer has gone meanwhile: not the listener's trouble.
                Ok((tcp, _)) => match TokioStream::new(tcp) {
                    Ok(stream) => return Ok(stream),
                    Err(e) => tracing::debug!("an accepted stream was gone: {e}"),
                },
                Err(e) if is_about_one_connection(&e) => tracing::debug!("accept: {e}"),
                Err(e) if is_shortage(&e) => {
                    tracing::warn!("accept: {e}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
                Err(e) => return Err(e),
            }
        }
    }

    fn local_addr(&self) -> SocketAddr {
        self.local
    }
}

/// A UDP socket.
#[derive(Debug)]
pub struct TokioUdp {
    udp: Datagrams,
    local: SocketAddr,
}

impl TokioUdp {
    pub(super) async fn bind(at: SocketAddr) -> io::Result<Self> {
        let udp = Datagrams::bind(at).await?;
        let local = udp.local_addr()?;
        Ok(Self { udp, local })
    }
}

impl Udp for TokioUdp {
    async fn send_to(&self, datagram: &[u8], to: SocketAddr) -> io::Result<()> {
        self.udp.send_to(datagram, to).await.map(|_| ())
    }

    async fn recv_from(&self) -> io::Result<(Bytes, SocketAddr)> {
        let mut buf = BytesMut::with_capacity(DATAGRAM_BYTES_MAX);
        let (_, from) = self.udp.recv_buf_from(&mut buf).await?;
        // Copied: the caller may keep it, and must not keep 64 KiB with it.
        Ok((Bytes::copy_from_slice(&buf), canonical(from)))
    }

    fn local_addr(&self) -> SocketAddr {
        self.local
    }
}

fn socket_for(at: SocketAddr) -> io::Result<TcpSocket> {
    if at.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }
}

/// A socket of both families shows IPv4 peers as `::ffff:a.b.c.d`; rules and records want one form.
fn canonical(at: SocketAddr) -> SocketAddr {
    SocketAddr::new(at.ip().to_canonical(), at.port())
}

fn is_about_one_connection(e: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(
        e.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    )
}

/// Out of descriptors or memory: ENFILE, EMFILE, ENOMEM, ENOBUFS. Passes when connections end.
fn is_shortage(e: &io::Error) -> bool {
    matches!(e.raw_os_error(), Some(23 | 24 | 12 | 105))
}
