//! What can be said of a flow before it has said anything: whether it will meet a rule, will not, or may.
//!
//! The engine asks so that it neither keeps the first bytes of flows that nobody will read nor looks again at flows that a
//! rule is not about; and who judges a simulated world asks whether a way in is open.

use std::net::SocketAddr;

use super::Direction;
use super::addresses::Addresses;
use super::rule::{Action, Condition, Rule};
use crate::classify::fet::Measured;
use crate::classify::{Labels, Transport};

/// A flow to come.
#[derive(Clone, Copy, Debug)]
pub struct Prospect<'a> {
    /// Who opens it.
    pub opened: Direction,
    /// What carries it.
    pub transport: Transport,
    /// Who opens it, if that is known.
    pub client: Option<SocketAddr>,
    /// To whom, if that is known.
    pub server: Option<SocketAddr>,
    /// What its first bytes will be like, if that is known.
    pub first: Option<First<'a>>,
    /// Whether it is about a moment: what lists may come to hold does not count.
    pub at_once: bool,
}

/// First bytes to come.
#[derive(Clone, Copy, Debug)]
pub struct First<'a> {
    /// What classifiers will say.
    pub labels: &'a Labels,
    /// What the rule on fully encrypted traffic will measure.
    pub fet: Option<Measured>,
}

impl Rule {
    /// Whether the flow will meet it; `None`: it may. One that the rule can do nothing to counts as one that will not.
    pub fn foresees(&self, flow: &Prospect<'_>) -> Option<bool> {
        // Answers are forged to datagrams alone; DNS runs over TCP too, and every stream would be read for it.
        if matches!(self.action, Action::Forge(_))
            && flow.transport == Transport::Tcp
            && self.residual.is_none()
            && self.judge.is_none()
        {
            return Some(false);
        }
        all(self.all.iter(), flow)
    }

    /// Whether it looks at first bytes.
    pub fn reads_bytes(&self) -> bool {
        matches!(self.action, Action::Forge(_) | Action::Probe(_))
            || self.judge.is_some()
            || self.all.iter().any(Condition::reads_bytes)
    }
}

impl Condition {
    /// Whether the flow will meet it; `None`: it may.
    fn foresees(&self, flow: &Prospect<'_>) -> Option<bool> {
        let listed = |set: &Addresses, end: Option<SocketAddr>| match end {
            Some(end) if set.has(end) => Some(true),
            Some(_) if !set.grows() || flow.at_once => Some(false),
            _ => None,
        };
        let first = flow.first;
        match self {
            Self::Opened(direction) => Some(*direction == flow.opened),
            Self::Transport(transport) => Some(*transport == flow.transport),
            Self::Client(set) => listed(set, flow.client),
            Self::Server(set) => listed(set, flow.server),
            Self::ServerPort(ports) => {
                let port = flow.server?.port();
                Some(ports.iter().any(|range| range.contains(&port)))
            }
            Self::SourcePortAbove => Some(flow.client?.port() > flow.server?.port()),
            Self::Flagged(_) if flow.transport == Transport::Udp => Some(false),
            Self::Flagged(variant) => Some(first?.fet.is_some_and(|fet| fet.verdict(*variant).is_flagged())),
            Self::Protocol(protocol) if !protocol.runs_over(flow.transport) => Some(false),
            Self::Protocol(protocol) => Some(first?.labels.protocol == Some(*protocol)),
            Self::Unlike(protocols, packets) => {
                let first = first?.labels.protocol;
                match first.is_some_and(|protocol| protocols.contains(&protocol)) {
                    true => Some(false),
                    false => (*packets == 1).then_some(true),
                }
            }
            Self::Name(names) => Some(first?.labels.name.as_ref().is_some_and(|name| names.has(name))),
            Self::Fingerprint(known) => {
                Some(first?.labels.ja4.as_ref().is_some_and(|ja4| known.contains(ja4)))
            }
            Self::FirstPacketLen(lens) => Some(lens.contains(&first?.labels.first_packet_len)),
            Self::FirstPacketMod16(remainders) => {
                let len = first?.labels.first_packet_len;
                Some(len > 0 && remainders >> (len % 16) & 1 == 1)
            }
            Self::EntropyMin(millibits) => Some(first?.labels.entropy_millibits >= *millibits),
            Self::Packets(..) | Self::Bytes(..) | Self::Flows(_) => None,
            Self::Not(condition) => condition.foresees(flow).map(|meets| !meets),
            Self::All(conditions) => all(conditions.iter(), flow),
            Self::Any(conditions) => {
                let each = || conditions.iter().map(|condition| condition.foresees(flow));
                match each().any(|meets| meets == Some(true)) {
                    true => Some(true),
                    false => each().all(|meets| meets == Some(false)).then_some(false),
                }
            }
        }
    }

