use ed25519_dalek::SigningKey;
use proptest::prelude::*;
use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;

use super::*;
use crate::dht::item::{ItemSigner, string_value};

fn at(secs: u64) -> Instant {
    Instant::ZERO + Duration::from_secs(secs)
}

fn server() -> Server<ChaCha12Rng> {
    let config = ServerConfig::new([192, 0, 2, 1].into(), Vec::new());
    Server::new(at(0), config, ChaCha12Rng::seed_from_u64(1))
}

fn client(last: u8) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, last], 5000))
}

/// Sends a query and returns the datagram that answers it.
fn ask(
    server: &mut Server<ChaCha12Rng>,
    now: Instant,
    from: SocketAddr,
    tid: &[u8],
    query: Query<'_>,
) -> Vec<u8> {
    let body = Body::Query {
        id: DhtId([5; 20]),
        query,
    };
    let wire = Message {
        transaction: tid,
        read_only: true,
        seen_at: None,
        body,
    }
    .encode();
    server.handle(now, from, &wire).expect("a query in bounds");
    let Output::Send { to, datagram } = server.poll_output(now) else {
        panic!("an answer")
    };
    assert_eq!(to, from);
    datagram
}

fn response(datagram: &[u8]) -> Response<'_> {
    match Message::decode(datagram).expect("decodes").body {
        Body::Response(response) => response,
        other => panic!("{other:?}"),
    }
}

fn refusal(datagram: &[u8]) -> i64 {
    match Message::decode(datagram).expect("decodes").body {
        Body::Error { code, .. } => code,
        other => panic!("{other:?}"),
    }
}

fn token(server: &mut Server<ChaCha12Rng>, now: Instant, from: SocketAddr) -> Vec<u8> {
    let query = Query::Get {
        target: DhtId([1; 20]),
        newer_than: None,
        want: Want::default(),
    };
    let answer = ask(server, now, from, b"aa", query);
    response(&answer).token.expect("a token").to_vec()
}

#[test]
fn transaction_ids_of_every_length_come_back_as_they_were() {
    let mut server = server();
    for len in 1..=16_u8 {
        let tid: Vec<u8> = (0..len).map(|i| 0xf0 + i % 16).collect();
        let answer = ask(&mut server, at(u64::from(len)), client(1), &tid, Query::Ping);
        let message = Message::decode(&answer).expect("decodes");
        assert_eq!(
            (message.transaction, message.seen_at),
            (&tid[..], Some(client(1)))
        );
    }
}

#[test]
fn what_is_put_is_got_and_steps_back_are_refused() {
    let (mut server, signer) = (server(), SigningKey::from_bytes(&[3; 32]));
    let token = token(&mut server, at(0), client(1));
    let mut put = |sequence, body: &[u8], cas, spoil: u8| {
        let value = string_value(body);
        let item = MutableItem::sign(&signer, b"salt", sequence, &value).expect("in bounds");
        let mut signature = *item.signature();
        signature[0] ^= spoil;
        let mutable = PutMutable {
            key: signer.public_key(),
            salt: b"salt",
            sequence,
            signature,
            cas,
        };
        ask(
            &mut server,
            at(1),
            client(1),
            b"bb",
            Query::Put {
                token: &token,
                value: &value,
                mutable: Some(mutable),
            },
        )
    };
    assert_eq!(response(&put(4, b"four", None, 0)).id.0.len(), 20);
    assert_eq!(refusal(&put(3, b"three", None, 0)), code::SEQUENCE_TOO_LOW);
    assert_eq!(refusal(&put(5, b"five", Some(3), 0)), code::CAS_MISMATCH);
    assert_eq!(refusal(&put(5, b"five", None, 1)), code::BAD_SIGNATURE);
    response(&put(5, b"five", Some(4), 0));

    let target = super::super::item::mutable_target(&signer.public_key(), b"salt");
    let get = |newer_than| Query::Get {
        target,
        newer_than,
        want: Want::default(),
    };
    let answer = ask(&mut server, at(2), client(2), b"cc", get(None));
    let shown = response(&answer);
    assert_eq!(
        (shown.sequence, shown.value, shown.key),
        (Some(5), Some(&b"4:five"[..]), Some(signer.public_key()))
    );
    let answer = ask(&mut server, at(2), client(2), b"cc", get(Some(5)));
    assert_eq!(
        (response(&answer).sequence, response(&answer).value),
        (Some(5), None),
        "nothing newer to show"
    );
}

#[test]
fn an_immutable_item_is_stored_under_its_hash() {
    let mut server = server();
    let token = token(&mut server, at(0), client(1));
    let value = string_value(b"hello");
    ask(
        &mut server,
        at(0),
        client(1),
        b"aa",
        Query::Put {
            token: &token,
            value: &value,
            mutable: None,
        },
    );
    let query = Query::Get {
        target: immutable_target(&value),
        newer_than: None,
        want: Want::default(),
    };
    let answer = ask(&mut server, at(1), client(2), b"aa", query);
    assert_eq!(response(&answer).value, Some(&value[..]));
}

#[test]
fn a_token_serves_its_address_for_five_to_ten_minutes() {
    let mut server = server();
    let value = string_value(b"x");
    let first = token(&mut server, at(10), client(1));
    let mut put = |now, from, token: &[u8]| {
        let answer = ask(
            &mut server,
            at(now),
            from,
            b"aa",
            Query::Put {
                token,
                value: &value,
                mutable: None,
            },
        );
        matches!(Message::decode(&answer).expect("decodes").body, Body::Response(_))
    };
    assert!(put(599, client(1), &first));
    assert!(!put(20, client(2), &first), "it is another's");
    assert!(!put(600, client(1), &first), "it is too old");
    assert!(!put(20, client(1), b"guessed!"));
    assert!(!put(20, client(1), b""));
}

