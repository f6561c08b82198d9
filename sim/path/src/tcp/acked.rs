//! What an acknowledgement tells a sender.

use super::segment::Ack;
use super::sender::{Sender, State, Waiting};
use super::sent::Sent;

/// Probes of a closed window after which they do not become rarer.
const PROBES_BACKED_OFF: u8 = 9;

/// Linux's `tcp_max_reordering`.
const REORDERING_MAX: u64 = 300;

/// What is to be sent after an acknowledgement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// New data.
    New,
    /// First what was lost.
    Lost,
    /// New data, to see whether a time-out was needed (RFC 5682); what was lost if there is none.
    NewInsteadOfLost,
}

/// What one acknowledgement said.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct News {
    /// Segments were acknowledged cumulatively, or selectively.
    pub(crate) advanced: bool,
    pub(crate) sacked: bool,
    /// How many segments, in either way.
    delivered: u32,
    /// What was sent only once and before the present state began arrived.
    pub(crate) original: bool,
    /// A retransmission was acknowledged: the round trip is ambiguous.
    pub(crate) again: bool,
    /// A retransmission was found lost.
    pub(crate) lost_again: bool,
    /// A duplicate was reported.
    pub(crate) duplicate: bool,
    /// It says nothing new at all.
    pub(crate) dupack: bool,
    pub(crate) echo_ms: u32,
    /// The timer is to be set again.
    pub(crate) rearm: bool,
    /// When the first and the last of the segments that it is about were sent, in microseconds.
    first_us: Option<u64>,
    last_us: Option<u64>,
    first_sacked_us: Option<u64>,
    last_sacked_us: Option<u64>,
    /// The lowest byte that was passed over though sent once: the path changes the order.
    reordered_from: Option<u64>,
}

impl Sender {
    /// Takes in an acknowledgement that is not of the future.
    pub(crate) fn acked(&mut self, now_ns: u64, ack: &Ack) -> Next {
        let now_us = now_ns / 1_000;
        let mut news = News {
            echo_ms: ack.echo_ms,
            ..News::default()
        };
        let lost_before = self.busy.flight.lost_ever;
        let opened = ack.window_end > self.window_end;
        self.window_end = self.window_end.max(ack.window_end);
        let highest_before = self.highest_sacked();
        self.take_sacks(now_us, ack, &mut news, highest_before);
        if ack.next < self.una {
            // An older one that was overtaken; its blocks were worth a look.
            return if news.sacked || news.duplicate {
                self.react(now_ns, &mut news)
            } else {
                Next::New
            };
        }
        if ack.next > self.una {
            self.una = ack.next;
            news.advanced = true;
            self.retries = 0;
        }
        self.clean(now_us, &mut news, highest_before);
        news.dupack = !news.advanced && !news.sacked && !opened && !self.busy.flight.is_empty();
        self.measure(now_ns, &mut news);
        if let Some(from) = news.reordered_from {
            self.see_reordering(from, highest_before);
        }
        self.probe_acked(ack, &news);
        if self.busy.flight.is_empty() && self.waiting != Waiting::Window {
            self.waiting = Waiting::Nothing;
        }
        if self.waiting == Waiting::Window && opened {
            self.waiting = Waiting::Nothing;
            self.retries = 0;
        } else if self.waiting == Waiting::Window {
            // Whoever answers is alive, however long it has no room: probes stay rare, and do not give it up.
            self.retries = self.retries.min(PROBES_BACKED_OFF);
        }
        let next = self.react(now_ns, &mut news);
        self.control(now_ns, &news, lost_before);
        if news.rearm {
            self.schedule_probe(now_ns, true);
        }
        next
    }

    fn highest_sacked(&self) -> u64 {
        self.busy
            .sacks_before
            .iter()
            .map(|block| block.end)
            .max()
            .unwrap_or(0)
            .max(self.una)
    }

    /// Marks what arrived out of order.
    fn take_sacks(&mut self, now_us: u64, ack: &Ack, news: &mut News, highest: u64) {
        let mut blocks = ack.sacks();
        if let Some((first, rest)) = blocks.split_first()
            && (first.end <= ack.next
                || rest
                    .first()
                    .is_some_and(|next| next.start <= first.start && first.end <= next.end))
        {
            news.duplicate = true;
            self.duplicate_reported();
            blocks = rest;
        }
        let before = self.busy.sacks_before;
        for block in blocks {
            if block.start >= block.end || block.end > self.next {
                continue;
            }
            // Only what the last acknowledgement did not say already.
            let known = before
                .iter()
                .find(|known| known.start <= block.start && block.start < known.end);
            let start = known
                .map_or(block.start, |known| known.end.min(block.end))
                .max(self.una);
            let known = before
                .iter()
                .find(|known| known.start < block.end && block.end <= known.end && known.start > start);
            let end = known.map_or(block.end, |known| known.start);
            for number in self.busy.flight.between(start, end) {
                self.take_sack(now_us, number, news, highest);
            }
        }
        self.busy.sacks_before = Default::default();
        for (place, block) in self.busy.sacks_before.iter_mut().zip(blocks) {
            *place = *block;
        }
    }

    fn take_sack(&mut self, now_us: u64, number: u64, news: &mut News, highest: u64) {
        let Some(sent) = self.busy.flight.sack(number) else {
            return;
        };
        news.sacked = true;
        news.delivered += 1;
        self.rack_delivered(now_us, &sent);
        if !sent.ever_again {
            if sent.seq < highest {
                news.reordered_from = Some(news.reordered_from.map_or(sent.seq, |from| from.min(sent.seq)));
            }
            news.original |= sent.end() <= self.busy.high;
            news.first_sacked_us.get_or_insert(sent.at_us);
            news.last_sacked_us = Some(sent.at_us);
        }
    }

