//! Rules of a censor by address, port, protocol and name, and the decision they come to.
//!
//! Pure: [`Rules`] says what happens to a flow or a name, and does nothing. The simulated border asks it per packet; the
//! decorator [`Ruled`](super::ruled::Ruled) asks it per call, on any back end. [`SharedRules`] is the handle through which
//! rules come and go while peers run.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

/// What carries a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// Streams.
    Tcp,
    /// Datagrams.
    Udp,
}

/// Traffic between a host that the rules govern and another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flow {
    /// What carries it.
    pub protocol: Protocol,
    /// The governed host's end.
    pub inside: SocketAddr,
    /// The other end.
    pub outside: SocketAddr,
}

/// Which flows a rule is about, by their outside end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Remote {
    /// Every flow.
    Any,
    /// To or from one of these addresses.
    Addresses(BTreeSet<IpAddr>),
    /// To or from one of these addresses at one port.
    Endpoints(BTreeSet<SocketAddr>),
    /// With one of these ports at either end.
    Ports(BTreeSet<u16>),
}

/// Which names a rule is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Names {
    /// Every name.
    Any,
    /// These and all below them, whatever the case.
    Under(BTreeSet<String>),
}

/// One rule of a censor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Flows vanish without an answer, established ones too, in both directions, for as long as the rule holds.
    Drop {
        /// Which flows.
        remote: Remote,
        /// Carried by what; `None`: by anything.
        protocol: Option<Protocol>,
    },
    /// Streams are answered with a reset, established ones too. Datagrams know no reset and pass.
    Reset {
        /// Which flows.
        remote: Remote,
    },
    /// Questions for names get this answer; an empty one says that there is no such name.
    Forge {
        /// Which names.
        names: Names,
        /// What is answered.
        answer: Vec<IpAddr>,
    },
    /// Questions for names are not answered.
    Silence {
        /// Which names.
        names: Names,
    },
}

/// What happens to a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Nothing.
    Pass,
    /// It vanishes.
    Drop,
    /// It is reset.
    Reset,
}

/// What happens to a question for a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The true one comes.
    Pass,
    /// None comes.
    Silence,
    /// This one comes.
    Forged(Vec<IpAddr>),
}

/// Names a rule, so that it can be taken back. Earlier rules have smaller ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId(u64);

/// Rules in force. The earliest that matches decides.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    inside: BTreeSet<IpAddr>,
    rules: BTreeMap<RuleId, Rule>,
    next: u64,
}

impl Rules {
    /// Says which addresses are on the governed side of the border: flows between them never cross it, so they pass.
    pub fn set_inside(&mut self, addresses: BTreeSet<IpAddr>) {
        self.inside = addresses;
    }

    /// Adds a rule after all others.
    pub fn add(&mut self, rule: Rule) -> RuleId {
        let id = RuleId(self.next);
        self.next += 1;
        self.rules.insert(id, rule);
        id
    }

    /// Takes a rule back; returns it if it was in force.
    pub fn remove(&mut self, id: RuleId) -> Option<Rule> {
        self.rules.remove(&id)
    }

    /// Whether no rule is in force.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// What happens to `flow` now.
    pub fn decide(&self, flow: Flow) -> Verdict {
        if self.inside.contains(&flow.outside.ip()) {
            return Verdict::Pass;
        }
        let verdict = |rule: &Rule| match rule {
            Rule::Drop { remote, protocol }
                if protocol.is_none_or(|p| p == flow.protocol) && remote.has(flow) =>
            {
                Some(Verdict::Drop)
            }
            Rule::Reset { remote } if flow.protocol == Protocol::Tcp && remote.has(flow) => {
                Some(Verdict::Reset)
            }
            _ => None,
        };
        self.rules.values().find_map(verdict).unwrap_or(Verdict::Pass)
    }

    /// What happens to a question for `name` now.
    pub fn decide_name(&self, name: &str) -> Answer {
        let answer = |rule: &Rule| match rule {
            Rule::Forge { names, answer } if names.has(name) => Some(Answer::Forged(answer.clone())),
            Rule::Silence { names } if names.has(name) => Some(Answer::Silence),
            _ => None,
        };
        self.rules.values().find_map(answer).unwrap_or(Answer::Pass)
    }
}

