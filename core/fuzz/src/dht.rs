//! The DHT, where everybody is a stranger: bencode, KRPC and items, a whole node, and a client's operations.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use phantom_core::dht::bencode::{Kind, Value, put_int, put_string};
use phantom_core::dht::endpoint::Endpoint;
use phantom_core::dht::item::{VALUE_BYTES_MAX, string_value};
use phantom_core::dht::krpc::{
    Body, DATAGRAM_BYTES_MAX, Message, NodeInfo, PutMutable, Query, Response, Want,
};
use phantom_core::dht::lookup::Config;
use phantom_core::dht::operation::{Operation, Report};
use phantom_core::dht::server::{Output, Server, ServerConfig};
use phantom_core::dht::{DhtId, ItemSigner, MutableItem};
use phantom_core::rendezvous::Day;
use phantom_core::rendezvous::cohort::SlotSigner;
use phantom_core::units::Instant;
use phantom_core::wire::Reader;

use crate::{canonical, world};

/// Formats.
pub fn dht(data: &[u8]) -> bool {
    let Some((kind, bytes)) = data.split_first() else {
        return false;
    };
    match kind % 4 {
        0 => canonical(bytes, Value::parse(bytes), |value| {
            let mut out = Vec::new();
            write(value, &mut out);
            out
        }),
        1 => {
            let Ok(message) = Message::decode(bytes) else {
                return false;
            };
            // Unknown keys are left out, so not the bytes but what they say must come back.
            let again = message.encode();
            assert!(
                again.len() <= bytes.len() + 8,
                "only the method of an unknown query may get longer"
            );
            assert_eq!(Message::decode(&again), Ok(message));
            true
        }
        2 => {
            let text: Result<Endpoint, _> = String::from_utf8_lossy(bytes).parse();
            if let Ok(endpoint) = &text {
                assert_eq!(endpoint.to_string().parse().as_ref(), Ok(endpoint));
            }
            let mut r = Reader::new(bytes);
            let endpoint = Endpoint::decode(&mut r);
            let read = &bytes[..bytes.len() - r.remaining()];
            text.is_ok()
                | canonical(read, endpoint, |endpoint| {
                    let mut out = Vec::new();
                    endpoint.encode(&mut out);
                    out
                })
        }
        _ => {
            let mut r = Reader::new(bytes);
            let (Ok(sequence), Ok(len)) = (r.u64(), r.u8()) else {
                return false;
            };
            let Ok(salt) = r.take(usize::from(len).min(r.remaining())) else {
                return false;
            };
            let Ok(item) = MutableItem::sign(&signer(), salt, sequence as i64, r.rest()) else {
                return false;
            };
            let _ = (item.value_string(), item.target());
            let same = MutableItem::verify(item.key(), salt, sequence as i64, item.value(), item.signature());
            assert_eq!(same, Ok(item));
            true
        }
    }
}

fn write(value: &Value<'_>, out: &mut Vec<u8>) {
    match value.kind() {
        Kind::Int(int) => put_int(out, *int),
        Kind::Bytes(bytes) => put_string(out, bytes),
        Kind::List(list) => {
            out.push(b'l');
            list.iter().for_each(|value| write(value, out));
            out.push(b'e');
        }
        Kind::Dict(entries) => {
            out.push(b'd');
            for (key, value) in entries {
                put_string(out, key);
                write(value, out);
            }
            out.push(b'e');
        }
    }
}

fn signer() -> SlotSigner<'static> {
    world::COHORT.1[0].signer(Day::of(world::wall()))
}

/// A node among strangers, and a client's get or put among them.
pub fn dht_machines(data: &[u8]) -> bool {
    let Some((kind, bytes)) = data.split_first() else {
        return false;
    };
    match kind % 3 {
        0 => server(bytes),
        1 => get(bytes),
        _ => put(bytes),
    }
}

fn addr(n: u8) -> SocketAddr {
    if n & 0x80 == 0 {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, 51, n, n)), 6_881)
    } else {
        SocketAddr::from(([0x2001, 0xdb8, n.into(), 0, 0, 0, 0, 1], 6_881))
    }
}

