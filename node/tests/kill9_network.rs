//! Real storage nodes are killed with SIGKILL while a client writes boxes through the network. Every box that was
//! acknowledged is readable through the network, or has expired; and nothing that was ever in a segment of expired boxes
//! is in any file afterwards.
//!
//! The nodes are `phantom-node run` on addresses 127.x.x.x; the client is a driver over the library: one link to the
//! entry, packets over three hops, answers through reply blocks. One store by itself is killed in `kill9.rs`.
#![allow(clippy::unwrap_used, reason = "a failed helper fails the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use phantom_core::directory::client::DirectoryCache;
use phantom_core::directory::document::DocumentHash;
use phantom_core::directory::fetch::fetch;
use phantom_core::directory::rpc::DirectoryResponse;
use phantom_core::link::rpc::{Rpc, RpcConfig};
use phantom_core::link::{self, Channel, ClientAuth, Link};
use phantom_core::mailbox::{
    Answer, BODY_LEN, BoxAddress, BoxSeed, Record, TtlBucket, Unsigned, WriteCap, WriteOutcome,
};
use phantom_core::packet::Class;
use phantom_core::packet::LinkHandle;
use phantom_core::route::{Ask, EntryHop, Requests, View};
use phantom_core::runtime::tokio::{Config, TokioRuntime};
use phantom_core::runtime::{Clock, Entropy, Net, Spawn, timeout};
use phantom_core::service::{EntryRequest, Service};
use phantom_core::trusted_time::TimeLimits;
use phantom_core::units::WallTime;
use phantom_node::settings::text::Contact;
use phantom_node::settings::{NodeSettings, Source};
use phantom_node::store::recoverable;
use programs::{Running, done, line};
use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};
use tokio::sync::oneshot;

mod programs;

/// How many kills, if the variable of that name says nothing.
const KILLS: usize = 50;
const KILLS_VARIABLE: &str = "PHANTOM_KILLS";
const STORES: u8 = 5;
/// Boxes that are acknowledged at least from one kill to the next.
const ACKNOWLEDGED: usize = 5;
/// Boxes on their way at once, and a writer's pause after each: some hundred a kill would only take longer to check.
const WRITERS: u64 = 16;
const PAUSE: Duration = Duration::from_millis(60);
/// An hour in the life of a directory.
const INTERVAL: &str = "4 s";
/// How often the files are looked into for what must be gone later.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Given up and sent anew over another path after this.
const ANSWER_LIMIT: Duration = Duration::from_secs(1);
/// A node that was silent is not dialled for 10 s; then every box must be readable.
const READ_LIMIT: Duration = Duration::from_secs(30);
const START_LIMIT: Duration = Duration::from_secs(30);

const SHORT: TtlBucket = TtlBucket::ALL[0];
const LONG: TtlBucket = TtlBucket::ALL[4];

/// The network's files and where its nodes are.
struct Stage {
    dir: PathBuf,
    net: u8,
}

impl Stage {
    /// Keys and settings of an authority, an entry and the stores; the entry's contact line.
    fn set_up(dir: &Path) -> (Self, Contact) {
        let stage = Self {
            dir: dir.to_owned(),
            // Two tests at the same time hardly ever meet, and never the demo's.
            net: 220 + (std::process::id() % 30) as u8,
        };
        let init = |args: &[&str], name: &str, at: String| {
            let ip = at.split_once(':').unwrap().0.to_owned();
            let place = [
                "--dir",
                name,
                "--listen",
                &at,
                "--outgoing",
                &ip,
                "--interval",
                INTERVAL,
            ];
            done(dir, &[args, &place].concat())
        };
        let authority = line(&init(&["directory", "init"], "authority", stage.at(1, 1)));
        let listed = ["init", "--authority", &authority];
        let entry = line(&init(
            &[&listed[..], &["--role", "entry"]].concat(),
            "entry",
            stage.at(2, 1),
        ));
        for n in 1..=STORES {
            let operator = format!("operator {n}");
            let offers = ["--role", "middle", "--role", "storage", "--operator", &operator];
            init(&[&listed[..], &offers].concat(), &store(n), stage.at(3, n));
        }
        (stage, entry.parse().unwrap())
    }

    fn at(&self, group: u8, number: u8) -> String {
        format!("127.{}.{group}.{number}:4430", self.net)
    }

