//! When clients change their way in, and how long they take to find out why. Spec: SPEC §11.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use phantom_core::event::{Event, PathReason, PathVerdict};
use phantom_core::units::Instant;

use super::observe::{Observation, Seen};
use crate::scenario::plan::HostId;

/// What became of clients' ways in.
#[derive(Clone, Debug, Default)]
pub struct Ways {
    /// Per client, where its way in leads and since when.
    taken: BTreeMap<HostId, (SocketAddr, Instant)>,
    /// When a way in that is doubted was doubted first.
    doubted: BTreeMap<(HostId, SocketAddr), Instant>,
    switches: u64,
    dwells: Vec<f64>,
    verdicts: Vec<f64>,
    /// Per way in that was found throttled or frozen, when it was taken and when it was found so.
    found: Vec<(Instant, Instant)>,
    dismissed: u64,
}

impl Ways {
    /// Takes note of what concerns ways in.
    pub fn observe(&mut self, observation: &Observation) {
        let (Some(host), Seen::Event(event)) = (observation.host, &observation.seen) else {
            return;
        };
        let now = observation.at;
        let seconds = |since: Instant| now.saturating_since(since).as_nanos() as f64 / 1e9;
        match event {
            Event::PathTaken { to, why, .. } => {
                let before = self.taken.insert(host, (*to, now));
                let changed = matches!(
                    why,
                    PathReason::Throttled | PathReason::Frozen | PathReason::Return
                );
                if changed {
                    self.switches += 1;
                    self.dwells.extend(before.map(|(_, since)| seconds(since)));
                }
            }
            Event::PathJudged { entry, verdict } => match verdict {
                PathVerdict::MaybeThrottled | PathVerdict::MaybeFrozen => {
                    self.doubted.entry((host, *entry)).or_insert(now);
                }
                PathVerdict::Throttled | PathVerdict::Frozen => {
                    let doubted = self.doubted.remove(&(host, *entry));
                    self.verdicts.extend(doubted.map(seconds));
                    let taken = self.taken.get(&host).map(|(_, since)| (*since, now));
                    self.found.extend(taken);
                }
                PathVerdict::NetworkSlow
                | PathVerdict::Recovered
                | PathVerdict::Undecided
                | PathVerdict::BestOfTheBad => {
                    self.dismissed += u64::from(self.doubted.remove(&(host, *entry)).is_some());
                }
                PathVerdict::Dead => drop(self.doubted.remove(&(host, *entry))),
            },
            _ => {}
        }
    }

    /// Changes from a way in that was throttled or frozen, and back to one that was left.
    pub const fn switches(&self) -> u64 {
        self.switches
    }

    /// Per such change, for how many seconds the way in that was left had been used.
    pub fn dwells(&self) -> Vec<f64> {
        self.dwells.clone()
    }

    /// Per way in that was found throttled or frozen, seconds since it was doubted.
    pub fn verdicts(&self) -> Vec<f64> {
        self.verdicts.clone()
    }

    /// The same, of those found after `from`: seconds since then, or since the way in was taken if that was later.
    pub fn found(&self, from: Instant) -> Vec<f64> {
        let later = self.found.iter().filter(|(_, found)| *found >= from);
        later
            .map(|(taken, found)| found.saturating_since(from.max(*taken)).as_secs_f64())
            .collect()
    }

    /// Doubts that turned out to be none.
    pub const fn dismissed(&self) -> u64 {
        self.dismissed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_switch_has_a_dwell_and_a_verdict_and_a_dismissed_doubt_neither() {
        let (one, two) = (([192, 0, 2, 1], 443).into(), ([192, 0, 2, 2], 443).into());
        let mut ways = Ways::default();
        let mut see = |secs: u64, event| {
            ways.observe(&Observation {
                at: Instant::ZERO + Duration::from_secs(secs),
                host: Some(3),
                seen: Seen::Event(event),
            });
        };
        let judged = |entry, verdict| Event::PathJudged { entry, verdict };
        let taken = |from, to, why| Event::PathTaken { from, to, why };
        see(10, taken(None, one, PathReason::First));
        see(50, judged(one, PathVerdict::MaybeThrottled));
        see(60, judged(one, PathVerdict::NetworkSlow));
        see(200, judged(one, PathVerdict::MaybeThrottled));
        see(204, judged(one, PathVerdict::MaybeFrozen));
        see(209, judged(one, PathVerdict::Frozen));
        see(209, taken(Some(one), two, PathReason::Frozen));
        see(300, judged(two, PathVerdict::Dead));
        see(301, taken(Some(two), one, PathReason::Dead));
        assert_eq!((ways.switches(), ways.dismissed()), (1, 1));
        assert_eq!((ways.dwells(), ways.verdicts()), (vec![199.0], vec![9.0]));
        let from = |secs| ways.found(Instant::ZERO + Duration::from_secs(secs));
        assert_eq!((from(5), from(150), from(210)), (vec![199.0], vec![59.0], vec![]));
    }
}
