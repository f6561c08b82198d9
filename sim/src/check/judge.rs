//! Invariants over one run: fed with observations, out come verdicts, a series over time and a summary of metrics.

use std::time::Duration;

use indexmap::IndexMap;
use phantom_core::units::{Instant, WallTime};
use serde::{Deserialize, Serialize};

use super::claims::Sample;
use super::observe::{Observation, Seen, Sink};
use super::stats::quantile;
use super::world::{Truth, World};
use crate::scenario::check::{Invariant, Kind};
use crate::scenario::metric::{Call, Gives, METRICS, Metric, Sense};
use crate::scenario::plan::Plan;

/// Most clients named for one violation.
const NAMED: usize = 10;

/// How an invariant came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It held.
    Pass,
    /// It was violated, or had no samples.
    Fail,
    /// The back end cannot observe what it needs.
    Na,
}

/// An invariant's result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InvariantResult {
    /// Its name.
    pub name: String,
    /// `always`, `never`, `eventually` or `sometimes`.
    pub kind: String,
    /// How it came out.
    pub verdict: Verdict,
    /// When it was first violated, in simulated seconds.
    pub first_violation_seconds: Option<f64>,
    /// The value that decided.
    pub observed: String,
    /// The expression.
    pub wanted: String,
    /// How many samples the value comes from.
    pub samples: u64,
}

/// A violation, with what helps to understand it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Violation {
    /// The invariant.
    pub invariant: String,
    /// When, in simulated seconds.
    pub at_seconds: f64,
    /// Whom it befell and what they tried, if it is about clients.
    pub details: Vec<String>,
}

/// A metric over the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// `s`, `B` or `1`.
    pub unit: String,
    /// How many finite samples.
    pub n: u64,
    /// Their mean.
    pub mean: f64,
    /// Their median.
    pub p50: f64,
    /// 90 % are at most this.
    pub p90: f64,
    /// 99 % are at most this.
    pub p99: f64,
    /// The least.
    pub min: f64,
    /// The most.
    pub max: f64,
}

/// A moment of the run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moment {
    /// Simulated time.
    pub at: Duration,
    /// Clients that have arrived and run.
    pub clients: u64,
    /// Those of them that are connected.
    pub connected: u64,
    /// Those of them that have an open path; `None` without an oracle.
    pub open: Option<u64>,
}

impl Moment {
    /// The share connected; 0 without clients.
    pub fn share(&self) -> f64 {
        if self.clients == 0 {
            0.0
        } else {
            self.connected as f64 / self.clients as f64
        }
    }
}

/// All that came out of one run.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// Per invariant.
    pub invariants: Vec<InvariantResult>,
    /// Per claim, this run's sample.
    pub claims: Vec<Sample>,
    /// Violations in order of time.
    pub violations: Vec<Violation>,
    /// The series over time.
    pub series: Vec<Moment>,
    /// Metrics, by name.
    pub metrics: IndexMap<String, Summary>,
}

impl Judgement {
    /// Whether anything was judged: a run of which nothing could be observed shows nothing.
    pub fn judges(&self) -> bool {
        let mut verdicts = self.invariants.iter().map(|result| result.verdict);
        let mut claims = self.claims.iter();
        verdicts.any(|verdict| verdict != Verdict::Na)
            || claims.any(|sample| *sample != Sample::NotObservable)
    }

    /// Whether something was judged and no invariant failed.
    pub fn holds(&self) -> bool {
        self.judges()
            && self
                .invariants
                .iter()
                .all(|result| result.verdict != Verdict::Fail)
    }
}

struct Watch {
    invariant: Invariant,
    applies: bool,
    /// The last truth with samples, or the one that decided.
    shown: Option<Truth>,
    violated: Option<Instant>,
    satisfied: bool,
    details: Vec<String>,
}

impl Watch {
    fn look(&mut self, world: &World) {
        let now = world.now;
        let truth = world.judge(&self.invariant.condition);
        let Some(holds) = truth.holds else { return };
        let bad = match self.invariant.kind {
            Kind::Always => !holds,
            Kind::Never => holds,
            Kind::Eventually | Kind::Sometimes => {
                self.satisfied |= holds;
                false
            }
        };
        if bad {
            self.violated = Some(now);
            self.name_clients(world);
        }
        self.shown = Some(truth);
    }

    /// An `eventually` or `sometimes` that is decided needs no more looks, nor does a violated one.
    fn open(&self) -> bool {
        self.applies && self.violated.is_none() && !self.satisfied
    }

    fn name_clients(&mut self, world: &World) {
        let about = |call: &&Call| {
            matches!(
                call.metric,
                Metric::ClientConnected
                    | Metric::ClientStranded
                    | Metric::ClientConnectedWithin
                    | Metric::ClientTimeToConnect
            )
        };
        if self.invariant.condition.calls().iter().any(about) {
            self.details = world.clients.unconnected(world.now, NAMED);
        }
    }

    fn finish(&mut self, world: &World) {
        if !self.applies {
            return;
        }
        if self.invariant.condition.at_end() {
            self.look(world);
        }
        let missed = match self.invariant.kind {
            Kind::Eventually | Kind::Sometimes => !self.satisfied,
            Kind::Always | Kind::Never => self.shown.is_none(),
        };
        if missed && self.violated.is_none() {
            self.violated = Some(Instant::ZERO + self.invariant.until.min(world.now.since_start()));
            self.name_clients(world);
        }
    }

