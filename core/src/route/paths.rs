//! Which nodes a request and its answer go over. Spec: SPEC §3.1, §9.1.
//!
//! Forward: entry, middle, a node that holds the box. Back: m1, m2, entry, and down the client's link. All are different
//! where there are enough nodes; what must not be is a hop that sends to itself, so neighbours differ always.

use crate::crypto::kdf::Context;
use crate::crypto::keys::NodeId;
use crate::directory::descriptor::Roles;
use crate::directory::document::{DocumentHash, NodeEntry, SharedDocument};
use crate::mailbox::{BoxAddress, StorageSet};
use crate::packet::{HOPS, Hop, HopKeyId, HopPublic, LinkHandle, NextHop};
use crate::runtime::Share;
use crate::units::WallTime;
use rand_core::Rng;
use std::sync::Arc;
use thiserror::Error;

const SHARED: Context = Context::new("phantom-net 2026 shared path view v1");
/// Draws before all nodes are looked through.
const DRAWS: usize = 12;

/// Why there is no path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NoPath {
    /// The document lists nobody who stores.
    #[error("no storage node with a usable hop key")]
    NoStorage,
    /// Too few relays.
    #[error("too few relays with usable hop keys")]
    NoMiddle,
    /// Nobody can be told how to reach the entry.
    #[error("no way back to the entry")]
    NoWayBack,
    /// None of the entry's hop keys is of this time.
    #[error("the hop keys of the entry are over")]
    EntryKeyOver,
}

/// What paths are chosen from: a pure function of a document, shared between the clients of a process.
#[derive(Debug)]
struct Choices {
    storage: StorageSet,
    previous: StorageSet,
    /// Indexes of the relays.
    middles: Vec<u32>,
}

/// A document, made ready for choosing.
#[derive(Clone, Debug)]
pub struct View {
    document: SharedDocument,
    choices: Arc<Choices>,
}

/// The entry as a hop.
#[derive(Clone, Debug)]
pub struct EntryHop {
    /// Its name.
    pub node: NodeId,
    /// Its hop keys, as it says itself; a listed entry may leave that to the document.
    pub keys: Vec<(HopKeyId, HopPublic)>,
    /// Listed nodes that have a link to it, with the name of that link.
    pub ways_back: Vec<(NodeId, LinkHandle)>,
    /// By which it knows the sender's link.
    pub handle: LinkHandle,
}

/// A way to a box and back.
#[derive(Debug)]
pub struct Path {
    /// To the storage hop.
    pub forward: [Hop; HOPS],
    /// Back to the entry.
    pub reply: [Hop; HOPS],
    /// For the end of the reply.
    pub handle: LinkHandle,
    /// All nodes of it but the entry.
    pub nodes: [NodeId; 4],
}

impl View {
    /// Makes a document ready; what that takes is done once per process.
    pub fn new<S: Share>(rt: &S, document: &SharedDocument) -> Self {
        let key = SHARED.derive_fields(&[&document.hash.0]);
        let choices = rt.shared(key, || {
            let listed = &document.document;
            let middles = listed.nodes.iter().enumerate();
            Choices {
                storage: listed.storage_set(),
                previous: listed.previous_storage_set(),
                middles: middles
                    .filter(|(_, node)| node.roles.has(Roles::MIDDLE))
                    .map(|(index, _)| index as u32)
                    .collect(),
            }
        });
        Self {
            document: document.clone(),
            choices,
        }
    }

    /// The document it was made from.
    pub fn document(&self) -> DocumentHash {
        self.document.hash
    }

    /// A way to one of the nodes that hold `address`, over `entry`, and over none of `avoid` if others are there; if there
    /// are none to hold it, to the first in `avoid` that does.
    ///
    /// # Errors
    /// [`NoPath`].
    pub fn path(
        &self,
        rng: &mut impl Rng,
        time: WallTime,
        entry: &EntryHop,
        address: &BoxAddress,
        avoid: &[NodeId],
    ) -> Result<Path, NoPath> {
        let listed = &self.document.document;
        let epoch = listed.hop_key_id(time);
        let first = self.entry_key(epoch, entry)?;
        let storage = self.storage(rng, epoch, (entry.node, avoid), address)?;
        let middle = self.middle(rng, epoch, [entry.node, storage.id], (avoid, &[]))?;
        let forward = [
            hop(NextHop::Node(entry.node), first),
            hop(NextHop::Node(middle.0), (middle.1, middle.2)),
            hop(NextHop::Node(storage.id), storage.key),
        ];

        let (m2, reach) = if listed.node(entry.node).is_some() {
            let m2 = self.middle(
                rng,
                epoch,
                [entry.node, entry.node],
                (avoid, &[storage.id, middle.0]),
            )?;
            (m2, NextHop::Node(entry.node))
        } else {
            self.way_back(rng, epoch, entry, avoid)?
        };
        let m1 = self.middle(rng, epoch, [storage.id, m2.0], (avoid, &[middle.0, entry.node]))?;
        let reply = [
            hop(NextHop::Node(m1.0), (m1.1, m1.2)),
            hop(NextHop::Node(m2.0), (m2.1, m2.2)),
            hop(reach, first),
        ];
        Ok(Path {
            forward,
            reply,
            handle: entry.handle,
            nodes: [middle.0, storage.id, m1.0, m2.0],
        })
    }

