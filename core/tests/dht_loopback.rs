//! The DHT over real sockets on loopback: our nodes and client among themselves, and with the real libtorrent.
//!
//! The second needs a Python that can `import libtorrent` (`pip install libtorrent`); without one it says so and passes.
//! `PYTHON` names the interpreter, `python3` otherwise. With `PHANTOM_REQUIRE_INTEROP` set they fail where it is missing.
#![cfg(feature = "tokio")]

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ed25519_dalek::SigningKey;
use phantom_core::dht::item::{ItemSigner, string_value};
use phantom_core::dht::{ClientConfig, DhtClient, Endpoint, NodeConfig, serve};
use phantom_core::runtime::tokio::{Config, TokioRuntime};
use phantom_core::runtime::{Clock, Listener, Net, Spawn, Stream, timeout};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, ReadHalf, WriteHalf};
use tokio::sync::mpsc;

const PATIENCE: Duration = Duration::from_secs(40);

fn runtime(dir: &tempfile::TempDir) -> TokioRuntime {
    TokioRuntime::start(Config::new("dht test", dir.path())).expect("a directory of its own")
}

fn loopback(last: u8) -> SocketAddr {
    SocketAddr::new(Ipv4Addr::new(127, 0, 2, last).into(), 0)
}

/// Starts `count` of our nodes, each on its own loopback address, which join at `bootstrap` and the first of them.
async fn nodes(rt: &TokioRuntime, count: u8, mut bootstrap: Vec<Endpoint>) -> Vec<SocketAddr> {
    let mut addrs = Vec::new();
    for n in 1..=count {
        let config = NodeConfig::new(loopback(n), bootstrap.clone());
        let (told, mut bound) = mpsc::channel(1);
        let peer = rt.clone();
        rt.spawn("dht node", async move {
            let done = serve(peer, config, |addr| told.try_send(addr).expect("room for one")).await;
            done.expect("a free port");
        });
        let addr = timeout(rt, PATIENCE, bound.recv())
            .await
            .expect("in time")
            .expect("bound");
        addrs.push(addr);
        if n == 1 {
            bootstrap.push(Endpoint::Addr(addr));
        }
    }
    addrs
}

fn client(rt: &TokioRuntime, cached: &[SocketAddr], routers: Vec<Endpoint>) -> DhtClient<TokioRuntime> {
    DhtClient::new(rt.clone(), ClientConfig::new(cached.to_vec(), routers))
}

#[tokio::test]
async fn our_client_puts_and_gets_through_our_nodes_over_real_sockets() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let rt = runtime(&dir);
    let servers = nodes(&rt, 12, Vec::new()).await;
    rt.sleep(Duration::from_secs(5)).await;

    let signer = SigningKey::from_bytes(&[1; 32]);
    // One cached node lives, one is long gone, and the published router's name does not resolve.
    let gone: SocketAddr = "127.0.2.250:9".parse().expect("literal");
    let routers = vec!["router.invalid:6881".parse().expect("an endpoint")];
    let writer = client(&rt, &[gone, servers[3]], routers);
    let put = writer
        .put_mutable(&signer, b"day", 1, &string_value(b"hello"))
        .await
        .expect("a socket");
    assert!(put.stored >= 6, "{put:?}");
    assert!(
        writer.known_nodes().len() > 6,
        "nodes that answered are remembered"
    );

    let reader = client(&rt, &[servers[9]], Vec::new());
    let got = reader
        .get_mutable(signer.public_key(), b"day", 0)
        .await
        .expect("a socket");
    assert_eq!(
        got.accepted().and_then(|item| item.value_string()),
        Some(&b"hello"[..]),
        "{got:?}"
    );
    let got = reader
        .get_mutable(signer.public_key(), b"day", 2)
        .await
        .expect("a socket");
    assert_eq!(
        (got.best.is_none(), got.quorum),
        (true, false),
        "pinned beyond what is there"
    );

    let lost = client(&rt, &[gone], Vec::new());
    let got = timeout(&rt, PATIENCE, lost.get_mutable(signer.public_key(), b"day", 0)).await;
    let got = got
        .expect("a client whose nodes are all gone is told so in time")
        .expect("a socket");
    assert_eq!((got.best, got.tally.answered), (None, 0));
    rt.shutdown().await;
}

/// The real libtorrent, in a process of its own.
struct Libtorrent<S> {
    child: Child,
    lines: tokio::io::Lines<BufReader<ReadHalf<S>>>,
    out: WriteHalf<S>,
    rt: TokioRuntime,
}

impl<S> Drop for Libtorrent<S> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl<S: Stream> Libtorrent<S> {
    async fn tell(&mut self, command: &str) -> String {
        self.out
            .write_all(format!("{command}\n").as_bytes())
            .await
            .expect("the script listens");
        let line = timeout(&self.rt, PATIENCE, self.lines.next_line())
            .await
            .expect("an answer in time");
        line.expect("the script lives").expect("the script answers")
    }
}

