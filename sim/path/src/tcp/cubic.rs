//! CUBIC, RFC 9438, in the integer arithmetic that Linux does it in, with HyStart.
//!
//! Whole segments, jiffies and shifts: at windows of five to twenty segments, which is where a lossy path keeps a sender,
//! rounding decides more than the curve does.

use super::time::{HZ, JIFFY_US, jiffies};

/// The window after a loss: 717 / 1024 = 0.7 (RFC 9438 §4.6).
const BETA: u64 = 717;
const SCALE: u64 = 1_024;
/// C of RFC 9438 §5, in units of 1/1024 segment and a clock of 1024 Hz: 410 / 1024 = 0.4.
const C_SCALED: u64 = 410;
/// The curve's clock ticks 2^10 times in a second.
const CLOCK_BITS: u32 = 10;
/// HyStart is silent below so many segments.
const HYSTART_WINDOW_MIN: u32 = 16;
const HYSTART_SAMPLES: u8 = 8;
/// Acknowledgements that are not further apart belong to one train.
const HYSTART_SPACING_US: u32 = 2_000;
/// Linux waits a millisecond longer for trains that receive offload may have delayed.
const HYSTART_OFFLOAD_US: u64 = 1_000;
const HYSTART_RISE_US: (u64, u64) = (4_000, 16_000);

/// The state of the curve and of HyStart. Default: at the start of a connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cubic {
    /// The shortest round trip since the last time-out, in microseconds; 0: unknown.
    delay_min_us: u32,
    hystart: HyStart,
    /// Made when slow start ends, which most connections do not see; `None`: as by default.
    curve: Option<Box<Curve>>,
}

/// The curve, and Reno's window beside it.
#[derive(Clone, Debug, Default)]
struct Curve {
    /// The window before the last loss, less if it had not come back to the one before (§4.7, fast convergence).
    window_max: u32,
    /// Where the curve is flat.
    plateau: u32,
    /// How long the curve takes to its plateau, in its own clock.
    k: u32,
    /// The window at the last calculation, and its jiffy.
    window_last: u32,
    calculated_at: u32,
    /// Since when it grows, in jiffies plus one; 0: not yet.
    epoch: u32,
    /// One segment more for each so many that are acknowledged.
    per_segment: u32,
    /// The window that Reno would have (§4.3), and the segments acknowledged towards its next.
    reno_window: u32,
    reno_acked: u32,
}

/// Finds the end of slow start before the queue overflows (Ha and Rhee 2011).
#[derive(Clone, Debug, Default)]
struct HyStart {
    found: bool,
    samples: u8,
    delay_us: u32,
    /// In microseconds; they wrap.
    round_began_us: u32,
    last_ack_us: u32,
    round_ends: u64,
}

impl Cubic {
    /// A time-out forgets everything.
    pub(crate) fn timeout(&mut self, now_us: u64, next: u64) {
        *self = Self::default();
        self.hystart.begin(now_us, next);
    }

    /// The sender begins, at this byte.
    pub(crate) fn begin(&mut self, now_us: u64, next: u64) {
        self.hystart.begin(now_us, next);
    }

    /// Nothing was sent since then: the curve did not go on meanwhile.
    pub(crate) fn idle(&mut self, now_ns: u64, since_ns: u64) {
        if let Some(curve) = &mut self.curve
            && curve.epoch != 0
        {
            let now = jiffies(now_ns) as u32;
            let epoch = curve.epoch.saturating_add(now - jiffies(since_ns) as u32);
            curve.epoch = epoch.min(now + 1);
        }
    }

    /// The threshold after a loss, in segments.
    pub(crate) fn threshold(&mut self, window: u32) -> u32 {
        let curve = self.curve.get_or_insert_default();
        curve.epoch = 0;
        curve.window_max = if window < curve.window_max {
            (u64::from(window) * (SCALE + BETA) / (2 * SCALE)) as u32
        } else {
            window
        };
        ((u64::from(window) * BETA / SCALE) as u32).max(2)
    }

    /// A round trip was measured. `true`: slow start is to end.
    pub(crate) fn measured(
        &mut self,
        now_us: u64,
        rtt_us: u32,
        window: u32,
        slow_start: bool,
        una: u64,
        next: u64,
    ) -> bool {
        let now = now_us / JIFFY_US;
        // Right after a recovery round trips say little.
        let epoch = self.curve.as_ref().map_or(0, |curve| curve.epoch);
        if epoch != 0 && now + 1 - u64::from(epoch) < HZ {
            return false;
        }
        let rtt_us = rtt_us.max(1);
        if self.delay_min_us == 0 || self.delay_min_us > rtt_us {
            self.delay_min_us = rtt_us;
        }
        if self.hystart.found || !slow_start {
            return false;
        }
        if una > self.hystart.round_ends {
            self.hystart.begin(now_us, next);
        }
        window >= HYSTART_WINDOW_MIN && self.hystart.sample(now_us, rtt_us, self.delay_min_us.into())
    }

    /// After how many more acknowledged segments the window grows by one: `acked` segments were acknowledged just now.
    pub(crate) fn acked(&mut self, now_ns: u64, window: u32, acked: u32) -> u32 {
        let delay_min_us = self.delay_min_us;
        self.curve
            .get_or_insert_default()
            .acked(now_ns, window, acked, delay_min_us)
    }

    #[cfg(test)]
    pub(crate) fn holds_curve(&self) -> bool {
        self.curve.is_some()
    }
}

