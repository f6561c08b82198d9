//! Which nodes seem to swallow packets: so that a dead node, which stays in the document for a while, does not cost every
//! other request its time limit.
//!
//! Nobody says which hop lost a packet, so every node of an unanswered request is suspected a little, and every node of an
//! answered one is cleared. The choice of paths avoids suspects only where it has others: who drops packets to steer
//! clients gets itself avoided, and nobody else for long.
//!
//! A suspect is tried again after a while, and at once when there is a new document, which may list new keys of it. If that
//! request is not answered either, it is avoided for twice as long. With a fixed time all dead nodes would come back together,
//! and what dozens of lost requests had taught would be lost: with 4 of 12 nodes dead, every second request failed for as long
//! as they were listed.

use std::time::Duration;

use rand_core::Rng;

use crate::crypto::keys::NodeId;
use crate::directory::document::DocumentHash;
use crate::rest::Rest as _;
use crate::units::Instant;

/// So many unanswered requests since the last answered one.
const STRIKES: u8 = 3;
/// How long a node is avoided after the last of them.
const AVOID_FIRST: Duration = Duration::from_secs(180);
/// So often that is doubled, when it has come back and a request over it is not answered: up to 48 minutes.
const DOUBLINGS_MAX: u8 = 4;
/// Nodes remembered: a client holds this for as long as it lives.
const NODES_MAX: usize = 24;

#[derive(Clone, Copy, Debug)]
struct Suspicion {
    /// Unanswered requests since the last answered one.
    strikes: u8,
    /// When the last of them was given up.
    last: Instant,
    /// How often it was avoided and came back.
    returns: u8,
    /// It stood out once: it comes back for a try when its time is over, and is not forgotten before that was answered.
    avoided: bool,
}

impl Suspicion {
    fn is_suspect(&self) -> bool {
        self.strikes >= STRIKES
    }

    /// How long it counts.
    fn time(&self) -> Duration {
        AVOID_FIRST * (1 << self.returns.min(DOUBLINGS_MAX))
    }
}

/// The nodes that were in unanswered requests.
#[derive(Debug, Default)]
pub(crate) struct Suspects {
    nodes: Vec<(NodeId, Suspicion)>,
    /// The newest document and since when it is used.
    document: Option<(DocumentHash, Instant)>,
}

impl Suspects {
    /// Paths are chosen from this document now.
    pub(crate) fn document(&mut self, now: Instant, hash: DocumentHash) {
        if self.document.is_none_or(|(known, _)| known != hash) {
            self.document = Some((hash, now));
        }
    }

    /// A request over these nodes was not answered.
    pub(crate) fn strike(&mut self, now: Instant, nodes: &[NodeId]) {
        let since = self.since();
        self.nodes
            .retain(|(_, known)| known.avoided || counts(known, since, now));
        for node in nodes {
            let known = self.entry(*node, now);
            if counts(known, since, now) {
                known.strikes = known.strikes.saturating_add(1);
            } else {
                // A suspect that came back for its try. Its old strikes must not hide who dies in the meantime (`avoid`).
                (known.strikes, known.returns) = (STRIKES, known.returns.saturating_add(1));
            }
            known.last = now;
        }
    }

    /// What is held of a node. Where there is no room for a new one, the oldest gives way, of those that are no suspects first.
    fn entry(&mut self, node: NodeId, now: Instant) -> &mut Suspicion {
        let place = match self.nodes.iter().position(|(known, _)| *known == node) {
            Some(place) => place,
            None => {
                let new = Suspicion {
                    strikes: 0,
                    last: now,
                    returns: 0,
                    avoided: false,
                };
                let places = 0..self.nodes.len();
                let oldest = places.min_by_key(|&at| (self.nodes[at].1.is_suspect(), self.nodes[at].1.last));
                match oldest.filter(|_| self.nodes.len() >= NODES_MAX) {
                    Some(oldest) => {
                        self.nodes[oldest] = (node, new);
                        oldest
                    }
                    None => {
                        self.nodes.reserve_exact(1);
                        self.nodes.push((node, new));
                        self.nodes.len() - 1
                    }
                }
            }
        };
        &mut self.nodes[place].1
    }

