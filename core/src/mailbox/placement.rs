//! Which nodes hold a box: rendezvous hashing over the storage set of the directory document, distinct operators.
//! Spec: SPEC §4.5.
//!
//! The set is the *configured* one of the document, not the nodes that happen to be up, so that an outage moves nothing.
//! A score is a hash of the box's address and the node's name. Addresses are made by writers for one use and are secret
//! until then, so no operator can choose a name that attracts a box that it is after.

use std::cmp::Ordering;

use crate::crypto::keys::NodeId;

use super::address::BoxAddress;

/// How many nodes hold a box.
pub const REPLICAS: usize = 3;

/// How many of them must hold it durably before a write is acknowledged.
pub const WRITE_QUORUM: usize = 2;

/// Who runs a node, as the directory keys attest it: equal for nodes of one operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OperatorId(pub [u8; 16]);

/// A storage node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Holder {
    /// Its name.
    pub node: NodeId,
    /// Who runs it.
    pub operator: OperatorId,
}

/// The storage nodes of one document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StorageSet {
    holders: Vec<Holder>,
}

/// The nodes of one box, best first: [`REPLICAS`] of them, or all there are if there are fewer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    nodes: Vec<NodeId>,
    operators: usize,
}

/// One duty of a node when the set changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HandOver {
    /// Who must get the box.
    pub to: NodeId,
    /// This node's turn among the old holders: the first offers at once, each other only when those before it have had
    /// their time, so that one transfer is the rule and a dead holder no gap.
    pub turn: usize,
}

impl StorageSet {
    /// The set of these nodes, in any order; a name that occurs twice counts once.
    pub fn new(holders: impl IntoIterator<Item = Holder>) -> Self {
        let mut holders: Vec<_> = holders.into_iter().collect();
        holders.sort_unstable();
        holders.dedup_by_key(|holder| holder.node);
        Self { holders }
    }

    /// The nodes, by name.
    pub fn holders(&self) -> &[Holder] {
        &self.holders
    }

    /// Where `address` belongs.
    ///
    /// The best node of each of the [`REPLICAS`] best operators. Where there are fewer operators, further nodes of the
    /// same ones fill up, and [`Placement::operators`] tells.
    pub fn place(&self, address: &BoxAddress) -> Placement {
        // The best node of each of the best operators, best first: one pass, since a network may have hundreds of nodes.
        let mut chosen: Vec<(u128, &Holder)> = Vec::with_capacity(REPLICAS + 1);
        for holder in &self.holders {
            let candidate = (score(address, holder.node), holder);
            match chosen.iter_mut().find(|(_, c)| c.operator == holder.operator) {
                Some(same) if better(&candidate, same) => *same = candidate,
                Some(_) => continue,
                None => chosen.push(candidate),
            }
            chosen.sort_unstable_by(|a, b| {
                if better(a, b) {
                    Ordering::Less
                } else {
                    Ordering::Greater
                }
            });
            chosen.truncate(REPLICAS);
        }
        let operators = chosen.len();
        if operators < REPLICAS && operators < self.holders.len() {
            let mut others: Vec<_> = self
                .holders
                .iter()
                .filter(|h| chosen.iter().all(|(_, c)| c != h))
                .collect();
            others.sort_by_cached_key(|holder| (std::cmp::Reverse(score(address, holder.node)), holder.node));
            chosen.extend(
                others
                    .into_iter()
                    .take(REPLICAS - operators)
                    .map(|holder| (0, holder)),
            );
        }
        Placement {
            nodes: chosen.into_iter().map(|(_, holder)| holder.node).collect(),
            operators,
        }
    }
}

impl Placement {
    /// The nodes, best first.
    pub fn nodes(&self) -> &[NodeId] {
        &self.nodes
    }

    /// How many different operators they have.
    pub const fn operators(&self) -> usize {
        self.operators
    }

    /// Whether `node` is one of them.
    pub fn contains(&self, node: NodeId) -> bool {
        self.nodes.contains(&node)
    }

    /// How many must hold a box before it is acknowledged: [`WRITE_QUORUM`], or all of a smaller placement.
    pub fn quorum(&self) -> usize {
        WRITE_QUORUM.min(self.nodes.len())
    }

    /// Whom to ask for a box: those of this set, then, for one epoch after a change, those that `previous` had besides.
    pub fn read_order(&self, previous: Option<&Self>) -> Vec<NodeId> {
        let mut order = self.nodes.clone();
        order.extend(
            previous
                .iter()
                .flat_map(|p| &p.nodes)
                .copied()
                .filter(|&node| !self.contains(node)),
        );
        order
    }

    /// What `me` must hand over now that the set of `self` follows that of `previous`; empty unless `me` was a holder.
    pub fn hand_over(&self, previous: &Self, me: NodeId) -> Vec<HandOver> {
        let Some(turn) = previous.nodes.iter().position(|&node| node == me) else {
            return Vec::new();
        };
        let newcomers = self.nodes.iter().filter(|&&node| !previous.contains(node));
        newcomers.map(|&to| HandOver { to, turn }).collect()
    }
}

/// Equal scores would need a collision of 128 bits; the name decides then.
fn better(a: &(u128, &Holder), b: &(u128, &Holder)) -> bool {
    (a.0, b.1) > (b.0, a.1)
}

