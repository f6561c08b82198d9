//! The censor of a plan as the back ends know it, and what of it is in force: for the stage, and for the oracle.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use phantom_censor::classify::fet::Measured;
use phantom_censor::classify::{FirstBytes, Labels, Transport};
use phantom_censor::engine::foresee::{First, Prospect};
use phantom_censor::engine::rule::{Action, Rule as Engaged};
use phantom_censor::engine::{self, Engine, EngineConfig};
use phantom_censor::flow::FlowConfig;
use phantom_core::link::FRAME_LEN;
use phantom_core::runtime::rules::Rule;
use phantom_core::transport::Kind;
use phantom_core::transport::obfs4::Prefix;
use phantom_core::units::Instant;
use rand_core::Rng;

use super::ceremony::DHT_PORT;
use crate::censor::plain;
use crate::run::RunError;
use crate::scenario::plan::{Host, Plan, Rule as Planned, stream};

/// Flows that the censor of a world remembers unless the scenario says it. A real one has a smaller share of a larger country; with this it forgets none
/// while a world has no more.
const FLOWS_MAX: usize = 1 << 20;

/// The engine for a plan's censor in a world where the scenario's time begins at `begins`.
pub(super) fn engine(plan: &Plan, begins: Instant) -> Engine {
    let flows = FlowConfig::default();
    let idle = plan
        .flow_idle
        .map(|idle| u64::try_from(idle.as_nanos()).unwrap_or(u64::MAX));
    let config = EngineConfig {
        seed: stream(plan.seed, "censor").next_u64(),
        flows: FlowConfig {
            flows_max: plan.flows_max.map_or(FLOWS_MAX, |max| max as usize),
            idle_ns: idle.unwrap_or(flows.idle_ns),
            ..flows
        },
        ..EngineConfig::default()
    };
    let rules = plan.rules.iter().map(|planned| {
        let mut rule = planned.rule.clone();
        for (from, until) in &mut rule.phases {
            *from = from.saturating_add(begins.as_nanos());
            *until = until.saturating_add(begins.as_nanos());
        }
        rule
    });
    Engine::new(config, rules.collect())
}

/// The rule of a network decorator for a rule of the plan.
///
/// # Errors
/// A combination that decorators do not know: better no run than another censor than the one asked for.
pub(super) fn rule(planned: &Planned) -> Result<Rule, RunError> {
    plain::plain(&planned.rule).map_err(|error| {
        RunError::Unable(format!(
            "the rule '{}' cannot be played here: {error}",
            planned.name
        ))
    })
}

/// What the rules of a plan block at a time.
pub(super) struct Blocks<'p> {
    plan: &'p Plan,
    link_port: u16,
    /// The plan's rules with what their lists have learned so far.
    rules: Vec<Engaged>,
    /// Addresses that insiders gave away, by list: when the list has it.
    learned: BTreeMap<(String, IpAddr), Duration>,
    /// The same, in order of time, until lists have it.
    pending: BTreeMap<(Duration, u64), (String, IpAddr)>,
    /// Servers that a prober found.
    found: BTreeSet<IpAddr>,
    /// What the first packet of a link is like over each transport.
    links: BTreeMap<Kind, (Labels, Option<Measured>)>,
}

impl<'p> Blocks<'p> {
    /// Of a world in which links go to `link_port`.
    pub(super) fn new(plan: &'p Plan, link_port: u16) -> Self {
        // A link begins with a frame of which no bit can be told from a random one (SPEC §3), and so does obfs4.
        let mut frame = [0; FRAME_LEN];
        stream(plan.seed, "what a censor sees of a link").fill_bytes(&mut frame);
        let links = Kind::ALL.into_iter().map(|kind| {
            let prefix = Prefix::of_kind(kind).unwrap_or_default();
            let bytes = [prefix.bytes(), &frame[..]].concat();
            let first = FirstBytes::packet(Transport::Tcp, &bytes);
            (kind, (Labels::of(&first), first.fet))
        });
        Self {
            plan,
            link_port,
            rules: plan.rules.iter().map(|planned| planned.rule.clone()).collect(),
            learned: BTreeMap::new(),
            pending: BTreeMap::new(),
            found: BTreeSet::new(),
            links: links.collect(),
        }
    }

    /// A list learns an address; `true` if it is new to that list.
    pub(super) fn learn(&mut self, list: &str, at: Duration, address: IpAddr) -> bool {
        let key = (list.to_owned(), address);
        if self.learned.contains_key(&key) {
            return false;
        }
        self.pending.insert((at, self.learned.len() as u64), key.clone());
        self.learned.insert(key, at);
        true
    }

    /// A prober found a server. That its block may end before the run does is not counted on: whoever tries renews it.
    pub(super) fn found(&mut self, server: IpAddr) {
        self.found.insert(server);
    }

