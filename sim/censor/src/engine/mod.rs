//! A censor on the path: rules over packets and flows, with what it remembers of both.
//!
//! [`Engine::decide`] is given every packet that crosses, in both directions, and says what becomes of it. Rules stand in
//! order; the first that does something to a packet decides. A rule has conditions ([`rule`]); a flow that meets them all is
//! sentenced, and the action holds for its packets from this one on. A residual block ([`residual`]) outlives the flow.
//!
//! Everything that is kept is bounded, and what happens at the bound is said. All chances follow from the seed and the
//! flow, so the same packets get the same verdicts.

pub mod addresses;
pub mod names;
pub mod residual;
pub mod rule;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use phantom_path::dice::Dice;
use phantom_path::police::Policer;
use serde::{Deserialize, Serialize};

use crate::classify::Labels;
use crate::flow::{Flow, FlowConfig, FlowTable};
use crate::packet::Packet;
use residual::Residuals;
use rule::{Action, Bucket, Condition, Rule, Way};

/// Which way a packet crosses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// From inside to outside.
    Outbound,
    /// From outside to inside.
    Inbound,
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Pass,
    /// It is lost without a sign.
    Drop,
    /// It is lost, and these ends of its connection get a reset.
    Reset {
        /// The end that opened it.
        client: bool,
        /// The other.
        server: bool,
    },
    /// It goes on after so many nanoseconds.
    Delay(u64),
    /// It goes on, and an answer with these addresses is sent ahead of the true one; none: there is no such name.
    Forge(Vec<IpAddr>),
}

/// A verdict, and whose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What becomes of the packet.
    pub verdict: Verdict,
    /// The rule that decided, by its place; `None`: none did anything.
    pub rule: Option<usize>,
}

/// Bounds and habits of a censor.
#[derive(Clone, Copy, Debug)]
pub struct EngineConfig {
    /// All chances follow from it.
    pub seed: u64,
    /// What is kept of flows.
    pub flows: FlowConfig,
    /// Residual blocks at once; beyond, new ones are not made. Default 1,048,576.
    pub residuals_max: usize,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            seed: 0,
            flows: FlowConfig::default(),
            residuals_max: 1 << 20,
        }
    }
}

/// What a rule did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RuleCounts {
    /// Flows that met its conditions, whether or not it acted on them.
    pub met: u64,
    /// Flows that it sentenced.
    pub sentenced: u64,
    /// Packets that it dropped; those that a policer or a residual block dropped as well.
    pub dropped: u64,
    /// Packets answered with a reset.
    pub reset: u64,
    /// Packets delayed.
    pub delayed: u64,
    /// Answers forged.
    pub forged: u64,
    /// Packets of other flows that a residual block hit.
    pub residual: u64,
}

/// A censor at work.
pub struct Engine {
    config: EngineConfig,
    rules: Vec<Rule>,
    counts: Vec<RuleCounts>,
    flows: FlowTable,
    /// By the slot of the flow table.
    memory: Vec<Memory>,
    /// Flows under way between a client's address and a server.
    pairs: BTreeMap<(IpAddr, SocketAddr), u32>,
    residuals: Residuals,
    /// One bucket each way for rules that police all their flows together.
    shared: Vec<Option<[Policer; 2]>>,
}

/// What is kept of a flow beside its first bytes.
#[derive(Default)]
struct Memory {
    /// Of which flow: slots are used again.
    number: u64,
    outbound: bool,
    /// It no longer counts among the flows of its pair.
    closed: bool,
    /// Made again when more of the first bytes are known.
    labels: Option<Box<Labels>>,
    labelled_len: usize,
    /// For each rule, a bit: its conditions were met and the chance was drawn; the flow is sentenced.
    drawn: u64,
    sentenced: u64,
    policers: Vec<(usize, [Policer; 2])>,
}

/// Rules at most: a bit each.
pub const RULES_MAX: usize = 64;

impl Engine {
    /// A censor with these rules, at most [`RULES_MAX`]; more are not looked at.
    pub fn new(config: EngineConfig, rules: Vec<Rule>) -> Self {
        let mut rules = rules;
        rules.truncate(RULES_MAX);
        let shared = |rule: &Rule| match rule.action {
            Action::Police {
                bits_per_second,
                burst_bytes,
                bucket: Bucket::Shared,
            } => Some([(); 2].map(|()| Policer::new(bits_per_second, burst_bytes))),
            _ => None,
        };
        Self {
            counts: vec![RuleCounts::default(); rules.len()],
            shared: rules.iter().map(shared).collect(),
            flows: FlowTable::new(config.flows),
            memory: Vec::new(),
            pairs: BTreeMap::new(),
            residuals: Residuals::new(config.residuals_max),
            config,
            rules,
        }
    }

    /// The rules, to change their lists of addresses and names.
    pub fn rules_mut(&mut self) -> &mut [Rule] {
        &mut self.rules
    }

    /// The rules.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// What each rule did.
    pub fn counts(&self) -> &[RuleCounts] {
        &self.counts
    }

    /// Flows that were forgotten to make room, and residual blocks that were not made for want of it.
    pub fn overflowed(&self) -> (u64, u64) {
        (self.flows.forgotten(), self.residuals.refused())
    }

