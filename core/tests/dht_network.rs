//! A network of 60 DHT nodes in memory: joining, putting and getting by the real protocol, honest and under attack.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use phantom_core::dht::item::{ItemSigner, mutable_target, string_value};
use phantom_core::dht::krpc::{Body, Message, Response};
use phantom_core::dht::lookup::Config;
use phantom_core::dht::memory::Network;
use phantom_core::dht::operation::{GetReport, Operation, PutReport, Report};
use phantom_core::dht::server::ServerConfig;
use phantom_core::dht::{DhtId, MutableItem};

const NODES: usize = 60;
const SALT: &[u8] = b"day";

fn network() -> Network {
    Network::new(7, NODES, Duration::from_secs(180))
}

fn signer() -> SigningKey {
    SigningKey::from_bytes(&[4; 32])
}

fn client(last: u8) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, last], 4000))
}

fn put(network: &mut Network, sequence: i64, body: &[u8]) -> PutReport {
    let (signer, rng, seeds) = (signer(), network.rng(), network.addrs()[..3].to_vec());
    let operation = Operation::put(
        network.now(),
        Config::default(),
        &signer,
        SALT,
        sequence,
        &string_value(body),
        rng,
    )
    .expect("in bounds");
    match network.run(client(1), &seeds, operation).0 {
        Report::Put(report) => report,
        Report::Get(_) => panic!("a put"),
    }
}

fn get(network: &mut Network, pinned: i64) -> (GetReport, Duration) {
    let (rng, seeds) = (network.rng(), network.addrs()[20..23].to_vec());
    let key = signer().public_key();
    let operation = Operation::<SigningKey, _>::get(network.now(), Config::default(), key, SALT, pinned, rng);
    match network.run(client(2), &seeds, operation) {
        (Report::Get(report), time) => (report, time),
        (Report::Put(_), _) => panic!("a get"),
    }
}

fn nearest_to_item(network: &Network, count: usize) -> Vec<SocketAddr> {
    let target = mutable_target(&signer().public_key(), SALT);
    let mut nodes: Vec<_> = network
        .addrs()
        .into_iter()
        .filter_map(|addr| Some((network.server(addr)?.id().distance(&target), addr)))
        .collect();
    nodes.sort();
    nodes.into_iter().take(count).map(|(_, addr)| addr).collect()
}

#[test]
fn nodes_that_know_three_others_join_and_find_their_neighbours() {
    let network = network();
    for addr in network.addrs() {
        let server = network.server(addr).expect("there");
        assert!(
            server.table().len() >= 12,
            "{addr} knows {}",
            server.table().len()
        );
        let mut others: Vec<_> = network
            .addrs()
            .into_iter()
            .filter(|other| *other != addr)
            .map(|other| {
                (
                    network.server(other).expect("there").id().distance(&server.id()),
                    other,
                )
            })
            .collect();
        others.sort();
        let known: BTreeSet<_> = server
            .table()
            .nearest(&server.id(), 8, true, true)
            .into_iter()
            .map(|node| node.addr)
            .collect();
        let wanted = others[..4]
            .iter()
            .filter(|(_, other)| known.contains(other))
            .count();
        assert!(wanted >= 3, "{addr} knows {wanted} of its nearest four");
    }
}

#[test]
fn what_one_client_puts_another_gets_from_a_quorum() {
    let mut network = network();
    let report = put(&mut network, 1, b"one");
    assert_eq!((report.sequence, report.stored), (Some(1), 8));
    let (report, time) = get(&mut network, 0);
    assert_eq!(
        report.accepted().and_then(|item| item.value_string()),
        Some(&b"one"[..])
    );
    assert!(report.tally.responders >= 3);
    assert!(time < Duration::from_secs(2), "{time:?}");
}

#[test]
fn a_second_put_steps_the_sequence_forward_even_from_a_writer_that_forgot_it() {
    let mut network = network();
    put(&mut network, 10, b"ten");
    assert_eq!(put(&mut network, 3, b"again").sequence, Some(11));
    assert_eq!(
        put(&mut network, 11, b"again").sequence,
        Some(11),
        "the same value is only renewed"
    );
    let (report, _) = get(&mut network, 0);
    assert_eq!(report.accepted().map(|item| item.sequence()), Some(11));
}

