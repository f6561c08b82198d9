//! A packet with its flow, as the conditions of rules see it.

use super::Direction;
use super::memory::Memory;
use super::program::Seen;
use super::rule::{Condition, Rule, Way};
use crate::classify::Transport;
use crate::flow::{Flow, Side};
use crate::packet::Packet;

/// A packet with its flow, as conditions see it.
pub(super) struct Case<'a> {
    pub(super) flow: &'a Flow,
    pub(super) packet: &'a Packet<'a>,
    pub(super) from_client: bool,
    pub(super) flows_of_pair: u32,
}

impl Case<'_> {
    /// Whether the packet asks DNS something.
    pub(super) fn is_question(&self, memory: &Memory) -> bool {
        self.from_client
            && self.flow.transport == Transport::Udp
            && self.packet.payload_len > 0
            && memory.asks_dns()
    }

    /// The same for a program.
    pub(super) fn seen<'a>(&'a self, at_ns: u64, direction: Direction, memory: &'a Memory) -> Seen<'a> {
        Seen {
            at_ns,
            direction,
            from_client: self.from_client,
            outbound: memory.outbound,
            packet: self.packet,
            flow: self.flow,
            labels: memory.labels.as_ref(),
            flows_of_pair: self.flows_of_pair,
        }
    }

    /// Whether the flow meets a rule; `Some(false)`: it does not, and the rule may hit it by mistake; `None`: it is not known
    /// yet, or it does not and never by mistake.
    pub(super) fn meets(&self, rule: &Rule, memory: &Memory) -> Option<bool> {
        if rule
            .all
            .iter()
            .all(|condition| self.meets_one(condition, rule, memory))
        {
            return Some(true);
        }
        let judged = self.from_client && self.packet.payload_len > 0;
        (rule.acts_by_mistake_on > 0 && judged).then_some(false)
    }

    fn meets_one(&self, condition: &Condition, rule: &Rule, memory: &Memory) -> bool {
        let flow = self.flow;
        let labels = memory.labels.as_deref();
        let side = |way: Way, of: fn(&Side) -> u64| match way {
            Way::Both => of(&flow.up) + of(&flow.down),
            Way::FromClient => of(&flow.up),
            Way::FromServer => of(&flow.down),
        };
        match condition {
            Condition::Opened(direction) => (*direction == Direction::Outbound) == memory.outbound,
            Condition::Transport(transport) => flow.transport == *transport,
            Condition::Client(addresses) => addresses.has(flow.client()),
            Condition::Server(addresses) => addresses.has(flow.server()),
            Condition::ServerPort(ports) => ports.iter().any(|range| range.contains(&flow.server().port())),
            Condition::SourcePortAbove => flow.client().port() > flow.server().port(),
            Condition::Protocol(protocol) => labels.is_some_and(|labels| labels.protocol == Some(*protocol)),
            Condition::Unlike(protocols, packets) => {
                let seen = memory.first_packets().get(..usize::from(*packets));
                seen.is_some_and(|seen| !seen.iter().flatten().any(|protocol| protocols.contains(protocol)))
            }
            Condition::Name(names) => labels.is_some_and(|labels| {
                (rule.reassembles || !labels.split)
                    && labels.name.as_ref().is_some_and(|name| names.has(name))
            }),
            Condition::Flagged(variant) => flow
                .fet
                .as_ref()
                .is_some_and(|fet| fet.verdict(*variant).is_flagged()),
            Condition::Fingerprint(known) => {
                labels.is_some_and(|labels| labels.ja4.as_ref().is_some_and(|ja4| known.contains(ja4)))
            }
            Condition::FirstPacketLen(lens) => {
                labels.is_some_and(|labels| lens.contains(&labels.first_packet_len))
            }
            Condition::FirstPacketMod16(remainders) => labels.is_some_and(|labels| {
                labels.first_packet_len > 0 && remainders >> (labels.first_packet_len % 16) & 1 == 1
            }),
            Condition::EntropyMin(millibits) => {
                labels.is_some_and(|labels| labels.entropy_millibits >= *millibits)
            }
            Condition::Packets(way, n) => side(*way, |side| side.packets) > *n,
            Condition::Bytes(way, n) => side(*way, |side| side.bytes) > *n,
            Condition::Flows(n) => self.flows_of_pair > *n,
            Condition::Not(condition) => !self.meets_one(condition, rule, memory),
            Condition::All(conditions) => conditions
                .iter()
                .all(|condition| self.meets_one(condition, rule, memory)),
            Condition::Any(conditions) => conditions
                .iter()
                .any(|condition| self.meets_one(condition, rule, memory)),
        }
    }
}
