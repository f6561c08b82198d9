//! The window that a receiver announces: how it grows with what arrives and with what is read.

use super::receiver::ReceiverConfig;
use super::segment::{MSS, Segment};
use super::sender::stamp_ms;

/// Linux's first window: what fits into 64 KiB in whole segments.
pub(super) const START: u32 = 45 * MSS as u32;

/// The announced window, and how it grows.
#[derive(Clone, Debug)]
pub(super) struct Window {
    /// Announced at most.
    threshold: u32,
    buffer: u32,
    buffer_max: u32,
    /// Bytes read in the last round trip, and in this one; both stop at their largest number, at which the window is as large
    /// as it may be.
    read_before: u32,
    read_now: u32,
    /// When this round trip began; wraps.
    round_began_ms: u32,
    /// The round trip over which it counts, in eighths of a microsecond; 0: unknown.
    rtt_x8_us: u32,
    /// The echo that it was measured by last.
    measured_ms: u32,
}

impl Window {
    /// Of a stream whose handshake took this round trip.
    pub(super) fn new(config: ReceiverConfig, rtt_us: u32) -> Self {
        Self {
            threshold: START.min(config.buffer_start),
            buffer: config.buffer_start,
            buffer_max: config.buffer_max,
            read_before: 10 * u32::from(MSS),
            read_now: 0,
            round_began_ms: 0,
            rtt_x8_us: rtt_us.saturating_mul(8),
            measured_ms: 0,
        }
    }

    /// Announced at most.
    pub(super) const fn threshold(&self) -> u32 {
        self.threshold
    }

    /// The round trip over which it counts, in microseconds; 0: unknown.
    pub(super) const fn rtt_us(&self) -> u32 {
        self.rtt_x8_us / 8
    }

    /// Bytes that may be announced while so many are unread.
    pub(super) fn room(&self, unread: u64) -> u32 {
        self.room_for(unread).min(self.threshold)
    }

    /// A segment arrived: the sender may come to need a larger window, beside what is held out of order. Whether it grew.
    pub(super) fn grow(&mut self, held: u64) -> bool {
        let room = self.room_for(held).saturating_sub(self.threshold);
        self.threshold += room.min(2 * u32::from(MSS));
        room > 0
    }

    fn room_for(&self, held: u64) -> u32 {
        self.buffer
            .saturating_sub(u32::try_from(held).unwrap_or(u32::MAX))
    }

    /// A segment arrived. A full one tells the round trip by the time stamp that it echoes: a shorter one holds at once, a
    /// longer one by an eighth, and only where no reader lags (`tcp_rcv_rtt_measure_ts`).
    pub(super) fn measure(&mut self, now_ns: u64, segment: &Segment, all_read: bool) {
        if segment.echo_ms == self.measured_ms {
            return;
        }
        self.measured_ms = segment.echo_ms;
        let took_ms = stamp_ms(now_ns).saturating_sub(segment.echo_ms);
        if segment.len < MSS || segment.echo_ms == 0 || took_ms == 0 {
            return;
        }
        let sample_us = took_ms.saturating_mul(1_000);
        let sample_x8_us = sample_us.saturating_mul(8);
        if self.rtt_x8_us == 0 || sample_x8_us < self.rtt_x8_us {
            self.rtt_x8_us = sample_x8_us;
        } else if all_read {
            self.rtt_x8_us = (self.rtt_x8_us - self.rtt_x8_us / 8).saturating_add(sample_us);
        }
    }

    /// Dynamic right-sizing (Fisk and Feng 2001): room for twice what a round trip carried, more while that grows.
    pub(super) fn read(&mut self, now_ns: u64, bytes: u64) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.read_now = self.read_now.saturating_add(bytes);
        let (now_ms, rtt_us) = ((now_ns / 1_000_000) as u32, self.rtt_us());
        if rtt_us == 0 || now_ms.wrapping_sub(self.round_began_ms) < rtt_us / 1_000 {
            return;
        }
        let (carried, before) = (u64::from(self.read_now), u64::from(self.read_before));
        if carried > before {
            let wanted = 2 * carried;
            let growth = u128::from(wanted) * u128::from(carried - before) / u128::from(before.max(1));
            let wanted = (u128::from(wanted) + 2 * growth).min(self.buffer_max.into());
            self.buffer = self.buffer.max(wanted as u32);
            self.read_before = self.read_now;
        }
        self.read_now = 0;
        self.round_began_ms = now_ms;
    }
}
