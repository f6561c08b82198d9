//! One direction of one path: how fast user bytes move while some are queued, against what this path has shown before.
//!
//! Time in which nothing is queued is no sample: padding and idleness look like a throttle to whoever counts bytes per
//! second. Neither is the first round trip of a busy period, in which nothing can have come back, nor, on the low side only,
//! the next second (slow start): a small message would look slow on any path. The baseline takes that second, so it is
//! rather too low than too high.

use std::collections::VecDeque;
use std::time::Duration;

use phantom_core::units::Instant;

use crate::config::Config;

/// Length of the pieces of which the recent past is made.
const FINE: Duration = Duration::from_millis(250);
/// Length of one sample of the baseline, if four round trips are not longer.
const COARSE: Duration = Duration::from_secs(1);

/// What was slow before a pause of this length says nothing of now.
const STALE: Duration = Duration::from_secs(60);

/// So many low samples among those of the baseline make a path uneven.
const UNEVEN: usize = 3;
/// Samples that may stem from the seconds in which a path became slow.
const NEWEST: usize = 8;

/// Bytes that moved in a time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Amount {
    pub(crate) time: Duration,
    pub(crate) bytes: u64,
}

impl Amount {
    fn add(&mut self, time: Duration, bytes: u64) {
        self.time = self.time.saturating_add(time);
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// Bytes per second, zero for no time.
    pub(crate) fn rate(self) -> u64 {
        let nanos = self.time.as_nanos();
        if nanos == 0 {
            return 0;
        }
        u64::try_from(u128::from(self.bytes) * 1_000_000_000 / nanos).unwrap_or(u64::MAX)
    }
}

/// A path that moves far less than it used to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slow {
    /// Bytes per second in the last two seconds.
    pub(crate) rate: u64,
    /// Bytes per second before.
    pub(crate) baseline: u64,
}

#[derive(Clone, Copy, Debug)]
struct Reading {
    at: Instant,
    queued: u64,
    delivered: u64,
}

/// One sample of the baseline.
#[derive(Clone, Copy, Debug)]
struct Sample {
    /// Bytes per second.
    rate: u64,
    /// A part of it is of a busy period's first second, in which TCP climbs: it says nothing of how even a path is.
    young: bool,
}

/// What is known of one direction.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flow {
    last: Option<Reading>,
    /// Since when data has been queued without a pause.
    busy_since: Option<Instant>,
    /// Since when enough has been queued to judge speed by.
    deep_since: Option<Instant>,
    /// When a byte moved last, or the busy period began.
    moved_at: Instant,
    /// The piece that is being filled, of settled time.
    piece: Amount,
    recent: VecDeque<Amount>,
    /// The sample that is being filled, and whether a part of it is of a time that had not settled.
    sample: Amount,
    young: bool,
    samples: VecDeque<Sample>,
    /// The median of the samples, kept because it is asked for with every reading.
    median: u64,
    /// Since when samples are kept out of the baseline.
    held_since: Option<Instant>,
    /// Of one comparison; started anew by [`Flow::start_meter`].
    meter: Amount,
    /// When that was, and what had been delivered then.
    meter_from: (Instant, u64),
}

impl Flow {
    /// A reading: `queued` bytes wait, `delivered` have arrived since the path opened. The caller has checked that
    /// `delivered` did not go back.
    pub(crate) fn reading(
        &mut self,
        config: &Config,
        now: Instant,
        queued: u64,
        delivered: u64,
        rtt: Duration,
    ) {
        let last = self.last.replace(Reading {
            at: now,
            queued,
            delivered,
        });
        let (from, moved) = last.map_or((now, delivered), |last| (last.at, delivered - last.delivered));
        let time = now.saturating_since(from);
        if moved > 0 {
            self.moved_at = now;
        }
        let deep = |queued: u64| queued >= config.queue_min;
        let was_deep = last.is_some_and(|last| deep(last.queued));
        match self.deep_since {
            // At either end: where the queue ran empty meanwhile, the user was slow for a part of it.
            Some(since) if was_deep && deep(queued) && time <= config.gap_max => {
                let busy = now.saturating_since(since);
                self.young |= busy < rtt + config.settle + time;
                if busy > rtt {
                    self.sample(config, now, time, moved, rtt);
                }
                if busy > rtt + config.settle {
                    self.settled(config, time, moved);
                }
            }
            _ => {}
        }
        if queued == 0 {
            self.busy_since = None;
        } else if self.busy_since.is_none() || time > config.gap_max {
            if now.saturating_since(self.moved_at) > STALE {
                self.recent.clear();
            }
            (self.busy_since, self.moved_at) = (Some(now), now);
        }
        if !deep(queued) {
            self.deep_since = None;
        } else if self.deep_since.is_none() || time > config.gap_max {
            self.deep_since = Some(now);
        }
    }

