//! Messages: none lost, none shown twice, none after its time.
//!
//! Lost is what its reader's program does not call delivered. What comes twice or late is judged by what the user is shown, not by the
//! program's word, which its own checks stand before.

use std::collections::BTreeMap;
use std::time::Duration;

use phantom_core::event::{Event, Tag};
use phantom_core::units::{Instant, WallTime};

use super::connect::Clients;
use super::observe::{Observation, Seen};
use crate::scenario::plan::HostId;

#[derive(Clone, Debug, Default)]
struct Message {
    accepted: Option<(Instant, WallTime)>,
    from: Option<HostId>,
    to: Option<HostId>,
    delivered: Option<Instant>,
    /// In the present life of its reader's program.
    shown: bool,
}

/// What became of a message that had the time to arrive.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Delivered,
    Lost,
    /// Not delivered, while one of its ends had no way in for long enough.
    Exempt,
}

/// All messages of a run.
#[derive(Clone, Debug, Default)]
pub struct Messages {
    messages: BTreeMap<Tag, Message>,
    accepted: u64,
    delivered: u64,
    shown: u64,
    duplicates: u64,
    late: u64,
    /// The true wall time at the start of the run.
    epoch: WallTime,
    slack: Duration,
}

impl Messages {
    /// No messages yet; expiry is judged with `slack` on the world's clock, whose zero is `epoch`.
    pub fn new(epoch: WallTime, slack: Duration) -> Self {
        Self {
            epoch,
            slack,
            ..Self::default()
        }
    }

    /// Takes note of what concerns messages.
    pub fn observe(&mut self, observation: &Observation) {
        match &observation.seen {
            Seen::Event(Event::MessageAccepted { message, expires }) => {
                let entry = self.messages.entry(*message).or_default();
                if entry.accepted.is_none() {
                    entry.accepted = Some((observation.at, *expires));
                    entry.from = observation.host;
                    self.accepted += 1;
                }
            }
            Seen::Event(Event::MessageDelivered { message, .. }) => {
                let entry = self.messages.entry(*message).or_default();
                self.delivered += u64::from(entry.delivered.is_none());
                entry.delivered.get_or_insert(observation.at);
            }
            Seen::Shown { message, expires } => {
                let entry = self.messages.entry(*message).or_default();
                self.shown += 1;
                self.duplicates += u64::from(entry.shown || entry.delivered.is_some());
                entry.shown = true;
                entry.to = entry.to.or(observation.host);
                // The sender's own word on the expiry counts; the reader's copy only if the sender's was not seen.
                let expires = entry.accepted.map_or(*expires, |(_, expires)| expires);
                let truth = self.epoch + observation.at.since_start();
                self.late += u64::from(truth > expires + self.slack);
            }
            // A program that has not stored that its user has a message shows it again: nothing else keeps it.
            Seen::Crashed => {
                let mine =
                    |message: &&mut Message| message.to == observation.host && message.delivered.is_none();
                self.messages
                    .values_mut()
                    .filter(mine)
                    .for_each(|message| message.shown = false);
            }
            Seen::Addressed { message, to } => self.messages.entry(*message).or_default().to = Some(*to),
            _ => {}
        }
    }

    /// Messages accepted.
    pub fn accepted(&self) -> u64 {
        self.accepted
    }

    /// Messages delivered, each counted once, and messages accepted.
    pub fn delivered(&self) -> (u64, u64) {
        (self.delivered, self.accepted)
    }

    /// How often a message was shown that its user had seen, and how often one was shown.
    pub fn duplicated(&self) -> (u64, u64) {
        (self.duplicates, self.shown)
    }

    /// How often a message was shown after its time, and how often one was shown.
    pub fn late(&self) -> (u64, u64) {
        (self.late, self.shown)
    }

    /// Of the messages accepted at least `settle` before `end`, still unexpired, whose ends had an open path for that long
    /// since: how many were not delivered, and how many there are. Without an oracle, every path counts as open.
    pub fn lost(&self, end: Instant, settle: Duration, paths: Option<&Clients>) -> (u64, u64) {
        self.count(end, settle, paths, |fate| match fate {
            Fate::Delivered => Some(false),
            Fate::Lost => Some(true),
            Fate::Exempt => None,
        })
    }

    /// Of the messages accepted at least `settle` before `end`, delivered or still unexpired: how many
    /// [`Messages::lost`] leaves out because an end had no open path for that long, and how many there are.
    pub fn exempt(&self, end: Instant, settle: Duration, paths: Option<&Clients>) -> (u64, u64) {
        self.count(end, settle, paths, |fate| Some(fate == Fate::Exempt))
    }

    /// Counts messages by what `judge` says of each: yes, no, or not to be counted.
    fn count(
        &self,
        end: Instant,
        settle: Duration,
        paths: Option<&Clients>,
        judge: impl Fn(Fate) -> Option<bool>,
    ) -> (u64, u64) {
        let mut counted = (0, 0);
        for message in self.messages.values() {
            let Some((accepted, expires)) = message.accepted else {
                continue;
            };
            if accepted + settle > end {
                continue;
            }
            let reachable = || {
                paths.is_none_or(|clients| {
                    let mut ends = message.from.into_iter().chain(message.to);
                    ends.all(|host| clients.open_for(host, accepted, end, settle))
                })
            };
            let fate = if message.delivered.is_some() {
                Fate::Delivered
            } else if self.epoch + end.since_start() >= expires {
                continue;
            } else if reachable() {
                Fate::Lost
            } else {
                Fate::Exempt
            };
            if let Some(yes) = judge(fate) {
                counted.0 += u64::from(yes);
                counted.1 += 1;
            }
        }
        counted
    }

    /// Seconds from acceptance to delivery.
    pub fn delivery_times(&self) -> Vec<f64> {
        self.messages
            .values()
            .filter_map(|message| {
                let ((accepted, _), delivered) = (message.accepted?, message.delivered?);
                Some(delivered.saturating_since(accepted).as_secs_f64())
            })
            .collect()
    }
}
