//! What a flow must be like to meet a rule, as a file says it.

use phantom_placed::{Placed, Problem};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::is_default;
use super::lists::Lists;
use super::units::{Address, Entropy, Pattern, Ports, Size};
use crate::classify::fet::Variant;
use crate::classify::{Protocol, Transport};
use crate::engine::Direction;
use crate::engine::rule::{Condition, PACKETS_MAX, Way};

/// What a flow must be like: all that is said here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Match {
    /// Who opened it: from inside (`outbound`) or from outside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opened: Option<Direction>,
    /// What carries it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transport: Option<Transport>,
    /// The client is one of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Vec<Placed<Address>>>,
    /// The server is one of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Vec<Placed<Address>>>,
    /// The server's port is one of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<Vec<Ports>>,
    /// Whether the client's port is greater than the server's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_port_above: Option<bool>,
    /// The client's first bytes are of one of these protocols.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocols: Option<Vec<Protocol>>,
    /// Of its client's first data packets none begins as one of these protocols.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unlike: Option<Unlike>,
    /// It asks for one of these names: SNI of TLS and QUIC, Host of HTTP, question of DNS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub names: Option<Vec<Placed<Pattern>>>,
    /// The rule on fully encrypted traffic flags it, in this text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flagged: Option<Variant>,
    /// The JA4 of its hello is one of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprints: Option<Vec<String>>,
    /// Its first data packet is so long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_packet: Option<Lengths>,
    /// The length of its first data packet leaves one of these remainders when it is divided by 16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_packet_mod_16: Option<Vec<Remainder>>,
    /// Its first data packet has at least so much entropy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entropy_min: Option<Entropy>,
    /// More packets than this were seen of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packets: Option<Packets>,
    /// More payload than this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<Bytes>,
    /// More flows than this are under way between its client's address and its server, itself included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flows: Option<Flows>,
    /// It is not like this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not: Option<Box<Match>>,
    /// It is like one of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub any: Option<Vec<Match>>,
}

/// Protocols that none of a client's first data packets begins as, each looked at by itself: nothing is put together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Unlike {
    /// Which.
    pub protocols: Vec<Protocol>,
    /// So many packets are looked at, and the last of them meets the condition. Default: 1.
    #[serde(default, skip_serializing_if = "is_default")]
    pub packets: FirstPackets,
}

/// How many of a client's first data packets are looked at, 1 to [`PACKETS_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "u8", into = "u8")]
pub struct FirstPackets(u8);

impl Default for FirstPackets {
    fn default() -> Self {
        Self(1)
    }
}

impl TryFrom<u8> for FirstPackets {
    type Error = String;

    fn try_from(number: u8) -> Result<Self, String> {
        match number {
            1..=PACKETS_MAX => Ok(Self(number)),
            _ => Err(format!("wanted 1 to {PACKETS_MAX} packets, got {number}")),
        }
    }
}

impl From<FirstPackets> for u8 {
    fn from(packets: FirstPackets) -> Self {
        packets.0
    }
}

/// Lengths from the least to the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Lengths {
    /// The least.
    pub min: Size,
    /// The most.
    pub max: Size,
}

/// What a division by 16 leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "u8", into = "u8")]
pub struct Remainder(u8);

impl TryFrom<u8> for Remainder {
    type Error = String;

    fn try_from(number: u8) -> Result<Self, String> {
        match number {
            0..16 => Ok(Self(number)),
            _ => Err(format!("wanted a remainder from 0 to 15, got {number}")),
        }
    }
}

impl From<Remainder> for u8 {
    fn from(remainder: Remainder) -> Self {
        remainder.0
    }
}

/// A count of packets that is exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Packets {
    /// The first packet beyond it meets the condition.
    pub over: u64,
    /// Which are counted. Default: both ways together.
    #[serde(default, skip_serializing_if = "is_default")]
    pub way: Way,
}

/// A count of payload bytes that is exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Bytes {
    /// The first byte beyond it meets the condition.
    pub over: Size,
    /// Which are counted. Default: both ways together.
    #[serde(default, skip_serializing_if = "is_default")]
    pub way: Way,
}

