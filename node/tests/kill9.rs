//! A real process writes boxes and is killed with SIGKILL again and again. Every box that it said was stored is readable
//! or expired after each restart, and in the end nothing of an expired box is in any file.
//!
//! The test starts its own executable as the writer: `child` below does nothing unless it is told where to write.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use phantom_core::mailbox::{BODY_LEN, BoxAddress, BoxSeed, Record, TtlBucket, Unsigned, WriteCap};
use phantom_core::runtime::Clock;
use phantom_core::runtime::tokio::{Config, TokioRuntime};
use phantom_core::trusted_time::TimeLimits;
use phantom_core::units::WallTime;
use phantom_node::store::residue::{Left, Residue};
use phantom_node::store::{BoxStore, NodeTime, Source, StoreConfig, Stored, recoverable};
use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};

const PLACE: &str = "PHANTOM_KILL9_STORE";
const RUN: &str = "PHANTOM_KILL9_RUN";
const KILLS: u64 = 50;

fn record(run: u64, n: u64, now: WallTime) -> Record {
    let cap = WriteCap::from_rng(&mut ChaCha12Rng::seed_from_u64(9));
    // Half of them expire while the test runs.
    let bucket = TtlBucket::ALL[if n.is_multiple_of(2) { 0 } else { 4 }];
    let body = Bytes::from(blake3_fill(run, n));
    let content = Unsigned {
        bucket,
        not_after: bucket.bound(now + bucket.ttl()),
        body,
    };
    Record::sign(&cap, &BoxSeed::derive(&[3; 32], b"kill9", run << 32 | n), content)
}

/// A body that tells every box from every other.
fn blake3_fill(run: u64, n: u64) -> Vec<u8> {
    let mut body = vec![0; BODY_LEN];
    ChaCha12Rng::seed_from_u64(run << 32 | n).fill_bytes(&mut body);
    body
}

async fn open(place: &Path) -> (TokioRuntime, BoxStore<TokioRuntime>) {
    let rt = TokioRuntime::start(Config::new("kill9", place)).expect("starts");
    let time = NodeTime::open(rt.clone(), TimeLimits::default())
        .await
        .expect("time");
    let config = StoreConfig {
        segment_len_max: 1 << 20,
        ..StoreConfig::default()
    };
    let store = BoxStore::open(rt.clone(), time, config).await.expect("opens");
    (rt, store)
}

/// The writer: prints `run n expires` for each box that is stored, from several tasks at once, until it is killed.
#[test]
fn child() {
    let (Ok(place), Ok(run)) = (std::env::var(PLACE), std::env::var(RUN)) else {
        return;
    };
    let run: u64 = run.parse().expect("a number");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("tokio");
    runtime.block_on(async {
        let (rt, store) = open(Path::new(&place)).await;
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..8 {
            let (rt, store) = (rt.clone(), store.clone());
            writers.spawn(async move {
                for n in (writer..).step_by(8) {
                    let record = record(run, n, rt.wall());
                    if let Stored::New { expires } = store.put(Source::OWN, &record).await.expect("stored") {
                        let mut out = std::io::stdout().lock();
                        writeln!(
                            out,
                            "stored {run} {n} {} {}",
                            expires.as_unix_nanos(),
                            record.not_after()
                        )
                        .expect("out");
                        out.flush().expect("out");
                    }
                    if n.is_multiple_of(64) {
                        store.tick().await.expect("ticks");
                    }
                }
            });
        }
        while writers.join_next().await.is_some() {}
    });
}

