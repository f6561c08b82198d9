//! A small world for tests: one paused tokio clock, in-memory streams that record, cut and tamper.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

use crate::crypto::keys::LinkSecret;
use crate::event::Event;
use crate::link::{self, Accepted, BridgeSecret, ClientAuth, Config, Link, LinkError, PeerKind, ServerAuth};
use crate::runtime::{Clock, Entropy, Events, Listener, Net, Share, Spawn, Store, Stream, Task, Udp};
use crate::units::{Instant, WallTime};

/// One peer: a clock that stands while anything can run, and a generator.
#[derive(Clone)]
pub(super) struct TestRt {
    seed: u8,
    start: tokio::time::Instant,
    drawn: Arc<Mutex<u64>>,
    pub(super) events: Arc<Mutex<Vec<Event>>>,
    /// Seconds that the wall clock is off.
    pub(super) skew: Arc<Mutex<u64>>,
    pub(super) disk: Arc<Mutex<Disk>>,
}

impl TestRt {
    #[expect(clippy::disallowed_methods, reason = "a runtime back end, of tests")]
    pub(super) fn new(seed: u8) -> Self {
        Self {
            seed,
            start: tokio::time::Instant::now(),
            drawn: Arc::default(),
            events: Arc::default(),
            skew: Arc::default(),
            disk: Arc::default(),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a runtime back end, of tests")]
impl Clock for TestRt {
    type Sleep = tokio::time::Sleep;
    fn now(&self) -> Instant {
        let passed = tokio::time::Instant::now() - self.start;
        Instant::from_nanos(u64::try_from(passed.as_nanos()).unwrap())
    }
    fn wall(&self) -> WallTime {
        WallTime::from_unix_secs(1_800_000_000 + *self.skew.lock().unwrap()) + self.now().since_start()
    }
    fn sleep_until(&self, at: Instant) -> Self::Sleep {
        tokio::time::sleep_until(self.start + at.since_start())
    }
}

pub(super) struct TestTask(tokio::task::JoinHandle<()>);

impl Task for TestTask {
    fn abort(&self) {
        self.0.abort();
    }
}

#[expect(clippy::disallowed_methods, reason = "a runtime back end, of tests")]
impl Spawn for TestRt {
    type Task = TestTask;
    fn spawn<F>(&self, _: &'static str, future: F) -> TestTask
    where
        F: Future<Output = ()> + Send + 'static,
    {
        TestTask(tokio::spawn(future))
    }
}

impl Entropy for TestRt {
    fn rng(&self, label: &'static str) -> ChaCha12Rng {
        let mut drawn = self.drawn.lock().unwrap();
        *drawn += 1;
        let mut material = vec![self.seed];
        material.extend(drawn.to_be_bytes());
        material.extend(label.as_bytes());
        ChaCha12Rng::from_seed(blake3::derive_key("phantom-net 2026 test entropy v1", &material))
    }
}

impl Events for TestRt {
    fn emit(&self, event: Event) {
        self.events.lock().unwrap().push(event);
    }
}

impl Share for TestRt {
    fn shared<T, F>(&self, _: [u8; 32], make: F) -> Arc<T>
    where
        T: Send + Sync + 'static,
        F: FnOnce() -> T,
    {
        Arc::new(make())
    }
}

fn none<T>() -> io::Result<T> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Files that survive a restart of the program that wrote them, and may be told to fail.
#[derive(Default)]
pub(super) struct Disk {
    pub(super) files: BTreeMap<String, Vec<u8>>,
    pub(super) full: bool,
}

impl Disk {
    fn room(&self) -> io::Result<()> {
        match self.full {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }
}

impl Store for TestRt {
    async fn append(&self, file: &str, bytes: &[u8]) -> io::Result<u64> {
        let mut disk = self.disk.lock().unwrap();
        let full = disk.room();
        let held = disk.files.entry(file.to_owned()).or_default();
        let at = held.len() as u64;
        // A disk that is full may have taken a part.
        let taken = if full.is_ok() {
            bytes
        } else {
            &bytes[..bytes.len() / 2]
        };
        held.extend_from_slice(taken);
        full.map(|()| at)
    }
    async fn write(&self, file: &str, bytes: &[u8]) -> io::Result<()> {
        let mut disk = self.disk.lock().unwrap();
        disk.room()?;
        disk.files.insert(file.to_owned(), bytes.to_vec());
        Ok(())
    }
    async fn read(&self, file: &str) -> io::Result<Option<Bytes>> {
        let disk = self.disk.lock().unwrap();
        Ok(disk.files.get(file).map(|held| Bytes::copy_from_slice(held)))
    }
    async fn read_at(&self, _: &str, _: u64, _: usize) -> io::Result<Bytes> {
        none()
    }
    async fn remove(&self, file: &str) -> io::Result<()> {
        self.disk.lock().unwrap().files.remove(file);
        Ok(())
    }
    async fn list(&self, prefix: &str) -> io::Result<Vec<String>> {
        let disk = self.disk.lock().unwrap();
        let names = disk.files.keys().filter(|name| name.starts_with(prefix));
        Ok(names.cloned().collect())
    }
    async fn sync(&self, _: &str) -> io::Result<()> {
        self.disk.lock().unwrap().room()
    }
}

impl Net for TestRt {
    type Stream = Wire;
    type Listener = NoNet;
    type Udp = NoNet;
    async fn connect(&self, _: SocketAddr) -> io::Result<Wire> {
        none()
    }
    async fn listen(&self, _: SocketAddr) -> io::Result<NoNet> {
        none()
    }
    async fn bind_udp(&self, _: SocketAddr) -> io::Result<NoNet> {
        none()
    }
    async fn resolve(&self, _: &str) -> io::Result<Vec<IpAddr>> {
        none()
    }
}

pub(super) struct NoNet;

impl Listener for NoNet {
    type Stream = Wire;
    async fn accept(&mut self) -> io::Result<Wire> {
        none()
    }
    fn local_addr(&self) -> SocketAddr {
        ([127, 0, 0, 1], 1).into()
    }
}

impl Udp for NoNet {
    async fn send_to(&self, _: &[u8], _: SocketAddr) -> io::Result<()> {
        none()
    }
    async fn recv_from(&self) -> io::Result<(Bytes, SocketAddr)> {
        none()
    }
    fn local_addr(&self) -> SocketAddr {
        ([127, 0, 0, 1], 1).into()
    }
}

/// What happens to the bytes that one end writes.
#[derive(Default)]
pub(super) struct Path {
    /// Everything that was written.
    pub(super) seen: Vec<u8>,
    /// The stream breaks when so many bytes were written.
    pub(super) cut_at: Option<usize>,
    /// One bit of this byte arrives changed.
    pub(super) flip_at: Option<usize>,
    /// Writes are accepted and vanish.
    pub(super) swallow: bool,
    /// Takes no byte any more, as where the other end does not read.
    pub(super) full: bool,
    /// At most so many bytes are accepted at a time.
    pub(super) chunk: Option<usize>,
}

/// One end of an in-memory stream.
pub(super) struct Wire {
    inner: DuplexStream,
    pub(super) path: Arc<Mutex<Path>>,
}

impl Stream for Wire {
    fn peer_addr(&self) -> SocketAddr {
        ([127, 0, 0, 1], 2).into()
    }
    fn local_addr(&self) -> SocketAddr {
        ([127, 0, 0, 1], 1).into()
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let mut bytes = buf.to_vec();
        let path = self.path.clone();
        let at = path.lock().unwrap().seen.len();
        {
            let path = path.lock().unwrap();
            if let Some(chunk) = path.chunk {
                bytes.truncate(chunk);
            }
            if let Some(cut) = path.cut_at {
                if at >= cut {
                    return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
                }
                bytes.truncate(cut - at);
            }
            if let Some(flip) = path.flip_at
                && (at..at + bytes.len()).contains(&flip)
            {
                bytes[flip - at] ^= 0x10;
            }
            if path.full {
                return Poll::Pending;
            }
            if path.swallow {
                drop(path);
                self.path.lock().unwrap().seen.extend_from_slice(&bytes);
                return Poll::Ready(Ok(bytes.len()));
            }
        }
        let n = std::task::ready!(Pin::new(&mut self.inner).poll_write(cx, &bytes))?;
        path.lock().unwrap().seen.extend_from_slice(&bytes[..n]);
        Poll::Ready(Ok(n))
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

/// Two ends of a stream that holds `capacity` bytes each way.
pub(super) fn wires(capacity: usize) -> (Wire, Wire) {
    let (a, b) = tokio::io::duplex(capacity);
    (
        Wire {
            inner: a,
            path: Arc::default(),
        },
        Wire {
            inner: b,
            path: Arc::default(),
        },
    )
}

pub(super) fn secret(seed: u8) -> LinkSecret {
    LinkSecret::from_rng(&mut ChaCha12Rng::from_seed([seed; 32]))
}

/// A dialler and a server that know each other.
pub(super) struct World {
    pub(super) dialler: TestRt,
    pub(super) server: TestRt,
    pub(super) dial: ClientAuth,
    pub(super) auth: ServerAuth,
    pub(super) config: Config,
}

impl World {
    pub(super) fn listed() -> Self {
        let key = secret(1);
        Self::with(
            ClientAuth::Listed { server: key.public() },
            ServerAuth::listed(key),
        )
    }

    pub(super) fn nodes() -> Self {
        let key = secret(1);
        let dial = ClientAuth::Node {
            secret: secret(2),
            server: key.public(),
        };
        Self::with(dial, ServerAuth::listed(key))
    }

    pub(super) fn bridge() -> Self {
        let key = secret(1);
        let psk = BridgeSecret::from_bytes([7; 32]);
        let dial = ClientAuth::Bridge {
            server: key.public(),
            secret: psk.clone(),
        };
        Self::with(dial, ServerAuth::bridge(key, psk))
    }

    fn with(dial: ClientAuth, auth: ServerAuth) -> Self {
        let config = Config {
            keep_alive: None,
            ..Config::default()
        };
        Self {
            dialler: TestRt::new(10),
            server: TestRt::new(20),
            dial,
            auth,
            config,
        }
    }

    /// Both ends of a fresh link over these wires.
    pub(super) async fn link_over(
        &self,
        a: Wire,
        b: Wire,
    ) -> (Result<Link, LinkError>, Result<Accepted, LinkError>) {
        both(
            link::connect(&self.dialler, a, &self.dial, &self.config),
            link::accept(&self.server, b, &self.auth, &self.config),
        )
        .await
    }

    /// Both ends of a fresh link over a good stream, and what each end writes.
    pub(super) async fn link(&self) -> Pair {
        let (a, b) = wires(64 * 1024);
        let (up, down) = (a.path.clone(), b.path.clone());
        let (client, server) = self.link_over(a, b).await;
        let Ok(Accepted::New(server, kind)) = server else {
            panic!("not a new link: {server:?}")
        };
        Pair {
            client: client.unwrap(),
            server,
            kind,
            up,
            down,
        }
    }
}

pub(super) struct Pair {
    pub(super) client: Link,
    pub(super) server: Link,
    pub(super) kind: PeerKind,
    /// What the client writes.
    pub(super) up: Arc<Mutex<Path>>,
    /// What the server writes.
    pub(super) down: Arc<Mutex<Path>>,
}

/// Lets everything run that can, and `secs` pass.
#[expect(clippy::disallowed_methods, reason = "a runtime back end, of tests")]
pub(super) async fn pass(secs: f64) {
    tokio::time::sleep(std::time::Duration::from_secs_f64(secs)).await;
}

/// Runs both to their end, the first one first whenever both can go on.
pub(super) async fn both<A: Future, B: Future>(a: A, b: B) -> (A::Output, B::Output) {
    let (mut a, mut b) = (std::pin::pin!(a), std::pin::pin!(b));
    let (mut a_done, mut b_done) = (None, None);
    std::future::poll_fn(|cx| {
        if a_done.is_none()
            && let Poll::Ready(output) = a.as_mut().poll(cx)
        {
            a_done = Some(output);
        }
        if b_done.is_none()
            && let Poll::Ready(output) = b.as_mut().poll(cx)
        {
            b_done = Some(output);
        }
        if a_done.is_some() && b_done.is_some() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
    (a_done.unwrap(), b_done.unwrap())
}

/// A paused world to run a property test in.
pub(super) fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(future)
}
