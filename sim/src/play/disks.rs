//! Looking at the disks of storage nodes as somebody would who seized them.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use phantom_core::event::Tag;
use phantom_core::runtime::Store;
use phantom_core::units::WallTime;
use phantom_node::store::recoverable;

use crate::host::Disk;
use crate::run::RunError;

/// A disk that stands still, as a store.
struct Seized<'d>(Mutex<&'d mut Disk>);

impl Seized<'_> {
    fn disk<T>(&self, with: impl FnOnce(&mut Disk) -> T) -> T {
        with(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Store for Seized<'_> {
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
        Ok(self.disk(|disk| disk.list(prefix)))
    }
    async fn sync(&self, file: &str) -> io::Result<()> {
        self.disk(|disk| disk.sync(file))
    }
}

/// What a seized disk gives away.
pub(super) struct Found {
    /// Every box that opens, and when it expires.
    pub(super) boxes: Vec<(Tag, WallTime)>,
    /// Segment files without a key: bytes that nobody can read, which should have been unlinked.
    pub(super) orphans: usize,
}

/// Opens everything on a disk that opens.
pub(super) fn seize(disk: &mut Disk) -> Result<Found, RunError> {
    let store = Seized(Mutex::new(disk));
    let found = pin!(recoverable(&store));
    // The disk answers at once, so one poll is all.
    match found.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok((boxes, orphans))) => Ok(Found {
            boxes: boxes
                .iter()
                .map(|b| (Tag::of(b.address.as_bytes()), b.expires))
                .collect(),
            orphans: orphans.len(),
        }),
        Poll::Ready(Err(error)) => Err(RunError::Failed(format!("a disk could not be searched: {error}"))),
        Poll::Pending => Err(RunError::Failed(
            "a disk that stands still did not answer".to_owned(),
        )),
    }
}
