//! The store over a disk that crashes, fills up, fails and lies about the time.

use std::collections::BTreeSet;
use std::pin::{Pin, pin};
use std::task::{Context, Waker};

use bytes::Bytes;
use phantom_core::mailbox::{BODY_LEN, BULK_BODY_LEN, BoxSeed, Unsigned, WriteCap};
use phantom_core::trusted_time::TimeLimits;
use proptest::prelude::*;
use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;

use super::disk::TestDisk;
use super::*;

const MINUTE: Duration = Duration::from_secs(60);

fn signed(seed: u64, bucket: TtlBucket, until: WallTime, fill: u8) -> Record {
    let cap = WriteCap::from_rng(&mut ChaCha12Rng::seed_from_u64(1));
    let content = Unsigned {
        bucket,
        not_after: bucket.bound(until),
        body: Bytes::from(vec![fill; BODY_LEN]),
    };
    Record::sign(&cap, &BoxSeed::derive(&[2; 32], b"test", seed), content)
}

/// A bulk box for as long as [`record`]'s.
fn bulk(disk: &TestDisk, seed: u64) -> Record {
    let small = record(disk, seed);
    let cap = WriteCap::from_rng(&mut ChaCha12Rng::seed_from_u64(1));
    let content = Unsigned {
        bucket: small.bucket(),
        not_after: small.not_after(),
        body: Bytes::from(vec![seed.to_le_bytes()[0]; BULK_BODY_LEN]),
    };
    Record::sign(&cap, &BoxSeed::derive(&[3; 32], b"test", seed), content)
}

fn record(disk: &TestDisk, seed: u64) -> Record {
    let bucket = TtlBucket::ALL[2];
    signed(seed, bucket, disk.wall() + bucket.ttl(), seed.to_le_bytes()[0])
}

async fn store(disk: &TestDisk) -> BoxStore<TestDisk> {
    with(disk, StoreConfig::default()).await
}

async fn with(disk: &TestDisk, config: StoreConfig) -> BoxStore<TestDisk> {
    let time = NodeTime::open(disk.clone(), TimeLimits::default())
        .await
        .expect("time");
    BoxStore::open(disk.clone(), time, config).await.expect("opens")
}

fn purged(disk: &TestDisk) -> u32 {
    let boxes = |event: &Event| match event {
        Event::SegmentPurged { boxes } => *boxes,
        _ => 0,
    };
    disk.with(|world| world.events.iter().map(boxes).sum())
}

/// Whether any 24 bytes of `secret` are in any file.
fn residue(disk: &TestDisk, secret: &[u8]) -> bool {
    let windows: BTreeSet<&[u8]> = secret.chunks_exact(24).collect();
    disk.dump()
        .iter()
        .any(|(_, bytes)| bytes.windows(24).any(|window| windows.contains(window)))
}

#[tokio::test]
async fn a_box_is_written_once_and_read_until_it_expires() {
    let disk = TestDisk::new(1);
    let store = store(&disk).await;
    let one = record(&disk, 1);
    assert_eq!(store.get(one.address()).await.unwrap(), None);
    assert!(matches!(store.put(Source(1), &one).await, Ok(Stored::New { .. })));
    assert!(matches!(store.put(Source(2), &one).await, Ok(Stored::Already)));
    let other = signed(1, one.bucket(), disk.wall() + MINUTE, 99);
    assert!(matches!(
        store.put(Source(1), &other).await,
        Err(StoreError::Conflict)
    ));
    assert_eq!(store.get(one.address()).await.unwrap(), Some(one.clone()));
    disk.pass(MINUTE);
    assert_eq!(store.get(one.address()).await.unwrap(), None);
    assert!(
        store.put(Source(1), &one).await.is_err(),
        "what has expired does not come back"
    );
}

