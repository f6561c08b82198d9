//! A censor on the path: rules over packets and flows, with what it remembers of both.
//!
//! [`Engine::decide`] is given every packet that crosses, in both directions, and says what becomes of it. Rules stand in
//! order; the first that does something to a packet decides. A rule has conditions ([`rule`]); a flow that meets them all is
//! sentenced, and the action holds for its packets from this one on. A residual block ([`residual`]) outlives the flow.
//!
//! Everything that is kept is bounded, and what happens at the bound is said. All chances follow from the seed and the
//! flow, so the same packets get the same verdicts.

pub mod addresses;
mod case;
pub mod foresee;
mod memory;
pub mod names;
pub mod program;
pub mod residual;
pub mod rule;
mod sense;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use phantom_path::dice::Dice;
use phantom_path::police::Policer;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::classify::{Protocol, Transport};
use crate::flow::{Flow, FlowConfig, FlowTable};
use crate::packet::Packet;
use crate::prober::Suspect;
use case::Case;
use foresee::{First, Prospect};
use memory::{Memory, OwnPolicers};
use program::{Answer, Program};
use residual::Residuals;
use rule::{ALWAYS, Action, Rule};

/// Which way a packet crosses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
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
    /// A DNS question gets an answer from here.
    Forge {
        /// With these addresses; none: there is no such name.
        addresses: Vec<IpAddr>,
        /// Whether the question goes on as well, and the true answer comes behind the lie. Otherwise it is lost.
        truth_follows: bool,
    },
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
    /// Suspects that wait to be taken; beyond, further ones are lost. Default 1,024.
    pub suspects_max: usize,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            seed: 0,
            flows: FlowConfig::default(),
            residuals_max: 1 << 20,
            suspects_max: 1_024,
        }
    }
}

/// What a rule did. A flow that is lost with its first packet is not remembered, and counts anew with each try.
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
    /// Whether a rule asks for [`Engine::pairs`].
    counts_pairs: bool,
    /// So many data packets of a flow's client are looked at one by one.
    looks_at: u8,
    /// For each rule, a bit: it looks at first bytes.
    reads_bytes: u64,
    residuals: Residuals,
    suspects: Vec<Suspect>,
    suspects_lost: u64,
    /// Hosts of its own.
    own: BTreeSet<IpAddr>,
    /// One bucket each way for rules that police all their flows together.
    shared: Vec<Option<[Policer; 2]>>,
    /// Of rules that have one.
    programs: Vec<Option<Box<dyn Program>>>,
}

/// Rules at most: a bit each.
pub const RULES_MAX: usize = 64;

impl Engine {
    /// A censor with these rules, at most [`RULES_MAX`]; more are not looked at.
    pub fn new(config: EngineConfig, rules: Vec<Rule>) -> Self {
        let mut engine = Self {
            counts: Vec::new(),
            shared: Vec::new(),
            programs: Vec::new(),
            flows: FlowTable::new(config.flows),
            memory: Vec::new(),
            pairs: BTreeMap::new(),
            counts_pairs: false,
            looks_at: 0,
            reads_bytes: 0,
            residuals: Residuals::new(config.seed, config.residuals_max),
            suspects: Vec::new(),
            suspects_lost: 0,
            own: BTreeSet::new(),
            config,
            rules: Vec::new(),
        };
        for rule in rules {
            engine.push(rule);
        }
        engine
    }

    /// Adds a rule behind all others; without effect if there are [`RULES_MAX`]. Flows that are under way are new to it.
    pub fn push(&mut self, rule: Rule) {
        if self.rules.len() < RULES_MAX {
            self.counts_pairs |= rule.counts_flows();
            self.looks_at = self.looks_at.max(rule.looks_at());
            self.reads_bytes |= u64::from(rule.reads_bytes()) << self.rules.len();
            self.counts.push(RuleCounts::default());
            self.shared.push(rule.bucket());
            self.programs.push(rule.program(self.config.seed));
            self.rules.push(rule);
        }
    }

