//! A scenario's verdicts on one back end.

#![allow(dead_code, reason = "each test that shares this file uses a part of it")]

use std::path::Path;

use phantom_core::units::Instant;
use phantom_sim::check::judge::{InvariantResult, Judge, Verdict};
use phantom_sim::check::observe::{Observation, Sink};
use phantom_sim::cli;
use phantom_sim::run::Manner;
use phantom_sim::scenario::load::{self, Loaded};
use phantom_sim::scenario::plan::Plan;

struct ToJudge(Judge);

impl Sink for ToJudge {
    fn observe(&mut self, observation: &Observation) {
        self.0.observe(observation);
    }
}

fn owned(params: &[(&str, &str)]) -> Vec<(String, String)> {
    let params = params.iter();
    params
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

/// Plays seed 1 of the scenario `name`, with these parameters, on `runtime`.
pub(crate) fn verdicts(name: &str, params: &[(&str, &str)], runtime: &str) -> Vec<InvariantResult> {
    let loaded = load::by_name(&cli::library(), name, &owned(params)).expect("a scenario of ours");
    verdicts_of(&loaded, runtime, Manner::default())
}

/// Plays seed 1 of the scenario in a file beside the tests, with these parameters, on `runtime`.
pub(crate) fn verdicts_of_file(file: &str, params: &[(&str, &str)], runtime: &str) -> Vec<InvariantResult> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let loaded = load::by_path(&cli::library(), &path, &owned(params));
    let loaded = loaded.unwrap_or_else(|error| panic!("{error}"));
    verdicts_of(&loaded, runtime, Manner::default())
}

/// Plays seed 1 on `runtime` in this manner.
pub(crate) fn verdicts_of(loaded: &Loaded, runtime: &str, manner: Manner) -> Vec<InvariantResult> {
    let plan = std::sync::Arc::new(Plan::draw(loaded, 1));
    let player = phantom_sim::run::player(runtime, manner).expect("it is built in");
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

/// In a world without a way in, clients are not connected.
pub(crate) fn violated(runtime: &str, seen: &[InvariantResult]) {
    let share = "90 % of clients are connected within 5 minutes of arrival";
    let found = seen.iter().find(|result| result.name == share).expect(share);
    assert_eq!(found.verdict, Verdict::Fail, "{runtime}: {found:?}");
}

/// Plays `first-look` twice on `runtime`: the same events, digest and checkpoints.
pub(crate) fn repeats(runtime: &str) {
    struct Nobody;
    impl Sink for Nobody {
        fn observe(&mut self, _: &Observation) {}
    }
    let loaded = load::by_name(&cli::library(), "first-look", &[]).expect("ours");
    let plan = std::sync::Arc::new(Plan::draw(&loaded, 3));
    let play = || {
        let player = phantom_sim::run::player(runtime, Manner::default()).expect("it is built in");
        assert!(player.repeats(), "{runtime}");
        player.play(&plan, &mut Nobody).expect("the run comes to its end")
    };
    let (first, second) = (play(), play());
    assert_eq!(first, second, "{runtime}");
    assert!(first.events > 0, "{runtime}");
}
