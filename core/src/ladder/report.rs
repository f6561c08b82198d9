//! What was tried and what each attempt saw, bounded, for a person and for the scenario report.

use std::fmt;

use super::{Kind, ORDER, Outcome, Step};

/// What one step of the ladder did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StepReport {
    /// How often the step was asked for entries.
    pub asked: u32,
    /// How often it had none.
    pub empty: u32,
    /// How many different entries it gave.
    pub entries: u32,
    /// How its attempts ended over each transport, with how often, in the order of [`Kind`] and [`Outcome`].
    pub outcomes: Vec<((Kind, Outcome), u32)>,
}

/// What the whole ladder did since it last started. Lists in order, not trees: it is short, and kept while the client is in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    steps: Vec<(Step, StepReport)>,
}

/// The value of `key`, the default if it is new, in a list in the order of its keys.
fn entry<K: Ord + Copy, V: Default>(list: &mut Vec<(K, V)>, key: K) -> &mut V {
    let place = list.binary_search_by_key(&key, |(known, _)| *known);
    let at = place.unwrap_or_else(|at| {
        list.reserve_exact(1);
        list.insert(at, (key, V::default()));
        at
    });
    &mut list[at].1
}

impl Report {
    /// What `step` did.
    pub fn step(&self, step: Step) -> Option<&StepReport> {
        self.steps
            .iter()
            .find(|(known, _)| *known == step)
            .map(|(_, seen)| seen)
    }

    /// Attempts in all.
    pub fn attempts(&self) -> u32 {
        self.steps
            .iter()
            .flat_map(|(_, seen)| &seen.outcomes)
            .map(|(_, times)| times)
            .sum()
    }

    pub(super) fn ended(&mut self, step: Step, transport: Kind, outcome: Outcome) {
        *entry(&mut self.step_mut(step).outcomes, (transport, outcome)) += 1;
    }

    pub(super) fn step_mut(&mut self, step: Step) -> &mut StepReport {
        entry(&mut self.steps, step)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, step) in ORDER
            .iter()
            .filter_map(|step| Some((step, self.step(*step)?)))
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
            for ((transport, outcome), times) in &seen.outcomes {
                write!(f, ", {}", describe(*outcome))?;
                if !transport.is_plain() {
                    write!(f, " over {}", transport.name())?;
                }
                write!(f, " {times}")?;
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
