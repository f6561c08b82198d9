//! A censor as a file: rules in TOML, each with the source that it was taken from.
//!
//! ```
//! use phantom_censor::file::CensorFile;
//!
//! let text = r#"
//! name = "no-quic"
//! summary = "Cuts every flow over UDP but DNS"
//!
//! [[rule]]
//! name = "udp-off"
//! source = "an example"
//! match = { transport = "udp", not = { ports = [53] } }
//! action = "drop"
//! "#;
//! let censor = CensorFile::parse("no-quic.toml", text)?;
//! assert_eq!(censor.rules().len(), 1);
//! # Ok::<(), phantom_censor::file::FileError>(())
//! ```
//!
//! Keys are in kebab case, quantities are text with a unit, and what is not known is refused at its line and column with the
//! choices. The format is described by example in docs/CENSOR.md.

mod action;
mod forgery;
mod lists;
mod matches;
mod probe;
mod programs;
pub mod units;

use std::collections::BTreeMap;
use std::num::NonZeroU32;

use phantom_placed::tree;
pub use phantom_placed::tree::TEXT_BYTES_MAX;
use phantom_placed::words::shortened;
pub use phantom_placed::{At, FileError, Place, Placed, Problem};
use phantom_placed::{Sources, from_node};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use action::{Action, ResidualAction, ResidualText};
pub use forgery::{Answers, ForgeText, MADE_UP_MAX};
pub use lists::{List, Lists};
pub use matches::{Bytes, FirstPackets, Flows, Lengths, Match, Packets, Remainder, Unlike};
pub use probe::{ProbeText, Within};
pub use programs::{LoadError, NoPrograms, Programs, Unloaded};
use units::{Percent, Time};

use crate::engine::program::Judge;
use crate::engine::residual::Residual;
use crate::engine::rule::{Rule, Way};
use crate::engine::{Engine, EngineConfig, RULES_MAX};
use crate::flow::FlowConfig;

/// A censor. Everything in it is good: [`CensorFile::parse`] is the only way to one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct CensorFile {
    name: String,
    summary: String,
    #[serde(default = "flow_idle", skip_serializing_if = "is_flow_idle")]
    flow_idle: Placed<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    flows_max: Option<Placed<NonZeroU32>>,
    #[serde(rename = "list", default, skip_serializing_if = "BTreeMap::is_empty")]
    lists: BTreeMap<String, List>,
    #[serde(rename = "rule", default)]
    rules: Vec<Placed<RuleText>>,
}

/// A rule as the file has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct RuleText {
    /// By which it is counted; of its file's rules no other has it.
    pub name: Placed<String>,
    /// Whether it is used at all. Default: yes.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub enabled: bool,
    /// Where its parameters come from: paper and section, issue, or that they are a guess. A scenario may leave it out, a
    /// censor's own file not.
    #[serde(default, skip_serializing_if = "is_default")]
    pub source: Placed<String>,
    /// What it sees of the client's first bytes. Default: one segment, as most measured censors.
    #[serde(default, skip_serializing_if = "is_default")]
    pub inspects: Inspects,
    /// It holds from here on. Default: from the beginning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Placed<Time>>,
    /// It holds until here. Default: until the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Placed<Time>>,
    /// When it holds, in place of `from` and `until`: several times. Default: always.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub phases: Vec<Phase>,
    /// Which flows meet it: all of these. Default: every flow.
    #[serde(rename = "match", default, skip_serializing_if = "is_default")]
    pub matches: Match,
    /// A script beside the file that is asked about each packet of those flows until it sentences them. Default: none, and
    /// they are sentenced at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<Placed<String>>,
    /// A model beside the file that the script may ask. Default: none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Placed<String>>,
    /// The script, read.
    #[serde(skip)]
    judge: Option<Judge>,
    /// On which share of flows that meet it it acts. Default: 100 %.
    #[serde(default = "all", skip_serializing_if = "is_all")]
    pub share: Percent,
    /// On which share of the others: every other flow with data from the client, of whatever transport. Default: 0 %.
    #[serde(default = "none", skip_serializing_if = "is_none")]
    pub by_mistake: Percent,
    /// Which packets of a flow it acts on. Default: both ways.
    #[serde(default, skip_serializing_if = "is_default")]
    pub way: Way,
    /// What it does to them.
    pub action: Action,
    /// What follows for other flows. Default: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub residual: Option<ResidualText>,
}

/// What a rule sees of the client's first bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Inspects {
    /// The first data packet alone: a name that is split over two is not seen.
    #[default]
    OneSegment,
    /// The stream, put together.
    Reassembled,
}

