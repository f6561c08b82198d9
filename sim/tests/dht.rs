//! The Mainline DHT on the simulated network: what one client stores, another finds, whoever asks.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ed25519_dalek::SigningKey;
use phantom_core::dht::item::{ItemSigner, string_value};
use phantom_core::dht::{self, ClientConfig, DhtClient, Endpoint, NodeConfig};
use phantom_core::runtime::Clock;
use phantom_core::units::Instant;
use phantom_sim::swarm::{Access, HostSpec, Network, Topology, World, WorldConfig};

const PORT: u16 = 6_881;

fn address(n: u8) -> SocketAddr {
    SocketAddr::from(([20 + n % 7, n, 3, 1], PORT))
}

fn host(at: IpAddr) -> HostSpec {
    HostSpec {
        addresses: vec![at],
        access: Access::server(),
        ..HostSpec::new("host")
    }
}

/// Sixty nodes that know nothing but three routers have a network ten minutes later, in which a reader finds what a writer
/// stored on a quorum of the nodes that hold it and more. It stops when it has a quorum, so it does not always see all eight.
#[test]
fn what_a_client_stores_another_finds_at_a_quorum_of_nodes() {
    let mut world = World::new(WorldConfig {
        network: Network::Modelled(Topology::simblock_2019()),
        ..WorldConfig::new(5)
    });
    for n in 0..63 {
        let peer = world.add_host(host(address(n).ip()));
        let routers = (0..3)
            .filter(|router| *router != n)
            .map(|n| Endpoint::Addr(address(n)));
        let config = NodeConfig::new(address(n), routers.collect());
        world.start(peer, |rt| async move {
            dht::serve(rt, config, |_| {}).await.unwrap();
        });
    }
    let seen = Arc::new(Mutex::new(Vec::new()));
    let told = seen.clone();
    let reader = world.add_host(host([198, 51, 100, 2].into()));
    world.start(reader, move |rt| async move {
        rt.sleep_until(Instant::ZERO + Duration::from_secs(600)).await;
        let client = |from: u8| {
            let cached = (from..from + 12).map(address).collect();
            DhtClient::new(rt.clone(), ClientConfig::new(cached, Vec::new()))
        };
        for n in 0..60_u8 {
            let signer = SigningKey::from_bytes(&[n; 32]);
            let stored = client(n % 40)
                .put_mutable(&signer, b"day", 1, &string_value(b"here"))
                .await
                .unwrap()
                .stored;
            let found = client(n.wrapping_mul(7) % 40)
                .get_mutable(signer.public_key(), b"day", 0)
                .await
                .unwrap()
                .tally
                .responders;
            told.lock().unwrap().push((stored, found));
        }
    });
    world
        .run_until(Instant::ZERO + Duration::from_secs(1_200), &mut ())
        .unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len(), 60);
    assert!(
        seen.iter().all(|(stored, found)| *stored == 8 && *found >= 4),
        "{seen:?}"
    );
}
