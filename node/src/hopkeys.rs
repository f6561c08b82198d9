//! A node's hop keys: one for each period, kept on disk until the period after it has ended, then destroyed together
//! with their replay tags. Spec: SPEC §3.1, §10.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

use phantom_core::directory::descriptor::HopKeys;
use phantom_core::packet::{HopKeyId, HopSecret, HopSecrets, ReplayTag};
use phantom_core::units::WallTime;
use zeroize::Zeroizing;

use crate::store::replay::{ReplayError, ReplayLogs};
use crate::store::{Disk, NodeTime};

const PREFIX: &str = "hop-";

/// Keys and replay tags. Call [`HopKeyStore::tick`] when it says so, and publish [`HopKeyStore::public`] after each.
#[derive(Debug)]
pub struct HopKeyStore<R> {
    rt: R,
    time: NodeTime<R>,
    period: Duration,
    secrets: BTreeMap<HopKeyId, HopSecret>,
    /// Keys that are over and perhaps still on disk.
    doomed: BTreeSet<HopKeyId>,
    replay: ReplayLogs<R>,
}

impl<R: Disk> HopKeyStore<R> {
    /// Reads the keys of an earlier run that may still serve, destroys the others, and makes those that are missing.
    /// Each filter holds `capacity` packets (see `ReplayFilter::capacity_for`).
    ///
    /// # Errors
    /// Of the store.
    pub async fn open(rt: R, time: NodeTime<R>, period: Duration, capacity: u32) -> io::Result<Self> {
        let replay = ReplayLogs::new(rt.clone(), capacity);
        let mut keys = Self {
            rt,
            time,
            period,
            secrets: BTreeMap::new(),
            doomed: BTreeSet::new(),
            replay,
        };
        let now = keys.time.now();
        let oldest = HopKeyId::at(now, period).previous();
        // What is destroyed below is over for good, even if the clock says otherwise at the next start.
        keys.time.persist(now).await?;
        for name in keys.rt.list(PREFIX).await? {
            let id = name
                .strip_prefix(PREFIX)
                .and_then(|rest| rest.strip_suffix(".key")?.parse().ok())
                .map(HopKeyId);
            let Some(id) = id.filter(|id| file(*id) == name) else {
                continue;
            };
            let bytes = if id >= oldest {
                keys.rt.read(&name).await?
            } else {
                None
            };
            match bytes
                .and_then(|bytes| <[u8; 32]>::try_from(&bytes[..]).ok())
                .map(Zeroizing::new)
            {
                Some(bytes) => {
                    // Without its tags the key must not serve: an error here ends the start.
                    keys.replay.begin(id).await?;
                    keys.secrets.insert(id, HopSecret::from_bytes(id, *bytes));
                }
                None => {
                    keys.doomed.insert(id);
                }
            }
        }
        keys.destroy(now).await?;
        keys.replay.sweep().await?;
        keys.tick().await?;
        Ok(keys)
    }

    /// Makes this period's key and the next one's, destroys those whose time has ended, and mends replay logs that have
    /// failed. Returns when to call it again.
    ///
    /// # Errors
    /// Of the store, when all else is done that could be: call it again.
    pub async fn tick(&mut self) -> io::Result<WallTime> {
        let now = self.time.now();
        let current = HopKeyId::at(now, self.period);
        // Out of use first, whatever the disk says.
        let kept = self.secrets.split_off(&current.previous());
        let over = std::mem::replace(&mut self.secrets, kept);
        self.doomed.extend(over.into_keys());
        let made = self.make(current).await;
        let destroyed = self.destroy(now).await;
        let mended = self.replay.mend().await;
        made.and(destroyed).and(mended)?;
        Ok(current.next().starts(self.period))
    }

    async fn make(&mut self, current: HopKeyId) -> io::Result<()> {
        for id in [current, current.next()] {
            if !self.secrets.contains_key(&id) {
                let secret = HopSecret::from_rng(id, &mut self.rt.rng("hop key"));
                self.replay.begin(id).await?;
                self.rt.write(&file(id), &*secret.to_bytes()).await?;
                self.secrets.insert(id, secret);
            }
        }
        Ok(())
    }

    /// The public keys of this period and the next, for the descriptor.
    pub fn public(&self) -> Option<HopKeys> {
        let epoch = HopKeyId::at(self.time.now(), self.period);
        let public = |id| self.secrets.get(&id).map(HopSecret::public);
        Some(HopKeys {
            epoch,
            current: public(epoch)?,
            next: public(epoch.next())?,
        })
    }

    /// The keys to open packets with now: of the period before, this one and the next (for senders whose clock is
    /// ahead). To be taken anew after each [`HopKeyStore::tick`]: the old set still holds destroyed keys.
    pub fn secrets(&self) -> Option<HopSecrets> {
        let mut all = self.secrets.values().cloned();
        let mut out = HopSecrets::new(all.next()?);
        all.for_each(|secret| out.insert(secret));
        Some(out)
    }

    /// Marks a packet as seen; when this returns `Ok`, that is durable, and the packet may be acted on.
    ///
    /// # Errors
    /// [`ReplayError`]: drop the packet.
    pub async fn admit(&self, key: HopKeyId, tag: &ReplayTag) -> Result<(), ReplayError> {
        self.replay.admit(key, tag).await
    }

    /// Destroys the doomed keys: each first itself, then its tags, so that no key is ever without them. What could not be
    /// removed stays doomed.
    async fn destroy(&mut self, now: WallTime) -> io::Result<()> {
        if self.doomed.is_empty() {
            return Ok(());
        }
        self.time.persist(now).await?;
        let mut destroyed = Ok(());
        for id in self.doomed.clone() {
            let removed = match self.rt.remove(&file(id)).await {
                Ok(()) => self.replay.end(id).await,
                failed => failed,
            };
            match removed {
                Ok(()) => {
                    self.doomed.remove(&id);
                }
                Err(error) => destroyed = Err(error),
            }
        }
        destroyed
    }
}