    /// Lists take in what they have learned by `now`; time does not go back.
    pub(super) fn catch_up(&mut self, now: Duration) {
        while let Some(entry) = self.pending.first_entry()
            && entry.key().0 <= now
        {
            let (list, address) = entry.remove();
            self.rules.iter_mut().for_each(|rule| rule.learn(&list, address));
        }
    }

    /// The rules in force that can stop a flow.
    fn acting(&self, now: Duration) -> impl Iterator<Item = &Engaged> {
        let rules = self.plan.rules.iter().zip(&self.rules);
        rules
            .filter(move |(planned, _)| planned.holds_at(now))
            .map(|(_, rule)| rule)
            .filter(|rule| {
                let stops = matches!(rule.action, Action::Drop | Action::Reset { .. });
                // A script may stop a packet whatever its rule's action, and what follows a flow may stop others.
                stops || rule.judge.is_some() || rule.residual.is_some()
            })
    }

    /// Whether nothing at all passes.
    pub(super) fn everything(&self, now: Duration) -> bool {
        let rules = self.plan.rules.iter();
        rules
            .filter(|planned| planned.holds_at(now))
            .any(Planned::is_total)
    }

    /// Whether datagrams to nodes of the DHT do not pass, or may not. A reset means nothing to them.
    pub(super) fn datagrams(&self, now: Duration) -> bool {
        let some_node = SocketAddr::from((Ipv4Addr::UNSPECIFIED, DHT_PORT));
        let query = Prospect {
            opened: engine::Direction::Outbound,
            transport: Transport::Udp,
            client: None,
            server: Some(some_node),
            first: None,
            at_once: true,
        };
        self.acting(now)
            .filter(|rule| !matches!(rule.action, Action::Reset { .. }))
            .any(|rule| rule.foresees(&query) != Some(false))
    }

    /// Whether links to this address do not pass over any of the transports that are spoken there, or may not: a rule that acts on
    /// a share of them, or after so many bytes, leaves no path that one may count on.
    pub(super) fn streams_to(&self, now: Duration, address: IpAddr, host: &Host) -> bool {
        self.found.contains(&address) || host.speaks().all(|speaks| self.stops(now, address, speaks))
    }

    /// Whether links over a transport, at a port so far behind that of links, do not pass, or may not.
    fn stops(&self, now: Duration, address: IpAddr, (kind, behind): (Kind, u16)) -> bool {
        let (labels, fet) = &self.links[&kind];
        let link = Prospect {
            opened: engine::Direction::Outbound,
            transport: Transport::Tcp,
            client: None,
            server: Some(SocketAddr::new(address, self.link_port + behind)),
            first: Some(First { labels, fet: *fet }),
            at_once: true,
        };
        self.acting(now).any(|rule| rule.foresees(&link) != Some(false))
    }
}

#[cfg(test)]
mod tests {
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

    /// The ministry takes its time and stops half way; the provider is quick and goes on.
    const TWO_LISTS: &str = r#"
format = 1
name = "t"
summary = "s"
run.duration = "10 min"
topology.region = [{ name = "in", area = "asia-pacific" }, { name = "out", area = "europe" }]
population.bridge = { region = "out", count = { extra = 6 }, node = "bridge" }
population.insider = { region = "in", count = { extra = 1 }, node = { insider = {} } }
population.voter = { region = "out", count = { extra = 3 }, node = "authority" }
[censor]
at = ["in", "out"]
list.slow = { learned-by-insiders = { lag = "3 min" } }
list.quick = { learned-by-insiders = { lag = "1 min" } }
[[censor.rule]]
name = "ministry"
until = "5 min"
match = { to = ["@slow"] }
action = "drop"
[[censor.rule]]
name = "provider"
match = { to = ["@quick"], transport = "tcp" }
action = "reset"
[[invariant]]
name = "both act"
sometimes = "censor.blocked('ministry') > 0 and censor.blocked('provider') > 0"
"#;

    #[test]
    fn what_one_list_has_learned_is_news_to_another_and_each_blocks_in_its_own_time() {
        let loaded = from_text(&Nothing, "t.toml", TWO_LISTS.to_owned(), Some("t"), &[])
            .unwrap_or_else(|error| panic!("{error}"));
        let plan = Plan::draw(&loaded, 1);
        let mut blocks = Blocks::new(&plan, 443);
        let minute = |n: u64| Duration::from_secs(60 * n);
        let bridge = IpAddr::V4(plan.hosts[0].address);
        assert!(blocks.learn("slow", minute(3), bridge) && blocks.learn("quick", minute(1), bridge));
        assert!(!blocks.learn("slow", minute(4), bridge) && !blocks.learn("quick", minute(2), bridge));
        let blocked = |n| {
            blocks.catch_up(minute(n));
            blocks.streams_to(minute(n), bridge, &plan.hosts[0])
        };
        assert_eq!(
            [0, 1, 4, 9].map(blocked),
            [false, true, true, true],
            "the provider's list goes on when the ministry's has ended"
        );
    }

