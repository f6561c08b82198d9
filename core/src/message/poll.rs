//! When a client polls: a Poisson process, independent of what arrives. Spec: SPEC §5.7.
//!
//! Gaps are exponential, drawn from the given generator with pure-Rust arithmetic, so that they are the same on every
//! platform. A poll that finds nothing, or is answered late, changes nothing about the next one.

use std::time::Duration;

use rand_core::Rng;

/// How a client polls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// The mean of the gaps. Default 60 s: about 1 ms of CPU over all peers a poll. A demonstration uses 1 s.
    pub mean_gap: Duration,
    /// Boxes asked for in one poll, 1 to [`crate::mailbox::MAX_READ`]. Default 12: two for each of six contacts. More find messages sooner; the storage
    /// hop of a poll learns that they belong together.
    pub boxes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mean_gap: Duration::from_secs(60),
            boxes: 12,
        }
    }
}

/// Draws the gaps.
#[derive(Debug)]
pub struct Schedule<R> {
    mean: Duration,
    rng: R,
}

impl<R: Rng> Schedule<R> {
    /// A schedule with gaps of `mean`.
    pub const fn new(mean: Duration, rng: R) -> Self {
        Self { mean, rng }
    }

    /// How long to wait before the next poll: never more than 38 times the mean.
    pub fn next_gap(&mut self) -> Duration {
        // 53 bits, made odd in units of 2^-54, so that neither 0 nor 1 comes out; both steps are exact.
        let odd = (self.rng.next_u64() >> 11) * 2 + 1;
        let uniform = odd as f64 / 18_014_398_509_481_984.0;
        let nanos = -libm::log(uniform) * self.mean.as_nanos() as f64;
        // The cast saturates.
        Duration::from_nanos(nanos as u64)
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha12Rng;
    use rand_core::SeedableRng;

    use super::*;

    fn gaps(n: usize) -> Vec<Duration> {
        let mut schedule = Schedule::new(Duration::from_secs(60), ChaCha12Rng::seed_from_u64(1));
        (0..n).map(|_| schedule.next_gap()).collect()
    }

    #[test]
    fn gaps_are_exponential() {
        let gaps = gaps(20_000);
        let mean = gaps.iter().sum::<Duration>().as_secs_f64() / 20_000.0;
        // Standard error 0.42 s; five of them.
        assert!((57.9..62.1).contains(&mean), "{mean}");
        for (limit, share) in [(6.0, 0.0952), (60.0, 0.6321), (180.0, 0.9502)] {
            let below = gaps.iter().filter(|g| g.as_secs_f64() < limit).count() as f64 / 20_000.0;
            assert!((below - share).abs() < 0.018, "{below} below {limit} s");
        }
    }

    #[test]
    fn gaps_are_the_same_on_every_platform() {
        let nanos: Vec<u128> = gaps(3).iter().map(Duration::as_nanos).collect();
        assert_eq!(nanos, GOLDEN);
    }

    #[test]
    fn the_longest_and_the_shortest_gap_are_finite() {
        struct Fixed(u64);
        impl rand_core::TryRng for Fixed {
            type Error = std::convert::Infallible;
            fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
                Ok(self.0 as u32)
            }
            fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
                Ok(self.0)
            }
            fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Self::Error> {
                out.fill(self.0 as u8);
                Ok(())
            }
        }
        let mean = Duration::from_secs(1);
        let longest = Schedule::new(mean, Fixed(0)).next_gap();
        assert!(longest > 37 * mean && longest < 38 * mean, "{longest:?}");
        assert_eq!(Schedule::new(mean, Fixed(u64::MAX)).next_gap(), Duration::ZERO);
    }

    const GOLDEN: [u128; 3] = [1_565_564_197, 22_156_472_562, 50_921_460_407];
}