    fn sample(&mut self, config: &Config, now: Instant, time: Duration, moved: u64, rtt: Duration) {
        self.sample.add(time, moved);
        if self.sample.time < COARSE.max(rtt.saturating_mul(4).min(config.slow_window)) {
            return;
        }
        let rate = std::mem::take(&mut self.sample).rate();
        let young = std::mem::take(&mut self.young);
        if self.slow(config).is_some() {
            let since = *self.held_since.get_or_insert(now);
            if now.saturating_since(since) < config.hold_max {
                return;
            }
        } else {
            self.held_since = None;
        }
        if self.samples.len() >= config.baseline_max {
            self.samples.pop_front();
        }
        self.samples.push_back(Sample { rate, young });
        let mut sorted: Vec<u64> = self.samples.iter().map(|sample| sample.rate).collect();
        let middle = sorted.len() / 2;
        self.median = *sorted.select_nth_unstable(middle).1;
    }

    fn settled(&mut self, config: &Config, time: Duration, moved: u64) {
        self.meter.add(time, moved);
        self.piece.add(time, moved);
        if self.piece.time >= FINE {
            self.recent.push_back(std::mem::take(&mut self.piece));
            // Only as many as make up the window: they differ in length when the driver is late.
            let mut total: Duration = self.recent.iter().map(|piece| piece.time).sum();
            while let Some(first) = self.recent.front()
                && total.saturating_sub(first.time) >= config.slow_window
            {
                total = total.saturating_sub(first.time);
                self.recent.pop_front();
            }
        }
    }

    /// Bytes delivered since the path opened.
    pub(crate) fn delivered(&self) -> u64 {
        self.last.map_or(0, |last| last.delivered)
    }

    /// Whether data waited at the last reading.
    pub(crate) fn is_busy(&self) -> bool {
        self.busy_since.is_some()
    }

    /// When the next reading is due, if data waits.
    pub(crate) fn next_reading(&self, config: &Config) -> Option<Instant> {
        self.busy_since
            .and(self.last)
            .map(|last| last.at + config.report_every)
    }

    /// Whether data waits, and readings say so: without them nobody knows.
    pub(crate) fn waits(&self, config: &Config, now: Instant) -> bool {
        let fresh = |last: Reading| now.saturating_since(last.at) <= config.gap_max;
        self.busy_since.is_some() && self.last.is_some_and(fresh)
    }

    /// When a byte moved last, or data began to wait.
    pub(crate) const fn moved_at(&self) -> Instant {
        self.moved_at
    }

    /// Typical bytes per second, once there are enough samples.
    pub(crate) fn baseline(&self, config: &Config) -> Option<u64> {
        (self.samples.len() >= config.baseline_min).then_some(self.median)
    }

    /// Whether it has fallen below half of the baseline for single seconds before, or is too young to tell: bursts of loss do
    /// that, and it comes back.
    pub(crate) fn is_uneven(&self, config: &Config) -> bool {
        if self.samples.len() < config.baseline_max / 2 {
            return true;
        }
        let limit = self.median / 2;
        // Those that came in while the window was filling belong to what is happening now.
        let before = self.samples.len().saturating_sub(NEWEST);
        let samples = self.samples.iter().take(before);
        let low = samples.filter(|sample| !sample.young && sample.rate < limit);
        low.count() >= UNEVEN
    }

    /// Typical bytes per second from whatever there is.
    pub(crate) fn typical(&self) -> u64 {
        self.median
    }

    /// Whether the last window moved far less than the baseline, and its last two seconds too.
    pub(crate) fn slow(&self, config: &Config) -> Option<Slow> {
        let baseline = self.baseline(config)?;
        let limit = baseline / config.slow_factor.max(1);
        let sum = |wanted: Duration| {
            let mut sum = Amount::default();
            for piece in self.recent.iter().rev() {
                if sum.time >= wanted {
                    break;
                }
                sum.add(piece.time, piece.bytes);
            }
            (sum.time >= wanted).then_some(sum)
        };
        let whole = sum(config.slow_window)?;
        let end = sum(config.slow_window.min(Duration::from_secs(2)))?;
        (whole.rate() < limit && end.rate() < limit).then_some(Slow {
            rate: end.rate(),
            baseline,
        })
    }

    /// The same, and data waits now: without readings nobody knows.
    pub(crate) fn slow_now(&self, config: &Config, now: Instant) -> Option<Slow> {
        let enough = self.waits(config, now) && self.deep_since.is_some();
        enough.then(|| self.slow(config)).flatten()
    }

    /// Starts a comparison.
    pub(crate) fn start_meter(&mut self, now: Instant) {
        self.meter = Amount::default();
        self.meter_from = (now, self.delivered());
    }

    /// Settled time and bytes since then.
    pub(crate) fn meter(&self) -> Amount {
        self.meter
    }

