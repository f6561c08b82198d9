//! Checks beyond types: references, bounds, expressions. Every problem is reported, each at its place.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use phantom_censor::engine::RULES_MAX;
use phantom_censor::file::{RuleText, rule_problems};
use phantom_core::directory::sign::AUTHORITIES_MAX;
use phantom_core::rendezvous::SLOTS;
use phantom_placed::words::{nearest, shortened};
use phantom_placed::{At, Placed, Problem};

use super::access::access;
use super::censor::{DIRECTORY, PUBLISHED};
use super::deeds::{deeds, paced};
use super::file::{self, Count, FORMAT, Model, Node, Population, Scenario};
use super::load::is_name;
use super::params::allowed;
use super::promises::promises;
pub use super::promises::{Claim, Claimed, Invariant, Kind};
use super::systems::{HOSTS_PER_SYSTEM_MAX, SYSTEMS_MAX};
use super::units::{Spread, Time};

/// Most edges of a graph: what a plan holds is bounded before it is drawn.
const MOST_EDGES: u64 = 20_000_000;
/// Hosts are called by their population and a number, contacts by their host: both have room for 63 bytes.
const POPULATION_NAME_MAX: usize = 48;

/// What checking adds to a scenario: its expressions, typed, and how many peers each population has.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    /// The invariants.
    pub invariants: Vec<Invariant>,
    /// The claims.
    pub claims: Vec<Claim>,
    /// Population to number of peers.
    pub counts: BTreeMap<String, u64>,
}

pub(super) struct Checker {
    pub(super) problems: Vec<Problem>,
}

impl Checker {
    pub(super) fn wrong(&mut self, at: At, message: impl Into<String>) {
        self.problems.push(Problem::new(at, message));
    }

    pub(super) fn known<'a>(
        &mut self,
        what: &str,
        name: &Placed<String>,
        choices: impl IntoIterator<Item = &'a str> + Clone,
    ) -> bool {
        let found = choices.clone().into_iter().any(|choice| choice == name.value);
        if !found {
            self.problems.push(Problem::unknown(name.at, what, name, choices));
        }
        found
    }

    pub(super) fn names<'a>(
        &mut self,
        what: &str,
        names: impl IntoIterator<Item = &'a Placed<String>>,
        words: bool,
    ) {
        let mut seen = BTreeSet::new();
        for name in names {
            if !words && !is_name(name) {
                self.wrong(
                    name.at,
                    format!("'{}' is no name of a {what}: a-z, 0-9 and -", shortened(name)),
                );
            } else if words && name.trim().is_empty() {
                self.wrong(name.at, format!("the {what} needs a name"));
            }
            if !seen.insert(name.value.as_str()) {
                self.wrong(name.at, format!("there are two of the name '{}'", name.value));
            }
        }
    }

    /// When a rule of the censor holds.
    fn holds(&mut self, rule: &RuleText, duration: Time) {
        let end_ns = u64::try_from(duration.0.as_nanos()).unwrap_or(u64::MAX);
        let phases = rule.phases.iter().map(|phase| (rule.name.at, phase.from));
        let from = rule.from.iter();
        let from = from.map(|from| (from.at.or(rule.name.at), from.value));
        for (at, from) in from.chain(phases) {
            if from.0 >= end_ns {
                self.wrong(
                    at,
                    format!("{from} is not before the end of the run, {duration}: the rule never holds"),
                );
            }
        }
    }

    pub(super) fn window(
        &mut self,
        from: Option<&Placed<Time>>,
        until: Option<&Placed<Time>>,
        duration: Time,
    ) {
        if let Some(from) = from
            && from.value > duration
        {
            self.wrong(
                from.at,
                format!("{} is after the end of the run, {duration}", from.value),
            );
        }
        if let (Some(until), from) = (until, from.map_or(Time::default(), |from| from.value))
            && until.value <= from
        {
            self.wrong(
                until.at,
                format!("ends at {} before it begins at {from}", until.value),
            );
        }
    }
}

