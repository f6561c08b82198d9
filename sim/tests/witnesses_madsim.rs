//! The verdicts on madsim:
//! `RUSTFLAGS="--cfg madsim" cargo test -p phantom-sim --target-dir target/madsim --test witnesses_madsim`.
#![cfg(madsim)]

mod verdicts;

use verdicts::{agree, repeats, verdicts, violated};

#[test]
fn first_look_comes_to_the_same_verdicts_on_swarm_and_madsim() {
    let swarm = verdicts("first-look", &[], "swarm");
    let madsim = verdicts("first-look", &[], "madsim");
    assert_eq!(agree(("swarm", &swarm), ("madsim", &madsim)), swarm.len());
}

#[test]
fn blocked_bootstrap_comes_to_the_same_verdicts_on_swarm_and_madsim() {
    let small = [("peers", "24")];
    let swarm = verdicts("blocked-bootstrap", &small, "swarm");
    let madsim = verdicts("blocked-bootstrap", &small, "madsim");
    assert_eq!(agree(("swarm", &swarm), ("madsim", &madsim)), swarm.len() - 1);
}

#[test]
fn a_world_without_a_way_in_is_violated_on_swarm_and_madsim_alike() {
    let shut = [("peers", "24"), ("dht", "off"), ("friends", "off")];
    let swarm = verdicts("blocked-bootstrap", &shut, "swarm");
    let madsim = verdicts("blocked-bootstrap", &shut, "madsim");
    violated("swarm", &swarm);
    violated("madsim", &madsim);
    agree(("swarm", &swarm), ("madsim", &madsim));
}

#[test]
fn madsim_repeats_itself() {
    repeats("madsim");
}