#[tokio::test]
async fn boxes_of_both_classes_are_found_again_after_a_restart() {
    let disk = TestDisk::new(1);
    let (small, large) = (record(&disk, 1), bulk(&disk, 2));
    let config = StoreConfig {
        segment_len_max: 2 * frame_len(Class::Bulk) as u64,
        ..StoreConfig::default()
    };
    let first = with(&disk, config).await;
    for record in [&small, &large, &bulk(&disk, 3), &bulk(&disk, 4)] {
        assert!(matches!(
            first.put(Source(1), record).await,
            Ok(Stored::New { .. })
        ));
    }
    assert_eq!(first.stats().segments, 3, "one of small boxes, two of bulk");
    drop(first);
    let store = with(&disk, config).await;
    assert_eq!(store.get(small.address()).await.unwrap(), Some(small.clone()));
    assert_eq!(store.get(large.address()).await.unwrap(), Some(large.clone()));
    let (page, _) = store.page(Cursor::default(), 10).await.unwrap();
    assert_eq!(page.len(), 4);
    assert!(matches!(store.put(Source(1), &large).await, Ok(Stored::Already)));
}

#[tokio::test]
async fn a_bulk_box_costs_a_link_what_it_takes() {
    let disk = TestDisk::new(1);
    let quota = QuotaConfig {
        burst: 25,
        ..QuotaConfig::default()
    };
    let store = with(
        &disk,
        StoreConfig {
            quota,
            ..StoreConfig::default()
        },
    )
    .await;
    for seed in 0..2 {
        assert!(store.put(Source(1), &bulk(&disk, seed)).await.is_ok());
    }
    assert!(matches!(
        store.put(Source(1), &bulk(&disk, 3)).await,
        Err(StoreError::OverQuota)
    ));
    assert!(
        store.put(Source(1), &record(&disk, 4)).await.is_ok(),
        "five small ones are left"
    );
}

#[tokio::test]
async fn nothing_is_left_after_a_purge_and_everything_without_one() {
    let disk = TestDisk::new(1);
    let store = store(&disk).await;
    for seed in 0..15 {
        store.put(Source::OWN, &record(&disk, seed)).await.unwrap();
    }
    for seed in 0..5 {
        store.put(Source::OWN, &bulk(&disk, seed)).await.unwrap();
    }
    let sealed: Vec<u8> = disk
        .dump()
        .into_iter()
        .filter(|(name, _)| name.ends_with(".seg"))
        .flat_map(|(_, b)| b)
        .collect();
    let keys: Vec<u8> = disk
        .dump()
        .into_iter()
        .filter(|(name, _)| name.ends_with(".key"))
        .flat_map(|(_, b)| b)
        .collect();
    assert!(
        !residue(&disk, &record(&disk, 3).encode()) && !residue(&disk, &bulk(&disk, 3).encode()),
        "bodies are sealed on disk"
    );
    disk.pass(2 * MINUTE);
    // All have expired, nothing has purged: the scan must be able to find what is there.
    assert!(residue(&disk, &sealed) && residue(&disk, &keys));
    assert_eq!(recoverable(&disk).await.unwrap().0.len(), 20);
    store.tick().await.unwrap();
    assert!(!residue(&disk, &sealed) && !residue(&disk, &keys));
    assert_eq!(recoverable(&disk).await.unwrap(), (vec![], vec![]));
    assert_eq!(purged(&disk), 20);
    assert_eq!((store.stats().boxes, store.stats().index_entries), (0, 0));
    assert_eq!(disk.list("").await.unwrap(), ["time"]);
}

