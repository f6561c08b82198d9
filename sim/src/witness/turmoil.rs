//! The second witness: turmoil 0.7, one paused tokio runtime per host, stepped in ticks.
//!
//! Its network is its own: segments with a latency per pair of hosts, TCP with credits, UDP without an MTU. Loss is left
//! at zero, since a lost message would end a TCP stream for good. A connect takes one way, not a round trip, and waits
//! for the accept. Each tick costs O(hosts³): worlds of tens of hosts.

use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use phantom_core::runtime::tokio::{Ended, Tasks, TokioTask};
use phantom_core::runtime::{Listener, Stream, Udp};
use phantom_core::units::Instant;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::peer::Host;
use super::{CONNECT_TIME_MAX, Player, Substrate, WitnessRuntime, WitnessStage};
use crate::host::PeerId;
use crate::stage::{Abilities, Delays, Program};

/// A stage on turmoil.
pub type TurmoilStage = WitnessStage<Turmoil>;

/// Turmoil's step. Its default of 1 ms costs ten times as much; what we judge is counted in seconds.
const TICK: Duration = Duration::from_millis(10);
/// Segments under way per stream, datagrams per socket, and connections that wait to be accepted. Turmoil panics when more
/// of the last arrive, so this is far above what a small world does.
const CAPACITY: usize = 1024;
/// The most that one segment carries. Turmoil bounds what is under way by segments, not by bytes: 4 MiB per direction.
const SEGMENT_BYTES_MAX: usize = 4096;
const DATAGRAM_BYTES_MAX: usize = 65_507;

type Addresses = Arc<Mutex<BTreeSet<IpAddr>>>;

/// The player.
pub struct Turmoil {
    sim: turmoil::Sim<'static>,
    delays: Delays,
    hosts: Vec<Slot>,
    addresses: Addresses,
}

struct Slot {
    id: PeerId,
    address: IpAddr,
    region: usize,
    /// What the host runs when it is started next.
    next: Arc<Mutex<Option<Started>>>,
    tasks: Arc<Mutex<Option<Arc<Tasks>>>>,
}

type Started = (Arc<Host>, Program<WitnessRuntime<Turmoil>>);

impl Player for Turmoil {
    type Substrate = Local;
    const ABILITIES: Abilities = Abilities {
        simulated_time: true,
        repeatable: true,
        hosts_are_ours: true,
        dual_stack: false,
    };

    fn new(seed: u64, delays: Delays) -> Self {
        let mut builder = turmoil::Builder::new();
        // It has no limit of its own: a stage runs as far as it is told.
        builder
            .rng_seed(seed)
            .tick_duration(TICK)
            .simulation_duration(Duration::from_secs(u32::MAX.into()));
        builder
            .tcp_capacity(CAPACITY)
            .udp_capacity(CAPACITY)
            .fail_rate(0.0);
        // Panics in a task are found through its task tree; turmoil itself would hide them.
        let sim = builder.build();
        Self {
            sim,
            delays,
            hosts: Vec::new(),
            addresses: Addresses::default(),
        }
    }

    fn add(&mut self, host: &Arc<Host>) {
        let address = host.spec.addresses[0];
        let slot = Slot {
            id: host.id,
            address,
            region: host.spec.region,
            next: Arc::default(),
            tasks: Arc::default(),
        };
        let (next, tasks, addresses) = (slot.next.clone(), slot.tasks.clone(), self.addresses.clone());
        self.sim.host(address, move || {
            let started = lock(&next).take();
            let (tasks, addresses) = (tasks.clone(), addresses.clone());
            async move {
                if let Some((host, program)) = started {
                    let tree = Tasks::new(tokio::runtime::Handle::current());
                    *lock(&tasks) = Some(tree.clone());
                    let local = Local {
                        address,
                        tasks: tree.clone(),
                        addresses,
                    };
                    tree.spawn("program", program(host.runtime(local)));
                }
                // A host whose software ended would not be stepped: its tasks would stop.
                std::future::pending().await
            }
        });
        for other in &self.hosts {
            let one_way = self.delays.one_way(other.region, slot.region);
            self.sim.set_link_latency(other.address, address, one_way);
        }
        lock(&self.addresses).insert(address);
        self.hosts.push(slot);
    }

    fn start(&mut self, host: &Arc<Host>, program: Program<WitnessRuntime<Self>>) {
        let slot = &self.hosts[host.id.index()];
        *lock(&slot.next) = Some((host.clone(), program));
        self.sim.bounce(slot.address);
    }

    fn kill(&mut self, host: &Arc<Host>) {
        // Bounced into idleness, not crashed: a crashed host answers nothing, and gets what was sent to it meanwhile
        // when it is back.
        let slot = &self.hosts[host.id.index()];
        if let Some(tasks) = lock(&slot.tasks).take() {
            tasks.close(Ended::Shutdown);
        }
        self.sim.bounce(slot.address);
    }