impl Remote {
    fn has(&self, flow: Flow) -> bool {
        match self {
            Self::Any => true,
            Self::Addresses(these) => these.contains(&flow.outside.ip()),
            Self::Endpoints(these) => these.contains(&flow.outside),
            Self::Ports(these) => these.contains(&flow.outside.port()) || these.contains(&flow.inside.port()),
        }
    }
}

impl Names {
    /// These names and all below them.
    pub fn under<I>(names: I) -> Self
    where
        I: IntoIterator,
        I::Item: AsRef<str>,
    {
        Self::Under(
            names
                .into_iter()
                .map(|name| name.as_ref().trim_end_matches('.').to_ascii_lowercase())
                .collect(),
        )
    }

    fn has(&self, name: &str) -> bool {
        let Self::Under(these) = self else { return true };
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        let mut rest = name.as_str();
        loop {
            if these.contains(rest) {
                return true;
            }
            match rest.split_once('.') {
                Some((_, parent)) => rest = parent,
                None => return false,
            }
        }
    }
}

/// What rules did, so that a scenario can show that the censor acted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Attempts to connect that vanished.
    pub connects_dropped: u64,
    /// Times that an established stream stopped.
    pub streams_stalled: u64,
    /// Streams that were reset, established or about to be.
    pub streams_reset: u64,
    /// Datagrams that vanished, in either direction.
    pub datagrams_dropped: u64,
    /// Questions for names that were answered with a lie.
    pub names_forged: u64,
    /// Questions for names that were not answered.
    pub names_silenced: u64,
}

/// A handle to rules that change while peers run. Clones are the same rules.
#[derive(Clone, Debug, Default)]
pub struct SharedRules(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    rules: Rules,
    counts: Counts,
    /// Who waits for a change. Ordered, so that they are woken in the same order in every run.
    waiting: BTreeMap<u64, Waker>,
    next_waiter: u64,
}

impl SharedRules {
    /// Adds a rule after all others. Takes effect at once, on established streams too.
    pub fn add(&self, rule: Rule) -> RuleId {
        self.change(|rules| rules.add(rule))
    }

    /// Takes a rule back; what it held up goes on.
    pub fn remove(&self, id: RuleId) -> Option<Rule> {
        self.change(|rules| rules.remove(id))
    }

    /// Says which addresses are on the governed side of the border: see [`Rules::set_inside`].
    pub fn set_inside(&self, addresses: BTreeSet<IpAddr>) {
        self.change(|rules| rules.set_inside(addresses));
    }

    /// Takes all rules back.
    pub fn clear(&self) {
        self.change(|rules| rules.rules.clear());
    }

    /// What the rules did so far.
    pub fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// What happens to `flow` now.
    pub fn decide(&self, flow: Flow) -> Verdict {
        self.lock().rules.decide(flow)
    }

    /// What happens to a question for `name` now.
    pub fn decide_name(&self, name: &str) -> Answer {
        self.lock().rules.decide_name(name)
    }

    pub(super) fn count(&self, what: impl FnOnce(&mut Counts)) {
        what(&mut self.lock().counts);
    }

    /// A place to wait for changes.
    pub(super) fn waiter(&self) -> Waiter {
        let mut state = self.lock();
        let id = state.next_waiter;
        state.next_waiter += 1;
        Waiter {
            shared: self.clone(),
            id,
        }
    }

