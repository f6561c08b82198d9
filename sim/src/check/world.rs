//! The state of a run as the judges see it, and the values of metrics in it.

use std::time::Duration;

use phantom_core::event::{Event, Step};
use phantom_core::transport::Kind;
use phantom_core::units::{Instant, WallTime};

use super::boxes::Boxes;
use super::censor::Deeds;
use super::connect::Clients;
use super::insiders::Insiders;
use super::leaks::{self, Leaks};
use super::messages::Messages;
use super::observe::{Acted, Observation, Seen};
use super::queues::Queues;
use super::residue::Residue;
use super::transports::Transports;
use super::ways::Ways;
use crate::scenario::expr::{Condition, Number};
use crate::scenario::metric::{Call, Gives, Metric, Sense};
use crate::scenario::plan::Plan;

/// A value and from how many samples it comes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    /// The value.
    pub value: f64,
    /// How many samples; with none, the value means nothing.
    pub n: u64,
}

/// A condition's truth, with what it was read from.
#[derive(Clone, Debug, PartialEq)]
pub struct Truth {
    /// Whether it holds; `None`: something in it had no samples.
    pub holds: Option<bool>,
    /// The values that were compared, for people.
    pub observed: String,
    /// The fewest samples that any of them had.
    pub n: u64,
}

/// Everything seen so far.
#[derive(Clone, Debug)]
pub struct World {
    /// Now.
    pub now: Instant,
    /// The clients.
    pub clients: Clients,
    /// The messages.
    pub messages: Messages,
    insiders: Insiders,
    ways: Ways,
    leaks: Leaks,
    residue: Residue,
    queues: Queues,
    boxes: Boxes,
    deeds: Deeds,
    transports: Transports,
    /// Rule name to its window; the index is the rule's.
    rules: Vec<(String, Duration, Duration)>,
    oracle: bool,
}

impl World {
    /// Nothing seen yet. `epoch`: the true wall time at the start; `senses`: what the back end can show.
    pub fn new(plan: &Plan, epoch: WallTime, senses: &[Sense]) -> Self {
        Self {
            now: Instant::ZERO,
            clients: Clients::new(plan),
            messages: Messages::new(epoch, plan.clock_bound),
            insiders: Insiders::new(plan),
            ways: Ways::default(),
            leaks: Leaks::new(plan),
            residue: Residue::default(),
            queues: Queues::default(),
            boxes: Boxes::new(epoch),
            deeds: Deeds::default(),
            transports: Transports::default(),
            rules: plan
                .rules
                .iter()
                .map(|rule| (rule.name.clone(), rule.from(), rule.until()))
                .collect(),
            oracle: senses.contains(&Sense::Paths),
        }
    }

    /// Takes one observation to whom it concerns.
    pub fn observe(&mut self, observation: &Observation) {
        self.now = self.now.max(observation.at);
        match &observation.seen {
            Seen::Event(event) => match event {
                Event::QueueHigh { .. } => self.queues.observe(observation),
                Event::BridgeLearned { .. } => self.insiders.observe(observation),
                Event::PathJudged { .. } | Event::PathTaken { .. } => self.ways.observe(observation),
                Event::MessageAccepted { .. } | Event::MessageDelivered { .. } => {
                    self.messages.observe(observation)
                }
                Event::BoxStored { .. } | Event::BoxAcknowledged { .. } | Event::BoxRepaired { .. } => {
                    self.boxes.observe(observation);
                }
                _ => self.clients.observe(observation),
            },
            Seen::Tick { .. } => {}
            Seen::Censor { .. } => self.deeds.observe(observation),
            Seen::Flagged { .. } | Seen::Probed { .. } => self.transports.observe(&observation.seen),
            Seen::Searched { .. } | Seen::Leak { .. } => self.leaks.observe(observation),
            Seen::OpenPath(_) => self.clients.observe(observation),
            Seen::Crashed | Seen::Restarted | Seen::DiskLost | Seen::ClockStepped => {
                self.clients.observe(observation);
                self.messages.observe(observation);
                self.boxes.observe(observation);
            }
            Seen::DiskSearched { .. } => self.residue.observe(observation),
            Seen::BoxProbed { .. } => self.boxes.observe(observation),
            Seen::Shown { .. } | Seen::Addressed { .. } => self.messages.observe(observation),
        }
    }

    fn rule(&self, name: Option<&String>) -> Option<u32> {
        let name = name?;
        // A rule that is switched off has no index; no deed carries this one.
        Some(
            self.rules
                .iter()
                .position(|(rule, ..)| rule == name)
                .map_or(u32::MAX, |index| index as u32),
        )
    }