#[test]
fn a_pinned_client_does_not_go_back() {
    let mut network = network();
    put(&mut network, 10, b"ten");
    let (report, _) = get(&mut network, 11);
    assert_eq!(report.best, None);
    assert!(report.tally.rolled_back >= 3);
}

#[test]
fn items_outlive_the_nodes_that_leave_and_are_gone_after_two_hours() {
    let mut network = network();
    put(&mut network, 1, b"one");
    for addr in nearest_to_item(&network, 4) {
        network.remove(addr);
    }
    network.run_for(Duration::from_secs(60));
    assert!(get(&mut network, 0).0.accepted().is_some());
    network.run_for(Duration::from_secs(2 * 3600));
    let (report, _) = get(&mut network, 0);
    assert_eq!((report.best, report.tally.responders), (None, 0));
}

/// Rewrites the answers of the liars.
fn lying(
    network: &mut Network,
    liars: Vec<SocketAddr>,
    lie: impl Fn(&mut Response<'static>) + Send + 'static,
) {
    network.tamper(move |from, _, datagram| {
        if !liars.contains(&from) {
            return Some(datagram);
        }
        let message = Message::decode(&datagram).expect("our own servers");
        let Body::Response(honest) = message.body else {
            return Some(datagram);
        };
        let mut lies = Response {
            id: honest.id,
            nodes: honest.nodes,
            token: Some(b"t"),
            ..Response::default()
        };
        lie(&mut lies);
        Some(
            Message {
                body: Body::Response(lies),
                ..message
            }
            .encode(),
        )
    });
}

#[test]
fn forged_values_are_counted_and_honest_ones_still_found() {
    let mut network = network();
    put(&mut network, 1, b"one");
    let liars = nearest_to_item(&network, 4);
    lying(&mut network, liars, |lie| {
        lie.value = Some(b"5:false");
        lie.key = Some(signer().public_key());
        lie.sequence = Some(1 << 40);
        lie.signature = Some([0x11; 64]);
    });
    let (report, _) = get(&mut network, 0);
    assert!(report.tally.forged >= 3, "{:?}", report.tally);
    assert_eq!(
        report.accepted().and_then(|item| item.value_string()),
        Some(&b"one"[..])
    );
}

#[test]
fn old_values_played_back_by_half_of_the_holders_lose_to_the_newest() {
    let mut network = network();
    put(&mut network, 2, b"two");
    let liars = nearest_to_item(&network, 4);
    let old: &'static MutableItem = Box::leak(Box::new(
        MutableItem::sign(&signer(), SALT, 1, &string_value(b"one")).expect("in bounds"),
    ));
    lying(&mut network, liars, |lie| {
        lie.value = Some(old.value());
        lie.key = Some(*old.key());
        lie.sequence = Some(old.sequence());
        lie.signature = Some(*old.signature());
    });
    let (report, _) = get(&mut network, 0);
    assert_eq!(report.accepted().map(|item| item.sequence()), Some(2));
}

#[test]
fn too_few_holders_are_no_quorum() {
    let mut network = network();
    put(&mut network, 1, b"one");
    let liars = nearest_to_item(&network, 6);
    lying(&mut network, liars, |_| {});
    let (report, _) = get(&mut network, 0);
    assert_eq!((report.quorum, report.accepted()), (false, None));
    assert!(report.best.is_some(), "what was seen is authentic all the same");
}

#[test]
fn twenty_sybils_nearest_to_the_item_cannot_hide_it_when_their_ids_do_not_fit() {
    let mut network = network();
    put(&mut network, 1, b"one");
    let target = mutable_target(&signer().public_key(), SALT);
    // Every answer of the nodes on the way names 20 Sybils whose ids are nearer than any honest one's.
    network.tamper(move |_, to, datagram| {
        let message = Message::decode(&datagram).expect("our own servers");
        let Body::Response(mut response) = message.body.clone() else {
            return Some(datagram);
        };
        if to != client(2) {
            return Some(datagram);
        }
        for n in 0..20_u8 {
            let mut id = target.0;
            id[19] ^= n;
            let addr = SocketAddr::from(([203, 0, 113, n], 6881));
            response
                .nodes
                .insert(0, phantom_core::dht::krpc::NodeInfo { id: DhtId(id), addr });
        }
        response.nodes.truncate(30);
        Some(
            Message {
                body: Body::Response(response),
                ..message
            }
            .encode(),
        )
    });
    let (report, _) = get(&mut network, 0);
    assert_eq!(
        report.accepted().and_then(|item| item.value_string()),
        Some(&b"one"[..])
    );
}

