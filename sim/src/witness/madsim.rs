//! The third witness: madsim 0.2, its own executor, which picks the next ready task at random (from the seed).
//!
//! Built only with `--cfg madsim`: it then replaces the process's clock and entropy while a world runs. One range of
//! latencies holds for all pairs of hosts; a connect takes no round trip; writes never block; there is no MTU. It has no
//! half close either, so our adapter puts each write in a frame with its length, and an empty frame ends a direction.

use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use madsim::runtime::{NodeHandle, Runtime};
use madsim::time::TimeHandle;
use phantom_core::runtime::{Listener, Stream, Task, Udp};
use phantom_core::units::Instant;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::peer::Host;
use super::{CONNECT_TIME_MAX, Player, Substrate, WitnessRuntime, WitnessStage};
use crate::stage::{Abilities, Delays, Program};

/// A stage on madsim.
pub type MadsimStage = WitnessStage<Madsim>;

/// The most that one frame carries.
const FRAME_BYTES_MAX: usize = 64 * 1024;
const HEADER_BYTES: usize = 4;
const DATAGRAM_BYTES_MAX: usize = 65_507;

type Addresses = Arc<Mutex<BTreeSet<IpAddr>>>;
type Started = (Arc<Host>, Program<WitnessRuntime<Madsim>>);

/// The player.
pub struct Madsim {
    rt: Runtime,
    hosts: Vec<(NodeHandle, Arc<Mutex<Option<Started>>>)>,
    addresses: Addresses,
}

impl Player for Madsim {
    type Substrate = Local;
    const ABILITIES: Abilities = Abilities {
        simulated_time: true,
        repeatable: true,
        hosts_are_ours: true,
        dual_stack: false,
    };

    fn new(seed: u64, delays: Delays) -> Self {
        let regions = 0..delays.regions();
        let all = regions.clone().flat_map(|a| regions.clone().map(move |b| (a, b)));
        let one_ways: Vec<Duration> = all.map(|(a, b)| delays.one_way(a, b)).collect();
        let (least, most) = (one_ways.iter().min(), one_ways.iter().max());
        let mut config = madsim::Config::default();
        config.net.send_latency =
            *least.unwrap_or(&Duration::ZERO)..*most.unwrap_or(&Duration::ZERO) + Duration::from_nanos(1);
        Self {
            rt: Runtime::with_seed_and_config(seed, config),
            hosts: Vec::new(),
            addresses: Addresses::default(),
        }
    }

    fn add(&mut self, host: &Arc<Host>) {
        let address = host.spec.addresses[0];
        let next: Arc<Mutex<Option<Started>>> = Arc::default();
        let (slot, addresses) = (next.clone(), self.addresses.clone());
        let init = move || {
            let (started, addresses) = (lock(&slot).take(), addresses.clone());
            async move {
                if let Some((host, program)) = started {
                    program(host.runtime(Local { address, addresses })).await;
                }
                // When a node's first task ends, madsim ends all its others.
                std::future::pending::<()>().await;
            }
        };
        let node = self
            .rt
            .create_node()
            .name(host.spec.name.clone())
            .ip(address)
            .init(init)
            .build();
        lock(&self.addresses).insert(address);
        self.hosts.push((node, next));
    }

    fn start(&mut self, host: &Arc<Host>, program: Program<WitnessRuntime<Self>>) {
        let (node, next) = &self.hosts[host.id.index()];
        *lock(next) = Some((host.clone(), program));
        self.rt.handle().restart(node.id());
    }

    fn kill(&mut self, host: &Arc<Host>) {
        self.rt.handle().kill(self.hosts[host.id.index()].0.id());
        // Killed tasks are dropped when the executor meets them: before time moves on, all have been.
        self.rt
            .block_on(async { madsim::time::sleep(Duration::from_millis(1)).await });
    }

    fn advance(&mut self, to: Instant) {
        self.rt.block_on(async move {
            let time = TimeHandle::current();
            madsim::time::sleep(to.since_start().saturating_sub(time.elapsed())).await;
        });
    }
}

/// What one host has of madsim.
#[derive(Clone)]
pub struct Local {
    address: IpAddr,
    addresses: Addresses,
}

impl Local {
    fn own(&self, at: SocketAddr) -> io::Result<SocketAddr> {
        if at.ip() == self.address || at.ip().is_unspecified() && at.is_ipv4() == self.address.is_ipv4() {
            Ok(SocketAddr::new(self.address, at.port()))
        } else {
            Err(io::ErrorKind::AddrNotAvailable.into())
        }
    }

    fn exists(&self, address: IpAddr) -> bool {
        lock(&self.addresses).contains(&address)
    }
}

/// A handle to a task.
pub struct MadsimTask(madsim::task::AbortHandle);

impl Task for MadsimTask {
    fn abort(&self) {
        self.0.abort();
    }
}

impl Substrate for Local {
    type Sleep = madsim::time::Sleep;
    type Task = MadsimTask;
    type Stream = MadsimStream;
    type Listener = MadsimListener;
    type Udp = MadsimUdp;

    fn now(&self) -> Instant {
        Instant::ZERO + TimeHandle::current().elapsed()
    }

    fn sleep_until(&self, at: Instant) -> madsim::time::Sleep {
        madsim::time::sleep(at.saturating_since(self.now()))
    }

