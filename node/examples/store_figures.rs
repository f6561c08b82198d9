//! What a box costs at the store: put, get and purge in µs, bytes on disk per live byte. On the real file store.
//!
//! `cargo run --release -p phantom-node --example store_figures [DIR]`: DIR is on the disk to be measured.

use std::time::Duration;

use bytes::Bytes;
use phantom_core::event::Event;
use phantom_core::mailbox::{BODY_LEN, BoxSeed, Record, TtlBucket, Unsigned, WriteCap};
use phantom_core::runtime::tokio::{Config, TokioRuntime};
use phantom_core::runtime::{Clock, Entropy};
use phantom_core::trusted_time::TimeLimits;
use phantom_core::units::Instant;
use phantom_node::store::{BoxStore, NodeTime, Source, StoreConfig};

const BOXES: u32 = 4_096;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let place = match std::env::args().nth(1) {
        Some(dir) => std::path::PathBuf::from(dir).join("phantom-store-figures"),
        None => std::env::temp_dir().join("phantom-store-figures"),
    };
    let _ = std::fs::remove_dir_all(&place);
    let (send, mut events) = tokio::sync::mpsc::channel(65_536);
    let mut config = Config::new("figures", &place);
    config.events = Some(send);
    let rt = TokioRuntime::start(config)?;
    let time = NodeTime::open(rt.clone(), TimeLimits::default()).await?;
    let store = BoxStore::open(rt.clone(), time.clone(), StoreConfig::default()).await?;

    let cap = WriteCap::from_rng(&mut rt.rng("figures"));
    let bucket = TtlBucket::ALL[4];
    let record = |n: u32| {
        let content = Unsigned {
            bucket,
            not_after: bucket.bound(rt.wall() + bucket.ttl()),
            body: Bytes::from(vec![7; BODY_LEN]),
        };
        Record::sign(
            &cap,
            &BoxSeed::derive(&[1; 32], b"figures", u64::from(n)),
            content,
        )
    };
    let records: Vec<_> = (0..BOXES).map(record).collect();
    let per_box =
        |since: Instant, boxes: u32| rt.now().saturating_since(since).as_secs_f64() * 1e6 / f64::from(boxes);

    let start = rt.now();
    for record in &records[..256] {
        store.put(Source::OWN, record).await?;
    }
    println!("put, one writer         {:8.1} µs/box", per_box(start, 256));

    let start = rt.now();
    let mut writers = tokio::task::JoinSet::new();
    for chunk in records[256..].chunks(60) {
        let (store, chunk) = (store.clone(), chunk.to_vec());
        writers.spawn(async move {
            for record in &chunk {
                store.put(Source::OWN, record).await?;
            }
            Ok::<_, phantom_node::store::StoreError>(())
        });
    }
    while let Some(done) = writers.join_next().await {
        done??;
    }
    println!(
        "put, 64 writers         {:8.1} µs/box",
        per_box(start, BOXES - 256)
    );

    let start = rt.now();
    for record in &records {
        if store.get(record.address()).await?.is_none() {
            return Err("a stored box is not found".into());
        }
    }
    println!("get                     {:8.1} µs/box", per_box(start, BOXES));

    let stats = store.stats();
    let on_disk: u64 = std::fs::read_dir(&place)?
        .filter_map(|file| Some(file.ok()?.metadata().ok()?.len()))
        .sum();
    let live = u64::from(BOXES) * BODY_LEN as u64;
    println!(
        "disk per byte of body   {:8.3} ({on_disk} bytes, {} segments)",
        on_disk as f64 / live as f64,
        stats.segments
    );

    let start = rt.now();
    let again = BoxStore::open(rt.clone(), time.clone(), StoreConfig::default()).await?;
    println!("recovery                {:8.1} µs/box", per_box(start, BOXES));

    while events.try_recv().is_ok() {}
    // Evidence moves the time past the expiry of all, as a directory document would.
    let at = rt.wall() + bucket.ttl() + Duration::from_secs(600);
    time.witness(at..at);
    let start = rt.now();
    again.tick().await?;
    println!("purge                   {:8.2} µs/box", per_box(start, BOXES));
    let mut purged = 0;
    while let Ok(record) = events.try_recv() {
        if let Event::SegmentPurged { boxes } = record.event {
            purged += boxes;
        }
    }
    if purged != BOXES {
        return Err(format!("{purged} of {BOXES} boxes purged").into());
    }
    std::fs::remove_dir_all(&place)?;
    Ok(())
}
