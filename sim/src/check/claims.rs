//! Claims over seeds: each run gives one sample of each claim, and the samples give a finding.

use serde::{Deserialize, Serialize};

use super::stats::{Finding, judge_proportion, judge_quantile, lower_bound, quantile};
use super::world::{World, show};
use crate::scenario::check::{Claim, Claimed};
use crate::scenario::metric::Sense;

/// What one run says about one claim.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Sample {
    /// The condition held, or not.
    Held(bool),
    /// The value.
    Value(f64),
    /// The run had nothing to judge by. Counts against the claim.
    None,
    /// The back end cannot observe what the claim needs.
    NotObservable,
}

impl Sample {
    /// The sample of `claim` that the run ended in `world` gives.
    pub fn take(claim: &Claim, world: &World, senses: &[Sense]) -> Self {
        let observable = |sense: &Sense| senses.contains(sense);
        match &claim.what {
            Claimed::Proportion { over, .. } => {
                if !over.senses().iter().all(observable) {
                    return Self::NotObservable;
                }
                world.judge(over).holds.map_or(Self::None, Self::Held)
            }
            Claimed::Quantile { value, .. } => {
                if !value
                    .call()
                    .is_none_or(|call| observable(&call.metric.entry().sense))
                {
                    return Self::NotObservable;
                }
                let reading = world.read(value);
                if reading.n == 0 {
                    Self::None
                } else {
                    Self::Value(reading.value)
                }
            }
        }
    }
}

/// A claim's result over the runs there are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClaimResult {
    /// Its name.
    pub name: String,
    /// `proven`, `refuted`, `undecided`, or `na` when it cannot be observed.
    pub verdict: String,
    /// What the runs showed.
    pub observed: String,
    /// What is claimed.
    pub wanted: String,
    /// How many runs.
    pub n: u64,
}

impl ClaimResult {
    /// Whether it is refuted.
    pub fn refuted(&self) -> bool {
        self.verdict == "refuted"
    }

    /// Judges `claim` by the samples of all runs.
    pub fn of(claim: &Claim, samples: &[Sample]) -> Self {
        let result = |finding: &str, observed: String, wanted: String| Self {
            name: claim.name.clone(),
            verdict: finding.to_owned(),
            observed,
            wanted,
            n: samples.len() as u64,
        };
        let word = |finding: Finding| match finding {
            Finding::Proven => "proven",
            Finding::Refuted => "refuted",
            Finding::Undecided => "undecided",
        };
        let wanted = match &claim.what {
            Claimed::Proportion {
                at_least, confidence, ..
            } => {
                format!(
                    "{} in at least {} of runs, confidence {confidence}",
                    claim.text, at_least
                )
            }
            Claimed::Quantile {
                quantile,
                bound_text,
                at_most,
                confidence,
                ..
            } => {
                let side = if *at_most { "at most" } else { "at least" };
                format!(
                    "quantile {quantile} over runs of {} {side} {bound_text}, confidence {confidence}",
                    claim.text
                )
            }
        };
        if samples.contains(&Sample::NotObservable) {
            return result("na", "not observable here".to_owned(), wanted);
        }
        let empty = samples.iter().filter(|sample| **sample == Sample::None).count();
        if samples.is_empty() || empty > 0 {
            let observed = if samples.len() <= 1 {
                "no samples".to_owned()
            } else {
                format!("no samples in {empty} of {} runs", samples.len())
            };
            return result("refuted", observed, wanted);
        }
        match &claim.what {
            Claimed::Proportion {
                at_least, confidence, ..
            } => {
                let n = samples.len() as u64;
                let held = samples
                    .iter()
                    .filter(|sample| **sample == Sample::Held(true))
                    .count() as u64;
                let low = lower_bound(held, n, 1.0 - confidence);
                let observed = format!("{held} of {n}, at least {low:.4} with confidence {confidence}");
                result(
                    word(judge_proportion(held, n, *at_least, *confidence)),
                    observed,
                    wanted,
                )
            }
            Claimed::Quantile {
                value,
                quantile: q,
                bound,
                at_most,
                confidence,
                min_seeds,
                ..
            } => {
                let mut values: Vec<f64> = samples
                    .iter()
                    .filter_map(|sample| match sample {
                        Sample::Value(value) => Some(*value),
                        _ => None,
                    })
                    .collect();
                let finding = judge_quantile(&values, *q, *bound, *at_most, *confidence, *min_seeds);
                result(word(finding), show(quantile(&mut values, *q), value), wanted)
            }
        }
    }
}
