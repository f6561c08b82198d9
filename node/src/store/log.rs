//! An append-only file whose writers share syncs: whoever waits for durability syncs once for all that was appended.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use phantom_core::runtime::Store;
use tokio::sync::Mutex;

/// One file. After any failure it takes no more appends: what a failed append left behind, and what a failed sync lost,
/// is not known. It can be written anew, see [`Log::renewed`].
#[derive(Debug)]
pub(super) struct Log {
    file: String,
    appending: Mutex<()>,
    syncing: Mutex<()>,
    appended: AtomicU64,
    synced: AtomicU64,
    closed: AtomicBool,
    /// A sync failed.
    failed: AtomicBool,
}

impl Log {
    /// A file that is not there yet.
    pub(super) fn new(file: String) -> Self {
        Self::of_len(file, 0)
    }

    /// A file all of which is synced.
    pub(super) fn of_len(file: String, synced: u64) -> Self {
        Self {
            file,
            appending: Mutex::new(()),
            syncing: Mutex::new(()),
            appended: AtomicU64::new(synced),
            synced: AtomicU64::new(synced),
            closed: AtomicBool::new(false),
            failed: AtomicBool::new(false),
        }
    }

    /// The file's name.
    pub(super) fn file(&self) -> &str {
        &self.file
    }

    /// Bytes appended.
    pub(super) fn len(&self) -> u64 {
        self.appended.load(Ordering::Acquire)
    }

    /// Whether it takes appends.
    pub(super) fn is_open(&self) -> bool {
        !self.closed.load(Ordering::Acquire)
    }

    /// Takes no more appends.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    /// If it takes no more appends: writes what the file holds, whole records of `record` bytes, as a new file of the same
    /// name, whose log is returned. This one stays as it is: what it has not acknowledged it never will.
    pub(super) async fn renewed<S: Store>(&self, store: &S, record: usize) -> io::Result<Option<Self>> {
        let _turns = (self.appending.lock().await, self.syncing.lock().await);
        if self.is_open() {
            return Ok(None);
        }
        let held = store.read(&self.file).await?.unwrap_or_default();
        let whole = &held[..held.len() - held.len() % record];
        let acknowledged = self.synced.load(Ordering::Acquire);
        if (whole.len() as u64) < acknowledged {
            return Err(io::Error::other(format!(
                "{} holds {} bytes of {acknowledged} that were synced",
                self.file,
                held.len()
            )));
        }
        store.write(&self.file, whole).await?;
        Ok(Some(Self::of_len(self.file.clone(), whole.len() as u64)))
    }

    /// Appends; returns the end of what was appended, for [`Log::commit`]. An append that is dropped or fails closes the
    /// log.
    pub(super) async fn append<S: Store>(&self, store: &S, bytes: &[u8]) -> io::Result<u64> {
        let _turn = self.appending.lock().await;
        // Set before, cleared after: a failure or a drop in between leaves it set.
        if self.closed.swap(true, Ordering::AcqRel) {
            return Err(io::Error::other(format!("{} takes no more appends", self.file)));
        }
        let at = store.append(&self.file, bytes).await?;
        let before = self.len();
        if at != before {
            return Err(io::Error::other(format!(
                "{} grew by other hands: at {at}, not {before}",
                self.file
            )));
        }
        let end = before + bytes.len() as u64;
        self.appended.store(end, Ordering::Release);
        self.closed.store(false, Ordering::Release);
        Ok(end)
    }

    /// Returns when everything up to `end` is durable. Cancel safe.
    pub(super) async fn commit<S: Store>(&self, store: &S, end: u64) -> io::Result<()> {
        if self.synced.load(Ordering::Acquire) >= end {
            return Ok(());
        }
        let _turn = self.syncing.lock().await;
        if self.synced.load(Ordering::Acquire) >= end {
            return Ok(());
        }
        // A second sync could succeed though the pages are gone: what a failed one was to cover is never acknowledged.
        if self.failed.load(Ordering::Acquire) {
            return Err(io::Error::other(format!(
                "an earlier sync of {} failed",
                self.file
            )));
        }
        let covered = self.len();
        if let Err(error) = store.sync(&self.file).await {
            self.close();
            self.failed.store(true, Ordering::Release);
            return Err(error);
        }
        self.synced.fetch_max(covered, Ordering::AcqRel);
        Ok(())
    }
}