    fn advance(&mut self, to: Instant) {
        while self.sim.elapsed() < to.since_start() {
            if let Err(e) = self.sim.step() {
                panic!("turmoil: {e}");
            }
            for slot in &self.hosts {
                let ended = lock(&slot.tasks).as_ref().and_then(|tasks| tasks.ended());
                if let Some(Ended::Panicked(task)) = ended {
                    panic!("{}: task {task:?} panicked", slot.id);
                }
            }
        }
    }
}

/// What one host has of turmoil.
#[derive(Clone)]
pub struct Local {
    address: IpAddr,
    tasks: Arc<Tasks>,
    addresses: Addresses,
}

impl Local {
    /// Turmoil binds only to "any address".
    fn own(&self, at: SocketAddr) -> io::Result<SocketAddr> {
        let any: IpAddr = if self.address.is_ipv4() {
            [0; 4].into()
        } else {
            [0_u16; 8].into()
        };
        if at.ip() == self.address || at.ip() == any {
            Ok(SocketAddr::new(any, at.port()))
        } else {
            Err(io::ErrorKind::AddrNotAvailable.into())
        }
    }

    fn exists(&self, address: IpAddr) -> bool {
        lock(&self.addresses).contains(&address)
    }
}

impl Substrate for Local {
    type Sleep = tokio::time::Sleep;
    type Task = TokioTask;
    type Stream = TurmoilStream;
    type Listener = TurmoilListener;
    type Udp = TurmoilUdp;

    fn now(&self) -> Instant {
        Instant::ZERO + turmoil::sim_elapsed().expect("only what runs on a host asks for the time")
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a back end of the runtime, on turmoil's clock"
    )]
    fn sleep_until(&self, at: Instant) -> tokio::time::Sleep {
        tokio::time::sleep(at.saturating_since(self.now()))
    }

    fn spawn<F: Future<Output = ()> + Send + 'static>(&self, name: &'static str, future: F) -> TokioTask {
        self.tasks.spawn(name, future)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a back end of the runtime, on turmoil's clock"
    )]
    async fn connect(&self, to: SocketAddr) -> io::Result<TurmoilStream> {
        if !self.exists(to.ip()) {
            tokio::time::sleep(CONNECT_TIME_MAX).await;
            return Err(io::ErrorKind::TimedOut.into());
        }
        TurmoilStream::new(turmoil::net::TcpStream::connect(to).await?)
    }

    async fn listen(&self, at: SocketAddr) -> io::Result<TurmoilListener> {
        let tcp = turmoil::net::TcpListener::bind(self.own(at)?).await?;
        let local = SocketAddr::new(at.ip(), tcp.local_addr()?.port());
        Ok(TurmoilListener { tcp, local })
    }

    async fn bind_udp(&self, at: SocketAddr) -> io::Result<TurmoilUdp> {
        let udp = turmoil::net::UdpSocket::bind(self.own(at)?).await?;
        let local = SocketAddr::new(at.ip(), udp.local_addr()?.port());
        Ok(TurmoilUdp {
            udp,
            local,
            host: self.clone(),
        })
    }
}

/// A stream.
#[derive(Debug)]
pub struct TurmoilStream {
    tcp: turmoil::net::TcpStream,
    local: SocketAddr,
    peer: SocketAddr,
    /// Turmoil reports a second shutdown as an error.
    shut_down: bool,
}

impl TurmoilStream {
    fn new(tcp: turmoil::net::TcpStream) -> io::Result<Self> {
        let (local, peer) = (tcp.local_addr()?, tcp.peer_addr()?);
        Ok(Self {
            tcp,
            local,
            peer,
            shut_down: false,
        })
    }
}

impl Stream for TurmoilStream {
    fn peer_addr(&self) -> SocketAddr {
        self.peer
    }
    fn local_addr(&self) -> SocketAddr {
        self.local
    }
}

impl AsyncRead for TurmoilStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_read(cx, buf)
    }
}

impl AsyncWrite for TurmoilStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, &buf[..buf.len().min(SEGMENT_BYTES_MAX)])
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.shut_down {
            return Poll::Ready(Ok(()));
        }
        self.shut_down = true;
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

/// A listener.
pub struct TurmoilListener {
    tcp: turmoil::net::TcpListener,
    local: SocketAddr,
}

impl Listener for TurmoilListener {
    type Stream = TurmoilStream;
    async fn accept(&mut self) -> io::Result<TurmoilStream> {
        TurmoilStream::new(self.tcp.accept().await?.0)
    }
    fn local_addr(&self) -> SocketAddr {
        self.local
    }
}

/// A datagram socket.
pub struct TurmoilUdp {
    udp: turmoil::net::UdpSocket,
    local: SocketAddr,
    host: Local,
}

impl Udp for TurmoilUdp {
    async fn send_to(&self, datagram: &[u8], to: SocketAddr) -> io::Result<()> {
        if self.host.exists(to.ip()) {
            self.udp.send_to(datagram, to).await.map(|_| ())
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
