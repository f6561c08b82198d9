//! Every censor of the catalogue at the border of a world, byte for byte: it repeats, and whatever it does nobody is fooled.

#[path = "named_censors/traffic.rs"]
mod traffic;
mod verdicts;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use phantom_censor::catalogue;
use phantom_script::shipped::{SHIPPED, Shipped};
use phantom_sim::check::judge::Verdict;
use phantom_sim::check::observe::{Observation, Sink};
use phantom_sim::play::SwarmPlayer;
use phantom_sim::run::Player;
use phantom_sim::scenario::load::{Directory, by_name};
use phantom_sim::scenario::plan::Plan;
use verdicts::verdicts;

struct Nobody;

impl Sink for Nobody {
    fn observe(&mut self, _: &Observation) {}
}

fn plan(censor: &str) -> Arc<Plan> {
    let library = Directory::find(Path::new(env!("CARGO_MANIFEST_DIR"))).expect("the scenarios");
    let typed = [("peers", "20"), ("from", "30 s"), ("censor", censor)];
    let typed = typed.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let loaded =
        by_name(&library, "named-censor", &typed).unwrap_or_else(|error| panic!("{censor}: {error}"));
    let mut plan = Plan::draw(&loaded, 1);
    // The censor comes after 30 s; what it does to connections under way shows within another minute.
    plan.duration = Duration::from_secs(90);
    Arc::new(plan)
}

#[test]
fn a_run_under_each_named_censor_repeats_and_what_it_does_shows() {
    let own: Vec<&str> = catalogue::names().collect();
    let scripted = SHIPPED
        .iter()
        .map(|shipped| shipped.name)
        .filter(|name| *name != "random-first");
    let names: Vec<&str> = own.into_iter().chain(scripted).chain(["none"]).collect();
    assert!(names.len() >= 12, "{names:?}");
    let mut digests = Vec::new();
    for name in &names {
        let plan = plan(name);
        let play = || {
            let output = SwarmPlayer::default().play(&plan, &mut Nobody);
            output
                .unwrap_or_else(|error| panic!("{name}: {error}"))
                .trace_digest
        };
        let digest = play();
        assert_eq!(digest, play(), "{name}");
        digests.push((*name, digest));
    }
    let of = |wanted: &str| {
        digests
            .iter()
            .find(|(name, _)| *name == wanted)
            .map(|(_, digest)| digest)
    };
    // These act on what our programs send; one that looks for QUIC or for other people's names changes nothing here: see below.
    for acts in [
        "gfw-2023",
        "iran-blackout-2025",
        "iran-whitelist-2020",
        "shutdown",
        "tspu-freeze-2025",
    ] {
        assert_ne!(of(acts), of("none"), "{acts} did nothing");
    }
}

/// Where clients speak DNS, HTTP, TLS, QUIC and random bytes each censor acts, changes the run, and the run repeats.
#[test]
fn each_named_censor_changes_a_world_that_speaks_what_it_looks_for() {
    let none = traffic::play(None);
    assert_eq!(none, traffic::play(None));
    let own =
        catalogue::names().map(|name| catalogue::censor(name).unwrap_or_else(|error| panic!("{error}")));
    let trojan = Shipped::of("trojan-lengths").expect("it is shipped").censor();
    for censor in own.chain([trojan.unwrap_or_else(|error| panic!("{error}"))]) {
        let name = censor.name();
        let played = traffic::play(Some(&censor));
        assert_eq!(played, traffic::play(Some(&censor)), "{name}");
        assert!(played.sentenced > 0, "{name} did nothing");
        assert_ne!(played.digest, none.digest, "{name} changes nothing");
    }
}

#[test]
fn what_must_hold_under_any_censor_holds_under_a_shutdown_and_under_none() {
    for name in ["shutdown", "none"] {
        let params = [("peers", "20"), ("censor", name)];
        let results = verdicts("named-censor", &params, "swarm");
        let broken: Vec<_> = results
            .iter()
            .filter(|result| result.verdict != Verdict::Pass)
            .collect();
        assert!(broken.is_empty(), "{name}: {broken:#?}");
    }
}
