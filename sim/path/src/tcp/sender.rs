//! The sending half: the window, what is sent when, and the state that recovery works on.
//!
//! Modelled on Linux 6.18: RACK-TLP (RFC 8985), proportional rate reduction (RFC 6937), F-RTO (RFC 5682) and undo of what
//! proves to have been needless by time stamps or duplicate reports (RFC 3522, RFC 3708). What an acknowledgement causes is in
//! `acked`, what losses cause in `recovery`, and timers in `timers`.

use super::burst::Burst;
use super::busy::Busy;
use super::congestion::{Algorithm, Congestion};
use super::rtt::Rtt;
use super::segment::{Ack, MSS, Segment};
use super::sent::Sent;

/// RFC 6928.
pub const WINDOW_START: u32 = 10;
/// A threshold that nothing has set.
const ENDLESS: u32 = u32::MAX / 2;
/// Duplicate acknowledgements that say of a loss without waiting, as long as the path keeps its order.
pub(crate) const REORDERING_START: u16 = 3;

/// How a sender behaves.
#[derive(Clone, Copy, Debug)]
pub struct SenderConfig {
    /// Which congestion control.
    pub algorithm: Algorithm,
    /// Segments that may be sent before the first acknowledgement.
    pub window_start: u32,
}

impl Default for SenderConfig {
    fn default() -> Self {
        Self {
            algorithm: Algorithm::Cubic,
            window_start: WINDOW_START,
        }
    }
}

/// Where a sender stands with losses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum State {
    /// All is well.
    Open,
    /// Something arrived out of order.
    Disorder,
    /// The window was reduced for a loss that a probe repaired.
    Reduced,
    /// Losses are being repaired.
    Recovery,
    /// A time-out happened.
    Loss,
}

/// What the timer is for: Linux has one for all four.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    Nothing,
    Retransmission,
    /// A tail loss probe (RFC 8985 §7).
    Probe,
    /// The reordering window of RACK.
    Reordering,
    /// The receiver has no room: probes ask for it (RFC 9293 §3.8.6.1).
    Window,
}

/// Counters for reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SenderCounters {
    /// Segments sent again.
    pub again: u32,
    /// Time-outs.
    pub timeouts: u32,
    /// Recoveries without a time-out.
    pub recoveries: u32,
    /// Tail loss probes.
    pub probes: u32,
    /// Reductions of the window that were taken back.
    pub undone: u32,
}

/// The state of one direction at its sending end.
#[derive(Clone, Debug)]
pub struct Sender {
    /// Bytes that the program has written, and whether it has ended.
    pub(crate) written: u64,
    pub(crate) fin: bool,
    fin_sent: bool,
    /// The next byte that was never sent, with the place of the end.
    pub(crate) next: u64,
    /// The first that is not acknowledged.
    pub(crate) una: u64,
    pub(crate) window_end: u64,
    pub(crate) busy: Busy,
    pub(crate) window: u32,
    pub(crate) threshold: u32,
    /// Acknowledged segments towards the next growth of the window.
    pub(crate) towards: u32,
    pub(crate) congestion: Congestion,
    pub(crate) rtt: Rtt,
    pub(crate) state: State,
    /// Quarters of the shortest round trip that RACK waits; more after needless retransmissions.
    pub(crate) rack_steps: u8,
    pub(crate) reordering: u16,
    pub(crate) reordering_seen: bool,
    pub(crate) waiting: Waiting,
    pub(crate) timer_ns: u64,
    /// Jiffies of the retransmission time-out with its back-off.
    pub(crate) timeout_jiffies: u16,
    /// Time-outs since the last progress.
    pub(crate) retries: u8,
    /// When a segment was sent last.
    pub(crate) sent_at_ns: u64,
    /// The latest time stamp of an acknowledgement; 0: there was none.
    pub(crate) heard_ms: u32,
    window_start: u32,
    /// Made when there is something to count: mostly there is not.
    counters: Option<Box<SenderCounters>>,
}

const _: () = assert!(size_of::<Sender>() <= 168);

/// Milliseconds of a host's time stamp clock, which never shows 0.
pub fn stamp_ms(now_ns: u64) -> u32 {
    (now_ns / 1_000_000) as u32 + 1
}

