//! Losses: how they are found, what they cost, and how they are repaired.

use super::acked::{News, Next};
use super::busy::Undo;
use super::segment::Segment;
use super::sender::{Sender, State, Waiting, stamp_ms};
use super::time::{fires_at_ns, jiffies_for_us};

/// Linux's `TCP_TIMEOUT_MIN_US`.
pub(crate) const TIMEOUT_MIN_US: u64 = 2_000;

impl Sender {
    /// What an acknowledgement changes between the states.
    pub(crate) fn react(&mut self, now_ns: u64, news: &mut News) -> Next {
        if self.state == State::Open && !(news.sacked || news.duplicate || news.dupack) {
            return Next::New;
        }
        if self.state == State::Open {
            self.busy.undo.first_ms = 0;
        } else if self.una >= self.busy.high {
            self.end_state(news);
        }
        match self.state {
            State::Recovery => {
                if news.advanced && self.undo_partial(news) {
                    return Next::New;
                }
                if self.undo_by_reports() {
                    self.keep_open();
                }
                self.find_losses(now_ns, news);
                if self.state != State::Recovery {
                    if self.busy.flight.lost == 0 {
                        return Next::New;
                    }
                    self.enter_recovery();
                }
                Next::Lost
            }
            State::Loss => {
                let next = self.react_in_loss(news);
                self.find_losses(now_ns, news);
                if self.state != State::Open && !news.lost_again {
                    return next;
                }
                self.recover_or_open()
            }
            _ => {
                self.undo_by_reports();
                self.find_losses(now_ns, news);
                self.recover_or_open()
            }
        }
    }

    fn recover_or_open(&mut self) -> Next {
        if self.busy.flight.lost == 0 {
            if self.state != State::Reduced {
                self.keep_open();
            }
            return Next::New;
        }
        self.enter_recovery();
        Next::Lost
    }

    /// All that was out when the state began is acknowledged.
    fn end_state(&mut self, news: &News) {
        match self.state {
            // Something beyond must be acknowledged too, so that one loss is paid for once.
            State::Reduced if self.una == self.busy.high => {}
            State::Reduced => {
                self.end_reduction();
                self.state = State::Open;
            }
            State::Recovery => {
                self.undo_if_needless(news);
                self.end_reduction();
                self.state = State::Open;
            }
            _ => {}
        }
    }

    /// After a time-out: RFC 5682 §3.1 while it may have been needless.
    fn react_in_loss(&mut self, news: &News) -> Next {
        let recovered = self.una >= self.busy.high;
        if news.advanced && self.needless_by_stamp(news) {
            self.undo_loss();
            return Next::New;
        }
        if self.busy.frto {
            if news.original {
                // Step 3.b: something arrived that was never sent again.
                self.undo_loss();
                return Next::New;
            }
            if self.next > self.busy.high {
                if news.sacked || news.dupack {
                    self.busy.frto = false;
                }
            } else if news.advanced && !recovered {
                self.busy.high = self.next;
                if self.has_new() {
                    return Next::NewInsteadOfLost;
                }
                self.busy.frto = false;
            }
        }
        if recovered {
            self.undo_if_needless(news);
            self.state = State::Open;
            return Next::New;
        }
        Next::Lost
    }

    fn undo_loss(&mut self) {
        self.take_back(true);
        self.retries = 0;
        self.busy.frto = false;
        self.state = State::Open;
    }

    /// Looks for losses by time (RFC 8985 §6.2 step 5), unless nothing new was delivered.
    fn find_losses(&mut self, now_ns: u64, news: &mut News) {
        if !self.busy.rack.advanced {
            return;
        }
        self.busy.rack.advanced = false;
        let again_before = self.busy.flight.again;
        if let Some(wait_us) = self.detect(now_ns / 1_000) {
            let wait = jiffies_for_us(wait_us + TIMEOUT_MIN_US).min(self.timeout_jiffies.into());
            self.waiting = Waiting::Reordering;
            self.timer_ns = fires_at_ns(now_ns, wait);
            news.rearm = false;
        }
        news.lost_again = self.busy.flight.again < again_before;
    }

    /// Marks as lost what should have been reported by now; the longest wait of what has time left, in microseconds.
    pub(crate) fn detect(&mut self, now_us: u64) -> Option<u64> {
        let patience = u64::from(self.reordering_window_us()) + u64::from(self.busy.rack.rtt_us);
        let (at_us, end) = (self.busy.rack.at_us, self.busy.rack.end);
        let mut lost = Vec::new();
        let mut wait = None;
        self.busy.flight.under_way(|number, sent| {
            if (sent.at_us, sent.end()) >= (at_us, end) {
                return false;
            }
            match (sent.at_us + patience).checked_sub(now_us) {
                None | Some(0) => lost.push(number),
                Some(left) => wait = wait.max(Some(left)),
            }
            true
        });
        for number in lost {
            self.busy.flight.lose(number);
        }
        wait
    }

    /// RFC 8985 §6.2 step 4.
    fn reordering_window_us(&self) -> u32 {
        if !self.reordering_seen
            && (self.state >= State::Recovery || self.busy.flight.sacked >= self.reordering.into())
        {
            return 0;
        }
        (self.rtt.min_us() / 4)
            .saturating_mul(self.rack_steps.into())
            .min(self.rtt.smoothed_us())
    }

    pub(crate) fn enter_recovery(&mut self) {
        self.count().recoveries += 1;
        self.begin_undo();
        if !self.in_reduction() {
            self.busy.undo.threshold = self.threshold_now();
            self.begin_reduction();
        }
        self.state = State::Recovery;
    }

    pub(crate) fn begin_undo(&mut self) {
        self.busy.undo = Undo {
            possible: true,
            unreported: (self.busy.flight.again > 0).then_some(self.busy.flight.again),
            ..self.busy.undo
        };
    }