/// A count of flows that is exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Flows {
    /// The first flow beyond it meets the condition.
    pub over: u32,
}

impl Match {
    /// Lists that are not known, each at its place.
    pub(super) fn unknown_lists(&self, lists: &Lists) -> Vec<Problem> {
        let addresses = self.from.iter().chain(&self.to).flatten();
        let addresses = addresses.filter_map(|text| match &text.value {
            Address::List(name) => Some((text.at, name.as_str())),
            _ => None,
        });
        let names = self.names.iter().flatten();
        let names = names.filter_map(|pattern| Some((pattern.at, pattern.list()?)));
        let own = addresses
            .chain(names)
            .filter_map(|(at, name)| Some(lists.unknown(name)?.or_at(at)));
        let inner = self.not.iter().map(|not| &**not).chain(self.any.iter().flatten());
        own.chain(inner.flat_map(|inner| inner.unknown_lists(lists)))
            .collect()
    }

    pub(super) fn conditions(&self, lists: &Lists) -> Vec<Condition> {
        let addresses = |texts: &Vec<Placed<Address>>| lists.addresses(texts.iter().map(|text| &text.value));
        let mut all = Vec::new();
        all.extend(self.opened.map(Condition::Opened));
        all.extend(self.transport.map(Condition::Transport));
        all.extend(self.from.as_ref().map(addresses).map(Condition::Client));
        all.extend(self.to.as_ref().map(addresses).map(Condition::Server));
        all.extend(self.ports.as_ref().map(|ports| {
            Condition::ServerPort(ports.iter().map(|ports| ports.first..=ports.last).collect())
        }));
        all.extend(self.source_port_above.map(|above| match above {
            true => Condition::SourcePortAbove,
            false => Condition::Not(Box::new(Condition::SourcePortAbove)),
        }));
        all.extend(
            self.protocols.as_ref().map(|protocols| {
                Condition::Any(protocols.iter().copied().map(Condition::Protocol).collect())
            }),
        );
        all.extend(
            self.unlike.as_ref().map(|unlike| {
                Condition::Unlike(unlike.protocols.iter().copied().collect(), unlike.packets.0)
            }),
        );
        all.extend(
            self.names
                .as_ref()
                .map(|names| Condition::Name(lists.names(names.iter().map(|pattern| &pattern.value)))),
        );
        all.extend(self.flagged.map(Condition::Flagged));
        all.extend(
            self.fingerprints
                .as_ref()
                .map(|known| Condition::Fingerprint(known.iter().cloned().collect())),
        );
        all.extend(
            self.first_packet
                .map(|lengths| Condition::FirstPacketLen(lengths.min.0..=lengths.max.0)),
        );
        all.extend(self.first_packet_mod_16.as_ref().map(|remainders| {
            Condition::FirstPacketMod16(
                remainders
                    .iter()
                    .fold(0, |bits, remainder| bits | 1 << remainder.0),
            )
        }));
        all.extend(self.entropy_min.map(|entropy| Condition::EntropyMin(entropy.0)));
        all.extend(
            self.packets
                .map(|packets| Condition::Packets(packets.way, packets.over)),
        );
        all.extend(self.bytes.map(|bytes| Condition::Bytes(bytes.way, bytes.over.0)));
        all.extend(self.flows.map(|flows| Condition::Flows(flows.over)));
        all.extend(
            self.not
                .as_ref()
                .map(|not| Condition::Not(Box::new(not.condition(lists)))),
        );
        all.extend(
            self.any
                .as_ref()
                .map(|any| Condition::Any(any.iter().map(|one| one.condition(lists)).collect())),
        );
        all
    }

    /// All of it as one condition.
    pub(super) fn condition(&self, lists: &Lists) -> Condition {
        let mut all = self.conditions(lists);
        match (all.pop(), all.is_empty()) {
            (Some(one), true) => one,
            (last, _) => {
                all.extend(last);
                Condition::All(all)
            }
        }
    }
}
