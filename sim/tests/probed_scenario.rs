//! A scenario whose censor probes: what it finds, and who stays connected.

use std::path::Path;
use std::sync::Arc;

use phantom_core::event::{Event, Step};
use phantom_core::units::Instant;
use phantom_sim::check::observe::{Acted, Observation, Seen, Sink};
use phantom_sim::play::SwarmPlayer;
use phantom_sim::run::Player;
use phantom_sim::scenario::load::{Directory, by_path};
use phantom_sim::scenario::plan::{Plan, Role};

/// When a server was blocked, and by which step connections were made.
#[derive(Default)]
struct Witness {
    blocked: Vec<Instant>,
    entered: Vec<(Instant, Step)>,
}

impl Sink for Witness {
    fn observe(&mut self, observation: &Observation) {
        match &observation.seen {
            Seen::Censor {
                act: Acted::Blocked,
                count,
                ..
            } => {
                self.blocked.extend((0..*count).map(|_| observation.at));
            }
            Seen::Event(Event::Connected { step, .. }) => self.entered.push((observation.at, *step)),
            _ => {}
        }
    }
}

/// Listed nodes answer repeated hellos, and are cut off one after the other; bridges answer none, and clients go on over them.
#[test]
fn a_prober_finds_listed_nodes_and_clients_go_on_over_bridges() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let library = Directory::find(here).expect("the scenarios");
    let loaded =
        by_path(&library, &here.join("tests/by-prober.toml"), &[]).unwrap_or_else(|error| panic!("{error}"));
    let plan = Arc::new(Plan::draw(&loaded, 2));
    let play = || {
        let mut witness = Witness::default();
        let output = SwarmPlayer::default().play(&plan, &mut witness);
        let output = output.unwrap_or_else(|error| panic!("{error}"));
        (witness, output.trace_digest)
    };
    let (witness, digest) = play();
    let listed = plan
        .hosts
        .iter()
        .filter(|host| matches!(host.role, Role::Service | Role::Authority));
    let found = witness.blocked.len();
    assert!(
        (1..=listed.count()).contains(&found),
        "{found} servers were found"
    );
    let first = witness.blocked[0];
    let later = witness
        .entered
        .iter()
        .filter(|(at, step)| *at > first && *step == Step::Dht);
    assert!(later.count() > 0, "{:?}", witness.entered);
    assert_eq!(play().1, digest, "it repeats");
}
