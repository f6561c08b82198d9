//! `phantom pt` as webtunnel and meek on loopback, with itself and with obfs4proxy's `meek_lite`; their throughput beside obfs4's in the same run.
//! Without obfs4proxy ours meets itself alone; with `PHANTOM_REQUIRE_INTEROP` set that is a failure.

#![expect(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    reason = "drives programs of the real world, on tokio; a failed helper fails the test"
)]

mod interop;

use std::io;
use std::net::SocketAddr;

use interop::{LIMIT, Running, Who, has_obfs4proxy, transfer};
use phantom_pt::args::Args;
use phantom_pt::env::{OrPort, Role, ServerTransport};
use phantom_pt::name::TransportName;
use phantom_pt::socks::Target;
use phantom_web::tls::{KeyKind, chain_hash, pin_to_base64, self_signed};
use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const PATH: &str = "/5m9yq0j4ghkz0fz7qmuw58cvbjon0ebnrsp0";

/// A server of ours and a client of whoever's, with TLS or as behind a web server.
struct Pair {
    behind: TcpListener,
    at: SocketAddr,
    client: Running,
    server: Running,
    name: TransportName,
    /// What a line says.
    line: Args,
    _files: tempfile::TempDir,
}

impl Pair {
    async fn new(served: &str, dialled: &str, client: Who, tls: bool) -> Self {
        let behind = TcpListener::bind("127.0.0.1:0").await.unwrap();
        // A bridge's line does not say where it listens: a port that was free a moment ago.
        let at = TcpListener::bind("127.0.0.1:0")
            .await
            .unwrap()
            .local_addr()
            .unwrap();
        let files = tempfile::tempdir().unwrap();
        let scheme = if tls { "https" } else { "http" };
        let url = match tls {
            true => format!("{scheme}://bridge.example:{}{PATH}", at.port()),
            false => format!("{scheme}://{at}{PATH}"),
        };
        let mut options = Args::new().with("url", &url).unwrap();
        let mut line = match served {
            "obfs4" => Args::new(),
            _ => Args::new().with("url", &url).unwrap(),
        };
        if tls {
            let made = self_signed(
                &mut ChaCha12Rng::seed_from_u64(1),
                KeyKind::P256,
                "bridge.example",
            );
            let (chain, key) = made.to_pem();
            for (name, text) in [("certificate", chain.as_str()), ("key", key.as_str())] {
                let file = files.path().join(name);
                std::fs::write(&file, text).unwrap();
                options.push(name, file.to_str().unwrap()).unwrap();
            }
            let pin = pin_to_base64(&chain_hash([made.certificate.as_ref()]));
            line.push("cert", pin).unwrap();
            line.push("addr", at.to_string()).unwrap();
        }
        let name: TransportName = served.parse().unwrap();
        let mut transport = ServerTransport::new(name.clone());
        transport.bind = Some(at);
        transport.options = if served == "obfs4" { Args::new() } else { options };
        let orport = OrPort::Plain(behind.local_addr().unwrap());
        let transports = vec![transport];
        let server = Running::start(Who::Ours, Role::Server { transports, orport }).await;
        let ready = &server.methods.ready[&name];
        if served == "obfs4" {
            line = ready.args.clone();
        } else {
            assert_eq!(ready.args.value("url"), Some(&*url));
            // Nothing of the operator's files is told to the parent, which publishes it.
            assert_eq!(
                (ready.args.value("key"), ready.args.value("certificate")),
                (None, None)
            );
        }
        let name: TransportName = dialled.parse().unwrap();
        let transports = vec![name.clone()];
        let client = Running::start(
            client,
            Role::Client {
                transports,
                proxy: None,
            },
        )
        .await;
        Self {
            behind,
            at,
            client,
            server,
            name,
            line,
            _files: files,
        }
    }

    /// A connection through both: the client's end, and what comes out behind the bridge.
    async fn connect(&self) -> io::Result<(TcpStream, TcpStream)> {
        let target = Target::from(self.at);
        let dial = self.client.methods.dial(&self.name, &target, &self.line, LIMIT);
        let both = async { tokio::join!(biased; dial, self.behind.accept()) };
        let (near, far) = tokio::time::timeout(LIMIT, both).await?;
        Ok((near.map_err(io::Error::other)?, far?.0))
    }

    /// Megabytes a second, up and down.
    async fn rates(&self, bytes: usize) -> [f64; 2] {
        let mut rates = [0.0; 2];
        for (way, rate) in rates.iter_mut().enumerate() {
            let (near, far) = self.connect().await.unwrap();
            let (from, to) = if way == 0 { (near, far) } else { (far, near) };
            *rate = bytes as f64 / 1e6 / transfer(from, to, bytes).await.unwrap();
        }
        rates
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_megabytes_arrive_over_each_transport() {
    let mut table = String::from("transport (loopback, 10 MB)          up MB/s  down MB/s\n");
    for (transport, tls, says) in [
        ("obfs4", false, "obfs4, iat-mode 0"),
        ("webtunnel", true, "webtunnel"),
        ("webtunnel", false, "webtunnel behind a web server"),
        ("meek", true, "meek"),
        ("meek", false, "meek behind a web server"),
    ] {
        let pair = Pair::new(transport, transport, Who::Ours, tls).await;
        let [up, down] = pair.rates(10_000_000).await;
        table.push_str(&format!("{says:<36} {up:>7.1}  {down:>9.1}\n"));
    }
    println!("{table}");
}

/// Its client speaks plain HTTP when the url does, so that no certificate stands between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn obfs4proxys_meek_lite_carries_both_ways_to_a_server_of_ours() {
    if !has_obfs4proxy() {
        println!("obfs4proxy is not installed: nothing was tested (apt-get install obfs4proxy)");
        return;
    }
    let pair = Pair::new("meek", "meek_lite", Who::Theirs, false).await;
    for bytes in [1, 1_000, 65_536, 65_537, 3_000_000] {
        let (mut near, mut far) = pair.connect().await.unwrap();
        // One byte first: meek_lite opens its session with a poll.
        near.write_all(b"x").await.unwrap();
        assert_eq!(far.read_u8().await.unwrap(), b'x');
        let (near, far) = (near, far);
        let seconds = transfer(near, far, bytes).await.unwrap();
        println!("meek_lite to ours, {bytes} B up: {seconds:.3} s");
        let (near, far) = pair.connect().await.unwrap();
        let seconds = transfer(far, near, bytes).await.unwrap();
        println!("ours to meek_lite, {bytes} B down: {seconds:.3} s");
    }
}

/// A line that leads to no bridge: the parent is told so, and no connection comes out behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_path_or_pin_is_refused_to_the_parent() {
    for transport in ["webtunnel", "meek"] {
        let pair = Pair::new(transport, transport, Who::Ours, true).await;
        let url = pair.line.value("url").unwrap().to_owned();
        let (pin, addr) = (pair.line.value("cert").unwrap(), pair.line.value("addr").unwrap());
        let other = pin_to_base64(&[7; 32]);
        for (url, pin) in [(&*format!("{url}x"), pin), (&*url, &*other)] {
            let args = [("url", url), ("cert", pin), ("addr", addr)];
            let args = args
                .iter()
                .fold(Args::new(), |args, (key, value)| args.with(*key, *value).unwrap());
            let target = Target::from(pair.at);
            let dialled = pair.client.methods.dial(&pair.name, &target, &args, LIMIT).await;
            assert!(dialled.is_err(), "{transport}");
        }
        assert!(pair.connect().await.is_ok(), "the line itself is good");
        drop(pair.server);
    }
}
