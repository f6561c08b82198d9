//! The judge of open paths: whether a client could reach a live, unblocked entry that it can learn of by a step of the
//! ladder that the scenario leaves on. It sees the whole world, and tells nobody in it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use phantom_core::units::Instant;

use super::border::Blocks;
use crate::scenario::file::Carries;
use crate::scenario::plan::{HostId, Plan, Role};

/// A friend helps only while it is connected itself (an authenticated round trip in the last 30 s).
const CONNECTED: Duration = Duration::from_secs(30);

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
        Self {
            plan,
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

    /// A client's entry link made a round trip.
    pub(super) fn round_trip(&mut self, host: HostId, at: Instant) {
        self.round_trip.insert(host, at);
    }

    /// What has changed since the last call. `now` is the scenario's time.
    pub(super) fn judge(&mut self, now: Instant, blocks: &Blocks<'_>) -> Vec<(HostId, bool)> {
        // Rules that end with the scenario have not ended at its last instant.
        let at = now
            .since_start()
            .min(self.plan.duration.saturating_sub(Duration::from_nanos(1)));
        let cut = blocks.everything(at);
        let datagrams = !blocks.datagrams(at);
        // By IPv4 alone, and by both.
        let reachable = |host: HostId, both: bool| {
            // Rules act on what crosses the border; an entry on the clients' side would not be blocked.
            let entry = &self.plan.hosts[host as usize];
            let mut spoken = entry.addresses().filter(|ip| both || ip.is_ipv4());
            let blocked = !entry.inside && spoken.all(|ip| blocks.streams_to(at, ip));
            !self.down.contains(&host) && !blocked
        };
        let open_service = [false, true].map(|both| {
            !cut && self
                .services
                .iter()
                .any(|&host| self.published(host) && reachable(host, both))
        });
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
            let published = node.published.is_on() && open_service[usize::from(both)];
            let open = started && !cut && (published || dht || friends);
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
