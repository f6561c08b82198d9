//! A test double of a peer's disk and clock: what was appended and not synced is lost or torn by a crash.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use phantom_core::event::Event;
use phantom_core::runtime::{Clock, Entropy, Events, Store};
use phantom_core::units::{Instant, WallTime};
use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};

#[derive(Clone)]
pub(crate) struct TestDisk(Arc<Mutex<World>>);

pub(crate) struct World {
    files: BTreeMap<String, File>,
    rng: ChaCha12Rng,
    pub(crate) now: Instant,
    pub(crate) wall: WallTime,
    pub(crate) events: Vec<Event>,
    pub(crate) syncs: usize,
    /// Bytes that still fit.
    pub(crate) room: usize,
    pub(crate) sync_fails: bool,
    pub(crate) remove_fails: bool,
    pub(crate) read_fails: bool,
}

#[derive(Clone, Default)]
struct File {
    bytes: Vec<u8>,
    synced: usize,
}

impl TestDisk {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(World {
            files: BTreeMap::new(),
            rng: ChaCha12Rng::seed_from_u64(seed),
            now: Instant::ZERO,
            wall: WallTime::from_unix_secs(1_800_000_000),
            events: Vec::new(),
            syncs: 0,
            room: usize::MAX,
            sync_fails: false,
            remove_fails: false,
            read_fails: false,
        })))
    }

    pub(crate) fn with<T>(&self, f: impl FnOnce(&mut World) -> T) -> T {
        f(&mut self.0.lock().unwrap())
    }

    /// Power fails: of each file, a prefix of what was not synced is left, and its last bytes may be garbage.
    pub(crate) fn crash(&self) {
        self.with(|world| {
            let rng = &mut world.rng;
            for file in world.files.values_mut() {
                let loose = file.bytes.len() - file.synced;
                let kept = if loose == 0 {
                    0
                } else {
                    rng.next_u32() as usize % (loose + 1)
                };
                file.bytes.truncate(file.synced + kept);
                let torn = kept.min(rng.next_u32() as usize % 40);
                let from = file.bytes.len() - torn;
                rng.fill_bytes(&mut file.bytes[from..]);
                file.synced = file.bytes.len();
            }
            world.now = Instant::ZERO;
        });
    }

    pub(crate) fn pass(&self, by: std::time::Duration) {
        self.with(|world| {
            world.now += by;
            world.wall = world.wall + by;
        });
    }

    /// All bytes of all files.
    pub(crate) fn dump(&self) -> Vec<(String, Vec<u8>)> {
        self.with(|world| {
            world
                .files
                .iter()
                .map(|(name, file)| (name.clone(), file.bytes.clone()))
                .collect()
        })
    }

    pub(crate) fn damage(&self, file: &str, at: usize) {
        self.with(|world| world.files.get_mut(file).unwrap().bytes[at] ^= 1);
    }
}

impl Clock for TestDisk {
    type Sleep = std::future::Ready<()>;
    fn now(&self) -> Instant {
        self.with(|world| world.now)
    }
    fn wall(&self) -> WallTime {
        self.with(|world| world.wall)
    }
    fn sleep_until(&self, at: Instant) -> Self::Sleep {
        self.with(|world| world.now = world.now.max(at));
        std::future::ready(())
    }
}

impl Entropy for TestDisk {
    fn rng(&self, _label: &'static str) -> ChaCha12Rng {
        self.with(|world| ChaCha12Rng::from_rng(&mut world.rng))
    }
}

impl Events for TestDisk {
    fn emit(&self, event: Event) {
        self.with(|world| world.events.push(event));
    }
}

fn failed(what: &str) -> io::Error {
    io::Error::other(format!("the test makes {what} fail"))
}

impl Store for TestDisk {
    async fn append(&self, file: &str, bytes: &[u8]) -> io::Result<u64> {
        // A real one takes its time, and others run meanwhile.
        tokio::task::yield_now().await;
        self.with(|world| {
            if world.room < bytes.len() {
                return Err(io::ErrorKind::StorageFull.into());
            }
            world.room -= bytes.len();
            let file = world.files.entry(file.to_owned()).or_default();
            file.bytes.extend_from_slice(bytes);
            Ok((file.bytes.len() - bytes.len()) as u64)
        })
    }

    async fn write(&self, file: &str, bytes: &[u8]) -> io::Result<()> {
        self.with(|world| {
            let file = world.files.entry(file.to_owned()).or_default();
            *file = File {
                bytes: bytes.to_vec(),
                synced: bytes.len(),
            };
        });
        Ok(())
    }

    async fn read(&self, file: &str) -> io::Result<Option<Bytes>> {
        Ok(self.with(|world| world.files.get(file).map(|file| Bytes::from(file.bytes.clone()))))
    }

    async fn read_at(&self, file: &str, offset: u64, len: usize) -> io::Result<Bytes> {
        self.with(|world| {
            if world.read_fails {
                return Err(failed("reads"));
            }
            let file = world.files.get(file).ok_or(io::ErrorKind::NotFound)?;
            let from = offset as usize;
            let bytes = file
                .bytes
                .get(from..from + len)
                .ok_or(io::ErrorKind::UnexpectedEof)?;
            Ok(Bytes::copy_from_slice(bytes))
        })
    }

    async fn remove(&self, file: &str) -> io::Result<()> {
        self.with(|world| {
            if world.remove_fails {
                return Err(failed("removal"));
            }
            world.files.remove(file);
            Ok(())
        })
    }

    async fn list(&self, prefix: &str) -> io::Result<Vec<String>> {
        Ok(self.with(|world| {
            world
                .files
                .keys()
                .filter(|name| name.starts_with(prefix))
                .cloned()
                .collect()
        }))
    }

    async fn sync(&self, file: &str) -> io::Result<()> {
        let covered = self.with(|world| world.files.get(file).map_or(0, |file| file.bytes.len()));
        // Much longer than an append, as on a real disk.
        for _ in 0..16 {
            tokio::task::yield_now().await;
        }
        self.with(|world| {
            if world.sync_fails {
                return Err(failed("syncs"));
            }
            world.syncs += 1;
            let file = world.files.get_mut(file).ok_or(io::ErrorKind::NotFound)?;
            file.synced = file.synced.max(covered);
            Ok(())
        })
    }
}
