//! A rule: when it holds, which flows meet it, what it does to them.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::ops::RangeInclusive;

use phantom_path::dice::Dice;
use phantom_path::police::Policer;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::addresses::Addresses;
use super::names::Names;
use super::program::{Judge, Program};
use super::residual::Residual;
use super::sense::is_ja4;
use super::{Direction, OwnPolicers, Verdict};
use crate::classify::fet::Variant;
use crate::classify::{Protocol, Transport};
use crate::file::units::Time;
use crate::packet::Packet;
use crate::prober;

/// A chance of one, in parts of 2^32.
pub const ALWAYS: u64 = 1 << 32;

/// Data packets of a client that are looked at one by one, at most: each by every classifier.
pub const PACKETS_MAX: u8 = 8;

/// One rule of a censor.
#[derive(Clone, Debug)]
pub struct Rule {
    /// By which it is counted.
    pub name: String,
    /// It holds from the first of each pair of times until the second, in nanoseconds; empty: always.
    pub phases: Vec<(u64, u64)>,
    /// Which flows meet it: all of these conditions. None: every flow.
    pub all: Vec<Condition>,
    /// What is asked about each packet of flows that meet them; `None`: those flows are sentenced at once.
    pub judge: Option<Judge>,
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
#[derive(Clone, Debug, PartialEq, Eq)]
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
    /// So many data packets of its client were seen, at most [`PACKETS_MAX`], and none of them, each by itself, begins as one of these.
    Unlike(BTreeSet<Protocol>, u8),
    /// It asks for one of these names: SNI of TLS and QUIC, Host of HTTP, question of DNS.
    Name(Names),
    /// The rule on fully encrypted traffic flags its first data packet.
    Flagged(Variant),
    /// The JA4 of its hello is one of these.
    Fingerprint(BTreeSet<String>),
    /// Its first data packet is so long, in bytes.
    FirstPacketLen(RangeInclusive<u64>),
    /// The length of its first data packet leaves one of these remainders when it is divided by 16: bit `r` is set for
    /// remainder `r`.
    FirstPacketMod16(u16),
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
    /// DNS questions get an answer ahead of the true one. What else a flow that meets the rule sends passes.
    Forge(Forgery),
    /// They pass, and the flow's server is [probed](crate::prober) and perhaps blocked. The block stands in for what else would
    /// follow: [`Rule::residual`] is not looked at.
    Probe(Box<prober::Config>),
}

/// An answer to a DNS question that is not true.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forgery {
    /// The addresses in use. None: there is no such name.
    pub pool: Vec<IpAddr>,
    /// How many of them are in one answer, drawn anew for each; all if there are no more.
    pub each: usize,
    /// The question does not reach a resolver, so that no true answer comes behind the lie. A censor beside the path cannot
    /// do that.
    pub holds_back: bool,
}

