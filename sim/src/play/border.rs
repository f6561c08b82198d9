//! The censor of a plan as the back ends know it, and what of it is in force: for the stage, and for the oracle.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use phantom_core::runtime::rules::{Forgery, Names, Protocol as Carrier, Remote, Rule};
use rand_core::Rng;

use crate::run::RunError;
use crate::scenario::file::Protocol;
use crate::scenario::plan::{Act, Plan, Rule as Planned, Targets, stream};

/// Addresses in one forged answer, out of all that a censor uses.
const ANSWERS: usize = 2;

/// The rule of the stage for a rule of the plan.
///
/// # Errors
/// A combination that this version does not know: better no run than another censor than the one asked for.
pub(super) fn rule(plan: &Plan, planned: &Planned) -> Result<Rule, RunError> {
    let unknown = |what: &str| RunError::Unable(format!("the rule '{}' {what}: not supported", planned.name));
    let names = planned
        .dns_names
        .as_ref()
        .map(|names| Names::Under(names.iter().cloned().collect()));
    if let Act::Forge { answers, true_answer } = &planned.action {
        return Ok(Rule::Forge {
            names: names.unwrap_or(Names::Any),
            answers: Forgery {
                pool: answers.iter().copied().map(IpAddr::V4).collect(),
                each: Some(ANSWERS),
                seed: stream(plan.seed, &format!("{} answers", planned.name)).next_u64(),
                truth_follows: *true_answer,
            },
        });
    }
    if let Some(names) = names {
        return match planned.action {
            Act::Drop => Ok(Rule::Silence { names }),
            _ => Err(unknown("resets a question for a name")),
        };
    }
    let protocol = match planned.protocol {
        None => None,
        Some(Protocol::Tcp) => Some(Carrier::Tcp),
        Some(Protocol::Udp) => Some(Carrier::Udp),
    };
    let addresses = match &planned.to {
        None => None,
        Some(Targets::Fixed(addresses)) => Some(addresses.as_slice()),
        Some(Targets::Learned { .. }) => Some(&[][..]),
    };
    let (ports, spared) = (&planned.ports, &planned.except_ports);
    let remote = match (addresses, ports.is_empty(), spared.is_empty()) {
        (None, true, true) => Remote::Any,
        (None, false, true) => Remote::Ports(ports.iter().copied().collect()),
        (None, true, false) => Remote::PortsExcept(spared.iter().copied().collect()),
        (Some(addresses), true, true) => Remote::Addresses(addresses.iter().copied().collect()),
        (Some(addresses), false, true) => Remote::Endpoints(endpoints(addresses, ports)),
        _ => return Err(unknown("spares ports of some addresses")),
    };
    match planned.action {
        Act::Reset if protocol == Some(Carrier::Udp) => Err(unknown("resets datagrams")),
        Act::Reset => Ok(Rule::Reset { remote }),
        _ => Ok(Rule::Drop { remote, protocol }),
    }
}

/// All rules of a plan as the stages know them: what a back end is given.
///
/// # Errors
/// See [`rule`].
#[cfg(test)]
pub(crate) fn rules_of(plan: &Plan) -> Result<Vec<Rule>, RunError> {
    plan.rules.iter().map(|planned| rule(plan, planned)).collect()
}

/// Each address at each port.
pub(super) fn endpoints(addresses: &[IpAddr], ports: &[u16]) -> BTreeSet<SocketAddr> {
    let at = |ip: &IpAddr| {
        ports
            .iter()
            .map(|port| SocketAddr::new(*ip, *port))
            .collect::<Vec<_>>()
    };
    addresses.iter().flat_map(at).collect()
}

/// What the rules of a plan block at a time.
pub(super) struct Blocks<'p> {
    plan: &'p Plan,
    link_port: u16,
    /// By rule and address that insiders gave away: when the rule has it on its list.
    learned: BTreeMap<(usize, IpAddr), Duration>,
}

impl<'p> Blocks<'p> {
    /// Of a world in which links go to `link_port`.
    pub(super) const fn new(plan: &'p Plan, link_port: u16) -> Self {
        Self {
            plan,
            link_port,
            learned: BTreeMap::new(),
        }
    }

    /// A rule of the plan learns an address; `true` if it is new to that rule.
    pub(super) fn learn(&mut self, rule: usize, at: Duration, address: IpAddr) -> bool {
        let new = !self.learned.contains_key(&(rule, address));
        if new {
            self.learned.insert((rule, address), at);
        }
        new
    }

    /// The rules that act on packets, with their numbers.
    fn acting(&self, now: Duration) -> impl Iterator<Item = (usize, &'p Planned)> {
        let rules = self.plan.rules.iter().enumerate();
        rules
            .filter(move |(_, rule)| (rule.from..rule.until).contains(&now))
            .filter(|(_, rule)| rule.dns_names.is_none() && !matches!(rule.action, Act::Forge { .. }))
    }

    /// Whether nothing at all passes.
    pub(super) fn everything(&self, now: Duration) -> bool {
        self.acting(now).any(|(_, rule)| rule.is_total())
    }

    /// Whether datagrams do not pass. A reset means nothing to them.
    pub(super) fn datagrams(&self, now: Duration) -> bool {
        self.acting(now)
            .filter(|(_, rule)| rule.action == Act::Drop && rule.protocol != Some(Protocol::Tcp))
            .any(|(_, rule)| rule.to.is_none() && rule.ports.is_empty())
    }

    /// Whether streams to this address do not pass.
    pub(super) fn streams_to(&self, now: Duration, address: IpAddr) -> bool {
        self.acting(now)
            .filter(|(_, rule)| rule.protocol != Some(Protocol::Udp))
            .filter(|(_, rule)| rule.ports.is_empty() || rule.ports.contains(&self.link_port))
            .filter(|(_, rule)| !rule.except_ports.contains(&self.link_port))
            .any(|(number, rule)| match &rule.to {
                None => true,
                Some(Targets::Fixed(addresses)) => addresses.contains(&address),
                Some(Targets::Learned { .. }) => self
                    .learned
                    .get(&(number, address))
                    .is_some_and(|since| *since <= now),
            })
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
[[censor.rule]]
name = "ministry"
until = "5 min"
match = { to = { learned-by-insiders = { lag = "3 min" } } }
action = "drop"
[[censor.rule]]
name = "provider"
match = { to = { learned-by-insiders = { lag = "1 min" } } }
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
        assert!(blocks.learn(0, minute(3), bridge) && blocks.learn(1, minute(1), bridge));
        assert!(!blocks.learn(0, minute(4), bridge) && !blocks.learn(1, minute(2), bridge));
        let blocked = |n| blocks.streams_to(minute(n), bridge);
        assert_eq!(
            [0, 1, 4, 9].map(blocked),
            [false, true, true, true],
            "the provider's list goes on when the ministry's has ended"
        );
    }
}
