//! Connectedness: who has had an authenticated round trip in the last 30 s, who ought to, and what those tried who have not.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use phantom_core::event::{Event, Outcome, Step};
use phantom_core::ladder::{Kind, ORDER, describe, name};
use phantom_core::units::Instant;

use super::observe::{Observation, Seen};
use super::path::Path;
use crate::scenario::plan::{HostId, Plan, Role};

/// A client is connected for this long after an authenticated round trip (docs/SCENARIOS.md, `client.connected`).
pub const CONNECTED_FOR: Duration = Duration::from_secs(30);

/// One client's history.
#[derive(Clone, Debug, Default)]
pub struct Client {
    /// Its name.
    pub name: String,
    /// When the plan starts it.
    planned: Duration,
    /// When it began to look for a way in.
    arrived: Option<Instant>,
    /// Its last start, the first or after a crash.
    started: Option<Instant>,
    /// Whether it is down after a crash.
    down: bool,
    /// When it was connected first.
    first: Option<Instant>,
    /// Its last authenticated round trip.
    round_trip: Option<Instant>,
    /// For how long it has an open path.
    path: Path,
    /// What it tried, and how often each ended how.
    tried: BTreeMap<(Step, Kind, Outcome), u32>,
    /// Bridges that it learned of, and how.
    bridges: BTreeSet<(Step, SocketAddr)>,
    /// Invitations that friends gave it.
    invitations: u32,
}

impl Client {
    fn connected(&self, now: Instant) -> bool {
        self.round_trip
            .is_some_and(|at| now.saturating_since(at) <= CONNECTED_FOR)
    }

    fn present(&self) -> bool {
        self.arrived.is_some() && !self.down
    }

    fn stranded(&self, now: Instant, limit: Duration) -> bool {
        let (true, Some(started)) = (self.present(), self.started) else {
            return false;
        };
        let connected_until = self.round_trip.map_or(Instant::ZERO, |at| at + CONNECTED_FOR);
        self.path.open_for(started.max(connected_until), now) > limit
    }

    fn arrival(&self) -> Duration {
        self.arrived.map_or(self.planned, Instant::since_start)
    }

    /// What it tried, as a sentence.
    fn story(&self, now: Instant) -> String {
        let mut text = format!("{}: ", self.name);
        text.push_str(&match self.round_trip {
            Some(at) => format!("last connected {} s ago", now.saturating_since(at).as_secs()),
            None => "never connected".to_owned(),
        });
        text.push_str(if self.path.is_open() {
            "; a path was open"
        } else {
            "; no path was open"
        });
        if self.tried.is_empty() {
            text.push_str("; tried nothing");
        }
        for step in ORDER {
            let tried = self.tried.iter().filter(|((of, ..), _)| *of == step);
            let mut seen: Vec<String> = tried
                .map(|((_, transport, how), n)| match transport {
                    Kind::Plain => format!("{} x{n}", describe(*how)),
                    other => format!("{} over {} x{n}", describe(*how), other.name()),
                })
                .collect();
            let bridges = self.bridges.iter().filter(|(by, _)| *by == step).count();
            if step == Step::Friend && self.invitations > 0 {
                seen.push(format!("{} invitations", self.invitations));
            }
            if bridges > 0 {
                seen.push(format!("{bridges} bridges learned"));
            }
            if !seen.is_empty() {
                text.push_str(&format!("; {}: {}", name(step), seen.join(", ")));
            }
        }
        text
    }
}

/// All clients that are users, not insiders.
#[derive(Clone, Debug, Default)]
pub struct Clients {
    clients: BTreeMap<HostId, Client>,
    forged: BTreeSet<IpAddr>,
    /// Trusted links, and those of them at a forged address.
    links: u64,
    fooled: u64,
    entered: BTreeMap<Step, u64>,
    entered_over: BTreeMap<Kind, u64>,
}

impl Clients {
    /// The clients of `plan`.
    pub fn new(plan: &Plan) -> Self {
        let clients = plan
            .hosts
            .iter()
            .enumerate()
            .filter(|(_, host)| matches!(host.role, Role::Client(_)));
        let forged = plan.rules.iter().flat_map(|rule| rule.forged());
        Self {
            clients: clients
                .map(|(id, host)| {
                    (
                        id as HostId,
                        Client {
                            name: host.name.clone(),
                            planned: host.arrives,
                            ..Client::default()
                        },
                    )
                })
                .collect(),
            forged: forged.copied().collect(),
            ..Self::default()
        }
    }

