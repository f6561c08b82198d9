//! A censor of rules at the border: address lists that change while it runs, names, protocols, in time.
//!
//! The rules are [`phantom_core::runtime::rules::Rule`], the same that a host's own network decorator evaluates on other
//! back ends; what is added here is when a rule holds, addresses that it learns later, and counters per rule and second. It
//! decides per packet, so a drop hits established streams in both directions.

pub mod on_path;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use phantom_core::runtime::rules::{
    Answer, Counts, Flow, Protocol as Carrier, Remote, Rule, Rules, Verdict as Judged,
};
use phantom_core::units::Instant;

use crate::host::record::mix;
use crate::swarm::border::{Direction, Kind, Middlebox, Packet, Protocol, Verdict};

/// A rule and when it holds.
#[derive(Clone, Debug)]
pub struct Timed {
    /// By which it is changed and counted.
    pub name: String,
    /// What it does to what.
    pub rule: Rule,
    /// Holds from then on.
    pub from: Instant,
    /// Holds until then, exclusively.
    pub until: Instant,
}

impl Timed {
    /// A rule that always holds.
    pub fn new(name: impl Into<String>, rule: Rule) -> Self {
        Self {
            name: name.into(),
            rule,
            from: Instant::ZERO,
            until: Instant::FAR_FUTURE,
        }
    }

    /// The same rule between these instants.
    #[must_use]
    pub fn between(self, from: Instant, until: Instant) -> Self {
        Self { from, until, ..self }
    }
}

/// What a rule did in one second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Acted {
    /// Packets dropped, questions silenced included.
    pub dropped: u64,
    /// Packets answered with a reset.
    pub reset: u64,
    /// DNS answers forged.
    pub forged: u64,
}

struct Entry {
    timed: Timed,
    /// The rule alone, to be asked.
    rules: Rules,
    acted: BTreeMap<u64, Acted>,
    counts: Counts,
}

impl Entry {
    fn new(timed: Timed) -> Self {
        let mut rules = Rules::default();
        rules.add(timed.rule.clone());
        Self {
            timed,
            rules,
            acted: BTreeMap::new(),
            counts: Counts::default(),
        }
    }
}

/// What a rule learns: an address, or an address at one port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Learned {
    Address(IpAddr),
    Endpoint(SocketAddr),
}

/// Rules in order: the first that matches decides.
#[derive(Default)]
pub struct Censor {
    entries: Vec<Entry>,
    pending: BTreeMap<(Instant, u64), (String, Learned)>,
    learned: u64,
    counts: Counts,
    /// What rules did that were taken back.
    ended: BTreeMap<String, Counts>,
    stalled: BTreeSet<u64>,
}

/// The most flows that are remembered as stalled, for counting only.
const STALLED_MAX: usize = 1 << 20;

impl std::fmt::Debug for Censor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = self
            .entries
            .iter()
            .map(|entry| entry.timed.name.as_str())
            .collect();
        f.debug_struct("Censor")
            .field("rules", &names)
            .field("counts", &self.counts)
            .finish_non_exhaustive()
    }
}

impl Censor {
    /// Adds a rule after all others, or replaces the one of that name where it stands.
    pub fn add(&mut self, timed: Timed) {
        match self
            .entries
            .iter_mut()
            .find(|entry| entry.timed.name == timed.name)
        {
            Some(entry) => {
                let (acted, counts) = (std::mem::take(&mut entry.acted), entry.counts);
                *entry = Entry {
                    acted,
                    counts,
                    ..Entry::new(timed)
                };
            }
            None => self.entries.push(Entry::new(timed)),
        }
    }

    /// Takes a rule back. What it did still counts.
    pub fn remove(&mut self, name: &str) {
        for entry in self.entries.extract_if(.., |entry| entry.timed.name == name) {
            let ended = self.ended.entry(entry.timed.name).or_default();
            *ended = *ended + entry.counts;
        }
    }

    /// From `at` on, the rule `name` is also about `address`. No effect on a rule that is not about a list of addresses.
    pub fn learn_address(&mut self, name: &str, address: IpAddr, at: Instant) {
        self.learn(name, Learned::Address(address), at);
    }

