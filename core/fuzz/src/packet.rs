//! Packets: peeling by a hop, SURBs by who answers and by who made them, and what only a maker writes.

use std::sync::LazyLock;

use bytes::BytesMut;
use phantom_core::crypto::keys::NodeId;
use phantom_core::packet::{
    Action, Class, HEADER_LEN, HOPS, Hop, HopKeyId, HopSecret, HopSecrets, LinkHandle, NextHop, Packet,
    ReplayFilter, ReplayTag, Surb, SurbKeys, build, fuzz, peel,
};
use phantom_core::wire::Reader;

use crate::{overlay, world};

/// A good packet and reply, and what opens them.
pub(crate) struct Good {
    first: HopSecrets,
    packet: Vec<u8>,
    pub(crate) surb: Vec<u8>,
    keys: SurbKeys,
    reply: Vec<u8>,
}

pub(crate) static GOOD: LazyLock<Good> = LazyLock::new(|| {
    let mut rng = world::rng(1);
    let secrets: [HopSecret; HOPS] = std::array::from_fn(|_| HopSecret::from_rng(HopKeyId(7), &mut rng));
    let hops: [Hop; HOPS] = std::array::from_fn(|n| Hop {
        reach: NextHop::Node(NodeId::from_bytes([n as u8; 16])),
        key_id: secrets[n].id(),
        key: secrets[n].public(),
    });
    let packet = build(&mut rng, Class::Small, &hops, b"content").expect("fits");
    let (surb, keys) =
        Surb::create(&mut rng, Class::Small, &hops, LinkHandle::from_bytes([5; 16])).expect("good hops");
    let encoded = surb.encode().to_vec();
    let secrets = secrets.map(HopSecrets::new);
    let (_, reply) = surb.reply(Class::Small, b"answer").expect("fits");
    let reply = secrets.iter().fold(reply, |packet, hop| {
        match peel(hop, packet).expect("good").action {
            Action::Forward { packet, .. } => packet,
            Action::Deliver { .. } => unreachable!("a reply ends at a link"),
        }
    });
    let [first, ..] = secrets;
    Good {
        first,
        packet: packet.as_bytes().to_vec(),
        surb: encoded,
        keys,
        reply: reply.as_bytes().to_vec(),
    }
});

/// What a hop, an answering node and a client get to read.
pub fn packet(data: &[u8]) -> bool {
    let Some((kind, bytes)) = data.split_first() else {
        return false;
    };
    let good = &*GOOD;
    match kind % 7 {
        0 => {
            let mut changed = good.packet.clone();
            overlay(&mut changed, bytes);
            let header = changed[..HEADER_LEN] == good.packet[..HEADER_LEN];
            let packet = Packet::from_bytes(BytesMut::from(&changed[..])).expect("a class");
            let peeled = peel(&good.first, packet);
            // A changed body is found at the end of the path; a changed header at once.
            assert_eq!(peeled.is_ok(), header);
            header
        }
        1 => {
            let mut whole = bytes.to_vec();
            whole.resize(Class::Small.packet_len(), 0);
            let packet = Packet::from_bytes(BytesMut::from(&whole[..])).expect("a class");
            assert!(good.keys.open(packet.clone()).is_err());
            peel(&good.first, packet).is_err()
        }
        2 => {
            let mut r = Reader::new(bytes);
            let Ok(surb) = Surb::decode(&mut r) else {
                return false;
            };
            assert_eq!(surb.encode()[..], bytes[..bytes.len() - r.remaining()]);
            surb.reply(Class::Small, r.rest().get(..100).unwrap_or_default())
                .is_ok()
        }
        3 => {
            let mut changed = good.reply.clone();
            let same = !overlay(&mut changed, bytes);
            let packet = Packet::from_bytes(BytesMut::from(&changed[..])).expect("a class");
            let opened = good.keys.open(packet);
            // Of the last header only the id is looked at.
            assert!(same || opened.is_err() || changed[HEADER_LEN..] == good.reply[HEADER_LEN..]);
            opened.is_ok()
        }
        4 => fuzz::command(bytes),
        5 => fuzz::block(bytes),
        _ => {
            let mut filter = ReplayFilter::restore(HopKeyId(7), 64, bytes);
            for tag in bytes.chunks_exact(16) {
                let tag = ReplayTag::from_bytes(tag.try_into().expect("16 bytes"));
                let _ = filter.insert(&tag);
                assert!(filter.contains(&tag));
            }
            true
        }
    }
}
