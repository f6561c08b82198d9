//! Valid inputs for every target, made by the code they test: where a fuzzer begins.

use std::time::Duration;

use bytes::Bytes;
use phantom_core::crypto::keys::NodeId;
use phantom_core::dht::item::string_value;
use phantom_core::dht::krpc::{Body, Message, NodeInfo, PutMutable, Query, Response, Want};
use phantom_core::dht::{DhtId, Endpoint};
use phantom_core::directory::document::DocumentHash;
use phantom_core::directory::rpc::{
    DirectoryRequest, DirectoryResponse, DocumentSignature, Notice, Piece, Uploaded,
};
use phantom_core::directory::sign::{AuthorityId, KeyChange};
use phantom_core::directory::vote::Statement;
use phantom_core::link::{VERSIONS, fuzz};
use phantom_core::mailbox::{
    Answer, BODY_LEN, BoxAddress, BoxSeed, Lengths, ReadAnswer, Record, Reply, Request, Rpc, TtlBucket,
    Unsigned, WriteCap, WriteOutcome,
};
use phantom_core::message::text;
use phantom_core::packet::{Class, HopKeyId, HopPublic, LinkHandle};
use phantom_core::rendezvous::{BridgeSlots, Bundle, Day, SequencePins, Slot, StaticEntry};
use phantom_core::service::{EntryHops, EntryRequest, Service};
use phantom_core::wire::Writer;
use phantom_obfs4::{BridgeLine, IatMode};

use crate::{directory, invite, message, obfs4, packet, world};

/// The seeds of a target; none for a name that is no target.
pub fn of(target: &str) -> Vec<Vec<u8>> {
    match target {
        "link" => link(),
        "link_machines" => link_machines(),
        "packet" => packets(),
        "mailbox" => mailbox(),
        "message" => messages(),
        "message_machines" => message_machines(),
        "directory" => directories(),
        "authority" => authority(),
        "dht" => dht(),
        "dht_machines" => dht_machines(),
        "rendezvous" => rendezvous(),
        "invite" => invites(),
        "ladder" => vec![
            // Start; static answers with two entries; time; both fail; time; one connects.
            vec![0, 0, 3, 5, 1, 6, 3, 5, 3, 5, 2, 2, 3, 5, 2, 1, 4, 5, 3, 5, 2, 0],
            vec![
                0, 0, 3, 10, 1, 255, 4, 60, 3, 5, 3, 5, 3, 5, 2, 7, 4, 200, 0, 0, 3, 9,
            ],
        ],
        "obfs4" => bridges(),
        "pluggable" => pluggable(),
        _ => Vec::new(),
    }
}

/// `bytes` behind the byte that chooses the format.
fn seed(kind: u8, bytes: &[u8]) -> Vec<u8> {
    [&[kind], bytes].concat()
}

fn link() -> Vec<Vec<u8>> {
    let mut hello = vec![VERSIONS.0, VERSIONS.1];
    hello.put_u32(262_144);
    hello.put_u64(0);
    hello.resize(20, 0);
    let hops = EntryHops {
        node: NodeId::from_bytes([1; 16]),
        keys: vec![
            (HopKeyId(7), HopPublic::from_bytes([2; 32])),
            (HopKeyId(8), HopPublic::from_bytes([3; 32])),
        ],
        ways_back: vec![(NodeId::from_bytes([4; 16]), LinkHandle::from_bytes([5; 16]))],
    };
    vec![
        seed(0, &hello),
        seed(0, &[&[1], &hello[..]].concat()),
        seed(1, &fuzz::made_frame(3, 2, 1, b"data")[..30]),
        seed(2, &[&[1][..], &[7; 48]].concat()),
        seed(2, &[2]),
        seed(3, &[1, 0, 60]),
        seed(3, &[2, 0, 60]),
        seed(3, &[3, 0, 60]),
        seed(3, &[5, 0, 0]),
        seed(3, &[7, 0, 0]),
        seed(
            4,
            &EntryRequest::Register(LinkHandle::from_bytes([5; 16])).encode(),
        ),
        seed(4, &EntryRequest::Hops.encode()),
        seed(5, &hops.encode()),
        seed(6, &Service::Mailbox.request(b"body")),
    ]
}

