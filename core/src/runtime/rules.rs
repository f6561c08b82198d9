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
    /// With any port but these at the outside end.
    PortsExcept(BTreeSet<u16>),
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
    /// Questions for names get a lie.
    Forge {
        /// Which names.
        names: Names,
        /// What is answered.
        answers: Forgery,
    },
    /// Questions for names are not answered.
    Silence {
        /// Which names.
        names: Names,
    },
}

/// Where a censor takes its lies from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forgery {
    /// All addresses that it uses. None: its answer is that there is no such name.
    pub pool: Vec<IpAddr>,
    /// How many of them go into one answer, drawn for each question; `None`: all.
    pub each: Option<usize>,
    /// The draws are a hash of this, the name and the question's number.
    pub seed: u64,
    /// Whether the question goes on and the true answer follows behind the lie. Nobody who takes the first answer sees a
    /// difference, but observers of the path do.
    pub truth_follows: bool,
}

impl Forgery {
    /// The same answer to every question, in place of the true one.
    pub fn always(pool: Vec<IpAddr>) -> Self {
        Self {
            pool,
            each: None,
            seed: 0,
            truth_follows: false,
        }
    }

    /// The answer to the question of this number for `name`.
    pub fn answer(&self, name: &str, question: u64) -> Vec<IpAddr> {
        let Some(each) = self.each.filter(|each| *each < self.pool.len()) else {
            return self.pool.clone();
        };
        let hash = name
            .trim_end_matches('.')
            .bytes()
            .map(|byte| u64::from(byte.to_ascii_lowercase()))
            .chain([question])
            .fold(mix(self.seed), |hash, word| mix(hash ^ word));
        let mut picked: Vec<usize> = Vec::with_capacity(each);
        let mut draw = hash;
        while picked.len() < each {
            draw = mix(draw);
            let index = ((u128::from(draw) * self.pool.len() as u128) >> 64) as usize;
            if !picked.contains(&index) {
                picked.push(index);
            }
        }
        picked.into_iter().map(|index| self.pool[index]).collect()
    }
}

/// The finaliser of SplitMix64, after its step: a permutation without short cycles for draws that must only look random.
const fn mix(word: u64) -> u64 {
    let mut z = word.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
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
    Forged {
        /// What it says; none: there is no such name.
        addresses: Vec<IpAddr>,
        /// Whether the true one follows.
        truth_follows: bool,
    },
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

    /// Puts another rule in the place of one that is in force; returns that, or `None` and does nothing.
    pub fn replace(&mut self, id: RuleId, rule: Rule) -> Option<Rule> {
        self.rules
            .get_mut(&id)
            .map(|place| std::mem::replace(place, rule))
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
        self.decide_by(flow).0
    }

    /// What happens to `flow` now, and which rule says so, if one does.
    pub fn decide_by(&self, flow: Flow) -> (Verdict, Option<RuleId>) {
        if self.inside.contains(&flow.outside.ip()) {
            return (Verdict::Pass, None);
        }
        let verdict = |(id, rule): (&RuleId, &Rule)| match rule {
            Rule::Drop { remote, protocol }
                if protocol.is_none_or(|p| p == flow.protocol) && remote.has(flow) =>
            {
                Some((Verdict::Drop, Some(*id)))
            }
            Rule::Reset { remote } if flow.protocol == Protocol::Tcp && remote.has(flow) => {
                Some((Verdict::Reset, Some(*id)))
            }
            _ => None,
        };
        self.rules
            .iter()
            .find_map(verdict)
            .unwrap_or((Verdict::Pass, None))
    }

    /// What happens to a question for `name` now. Forged answers to questions of different numbers differ.
    pub fn decide_name(&self, name: &str, question: u64) -> Answer {
        self.decide_name_by(name, question).0
    }

    /// What happens to a question for `name` now, and which rule says so, if one does.
    pub fn decide_name_by(&self, name: &str, question: u64) -> (Answer, Option<RuleId>) {
        let answer = |(id, rule): (&RuleId, &Rule)| match rule {
            Rule::Forge { names, answers } if names.has(name) => {
                let forged = Answer::Forged {
                    addresses: answers.answer(name, question),
                    truth_follows: answers.truth_follows,
                };
                Some((forged, Some(*id)))
            }
            Rule::Silence { names } if names.has(name) => Some((Answer::Silence, Some(*id))),
            _ => None,
        };
        self.rules.iter().find_map(answer).unwrap_or((Answer::Pass, None))
    }
}

impl Remote {
    fn has(&self, flow: Flow) -> bool {
        match self {
            Self::Any => true,
            Self::Addresses(these) => these.contains(&flow.outside.ip()),
            Self::Endpoints(these) => these.contains(&flow.outside),
            Self::Ports(these) => these.contains(&flow.outside.port()) || these.contains(&flow.inside.port()),
            Self::PortsExcept(these) => !these.contains(&flow.outside.port()),
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

impl Counts {
    /// Everything that vanished.
    pub const fn dropped(&self) -> u64 {
        self.connects_dropped + self.streams_stalled + self.datagrams_dropped + self.names_silenced
    }
}

impl std::ops::Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            connects_dropped: self.connects_dropped + other.connects_dropped,
            streams_stalled: self.streams_stalled + other.streams_stalled,
            streams_reset: self.streams_reset + other.streams_reset,
            datagrams_dropped: self.datagrams_dropped + other.datagrams_dropped,
            names_forged: self.names_forged + other.names_forged,
            names_silenced: self.names_silenced + other.names_silenced,
        }
    }
}