/// A time in which a rule holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Phase {
    /// Its beginning.
    pub from: Time,
    /// Its end, which does not belong to it.
    pub until: Time,
}

impl CensorFile {
    /// Reads a censor without scripts from `text`, which messages call `file`.
    ///
    /// # Errors
    /// What is wrong, each with its line and column: the first mistake of form, or else all rules that make no sense. A
    /// script is wrong: [`CensorFile::parse_scripted`] reads those.
    pub fn parse(file: &str, text: &str) -> Result<Self, FileError> {
        Self::parse_with(file, text, &Lists::default())
    }

    /// The same; its rules may speak of lists that whoever uses it knows.
    ///
    /// # Errors
    /// See [`CensorFile::parse`].
    pub fn parse_with(file: &str, text: &str, known: &Lists) -> Result<Self, FileError> {
        Self::parse_all(file, text, known, &mut NoPrograms)
    }

    /// Reads a censor from `text`, which messages call `file`, and the scripts that it names through `programs`.
    ///
    /// # Errors
    /// What is wrong, as for [`CensorFile::parse`], or with a script, which then is the file of the error.
    pub fn parse_scripted(file: &str, text: &str, programs: &mut dyn Programs) -> Result<Self, FileError> {
        Self::parse_all(file, text, &Lists::default(), programs)
    }

    /// The same of a file that speaks of lists and of scripts.
    ///
    /// # Errors
    /// See [`CensorFile::parse_scripted`].
    pub fn parse_all(
        file: &str,
        text: &str,
        known: &Lists,
        programs: &mut dyn Programs,
    ) -> Result<Self, FileError> {
        let mut sources = Sources::default();
        let number = sources.add(file, text);
        // What is wrong with the whole is told at its beginning.
        let top = At::new(number, 0);
        let failed = |problems: Vec<Problem>| {
            FileError::new(&sources, problems.into_iter().map(|problem| problem.or_at(top)))
        };
        let mut censor: Self = tree::parse(number, sources.text(number))
            .and_then(|node| from_node(&node))
            .map_err(|problem| failed(vec![problem]))?;
        let mut problems = Vec::new();
        for rule in censor.rules.iter_mut().take(RULES_MAX) {
            match rule.value.load(programs) {
                Ok(()) => {}
                Err(Unloaded::Here(problem)) => problems.push(problem),
                Err(Unloaded::There(error)) => return Err(error),
            }
        }
        problems.extend(censor.problems(known));
        if problems.is_empty() {
            Ok(censor)
        } else {
            Err(failed(problems))
        }
    }

    fn problems(&self, known: &Lists) -> Vec<Problem> {
        let own = self.own_lists();
        let mut problems: Vec<Problem> = own.problems().collect();
        let lists = own.over(known);
        if self.rules.is_empty() {
            problems.push(Problem::new(At::NONE, "a censor without a [[rule]] does nothing"));
        }
        if let Some(beyond) = self.rules.get(RULES_MAX) {
            let many = format!("at most {RULES_MAX} rules are kept, and this is one more");
            problems.push(Problem::new(beyond.at, many));
        }
        if self.flow_idle.0 == 0 {
            problems.push(Problem::new(
                self.flow_idle.at,
                "'flow-idle' of zero forgets every flow at once",
            ));
        }
        for text in &self.rules {
            if text.source.trim().is_empty() {
                let what = format!(
                    "rule '{}': its source is empty: say where it comes from, or that it is a guess",
                    shortened(&text.name)
                );
                problems.push(Problem::new(text.source.at.or(text.at), what));
            }
        }
        problems.extend(rule_problems(&self.rules, &lists));
        problems
    }

    /// By which it is known.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it does, in a sentence.
    pub fn summary(&self) -> &str {
        &self.summary
    }

    /// Its rules as the file has them.
    pub fn texts(&self) -> impl Iterator<Item = &RuleText> {
        self.rules.iter().map(|rule| &rule.value)
    }

    fn own_lists(&self) -> Lists {
        self.lists.clone().into_iter().collect()
    }

    /// Its rules as the engine takes them, those that are enabled.
    pub fn rules(&self) -> Vec<Rule> {
        self.rules_with(&Lists::default())
    }

    /// The same; `known`: the lists that it was parsed with.
    pub fn rules_with(&self, known: &Lists) -> Vec<Rule> {
        let lists = self.own_lists().over(known);
        let enabled = self.texts().filter(|rule| rule.enabled);
        enabled.map(|rule| rule.rule(&lists)).collect()
    }

    /// How long it remembers a flow without packets, if its file says it.
    pub fn flow_idle_ns(&self) -> Option<u64> {
        (!is_flow_idle(&self.flow_idle)).then_some(self.flow_idle.0)
    }