fn link_machines() -> Vec<Vec<u8>> {
    // A ping, then a record of channel 1 with 5 bytes, padded to 64, then a ticket and a goodbye.
    let mut packet = vec![1, 0, 5];
    packet.extend_from_slice(b"hello");
    packet.resize(64, 0);
    let mut ticket = [&[0, 0, 49, 1][..], &[7; 48]].concat();
    ticket.resize(64, 0);
    let mut goodbye = vec![0, 0, 1, 2];
    goodbye.resize(64, 0);
    let mut session = vec![0, 0xff, 0xff, 6];
    for (ping, data) in [(1, packet), (2, ticket), (0, goodbye)] {
        session.extend_from_slice(&[2, 0, 0, ping, 1, 64]);
        session.extend_from_slice(&data);
        session.extend_from_slice(&[5, 6, 3, 1]);
    }
    // An acceptor: a ticket, a ping, a message, frames; a frame of the peer; lost, resumed, idle, closed.
    let mut again = vec![1, 0xff, 0xff, 10, 9, 4, 1, 0, 6, 2, 0, 0, 1, 1, 0, 7];
    again.extend_from_slice(&[8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 6, 3, 200, 11, 6]);
    let mut rpc = vec![1];
    // A request in two parts, served and answered; a call and its answer; a refusal.
    for message in [
        &[1, 0, 0, 0, 9, b'a'][..],
        &[2, 0, 0, 0, 9, b'b'],
        &[4, 0, 0, 0, 0, b'c'],
        &[5, 0, 0, 0, 1],
    ] {
        rpc.put_u16(1);
        rpc.put_u16(message.len() as u16 + 3);
        rpc.extend_from_slice(message);
        rpc.put_u16(0);
        rpc.put_u16(2);
    }
    vec![seed(0, &session), seed(0, &again), rpc]
}

fn packets() -> Vec<Vec<u8>> {
    let mut block = vec![0; 18];
    block[17] = 3;
    block.extend_from_slice(b"abc\0\0");
    vec![
        seed(0, &[1, 0, 5]),
        seed(1, &[1, 2, 3]),
        seed(2, &[&packet::GOOD.surb[..], b"answer"].concat()),
        seed(3, &[0, 0]),
        seed(4, &[0; 17]),
        seed(4, &[1; 17]),
        seed(4, &[2; 17]),
        seed(5, &block),
        seed(6, &[9; 48]),
    ]
}

fn record() -> Record {
    let cap = WriteCap::from_rng(&mut world::rng(1));
    let content = Unsigned {
        bucket: TtlBucket::ALL[2],
        not_after: 60,
        body: Bytes::from(vec![7; BODY_LEN]),
    };
    Record::sign(&cap, &BoxSeed::derive(&[2; 32], b"seed", 1), content)
}

fn mailbox() -> Vec<Vec<u8>> {
    let (record, address, surb) = (
        Box::new(record()),
        BoxAddress::from_bytes([3; 32]),
        vec![6; Lengths::SMALL.surb],
    );
    let cut = |mut bytes: Vec<u8>| {
        let end = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
        bytes.truncate(end);
        bytes
    };
    let read = ReadAnswer {
        found: 5,
        unknown: 2,
        record: Some(record.clone()),
    };
    let requests = [
        Request::Write {
            surb: surb.clone(),
            record: record.clone(),
        },
        Request::Read {
            class: Class::Small,
            surb,
            addresses: vec![address; 3],
        },
    ];
    let answers = [
        Answer::Write(WriteOutcome::Stored { replicas: 2 }),
        Answer::Write(WriteOutcome::Conflict),
        Answer::Read(read),
        Answer::Read(ReadAnswer::default()),
    ];
    let calls = [
        Rpc::Put(record.clone()),
        Rpc::Get(address),
        Rpc::Offer(vec![address; 3]),
        Rpc::Have(vec![address; 2]),
        Rpc::Batch(vec![(*record).clone()]),
    ];
    let replies = [
        Reply::Put(WriteOutcome::TooFew { replicas: 1 }),
        Reply::Get(None),
        Reply::Offer(vec![true, false, true]),
        Reply::Batch(vec![true; 9]),
        Reply::Have(vec![false; 8]),
    ];
    let mut out: Vec<Vec<u8>> = Vec::new();
    out.extend(
        requests
            .iter()
            .map(|request| seed(0, &cut(request.encode(Lengths::SMALL)))),
    );
    out.extend(
        answers
            .iter()
            .map(|answer| seed(1, &cut(answer.encode(Lengths::SMALL)))),
    );
    out.extend(calls.iter().map(|call| seed(2, &call.encode())));
    out.extend(replies.iter().map(|reply| seed(3, &reply.encode())));
    out.push(seed(4, &record.encode()));
    let mut admission = vec![2];
    admission.put_u64(world::T + 60);
    admission.put_u64(world::wall().as_unix_nanos());
    out.push(seed(5, &admission));
    let cap = WriteCap::from_rng(&mut world::rng(1));
    out.push(seed(6, &*cap.to_bytes()));
    out.push(seed(6, cap.read_cap().as_bytes()));
    out
}

