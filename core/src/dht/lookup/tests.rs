use ed25519_dalek::SigningKey;

use super::*;
use crate::dht::item::{ItemSigner, string_value};

const PIN: i64 = 5;

fn at(ms: u64) -> Instant {
    Instant::ZERO + Duration::from_millis(ms)
}

fn addr(n: u8) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, n], 6881))
}

/// Node `n`: private addresses are exempt from BEP 42, so ids are free and distance falls with `n`.
fn node(n: u8) -> NodeInfo {
    let mut id = goal().target().0;
    id[0] ^= 255 - n;
    NodeInfo {
        id: DhtId(id),
        addr: addr(n),
    }
}

fn signer() -> SigningKey {
    SigningKey::from_bytes(&[9; 32])
}

fn item(sequence: i64) -> MutableItem {
    MutableItem::sign(&signer(), b"day", sequence, &string_value(b"bridge")).expect("in bounds")
}

fn goal() -> Goal {
    Goal::Item {
        key: signer().public_key(),
        salt: b"day".to_vec(),
        pinned: PIN,
    }
}

fn lookup(seeds: u8) -> Lookup {
    let mut lookup = Lookup::new(at(0), Config::default(), goal(), DhtId([0; 20]));
    (1..=seeds).for_each(|n| lookup.seed(addr(n)));
    lookup
}

fn empty(n: u8) -> Response<'static> {
    Response {
        id: node(n).id,
        token: Some(b"token"),
        ..Response::default()
    }
}

fn showing<'a>(n: u8, item: &'a MutableItem) -> Response<'a> {
    Response {
        value: Some(item.value()),
        key: Some(*item.key()),
        sequence: Some(item.sequence()),
        signature: Some(*item.signature()),
        ..empty(n)
    }
}

/// Asks all it may now.
fn asked(lookup: &mut Lookup, now: Instant) -> Vec<SocketAddr> {
    std::iter::from_fn(|| match lookup.poll_output(now) {
        Output::Ask(to) => Some(to),
        _ => None,
    })
    .collect()
}

#[test]
fn at_most_four_queries_wait_at_once_and_the_nearest_go_first() {
    let mut lookup = lookup(1);
    assert_eq!(asked(&mut lookup, at(0)), [addr(1)]);
    let nodes = (10..20).map(node).collect();
    lookup.answered(at(50), addr(1), &Response { nodes, ..empty(1) });
    assert_eq!(
        asked(&mut lookup, at(50)),
        [addr(19), addr(18), addr(17), addr(16)]
    );
    assert_eq!(lookup.poll_output(at(50)), Output::WaitUntil(at(1050)));
}

#[test]
fn a_silent_node_holds_nobody_up_and_its_late_answer_still_counts() {
    let mut lookup = lookup(4);
    assert_eq!(asked(&mut lookup, at(0)).len(), 4);
    (1..=3).for_each(|n| lookup.answered(at(100), addr(n), &empty(n)));
    assert_eq!(lookup.poll_output(at(100)), Output::WaitUntil(at(1000)));
    // The fourth is slow; it names a fifth when it speaks up at last.
    lookup.answered(at(900), addr(3), &empty(3));
    let five = Response {
        nodes: vec![node(5)],
        ..empty(4)
    };
    lookup.answered(at(999), addr(4), &five);
    assert_eq!(asked(&mut lookup, at(999)), [addr(5)]);
    assert_eq!(
        lookup.poll_output(at(1999)),
        Output::Done,
        "the fifth is slow, the others have answered"
    );
    assert_eq!(lookup.tally().answered, 4);
}

#[test]
fn a_lookup_ends_though_nobody_answers() {
    let mut lookup = lookup(3);
    asked(&mut lookup, at(0));
    assert_eq!(
        lookup.poll_output(at(1000)),
        Output::WaitUntil(at(3000)),
        "one answer would be worth a wait"
    );
    assert_eq!(lookup.poll_output(at(3000)), Output::Done);

    let mut lookup = self::lookup(0);
    lookup.expect_seeds(true);
    assert_eq!(lookup.poll_output(at(0)), Output::WaitUntil(at(15_000)));
    lookup.expect_seeds(false);
    assert_eq!(lookup.poll_output(at(0)), Output::Done);
}