    /// The key to wrap for at `epoch`, from what the entry says, else from the document.
    fn entry_key(&self, epoch: HopKeyId, entry: &EntryHop) -> Result<(HopKeyId, HopPublic), NoPath> {
        let of = |wanted: HopKeyId| entry.keys.iter().find(|(id, _)| *id == wanted).copied();
        let listed = || self.document.document.node(entry.node)?.hop.usable_at(epoch);
        // The next one serves who asked an entry whose period has begun while the own clock is behind: each node opens packets of
        // the period before its own, of that and of the next.
        of(epoch)
            .or_else(|| of(epoch.previous()))
            .or_else(listed)
            .or_else(|| of(epoch.next()))
            .ok_or(NoPath::EntryKeyOver)
    }

    /// One of the nodes of the box, at random, so that a dead one does not stop every attempt; not the entry if another
    /// is there. Of those that all seem dead it is the one named first in `avoid`: each has its turn.
    fn storage(
        &self,
        rng: &mut impl Rng,
        epoch: HopKeyId,
        (entry, avoid): (NodeId, &[NodeId]),
        address: &BoxAddress,
    ) -> Result<Storage, NoPath> {
        let placement = self.choices.storage.place(address);
        let usable = |nodes: &[NodeId]| -> Vec<Storage> {
            let found = nodes.iter().filter_map(|id| {
                let key = self.document.document.node(*id)?.hop.usable_at(epoch)?;
                Some(Storage { id: *id, key })
            });
            found.collect()
        };
        let mut holders = usable(placement.nodes());
        if holders.is_empty() {
            holders = usable(self.choices.previous.place(address).nodes());
        }
        // A holder that seems dead is worse than the entry, whom a second role tells more.
        for unwanted in [avoid, &[entry]] {
            let others: Vec<_> = holders
                .iter()
                .filter(|holder| !unwanted.contains(&holder.id))
                .copied()
                .collect();
            if !others.is_empty() {
                holders = others;
            }
        }
        let turn = |holder: &Storage| avoid.iter().position(|id| *id == holder.id);
        if let Some(next) = holders
            .iter()
            .copied()
            .min_by_key(turn)
            .filter(|next| turn(next).is_some())
        {
            return Ok(next); // None is before any, so all are in it.
        }
        pick(rng, &holders).copied().ok_or(NoPath::NoStorage)
    }

    /// A random relay that is none of `never`, if possible none of `avoid`, and if possible none of `rather_not` either.
    fn middle(
        &self,
        rng: &mut impl Rng,
        epoch: HopKeyId,
        never: [NodeId; 2],
        (avoid, rather_not): (&[NodeId], &[NodeId]),
    ) -> Result<(NodeId, HopKeyId, HopPublic), NoPath> {
        let nodes = &self.document.document.nodes;
        let node = |index: &u32| nodes.get(*index as usize);
        // 2: all wishes; 1: nobody who seems dead; 0: whoever is there.
        let usable = |node: &NodeEntry, strict: u8| {
            let taken = never.contains(&node.id)
                || (strict >= 1 && avoid.contains(&node.id))
                || (strict >= 2 && rather_not.contains(&node.id));
            let key = node.hop.usable_at(epoch).filter(|_| !taken)?;
            Some((node.id, key.0, key.1))
        };
        let all = &self.choices.middles;
        for _ in 0..DRAWS {
            let drawn = pick(rng, all).and_then(node).and_then(|node| usable(node, 2));
            if let Some(found) = drawn {
                return Ok(found);
            }
        }
        for strict in [2, 1, 0] {
            let found: Vec<_> = all
                .iter()
                .filter_map(node)
                .filter_map(|n| usable(n, strict))
                .collect();
            if let Some(found) = pick(rng, &found) {
                return Ok(*found);
            }
        }
        Err(NoPath::NoMiddle)
    }