    /// All time and bytes since then, whatever was queued: a path can do at least that.
    pub(crate) fn moved_since_meter(&self, now: Instant) -> Amount {
        let (from, delivered) = self.meter_from;
        Amount {
            time: now.saturating_since(from),
            bytes: self.delivered() - delivered,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(100);

    /// Feeds `secs` seconds at `rate` bytes per second with data always queued.
    fn feed(flow: &mut Flow, from: &mut u64, secs: u64, rate: u64) {
        let config = Config::default();
        for _ in 0..secs * 4 {
            *from += 250;
            let delivered = flow.delivered() + rate / 4;
            flow.reading(
                &config,
                Instant::from_nanos(*from * 1_000_000),
                1 << 20,
                delivered,
                RTT,
            );
        }
    }

    #[test]
    fn a_fall_to_a_fifth_is_seen_after_five_seconds_and_one_to_a_third_never() {
        let config = Config::default();
        for (factor, seen) in [(5, true), (3, false)] {
            let (mut flow, mut at) = (Flow::default(), 0);
            feed(&mut flow, &mut at, 60, 100_000);
            assert_eq!(flow.baseline(&config), Some(100_000));
            feed(&mut flow, &mut at, 3, 100_000 / factor);
            assert_eq!(flow.slow(&config), None);
            feed(&mut flow, &mut at, 3, 100_000 / factor);
            assert_eq!(flow.slow(&config).is_some(), seen, "to 1/{factor}");
        }
    }

    #[test]
    fn idle_time_is_no_sample_and_a_small_message_is_not_slow() {
        let config = Config::default();
        let (mut flow, mut at) = (Flow::default(), 0);
        feed(&mut flow, &mut at, 60, 100_000);
        for _ in 0..200 {
            at += 5_000;
            let delivered = flow.delivered();
            let time = |ms| Instant::from_nanos(ms * 1_000_000);
            flow.reading(&config, time(at), 0, delivered, RTT);
            flow.reading(&config, time(at + 1), 1_000, delivered, RTT);
            flow.reading(&config, time(at + 110), 0, delivered + 1_000, RTT);
        }
        assert_eq!(flow.slow(&config), None);
        assert!(flow.baseline(&config) > Some(90_000));
        assert!(!flow.waits(&config, Instant::from_nanos(at * 1_000_000)));
    }

    /// An attachment every half minute: TCP climbs anew each time, and the last bytes of each leave the queue empty.
    #[test]
    fn beginnings_and_ends_of_transfers_do_not_make_a_path_uneven_and_single_slow_seconds_do() {
        let config = Config::default();
        let reading = |flow: &mut Flow, at: u64, queued: u64, bytes: u64| {
            let delivered = flow.delivered() + bytes;
            let at = Instant::from_nanos(at * 1_000_000);
            flow.reading(&config, at, queued, delivered, RTT);
        };
        for dips in [false, true] {
            let (mut flow, mut at) = (Flow::default(), 0);
            for _ in 0..10 {
                at += 10_000;
                reading(&mut flow, at, 1 << 20, 0);
                for quarter in 0..60 {
                    at += 250;
                    let slow = quarter < 5 || (dips && (20..25).contains(&quarter));
                    reading(&mut flow, at, 1 << 20, if slow { 2_500 } else { 25_000 });
                }
                at += 500;
                reading(&mut flow, at, 0, 1_000);
            }
            assert_eq!(flow.baseline(&config), Some(100_000));
            assert_eq!(flow.is_uneven(&config), dips);
        }
    }

    #[test]
    fn what_stays_slow_becomes_the_new_normal_after_ten_minutes() {
        let config = Config::default();
        let (mut flow, mut at) = (Flow::default(), 0);
        feed(&mut flow, &mut at, 120, 100_000);
        feed(&mut flow, &mut at, 500, 10_000);
        assert!(flow.slow(&config).is_some(), "held");
        feed(&mut flow, &mut at, 240, 10_000);
        assert_eq!(flow.slow(&config), None);
        assert_eq!(flow.baseline(&config), Some(10_000));
    }

    #[test]
    fn a_machine_that_slept_has_not_seen_silence() {
        let config = Config::default();
        let (mut flow, mut at) = (Flow::default(), 0);
        feed(&mut flow, &mut at, 30, 100_000);
        let woke = Instant::from_nanos((at + 60_000) * 1_000_000);
        assert!(!flow.waits(&config, woke), "no reading for so long");
        let delivered = flow.delivered();
        flow.reading(&config, woke, 1, delivered, RTT);
        assert!(flow.waits(&config, woke));
        assert_eq!(flow.moved_at(), woke);
    }

    #[test]
    fn a_user_who_sends_one_packet_at_a_time_does_not_make_a_path_slow() {
        let config = Config::default();
        let (mut flow, mut at) = (Flow::default(), 0);
        feed(&mut flow, &mut at, 60, 100_000);
        for _ in 0..120 {
            at += 500;
            let delivered = flow.delivered() + 1_000;
            flow.reading(
                &config,
                Instant::from_nanos(at * 1_000_000),
                4_300,
                delivered,
                RTT,
            );
        }
        assert_eq!(flow.slow(&config), None);
        assert_eq!(flow.baseline(&config), Some(100_000));
    }
}
