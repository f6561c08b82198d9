//! The box store: keeps records durably until their time and leaves nothing of them after it. Spec: SPEC §4.7.
//!
//! Segments are append-only files, one per lifetime bucket and slot of expiry, each under a random key in a file of its
//! own. A purge removes the key, then the data, then drops the index. A segment is never appended to after a restart or
//! a failure; a torn end is then just never read.

mod index;
mod log;
mod quota;
mod recover;
pub mod replay;
pub mod residue;
mod segment;
mod time;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use phantom_core::crypto::aead::AeadKey;
use phantom_core::event::{Event, Tag};
use phantom_core::high_water::HighWater;
use phantom_core::mailbox::{
    Admission, BoxAddress, RECORD_LEN, Record, TtlBucket, WriteOnce, admit, record_len, write_once,
};
use phantom_core::packet::Class;
use phantom_core::runtime::{Clock, Entropy, Events, Store};
use phantom_core::units::{Instant, WallTime};
use rand_core::Rng;
use thiserror::Error;

use index::{Index, Place, SegmentId};
use quota::Quota;
pub use quota::{QuotaConfig, Source};
pub use recover::{Recoverable, recoverable};
use segment::{Name, Segment, frame_len, slot_end};
pub use time::NodeTime;

/// What a runtime must offer to the store.
pub trait Disk: Clock + Store + Entropy + Events + Clone + Send + Sync + 'static {}
impl<T: Clock + Store + Entropy + Events + Clone + Send + Sync + 'static> Disk for T {}

/// Default of [`StoreConfig::writers_max`]: 3.5 MiB of small boxes, 32 MiB of bulk ones.
pub const WRITERS_MAX: usize = 1_024;

/// How a store is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// Bytes that all segments together may take.
    pub capacity: u64,
    /// Bytes of one segment, after which the next is begun. Recovery reads one at a time into memory.
    pub segment_len_max: u64,
    /// How often the time is persisted when nothing else asks for it.
    pub persist_every: Duration,
    /// What each link may write.
    pub quota: QuotaConfig,
    /// Writes under way at once; each holds its box in memory, and most wait for those before them.
    pub writers_max: usize,
}

impl Default for StoreConfig {
    /// 4 GiB, segments of 8 MiB, the time every 10 s, 1,024 writers.
    fn default() -> Self {
        Self {
            capacity: 4 << 30,
            segment_len_max: 8 << 20,
            persist_every: Duration::from_secs(10),
            quota: QuotaConfig::default(),
            writers_max: WRITERS_MAX,
        }
    }
}

/// Why a box is not stored or read.
#[derive(Debug, Error)]
pub enum StoreError {
    /// The host's storage failed.
    #[error("storage failed (host's fault): {0}")]
    Io(#[from] io::Error),
    /// Its time is over.
    #[error("the box has expired")]
    Expired,
    /// It would live longer than its bucket allows.
    #[error("the box would live longer than its bucket allows")]
    TooFar,
    /// Another content is held for the address.
    #[error("the box was written before, with another content")]
    Conflict,
    /// The store is full.
    #[error("the store is full: {used} of {capacity} bytes (host's fault)")]
    Full {
        /// Bytes used.
        used: u64,
        /// Bytes allowed.
        capacity: u64,
    },
    /// Too many writes are under way.
    #[error("{writers} boxes are being written already")]
    Busy {
        /// How many may be.
        writers: usize,
    },
    /// The link writes too fast.
    #[error("the link writes faster than its quota")]
    OverQuota,
}

/// How a write ended: in both cases the box is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// It is new.
    New {
        /// Kept until then.
        expires: WallTime,
    },
    /// The same content was held before.
    Already,
}

/// Where [`BoxStore::page`] goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Cursor {
    segment: SegmentId,
    frame: u32,
}

/// Figures of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Boxes in segments that are not purged, expired ones included.
    pub boxes: u64,
    /// Segments.
    pub segments: usize,
    /// Bytes in segments.
    pub bytes: u64,
    /// Entries of the index, dead ones included.
    pub index_entries: usize,
    /// Frames found damaged since the start.
    pub damaged: u64,
    /// When the oldest segment is due to be purged. In the past by more than a few seconds: something is wrong.
    pub next_purge: Option<WallTime>,
}

/// A box store. Clones are handles to the same one.
pub struct BoxStore<R>(Arc<Inner<R>>);

impl<R> Clone for BoxStore<R> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

struct Inner<R> {
    rt: R,
    time: NodeTime<R>,
    config: StoreConfig,
    /// Held while segments are appended to, begun or purged.
    writing: tokio::sync::Mutex<()>,
    /// Writes under way, those that wait for `writing` included.
    writers: tokio::sync::Semaphore,
    writers_high: HighWater,
    state: Mutex<State>,
}