impl Sender {
    /// A sender whose handshake took `rtt_us`, 0 if that says nothing, and whose receiver lets it send up to `window_end`.
    pub fn new(config: SenderConfig, now_ns: u64, rtt_us: u32, window_end: u64) -> Self {
        let mut rtt = Rtt::default();
        if rtt_us > 0 {
            rtt.sample(rtt_us, 0, 0);
        }
        let mut sender = Self {
            written: 0,
            fin: false,
            fin_sent: false,
            next: 0,
            una: 0,
            window_end,
            busy: Busy::default(),
            window: config.window_start,
            threshold: ENDLESS,
            towards: 0,
            congestion: Congestion::new(config.algorithm),
            rtt,
            state: State::Open,
            rack_steps: 1,
            reordering: REORDERING_START,
            reordering_seen: false,
            waiting: Waiting::Nothing,
            timer_ns: u64::MAX,
            timeout_jiffies: 0,
            retries: 0,
            sent_at_ns: now_ns,
            heard_ms: 0,
            window_start: config.window_start,
            counters: None,
        };
        sender.reset_timeout();
        sender.congestion.begin(now_ns / 1_000, 0);
        sender
    }

    /// When [`Sender::timer`] wants to be called, in nanoseconds.
    pub fn timer_ns(&self) -> Option<u64> {
        (self.waiting != Waiting::Nothing).then_some(self.timer_ns)
    }

    /// Bytes that the program has written.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// The program has said that it will not write any more.
    pub fn is_ending(&self) -> bool {
        self.fin
    }

    /// Bytes written and not acknowledged.
    pub fn unacknowledged(&self) -> u64 {
        self.written - self.una.min(self.written)
    }

    /// The first byte that is not acknowledged.
    pub fn una(&self) -> u64 {
        self.una
    }

    /// The first byte that was never sent.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Everything is acknowledged, the end included.
    pub fn finished(&self) -> bool {
        self.fin_sent && self.una == self.written + 1
    }

    /// Segments that may be out.
    pub fn window_segments(&self) -> u32 {
        self.window
    }

    /// What it did so far.
    pub fn counters(&self) -> SenderCounters {
        self.counters.as_deref().copied().unwrap_or_default()
    }

    pub(crate) fn count(&mut self) -> &mut SenderCounters {
        self.counters.get_or_insert_default()
    }

    /// Time-outs in a row.
    pub fn retries(&self) -> u8 {
        self.retries
    }

    /// The program wrote so many bytes more. What can be sent is given to `send`.
    pub fn write(&mut self, now_ns: u64, bytes: u64, send: &mut impl FnMut(Segment)) {
        self.restart_after_idle(now_ns);
        self.written += bytes;
        self.send_new(now_ns, false, send);
    }

    /// The program will not write any more.
    pub fn finish(&mut self, now_ns: u64, send: &mut impl FnMut(Segment)) {
        self.fin = true;
        self.send_new(now_ns, false, send);
    }

    /// An acknowledgement arrived.
    pub fn ack(&mut self, now_ns: u64, ack: &Ack, send: &mut impl FnMut(Segment)) {
        if ack.next > self.next {
            // Of what was never sent: RFC 9293 §3.10.7.4 answers and drops it.
            return;
        }
        self.heard_ms = self.heard_ms.max(ack.stamp_ms);
        let next = self.acked(now_ns, ack);
        self.send_lost_or_new(now_ns, next, send);
        if self.state == State::Open {
            self.busy.rest();
        }
    }

    /// RFC 2861: a window that was not used for a time-out is halved for each, down to the initial one.
    fn restart_after_idle(&mut self, now_ns: u64) {
        if !self.busy.flight.is_empty() || self.written > self.next {
            return;
        }
        let timeout_ns = self.rtt.timeout_us() * 1_000;
        let mut idle_ns = now_ns.saturating_sub(self.sent_at_ns);
        if idle_ns <= timeout_ns {
            return;
        }
        let restart = self.window_start.min(self.window);
        self.threshold = self.threshold.max(self.window - self.window / 4);
        while idle_ns > timeout_ns && self.window > restart {
            idle_ns -= timeout_ns;
            self.window /= 2;
        }
        self.window = self.window.max(restart);
    }

    /// Whether there is something that was never sent.
    pub(crate) fn has_new(&self) -> bool {
        self.next < self.written || self.fin && !self.fin_sent
    }

    /// The next segment that was never sent, if the receiver has room for it.
    fn new_segment(&mut self, now_ns: u64) -> Option<Segment> {
        if !self.has_new() {
            return None;
        }
        let left = self.written - self.next.min(self.written);
        let room = self.window_end.saturating_sub(self.next);
        let len = left.min(MSS.into());
        if len > room {
            return None;
        }
        // Nagle (RFC 896) is off: whoever writes small pieces here wants them sent. A runt still waits behind the window.
        let last = len == left;
        let fin = last && self.fin;
        let segment = Segment {
            seq: self.next,
            len: len as u16,
            fin,
            push: last,
            again: false,
            stamp_ms: stamp_ms(now_ns),
            echo_ms: self.heard_ms,
        };
        self.fin_sent |= fin;
        self.next = segment.end();
        self.note_sending(now_ns);
        self.busy.flight.push(Sent {
            seq: segment.seq,
            at_us: now_ns / 1_000,
            len: segment.len,
            sacked: false,
            lost: false,
            again: false,
            ever_again: false,
            fin,
        });
        Some(segment)
    }