/// The first 16 bytes of BLAKE3 under the address as key: one compression per node.
fn score(address: &BoxAddress, node: NodeId) -> u128 {
    let hash = blake3::keyed_hash(address.as_bytes(), node.as_bytes());
    let mut head = [0; 16];
    head.copy_from_slice(&hash.as_bytes()[..16]);
    u128::from_be_bytes(head)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    fn node(i: u8) -> NodeId {
        NodeId::from_bytes([i; 16])
    }

    /// `n` nodes; node i belongs to operator i mod `operators`.
    fn set(n: u8, operators: u8) -> StorageSet {
        StorageSet::new((0..n).map(|i| Holder {
            node: node(i),
            operator: OperatorId([i % operators; 16]),
        }))
    }

    fn addresses(n: u64) -> impl Iterator<Item = BoxAddress> {
        (0..n).map(|i| BoxAddress::from_bytes(*blake3::hash(&i.to_be_bytes()).as_bytes()))
    }

    #[test]
    fn three_distinct_operators_hold_each_box() {
        let set = set(20, 5);
        for address in addresses(500) {
            let placement = set.place(&address);
            let operators: BTreeSet<u8> = placement.nodes().iter().map(|n| n.as_bytes()[0] % 5).collect();
            assert_eq!(
                (placement.nodes().len(), operators.len(), placement.operators()),
                (3, 3, 3)
            );
        }
    }

    /// The rule, said plainly: all nodes by score, the first of each operator, then the rest.
    fn plainly(set: &StorageSet, address: &BoxAddress) -> Vec<NodeId> {
        let mut ranked: Vec<&Holder> = set.holders.iter().collect();
        ranked.sort_by_key(|holder| (std::cmp::Reverse(score(address, holder.node)), **holder));
        let mut operators = BTreeSet::new();
        let (first, rest): (Vec<&Holder>, Vec<&Holder>) = ranked
            .into_iter()
            .partition(|holder| operators.len() < REPLICAS && operators.insert(holder.operator));
        first
            .into_iter()
            .chain(rest)
            .take(REPLICAS)
            .map(|holder| holder.node)
            .collect()
    }

    #[test]
    fn one_pass_gives_what_the_rule_says() {
        for (nodes, operators) in [
            (0, 1),
            (1, 1),
            (2, 2),
            (5, 2),
            (6, 1),
            (9, 3),
            (40, 7),
            (200, 200),
        ] {
            let set = set(nodes, operators);
            for address in addresses(200) {
                assert_eq!(
                    set.place(&address).nodes(),
                    plainly(&set, &address),
                    "{nodes} of {operators}"
                );
            }
        }
    }

    #[test]
    fn fewer_operators_or_nodes_are_used_as_far_as_they_go_and_told() {
        for address in addresses(50) {
            let two = set(6, 2).place(&address);
            assert_eq!((two.nodes().len(), two.operators(), two.quorum()), (3, 2, 2));
            assert_eq!(two.nodes().iter().collect::<BTreeSet<_>>().len(), 3);
            let one = set(1, 1).place(&address);
            assert_eq!((one.nodes().len(), one.operators(), one.quorum()), (1, 1, 1));
        }
        assert_eq!(
            set(0, 1).place(&BoxAddress::from_bytes([0; 32])),
            Placement::default()
        );
    }

    #[test]
    fn boxes_spread_evenly() {
        let set = set(20, 20);
        let mut load = BTreeMap::new();
        for address in addresses(4_000) {
            for &node in set.place(&address).nodes() {
                *load.entry(node).or_insert(0u32) += 1;
            }
        }
        // 600 expected each, standard deviation about 23: five of them.
        assert!(load.values().all(|&n| (485..715).contains(&n)), "{load:?}");
    }

    /// A node that leaves moves its own boxes only, and each of them gets one new holder, offered by every old one.
    #[test]
    fn a_leaving_node_moves_only_its_own_boxes() {
        let (old, new) = (
            set(20, 20),
            StorageSet::new(set(20, 20).holders()[1..].iter().copied()),
        );
        let mut moved = 0;
        for address in addresses(1_000) {
            let (before, after) = (old.place(&address), new.place(&address));
            let newcomers: Vec<_> = after.nodes().iter().filter(|&&n| !before.contains(n)).collect();
            assert_eq!(newcomers.len(), usize::from(before.contains(node(0))));
            for (turn, &holder) in before.nodes().iter().enumerate() {
                let duties = after.hand_over(&before, holder);
                assert_eq!(
                    duties,
                    newcomers
                        .iter()
                        .map(|&&to| HandOver { to, turn })
                        .collect::<Vec<_>>()
                );
            }
            for &newcomer in newcomers {
                moved += 1;
                assert!(after.hand_over(&before, newcomer).is_empty());
                let order = after.read_order(Some(&before));
                assert_eq!(
                    (order.len(), order[3]),
                    (4, node(0)),
                    "the old holder is asked for one epoch"
                );
            }
        }
        assert!((100..200).contains(&moved), "about 3 in 20: {moved}");
    }

    #[test]
    fn the_order_in_a_document_does_not_matter() {
        let forward = set(9, 3);
        let backward = StorageSet::new(forward.holders().iter().rev().copied());
        assert!(addresses(50).all(|a| forward.place(&a) == backward.place(&a)));
    }
}