    /// The rule on fully encrypted traffic closes plain links and obfs4, and not the way to a bridge that speaks something else too.
    #[test]
    fn a_bridge_is_within_reach_while_one_of_its_transports_is() {
        let rules = "[[censor.rule]]\nname = \"ministry\"\nmatch = { flagged = 'paper' }\naction = 'drop'\n";
        let ports = "[[censor.rule]]\nname = \"ministry\"\nmatch = { ports = [444] }\naction = 'drop'\n";
        let closed = |transports: &str, rules: &str| {
            let start = TWO_LISTS.find("[[censor.rule]]").expect("rules");
            let end = TWO_LISTS.find("[[invariant]]").expect("a promise");
            let promise = TWO_LISTS[end..].replace(" and censor.blocked('provider') > 0", "");
            let text = format!("{}{rules}{promise}", &TWO_LISTS[..start]);
            let text = text.replace(
                "node = \"bridge\"",
                &format!("node = \"bridge\", transports = {transports}"),
            );
            let loaded =
                from_text(&Nothing, "t.toml", text, Some("t"), &[]).unwrap_or_else(|error| panic!("{error}"));
            let plan = Plan::draw(&loaded, 1);
            let blocks = Blocks::new(&plan, 443);
            blocks.streams_to(Duration::ZERO, IpAddr::V4(plan.hosts[0].address), &plan.hosts[0])
        };
        for (transports, flagged, at_444) in [
            ("[\"plain\"]", true, false),
            ("[\"obfs4\", \"plain\"]", true, false),
            ("[\"obfs4-http\"]", false, false),
            ("[\"obfs4\", \"obfs4-tls\"]", false, false),
        ] {
            assert_eq!(
                (closed(transports, rules), closed(transports, ports)),
                (flagged, at_444),
                "{transports}"
            );
        }
        let both = format!("{rules}{}", ports.replace("ministry", "provider"));
        assert!(
            closed("[\"obfs4\", \"obfs4-tls\"]", &both),
            "one by its bytes, one by its port"
        );
    }

    /// Which of these rules leave no way in over a link to some address, which none for the DHT.
    #[test]
    fn a_rule_on_bytes_closes_a_path_if_a_link_is_like_that_or_may_come_to_be() {
        let closed = |matching: &str, action: &str| {
            let rules = format!(
                "[[censor.rule]]\nname = \"ministry\"\nmatch = {{ {matching} }}\naction = {action}\n"
            );
            let start = TWO_LISTS.find("[[censor.rule]]").expect("rules");
            let end = TWO_LISTS.find("[[invariant]]").expect("a promise");
            let promise = TWO_LISTS[end..].replace(" and censor.blocked('provider') > 0", "");
            let text = format!("{}{rules}{promise}", &TWO_LISTS[..start]);
            let loaded =
                from_text(&Nothing, "t.toml", text, Some("t"), &[]).unwrap_or_else(|error| panic!("{error}"));
            let plan = Plan::draw(&loaded, 1);
            let blocks = Blocks::new(&plan, 443);
            let bridge = IpAddr::V4(plan.hosts[0].address);
            (
                blocks.streams_to(Duration::ZERO, bridge, &plan.hosts[0]),
                blocks.datagrams(Duration::ZERO),
                blocks.everything(Duration::ZERO),
            )
        };
        for (matching, action, wanted) in [
            ("", "'drop'", (true, true, true)),
            ("transport = 'udp'", "'drop'", (false, true, false)),
            (
                "transport = 'udp', not = { ports = [53] }",
                "'drop'",
                (false, true, false),
            ),
            ("ports = [53]", "'drop'", (false, false, false)),
            ("protocols = ['tls']", "'drop'", (false, false, false)),
            (
                "not = { protocols = ['tls', 'http', 'dns'] }",
                "'drop'",
                (true, true, false),
            ),
            ("flagged = 'paper'", "'drop'", (true, false, false)),
            ("bytes = { over = '16 kB' }", "'drop'", (true, true, false)),
            ("to = ['@bridge']", "'reset'", (true, false, false)),
            ("to = ['@insider']", "'reset'", (false, false, false)),
            (
                "",
                "{ police = { rate = '140 kbit/s', burst = '10 kB' } }",
                (false, false, false),
            ),
        ] {
            assert_eq!(closed(matching, action), wanted, "{matching} {action}");
        }
    }
}