    /// Puts a rule in the place of another, whose counts go on; without effect if there is none. Flows that are under way are
    /// new to it.
    pub fn replace(&mut self, place: usize, rule: Rule) {
        let Some(standing) = self.rules.get_mut(place) else {
            return;
        };
        self.counts_pairs |= rule.counts_flows();
        self.looks_at = self.looks_at.max(rule.looks_at());
        self.reads_bytes &= !(1 << place);
        self.reads_bytes |= u64::from(rule.reads_bytes()) << place;
        self.shared[place] = rule.bucket();
        self.programs[place] = rule.program(self.config.seed);
        *standing = rule;
        self.residuals.lift(place);
        for memory in &mut self.memory {
            memory.drawn &= !(1 << place);
            memory.sentenced &= !(1 << place);
            memory.chosen &= !(1 << place);
            if let Some(policers) = &mut memory.policers {
                policers.retain(|(of, _)| *of != place);
            }
        }
    }

    /// A list learned of an address: the rules that follow it are about that address from now on.
    pub fn learn(&mut self, list: &str, host: IpAddr) {
        self.rules.iter_mut().for_each(|rule| rule.learn(list, host));
    }

    /// The rules.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// What each rule did.
    pub fn counts(&self) -> &[RuleCounts] {
        &self.counts
    }

    /// The program of the rule at this place, for what it failed at and said; `None` if it has none.
    pub fn program(&self, place: usize) -> Option<&dyn Program> {
        self.programs.get(place)?.as_deref()
    }

    /// Whether a rule asks a model, so that the same packets may get other verdicts on another machine.
    pub fn uses_model(&self) -> bool {
        self.rules.iter().any(Rule::uses_model)
    }

    /// Flows that were forgotten to make room, and residual blocks that were not made for want of it.
    pub fn overflowed(&self) -> (u64, u64) {
        (self.flows.forgotten(), self.residuals.refused())
    }

    /// Suspects that could not wait, since nobody took the others.
    pub const fn suspects_lost(&self) -> u64 {
        self.suspects_lost
    }

    /// Whether there are suspects to take.
    pub const fn has_suspects(&self) -> bool {
        !self.suspects.is_empty()
    }

    /// Flows whose servers are to be probed, since the last call.
    pub fn take_suspects(&mut self) -> Vec<Suspect> {
        std::mem::take(&mut self.suspects)
    }

    /// These are hosts of the censor's own: what they send, and what is sent to them, always passes and is never suspect.
    pub fn spare(&mut self, own: impl IntoIterator<Item = IpAddr>) {
        self.own.extend(own);
    }

    /// A rule's prober found this server: from `at_ns` on its block holds. No effect on a rule that does not probe.
    pub fn block(&mut self, rule: usize, server: SocketAddr, at_ns: u64) {
        if let Some(config) = self.rules.get(rule).and_then(Rule::probe) {
            self.residuals.block_server(rule, &config.block, server, at_ns);
        }
    }

    /// A packet crosses at `at_ns`.
    pub fn decide(&mut self, at_ns: u64, direction: Direction, packet: &Packet<'_>) -> Decision {
        if self.own.contains(&packet.source.ip()) || self.own.contains(&packet.destination.ip()) {
            return Decision::PASS;
        }
        let slot = self.take_in(at_ns, direction, packet);
        let decision = self.judge(slot, at_ns, direction, packet);
        if !self.is_nothing_to_remember(slot, &decision) {
            self.settle(slot);
        } else if let Some(flow) = self.flows.take_out(slot)
            && self.counts_pairs
            && !flow.is_closed()
        {
            leave(&mut self.pairs, &flow);
        }
        decision
    }

    /// Whether a flow was lost with its first packet for what will be so of the next: then there is no flow, and those who try
    /// and try again at a closed border fill no table.
    fn is_nothing_to_remember(&self, slot: u32, decision: &Decision) -> bool {
        let (Some(flow), Some(memory), Some(place)) = (
            self.flows.flow(slot),
            self.memory.get(slot as usize),
            decision.rule,
        ) else {
            return false;
        };
        let rule = &self.rules[place];
        flow.up.packets + flow.down.packets == 1
            && decision.verdict == Verdict::Drop
            && rule.action == Action::Drop
            && rule.acts_on >= ALWAYS
            && rule.residual.is_none()
            && self.programs.iter().all(Option::is_none)
            // No other rule has drawn a chance for it.
            && memory.chances & !(1 << place) == 0
    }

