//! What a scenario promises: invariants on every seed and claims over seeds, with their expressions typed.

use std::time::Duration;

use phantom_placed::{At, Problem};

use super::check::Checker;
use super::expr::{self, Condition, Names, Number};
use super::file::{self, Scenario};
use super::metric::Sense;
use super::units::{Share, Time};

/// The kinds of invariant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Holds whenever it is looked at.
    Always,
    /// Holds at no time.
    Never,
    /// Holds at some time in its window.
    Eventually,
    /// Holds at least once: the test tests something.
    Sometimes,
}

impl Kind {
    /// As files and reports write it.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::Never => "never",
            Self::Eventually => "eventually",
            Self::Sometimes => "sometimes",
        }
    }
}

/// An invariant, typed.
#[derive(Clone, Debug)]
pub struct Invariant {
    /// What it promises.
    pub name: String,
    /// How it is judged.
    pub kind: Kind,
    /// The expression as written.
    pub text: String,
    /// The expression.
    pub condition: Condition,
    /// Looked at from here.
    pub from: Duration,
    /// Until here, the end of the run at the latest.
    pub until: Duration,
}

/// A claim over seeds, typed.
#[derive(Clone, Debug)]
pub struct Claim {
    /// What it promises.
    pub name: String,
    /// The expression as written.
    pub text: String,
    /// What is claimed.
    pub what: Claimed,
}

/// What a claim says.
#[derive(Clone, Debug)]
pub enum Claimed {
    /// A condition holds in at least this share of runs.
    Proportion {
        /// The condition.
        over: Condition,
        /// The share.
        at_least: f64,
        /// With what confidence.
        confidence: f64,
    },
    /// A quantile over runs of a number is on this side of a bound.
    Quantile {
        /// The number.
        value: Number,
        /// Which quantile.
        quantile: f64,
        /// The bound, in the number's unit.
        bound: f64,
        /// Whether the bound is the most (else the least).
        at_most: bool,
        /// The bound as written.
        bound_text: String,
        /// With what confidence.
        confidence: f64,
        /// Undecided below so many runs.
        min_seeds: u64,
    },
}

pub(super) fn promises(checker: &mut Checker, scenario: &Scenario) -> (Vec<Invariant>, Vec<Claim>) {
    let rules: Vec<&str> = scenario
        .censor
        .iter()
        .flat_map(|censor| &censor.rule)
        .map(|rule| rule.name.as_str())
        .collect();
    let names = Names { rules: &rules };
    let duration = scenario.run.duration.value;
    checker.names(
        "invariant",
        scenario.invariant.iter().map(|invariant| &invariant.name),
        true,
    );
    checker.names("claim", scenario.claim.iter().map(|claim| &claim.name), true);
    let mut invariants = Vec::new();
    for invariant in &scenario.invariant {
        match one_invariant(invariant, names, duration) {
            Ok(invariant) => invariants.push(invariant),
            Err(problem) => checker.problems.push(problem),
        }
        checker.window(invariant.after.as_ref(), invariant.until.as_ref(), duration);
    }
    let mut claims = Vec::new();
    for claim in &scenario.claim {
        match one_claim(claim, names) {
            Ok(claim) => claims.push(claim),
            Err(problem) => checker.problems.push(problem),
        }
    }
    shown(checker, scenario, &invariants);
    (invariants, claims)
}

/// Whoever is against the world must be seen to act: a run in which they did nothing proves nothing.
fn shown(checker: &mut Checker, scenario: &Scenario, invariants: &[Invariant]) {
    // One that is wrong in itself is reported as that.
    let wrong = invariants.len() < scenario.invariant.len();
    let seen = |senses: &[Sense]| {
        let mut sometimes = invariants.iter().filter(|one| one.kind == Kind::Sometimes);
        sometimes.any(|one| one.condition.senses().iter().any(|sense| senses.contains(sense)))
    };
    let censored = scenario
        .censor
        .as_ref()
        .is_some_and(|censor| censor.rule.iter().any(|rule| rule.enabled));
    if censored && !wrong && !seen(&[Sense::Censor, Sense::Traps, Sense::Probes]) {
        checker.problems.push(
            Problem::new(scenario.name.at, "nothing shows that the censor really acts").help(
                "add an [[invariant]] such as: name = \"the censor drops\", sometimes = \"censor.dropped > 0\"",
            ),
        );
    }
    if scenario.fault.iter().any(|fault| fault.enabled) && !wrong && !seen(&[Sense::Faults]) {
        checker.problems.push(
            Problem::new(scenario.name.at, "nothing shows that the faults really happen").help(
                "add an [[invariant]] such as: name = \"nodes crash\", sometimes = \"fault.crashes > 0\"; others are fault.disks_lost and fault.clock_steps",
            ),
        );
    }
}

