//! Rules of a host's own network decorator ([`phantom_core::runtime::rules`]) as rules of the censor's engine, and back where
//! that is possible: other back ends than swarm have the decorator alone.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use phantom_censor::classify::{Protocol, Transport};
use phantom_censor::engine::Direction;
use phantom_censor::engine::addresses::Addresses;
use phantom_censor::engine::names::Names;
use phantom_censor::engine::rule::{ALWAYS, Action, Condition, Forgery, Rule};
use phantom_core::runtime::rules as plain;

/// A plain rule for the engine, always in force.
pub fn engaged(name: impl Into<String>, rule: &plain::Rule) -> Rule {
    let (all, action) = match rule {
        plain::Rule::Drop { remote, protocol } => {
            let transport = protocol.map(|protocol| {
                Condition::Transport(match protocol {
                    plain::Protocol::Tcp => Transport::Tcp,
                    plain::Protocol::Udp => Transport::Udp,
                })
            });
            (
                transport.into_iter().chain(conditions(remote)).collect(),
                Action::Drop,
            )
        }
        plain::Rule::Reset { remote } => {
            let tcp = Condition::Transport(Transport::Tcp);
            let both = Action::Reset {
                client: true,
                server: true,
            };
            (std::iter::once(tcp).chain(conditions(remote)).collect(), both)
        }
        plain::Rule::Silence { names } => (asks(names), Action::Drop),
        plain::Rule::Forge { names, answers } => {
            let forgery = Forgery {
                pool: answers.pool.clone(),
                each: answers.each.unwrap_or(usize::MAX),
                holds_back: !answers.truth_follows,
            };
            (asks(names), Action::Forge(forgery))
        }
    };
    Rule {
        all,
        action,
        ..Rule::new(name)
    }
}

/// Flows that ask DNS for a name.
fn asks(names: &plain::Names) -> Vec<Condition> {
    let mut all = vec![
        Condition::Transport(Transport::Udp),
        Condition::Protocol(Protocol::Dns),
    ];
    if let plain::Names::Under(names) = names {
        let below = names.iter().map(|name| format!("*.{name}"));
        all.push(Condition::Name(below.collect()));
    }
    all
}

fn conditions(remote: &plain::Remote) -> Option<Condition> {
    // The decorator knows who is outside, not who opened a flow.
    let either =
        |set: Addresses| Condition::Any(vec![Condition::Server(set.clone()), Condition::Client(set)]);
    let port =
        |ports: &BTreeSet<u16>| Condition::ServerPort(ports.iter().map(|port| *port..=*port).collect());
    match remote {
        plain::Remote::Any => None,
        plain::Remote::Addresses(addresses) => Some(either(addresses.iter().copied().collect())),
        plain::Remote::Endpoints(endpoints) => {
            let mut set = Addresses::new();
            endpoints.iter().for_each(|endpoint| set.add_endpoint(*endpoint));
            Some(either(set))
        }
        plain::Remote::Ports(ports) => Some(port(ports)),
        plain::Remote::PortsExcept(ports) => Some(Condition::Not(Box::new(port(ports)))),
    }
}