/// Checks `scenario`, whose file is called `stem`.
///
/// # Errors
/// Everything that is wrong.
pub fn check(scenario: &Scenario, stem: Option<&str>) -> Result<Checked, Vec<Problem>> {
    let mut checker = Checker { problems: Vec::new() };
    head(&mut checker, scenario, stem);
    places(&mut checker, scenario);
    let counts = populations(&mut checker, scenario);
    room(&mut checker, scenario, &counts);
    graphs(&mut checker, scenario, &counts);
    censor(&mut checker, scenario);
    access(&mut checker, scenario);
    deeds(&mut checker, scenario);
    let (invariants, claims) = promises(&mut checker, scenario);
    sweep(&mut checker, scenario);
    ci(&mut checker, scenario);
    if checker.problems.is_empty() {
        Ok(Checked {
            invariants,
            claims,
            counts,
        })
    } else {
        Err(checker.problems)
    }
}

fn head(checker: &mut Checker, scenario: &Scenario, stem: Option<&str>) {
    if scenario.format.value != FORMAT {
        checker.wrong(
            scenario.format.at,
            format!(
                "this program reads format {FORMAT}, not {}",
                scenario.format.value
            ),
        );
    }
    checker.names("scenario", [&scenario.name], false);
    if let Some(stem) = stem
        && stem != scenario.name.value
        && is_name(stem)
    {
        checker.wrong(
            scenario.name.at,
            format!("the name is that of the file: \"{stem}\""),
        );
    }
    let duration = &scenario.run.duration;
    if duration.0.is_zero() {
        checker.wrong(duration.at, "a run lasts longer than nothing");
    }
    if duration.0 > Duration::from_secs(400 * 86_400) {
        checker.wrong(duration.at, "a run lasts at most 400 days");
    }
    let interval = &scenario.run.document_interval;
    if !(Duration::from_secs(4)..=Duration::from_secs(86_400)).contains(&interval.0)
        || interval.0.subsec_nanos() != 0
    {
        checker.wrong(interval.at, "documents come every 4 s to 1 day, in whole seconds");
    }
}

fn places(checker: &mut Checker, scenario: &Scenario) {
    let topology = &scenario.topology;
    checker.names("region", topology.region.iter().map(|region| &region.name), false);
    let regions: Vec<&str> = topology
        .region
        .iter()
        .map(|region| region.name.as_str())
        .collect();
    for region in &topology.region {
        if !(1..=1_000).contains(&region.ases.value) {
            checker.wrong(
                region.ases.at,
                format!("wanted 1 to 1000 networks, got {}", region.ases.value),
            );
        }
    }
    for link in &topology.link {
        for end in &link.between {
            checker.known("region", end, regions.iter().copied());
        }
    }
}

