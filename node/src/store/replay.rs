//! Replay tags that survive a restart: each is durable before its packet is acted on. Spec: SPEC §3.6.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use phantom_core::packet::{HopKeyId, Replay, ReplayFilter, ReplayTag};
use phantom_core::runtime::Store;
use thiserror::Error;

use super::log::Log;

const PREFIX: &str = "replay-";

/// Why a packet is not to be acted on.
#[derive(Debug, Error)]
pub enum ReplayError {
    /// It was seen, or its filter is full.
    #[error(transparent)]
    Replay(#[from] Replay),
    /// There is no such hop key.
    #[error("no replay log for hop key {0:?}: it has ended or not begun")]
    NoKey(HopKeyId),
    /// The tag could not be made durable.
    #[error("storage failed (host's fault): {0}")]
    Io(#[from] io::Error),
}

struct Tags {
    filter: ReplayFilter,
    log: Arc<Log>,
}

/// The replay filters of a node's hop keys and their logs. Memory and disk are bounded: 20 bits and 16 bytes for each
/// packet that a filter is made for.
pub struct ReplayLogs<R> {
    rt: R,
    capacity: u32,
    tags: Mutex<BTreeMap<HopKeyId, Tags>>,
}

impl<R: Store> ReplayLogs<R> {
    /// No hop keys yet; each filter is for `capacity` packets.
    pub const fn new(rt: R, capacity: u32) -> Self {
        Self {
            rt,
            capacity,
            tags: Mutex::new(BTreeMap::new()),
        }
    }

    /// Reads the log of a hop key that is held from an earlier run, or begins one for a new key.
    ///
    /// # Errors
    /// Of the store: the hop key must not be used then.
    pub async fn begin(&self, key: HopKeyId) -> io::Result<()> {
        let file = file(key);
        let log = self.rt.read(&file).await?.unwrap_or_default();
        let filter = ReplayFilter::restore(key, self.capacity, &log);
        let whole = &log[..log.len() - log.len() % ReplayTag::LEN];
        if !log.is_empty() {
            // Cuts a torn end off, which would shift every later record, and makes the rest durable.
            self.rt.write(&file, whole).await?;
        }
        let log = Arc::new(Log::of_len(file, whole.len() as u64));
        self.tags().entry(key).or_insert(Tags { filter, log });
        Ok(())
    }

    /// Marks a packet as seen. When this returns `Ok`, that is durable: act on the packet.
    ///
    /// # Errors
    /// [`ReplayError`]: drop the packet. After a failure of the store its tag stays marked.
    pub async fn admit(&self, key: HopKeyId, tag: &ReplayTag) -> Result<(), ReplayError> {
        let log = {
            let mut tags = self.tags();
            let tags = tags.get_mut(&key).ok_or(ReplayError::NoKey(key))?;
            tags.filter.insert(tag)?;
            Arc::clone(&tags.log)
        };
        let end = log.append(&self.rt, tag.as_bytes()).await?;
        Ok(log.commit(&self.rt, end).await?)
    }

    /// Writes the logs anew that take no more tags since an append or a sync has failed, so that their hop keys serve again.
    /// What was marked meanwhile stays so, and what was acted on is in the new file: it was durable in the old one.
    ///
    /// # Errors
    /// Of the store, for the last log that could not be mended; call it again.
    pub async fn mend(&self) -> io::Result<()> {
        let logs: Vec<_> = {
            let tags = self.tags();
            tags.iter()
                .map(|(key, tags)| (*key, Arc::clone(&tags.log)))
                .collect()
        };
        let mut mended = Ok(());
        for (key, log) in logs {
            match log.renewed(&self.rt, ReplayTag::LEN).await {
                Ok(None) => {}
                Ok(Some(renewed)) => {
                    if let Some(tags) = self.tags().get_mut(&key) {
                        tags.log = Arc::new(renewed);
                    }
                }
                Err(error) => mended = Err(error),
            }
        }
        mended
    }

    /// Forgets a hop key's tags: call it after the key is destroyed.
    ///
    /// # Errors
    /// Of the store.
    pub async fn end(&self, key: HopKeyId) -> io::Result<()> {
        if let Some(tags) = self.tags().remove(&key) {
            tags.log.close();
        }
        self.rt.remove(&file(key)).await
    }

    /// Removes logs whose hop key is not among those begun: a crash came between the end of both.
    ///
    /// # Errors
    /// Of the store.
    pub async fn sweep(&self) -> io::Result<()> {
        let live: Vec<_> = self.tags().keys().map(|key| file(*key)).collect();
        for found in self.rt.list(PREFIX).await? {
            if !live.contains(&found) {
                self.rt.remove(&found).await?;
            }
        }
        Ok(())
    }

    /// Bytes of memory that the filters hold.
    pub fn memory(&self) -> usize {
        self.tags().values().map(|tags| tags.filter.memory()).sum()
    }

    fn tags(&self) -> MutexGuard<'_, BTreeMap<HopKeyId, Tags>> {
        self.tags.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<R> std::fmt::Debug for ReplayLogs<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ReplayLogs")
    }
}

fn file(key: HopKeyId) -> String {
    format!("{PREFIX}{:010}", key.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::disk::TestDisk;
    use super::*;

    fn tag(n: u128) -> ReplayTag {
        // Spread over the filter as the outputs of a key derivation are.
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&blake3::hash(&n.to_be_bytes()).as_bytes()[..16]);
        ReplayTag::from_bytes(bytes)
    }

    #[tokio::test]
    async fn an_admitted_packet_is_a_replay_after_any_crash() {
        for seed in 0..40 {
            let disk = TestDisk::new(seed);
            let key = HopKeyId(7);
            let mut admitted = 0;
            for run in 0..4 {
                let logs = ReplayLogs::new(disk.clone(), 1_000);
                logs.begin(key).await.unwrap();
                for n in 0..admitted {
                    assert!(matches!(
                        logs.admit(key, &tag(n)).await,
                        Err(ReplayError::Replay(Replay::Seen))
                    ));
                }
                for _ in 0..10 + run {
                    logs.admit(key, &tag(admitted)).await.unwrap();
                    admitted += 1;
                }
                // Appended, never synced: the crash may leave it whole, torn or not at all.
                disk.append(&file(key), tag(1_000_000 + admitted).as_bytes())
                    .await
                    .unwrap();
                disk.crash();
            }
        }
    }

    /// The disk fails for a while, in the middle of a packet: that packet is lost, the key serves again, and whatever was
    /// acted on before or after is a replay, also after a crash.
    #[tokio::test]
    async fn a_log_that_failed_is_mended_and_no_packet_is_accepted_twice() {
        let key = HopKeyId(7);
        for seed in 0..20 {
            let disk = TestDisk::new(seed);
            let logs = ReplayLogs::new(disk.clone(), 1_000);
            logs.begin(key).await.unwrap();
            logs.admit(key, &tag(0)).await.unwrap();
            // Of a failed append a part may be on disk.
            disk.with(|world| world.room = 0);
            disk.append(&file(key), &[]).await.unwrap();
            assert!(matches!(logs.admit(key, &tag(1)).await, Err(ReplayError::Io(_))));
            disk.with(|world| world.room = usize::MAX);
            disk.append(&file(key), &[9; 5]).await.unwrap();
            assert!(
                matches!(logs.admit(key, &tag(2)).await, Err(ReplayError::Io(_))),
                "not before it is mended"
            );
            logs.mend().await.unwrap();
            logs.admit(key, &tag(3)).await.unwrap();
            disk.with(|world| world.sync_fails = true);
            assert!(matches!(logs.admit(key, &tag(4)).await, Err(ReplayError::Io(_))));
            disk.with(|world| world.sync_fails = false);
            assert!(matches!(logs.admit(key, &tag(5)).await, Err(ReplayError::Io(_))));
            logs.mend().await.unwrap();
            logs.admit(key, &tag(6)).await.unwrap();
            for n in 0..7 {
                assert!(
                    matches!(
                        logs.admit(key, &tag(n)).await,
                        Err(ReplayError::Replay(Replay::Seen))
                    ),
                    "{n}"
                );
            }
            disk.crash();
            let again = ReplayLogs::new(disk.clone(), 1_000);
            again.begin(key).await.unwrap();
            for n in [0, 3, 6] {
                assert!(
                    matches!(
                        again.admit(key, &tag(n)).await,
                        Err(ReplayError::Replay(Replay::Seen))
                    ),
                    "{n} after a crash"
                );
            }
        }
    }

    #[tokio::test]
    async fn a_full_filter_and_an_unknown_key_refuse() {
        let logs = ReplayLogs::new(TestDisk::new(1), 3);
        logs.begin(HopKeyId(1)).await.unwrap();
        for n in 0..3 {
            logs.admit(HopKeyId(1), &tag(n)).await.unwrap();
        }
        assert!(matches!(
            logs.admit(HopKeyId(1), &tag(9)).await,
            Err(ReplayError::Replay(Replay::Full { capacity: 3 }))
        ));
        assert!(matches!(
            logs.admit(HopKeyId(2), &tag(9)).await,
            Err(ReplayError::NoKey(_))
        ));
    }

    #[tokio::test]
    async fn tags_go_with_their_key() {
        let disk = TestDisk::new(1);
        let logs = ReplayLogs::new(disk.clone(), 100);
        for key in [1, 2] {
            logs.begin(HopKeyId(key)).await.unwrap();
            logs.admit(HopKeyId(key), &tag(1)).await.unwrap();
        }
        logs.end(HopKeyId(1)).await.unwrap();
        assert_eq!(disk.list(PREFIX).await.unwrap(), [file(HopKeyId(2))]);
        let again = ReplayLogs::new(disk.clone(), 100);
        again.sweep().await.unwrap();
        assert_eq!(disk.list(PREFIX).await.unwrap(), Vec::<String>::new());
    }

    proptest! {
        #[test]
        fn any_log_is_read_its_whole_records_are_replays_and_memory_follows_its_length(
            log in prop::collection::vec(any::<u8>(), 0..400),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let (disk, key) = (TestDisk::new(1), HopKeyId(7));
                disk.write(&file(key), &log).await.unwrap();
                let logs = ReplayLogs::new(disk.clone(), u32::MAX);
                logs.begin(key).await.unwrap();
                assert!(logs.memory() <= 2 * log.len() + 256, "{} bytes", logs.memory());
                let whole = log.len() - log.len() % ReplayTag::LEN;
                for record in log[..whole].chunks_exact(ReplayTag::LEN) {
                    let tag = ReplayTag::from_bytes(record.try_into().unwrap());
                    assert!(matches!(
                        logs.admit(key, &tag).await,
                        Err(ReplayError::Replay(Replay::Seen))
                    ));
                }
                // What follows a torn end is read back as well.
                logs.admit(key, &tag(1)).await.unwrap();
                let held = disk.read(&file(key)).await.unwrap().unwrap();
                assert_eq!(held, [&log[..whole], tag(1).as_bytes()].concat());
            });
        }
    }
}