    fn start(&self, name: &str) -> Running {
        let config = format!("{name}/node.toml");
        Running::start(&self.dir, &["run", "--config", &config], &format!("{name}.log"))
    }

    fn data(&self, name: &str) -> PathBuf {
        self.dir.join(name).join("data")
    }

    /// Segment files of a node that are not empty.
    fn segments(&self, name: &str) -> BTreeSet<String> {
        let entries = fs::read_dir(self.data(name)).unwrap().map_while(Result::ok);
        let held = entries.filter(|entry| entry.metadata().is_ok_and(|metadata| metadata.len() > 0));
        held.filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| name.starts_with("box-") && name.ends_with(".seg"))
            .collect()
    }
}

fn store(n: u8) -> String {
    format!("store-{n}")
}

/// A client of the network.
struct Client {
    rt: TokioRuntime,
    link: Link,
    rpc: Rpc<TokioRuntime>,
    hop: EntryHop,
    cache: Mutex<DirectoryCache>,
    requests: Mutex<Requests<oneshot::Sender<Answer>>>,
    writing: AtomicU32,
}

impl Client {
    /// Connects to the entry and registers a handle there.
    async fn start(rt: TokioRuntime, stage: &Stage, entry: &Contact) -> Arc<Self> {
        let address = stage.at(2, 1).parse().unwrap();
        let stream = rt.connect(address).await.unwrap();
        let auth = ClientAuth::Listed { server: entry.link };
        let link = link::connect(&rt, stream, &auth, &link::Config::client())
            .await
            .unwrap();
        let settings = Source::read(&stage.dir.join("entry/node.toml")).unwrap();
        let pinned = NodeSettings::parse(&settings).unwrap().directory.pinned;
        let handle = LinkHandle::from_rng(&mut rt.rng("handle"));
        let client = Arc::new(Self {
            rpc: Rpc::new(rt.clone(), link.sender(), RpcConfig::default()),
            link,
            hop: EntryHop {
                node: entry.identity.node_id(),
                // As the document says.
                keys: Vec::new(),
                ways_back: Vec::new(),
                handle,
            },
            cache: Mutex::new(DirectoryCache::new(pinned, TimeLimits::default())),
            requests: Mutex::new(Requests::new(ANSWER_LIMIT)),
            writing: AtomicU32::new(0),
            rt,
        });
        client.rt.spawn("receive", client.clone().receive());
        let register = Service::Entry.request(&EntryRequest::Register(handle).encode());
        client.rpc.call(register).await.unwrap();
        client.rt.spawn("documents", client.clone().follow());
        client
    }

    async fn receive(self: Arc<Self>) {
        while let Some((channel, bytes)) = self.link.recv().await {
            if channel == Channel::RPC {
                self.rpc.deliver(&bytes).unwrap();
                continue;
            }
            let answer = self.requests().answer(bytes);
            // A late answer to a request that was given up is none.
            if let Ok((waiting, answer)) = answer {
                let _ = waiting.send(answer);
            }
        }
    }

    /// Keeps the directory's document fresh.
    async fn follow(self: Arc<Self>) {
        loop {
            let known = self
                .cache
                .lock()
                .unwrap()
                .newest()
                .map_or(DocumentHash::NONE, |newest| newest.hash);
            let newest = fetch(known, |request| {
                let request = Service::Directory.request(&request.encode());
                let rpc = self.rpc.clone();
                async move { DirectoryResponse::decode(&rpc.call(request).await.ok()?).ok() }
            })
            .await;
            if let Some(bytes) = newest {
                let (now, wall) = (self.rt.now(), self.rt.wall());
                self.cache
                    .lock()
                    .unwrap()
                    .offer(&self.rt, now, wall, &bytes)
                    .unwrap();
            }
            self.rt.sleep(Duration::from_millis(500)).await;
        }
    }

