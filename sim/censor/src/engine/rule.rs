//! A rule: when it holds, which flows meet it, what it does to them.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use phantom_path::police::Policer;
use serde::{Deserialize, Serialize};

use super::addresses::Addresses;
use super::names::Names;
use super::residual::Residual;
use super::{Direction, Verdict};
use crate::classify::fet::Variant;
use crate::classify::{Protocol, Transport};
use crate::packet::Packet;

/// A chance of one, in parts of 2^32.
pub const ALWAYS: u64 = 1 << 32;

/// One rule of a censor.
#[derive(Clone, Debug)]
pub struct Rule {
    /// By which it is counted.
    pub name: String,
    /// It holds from the first of each pair of times until the second, in nanoseconds; empty: always.
    pub phases: Vec<(u64, u64)>,
    /// Which flows meet it: all of these conditions. None: every flow.
    pub all: Vec<Condition>,
    /// Names are found across segments. Otherwise only in the first packet, as by most measured censors.
    pub reassembles: bool,
    /// On which share of flows that meet it, in parts of 2^32: less than [`ALWAYS`] is a false-negative rate.
    pub acts_on: u64,
    /// On which share of those that do not.
    pub acts_by_mistake_on: u64,
    /// Which packets of a sentenced flow.
    pub way: Way,
    /// What is done to them.
    pub action: Action,
    /// What follows for other flows.
    pub residual: Option<Residual>,
}

/// Packets of one direction of a flow, or of both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// Both.
    #[default]
    Both,
    /// From whoever opened it.
    FromClient,
    /// From the other end.
    FromServer,
}

/// What a flow must be like.
#[derive(Clone, Debug)]
pub enum Condition {
    /// Opened in this direction.
    Opened(Direction),
    /// Carried by this.
    Transport(Transport),
    /// From one of these.
    Client(Addresses),
    /// To one of these.
    Server(Addresses),
    /// To one of these ports.
    ServerPort(Vec<RangeInclusive<u16>>),
    /// The client's port is greater than the server's: the Great Firewall looks into no other QUIC flow (Zohaib et al., USENIX
    /// Security 2025, §4).
    SourcePortAbove,
    /// The client's first bytes are of this protocol.
    Protocol(Protocol),
    /// It asks for one of these names: SNI of TLS and QUIC, Host of HTTP, question of DNS.
    Name(Names),
    /// The rule on fully encrypted traffic flags its first data packet.
    Flagged(Variant),
    /// The JA4 of its hello is one of these.
    Fingerprint(BTreeSet<String>),
    /// Its first data packet is so long, in bytes.
    FirstPacketLen(RangeInclusive<u64>),
    /// Its first data packet has at least so many thousandths of a bit of entropy in a byte.
    EntropyMin(u32),
    /// More packets than this have been seen of it.
    Packets(Way, u64),
    /// More payload bytes than this.
    Bytes(Way, u64),
    /// More flows than this are under way between its client's address and its server, itself included. A connection that
    /// both ends closed, or one reset, is not under way.
    Flows(u32),
    /// The opposite.
    Not(Box<Condition>),
    /// All of these.
    All(Vec<Condition>),
    /// One of these at least.
    Any(Vec<Condition>),
}

/// What is done to packets of a sentenced flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// They are lost.
    Drop,
    /// They are lost, and these ends get a reset.
    Reset {
        /// The end that opened the connection.
        client: bool,
        /// The other.
        server: bool,
    },
    /// What exceeds a token bucket is lost, each direction for itself.
    Police {
        /// Its rate.
        bits_per_second: u64,
        /// What it lets through at once.
        burst_bytes: u64,
        /// Whose bucket it is.
        bucket: Bucket,
    },
    /// They come later, by nanoseconds.
    Delay(u64),
    /// DNS questions get an answer with these addresses ahead of the true one; none: there is no such name.
    Forge(Vec<IpAddr>),
}

/// Who shares a token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bucket {
    /// Each flow has its own.
    Flow,
    /// All flows of the rule have one.
    Shared,
}

/// Why a rule makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// A phase ends before it begins.
    #[error("a phase from {from_ns} ns until {until_ns} ns never holds")]
    Phase {
        /// Its beginning.
        from_ns: u64,
        /// Its end.
        until_ns: u64,
    },
    /// A set that nothing is in.
    #[error("no {what} is listed: the rule can never match")]
    Empty {
        /// Of what.
        what: &'static str,
    },
    /// A rate or a burst of nothing.
    #[error("{what} of zero lets nothing through: say drop instead")]
    Zero {
        /// Which.
        what: &'static str,
    },
    /// A burst that no packet fits into.
    #[error("a burst of {burst_bytes} bytes passes no full packet: wanted at least 1500")]
    Burst {
        /// The burst.
        burst_bytes: u64,
    },
    /// Neither end gets a reset.
    #[error("a reset of no end is a drop: say drop instead")]
    NoEnd,
    /// It acts on no flow.
    #[error("it acts on none of the flows that meet it")]
    Never,
}