/// Runs the writer, kills it after `life`, and returns what it acknowledged: number, expiry.
fn write_and_kill(place: &Path, run: u64, life: Duration) -> Vec<(u64, WallTime)> {
    let mut child = Command::new(std::env::current_exe().expect("this executable"))
        .args(["child", "--exact", "--nocapture", "--test-threads=1"])
        .env(PLACE, place)
        .env(RUN, run.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .expect("starts");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let (send, first) = mpsc::channel();
    // A thread of the test, not of the program: it must read while the test waits.
    #[expect(clippy::disallowed_methods, reason = "a test that drives a real process")]
    let reader = std::thread::spawn(move || {
        let mut stored = Vec::new();
        for line in lines.map_while(Result::ok) {
            let mut words = line
                .split_whitespace()
                .skip_while(|word| *word != "stored")
                .skip(2);
            let number = words.next().and_then(|word| word.parse().ok());
            let expires = words
                .next()
                .and_then(|word| word.parse().ok())
                .map(WallTime::from_unix_nanos);
            // The last line may be cut off by the kill: without all its words it acknowledges nothing.
            if let (Some(number), Some(expires), Some(_)) = (number, expires, words.next()) {
                stored.push((number, expires));
                let _ = send.send(());
            }
        }
        stored
    });
    let _ = first.recv_timeout(Duration::from_secs(20));
    #[expect(clippy::disallowed_methods, reason = "a test that drives a real process")]
    std::thread::sleep(life);
    child.kill().expect("SIGKILL");
    child.wait().expect("gone");
    reader.join().expect("read")
}

fn address(run: u64, n: u64) -> BoxAddress {
    *record(run, n, WallTime::from_unix_secs(1_800_000_000)).address()
}

/// Every file under `dir` with its bytes.
fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            all.extend(files(&path));
        } else {
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            all.push((name, std::fs::read(&path).expect("readable")));
        }
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_box_is_lost_by_fifty_kills_and_none_outlives_its_time() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut rng = ChaCha12Rng::seed_from_u64(50);
    let mut stored: BTreeMap<BoxAddress, WallTime> = BTreeMap::new();
    let mut fewest = usize::MAX;
    let mut memory = Residue::default();
    for run in 0..KILLS {
        let life = Duration::from_millis(u64::from(rng.next_u32() % 60));
        let acknowledged = write_and_kill(dir.path(), run, life);
        fewest = fewest.min(acknowledged.len());
        let seen = files(dir.path());
        memory.note(seen.iter().map(|(name, _)| name), |name, at, len| {
            let (_, bytes) = seen.iter().find(|(file, _)| file == name)?;
            let bytes = bytes.get(at as usize..at as usize + len)?;
            Some(Bytes::copy_from_slice(bytes))
        });
        stored.extend(
            acknowledged
                .into_iter()
                .map(|(n, expires)| (address(run, n), expires)),
        );
        let (rt, store) = open(dir.path()).await;
        for (address, expires) in &stored {
            let found = store.get(address).await.expect("readable").is_some();
            assert!(
                found || rt.wall() >= *expires,
                "a box acknowledged in run {run} or before is lost"
            );
        }
        stored.retain(|_, expires| *expires > rt.wall());
        rt.shutdown().await;
    }
    assert!(fewest > 0, "each run stored something before it was killed");

    let short: BTreeSet<_> = stored.values().copied().collect();
    assert!(!short.is_empty());
    let (rt, store) = open(dir.path()).await;
    // The last short boxes expire.
    rt.sleep(TtlBucket::ALL[0].ttl() + Duration::from_secs(2)).await;
    let before = recoverable(&rt).await.expect("reads").0;
    assert!(
        before.iter().any(|left| left.expires <= rt.wall()),
        "the scan finds what is not purged yet"
    );
    let due = memory.due(rt.wall(), Duration::ZERO);
    let search = || due.search(files(dir.path()).iter().map(|(_, bytes)| bytes.as_slice()));
    let unpurged = search();
    assert!(
        due.boxes() > 0 && unpurged.boxes > 0 && unpurged.keys > 0,
        "the search finds what is not purged yet"
    );
    store.tick().await.expect("purges");
    assert_eq!(
        search(),
        Left::default(),
        "no byte of {} expired boxes in any file",
        due.boxes()
    );
    let (left, orphans) = recoverable(&rt).await.expect("reads");
    assert_eq!(orphans, Vec::<String>::new());
    assert!(!left.is_empty(), "those of 15 minutes are still there");
    let expired: Vec<_> = left.iter().filter(|left| left.expires <= rt.wall()).collect();
    assert!(
        expired.is_empty(),
        "{} expired boxes can be recovered",
        expired.len()
    );
    println!(
        "{} expired boxes looked for, {} live boxes, {} bytes in {} segments",
        due.boxes(),
        left.len(),
        store.stats().bytes,
        store.stats().segments
    );
    rt.shutdown().await;
}
