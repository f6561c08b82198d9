//! A host's handle to its world: the runtime traits.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use phantom_core::event::{Event, Sensitive};
use phantom_core::runtime as rt;
use phantom_core::units::{Instant, WallTime};
use rand_chacha::ChaCha12Rng;

use super::dns::Resolving;
use super::listener::Listener;
use super::slab::Key;
use super::stream::Stream;
use super::timer::Sleep;
use super::udp::Udp;
use super::world::Shared;
use crate::host::{Disk, PeerId};

/// What one start of one peer may ask of the world. After a crash of the peer its old handles do nothing: they spawn
/// nothing, reach nobody and record nothing.
#[derive(Clone)]
pub struct Runtime {
    pub(crate) shared: Arc<Shared>,
    pub(crate) peer: u32,
    pub(crate) incarnation: u32,
}

impl std::fmt::Debug for Runtime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Runtime")
            .field("peer", &self.peer)
            .field("start", &self.incarnation)
            .finish_non_exhaustive()
    }
}

impl Runtime {
    /// Which peer this is.
    pub const fn peer(&self) -> PeerId {
        PeerId(self.peer)
    }

    /// How often the peer crashed before this start.
    pub const fn incarnation(&self) -> u32 {
        self.incarnation
    }

    fn disk<T>(&self, with: impl FnOnce(&mut Disk) -> io::Result<T>) -> io::Result<T> {
        let mut state = self.shared.state();
        if !state.current(self.peer, self.incarnation) {
            return Err(io::Error::other("the host has crashed"));
        }
        with(&mut state.net.hosts[self.peer as usize].disk)
    }
}

impl rt::Clock for Runtime {
    type Sleep = Sleep;

    fn now(&self) -> Instant {
        Instant::from_nanos(self.shared.state().now)
    }

    fn wall(&self) -> WallTime {
        let state = self.shared.state();
        state.net.hosts[self.peer as usize]
            .wall
            .read(Instant::from_nanos(state.now))
    }

    fn sleep_until(&self, at: Instant) -> Sleep {
        Sleep::new(Arc::clone(&self.shared), self.peer, at.as_nanos())
    }
}

/// A running task.
#[derive(Clone)]
pub struct Task {
    shared: Arc<Shared>,
    key: Option<Key>,
}

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Task")
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

impl rt::Task for Task {
    fn abort(&self) {
        if let Some(key) = self.key {
            // The body is dropped here, when the state is free again.
            let body = self.shared.state().abort(key);
            drop(body);
        }
    }
}

impl rt::Spawn for Runtime {
    type Task = Task;

    fn spawn<F>(&self, name: &'static str, future: F) -> Task
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let shared = Arc::clone(&self.shared);
        let mut state = self.shared.state();
        let key = if state.current(self.peer, self.incarnation) {
            Some(state.spawn(self.peer, name, Box::pin(future)))
        } else {
            drop(state);
            drop(future);
            None
        };
        Task { shared, key }
    }
}

impl rt::Net for Runtime {
    type Stream = Stream;
    type Listener = Listener;
    type Udp = Udp;

    async fn connect(&self, to: SocketAddr) -> io::Result<Stream> {
        let mut stream = Stream::dial(&self.shared, self.peer, self.incarnation, to)?;
        std::future::poll_fn(|cx| stream.poll_connected(cx)).await?;
        Ok(stream)
    }

    async fn listen(&self, at: SocketAddr) -> io::Result<Listener> {
        Listener::bind(&self.shared, self.peer, self.incarnation, at)
    }

    async fn bind_udp(&self, at: SocketAddr) -> io::Result<Udp> {
        Udp::bind(&self.shared, self.peer, self.incarnation, at)
    }

    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        if let Ok(address) = name.parse() {
            return Ok(vec![address]);
        }
        let mut resolving = Resolving::start(&self.shared, self.peer, self.incarnation, name)?;
        std::future::poll_fn(|cx| resolving.poll(cx)).await
    }
}

impl rt::Store for Runtime {
    async fn append(&self, file: &str, bytes: &[u8]) -> io::Result<u64> {
        self.disk(|disk| disk.append(file, bytes))
    }
    async fn write(&self, file: &str, bytes: &[u8]) -> io::Result<()> {
        self.disk(|disk| disk.write(file, bytes))
    }
    async fn read(&self, file: &str) -> io::Result<Option<Bytes>> {
        self.disk(|disk| disk.read(file))
    }
    async fn read_at(&self, file: &str, offset: u64, len: usize) -> io::Result<Bytes> {
        self.disk(|disk| disk.read_at(file, offset, len))
    }
    async fn remove(&self, file: &str) -> io::Result<()> {
        self.disk(|disk| disk.remove(file))
    }
    async fn list(&self, prefix: &str) -> io::Result<Vec<String>> {
        self.disk(|disk| Ok(disk.list(prefix)))
    }
    async fn sync(&self, file: &str) -> io::Result<()> {
        self.disk(|disk| disk.sync(file))
    }
}

impl rt::Entropy for Runtime {
    fn rng(&self, label: &'static str) -> ChaCha12Rng {
        let mut state = self.shared.state();
        let seed = state.seed;
        let host = &mut state.net.hosts[self.peer as usize];
        if host.incarnation == self.incarnation {
            host.streams
                .next(seed, PeerId(self.peer), self.incarnation, label)
        } else {
            // Destructors of a crashed start may still ask; nobody sees what they draw.
            crate::host::entropy::stream(seed, PeerId(self.peer), self.incarnation, label, u64::MAX)
        }
    }
}

impl rt::Events for Runtime {
    fn emit(&self, event: Event) {
        let mut state = self.shared.state();
        if state.current(self.peer, self.incarnation) {
            let at = Instant::from_nanos(state.now);
            state.events.push((at, PeerId(self.peer), event));
        }
    }

    fn sensitive(&self, kind: Sensitive, bytes: &[u8]) {
        self.shared.state().net.leaks.mark(PeerId(self.peer), kind, bytes);
    }
}

impl rt::Share for Runtime {
    fn shared<T, F>(&self, key: [u8; 32], make: F) -> Arc<T>
    where
        T: Send + Sync + 'static,
        F: FnOnce() -> T,
    {
        self.shared.shares.shared(key, make)
    }
}
