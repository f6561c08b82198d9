//! The one timer of a sender: retransmission, tail loss probe, reordering window, probes of a closed window.

use super::recovery::TIMEOUT_MIN_US;
use super::rtt::{MIN_US, TIMEOUT_JIFFIES_MAX};
use super::segment::Segment;
use super::sender::{Sender, State, Waiting};
use super::time::{fires_at_ns, jiffies_for_us};

impl Sender {
    /// The timer is due.
    pub fn timer(&mut self, now_ns: u64, send: &mut impl FnMut(Segment)) {
        if self.timer_ns > now_ns {
            return;
        }
        match std::mem::replace(&mut self.waiting, Waiting::Nothing) {
            Waiting::Nothing => {}
            Waiting::Retransmission => self.time_out(now_ns, send),
            Waiting::Probe => self.send_probe(now_ns, send),
            Waiting::Reordering => self.reordering_passed(now_ns, send),
            Waiting::Window => self.probe_window(now_ns, send),
        }
    }

    /// The round trip was measured: the time-out without back-off.
    pub(crate) fn reset_timeout(&mut self) {
        self.timeout_jiffies = self.rtt.timeout_jiffies();
    }

    pub(crate) fn arm_timeout(&mut self, now_ns: u64) {
        self.waiting = Waiting::Retransmission;
        self.timer_ns = fires_at_ns(now_ns, self.timeout_jiffies.into());
    }

    /// Sets the retransmission timer, counted from the first segment's transmission if another purpose is replaced.
    pub(crate) fn rearm(&mut self, now_ns: u64) {
        if self.busy.flight.is_empty() {
            self.waiting = Waiting::Nothing;
            return;
        }
        if !matches!(self.waiting, Waiting::Probe | Waiting::Reordering) {
            return self.arm_timeout(now_ns);
        }
        let left = jiffies_for_us(self.time_left_us(now_ns).max(1));
        self.waiting = Waiting::Retransmission;
        self.timer_ns = fires_at_ns(now_ns, left);
    }

    /// Until the first segment in flight times out; 0: it should have.
    fn time_left_us(&self, now_ns: u64) -> u64 {
        let sent_us = self.busy.flight.first().map_or(0, |sent| sent.at_us);
        (sent_us + u64::from(self.timeout_jiffies) * super::time::JIFFY_US).saturating_sub(now_ns / 1_000)
    }

    /// RFC 8985 §7.2: a probe after two round trips, where losses are not being repaired; the time-out otherwise. After
    /// progress (`progress`) the time-out counts from now.
    pub(crate) fn schedule_probe(&mut self, now_ns: u64, progress: bool) {
        if self.busy.flight.is_empty() || !matches!(self.state, State::Open | State::Reduced) {
            if progress {
                self.rearm(now_ns);
            }
            return;
        }
        let mut wait_us = match self.rtt.smoothed_us() {
            0 => super::rtt::INITIAL_US,
            // The only segment out may wait for a delayed acknowledgement.
            smoothed if self.busy.flight.out() == 1 => 2 * u64::from(smoothed) + u64::from(MIN_US),
            smoothed => 2 * u64::from(smoothed) + TIMEOUT_MIN_US,
        };
        let left_us = if progress {
            u64::from(self.timeout_jiffies) * super::time::JIFFY_US
        } else {
            self.time_left_us(now_ns)
        };
        if left_us > 0 {
            wait_us = wait_us.min(left_us);
        }
        self.waiting = Waiting::Probe;
        self.timer_ns = fires_at_ns(now_ns, jiffies_for_us(wait_us));
    }

    /// RFC 8985 §7.3: something new, or the last segment again.
    fn send_probe(&mut self, now_ns: u64, send: &mut impl FnMut(Segment)) {
        if self.busy.probe.is_none() {
            let sent_new = self.send_new(now_ns, true, send) > 0;
            if sent_new || !self.busy.flight.is_empty() {
                if !sent_new {
                    let last = self.busy.flight.next() - 1;
                    self.send_again(now_ns, last, send);
                }
                self.count().probes += 1;
                self.busy.probe = Some((self.next, !sent_new));
            }
            self.waiting = Waiting::Nothing;
        } else {
            // Counted from the first transmission.
            self.waiting = Waiting::Probe;
        }
        self.rearm(now_ns);
    }