    fn requests(&self) -> MutexGuard<'_, Requests<oneshot::Sender<Answer>>> {
        self.requests.lock().unwrap()
    }

    /// Nodes in the document that is in use.
    fn listed(&self) -> usize {
        let mut cache = self.cache.lock().unwrap();
        cache.observe(self.rt.now(), self.rt.wall());
        cache.usable().map_or(0, |document| document.document.nodes.len())
    }

    /// Sends one request; `None` without an answer in time.
    async fn ask(&self, ask: Ask) -> Option<Answer> {
        let (tell, told) = oneshot::channel();
        let now = self.rt.now();
        let (view, time) = {
            let mut cache = self.cache.lock().unwrap();
            let time = cache.observe(now, self.rt.wall()).time;
            (cache.usable().map(|document| View::new(&self.rt, document)), time)
        };
        let packet = view.and_then(|view| {
            let mut requests = self.requests();
            drop(requests.expired(now));
            let mut rng = self.rt.rng("request");
            requests
                .make(&mut rng, (now, time), &view, &self.hop, ask, tell)
                .ok()
        });
        let Some(packet) = packet else {
            self.rt.sleep(Duration::from_millis(200)).await;
            return None;
        };
        self.link.send(Channel::PACKET, packet).await.unwrap();
        timeout(&self.rt, ANSWER_LIMIT, told).await.ok()?.ok()
    }

    /// Writes a box over and over until it is acknowledged, or pointless.
    async fn write(&self, record: &Record) -> bool {
        self.writing.fetch_add(1, Ordering::Relaxed);
        let mut stored = false;
        for _ in 0..8 {
            match self.ask(Ask::Write(Box::new(record.clone()))).await {
                Some(Answer::Write(WriteOutcome::Stored { replicas })) => {
                    assert!(replicas >= 2, "acknowledged by {replicas}");
                    stored = true;
                    break;
                }
                Some(Answer::Write(WriteOutcome::Conflict)) => panic!("nobody else writes this box"),
                Some(Answer::Write(WriteOutcome::Expired)) => break,
                _ => {}
            }
        }
        self.writing.fetch_sub(1, Ordering::Relaxed);
        stored
    }

    /// Reads a box until it is there, or has expired; `false` if it was not there for too long.
    async fn readable(&self, number: u64, expires: WallTime) -> bool {
        let address = address(number);
        let end = self.rt.now() + READ_LIMIT;
        while self.rt.now() < end {
            if let Some(Answer::Read(answer)) = self.ask(Ask::Read(Class::Small, vec![address])).await
                && let Some(record) = answer.record
            {
                assert_eq!((record.address(), record.body()), (&address, &body(number)));
                return true;
            }
            if self.rt.wall() >= expires {
                return true;
            }
            self.rt.sleep(Duration::from_millis(100)).await;
        }
        false
    }
}

fn bucket(number: u64) -> TtlBucket {
    if number.is_multiple_of(2) { SHORT } else { LONG }
}

/// A body that tells every box from every other.
fn body(number: u64) -> Bytes {
    let mut body = vec![0; BODY_LEN];
    ChaCha12Rng::seed_from_u64(number).fill_bytes(&mut body);
    body.into()
}

fn record(number: u64, now: WallTime) -> Record {
    let bucket = bucket(number);
    let content = Unsigned {
        bucket,
        not_after: bucket.bound(now + bucket.ttl()),
        body: body(number),
    };
    let cap = WriteCap::from_rng(&mut ChaCha12Rng::seed_from_u64(9));
    Record::sign(&cap, &BoxSeed::derive(&[3; 32], b"kill9", number), content)
}

fn address(number: u64) -> BoxAddress {
    *record(number, WallTime::from_unix_secs(1_800_000_000)).address()
}

/// Acknowledged boxes and when they expire.
type Acknowledged = Arc<Mutex<BTreeMap<u64, WallTime>>>;

async fn write_for_ever(client: Arc<Client>, writer: u64, acknowledged: Acknowledged, stop: Arc<AtomicU32>) {
    for number in (writer..).step_by(WRITERS as usize) {
        if stop.load(Ordering::Relaxed) > 0 {
            return;
        }
        let record = record(number, client.rt.wall());
        if client.write(&record).await {
            let expires = WallTime::from_unix_secs(record.not_after());
            acknowledged.lock().unwrap().insert(number, expires);
        }
        client.rt.sleep(PAUSE).await;
    }
}

/// Strings of bytes that must not be found later: what was seen in segments of short-lived boxes, their keys, and bodies.
#[derive(Default)]
struct Needles(BTreeSet<[u8; Needles::LEN]>);

impl Needles {
    const LEN: usize = 32;

    fn add(&mut self, bytes: &[u8]) {
        self.0.extend(bytes.first_chunk::<{ Self::LEN }>());
    }