fn messages() -> Vec<Vec<u8>> {
    let pair = &*message::PAIR;
    let plain = |text: &str| text::decode(text).expect("our own");
    vec![
        seed(0, pair.invitation.to_text().as_bytes()),
        seed(1, &plain(&pair.invitation.to_text())),
        seed(2, &plain(&pair.answer)),
        seed(3, &plain(&pair.confirmation)),
        seed(4, &*pair.invitation.to_bytes()),
        seed(5, &message::sender_state()),
        seed(6, &message::receiver_state()),
        seed(7, &message::vault()),
        seed(8, &[0, 0]),
        seed(9, &[0, 0]),
        seed(10, &message::manifest()),
    ]
}

fn message_machines() -> Vec<Vec<u8>> {
    // Two boxes of one message, the second first, confirmed; a crash; a skip.
    let reader = [
        0, 1, 1, 0, 0, 0x55, 7, 1, 2, 3, 1, 0, 0, 0, 0x57, 7, 1, 2, 9, 4, 6, 2, 9, 5, 3, 5, 9, 0, 0, 0, 3, 0,
        60,
    ];
    // Three messages, their writes' fates, an acknowledgement, a crash, time.
    let writer = [
        1, 16, 200, 8, 3, 40, 1, 32, 0, 3, 1, 2, 2, 5, 9, 1, 0, 1, 0, 0, 0, 2, 6, 0, 7, 200, 15, 100, 248, 9,
    ];
    vec![reader.to_vec(), writer.to_vec()]
}

fn directories() -> Vec<Vec<u8>> {
    let (secrets, keys) = world::authorities();
    let publics: Vec<_> = keys.authorities().map(|(_, key)| *key).collect();
    let mut change = KeyChange::new(&keys, 2, &publics).expect("2 of 3");
    change.sign(&secrets[0]);
    change.sign(&secrets[1]);
    let document = directory::document(world::T).encode();
    let whole = directory::signed(document.clone(), vec![change.clone()]).encode();
    let signature = DocumentSignature {
        valid_after: world::wall(),
        hash: DocumentHash([5; 32]),
        authority: AuthorityId([6; 8]),
        signature: [7; 64],
    };
    let statements = vec![Statement::new(&secrets[1], world::wall(), b"vote"); 2];
    let requests = [
        DirectoryRequest::Upload(directory::descriptor(1, &[]).into()),
        DirectoryRequest::GetDocument {
            hash: None,
            known: DocumentHash([1; 32]),
            offset: 7,
        },
        DirectoryRequest::GetVote {
            hash: [3; 32],
            offset: 9,
        },
        DirectoryRequest::Notify(Notice {
            statements,
            signature: Some(signature),
        }),
    ];
    let piece = Piece {
        hash: [1; 32],
        total: 9,
        offset: 4,
        bytes: Bytes::from_static(b"piece"),
    };
    let responses = [
        DirectoryResponse::Uploaded(Uploaded::Known),
        DirectoryResponse::Piece(piece),
        DirectoryResponse::Nothing,
    ];
    let mut key_change = Vec::new();
    change.write(&mut key_change);
    let mut key_set = Vec::new();
    keys.write(&mut key_set);
    let mut cache = vec![1];
    cache.put_u64(world::wall().as_unix_nanos());
    cache.extend_from_slice(&key_set);
    let mut out = vec![
        seed(0, &[0, 0]),
        seed(1, &world::bridge().encode()),
        seed(1, &world::bridge_with_transports()),
        seed(2, &directory::vote(1..3, world::wall(), &[])),
        seed(3, &[0, 0]),
        seed(4, &document),
        seed(5, &whole),
        seed(6, &[0, 0]),
        seed(9, &[1, 0, 20, 0, 0, 12, 1, 0, 20, 0, 0, 8]),
        seed(10, &key_set),
        seed(10, &key_change),
        seed(11, &whole),
        seed(12, &cache),
    ];
    out.extend(requests.iter().map(|request| seed(7, &request.encode())));
    out.extend(responses.iter().map(|response| seed(8, &response.encode())));
    out
}