/// The search for residue knows nothing of the store's reader: it finds a body as it was sealed, as its writer sealed it,
/// and a key, in files that the store does not know, at any offset.
#[tokio::test]
async fn bytes_left_anywhere_after_a_purge_are_found() {
    use residue::{Left, Residue};
    type Leave = fn(&[(String, Vec<u8>)], &Record) -> Vec<u8>;
    let of = |files: &[(String, Vec<u8>)], kind: &str| -> Vec<u8> {
        let of_kind = files.iter().filter(|(name, _)| name.ends_with(kind));
        of_kind.flat_map(|(_, bytes)| bytes.clone()).collect()
    };
    let cases: [(Leave, Left); 4] = [
        (|_, _| vec![7; 9_000], Left::default()),
        (
            |files, _| {
                files
                    .iter()
                    .find(|(name, _)| name.ends_with(".seg"))
                    .unwrap()
                    .1
                    .clone()
            },
            Left { boxes: 5, keys: 0 },
        ),
        (|_, record| record.body().to_vec(), Left { boxes: 1, keys: 0 }),
        (
            |files, _| {
                files
                    .iter()
                    .find(|(name, _)| name.ends_with(".key"))
                    .unwrap()
                    .1
                    .clone()
            },
            Left { boxes: 0, keys: 1 },
        ),
    ];
    for (padding, (leave, expected)) in cases.into_iter().enumerate() {
        let disk = TestDisk::new(1);
        let store = store(&disk).await;
        let mut memory = Residue::default();
        let note = |memory: &mut Residue| {
            let files = disk.dump();
            memory.note(files.iter().map(|(name, _)| name), |name, at, len| {
                let (_, bytes) = files.iter().find(|(file, _)| file == name)?;
                let bytes = bytes.get(at as usize..at as usize + len)?;
                Some(Bytes::copy_from_slice(bytes))
            });
        };
        let random = |seed: u64| {
            let bucket = TtlBucket::ALL[2];
            let mut body = vec![0; BODY_LEN];
            ChaCha12Rng::seed_from_u64(seed).fill_bytes(&mut body);
            let content = Unsigned {
                bucket,
                not_after: bucket.bound(disk.wall() + bucket.ttl()),
                body: body.into(),
            };
            let cap = WriteCap::from_rng(&mut ChaCha12Rng::seed_from_u64(1));
            Record::sign(&cap, &BoxSeed::derive(&[2; 32], b"test", seed), content)
        };
        for seed in 0..5 {
            store.put(Source::OWN, &random(seed)).await.unwrap();
            note(&mut memory);
        }
        let kept = leave(&disk.dump(), &random(3));
        assert!(!of(&disk.dump(), ".seg").is_empty() && !of(&disk.dump(), ".key").is_empty());
        assert_eq!(
            memory.due(disk.wall(), Duration::ZERO).boxes(),
            0,
            "nothing is due yet"
        );
        disk.pass(2 * MINUTE);
        store.tick().await.unwrap();
        assert_eq!(recoverable(&disk).await.unwrap(), (vec![], vec![]));
        let mut bytes = vec![1; 100 + padding];
        bytes.extend(kept);
        disk.append("journal", &bytes).await.unwrap();
        note(&mut memory);
        let due = memory.due(disk.wall(), Duration::ZERO);
        assert_eq!(due.boxes(), 5);
        let files = disk.dump();
        assert_eq!(
            due.search(files.iter().map(|(_, bytes)| bytes.as_slice())),
            expected
        );
        assert_eq!(
            memory.due(disk.wall(), Duration::ZERO).boxes(),
            0,
            "what was given out is forgotten"
        );
    }
}

#[tokio::test]
async fn a_clock_set_back_across_a_crash_revives_nothing() {
    let disk = TestDisk::new(1);
    let first = store(&disk).await;
    let one = record(&disk, 1);
    first.put(Source::OWN, &one).await.unwrap();
    disk.pass(MINUTE);
    // Judged as expired, not purged; then the node dies and the clock is set back.
    assert_eq!(first.get(one.address()).await.unwrap(), None);
    disk.crash();
    disk.with(|world| world.wall = world.wall - 90 * MINUTE);
    let again = store(&disk).await;
    assert_eq!(again.get(one.address()).await.unwrap(), None);
    assert!(disk.with(|world| {
        world
            .events
            .iter()
            .any(|event| matches!(event, Event::ClockRefused { .. }))
    }));
    assert_eq!(recoverable(&disk).await.unwrap().0, []);
}

#[tokio::test]
async fn a_leap_of_the_clock_is_refused_reported_and_purges_nothing() {
    let disk = TestDisk::new(1);
    let store = store(&disk).await;
    let one = record(&disk, 1);
    store.put(Source::OWN, &one).await.unwrap();
    disk.with(|world| world.wall = world.wall + 24 * 60 * MINUTE);
    store.tick().await.unwrap();
    store.tick().await.unwrap();
    assert_eq!(store.get(one.address()).await.unwrap(), Some(one));
    let refused = disk.with(|world| {
        world
            .events
            .iter()
            .filter(|e| matches!(e, Event::ClockRefused { .. }))
            .count()
    });
    assert_eq!(refused, 1, "reported once");
}

