//! A peer on a witness: our files, entropy, clock, names and record over the stranger's clock, tasks and sockets.

use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use phantom_core::event::Event;
use phantom_core::runtime::ruled::Ruled;
use phantom_core::runtime::rules::SharedRules;
use phantom_core::runtime::share::Shares;
use phantom_core::runtime::{Clock, Entropy, Events, Listener, Net, Share, Spawn, Store, Stream, Task, Udp};
use phantom_core::units::{Instant, WallTime};
use rand_chacha::ChaCha12Rng;

use super::RESOLVE_TIME;
use crate::host::{Disk, Names, PeerId, Streams, Wall};
use crate::stage::{HostSpec, Record};

/// What a witness provides to one host: clock, tasks and sockets. The contracts are those of the traits of the same
/// names in [`phantom_core::runtime`].
#[expect(missing_docs, reason = "each item is specified in phantom_core::runtime")]
pub trait Substrate: Clone + Send + Sync + 'static {
    type Sleep: Future<Output = ()> + Send;
    type Task: Task;
    type Stream: Stream;
    type Listener: Listener<Stream = Self::Stream>;
    type Udp: Udp;

    fn now(&self) -> Instant;
    fn sleep_until(&self, at: Instant) -> Self::Sleep;
    fn spawn<F: Future<Output = ()> + Send + 'static>(&self, name: &'static str, future: F) -> Self::Task;
    fn connect(&self, to: SocketAddr) -> impl Future<Output = io::Result<Self::Stream>> + Send;
    fn listen(&self, at: SocketAddr) -> impl Future<Output = io::Result<Self::Listener>> + Send;
    fn bind_udp(&self, at: SocketAddr) -> impl Future<Output = io::Result<Self::Udp>> + Send;
}

/// What all hosts of a world share.
#[derive(Debug)]
pub(super) struct World {
    seed: u64,
    names: Mutex<Names>,
    records: Mutex<Vec<Record>>,
    shares: Shares,
    pub(super) rules: SharedRules,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            names: Mutex::default(),
            records: Mutex::default(),
            shares: Shares::default(),
            rules: SharedRules::default(),
        }
    }

    pub(super) fn set_name(&self, name: &str, addresses: Vec<IpAddr>) {
        let mut names = lock(&self.names);
        if addresses.is_empty() {
            names.remove(name)
        } else {
            names.insert(name, addresses, Duration::from_secs(300))
        }
    }

    pub(super) fn take_records(&self) -> Vec<Record> {
        std::mem::take(&mut lock(&self.records))
    }
}

/// A host: what outlives a crash of the peer that runs on it.
#[derive(Debug)]
pub struct Host {
    /// Which peer runs on it.
    pub id: PeerId,
    /// What it is.
    pub spec: HostSpec,
    world: Arc<World>,
    disk: Mutex<Disk>,
    wall: Mutex<Wall>,
    incarnation: Mutex<Incarnation>,
}

#[derive(Debug, Default)]
struct Incarnation {
    /// Of the present start, from 0, as everywhere (see [`crate::host::entropy`]); `None` before the first.
    number: Option<u32>,
    streams: Streams,
}

impl Host {
    pub(super) fn new(id: PeerId, spec: HostSpec, world: Arc<World>) -> Self {
        let (disk, wall) = (Mutex::default(), Mutex::new(spec.wall.clone()));
        Self {
            id,
            spec,
            world,
            disk,
            wall,
            incarnation: Mutex::default(),
        }
    }

    /// A new start of the peer: its entropy is new too.
    pub(super) fn begin(&self) {
        let mut incarnation = lock(&self.incarnation);
        incarnation.number = Some(incarnation.number.map_or(0, |number| number + 1));
        incarnation.streams = Streams::default();
    }

