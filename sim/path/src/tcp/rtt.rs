//! The round trip as a sender estimates it, and the retransmission time-out that follows.
//!
//! RFC 6298 with the two refinements of Linux: the deviation is not raised by a round trip that is shorter than expected
//! as much as by one that is longer, and the time-out keeps a distance of at least [`MIN_US`] to the round trip instead of
//! being itself at least so long.

use super::time::{JIFFY_US, jiffies_for_us};

/// Linux's `TCP_RTO_MIN`.
pub(crate) const MIN_US: u32 = 200_000;
/// Linux's `TCP_RTO_MAX`.
pub(crate) const MAX_US: u64 = 120_000_000;
/// Before the first sample: RFC 6298 §2.1.
pub(crate) const INITIAL_US: u64 = 1_000_000;
/// [`MAX_US`] in jiffies: time-outs fit into 16 bits with room for one doubling.
pub(crate) const TIMEOUT_JIFFIES_MAX: u16 = (MAX_US / JIFFY_US) as u16;
const _: () = assert!(2 * MAX_US / JIFFY_US <= u16::MAX as u64);

/// The estimate. All in microseconds; no sample yet is a smoothed round trip of 0.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rtt {
    /// Smoothed round trip, times 8.
    smoothed_x8: u32,
    /// Mean deviation, times 4.
    deviation_x4: u32,
    /// The largest deviation in the current window of data.
    deviation_max: u32,
    /// What the time-out adds to the round trip.
    variance: u32,
    /// The window of data ends when this byte is acknowledged.
    window_ends: u64,
    /// The shortest round trip seen; 0 is none.
    min: u32,
}

impl Rtt {
    /// Smoothed; 0 before the first sample.
    pub(crate) fn smoothed_us(&self) -> u32 {
        self.smoothed_x8 >> 3
    }

    /// The shortest seen. Without any it is endless.
    pub(crate) fn min_us(&self) -> u32 {
        match self.min {
            0 => u32::MAX,
            min => min,
        }
    }

    /// Takes in a round trip, with the sender's oldest unacknowledged byte and its next one.
    pub(crate) fn sample(&mut self, rtt_us: u32, una: u64, next: u64) {
        let rtt_us = rtt_us.max(1);
        self.min = self.min_us().min(rtt_us);
        if self.smoothed_x8 == 0 {
            self.smoothed_x8 = rtt_us.saturating_mul(8);
            self.deviation_x4 = rtt_us.saturating_mul(2);
            self.variance = self.deviation_x4.max(MIN_US);
            self.deviation_max = self.variance;
            self.window_ends = next;
            return;
        }
        let error = i64::from(rtt_us) - i64::from(self.smoothed_x8 >> 3);
        self.smoothed_x8 = (i64::from(self.smoothed_x8) + error).clamp(1, u32::MAX.into()) as u32;
        let mut change = error.abs() - i64::from(self.deviation_x4 >> 2);
        if error < 0 && change > 0 {
            change >>= 3;
        }
        self.deviation_x4 = (i64::from(self.deviation_x4) + change).clamp(0, u32::MAX.into()) as u32;
        if self.deviation_x4 > self.deviation_max {
            self.deviation_max = self.deviation_x4;
            self.variance = self.variance.max(self.deviation_max);
        }
        if una > self.window_ends {
            self.variance -= self.variance.saturating_sub(self.deviation_max) >> 2;
            self.window_ends = next;
            self.deviation_max = MIN_US;
        }
    }

    /// The retransmission time-out without back-off.
    pub(crate) fn timeout_us(&self) -> u64 {
        match self.smoothed_x8 {
            0 => INITIAL_US,
            _ => u64::from(self.smoothed_us() + self.variance).min(MAX_US),
        }
    }

    /// The same as a kernel's timer is set to it; at most [`TIMEOUT_JIFFIES_MAX`].
    pub(crate) fn timeout_jiffies(&self) -> u16 {
        u16::try_from(jiffies_for_us(self.timeout_us())).unwrap_or(TIMEOUT_JIFFIES_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_path_times_out_200_ms_after_its_round_trip() {
        let mut rtt = Rtt::default();
        assert_eq!(rtt.timeout_us(), INITIAL_US);
        for n in 0..200 {
            rtt.sample(50_000, n + 1, n);
        }
        assert_eq!((rtt.smoothed_us(), rtt.timeout_us()), (50_000, 250_000));
    }

    #[test]
    fn a_longer_round_trip_raises_the_time_out_and_a_shorter_one_hardly() {
        let steady = |next| {
            let mut rtt = Rtt::default();
            for n in 0..200 {
                rtt.sample(200_000, n + 1, n);
            }
            rtt.sample(next, 0, 300);
            rtt.timeout_us() - u64::from(rtt.smoothed_us())
        };
        assert!(steady(1_200_000) > steady(200_000) + 40_000);
        assert_eq!(steady(1_000), steady(200_000));
    }
}
