//! The routing table: buckets of 8 by the length of the prefix shared with our id. BEP 5; SPEC §7.3.
//!
//! One flat list of 44-byte entries, because a simulation holds thousands of tables: a network of 4,000 nodes fills about
//! 80 of them (4 KiB, by arithmetic). A node enters when it has answered us (or asked us, unverified, if its bucket has room), keeps its
//! address until it is bad, and leaves after [`FAILURES_MAX`] unanswered queries once somebody better wants its place.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::id::DhtId;
use super::krpc::NodeInfo;
use crate::units::Instant;

/// Nodes per bucket, and nodes that an answer names.
pub const BUCKET: usize = 8;
/// Most nodes held, whatever their ids.
pub const NODES_HELD_MAX: usize = 256;
/// Unanswered queries in a row after which a node is bad.
pub const FAILURES_MAX: u8 = 2;

#[derive(Clone, Copy, Debug)]
struct Entry {
    id: DhtId,
    /// IPv4 as IPv4-mapped.
    ip: [u8; 16],
    port: u16,
    failures: u8,
    verified: bool,
    /// Seconds since the start of the run at which it was last heard or asked.
    heard: u32,
}

impl Entry {
    fn addr(&self) -> SocketAddr {
        SocketAddr::new(Ipv6Addr::from(self.ip).to_canonical(), self.port)
    }
}

/// What became of a node offered to the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// It was not in the table, and now it is.
    New,
    /// It was in the table.
    Held,
    /// Its bucket is full of good nodes, or the table refuses it.
    Refused,
}

/// The nodes that a node knows.
#[derive(Clone, Debug)]
pub struct Table {
    me: DhtId,
    enforce_ids: bool,
    entries: Vec<Entry>,
}

impl Table {
    /// An empty table of the node `me`. With `enforce_ids`, nodes whose id BEP 42 does not allow are refused.
    pub const fn new(me: DhtId, enforce_ids: bool) -> Self {
        Self {
            me,
            enforce_ids,
            entries: Vec::new(),
        }
    }

    /// Nodes held.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether no node is held.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes allocated for the nodes held.
    pub fn heap_bytes(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>()
    }

    /// Takes note of a node: `verified` when it answered a query of ours.
    pub fn offer(&mut self, now: Instant, node: NodeInfo, verified: bool) -> Offer {
        if node.id == self.me
            || node.addr.port() == 0
            || (self.enforce_ids && !node.id.fits_ip(node.addr.ip()))
        {
            return Offer::Refused;
        }
        let new = Entry {
            id: node.id,
            ip: mapped(node.addr.ip()),
            port: node.addr.port(),
            failures: 0,
            verified,
            heard: seconds(now),
        };
        if let Some(held) = self.entries.iter_mut().find(|held| held.id == node.id) {
            // A second address for an id is believed only when the first one is dead: else anybody could take an id over.
            if held.addr() != node.addr && held.failures < FAILURES_MAX {
                return Offer::Refused;
            }
            let verified = verified || (held.verified && held.addr() == node.addr);
            // A query heard from a node does not prove that our answers reach it.
            let failures = if new.verified { 0 } else { held.failures };
            *held = Entry {
                verified,
                failures,
                ..new
            };
            return Offer::Held;
        }
        // One id per address: a node that restarted has a new one, and shows it by answering.
        if let Some(at) = self.entries.iter().position(|held| held.addr() == node.addr) {
            if !verified {
                return Offer::Refused;
            }
            self.entries.swap_remove(at);
        }
        let bucket = self.bucket(&node.id);
        let in_bucket = self
            .entries
            .iter()
            .filter(|held| self.bucket(&held.id) == bucket)
            .count();
        if in_bucket < BUCKET && self.entries.len() < NODES_HELD_MAX {
            // Growing by one bucket instead of by doubling keeps a table of 80 nodes at 4 KiB.
            if self.entries.len() == self.entries.capacity() {
                self.entries.reserve_exact(BUCKET);
            }
            self.entries.push(new);
            return Offer::New;
        }
        // The worst of the bucket gives way: first the bad, then, to a node that answered, one that never did.
        let me = self.me;
        let worst = self
            .entries
            .iter_mut()
            .filter(|held| me.distance(&held.id).leading_zeros() == bucket)
            .max_by_key(|held| (held.failures, !held.verified, u32::MAX - held.heard));
        match worst {
            Some(held) if held.failures >= FAILURES_MAX || (verified && !held.verified) => {
                *held = new;
                Offer::New
            }
            _ => Offer::Refused,
        }
    }