    /// A request over these nodes was answered.
    pub(crate) fn clear(&mut self, nodes: &[NodeId]) {
        self.nodes.retain(|(known, _)| !nodes.contains(known));
        self.nodes.rest();
    }

    /// The nodes that the next request avoids, who was struck longest ago first: of those with enough strikes the ones that
    /// stand out and the ones that failed their try, and of those who come back all but one.
    pub(crate) fn avoid(&mut self, now: Instant, rng: &mut impl Rng) -> Vec<NodeId> {
        let since = self.since();
        let most = self
            .nodes
            .iter()
            .filter(|(_, known)| counts(known, since, now))
            .map(|(_, known)| u16::from(known.strikes))
            .max()
            .unwrap_or(0);
        let (mut out, mut back) = (Vec::new(), Vec::new());
        for (node, known) in &mut self.nodes {
            if !counts(known, since, now) {
                back.extend(known.avoided.then_some((known.last, *node)));
            } else if known.returns > 0 || (known.is_suspect() && u16::from(known.strikes) * 2 > most) {
                known.avoided = true;
                out.push((known.last, *node));
            }
        }
        if !back.is_empty() {
            let tried = if back.len() > 1 {
                rng.next_u64() % back.len() as u64
            } else {
                0
            };
            back.swap_remove(tried as usize);
        }
        out.append(&mut back);
        out.sort_unstable();
        out.into_iter().map(|(_, node)| node).collect()
    }

    fn since(&self) -> Instant {
        self.document.map_or(Instant::ZERO, |(_, since)| since)
    }
}

