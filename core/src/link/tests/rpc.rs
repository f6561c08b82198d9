//! Requests and answers.

use std::time::Duration;

use bytes::Bytes;

use super::world::*;
use crate::link::rpc::{Responder, Rpc, RpcConfig, RpcError, RpcViolation};
use crate::link::{Channel, Link};
use crate::runtime::Spawn;

/// An rpc end, and a task that hands it what comes.
fn rpc(rt: &TestRt, link: Link, config: RpcConfig) -> Rpc<TestRt> {
    let rpc = Rpc::new(rt.clone(), link.sender(), config);
    let receiving = rpc.clone();
    rt.spawn("rpc pump", async move {
        while let Some((channel, message)) = link.recv().await {
            assert_eq!(channel, Channel::RPC);
            if receiving.deliver(&message).is_err() {
                link.close();
            }
        }
    });
    rpc
}

async fn rpcs(config: RpcConfig) -> (Rpc<TestRt>, Rpc<TestRt>) {
    let world = World::listed();
    let pair = world.link().await;
    (
        rpc(&world.dialler, pair.client, config.clone()),
        rpc(&world.server, pair.server, config),
    )
}

fn long(n: usize) -> Bytes {
    (0..n).map(|i| i as u8).collect()
}

#[tokio::test(start_paused = true)]
async fn answers_find_their_calls_in_whatever_order_they_come() {
    let (client, server) = rpcs(RpcConfig::default()).await;
    let serve = async {
        let mut held: Vec<(Bytes, Responder)> = Vec::new();
        for _ in 0..3 {
            held.push(server.next_request().await);
        }
        while let Some((request, responder)) = held.pop() {
            responder.answer(request).await.unwrap();
        }
    };
    let ask = async {
        let (a, (b, c)) = both(
            client.call(Bytes::from_static(b"a")),
            both(client.call(long(40_000)), client.call(Bytes::new())),
        )
        .await;
        assert_eq!(a, Ok(Bytes::from_static(b"a")));
        assert_eq!(b, Ok(long(40_000)));
        assert_eq!(c, Ok(Bytes::new()));
    };
    both(ask, serve).await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_may_be_longer_than_the_links_buffers() {
    let (client, server) = rpcs(RpcConfig::default()).await;
    let serve = async {
        let (_, responder) = server.next_request().await;
        responder.answer(long(1024 * 1024)).await.unwrap();
    };
    let (answer, ()) = both(client.call(Bytes::new()), serve).await;
    assert_eq!(answer, Ok(long(1024 * 1024)));
}

#[tokio::test(start_paused = true)]
async fn an_answer_beyond_its_bound_closes_the_link() {
    let config = RpcConfig {
        answer_max: 1000,
        ..RpcConfig::default()
    };
    let (client, server) = rpcs(config).await;
    let serve = async {
        let (_, responder) = server.next_request().await;
        responder.answer(long(1001)).await.unwrap();
    };
    let (answer, ()) = both(client.call(Bytes::new()), serve).await;
    assert!(matches!(answer, Err(RpcError::Link(_))), "{answer:?}");
    let closed = server.call(Bytes::new()).await;
    assert!(matches!(closed, Err(RpcError::Link(_))), "{closed:?}");
}

#[tokio::test(start_paused = true)]
async fn a_call_ends_by_its_time_limit_and_a_late_answer_is_nobodys() {
    let (client, server) = rpcs(RpcConfig::default()).await;
    let limit = RpcConfig::default().time_limit;
    let serve = async {
        let (_, late) = server.next_request().await;
        pass(30.0).await;
        late.answer(Bytes::from_static(b"late")).await.unwrap();
        let (_, next) = server.next_request().await;
        next.answer(Bytes::from_static(b"next")).await.unwrap();
    };
    let ask = async {
        assert_eq!(client.call(Bytes::new()).await, Err(RpcError::TimedOut(limit)));
        pass(20.0).await;
        assert_eq!(client.call(Bytes::new()).await, Ok(Bytes::from_static(b"next")));
    };
    both(ask, serve).await;
}

#[tokio::test(start_paused = true)]
async fn requests_beyond_the_bound_are_refused_at_once_and_those_given_up_too() {
    let (client, server) = rpcs(RpcConfig {
        requests: 2,
        ..RpcConfig::default()
    })
    .await;
    let asked = async {
        let ((a, b), c) = both(
            both(client.call(Bytes::new()), client.call(Bytes::new())),
            client.call(Bytes::new()),
        )
        .await;
        assert_eq!(c, Err(RpcError::Refused), "the bound");
        assert_eq!(a, Err(RpcError::Refused), "given up");
        assert_eq!(b, Ok(Bytes::from_static(b"yes")));
    };
    let serve = async {
        pass(1.0).await;
        drop(server.next_request().await);
        let (_, responder) = server.next_request().await;
        responder.answer(Bytes::from_static(b"yes")).await.unwrap();
    };
    both(asked, serve).await;
}

#[tokio::test(start_paused = true)]
async fn calls_beyond_the_bound_wait_their_turn() {
    let (client, server) = rpcs(RpcConfig {
        calls: 1,
        ..RpcConfig::default()
    })
    .await;
    let ask = both(
        client.call(Bytes::from_static(b"1")),
        client.call(Bytes::from_static(b"2")),
    );
    let serve = async {
        let (first, responder) = server.next_request().await;
        pass(1.0).await;
        responder.answer(first).await.unwrap();
        let (second, responder) = server.next_request().await;
        responder.answer(second).await.unwrap();
    };
    let ((a, b), ()) = both(ask, serve).await;
    assert_eq!(
        (a, b),
        (Ok(Bytes::from_static(b"1")), Ok(Bytes::from_static(b"2")))
    );
}

fn part(kind: u8, id: u8, body: &[u8]) -> Vec<u8> {
    [&[kind, 0, 0, 0, id][..], body].concat()
}

/// Room that appears between two parts changes nothing for a request that was refused at its first: its tail alone would be
/// another request than the one that was made.
#[tokio::test(start_paused = true)]
async fn the_tail_of_a_refused_request_is_no_request() {
    let (_client, server) = rpcs(RpcConfig {
        requests: 1,
        ..RpcConfig::default()
    })
    .await;
    server.deliver(&part(2, 1, b"first")).unwrap();
    server.deliver(&part(1, 2, b"head, ")).unwrap();
    let (first, responder) = server.next_request().await;
    assert_eq!(first, "first");
    responder.answer(Bytes::new()).await.unwrap();
    server.deliver(&part(1, 2, b"middle, ")).unwrap();
    server.deliver(&part(2, 2, b"tail")).unwrap();
    server.deliver(&part(2, 3, b"next")).unwrap();
    let (next, _responder) = server.next_request().await;
    assert_eq!(next, "next");
}

/// A caller that gives up between two parts never sends the rest.
#[tokio::test(start_paused = true)]
async fn a_request_that_was_given_up_half_way_holds_its_place_for_a_while_only() {
    let (_client, server) = rpcs(RpcConfig {
        requests: 1,
        ..RpcConfig::default()
    })
    .await;
    server.deliver(&part(1, 1, b"half of ")).unwrap();
    pass(RpcConfig::default().time_limit.as_secs_f64() + 1.0).await;
    server.deliver(&part(2, 2, b"whole")).unwrap();
    let (whole, responder) = server.next_request().await;
    assert_eq!(whole, "whole");
    responder.answer(Bytes::new()).await.unwrap();
    // Should the rest come after all, it is refused as a whole.
    server.deliver(&part(2, 1, b"a request")).unwrap();
    server.deliver(&part(2, 3, b"next")).unwrap();
    let (next, _responder) = server.next_request().await;
    assert_eq!(next, "next");
}

#[tokio::test(start_paused = true)]
async fn broken_rules_are_told_apart_from_lateness() {
    let (client, _server) = rpcs(RpcConfig {
        request_max: 100,
        ..RpcConfig::default()
    })
    .await;
    assert!(matches!(client.deliver(b""), Err(RpcViolation::Malformed(_))));
    assert!(matches!(
        client.deliver(&[9, 0, 0, 0, 1]),
        Err(RpcViolation::Malformed(_))
    ));
    assert!(matches!(
        client.deliver(&[5, 0, 0, 0, 1, 0]),
        Err(RpcViolation::Malformed(_))
    ));
    assert_eq!(
        client.deliver(&[4, 0, 0, 0, 1, 7]),
        Ok(()),
        "an answer nobody waits for"
    );
    assert_eq!(client.deliver(&[2, 0, 0, 0, 1, 7]), Ok(()));
    assert_eq!(
        client.deliver(&[2, 0, 0, 0, 1, 7]),
        Err(RpcViolation::Repeated(1))
    );
    let long = [&[1, 0, 0, 0, 2][..], &[0; 101]].concat();
    assert_eq!(
        client.deliver(&long),
        Err(RpcViolation::TooLong {
            what: "a request",
            bound: 100
        })
    );
}

#[tokio::test(start_paused = true)]
async fn a_call_over_a_link_that_is_gone_fails() {
    let world = World::listed();
    let pair = world.link().await;
    let client = Rpc::new(world.dialler.clone(), pair.client.sender(), RpcConfig::default());
    let closing = async {
        pass(1.0).await;
        drop(pair.client);
        Duration::ZERO
    };
    let (answer, _) = both(client.call(Bytes::new()), closing).await;
    assert!(matches!(answer, Err(RpcError::Link(_))), "{answer:?}");
}
