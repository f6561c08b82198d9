//! A scenario's verdicts on one back end.

use phantom_core::units::Instant;
use phantom_sim::check::judge::{InvariantResult, Judge, Verdict};
use phantom_sim::check::observe::{Observation, Sink};
use phantom_sim::cli;
use phantom_sim::scenario::load;
use phantom_sim::scenario::plan::Plan;

struct ToJudge(Judge);

impl Sink for ToJudge {
    fn observe(&mut self, observation: &Observation) {
        self.0.observe(observation);
    }
}

/// Plays seed 1 of the scenario `name`, with these parameters, on `runtime`.
pub(crate) fn verdicts(name: &str, params: &[(&str, &str)], runtime: &str) -> Vec<InvariantResult> {
    let params: Vec<_> = params
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    let loaded = load::by_name(&cli::library(), name, &params).expect("a scenario of ours");
    let plan = Plan::draw(&loaded, 1);
    let player = phantom_sim::run::player(runtime).expect("it is built in");
    let mut judge = ToJudge(Judge::new(&plan, player.epoch(&plan), player.senses()));
    let output = player.play(&plan, &mut judge).expect("the run comes to its end");
    assert_eq!(output.end, Instant::ZERO + plan.duration);
    judge.0.finish(output.end).invariants
}

/// Compares what both back ends can judge; returns how many invariants that are.
pub(crate) fn agree(one: (&str, &[InvariantResult]), other: (&str, &[InvariantResult])) -> usize {
    assert_eq!(one.1.len(), other.1.len());
    let judged = one
        .1
        .iter()
        .zip(other.1)
        .filter(|(a, b)| a.verdict != Verdict::Na && b.verdict != Verdict::Na);
    judged
        .inspect(|(a, b)| {
            assert_eq!(
                a.verdict, b.verdict,
                "'{}': {} observed {}, {} observed {}",
                a.name, one.0, a.observed, other.0, b.observed
            );
        })
        .count()
}