/// What a stranger may say to a query of ours: any nodes, any token, any item, signed or not.
fn response<'a>(
    with: u8,
    bytes: &'a [u8],
    key: [u8; 32],
    item: Option<&'a MutableItem>,
    now: Instant,
) -> Response<'a> {
    let node = |chunk: &[u8]| NodeInfo {
        id: DhtId::from_slice(&[chunk, &[chunk[0]; 18]].concat()).unwrap_or_default(),
        addr: addr(chunk[1]),
    };
    let nodes = if with & 1 == 0 {
        bytes.chunks_exact(2).take(20).map(node).collect()
    } else {
        Vec::new()
    };
    let forged = with & 2 != 0;
    Response {
        id: DhtId([with; 20]),
        nodes,
        token: (with & 4 != 0).then_some(bytes),
        value: item
            .map(|item| &item.value()[..])
            .or(forged.then_some(&b"5:wrong"[..])),
        key: item.map(|item| *item.key()).or(forged.then_some(key)),
        sequence: item
            .map(MutableItem::sequence)
            .or((with & 8 != 0).then_some(now.as_nanos() as i64)),
        signature: item
            .map(|item| *item.signature())
            .or(forged.then_some([with; 64])),
    }
}

fn server(bytes: &[u8]) -> bool {
    let mut now = Instant::ZERO;
    let config = ServerConfig {
        items_max: 4,
        queries_per_second: 200,
        queries_burst: 200,
        ..ServerConfig::new(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 1)), vec![addr(1), addr(2)])
    };
    let mut server = Server::new(now, config, world::rng(1));
    let mut asked: Vec<(SocketAddr, Vec<u8>)> = Vec::new();
    let mut token: Vec<u8> = Vec::new();
    let mut taken = false;
    let mut r = Reader::new(bytes);
    for _ in 0..32 {
        let (Ok(step), Ok(with), Ok(len)) = (r.u8(), r.u8(), r.u8()) else {
            break;
        };
        let Ok(bytes) = r.take(usize::from(len).min(r.remaining())) else {
            break;
        };
        let from = addr(step / 8);
        let query = |query| Body::Query {
            id: DhtId([with; 20]),
            query,
        };
        let body = match step % 8 {
            0 => {
                taken |= server.handle(now, from, bytes).is_ok();
                None
            }
            1 => {
                now = now + Duration::from_millis(u64::from(with) * u64::from(with) * 100);
                None
            }
            2 => {
                if let Some((to, transaction)) = asked.pop() {
                    let body = Body::Response(response(with, bytes, [with; 32], None, now));
                    let message = Message {
                        transaction: &transaction,
                        read_only: false,
                        seen_at: Some(from),
                        body,
                    };
                    taken |= server.handle(now, to, &message.encode()).is_ok();
                }
                None
            }
            3 => Some(query(Query::Get {
                target: if with & 1 == 0 {
                    MutableItem::sign(&signer(), b"", 0, b"0:")
                        .expect("short")
                        .target()
                } else {
                    DhtId([with; 20])
                },
                newer_than: (with & 2 != 0).then_some(i64::from(with)),
                want: Want {
                    v4: with & 4 != 0,
                    v6: with & 8 != 0,
                },
            })),
            4 => Some(query(Query::Put {
                token: &token,
                value: bytes,
                mutable: None,
            })),
            5 | 6 => {
                let value = string_value(bytes);
                let Ok(item) = MutableItem::sign(&signer(), b"", with.into(), &value) else {
                    continue;
                };
                let mutable = PutMutable {
                    key: *item.key(),
                    salt: b"",
                    sequence: with.into(),
                    signature: *item.signature(),
                    cas: (with & 1 != 0).then_some(i64::from(with / 2)),
                };
                let body = query(Query::Put {
                    token: &token,
                    value: &value,
                    mutable: Some(mutable),
                });
                let message = Message {
                    transaction: b"aa",
                    read_only: true,
                    seen_at: None,
                    body,
                };
                let _ = server.handle(now, from, &message.encode());
                None
            }
            _ => Some(query(Query::FindNode {
                target: DhtId([with; 20]),
                want: Want::default(),
            })),
        };
        if let Some(body) = body {
            let message = Message {
                transaction: b"aa",
                read_only: with & 16 != 0,
                seen_at: None,
                body,
            };
            let _ = server.handle(now, from, &message.encode());
        }
        for turn in 0.. {
            assert!(turn < 500, "the node does not come to rest");
            match server.poll_output(now) {
                Output::Send { to, datagram } => {
                    let message = Message::decode(&datagram).expect("what it sends decodes");
                    match message.body {
                        Body::Query { .. } => asked.push((to, message.transaction.to_vec())),
                        Body::Response(Response {
                            token: Some(given), ..
                        }) => token = given.to_vec(),
                        _ => {}
                    }
                }
                Output::WaitUntil(at) => {
                    assert!(at > now, "it waits for the past");
                    break;
                }
            }
        }
    }
    taken
}