    fn window(&self, name: Option<&String>) -> Option<(Duration, Duration)> {
        let name = name?;
        self.rules
            .iter()
            .find(|(rule, ..)| rule == name)
            .map(|(_, from, until)| (*from, *until))
    }

    /// For how many peers a metric says yes or what it counts, and of how many.
    fn counted(&self, call: &Call) -> (u64, u64) {
        let about = call.about.as_ref();
        let deeds = |act| (self.deeds.count(act, self.rule(about)), 1);
        let faults = self.boxes.faults();
        match call.metric {
            Metric::ClientConnected => self.clients.connected(self.now),
            Metric::ClientOpenPath => self.clients.open_path(),
            Metric::ClientStranded => self.clients.stranded(self.now, call.time),
            Metric::ClientConnectedWithin => {
                self.clients
                    .connected_within(self.now, call.time, self.window(call.outside.as_ref()))
            }
            Metric::ClientFooled => self.clients.fooled(),
            Metric::ClientEntered => about
                .and_then(|name| step(name))
                .map_or((0, 0), |step| self.clients.entered(step)),
            Metric::ClientEnteredOver => about
                .and_then(|name| Kind::from_name(name))
                .map_or((0, 0), |kind| self.clients.entered_over(kind)),
            Metric::ClientFlagged => self
                .transports
                .flagged(about.and_then(|name| Kind::from_name(name))),
            Metric::ProbeSent => (self.transports.probes(), 1),
            Metric::ProbeAnswered => self.transports.answered(),
            Metric::MessageAccepted => (self.messages.accepted(), 1),
            Metric::MessageDelivered => self.messages.delivered(),
            Metric::MessageLost => {
                self.messages
                    .lost(self.now, call.time, self.oracle.then_some(&self.clients))
            }
            Metric::MessageExempt => {
                self.messages
                    .exempt(self.now, call.time, self.oracle.then_some(&self.clients))
            }
            Metric::MessageDuplicated => self.messages.duplicated(),
            Metric::MessageLate => self.messages.late(),
            Metric::WireLeaks => self.leaks.found(about.and_then(|name| leaks::kind(name))),
            Metric::DiskResidue => self.residue.found(),
            Metric::QueueOverflow => self.queues.overflows(),
            Metric::BoxLost => self.boxes.lost(self.now),
            Metric::BoxRepaired => (self.boxes.repaired(), 1),
            Metric::CensorDropped => deeds(Acted::Dropped),
            Metric::CensorReset => deeds(Acted::Reset),
            Metric::CensorForged => deeds(Acted::Forged),
            Metric::CensorBlocked => deeds(Acted::Blocked),
            Metric::CensorLured => deeds(Acted::Lured),
            Metric::WaySwitches => (self.ways.switches(), 1),
            Metric::WayDismissed => (self.ways.dismissed(), 1),
            Metric::FaultCrashes => (faults.crashes, 1),
            Metric::FaultRestarts => (faults.restarts, 1),
            Metric::FaultDisksLost => (faults.disks_lost, 1),
            Metric::FaultClockSteps => (faults.clock_steps, 1),
            Metric::ClientTimeToConnect
            | Metric::InsiderBridges
            | Metric::WayDwell
            | Metric::WayVerdictTime
            | Metric::WayFoundTime
            | Metric::MessageDeliveryTime
            | Metric::ProbeClosingSpread
            | Metric::QueueFill => {
                let n = self.samples(call).len() as u64;
                (n, n)
            }
        }
    }

    /// The samples of a metric that has any.
    pub fn samples(&self, call: &Call) -> Vec<f64> {
        match call.metric {
            Metric::ClientTimeToConnect => self
                .clients
                .times_to_connect(self.now, self.window(call.outside.as_ref())),
            Metric::InsiderBridges => self.insiders.bridges(),
            Metric::WayDwell => self.ways.dwells(),
            Metric::WayVerdictTime => self.ways.verdicts(),
            Metric::WayFoundTime => self
                .window(call.about.as_ref())
                .map_or_else(Vec::new, |(from, _)| self.ways.found(Instant::ZERO + from)),
            Metric::MessageDeliveryTime => self.messages.delivery_times(),
            Metric::QueueFill => self.queues.fills(),
            Metric::ProbeClosingSpread => self.transports.closing_spreads(),
            _ => Vec::new(),
        }
    }