fn authority() -> Vec<Vec<u8>> {
    // Two uploads, a vote of the other, time to compute, its signature, time to publish; then a document from it.
    vec![
        vec![
            2, 1, 0, 2, 2, 0, 4, 3, 0, 0, 90, 0, 7, 0, 0, 0, 90, 0, 0, 120, 0, 6, 0, 0, 0, 120, 0,
        ],
        vec![
            4, 2, 0, 5, 2, 3, 0, 60, 1, 2, 3, 0, 0, 60, 0, 3, 0, 2, 0x13, 0, 6, 1, 4, 0, 1, 2, 3,
        ],
    ]
}

fn dht() -> Vec<Vec<u8>> {
    let id = DhtId([1; 20]);
    let node = |at: &str| NodeInfo {
        id,
        addr: at.parse().expect("an address"),
    };
    let put = PutMutable {
        key: [2; 32],
        salt: b"salt",
        sequence: 3,
        signature: [4; 64],
        cas: Some(2),
    };
    let queries = [
        Query::Ping,
        Query::FindNode {
            target: id,
            want: Want { v4: true, v6: true },
        },
        Query::GetPeers {
            info_hash: id,
            want: Want::default(),
        },
        Query::Get {
            target: id,
            newer_than: Some(4),
            want: Want::default(),
        },
        Query::Put {
            token: b"12345678",
            value: b"2:ab",
            mutable: Some(put),
        },
        Query::Put {
            token: b"12345678",
            value: b"li1ei2ee",
            mutable: None,
        },
    ];
    let response = Response {
        id,
        nodes: vec![node("192.0.2.1:6881"), node("[2001:db8::1]:6881")],
        token: Some(b"token"),
        value: Some(b"2:ab"),
        key: Some([2; 32]),
        sequence: Some(3),
        signature: Some([4; 64]),
    };
    let mut bodies: Vec<Body<'_>> = queries
        .into_iter()
        .map(|query| Body::Query { id, query })
        .collect();
    bodies.push(Body::Response(response));
    bodies.push(Body::Error {
        code: 203,
        text: b"no",
    });
    let seen_at = Some(node("192.0.2.1:6881").addr);
    let wire = |body| {
        Message {
            transaction: b"aa",
            read_only: true,
            seen_at,
            body,
        }
        .encode()
    };
    let mut out: Vec<Vec<u8>> = bodies.into_iter().map(|body| seed(1, &wire(body))).collect();
    out.push(seed(0, b"d1:ali1ei-2e3:abcee"));
    let mut name = Vec::new();
    Endpoint::Name {
        name: "a.example".to_owned(),
        port: 443,
    }
    .encode(&mut name);
    out.push(seed(2, &name));
    out.push(seed(2, b"router.example.org:6881"));
    let mut item = Vec::new();
    item.put_u64(3);
    item.put_u8(2);
    item.extend_from_slice(b"ab");
    item.extend_from_slice(&string_value(b"value"));
    out.push(seed(3, &item));
    out
}

fn dht_machines() -> Vec<Vec<u8>> {
    let ping = Message {
        transaction: b"aa",
        read_only: false,
        seen_at: None,
        body: Body::Query {
            id: DhtId([1; 20]),
            query: Query::Ping,
        },
    };
    let ping = ping.encode();
    let mut server = vec![0, 0, 1, ping.len() as u8];
    server.extend_from_slice(&ping);
    // Answers with nodes, then get for a token, puts with it, gets, time.
    server.extend_from_slice(&[
        2, 4, 4, 1, 1, 2, 2, 2, 4, 4, 3, 3, 4, 4, 3, 0, 0, 5, 7, 3, b'a', b'b', b'c',
    ]);
    server.extend_from_slice(&[
        5, 9, 1, b'd', 3, 2, 0, 4, 0, 2, b'0', b':', 1, 60, 0, 3, 1, 0, 7, 5, 0,
    ]);
    // Every node tells of others and has a token; some hold the item, some a forgery.
    let mut answers = Vec::new();
    for n in 0..24_u8 {
        let step = if n % 3 == 0 { 8 + 3 } else { 3 };
        answers.extend_from_slice(&[
            step,
            4 | n << 4 | u8::from(n % 5 == 0) << 1,
            6,
            n,
            n + 1,
            n,
            n + 2,
            n,
            0x81,
        ]);
    }
    vec![server, seed(1, &answers), seed(2, &answers)]
}

