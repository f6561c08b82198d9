//! The censor at the border of a simulated world: the engine of `phantom_censor`, which judges captures and real packets with
//! the same rules, and what a world adds to it: rules by name that come and go, lists that learn while it works, counters.

pub mod first;
pub mod plain;
pub mod prober;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use phantom_censor::engine::rule::Rule;
use phantom_censor::engine::{self, Engine, EngineConfig};
use phantom_core::runtime::rules::Counts;
use phantom_core::units::Instant;

use self::first::FirstPackets;
use self::prober::Office;
use crate::swarm::border::{Kind, Middlebox, Packet, Protocol, Verdict};

/// An engine at the border.
pub struct Censor {
    engine: Engine,
    pending: BTreeMap<(Instant, u64), (String, IpAddr)>,
    learned: u64,
    acted: Vec<Acted>,
    stalled: BTreeSet<u64>,
    /// Where suspects go, and blocks come from, if a prober works for it.
    office: Option<Office>,
    /// Counted beside it, for whoever asks.
    first: FirstPackets,
}

/// What a rule did so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Acted {
    /// Packets dropped.
    pub dropped: u64,
    /// Packets answered with a reset.
    pub reset: u64,
    /// DNS answers forged.
    pub forged: u64,
    /// Packets delayed.
    pub delayed: u64,
    /// The same as other back ends count it.
    counts: Counts,
}

/// The most flows that are remembered as stalled, for counting only.
const STALLED_MAX: usize = 1 << 16;

impl Default for Censor {
    fn default() -> Self {
        Self::new(Engine::new(EngineConfig::default(), Vec::new()))
    }
}

impl std::fmt::Debug for Censor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let rules = self.engine.rules().iter();
        let names: Vec<&str> = rules.map(|rule| rule.name.as_str()).collect();
        f.debug_struct("Censor")
            .field("rules", &names)
            .finish_non_exhaustive()
    }
}

impl Censor {
    /// At the border stands this engine.
    pub fn new(engine: Engine) -> Self {
        Self {
            acted: vec![Acted::default(); engine.rules().len()],
            engine,
            pending: BTreeMap::new(),
            learned: 0,
            stalled: BTreeSet::new(),
            office: None,
            first: FirstPackets::default(),
        }
    }

    /// From now on the prober with this office works for it; `own` are the addresses of its hosts, which are spared.
    pub fn employ(&mut self, office: Office, own: impl IntoIterator<Item = IpAddr>) {
        self.engine.spare(own);
        self.office = Some(office);
    }

    /// Counts first packets from now on.
    pub fn count_first_packets(&mut self, first: FirstPackets) {
        self.first = first;
    }

    /// The counter of first packets.
    pub const fn first_packets(&mut self) -> &mut FirstPackets {
        &mut self.first
    }

    /// The engine, for its counters.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Adds a rule behind all others, or replaces the one of its name where it stands.
    pub fn add(&mut self, rule: Rule) {
        match self.place(&rule.name) {
            Some(place) => self.engine.replace(place, rule),
            None => {
                self.engine.push(rule);
                self.acted.resize(self.engine.rules().len(), Acted::default());
            }
        }
    }

    /// Ends a rule. What it did still counts, and one of its name that comes later takes its place.
    pub fn remove(&mut self, name: &str) {
        if let Some(place) = self.place(name) {
            let never = Rule {
                phases: vec![(0, 0)],
                ..Rule::new(name)
            };
            self.engine.replace(place, never);
        }
    }

    /// From `at` on, rules that follow `list` are also about `address`.
    pub fn learn(&mut self, list: &str, address: IpAddr, at: Instant) {
        self.learned += 1;
        self.pending
            .insert((at, self.learned), (list.to_owned(), address));
    }

    /// What the rule `name` did so far.
    pub fn acted(&self, name: &str) -> Acted {
        self.place(name)
            .map_or(Acted::default(), |place| self.acted[place])
    }

    /// What the rules did in all, as other back ends count it.
    pub fn counts(&self) -> Counts {
        self.acted
            .iter()
            .fold(Counts::default(), |sum, acted| sum + acted.counts)
    }

    /// What the rule `name` did in all, as other back ends count it.
    pub fn counts_of(&self, name: &str) -> Counts {
        self.acted(name).counts
    }

    fn place(&self, name: &str) -> Option<usize> {
        self.engine.rules().iter().position(|rule| rule.name == name)
    }

    /// Lists take in what they have learned by `now`.
    fn catch_up(&mut self, now: Instant) {
        while let Some(entry) = self.pending.first_entry()
            && entry.key().0 <= now
        {
            let (list, address) = entry.remove();
            self.engine.learn(&list, address);
        }
    }

    fn count(&mut self, place: usize, packet: &Packet, verdict: &Verdict) {
        let acted = &mut self.acted[place];
        let mut counts = Counts::default();
        match verdict {
            Verdict::Drop => {
                acted.dropped += 1;
                match (packet.protocol, packet.kind) {
                    (_, Kind::Syn) => counts.connects_dropped = 1,
                    (Protocol::Dns, _) => counts.names_silenced = 1,
                    (Protocol::Udp, _) => counts.datagrams_dropped = 1,
                    (Protocol::Tcp, _) => {
                        if self.stalled.len() >= STALLED_MAX {
                            self.stalled.clear();
                        }
                        counts.streams_stalled = u64::from(self.stalled.insert(packet.flow));
                    }
                }
            }
            Verdict::Reset { .. } => {
                acted.reset += 1;
                counts.streams_reset = 1;
            }
            Verdict::ForgeDns { .. } => {
                acted.forged += 1;
                counts.names_forged = 1;
            }
            Verdict::Delay(_) => acted.delayed += 1,
            Verdict::Pass => {}
        }
        acted.counts = acted.counts + counts;
    }
}

impl Middlebox for Censor {
    fn on_packet(&mut self, now: Instant, packet: &Packet) -> Verdict {
        self.catch_up(now);
        self.first.look(packet);
        if let Some(office) = &self.office {
            while let Some((rule, server)) = office.next_block() {
                self.engine.block(rule, server, now.as_nanos());
            }
        }
        let decision = self
            .engine
            .decide(now.as_nanos(), wire::direction(packet), &wire::wire(packet));
        if let Some(office) = &self.office
            && self.engine.has_suspects()
        {
            office.suspect(self.engine.take_suspects());
        }
        let verdict = match decision.verdict {
            engine::Verdict::Pass => Verdict::Pass,
            engine::Verdict::Drop => Verdict::Drop,
            engine::Verdict::Reset { client, server } => Verdict::Reset { client, server },
            engine::Verdict::Delay(ns) => Verdict::Delay(Duration::from_nanos(ns)),
            engine::Verdict::Forge {
                addresses,
                truth_follows,
            } => Verdict::ForgeDns {
                addresses,
                truth_follows,
            },
        };
        if let Some(place) = decision.rule {
            self.count(place, packet, &verdict);
        }
        verdict
    }
}

/// A censor that the world and the scenario share.
#[derive(Clone, Debug, Default)]
pub struct SharedCensor(Arc<Mutex<Censor>>);

impl SharedCensor {
    /// The censor, to change its rules or read its counters. Not to be held while the world runs.
    pub fn lock(&self) -> MutexGuard<'_, Censor> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Middlebox for SharedCensor {
    fn on_packet(&mut self, now: Instant, packet: &Packet) -> Verdict {
        self.lock().on_packet(now, packet)
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
