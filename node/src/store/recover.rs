//! What a start finds on disk. Spec: SPEC §4.7.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use phantom_core::crypto::aead::AeadKey;
use phantom_core::event::Event;
use phantom_core::mailbox::BoxAddress;
use phantom_core::runtime::Store;
use phantom_core::units::WallTime;
use zeroize::Zeroizing;

use super::index::Place;
use super::segment::{Name, PREFIX, Segment, frame_len, open};
use super::{BoxStore, Disk, StoreError};

/// Which files of a segment are there.
#[derive(Clone, Copy, Debug, Default)]
struct Found {
    data: bool,
    key: bool,
}

async fn segments<S: Store>(store: &S) -> io::Result<BTreeMap<Name, Found>> {
    let mut all: BTreeMap<Name, Found> = BTreeMap::new();
    for file in store.list(PREFIX).await? {
        if let Some((name, data)) = Name::parse(&file) {
            let found = all.entry(name).or_default();
            *(if data { &mut found.data } else { &mut found.key }) = true;
        }
    }
    Ok(all)
}

async fn read_key<S: Store>(store: &S, name: Name) -> io::Result<Option<AeadKey>> {
    let bytes = store.read(&name.key_file()).await?;
    let key = bytes
        .and_then(|bytes| <[u8; 32]>::try_from(&bytes[..]).ok())
        .map(Zeroizing::new);
    Ok(key.map(|key| AeadKey::from_bytes(*key)))
}

/// The frames of a file, numbered; a torn end is left out.
fn frames(name: Name, data: &[u8]) -> impl Iterator<Item = (u32, &[u8])> {
    (0u32..).zip(data.chunks_exact(frame_len(name.class)))
}

impl<R: Disk> BoxStore<R> {
    /// Rebuilds the index. Segments without key (a purge was interrupted) or whose time is over are removed unread.
    /// What is found is synced: after the crash of a process it may be readable and yet not durable.
    pub(super) async fn recover(&self) -> Result<(), StoreError> {
        let inner = &self.0;
        let now = inner.time.now();
        for (name, found) in segments(&inner.rt).await? {
            {
                let mut state = self.state();
                state.next = state.next.max(name.id.saturating_add(1));
            }
            let over = WallTime::from_unix_secs(name.ends) <= now;
            if over {
                // The judgement is final before anything is destroyed by it.
                inner.time.persist(now).await?;
            }
            let key = if over || !found.data {
                None
            } else {
                read_key(&inner.rt, name).await?
            };
            let data = if key.is_some() {
                inner.rt.read(&name.data_file()).await?
            } else {
                None
            };
            let (Some(key), Some(data)) = (key, data) else {
                if self.remove_files(name).await && found.data {
                    inner.rt.emit(Event::SegmentPurged { boxes: 0 });
                }
                continue;
            };
            let (mut latest, mut count) = (WallTime::UNIX_EPOCH, 0);
            {
                let mut state = self.state();
                for (frame, sealed) in frames(name, &data) {
                    count = frame.saturating_add(1);
                    let Some((expires, record)) = open(&key, frame, sealed) else {
                        state.damaged += 1;
                        continue;
                    };
                    latest = latest.max(expires);
                    let key = state.index.key(record.address());
                    if state.index.get(key).is_none() {
                        state.index.insert(
                            key,
                            Place {
                                segment: name.id,
                                frame,
                            },
                        );
                    }
                }
            }
            inner.rt.sync(&name.data_file()).await?;
            let segment = Segment::recovered(name, key, count, latest);
            self.state().segments.insert(name.id, Arc::new(segment));
        }
        Ok(())
    }
}

/// A box that can be recovered from a store's files by whoever gets hold of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recoverable {
    /// The box.
    pub address: BoxAddress,
    /// When it expires.
    pub expires: WallTime,
    /// The segment file it is in.
    pub file: Arc<str>,
}

/// What a seizure of the files would reveal: every box that opens with the keys found, expired or not; and the segment
/// files that are left without a key.
///
/// # Errors
/// Of the store.
pub async fn recoverable<S: Store>(store: &S) -> io::Result<(Vec<Recoverable>, Vec<String>)> {
    let (mut boxes, mut orphans) = (Vec::new(), Vec::new());
    for (name, found) in segments(store).await? {
        if !found.data {
            continue;
        }
        let file: Arc<str> = name.data_file().into();
        let key = if found.key {
            read_key(store, name).await?
        } else {
            None
        };
        let Some(key) = key else {
            orphans.push(file.to_string());
            continue;
        };
        // One frame at a time: a world is largest in memory when its disks are searched at the end.
        for frame in 0.. {
            let Some(sealed) = frame_at(store, name, frame).await? else {
                break;
            };
            if let Some((expires, record)) = open(&key, frame, &sealed) {
                boxes.push(Recoverable {
                    address: *record.address(),
                    expires,
                    file: file.clone(),
                });
            }
        }
    }
    Ok((boxes, orphans))
}

/// A frame of a segment file; `None` behind the last whole one.
async fn frame_at<S: Store>(store: &S, name: Name, frame: u32) -> io::Result<Option<Bytes>> {
    let len = frame_len(name.class);
    match store
        .read_at(&name.data_file(), u64::from(frame) * len as u64, len)
        .await
    {
        Ok(sealed) => Ok(Some(sealed)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(error),
    }
}
