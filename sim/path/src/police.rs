//! A policer: a token bucket that drops what exceeds it, and delays nothing (RFC 2697 with one colour).

/// A bucket.
#[derive(Clone, Debug)]
pub struct Policer {
    bits_per_second: u64,
    burst_bytes: u64,
    /// Tokens in units of a bit times a nanosecond of the rate: exact for any rate.
    tokens: u128,
    filled_ns: u64,
}

const UNIT: u128 = 8_000_000_000;

impl Policer {
    /// A full bucket.
    pub fn new(bits_per_second: u64, burst_bytes: u64) -> Self {
        Self {
            bits_per_second,
            burst_bytes,
            tokens: u128::from(burst_bytes) * UNIT,
            filled_ns: 0,
        }
    }

    /// Whether a packet of this size passes.
    pub fn passes(&mut self, now_ns: u64, bytes: u32) -> bool {
        let full = u128::from(self.burst_bytes) * UNIT;
        let gained = u128::from(now_ns.saturating_sub(self.filled_ns)) * u128::from(self.bits_per_second);
        self.tokens = (self.tokens + gained).min(full);
        self.filled_ns = self.filled_ns.max(now_ns);
        let price = u128::from(bytes) * UNIT;
        let passes = self.tokens >= price;
        if passes {
            self.tokens -= price;
        }
        passes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_lets_through_its_burst_and_then_its_rate() {
        let mut policer = Policer::new(128_000, 16_384);
        let burst = (0..100).filter(|_| policer.passes(0, 1_500)).count();
        assert_eq!(burst, 10);
        // 100 packets a second of 1,500 bytes are 1.2 Mbit/s: 128 kbit/s let through 10.7 of them.
        let passed = (1..=6_000_u64)
            .filter(|n| policer.passes(n * 10_000_000, 1_500))
            .count();
        assert!((639..=641).contains(&passed), "{passed}");
    }
}