/// Whether a suspicion still counts; what is older than the newest document (`since`) does not.
fn counts(known: &Suspicion, since: Instant, now: Instant) -> bool {
    known.last >= since && now.saturating_since(known.last) < known.time()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use rand_chacha::ChaCha12Rng;
    use rand_core::SeedableRng as _;

    /// Who is avoided while at most one comes back, so that nothing is drawn.
    fn avoided(suspects: &mut Suspects, now: Instant) -> Vec<NodeId> {
        suspects.avoid(now, &mut ChaCha12Rng::seed_from_u64(1))
    }

    fn node(n: u8) -> NodeId {
        NodeId::from_bytes([n; 16])
    }

    fn at(secs: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(secs)
    }

    #[test]
    fn the_dead_node_stands_out_and_the_others_are_cleared() {
        let mut suspects = Suspects::default();
        for n in 0..20u64 {
            let others = [node(1 + (n % 5) as u8), node(1 + (n % 3) as u8)];
            if n % 4 == 3 {
                suspects.clear(&others);
            } else {
                suspects.strike(at(n), &[node(0), others[0], others[1]]);
            }
        }
        assert_eq!(avoided(&mut suspects, at(20)), [node(0)]);
        assert_eq!(avoided(&mut suspects, at(19 + 180)), [], "it may have come back");
        suspects.clear(&[node(0)]);
        assert!(!avoided(&mut suspects, at(20)).contains(&node(0)));
    }

    #[test]
    fn one_that_came_back_and_fails_again_is_avoided_at_once_and_for_twice_as_long() {
        let mut suspects = Suspects::default();
        (0..3).for_each(|n| suspects.strike(at(n), &[node(0)]));
        assert_eq!(avoided(&mut suspects, at(2)), [node(0)]);
        let mut failed = 2;
        for time in [180, 360, 720, 1_440, 2_880, 2_880] {
            assert_eq!(
                avoided(&mut suspects, at(failed + time - 1)),
                [node(0)],
                "{time} s"
            );
            failed += time;
            assert_eq!(avoided(&mut suspects, at(failed)), [], "{time} s");
            suspects.strike(at(failed), &[node(0)]);
        }
        suspects.clear(&[node(0)]);
        suspects.strike(at(failed), &[node(0)]);
        assert_eq!(
            avoided(&mut suspects, at(failed)),
            [],
            "nothing is held against one that answered"
        );
    }

    #[test]
    fn a_new_document_gives_each_suspect_one_try() {
        let mut suspects = Suspects::default();
        let document = |n| DocumentHash([n; 32]);
        suspects.document(at(0), document(1));
        (1..4).for_each(|n| suspects.strike(at(n), &[node(0)]));
        suspects.document(at(4), document(1));
        assert_eq!(avoided(&mut suspects, at(4)), [node(0)], "the same document");
        suspects.document(at(5), document(2));
        assert_eq!(avoided(&mut suspects, at(5)), []);
        suspects.strike(at(6), &[node(0)]);
        assert_eq!(avoided(&mut suspects, at(6)), [node(0)]);
    }

    #[test]
    fn of_those_who_come_back_a_request_takes_one_so_that_none_is_avoided_for_another() {
        let mut suspects = Suspects::default();
        (0..3).for_each(|n| suspects.strike(at(n), &[node(0), node(1), node(2)]));
        assert_eq!(avoided(&mut suspects, at(3)).len(), 3);
        let mut rng = ChaCha12Rng::seed_from_u64(1);
        let taken = |suspects: &mut Suspects, rng: &mut ChaCha12Rng| -> Vec<NodeId> {
            let avoid = suspects.avoid(at(200), rng);
            (0..3).map(node).filter(|node| !avoid.contains(node)).collect()
        };
        let mut tried = BTreeSet::new();
        for _ in 0..50 {
            let back = taken(&mut suspects, &mut rng);
            assert_eq!(back.len(), 1);
            tried.extend(back);
        }
        assert_eq!(tried.len(), 3, "each has its turn");
        // The middle one is dead, the others answer when they are asked.
        for _ in 0..50 {
            match taken(&mut suspects, &mut rng)[..] {
                [one] if one == node(1) => suspects.strike(at(200), &[one]),
                [one] => suspects.clear(&[one]),
                _ => break,
            }
        }
        assert_eq!(suspects.avoid(at(200), &mut rng), [node(1)]);
    }

    #[test]
    fn who_was_struck_longest_ago_is_named_first() {
        let mut suspects = Suspects::default();
        for (n, start) in [(2, 0), (0, 10), (1, 20)] {
            (0..3).for_each(|more| suspects.strike(at(start + more), &[node(n)]));
        }
        assert_eq!(avoided(&mut suspects, at(30)), [node(2), node(0), node(1)]);
    }

    #[test]
    fn many_strikes_before_a_return_do_not_hide_who_dies_later() {
        let mut suspects = Suspects::default();
        (0..20).for_each(|_| suspects.strike(at(0), &[node(0)]));
        assert_eq!(avoided(&mut suspects, at(0)), [node(0)]);
        suspects.strike(at(180), &[node(0)]);
        (181..184).for_each(|n| suspects.strike(at(n), &[node(1)]));
        assert_eq!(avoided(&mut suspects, at(184)), [node(0), node(1)]);
        (184..204).for_each(|n| suspects.strike(at(n), &[node(2)]));
        assert_eq!(
            avoided(&mut suspects, at(204)),
            [node(0), node(2)],
            "nor is it hidden by them"
        );
    }

    #[test]
    fn a_few_strikes_long_ago_are_forgotten() {
        let mut suspects = Suspects::default();
        (0..2).for_each(|n| suspects.strike(at(n), &[node(0)]));
        (0..2).for_each(|n| suspects.strike(at(200 + n), &[node(0)]));
        assert_eq!(avoided(&mut suspects, at(202)), []);
        suspects.strike(at(202), &[node(0)]);
        assert_eq!(avoided(&mut suspects, at(202 + 179)), [node(0)]);
        assert_eq!(
            avoided(&mut suspects, at(202 + 180)),
            [],
            "nor do they make the time longer"
        );
    }

    #[test]
    fn suspects_are_remembered_before_those_who_were_struck_once() {
        let mut suspects = Suspects::default();
        (0..3).for_each(|n| suspects.strike(at(n), &[node(0)]));
        (1..200).for_each(|n| suspects.strike(at(3), &[node(n)]));
        assert_eq!(avoided(&mut suspects, at(3)), [node(0)]);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut suspects = Suspects::default();
        for n in 0..255 {
            suspects.strike(at(1 + u64::from(n)), &[node(n)]);
        }
        assert_eq!(suspects.nodes.len(), NODES_MAX);
        assert!(
            suspects.nodes.iter().any(|(known, _)| *known == node(254)),
            "the newest are kept"
        );
        suspects.strike(at(1_000), &[node(7)]);
        assert_eq!(suspects.nodes.len(), 1);
    }
}