    fn result(&self) -> InvariantResult {
        let verdict = match (self.applies, self.violated) {
            (false, _) => Verdict::Na,
            (true, None) => Verdict::Pass,
            (true, Some(_)) => Verdict::Fail,
        };
        let observed = match (&self.shown, verdict) {
            (_, Verdict::Na) => "not observable here".to_owned(),
            (Some(truth), _) => truth.observed.clone(),
            (None, _) => "no samples".to_owned(),
        };
        InvariantResult {
            name: self.invariant.name.clone(),
            kind: self.invariant.kind.text().to_owned(),
            verdict,
            first_violation_seconds: self
                .violated
                .filter(|_| self.applies)
                .map(|at| at.since_start().as_secs_f64()),
            observed,
            wanted: self.invariant.text.clone(),
            samples: self.shown.as_ref().map_or(0, |truth| truth.n),
        }
    }
}

/// Judges one run.
pub struct Judge {
    world: World,
    watches: Vec<Watch>,
    claims: Vec<crate::scenario::check::Claim>,
    senses: Vec<Sense>,
    series: Vec<Moment>,
}

impl Judge {
    /// A judge of `plan`. `epoch`: the true wall time when the world's clock is zero; `senses`: what can be observed.
    pub fn new(plan: &Plan, epoch: WallTime, senses: &[Sense]) -> Self {
        let watches = plan.invariants.iter().map(|invariant| Watch {
            applies: invariant
                .condition
                .senses()
                .iter()
                .all(|sense| senses.contains(sense)),
            invariant: invariant.clone(),
            shown: None,
            violated: None,
            satisfied: false,
            details: Vec::new(),
        });
        Self {
            world: World::new(plan, epoch, senses),
            watches: watches.collect(),
            claims: plan.claims.clone(),
            senses: senses.to_vec(),
            series: Vec::new(),
        }
    }

    /// The last moment of the series.
    pub fn latest(&self) -> Option<&Moment> {
        self.series.last()
    }

    fn tick(&mut self) {
        let now = self.world.now.since_start();
        let (connected, clients) = self.world.clients.connected(self.world.now);
        let open = self
            .senses
            .contains(&Sense::Paths)
            .then(|| self.world.clients.open_path().0);
        self.series.push(Moment {
            at: now,
            clients,
            connected,
            open,
        });
        for watch in self
            .watches
            .iter_mut()
            .filter(|watch| watch.open() && !watch.invariant.condition.at_end())
        {
            if (watch.invariant.from..=watch.invariant.until).contains(&now) {
                watch.look(&self.world);
            }
        }
    }

    /// The end of the run.
    pub fn finish(mut self, end: Instant) -> Judgement {
        self.world.now = self.world.now.max(end);
        if self
            .series
            .last()
            .is_none_or(|moment| moment.at < self.world.now.since_start())
        {
            self.tick();
        }
        for watch in &mut self.watches {
            watch.finish(&self.world);
        }
        let mut violations: Vec<Violation> = self
            .watches
            .iter()
            .filter(|watch| watch.applies)
            .filter_map(|watch| {
                Some(Violation {
                    invariant: watch.invariant.name.clone(),
                    at_seconds: watch.violated?.since_start().as_secs_f64(),
                    details: watch.details.clone(),
                })
            })
            .collect();
        violations.sort_by(|a, b| a.at_seconds.total_cmp(&b.at_seconds));
        let mut judgement = Judgement {
            invariants: self.watches.iter().map(Watch::result).collect(),
            claims: self
                .claims
                .iter()
                .map(|claim| Sample::take(claim, &self.world, &self.senses))
                .collect(),
            violations,
            metrics: summaries(&self.world, &self.senses),
            series: self.series,
        };
        if !judgement.judges() {
            judgement.violations.push(Violation {
                invariant: "nothing was judged".to_owned(),
                at_seconds: self.world.now.since_start().as_secs_f64(),
                details: vec![format!(
                    "of {} invariants and {} claims this back end can observe none",
                    judgement.invariants.len(),
                    judgement.claims.len()
                )],
            });
        }
        judgement
    }
}

impl Sink for Judge {
    fn observe(&mut self, observation: &Observation) {
        self.world.observe(observation);
        if matches!(observation.seen, Seen::Tick { .. }) {
            self.tick();
        }
    }
}

fn summaries(world: &World, senses: &[Sense]) -> IndexMap<String, Summary> {
    let mut all = IndexMap::new();
    for entry in METRICS
        .iter()
        .filter(|entry| entry.gives == Gives::Samples && senses.contains(&entry.sense))
    {
        let call = Call {
            metric: entry.metric,
            time: Duration::ZERO,
            about: None,
            outside: None,
        };
        // Infinite ones (clients that never connected) have no place in a mean; their absence shows in n.
        let mut samples: Vec<f64> = world
            .samples(&call)
            .into_iter()
            .filter(|sample| sample.is_finite())
            .collect();
        if samples.is_empty() {
            continue;
        }
        let n = samples.len() as u64;
        all.insert(
            entry.name.to_owned(),
            Summary {
                unit: entry.unit.text().to_owned(),
                n,
                mean: samples.iter().sum::<f64>() / n as f64,
                p50: quantile(&mut samples, 0.5),
                p90: quantile(&mut samples, 0.9),
                p99: quantile(&mut samples, 0.99),
                min: quantile(&mut samples, 0.0),
                max: quantile(&mut samples, 1.0),
            },
        );
    }
    all
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