    /// A segment is about to be sent. If nothing was out the curve of the window did not go on since the last one
    /// (CA_EVENT_TX_START in `tcp_event_data_sent`), however short the pause was.
    pub(crate) fn note_sending(&mut self, now_ns: u64) {
        if self.busy.flight.in_network() == 0 {
            self.congestion.idle(now_ns, self.sent_at_ns);
        }
        self.sent_at_ns = now_ns;
    }

    /// Sends what was never sent as far as the windows let it; with `probe` one segment in any case. How many were sent.
    pub(crate) fn send_new(&mut self, now_ns: u64, probe: bool, send: &mut impl FnMut(Segment)) -> u32 {
        let (mut sent, mut burst) = (0, 0);
        let mut limited = false;
        while self.has_new() {
            if self.busy.flight.in_network() >= self.window && !(probe && sent == 0) {
                limited = true;
                break;
            }
            if burst == 0 && !probe {
                match self.burst(now_ns) {
                    Burst::Goes(segments) => burst = segments,
                    Burst::Waits { window } => {
                        limited |= window;
                        break;
                    }
                }
            }
            burst = burst.saturating_sub(1);
            let first = self.busy.flight.is_empty();
            let Some(segment) = self.new_segment(now_ns) else {
                break;
            };
            send(segment);
            sent += 1;
            if first || self.waiting == Waiting::Probe {
                self.rearm(now_ns);
            }
            if probe {
                break;
            }
        }
        limited |= self.busy.flight.in_network() >= self.window;
        if sent > 0 {
            if self.in_reduction() {
                self.busy.prr_out += sent;
            }
            if !probe {
                self.schedule_probe(now_ns, false);
            }
        }
        if sent > 0 || limited {
            self.note_limit(limited);
        }
        if self.busy.flight.is_empty() && self.has_new() && self.waiting == Waiting::Nothing {
            self.await_window(now_ns);
        }
        sent
    }

    /// Whether the window limits, judged once for each window of data.
    fn note_limit(&mut self, limited: bool) {
        let out = self.busy.flight.out();
        let (una, next, work) = (self.una, self.next, &mut *self.busy);
        if una >= work.limited_until || limited || !work.limited && out > work.out_max {
            work.limited = limited;
            work.out_max = out;
            work.limited_until = next;
        }
    }

    /// A window that is not used must not grow (RFC 7661).
    pub(crate) fn is_limited(&self) -> bool {
        self.busy.limited || self.slow_start() && self.window < 2 * self.busy.out_max
    }

    pub(crate) fn slow_start(&self) -> bool {
        self.window < self.threshold
    }

    pub(crate) fn in_reduction(&self) -> bool {
        matches!(self.state, State::Reduced | State::Recovery)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends and acknowledges so many bytes, the first transmission of each tenth segment being lost or not.
    fn carry(sender: &mut Sender, bytes: u64, lossy: bool) {
        let (mut now_ns, mut out) = (0, Vec::new());
        let mut receiver = super::super::Receiver::new(Default::default(), now_ns, 20_000);
        sender.write(now_ns, bytes, &mut |segment| out.push(segment));
        while sender.unacknowledged() > 0 {
            now_ns += 10_000_000;
            let mut acks: Vec<Ack> = Vec::new();
            for segment in out.drain(..) {
                if lossy && !segment.again && segment.seq / u64::from(MSS) % 10 == 5 {
                    continue;
                }
                acks.extend(receiver.segment(now_ns, &segment));
                acks.extend(receiver.read(now_ns, u64::MAX));
            }
            acks.push(receiver.acknowledge(now_ns));
            now_ns += 10_000_000;
            for ack in acks {
                sender.ack(now_ns, &ack, &mut |segment| out.push(segment));
            }
            sender.timer(now_ns, &mut |segment| out.push(segment));
        }
    }

    #[test]
    fn an_idle_sender_holds_nothing_beside_itself_until_it_had_a_loss() {
        let new = || Sender::new(SenderConfig::default(), 0, 20_000, 60_000);
        let holds = |sender: &Sender| {
            (
                sender.busy.is_held(),
                sender.counters.is_some(),
                sender.congestion.holds_curve(),
            )
        };
        let mut sender = new();
        carry(&mut sender, 20_000, false);
        assert_eq!(holds(&sender), (false, false, false));
        assert_eq!(sender.counters(), SenderCounters::default());
        let mut sender = new();
        carry(&mut sender, 200_000, true);
        assert_eq!(holds(&sender), (false, true, true));
        assert!(sender.counters().again > 5);
    }
}