fn get(bytes: &[u8]) -> bool {
    let key = signer().public_key();
    let operation =
        Operation::<SlotSigner<'_>, _>::get(Instant::ZERO, Config::default(), key, b"s", 5, world::rng(1));
    operate(operation, bytes, key)
}

fn put(bytes: &[u8]) -> bool {
    let signer = signer();
    let value = string_value(b"value");
    let put = Operation::put(
        Instant::ZERO,
        Config::default(),
        &signer,
        b"s",
        5,
        &value,
        world::rng(1),
    );
    operate(put.expect("in bounds"), bytes, signer.public_key())
}

/// Answers the operation's queries as the bytes say, or not, until it has ended.
fn operate(
    mut operation: Operation<'_, SlotSigner<'_>, impl rand_core::Rng>,
    bytes: &[u8],
    key: [u8; 32],
) -> bool {
    let mut now = Instant::ZERO;
    (1..5).for_each(|n| operation.seed(addr(n)));
    let mut r = Reader::new(bytes);
    let mut answered = 0;
    for turn in 0.. {
        assert!(turn < 5_000, "the operation never ends");
        match operation.poll_output(now) {
            None => break,
            Some(Output::WaitUntil(at)) => {
                assert!(at > now, "it waits for the past");
                now = at;
            }
            Some(Output::Send { to, datagram }) => {
                assert!(datagram.len() <= DATAGRAM_BYTES_MAX);
                let query = Message::decode(&datagram).expect("what it sends decodes");
                let (Ok(step), Ok(with), Ok(len)) = (r.u8(), r.u8(), r.u8()) else {
                    continue;
                };
                let Ok(bytes) = r.take(usize::from(len).min(r.remaining())) else {
                    continue;
                };
                let item = (step & 8 != 0)
                    .then(|| {
                        MutableItem::sign(
                            &signer(),
                            b"s",
                            i64::from(with) << (step / 16),
                            &string_value(bytes),
                        )
                    })
                    .and_then(Result::ok);
                let body = match step % 8 {
                    0 => {
                        let _ = operation.handle(now, to, bytes);
                        continue;
                    }
                    1 => continue,
                    2 => Body::Error {
                        code: with.into(),
                        text: bytes,
                    },
                    _ => Body::Response(response(with, bytes, key, item.as_ref(), now)),
                };
                let message = Message {
                    transaction: query.transaction,
                    read_only: false,
                    seen_at: None,
                    body,
                };
                answered += u32::from(operation.handle(now, to, &message.encode()).is_ok());
            }
        }
    }
    match operation.report().expect("it has ended") {
        Report::Get(report) => {
            if let Some(best) = &report.best {
                assert!(best.key() == &key && best.sequence() >= 5 && best.value().len() <= VALUE_BYTES_MAX);
            }
        }
        Report::Put(_) => {}
    }
    answered > 0
}