fn populations(checker: &mut Checker, scenario: &Scenario) -> BTreeMap<String, u64> {
    let regions: Vec<&str> = scenario
        .topology
        .region
        .iter()
        .map(|region| region.name.as_str())
        .collect();
    let peers = match scenario.params.get("peers").map(|param| &param.default) {
        Some(file::ParamValue::Int(peers)) => u64::try_from(*peers).unwrap_or(0),
        _ => 0,
    };
    if scenario.population.is_empty() {
        checker.wrong(
            scenario.name.at,
            "nobody takes part: a scenario needs a [population.NAME]",
        );
    }
    let needs_peers = |count: &Count| matches!(count, Count::Share { .. } | Count::Rest | Count::Fixed(_));
    let mut counts = BTreeMap::new();
    let mut used = 0_u64;
    let mut rest: Option<(&String, At)> = None;
    for (name, population) in &scenario.population {
        checker.known("region", &population.region, regions.iter().copied());
        let at = population.count.at;
        if !is_name(name) {
            checker.wrong(at, format!("'{name}' is no name of a population: a-z, 0-9 and -"));
        } else if name.len() > POPULATION_NAME_MAX {
            checker.wrong(
                at,
                format!("'{name}' is too long for a population: at most {POPULATION_NAME_MAX} characters"),
            );
        }
        if let Node::Client(client) | Node::Insider(client) = &population.node {
            paced(checker, client.poll.at.or(at), Spread::Fixed(client.poll.value));
        }
        transports(checker, population);
        if needs_peers(&population.count) && !scenario.params.contains_key("peers") {
            checker.wrong(
                at,
                "this counts in peers: give the scenario a whole-number parameter 'peers' in [params]",
            );
            continue;
        }
        let count = match population.count.value {
            Count::Share {
                of_peers,
                at_least,
                at_most,
            } => {
                let most = at_most.unwrap_or(u64::MAX);
                if most < at_least {
                    checker.wrong(at, format!("at-most = {most} is less than at-least = {at_least}"));
                }
                of_peers.of(peers).max(at_least).min(most)
            }
            Count::Fixed(count) | Count::Extra(count) => count,
            Count::Rest => {
                if let Some((other, _)) = rest {
                    checker.wrong(at, format!("'{other}' takes the rest already"));
                }
                rest = Some((name, at));
                continue;
            }
        };
        if count == 0 {
            checker.wrong(
                at,
                format!(
                    "'{name}' has zero peers; wanted at least one (leave the population out, or set at-least)"
                ),
            );
        }
        if count > 1_000_000 {
            checker.wrong(at, format!("'{name}' has {count} peers; at most a million"));
        }
        if !matches!(population.count.value, Count::Extra(_)) {
            used = used.saturating_add(count);
        }
        counts.insert(name.clone(), count);
    }
    match rest {
        Some((name, at)) if used >= peers => checker.wrong(
            at,
            format!("'{name}' has zero peers: the other populations take {used} of {peers}; wanted at least one left"),
        ),
        Some((name, _)) => {
            counts.insert(name.clone(), peers - used);
        }
        None => {}
    }
    arranged(checker, scenario, &counts);
    counts
}

/// What bridges speak, each once; others speak nothing but links.
fn transports(checker: &mut Checker, population: &Population) {
    let Some(transports) = &population.transports else {
        return;
    };
    if population.node != Node::Bridge {
        checker.wrong(
            transports.at,
            "only bridges have transports: node = \"bridge\"; whoever dials speaks what the bridge does",
        );
    }
    let different: BTreeSet<_> = transports.iter().collect();
    if different.is_empty() || different.len() != transports.len() {
        checker.wrong(
            transports.at,
            "wanted at least one of plain, obfs4, obfs4-http, obfs4-tls, each at most once",
        );
    }
}

/// What is arranged before a world begins can be: somebody signs the directory, and bridges fill a cohort.
fn arranged(checker: &mut Checker, scenario: &Scenario, counts: &BTreeMap<String, u64>) {
    let of = |node: Node| {
        let those = scenario
            .population
            .iter()
            .filter(move |(_, all)| all.node == node);
        let at = those
            .clone()
            .next_back()
            .map(|(_, population)| population.count.at);
        let hosts: u64 = those.filter_map(|(name, _)| counts.get(name)).sum();
        (at, hosts)
    };
    match of(Node::Authority) {
        (None, _) if !scenario.population.is_empty() => checker.wrong(
            scenario.name.at,
            "nobody signs the directory: a scenario needs a [population.NAME] with node = \"authority\"",
        ),
        (Some(at), hosts) if hosts > AUTHORITIES_MAX as u64 => checker.wrong(
            at,
            format!("{hosts} authorities are too many; wanted at most {AUTHORITIES_MAX}"),
        ),
        _ => {}
    }
    if let (Some(at), hosts @ 1..) = of(Node::Bridge)
        && hosts < SLOTS as u64
    {
        checker.wrong(
            at,
            format!("{hosts} bridges are too few: a cohort has {SLOTS}; wanted at least {SLOTS}, or none"),
        );
    }
}