    /// Adds the packet to its flow, and says where that is kept.
    fn take_in(&mut self, at_ns: u64, direction: Direction, packet: &Packet<'_>) -> u32 {
        let (pairs, counts_pairs) = (&mut self.pairs, self.counts_pairs);
        let mut never = 0;
        let rules = &self.rules;
        let begins = |flow: &Flow| {
            let outbound = (direction == Direction::Outbound) == (packet.source == flow.client());
            let (settled, kept) = foreseen(rules, &prospect(flow, outbound));
            never = settled;
            kept
        };
        let programs = &mut self.programs;
        let slot = self.flows.add_keeping(at_ns, packet, begins, |over| {
            for program in programs.iter_mut().flatten() {
                program.forget(over.number);
            }
            // One that was closed was taken out at that packet.
            if counts_pairs && !over.is_closed() {
                leave(pairs, &over);
            }
        });
        let Some(flow) = self.flows.flow(slot) else {
            return slot;
        };
        let from_client = packet.source == flow.client();
        let place = slot as usize;
        if self.memory.len() <= place {
            self.memory.resize_with(place + 1, Memory::default);
        }
        let memory = &mut self.memory[place];
        if flow.up.packets + flow.down.packets == 1 {
            if self.counts_pairs {
                *self.pairs.entry((flow.client().ip(), flow.server())).or_default() += 1;
            }
            *memory = Memory::new((direction == Direction::Outbound) == from_client, never);
        }
        if flow.is_closed() && !memory.closed {
            memory.closed = true;
            if self.counts_pairs {
                leave(&mut self.pairs, flow);
            }
        }
        if from_client && packet.payload_len > 0 {
            memory.look_at_packet(self.looks_at, packet, flow.transport);
        }
        let asks_again = from_client && flow.transport == Transport::Udp && flow.up.packets > 1;
        if asks_again && memory.asks_dns() && packet.payload_len > 0 {
            // A resolver asks from one port again and again: each question is judged by itself.
            memory.look_at_question(packet);
            memory.drawn &= !self.reads_bytes;
            memory.sentenced &= !self.reads_bytes;
            memory.chosen &= !self.reads_bytes;
        } else {
            memory.look(flow);
        }
        slot
    }