    fn reads_bytes(&self) -> bool {
        match self {
            Self::Flagged(_)
            | Self::Protocol(_)
            | Self::Name(_)
            | Self::Fingerprint(_)
            | Self::FirstPacketLen(_)
            | Self::FirstPacketMod16(_)
            | Self::EntropyMin(_) => true,
            Self::Not(condition) => condition.reads_bytes(),
            Self::All(conditions) | Self::Any(conditions) => conditions.iter().any(Self::reads_bytes),
            _ => false,
        }
    }
}

fn all<'c>(conditions: impl Iterator<Item = &'c Condition> + Clone, flow: &Prospect<'_>) -> Option<bool> {
    let each = || conditions.clone().map(|condition| condition.foresees(flow));
    match each().any(|meets| meets == Some(false)) {
        true => Some(false),
        false => each().all(|meets| meets == Some(true)).then_some(true),
    }
}

#[cfg(test)]
mod tests {
    use super::super::residual::{Residual, Tuple};
    use super::super::rule::{Forgery, Way};
    use super::*;
    use crate::classify::Protocol;

    fn to(server: &str, transport: Transport) -> Prospect<'static> {
        Prospect {
            opened: Direction::Outbound,
            transport,
            client: None,
            server: server.parse().ok(),
            first: None,
            at_once: false,
        }
    }

    fn rule(all: Vec<Condition>) -> Rule {
        Rule {
            all,
            ..Rule::new("r")
        }
    }

    #[test]
    fn a_flow_to_another_address_will_not_meet_a_list_and_may_meet_one_that_grows() {
        let listed: Addresses = [[192, 0, 2, 1].into()].into_iter().collect();
        let mut growing = listed.clone();
        growing.follow("burnt");
        let (here, elsewhere) = (
            to("192.0.2.1:443", Transport::Tcp),
            to("192.0.2.2:443", Transport::Tcp),
        );
        let known = rule(vec![Condition::Server(listed)]);
        assert_eq!(
            [&here, &elsewhere].map(|flow| known.foresees(flow)),
            [Some(true), Some(false)]
        );
        let mut learning = rule(vec![Condition::Server(growing)]);
        assert_eq!(
            [&here, &elsewhere].map(|flow| learning.foresees(flow)),
            [Some(true), None]
        );
        learning.learn("other", [192, 0, 2, 2].into());
        assert_eq!(learning.foresees(&elsewhere), None, "another list learned");
        learning.learn("burnt", [192, 0, 2, 2].into());
        assert_eq!(learning.foresees(&elsewhere), Some(true));
    }

    #[test]
    fn a_rule_that_forges_answers_reads_no_stream_unless_a_block_follows() {
        let mut forging = rule(vec![Condition::Protocol(Protocol::Dns)]);
        forging.action = Action::Forge(Forgery {
            pool: Vec::new(),
            each: 1,
            holds_back: false,
        });
        assert_eq!(forging.foresees(&to("192.0.2.1:53", Transport::Udp)), None);
        assert_eq!(forging.foresees(&to("192.0.2.1:53", Transport::Tcp)), Some(false));
        forging.residual = Some(Residual {
            tuple: Tuple::Two,
            for_ns: 1,
            share: super::super::rule::ALWAYS,
            renewed: false,
            way: Way::Both,
            resets: false,
        });
        assert_eq!(forging.foresees(&to("192.0.2.1:53", Transport::Tcp)), None);
    }

    #[test]
    fn bytes_and_volumes_leave_it_open_and_a_transport_that_never_carries_a_protocol_settles_it() {
        let names = rule(vec![
            Condition::Transport(Transport::Udp),
            Condition::Protocol(Protocol::Dns),
        ]);
        assert!(names.reads_bytes());
        assert_eq!(names.foresees(&to("192.0.2.1:53", Transport::Udp)), None);
        assert_eq!(names.foresees(&to("192.0.2.1:443", Transport::Tcp)), Some(false));
        let quic = rule(vec![Condition::Protocol(Protocol::Quic)]);
        assert_eq!(quic.foresees(&to("192.0.2.1:443", Transport::Tcp)), Some(false));
        let frozen = rule(vec![Condition::Bytes(Way::Both, 16_000)]);
        assert!(!frozen.reads_bytes());
        assert_eq!(frozen.foresees(&to("192.0.2.1:443", Transport::Tcp)), None);
        let other = rule(vec![Condition::Not(Box::new(Condition::Any(vec![
            Condition::Transport(Transport::Udp),
            Condition::ServerPort(vec![53..=53]),
        ])))]);
        assert_eq!(other.foresees(&to("192.0.2.1:443", Transport::Tcp)), Some(true));
        assert_eq!(other.foresees(&to("192.0.2.1:53", Transport::Tcp)), Some(false));
    }
}