    /// A listed node that has a link to an unlisted entry, and the name of that link.
    fn way_back(
        &self,
        rng: &mut impl Rng,
        epoch: HopKeyId,
        entry: &EntryHop,
        avoid: &[NodeId],
    ) -> Result<((NodeId, HopKeyId, HopPublic), NextHop), NoPath> {
        let ways: Vec<_> = entry
            .ways_back
            .iter()
            .filter_map(|(id, handle)| {
                let key = self.document.document.node(*id)?.hop.usable_at(epoch)?;
                Some(((*id, key.0, key.1), NextHop::Link(*handle)))
            })
            .collect();
        let alive: Vec<_> = ways
            .iter()
            .filter(|((id, ..), _)| !avoid.contains(id))
            .copied()
            .collect();
        let ways = if alive.is_empty() { ways } else { alive };
        pick(rng, &ways).copied().ok_or(NoPath::NoWayBack)
    }
}

#[derive(Clone, Copy)]
struct Storage {
    id: NodeId,
    key: (HopKeyId, HopPublic),
}

const fn hop(reach: NextHop, (key_id, key): (HopKeyId, HopPublic)) -> Hop {
    Hop { reach, key_id, key }
}

/// One of `from` at random; the remainder's bias is below 2^-40.
pub fn pick<'a, T>(rng: &mut impl Rng, from: &'a [T]) -> Option<&'a T> {
    let len = from.len() as u64;
    let at = rng.next_u64().checked_rem(len)?;
    from.get(at as usize)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use crate::crypto::keys::{IdentitySecret, LinkSecret};
    use crate::directory::descriptor::{HopKeys, VersionRange};
    use crate::directory::document::{Document, Timing, Verified};
    use crate::directory::sign::KeySet;
    use crate::mailbox::OperatorId;
    use crate::runtime::share::Shares;
    use proptest::prelude::*;
    use rand_chacha::ChaCha12Rng;
    use rand_core::SeedableRng;

    use super::*;

    pub(crate) const NOW: WallTime = WallTime::from_unix_secs(1_800_000_000);

    struct Rt(Shares);

    impl Share for Rt {
        fn shared<T: Send + Sync + 'static, F: FnOnce() -> T>(&self, key: [u8; 32], make: F) -> Arc<T> {
            self.0.shared(key, make)
        }
    }

    fn node(n: u8, roles: Roles, over: bool) -> NodeEntry {
        let key =
            |salt: u8| HopPublic::from_bytes(*LinkSecret::from_bytes([n ^ salt; 32]).public().as_bytes());
        let epoch = HopKeyId::at(NOW, Duration::from_secs(3_600));
        NodeEntry {
            id: NodeId::from_bytes([n; 16]),
            link: LinkSecret::from_bytes([n; 32]).public(),
            versions: VersionRange { min: 1, max: 1 },
            roles,
            capacity_log2: 8,
            operator: OperatorId([n + 1; 16]),
            hop: HopKeys {
                epoch: if over { HopKeyId(epoch.0 - 9) } else { epoch },
                current: key(0x40),
                next: key(0x80),
            },
            addresses: vec![([192, 0, 2, n], 443).into()],
        }
    }

    /// A view of these nodes.
    pub(crate) fn view(nodes: Vec<NodeEntry>) -> View {
        let document = Document {
            valid_after: NOW,
            previous: DocumentHash::NONE,
            timing: Timing::default(),
            nodes,
            previous_storage: Vec::new(),
        };
        let signer = IdentitySecret::from_bytes(&[1; 32]).public();
        let verified = Verified {
            hash: Document::hash(&document.encode()),
            document,
            keys: KeySet::new(0, 1, &[signer]).expect("1 of 1"),
            signed: bytes::Bytes::new(),
        };
        View::new(&Rt(Shares::default()), &verified.into())
    }

    /// A view of `count` nodes that do everything.
    pub(crate) fn view_of(count: u8) -> View {
        view((0..count).map(|n| node(n, Roles::ALL, false)).collect())
    }

    /// The first listed node as an entry.
    pub(crate) fn listed_entry(view: &View) -> EntryHop {
        EntryHop {
            node: view.document.document.nodes[0].id,
            keys: Vec::new(),
            ways_back: Vec::new(),
            handle: LinkHandle::from_bytes([9; 16]),
        }
    }

    fn bridge(ways_back: Vec<(NodeId, LinkHandle)>) -> EntryHop {
        let key = HopPublic::from_bytes(*LinkSecret::from_bytes([0xee; 32]).public().as_bytes());
        EntryHop {
            node: NodeId::from_bytes([0xee; 16]),
            keys: vec![(HopKeyId::at(NOW, Duration::from_secs(3_600)), key)],
            ways_back,
            handle: LinkHandle::from_bytes([9; 16]),
        }
    }

    fn names(hops: &[Hop]) -> Vec<NodeId> {
        let name = |hop: &Hop| match hop.reach {
            NextHop::Node(id) => id,
            NextHop::Link(_) => NodeId::from_bytes([0xee; 16]),
        };
        hops.iter().map(name).collect()
    }

    fn check(view: &View, entry: &EntryHop, path: &Path, address: &BoxAddress) {
        let listed = &view.document.document;
        let (forward, back) = (names(&path.forward), names(&path.reply));
        assert_eq!((forward[0], back[2]), (entry.node, entry.node));
        let placement = view.choices.storage.place(address);
        assert!(placement.contains(forward[2]));
        for pair in forward.windows(2).chain(back.windows(2)) {
            assert_ne!(pair[0], pair[1], "no hop sends to itself");
        }
        assert_ne!(forward[2], back[0], "the answer does not begin where it is made");
        for (id, hop) in forward
            .iter()
            .zip(&path.forward)
            .chain(back.iter().zip(&path.reply))
        {
            if let Some(node) = listed.node(*id) {
                assert!([node.hop.current, node.hop.next].contains(&hop.key));
                assert!(hop.key_id == listed.hop_key_id(NOW) || hop.key_id.next() == listed.hop_key_id(NOW));
            }
        }
    }

    #[test]
    fn with_enough_nodes_no_node_is_twice_in_a_direction_nor_a_relay_in_both() {
        let view = view_of(12);
        let entry = listed_entry(&view);
        let mut rng = ChaCha12Rng::seed_from_u64(1);
        for n in 0..200u8 {
            let address = BoxAddress::from_bytes([n; 32]);
            let path = view.path(&mut rng, NOW, &entry, &address, &[]).expect("a path");
            check(&view, &entry, &path, &address);
            let all: BTreeSet<_> = names(&path.forward)
                .into_iter()
                .chain(names(&path.reply))
                .collect();
            assert_eq!(all.len(), 5, "all but the entry once");
        }
    }

    #[test]
    fn the_reply_to_a_bridge_goes_down_a_link_that_it_named() {
        let view = view_of(8);
        let ways: Vec<_> = [3u8, 5]
            .map(|n| (NodeId::from_bytes([n; 16]), LinkHandle::from_bytes([n; 16])))
            .into();
        let entry = bridge(ways.clone());
        let mut rng = ChaCha12Rng::seed_from_u64(1);
        for n in 0..50u8 {
            let address = BoxAddress::from_bytes([n; 32]);
            let path = view.path(&mut rng, NOW, &entry, &address, &[]).expect("a path");
            check(&view, &entry, &path, &address);
            let (NextHop::Node(m2), NextHop::Link(handle)) = (path.reply[1].reach, path.reply[2].reach)
            else {
                panic!("a node, then a link: {path:?}")
            };
            assert!(ways.contains(&(m2, handle)));
            assert_eq!(path.reply[2].key, entry.keys[0].1);
        }
        let none = view.path(
            &mut rng,
            NOW,
            &bridge(Vec::new()),
            &BoxAddress::from_bytes([1; 32]),
            &[],
        );
        assert_eq!(none.err(), Some(NoPath::NoWayBack));
    }

    #[test]
    fn suspects_are_avoided_where_there_are_others_and_used_where_not() {
        let mut rng = ChaCha12Rng::seed_from_u64(1);
        for (count, alone) in [(6, false), (3, true)] {
            let view = view_of(count);
            let entry = listed_entry(&view);
            let suspect = NodeId::from_bytes([2; 16]);
            for n in 0..100u8 {
                let address = BoxAddress::from_bytes([n; 32]);
                let path = view
                    .path(&mut rng, NOW, &entry, &address, &[suspect])
                    .expect("a path");
                check(&view, &entry, &path, &address);
                assert_eq!(path.nodes.contains(&suspect), alone, "{count} nodes");
            }
        }
    }

    #[test]
    fn of_storage_nodes_that_all_seem_dead_the_first_named_is_asked() {
        let mut rng = ChaCha12Rng::seed_from_u64(1);
        let mut nodes: Vec<_> = (0..3).map(|n| node(n, Roles::ALL, false)).collect();
        nodes.extend((3..9).map(|n| node(n, Roles::MIDDLE, false)));
        let view = view(nodes);
        let entry = bridge(vec![(
            NodeId::from_bytes([3; 16]),
            LinkHandle::from_bytes([0; 16]),
        )]);
        let address = BoxAddress::from_bytes([1; 32]);
        for first in 0..3u8 {
            let avoid = [first, (first + 1) % 3, (first + 2) % 3].map(|n| NodeId::from_bytes([n; 16]));
            for _ in 0..20 {
                let path = view
                    .path(&mut rng, NOW, &entry, &address, &avoid)
                    .expect("a path");
                assert_eq!(path.nodes[1], avoid[0]);
            }
        }
    }

    /// Whoever is behind asks a bridge whose period has begun, and is told the keys of that and of the one after.
    #[test]
    fn a_bridge_whose_period_has_begun_serves_a_client_whose_clock_is_behind() {
        let nodes: Vec<_> = (0..6).map(|n| node(n, Roles::ALL, false)).collect();
        let view = view(nodes);
        let ways_back = vec![(
            view.document.document.nodes[1].id,
            LinkHandle::from_bytes([7; 16]),
        )];
        let mut rng = ChaCha12Rng::seed_from_u64(1);
        let mut path = |ahead: &[u32]| {
            let mut entry = bridge(ways_back.clone());
            let (epoch, key) = entry.keys[0];
            let later = |periods: &u32| (0..*periods).fold(epoch, |id, _| id.next());
            entry.keys = ahead.iter().map(|periods| (later(periods), key)).collect();
            let address = BoxAddress::from_bytes([1; 32]);
            let path = view.path(&mut rng, NOW, &entry, &address, &[]).map(drop);
            path.err()
        };
        assert_eq!([path(&[0, 1]), path(&[1, 2])], [None, None]);
        assert_eq!(path(&[2, 3]), Some(NoPath::EntryKeyOver));
    }

    #[test]
    fn keys_that_are_over_are_not_used() {
        let mut nodes: Vec<_> = (0..6).map(|n| node(n, Roles::ALL, false)).collect();
        nodes.extend((6..12).map(|n| node(n, Roles::MIDDLE, true)));
        let view = view(nodes);
        let entry = listed_entry(&view);
        let mut rng = ChaCha12Rng::seed_from_u64(1);
        for n in 0..50u8 {
            let address = BoxAddress::from_bytes([n; 32]);
            let path = view.path(&mut rng, NOW, &entry, &address, &[]).expect("a path");
            check(&view, &entry, &path, &address);
            assert!(
                names(&path.forward)
                    .iter()
                    .chain(&names(&path.reply))
                    .all(|id| id.as_bytes()[0] < 6)
            );
        }
        let later = NOW + Duration::from_secs(9 * 3_600);
        assert_eq!(
            view.path(&mut rng, later, &entry, &BoxAddress::from_bytes([1; 32]), &[])
                .err(),
            Some(NoPath::EntryKeyOver)
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// From six nodes on there always is a path; with fewer there is one or an honest error, never a bad one.
        #[test]
        fn whatever_the_network_a_path_is_sound_or_refused(
            roles in prop::collection::vec(1u8..8, 1..10), dead in prop::collection::vec(any::<bool>(), 10),
            seed: u64, address: [u8; 32], unlisted: bool,
        ) {
            let role = |bits: u8| {
                [Roles::ENTRY, Roles::MIDDLE, Roles::STORAGE].into_iter().enumerate()
                    .filter(|(i, _)| bits >> i & 1 == 1)
                    .fold(Roles::default(), |all, (_, role)| all.with(role))
            };
            let nodes = roles.iter().enumerate().map(|(n, bits)| node(n as u8, role(*bits), dead[n]));
            let view = view(nodes.collect());
            let entry = if unlisted {
                bridge(vec![(NodeId::from_bytes([0; 16]), LinkHandle::from_bytes([0; 16]))])
            } else {
                listed_entry(&view)
            };
            let address = BoxAddress::from_bytes(address);
            if let Ok(path) = view.path(&mut ChaCha12Rng::seed_from_u64(seed), NOW, &entry, &address, &[]) {
                check(&view, &entry, &path, &address);
            } else {
                prop_assert!(roles.len() < 6 || roles.iter().any(|r| *r != 7) || dead.iter().any(|d| *d));
            }
        }
    }
}
