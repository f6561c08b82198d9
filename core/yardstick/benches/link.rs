//! Links: what making one, and carrying one on, costs both ends together, over a pipe in memory.
//!
//! Measured is the whole of it: handshake, the first frame each way, the tickets, both tasks, and the goodbye.

use std::cell::RefCell;
use std::time::Duration;

use bytes::Bytes;
use criterion::Criterion;
use phantom_core::crypto::keys::LinkSecret;
use phantom_core::link::{
    Accepted, BridgeSecret, Channel, ClientAuth, Config, Link, Resumption, ServerAuth, accept, connect,
    resume,
};
use phantom_core::runtime::tokio as back_end;
use phantom_yardstick::Table;
use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;

const PIPE: usize = 64 * 1024;

struct World {
    tokio: tokio::runtime::Runtime,
    rt: back_end::TokioRuntime,
    config: Config,
}

/// Two ends that know each other.
struct Ends {
    dial: ClientAuth,
    auth: ServerAuth,
}

impl Ends {
    fn new() -> [(&'static str, Self); 3] {
        let key = |seed| LinkSecret::from_rng(&mut ChaCha12Rng::seed_from_u64(seed));
        let server = key(1).public();
        let secret = BridgeSecret::from_bytes([7; 32]);
        let bridge = ClientAuth::Bridge {
            server,
            secret: secret.clone(),
        };
        let node = ClientAuth::Node {
            secret: key(2),
            server,
        };
        let listed = ClientAuth::Listed { server };
        [
            ("IK, node to node", Self::of(node, ServerAuth::listed(key(1)))),
            ("NK, client to node", Self::of(listed, ServerAuth::listed(key(1)))),
            (
                "NKpsk0, client to bridge",
                Self::of(bridge, ServerAuth::bridge(key(1), secret)),
            ),
        ]
    }

    const fn of(dial: ClientAuth, auth: ServerAuth) -> Self {
        Self { dial, auth }
    }
}

impl World {
    fn new(dir: &std::path::Path) -> Self {
        let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let tokio = tokio.expect("a runtime");
        let rt = tokio.block_on(async { back_end::TokioRuntime::start(back_end::Config::new("bench", dir)) });
        Self {
            rt: rt.expect("a store"),
            tokio,
            config: Config::default(),
        }
    }

    async fn link(&self, ends: &Ends) -> (Link, Link) {
        let (a, b) = tokio::io::duplex(PIPE);
        let made = tokio::join!(
            connect(&self.rt, a, &ends.dial, &self.config),
            accept(&self.rt, b, &ends.auth, &self.config)
        );
        let (Ok(dialled), Ok(Accepted::New(accepted, _))) = made else {
            panic!("no link: {made:?}")
        };
        (dialled, accepted)
    }

    /// Makes a link and ends it.
    fn make(&self, ends: &Ends) {
        self.tokio.block_on(async {
            let (dialled, accepted) = self.link(ends).await;
            dialled.close();
            accepted.closed().await;
            dialled.closed().await;
        });
    }

    /// Carries a link on over a new pipe with one of its tickets, and waits for the ticket that replaces it.
    fn again(&self, ends: &Ends, link: &mut Link) {
        self.tokio.block_on(async {
            let (a, b) = tokio::io::duplex(PIPE);
            let made = tokio::join!(
                resume(&self.rt, a, &ends.dial, link, &self.config),
                accept(&self.rt, b, &ends.auth, &self.config)
            );
            let (Ok(Resumption::Continued(again)), Ok(Accepted::Resumed)) = made else {
                panic!("not carried on: {made:?}")
            };
            again.ping().await.expect("it is up");
            *link = again;
        });
    }

    /// Sends a packet and takes it.
    fn packet(&self, from: &Link, to: &Link, packet: &Bytes) {
        self.tokio.block_on(async {
            from.send(Channel::PACKET, packet.clone())
                .await
                .expect("it is up");
            to.recv().await.expect("it is up");
        });
    }
}

fn main() {
    let dir = tempfile::tempdir().expect("a directory");
    let world = World::new(dir.path());
    let all = Ends::new();
    let (dialled, accepted) = world.tokio.block_on(world.link(&all[1].1));
    let carried = RefCell::new(dialled);
    let (from, to) = world.tokio.block_on(world.link(&all[0].1));
    let packets = [4_096, 32_768].map(|len| Bytes::from(vec![7; len]));

    let mut c = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20)
        .configure_from_args();
    for (name, ends) in &all {
        c.bench_function(&format!("link/{name}"), |b| b.iter(|| world.make(ends)));
    }
    c.bench_function("link/NNpsk0, resumption", |b| {
        b.iter(|| world.again(&all[1].1, &mut carried.borrow_mut()));
    });
    c.bench_function("link/packet of 4 KiB", |b| {
        b.iter(|| world.packet(&from, &to, &packets[0]));
    });
    c.final_summary();

    if std::env::args().any(|arg| arg == "--bench") {
        let mut table = Table::new();
        for (name, ends) in &all {
            table.row(format!("make a link: {name}"), || world.make(ends));
        }
        table.row("carry a link on: NNpsk0, by ticket, and a ping", || {
            world.again(&all[1].1, &mut carried.borrow_mut());
        });
        table.row("a packet of 4 KiB over a link", || {
            world.packet(&from, &to, &packets[0])
        });
        table.row("a packet of 32 KiB over a link", || {
            world.packet(&from, &to, &packets[1])
        });
        table.print();
    }
    drop(accepted);
}
