//! The censor of a plan as the back ends know it, and what of it is in force: for the stage, and for the oracle.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use phantom_core::runtime::rules::{Names, Protocol as Carrier, Remote, Rule};
use rand_core::Rng;

use crate::run::RunError;
use crate::scenario::file::Protocol;
use crate::scenario::plan::{Act, Plan, Rule as Planned, Targets, stream};

/// Forged answers that one question gets, out of all that a censor uses.
const ANSWERS: usize = 2;

/// The rule of the stage for a rule of the plan.
///
/// # Errors
/// A combination that this version does not know: better no run than another censor than the one asked for.
pub(super) fn rule(plan: &Plan, planned: &Planned) -> Result<Rule, RunError> {
    let unknown = |what: &str| RunError::Unable(format!("the rule '{}' {what}: not supported", planned.name));
    if let Some(names) = &planned.dns_names {
        let names = Names::Under(names.iter().cloned().collect());
        return Ok(match &planned.action {
            Act::Drop => Rule::Silence { names },
            Act::Reset => return Err(unknown("resets a question for a name")),
            Act::Forge { answers, .. } => {
                let mut rng = stream(plan.seed, &format!("{} answers", planned.name));
                let pick = |_| answers[(rng.next_u64() % answers.len() as u64) as usize].into();
                Rule::Forge {
                    names,
                    answer: (0..ANSWERS.min(answers.len())).map(pick).collect(),
                }
            }
        });
    }
    let protocol = match planned.protocol {
        None => None,
        Some(Protocol::Tcp) => Some(Carrier::Tcp),
        Some(Protocol::Udp) => Some(Carrier::Udp),
    };
    // Questions for names are packets of their own kind, so sparing port 53 needs no exception.
    if !planned.except_ports.iter().all(|port| *port == 53) {
        return Err(unknown("spares ports other than 53"));
    }
    let remote = match (&planned.to, planned.ports.as_slice()) {
        (None, []) => Remote::Any,
        (Some(Targets::Fixed(addresses)), []) => Remote::Addresses(addresses.iter().copied().collect()),
        (Some(Targets::Learned { .. }), []) => Remote::Addresses(BTreeSet::new()),
        (None, ports) => Remote::Ports(ports.iter().copied().collect()),
        (Some(_), _) => return Err(unknown("names addresses and ports")),
    };
    match planned.action {
        Act::Drop => Ok(Rule::Drop { remote, protocol }),
        Act::Reset if protocol != Some(Carrier::Udp) => Ok(Rule::Reset { remote }),
        Act::Reset => Err(unknown("resets datagrams")),
        Act::Forge { .. } => Err(unknown("forges answers without naming names")),
    }
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
            .filter(move |rule| (rule.from..rule.until).contains(&now) && rule.dns_names.is_none())
    }

    /// Whether nothing at all passes.
    pub(super) fn everything(&self, now: Duration) -> bool {
        self.acting(now).any(Planned::is_total)
    }

    /// Whether datagrams do not pass.
    pub(super) fn datagrams(&self, now: Duration) -> bool {
        self.acting(now)
            .any(|rule| rule.to.is_none() && rule.ports.is_empty() && rule.protocol != Some(Protocol::Tcp))
    }

    /// Whether streams to this address do not pass.
    pub(super) fn streams_to(&self, now: Duration, address: IpAddr) -> bool {
        self.acting(now)
            .filter(|rule| rule.protocol != Some(Protocol::Udp))
            .any(|rule| match &rule.to {
                None => rule.ports.is_empty() || rule.ports.contains(&self.link_port),
                Some(Targets::Fixed(addresses)) => addresses.contains(&address),
                Some(Targets::Learned { .. }) => self
                    .learned
                    .iter()
                    .any(|(since, known)| *known == address && *since <= now),
            })
    }
}
