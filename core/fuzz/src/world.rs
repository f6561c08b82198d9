//! What the targets are played in: fixed keys, one time, a cohort, a document.

use std::net::SocketAddr;
use std::sync::LazyLock;
use std::time::Duration;

use phantom_core::crypto::keys::{IdentityPublic, IdentitySecret, LinkSecret};
use phantom_core::directory::descriptor::{BridgeDescriptor, HopKeys, NodeDescriptor, Roles, VersionRange};
use phantom_core::directory::sign::KeySet;
use phantom_core::directory::ways::Ways;
use phantom_core::mailbox::OperatorId;
use phantom_core::packet::{HopKeyId, HopPublic};
use phantom_core::rendezvous::{Cohort, Ledger, Slot, SlotWriter};
use phantom_core::units::WallTime;
use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;

/// Seconds of the wall clock at which everything plays.
pub(crate) const T: u64 = 1_800_000_000;

pub(crate) fn wall() -> WallTime {
    WallTime::from_unix_secs(T)
}

pub(crate) fn rng(seed: u64) -> ChaCha12Rng {
    ChaCha12Rng::seed_from_u64(seed)
}

pub(crate) fn identity(seed: u8) -> IdentitySecret {
    IdentitySecret::from_bytes(&[seed; 32])
}

pub(crate) fn addresses() -> Vec<SocketAddr> {
    vec![
        SocketAddr::from(([192, 0, 2, 1], 443)),
        SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 443)),
    ]
}

pub(crate) fn node(seed: u8) -> (IdentitySecret, NodeDescriptor) {
    let secret = identity(seed);
    let key = LinkSecret::from_bytes([seed; 32]).public();
    let hop = HopPublic::from_bytes(*key.as_bytes());
    let descriptor = NodeDescriptor {
        versions: VersionRange { min: 1, max: 1 },
        identity: secret.public(),
        link: key,
        roles: Roles::ALL,
        capacity_log2: 10,
        operator: OperatorId([seed; 16]),
        published: wall(),
        expires: wall() + Duration::from_secs(7_200),
        hop: HopKeys {
            epoch: HopKeyId(500_000),
            current: hop,
            next: hop,
        },
        addresses: addresses(),
    };
    (secret, descriptor)
}

pub(crate) fn bridge() -> BridgeDescriptor {
    BridgeDescriptor {
        versions: VersionRange { min: 1, max: 1 },
        identity: identity(9).public(),
        link: LinkSecret::from_bytes([9; 32]).public(),
        psk: [8; 32].into(),
        expires: wall() + Duration::from_secs(86_400),
        ways: Ways::plain(addresses()),
    }
}

/// The descriptor of a bridge with a place without transport, one with obfs4, and one of a kind to come.
pub(crate) fn bridge_with_transports() -> Vec<u8> {
    const HEAD: usize = 107;
    let mut out = bridge().encode()[..HEAD].to_vec();
    out[0] = 2;
    let place = [4, 192, 0, 2, 1, 1, 187];
    let groups: [(u8, Vec<u8>); 3] = [
        (0, place.to_vec()),
        (1, [&[7; 52][..], &[1, 2][..], &place[..]].concat()),
        (9, vec![1, 2, 3]),
    ];
    out.push(groups.len() as u8);
    for (kind, body) in groups {
        out.extend([kind, body.len() as u8]);
        out.extend(body);
    }
    out
}

/// Three authorities, two of whom must sign.
pub(crate) fn authorities() -> ([IdentitySecret; 3], KeySet) {
    let secrets = [identity(101), identity(102), identity(103)];
    let keys: Vec<IdentityPublic> = secrets.iter().map(IdentitySecret::public).collect();
    (secrets, KeySet::new(0, 2, &keys).expect("2 of 3"))
}

/// A cohort and the writers of its slots; its ledger has one slot left to give.
pub(crate) static COHORT: LazyLock<(Cohort, Vec<SlotWriter>, Ledger)> = LazyLock::new(|| {
    let mut ledger = Ledger::default();
    let index = ledger.open(&mut rng(1));
    let writers = Slot::ALL[..3]
        .iter()
        .map(|slot| ledger.give(index, *slot, slot.number().into()).expect("free"));
    let writers = writers.collect();
    (ledger.cohort(index).expect("opened"), writers, ledger)
});