#[test]
fn answers_that_come_late_or_twice_or_from_elsewhere_change_nothing() {
    let mut network = network();
    put(&mut network, 1, b"one");
    let mut n = 0;
    network.tamper(move |_, to, mut datagram| {
        n += 1;
        // One answer in three is damaged in its transaction id or elsewhere, or lost.
        if to == client(2) && n % 3 == 0 {
            let at = n % datagram.len();
            datagram[at] ^= 0x20;
            return (n % 2 == 0).then_some(datagram);
        }
        Some(datagram)
    });
    let (report, _) = get(&mut network, 0);
    assert_eq!(
        report.accepted().and_then(|item| item.value_string()),
        Some(&b"one"[..])
    );
}

#[test]
fn a_node_that_joins_later_is_found_and_serves() {
    let mut network = network();
    let addr = SocketAddr::from(([9, 9, 9, 9], 6881));
    let bootstrap = network.addrs()[..1].to_vec();
    network.add(addr, ServerConfig::new(addr.ip(), bootstrap));
    network.run_for(Duration::from_secs(120));
    let id = network.server(addr).expect("there").id();
    let knows_it = |other: &SocketAddr| {
        network
            .server(*other)
            .expect("there")
            .table()
            .nearest(&id, 1, true, true)
            .iter()
            .any(|n| n.addr == addr)
    };
    assert!(network.addrs().iter().filter(|other| knows_it(other)).count() >= 8);
}

#[test]
fn an_idle_node_of_a_larger_network_holds_less_than_8_kib() {
    let network = Network::new(5, 300, Duration::from_secs(120));
    let held = |addr: &SocketAddr| network.server(*addr).expect("there").idle_bytes();
    let most = network.addrs().iter().map(held).max().expect("nodes");
    println!(
        "the largest of 300 idle nodes holds {most} bytes; {} datagrams in 120 s",
        network.sent()
    );
    assert!(most < 8 * 1024, "{most}");
}

/// Nodes that all join at the same three routers at the same time end up with a table in which every part of the id space
/// is known, and every lookup ends at the nodes that are truly nearest: whoever begins where, also at one of them.
#[test]
fn lookups_end_at_the_truly_nearest_nodes_whoever_asks() {
    let mut network = Network::new(11, 0, Duration::ZERO);
    let at = |n: u8| SocketAddr::from(([9, n, 3, n], 6881));
    let routers = [at(0), at(1), at(2)];
    for n in 0..63 {
        let others = routers.iter().copied().filter(|router| *router != at(n));
        network.add(at(n), ServerConfig::new(at(n).ip(), others.collect()));
    }
    network.run_for(Duration::from_secs(120));
    for n in 0..60 {
        let signer = SigningKey::from_bytes(&[n; 32]);
        let target = mutable_target(&signer.public_key(), SALT);
        let mut nodes: Vec<_> = network
            .addrs()
            .into_iter()
            .filter_map(|addr| Some((network.server(addr)?.id().distance(&target), addr)))
            .collect();
        nodes.sort();
        let nearest: Vec<_> = nodes.into_iter().take(8).map(|(_, addr)| addr).collect();
        let rng = network.rng();
        let put = Operation::put(
            network.now(),
            Config::default(),
            &signer,
            SALT,
            1,
            &string_value(b"x"),
            rng,
        )
        .expect("in bounds");
        // Some seeds are far, and the one that is asked last among those of unknown id is the nearest of all.
        let seeds: Vec<_> = (n % 40..n % 40 + 11).map(at).chain([nearest[0]]).collect();
        let Report::Put(put) = network.run(client(1), &seeds, put).0 else {
            panic!("a put")
        };
        assert_eq!(put.stored, 8);
        let config = Config {
            quorum: usize::MAX,
            ..Config::default()
        };
        let (rng, key) = (network.rng(), signer.public_key());
        let get = Operation::<SigningKey, _>::get(network.now(), config, key, SALT, 0, rng);
        let from = n.wrapping_mul(7) % 40;
        let seeds: Vec<_> = (from..from + 12).map(at).collect();
        let Report::Get(get) = network.run(client(2), &seeds, get).0 else {
            panic!("a get")
        };
        assert_eq!(get.tally.responders, 8, "item {n}");
        assert!(nearest.iter().all(|node| get.alive.contains(node)), "item {n}");
    }
}
