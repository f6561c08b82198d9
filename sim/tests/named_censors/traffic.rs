//! A world of plain programs that speak what censors look for: one client inside, one server outside, a resolver abroad.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use phantom_censor::classify::quic::Version;
use phantom_censor::craft::{Hello, http_request, quic_initial, tls_records};
use phantom_censor::file::CensorFile;
use phantom_censor::prober::Limits;
use phantom_core::runtime::{Listener, Net, Spawn, Udp, timeout};
use phantom_core::units::Instant;
use phantom_path::dice::Dice;
use phantom_sim::censor::Censor;
use phantom_sim::censor::prober::{Crew, direct, lend};
use phantom_sim::swarm::{HostSpec, Network, Runtime, Topology, World, WorldConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const SERVER: [u8; 4] = [45, 0, 0, 1];
const RESOLVER: [u8; 4] = [45, 0, 0, 53];
const BLOCKED: &str = "www.blocked.example";
const FINE: &str = "fine.example";
/// The most addresses of a prober that is in the catalogue.
const HANDS: u8 = 16;
/// What a server answers: beyond what a freeze lets through.
const ANSWER: usize = 60_000;
/// Of which lengths random first packets draw most probes.
const SUSPECT: usize = 386;

/// What there is to compare of a run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Played {
    /// The digest of its trace.
    pub(crate) digest: String,
    /// Flows that the censor sentenced.
    pub(crate) sentenced: u64,
}

/// Plays three minutes behind a censor, or behind none. The prober's hosts are there either way.
pub(crate) fn play(censor: Option<&CensorFile>) -> Played {
    let mut topology = Topology::new();
    let region = topology.add_region("all", Duration::from_millis(50));
    let system = topology.add_system("one", region, Duration::ZERO);
    let mut world = World::new(WorldConfig {
        network: Network::Modelled(topology),
        ..WorldConfig::new(1)
    });
    let host = |address: [u8; 4], inside: bool| HostSpec {
        addresses: vec![address.into()],
        inside,
        system,
        resolver: inside.then_some(RESOLVER.into()),
        ..HostSpec::new("host")
    };
    let server = world.add_host(host(SERVER, false));
    let client = world.add_host(host([10, 0, 0, 1], true));
    world.add_resolver(host(RESOLVER, false));
    for name in [BLOCKED, FINE] {
        world.names(|names| names.insert(name, vec![SERVER.into()], Duration::from_secs(60)));
    }
    let head = world.add_host(host([10, 9, 0, 1], true));
    let hands: Vec<[u8; 4]> = (0..HANDS).map(|n| [10, 9, 1, n]).collect();
    let peers: Vec<_> = hands
        .iter()
        .map(|address| world.add_host(host(*address, true)))
        .collect();
    let border = censor.map(|censor| {
        let mut border = Censor::new(censor.engine(1));
        if let Some(crew) = Crew::of(&censor.rules(), 1, Limits::default()) {
            border.employ(crew.office.clone(), hands.iter().copied().map(IpAddr::from));
            world.start(head, move |rt| direct(rt, crew.head));
            for (peer, hand) in peers.iter().zip(crew.hands) {
                world.start(*peer, move |rt| lend(rt, hand));
            }
        }
        let border = Arc::new(Mutex::new(border));
        world.set_middlebox(Arc::clone(&border));
        border
    });
    world.start(server, |rt| async move {
        for port in [80, 443] {
            rt.spawn("serve", serve(rt.clone(), port));
        }
        let udp = rt.bind_udp(SocketAddr::from(([0; 4], 443))).await.unwrap();
        while let Ok((said, from)) = udp.recv_from().await {
            let _ = udp.send_to(&said[..said.len().min(100)], from).await;
        }
    });
    world.start(client, browse);
    world
        .run_until(Instant::ZERO + Duration::from_secs(180), &mut ())
        .unwrap();
    let sentenced = border.map_or(0, |border| {
        let border = border.lock().unwrap();
        border
            .engine()
            .counts()
            .iter()
            .map(|counts| counts.sentenced)
            .sum()
    });
    Played {
        digest: world.trace_digest(),
        sentenced,
    }
}

/// Answers whatever is said first at length, and what is said then as the inner server of a proxy would.
async fn serve(rt: Runtime, port: u16) {
    let mut listener = rt.listen(SocketAddr::from(([0; 4], port))).await.unwrap();
    while let Ok(mut stream) = listener.accept().await {
        rt.spawn("answer", async move {
            let mut said = [0; 4_096];
            let mut answer = ANSWER;
            while let Ok(1..) = stream.read(&mut said).await {
                if stream.write_all(&vec![0x5A; answer]).await.is_err() {
                    return;
                }
                answer = 5_000;
            }
        });
    }
}

/// Says each of these and reads so much after it; gives up after ten seconds.
async fn ask(rt: Runtime, port: u16, said: Vec<(Vec<u8>, usize)>) {
    let talk = async {
        let mut stream = rt.connect(SocketAddr::from((SERVER, port))).await?;
        for (said, answer) in said {
            stream.write_all(&said).await?;
            stream.read_exact(&mut vec![0; answer]).await?;
        }
        std::io::Result::Ok(())
    };
    let _ = timeout(&rt, Duration::from_secs(10), talk).await;
}

fn hello(name: &str) -> Vec<u8> {
    tls_records(&Hello::to(name).message(), 1 << 14)
}

async fn browse(rt: Runtime) {
    for name in [BLOCKED, FINE] {
        let _ = timeout(&rt, Duration::from_secs(11), rt.resolve(name)).await;
        ask(rt.clone(), 80, vec![(http_request("GET", "/", name), ANSWER)]).await;
        ask(rt.clone(), 443, vec![(hello(name), ANSWER)]).await;
    }
    ask(rt.clone(), 443, vec![(hello("t.co"), ANSWER)]).await;
    // A hello within TLS, as long as hellos are, and the answer to it.
    let mut inner = vec![0x14, 3, 3, 0, 1, 1];
    inner.extend([0x17; 700]);
    let proxied = vec![(hello(FINE), ANSWER), (inner, 5_000), (vec![0x17; 100], 5_000)];
    ask(rt.clone(), 443, proxied).await;
    let udp = rt.bind_udp(SocketAddr::from(([0; 4], 50_000))).await.unwrap();
    let initial = quic_initial(Version::V1, &[7; 8], &[(0, &Hello::to(BLOCKED).message())]);
    let server = SocketAddr::from((SERVER, 443));
    udp.send_to(&initial, server).await.unwrap();
    let _ = timeout(&rt, Duration::from_secs(3), udp.recv_from()).await;
    // More than any browser opens to one server at once, and random first packets.
    for _ in 0..13 {
        rt.spawn("parallel", ask(rt.clone(), 443, vec![(hello(FINE), ANSWER)]));
    }
    let mut dice = Dice::new(1);
    for _ in 0..100 {
        // Three times: some filters look at a client's second data packet.
        let mut random = || (0..SUSPECT).map(|_| dice.draw() as u8).collect();
        let said = vec![(random(), 1), (random(), 1), (random(), 1)];
        rt.spawn("random", ask(rt.clone(), 443, said));
    }
    std::future::pending::<()>().await;
}