    /// From `at` on, the rule `name` is also about `endpoint`. No effect on a rule that is not about a list of endpoints
    /// or addresses; of a rule about addresses the whole address is hit.
    pub fn learn_endpoint(&mut self, name: &str, endpoint: SocketAddr, at: Instant) {
        self.learn(name, Learned::Endpoint(endpoint), at);
    }

    fn learn(&mut self, name: &str, what: Learned, at: Instant) {
        self.learned += 1;
        self.pending.insert((at, self.learned), (name.to_owned(), what));
    }

    /// What the rule `name` did, by simulated second in which it did anything.
    pub fn acted(&self, name: &str) -> Option<&BTreeMap<u64, Acted>> {
        self.entries
            .iter()
            .find(|entry| entry.timed.name == name)
            .map(|entry| &entry.acted)
    }

    /// What the rules did in all, as other back ends count it.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// What the rule `name` did in all, as other back ends count it, also when it was taken back.
    pub fn counts_of(&self, name: &str) -> Counts {
        let standing = self.entries.iter().find(|entry| entry.timed.name == name);
        let ended = self.ended.get(name).copied().unwrap_or_default();
        ended + standing.map_or(Counts::default(), |entry| entry.counts)
    }

    /// Lists take in what they have learned by `now`.
    fn catch_up(&mut self, now: Instant) {
        while let Some(entry) = self.pending.first_entry()
            && entry.key().0 <= now
        {
            let (name, what) = entry.remove();
            for entry in self.entries.iter_mut().filter(|entry| entry.timed.name == name) {
                if let Rule::Drop { remote, .. } | Rule::Reset { remote } = &mut entry.timed.rule {
                    match (remote, what) {
                        (Remote::Addresses(list), Learned::Address(address)) => {
                            list.insert(address);
                        }
                        (Remote::Addresses(list), Learned::Endpoint(endpoint)) => {
                            list.insert(endpoint.ip());
                        }
                        (Remote::Endpoints(list), Learned::Endpoint(endpoint)) => {
                            list.insert(endpoint);
                        }
                        _ => {}
                    }
                    entry.rules = Rules::default();
                    entry.rules.add(entry.timed.rule.clone());
                }
            }
        }
    }

    fn count(&mut self, index: usize, packet: &Packet, verdict: &Verdict) {
        let mut counts = Counts::default();
        let acted = self.entries[index]
            .acted
            .entry(packet.at.as_nanos() / 1_000_000_000)
            .or_default();
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
            Verdict::Pass | Verdict::Delay(_) => {}
        }
        self.counts = self.counts + counts;
        let of_rule = &mut self.entries[index].counts;
        *of_rule = *of_rule + counts;
    }
}

/// What tells one DNS question from another: the resolver's transaction id, which is drawn for each, and the flow.
fn transaction(packet: &Packet) -> u64 {
    let id = packet
        .payload
        .get(..2)
        .map_or(0, |id| (u64::from(id[0]) << 8) | u64::from(id[1]));
    mix(packet.flow, id)
}