impl Curve {
    fn acked(&mut self, now_ns: u64, window: u32, acked: u32, delay_min_us: u32) -> u32 {
        let now = jiffies(now_ns) as u32;
        self.reno_acked = self.reno_acked.saturating_add(acked);
        if self.window_last == window && now.wrapping_sub(self.calculated_at) <= (HZ / 32) as u32 {
            return self.per_segment;
        }
        if self.epoch == 0 || now != self.calculated_at {
            self.calculate(now, window, acked, delay_min_us);
        }
        self.keep_up_with_reno(window);
        self.per_segment = self.per_segment.max(2);
        self.per_segment
    }

    fn calculate(&mut self, now: u32, window: u32, acked: u32, delay_min_us: u32) {
        (self.window_last, self.calculated_at) = (window, now);
        if self.epoch == 0 {
            self.epoch = now + 1;
            self.reno_acked = acked;
            self.reno_window = window;
            self.plateau = self.window_max.max(window);
            let behind = u64::from(self.plateau - window);
            self.k = cube_root((behind << (10 + 3 * CLOCK_BITS)) / C_SCALED);
        }
        let since = u64::from(now + 1 - self.epoch) + u64::from(delay_min_us).div_ceil(JIFFY_US);
        let t = (since << CLOCK_BITS) / HZ;
        let offset = t.abs_diff(self.k.into());
        let cube = (u128::from(C_SCALED) * u128::from(offset).pow(3)) >> (10 + 3 * CLOCK_BITS);
        let cube = cube.min(u128::from(u32::MAX)) as u32;
        let target = if t < self.k.into() {
            self.plateau.saturating_sub(cube)
        } else {
            self.plateau.saturating_add(cube)
        };
        self.per_segment = if target > window {
            window / (target - window)
        } else {
            window.saturating_mul(100)
        };
        // Before the first loss nothing is known of the capacity: 5 % in a round trip at least.
        if self.window_max == 0 {
            self.per_segment = self.per_segment.min(20);
        }
    }

    /// §4.3: not slower than Reno, which with this reduction gains 3 (1 - beta) / (1 + beta) segments in a round trip.
    fn keep_up_with_reno(&mut self, window: u32) {
        const GAIN_INVERSE_X8: u64 = 8 * (SCALE + BETA) / 3 / (SCALE - BETA);
        let acks = ((u64::from(window) * GAIN_INVERSE_X8) >> 3).max(1) as u32;
        while self.reno_acked > acks {
            self.reno_acked -= acks;
            self.reno_window += 1;
        }
        if self.reno_window > window {
            self.per_segment = self.per_segment.min(window / (self.reno_window - window));
        }
    }
}

impl HyStart {
    fn begin(&mut self, now_us: u64, next: u64) {
        (self.round_began_us, self.last_ack_us) = (now_us as u32, now_us as u32);
        self.round_ends = next;
        self.delay_us = u32::MAX;
        self.samples = 0;
    }

    /// `true`: the queue begins to fill, by the length of the train of acknowledgements or by the delay of the first of a round.
    fn sample(&mut self, now_us: u64, rtt_us: u32, delay_min_us: u64) -> bool {
        let now = now_us as u32;
        if now.wrapping_sub(self.last_ack_us) <= HYSTART_SPACING_US {
            self.last_ack_us = now;
            let round_us = u64::from(now.wrapping_sub(self.round_began_us));
            self.found |= round_us > (delay_min_us + HYSTART_OFFLOAD_US) / 2;
        }
        self.delay_us = self.delay_us.min(rtt_us);
        if self.samples < HYSTART_SAMPLES {
            self.samples += 1;
        } else {
            let rise = (delay_min_us / 8).clamp(HYSTART_RISE_US.0, HYSTART_RISE_US.1);
            self.found |= u64::from(self.delay_us) > delay_min_us + rise;
        }
        self.found
    }
}

/// The cube root, rounded down.
fn cube_root(of: u64) -> u32 {
    let (mut low, mut high) = (0_u64, 2_642_246_u64);
    while low + 1 < high {
        let middle = low.midpoint(high);
        if middle.pow(3) <= of {
            low = middle
        } else {
            high = middle
        }
    }
    low as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cube_roots_are_exact() {
        for n in [0, 1, 2, 100, 12_345, 2_642_245_u64] {
            assert_eq!(u64::from(cube_root(n.pow(3))), n);
            if n > 1 {
                assert_eq!(u64::from(cube_root(n.pow(3) - 1)), n - 1);
            }
        }
        assert_eq!(cube_root(u64::MAX), 2_642_245);
    }

    /// RFC 9438 §4.2: the curve is back at the window before the loss after K = cbrt(W_max (1 - beta) / C) seconds.
    #[test]
    fn the_window_is_back_after_k_seconds() {
        let mut cubic = Cubic::default();
        let lost_at: u32 = 1_000;
        let mut window = cubic.threshold(lost_at);
        assert_eq!(window, 700);
        let (rtt_us, mut towards, mut seconds) = (100_000, 0, 0.0);
        cubic.measured(0, rtt_us, window, false, 0, 0);
        while window < lost_at {
            seconds += f64::from(rtt_us) / 1e6;
            let flight = window;
            for n in 0..flight {
                let ns = (seconds * 1e9) as u64 + u64::from(n) * 100_000;
                let per_segment = cubic.acked(ns, window, 1);
                towards += 1;
                if towards >= per_segment {
                    (window, towards) = (window + 1, 0);
                }
            }
        }
        // In whole segments the curve is flat from a segment below on: 1.36 s earlier.
        let k = f64::cbrt(300.0 / 0.4) - f64::cbrt(1.0 / 0.4);
        assert!((seconds - k).abs() < 0.2, "{seconds} s, wanted {k}");
    }
}