/// What the decorator has no word for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}: only the simulator (--runtime swarm) and emulation look at packets")]
pub struct NotPlain(&'static str);

/// A rule of the engine for the decorator, without its phases.
///
/// # Errors
/// What it says needs packets, flows or chances.
pub fn plain(rule: &Rule) -> Result<plain::Rule, NotPlain> {
    if rule.acts_on < ALWAYS || rule.acts_by_mistake_on > 0 {
        return Err(NotPlain("it acts on a share of flows"));
    }
    if rule.residual.is_some() {
        return Err(NotPlain("it goes on blocking after a flow"));
    }
    let wanted = Wanted::of(rule)?;
    // Whether a decorator drops what a client sends or both ways, its host waits in vain.
    match &rule.action {
        Action::Forge(forgery) => {
            if wanted.is_of_packets() {
                return Err(NotPlain("it forges answers by address or port"));
            }
            Ok(plain::Rule::Forge {
                names: wanted.names.unwrap_or(plain::Names::Any),
                answers: plain::Forgery {
                    pool: forgery.pool.clone(),
                    each: (forgery.each < forgery.pool.len()).then_some(forgery.each),
                    seed: 0,
                    truth_follows: !forgery.holds_back,
                },
            })
        }
        Action::Drop if wanted.names.is_some() && !wanted.is_of_packets() => Ok(plain::Rule::Silence {
            names: wanted.names.unwrap_or(plain::Names::Any),
        }),
        _ if wanted.names.is_some() => Err(NotPlain("it acts on names beyond a drop or a forged answer")),
        Action::Drop => Ok(plain::Rule::Drop {
            protocol: wanted.transport,
            remote: wanted.remote()?,
        }),
        Action::Reset {
            client: true,
            server: true,
        } => Ok(plain::Rule::Reset {
            remote: wanted.remote()?,
        }),
        Action::Reset { .. } => Err(NotPlain("it resets one end")),
        Action::Police { .. } | Action::Delay(_) => Err(NotPlain("it throttles or delays")),
        Action::Probe(_) => Err(NotPlain("it probes")),
    }
}

/// What a rule matches, as far as the decorator has words for it.
#[derive(Default)]
struct Wanted {
    transport: Option<plain::Protocol>,
    addresses: Option<BTreeSet<IpAddr>>,
    ports: Option<BTreeSet<u16>>,
    spared: Option<BTreeSet<u16>>,
    names: Option<plain::Names>,
}

impl Wanted {
    fn of(rule: &Rule) -> Result<Self, NotPlain> {
        let mut wanted = Self::default();
        let mut dns = false;
        let ports = |ranges: &[std::ops::RangeInclusive<u16>]| ranges.iter().cloned().flatten().collect();
        for condition in &rule.all {
            match condition {
                Condition::Opened(Direction::Outbound) => {}
                Condition::Transport(Transport::Tcp) => wanted.transport = Some(plain::Protocol::Tcp),
                Condition::Transport(Transport::Udp) => wanted.transport = Some(plain::Protocol::Udp),
                Condition::Server(set) => match set.hosts() {
                    Some(hosts) => wanted.addresses = Some(hosts.clone()),
                    None => return Err(NotPlain("it matches prefixes or addresses with a port")),
                },
                Condition::ServerPort(ranges) => wanted.ports = Some(ports(ranges)),
                Condition::Not(not) => match &**not {
                    Condition::ServerPort(ranges) => wanted.spared = Some(ports(ranges)),
                    _ => return Err(NotPlain("what it spares is more than ports")),
                },
                Condition::Any(any) if any.iter().all(is_dns) => dns = true,
                Condition::Protocol(Protocol::Dns) => dns = true,
                Condition::Name(names) => wanted.names = Some(plain::Names::Under(below(names)?)),
                _ => return Err(NotPlain("it looks into packets")),
            }
        }
        if wanted.names.is_some() && !dns {
            return Err(NotPlain("names of other protocols than DNS are in packets"));
        }
        if dns && wanted.names.is_none() {
            wanted.names = Some(plain::Names::Any);
        }
        if dns && wanted.transport == Some(plain::Protocol::Tcp) {
            return Err(NotPlain("it is about DNS over TCP"));
        }
        if dns {
            // Questions are what the decorator's rules on names are about.
            wanted.transport = None;
        }
        Ok(wanted)
    }

    fn is_of_packets(&self) -> bool {
        self.addresses.is_some() || self.ports.is_some() || self.spared.is_some()
    }

    fn remote(self) -> Result<plain::Remote, NotPlain> {
        match (self.addresses, self.ports, self.spared) {
            (None, None, None) => Ok(plain::Remote::Any),
            (None, Some(ports), None) => Ok(plain::Remote::Ports(ports)),
            (None, None, Some(ports)) => Ok(plain::Remote::PortsExcept(ports)),
            (Some(addresses), None, None) => Ok(plain::Remote::Addresses(addresses)),
            (Some(addresses), Some(ports), None) => {
                let at = |ip: &IpAddr| -> Vec<_> {
                    ports.iter().map(|port| SocketAddr::new(*ip, *port)).collect()
                };
                Ok(plain::Remote::Endpoints(addresses.iter().flat_map(at).collect()))
            }
            _ => Err(NotPlain("it spares ports of some addresses")),
        }
    }
}

const fn is_dns(condition: &Condition) -> bool {
    matches!(condition, Condition::Protocol(Protocol::Dns))
}

/// The names, if each stands for itself and all below it, as the decorator's do.
fn below(names: &Names) -> Result<BTreeSet<String>, NotPlain> {
    let below = names.only_below();
    below
        .cloned()
        .ok_or(NotPlain("it matches single names, or pieces of them"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every plain rule, there and back.
    #[test]
    fn what_the_decorator_can_do_the_engine_can_and_what_goes_back_is_the_same() {
        let names = plain::Names::Under(["entry.example".to_owned()].into());
        let forged = plain::Forgery {
            pool: vec![[198, 18, 0, 1].into(), [198, 18, 0, 2].into()],
            each: Some(1),
            seed: 0,
            truth_follows: true,
        };
        for rule in [
            plain::Rule::Drop {
                remote: plain::Remote::Any,
                protocol: None,
            },
            plain::Rule::Drop {
                remote: plain::Remote::PortsExcept([53].into()),
                protocol: Some(plain::Protocol::Udp),
            },
            plain::Rule::Reset {
                remote: plain::Remote::Ports([443, 8443].into()),
            },
            plain::Rule::Silence { names: names.clone() },
            plain::Rule::Forge {
                names,
                answers: forged.clone(),
            },
            plain::Rule::Forge {
                names: plain::Names::Any,
                answers: forged,
            },
        ] {
            let there = engaged("r", &rule);
            there.check().expect("a rule that makes sense");
            assert_eq!(plain(&there), Ok(rule));
        }
    }

    #[test]
    fn what_needs_packets_is_refused_and_says_why() {
        let rule = |all| Rule {
            all,
            ..Rule::new("r")
        };
        let tls = rule(vec![Condition::Protocol(Protocol::Tls)]);
        assert_eq!(
            plain(&tls).expect_err("bytes").to_string(),
            "it looks into packets: only the simulator (--runtime swarm) and emulation look at packets"
        );
        let over_tcp = rule(vec![
            Condition::Transport(Transport::Tcp),
            Condition::Protocol(Protocol::Dns),
        ]);
        assert!(
            plain(&over_tcp).is_err(),
            "the decorator would silence questions over UDP"
        );
        let chance = Rule {
            acts_on: ALWAYS / 2,
            ..rule(Vec::new())
        };
        assert!(plain(&chance).is_err());
        let slow = Rule {
            action: Action::Delay(1),
            ..rule(Vec::new())
        };
        assert!(plain(&slow).is_err());
        let listed = rule(vec![
            Condition::Server([IpAddr::from([192, 0, 2, 1])].into_iter().collect()),
            Condition::ServerPort(vec![443..=443]),
        ]);
        let wanted = plain::Rule::Drop {
            remote: plain::Remote::Endpoints(["192.0.2.1:443".parse().expect("an endpoint")].into()),
            protocol: None,
        };
        assert_eq!(plain(&listed), Ok(wanted));
    }
}
