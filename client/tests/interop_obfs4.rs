//! `phantom pt` and obfs4proxy beside each other on loopback: handshakes, transfers of all sizes and modes, throughput. Without
//! obfs4proxy ours meets itself alone; with `PHANTOM_REQUIRE_INTEROP` set that is a failure.
//!
//! `PHANTOM_INTEROP_HANDSHAKES` and `PHANTOM_INTEROP_REPEATS` say how often; `just interop-obfs4` asks for 200 and 10.

#![expect(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::unwrap_used,
    reason = "drives programs of the real world, on tokio; a failed helper fails the test"
)]

mod interop;

use std::{env, io};

use interop::{LIMIT, Running, Who, has_obfs4proxy, transfer};
use phantom_pt::args::Args;
use phantom_pt::env::{OrPort, Role, ServerTransport};
use phantom_pt::name::TransportName;
use phantom_pt::parent::Method;
use phantom_pt::socks::Target;
use tokio::net::{TcpListener, TcpStream};

/// A bridge, what is behind it, and a client of it.
struct Pair {
    behind: TcpListener,
    bridge: Method,
    client: Running,
    server: Running,
    name: TransportName,
}

impl Pair {
    async fn new(server: Who, client: Who, iat_mode: u8) -> Self {
        Self::of("obfs4", server, client, iat_mode).await
    }

    async fn of(transport: &str, server: Who, client: Who, iat_mode: u8) -> Self {
        let name: TransportName = transport.parse().unwrap();
        let behind = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut transport = ServerTransport::new(name.clone());
        transport.bind = Some(([127, 0, 0, 1], 0).into());
        transport.options = Args::new().with("iat-mode", iat_mode.to_string()).unwrap();
        let orport = OrPort::Plain(behind.local_addr().unwrap());
        let transports = vec![transport];
        let server = Running::start(server, Role::Server { transports, orport }).await;
        let bridge = server.methods.ready[&name].clone();
        assert_eq!(bridge.args.value("iat-mode").unwrap(), iat_mode.to_string());
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
            bridge,
            client,
            server,
            name,
        }
    }

    /// A connection through both: the client's end, and what comes out behind the bridge.
    async fn connect(&self) -> io::Result<(TcpStream, TcpStream)> {
        let target = Target::from(self.bridge.address);
        let dial = self
            .client
            .methods
            .dial(&self.name, &target, &self.bridge.args, LIMIT);
        let both = async { tokio::join!(biased; dial, self.behind.accept()) };
        let (near, far) = tokio::time::timeout(LIMIT, both).await?;
        Ok((near.map_err(io::Error::other)?, far?.0))
    }
}

fn number(name: &str, default: usize) -> usize {
    env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// Who can meet whom here.
fn pairs() -> Vec<(Who, Who)> {
    if has_obfs4proxy() {
        return vec![
            (Who::Theirs, Who::Ours),
            (Who::Ours, Who::Theirs),
            (Who::Ours, Who::Ours),
            (Who::Theirs, Who::Theirs),
        ];
    }
    println!("obfs4proxy is not installed: ours meets itself alone (apt-get install obfs4proxy)");
    vec![(Who::Ours, Who::Ours)]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_handshake_and_every_transfer_succeeds_whoever_serves() {
    let handshakes = number("PHANTOM_INTEROP_HANDSHAKES", 10);
    let repeats = number("PHANTOM_INTEROP_REPEATS", 1);
    let mut table = String::from(
        "server      client      handshakes  1 kB to 10 MB, up and down   up MB/s  down MB/s (10 MB, median)\n",
    );
    for (server, client) in pairs() {
        let pair = Pair::new(server, client, 0).await;
        for n in 0..handshakes {
            let (near, far) = pair.connect().await.unwrap();
            let seconds = transfer(near, far, 100).await;
            assert!(
                seconds.is_ok(),
                "handshake {n} of {}/{}: {seconds:?}",
                server.name(),
                client.name()
            );
        }
        let mut transfers = 0;
        let mut speeds = [Vec::new(), Vec::new()];
        for bytes in [
            1_000, 10_000, 30_000, 100_000, 300_000, 1_000_000, 3_000_000, 10_000_000,
        ] {
            for _ in 0..repeats {
                for (way, speeds) in speeds.iter_mut().enumerate() {
                    let (near, far) = pair.connect().await.unwrap();
                    let (from, to) = if way == 0 { (near, far) } else { (far, near) };
                    let seconds = transfer(from, to, bytes).await.unwrap();
                    transfers += 1;
                    if bytes == 10_000_000 {
                        speeds.push(bytes as f64 / 1e6 / seconds);
                    }
                }
            }
        }
        let [up, down] = speeds.map(|mut speeds| {
            speeds.sort_by(f64::total_cmp);
            speeds[speeds.len() / 2]
        });
        table.push_str(&format!(
            "{:<11} {:<11} {handshakes:>4} of {handshakes:<4} {transfers:>4} of {transfers:<4} SHA-256 equal      {up:>7.1}  {down:>9.1}\n",
            server.name(),
            client.name(),
        ));
    }
    println!("{table}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn paced_modes_carry_both_ways_and_take_their_time() {
    for (server, client) in pairs() {
        for mode in [1, 2] {
            let pair = Pair::new(server, client, mode).await;
            for way in [0, 1] {
                let (near, far) = pair.connect().await.unwrap();
                let (from, to) = if way == 0 { (near, far) } else { (far, near) };
                let bytes = 60_000;
                let seconds = transfer(from, to, bytes).await.unwrap();
                let megabit = bytes as f64 * 8.0 / 1e6 / seconds;
                println!(
                    "{} / {}, iat-mode {mode}, way {way}: {megabit:.2} Mbit/s",
                    server.name(),
                    client.name()
                );
                // A bridge draws how long its pauses are as a rule, and a busy machine makes them longer: 0.6 to 3.2 Mbit/s were seen, and 400 without.
                assert!(megabit < 10.0, "no pacing: {megabit} Mbit/s");
            }
        }
    }
}

/// The transport of our own, whose first packet looks like the beginning of TLS.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prefixed_obfs4_carries_both_ways_and_its_line_says_the_prefix() {
    let pair = Pair::of("obfs4_prefixed", Who::Ours, Who::Ours, 0).await;
    assert_eq!(pair.bridge.args.value("prefix"), Some("tls"));
    for way in [0, 1] {
        let (near, far) = pair.connect().await.unwrap();
        let (from, to) = if way == 0 { (near, far) } else { (far, near) };
        transfer(from, to, 300_000).await.unwrap();
    }
}

/// An operator who changes from obfs4proxy to ours keeps the bridge's line.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bridge_keeps_its_line_over_a_restart() {
    let pair = Pair::new(Who::Ours, Who::Ours, 0).await;
    let state = pair.server.state.path().join("pt");
    let kept = std::fs::read_to_string(state.join("obfs4_state.json")).unwrap();
    let identity = phantom_obfs4::Identity::from_state_json(&kept).unwrap();
    assert_eq!(pair.bridge.args.value("cert").unwrap(), identity.args().cert());
    let line = std::fs::read_to_string(state.join("obfs4_bridgeline.txt")).unwrap();
    assert!(line.contains(&identity.args().cert()), "{line}");
}
