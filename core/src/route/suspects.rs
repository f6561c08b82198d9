//! Which nodes seem to swallow packets: so that a dead node, which stays in the document for a while, does not cost every
//! other request its time limit.
//!
//! Nobody says which hop lost a packet, so every node of an unanswered request is suspected a little, and every node of an
//! answered one is cleared. The choice of paths avoids suspects only where it has others: who drops packets to steer
//! clients gets itself avoided, and nobody else for long.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::crypto::keys::NodeId;
use crate::units::Instant;

/// So many unanswered requests since the last answered one.
const STRIKES: u32 = 3;
/// Suspicion ends so long after the last of them.
const FORGET: Duration = Duration::from_secs(180);
/// Nodes remembered.
const NODES_MAX: usize = 64;

/// The nodes that were in unanswered requests.
#[derive(Debug, Default)]
pub(crate) struct Suspects(BTreeMap<NodeId, (u32, Instant)>);

impl Suspects {
    /// A request over these nodes was not answered.
    pub(crate) fn strike(&mut self, now: Instant, nodes: &[NodeId]) {
        self.0.retain(|_, (_, last)| now.saturating_since(*last) < FORGET);
        for node in nodes {
            if self.0.len() < NODES_MAX || self.0.contains_key(node) {
                let (strikes, last) = self.0.entry(*node).or_insert((0, now));
                (*strikes, *last) = (strikes.saturating_add(1), now);
            }
        }
    }

    /// A request over these nodes was answered.
    pub(crate) fn clear(&mut self, nodes: &[NodeId]) {
        for node in nodes {
            self.0.remove(node);
        }
    }

    /// The nodes to be avoided: of those with enough strikes, the ones that stand out.
    pub(crate) fn avoid(&self, now: Instant) -> Vec<NodeId> {
        let recent = |last: Instant| now.saturating_since(last) < FORGET;
        let held = || self.0.iter().filter(move |(_, (_, last))| recent(*last));
        let most = held().map(|(_, (strikes, _))| *strikes).max().unwrap_or(0);
        let out = held().filter(|(_, (strikes, _))| *strikes >= STRIKES && *strikes * 2 > most);
        out.map(|(node, _)| *node).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(suspects.avoid(at(20)), [node(0)]);
        assert_eq!(suspects.avoid(at(20 + 180)), [], "it may have come back");
        suspects.clear(&[node(0)]);
        assert!(!suspects.avoid(at(20)).contains(&node(0)));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut suspects = Suspects::default();
        for n in 0..255 {
            suspects.strike(at(1), &[node(n)]);
        }
        assert_eq!(suspects.0.len(), NODES_MAX);
        suspects.strike(at(1_000), &[node(7)]);
        assert_eq!(suspects.0.len(), 1);
    }
}
