//! The judge of open paths: whether a client could reach a live, unblocked entry that it knows or can learn of by a step of
//! the ladder that the scenario leaves on. It sees the whole world, and tells nobody in it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use phantom_core::event::Event;
use phantom_core::units::Instant;

use super::border::Blocks;
use crate::scenario::file::Carries;
use crate::scenario::plan::{HostId, Plan, Role};

/// A friend helps only while it is connected itself (an authenticated round trip in the last 30 s).
const CONNECTED: Duration = Duration::from_secs(30);
/// So many entries that worked a client keeps (SPEC §5.9).
const KEPT: usize = 8;

/// What a client has learned of ways in, and keeps as long as its disk.
#[derive(Default)]
struct Learned {
    /// It holds a directory document, so it knows every listed node.
    document: bool,
    /// Where its link leads, until that has carried something.
    entry: Option<IpAddr>,
    /// Entries that worked, the latest first.
    worked: Vec<IpAddr>,
}

/// The oracle's memory.
pub(super) struct Oracle<'p> {
    plan: &'p Plan,
    bridges_of: BTreeMap<HostId, Vec<HostId>>,
    /// Who may invite whom.
    inviters: BTreeMap<HostId, BTreeSet<HostId>>,
    clients: Vec<HostId>,
    services: Vec<HostId>,
    down: BTreeSet<HostId>,
    round_trip: BTreeMap<HostId, Instant>,
    host_at: BTreeMap<IpAddr, HostId>,
    learned: BTreeMap<HostId, Learned>,
    told: BTreeMap<HostId, bool>,
}

impl<'p> Oracle<'p> {
    pub(super) fn new(plan: &'p Plan, bridges_of: BTreeMap<HostId, Vec<HostId>>) -> Self {
        let hosts = |wanted: fn(&Role) -> bool| -> Vec<HostId> {
            (0..plan.hosts.len() as u32)
                .filter(|&host| wanted(&plan.hosts[host as usize].role))
                .collect()
        };
        let mut inviters: BTreeMap<HostId, BTreeSet<HostId>> = BTreeMap::new();
        for edge in plan
            .edges
            .iter()
            .filter(|edge| edge.carries == Carries::Invitations)
        {
            inviters.entry(edge.to).or_default().insert(edge.from);
            if plan.hosts[edge.from as usize].role.is_client() {
                inviters.entry(edge.from).or_default().insert(edge.to);
            }
        }
        let hosts_at = plan.hosts.iter().enumerate();
        let host_at = hosts_at.flat_map(|(n, host)| host.addresses().map(move |ip| (ip, n as HostId)));
        Self {
            plan,
            host_at: host_at.collect(),
            learned: BTreeMap::new(),
            bridges_of,
            inviters,
            clients: hosts(|role| matches!(role, Role::Client(_))),
            services: hosts(|role| *role == Role::Service),
            down: BTreeSet::new(),
            round_trip: BTreeMap::new(),
            told: BTreeMap::new(),
        }
    }

    /// A host crashed or came back.
    pub(super) fn power(&mut self, host: HostId, up: bool) {
        if up {
            self.down.remove(&host);
        } else {
            self.down.insert(host);
            self.round_trip.remove(&host);
        }
    }

    /// A host lost its disk.
    pub(super) fn disk_lost(&mut self, host: HostId) {
        self.learned.remove(&host);
    }

    /// A host's program reported something.
    pub(super) fn saw(&mut self, host: HostId, at: Instant, event: &Event) {
        match event {
            Event::Connected { entry, .. } => {
                self.round_trip.insert(host, at);
                self.learned.entry(host).or_default().entry = Some(entry.ip());
            }
            Event::RoundTrip => {
                self.round_trip.insert(host, at);
                let learned = self.learned.entry(host).or_default();
                if let Some(entry) = learned.entry.take() {
                    learned.worked.retain(|known| *known != entry);
                    learned.worked.insert(0, entry);
                    learned.worked.truncate(KEPT);
                }
            }
            Event::DocumentAccepted { .. } => self.learned.entry(host).or_default().document = true,
            _ => {}
        }
    }

    /// What has changed since the last call. `now` is the scenario's time.
    pub(super) fn judge(&mut self, now: Instant, blocks: &Blocks<'_>) -> Vec<(HostId, bool)> {
        // Rules that end with the scenario have not ended at its last instant.
        let at = now
            .since_start()
            .min(self.plan.duration.saturating_sub(Duration::from_nanos(1)));
        let cut = blocks.everything(at);
        let datagrams = !blocks.datagrams(at);
        let answers = |host: HostId, ip: IpAddr| {
            // Rules act on what crosses the border; an entry on the clients' side would not be blocked.
            let there = &self.plan.hosts[host as usize];
            !self.down.contains(&host) && (there.inside || !blocks.streams_to(at, ip, there))
        };
        // By IPv4 alone, and by both.
        let reachable = |host: HostId, both: bool| {
            let mut addresses = self.plan.hosts[host as usize].addresses();
            addresses.any(|ip| (both || ip.is_ipv4()) && answers(host, ip))
        };
        // Of the entries that ship with every copy, and of all that the directory lists.
        let open_service = |listed: bool| {
            [false, true].map(|both| {
                let mut known = self
                    .services
                    .iter()
                    .filter(|&&host| listed || self.published(host));
                known.any(|&host| reachable(host, both))
            })
        };
        let (shipped, listed) = (open_service(false), open_service(true));
        let mut changed = Vec::new();
        for &client in &self.clients {
            let host = &self.plan.hosts[client as usize];
            let Some(node) = host.role.client() else { continue };
            let both = host.address6.is_some();
            let started = at >= host.arrives && !self.down.contains(&client);
            let bridge = || {
                let bridges = self.bridges_of.get(&client);
                bridges.is_some_and(|bridges| bridges.iter().any(|&bridge| reachable(bridge, both)))
            };
            let friend = || {
                self.inviters.get(&client).is_some_and(|friends| {
                    friends
                        .iter()
                        .any(|friend| match self.plan.hosts[*friend as usize].role {
                            Role::Bridge => !self.down.contains(friend),
                            _ => self
                                .round_trip
                                .get(friend)
                                .is_some_and(|last| now.saturating_since(*last) <= CONNECTED),
                        })
                })
            };
            let dht = node.dht.is_on() && datagrams && bridge();
            let friends = node.friends.is_on() && bridge() && friend();
            let published = node.published.is_on() && shipped[usize::from(both)];
            let learned = self.learned.get(&client);
            let directory = node.published.is_on()
                && listed[usize::from(both)]
                && learned.is_some_and(|learned| learned.document);
            let cached = learned.is_some_and(|learned| {
                let mut worked = learned.worked.iter();
                worked.any(|ip| self.host_at.get(ip).is_some_and(|&host| answers(host, *ip)))
            });
            let open = started && !cut && (published || directory || dht || friends || cached);
            if self.told.get(&client).copied().unwrap_or(false) != open {
                self.told.insert(client, open);
                changed.push((client, open));
            }
        }
        changed
    }

