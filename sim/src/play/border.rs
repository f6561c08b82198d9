//! The censor of a plan as the back ends know it, and what of it is in force: for the stage, and for the oracle.

use std::collections::BTreeSet;
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
    /// Addresses that insiders gave away, and when the censor has them on its list.
    learned: Vec<(Duration, IpAddr)>,
}

impl<'p> Blocks<'p> {
    /// Of a world in which links go to `link_port`.
    pub(super) const fn new(plan: &'p Plan, link_port: u16) -> Self {
        Self {
            plan,
            link_port,
            learned: Vec::new(),
        }
    }

    /// Learns an address; `true` if it is new.
    pub(super) fn learn(&mut self, at: Duration, address: IpAddr) -> bool {
        let new = !self.learned.iter().any(|(_, known)| *known == address);
        if new {
            self.learned.push((at, address));
        }
        new
    }

    fn acting(&self, now: Duration) -> impl Iterator<Item = &'p Planned> {
        self.plan
            .rules
            .iter()
            .filter(move |rule| (rule.from..rule.until).contains(&now))
            .filter(|rule| rule.dns_names.is_none() && !matches!(rule.action, Act::Forge { .. }))
    }

    /// Whether nothing at all passes.
    pub(super) fn everything(&self, now: Duration) -> bool {
        self.acting(now).any(Planned::is_total)
    }

    /// Whether datagrams do not pass. A reset means nothing to them.
    pub(super) fn datagrams(&self, now: Duration) -> bool {
        self.acting(now)
            .filter(|rule| rule.action == Act::Drop && rule.protocol != Some(Protocol::Tcp))
            .any(|rule| rule.to.is_none() && rule.ports.is_empty())
    }

    /// Whether streams to this address do not pass.
    pub(super) fn streams_to(&self, now: Duration, address: IpAddr) -> bool {
        self.acting(now)
            .filter(|rule| rule.protocol != Some(Protocol::Udp))
            .filter(|rule| rule.ports.is_empty() || rule.ports.contains(&self.link_port))
            .filter(|rule| !rule.except_ports.contains(&self.link_port))
            .any(|rule| match &rule.to {
                None => true,
                Some(Targets::Fixed(addresses)) => addresses.contains(&address),
                Some(Targets::Learned { .. }) => self
                    .learned
                    .iter()
                    .any(|(since, known)| *known == address && *since <= now),
            })
    }
}