    /// Takes note of a node that another one named: hearsay, which changes nothing about nodes that are held.
    pub fn hear_of(&mut self, now: Instant, node: NodeInfo) {
        if self.entries.iter().all(|held| held.id != node.id) {
            self.offer(now, node, false);
        }
    }

    /// A query to the node at `addr` was not answered.
    pub fn failed(&mut self, addr: SocketAddr) {
        if let Some(at) = self.entries.iter().position(|held| held.addr() == addr) {
            let held = &mut self.entries[at];
            held.failures = held.failures.saturating_add(1);
            // Nobody waits for the place of an unverified node, and it would only cost more pings.
            if held.failures >= FAILURES_MAX && (!held.verified || held.failures >= 2 * FAILURES_MAX) {
                self.entries.swap_remove(at);
            }
        }
    }

    /// Our id is another from now on: the buckets are, and those of whom a bucket has too many are forgotten.
    pub(crate) fn moved_to(&mut self, me: DhtId) {
        let entries = std::mem::take(&mut self.entries);
        self.me = me;
        for entry in entries {
            let bucket = self.bucket(&entry.id);
            let beside = self.entries.iter().filter(|held| self.bucket(&held.id) == bucket);
            if beside.count() < BUCKET {
                self.entries.push(entry);
            }
        }
    }

    /// The up to `count` good nodes nearest to `target` of the families asked for, nearest first.
    pub fn nearest(&self, target: &DhtId, count: usize, v4: bool, v6: bool) -> Vec<NodeInfo> {
        let mut near: Vec<_> = self
            .entries
            .iter()
            .filter(|held| held.verified && held.failures < FAILURES_MAX)
            .map(|held| {
                (
                    held.id.distance(target),
                    NodeInfo {
                        id: held.id,
                        addr: held.addr(),
                    },
                )
            })
            .filter(|(_, node)| if node.addr.is_ipv4() { v4 } else { v6 })
            .collect();
        near.sort_unstable_by_key(|(distance, _)| *distance);
        near.truncate(count);
        near.into_iter().map(|(_, node)| node).collect()
    }

    /// Up to `count` nodes that should be pinged: never verified, failed before, or not heard for `quiet`; the longest
    /// unheard first. Marks them as asked.
    pub fn questionable(&mut self, now: Instant, quiet: Duration, count: usize) -> Vec<NodeInfo> {
        let at = seconds(now);
        let quiet = u32::try_from(quiet.as_secs()).unwrap_or(u32::MAX);
        let mut asked: Vec<&mut Entry> = self
            .entries
            .iter_mut()
            .filter(|held| {
                let age = at.saturating_sub(held.heard);
                age >= quiet || (age >= 1 && (!held.verified || held.failures > 0))
            })
            .collect();
        asked.sort_by_key(|held| held.heard);
        asked.truncate(count);
        asked
            .into_iter()
            .map(|held| {
                held.heard = at;
                NodeInfo {
                    id: held.id,
                    addr: held.addr(),
                }
            })
            .collect()
    }

    /// How many leading bits the nearest held node shares with us: buckets beyond that are empty.
    pub fn depth(&self) -> usize {
        self.entries
            .iter()
            .map(|held| self.bucket(&held.id))
            .max()
            .unwrap_or(0)
    }

    fn bucket(&self, id: &DhtId) -> usize {
        self.me.distance(id).leading_zeros()
    }
}

fn mapped(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}

