//! A result does not rest on our own engine alone: the same scenario, with the same programs, comes to the same verdicts on
//! strangers' executors. Figures differ, and so do traces; what a witness cannot observe is N/A there and not compared.

mod verdicts;

use phantom_sim::check::judge::Verdict;
use phantom_sim::run::{RunError, player};
use verdicts::{agree, verdicts};

#[test]
fn first_look_comes_to_the_same_verdicts_on_swarm_paused_and_turmoil() {
    let swarm = verdicts("first-look", &[], "swarm");
    assert!(
        swarm.iter().all(|result| result.verdict == Verdict::Pass),
        "{swarm:#?}"
    );
    for witness in ["paused", "turmoil"] {
        let seen = verdicts("first-look", &[], witness);
        assert_eq!(
            agree(("swarm", &swarm), (witness, &seen)),
            swarm.len(),
            "nothing of it is N/A"
        );
    }
}

#[test]
fn blocked_bootstrap_comes_to_the_same_verdicts_on_swarm_and_paused() {
    let small = [("peers", "24")];
    let swarm = verdicts("blocked-bootstrap", &small, "swarm");
    let paused = verdicts("blocked-bootstrap", &small, "paused");
    let compared = agree(("swarm", &swarm), ("paused", &paused));
    let unseen: Vec<&str> = paused
        .iter()
        .filter(|result| result.verdict == Verdict::Na)
        .map(|result| result.name.as_str())
        .collect();
    assert_eq!(unseen, ["no secret in a byte that the censor sees"]);
    assert_eq!(compared, swarm.len() - 1);
}

/// Every witness gives the same run twice, so that what it reveals can be looked at again.
#[test]
fn a_witness_repeats_itself() {
    struct Nobody;
    impl phantom_sim::check::observe::Sink for Nobody {
        fn observe(&mut self, _: &phantom_sim::check::observe::Observation) {}
    }
    let loaded =
        phantom_sim::scenario::load::by_name(&phantom_sim::cli::library(), "first-look", &[]).expect("ours");
    let plan = phantom_sim::scenario::plan::Plan::draw(&loaded, 3);
    let play = || {
        player("paused")
            .expect("built in")
            .play(&plan, &mut Nobody)
            .expect("ends")
    };
    let (first, second) = (play(), play());
    assert_eq!(first, second);
    assert!(first.events > 0);
}

#[cfg(not(madsim))]
#[test]
fn a_build_without_madsim_says_how_to_build_it() {
    let Err(RunError::OtherBuild { how, .. }) = player("madsim").map(|_| ()) else {
        panic!("madsim is in a build without its cfg");
    };
    assert!(
        how.contains("--cfg madsim") && how.contains("--target-dir target/madsim"),
        "{how}"
    );
}