    fn spawn<F: Future<Output = ()> + Send + 'static>(&self, _name: &'static str, future: F) -> MadsimTask {
        MadsimTask(madsim::task::spawn(future).abort_handle())
    }

    async fn connect(&self, to: SocketAddr) -> io::Result<MadsimStream> {
        if !self.exists(to.ip()) {
            madsim::time::sleep(CONNECT_TIME_MAX).await;
            return Err(io::ErrorKind::TimedOut.into());
        }
        MadsimStream::new(madsim::net::TcpStream::connect(to).await?)
    }

    async fn listen(&self, at: SocketAddr) -> io::Result<MadsimListener> {
        let tcp = madsim::net::TcpListener::bind(self.own(at)?).await?;
        let local = SocketAddr::new(at.ip(), tcp.local_addr()?.port());
        Ok(MadsimListener { tcp, local })
    }

    async fn bind_udp(&self, at: SocketAddr) -> io::Result<MadsimUdp> {
        let udp = madsim::net::UdpSocket::bind(self.own(at)?).await?;
        let local = SocketAddr::new(at.ip(), udp.local_addr()?.port());
        Ok(MadsimUdp {
            udp,
            local,
            host: self.clone(),
        })
    }
}

/// A stream of frames over madsim's stream.
#[derive(Debug)]
pub struct MadsimStream {
    tcp: madsim::net::TcpStream,
    local: SocketAddr,
    peer: SocketAddr,
    header: [u8; HEADER_BYTES],
    header_read: usize,
    /// Bytes of the current frame that are still to come.
    left: usize,
    read_ended: bool,
    write_ended: bool,
}

impl MadsimStream {
    fn new(tcp: madsim::net::TcpStream) -> io::Result<Self> {
        let (local, peer) = (tcp.local_addr()?, tcp.peer_addr()?);
        let header = [0; HEADER_BYTES];
        Ok(Self {
            tcp,
            local,
            peer,
            header,
            header_read: 0,
            left: 0,
            read_ended: false,
            write_ended: false,
        })
    }

    /// Sends one frame. Never pending: madsim's writes are buffered without a bound until they are flushed.
    fn poll_frame(&mut self, cx: &mut Context<'_>, payload: &[u8]) -> Poll<io::Result<()>> {
        let header = (payload.len() as u32).to_be_bytes();
        let mut tcp = Pin::new(&mut self.tcp);
        ready!(tcp.as_mut().poll_write(cx, &header))?;
        ready!(tcp.as_mut().poll_write(cx, payload))?;
        tcp.poll_flush(cx)
    }
}

impl Stream for MadsimStream {
    fn peer_addr(&self) -> SocketAddr {
        self.peer
    }
    fn local_addr(&self) -> SocketAddr {
        self.local
    }
}

impl AsyncRead for MadsimStream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while !this.read_ended && buf.remaining() > 0 {
            if this.left > 0 {
                let wanted = this.left.min(buf.remaining());
                let mut part = ReadBuf::new(buf.initialize_unfilled_to(wanted));
                ready!(Pin::new(&mut this.tcp).poll_read(cx, &mut part))?;
                let read = part.filled().len();
                buf.advance(read);
                this.left -= read;
                this.read_ended = read == 0;
                return Poll::Ready(Ok(()));
            }
            let mut header = ReadBuf::new(&mut this.header[this.header_read..]);
            ready!(Pin::new(&mut this.tcp).poll_read(cx, &mut header))?;
            let read = header.filled().len();
            this.header_read += read;
            if this.header_read == HEADER_BYTES {
                this.header_read = 0;
                this.left = u32::from_be_bytes(this.header) as usize;
                this.read_ended = this.left == 0;
            }
            // The other end is gone without an empty frame: dropped.
            this.read_ended |= read == 0;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for MadsimStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        if self.write_ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let payload = &buf[..buf.len().min(FRAME_BYTES_MAX)];
        if !payload.is_empty() {
            ready!(self.poll_frame(cx, payload))?;
        }
        Poll::Ready(Ok(payload.len()))
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !std::mem::replace(&mut self.write_ended, true) {
            // Nobody is there to learn of the end: that is no error.
            let _ = ready!(self.poll_frame(cx, &[]));
        }
        Poll::Ready(Ok(()))
    }
}

/// A listener.
#[derive(Debug)]
pub struct MadsimListener {
    tcp: madsim::net::TcpListener,
    local: SocketAddr,
}

impl Listener for MadsimListener {
    type Stream = MadsimStream;
    async fn accept(&mut self) -> io::Result<MadsimStream> {
        MadsimStream::new(self.tcp.accept().await?.0)
    }
    fn local_addr(&self) -> SocketAddr {
        self.local
    }
}

/// A datagram socket.
pub struct MadsimUdp {
    udp: madsim::net::UdpSocket,
    local: SocketAddr,
    host: Local,
}

impl Udp for MadsimUdp {
    async fn send_to(&self, datagram: &[u8], to: SocketAddr) -> io::Result<()> {
        if self.host.exists(to.ip()) {
            self.udp.send_to(to, datagram).await
        } else {
            Ok(())
        }
    }
    async fn recv_from(&self) -> io::Result<(Bytes, SocketAddr)> {
        let mut buf = vec![0; DATAGRAM_BYTES_MAX];
        let (len, from) = self.udp.recv_from(&mut buf).await?;
        Ok((Bytes::copy_from_slice(&buf[..len]), from))
    }
    fn local_addr(&self) -> SocketAddr {
        self.local
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
