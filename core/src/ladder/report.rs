//! What was tried and what each attempt saw, bounded, for a person and for the scenario report.

use std::collections::BTreeMap;
use std::fmt;

use super::{ORDER, Outcome, Step};

/// What one step of the ladder did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StepReport {
    /// How often the step was asked for entries.
    pub asked: u32,
    /// How often it had none.
    pub empty: u32,
    /// How many different entries it gave.
    pub entries: u32,
    /// How its attempts ended, with how often.
    pub outcomes: BTreeMap<Outcome, u32>,
}

/// What the whole ladder did since it last started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    steps: BTreeMap<Step, StepReport>,
}

impl Report {
    /// What `step` did.
    pub fn step(&self, step: Step) -> Option<&StepReport> {
        self.steps.get(&step)
    }

    /// Attempts in all.
    pub fn attempts(&self) -> u32 {
        self.steps.values().flat_map(|step| step.outcomes.values()).sum()
    }

    pub(super) fn step_mut(&mut self, step: Step) -> &mut StepReport {
        self.steps.entry(step).or_default()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, step) in ORDER
            .iter()
            .filter_map(|step| Some((step, self.steps.get(step)?)))
            .enumerate()
        {
            let (step, seen) = step;
            if n > 0 {
                f.write_str("; ")?;
            }
            write!(f, "{}: ", name(*step))?;
            if seen.outcomes.is_empty() {
                match (seen.asked, seen.entries) {
                    (0, _) => f.write_str("not asked")?,
                    (_, 0) if seen.empty > 0 => write!(f, "nothing found ({} times)", seen.empty)?,
                    (_, 0) => f.write_str("no answer yet")?,
                    (_, entries) => write!(f, "{entries} entries, none dialled yet")?,
                }
                continue;
            }
            write!(f, "{} entries", seen.entries)?;
            for (outcome, times) in &seen.outcomes {
                write!(f, ", {} {times}", describe(*outcome))?;
            }
        }
        Ok(())
    }
}

/// What people call a step.
pub const fn name(step: Step) -> &'static str {
    match step {
        Step::Cached => "cached",
        Step::Static => "static list",
        Step::Directory => "directory",
        Step::Dht => "DHT",
        Step::Friend => "friends",
    }
}

/// What people call the end of an attempt.
pub const fn describe(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Connected => "connected",
        Outcome::TimedOut => "no answer",
        Outcome::Refused => "refused",
        Outcome::Reset => "reset",
        Outcome::WrongKey => "wrong key",
        Outcome::NoSuchName => "name not found",
        Outcome::NothingKnown => "nothing known",
        Outcome::Failed => "failed",
    }
}