    /// Takes off what is acknowledged cumulatively.
    fn clean(&mut self, now_us: u64, news: &mut News, highest: u64) {
        let mut any = false;
        while let Some(sent) = self.busy.flight.pop_acknowledged(self.una) {
            any = true;
            if sent.ever_again {
                news.again = true;
            } else if !sent.sacked {
                news.first_us.get_or_insert(sent.at_us);
                news.last_us = Some(sent.at_us);
                if sent.seq < highest {
                    news.reordered_from =
                        Some(news.reordered_from.map_or(sent.seq, |from| from.min(sent.seq)));
                }
                news.original |= sent.end() <= self.busy.high;
            }
            if !sent.sacked {
                news.delivered += 1;
                self.rack_delivered(now_us, &sent);
            }
        }
        news.rearm |= any;
    }

    /// RFC 8985 §6.2 step 2.
    fn rack_delivered(&mut self, now_us: u64, sent: &Sent) {
        let rtt_us = (now_us - sent.at_us).min(u32::MAX.into()) as u32;
        if sent.ever_again && rtt_us < self.rtt.min_us() {
            // Which of its transmissions arrived is not known.
            return;
        }
        self.busy.rack.advanced = true;
        self.busy.rack.rtt_us = rtt_us;
        if (sent.at_us, sent.end()) > (self.busy.rack.at_us, self.busy.rack.end) {
            (self.busy.rack.at_us, self.busy.rack.end) = (sent.at_us, sent.end());
        }
    }

    /// Measures the round trip: by what was sent once, or by the time stamp.
    fn measure(&mut self, now_ns: u64, news: &mut News) {
        let now_us = now_ns / 1_000;
        let since = |at: Option<u64>| at.map(|at| (now_us - at).min(u32::MAX.into()) as u32);
        let unambiguous = !news.again;
        let sacked = since(news.first_sacked_us);
        let own = since(news.first_us.filter(|_| unambiguous)).or(sacked);
        let stamped = || {
            let ms = super::sender::stamp_ms(now_ns).checked_sub(news.echo_ms)?;
            (news.rearm && news.echo_ms > 0).then_some(ms.max(1) * 1_000)
        };
        if let Some(rtt_us) = own.or_else(stamped) {
            self.rtt.sample(rtt_us, self.una, self.next);
            self.reset_timeout();
            if !news.rearm
                && let (Some(sacked), Some(head)) = (sacked, self.busy.flight.first())
            {
                // Recovery must not push the time-out ahead of itself for ever.
                news.rearm = u64::from(sacked) > now_us - head.at_us;
            }
        }
        let latest = news.last_sacked_us.or(news.last_us.filter(|_| unambiguous));
        if let Some(rtt_us) = since(latest) {
            let slow_start = self.slow_start();
            if self
                .congestion
                .measured(now_us, rtt_us, self.window, slow_start, self.una, self.next)
            {
                self.threshold = self.window;
            }
        }
    }

    /// RFC 8985 §7.4: what became of a tail loss probe.
    fn probe_acked(&mut self, ack: &Ack, news: &News) {
        let Some((end, again)) = self.busy.probe else {
            return;
        };
        if ack.next < end {
            return;
        }
        if !again || news.duplicate {
            self.busy.probe = None;
        } else if ack.next > end {
            // The probe repaired a loss that nothing else told of: the window pays for it.
            self.begin_reduction();
            self.state = State::Reduced;
            self.end_reduction();
            self.keep_open();
        } else if !news.advanced && !news.sacked {
            self.busy.probe = None;
        }
    }

    /// The window after an acknowledgement.
    fn control(&mut self, now_ns: u64, news: &News, lost_before: u64) {
        let acked = news.delivered;
        let newly_lost = self.busy.flight.lost_ever - lost_before;
        if self.in_reduction() {
            self.reduce(acked, newly_lost, news.advanced);
            return;
        }
        let progress = if self.reordering > super::sender::REORDERING_START {
            news.advanced || news.sacked
        } else {
            news.advanced
        };
        if progress && self.is_limited() {
            self.grow(now_ns, acked);
        }
    }

    fn grow(&mut self, now_ns: u64, acked: u32) {
        let mut acked = acked;
        if self.slow_start() {
            let window = (self.window + acked).min(self.threshold);
            acked -= window - self.window;
            self.window = window;
            if acked == 0 {
                return;
            }
        }
        let per_segment = self.congestion.acked(now_ns, self.window, acked).max(1);
        if self.towards >= per_segment {
            self.towards = 0;
            self.window += 1;
        }
        self.towards += acked;
        self.window += self.towards / per_segment;
        self.towards %= per_segment;
    }

    /// The path does not keep the order: `from` arrived after `highest`.
    fn see_reordering(&mut self, from: u64, highest: u64) {
        let segments = (highest - from).div_ceil(super::segment::MSS.into());
        self.reordering = self.reordering.max(segments.min(REORDERING_MAX) as u16);
        self.reordering_seen = true;
    }

    fn duplicate_reported(&mut self) {
        if let Some(unreported) = &mut self.busy.undo.unreported {
            *unreported = unreported.saturating_sub(1);
        }
        self.rack_steps = self.rack_steps.saturating_add(1);
    }
}