    fn published(&self, host: HostId) -> bool {
        self.plan.hosts[host as usize].published
    }
}

#[cfg(test)]
mod tests {
    use phantom_core::event::Step;
    use phantom_core::transport::Kind;
    use phantom_core::units::WallTime;

    use super::*;
    use crate::scenario::load::{Library, from_text};

    struct Nothing;

    impl Library for Nothing {
        fn read(&self, _: &str) -> std::io::Result<Option<(String, String)>> {
            Ok(None)
        }
        fn names(&self) -> Vec<String> {
            Vec::new()
        }
    }

    /// What is published is blocked at once, what is listed after five minutes, and neither DHT nor friends are left.
    const SHUT: &str = r#"
format = 1
name = "t"
summary = "s"
run.duration = "10 min"
topology.region = [{ name = "in", area = "asia-pacific" }, { name = "out", area = "europe" }]
population.client = { region = "in", count = { extra = 1 }, node = { client = { dht = "off", friends = "off" } } }
population.known = { region = "out", count = { extra = 1 }, node = "service", published = {} }
population.listed = { region = "out", count = { extra = 1 }, node = "service" }
population.bridge = { region = "out", count = { extra = 6 }, node = "bridge" }
population.voter = { region = "out", count = { extra = 3 }, node = "authority" }
[censor]
at = ["in", "out"]
[[censor.rule]]
name = "published"
match = { to = ["@published"] }
action = "drop"
[[censor.rule]]
name = "listed"
from = "5 min"
match = { to = ["@directory"] }
action = "drop"
[[invariant]]
name = "it drops"
sometimes = "censor.dropped > 0"
"#;

    fn shut() -> Plan {
        let loaded = from_text(&Nothing, "t.toml", SHUT.to_owned(), Some("t"), &[])
            .unwrap_or_else(|error| panic!("{error}"));
        Plan::draw(&loaded, 1)
    }

    fn minute(n: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(60 * n)
    }

    fn host(plan: &Plan, name: &str) -> HostId {
        let found = plan.hosts.iter().position(|host| host.name == name);
        found.expect("a host of the world") as HostId
    }

    /// What the oracle has told of the only client by now.
    fn is_open(oracle: &mut Oracle<'_>, at: Instant) -> bool {
        let mut blocks = Blocks::new(oracle.plan, 443);
        blocks.catch_up(at.since_start());
        oracle.judge(at, &blocks);
        oracle.told.values().any(|open| *open)
    }

    #[test]
    fn whoever_holds_a_document_can_get_in_by_every_listed_node_until_those_are_blocked() {
        let plan = shut();
        let client = host(&plan, "client-0");
        let document = Event::DocumentAccepted {
            valid_after: WallTime::default(),
            nodes: 2,
        };
        let mut oracle = Oracle::new(&plan, BTreeMap::new());
        assert!(
            !is_open(&mut oracle, minute(1)),
            "only the published one is known"
        );
        oracle.saw(client, minute(1), &document);
        assert!(is_open(&mut oracle, minute(2)));
        oracle.power(host(&plan, "listed-0"), false);
        assert!(!is_open(&mut oracle, minute(3)), "nobody is there");
        oracle.power(host(&plan, "listed-0"), true);
        assert!(is_open(&mut oracle, minute(4)));
        assert!(!is_open(&mut oracle, minute(5)), "blocked");
    }

    #[test]
    fn an_entry_that_worked_is_a_way_in_while_it_lives_and_the_client_keeps_its_disk() {
        let plan = shut();
        let (client, bridge) = (host(&plan, "client-0"), host(&plan, "bridge-0"));
        let connected = Event::Connected {
            step: Step::Friend,
            entry: (plan.hosts[bridge as usize].address, 443).into(),
            resumed: false,
            transport: Kind::Plain,
        };
        let mut oracle = Oracle::new(&plan, BTreeMap::new());
        oracle.saw(client, minute(1), &connected);
        assert!(!is_open(&mut oracle, minute(1)), "it has carried nothing yet");
        oracle.saw(client, minute(1), &Event::RoundTrip);
        assert!(is_open(&mut oracle, minute(6)));
        oracle.power(bridge, false);
        assert!(!is_open(&mut oracle, minute(7)));
        oracle.power(bridge, true);
        assert!(is_open(&mut oracle, minute(8)));
        oracle.disk_lost(client);
        assert!(!is_open(&mut oracle, minute(9)));
    }
}
