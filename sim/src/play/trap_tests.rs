//! A client that believes forged addresses, so that what is promised of them is seen to fail.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use phantom_core::crypto::keys::LinkPublic;
use phantom_core::event::{Event, Step};
use phantom_core::link::ClientAuth;
use phantom_core::runtime::timeout;
use phantom_core::transport::Kind;

use super::super::observe::Observer;
use super::super::world::{self, Ground, LINK_PORT, Opening};
use super::*;
use crate::check::judge::{Judge, Verdict};
use crate::check::observe::{Observation, Sink};
use crate::host::record::{Checkpoint, Detail};
use crate::play::{StagePlayer, SwarmPlayer};
use crate::run::{Player, RunError};
use crate::scenario::load::{Library, from_text};
use crate::scenario::plan::Role;
use crate::stage::{Program, Record};
use crate::witness::paused::PausedStage;

/// Clients get in by address; then addresses are blocked and names are all they have, and every answer is forged.
const WORLD: &str = r#"
format = 1
name = "t"
summary = "s"
run = { duration = "3 min", document-interval = "5 s" }
topology.region = [{ name = "inside", area = "asia-pacific" }, { name = "outside", area = "europe" }]
population.authority = { region = "outside", count = { extra = 3 }, node = "authority" }
population.service = { region = "outside", count = { extra = 6 }, node = "service", published = { domain = "entry.example" } }
population.client = { region = "inside", count = { extra = 4 }, arrive = { from = "1 s", over = "1 s" }, node = { client = { dht = "off", friends = "off" } } }
[censor]
at = ["inside", "outside"]
[[censor.rule]]
name = "published"
from = "30 s"
match = { to = ["@published"] }
action = "drop"
[[censor.rule]]
name = "forge"
match = { protocols = ["dns"], names = ["@published"] }
action = { forge-dns = 40 }
[[invariant]]
name = "fooled"
always = "client.fooled == 0"
[[invariant]]
name = "lured"
sometimes = "censor.lured('forge') > 0"
"#;

struct Nothing;

impl Library for Nothing {
    fn read(&self, _: &str) -> std::io::Result<Option<(String, String)>> {
        Ok(None)
    }
    fn names(&self) -> Vec<String> {
        Vec::new()
    }
}

struct ToJudge(Judge);

impl Sink for ToJudge {
    fn observe(&mut self, observation: &Observation) {
        self.0.observe(observation);
    }
}

/// A client that goes wherever a name leads, and takes the key that it finds there for the right one.
async fn gullible<R: Runtime>(rt: R, names: Vec<String>, found_there: LinkPublic) {
    rt.emit(Event::Arrived);
    let auth = ClientAuth::Listed { server: found_there };
    let mut links = Vec::new();
    for name in names.iter().cycle().take(40) {
        for ip in rt.resolve(name).await.unwrap_or_default() {
            let entry = SocketAddr::new(ip, LINK_PORT);
            let Ok(Ok(stream)) = timeout(&rt, Duration::from_secs(2), rt.connect(entry)).await else {
                continue;
            };
            if let Ok(link) = link::connect(&rt, stream, &auth, &link::Config::default()).await {
                rt.emit(Event::Connected {
                    step: Step::Static,
                    entry,
                    resumed: false,
                    transport: Kind::Plain,
                });
                links.push(link);
            }
        }
    }
    std::future::pending::<()>().await;
}

/// A ground on which other programs run at some hosts.
struct Instead<G: Ground> {
    ground: G,
    programs: BTreeMap<PeerId, Program<<G::Stage as Stage>::Runtime>>,
}

impl<G: Ground> Ground for Instead<G> {
    type Stage = G::Stage;

    fn stage(&mut self) -> &mut G::Stage {
        self.ground.stage()
    }

    fn learn(&mut self, plan: &Plan, list: &str, address: IpAddr, at: Instant) {
        self.ground.learn(plan, list, address, at);
    }

    fn acted(&mut self, rule: &str) -> [u64; 3] {
        self.ground.acted(rule)
    }

    fn records(&mut self) -> Vec<Record> {
        self.ground.records()
    }

    /// Told first when the world is warm and no client has started.
    fn tell(&mut self, observer: &mut Observer<'_>, now: Instant) {
        for (peer, program) in std::mem::take(&mut self.programs) {
            self.ground.stage().set_program(peer, program);
        }
        self.ground.tell(observer, now);
    }

    fn steps(&mut self) -> u64 {
        self.ground.steps()
    }

    fn digest(&mut self) -> (u64, String, Vec<Checkpoint>) {
        self.ground.digest()
    }
}

fn plan() -> Plan {
    let loaded = from_text(&Nothing, "t.toml", WORLD.to_owned(), Some("t"), &[])
        .unwrap_or_else(|error| panic!("{error}"));
    Plan::draw(&loaded, 1)
}

/// Whether somebody was fooled and whether somebody was lured, with clients as they are or gullible ones.
fn verdicts<G: Ground>(
    plan: &Plan,
    player: &dyn Player,
    believe: bool,
    open: impl FnOnce() -> Result<Opening<G>, RunError>,
) -> [Verdict; 2] {
    let names: Vec<String> = plan
        .hosts
        .iter()
        .filter_map(|host| host.dns_name.clone())
        .collect();
    let there = key(plan, &plan.traps[0]).public();
    let clients = plan.hosts.iter().enumerate();
    let clients = clients.filter(|(_, host)| believe && matches!(host.role, Role::Client(_)));
    let programs = clients.map(|(n, _)| {
        let names = names.clone();
        let instead = program(move |rt| gullible(rt, names.clone(), there));
        (PeerId(n as u32), instead)
    });
    let programs = programs.collect();
    let mut judge = ToJudge(Judge::new(plan, player.epoch(plan), player.senses()));
    let output = world::play(&Arc::new(plan.clone()), LINK_PORT, &mut judge, || {
        let Opening { ground, begins, date } = open()?;
        let ground = Instead { ground, programs };
        Ok(Opening { ground, begins, date })
    });
    let results = judge
        .0
        .finish(output.expect("the run comes to its end").end)
        .invariants;
    ["fooled", "lured"].map(|name| {
        let found = results.iter().find(|result| result.name == name);
        found.expect("an invariant of the world").verdict
    })
}

#[test]
fn whoever_believes_a_forged_address_is_caught_and_our_clients_who_are_led_there_too_do_not() {
    use Verdict::{Fail, Pass};
    let plan = plan();
    let swarm = SwarmPlayer::default();
    let paused = StagePlayer::<PausedStage>::new(Detail::World);
    for (believe, wanted) in [(false, [Pass, Pass]), (true, [Fail, Pass])] {
        let seen = verdicts(&plan, &swarm, believe, || swarm.open(&plan));
        assert_eq!(seen, wanted, "swarm, gullible: {believe}");
        let seen = verdicts(&plan, &paused, believe, || paused.open(&plan, BTreeMap::new()));
        assert_eq!(seen[0], wanted[0], "paused, gullible: {believe}");
    }
}

#[test]
fn the_censors_hosts_have_a_quarter_of_the_forged_addresses_and_no_other() {
    let plan = plan();
    let [trap] = plan.traps.as_slice() else {
        panic!("one forging rule, one host")
    };
    let answers = plan.rules[trap.rule].forged();
    assert_eq!((answers.len(), trap.addresses.len()), (40, 10));
    let forged = |ip: &IpAddr| answers.contains(ip);
    assert!(trap.addresses.iter().all(forged));
}
