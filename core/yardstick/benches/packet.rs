//! Packets: making, peeling and answering, beside `sphinx-packet` 0.8 and the primitives they are made of.
//!
//! Exits with 1 when a hop costs more than 1.3 X25519 exchanges at a payload of 2 KiB.

use std::hint::black_box;
use std::process::ExitCode;
use std::time::Duration;

use bytes::BytesMut;
use chacha20::cipher::{KeyIvInit, StreamCipher};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use phantom_core::crypto::keys::NodeId;
use phantom_core::packet::{
    self, Class, HEADER_LEN, HOPS, Hop, HopKeyId, HopSecret, HopSecrets, LinkHandle, NextHop,
    PAYLOAD_OVERHEAD, ReplayFilter, ReplayTag, Surb,
};
use phantom_yardstick::{Table, exchange};
use poly1305::universal_hash::KeyInit;
use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};
use sphinx_packet::constants::{DESTINATION_ADDRESS_LENGTH, IDENTIFIER_LENGTH, NODE_ADDRESS_LENGTH};
use sphinx_packet::header::delays;
use sphinx_packet::route::{Destination, DestinationAddressBytes, Node, NodeAddressBytes};
use sphinx_packet::{SphinxPacket, SphinxPacketBuilder};
use x25519_dalek::{PublicKey, StaticSecret};

/// Payloads, check and padding included: the same for both formats.
const PAYLOADS: [(&str, usize); 3] = [
    ("2 KiB", 2_048),
    ("4 KiB packet", 4_096 - HEADER_LEN),
    ("32 KiB packet", 32_768 - HEADER_LEN),
];

struct Ours {
    secrets: [HopSecrets; HOPS],
    hops: [Hop; HOPS],
}

impl Ours {
    fn new() -> Self {
        let mut rng = ChaCha12Rng::seed_from_u64(1);
        let keys: [HopSecret; HOPS] = std::array::from_fn(|_| HopSecret::from_rng(HopKeyId(1), &mut rng));
        let hops = std::array::from_fn(|n| Hop {
            reach: NextHop::Node(NodeId::from_bytes([n as u8; 16])),
            key_id: keys[n].id(),
            key: keys[n].public(),
        });
        Self {
            secrets: keys.map(HopSecrets::new),
            hops,
        }
    }

    fn wrap(&self, rng: &mut ChaCha12Rng, payload: usize, content: &[u8]) -> BytesMut {
        let content = &content[..payload - PAYLOAD_OVERHEAD];
        packet::build_sized(rng, HEADER_LEN + payload, &self.hops, content).expect("fits")
    }

    fn unwrap(&self, packet: &mut BytesMut) {
        black_box(packet::peel_sized(&self.secrets[0], packet).expect("a good packet"));
    }
}

struct Sphinx {
    secret: StaticSecret,
    route: Vec<Node>,
    destination: Destination,
    delays: Vec<delays::Delay>,
}

impl Sphinx {
    fn new() -> Self {
        let secrets: Vec<StaticSecret> = (1..=3_u8).map(|n| StaticSecret::from([n; 32])).collect();
        let node = |secret| {
            Node::new(
                NodeAddressBytes::from_bytes([5; NODE_ADDRESS_LENGTH]),
                PublicKey::from(secret),
            )
        };
        Self {
            route: secrets.iter().map(node).collect(),
            destination: Destination::new(
                DestinationAddressBytes::from_bytes([3; DESTINATION_ADDRESS_LENGTH]),
                [4; IDENTIFIER_LENGTH],
            ),
            delays: vec![delays::Delay::new_from_millis(10); 3],
            secret: secrets[0].clone(),
        }
    }

    fn wrap(&self, payload: usize, content: &[u8]) -> SphinxPacket {
        SphinxPacketBuilder::new()
            .with_payload_size(payload)
            .build_packet(
                &content[..payload - 64],
                &self.route,
                &self.destination,
                &self.delays,
            )
            .expect("fits")
    }

    fn unwrap(&self, packet: SphinxPacket) {
        black_box(packet.process(&self.secret).expect("a good packet"));
    }
}

fn criterion(c: &mut Criterion, ours: &Ours, sphinx: &Sphinx, content: &[u8]) {
    c.bench_function("x25519", |b| b.iter(exchange()));
    for (name, payload) in PAYLOADS {
        let mut rng = ChaCha12Rng::seed_from_u64(2);
        let mut group = c.benchmark_group(format!("packet/{name}"));
        group.throughput(Throughput::Bytes(payload as u64));
        group.bench_function(BenchmarkId::new("wrap", "ours"), |b| {
            b.iter(|| ours.wrap(&mut rng, payload, content))
        });
        group.bench_function(BenchmarkId::new("wrap", "sphinx"), |b| {
            b.iter(|| sphinx.wrap(payload, content))
        });
        let packet = ours.wrap(&mut rng, payload, content);
        group.bench_function(BenchmarkId::new("unwrap", "ours"), |b| {
            b.iter_batched_ref(
                || packet.clone(),
                |packet| ours.unwrap(packet),
                BatchSize::SmallInput,
            );
        });
        let packet = sphinx.wrap(payload, content).to_bytes();
        let parse = || SphinxPacket::from_bytes(&packet).expect("own bytes");
        group.bench_function(BenchmarkId::new("unwrap", "sphinx"), |b| {
            b.iter_batched(parse, |packet| sphinx.unwrap(packet), BatchSize::SmallInput);
        });
    }
}