    /// Takes note of what concerns clients.
    pub fn observe(&mut self, observation: &Observation) {
        let now = observation.at;
        let Some(client) = observation.host.and_then(|host| self.clients.get_mut(&host)) else {
            return;
        };
        match &observation.seen {
            Seen::Event(Event::Arrived) => {
                client.arrived.get_or_insert(now);
                client.started = Some(now);
            }
            Seen::Event(Event::Connected {
                step,
                entry,
                transport,
                ..
            }) => {
                *self.entered_over.entry(*transport).or_default() += 1;
                self.links += 1;
                self.fooled += u64::from(self.forged.contains(&entry.ip()));
                *self.entered.entry(*step).or_default() += 1;
                client.first.get_or_insert(now);
                client.round_trip = Some(now);
            }
            Seen::Event(Event::RoundTrip) => {
                client.first.get_or_insert(now);
                client.round_trip = Some(now);
            }
            Seen::Event(Event::Attempt {
                step,
                outcome,
                transport,
                ..
            }) => {
                *client.tried.entry((*step, *transport, *outcome)).or_default() += 1;
            }
            Seen::Event(Event::BridgeLearned { step, bridge }) => {
                client.bridges.insert((*step, *bridge));
            }
            Seen::Event(Event::InvitationReceived) => client.invitations += 1,
            Seen::OpenPath(open) => client.path.set(now, *open),
            Seen::Crashed => client.down = true,
            Seen::Restarted => {
                client.down = false;
                client.started = Some(now);
            }
            _ => {}
        }
    }

    fn count(&self, yes: impl Fn(&Client) -> bool) -> (u64, u64) {
        let mut counted = (0, 0);
        for client in self.clients.values().filter(|client| client.present()) {
            counted.0 += u64::from(yes(client));
            counted.1 += 1;
        }
        counted
    }

    /// Of the clients that have arrived and run: how many are connected, and how many there are.
    pub fn connected(&self, now: Instant) -> (u64, u64) {
        self.count(|client| client.connected(now))
    }

    /// How many have an open path.
    pub fn open_path(&self) -> (u64, u64) {
        self.count(|client| client.path.is_open())
    }

    /// How many have had an open path for longer than `limit`, interruptions aside, without being connected.
    pub fn stranded(&self, now: Instant, limit: Duration) -> (u64, u64) {
        self.count(|client| client.stranded(now, limit))
    }

    /// How many were first connected within `limit` of their arrival, of those whose limit is over and whose time to
    /// connect does not touch `outside`.
    pub fn connected_within(
        &self,
        end: Instant,
        limit: Duration,
        outside: Option<(Duration, Duration)>,
    ) -> (u64, u64) {
        let mut counted = (0, 0);
        for client in self.clients.values() {
            let (arrived, due) = (client.arrival(), client.arrival() + limit);
            if due > end.since_start() || outside.is_some_and(|(from, until)| arrived < until && due > from) {
                continue;
            }
            counted.0 += u64::from(client.first.is_some_and(|first| first.since_start() <= due));
            counted.1 += 1;
        }
        counted
    }

    /// Seconds from arrival to first connection, of clients that arrived outside `outside`; infinite if it never came.
    pub fn times_to_connect(&self, end: Instant, outside: Option<(Duration, Duration)>) -> Vec<f64> {
        self.clients
            .values()
            .filter(|client| client.arrival() <= end.since_start())
            .filter(|client| outside.is_none_or(|(from, until)| !(from..until).contains(&client.arrival())))
            .map(|client| match client.first {
                Some(first) => first.since_start().saturating_sub(client.arrival()).as_secs_f64(),
                None => f64::INFINITY,
            })
            .collect()
    }

    /// Trusted links at forged addresses, and trusted links.
    pub fn fooled(&self) -> (u64, u64) {
        (self.fooled, self.links)
    }

    /// Connections by `step`, and connections.
    pub fn entered(&self, step: Step) -> (u64, u64) {
        (self.entered.get(&step).copied().unwrap_or(0), self.links)
    }

    /// Connections over `transport`, and connections.
    pub fn entered_over(&self, transport: Kind) -> (u64, u64) {
        (
            self.entered_over.get(&transport).copied().unwrap_or(0),
            self.links,
        )
    }

    /// Whether `host`, if it is a client, is up and has had an open path for `limit` since `from`, interruptions aside.
    pub fn open_for(&self, host: HostId, from: Instant, now: Instant, limit: Duration) -> bool {
        self.clients
            .get(&host)
            .is_none_or(|client| !client.down && client.path.open_for(from, now) >= limit)
    }

    /// The stories of at most `limit` clients that are not connected.
    pub fn unconnected(&self, now: Instant, limit: usize) -> Vec<String> {
        let left: Vec<&Client> = self
            .clients
            .values()
            .filter(|client| client.present() && !client.connected(now))
            .collect();
        let mut stories: Vec<String> = left.iter().take(limit).map(|client| client.story(now)).collect();
        if left.len() > limit {
            stories.push(format!("and {} more", left.len() - limit));
        }
        stories
    }
}
