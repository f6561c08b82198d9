//! Whether a flow can meet a rule at all: its conditions are put to each kind of flow there is.
//!
//! A kind is what conditions can contradict each other about: what carries a flow, what it speaks, which addresses it has. Of all else
//! (names, sizes, numbers) a flow may come to have whatever is asked, with two exceptions: the first packet has one length, and
//! nothing is so and not so at once.

use std::net::IpAddr;

use super::Direction;
use super::rule::{Action, Condition, Rule, RuleError, Way};
use crate::classify::{Protocol, Transport};

/// The most that a packet carries: an IP packet has 16 bits of length, with its headers.
const PACKET_MAX: u64 = 65_515;

/// What a flow may be like.
#[derive(Clone, Copy, Debug)]
struct Kind {
    opened: Direction,
    transport: Transport,
    protocol: Option<Protocol>,
    ipv4: bool,
    /// Its server is at the highest port, which no client's is above.
    last_port: bool,
}

/// Whether flows of a kind meet a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Meets {
    Never,
    Perhaps,
    Always,
}

impl Meets {
    const fn only_if(possible: bool) -> Self {
        if possible { Self::Perhaps } else { Self::Never }
    }

    const fn exactly_if(so: bool) -> Self {
        if so { Self::Always } else { Self::Never }
    }

    const fn not(self) -> Self {
        match self {
            Self::Never => Self::Always,
            Self::Perhaps => Self::Perhaps,
            Self::Always => Self::Never,
        }
    }
}

impl Kind {
    fn all() -> impl Iterator<Item = Self> {
        const PROTOCOLS: [Option<Protocol>; 7] = [
            None,
            Some(Protocol::Tls),
            Some(Protocol::Quic),
            Some(Protocol::Dtls),
            Some(Protocol::Http),
            Some(Protocol::Ssh),
            Some(Protocol::Dns),
        ];
        let bools = [false, true];
        [Transport::Tcp, Transport::Udp]
            .into_iter()
            .flat_map(move |transport| {
                PROTOCOLS
                    .into_iter()
                    .filter(move |protocol| protocol.is_none_or(|protocol| protocol.runs_over(transport)))
                    .flat_map(move |protocol| {
                        [Direction::Outbound, Direction::Inbound]
                            .into_iter()
                            .flat_map(move |opened| {
                                bools.into_iter().flat_map(move |ipv4| {
                                    bools.into_iter().map(move |last_port| Self {
                                        opened,
                                        transport,
                                        protocol,
                                        ipv4,
                                        last_port,
                                    })
                                })
                            })
                    })
            })
    }

    fn speaks(&self, protocols: &[Protocol]) -> bool {
        self.protocol
            .is_some_and(|protocol| protocols.contains(&protocol))
    }

    fn meets(&self, condition: &Condition) -> Meets {
        match condition {
            Condition::Opened(direction) => Meets::exactly_if(*direction == self.opened),
            Condition::Transport(transport) => Meets::exactly_if(*transport == self.transport),
            Condition::Client(set) | Condition::Server(set) => Meets::only_if(set.may_have(self.ipv4)),
            Condition::ServerPort(ranges) => Meets::only_if(ranges.iter().any(|range| {
                !range.is_empty()
                    && match self.last_port {
                        true => *range.end() == u16::MAX,
                        false => *range.start() < u16::MAX,
                    }
            })),
            Condition::SourcePortAbove => Meets::only_if(!self.last_port),
            // What a flow speaks is not known from its first packet on.
            Condition::Protocol(protocol) => Meets::only_if(self.speaks(&[*protocol])),
            Condition::Name(_) => Meets::only_if(self.protocol.is_some()),
            // The rule is one on TCP, and lets TLS and HTTP through (Wu et al., USENIX Security 2023, §4.1).
            Condition::Flagged(_) => Meets::only_if(
                self.transport == Transport::Tcp && !self.speaks(&[Protocol::Tls, Protocol::Http]),
            ),
            Condition::Fingerprint(_) => {
                Meets::only_if(self.speaks(&[Protocol::Tls, Protocol::Quic, Protocol::Dtls]))
            }
            Condition::FirstPacketLen(_)
            | Condition::FirstPacketMod16(_)
            | Condition::EntropyMin(_)
            | Condition::Packets(..)
            | Condition::Bytes(..)
            | Condition::Flows(_)
            // A hello in two parts is TLS, and neither part is.
            | Condition::Unlike(..) => Meets::Perhaps,
            Condition::Not(condition) => self.meets(condition).not(),
            Condition::All(all) => self.meets_all(all),
            Condition::Any(any) => {
                let best = any.iter().map(|condition| self.meets(condition)).max();
                best.unwrap_or(Meets::Never)
            }
        }
    }

    fn meets_all(&self, all: &[Condition]) -> Meets {
        let worst = all.iter().map(|condition| self.meets(condition)).min();
        worst.unwrap_or(Meets::Always)
    }

    fn may_meet(&self, all: &[Condition]) -> bool {
        self.meets_all(all) != Meets::Never
    }
}