#[tokio::test]
async fn many_writers_share_a_sync() {
    let disk = TestDisk::new(1);
    let store = store(&disk).await;
    let before = disk.with(|world| world.syncs);
    let mut writers = tokio::task::JoinSet::new();
    for seed in 0..64 {
        let (store, record) = (store.clone(), record(&disk, seed));
        writers.spawn(async move { store.put(Source::OWN, &record).await.map(|_| ()) });
    }
    while let Some(done) = writers.join_next().await {
        done.unwrap().unwrap();
    }
    let syncs = disk.with(|world| world.syncs) - before;
    assert!(syncs <= 32, "{syncs} syncs for 64 boxes");
    disk.crash();
    assert_eq!(self::store(&disk).await.stats().boxes, 64);
}

#[tokio::test]
async fn the_same_box_from_two_links_at_once_is_stored_once() {
    let disk = TestDisk::new(1);
    let store = store(&disk).await;
    let one = record(&disk, 1);
    let (a, b) = (store.clone(), store.clone());
    let (x, y) = (one.clone(), one.clone());
    let a = tokio::task::JoinSet::from_iter([async move { a.put(Source(1), &x).await }]).join_all();
    let b = tokio::task::JoinSet::from_iter([async move { b.put(Source(2), &y).await }]).join_all();
    let (a, b) = (a.await, b.await);
    let new = a
        .iter()
        .chain(&b)
        .filter(|done| matches!(done, Ok(Stored::New { .. })))
        .count();
    assert_eq!((new, store.stats().boxes), (1, 1));
    assert!(a[0].is_ok() && b[0].is_ok());
}

#[tokio::test]
async fn a_full_disk_refuses_writes_keeps_boxes_and_leaves_no_litter() {
    let disk = TestDisk::new(1);
    let store = store(&disk).await;
    let one = record(&disk, 1);
    store.put(Source::OWN, &one).await.unwrap();
    disk.with(|world| world.room = 10);
    let files = disk.list("").await.unwrap().len();
    for seed in 2..12 {
        assert!(matches!(
            store.put(Source::OWN, &record(&disk, seed)).await,
            Err(StoreError::Io(_))
        ));
    }
    assert!(disk.list("").await.unwrap().len() <= files + 1);
    disk.with(|world| world.room = usize::MAX);
    store.put(Source::OWN, &record(&disk, 2)).await.unwrap();
    assert_eq!(store.get(one.address()).await.unwrap(), Some(one));
}

#[tokio::test]
async fn a_failed_sync_acknowledges_nothing_until_a_new_segment() {
    let disk = TestDisk::new(1);
    let store = store(&disk).await;
    let (one, two) = (record(&disk, 1), record(&disk, 2));
    store.put(Source::OWN, &one).await.unwrap();
    disk.with(|world| world.sync_fails = true);
    assert!(matches!(
        store.put(Source::OWN, &two).await,
        Err(StoreError::Io(_))
    ));
    disk.with(|world| world.sync_fails = false);
    store.put(Source::OWN, &two).await.unwrap();
    disk.crash();
    let store = self::store(&disk).await;
    assert_eq!(store.get(one.address()).await.unwrap(), Some(one));
    assert_eq!(store.get(two.address()).await.unwrap(), Some(two));
}

#[tokio::test]
async fn a_failed_read_is_an_error_and_a_damaged_box_may_be_written_again() {
    let disk = TestDisk::new(1);
    let store = store(&disk).await;
    let one = record(&disk, 1);
    store.put(Source::OWN, &one).await.unwrap();
    disk.with(|world| world.read_fails = true);
    assert!(matches!(store.get(one.address()).await, Err(StoreError::Io(_))));
    disk.with(|world| world.read_fails = false);
    assert_eq!(store.get(one.address()).await.unwrap(), Some(one.clone()));
    let file = disk
        .list("box-")
        .await
        .unwrap()
        .into_iter()
        .find(|name| name.ends_with(".seg"))
        .unwrap();
    disk.damage(&file, 100);
    assert_eq!(store.get(one.address()).await.unwrap(), None);
    assert_eq!(store.stats().damaged, 1);
    assert!(matches!(
        store.put(Source::OWN, &one).await,
        Ok(Stored::New { .. })
    ));
    assert_eq!(store.get(one.address()).await.unwrap(), Some(one));
}