fn seconds(now: Instant) -> u32 {
    u32::try_from(now.since_start().as_secs()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand_chacha::ChaCha12Rng;
    use rand_core::{Rng, SeedableRng};

    use super::*;

    fn node(rng: &mut ChaCha12Rng) -> NodeInfo {
        let ip = IpAddr::from(rng.next_u32().to_be_bytes());
        NodeInfo {
            id: DhtId::for_ip(ip, rng),
            addr: SocketAddr::new(ip, 6881),
        }
    }

    fn at(secs: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(secs)
    }

    #[test]
    fn an_entry_is_44_bytes() {
        assert!(size_of::<Entry>() <= 44, "{}", size_of::<Entry>());
    }

    #[test]
    fn a_second_address_cannot_take_over_a_live_id() {
        let mut rng = ChaCha12Rng::seed_from_u64(1);
        let mut table = Table::new(DhtId([0; 20]), false);
        let good = node(&mut rng);
        let thief = NodeInfo {
            addr: "203.0.113.66:1".parse().expect("literal"),
            ..good
        };
        assert_eq!(table.offer(at(0), good, true), Offer::New);
        assert_eq!(table.offer(at(1), thief, true), Offer::Refused);
        for _ in 0..FAILURES_MAX {
            table.failed(good.addr);
        }
        assert_eq!(table.offer(at(2), thief, true), Offer::Held);
        assert_eq!(table.nearest(&good.id, 1, true, true), [thief]);
    }

    #[test]
    fn bad_nodes_give_way_and_good_ones_do_not() {
        let mut rng = ChaCha12Rng::seed_from_u64(2);
        let mut table = Table::new(DhtId([0; 20]), false);
        let far: Vec<_> = std::iter::repeat_with(|| node(&mut rng))
            .filter(|n| n.id.0[0] >= 0x80)
            .take(9)
            .collect();
        far[..8]
            .iter()
            .for_each(|n| assert_eq!(table.offer(at(0), *n, true), Offer::New));
        assert_eq!(table.offer(at(5), far[8], true), Offer::Refused);
        (0..FAILURES_MAX).for_each(|_| table.failed(far[3].addr));
        assert!(
            !table.nearest(&far[3].id, 8, true, true).contains(&far[3]),
            "a bad node is not named"
        );
        assert_eq!(table.offer(at(9), far[8], true), Offer::New);
        assert_eq!(table.len(), 8);
    }

    #[test]
    fn unverified_nodes_are_asked_but_not_named() {
        let mut rng = ChaCha12Rng::seed_from_u64(3);
        let mut table = Table::new(DhtId([0; 20]), false);
        let new = node(&mut rng);
        table.offer(at(0), new, false);
        assert!(table.nearest(&new.id, 8, true, true).is_empty());
        assert_eq!(table.questionable(at(2), Duration::from_secs(900), 4), [new]);
        table.offer(at(2), new, true);
        assert_eq!(table.nearest(&new.id, 8, true, true), [new]);
        assert!(
            table
                .questionable(at(900), Duration::from_secs(900), 4)
                .is_empty()
        );
        assert_eq!(table.questionable(at(902), Duration::from_secs(900), 4), [new]);
    }

    #[test]
    fn hearsay_neither_renews_nor_moves_a_node() {
        let mut rng = ChaCha12Rng::seed_from_u64(5);
        let mut table = Table::new(DhtId([0; 20]), false);
        let (good, other) = (node(&mut rng), node(&mut rng));
        table.offer(at(0), good, true);
        table.hear_of(
            at(500),
            NodeInfo {
                addr: other.addr,
                ..good
            },
        );
        table.hear_of(at(500), NodeInfo { id: other.id, ..good });
        table.hear_of(at(500), good);
        assert_eq!(table.questionable(at(900), Duration::from_secs(900), 4), [good]);
        assert_eq!(table.len(), 1);
    }

    #[test]
    fn ids_that_do_not_fit_their_address_are_refused_where_that_is_asked() {
        let mut rng = ChaCha12Rng::seed_from_u64(4);
        let sybil = NodeInfo {
            id: DhtId([1; 20]),
            ..node(&mut rng)
        };
        assert_eq!(
            Table::new(DhtId([0; 20]), true).offer(at(0), sybil, true),
            Offer::Refused
        );
        assert_eq!(
            Table::new(DhtId([0; 20]), false).offer(at(0), sybil, true),
            Offer::New
        );
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn a_table_is_bounded_and_names_the_nearest_it_holds(seed in any::<u64>(), nodes in 0_usize..2000) {
            let mut rng = ChaCha12Rng::seed_from_u64(seed);
            let mut table = Table::new(DhtId::random(&mut rng), true);
            for _ in 0..nodes {
                table.offer(Instant::ZERO, node(&mut rng), true);
            }
            prop_assert!(table.len() <= NODES_HELD_MAX);
            for bucket in 0..=table.depth() {
                let held = table.entries.iter().filter(|e| table.bucket(&e.id) == bucket).count();
                prop_assert!(held <= BUCKET);
            }
            let target = DhtId::random(&mut rng);
            let near = table.nearest(&target, BUCKET, true, true);
            prop_assert_eq!(near.len(), table.len().min(BUCKET));
            if let Some(last) = near.last() {
                let nearer = table.entries.iter().filter(|e| e.id.distance(&target) < last.id.distance(&target)).count();
                prop_assert_eq!(nearer, near.len() - 1);
            }
        }
    }
}