    /// The threshold that an undo restores.
    pub(crate) fn threshold_now(&self) -> u32 {
        if self.in_reduction() {
            self.threshold
        } else {
            self.threshold.max(self.window - self.window / 4)
        }
    }

    pub(crate) fn begin_reduction(&mut self) {
        self.busy.high = self.next;
        self.busy.probe = None;
        self.towards = 0;
        self.busy.window_before = self.window;
        self.busy.undo.window = self.window;
        (self.busy.prr_delivered, self.busy.prr_out) = (0, 0);
        self.threshold = self.congestion.threshold(self.window);
    }

    pub(crate) fn end_reduction(&mut self) {
        if self.state == State::Reduced || self.busy.undo.possible {
            self.window = self.threshold;
        }
    }

    /// RFC 6937, with the bound that follows slow start while the repair goes well.
    pub(crate) fn reduce(&mut self, delivered: u32, newly_lost: u64, advanced: bool) {
        if delivered == 0 {
            return;
        }
        self.busy.prr_delivered += delivered;
        let in_network = self.busy.flight.in_network();
        let (out, threshold) = (u64::from(self.busy.prr_out), u64::from(self.threshold));
        let mut quota = if in_network > self.threshold {
            let share = (threshold * u64::from(self.busy.prr_delivered))
                .div_ceil(u64::from(self.busy.window_before.max(1)));
            share.saturating_sub(out)
        } else {
            let mut quota = u64::from(self.busy.prr_delivered)
                .saturating_sub(out)
                .max(delivered.into());
            if advanced && newly_lost == 0 {
                quota += 1;
            }
            quota.min(threshold - u64::from(in_network))
        };
        if out == 0 {
            quota = quota.max(1);
        }
        self.window = in_network + quota as u32;
    }

    /// Open, or out of order if anything is still missing.
    pub(crate) fn keep_open(&mut self) {
        let flight = &self.busy.flight;
        let again = flight.again;
        let disorder = flight.sacked + flight.lost > 0 || flight.again > 0;
        let state = if disorder { State::Disorder } else { State::Open };
        if again == 0 && self.busy.undo.first_ms != 0 {
            self.busy.undo.first_ms = 0;
        }
        if self.state != state {
            self.state = state;
            self.busy.high = self.next;
        }
    }

    /// RFC 3522: the acknowledgement echoes a stamp from before the first retransmission.
    fn needless_by_stamp(&self, news: &News) -> bool {
        self.busy.undo.possible
            && self.busy.undo.first_ms > 0
            && news.echo_ms > 0
            && news.echo_ms < self.busy.undo.first_ms
    }

    /// A hole was filled by a late original. `true`: losses are not looked for.
    fn undo_partial(&mut self, news: &News) -> bool {
        if !self.needless_by_stamp(news) {
            return false;
        }
        self.reordering_seen = true;
        if self.busy.flight.again > 0 {
            return true;
        }
        self.take_back(true);
        self.keep_open();
        false
    }

    /// RFC 3708: every retransmission was reported as a duplicate.
    fn undo_by_reports(&mut self) -> bool {
        let needless = self.busy.undo.possible && self.busy.undo.unreported == Some(0);
        if needless {
            self.take_back(false);
        }
        needless
    }

    fn undo_if_needless(&mut self, news: &News) {
        if !self.undo_by_reports() && self.needless_by_stamp(news) {
            self.take_back(false);
        }
    }

    fn take_back(&mut self, nothing_lost: bool) {
        if nothing_lost {
            self.busy.flight.find_all();
        }
        self.window = self.window.max(self.busy.undo.window);
        self.threshold = self.threshold.max(self.busy.undo.threshold);
        self.busy.undo.possible = false;
        self.busy.rack.advanced = true;
        self.count().undone += 1;
    }

    /// Sends again what was lost, then what is new.
    pub(crate) fn send_lost_or_new(&mut self, now_ns: u64, next: Next, send: &mut impl FnMut(Segment)) {
        match next {
            Next::New => {}
            Next::Lost => self.send_lost(now_ns, send),
            Next::NewInsteadOfLost => {
                self.send_new(now_ns, false, send);
                if self.next <= self.busy.high {
                    self.busy.frto = false;
                    self.send_lost(now_ns, send);
                }
            }
        }
        self.send_new(now_ns, false, send);
    }

    /// Sends again what was lost, as far as the window lets it.
    pub(crate) fn send_lost(&mut self, now_ns: u64, send: &mut impl FnMut(Segment)) {
        let mut rearm = false;
        while self.busy.flight.in_network() < self.window
            && let Some(number) = self.busy.flight.first_lost()
        {
            rearm |= number == self.busy.flight.numbers().start && self.waiting != Waiting::Reordering;
            self.send_again(now_ns, number, send);
            if self.in_reduction() {
                self.busy.prr_out += 1;
            }
        }
        if rearm {
            self.arm_timeout(now_ns);
        }
    }

    pub(crate) fn send_again(&mut self, now_ns: u64, number: u64, send: &mut impl FnMut(Segment)) {
        self.note_sending(now_ns);
        let Some(sent) = self.busy.flight.send_again(number, now_ns / 1_000) else {
            return;
        };
        self.count().again += 1;
        *self.busy.undo.unreported.get_or_insert(0) += 1;
        if self.busy.undo.first_ms == 0 {
            self.busy.undo.first_ms = stamp_ms(now_ns);
        }
        send(Segment {
            seq: sent.seq,
            len: sent.len,
            fin: sent.fin,
            push: sent.end() >= self.written,
            again: true,
            stamp_ms: stamp_ms(now_ns),
            echo_ms: self.heard_ms,
        });
    }
}