impl Rule {
    /// A rule that drops every packet of every flow, always.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            phases: Vec::new(),
            all: Vec::new(),
            reassembles: false,
            acts_on: ALWAYS,
            acts_by_mistake_on: 0,
            way: Way::Both,
            action: Action::Drop,
            residual: None,
        }
    }

    /// Whether no rule behind it ever sees a packet: it stops every packet of every flow, always.
    pub fn stops_all(&self) -> bool {
        self.all.is_empty()
            && self.phases.is_empty()
            && self.acts_on >= ALWAYS
            && self.way == Way::Both
            && matches!(self.action, Action::Drop | Action::Reset { .. })
    }

    /// Whether it can ever do something.
    ///
    /// # Errors
    /// The first thing that keeps it from that.
    pub fn check(&self) -> Result<(), RuleError> {
        for &(from_ns, until_ns) in &self.phases {
            if until_ns <= from_ns {
                return Err(RuleError::Phase { from_ns, until_ns });
            }
        }
        for condition in &self.all {
            condition.check()?;
        }
        match self.action {
            Action::Police {
                bits_per_second: 0, ..
            } => return Err(RuleError::Zero { what: "a rate" }),
            Action::Police { burst_bytes, .. } if burst_bytes < 1_500 => {
                return Err(RuleError::Burst { burst_bytes });
            }
            Action::Delay(0) => return Err(RuleError::Zero { what: "a delay" }),
            Action::Reset {
                client: false,
                server: false,
            } => return Err(RuleError::NoEnd),
            _ => {}
        }
        if self.acts_on == 0 && self.acts_by_mistake_on == 0 {
            return Err(RuleError::Never);
        }
        match &self.residual {
            Some(residual) if residual.for_ns == 0 => Err(RuleError::Zero {
                what: "a residual block",
            }),
            _ => Ok(()),
        }
    }

    pub(super) fn holds_at(&self, at_ns: u64) -> bool {
        self.phases.is_empty()
            || self
                .phases
                .iter()
                .any(|(from, until)| (*from..*until).contains(&at_ns))
    }

    /// What it does to a packet of a flow that it has sentenced.
    pub(super) fn act(
        &self,
        place: usize,
        at_ns: u64,
        packet: &Packet<'_>,
        from_client: bool,
        shared: &mut Option<[Policer; 2]>,
        own: &mut Vec<(usize, [Policer; 2])>,
    ) -> Verdict {
        match &self.action {
            Action::Drop => Verdict::Drop,
            Action::Reset { client, server } => Verdict::Reset {
                client: *client,
                server: *server,
            },
            Action::Delay(ns) => Verdict::Delay(*ns),
            Action::Forge(addresses) => Verdict::Forge(addresses.clone()),
            Action::Police {
                bits_per_second,
                burst_bytes,
                bucket,
            } => {
                let buckets = match (bucket, shared) {
                    (Bucket::Shared, Some(buckets)) => buckets,
                    _ => {
                        let known = own.iter().position(|(of, _)| *of == place);
                        let known = known.unwrap_or_else(|| {
                            let bucket = || Policer::new(*bits_per_second, *burst_bytes);
                            own.push((place, [bucket(), bucket()]));
                            own.len() - 1
                        });
                        &mut own[known].1
                    }
                };
                let bucket = &mut buckets[usize::from(!from_client)];
                if bucket.passes(at_ns, packet.wire_bytes()) {
                    Verdict::Pass
                } else {
                    Verdict::Drop
                }
            }
        }
    }
}

impl Condition {
    fn check(&self) -> Result<(), RuleError> {
        let what = match self {
            Self::Client(addresses) | Self::Server(addresses) if addresses.is_empty() => "address",
            Self::ServerPort(ports) if ports.iter().all(RangeInclusive::is_empty) => "port",
            Self::Name(names) if names.is_empty() => "name",
            Self::Fingerprint(known) if known.is_empty() => "fingerprint",
            Self::FirstPacketLen(lens) if lens.is_empty() => "length",
            Self::Any(conditions) | Self::All(conditions) if conditions.is_empty() => "condition",
            Self::Any(conditions) | Self::All(conditions) => {
                return conditions.iter().try_for_each(Self::check);
            }
            Self::Not(condition) => return condition.check(),
            _ => return Ok(()),
        };
        Err(RuleError::Empty { what })
    }
}

impl Way {
    pub(super) fn has(self, from_client: bool) -> bool {
        match self {
            Self::Both => true,
            Self::FromClient => from_client,
            Self::FromServer => !from_client,
        }
    }
}
