//! The ladder of the laboratory: it dials what it may, one every 250 ms, while a way in is wanted.

use std::collections::{BTreeMap, VecDeque};

use phantom_rotation::*;

use super::tcp::Conn;
use super::world::Censor;
use super::{ConnId, Lab, ms};

const GAP_MS: u64 = 250;
const LIMIT_MS: u64 = 10_000;
const PARALLEL_MAX: usize = 10;
const RETRY_MS: u64 = 2_000;
const RETRY_MAX_MS: u64 = 30_000;

/// When what may be dialled again.
#[derive(Default)]
pub(super) struct Ladder {
    on: bool,
    next: u64,
    /// By route: not before, and failures in a row.
    due: BTreeMap<usize, (u64, u32)>,
}

impl Ladder {
    pub(super) fn seeks(&mut self, now: u64, on: bool) {
        if on && !self.on {
            self.next = now;
            self.due.clear();
        }
        self.on = on;
    }
}

impl Lab {
    fn dialling(&self) -> impl Iterator<Item = (ConnId, &Conn)> {
        let dialled = |(id, conn): (&ConnId, _)| (*id, conn);
        self.conns
            .iter()
            .map(dialled)
            .filter(|(_, conn)| conn.path.is_none() && !conn.open)
    }

    /// Dials what is due, and gives up what is late.
    pub(super) fn climb(&mut self) {
        let now = self.now;
        let late: Vec<ConnId> = self
            .dialling()
            .filter(|(_, conn)| now >= conn.began + LIMIT_MS)
            .map(|(id, _)| id)
            .collect();
        for id in late {
            let how = if self.conns[&id].answered {
                Failure::Silence
            } else {
                Failure::Unanswered
            };
            self.missed(id, how);
        }
        if !self.ladder.on || now < self.ladder.next || self.dialling().count() >= PARALLEL_MAX {
            return;
        }
        let free = |at: &usize| {
            let candidate = &self.routes[*at].candidate;
            let mut open = self.conns.values().filter(|conn| conn.route == *at);
            let same = |conn: &&Conn| {
                let other = &self.routes[conn.route].candidate;
                conn.path.is_none()
                    && (other.server == candidate.server || other.address.ip() == candidate.address.ip())
            };
            let sockets = self.conns.values().filter(same).count();
            let due = self.ladder.due.get(at).is_none_or(|(due, _)| *due <= now);
            let free = self.machine.free_at(ms(now), candidate, sockets);
            open.next().is_none() && due && free.is_some_and(|free| free <= ms(now))
        };
        // The first of equals: `max_by_key` takes the last.
        let all = (0..self.routes.len()).rev().filter(free);
        let best = all.max_by_key(|at| self.machine.order(&self.routes[*at].candidate));
        if let Some(at) = best {
            self.ladder.next = now + GAP_MS;
            let candidate = self.routes[at].candidate.clone();
            self.dialled.push((now, candidate.clone()));
            self.dial(&candidate, None);
        }
    }

    /// A dial of the ladder's ended well.
    pub(super) fn entered(&mut self, id: ConnId) {
        if !self.ladder.on {
            // The race is over: that it answers is known, and it is closed.
            return self.drop_conn(id);
        }
        let candidate = self.routes[self.conns[&id].route].candidate.clone();
        self.ladder.on = false;
        self.arriving = Some(id);
        self.tell(Input::Entered(candidate));
    }

    /// Or not.
    pub(super) fn missed(&mut self, id: ConnId, how: Failure) {
        let route = self.conns[&id].route;
        let (_, failures) = self.ladder.due.get(&route).copied().unwrap_or_default();
        let wait = RETRY_MS.saturating_mul(1 << failures.min(8)).min(RETRY_MAX_MS);
        self.ladder.due.insert(route, (self.now + wait, failures + 1));
        self.drop_conn(id);
        let candidate = self.routes[route].candidate.clone();
        self.tell(Input::Missed(candidate, how));
    }

    pub(super) fn dial(&mut self, candidate: &Candidate, path: Option<PathId>) {
        let at = self
            .routes
            .iter()
            .position(|route| route.candidate == *candidate)
            .expect("a known route");
        let now = self.now;
        let route = &self.routes[at];
        let mut answered = true;
        let mut ends = Some((now + (route.rtt_ms * 3.0) as u64, Ok(())));
        for censor in &route.censors {
            match censor {
                Censor::Cut { from_ms, until_ms } if (*from_ms..*until_ms).contains(&now) => {
                    // The host sends again, so an end of the cut is noticed after a while.
                    answered = false;
                    let noticed = until_ms.saturating_add(1_000 + (route.rtt_ms * 3.0) as u64);
                    ends = (*until_ms < u64::MAX).then_some((noticed, Ok(())));
                }
                Censor::Flag {
                    probability,
                    box_ms,
                    renewed,
                    reset,
                } => {
                    let until = self.boxes.get(&candidate.address).copied().unwrap_or(0);
                    if now < until {
                        self.dials_in_box += 1;
                        if *renewed {
                            self.boxes.insert(candidate.address, now + box_ms);
                        }
                        ends = None;
                        answered = false;
                    } else if self.dice.unit() < *probability {
                        // The host sends again for as long as the socket is open: 10 s at most.
                        let last_packet = if *reset { now } else { now + 10_000 };
                        let from = if *renewed { last_packet } else { now };
                        self.boxes.insert(candidate.address, from + box_ms);
                        ends = reset.then_some((now + route.rtt_ms as u64, Err(Failure::Reset)));
                    }
                }
                _ => {}
            }
        }
        self.next_conn += 1;
        self.conns.insert(
            self.next_conn,
            Conn {
                route: at,
                dial_ends: ends,
                answered,
                began: now,
                path,
                open: false,
                adopted: None,
                window: 10.0,
                threshold: f64::MAX,
                flight: VecDeque::new(),
                lost: 0,
                recover_until: 0.0,
                srtt: route.rtt_ms,
                timer: now as f64,
                backoff: 0,
                buffer: 0,
                sent: 0,
                delivered: 0,
                tokens: 16_000.0,
                credit: 0.0,
                cap_busy: 0.0,
                reported: None,
            },
        );
        let mut per_server: BTreeMap<ServerId, usize> = BTreeMap::new();
        for conn in self.conns.values() {
            *per_server
                .entry(self.routes[conn.route].candidate.server)
                .or_default() += 1;
        }
        self.sockets_most = self.sockets_most.max(per_server.into_values().max().unwrap_or(0));
    }
}
