//! The production back end: real sockets, files, clock and entropy, on whatever tokio runtime it is made in.
//!
//! One [`TokioRuntime`] is one peer. Several may live in one process, each with an address and a directory of its own;
//! that is how the conformance suite and the loopback stage of the simulator use it.

mod files;
pub mod journal;
mod sockets;
mod tasks;

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::share::Shares;
use super::{Clock, Entropy, Events, Net, Share, Spawn, Store};
use crate::event::Event;
use crate::units::{Instant, WallTime};

use files::Files;
pub use sockets::{TokioListener, TokioStream, TokioUdp};
pub use tasks::{Ended, Tasks, TokioTask};

/// What a peer on tokio is given.
#[derive(Debug)]
pub struct Config {
    /// Names the peer in logs.
    pub name: String,
    /// Where its files are; made if it is not there.
    pub store: PathBuf,
    /// The peer's one address, if it must not use every address of the machine: it connects from there, and "any
    /// address" to listen on means this one. For several peers on one machine.
    pub address: Option<IpAddr>,
    /// Names that are not asked of the system's resolver, as in `/etc/hosts`.
    pub hosts: Hosts,
    /// The zero of its monotonic clock, now if not given; for several peers on one clock.
    pub start: Option<tokio::time::Instant>,
    /// Gets every event. When it is full, events are dropped and counted: a slow reader must not stop the peer.
    pub events: Option<mpsc::Sender<Record>>,
    /// Where results of pure functions are shared; give several peers of a process the same.
    pub shares: Shares,
}

impl Config {
    /// A peer of this name with its files at `store`, and nothing out of the ordinary.
    pub fn new(name: impl Into<String>, store: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            store: store.into(),
            address: None,
            hosts: Hosts::default(),
            start: None,
            events: None,
            shares: Shares::default(),
        }
    }
}

/// Names and their addresses, as in `/etc/hosts`; may change while peers run. Clones are the same table.
#[derive(Clone, Debug, Default)]
pub struct Hosts(Arc<Mutex<BTreeMap<String, Vec<IpAddr>>>>);

impl Hosts {
    /// From now on `name` stands for these addresses; none: the system's resolver is asked again.
    pub fn set(&self, name: &str, addresses: Vec<IpAddr>) {
        let (mut table, name) = (self.lock(), name.to_ascii_lowercase());
        if addresses.is_empty() {
            table.remove(&name)
        } else {
            table.insert(name, addresses)
        };
    }