fn one_invariant(
    invariant: &file::Invariant,
    names: Names<'_>,
    duration: Time,
) -> Result<Invariant, Problem> {
    let kinds = [
        (Kind::Always, &invariant.always),
        (Kind::Never, &invariant.never),
        (Kind::Eventually, &invariant.eventually),
        (Kind::Sometimes, &invariant.sometimes),
    ];
    let mut given = kinds
        .iter()
        .filter_map(|(kind, text)| text.as_ref().map(|text| (*kind, text)));
    let choices = "choices: always, never, eventually (with within), sometimes";
    let Some((kind, text)) = given.next() else {
        return Err(Problem::new(
            invariant.name.at,
            "this invariant promises nothing; wanted exactly one kind",
        )
        .help(choices));
    };
    if let Some((_, other)) = given.next() {
        return Err(
            Problem::new(other.at, "a second kind in one invariant; wanted exactly one").help(choices),
        );
    }
    let condition = expr::condition(text, names)?;
    let from = invariant.after.as_ref().map_or(Duration::ZERO, |after| after.0);
    let until = match (kind, &invariant.within, &invariant.until) {
        (Kind::Eventually, Some(within), None) => {
            let end = from + within.0;
            if end > duration.0 {
                return Err(Problem::new(
                    within.at,
                    format!(
                        "{} after {} is after the end of the run, {duration}",
                        within.value,
                        Time(from)
                    ),
                ));
            }
            end
        }
        (Kind::Eventually, None, _) => {
            return Err(Problem::new(
                text.at,
                "'eventually' needs 'within': how long it may take",
            ));
        }
        (Kind::Eventually, Some(_), Some(until)) => {
            return Err(Problem::new(
                until.at,
                "'eventually' ends by 'within'; 'until' is for the other kinds",
            ));
        }
        (_, Some(within), _) => {
            return Err(Problem::new(
                within.at,
                "'within' goes with 'eventually'; for the other kinds write 'until'",
            ));
        }
        (_, None, until) => until.as_ref().map_or(duration.0, |until| until.0).min(duration.0),
    };
    if condition.at_end()
        && (kind == Kind::Eventually || invariant.until.is_some() || invariant.after.is_some())
    {
        let late = condition
            .calls()
            .into_iter()
            .find(|call| call.metric.entry().at_end)
            .map_or("it", |call| call.metric.entry().name);
        return Err(Problem::new(
            text.at,
            format!(
                "{late} is known only at the end of the run: write always, never or sometimes, without a time"
            ),
        ));
    }
    Ok(Invariant {
        name: invariant.name.value.clone(),
        kind,
        text: text.value.clone(),
        condition,
        from,
        until,
    })
}

fn one_claim(claim: &file::Claim, names: Names<'_>) -> Result<Claim, Problem> {
    let (text, what) = match (&claim.over, &claim.proportion, &claim.value, &claim.interval) {
        (Some(text), Some(proportion), None, None) => {
            confidence(claim.name.at, proportion.confidence)?;
            let over = expr::condition(text, names)?;
            (
                text,
                Claimed::Proportion {
                    over,
                    at_least: proportion.at_least.get(),
                    confidence: proportion.confidence.get(),
                },
            )
        }
        (None, None, Some(text), Some(interval)) => {
            confidence(claim.name.at, interval.confidence)?;
            let value = expr::number(text, names)?;
            if value.call().is_none() {
                return Err(Problem::new(
                    text.at,
                    "a claim without samples: a fixed number is the same in every run",
                ));
            }
            let (bound, at_most) = match (&interval.at_most, &interval.at_least) {
                (Some(bound), None) => (bound, true),
                (None, Some(bound)) => (bound, false),
                _ => {
                    return Err(Problem::new(
                        claim.name.at,
                        "the interval needs exactly one of at-most, at-least",
                    ));
                }
            };
            let kind = match value.unit() {
                super::metric::Unit::One => "number",
                super::metric::Unit::Seconds => "time",
                super::metric::Unit::Bytes => "size",
            };
            let magnitude = match bound.magnitude() {
                Some((found, magnitude)) if found == kind => magnitude,
                _ => {
                    return Err(Problem::new(
                        bound.at,
                        format!("wanted {}, got \"{}\"", value.unit(), bound.value),
                    ));
                }
            };
            let quantile = interval.quantile.get();
            (
                text,
                Claimed::Quantile {
                    value,
                    quantile,
                    bound: magnitude,
                    at_most,
                    bound_text: bound.value.to_string(),
                    confidence: interval.confidence.get(),
                    min_seeds: interval.min_seeds,
                },
            )
        }
        _ => {
            return Err(Problem::new(
                claim.name.at,
                "a claim is 'over' with 'proportion', or 'value' with 'interval'",
            ));
        }
    };
    Ok(Claim {
        name: claim.name.value.clone(),
        text: text.value.clone(),
        what,
    })
}

fn confidence(at: At, confidence: Share) -> Result<(), Problem> {
    if (0.5..1.0).contains(&confidence.get()) {
        return Ok(());
    }
    Err(Problem::new(
        at,
        format!(
            "wanted a confidence from 0.5 to below 1, got {}",
            confidence.get()
        ),
    ))
}
