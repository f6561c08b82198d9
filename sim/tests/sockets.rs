//! In real time on loopback, with the production back end: what a simulated censor does to names and a bad clock does to
//! clients happens there too.

mod verdicts;

use phantom_sim::check::judge::{InvariantResult, Verdict};
use verdicts::{agree, verdicts_of_file};

#[test]
fn forged_names_a_cut_and_wrong_clocks_are_played_on_sockets() {
    let seen = verdicts_of_file("tests/on-sockets.toml", &[], "tokio");
    for result in &seen {
        // Bytes on the way are the system's: nobody searches them.
        let wanted = if result.name.starts_with("no secret") {
            Verdict::Na
        } else {
            Verdict::Pass
        };
        assert_eq!(result.verdict, wanted, "{result:?}");
    }
    assert_eq!(seen.len(), 6);
}

/// Rules lie between a program and its sockets, so a censor can be played where the network is the system's.
fn blocked(dht: &str) -> Vec<InvariantResult> {
    let play = |runtime| verdicts_of_file("tests/blocked-on-sockets.toml", &[("dht", dht)], runtime);
    let (swarm, sockets) = (play("swarm"), play("tokio"));
    assert_eq!(agree(("swarm", &swarm), ("tokio", &sockets)), 8);
    sockets
}

#[test]
fn a_blocked_bootstrap_comes_to_the_same_verdicts_on_sockets_as_on_swarm() {
    let seen = blocked("on");
    assert!(
        seen.iter().all(|result| result.verdict == Verdict::Pass),
        "{seen:#?}"
    );
}

#[test]
fn without_the_dht_nobody_gets_past_the_block_on_sockets_or_on_swarm() {
    let seen = blocked("off");
    assert_eq!(seen[0].name, "everybody gets in");
    assert_eq!(seen[0].verdict, Verdict::Fail, "{seen:#?}");
}