/// Whether there are addresses for everybody.
fn room(checker: &mut Checker, scenario: &Scenario, counts: &BTreeMap<String, u64>) {
    let regions = &scenario.topology.region;
    let systems: u64 = regions.iter().map(|region| u64::from(region.ases.value)).sum();
    if systems > SYSTEMS_MAX
        && let Some(last) = regions.last()
    {
        checker.wrong(
            last.ases.at.or(last.name.at),
            format!("the regions have {systems} networks together; at most {SYSTEMS_MAX}"),
        );
    }
    for region in regions {
        let hosts = scenario
            .population
            .iter()
            .filter(|(_, population)| population.region.value == region.name.value)
            .filter_map(|(name, _)| counts.get(name))
            .sum::<u64>();
        let most = HOSTS_PER_SYSTEM_MAX * u64::from(region.ases.value);
        if hosts > most && region.ases.value > 0 {
            checker.wrong(
                region.ases.at.or(region.name.at),
                format!(
                    "{hosts} hosts in {} networks; each has room for {HOSTS_PER_SYSTEM_MAX}: raise 'ases'",
                    region.ases.value
                ),
            );
        }
    }
}

fn graphs(checker: &mut Checker, scenario: &Scenario, counts: &BTreeMap<String, u64>) {
    let populations = || scenario.population.keys().map(String::as_str).collect::<Vec<_>>();
    for graph in scenario.graph.values() {
        for name in &graph.among {
            checker.known("population", name, populations());
        }
        let at = graph.among.first().map_or(At::NONE, |name| name.at);
        let (fits, what, ring, degree) = match &graph.model {
            Model::SmallWorld { degree, .. } => {
                (!graph.among.is_empty(), "one population or more", true, degree)
            }
            Model::Each { degree, .. } => (
                graph.among.len() == 2,
                "two populations: those of the second are tied to some of the first",
                false,
                degree,
            ),
        };
        if !fits {
            checker.wrong(
                at.or(scenario.name.at),
                format!("this model is among {what}; got {}", graph.among.len()),
            );
        }
        if degree.value == 0 || degree.value > 1_000 || (ring && degree.value % 2 == 1) {
            let even = if ring { ", even" } else { "" };
            checker.wrong(
                degree.at,
                format!("wanted a degree from 1 to 1000{even}, got {}", degree.value),
            );
        }
        let tied = graph
            .among
            .iter()
            .filter_map(|name| counts.get(&name.value))
            .sum::<u64>();
        if tied.saturating_mul(u64::from(degree.value)) > MOST_EDGES {
            let message = format!(
                "{} edges for each of {tied} peers; at most {MOST_EDGES} edges",
                degree.value
            );
            checker.wrong(degree.at, message);
        }
    }
}

fn censor(checker: &mut Checker, scenario: &Scenario) {
    let Some(censor) = &scenario.censor else { return };
    let duration = scenario.run.duration.value;
    let regions: Vec<&str> = scenario
        .topology
        .region
        .iter()
        .map(|region| region.name.as_str())
        .collect();
    for end in &censor.at {
        checker.known("region", end, regions.iter().copied());
    }
    if censor.at[0] == censor.at[1] {
        checker.wrong(censor.at[1].at, "a censor sits between two different regions");
    }
    if let Some(preset) = censor.preset.first() {
        checker.wrong(
            preset.name.at,
            "a preset is resolved when a file is read; a scenario built in Rust has its rules",
        );
    }
    lists(checker, scenario, censor);
    if let Some(beyond) = censor.rule.get(RULES_MAX) {
        checker.wrong(
            beyond.at,
            format!("at most {RULES_MAX} rules are kept, and this is one more"),
        );
    }
    for rule in &censor.rule {
        if !is_name(&rule.name) {
            let shown = shortened(&rule.name);
            checker.wrong(
                rule.name.at,
                format!("'{shown}' is no name of a rule: a-z, 0-9 and -"),
            );
        }
        if rule.enabled {
            checker.holds(rule, duration);
        }
    }
    let wrong = rule_problems(&censor.rule, &scenario.lists());
    checker.problems.extend(wrong);
}

