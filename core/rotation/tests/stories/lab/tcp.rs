//! A connection as TCP moves it: a window with losses, a timer, delivery in order.

use std::collections::VecDeque;

use phantom_rotation::*;

use super::world::Censor;
use super::{ConnId, Lab, PACKET, STEP_MS};

pub(super) struct Packet {
    pub(super) sent: f64,
    /// When its acknowledgement is back; none if it was lost.
    pub(super) ack: Option<f64>,
    pub(super) acked: bool,
}

/// A connection.
pub(super) struct Conn {
    pub(super) route: usize,
    /// Connected from this time on, and how the dial ends.
    pub(super) dial_ends: Option<(u64, Result<(), Failure>)>,
    /// Its first packet was answered.
    pub(super) answered: bool,
    pub(super) began: u64,
    /// Its name, once the machine has given one.
    pub(super) path: Option<PathId>,
    pub(super) open: bool,
    pub(super) adopted: Option<u64>,
    pub(super) window: f64,
    pub(super) threshold: f64,
    pub(super) flight: VecDeque<Packet>,
    pub(super) lost: u64,
    pub(super) recover_until: f64,
    pub(super) srtt: f64,
    pub(super) timer: f64,
    pub(super) backoff: u32,
    /// User bytes taken from the backlog and not sent yet, packets to be sent again included.
    pub(super) buffer: u64,
    pub(super) sent: u64,
    pub(super) delivered: u64,
    pub(super) tokens: f64,
    pub(super) credit: f64,
    pub(super) cap_busy: f64,
    pub(super) reported: Option<(u64, u64, u64)>,
}

