//! How the first data packets of connections look to the rule on fully encrypted traffic, by the transport that is spoken at their
//! server. Counted beside the censor, which need not have such a rule.
//!
//! The rule looks at the first packet that a client fills (Wu et al., USENIX Security 2023, §4); one that was lost on the way to
//! the border is judged when it is sent again, and once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use phantom_censor::classify::fet::{Measured, Variant};
use phantom_core::transport::Kind;

use crate::swarm::border::{Packet, Protocol};

/// Connections that are remembered as judged; beyond, the oldest are forgotten, and counted again if they send again.
const JUDGED_MAX: usize = 1 << 18;

/// What was counted of one transport.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Connections whose first packet was flagged.
    pub flagged: u64,
    /// Connections that were judged.
    pub judged: u64,
}

/// The counter.
#[derive(Clone, Debug, Default)]
pub struct FirstPackets {
    spoken: BTreeMap<SocketAddr, Kind>,
    /// Flow numbers ascend, so the least is the oldest.
    seen: BTreeSet<u64>,
    tallies: BTreeMap<Kind, Tally>,
}

impl FirstPackets {
    /// Counts connections to these places.
    pub fn of(spoken: impl IntoIterator<Item = (SocketAddr, Kind)>) -> Self {
        Self {
            spoken: spoken.into_iter().collect(),
            ..Self::default()
        }
    }

    /// What was counted since the last call, of transports of which something was.
    pub fn take(&mut self) -> BTreeMap<Kind, Tally> {
        std::mem::take(&mut self.tallies)
    }

    /// A packet comes to the border.
    pub(super) fn look(&mut self, packet: &Packet) {
        if packet.protocol != Protocol::Tcp || packet.payload.is_empty() {
            return;
        }
        let Some(kind) = self.spoken.get(&packet.dst) else {
            return;
        };
        if packet.tcp.seq != 1 || !self.seen.insert(packet.flow) {
            return;
        }
        if self.seen.len() > JUDGED_MAX {
            self.seen.pop_first();
        }
        let flagged = Measured::of(&packet.payload)
            .is_some_and(|measured| measured.verdict(Variant::Paper).is_flagged());
        let tally = self.tallies.entry(*kind).or_default();
        tally.judged += 1;
        tally.flagged += u64::from(flagged);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use phantom_core::units::Instant;

    use super::*;
    use crate::swarm::border::{self, Direction, Tcp};

    #[test]
    fn each_connection_is_judged_once_by_its_first_bytes_and_only_where_it_is_asked_for() {
        let at = |port| SocketAddr::from(([192, 0, 2, 1], port));
        let mut first = FirstPackets::of([(at(443), Kind::Obfs4), (at(444), Kind::Obfs4Http)]);
        let random: Vec<u8> = (0..400_u32).map(|n| ((n * n * 31) >> 3) as u8).collect();
        let mut send = |flow, port, seq, payload: &[u8]| {
            first.look(&Packet {
                at: Instant::ZERO,
                src: ([10, 0, 0, 1], 5_000).into(),
                dst: at(port),
                protocol: Protocol::Tcp,
                direction: Direction::Outbound,
                kind: border::Kind::Data,
                payload: Bytes::copy_from_slice(payload),
                name: None,
                flow,
                tcp: Tcp {
                    seq,
                    ..Tcp::default()
                },
            });
        };
        send(1, 443, 1, &random);
        send(1, 443, 1, &random);
        send(1, 443, 401, b"GET / HTTP/1.1");
        send(2, 444, 1, b"GET / and then noise");
        send(3, 444, 1, b"");
        send(4, 445, 1, &random);
        let tally = |flagged, judged| Tally { flagged, judged };
        let wanted = [(Kind::Obfs4, tally(1, 1)), (Kind::Obfs4Http, tally(0, 1))];
        assert_eq!(first.take(), BTreeMap::from(wanted));
        assert!(first.take().is_empty());
    }
}