/// Ratios, and where the time of a hop goes. An unwrap includes the copy of the packet that it works on, in both formats.
fn ratios(ours: &Ours, sphinx: &Sphinx, content: &[u8]) -> bool {
    let mut table = Table::new();
    for (name, payload) in PAYLOADS {
        let packet = ours.wrap(&mut ChaCha12Rng::seed_from_u64(3), payload, content);
        table.row(format!("unwrap one hop, {name}"), move || {
            ours.unwrap(&mut BytesMut::from(&packet[..]))
        });
        let packet = sphinx.wrap(payload, content).to_bytes();
        table.row(format!("sphinx-packet 0.8 unwrap one hop, {name}"), move || {
            sphinx.unwrap(SphinxPacket::from_bytes(&packet).expect("own bytes"));
        });
        let mut rng = ChaCha12Rng::seed_from_u64(4);
        table.row(format!("wrap for three hops, {name}"), move || {
            black_box(ours.wrap(&mut rng, payload, content));
        });
        table.row(
            format!("sphinx-packet 0.8 wrap for three hops, {name}"),
            move || {
                black_box(sphinx.wrap(payload, content));
            },
        );
    }

    let handle = LinkHandle::from_bytes([9; 16]);
    let mut rng = ChaCha12Rng::seed_from_u64(5);
    let (surb, keys) = Surb::create(&mut rng, Class::Small, &ours.hops, handle).expect("good hops");
    let (_, mut reply) = surb.clone().reply(Class::Small, b"answer").expect("fits");
    for secrets in &ours.secrets {
        match packet::peel(secrets, reply).expect("a good packet").action {
            packet::Action::Forward { packet, .. } => reply = packet,
            packet::Action::Deliver { .. } => unreachable!("a reply is never delivered"),
        }
    }
    table.row("make a SURB", move || {
        black_box(Surb::create(&mut rng, Class::Small, &ours.hops, handle).expect("good hops"));
    });
    table.row("answer with a SURB, 4 KiB packet", move || {
        black_box(surb.clone().reply(Class::Small, b"answer").expect("fits"));
    });
    table.row("open the answer, 4 KiB packet", move || {
        black_box(keys.open(reply.clone()).expect("the reply"));
    });
    let mut filter = ReplayFilter::new(HopKeyId(1), 1_000_000);
    let mut rng = ChaCha12Rng::seed_from_u64(6);
    table.row("replay filter, one fresh tag", move || {
        let mut tag = [0; 16];
        rng.fill_bytes(&mut tag);
        let _ = black_box(filter.insert(&ReplayTag::from_bytes(tag)));
    });

    let forged = BytesMut::from_iter((0..4_096).map(|n| u8::from(n == 0)));
    table.row("refuse random bytes, 4 KiB packet", move || {
        assert!(packet::peel_sized(&ours.secrets[0], &mut BytesMut::from(&forged[..])).is_err());
    });
    let mut block = vec![3; 2_048];
    table.row("ChaCha20 over 2 KiB (two of these in a hop)", move || {
        chacha20::ChaCha20::new(&[1; 32].into(), &[2; 12].into()).apply_keystream(black_box(&mut block));
    });
    table.row(
        "keyed BLAKE3 over 2 KiB (none: what a hop would pay twice in plain LIONESS)",
        || {
            black_box(blake3::keyed_hash(&[1; 32], black_box(&content[..2_048])));
        },
    );
    table.row("Poly1305 over 2 KiB (two)", || {
        black_box(poly1305::Poly1305::new(&[1; 32].into()).compute_unpadded(black_box(&content[..2_048])));
    });
    table.at_most("unwrap one hop, 2 KiB", 1.3);
    table.print()
}

fn main() -> ExitCode {
    let (ours, sphinx, content) = (Ours::new(), Sphinx::new(), vec![0xa5; 32_768]);
    let mut c = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    criterion(&mut c, &ours, &sphinx, &content);
    c.final_summary();
    // `cargo test --benches` runs this without `--bench`, a profiler with `--profile-time`: neither asks for ratios.
    let asked = |name: &str| std::env::args().any(|arg| arg == name);
    if !asked("--bench") || asked("--profile-time") || ratios(&ours, &sphinx, &content) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