    fn change<T>(&self, with: impl FnOnce(&mut Rules) -> T) -> T {
        let (result, waiting) = {
            let mut state = self.lock();
            (with(&mut state.rules), std::mem::take(&mut state.waiting))
        };
        for waker in waiting.into_values() {
            waker.wake();
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One task's place in the queue for changes; leaves it when dropped.
#[derive(Debug)]
pub(super) struct Waiter {
    shared: SharedRules,
    id: u64,
}

impl Waiter {
    /// The verdict on `flow`, and a wake at the next change of any rule.
    pub(super) fn decide_and_watch(&self, flow: Flow, waker: &Waker) -> Verdict {
        let mut state = self.shared.lock();
        state.waiting.insert(self.id, waker.clone());
        state.rules.decide(flow)
    }

    /// Completes when `done` says so of the rules; asked at once and at every change.
    pub(super) async fn until(&self, done: impl Fn(&Rules) -> bool) {
        std::future::poll_fn(|cx| {
            let mut state = self.shared.lock();
            if done(&state.rules) {
                return std::task::Poll::Ready(());
            }
            state.waiting.insert(self.id, cx.waker().clone());
            std::task::Poll::Pending
        })
        .await;
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        self.shared.lock().waiting.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(protocol: Protocol, outside: &str) -> Flow {
        Flow {
            protocol,
            inside: "10.0.0.1:40000".parse().unwrap(),
            outside: outside.parse().unwrap(),
        }
    }

    #[test]
    fn the_earliest_rule_that_matches_decides() {
        let mut rules = Rules::default();
        let reset = rules.add(Rule::Reset {
            remote: Remote::Ports([443].into()),
        });
        rules.add(Rule::Drop {
            remote: Remote::Any,
            protocol: None,
        });
        assert_eq!(rules.decide(flow(Protocol::Tcp, "192.0.2.1:443")), Verdict::Reset);
        assert_eq!(
            rules.decide(flow(Protocol::Udp, "192.0.2.1:443")),
            Verdict::Drop,
            "datagrams know no reset"
        );
        assert_eq!(rules.decide(flow(Protocol::Tcp, "192.0.2.1:80")), Verdict::Drop);
        assert!(rules.remove(reset).is_some());
        assert_eq!(rules.decide(flow(Protocol::Tcp, "192.0.2.1:443")), Verdict::Drop);
    }

    #[test]
    fn each_kind_of_remote_matches_its_own() {
        let with = |remote| {
            let mut rules = Rules::default();
            rules.add(Rule::Drop {
                remote,
                protocol: None,
            });
            move |outside| rules.decide(flow(Protocol::Tcp, outside)) == Verdict::Drop
        };
        let one: IpAddr = [192, 0, 2, 1].into();
        let addresses = with(Remote::Addresses([one].into()));
        assert!(addresses("192.0.2.1:1") && !addresses("192.0.2.2:1"));
        let endpoints = with(Remote::Endpoints([SocketAddr::new(one, 7)].into()));
        assert!(endpoints("192.0.2.1:7") && !endpoints("192.0.2.1:8"));
        let ports = with(Remote::Ports([40000].into()));
        assert!(ports("192.0.2.9:1"), "the inside port counts as well");
    }

    #[test]
    fn what_stays_inside_crosses_no_border() {
        let mut rules = Rules::default();
        rules.set_inside([[10, 0, 0, 7].into()].into());
        rules.add(Rule::Drop {
            remote: Remote::Any,
            protocol: None,
        });
        assert_eq!(rules.decide(flow(Protocol::Tcp, "10.0.0.7:1")), Verdict::Pass);
        assert_eq!(rules.decide(flow(Protocol::Tcp, "10.0.0.8:1")), Verdict::Drop);
    }

    #[test]
    fn a_name_covers_what_is_below_it_and_nothing_beside_it() {
        let mut rules = Rules::default();
        rules.add(Rule::Forge {
            names: Names::under(["Example.org."]),
            answer: Vec::new(),
        });
        for hit in ["example.org", "EXAMPLE.ORG.", "a.b.example.org"] {
            assert_eq!(rules.decide_name(hit), Answer::Forged(Vec::new()), "{hit}");
        }
        for miss in ["xexample.org", "org", "example.org.evil", ""] {
            assert_eq!(rules.decide_name(miss), Answer::Pass, "{miss}");
        }
        rules.add(Rule::Silence { names: Names::Any });
        assert_eq!(rules.decide_name("org"), Answer::Silence);
    }
}