/// Who shares a token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
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
    #[error("a phase from {} until {} never holds", Time(*.from_ns), Time(*.until_ns))]
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
    /// A rate of nothing.
    #[error("a rate of zero lets nothing through: say drop instead")]
    NoRate,
    /// A delay or a block of no time.
    #[error("{what} of zero does nothing: leave it out")]
    NoTime {
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
    /// A reset of datagrams.
    #[error("datagrams know no reset: say drop instead")]
    NoReset,
    /// A forged answer to what is no question.
    #[error("forge-dns answers DNS questions, which are UDP here: it cannot act over TCP")]
    NoQuestion,
    /// Conditions that no flow meets at once.
    #[error("no flow meets '{what}' as well as the other conditions: the rule can never match")]
    Contradiction {
        /// The first that is too much, as a file says it.
        what: &'static str,
    },
    /// A first packet of a length that there is not.
    #[error(
        "no first packet is as long as 'first-packet' and 'first-packet-mod-16' ask: it has 1 to 65515 bytes"
    )]
    NoLength,
    /// A forged answer to what comes from the server.
    #[error("forge-dns answers what clients ask: it cannot act on what comes from the server")]
    NotAsked,
    /// What is no JA4.
    #[error("{got:?} is no JA4: wanted such as \"t13d1516h2_8daaf6152771_b186095e22b6\"")]
    Fingerprint {
        /// What is there.
        got: String,
    },
    /// Every flow meets it.
    #[error(
        "every flow meets it, so that it hits none by mistake: leave 'by-mistake' out, or say which flows meet it"
    )]
    NoMistake,
    /// A block that hits nothing.
    #[error("a residual block of no flow does nothing: leave it out")]
    FollowsNothing,
    /// A prober that could do nothing.
    #[error(transparent)]
    Probe(#[from] prober::ConfigError),
    /// A prober with another block beside its own.
    #[error("a probe has its own block: say 'block' in it instead of 'residual'")]
    TwoBlocks,
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
            judge: None,
            reassembles: false,
            acts_on: ALWAYS,
            acts_by_mistake_on: 0,
            way: Way::Both,
            action: Action::Drop,
            residual: None,
        }
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
            } => return Err(RuleError::NoRate),
            Action::Police { burst_bytes, .. } if burst_bytes < 1_500 => {
                return Err(RuleError::Burst { burst_bytes });
            }
            Action::Delay(0) => return Err(RuleError::NoTime { what: "a delay" }),
            Action::Reset {
                client: false,
                server: false,
            } => return Err(RuleError::NoEnd),
            Action::Probe(_) if self.residual.is_some() => return Err(RuleError::TwoBlocks),
            Action::Probe(ref config) => config.check()?,
            _ => {}
        }
        self.check_sense()?;
        if self.acts_on == 0 && self.acts_by_mistake_on == 0 {
            return Err(RuleError::Never);
        }
        // A program may pass what meets the conditions, and be wrong about it.
        if self.acts_by_mistake_on > 0 && self.all.is_empty() && self.judge.is_none() {
            return Err(RuleError::NoMistake);
        }
        match self.follows() {
            Some(residual) if residual.share == 0 => Err(RuleError::FollowsNothing),
            Some(residual) if residual.for_ns == 0 => Err(RuleError::NoTime {
                what: "a residual block",
            }),
            _ => Ok(()),
        }
    }

    /// Whether it asks how many flows are under way.
    pub(super) fn counts_flows(&self) -> bool {
        // What a program looks at is not known.
        self.judge.is_some() || self.all.iter().any(Condition::counts_flows)
    }

    /// The bucket each way that all its flows share, if it has one.
    pub(super) fn bucket(&self) -> Option<[Policer; 2]> {
        match self.action {
            Action::Police {
                bits_per_second,
                burst_bytes,
                bucket: Bucket::Shared,
            } => Some([(); 2].map(|()| Policer::new(bits_per_second, burst_bytes))),
            _ => None,
        }
    }

    /// How its suspects are probed, if it probes.
    pub fn probe(&self) -> Option<&prober::Config> {
        match &self.action {
            Action::Probe(config) => Some(config),
            _ => None,
        }
    }

    /// A list learned of an address.
    pub fn learn(&mut self, list: &str, host: IpAddr) {
        self.each_set(&mut |set| set.learn(list, host));
    }

    /// How many data packets of a flow's client it looks at one by one.
    pub(super) fn looks_at(&self) -> u8 {
        self.all.iter().map(Condition::looks_at).max().unwrap_or(0)
    }

    /// Calls for every range of ports that a server may be at.
    pub fn each_ports(&mut self, call: &mut impl FnMut(&mut RangeInclusive<u16>)) {
        self.all
            .iter_mut()
            .for_each(|condition| condition.each_ports(call));
    }

    /// Calls for every set of addresses in its conditions.
    pub fn each_set(&mut self, call: &mut impl FnMut(&mut Addresses)) {
        self.all.iter_mut().for_each(|condition| condition.each_set(call));
    }

    /// What hits flows that are not sentenced: what follows, or the block of a prober.
    pub(super) fn follows(&self) -> Option<&Residual> {
        match &self.action {
            Action::Probe(config) => Some(&config.block),
            _ => self.residual.as_ref(),
        }
    }

    /// Whether its answers hang on how this machine rounds.
    pub fn uses_model(&self) -> bool {
        self.judge.as_ref().is_some_and(|judge| judge.0.uses_model())
    }

    pub(super) fn program(&self, seed: u64) -> Option<Box<dyn Program>> {
        self.judge.as_ref().map(|judge| judge.0.start(seed))
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
        own: &mut OwnPolicers,
    ) -> Verdict {
        match &self.action {
            Action::Drop => Verdict::Drop,
            Action::Reset { client, server } => Verdict::Reset {
                client: *client,
                server: *server,
            },
            Action::Delay(ns) => Verdict::Delay(*ns),
            // The caller knows whether it is a question.
            Action::Forge(_) => Verdict::Pass,
            Action::Probe(_) => Verdict::Pass,
            Action::Police {
                bits_per_second,
                burst_bytes,
                bucket,
            } => {
                let buckets = match (bucket, shared) {
                    (Bucket::Shared, Some(buckets)) => buckets,
                    _ => {
                        let own = own.get_or_insert_default();
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

impl Forgery {
    /// The addresses of one answer.
    pub(super) fn answer(&self, dice: &mut Dice) -> Vec<IpAddr> {
        if self.pool.len() <= self.each {
            return self.pool.clone();
        }
        // Neighbours in the pool, from a place that is drawn: no address twice.
        let first = dice.below(self.pool.len() as u64) as usize;
        self.pool
            .iter()
            .cycle()
            .skip(first)
            .take(self.each)
            .copied()
            .collect()
    }
}

impl Condition {
    fn looks_at(&self) -> u8 {
        match self {
            Self::Unlike(_, packets) => *packets,
            Self::Not(condition) => condition.looks_at(),
            Self::All(conditions) | Self::Any(conditions) => {
                conditions.iter().map(Self::looks_at).max().unwrap_or(0)
            }
            _ => 0,
        }
    }

    fn counts_flows(&self) -> bool {
        match self {
            Self::Flows(_) => true,
            Self::Not(condition) => condition.counts_flows(),
            Self::All(conditions) | Self::Any(conditions) => conditions.iter().any(Self::counts_flows),
            _ => false,
        }
    }

    fn each_ports(&mut self, call: &mut impl FnMut(&mut RangeInclusive<u16>)) {
        match self {
            Self::ServerPort(ports) => ports.iter_mut().for_each(call),
            Self::Not(condition) => condition.each_ports(call),
            Self::All(conditions) | Self::Any(conditions) => {
                conditions
                    .iter_mut()
                    .for_each(|condition| condition.each_ports(call));
            }
            _ => {}
        }
    }

    fn each_set(&mut self, call: &mut impl FnMut(&mut Addresses)) {
        match self {
            Self::Client(set) | Self::Server(set) => call(set),
            Self::Not(condition) => condition.each_set(call),
            Self::All(conditions) | Self::Any(conditions) => {
                conditions
                    .iter_mut()
                    .for_each(|condition| condition.each_set(call));
            }
            _ => {}
        }
    }

    fn check(&self) -> Result<(), RuleError> {
        let what = match self {
            Self::Client(addresses) | Self::Server(addresses) if addresses.is_empty() => "address",
            Self::ServerPort(ports) if ports.iter().all(RangeInclusive::is_empty) => "port",
            Self::Unlike(protocols, _) if protocols.is_empty() => "protocol",
            Self::Name(names) if names.is_empty() => "name",
            Self::Fingerprint(known) if known.is_empty() => "fingerprint",
            Self::Fingerprint(known) => {
                let wrong = known.iter().find(|text| !is_ja4(text));
                return wrong.map_or(Ok(()), |got| Err(RuleError::Fingerprint { got: got.clone() }));
            }
            Self::FirstPacketLen(lens) if lens.is_empty() => "length",
            Self::FirstPacketMod16(0) => "remainder",
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