fn rendezvous() -> Vec<Vec<u8>> {
    let (cohort, writers, ledger) = &*world::COHORT;
    let (_, directory) = world::authorities();
    let bundle = Bundle {
        cohort: cohort.clone(),
        dht_nodes: world::addresses().into(),
        routers: ["router.example.org:6881".parse().expect("an endpoint")].into(),
        entries: [StaticEntry {
            endpoint: "198.51.100.1:443".parse().expect("an endpoint"),
            identity: world::identity(1).public(),
            link: world::bridge().link,
        }]
        .into(),
        directory,
    };
    let mut pins = SequencePins::default();
    let today = Day::of(world::wall());
    Slot::ALL
        .iter()
        .for_each(|slot| pins.raise(*slot, today, 7, today));
    let sealed = writers[0].seal(&mut world::rng(1), today, &world::bridge());
    let mut days = Vec::new();
    days.put_u64((world::wall() + Duration::from_secs(1)).as_unix_nanos());
    days.put_u32(today.0);
    days.put_u8(2);
    vec![
        seed(0, &bundle.encode()),
        seed(1, &BridgeSlots(writers.clone()).encode()),
        seed(2, &pins.encode()),
        seed(3, &ledger.encode()),
        seed(4, &cohort.public.to_bytes()),
        seed(5, &[0, 0]),
        seed(6, &days),
        seed(7, sealed.as_bytes()),
    ]
}

fn invites() -> Vec<Vec<u8>> {
    let (cohort, writers, _) = &*world::COHORT;
    let day = Day::of(world::wall());
    let sealed = writers[0].seal(&mut world::rng(1), day, &world::bridge());
    let mut courier = Vec::new();
    phantom_core::invite::CourierRecord::sign(&writers[0], day, sealed).write(&mut courier);
    vec![
        seed(0, &invite::invitation().encode()),
        seed(1, &[0, 0]),
        seed(2, phantom_core::invite::encode_cohort(&cohort.public).as_bytes()),
        seed(3, &courier),
        seed(4, &[0, 0]),
        seed(5, b"a note"),
    ]
}

fn bridges() -> Vec<Vec<u8>> {
    let identity = obfs4::identity(IatMode::Paranoid);
    let line = BridgeLine {
        address: world::addresses()[0],
        fingerprint: Some([7; 20]),
        args: identity.args(),
    };
    // A packet of three bytes, padded; one of a type to come; a seed; something to send; an hour; another packet in pieces.
    let mut talk = vec![2, 1, 0, 0, 20, 3, 1, 2, 3, 2, 7, 0, 9, 1, 1];
    talk.extend([3, 0, 0, 200, 24]);
    talk.extend([9; 24]);
    talk.extend([
        7, 0, 0x20, 1, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9, 7, 0, 0x0e, 0x10, 0, 0, 3, 5, 0, 5, 0, 0, 2, 8, 9,
    ]);
    // The same without pacing, then a frame that is changed, another, and what was said before again.
    let mut broken = vec![0];
    broken.extend(&talk[1..]);
    broken.extend([
        5, 1, 0, 30, 1, 1, 1, 0, 0, 0, 1, 1, 6, 0, 0, 0, 0, 4, 0, 0, 0, 2, 1, 2,
    ]);
    vec![
        seed(0, line.to_string().as_bytes()),
        seed(1, line.args.to_pt_args().as_bytes()),
        seed(2, identity.to_state_json().as_bytes()),
        // As the client made it, and mended: of the least length, of the longest, an hour off, in pieces.
        seed(3, &[0, 0, 0, 0, 2]),
        seed(3, &[1, 0, 0, 141, 2, 0, 40, 1]),
        seed(3, &[1, 200, 0x20, 0, 3, 0, 90, 1, 2, 3]),
        seed(4, &[0, 0]),
        seed(4, &[1, 100, 0, 70, 1, 2, 3]),
        seed(5, &talk),
        seed(5, &broken),
        seed(6, &talk),
        seed(6, &broken),
    ]
}