impl Lab {
    pub(super) fn move_packets(&mut self, id: ConnId) {
        let now = self.now as f64;
        let takes = self.takes(id);
        let Some(conn) = self.conns.get_mut(&id).filter(|conn| conn.open) else {
            return;
        };
        let route = &mut self.routes[conn.route];
        // Acknowledgements.
        let mut acked_after = 0;
        for packet in conn.flight.iter_mut() {
            if !packet.acked && packet.ack.is_some_and(|ack| ack <= now) {
                packet.acked = true;
                acked_after += 1;
                conn.srtt = conn.srtt * 0.875 + (packet.ack.unwrap_or(now) - packet.sent) * 0.125;
                conn.window += if conn.window < conn.threshold {
                    1.0
                } else {
                    1.0 / conn.window
                };
                conn.backoff = 0;
                conn.timer = now;
            }
        }
        conn.window = conn.window.min(400.0);
        // Three later ones arrived: it is lost.
        let later: usize = conn.flight.iter().filter(|packet| packet.acked).count();
        if acked_after > 0 && later >= 3 {
            let mut seen = 0;
            let mut lost = 0;
            for packet in conn.flight.iter_mut().rev() {
                if packet.acked {
                    seen += 1;
                } else if seen >= 3 && packet.ack.is_none() && packet.sent + conn.srtt <= now {
                    // Sent again at once, in its place.
                    packet.ack = Some(f64::MAX);
                    lost += 1;
                }
            }
            if lost > 0 {
                conn.lost += lost;
                if now > conn.recover_until {
                    conn.threshold = (conn.window / 2.0).max(2.0);
                    conn.window = conn.threshold;
                    conn.recover_until = now + conn.srtt;
                }
            }
        }
        while conn.flight.front().is_some_and(|packet| packet.acked) {
            conn.flight.pop_front();
            conn.delivered += PACKET;
            self.delivered += PACKET;
        }
        // The timer.
        let timeout = (conn.srtt * 2.0).clamp(300.0, 3_000.0) * f64::from(1_u32 << conn.backoff.min(6));
        if !conn.flight.is_empty() && now - conn.timer > timeout {
            conn.threshold = (conn.window / 2.0).max(2.0);
            conn.window = 1.0;
            conn.backoff += 1;
            conn.timer = now;
            conn.lost = 0;
            for packet in conn.flight.iter_mut().filter(|packet| !packet.acked) {
                if packet.ack.is_none_or(|ack| ack == f64::MAX) {
                    packet.ack = Some(f64::MAX);
                    conn.lost += 1;
                }
            }
        }
        // Sending.
        if takes && conn.buffer < 16_000 {
            let taken = self.backlog.min(16_000);
            self.backlog -= taken;
            conn.buffer += taken;
        }
        let credit = route.ceiling * STEP_MS as f64 / 8.0;
        conn.credit = (conn.credit + credit).min(credit.max(4_000.0));
        let mut limits: Vec<(f64, f64, bool)> = Vec::new();
        let mut frozen = false;
        for censor in &route.censors {
            let range = |from: &u64, until: &u64| (*from..*until).contains(&self.now);
            match censor {
                Censor::Police {
                    from_ms,
                    until_ms,
                    kbit,
                    burst,
                } if range(from_ms, until_ms) => {
                    limits.push((*kbit, *burst, true));
                }
                Censor::Cap {
                    from_ms,
                    until_ms,
                    kbit,
                } if range(from_ms, until_ms) => {
                    limits.push((*kbit, 0.0, false));
                }
                Censor::PoliceAfterAdoption {
                    after_ms,
                    kbit,
                    burst,
                } if conn.adopted.is_some_and(|at| self.now >= at + after_ms) => {
                    limits.push((*kbit, *burst, true));
                }
                Censor::FreezeAfter { from_ms, bytes } => {
                    frozen |= self.now >= *from_ms && conn.sent > *bytes;
                }
                Censor::Cut { from_ms, until_ms } => frozen |= range(from_ms, until_ms),
                _ => {}
            }
        }
        if let Some((kbit, burst, true)) = limits.first() {
            conn.tokens = (conn.tokens + kbit * STEP_MS as f64 / 8.0).min(*burst);
        }
        let mut unacked = conn.flight.iter().filter(|packet| !packet.acked).count() as f64;
        loop {
            let out = unacked - conn.lost as f64;
            if out >= conn.window.floor().max(1.0) || conn.credit < PACKET as f64 {
                break;
            }
            let again = if conn.lost > 0 {
                conn.flight
                    .iter_mut()
                    .find(|packet| !packet.acked && packet.ack == Some(f64::MAX))
            } else {
                None
            };
            if again.is_none() && conn.buffer == 0 {
                break;
            }
            conn.credit -= PACKET as f64;
            conn.sent += PACKET;
            let mut leaves = self.access.pass(now, &mut self.dice);
            if let (Some(at), Some(own)) = (leaves, route.own.as_mut()) {
                leaves = own.pass(at, &mut self.dice);
            }
            for (kbit, _, drops) in &limits {
                if *drops {
                    if conn.tokens >= PACKET as f64 {
                        conn.tokens -= PACKET as f64;
                    } else {
                        leaves = None;
                    }
                } else if let Some(at) = leaves {
                    let start = conn.cap_busy.max(at);
                    leaves = if start - at > 2_000.0 {
                        None
                    } else {
                        conn.cap_busy = start + PACKET as f64 * 8.0 / kbit;
                        Some(conn.cap_busy)
                    };
                }
            }
            if frozen {
                leaves = None;
                self.stalled_at.get_or_insert(self.now);
            }
            let ack = leaves.map(|at| at + route.rtt_ms);
            if let Some(packet) = again {
                (packet.sent, packet.ack) = (now, ack);
                conn.lost -= 1;
            } else {
                if conn.flight.is_empty() {
                    conn.timer = now;
                }
                unacked += 1.0;
                conn.buffer = conn.buffer.saturating_sub(PACKET);
                conn.flight.push_back(Packet {
                    sent: now,
                    ack,
                    acked: false,
                });
            }
        }
    }
}