    fn get(&self, name: &str) -> Option<Vec<IpAddr>> {
        self.lock().get(&name.to_ascii_lowercase()).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Vec<IpAddr>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An event, with what its recorder adds.
#[derive(Clone, Debug)]
pub struct Record {
    /// When, on the peer's monotonic clock.
    pub at: Instant,
    /// What happened.
    pub event: Event,
    /// How many events before this one were dropped because the reader was slow.
    pub dropped_before: u64,
}

/// A peer's handle to the real world. Clones are the same peer.
#[derive(Clone, Debug)]
pub struct TokioRuntime(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    start: tokio::time::Instant,
    tasks: Arc<Tasks>,
    files: Files,
    address: Option<IpAddr>,
    hosts: Hosts,
    events: Option<mpsc::Sender<Record>>,
    events_dropped: std::sync::atomic::AtomicU64,
    shares: Shares,
}

impl TokioRuntime {
    /// Starts a peer on the tokio runtime this is called in. Its clock starts at zero now.
    ///
    /// # Errors
    /// If the store's directory cannot be made or read.
    #[expect(clippy::disallowed_methods, reason = "the production back end of the runtime")]
    pub fn start(config: Config) -> io::Result<Self> {
        let handle = Handle::current();
        Ok(Self(Arc::new(Inner {
            name: config.name,
            start: config.start.unwrap_or_else(tokio::time::Instant::now),
            tasks: Tasks::new(handle.clone()),
            files: Files::open(handle, &config.store)?,
            address: config.address,
            hosts: config.hosts,
            events: config.events,
            events_dropped: 0.into(),
            shares: config.shares,
        })))
    }

    /// Runs the peer's program to its end, or until the peer is shut down or one of its tasks panics.
    ///
    /// # Errors
    /// Why it did not get to its end.
    pub async fn run<F: Future>(&self, program: F) -> Result<F::Output, Ended> {
        tokio::select! {
            biased;
            ended = self.0.tasks.closed() => Err(ended),
            output = program => Ok(output),
        }
    }

    /// Ends the peer: every task is dropped wherever it waits, its sockets with it, and no new one starts. Returns when
    /// all of them are gone and no file operation is under way. Nothing is synced: what was not is left to the system.
    pub async fn shutdown(&self) {
        self.0.tasks.close(Ended::Shutdown);
        self.0.tasks.gone().await;
        self.0.files.close().await;
    }

    /// Why the peer ended, if it did.
    pub fn ended(&self) -> Option<Ended> {
        self.0.tasks.ended()
    }

    /// "Any address" is the peer's own if it has one.
    fn own(&self, at: SocketAddr) -> SocketAddr {
        match self.0.address {
            Some(own) if at.ip().is_unspecified() && own.is_ipv4() == at.is_ipv4() => {
                SocketAddr::new(own, at.port())
            }
            _ => at,
        }
    }
}

impl Clock for TokioRuntime {
    type Sleep = tokio::time::Sleep;

    fn now(&self) -> Instant {
        let nanos = self.0.start.elapsed().as_nanos();
        Instant::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    #[expect(clippy::disallowed_methods, reason = "the production back end of the runtime")]
    fn wall(&self) -> WallTime {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or(Duration::ZERO);
        WallTime::UNIX_EPOCH + since
    }

    #[expect(clippy::disallowed_methods, reason = "the production back end of the runtime")]
    fn sleep_until(&self, at: Instant) -> Self::Sleep {
        tokio::time::sleep_until(self.0.start + at.since_start())
    }
}

impl Spawn for TokioRuntime {
    type Task = TokioTask;

    fn spawn<F>(&self, name: &'static str, future: F) -> TokioTask
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.0.tasks.spawn(name, future)
    }
}

impl Net for TokioRuntime {
    type Stream = TokioStream;
    type Listener = TokioListener;
    type Udp = TokioUdp;

    async fn connect(&self, to: SocketAddr) -> io::Result<TokioStream> {
        TokioStream::connect(to, self.0.address).await
    }

    async fn listen(&self, at: SocketAddr) -> io::Result<TokioListener> {
        TokioListener::bind(self.own(at))
    }

    async fn bind_udp(&self, at: SocketAddr) -> io::Result<TokioUdp> {
        TokioUdp::bind(self.own(at)).await
    }

    #[expect(clippy::disallowed_methods, reason = "the production back end of the runtime")]
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        if let Some(known) = self.0.hosts.get(name) {
            return Ok(known);
        }
        // The system's resolver has no error kinds: whatever it says, there is no address.
        let unknown = |e| io::Error::new(io::ErrorKind::NotFound, format!("cannot resolve {name:?}: {e}"));
        let found = tokio::net::lookup_host((name, 0)).await.map_err(unknown)?;
        let mut addresses = Vec::new();
        for ip in found.map(|at| at.ip()) {
            if !addresses.contains(&ip) {
                addresses.push(ip);
            }
        }
        Ok(addresses)
    }
}

impl Store for TokioRuntime {
    async fn append(&self, file: &str, bytes: &[u8]) -> io::Result<u64> {
        self.0.files.append(file, bytes).await
    }
    async fn write(&self, file: &str, bytes: &[u8]) -> io::Result<()> {
        self.0.files.write(file, bytes).await
    }
    async fn read(&self, file: &str) -> io::Result<Option<Bytes>> {
        self.0.files.read(file).await
    }
    async fn read_at(&self, file: &str, offset: u64, len: usize) -> io::Result<Bytes> {
        self.0.files.read_at(file, offset, len).await
    }
    async fn remove(&self, file: &str) -> io::Result<()> {
        self.0.files.remove(file).await
    }
    async fn list(&self, prefix: &str) -> io::Result<Vec<String>> {
        self.0.files.list(prefix).await
    }
    async fn sync(&self, file: &str) -> io::Result<()> {
        self.0.files.sync(file).await
    }
}

impl Entropy for TokioRuntime {
    /// Seeded from the system each time, so a label is only a name here.
    ///
    /// # Panics
    /// If the system has no entropy: nothing secret could be made.
    #[expect(clippy::disallowed_methods, reason = "the production back end of the runtime")]
    fn rng(&self, label: &'static str) -> ChaCha12Rng {
        let mut seed = zeroize::Zeroizing::new([0; 32]);
        if let Err(e) = getrandom::fill(&mut *seed) {
            panic!("no system entropy for {label}: {e}");
        }
        ChaCha12Rng::from_seed(*seed)
    }
}

impl Events for TokioRuntime {
    fn emit(&self, event: Event) {
        use std::sync::atomic::Ordering::Relaxed;
        tracing::debug!(target: "phantom::event", peer = %self.0.name, event = ?event);
        if let Some(events) = &self.0.events {
            let dropped_before = self.0.events_dropped.swap(0, Relaxed);
            if events
                .try_send(Record {
                    at: self.now(),
                    event,
                    dropped_before,
                })
                .is_err()
            {
                self.0.events_dropped.fetch_add(dropped_before + 1, Relaxed);
            }
        }
    }
}

impl Share for TokioRuntime {
    fn shared<T, F>(&self, key: [u8; 32], make: F) -> Arc<T>
    where
        T: Send + Sync + 'static,
        F: FnOnce() -> T,
    {
        self.0.shares.shared(key, make)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};

    fn peer(dir: &tempfile::TempDir) -> TokioRuntime {
        TokioRuntime::start(Config::new("test", dir.path())).unwrap()
    }

    #[tokio::test]
    async fn a_panic_in_a_task_ends_the_whole_peer() {
        let dir = tempfile::tempdir().unwrap();
        let rt = peer(&dir);
        let other = rt.clone();
        let program = async move {
            other.spawn("breaks", async { panic!("an invariant") });
            std::future::pending::<()>().await;
        };
        assert_eq!(rt.run(program).await, Err(Ended::Panicked("breaks")));
    }

    #[tokio::test]
    async fn after_a_shutdown_no_future_is_left_and_none_starts() {
        struct OnDrop(Arc<AtomicBool>);
        impl Drop for OnDrop {
            fn drop(&mut self) {
                self.0.store(true, Ordering::Relaxed);
            }
        }
        let dir = tempfile::tempdir().unwrap();
        let rt = peer(&dir);
        let dropped = [(); 2].map(|()| Arc::new(AtomicBool::new(false)));
        for flag in &dropped {
            let guard = OnDrop(flag.clone());
            rt.spawn("waits", async move {
                let _guard = guard;
                std::future::pending().await
            });
            rt.shutdown().await;
            assert!(flag.load(Ordering::Relaxed));
        }
        assert!(rt.append("f", b"x").await.is_err());
    }

    #[tokio::test]
    async fn a_slow_reader_of_events_is_told_how_many_it_missed() {
        let dir = tempfile::tempdir().unwrap();
        let (sender, mut events) = mpsc::channel(1);
        let rt = TokioRuntime::start(Config {
            events: Some(sender),
            ..Config::new("test", dir.path())
        })
        .unwrap();
        for _ in 0..4 {
            rt.emit(Event::RoundTrip);
        }
        assert_eq!(events.recv().await.unwrap().dropped_before, 0);
        rt.emit(Event::Stopped);
        assert_eq!(events.recv().await.unwrap().dropped_before, 3);
    }

    #[tokio::test]
    async fn names_of_the_configuration_come_before_the_systems() {
        let dir = tempfile::tempdir().unwrap();
        let config = Config::new("test", dir.path());
        config.hosts.set("Bridge.test", vec![[127, 0, 5, 5].into()]);
        let rt = TokioRuntime::start(config).unwrap();
        assert_eq!(
            rt.resolve("bridge.test").await.unwrap(),
            [IpAddr::from([127, 0, 5, 5])]
        );
        assert_eq!(
            rt.resolve("127.0.0.9").await.unwrap(),
            [IpAddr::from([127, 0, 0, 9])]
        );
    }
}