    /// How many flows it remembers, if its file says it.
    pub fn flows_max(&self) -> Option<u32> {
        self.flows_max.map(|flows| flows.get())
    }

    /// Bounds and habits of an engine for it; all chances follow from `seed`.
    pub fn config(&self, seed: u64) -> EngineConfig {
        let flows = FlowConfig::default();
        EngineConfig {
            seed,
            flows: FlowConfig {
                idle_ns: self.flow_idle.0,
                flows_max: self.flows_max().map_or(flows.flows_max, |max| max as usize),
                ..flows
            },
            ..EngineConfig::default()
        }
    }

    /// The censor at work; all chances follow from `seed`.
    pub fn engine(&self, seed: u64) -> Engine {
        Engine::new(self.config(seed), self.rules())
    }

    /// Whether a rule asks a model, so that the same packets may get other verdicts on another machine.
    pub fn uses_model(&self) -> bool {
        self.rules().iter().any(Rule::uses_model)
    }

    /// Writes it as [`CensorFile::parse`] reads it; comments are not kept.
    ///
    /// # Errors
    /// None that is known: TOML has every value that a censor has.
    pub fn to_text(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }
}

/// What is wrong with rules, each with its place: a name that another has, a list that nobody knows, one that can never act.
pub fn rule_problems(rules: &[Placed<RuleText>], lists: &Lists) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut before: Vec<(&str, Rule)> = Vec::new();
    for (place, text) in rules.iter().enumerate() {
        let name = text.name.as_str();
        let mut at_rule = |at: At, what: String| {
            problems.push(Problem::new(at, format!("rule '{}': {what}", shortened(name))));
        };
        if name.trim().is_empty() {
            at_rule(text.name.at, "its name is empty".to_owned());
        }
        if rules[..place].iter().any(|other| other.name == text.name) {
            at_rule(text.name.at, "an earlier rule has this name".to_owned());
        }
        if !text.phases.is_empty()
            && let Some(bound) = text.from.or(text.until)
        {
            at_rule(
                bound.at,
                "'phases' says when it holds: 'from' and 'until' say it again".to_owned(),
            );
        }
        if let (Some(from), Some(until)) = (text.from, text.until)
            && until.value <= from.value
        {
            at_rule(
                until.at,
                format!("it ends at {} before it begins at {}", until.value, from.value),
            );
            continue;
        }
        if !text.enabled {
            continue;
        }
        let unknown = text.matches.unknown_lists(lists);
        let rule = text.rule(lists);
        if unknown.is_empty()
            && let Err(error) = rule.check()
        {
            at_rule(text.at, error.to_string());
        }
        if let Some((stopper, _)) = before.iter().find(|(_, stopper)| stopper.hides(&rule)) {
            let what =
                format!("it can never act: rule '{stopper}' before it stops every packet that could meet it");
            at_rule(text.at, what);
        }
        if unknown.is_empty() {
            before.push((name, rule));
        }
        problems.extend(unknown);
    }
    problems
}

impl RuleText {
    /// All that its program was made of, if it has one and it was read.
    pub fn program_parts(&self) -> Option<[&[u8]; 2]> {
        self.judge.as_ref().map(|judge| judge.0.parts())
    }

    /// The rule as the engine takes it.
    pub fn rule(&self, lists: &Lists) -> Rule {
        let bound = |time: Option<Placed<Time>>, default| time.map_or(default, |time| time.0);
        let phases = match (self.from, self.until) {
            (None, None) => self
                .phases
                .iter()
                .map(|phase| (phase.from.0, phase.until.0))
                .collect(),
            (from, until) => vec![(bound(from, 0), bound(until, u64::MAX))],
        };
        Rule {
            name: self.name.value.clone(),
            phases,
            all: self.matches.conditions(lists),
            judge: self.judge.clone(),
            reassembles: self.inspects == Inspects::Reassembled,
            acts_on: self.share.of_2_32(),
            acts_by_mistake_on: self.by_mistake.of_2_32(),
            way: self.way,
            action: self.action.action(),
            residual: self.residual.map(Residual::from),
        }
    }
}

fn flow_idle() -> Placed<Time> {
    Time(FlowConfig::default().idle_ns).into()
}

fn is_flow_idle(time: &Placed<Time>) -> bool {
    *time == flow_idle()
}

const fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
const fn is_yes(value: &bool) -> bool {
    *value
}

const fn all() -> Percent {
    Percent::ALL
}

fn is_all(share: &Percent) -> bool {
    *share == Percent::ALL
}

const fn none() -> Percent {
    Percent::NONE
}

fn is_none(share: &Percent) -> bool {
    *share == Percent::NONE
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests;
