//! The first witness: tokio's own scheduler on one thread with its clock paused; the network is channels with delays.
//!
//! Time has tokio's grain of 1 ms: a sleep ends at the first whole millisecond after its instant. Bandwidth is unlimited
//! and nothing is lost; a window of 256 KiB per direction gives back-pressure.

use std::collections::{BTreeMap, VecDeque};
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
use tokio::sync::{Notify, mpsc};

use super::peer::Host;
use super::pipe::{Receiver, Sender, pipe};
use super::{CONNECT_TIME_MAX, Player, Substrate, WitnessRuntime, WitnessStage};
use crate::host::PeerId;
use crate::stage::{Abilities, Delays, Program};

/// A stage on paused tokio.
pub type PausedStage = WitnessStage<Paused>;

/// Connections that wait to be accepted.
const BACKLOG: usize = 1024;
/// Datagrams that wait to be received, per socket; more are lost.
const DATAGRAMS_MAX: usize = 1024;
/// Larger datagrams are lost: 1500 bytes of Ethernet less the headers of IPv6 and UDP.
const DATAGRAM_BYTES_MAX: usize = 1452;
/// Within one host.
const LOCAL_DELAY: Duration = Duration::from_micros(50);
const FIRST_FREE_PORT: u16 = 49_152;

/// The player.
pub struct Paused {
    rt: tokio::runtime::Runtime,
    start: tokio::time::Instant,
    network: Arc<Network>,
    tasks: BTreeMap<PeerId, Arc<Tasks>>,
}

impl Player for Paused {
    type Substrate = Local;
    const ABILITIES: Abilities = Abilities {
        simulated_time: true,
        repeatable: true,
        hosts_are_ours: true,
        dual_stack: true,
    };

    #[expect(
        clippy::disallowed_methods,
        reason = "a back end of the runtime, on tokio's paused clock"
    )]
    fn new(_seed: u64, delays: Delays) -> Self {
        let rt = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build();
        let rt = rt.expect("a runtime without I/O needs no resource that could be short");
        // A whole millisecond of tokio's timer, so that whole milliseconds of ours are exact.
        let start = rt.block_on(async {
            tokio::time::sleep(Duration::from_millis(1)).await;
            tokio::time::Instant::now()
        });
        Self {
            rt,
            start,
            network: Arc::new(Network {
                delays,
                state: Mutex::default(),
            }),
            tasks: BTreeMap::new(),
        }
    }

    fn add(&mut self, host: &Arc<Host>) {
        let mut state = self.network.lock();
        for address in &host.spec.addresses {
            state.hosts.insert(*address, host.spec.region);
        }
    }

    fn start(&mut self, host: &Arc<Host>, program: Program<WitnessRuntime<Self>>) {
        let tasks = Tasks::new(self.rt.handle().clone());
        self.tasks.insert(host.id, tasks.clone());
        let local = Local {
            start: self.start,
            tasks: tasks.clone(),
            network: self.network.clone(),
            host: host.clone(),
        };
        tasks.spawn("program", program(host.runtime(local)));
    }

    fn kill(&mut self, host: &Arc<Host>) {
        if let Some(tasks) = self.tasks.remove(&host.id) {
            tasks.close(Ended::Shutdown);
            self.rt.block_on(tasks.gone());
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a back end of the runtime, on tokio's paused clock"
    )]
    fn advance(&mut self, to: Instant) {
        let until = self.start + to.since_start();
        self.rt.block_on(async { tokio::time::sleep_until(until).await });
        for (peer, tasks) in &self.tasks {
            if let Some(Ended::Panicked(task)) = tasks.ended() {
                panic!("{peer}: task {task:?} panicked");
            }
        }
    }
}

struct Network {
    delays: Delays,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The region of every address.
    hosts: BTreeMap<IpAddr, usize>,
    listeners: BTreeMap<SocketAddr, mpsc::Sender<PausedStream>>,
    sockets: BTreeMap<SocketAddr, Arc<Inbox>>,
    next_port: BTreeMap<IpAddr, u16>,
}

impl Network {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From one address to another; `None` if nobody has it.
    fn delay(&self, from: IpAddr, to: IpAddr) -> Option<Duration> {
        let state = self.lock();
        let (a, b) = (state.hosts.get(&from)?, state.hosts.get(&to)?);
        Some(if from == to {
            LOCAL_DELAY
        } else {
            self.delays.one_way(*a, *b)
        })
    }
}