impl Middlebox for Censor {
    fn on_packet(&mut self, now: Instant, packet: &Packet) -> Verdict {
        self.catch_up(now);
        let (inside, outside) = match packet.direction {
            Direction::Outbound => (packet.src, packet.dst),
            Direction::Inbound => (packet.dst, packet.src),
        };
        let protocol = if packet.protocol == Protocol::Tcp {
            Carrier::Tcp
        } else {
            Carrier::Udp
        };
        let flow = Flow {
            protocol,
            inside,
            outside,
        };
        let question = packet.name.as_deref().filter(|_| packet.kind == Kind::Query);
        let decided = self.entries.iter().enumerate().find_map(|(index, entry)| {
            if now < entry.timed.from || now >= entry.timed.until {
                return None;
            }
            let verdict = match entry.rules.decide(flow) {
                Judged::Drop => Verdict::Drop,
                Judged::Reset => Verdict::Reset {
                    client: true,
                    server: true,
                },
                Judged::Pass => match entry.rules.decide_name(question?, transaction(packet)) {
                    Answer::Pass => return None,
                    Answer::Silence => Verdict::Drop,
                    Answer::Forged {
                        addresses,
                        truth_follows,
                    } => Verdict::ForgeDns {
                        addresses,
                        truth_follows,
                    },
                },
            };
            Some((index, verdict))
        });
        match decided {
            Some((index, verdict)) => {
                self.count(index, packet, &verdict);
                verdict
            }
            None => Verdict::Pass,
        }
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
mod tests {
    use super::*;
    use bytes::Bytes;
    use phantom_core::runtime::rules::{Forgery, Names};

    fn packet(at_s: u64, outside: &str, kind: Kind, flow: u64) -> Packet {
        Packet {
            at: Instant::from_nanos(at_s * 1_000_000_000),
            src: "10.0.0.1:40000".parse().unwrap(),
            dst: outside.parse().unwrap(),
            protocol: if kind == Kind::Query {
                Protocol::Dns
            } else {
                Protocol::Tcp
            },
            direction: Direction::Outbound,
            kind,
            payload: Bytes::new(),
            name: (kind == Kind::Query).then(|| "entry.example".into()),
            flow,
            tcp: Default::default(),
        }
    }

    fn ask(censor: &mut Censor, packet: &Packet) -> Verdict {
        censor.on_packet(packet.at, packet)
    }

    fn drop_list(addresses: &[&str]) -> Rule {
        let list = addresses.iter().map(|text| text.parse().unwrap()).collect();
        Rule::Drop {
            remote: Remote::Addresses(list),
            protocol: None,
        }
    }

    #[test]
    fn a_rule_holds_in_its_time_and_counts_what_it_does() {
        let at = |s: u64| Instant::from_nanos(s * 1_000_000_000);
        let mut censor = Censor::default();
        censor.add(Timed::new("published", drop_list(&["192.0.2.1"])).between(at(10), at(20)));
        for (second, wanted) in [
            (9, Verdict::Pass),
            (10, Verdict::Drop),
            (19, Verdict::Drop),
            (20, Verdict::Pass),
        ] {
            assert_eq!(
                ask(&mut censor, &packet(second, "192.0.2.1:443", Kind::Syn, 1)),
                wanted,
                "{second}"
            );
        }
        assert_eq!(
            ask(&mut censor, &packet(12, "192.0.2.2:443", Kind::Syn, 1)),
            Verdict::Pass
        );
        let acted: Vec<_> = censor
            .acted("published")
            .unwrap()
            .iter()
            .map(|(s, a)| (*s, a.dropped))
            .collect();
        assert_eq!(acted, [(10, 1), (19, 1)]);
        assert_eq!(censor.counts().connects_dropped, 2);
    }

    #[test]
    fn a_list_learns_with_a_delay() {
        let mut censor = Censor::default();
        censor.add(Timed::new("insiders", drop_list(&[])));
        censor.learn_endpoint(
            "insiders",
            "192.0.2.7:1".parse().unwrap(),
            Instant::from_nanos(300_000_000_000),
        );
        assert_eq!(
            ask(&mut censor, &packet(299, "192.0.2.7:443", Kind::Data, 1)),
            Verdict::Pass
        );
        assert_eq!(
            ask(&mut censor, &packet(300, "192.0.2.7:443", Kind::Data, 1)),
            Verdict::Drop
        );
    }

    #[test]
    fn names_are_forged_and_the_rest_passes() {
        let mut censor = Censor::default();
        let forged = vec![IpAddr::from([127, 0, 0, 1])];
        let rule = Rule::Forge {
            names: Names::under(["example"]),
            answers: Forgery::always(forged.clone()),
        };
        censor.add(Timed::new("dns", rule));
        assert_eq!(
            ask(&mut censor, &packet(0, "192.0.2.53:53", Kind::Query, 1)),
            Verdict::ForgeDns {
                addresses: forged,
                truth_follows: false
            }
        );
        assert_eq!(
            ask(&mut censor, &packet(0, "192.0.2.53:53", Kind::Syn, 1)),
            Verdict::Pass
        );
        assert_eq!(censor.counts().names_forged, 1);
    }
}