/// Lists that only this world can fill, and those that it cannot.
fn lists(checker: &mut Checker, scenario: &Scenario, censor: &file::Censor) {
    let insiders = scenario
        .population
        .values()
        .any(|population| matches!(population.node, Node::Insider(_)));
    for (name, list) in &censor.list {
        if !is_name(name) {
            let shown = shortened(name);
            checker.wrong(list.at, format!("'{shown}' is no name of a list: a-z, 0-9 and -"));
        }
        if [PUBLISHED, DIRECTORY].contains(&name.as_str()) || scenario.population.contains_key(name) {
            checker.wrong(
                list.at,
                format!("'@{name}' is a list of the world's own; choose another name"),
            );
        }
        if list.learned_by_insiders.is_some() && !insiders {
            checker.wrong(
                list.at,
                "this list needs insiders, and no population has node = \"insider\"",
            );
        }
        if list.addresses.is_empty()
            && list.names.is_empty()
            && list.learned_by_insiders.is_none()
            && list.systems.is_none()
        {
            checker.wrong(
                list.at,
                "this list has nothing in it; it can have addresses, names, learned-by-insiders, systems",
            );
        }
        if let Some(systems) = &list.systems {
            let regions = scenario.topology.region.iter();
            let names: Vec<&str> = regions.clone().map(|region| region.name.as_str()).collect();
            if checker.known("region", &systems.of, names) {
                let there = regions
                    .clone()
                    .find(|region| region.name.value == systems.of.value);
                let most = there.map_or(0, |region| region.ases.value);
                if systems.first.value == 0 || systems.first.value > most {
                    checker.wrong(
                        systems.first.at,
                        format!(
                            "wanted 1 to {most}, the region's systems, got {}",
                            systems.first.value
                        ),
                    );
                }
            }
        }
    }
}

fn sweep(checker: &mut Checker, scenario: &Scenario) {
    let Some(sweep) = &scenario.sweep else { return };
    for (name, values) in &sweep.grid {
        let Some(param) = scenario.params.get(name) else {
            checker.wrong(
                values.at,
                no_param("the grid goes over parameters", name, scenario),
            );
            continue;
        };
        if values.is_empty() {
            checker.wrong(values.at, "a grid needs at least one value");
        }
        for value in &values.value {
            if let Err(message) = allowed(name, param, value) {
                checker.wrong(values.at, message);
            }
        }
    }
}

fn ci(checker: &mut Checker, scenario: &Scenario) {
    let Some(ci) = &scenario.ci else { return };
    if !(1..=file::CHECK_SEEDS_MAX).contains(&ci.seeds.value) {
        checker.wrong(
            ci.seeds.at,
            format!(
                "the gate goes through 1 to {} seeds, not {}",
                file::CHECK_SEEDS_MAX,
                ci.seeds.value
            ),
        );
    }
    for (name, value) in &ci.set {
        match scenario.params.get(name) {
            None => checker.wrong(value.at, no_param("the gate sets parameters", name, scenario)),
            Some(param) if param.default.like(&value.value.to_string()).is_none() => checker.wrong(
                value.at,
                format!("{name} wants {}, not '{}'", param.default.kind(), value.value),
            ),
            Some(param) => {
                if let Err(message) = allowed(name, param, &value.value) {
                    checker.wrong(value.at, message);
                }
            }
        }
    }
}

fn no_param(wanted: &str, name: &str, scenario: &Scenario) -> String {
    let mut message = format!("{wanted}, and '{name}' is none");
    if let Some(near) = nearest(name, scenario.params.keys().map(String::as_str)) {
        message.push_str(&format!("; did you mean '{near}'?"));
    }
    message
}