    fn reordering_passed(&mut self, now_ns: u64, send: &mut impl FnMut(Segment)) {
        let (in_network, lost) = (self.busy.flight.in_network(), self.busy.flight.lost_ever);
        self.detect(now_ns / 1_000);
        self.waiting = Waiting::Reordering;
        if self.busy.flight.in_network() != in_network {
            if self.state != State::Recovery {
                self.enter_recovery();
                self.reduce(1, self.busy.flight.lost_ever - lost, false);
            }
            self.send_lost(now_ns, send);
        }
        if self.waiting != Waiting::Retransmission {
            self.rearm(now_ns);
        }
    }

    /// RFC 6298 §5.4 to 5.7.
    fn time_out(&mut self, now_ns: u64, send: &mut impl FnMut(Segment)) {
        self.enter_loss(now_ns);
        self.retries = self.retries.saturating_add(1);
        self.count().timeouts += 1;
        let first = self.busy.flight.numbers().start;
        self.send_again(now_ns, first, send);
        self.timeout_jiffies = (2 * self.timeout_jiffies).min(TIMEOUT_JIFFIES_MAX);
        self.arm_timeout(now_ns);
    }

    fn enter_loss(&mut self, now_ns: u64) {
        let now_us = now_ns / 1_000;
        let fresh = self.state < State::Recovery;
        let patience = u64::from(self.busy.rack.rtt_us);
        let first = self.busy.flight.numbers().start;
        for number in self.busy.flight.numbers() {
            let Some(sent) = self.busy.flight.get(number) else {
                break;
            };
            // What was sent a moment ago is not lost yet.
            let recent = number != first && sent.at_us + patience > now_us;
            if !sent.sacked && !recent {
                self.busy.flight.lose(number);
            }
        }
        if self.state <= State::Disorder
            || self.una >= self.busy.high
            || self.state == State::Loss && self.retries == 0
        {
            self.busy.undo.threshold = self.threshold_now();
            self.busy.window_before = self.window;
            self.busy.undo.window = self.window;
            self.threshold = self.congestion.threshold(self.window);
            self.begin_undo();
        }
        self.window = self.busy.flight.in_network() + 1;
        self.towards = 0;
        self.state = State::Loss;
        self.congestion.timeout(now_us, self.next);
        self.busy.high = self.next;
        self.busy.probe = None;
        self.busy.frto = fresh || self.retries > 0;
    }

    /// Waits for the receiver to have room.
    pub(crate) fn await_window(&mut self, now_ns: u64) {
        self.waiting = Waiting::Window;
        let wait = u64::from(self.timeout_jiffies) << self.retries.min(16);
        self.timer_ns = fires_at_ns(now_ns, wait.min(TIMEOUT_JIFFIES_MAX.into()));
    }

    /// Asks for room with a segment that the receiver has already.
    fn probe_window(&mut self, now_ns: u64, send: &mut impl FnMut(Segment)) {
        self.retries = self.retries.saturating_add(1);
        send(Segment {
            seq: self.una.saturating_sub(1),
            len: 0,
            fin: false,
            push: false,
            again: true,
            stamp_ms: super::sender::stamp_ms(now_ns),
            echo_ms: self.heard_ms,
        });
        self.await_window(now_ns);
    }
}

#[cfg(test)]
mod tests {
    use crate::tcp::{Ack, Sender, SenderConfig};

    /// Probes of a closed window: (how many time-outs in a row the sender counts, seconds that passed).
    fn probed(answered: bool) -> (u8, u64) {
        let full = 10_000;
        let mut now_ns = 0;
        let mut sender = Sender::new(SenderConfig::default(), now_ns, 20_000, full);
        sender.write(now_ns, 20_000, &mut |_| {});
        let ack = Ack {
            next: sender.next(),
            window_end: sender.next(),
            ..Ack::default()
        };
        sender.ack(now_ns, &ack, &mut |_| {});
        for _ in 0..40 {
            now_ns = sender.timer_ns().expect("it probes");
            let mut probes = 0;
            sender.timer(now_ns, &mut |_| probes += 1);
            assert_eq!(probes, 1);
            if answered {
                sender.ack(now_ns, &ack, &mut |_| {});
            }
        }
        (sender.retries(), now_ns / 1_000_000_000)
    }

    #[test]
    fn a_reader_without_room_that_answers_is_not_given_up() {
        let (retries, seconds) = probed(true);
        assert!(retries <= 10 && seconds > 3_000, "{retries} after {seconds} s");
        let (retries, _) = probed(false);
        assert!(retries >= 15, "{retries}: silence is given up");
    }
}