#[test]
fn values_that_are_too_long_are_refused() {
    let mut server = server();
    let token = token(&mut server, at(0), client(1));
    let value = string_value(&[b'x'; 997]);
    let answer = ask(
        &mut server,
        at(0),
        client(1),
        b"aa",
        Query::Put {
            token: &token,
            value: &value,
            mutable: None,
        },
    );
    assert_eq!(refusal(&answer), code::VALUE_TOO_LONG);
    assert_eq!(
        refusal(&ask(&mut server, at(0), client(1), b"aa", Query::Unknown)),
        code::METHOD_UNKNOWN
    );
}

#[test]
fn a_flood_from_one_address_is_not_answered_and_others_are() {
    let mut server = server();
    let wire = Message {
        transaction: b"aa",
        read_only: true,
        seen_at: None,
        body: Body::Query {
            id: DhtId([5; 20]),
            query: Query::Ping,
        },
    }
    .encode();
    let refused = (0..1000)
        .filter(|_| server.handle(at(1), client(1), &wire) == Err(Refusal::OverQuota))
        .count();
    assert_eq!(refused, 1000 - 60);
    assert!(server.outbox.len() <= OUTBOX_MAX);
    assert_eq!(server.handle(at(1), client(2), &wire), Ok(()));
}

#[test]
fn answers_to_nothing_are_refused_and_enter_no_table() {
    let mut server = server();
    let body = Body::Response(Response {
        id: DhtId([5; 20]),
        ..Response::default()
    });
    let wire = Message {
        transaction: b"aa",
        read_only: false,
        seen_at: None,
        body,
    }
    .encode();
    assert_eq!(server.handle(at(0), client(1), &wire), Err(Refusal::Misdirected));
    assert!(server.table().is_empty());
}

/// A socket of both families is seen at two addresses, to one of which no id can fit.
#[test]
fn a_node_of_both_families_does_not_move_to_and_fro() {
    let mut server = server();
    let before = server.id();
    let other: std::net::IpAddr = "2001:db8::9".parse().expect("literal");
    assert!(!before.fits_ip(other));
    for network in 1..=20 {
        server.seen_as(at(0), [network, 7, 0, 1].into(), other);
    }
    assert_eq!(server.id(), before);
    for network in 1..=20 {
        server.seen_as(at(0), [network, 7, 0, 1].into(), [203, 0, 113, 9].into());
    }
    assert_ne!(server.id(), before, "of its own family it believes them");
}

/// Bound to every address of its machine, a node has an id that no other would name, until it is told where it is.
#[test]
fn a_node_that_does_not_know_its_address_learns_it_and_joins_again_with_an_id_that_fits() {
    let others: Vec<SocketAddr> = (1..=12).map(|n| SocketAddr::from(([n, 7, 0, 1], 6881))).collect();
    let seen = SocketAddr::from(([203, 0, 113, 9], 40_000));
    let unknown = ServerConfig::new([0, 0, 0, 0].into(), others.clone());
    let mut server = Server::new(at(0), unknown, ChaCha12Rng::seed_from_u64(1));
    let before = server.id();
    assert!(!before.fits_ip(seen.ip()));
    let mut rng = ChaCha12Rng::seed_from_u64(2);
    let ids: Vec<DhtId> = others
        .iter()
        .map(|addr| DhtId::for_ip(addr.ip(), &mut rng))
        .collect();
    let mut answered = 0;
    while server.id() == before {
        let Output::Send { to, datagram } = server.poll_output(at(0)) else {
            panic!("{answered} answers were not enough");
        };
        let query = Message::decode(&datagram).expect("a query");
        let id = ids[others.iter().position(|addr| *addr == to).expect("one of them")];
        let answer = Message {
            transaction: query.transaction,
            read_only: false,
            seen_at: Some(seen),
            body: Body::Response(Response {
                id,
                ..Response::default()
            }),
        };
        server.handle(at(0), to, &answer.encode()).expect("it was asked");
        answered += 1;
    }
    assert_eq!(answered, 8);
    assert!(server.id().fits_ip(seen.ip()));
    assert_eq!(server.table().len(), 8, "whom it knew it knows still");
    let Output::Send { datagram, .. } = server.poll_output(at(0)) else {
        panic!("it joins again");
    };
    match Message::decode(&datagram).expect("a query").body {
        Body::Query { id, .. } => assert_eq!(id, server.id()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn read_only_nodes_enter_no_table() {
    let mut server = server();
    let id = DhtId::for_ip(client(1).ip(), &mut ChaCha12Rng::seed_from_u64(2));
    for (read_only, held) in [(true, 0), (false, 1)] {
        let body = Body::Query {
            id,
            query: Query::Ping,
        };
        let wire = Message {
            transaction: b"aa",
            read_only,
            seen_at: None,
            body,
        }
        .encode();
        server.handle(at(0), client(1), &wire).expect("a query");
        assert_eq!(server.table().len(), held);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn arbitrary_and_mutated_datagrams_never_panic(
        noise in proptest::collection::vec(any::<u8>(), 0..200),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut server = server();
        let _ = server.handle(at(0), client(1), &noise);
        let mut wire = b"d1:ad2:id20:aaaaaaaaaaaaaaaaaaaa6:target20:bbbbbbbbbbbbbbbbbbbbe1:q3:get1:t2:xx1:y1:qe".to_vec();
        for (at, byte) in changes {
            let at = at.index(wire.len());
            wire[at] = byte;
        }
        let _ = server.handle(at(0), client(1), &wire);
        while let Output::Send { .. } = server.poll_output(at(1)) {}
    }
}
