//! Tests of drawing a plan.

use std::collections::BTreeSet;
use std::path::Path;

use phantom_censor::engine::rule::Condition;

use super::*;
use crate::scenario::load::{Directory, by_name, from_text};

fn loaded(name: &str, words: &[(&str, &str)]) -> Loaded {
    let library = Directory::find(Path::new(env!("CARGO_MANIFEST_DIR"))).expect("scenarios/");
    let words: Vec<_> = words
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    by_name(&library, name, &words).unwrap_or_else(|error| panic!("{error}"))
}

fn show(plan: &Plan) -> String {
    format!(
        "{:?}{:?}{:?}{:?}",
        plan.hosts, plan.edges, plan.rules, plan.faults
    )
}

#[test]
fn the_same_seed_draws_the_same_plan_and_another_a_different_one() {
    for name in ["blocked-bootstrap", "node-churn"] {
        let loaded = loaded(name, &[]);
        assert_eq!(show(&Plan::draw(&loaded, 7)), show(&Plan::draw(&loaded, 7)));
        assert_ne!(show(&Plan::draw(&loaded, 7)), show(&Plan::draw(&loaded, 8)));
    }
}

#[test]
fn one_more_peer_shifts_no_others_draws() {
    let (small, large) = (
        loaded("first-look", &[("peers", "24")]),
        loaded("first-look", &[("peers", "25")]),
    );
    let (small, large) = (Plan::draw(&small, 3), Plan::draw(&large, 3));
    assert_eq!(small.hosts.len() + 1, large.hosts.len());
    for host in &small.hosts {
        let same = large
            .hosts
            .iter()
            .find(|other| other.name == host.name)
            .expect("still there");
        assert_eq!(
            (host.arrives, host.system, host.address),
            (same.arrives, same.system, same.address),
            "{}",
            host.name
        );
    }
}

#[test]
fn addresses_are_unique_and_never_forged_ones() {
    let plan = Plan::draw(&loaded("blocked-bootstrap", &[]), 1);
    let addresses: BTreeSet<_> = plan.hosts.iter().map(|host| host.address).collect();
    assert_eq!(addresses.len(), plan.hosts.len());
    let forged = plan.rule("published-names").expect("a forging rule").forged();
    let different: BTreeSet<_> = forged.iter().collect();
    assert_eq!((forged.len(), different.len()), (600, 600));
    let addresses: BTreeSet<_> = addresses.into_iter().map(IpAddr::V4).collect();
    assert!(forged.iter().all(|answer| !addresses.contains(answer)));
}

#[test]
fn hosts_are_spread_over_the_systems_of_their_region_each_with_a_prefix_of_its_own() {
    let plan = Plan::draw(&loaded("blocked-bootstrap", &[]), 1);
    assert_eq!(plan.network.systems.len(), 12 + 30);
    let mut owner = BTreeMap::new();
    for host in &plan.hosts {
        let system = &plan.network.systems[host.system];
        assert_eq!(system.region, host.region, "{}", host.name);
        let prefix = u32::from(host.address) >> 20;
        assert_eq!(*owner.entry(prefix).or_insert(host.system), host.system);
    }
    assert_eq!(owner.len(), plan.network.systems.len(), "every system has hosts");
    let extras: BTreeSet<_> = plan.network.systems.iter().map(|system| system.extra).collect();
    assert!(
        extras.len() > 40,
        "systems are near and far: {} delays",
        extras.len()
    );
}

#[test]
fn the_largest_world_has_addresses_for_everybody() {
    let plan = Plan::draw(&loaded("blocked-bootstrap", &[("peers", "200000")]), 1);
    let addresses: BTreeSet<_> = plan.hosts.iter().map(|host| host.address).collect();
    assert!(plan.hosts.len() > 200_000 && addresses.len() == plan.hosts.len());
}

#[test]
fn the_blocked_bootstrap_is_the_one_the_issue_describes() {
    let plan = Plan::draw(&loaded("blocked-bootstrap", &[]), 1);
    let minute = |minutes: u64| Duration::from_secs(minutes * 60);
    let window = |name: &str| plan.rule(name).map(|rule| (rule.from(), rule.until()));
    assert_eq!(window("published-entries"), Some((minute(0), minute(40))));
    assert_eq!(window("directory-listed"), Some((minute(2), minute(40))));
    assert_eq!(window("cut"), Some((minute(20), minute(22))));
    assert!(plan.rule("cut").is_some_and(Rule::is_total));
    assert_eq!(plan.learned, BTreeMap::from([("learned".to_owned(), minute(5))]));
    let follows = plan.rule("learned-bridges").map(|rule| rule.follows.clone());
    assert_eq!(follows, Some(BTreeSet::from(["learned".to_owned()])));
    let clients: Vec<_> = plan
        .hosts
        .iter()
        .filter(|host| host.population == "client")
        .collect();
    assert!(
        clients
            .iter()
            .all(|host| host.inside && host.nat && host.arrives < minute(10))
    );
    assert!(
        clients.iter().any(|host| host.arrives > minute(9))
            && clients.iter().any(|host| host.arrives < minute(1))
    );
    let all = |name: &str| plan.rule(name).map(|rule| rule.rule.all.clone()).expect("a rule");
    let listed = all("published-entries");
    let [Condition::Server(dropped)] = listed.as_slice() else {
        panic!("a list of addresses")
    };
    let dropped = dropped.hosts().expect("addresses alone");
    let published: Vec<_> = plan.hosts.iter().filter(|host| host.published).collect();
    assert_eq!(dropped.len(), published.len());
    assert!(
        published.iter().any(|host| host.role == Role::DhtRouter),
        "DHT routers included"
    );
    let names = all("published-names")
        .into_iter()
        .find_map(|condition| match condition {
            Condition::Name(names) => names.only_below().cloned(),
            _ => None,
        });
    assert_eq!(names.map(|names| names.len()), Some(published.len()));
}