#[tokio::test]
async fn files_that_cannot_be_removed_are_tried_again_and_not_read_meanwhile() {
    let disk = TestDisk::new(1);
    let store = store(&disk).await;
    let one = record(&disk, 1);
    store.put(Source::OWN, &one).await.unwrap();
    disk.pass(2 * MINUTE);
    disk.with(|world| world.remove_fails = true);
    store.tick().await.unwrap();
    assert!(!store.holds(one.address()));
    disk.with(|world| world.remove_fails = false);
    store.tick().await.unwrap();
    assert_eq!(disk.list("box-").await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn a_purge_cut_short_by_a_crash_is_finished_at_the_next_start() {
    let disk = TestDisk::new(1);
    let first = store(&disk).await;
    first.put(Source::OWN, &record(&disk, 1)).await.unwrap();
    let key = disk
        .list("box-")
        .await
        .unwrap()
        .into_iter()
        .find(|name| name.ends_with(".key"))
        .unwrap();
    disk.remove(&key).await.unwrap();
    assert_eq!(
        recoverable(&disk).await.unwrap().1.len(),
        1,
        "a segment without key is noticed"
    );
    disk.crash();
    let again = store(&disk).await;
    assert_eq!(again.stats().boxes, 0);
    assert_eq!(disk.list("box-").await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn a_writer_beyond_the_bound_is_told_to_try_again() {
    let disk = TestDisk::new(1);
    let config = StoreConfig {
        writers_max: 2,
        ..StoreConfig::default()
    };
    let store = with(&disk, config).await;
    let records = [1, 2, 3].map(|seed| record(&disk, seed));
    let [one, two, three] = &records;
    let put = |record| store.put(Source::OWN, record);
    let (mut first, mut second) = (pin!(put(one)), pin!(put(two)));
    // Begun, and waiting for the disk.
    for write in [
        first.as_mut() as Pin<&mut dyn Future<Output = _>>,
        second.as_mut(),
    ] {
        assert!(write.poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    let third = put(three).await;
    let (first, second) = (first.await, second.await);
    assert!(first.is_ok() && second.is_ok());
    assert!(matches!(third, Err(StoreError::Busy { writers: 2 })), "{third:?}");
    assert!(store.put(Source::OWN, three).await.is_ok(), "later there is room");
    let highest = disk.with(|world| {
        let marks = world.events.iter().filter_map(|event| match event {
            Event::QueueHigh { depth, bound, .. } => Some((*depth, *bound)),
            _ => None,
        });
        marks.max()
    });
    assert_eq!(highest, Some((2, 2)));
}

#[tokio::test]
async fn capacity_and_quota_are_bounds() {
    let disk = TestDisk::new(1);
    let quota = QuotaConfig {
        burst: 3,
        per_box: MINUTE,
        links_max: 4,
    };
    let config = StoreConfig {
        capacity: 4 * frame_len(Class::Small) as u64,
        quota,
        ..StoreConfig::default()
    };
    let store = with(&disk, config).await;
    for seed in 0..3 {
        store.put(Source(1), &record(&disk, seed)).await.unwrap();
    }
    assert!(matches!(
        store.put(Source(1), &record(&disk, 3)).await,
        Err(StoreError::OverQuota)
    ));
    store.put(Source(2), &record(&disk, 3)).await.unwrap();
    assert!(matches!(
        store.put(Source(2), &record(&disk, 4)).await,
        Err(StoreError::Full { .. })
    ));
}

#[tokio::test]
async fn pages_give_every_live_box_once() {
    let disk = TestDisk::new(1);
    let config = StoreConfig {
        segment_len_max: 5 * frame_len(Class::Small) as u64,
        ..StoreConfig::default()
    };
    let store = with(&disk, config).await;
    let all: BTreeSet<_> = (0..23)
        .map(|seed| record(&disk, seed))
        .map(|r| *r.address())
        .collect();
    for seed in 0..23 {
        store.put(Source::OWN, &record(&disk, seed)).await.unwrap();
    }
    assert!(store.stats().segments >= 5);
    let (mut seen, mut cursor) = (Vec::new(), Some(Cursor::default()));
    while let Some(at) = cursor {
        let (page, next) = store.page(at, 4).await.unwrap();
        assert!(page.len() <= 4);
        seen.extend(page.iter().map(|record| *record.address()));
        cursor = next;
    }
    assert_eq!((seen.len(), seen.into_iter().collect::<BTreeSet<_>>()), (23, all));
}

/// A box costs at most 64 bytes of memory in the index.
#[test]
fn the_index_is_small() {
    // A B-tree node of 11 entries is at least half full but for the root; random keys fill it to about 0.69.
    let entry = size_of::<[u8; 16]>() + size_of::<Place>();
    assert!(entry * 100 / 55 + 8 <= 64, "{entry}");
}

#[derive(Clone, Debug)]
enum Step {
    Put(u64),
    Repeat(usize),
    Pass(u64),
    SetWall(i64),
    Tick,
    Crash,
    /// A write whose future is dropped after this many polls.
    Abandon(u64, usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => any::<u64>().prop_map(Step::Put),
        2 => any::<usize>().prop_map(Step::Repeat),
        3 => (0u64..40).prop_map(Step::Pass),
        1 => (-9_000i64..9_000).prop_map(Step::SetWall),
        2 => Just(Step::Tick),
        2 => Just(Step::Crash),
        1 => (any::<u64>(), 0usize..6).prop_map(|(seed, polls)| Step::Abandon(seed, polls)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_acknowledged_box_is_readable_or_expired_whatever_happens(
        seed: u64, steps in prop::collection::vec(step(), 1..60)
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let disk = TestDisk::new(seed);
            let config = StoreConfig { segment_len_max: 4 * frame_len(Class::Small) as u64, ..StoreConfig::default() };
            let mut store = with(&disk, config).await;
            let mut acknowledged: Vec<(Record, WallTime)> = Vec::new();
            let mut gone: BTreeSet<BoxAddress> = BTreeSet::new();
            for step in steps {
                match step {
                    Step::Put(seed) => {
                        let now = store.0.time.now();
                        let bucket = TtlBucket::ALL[(seed % 4) as usize];
                        let record = signed(seed, bucket, now + bucket.ttl(), 1);
                        if let Stored::New { expires } = store.put(Source::OWN, &record).await.expect("room and time") {
                            acknowledged.push((record, expires));
                        }
                    }
                    Step::Repeat(which) => {
                        if let Some((record, _)) = acknowledged.get(which % acknowledged.len().max(1)) {
                            match store.put(Source::OWN, record).await {
                                Ok(Stored::Already) | Err(StoreError::Expired) => {}
                                // Purged here before its signed bound: a late repeat is a new box.
                                Ok(Stored::New { .. }) => { gone.remove(record.address()); }
                                other => panic!("{other:?}"),
                            }
                        }
                    }
                    Step::Pass(secs) => disk.pass(Duration::from_secs(secs)),
                    Step::SetWall(secs) => disk.with(|world| {
                        let by = Duration::from_secs(secs.unsigned_abs());
                        world.wall = if secs < 0 { world.wall - by } else { world.wall + by };
                    }),
                    Step::Tick => { store.tick().await.expect("ticks"); }
                    Step::Crash => {
                        disk.crash();
                        store = with(&disk, config).await;
                    }
                    Step::Abandon(seed, polls) => {
                        let bucket = TtlBucket::ALL[3];
                        let record = signed(seed, bucket, store.0.time.now() + bucket.ttl(), 1);
                        let mut put = Box::pin(store.put(Source::OWN, &record));
                        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
                        for _ in 0..polls {
                            if put.as_mut().poll(&mut context).is_ready() {
                                break;
                            }
                        }
                    }
                }
                for (record, expires) in &acknowledged {
                    match store.get(record.address()).await.expect("readable") {
                        Some(found) => {
                            assert_eq!(&found, record);
                            assert!(!gone.contains(record.address()), "came back");
                        }
                        None => {
                            assert!(store.0.time.now() >= *expires, "lost before its time");
                            gone.insert(*record.address());
                        }
                    }
                }
            }
            store.tick().await.expect("ticks");
            let now = store.0.time.now();
            for left in recoverable(&disk).await.expect("reads").0 {
                let ends = segment::Name::parse(&left.file).map(|(name, _)| name.ends);
                assert!(ends.is_some_and(|ends| WallTime::from_unix_secs(ends) > now), "not purged: {left:?}");
            }
        });
    }
}
