//! From a running world to observations, in order of time: the same for every back end.

use std::collections::{BTreeMap, BTreeSet};

use phantom_core::event::{Event, Tag};
use phantom_core::units::{Instant, WallTime};

use super::border::Blocks;
use super::oracle::Oracle;
use crate::check::observe::{Acted, Observation, Seen, Sink};
use crate::scenario::plan::{HostId, Plan, Role};
use crate::stage::Record;

/// A bridge that an insider gave away.
pub(super) struct GivenAway {
    /// The list that takes it in.
    pub(super) list: String,
    /// Its address.
    pub(super) address: std::net::IpAddr,
    /// When, in the scenario's time.
    pub(super) at: Instant,
}

/// Turns a world's clock into the scenario's, and keeps what the end of a run needs.
pub(super) struct Observer<'p> {
    plan: &'p Plan,
    begins: Instant,
    sink: &'p mut dyn Sink,
    pub(super) oracle: Oracle<'p>,
    pub(super) blocks: Blocks<'p>,
    /// Boxes that a writer was told of, and when they expire.
    acknowledged: BTreeSet<Tag>,
    expires: BTreeMap<Tag, WallTime>,
    /// Hosts on whose disks boxes are new.
    pub(super) stored: BTreeSet<HostId>,
    /// Observations that were not told yet, the first one first. Nearly all come in order of time, and a busy second has tens of
    /// thousands: a tree would hold each in twice the room.
    later: Vec<Observation>,
}

impl<'p> Observer<'p> {
    pub(super) fn new(
        plan: &'p Plan,
        begins: Instant,
        sink: &'p mut dyn Sink,
        oracle: Oracle<'p>,
        blocks: Blocks<'p>,
    ) -> Self {
        Self {
            plan,
            begins,
            sink,
            oracle,
            blocks,
            acknowledged: BTreeSet::new(),
            expires: BTreeMap::new(),
            stored: BTreeSet::new(),
            later: Vec::new(),
        }
    }

    /// The scenario's time. What happens before it begins counts as happening at its beginning.
    pub(super) fn scenario(&self, world: Instant) -> Instant {
        Instant::ZERO + world.saturating_since(self.begins)
    }

    /// Has something to say at `at`, which may be later than now.
    pub(super) fn say(&mut self, at: Instant, host: Option<HostId>, seen: Seen) {
        let after = self.later.partition_point(|other| other.at <= at);
        self.later.insert(after, Observation { at, host, seen });
    }

    /// Takes what the programs reported; returns what insiders gave away.
    pub(super) fn records(&mut self, records: Vec<Record>) -> Vec<GivenAway> {
        let mut given_away = Vec::new();
        // Of one size with what it is made from, so the room is used again: there are tens of thousands in a busy second.
        let observations = records.into_iter().filter_map(|record| {
            let (at, host) = (self.scenario(record.at), record.peer.index() as HostId);
            // The censor's own hosts come after the plan's, and what their programs say is nobody's business.
            if host as usize >= self.plan.hosts.len() {
                return None;
            }
            self.oracle.saw(host, at, &record.event);
            match &record.event {
                Event::BoxAcknowledged { address, .. } => {
                    self.acknowledged.insert(*address);
                }
                Event::BoxStored { address, expires } => {
                    self.expires.insert(*address, *expires);
                    self.stored.insert(host);
                }
                Event::BridgeLearned { bridge, .. }
                    if matches!(self.plan.hosts[host as usize].role, Role::Insider(_)) =>
                {
                    let plan = self.plan;
                    for (list, lag) in &plan.learned {
                        let blocked = at + *lag;
                        if !self.blocks.learn(list, blocked.since_start(), bridge.ip()) {
                            continue;
                        }
                        given_away.push(GivenAway {
                            list: list.clone(),
                            address: bridge.ip(),
                            at: blocked,
                        });
                        let rules = plan.rules.iter().enumerate();
                        for (rule, _) in rules.filter(|(_, rule)| rule.follows.contains(list)) {
                            let (rule, act) = (rule as u32, Acted::Blocked);
                            self.say(blocked, None, Seen::Censor { rule, act, count: 1 });
                        }
                    }
                }
                _ => {}
            }
            // Operators' own clients are not the scenario's: what they do is their bridges' business.
            let own = self.plan.hosts[host as usize].role.is_client();
            (own || !about_clients(&record.event)).then_some(Observation {
                at,
                host: Some(host),
                seen: Seen::Event(record.event),
            })
        });
        let observations: Vec<Observation> = observations.collect();
        // What was said before comes first.
        for observation in std::mem::replace(&mut self.later, observations).into_iter().rev() {
            let at = self.later.partition_point(|other| other.at < observation.at);
            self.later.insert(at, observation);
        }
        given_away
    }

    /// Tells what was seen up to `now`.
    pub(super) fn pass_on(&mut self, now: Instant) {
        let mut due = std::mem::take(&mut self.later);
        let ahead = due.partition_point(|observation| observation.at <= now);
        self.later.extend(due.drain(ahead..));
        for observation in &due {
            match (&observation.seen, observation.host) {
                (Seen::Crashed, Some(host)) => self.oracle.power(host, false),
                (Seen::Restarted, Some(host)) => self.oracle.power(host, true),
                (Seen::DiskLost, Some(host)) => self.oracle.disk_lost(host),
                _ => {}
            }
            self.sink.observe(observation);
        }
    }

    /// Tells everything up to `now`, the oracle's judgement included.
    pub(super) fn tell(&mut self, now: Instant, steps: u64) {
        self.pass_on(now);
        self.blocks.catch_up(now.since_start());
        let paths = self
            .oracle
            .judge(now, &self.blocks)
            .into_iter()
            .map(|(host, open)| (Some(host), Seen::OpenPath(open)));
        for (host, seen) in paths.chain([(None, Seen::Tick { steps })]) {
            self.sink.observe(&Observation { at: now, host, seen });
        }
    }

    /// Boxes that ought to be readable at `wall`.
    pub(super) fn due(&self, wall: WallTime) -> impl Iterator<Item = Tag> {
        self.acknowledged.iter().copied().filter(move |tag| {
            // A box that is about to go may be gone by a replica's clock.
            self.expires
                .get(tag)
                .is_some_and(|expires| *expires > wall + self.plan.clock_bound)
        })
    }
}

/// Whether an event is one by which clients are judged.
const fn about_clients(event: &Event) -> bool {
    matches!(
        event,
        Event::Arrived
            | Event::Attempt { .. }
            | Event::Connected { .. }
            | Event::Disconnected
            | Event::RoundTrip
            | Event::BridgeLearned { .. }
            | Event::InvitationReceived
            | Event::PathJudged { .. }
            | Event::PathTaken { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_observation_takes_the_room_of_the_record_that_it_is_made_from() {
        assert_eq!(size_of::<Observation>(), size_of::<Record>());
        assert_eq!(align_of::<Observation>(), align_of::<Record>());
    }
}
