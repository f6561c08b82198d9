//! How much longer than the distance a packet takes: drawn anew for each, in integers, the same on every platform.

use std::sync::Arc;
use std::time::Duration;

use super::network::nanos;

/// Quantiles of an exponential distribution that are tabled; the tail beyond the last is the distribution again.
const QUANTILES: usize = 256;
/// The most tails in a row: no draw is above 50 times the mean.
const TAILS_MAX: usize = 8;

/// A distribution of extra delays.
#[derive(Clone, Debug, Default)]
pub struct Jitter(Kind);

#[derive(Clone, Debug, Default)]
enum Kind {
    #[default]
    None,
    /// From the first on, this much wide.
    Uniform(u64, u64),
    /// The nth is what a share of n / [`QUANTILES`] of all draws is below.
    Exponential(Arc<[u64; QUANTILES]>),
}

impl Jitter {
    /// Always the same.
    pub fn fixed(delay: Duration) -> Self {
        Self::uniform(delay, delay)
    }

    /// Uniform between the two, both included.
    pub fn uniform(low: Duration, high: Duration) -> Self {
        let (low, high) = (nanos(low), nanos(high));
        Self(match (low, high.saturating_sub(low)) {
            (0, 0) => Kind::None,
            (low, width) => Kind::Uniform(low, width),
        })
    }

    /// Exponential.
    pub fn exponential(mean: Duration) -> Self {
        let mean = nanos(mean);
        if mean == 0 {
            return Self::default();
        }
        let mut quantiles = [0; QUANTILES];
        for (n, quantile) in quantiles.iter_mut().enumerate() {
            let above = 1.0 - n as f64 / QUANTILES as f64;
            *quantile = (-libm::log(above) * mean as f64) as u64;
        }
        Self(Kind::Exponential(Arc::new(quantiles)))
    }

    /// A draw in nanoseconds; `random` gives 64 uniformly random bits each time.
    pub(crate) fn draw(&self, mut random: impl FnMut() -> u64) -> u64 {
        let part = |width: u64, bits: u64| ((u128::from(width) * u128::from(bits)) >> 64) as u64;
        match &self.0 {
            Kind::None => 0,
            Kind::Uniform(low, 0) => *low,
            Kind::Uniform(low, width) => low + part(width.saturating_add(1), random()),
            Kind::Exponential(quantiles) => {
                let mut tail = 0_u64;
                for _ in 0..TAILS_MAX {
                    let bits = random();
                    let n = (bits >> 56) as usize;
                    let low = quantiles[n];
                    if let Some(high) = quantiles.get(n + 1) {
                        return tail.saturating_add(low + part(high - low, bits << 8));
                    }
                    tail = tail.saturating_add(low);
                }
                tail
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::record::mix;

    fn draws(jitter: &Jitter, n: u64) -> Vec<u64> {
        let mut state = 0;
        let mut random = || {
            state += 1;
            mix(1, state)
        };
        (0..n).map(|_| jitter.draw(&mut random)).collect()
    }

    #[test]
    fn an_exponential_has_its_mean_its_median_and_its_tail() {
        let mut drawn = draws(&Jitter::exponential(Duration::from_millis(3)), 1_000_000);
        drawn.sort_unstable();
        let mean = drawn.iter().sum::<u64>() / drawn.len() as u64;
        let share = |above_ms: u64| drawn.iter().filter(|ns| **ns > above_ms * 1_000_000).count();
        assert!((2_985_000..3_020_000).contains(&mean), "{mean}");
        // ln 2, e^-1, e^-7: the last lies in the tail beyond the table.
        assert!(
            (2_070_000..2_090_000).contains(&drawn[500_000]),
            "{}",
            drawn[500_000]
        );
        assert!((366_000..370_000).contains(&share(3)), "{}", share(3));
        assert!((820..1_010).contains(&share(21)), "{}", share(21));
    }

    #[test]
    fn a_uniform_stays_in_its_bounds_and_a_fixed_one_is_fixed() {
        let ms = Duration::from_millis;
        let drawn = draws(&Jitter::uniform(ms(1), ms(3)), 10_000);
        let (low, high) = (drawn.iter().min().unwrap(), drawn.iter().max().unwrap());
        assert!((1_000_000..1_010_000).contains(low) && (2_990_000..=3_000_000).contains(high));
        assert!(draws(&Jitter::fixed(ms(2)), 10).iter().all(|ns| *ns == 2_000_000));
        let never = || unreachable!("no randomness for no jitter");
        for none in [
            Jitter::default(),
            Jitter::fixed(ms(0)),
            Jitter::exponential(ms(0)),
        ] {
            assert_eq!(none.draw(never), 0);
        }
    }
}
