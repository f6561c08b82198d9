//! Friends as the only way in, end to end: bridges drop sealed records in the mailbox, operators invite the first,
//! friends fetch the invited user's records and hand them over. Worlds of thirty peers, with the real programs.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

use phantom_core::event::{Event, Step};
use phantom_sim::check::judge::{Judge, Judgement, Verdict};
use phantom_sim::check::observe::{Observation, Seen, Sink};
use phantom_sim::play::SwarmPlayer;
use phantom_sim::run::Player;
use phantom_sim::scenario::load::{Directory, by_path};
use phantom_sim::scenario::plan::{HostId, Plan, Role};

/// Judges, and keeps what the tests ask about.
struct Witness {
    judge: Judge,
    /// Per bridge: slots whose record is stored and not, when the scenario began.
    dropped: BTreeMap<HostId, (u32, u32)>,
    /// By which step each connection was made.
    entered: BTreeMap<Step, u32>,
}

impl Sink for Witness {
    fn observe(&mut self, observation: &Observation) {
        match &observation.seen {
            Seen::Event(Event::CourierDropped { stored, failed }) if observation.at.as_nanos() == 0 => {
                let bridge = observation.host.expect("a bridge reports it");
                self.dropped.insert(bridge, (*stored, *failed));
            }
            Seen::Event(Event::Connected { step, .. }) => *self.entered.entry(*step).or_default() += 1,
            _ => {}
        }
        self.judge.observe(observation);
    }
}

struct Played {
    plan: std::sync::Arc<Plan>,
    judgement: Judgement,
    dropped: BTreeMap<HostId, (u32, u32)>,
    entered: BTreeMap<Step, u32>,
}

impl Played {
    fn verdict(&self, invariant: &str) -> Verdict {
        let found = self
            .judgement
            .invariants
            .iter()
            .find(|result| result.name.starts_with(invariant));
        found.expect("an invariant of the world").verdict
    }
}

fn play(seed: u64, params: &[(&str, &str)]) -> Played {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let params: Vec<_> = params
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect();
    let library = Directory::find(here).expect("the scenarios");
    let loaded = by_path(&library, &here.join("tests/by-friends.toml"), &params)
        .unwrap_or_else(|error| panic!("{error}"));
    let plan = std::sync::Arc::new(Plan::draw(&loaded, seed));
    let player = SwarmPlayer::default();
    let mut witness = Witness {
        judge: Judge::new(&plan, player.epoch(&plan), player.senses()),
        dropped: BTreeMap::new(),
        entered: BTreeMap::new(),
    };
    let output = player
        .play(&plan, &mut witness)
        .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    let Witness {
        judge,
        dropped,
        entered,
    } = witness;
    Played {
        judgement: judge.finish(output.end),
        plan,
        dropped,
        entered,
    }
}

/// One world with friends only, for two claims about it.
static FRIENDS_ONLY: LazyLock<Played> = LazyLock::new(|| play(2, &[("dht", "off")]));

#[test]
fn friends_alone_let_clients_in_and_an_insider_learns_its_own_cohorts_bridges_only() {
    let played = &*FRIENDS_ONLY;
    for result in &played.judgement.invariants {
        assert_eq!(
            result.verdict,
            Verdict::Pass,
            "{result:?} {:?}",
            played.judgement.violations
        );
    }
    assert_eq!(played.entered.keys().collect::<Vec<_>>(), [&Step::Friend]);
}

#[test]
fn before_the_first_client_starts_every_bridge_has_dropped_every_record() {
    let played = &*FRIENDS_ONLY;
    let bridges = played
        .plan
        .hosts
        .iter()
        .filter(|host| host.role == Role::Bridge)
        .count();
    assert_eq!(played.dropped.len(), bridges, "every bridge reports");
    let whole = |(stored, failed): &(u32, u32)| *stored > 0 && *failed == 0;
    assert!(played.dropped.values().all(whole), "{:?}", played.dropped);
}

#[test]
fn the_dht_alone_lets_clients_in() {
    let played = play(4, &[("friends", "off")]);
    assert!(played.judgement.holds(), "{:?}", played.judgement.violations);
    assert_eq!(played.entered.keys().collect::<Vec<_>>(), [&Step::Dht]);
}

#[test]
fn with_neither_nobody_gets_in_and_the_report_names_ten_clients_and_what_each_tried() {
    let played = play(5, &[("dht", "off"), ("friends", "off")]);
    assert_eq!(played.verdict("90 % of clients are connected"), Verdict::Fail);
    assert_eq!(played.entered, BTreeMap::new());
    let violations = &played.judgement.violations;
    let named = violations
        .iter()
        .find(|violation| !violation.details.is_empty())
        .expect("clients are named");
    assert_eq!(named.details.len(), 11, "ten, and how many more");
    for story in &named.details[..10] {
        assert!(
            story.starts_with("client-") && story.contains("never connected; no path was open"),
            "{story}"
        );
        assert!(story.contains("static list: no answer x"), "{story}");
        assert!(
            !story.contains("DHT") && !story.contains("friends"),
            "steps that are off are not tried: {story}"
        );
    }
    assert_eq!(named.details[10], "and 5 more");
}