fn file(id: HopKeyId) -> String {
    format!("{PREFIX}{:010}.key", id.0)
}

#[cfg(test)]
mod tests {
    use phantom_core::runtime::{Clock, Store};
    use phantom_core::trusted_time::TimeLimits;
    use proptest::prelude::*;

    use super::*;
    use crate::store::disk::TestDisk;

    const HOUR: Duration = Duration::from_secs(3_600);

    async fn open(disk: &TestDisk) -> HopKeyStore<TestDisk> {
        let time = NodeTime::open(disk.clone(), TimeLimits::default()).await.unwrap();
        HopKeyStore::open(disk.clone(), time, HOUR, 1_000).await.unwrap()
    }

    #[tokio::test]
    async fn a_key_serves_its_hour_and_the_next_and_is_then_destroyed() {
        let disk = TestDisk::new(1);
        let mut keys = open(&disk).await;
        let first = keys.public().unwrap();
        let held = |keys: &HopKeyStore<TestDisk>| keys.secrets().unwrap().get(first.epoch).is_some();
        disk.pass(HOUR);
        keys.tick().await.unwrap();
        assert!(held(&keys), "accepted for the hour after its own");
        assert_eq!(
            keys.public().unwrap().current,
            first.next,
            "the next was announced"
        );
        let secret = *keys.secrets().unwrap().get(first.epoch).unwrap().to_bytes();
        let on_disk = || {
            disk.dump()
                .iter()
                .any(|(_, bytes)| bytes.windows(32).any(|window| window == secret))
        };
        assert!(on_disk());
        disk.pass(HOUR);
        keys.tick().await.unwrap();
        assert!(!held(&keys) && !on_disk());
        assert!(matches!(
            keys.admit(first.epoch, &ReplayTag::from_bytes([1; 16])).await,
            Err(ReplayError::NoKey(_))
        ));
    }

    /// A disk that fails for a while keeps a key longer, but not for ever, and it keeps nobody from having the next keys.
    #[tokio::test]
    async fn a_key_whose_removal_failed_is_removed_as_soon_as_the_disk_lets_it() {
        let disk = TestDisk::new(1);
        let mut keys = open(&disk).await;
        let first = keys.public().unwrap();
        let on_disk = || disk.dump().iter().any(|(name, _)| *name == file(first.epoch));
        disk.with(|world| world.remove_fails = true);
        for _ in 0..3 {
            disk.pass(HOUR);
            let _ = keys.tick().await; // the first one has nothing to destroy
        }
        assert!(keys.tick().await.is_err() && on_disk());
        assert!(
            keys.secrets().unwrap().get(first.epoch).is_none(),
            "it serves no more"
        );
        assert!(keys.public().is_some(), "this hour has its keys");
        disk.with(|world| world.remove_fails = false);
        keys.tick().await.unwrap();
        assert!(!on_disk());
        assert!(
            disk.list("replay-").await.unwrap().len() <= 3,
            "nor are its tags there"
        );
    }

    #[tokio::test]
    async fn keys_and_tags_survive_a_crash_and_no_longer_than_their_time() {
        let disk = TestDisk::new(1);
        let keys = open(&disk).await;
        let (public, tag) = (keys.public().unwrap(), ReplayTag::from_bytes([7; 16]));
        keys.admit(public.epoch, &tag).await.unwrap();
        disk.crash();
        let keys = open(&disk).await;
        assert_eq!(keys.public(), Some(public));
        assert!(matches!(
            keys.admit(public.epoch, &tag).await,
            Err(ReplayError::Replay(_))
        ));
        drop(keys);
        disk.pass(3 * HOUR);
        disk.crash();
        let keys = open(&disk).await;
        assert!(keys.secrets().unwrap().get(public.epoch).is_none());
        // A clock set back brings no destroyed key back.
        disk.with(|world| world.wall = world.wall - 3 * HOUR);
        let again = open(&disk).await;
        assert!(again.public().unwrap().epoch > public.epoch);
        assert!(
            disk.list("replay-").await.unwrap().len() <= 3 && disk.wall() < public.epoch.starts(HOUR) + HOUR
        );
    }

    proptest! {
        #[test]
        fn whatever_is_in_key_files_only_whole_keys_of_this_time_serve_and_read_back(
            files in prop::collection::btree_map(-3_i64..4, prop::collection::vec(any::<u8>(), 28..36), 0..7),
            stranger in "hop-[0-9a-z.]{0,16}",
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let disk = TestDisk::new(1);
                let now = HopKeyId::at(disk.wall(), HOUR);
                let id = |offset: i64| HopKeyId(u32::try_from(i64::from(now.0) + offset).unwrap());
                disk.write(&stranger, b"whatever").await.unwrap();
                for (offset, bytes) in &files {
                    disk.write(&file(id(*offset)), bytes).await.unwrap();
                }
                let keys = open(&disk).await;
                let held = keys.secrets().unwrap();
                for (offset, bytes) in files {
                    let serves = held.get(id(offset)).is_some_and(|key| key.to_bytes().as_slice() == bytes);
                    assert_eq!(serves, offset >= -1 && bytes.len() == 32, "{offset}: {} bytes", bytes.len());
                }
                assert!(keys.public().is_some_and(|public| public.epoch == now));
                assert_eq!(open(&disk).await.public(), keys.public(), "what was made is read back");
            });
        }
    }
}