async fn libtorrent(rt: &TokioRuntime) -> Option<Libtorrent<<TokioRuntime as Net>::Stream>> {
    let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".into());
    let importable = Command::new(&python)
        .args(["-c", "import libtorrent"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success());
    if !importable {
        // Where it was installed for these tests, a skipped one would look like a passed one.
        let required = std::env::var_os("PHANTOM_REQUIRE_INTEROP").is_some();
        assert!(
            !required,
            "{python} cannot import libtorrent, and PHANTOM_REQUIRE_INTEROP is set"
        );
        println!("skipped: {python} cannot import libtorrent (pip install libtorrent)");
        return None;
    }
    let mut listener = rt
        .listen((IpAddr::from([127, 0, 0, 1]), 0).into())
        .await
        .expect("a free port");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/libtorrent_dht.py");
    let child = Command::new(&python)
        .args([script, &listener.local_addr().port().to_string()])
        .stdin(Stdio::null())
        .spawn()
        .expect("the interpreter that was just run");
    let stream = timeout(rt, PATIENCE, listener.accept())
        .await
        .expect("in time")
        .expect("a connection");
    let (read, out) = tokio::io::split(stream);
    Some(Libtorrent {
        child,
        lines: BufReader::new(read).lines(),
        out,
        rt: rt.clone(),
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn addrs(line: &str) -> Vec<SocketAddr> {
    line.split_whitespace()
        .map(|addr| addr.parse().expect("an address"))
        .collect()
}

#[tokio::test]
async fn our_client_and_the_real_libtorrent_read_what_the_other_put() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let rt = runtime(&dir);
    let Some(mut theirs) = libtorrent(&rt).await else {
        return;
    };
    let swarm = addrs(&theirs.tell("start 12 127.0.1.").await);
    let ours = client(&rt, &swarm[..3], Vec::new());

    let signer = SigningKey::from_bytes(&[2; 32]);
    let key = hex(&signer.public_key());
    for (sequence, text) in [(1, "first"), (2, "second")] {
        let put = ours
            .put_mutable(&signer, b"day", sequence, &string_value(text.as_bytes()))
            .await
            .expect("a socket");
        assert_eq!((put.stored, put.sequence), (8, Some(sequence)), "{put:?}");
        let seen = theirs.tell(&format!("get 7 {key} {}", hex(b"day"))).await;
        assert_eq!(seen, format!("{sequence} {}", hex(text.as_bytes())));
    }

    let seed = [3; 32];
    let signer = SigningKey::from_bytes(&seed);
    let (key, salt) = (hex(&signer.public_key()), hex(b"theirs"));
    let stored = theirs
        .tell(&format!(
            "put 4 {} {key} {salt} {}",
            hex(&seed),
            hex(b"from libtorrent")
        ))
        .await;
    assert!(stored.parse::<u32>().expect("a number") >= 4, "{stored}");
    let got = ours
        .get_mutable(signer.public_key(), b"theirs", 0)
        .await
        .expect("a socket");
    assert_eq!(
        got.accepted().and_then(|item| item.value_string()),
        Some(&b"from libtorrent"[..]),
        "{got:?}"
    );
    println!("libtorrent's put: {:?}", got.tally);
    rt.shutdown().await;
}

#[tokio::test]
async fn the_real_libtorrent_stores_on_our_nodes_and_reads_from_them() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let rt = runtime(&dir);
    let Some(mut theirs) = libtorrent(&rt).await else {
        return;
    };
    // Everybody the two sessions can store on is one of ours: their 2-byte transaction ids must be answered.
    let servers = nodes(&rt, 10, Vec::new()).await;
    rt.sleep(Duration::from_secs(4)).await;
    theirs.tell("start 1 127.0.1.10").await;
    theirs.tell("start 1 127.0.1.20").await;
    let list: Vec<_> = servers.iter().map(SocketAddr::to_string).collect();
    theirs.tell(&format!("join {}", list.join(" "))).await;

    let seed = [5; 32];
    let signer = SigningKey::from_bytes(&seed);
    let (key, salt) = (hex(&signer.public_key()), hex(b"s"));
    let stored = theirs
        .tell(&format!(
            "put 0 {} {key} {salt} {}",
            hex(&seed),
            hex(b"on our nodes")
        ))
        .await;
    assert!(stored.parse::<u32>().expect("a number") >= 4, "{stored}");
    let seen = theirs.tell(&format!("get 1 {key} {salt}")).await;
    assert_eq!(seen, format!("1 {}", hex(b"on our nodes")));
    let got = client(&rt, &servers[..2], Vec::new())
        .get_mutable(signer.public_key(), b"s", 0)
        .await
        .expect("a socket");
    assert_eq!(
        got.accepted().and_then(|item| item.value_string()),
        Some(&b"on our nodes"[..]),
        "{got:?}"
    );
    println!(
        "stored on {stored} nodes, read by a quorum of {}",
        got.tally.responders
    );
    rt.shutdown().await;
}