    /// A packet crosses at `at_ns`.
    pub fn decide(&mut self, at_ns: u64, direction: Direction, packet: &Packet<'_>) -> Decision {
        let pairs = &mut self.pairs;
        let slot = self.flows.add(at_ns, packet, |over| {
            // One that was closed was taken out at that packet.
            if !over.is_closed() {
                leave(pairs, &over);
            }
        });
        let Some(flow) = self.flows.flow(slot) else {
            return Decision::PASS;
        };
        let from_client = packet.source == flow.client;
        if self.memory.len() <= slot {
            self.memory.resize_with(slot + 1, Memory::default);
        }
        let memory = &mut self.memory[slot];
        if flow.up.packets + flow.down.packets == 1 {
            *self.pairs.entry((flow.client.ip(), flow.server)).or_default() += 1;
            *memory = Memory {
                number: flow.number,
                outbound: (direction == Direction::Outbound) == from_client,
                ..Memory::default()
            };
        }
        if flow.is_closed() && !memory.closed {
            memory.closed = true;
            leave(&mut self.pairs, flow);
        }
        memory.look(flow);
        let flows_of_pair = self
            .pairs
            .get(&(flow.client.ip(), flow.server))
            .copied()
            .unwrap_or(0);
        let case = Case {
            flow,
            packet,
            from_client,
            flows_of_pair,
        };
        for (place, rule) in self.rules.iter_mut().enumerate() {
            if !rule.holds_at(at_ns) {
                continue;
            }
            let counts = &mut self.counts[place];
            let bit = 1 << place;
            let fresh = memory.drawn & bit == 0;
            if fresh && let Some(met) = case.meets(rule, memory) {
                memory.drawn |= bit;
                counts.met += u64::from(met);
                let mut dice = Dice::new(self.config.seed ^ memory.number.rotate_left(32) ^ place as u64);
                let share = if met {
                    rule.acts_on
                } else {
                    rule.acts_by_mistake_on
                };
                if dice.chance(share) {
                    memory.sentenced |= bit;
                    counts.sentenced += 1;
                    if let Some(residual) = &rule.residual {
                        self.residuals.block(place, residual, flow, at_ns);
                    }
                }
            }
            let sentenced = memory.sentenced & bit != 0;
            let verdict = if sentenced && rule.way.has(from_client) {
                let bucket = &mut self.shared[place];
                rule.act(place, at_ns, packet, from_client, bucket, &mut memory.policers)
            } else if !sentenced
                && let Some(residual) = &rule.residual
                && residual.way.has(from_client)
                && self.residuals.holds(place, residual, flow, at_ns)
            {
                counts.residual += 1;
                residual.verdict()
            } else {
                Verdict::Pass
            };
            if sentenced && let Some(residual) = &rule.residual {
                self.residuals.renew(place, residual, flow, at_ns);
            }
            if verdict != Verdict::Pass {
                counts.count(&verdict);
                let rule = Some(place);
                return Decision { verdict, rule };
            }
        }
        Decision::PASS
    }
}

/// A flow is no longer under way.
fn leave(pairs: &mut BTreeMap<(IpAddr, SocketAddr), u32>, flow: &Flow) {
    let key = (flow.client.ip(), flow.server);
    if let Some(flows) = pairs.get_mut(&key) {
        *flows -= 1;
        if *flows == 0 {
            pairs.remove(&key);
        }
    }
}

impl Decision {
    const PASS: Self = Self {
        verdict: Verdict::Pass,
        rule: None,
    };
}

impl Memory {
    /// Looks at the first bytes again if there are more of them.
    fn look(&mut self, flow: &Flow) {
        let known = flow.up.first.len();
        if self.labels.is_none() || known > self.labelled_len {
            self.labelled_len = known;
            self.labels = (known > 0).then(|| Box::new(flow.labels()));
        }
    }
}

impl RuleCounts {
    fn count(&mut self, verdict: &Verdict) {
        match verdict {
            Verdict::Pass => {}
            Verdict::Drop => self.dropped += 1,
            Verdict::Reset { .. } => self.reset += 1,
            Verdict::Delay(_) => self.delayed += 1,
            Verdict::Forge(_) => self.forged += 1,
        }
    }
}

/// A packet with its flow, as conditions see it.
struct Case<'a> {
    flow: &'a Flow,
    packet: &'a Packet<'a>,
    from_client: bool,
    flows_of_pair: u32,
}

impl Case<'_> {
    /// Whether the flow meets a rule; `Some(false)`: it does not, and the rule may hit it by mistake; `None`: it is not known
    /// yet, or it does not and never by mistake.
    fn meets(&self, rule: &Rule, memory: &Memory) -> Option<bool> {
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
        let side = |way: Way, of: fn(&crate::flow::Side) -> u64| match way {
            Way::Both => of(&flow.up) + of(&flow.down),
            Way::FromClient => of(&flow.up),
            Way::FromServer => of(&flow.down),
        };
        match condition {
            Condition::Opened(direction) => (*direction == Direction::Outbound) == memory.outbound,
            Condition::Transport(transport) => flow.transport == *transport,
            Condition::Client(addresses) => addresses.has(flow.client),
            Condition::Server(addresses) => addresses.has(flow.server),
            Condition::ServerPort(ports) => ports.iter().any(|range| range.contains(&flow.server.port())),
            Condition::SourcePortAbove => flow.client.port() > flow.server.port(),
            Condition::Protocol(protocol) => labels.is_some_and(|labels| labels.protocol == Some(*protocol)),
            Condition::Name(names) => labels.is_some_and(|labels| {
                (rule.reassembles || !labels.split)
                    && labels.name.as_ref().is_some_and(|name| names.has(name))
            }),
            Condition::Flagged(variant) => flow.fet.is_some_and(|fet| fet.verdict(*variant).is_flagged()),
            Condition::Fingerprint(known) => {
                labels.is_some_and(|labels| labels.ja4.as_ref().is_some_and(|ja4| known.contains(ja4)))
            }
            Condition::FirstPacketLen(lens) => {
                labels.is_some_and(|labels| lens.contains(&labels.first_packet_len))
            }
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

#[cfg(test)]
mod tests;