impl State {
    /// A port of `ip` that is neither listened on nor bound, and was not given out lately.
    fn free_port(&mut self, ip: IpAddr) -> io::Result<u16> {
        for _ in FIRST_FREE_PORT..=u16::MAX {
            let next = self.next_port.entry(ip).or_insert(FIRST_FREE_PORT);
            let at = SocketAddr::new(ip, *next);
            *next = next.checked_add(1).unwrap_or(FIRST_FREE_PORT);
            if !self.listeners.contains_key(&at) && !self.sockets.contains_key(&at) {
                return Ok(at.port());
            }
        }
        Err(io::ErrorKind::AddrNotAvailable.into())
    }
}

/// What one host has of paused tokio.
#[derive(Clone)]
pub struct Local {
    start: tokio::time::Instant,
    tasks: Arc<Tasks>,
    network: Arc<Network>,
    host: Arc<Host>,
}

impl Local {
    /// The host's address that reaches `to`: its first of that family.
    fn source(&self, to: IpAddr) -> io::Result<IpAddr> {
        if self.host.spec.addresses.contains(&to) {
            return Ok(to);
        }
        let same = self
            .host
            .spec
            .addresses
            .iter()
            .find(|own| own.is_ipv4() == to.is_ipv4());
        same.copied()
            .ok_or_else(|| io::ErrorKind::NetworkUnreachable.into())
    }

    /// The addresses that `at` stands for, and the port, chosen if it is 0.
    fn own(&self, at: SocketAddr, state: &mut State) -> io::Result<Vec<SocketAddr>> {
        let matches =
            |own: &&IpAddr| **own == at.ip() || at.ip().is_unspecified() && own.is_ipv4() == at.is_ipv4();
        let ips: Vec<IpAddr> = self.host.spec.addresses.iter().filter(matches).copied().collect();
        let first = *ips.first().ok_or(io::ErrorKind::AddrNotAvailable)?;
        let port = if at.port() == 0 {
            state.free_port(first)?
        } else {
            at.port()
        };
        Ok(ips.into_iter().map(|ip| SocketAddr::new(ip, port)).collect())
    }
}

impl Substrate for Local {
    type Sleep = tokio::time::Sleep;
    type Task = TokioTask;
    type Stream = PausedStream;
    type Listener = PausedListener;
    type Udp = PausedUdp;

    fn now(&self) -> Instant {
        Instant::ZERO + self.start.elapsed()
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a back end of the runtime, on tokio's paused clock"
    )]
    fn sleep_until(&self, at: Instant) -> tokio::time::Sleep {
        tokio::time::sleep_until(self.start + at.since_start())
    }

    fn spawn<F: Future<Output = ()> + Send + 'static>(&self, name: &'static str, future: F) -> TokioTask {
        self.tasks.spawn(name, future)
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a back end of the runtime, on tokio's paused clock"
    )]
    async fn connect(&self, to: SocketAddr) -> io::Result<PausedStream> {
        let from = self.source(to.ip())?;
        let Some(delay) = self.network.delay(from, to.ip()) else {
            tokio::time::sleep(CONNECT_TIME_MAX).await;
            return Err(io::ErrorKind::TimedOut.into());
        };
        let from = SocketAddr::new(from, self.network.lock().free_port(from)?);
        tokio::time::sleep(delay).await;
        let mine = self.network.lock().listeners.get(&to).and_then(|listener| {
            let ((sender, theirs), (back, receiver)) = (pipe(delay), pipe(delay));
            let stream = PausedStream {
                sender: back,
                receiver: theirs,
                local: to,
                peer: from,
            };
            listener.try_send(stream).ok()?;
            Some(PausedStream {
                sender,
                receiver,
                local: from,
                peer: to,
            })
        });
        tokio::time::sleep(delay).await;
        mine.ok_or_else(|| io::ErrorKind::ConnectionRefused.into())
    }

    async fn listen(&self, at: SocketAddr) -> io::Result<PausedListener> {
        let mut state = self.network.lock();
        let own = self.own(at, &mut state)?;
        if own.iter().any(|at| state.listeners.contains_key(at)) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let (sender, incoming) = mpsc::channel(BACKLOG);
        for at in &own {
            state.listeners.insert(*at, sender.clone());
        }
        let local = SocketAddr::new(at.ip(), own[0].port());
        Ok(PausedListener {
            incoming,
            own,
            local,
            network: self.network.clone(),
        })
    }

    async fn bind_udp(&self, at: SocketAddr) -> io::Result<PausedUdp> {
        let mut state = self.network.lock();
        let own = self.own(at, &mut state)?;
        if own.iter().any(|at| state.sockets.contains_key(at)) {
            return Err(io::ErrorKind::AddrInUse.into());
        }
        let inbox = Arc::new(Inbox::default());
        for at in &own {
            state.sockets.insert(*at, inbox.clone());
        }
        let local = SocketAddr::new(at.ip(), own[0].port());
        Ok(PausedUdp {
            inbox,
            own,
            local,
            from: self.clone(),
        })
    }
}