/// A handle to rules that change while peers run. Clones are the same rules.
#[derive(Clone, Debug, Default)]
pub struct SharedRules(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    rules: Rules,
    counts: Counts,
    /// What each rule did, those that have ended included.
    by_rule: BTreeMap<RuleId, Counts>,
    /// Who waits for a change. Ordered, so that they are woken in the same order in every run.
    waiting: BTreeMap<u64, Waker>,
    next_waiter: u64,
}

impl SharedRules {
    /// Adds a rule after all others. Takes effect at once, on established streams too.
    pub fn add(&self, rule: Rule) -> RuleId {
        self.change(|rules| rules.add(rule))
    }

    /// Puts another rule in the place of one that is in force. What it did before counts on.
    pub fn replace(&self, id: RuleId, rule: Rule) -> Option<Rule> {
        self.change(|rules| rules.replace(id, rule))
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

    /// What one rule did so far, also when it has ended.
    pub fn counts_of(&self, id: RuleId) -> Counts {
        self.lock().by_rule.get(&id).copied().unwrap_or_default()
    }

    /// What happens to `flow` now.
    pub fn decide(&self, flow: Flow) -> Verdict {
        self.lock().rules.decide(flow)
    }

    /// What happens to the next question for `name`.
    pub fn decide_name(&self, name: &str) -> Answer {
        self.decide_name_by(name).0
    }

    /// What happens to `flow` now, and which rule says so.
    pub(super) fn decide_by(&self, flow: Flow) -> (Verdict, Option<RuleId>) {
        self.lock().rules.decide_by(flow)
    }

    /// What happens to a question for `name` now, and which rule says so.
    pub(super) fn decide_name_by(&self, name: &str) -> (Answer, Option<RuleId>) {
        let state = self.lock();
        // Each lie that was told makes the next question another.
        state.rules.decide_name_by(name, state.counts.names_forged)
    }

    /// Counts something that the rule `by` did.
    pub(super) fn count(&self, by: Option<RuleId>, what: impl Fn(&mut Counts)) {
        let mut state = self.lock();
        what(&mut state.counts);
        if let Some(by) = by {
            what(state.by_rule.entry(by).or_default());
        }
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
    pub(super) fn decide_and_watch(&self, flow: Flow, waker: &Waker) -> (Verdict, Option<RuleId>) {
        let mut state = self.shared.lock();
        state.waiting.insert(self.id, waker.clone());
        state.rules.decide_by(flow)
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
    use std::net::Ipv4Addr;

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
    fn a_rule_that_is_replaced_keeps_its_place_and_its_counts() {
        let shared = SharedRules::default();
        let drop_all = Rule::Drop {
            remote: Remote::Any,
            protocol: None,
        };
        let first = shared.add(Rule::Drop {
            remote: Remote::Addresses(BTreeSet::new()),
            protocol: None,
        });
        let second = shared.add(drop_all.clone());
        let tcp = flow(Protocol::Tcp, "192.0.2.1:443");
        assert_eq!(shared.decide_by(tcp), (Verdict::Drop, Some(second)));
        shared.count(Some(second), |counts| counts.connects_dropped += 1);
        assert!(shared.replace(first, drop_all).is_some());
        assert_eq!(shared.decide_by(tcp), (Verdict::Drop, Some(first)));
        shared.remove(second);
        assert_eq!(shared.counts_of(second).dropped(), 1);
        assert_eq!(shared.counts_of(first), Counts::default());
        assert_eq!(shared.counts().connects_dropped, 1);
        assert!(
            shared
                .replace(second, Rule::Reset { remote: Remote::Any })
                .is_none()
        );
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
        let spared = with(Remote::PortsExcept([53].into()));
        assert!(spared("192.0.2.9:54") && !spared("192.0.2.9:53"));
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
            answers: Forgery::always(Vec::new()),
        });
        let denied = Answer::Forged {
            addresses: Vec::new(),
            truth_follows: false,
        };
        for hit in ["example.org", "EXAMPLE.ORG.", "a.b.example.org"] {
            assert_eq!(rules.decide_name(hit, 0), denied, "{hit}");
        }
        for miss in ["xexample.org", "org", "example.org.evil", ""] {
            assert_eq!(rules.decide_name(miss, 0), Answer::Pass, "{miss}");
        }
        rules.add(Rule::Silence { names: Names::Any });
        assert_eq!(rules.decide_name("org", 0), Answer::Silence);
    }

    #[test]
    fn questions_get_answers_of_their_own_until_the_whole_pool_was_used() {
        let pool: Vec<IpAddr> = (0..600_u32)
            .map(|n| Ipv4Addr::from(0xC612_0000 + n).into())
            .collect();
        let forgery = |seed| Forgery {
            pool: pool.clone(),
            each: Some(2),
            seed,
            truth_follows: true,
        };
        let (one, other) = (forgery(1), forgery(2));
        assert_eq!(one.answer("a.example", 7), one.answer("A.Example.", 7));
        let asked = |forgery: &Forgery, name| -> Vec<_> {
            (0..4_000)
                .map(|question| forgery.answer(name, question))
                .collect()
        };
        let answers = asked(&one, "a.example");
        assert!(
            answers
                .iter()
                .all(|answer| answer.len() == 2 && answer[0] != answer[1])
        );
        let used: BTreeSet<_> = answers.iter().flatten().collect();
        assert_eq!(used.len(), pool.len(), "each of 600 is drawn in 8,000 draws");
        assert_ne!(answers, asked(&one, "b.example"));
        assert_ne!(answers, asked(&other, "a.example"));
        assert_eq!(Forgery::always(pool.clone()).answer("a.example", 7), pool);
    }
}
