//! A result does not rest on our own engine alone: the same scenario, with the same programs, comes to the same verdicts on
//! strangers' executors. Figures differ, and so do traces; what a witness cannot observe is N/A there and not compared.

mod verdicts;

use phantom_sim::check::judge::Verdict;
use phantom_sim::run::Manner;
#[cfg(not(madsim))]
use phantom_sim::run::{RunError, player};
use phantom_sim::scenario::load;
use verdicts::{agree, repeats, verdicts, verdicts_of, violated};

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

// Forty minutes of a hundred hosts take turmoil ten minutes and more without optimisation: `just witnesses` plays it there, with
// fewer DHT nodes.
const SMALL: [(&str, &str); 1] = [("peers", "24")];
/// Neither the DHT nor friends: nobody can get in.
const SHUT: [(&str, &str); 3] = [("peers", "24"), ("dht", "off"), ("friends", "off")];

#[test]
fn blocked_bootstrap_comes_to_the_same_verdicts_on_swarm_and_paused() {
    let swarm = verdicts("blocked-bootstrap", &SMALL, "swarm");
    let paused = verdicts("blocked-bootstrap", &SMALL, "paused");
    let compared = agree(("swarm", &swarm), ("paused", &paused));
    let unseen: Vec<&str> = paused
        .iter()
        .filter(|result| result.verdict == Verdict::Na)
        .map(|result| result.name.as_str())
        .collect();
    assert_eq!(unseen, ["no secret in a byte that the censor sees"]);
    assert_eq!(compared, swarm.len() - 1);
}

/// Agreement on what passes could be that of judges who see nothing.
#[test]
fn a_world_without_a_way_in_is_violated_on_swarm_and_paused_alike() {
    let swarm = verdicts("blocked-bootstrap", &SHUT, "swarm");
    violated("swarm", &swarm);
    let paused = verdicts("blocked-bootstrap", &SHUT, "paused");
    violated("paused", &paused);
    agree(("swarm", &swarm), ("paused", &paused));
}

/// Whatever happens in one instant may happen in any order: a verdict that hangs on it is none.
#[test]
fn first_look_comes_to_the_same_verdicts_under_20_orders_of_what_happens_in_one_instant() {
    let loaded = load::by_name(&phantom_sim::cli::library(), "first-look", &[]).expect("ours");
    let play = |shuffle| {
        let manner = Manner {
            shuffle,
            ..Manner::default()
        };
        verdicts_of(&loaded, "swarm", manner)
    };
    let plain = play(None);
    for shuffle in 1..=20 {
        let compared = agree(("unshuffled", &plain), ("shuffled", &play(Some(shuffle))));
        assert_eq!(compared, plain.len(), "shuffle {shuffle}");
    }
}

/// Every witness gives the same run twice, so that what it reveals can be looked at again.
#[test]
fn a_witness_repeats_itself() {
    for witness in ["paused", "turmoil"] {
        repeats(witness);
    }
}

#[cfg(not(madsim))]
#[test]
fn a_build_without_madsim_says_how_to_build_it() {
    let Err(RunError::OtherBuild { how, .. }) = player("madsim", Manner::default()).map(|_| ()) else {
        panic!("madsim is in a build without its cfg");
    };
    assert!(
        how.contains("--cfg madsim") && how.contains("--target-dir target/madsim"),
        "{how}"
    );
}
