//! The DHT: reading a message, signing and checking an item, and whole lookups in a network of 500 nodes in memory.
//!
//! A lookup's cost is that of the client, of all nodes it asks, and of the upkeep of the network while it lasts; its
//! latency is simulated and printed at the end.

use std::cell::RefCell;
use std::hint::black_box;
use std::net::SocketAddr;
use std::time::Duration;

use criterion::Criterion;
use phantom_core::dht::item::{ItemSigner, string_value};
use phantom_core::dht::krpc::{Body, Message, PutMutable, Query};
use phantom_core::dht::lookup::Config;
use phantom_core::dht::memory::Network;
use phantom_core::dht::operation::{Operation, Report};
use phantom_core::dht::{DhtId, MutableItem};
use phantom_core::rendezvous::cohort::SlotSigner;
use phantom_core::rendezvous::{Day, Ledger, Slot};
use phantom_yardstick::Table;
use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;

const NODES: usize = 500;
const SALT: &[u8] = b"salt";

/// A network with an item in it, and what its lookups came to.
struct World {
    network: Network,
    seeds: Vec<SocketAddr>,
    key: [u8; 32],
    lookups: u32,
    queries: u32,
    took: Duration,
}

impl World {
    fn new(signer: &SlotSigner<'_>, value: &[u8]) -> Self {
        let mut network = Network::new(3, NODES, Duration::from_secs(120));
        let seeds = network.addrs()[..4].to_vec();
        let rng = network.rng();
        let put = Operation::put(network.now(), Config::default(), signer, SALT, 1, value, rng).expect("in bounds");
        let (Report::Put(report), _) = network.run(client(0), &seeds, put) else { unreachable!("a put") };
        assert_eq!(report.stored, 8);
        Self { network, seeds, key: signer.public_key(), lookups: 0, queries: 0, took: Duration::ZERO }
    }

    fn lookup(&mut self) {
        // Another address each time, so that nobody's rate limit is reached.
        self.lookups += 1;
        let rng = self.network.rng();
        let get = Operation::<SlotSigner<'_>, _>::get(self.network.now(), Config::default(), self.key, SALT, 0, rng);
        let (Report::Get(report), time) = self.network.run(client(self.lookups), &self.seeds, get) else {
            unreachable!("a get")
        };
        assert!(report.quorum);
        self.queries += report.tally.asked;
        self.took += time;
    }
}

fn client(n: u32) -> SocketAddr {
    SocketAddr::from(((0xc633_0000 + n).to_be_bytes(), 4000))
}

fn main() {
    let mut ledger = Ledger::default();
    let cohort = ledger.open(&mut ChaCha12Rng::seed_from_u64(1));
    let writer = ledger.give(cohort, Slot::ALL[0], 0).expect("free");
    let signer = writer.signer(Day(20_000));
    let value = string_value(&[7; 288]);
    let item = MutableItem::sign(&signer, SALT, 1, &value).expect("in bounds");
    let (key, signature) = (*item.key(), *item.signature());
    let put = PutMutable { key, salt: SALT, sequence: 1, signature, cas: None };
    let query = Query::Put { token: b"12345678", value: &value, mutable: Some(put) };
    let body = Body::Query { id: DhtId([1; 20]), query };
    let wire = Message { transaction: b"aa", read_only: true, seen_at: None, body }.encode();

    let decode = || drop(black_box(Message::decode(black_box(&wire))));
    let verify = || drop(black_box(MutableItem::verify(&key, SALT, 1, black_box(&value), &signature)));
    let sign = || drop(black_box(MutableItem::sign(&signer, SALT, 1, black_box(&value))));
    let world = RefCell::new(World::new(&signer, &value));
    let lookup = || world.borrow_mut().lookup();

    let mut c = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20)
        .configure_from_args();
    c.bench_function("dht/decode put", |b| b.iter(decode));
    c.bench_function("dht/verify item", |b| b.iter(verify));
    c.bench_function("dht/sign item", |b| b.iter(sign));
    c.bench_function("dht/lookup", |b| b.iter(lookup));
    c.final_summary();

    if std::env::args().any(|arg| arg == "--bench") {
        let mut table = Table::new();
        table.row("decode a put of 288 bytes", decode).row("check an item", verify);
        table.row("sign an item under a day's key", sign).row(format!("lookup in {NODES} nodes"), lookup);
        table.print();
        let World { lookups, queries, took, .. } = &*world.borrow();
        let per_lookup = |total: f64| total / f64::from((*lookups).max(1));
        println!(
            "a lookup asks {:.1} nodes and takes {:.0} ms at 20 to 80 ms each way",
            per_lookup(f64::from(*queries)),
            per_lookup(took.as_secs_f64() * 1e3)
        );
    }
}