impl Rule {
    /// Whether a flow can meet it, and its action can do something to that flow.
    ///
    /// # Errors
    /// What keeps every flow from it.
    pub(super) fn check_sense(&self) -> Result<(), RuleError> {
        for met in 0..self.all.len() {
            let (before, this) = (&self.all[..met], &self.all[met]);
            let what = this.name();
            let contradicts = !Kind::all().any(|kind| kind.may_meet(&self.all[..=met]));
            if contradicts || denies(this, before) || before.iter().any(|one| denies(one, &self.all[..=met]))
            {
                return Err(RuleError::Contradiction { what });
            }
        }
        if !has_length(&self.all) {
            return Err(RuleError::NoLength);
        }
        let may_be =
            |wanted: fn(&Kind) -> bool| Kind::all().any(|kind| wanted(&kind) && kind.may_meet(&self.all));
        let over_tcp = || may_be(|kind| kind.transport == Transport::Tcp);
        let asks = || may_be(|kind| kind.transport == Transport::Udp && kind.protocol == Some(Protocol::Dns));
        match self.action {
            Action::Reset { .. } if !over_tcp() => Err(RuleError::NoReset),
            Action::Forge(_) if !asks() => Err(RuleError::NoQuestion),
            Action::Forge(_) if self.way == Way::FromServer => Err(RuleError::NotAsked),
            _ => Ok(()),
        }
    }

    /// Whether a rule behind it never acts: it stops every packet of each flow that could meet the other, and always.
    pub fn hides(&self, behind: &Rule) -> bool {
        self.judge.is_none()
            && self.phases.is_empty()
            && self.acts_on >= super::rule::ALWAYS
            && self.way == Way::Both
            && matches!(self.action, Action::Drop | Action::Reset { .. })
            && (self.reassembles || !behind.reassembles)
            && self.all.iter().all(|condition| behind.all.contains(condition))
            // What hits flows that do not meet the other is not hidden by what stops those that do.
            && (self.all.is_empty() || behind.acts_by_mistake_on == 0)
    }
}

/// Whether a condition is the opposite of some of these.
fn denies(condition: &Condition, all: &[Condition]) -> bool {
    let Condition::Not(denied) = condition else {
        return false;
    };
    match &**denied {
        Condition::All(denied) => !denied.is_empty() && denied.iter().all(|one| all.contains(one)),
        denied => all.contains(denied),
    }
}

/// Whether a first packet can be as long as all of these ask.
fn has_length(all: &[Condition]) -> bool {
    let (mut least, mut most) = (1, PACKET_MAX);
    let mut remainders = u16::MAX;
    for condition in all {
        match condition {
            Condition::FirstPacketLen(lens) => {
                (least, most) = (least.max(*lens.start()), most.min(*lens.end()));
            }
            Condition::FirstPacketMod16(these) => remainders &= these,
            _ => {}
        }
    }
    // Sixteen in a row have every remainder.
    (least..=most)
        .take(16)
        .any(|len| remainders >> (len % 16) & 1 == 1)
}

impl Condition {
    /// As a file says it.
    const fn name(&self) -> &'static str {
        match self {
            Self::Opened(_) => "opened",
            Self::Transport(_) => "transport",
            Self::Client(_) => "from",
            Self::Server(_) => "to",
            Self::ServerPort(_) => "ports",
            Self::SourcePortAbove => "source-port-above",
            Self::Protocol(_) => "protocols",
            Self::Unlike(..) => "unlike",
            Self::Name(_) => "names",
            Self::Flagged(_) => "flagged",
            Self::Fingerprint(_) => "fingerprints",
            Self::FirstPacketLen(_) => "first-packet",
            Self::FirstPacketMod16(_) => "first-packet-mod-16",
            Self::EntropyMin(_) => "entropy-min",
            Self::Packets(..) => "packets",
            Self::Bytes(..) => "bytes",
            Self::Flows(_) => "flows",
            Self::Not(_) => "not",
            Self::All(_) => "match",
            Self::Any(any) => match any.as_slice() {
                [Self::Protocol(_), ..] => "protocols",
                _ => "any",
            },
        }
    }
}

/// Whether a text has the form of a JA4: `t13d1516h2_8daaf6152771_b186095e22b6`.
pub(super) fn is_ja4(text: &str) -> bool {
    let parts: Vec<&str> = text.split('_').collect();
    let [head, ciphers, extensions] = parts.as_slice() else {
        return false;
    };
    let hash = |part: &str| part.len() == 12 && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let head = head.as_bytes();
    head.len() == 10
        && matches!(head[0], b't' | b'q' | b'd')
        && matches!(head[3], b'd' | b'i')
        && head[4..8].iter().all(u8::is_ascii_digit)
        && head.iter().all(u8::is_ascii_alphanumeric)
        && hash(ciphers)
        && hash(extensions)
}

impl super::addresses::Addresses {
    /// Whether an address of this kind is in it, or may come to be.
    fn may_have(&self, ipv4: bool) -> bool {
        self.grows() || self.addresses().any(|address: IpAddr| address.is_ipv4() == ipv4)
    }
}

#[cfg(test)]
mod tests;