#[test]
fn a_lookup_ends_though_liars_name_ever_nearer_nodes() {
    let config = Config {
        queries_max: 40,
        enforce_ids: false,
        ..Config::default()
    };
    let mut lookup = Lookup::new(at(0), config, goal(), DhtId([0; 20]));
    lookup.seed(SocketAddr::from(([11, 0, 0, 1], 1)));
    let (mut n, mut rounds) = (0_u32, 0);
    loop {
        rounds += 1;
        assert!(rounds < 1000);
        match lookup.poll_output(at(1)) {
            Output::Ask(to) => {
                let known = lookup.candidates.iter().find(|c| c.addr == to.into());
                let id = known.and_then(|c| c.id(lookup.target));
                let nodes = (0..32)
                    .map(|_| {
                        n += 1;
                        let mut id = lookup.target.0;
                        id[16..]
                            .iter_mut()
                            .zip((u32::MAX - n).to_be_bytes())
                            .for_each(|(byte, far)| *byte ^= far);
                        let ip = IpAddr::from((0x0b00_0000 + n).to_be_bytes());
                        NodeInfo {
                            id: DhtId(id),
                            addr: SocketAddr::new(ip, 1),
                        }
                    })
                    .collect();
                lookup.answered(
                    at(1),
                    to,
                    &Response {
                        nodes,
                        id: id.unwrap_or(DhtId([1; 20])),
                        ..empty(1)
                    },
                );
                assert!(lookup.candidates.len() <= CANDIDATES_MAX);
            }
            Output::WaitUntil(_) => panic!("nothing is under way"),
            Output::Done => break,
        }
    }
    assert_eq!(lookup.tally().asked, 40);
}

#[test]
fn three_addresses_make_a_quorum_and_the_highest_sequence_wins() {
    let mut lookup = lookup(4);
    asked(&mut lookup, at(0));
    lookup.answered(at(10), addr(1), &showing(1, &item(7)));
    lookup.answered(at(20), addr(2), &showing(2, &item(9)));
    assert!(!lookup.has_quorum());
    lookup.answered(at(30), addr(3), &showing(3, &item(8)));
    assert!(lookup.has_quorum());
    assert_eq!(lookup.best(), Some(&item(9)));
    assert_eq!(
        lookup.poll_output(at(30)),
        Output::WaitUntil(at(330)),
        "stragglers get a moment"
    );
    assert_eq!(lookup.poll_output(at(330)), Output::Done);
}

#[test]
fn one_address_counts_once_whatever_ports_it_speaks_from() {
    let mut lookup = Lookup::new(at(0), Config::default(), goal(), DhtId([0; 20]));
    let same_ip = |port| SocketAddr::from(([10, 0, 0, 1], port));
    (1..=5).for_each(|port| lookup.seed(same_ip(port)));
    assert_eq!(asked(&mut lookup, at(0)).len(), PER_IP_MAX);
    for n in 1..=2 {
        lookup.answered(at(1), same_ip(u16::from(n)), &showing(n, &item(7)));
    }
    assert_eq!(lookup.tally().responders, 1);
}

#[test]
fn old_and_forged_values_do_not_count() {
    let mut lookup = lookup(4);
    asked(&mut lookup, at(0));
    lookup.answered(at(1), addr(1), &showing(1, &item(PIN - 1)));
    lookup.answered(
        at(2),
        addr(2),
        &Response {
            sequence: Some(99),
            ..showing(2, &item(7))
        },
    );
    lookup.answered(
        at(3),
        addr(3),
        &Response {
            key: Some([1; 32]),
            ..showing(3, &item(7))
        },
    );
    let (other, value) = (SigningKey::from_bytes(&[8; 32]), string_value(b"bridge"));
    let others = MutableItem::sign(&other, b"day", 50, &value).expect("in bounds");
    lookup.answered(at(4), addr(4), &showing(4, &others));
    let tally = lookup.tally();
    assert_eq!((tally.responders, tally.rolled_back, tally.forged), (0, 1, 3));
    assert_eq!(lookup.best(), None);
}

#[test]
fn a_node_that_answers_under_another_id_is_not_one_of_the_nearest() {
    let mut lookup = lookup(1);
    asked(&mut lookup, at(0));
    lookup.answered(
        at(1),
        addr(1),
        &Response {
            nodes: vec![node(9)],
            ..empty(1)
        },
    );
    asked(&mut lookup, at(1));
    lookup.answered(at(2), addr(9), &empty(8));
    assert_eq!(lookup.nearest(), [node(1)]);
}

#[test]
fn nodes_whose_ids_do_not_fit_their_public_address_hold_nothing() {
    let sybil = SocketAddr::from(([203, 0, 113, 7], 6881));
    let mut lookup = lookup(1);
    lookup.seed(sybil);
    asked(&mut lookup, at(0));
    lookup.answered(
        at(1),
        sybil,
        &Response {
            id: goal().target(),
            ..empty(1)
        },
    );
    lookup.answered(at(1), addr(1), &empty(1));
    assert_eq!(
        lookup
            .holders()
            .iter()
            .map(|holder| holder.node.addr)
            .collect::<Vec<_>>(),
        [addr(1)]
    );
}

#[test]
fn an_answer_that_nobody_asked_for_changes_nothing() {
    let mut lookup = lookup(1);
    lookup.answered(at(0), addr(7), &showing(7, &item(7)));
    lookup.answered(at(0), addr(1), &showing(1, &item(7)));
    assert_eq!(lookup.tally(), Tally::default());
    asked(&mut lookup, at(0));
    lookup.answered(at(1), addr(1), &showing(1, &item(7)));
    lookup.answered(at(2), addr(1), &showing(1, &item(7)));
    assert_eq!(lookup.tally().responders, 1);
}