    /// The peer's handle, behind the border's rules if the host is.
    pub(super) fn runtime<S: Substrate>(self: &Arc<Self>, substrate: S) -> Ruled<Witness<S>> {
        let peer = Witness {
            substrate,
            host: self.clone(),
        };
        if self.spec.inside {
            Ruled::new(peer, self.world.rules.clone())
        } else {
            Ruled::open(peer)
        }
    }

    pub(super) fn disk(&self) -> MutexGuard<'_, Disk> {
        lock(&self.disk)
    }

    pub(super) fn wall(&self) -> MutexGuard<'_, Wall> {
        lock(&self.wall)
    }
}

/// A peer's handle on a witness.
#[derive(Clone)]
pub struct Witness<S> {
    substrate: S,
    host: Arc<Host>,
}

impl<S> fmt::Debug for Witness<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Witness")
            .field("peer", &self.host.id)
            .finish_non_exhaustive()
    }
}

impl<S: Substrate> Clock for Witness<S> {
    type Sleep = S::Sleep;
    fn now(&self) -> Instant {
        self.substrate.now()
    }
    fn wall(&self) -> WallTime {
        self.host.wall().read(self.substrate.now())
    }
    fn sleep_until(&self, at: Instant) -> S::Sleep {
        self.substrate.sleep_until(at)
    }
}

impl<S: Substrate> Spawn for Witness<S> {
    type Task = S::Task;
    fn spawn<F>(&self, name: &'static str, future: F) -> S::Task
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.substrate.spawn(name, future)
    }
}

impl<S: Substrate> Net for Witness<S> {
    type Stream = S::Stream;
    type Listener = S::Listener;
    type Udp = S::Udp;

    async fn connect(&self, to: SocketAddr) -> io::Result<S::Stream> {
        self.substrate.connect(to).await
    }
    async fn listen(&self, at: SocketAddr) -> io::Result<S::Listener> {
        self.substrate.listen(at).await
    }
    async fn bind_udp(&self, at: SocketAddr) -> io::Result<S::Udp> {
        self.substrate.bind_udp(at).await
    }
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        self.sleep(RESOLVE_TIME).await;
        let names = lock(&self.host.world.names);
        let found = names.lookup(name).map(|record| record.addresses.clone());
        found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no such name: {name:?}")))
    }
}

impl<S: Substrate> Store for Witness<S> {
    async fn append(&self, file: &str, bytes: &[u8]) -> io::Result<u64> {
        self.host.disk().append(file, bytes)
    }
    async fn write(&self, file: &str, bytes: &[u8]) -> io::Result<()> {
        self.host.disk().write(file, bytes)
    }
    async fn read(&self, file: &str) -> io::Result<Option<Bytes>> {
        self.host.disk().read(file)
    }
    async fn read_at(&self, file: &str, offset: u64, len: usize) -> io::Result<Bytes> {
        self.host.disk().read_at(file, offset, len)
    }
    async fn remove(&self, file: &str) -> io::Result<()> {
        self.host.disk().remove(file)
    }
    async fn list(&self, prefix: &str) -> io::Result<Vec<String>> {
        Ok(self.host.disk().list(prefix))
    }
    async fn sync(&self, file: &str) -> io::Result<()> {
        self.host.disk().sync(file)
    }
}

impl<S: Substrate> Entropy for Witness<S> {
    fn rng(&self, label: &'static str) -> ChaCha12Rng {
        let mut incarnation = lock(&self.host.incarnation);
        let number = incarnation.number.unwrap_or_default();
        incarnation
            .streams
            .next(self.host.world.seed, self.host.id, number, label)
    }
}

impl<S: Substrate> Events for Witness<S> {
    fn emit(&self, event: Event) {
        let record = Record {
            at: self.substrate.now(),
            peer: self.host.id,
            event,
        };
        lock(&self.host.world.records).push(record);
    }
}

impl<S: Substrate> Share for Witness<S> {
    fn shared<T, F>(&self, key: [u8; 32], make: F) -> Arc<T>
    where
        T: Send + Sync + 'static,
        F: FnOnce() -> T,
    {
        self.host.world.shares.shared(key, make)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
