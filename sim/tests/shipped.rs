//! Scenarios that are shipped are really played, on a small world. First-look and blocked-bootstrap are in `witnesses.rs`, on several
//! back ends, named-censor in `named_censors.rs`; throttled-obfs4, which does not hold yet, is only checked (docs/STATUS.md).

mod verdicts;

use phantom_sim::check::judge::Verdict;
use verdicts::verdicts;

fn holds(name: &str, peers: &str) {
    holds_with(name, &[("peers", peers)]);
}

fn holds_with(name: &str, params: &[(&str, &str)]) {
    let results = verdicts(name, params, "swarm");
    let broken: Vec<_> = results
        .iter()
        .filter(|result| result.verdict != Verdict::Pass)
        .collect();
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn active_probe_holds() {
    holds("active-probe", "24");
}

#[test]
fn fet_obfs4_holds() {
    holds("fet-obfs4", "30");
}

#[test]
fn node_churn_holds() {
    holds("node-churn", "40");
}

#[test]
fn poisoned_dns_holds() {
    holds("poisoned-dns", "40");
}

#[test]
fn policed_connect_holds() {
    holds_with("policed-connect", &[]);
}

#[test]
fn udp_off_holds() {
    holds("udp-off", "40");
}
