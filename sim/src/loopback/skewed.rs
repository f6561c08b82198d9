//! A runtime whose wall clock is wrong: [`Skewed`] adds an offset to the system's, and nothing else.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use phantom_core::event::{Event, Sensitive};
use phantom_core::runtime::{Clock, Entropy, Events, Net, Runtime, Share, Spawn, Store};
use phantom_core::units::{Instant, WallTime};
use rand_chacha::ChaCha12Rng;

/// By how many nanoseconds a host's wall clock is ahead, or behind if negative; may step while the host runs, and outlives
/// its crashes. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Offset(Arc<AtomicI64>);

impl Offset {
    /// So much from the start.
    pub fn new(ns: i64) -> Self {
        Self(Arc::new(AtomicI64::new(ns)))
    }

    /// So much more from now on.
    pub fn step(&self, by_ns: i64) {
        self.0.fetch_add(by_ns, Ordering::Relaxed);
    }

    fn apply(&self, wall: WallTime) -> WallTime {
        let ns = self.0.load(Ordering::Relaxed);
        let by = Duration::from_nanos(ns.unsigned_abs());
        if ns >= 0 {
            wall + by
        } else {
            WallTime::UNIX_EPOCH + wall.saturating_since(WallTime::UNIX_EPOCH + by)
        }
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Skewed<R> {
    inner: R,
    offset: Offset,
}

impl<R: Runtime> Skewed<R> {
    /// `inner` with a clock that is off by `offset`.
    pub const fn new(inner: R, offset: Offset) -> Self {
        Self { inner, offset }
    }
}

impl<R: Runtime> Clock for Skewed<R> {
    type Sleep = R::Sleep;
    fn now(&self) -> Instant {
        self.inner.now()
    }
    fn wall(&self) -> WallTime {
        self.offset.apply(self.inner.wall())
    }
    fn sleep_until(&self, at: Instant) -> Self::Sleep {
        self.inner.sleep_until(at)
    }
}

impl<R: Runtime> Spawn for Skewed<R> {
    type Task = R::Task;
    fn spawn<F>(&self, name: &'static str, future: F) -> Self::Task
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.inner.spawn(name, future)
    }
}

impl<R: Runtime> Net for Skewed<R> {
    type Stream = R::Stream;
    type Listener = R::Listener;
    type Udp = R::Udp;
    async fn connect(&self, to: SocketAddr) -> io::Result<Self::Stream> {
        self.inner.connect(to).await
    }
    async fn listen(&self, at: SocketAddr) -> io::Result<Self::Listener> {
        self.inner.listen(at).await
    }
    async fn bind_udp(&self, at: SocketAddr) -> io::Result<Self::Udp> {
        self.inner.bind_udp(at).await
    }
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        self.inner.resolve(name).await
    }
}

impl<R: Runtime> Store for Skewed<R> {
    async fn append(&self, file: &str, bytes: &[u8]) -> io::Result<u64> {
        self.inner.append(file, bytes).await
    }
    async fn write(&self, file: &str, bytes: &[u8]) -> io::Result<()> {
        self.inner.write(file, bytes).await
    }
    async fn read(&self, file: &str) -> io::Result<Option<Bytes>> {
        self.inner.read(file).await
    }
    async fn read_at(&self, file: &str, offset: u64, len: usize) -> io::Result<Bytes> {
        self.inner.read_at(file, offset, len).await
    }
    async fn remove(&self, file: &str) -> io::Result<()> {
        self.inner.remove(file).await
    }
    async fn list(&self, prefix: &str) -> io::Result<Vec<String>> {
        self.inner.list(prefix).await
    }
    async fn sync(&self, file: &str) -> io::Result<()> {
        self.inner.sync(file).await
    }
}

impl<R: Runtime> Entropy for Skewed<R> {
    fn rng(&self, label: &'static str) -> ChaCha12Rng {
        self.inner.rng(label)
    }
}

impl<R: Runtime> Events for Skewed<R> {
    fn emit(&self, event: Event) {
        self.inner.emit(event);
    }
    fn sensitive(&self, kind: Sensitive, bytes: &[u8]) {
        self.inner.sensitive(kind, bytes);
    }
}

impl<R: Runtime> Share for Skewed<R> {
    fn shared<T, F>(&self, key: [u8; 32], make: F) -> Arc<T>
    where
        T: Send + Sync + 'static,
        F: FnOnce() -> T,
    {
        self.inner.shared(key, make)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_ahead_or_behind_and_steps() {
        let noon = WallTime::from_unix_secs(1_000_000);
        let offset = Offset::new(2_000_000_000);
        assert_eq!(offset.apply(noon), WallTime::from_unix_secs(1_000_002));
        offset.clone().step(-5_000_000_000);
        assert_eq!(offset.apply(noon), WallTime::from_unix_secs(999_997));
        offset.step(-2_000_000_000_000_000_000);
        assert_eq!(offset.apply(noon), WallTime::UNIX_EPOCH, "not before 1970");
    }
}