    /// The value of a number now.
    pub fn read(&self, number: &Number) -> Reading {
        let over = |call: &Call, value: &dyn Fn(&mut Vec<f64>) -> f64| {
            let mut samples = self.samples(call);
            let n = samples.len() as u64;
            Reading {
                value: if n == 0 { 0.0 } else { value(&mut samples) },
                n,
            }
        };
        match number {
            Number::Literal(value, _) => Reading {
                value: *value,
                n: u64::MAX,
            },
            Number::Metric(call) => {
                let (value, n) = self.counted(call);
                Reading {
                    value: value as f64,
                    n,
                }
            }
            Number::Count(call) => {
                let (value, n) = self.counted(call);
                let n = if call.metric.entry().gives == Gives::Samples {
                    n.max(1)
                } else {
                    n
                };
                Reading {
                    value: value as f64,
                    n,
                }
            }
            Number::Share(call) => {
                let (yes, n) = self.counted(call);
                Reading {
                    value: if n == 0 { 0.0 } else { yes as f64 / n as f64 },
                    n,
                }
            }
            Number::Quantile(call, q) => over(call, &|samples| super::stats::quantile(samples, *q)),
            Number::Max(call) if call.metric == Metric::QueueFill => {
                let (value, n) = self.queues.highest();
                Reading { value, n }
            }
            Number::Max(call) => over(call, &|samples| {
                samples.iter().copied().fold(f64::NEG_INFINITY, f64::max)
            }),
            Number::Min(call) => over(call, &|samples| {
                samples.iter().copied().fold(f64::INFINITY, f64::min)
            }),
            Number::Mean(call) => over(call, &|samples| {
                samples.iter().sum::<f64>() / samples.len() as f64
            }),
        }
    }

    /// Whether a condition holds now.
    pub fn judge(&self, condition: &Condition) -> Truth {
        match condition {
            Condition::Compare(left, comparison, right) => {
                let (a, b) = (self.read(left), self.read(right));
                let n = a.n.min(b.n);
                let shown = match (left.call(), right.call()) {
                    (Some(_), Some(_)) => format!("{} and {}", print(a, left), print(b, right)),
                    (None, _) => print(b, right),
                    _ => print(a, left),
                };
                if n == 0 {
                    return Truth {
                        holds: None,
                        observed: "no samples".to_owned(),
                        n: 0,
                    };
                }
                Truth {
                    holds: Some(comparison.holds(a.value, b.value)),
                    observed: shown,
                    n,
                }
            }
            Condition::Not(inner) => {
                let inner = self.judge(inner);
                Truth {
                    holds: inner.holds.map(|holds| !holds),
                    ..inner
                }
            }
            Condition::And(all) => self.combine(all, |truths| truths.iter().all(|holds| *holds)),
            Condition::Or(all) => self.combine(all, |truths| truths.iter().any(|holds| *holds)),
        }
    }

    fn combine(&self, all: &[Condition], holds: impl Fn(&[bool]) -> bool) -> Truth {
        let truths: Vec<Truth> = all.iter().map(|one| self.judge(one)).collect();
        let known: Option<Vec<bool>> = truths.iter().map(|truth| truth.holds).collect();
        Truth {
            holds: known.map(|known| holds(&known)),
            observed: truths
                .iter()
                .map(|truth| truth.observed.as_str())
                .collect::<Vec<_>>()
                .join("; "),
            n: truths.iter().map(|truth| truth.n).min().unwrap_or(0),
        }
    }
}

/// A number as reports show it: at most four digits after the point, with its unit.
pub fn show(value: f64, number: &Number) -> String {
    let digits = if value.fract() == 0.0 || !value.is_finite() {
        0
    } else {
        4
    };
    let unit = match number.unit() {
        crate::scenario::metric::Unit::One => "",
        crate::scenario::metric::Unit::Seconds => " s",
        crate::scenario::metric::Unit::Bytes => " B",
    };
    if value == f64::INFINITY {
        "never".to_owned()
    } else {
        format!("{value:.digits$}{unit}")
    }
}

fn print(reading: Reading, number: &Number) -> String {
    show(reading.value, number)
}

fn step(name: &str) -> Option<Step> {
    Some(match name {
        "cached" => Step::Cached,
        "static" => Step::Static,
        "directory" => Step::Directory,
        "dht" => Step::Dht,
        "friend" => Step::Friend,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_step_and_transport_that_expressions_know_exists() {
        assert!(
            crate::scenario::metric::STEPS
                .iter()
                .all(|name| step(name).is_some())
        );
        let transports = crate::scenario::metric::TRANSPORTS;
        assert_eq!(transports, Kind::ALL.map(Kind::name));
    }
}