/// A stream: two pipes.
#[derive(Debug)]
pub struct PausedStream {
    sender: Sender,
    receiver: Receiver,
    local: SocketAddr,
    peer: SocketAddr,
}

impl Stream for PausedStream {
    fn peer_addr(&self) -> SocketAddr {
        self.peer
    }
    fn local_addr(&self) -> SocketAddr {
        self.local
    }
}

impl AsyncRead for PausedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.receiver.poll_read(cx, buf)
    }
}

impl AsyncWrite for PausedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.sender.poll_write(cx, buf)
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.sender.end();
        Poll::Ready(Ok(()))
    }
}

/// A listener.
pub struct PausedListener {
    incoming: mpsc::Receiver<PausedStream>,
    own: Vec<SocketAddr>,
    local: SocketAddr,
    network: Arc<Network>,
}

impl Listener for PausedListener {
    type Stream = PausedStream;
    async fn accept(&mut self) -> io::Result<PausedStream> {
        self.incoming
            .recv()
            .await
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
    fn local_addr(&self) -> SocketAddr {
        self.local
    }
}

impl Drop for PausedListener {
    fn drop(&mut self) {
        let mut state = self.network.lock();
        for at in &self.own {
            state.listeners.remove(at);
        }
    }
}

/// Datagrams on their way to a socket, in order of arrival.
#[derive(Default)]
struct Inbox {
    queue: Mutex<VecDeque<(tokio::time::Instant, Bytes, SocketAddr)>>,
    arrived: Notify,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, VecDeque<(tokio::time::Instant, Bytes, SocketAddr)>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A datagram socket.
pub struct PausedUdp {
    inbox: Arc<Inbox>,
    own: Vec<SocketAddr>,
    local: SocketAddr,
    from: Local,
}

impl Udp for PausedUdp {
    #[expect(
        clippy::disallowed_methods,
        reason = "a back end of the runtime, on tokio's paused clock"
    )]
    async fn send_to(&self, datagram: &[u8], to: SocketAddr) -> io::Result<()> {
        let source = self.from.source(to.ip())?;
        let from = self
            .own
            .iter()
            .find(|own| own.ip() == source)
            .ok_or(io::ErrorKind::NetworkUnreachable)?;
        let Some(delay) = self.from.network.delay(source, to.ip()) else {
            return Ok(());
        };
        let inbox = self.from.network.lock().sockets.get(&to).cloned();
        if let Some(inbox) = inbox
            && datagram.len() <= DATAGRAM_BYTES_MAX
        {
            let arrives = tokio::time::Instant::now() + delay;
            let mut queue = inbox.lock();
            if queue.len() < DATAGRAMS_MAX {
                let place = queue.partition_point(|(at, ..)| *at <= arrives);
                queue.insert(place, (arrives, Bytes::copy_from_slice(datagram), *from));
                drop(queue);
                inbox.arrived.notify_one();
            }
        }
        Ok(())
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "a back end of the runtime, on tokio's paused clock"
    )]
    async fn recv_from(&self) -> io::Result<(Bytes, SocketAddr)> {
        loop {
            let next = {
                let mut queue = self.inbox.lock();
                let next = queue.front().map(|(at, ..)| *at);
                if next.is_some_and(|at| at <= tokio::time::Instant::now())
                    && let Some((_, datagram, from)) = queue.pop_front()
                {
                    if !queue.is_empty() {
                        // Another task may wait for the next.
                        self.inbox.arrived.notify_one();
                    }
                    return Ok((datagram, from));
                }
                next
            };
            let arrived = self.inbox.arrived.notified();
            match next {
                // An earlier one may overtake it.
                Some(at) => tokio::select! {
                    biased;
                    () = tokio::time::sleep_until(at) => {}
                    () = arrived => {}
                },
                None => arrived.await,
            }
        }
    }

    fn local_addr(&self) -> SocketAddr {
        self.local
    }
}

impl Drop for PausedUdp {
    fn drop(&mut self) {
        let mut state = self.from.network.lock();
        for at in &self.own {
            state.sockets.remove(at);
        }
    }
}
