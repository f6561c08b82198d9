//! Checks of what is done in a world: faults and workloads by peers that can, as often as a run can bear.

use std::time::Duration;

use phantom_core::attachment::ATTACHMENT_MAX;
use phantom_placed::{At, Problem};

use super::check::Checker;
use super::file::{self, Deed, Node, Scenario, Start};
use super::units::{Spread, Time};

/// Most faults of one kind in a run.
const MOST_FAULTS: u64 = 1_000_000;
/// What is done again and again is done at most so often, on average: in no time it would be all that a run does.
const LEAST_PAUSE: Duration = Duration::from_millis(1);

pub(super) fn deeds(checker: &mut Checker, scenario: &Scenario) {
    let duration = scenario.run.duration.value;
    let populations: Vec<&str> = scenario.population.keys().map(String::as_str).collect();
    checker.names("fault", scenario.fault.iter().map(|fault| &fault.name), false);
    for fault in &scenario.fault {
        checker.known("population", &fault.on, populations.iter().copied());
        checker.window(Some(&fault.from), fault.until.as_ref(), duration);
        match (&fault.every, &fault.until) {
            (None, Some(until)) => checker.wrong(
                until.at,
                "with 'until' goes 'every': how long from one to the next",
            ),
            (Some(every), None) => checker.wrong(every.at, "with 'every' goes 'until': when it ends"),
            (Some(every), _) => {
                paced(checker, every.at, every.value);
                let least = match every.value {
                    Spread::Fixed(time) | Spread::Exponential(time) => time,
                    Spread::Uniform(_, high) => high,
                };
                let span = fault.until.as_ref().map_or(duration, |until| until.value);
                let times = span.0.as_nanos() / least.0.as_nanos().max(1);
                if times * u128::from(fault.peers) > u128::from(MOST_FAULTS) {
                    checker.wrong(
                        every.at,
                        format!("this makes more than {MOST_FAULTS} faults in a run"),
                    );
                }
            }
            (None, None) => {}
        }
    }
    checker.names(
        "workload",
        scenario.workload.iter().map(|workload| &workload.name),
        false,
    );
    for workload in &scenario.workload {
        checker.known("population", &workload.by, populations.iter().copied());
        checker.window(None, workload.until.as_ref(), duration);
        able(checker, workload, scenario);
        let (Deed::Write { every, .. } | Deed::AskForBridges { every }) = &workload.what;
        paced(checker, every.at, every.value);
        if matches!(workload.what, Deed::AskForBridges { .. }) {
            asking(checker, workload, scenario);
        }
        if let Deed::Write { to, size, ttl, .. } = &workload.what {
            let graphs: Vec<&str> = scenario
                .graph
                .iter()
                .filter(|(_, graph)| graph.carries == file::Carries::Messages)
                .map(|(name, _)| name.as_str())
                .collect();
            checker.known("graph that carries messages", to, graphs);
            if size.value.1.0.0 > ATTACHMENT_MAX as u64 || size.value.0.0.0 == 0 {
                checker.wrong(
                    size.at,
                    format!(
                        "a message has 1 B to 8 MiB (above 64 KiB it goes as an attachment), not {}",
                        size.value
                    ),
                );
            }
            if !(Duration::from_secs(1)..=Duration::from_secs(14 * 86_400)).contains(&ttl.0) {
                checker.wrong(ttl.at, format!("a message lives 1 s to 14 d, not {}", ttl.value));
            }
        }
    }
}

/// `workload` is done by peers that can do it.
fn able(checker: &mut Checker, workload: &file::Workload, scenario: &Scenario) {
    let those = |able: &dyn Fn(&str, &file::Population) -> bool| {
        let all = scenario.population.iter();
        let able = all.filter(|(name, population)| able(name, population));
        able.map(|(name, _)| name.as_str()).collect::<Vec<_>>()
    };
    let by = workload.by.value.as_str();
    let (what, choices) = match &workload.what {
        Deed::Write { to, .. } => {
            let Some(graph) = scenario.graph.get(&to.value) else {
                return; // Said already.
            };
            let tied = |name: &str| graph.among.iter().any(|among| among.value == name);
            let able = those(&|name, population| matches!(population.node, Node::Client(_)) && tied(name));
            (
                format!("clients in the graph '{}' write along it", to.value),
                able,
            )
        }
        Deed::AskForBridges { .. } => {
            let able = those(&|_, population| matches!(population.node, Node::Insider(_)));
            ("insiders ask for bridges".to_owned(), able)
        }
    };
    if scenario.population.contains_key(by) && !choices.contains(&by) {
        let help = if choices.is_empty() {
            "there are none here".to_owned()
        } else {
            format!("choices: {}", choices.join(", "))
        };
        let problem = Problem::new(workload.by.at, format!("{what}, and '{by}' is none of them"));
        checker.problems.push(problem.help(help));
    }
}

/// A workload that asks for bridges says only what counts: insiders have one each, as long as they are there.
fn asking(checker: &mut Checker, workload: &file::Workload, scenario: &Scenario) {
    if workload.start.value != Start::OnArrival {
        checker.wrong(
            workload.start.at.or(workload.name.at),
            "insiders ask from their arrival on: write start = \"on-arrival\"",
        );
    }
    if let Some(until) = &workload.until {
        checker.wrong(until.at, "insiders ask to the end of the run: leave 'until' out");
    }
    let asks = |other: &&file::Workload| {
        matches!(other.what, Deed::AskForBridges { .. }) && other.by.value == workload.by.value
    };
    if let Some(first) = scenario.workload.iter().find(asks)
        && first.name.value != workload.name.value
    {
        checker.wrong(
            workload.name.at,
            format!(
                "'{}' asks for bridges already, by '{}'",
                workload.by.value, first.name.value
            ),
        );
    }
}

/// What is done `every` so often leaves time for the rest.
pub(super) fn paced(checker: &mut Checker, at: At, every: Spread) {
    if every.mean() < LEAST_PAUSE {
        checker.wrong(
            at,
            format!("wanted at least {} on average, got {every}", Time(LEAST_PAUSE)),
        );
    }
}
