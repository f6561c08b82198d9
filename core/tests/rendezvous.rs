//! A bridge publishes, its cohort's client finds it, over real DHT nodes on loopback; nobody else learns anything.
#![cfg(feature = "tokio")]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use phantom_core::crypto::keys::{IdentitySecret, LinkSecret};
use phantom_core::dht::{ClientConfig, DhtClient, Endpoint, NodeConfig, serve};
use phantom_core::directory::descriptor::{BridgeDescriptor, VersionRange};
use phantom_core::directory::ways::Ways;
use phantom_core::rendezvous::publish::publish;
use phantom_core::rendezvous::{BridgeSlots, Day, SequencePins, Slot, fetch::fetch, mint};
use phantom_core::runtime::tokio::{Config, TokioRuntime};
use phantom_core::runtime::{Clock, Entropy, Spawn, timeout};
use phantom_core::units::WallTime;
use tokio::sync::mpsc;
use zeroize::Zeroizing;

const PATIENCE: Duration = Duration::from_secs(30);

/// Ten DHT nodes at 127.0.3.x.
async fn dht(rt: &TokioRuntime) -> Vec<SocketAddr> {
    let mut addrs: Vec<SocketAddr> = Vec::new();
    for n in 1..=10 {
        let bootstrap = addrs
            .first()
            .map(|addr| Endpoint::Addr(*addr))
            .into_iter()
            .collect();
        let config = NodeConfig::new(SocketAddr::new(Ipv4Addr::new(127, 0, 3, n).into(), 0), bootstrap);
        let (told, mut bound) = mpsc::channel(1);
        let peer = rt.clone();
        rt.spawn("dht node", async move {
            let done = serve(peer, config, |addr| told.try_send(addr).expect("room for one")).await;
            done.expect("a free port");
        });
        addrs.push(
            timeout(rt, PATIENCE, bound.recv())
                .await
                .expect("in time")
                .expect("bound"),
        );
    }
    rt.sleep(Duration::from_secs(4)).await;
    addrs
}

fn descriptor(rt: &TokioRuntime, time: WallTime, port: u16) -> BridgeDescriptor {
    let mut rng = rt.rng("test bridge");
    BridgeDescriptor {
        versions: VersionRange { min: 1, max: 1 },
        identity: IdentitySecret::from_rng(&mut rng).public(),
        link: LinkSecret::from_rng(&mut rng).public(),
        psk: Zeroizing::new([3; 32]),
        expires: time + Duration::from_secs(86_400),
        ways: Ways::plain(vec![SocketAddr::from(([192, 0, 2, 1], port))]),
    }
}

#[tokio::test]
async fn a_client_finds_the_bridges_of_its_cohort_and_no_others_and_takes_the_newest() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let rt = TokioRuntime::start(Config::new("rendezvous test", dir.path())).expect("a directory of its own");
    let nodes = dht(&rt).await;
    // The time believed counts, whatever the clock of the host says.
    let time = rt.wall() + Duration::from_secs(10 * 86_400);
    let minted = mint(&mut rt.rng("mint"), 2, 5).expect("enough bridges");
    let client = |n: usize| {
        Arc::new(DhtClient::new(
            rt.clone(),
            ClientConfig::new(vec![nodes[n]], Vec::new()),
        ))
    };

    // Two of the first cohort's four bridges publish, one of them twice, with another address.
    let holder = |slot: Slot| minted.ledger.holder(0, slot).expect("all are given") as usize;
    for (slot, port) in [(Slot::ALL[0], 1000), (Slot::ALL[2], 1002), (Slot::ALL[0], 2000)] {
        let all = minted.bridges[holder(slot)].iter();
        let slots = BridgeSlots(
            all.filter(|writer| writer.cohort() == minted.cohorts[0].public.id())
                .cloned()
                .collect(),
        );
        let published = publish(&rt, time, &client(1), &slots, &descriptor(&rt, time, port)).await;
        assert_eq!(
            (published.stored as usize, published.failed),
            (Day::around(time).len(), 0)
        );
    }

    let (mut found, mut pins) = (Vec::new(), SequencePins::default());
    let count = fetch(
        &rt,
        time,
        &client(5),
        &minted.cohorts[0],
        &Slot::ALL,
        &mut pins,
        |bridge| found.push(bridge),
    )
    .await;
    assert_eq!(count, 2 * Day::around(time).len());
    found.sort_by_key(|found| found.slot);
    let ports: Vec<u16> = found
        .iter()
        .map(|found| found.bridge.ways.known()[0].at.port())
        .collect();
    assert!(ports.iter().all(|port| [2000, 1002].contains(port)), "{ports:?}");
    assert!(found.iter().all(|found| found.quorum));
    assert!(pins.get(Slot::ALL[0], Day::of(time)) > 0);

    let none = fetch(
        &rt,
        time,
        &client(6),
        &minted.cohorts[1],
        &Slot::ALL,
        &mut SequencePins::default(),
        |_| {},
    )
    .await;
    assert_eq!(none, 0, "the other cohort's bridges have not published");
    rt.shutdown().await;
}