struct State {
    index: Index,
    segments: BTreeMap<SegmentId, Arc<Segment>>,
    /// The segment that takes boxes of this bucket and slot.
    open: BTreeMap<(TtlBucket, u64, Class), SegmentId>,
    /// Segments whose files could not be removed yet.
    doomed: Vec<Name>,
    next: SegmentId,
    quota: Quota,
    damaged: u64,
}

impl State {
    /// The box's place and segment, if it is in one that is not purged.
    fn find(&self, address: &BoxAddress) -> Option<(Place, Arc<Segment>)> {
        let place = self.index.get(self.index.key(address))?;
        Some((place, Arc::clone(self.segments.get(&place.segment)?)))
    }

    fn used(&self) -> u64 {
        self.segments.values().map(|segment| segment.log.len()).sum()
    }
}

impl<R: Disk> BoxStore<R> {
    /// Opens the store: reads what an earlier run left, and purges what has expired since.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub async fn open(rt: R, time: NodeTime<R>, config: StoreConfig) -> Result<Self, StoreError> {
        let mut key = [0; 32];
        rt.rng("box store index").fill_bytes(&mut key);
        let state = State {
            index: Index::new(key),
            segments: BTreeMap::new(),
            open: BTreeMap::new(),
            doomed: Vec::new(),
            next: 0,
            quota: Quota::new(config.quota),
            damaged: 0,
        };
        let store = Self(Arc::new(Inner {
            rt,
            time,
            config,
            writing: tokio::sync::Mutex::new(()),
            writers: tokio::sync::Semaphore::new(config.writers_max),
            writers_high: HighWater::new("writers of boxes", config.writers_max),
            state: Mutex::new(state),
        }));
        store.recover().await?;
        store.tick().await?;
        Ok(store)
    }

    /// Stores a box whose signature was checked. When this returns without error, the box is durable.
    /// Dropping the future before may leave the box stored or not.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn put(&self, source: Source, record: &Record) -> Result<Stored, StoreError> {
        let inner = &self.0;
        // A bulk box takes as much of the disk as so many small ones.
        let boxes = record_len(record.class()).div_ceil(RECORD_LEN) as u32;
        if !self.state().quota.take(source, boxes, inner.rt.now()) {
            return Err(StoreError::OverQuota);
        }
        let writers_max = inner.config.writers_max;
        let Ok(_writer) = inner.writers.try_acquire() else {
            return Err(StoreError::Busy { writers: writers_max });
        };
        inner
            .writers_high
            .note(&inner.rt, writers_max - inner.writers.available_permits());
        let expires = match admit(record.bucket(), record.not_after(), inner.time.now()) {
            Admission::Until(expires) => expires,
            Admission::Expired => return Err(StoreError::Expired),
            Admission::TooFar => return Err(StoreError::TooFar),
        };
        loop {
            let found = self.state().find(record.address());
            if let Some((place, segment)) = found {
                match self.repeat(record, place, &segment).await? {
                    Some(stored) => return Ok(stored),
                    None => continue,
                }
            }
            let writing = inner.writing.lock().await;
            // Somebody else may have written it while this one waited.
            if self.state().find(record.address()).is_some() {
                continue;
            }
            let segment = self.open_segment(record, expires).await?;
            let (place, end) = self.append(&segment, expires, record).await?;
            drop(writing);
            if let Err(error) = segment.log.commit(&inner.rt, end).await {
                let mut state = self.state();
                let key = state.index.key(record.address());
                state.index.remove(key, place);
                return Err(error.into());
            }
            inner.rt.emit(Event::BoxStored {
                address: Tag::of(record.address().as_bytes()),
                expires,
            });
            return Ok(Stored::New { expires });
        }
    }

    /// Appends and indexes a box; not durable yet. `writing` is held.
    async fn append(
        &self,
        segment: &Segment,
        expires: WallTime,
        record: &Record,
    ) -> Result<(Place, u64), StoreError> {
        let place = Place {
            segment: segment.id(),
            frame: segment.frames(),
        };
        let frame = segment.seal(place.frame, expires, record);
        // Before the append, so that whatever may be in the file is purged in time.
        segment.holds_until(expires);
        let end = match segment.log.append(&self.0.rt, &frame).await {
            Ok(end) => end,
            Err(error) => {
                if segment.log.len() == 0 {
                    // Nothing in it was ever readable: no file per failed write is left behind.
                    self.purge(segment).await;
                }
                return Err(error.into());
            }
        };
        let mut state = self.state();
        let key = state.index.key(record.address());
        state.index.insert(key, place);
        Ok((place, end))
    }

    /// A write to a box that is held. `None` if it turned out to be damaged and is held no more.
    async fn repeat(
        &self,
        record: &Record,
        place: Place,
        segment: &Segment,
    ) -> Result<Option<Stored>, StoreError> {
        // The first write may still be on its way to the disk.
        segment
            .log
            .commit(
                &self.0.rt,
                (u64::from(place.frame) + 1) * segment.frame_len() as u64,
            )
            .await?;
        let Some((expires, held)) = self.read(record.address(), place, segment).await? else {
            return Ok(None);
        };
        if self.0.time.has_come(expires).await? {
            return Err(StoreError::Expired);
        }
        match write_once(&held, record) {
            WriteOnce::Same => Ok(Some(Stored::Already)),
            WriteOnce::Conflict => Err(StoreError::Conflict),
        }
    }

    /// Reads a box; `None` if it is not held, damaged (it may then be written again) or expired. An answer of "expired"
    /// is final: the time is persisted before it is given.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub async fn get(&self, address: &BoxAddress) -> Result<Option<Record>, StoreError> {
        let found = self.state().find(address);
        let Some((place, segment)) = found else {
            return Ok(None);
        };
        let Some((expires, record)) = self.read(address, place, &segment).await? else {
            return Ok(None);
        };
        Ok((!self.0.time.has_come(expires).await?).then_some(record))
    }

    /// Whether a box is held, by the index alone: it may be damaged, or have expired a 16th of its lifetime ago.
    pub fn holds(&self, address: &BoxAddress) -> bool {
        let now = self.0.time.now();
        self.state()
            .find(address)
            .is_some_and(|(_, segment)| segment.latest() > now)
    }

    async fn read(
        &self,
        address: &BoxAddress,
        place: Place,
        segment: &Segment,
    ) -> Result<Option<(WallTime, Record)>, StoreError> {
        let len = segment.frame_len();
        let offset = u64::from(place.frame) * len as u64;
        let sealed = match self.0.rt.read_at(segment.log.file(), offset, len).await {
            Ok(sealed) => Some(sealed),
            // Shorter than it was, or purged since it was found: gone. Other errors may pass.
            Err(e) if matches!(e.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::NotFound) => None,
            Err(e) => return Err(e.into()),
        };
        let opened = sealed.and_then(|sealed| segment.open(place.frame, &sealed));
        if opened
            .as_ref()
            .is_some_and(|(_, record)| record.address() == address)
        {
            return Ok(opened);
        }
        let mut state = self.state();
        if state.segments.contains_key(&place.segment) {
            state.damaged += 1;
        }
        let key = state.index.key(address);
        state.index.remove(key, place);
        Ok(None)
    }

    /// Up to `max` boxes from `cursor` on, and where to go on; `None` at the end. For handing boxes over: each that was
    /// held when the first page was read and has not expired is given once.
    ///
    /// # Errors
    /// [`StoreError::Io`].
    pub async fn page(
        &self,
        mut cursor: Cursor,
        max: usize,
    ) -> Result<(Vec<Record>, Option<Cursor>), StoreError> {
        let mut out = Vec::new();
        loop {
            let next = self
                .state()
                .segments
                .range(cursor.segment..)
                .next()
                .map(|(_, next)| Arc::clone(next));
            let Some(segment) = next else {
                return Ok((out, None));
            };
            if segment.id() != cursor.segment {
                cursor = Cursor {
                    segment: segment.id(),
                    frame: 0,
                };
            }
            while cursor.frame < segment.frames() {
                if out.len() >= max.max(1) {
                    return Ok((out, Some(cursor)));
                }
                let place = Place {
                    segment: cursor.segment,
                    frame: cursor.frame,
                };
                let len = segment.frame_len();
                let offset = u64::from(place.frame) * len as u64;
                match self.0.rt.read_at(segment.log.file(), offset, len).await {
                    Ok(sealed) => {
                        if let Some((expires, record)) = segment.open(place.frame, &sealed)
                            && expires > self.0.time.now()
                            && self
                                .state()
                                .find(record.address())
                                .is_some_and(|(found, _)| found == place)
                        {
                            out.push(record);
                        }
                    }
                    Err(e) if matches!(e.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::NotFound) => {}
                    Err(e) => return Err(e.into()),
                }
                cursor.frame += 1;
            }
            let Some(next) = segment.id().checked_add(1) else {
                return Ok((out, None));
            };
            cursor = Cursor {
                segment: next,
                frame: 0,
            };
        }
    }

    /// Purges what has expired and persists the time now and then. Returns when to call it again.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the time could not be persisted: then nothing was purged.
    pub async fn tick(&self) -> Result<Instant, StoreError> {
        let inner = &self.0;
        let now = inner.time.now();
        let segments: Vec<_> = self.state().segments.values().cloned().collect();
        let due: Vec<_> = segments
            .into_iter()
            .filter(|segment| segment.latest() <= now)
            .collect();
        // Up to date before anything is destroyed by it, else not older than the period.
        let at_least = if due.is_empty() {
            now - inner.config.persist_every
        } else {
            now
        };
        inner.time.persist(at_least).await?;
        for segment in due {
            let _writing = inner.writing.lock().await;
            // A box may have come in since.
            if segment.latest() <= now {
                self.purge(&segment).await;
            }
        }
        let doomed = std::mem::take(&mut self.state().doomed);
        for name in doomed {
            self.remove_files(name).await;
        }
        let next = self
            .state()
            .segments
            .values()
            .map(|segment| segment.latest())
            .min();
        let wait = next.map_or(inner.config.persist_every, |next| next.saturating_since(now));
        let shortest = Duration::from_millis(50).min(inner.config.persist_every);
        Ok(inner.rt.now() + wait.clamp(shortest, inner.config.persist_every))
    }

    /// Calls [`BoxStore::tick`] for ever. A failure is tried again.
    pub async fn run(self) {
        loop {
            let next = match self.tick().await {
                Ok(next) => next,
                Err(error) => {
                    tracing::warn!(%error, "the box store could not purge; trying again");
                    self.0.rt.now() + self.0.config.persist_every
                }
            };
            self.0.rt.sleep_until(next).await;
        }
    }

    /// Figures.
    pub fn stats(&self) -> Stats {
        let state = self.state();
        Stats {
            boxes: state
                .segments
                .values()
                .map(|segment| u64::from(segment.frames()))
                .sum(),
            segments: state.segments.len(),
            bytes: state.used(),
            index_entries: state.index.len(),
            damaged: state.damaged,
            next_purge: state
                .segments
                .values()
                .map(|segment| WallTime::from_unix_secs(segment.name.ends))
                .min(),
        }
    }

    /// The segment that takes boxes like `record` that expire then; begins one if there is none. `writing` is held.
    async fn open_segment(&self, record: &Record, expires: WallTime) -> Result<Arc<Segment>, StoreError> {
        let inner = &self.0;
        let (bucket, class) = (record.bucket(), record.class());
        let frame = frame_len(class) as u64;
        let slot = (bucket, slot_end(bucket, expires), class);
        let name = {
            let mut state = self.state();
            let (used, capacity) = (state.used(), inner.config.capacity);
            if used + frame > capacity {
                return Err(StoreError::Full { used, capacity });
            }
            let open = state.open.get(&slot).and_then(|id| state.segments.get(id));
            if let Some(segment) = open
                && segment.log.is_open()
                && segment.log.len() + frame <= inner.config.segment_len_max.max(frame)
            {
                return Ok(Arc::clone(segment));
            }
            let id = state.next;
            state.next = id
                .checked_add(1)
                .ok_or_else(|| io::Error::other("out of names for segments"))?;
            Name {
                ends: slot.1,
                bucket,
                id,
                class,
            }
        };
        let segment = Arc::new(Segment::new(
            name,
            AeadKey::from_rng(&mut inner.rt.rng("box store segment")),
        ));
        // The key is durable before anything is sealed under it.
        inner.rt.write(&name.key_file(), segment.key_bytes()).await?;
        segment.holds_until(expires);
        let mut state = self.state();
        state.segments.insert(name.id, Arc::clone(&segment));
        state.open.insert(slot, name.id);
        Ok(segment)
    }

    /// Forgets a segment: index first, so that nothing reads it; then the key, then the data. `writing` is held.
    async fn purge(&self, segment: &Segment) {
        {
            let mut state = self.state();
            if state.segments.remove(&segment.id()).is_none() {
                return;
            }
            state.open.retain(|_, id| *id != segment.id());
            let live: BTreeSet<_> = state.segments.keys().copied().collect();
            state.index.segment_gone(segment.frames() as usize, &live);
        }
        segment.log.close();
        if self.remove_files(segment.name).await {
            self.0.rt.emit(Event::SegmentPurged {
                boxes: segment.frames(),
            });
        }
    }

    /// Removes key and data; if that fails it is tried again at the next tick.
    async fn remove_files(&self, name: Name) -> bool {
        for file in [name.key_file(), name.data_file()] {
            if let Err(error) = self.0.rt.remove(&file).await {
                tracing::warn!(%error, file, "a purged segment's file could not be removed yet");
                self.state().doomed.push(name);
                return false;
            }
        }
        true
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<R> std::fmt::Debug for BoxStore<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("BoxStore")
    }
}

#[cfg(test)]
pub(crate) mod disk;
#[cfg(test)]
mod tests;
