//! Which address others see of a node: its id must fit that one (BEP 42), whatever its socket was bound to. SPEC §7.1.4.

use std::collections::VecDeque;
use std::net::IpAddr;

/// Votes held; a node whose id fits what it is told holds none.
const VOTES_MAX: usize = 15;
/// Votes for one address that move a node to it: most of those held, so that liars must be most of whom it asked last.
const VOTES_NEEDED: usize = VOTES_MAX / 2 + 1;

/// What nodes that were asked say of the asker's address. Each network (IPv4: a /16, IPv6: a /32) has one vote, its latest.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sightings {
    votes: VecDeque<(u32, IpAddr)>,
}

impl Sightings {
    /// Nobody has named an address that did not fit.
    pub(crate) fn is_empty(&self) -> bool {
        self.votes.is_empty()
    }

    /// `voter` sees the node at `seen`. The address that most see, if they are enough.
    pub(crate) fn note(&mut self, voter: IpAddr, seen: IpAddr) -> Option<IpAddr> {
        let network = network(voter);
        self.votes.retain(|(held, _)| *held != network);
        if self.votes.len() == VOTES_MAX {
            self.votes.pop_front();
        }
        self.votes.push_back((network, seen));
        let agree = self.votes.iter().filter(|(_, other)| *other == seen).count();
        (agree >= VOTES_NEEDED).then_some(seen)
    }
}

/// The bits of an address that its owner does not choose.
fn network(ip: IpAddr) -> u32 {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.to_bits() >> 16,
        IpAddr::V6(ip) => (ip.to_bits() >> 96) as u32 | 1 << 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voter(network: u8, host: u8) -> IpAddr {
        [network, 1, 0, host].into()
    }

    #[test]
    fn eight_networks_move_a_node_and_eight_hosts_of_one_do_not() {
        let seen: IpAddr = [203, 0, 113, 9].into();
        let mut sightings = Sightings::default();
        assert!((0..100).all(|host| sightings.note(voter(1, host), seen).is_none()));
        for network in 2..8 {
            assert_eq!(sightings.note(voter(network, 1), seen), None);
        }
        assert_eq!(sightings.note(voter(8, 1), seen), Some(seen));
    }

    #[test]
    fn liars_that_are_fewer_than_half_move_nobody_and_keep_nobody() {
        let [seen, lie]: [IpAddr; 2] = [[203, 0, 113, 9].into(), [198, 51, 100, 1].into()];
        let mut sightings = Sightings::default();
        let mut moved = Vec::new();
        for network in 0..15 {
            let said = if network % 2 == 1 { lie } else { seen };
            moved.extend(sightings.note(voter(network, 1), said));
        }
        assert_eq!(moved, [seen]);
        assert_eq!(sightings.votes.len(), VOTES_MAX);
    }
}