    /// What becomes of a packet of the flow that is kept there.
    fn judge(&mut self, slot: u32, at_ns: u64, direction: Direction, packet: &Packet<'_>) -> Decision {
        let (Some(flow), Some(memory)) = (self.flows.flow(slot), self.memory.get_mut(slot as usize)) else {
            return Decision::PASS;
        };
        let from_client = packet.source == flow.client();
        let flows_of_pair = match self.counts_pairs {
            true => self.pairs.get(&(flow.client().ip(), flow.server())).copied(),
            false => None,
        }
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
            // What is to be replayed must be known; datagrams are not.
            let waits =
                rule.probe().is_some() && (flow.up.first().is_empty() || flow.transport != Transport::Tcp);
            let asked = (fresh && !waits) || memory.chosen & bit != 0;
            let met = asked.then(|| case.meets(rule, memory)).flatten();
            let answer = match (met, &mut self.programs[place]) {
                (Some(true), Some(program)) => program.judge(&case.seen(at_ns, direction, memory)),
                (Some(_), _) if fresh => Answer::Sentence,
                _ => Answer::Pass,
            };
            if fresh && answer != Answer::Pass {
                let met = met == Some(true);
                memory.drawn |= bit;
                memory.chances |= bit;
                counts.met += u64::from(met);
                let mut dice = Dice::new(self.config.seed ^ flow.number.rotate_left(32) ^ place as u64);
                let share = if met {
                    rule.acts_on
                } else {
                    rule.acts_by_mistake_on
                };
                if dice.chance(share) {
                    memory.chosen |= bit;
                }
            }
            if answer == Answer::Sentence && memory.chosen & bit != 0 {
                memory.chosen &= !bit;
                memory.sentenced |= bit;
                counts.sentenced += 1;
                if rule.probe().is_some() {
                    if self.suspects.len() < self.config.suspects_max {
                        self.suspects.push(suspect(place, at_ns, flow));
                    } else {
                        self.suspects_lost += 1;
                    }
                } else if let Some(residual) = &rule.residual {
                    self.residuals.block(place, residual, flow, at_ns);
                }
            }
            let sentenced = memory.sentenced & bit != 0;
            let probes = rule.probe().is_some();
            let verdict = if sentenced && let Action::Forge(forgery) = &rule.action {
                if case.is_question(memory) {
                    let mut dice = Dice::new(
                        self.config.seed
                            ^ (flow.number << 16 | flow.up.packets).rotate_left(24)
                            ^ place as u64,
                    );
                    Verdict::Forge {
                        addresses: forgery.answer(&mut dice),
                        truth_follows: !forgery.holds_back,
                    }
                } else {
                    Verdict::Pass
                }
            } else if sentenced && !probes && rule.way.has(from_client) {
                let bucket = &mut self.shared[place];
                rule.act(place, at_ns, packet, from_client, bucket, &mut memory.policers)
            } else if let Answer::Once(verdict) = answer
                && memory.chosen & bit != 0
            {
                verdict
            } else if (!sentenced || probes)
                && let Some(residual) = rule.follows()
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

impl Engine {
    /// Lets go of what was kept of a flow to be read, once it is known what it is and no rule will ask again. That is known of
    /// UDP after the first datagram, but for QUIC, whose hello may take several.
    fn settle(&mut self, slot: u32) {
        let (Some(flow), Some(memory)) = (self.flows.flow(slot), self.memory.get_mut(slot as usize)) else {
            return;
        };
        let Some(labels) = memory.labels.as_deref().filter(|_| {
            flow.transport == Transport::Udp && flow.up.packets == 1 && !flow.up.first().is_empty()
        }) else {
            return;
        };
        match labels.protocol {
            Some(Protocol::Quic) => {}
            // Its questions are looked at one by one.
            Some(Protocol::Dns) => self.flows.let_go(slot),
            _ => {
                let prospect = Prospect {
                    first: Some(First {
                        labels,
                        fet: flow.measured(),
                    }),
                    ..prospect(flow, memory.outbound)
                };
                let (never, read) = foreseen(&self.rules, &prospect);
                memory.drawn |= never & !memory.sentenced;
                if !read {
                    memory.labels = None;
                    self.flows.let_go(slot);
                }
            }
        }
    }
}

/// What is known of a flow without its bytes.
fn prospect(flow: &Flow, outbound: bool) -> Prospect<'static> {
    Prospect {
        opened: if outbound {
            Direction::Outbound
        } else {
            Direction::Inbound
        },
        transport: flow.transport,
        client: Some(flow.client()),
        server: Some(flow.server()),
        first: None,
        at_once: false,
    }
}

/// The rules that a flow will never meet, a bit each, and whether any other reads its first bytes.
fn foreseen(rules: &[Rule], flow: &Prospect<'_>) -> (u64, bool) {
    let mut never = 0;
    let mut read = false;
    for (place, rule) in rules.iter().enumerate() {
        if rule.acts_by_mistake_on == 0 && rule.foresees(flow) == Some(false) {
            never |= 1 << place;
        } else {
            read |= rule.reads_bytes();
        }
    }
    (never, read)
}

/// What a prober is given of a flow.
fn suspect(rule: usize, at_ns: u64, flow: &Flow) -> Suspect {
    Suspect {
        rule,
        at_ns,
        server: flow.server(),
        first: flow.up.first_packet().to_vec(),
    }
}

/// A flow is no longer under way.
fn leave(pairs: &mut BTreeMap<(IpAddr, SocketAddr), u32>, flow: &Flow) {
    let key = (flow.client().ip(), flow.server());
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

impl RuleCounts {
    fn count(&mut self, verdict: &Verdict) {
        match verdict {
            Verdict::Pass => {}
            Verdict::Drop => self.dropped += 1,
            Verdict::Reset { .. } => self.reset += 1,
            Verdict::Delay(_) => self.delayed += 1,
            Verdict::Forge { .. } => self.forged += 1,
        }
    }
}

#[cfg(test)]
mod tests;
