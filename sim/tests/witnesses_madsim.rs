//! The verdicts on madsim:
//! `RUSTFLAGS="--cfg madsim" cargo test -p phantom-sim --target-dir target/madsim --test witnesses_madsim`.
#![cfg(madsim)]

mod verdicts;

use verdicts::{agree, verdicts};

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
