//! The box store of a node: put, get and purge, on a file system in memory where there is one (`/dev/shm`), so that the
//! store is measured and not a disk. What a disk's `sync` adds: `cargo run --release -p phantom-node --example store_figures`.

use std::cell::Cell;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::Criterion;
use phantom_core::mailbox::{BODY_LEN, BoxSeed, Record, TtlBucket, Unsigned, WriteCap};
use phantom_core::runtime::Clock;
use phantom_core::runtime::tokio::{Config, TokioRuntime};
use phantom_core::trusted_time::TimeLimits;
use phantom_node::store::{BoxStore, NodeTime, Source, StoreConfig};
use phantom_yardstick::Table;
use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;

const BOXES: usize = 2_048;
const BUCKET: TtlBucket = TtlBucket::ALL[6];
const PURGES: usize = 5;

/// A store, and boxes to put into it.
struct World {
    tokio: tokio::runtime::Runtime,
    rt: TokioRuntime,
    time: NodeTime<TokioRuntime>,
    store: BoxStore<TokioRuntime>,
}

impl World {
    fn new(dir: &Path) -> Self {
        let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let tokio = tokio.expect("a runtime");
        let (rt, time, store) = tokio.block_on(async {
            let rt = TokioRuntime::start(Config::new("bench", dir)).expect("a directory");
            let time = NodeTime::open(rt.clone(), TimeLimits::default())
                .await
                .expect("new");
            let store = BoxStore::open(rt.clone(), time.clone(), StoreConfig::default());
            let store = store.await.expect("new");
            (rt, time, store)
        });
        Self {
            tokio,
            rt,
            time,
            store,
        }
    }

    fn records(&self) -> Vec<Record> {
        let cap = WriteCap::from_rng(&mut ChaCha12Rng::seed_from_u64(1));
        let record = |n| {
            let content = Unsigned {
                bucket: BUCKET,
                not_after: BUCKET.bound(self.rt.wall() + BUCKET.ttl()),
                body: Bytes::from(vec![7; BODY_LEN]),
            };
            Record::sign(&cap, &BoxSeed::derive(&[1; 32], b"bench", n), content)
        };
        (0..BOXES as u64).map(record).collect()
    }

    fn put(&self, record: &Record) {
        self.tokio
            .block_on(self.store.put(Source::OWN, record))
            .expect("room");
    }

    fn get(&self, record: &Record) {
        let got = self.tokio.block_on(self.store.get(record.address()));
        assert!(got.expect("readable").is_some());
    }

    /// What one box of many costs when all expire.
    fn purge(&self) -> Duration {
        // Evidence moves the time past the expiry of all, as a directory document would.
        let at = self.rt.wall() + BUCKET.ttl() * 2;
        self.time.witness(at..at);
        let took = timed(|| {
            self.tokio.block_on(self.store.tick()).expect("purged");
        });
        assert_eq!(self.store.stats().boxes, 0, "all boxes have expired");
        took / BOXES as u32
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark measures the real clock")]
fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

fn main() {
    let memory = Path::new("/dev/shm");
    let place = if memory.is_dir() {
        memory.to_owned()
    } else {
        std::env::temp_dir()
    };
    let dir = |name: &str| {
        let mut builder = tempfile::Builder::new();
        builder.prefix(name).tempdir_in(&place).expect("a directory")
    };

    let (mut put, mut purge) = (Duration::MAX, Duration::MAX);
    for _ in 0..PURGES {
        let dir = dir("phantom-bench-purge");
        let world = World::new(dir.path());
        let records = world.records();
        // A box is put once: the first puts cannot be repeated in a loop.
        put = put.min(timed(|| records.iter().for_each(|record| world.put(record))) / BOXES as u32);
        purge = purge.min(world.purge());
    }

    let dir = dir("phantom-bench");
    let world = World::new(dir.path());
    let records = world.records();
    records.iter().for_each(|record| world.put(record));
    let next = Cell::new(0);
    let turn = || {
        next.set((next.get() + 1) % BOXES);
        &records[next.get()]
    };
    let mut c = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20)
        .configure_from_args();
    c.bench_function("store/get", |b| b.iter(|| world.get(turn())));
    c.bench_function("store/put again", |b| b.iter(|| world.put(turn())));
    c.final_summary();

    if std::env::args().any(|arg| arg == "--bench") {
        let mut table = Table::new();
        table.row("get a box", || world.get(turn()));
        table.row("put a box that is held", || world.put(turn()));
        table.known("put a box, one writer, synced", put);
        table.known(format!("purge a box, {BOXES} at a time"), purge);
        table.print();
        println!("files in {}", place.display());
    }
}