#[test]
fn a_switch_reaches_the_clients() {
    let plan = Plan::draw(&loaded("blocked-bootstrap", &[("dht", "off")]), 1);
    let ladders: Vec<ClientNode> = plan.hosts.iter().filter_map(|host| host.role.client()).collect();
    assert!(
        ladders
            .iter()
            .all(|node| !node.dht.is_on() && node.friends.is_on())
            && ladders.len() == 800
    );
}

#[test]
fn contacts_are_a_graph_in_which_everybody_has_somebody() {
    let plan = Plan::draw(&loaded("blocked-bootstrap", &[]), 1);
    let mut degree = vec![0_u32; plan.hosts.len()];
    for edge in plan.edges.iter().filter(|edge| edge.graph == "contacts") {
        assert_ne!(edge.from, edge.to);
        degree[edge.from as usize] += 1;
        degree[edge.to as usize] += 1;
    }
    let clients: Vec<u32> = plan
        .hosts
        .iter()
        .zip(&degree)
        .filter(|(host, _)| host.population == "client")
        .map(|(_, n)| *n)
        .collect();
    let mean = f64::from(clients.iter().sum::<u32>()) / clients.len() as f64;
    assert!(
        clients.iter().all(|n| *n > 0) && (5.5..=6.0).contains(&mean),
        "mean degree {mean}"
    );
    let invited = plan.edges.iter().filter(|edge| edge.graph == "operators").count();
    assert!(
        (330..=450).contains(&invited),
        "about half of 780 have an operator for a friend: {invited}"
    );
}

#[test]
fn faults_come_at_their_rate_and_leave_a_host_alone_while_it_is_down() {
    let plan = Plan::draw(&loaded("node-churn", &[]), 1);
    let crashes: Vec<_> = plan.faults.iter().filter(|fault| fault.name == "crash").collect();
    // 20 minutes, one each 30 s.
    assert!((30..=40).contains(&crashes.len()), "{}", crashes.len());
    let mut up: BTreeMap<HostId, Duration> = BTreeMap::new();
    for fault in crashes {
        assert_eq!(plan.hosts[fault.host as usize].population, "service");
        assert!(up.get(&fault.host).is_none_or(|up| *up <= fault.at));
        if let Happening::Crash {
            restart: Some(restart),
            ..
        } = fault.what
        {
            up.insert(fault.host, restart);
        }
    }
    assert!(
        plan.faults
            .iter()
            .any(|fault| matches!(fault.what, Happening::Crash { lose_disk: true, .. }))
    );
}

/// Three nodes, and three faults that would fall on top of each other.
const PERILS: &str = r#"
format = 1
name = "t"
summary = "s"
run.duration = "1 h"
topology.region = [{ name = "here", area = "europe" }]
population.service = { region = "here", count = { extra = 3 }, node = "service" }
population.voter = { region = "here", count = { extra = 3 }, node = "authority" }
[[fault]]
name = "crash"
on = "service"
from = "1 min"
until = "50 min"
every = "1 min"
do = { crash = { down = "4 min..8 min" } }
[[fault]]
name = "lose-disk"
on = "service"
from = "1 min"
until = "50 min"
every = "2 min"
do = { lose-disk = { down = "1 min..2 min" } }
[[fault]]
name = "vanish"
on = "service"
from = "20 min"
until = "50 min"
every = "2 min"
do = "vanish"
[[invariant]]
name = "nodes crash"
sometimes = "fault.crashes > 0"
"#;

#[test]
fn whoever_has_vanished_stays_away_and_no_fault_ends_the_down_time_of_another() {
    let library = Directory::find(Path::new(env!("CARGO_MANIFEST_DIR"))).expect("scenarios/");
    let loaded = from_text(&library, "t.toml", PERILS.to_owned(), Some("t"), &[])
        .unwrap_or_else(|error| panic!("{error}"));
    let (mut vanished, mut disks) = (0, 0);
    for seed in 1..=20 {
        let mut up: BTreeMap<HostId, Duration> = BTreeMap::new();
        for fault in &Plan::draw(&loaded, seed).faults {
            let Happening::Crash { lose_disk, restart } = fault.what else {
                panic!("only crashes here")
            };
            let down_until = up.insert(fault.host, restart.unwrap_or(Duration::MAX));
            assert!(
                down_until.is_none_or(|until| until <= fault.at),
                "seed {seed}: {fault:?} befalls a host that is down"
            );
            vanished += u32::from(restart.is_none());
            disks += u32::from(lose_disk);
        }
    }
    assert!(vanished > 20 && disks > 20, "{vanished} vanished, {disks} disks");
}