    /// Notes what is now in the segments of `bucket`, a piece of every KiB, and the keys they are sealed under.
    fn note(&mut self, data: &Path, bucket: TtlBucket) {
        let class = format!("-{:02}-", bucket.code());
        for entry in fs::read_dir(data).unwrap().map_while(Result::ok) {
            let name = entry.file_name().into_string().unwrap();
            // Purged between the listing and the reading: another look has seen it.
            if let (true, Ok(bytes)) = (
                name.starts_with("box-") && name.contains(&class),
                fs::read(entry.path()),
            ) {
                bytes.chunks(1_024).for_each(|chunk| self.add(chunk));
            }
        }
    }

    /// In which files below `dir` one of them is, at whatever place.
    fn found(&self, dir: &Path) -> Vec<PathBuf> {
        let mut begin = vec![false; 1 << 16];
        for needle in &self.0 {
            begin[usize::from(u16::from_be_bytes([needle[0], needle[1]]))] = true;
        }
        let mut found = Vec::new();
        let mut ahead = vec![dir.to_owned()];
        while let Some(path) = ahead.pop() {
            if let Ok(entries) = fs::read_dir(&path) {
                ahead.extend(entries.map_while(Result::ok).map(|entry| entry.path()));
            } else if let Ok(bytes) = fs::read(&path) {
                let mut windows = bytes.array_windows::<{ Self::LEN }>();
                let may =
                    |window: &[u8; Self::LEN]| begin[usize::from(u16::from_be_bytes([window[0], window[1]]))];
                if windows.any(|window| may(window) && self.0.contains(window)) {
                    found.push(path);
                }
            }
        }
        found
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kills_of_real_nodes_lose_no_acknowledged_box_and_leave_nothing_of_an_expired_one() {
    let kills = std::env::var(KILLS_VARIABLE).map_or(KILLS, |kills| kills.parse().unwrap());
    let place = tempfile::tempdir().unwrap();
    let (stage, entry) = Stage::set_up(place.path());
    let authority = ["directory", "run", "--config", "authority/directory.toml"];
    let authority = Running::start(&stage.dir, &authority, "authority.log");
    let entry_runs = stage.start("entry");
    let mut stores: BTreeMap<u8, Running> = (1..=STORES).map(|n| (n, stage.start(&store(n)))).collect();

    let config = Config {
        address: Some(format!("127.{}.9.1", stage.net).parse().unwrap()),
        ..Config::new("client", stage.dir.join("client"))
    };
    let rt = TokioRuntime::start(config).unwrap();
    let begun = rt.now();
    while rt.connect(stage.at(2, 1).parse().unwrap()).await.is_err() {
        assert!(rt.now() < begun + START_LIMIT, "the entry does not listen");
        rt.sleep(Duration::from_millis(50)).await;
    }
    let client = Client::start(rt.clone(), &stage, &entry).await;
    while client.listed() < usize::from(STORES) + 1 {
        assert!(
            rt.now() < begun + START_LIMIT,
            "only {} nodes are listed",
            client.listed()
        );
        rt.sleep(Duration::from_millis(100)).await;
    }
    println!(
        "{:?}: {} nodes are listed",
        rt.now().saturating_since(begun),
        client.listed()
    );

    // Write, and kill whichever store has taken boxes since its last start.
    let acknowledged = Acknowledged::default();
    let stop = Arc::new(AtomicU32::new(0));
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        writers.spawn(write_for_ever(
            client.clone(),
            writer,
            acknowledged.clone(),
            stop.clone(),
        ));
    }
    let mut rng = ChaCha12Rng::seed_from_u64(50);
    let mut needles = Needles::default();
    let mut before: BTreeMap<u8, BTreeSet<String>> = BTreeMap::new();
    let mut turns: Vec<u8> = (1..=STORES).collect();
    let mut killed: BTreeMap<u8, usize> = BTreeMap::new();
    let mut looked = rt.now();
    for kill in 0..kills {
        let looking = rt.now();
        let stored = acknowledged.lock().unwrap().len();
        let victim = loop {
            if rt.now() >= looked + LOOK_EVERY {
                (1..=STORES).for_each(|n| needles.note(&stage.data(&store(n)), SHORT));
                looked = rt.now();
            }
            let written = |n: &&u8| {
                before
                    .get(n)
                    .is_none_or(|held| !stage.segments(&store(**n)).is_subset(held))
            };
            if let Some(victim) = turns.iter().find(written).copied()
                && client.writing.load(Ordering::Relaxed) > 0
                && acknowledged.lock().unwrap().len() >= stored + ACKNOWLEDGED
            {
                break victim;
            }
            assert!(
                rt.now() < looking + READ_LIMIT,
                "after {kill} kills nothing is stored, {} boxes were",
                acknowledged.lock().unwrap().len()
            );
            rt.sleep(Duration::from_millis(20)).await;
        };
        rt.sleep(Duration::from_millis(u64::from(rng.next_u32() % 50)))
            .await;
        needles.note(&stage.data(&store(victim)), SHORT);
        drop(stores.remove(&victim)); // SIGKILL
        before.insert(victim, stage.segments(&store(victim)));
        stores.insert(victim, stage.start(&store(victim)));
        turns.retain(|n| *n != victim);
        turns.push(victim);
        *killed.entry(victim).or_default() += 1;
    }
    stop.store(1, Ordering::Relaxed);
    while let Some(ended) = writers.join_next().await {
        ended.unwrap();
    }
    (1..=STORES).for_each(|n| needles.note(&stage.data(&store(n)), SHORT));
    let acknowledged = std::mem::take(&mut *acknowledged.lock().unwrap());
    let last = acknowledged
        .iter()
        .filter(|(number, _)| bucket(**number) == SHORT)
        .map(|(_, expires)| *expires)
        .max();
    let (short, long): (Vec<_>, Vec<_>) = acknowledged
        .iter()
        .partition(|(number, _)| bucket(**number) == SHORT);
    println!(
        "{:?}: killed {killed:?}; {} short-lived and {} long-lived boxes are acknowledged",
        rt.now().saturating_since(begun),
        short.len(),
        long.len()
    );
    assert!(
        killed.len() == usize::from(STORES).min(kills) && short.len() + long.len() >= ACKNOWLEDGED * kills
    );

    // Every one is readable through the network, or has expired.
    let mut readers = tokio::task::JoinSet::new();
    for part in acknowledged
        .iter()
        .collect::<Vec<_>>()
        .chunks(acknowledged.len().div_ceil(16))
    {
        let part: Vec<(u64, WallTime)> = part
            .iter()
            .map(|(number, expires)| (**number, **expires))
            .collect();
        let client = client.clone();
        readers.spawn(async move {
            for (number, expires) in part {
                assert!(
                    client.readable(number, expires).await,
                    "box {number} was acknowledged and is lost"
                );
            }
        });
    }
    while let Some(ended) = readers.join_next().await {
        ended.unwrap();
    }
    println!("{:?}: all are read", rt.now().saturating_since(begun));

    // Two seconds after the last has expired, nothing of the short-lived ones is left; what lives is found by such a search.
    while rt.wall() < last.unwrap() + Duration::from_secs(3) {
        rt.sleep(Duration::from_millis(200)).await;
    }
    let ciphertexts = needles.0.len();
    assert!(
        ciphertexts > short.len(),
        "each was seen on a disk: {ciphertexts} pieces"
    );
    short.iter().for_each(|(number, _)| needles.add(&body(**number)));
    assert_eq!(needles.found(&stage.dir), Vec::<PathBuf>::new());
    let mut living = Needles::default();
    living.note(&stage.data(&store(1)), LONG);
    assert!(
        !living.found(&stage.dir).is_empty(),
        "the search finds what is there"
    );

    // All end well, and what is acknowledged is on two disks, whatever reading has repaired on a third.
    client.link.close();
    for running in stores.into_values().chain([entry_runs, authority]) {
        assert_eq!(running.terminate(), Some(0));
    }
    let mut copies: BTreeMap<BoxAddress, usize> = BTreeMap::new();
    for n in 1..=STORES {
        let disk = TokioRuntime::start(Config::new("look", stage.data(&store(n)))).unwrap();
        let (boxes, orphans) = recoverable(&disk).await.unwrap();
        assert_eq!(orphans, Vec::<String>::new());
        for found in boxes {
            assert!(
                found.expires > rt.wall(),
                "{n}: {} has an expired box",
                found.file
            );
            *copies.entry(found.address).or_default() += 1;
        }
        disk.shutdown().await;
    }
    for (number, _) in long {
        assert!(
            copies.get(&address(*number)).is_some_and(|copies| *copies >= 2),
            "box {number}"
        );
    }
    println!(
        "{:?}: {} boxes live on disk",
        rt.now().saturating_since(begun),
        copies.len()
    );
    rt.shutdown().await;
}