fn pluggable() -> Vec<Vec<u8>> {
    let texts: [(u8, &str); 20] = [
        (0, r"cert=ab==;iat-mode=0;note=a\;b\\c"),
        (1, r"key=a\,b,other=c"),
        (
            2,
            r"scramblesuit:key=banana;automata:rule=1\:1\;0;automata:depth=3",
        ),
        (3, "VERSION 1"),
        (3, "CMETHOD obfs4 socks5 127.0.0.1:1080"),
        (3, "SMETHOD obfs4 [2001:db8::1]:443 X:1 ARGS:cert=ab,iat-mode=0"),
        (3, "SMETHOD-ERROR obfs4 no such port"),
        (3, r#"LOG SEVERITY=notice MESSAGE="a \"line\"\n\303\251""#),
        (
            3,
            r#"STATUS TRANSPORT=obfs4 ADDRESS=192.0.2.1:1 CONNECT="Success""#,
        ),
        (4, "\u{5}\u{2}VERSION 1\r\nCMETHODS DONE\nPROXY"),
        (5, r#""a\n\t\101\'" rest"#),
        (6, "socks5://tor:te%3Ast@198.51.100.1:8000"),
        (
            7,
            "TOR_PT_MANAGED_TRANSPORT_VER=1,2\nTOR_PT_STATE_LOCATION=/s\nTOR_PT_EXIT_ON_STDIN_CLOSE=1\n\
             TOR_PT_CLIENT_TRANSPORTS=obfs4,meek_lite\nTOR_PT_PROXY=http://127.0.0.1:80",
        ),
        (
            7,
            "TOR_PT_MANAGED_TRANSPORT_VER=1\nTOR_PT_STATE_LOCATION=/s\nTOR_PT_SERVER_TRANSPORTS=obfs4\n\
             TOR_PT_SERVER_BINDADDR=obfs4-[::1]:1\nTOR_PT_SERVER_TRANSPORT_OPTIONS=obfs4:a=b\n\
             TOR_PT_EXTENDED_SERVER_PORT=127.0.0.1:2\nTOR_PT_AUTH_COOKIE_FILE=/c",
        ),
        (12, "https://Example.org:8443/a/b?c=d"),
        (12, "http://[2001:db8::1]"),
        (
            13,
            "url=https://example.org/83c1 servername=front.example addr=192.0.2.1:443,[2001:db8::1]:8443",
        ),
        (
            13,
            "url=https://a/ front=b:8443 spki=BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=",
        ),
        (14, "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc="),
        (
            15,
            "GET\n/index.html\nConnection:keep-alive, Upgrade\nUpgrade:websocket\n\
             Sec-WebSocket-Key:dGhlIHNhbXBsZSBub25jZQ==\nX-Forwarded-For:192.0.2.1, 192.0.2.2",
        ),
    ];
    let texts = texts.iter().map(|(kind, text)| seed(*kind, text.as_bytes()));
    let machines = [
        // SOCKS: with arguments and a name, without and an address; both replies.
        seed(
            8,
            b"\x01\x05\x02\x00\x02\x01\x03k=v\x01\x00\x05\x01\x00\x03\x03a.b\x01\xbb",
        ),
        seed(
            8,
            b"\x00\x05\x01\x00\x05\x01\x00\x04\xfd\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x01\xbb",
        ),
        seed(9, &[1, 5, 2, 1, 0, 5, 0, 0, 1, 0, 0, 0, 0, 0, 0]),
        seed(9, &[0, 5, 0, 5, 0, 0, 3, 1, b'a', 0, 0]),
        // The Extended ORPort: an unknown command, an address, a name, the end.
        seed(
            10,
            b"\x01\x00\x09\x00\x02hm\x00\x01\x00\x0b192.0.2.1:9\x00\x02\x00\x05obfs4\x00\x00\x00\x00",
        ),
        // An answer to be ignored, and the permission.
        seed(11, b"\x01\x10\x09\x00\x01?\x10\x00\x00\x00"),
        seed(11, &[&[1, 0x10, 0, 0, 3][..], &[0; 3]].concat()),
    ];
    texts.chain(machines).collect()
}
