//! A weighted distribution of small numbers that a seed determines: how long a bridge's bursts are, and how far apart.
//!
//! Every bridge has its own, so that lengths are no fingerprint of obfs4 as a whole; its clients learn the seed and use the
//! same. Between 1 and 100 values are picked, each with a uniform weight, and drawn by Vose's alias method. The numbers are
//! IEEE doubles in the order in which obfs4proxy computes them, so both have the same table to the last bit.
//! Source: `weighted_dist.go` of obfs4proxy 0.0.14, unbiased (its default).

use std::collections::VecDeque;

use rand_core::Rng;
use sha2::{Digest, Sha256};

use crate::drbg::{GoRand, SEED_LEN, Seed};
use crate::frame::FRAME_MAX;
use crate::random;

/// Values that a distribution has at most.
const VALUES_MAX: u32 = 100;
/// The longest delay, in steps of 100 us.
const DELAY_MAX: u16 = 100;
/// The lengths of bursts modulo a segment.
const LENGTH_MAX: u16 = FRAME_MAX as u16;

/// A distribution over some of the numbers from 0 to a maximum.
pub(crate) struct WeightedDist {
    values: Vec<u16>,
    /// How likely each value is itself drawn when its side of the die comes up.
    keep: Vec<f64>,
    /// The value that is drawn instead.
    alias: Vec<usize>,
}

impl WeightedDist {
    /// Lengths of bursts, from 0 to a whole segment.
    pub(crate) fn lengths(seed: &Seed) -> Self {
        Self::new(seed, LENGTH_MAX)
    }

    /// Delays between writes, from 0 to 100 steps of 100 us. Their seed is a hash of the seed of the lengths.
    pub(crate) fn delays(seed: &Seed) -> Self {
        let hash: [u8; 32] = Sha256::digest(seed.as_bytes()).into();
        let mut delays = [0; SEED_LEN];
        delays.copy_from_slice(&hash[..SEED_LEN]);
        Self::new(&Seed::from_bytes(delays), DELAY_MAX)
    }

    fn new(seed: &Seed, max: u16) -> Self {
        let mut rng = GoRand::new(seed);
        let mut values = rng.permutation(max + 1);
        let count = 1 + rng.below(VALUES_MAX.min(u32::from(max) + 1));
        values.truncate(count as usize);
        let weights: Vec<f64> = values.iter().map(|_| rng.unit()).collect();
        let (keep, alias) = vose(&weights);
        Self { values, keep, alias }
    }

    /// Draws a value.
    pub(crate) fn sample(&self, rng: &mut impl Rng) -> u16 {
        let side = random::between(0, self.values.len() - 1, rng);
        let side = if random::unit(rng) <= self.keep[side] {
            side
        } else {
            self.alias[side]
        };
        self.values[side]
    }

    /// The values that can be drawn, and some that cannot when their weight is zero.
    #[cfg(test)]
    pub(crate) fn values(&self) -> &[u16] {
        &self.values
    }

    /// One value only, as one seed in a hundred has.
    #[cfg(test)]
    pub(crate) fn only(value: u16) -> Self {
        Self {
            values: vec![value],
            keep: vec![1.0],
            alias: vec![0],
        }
    }
}

/// The tables of Vose's alias method (<https://www.keithschwarz.com/darts-dice-coins/>).
fn vose(weights: &[f64]) -> (Vec<f64>, Vec<usize>) {
    let sum: f64 = weights.iter().sum();
    let count = weights.len() as f64;
    let mut scaled: Vec<f64> = weights.iter().map(|weight| weight * count / sum).collect();
    let (mut small, mut large): (VecDeque<usize>, VecDeque<usize>) =
        (0..weights.len()).partition(|i| scaled[*i] < 1.0);
    let (mut keep, mut alias) = (vec![1.0; weights.len()], vec![0; weights.len()]);
    while let (Some(low), Some(high)) = (small.front().copied(), large.front().copied()) {
        small.pop_front();
        large.pop_front();
        keep[low] = scaled[low];
        alias[low] = high;
        scaled[high] = (scaled[high] + scaled[low]) - 1.0;
        let list = if scaled[high] < 1.0 {
            &mut small
        } else {
            &mut large
        };
        list.push_back(high);
    }
    (keep, alias)
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    use super::*;

    #[test]
    fn values_are_drawn_as_often_as_their_weights_say() {
        let weights = [0.1, 0.0, 0.7, 0.2, 0.5];
        let (keep, alias) = vose(&weights);
        let dist = WeightedDist {
            values: vec![0, 1, 2, 3, 4],
            keep,
            alias,
        };
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let mut counts = [0; 5];
        let draws = 30_000;
        for _ in 0..draws {
            counts[usize::from(dist.sample(&mut rng))] += 1;
        }
        for (weight, count) in weights.iter().zip(counts) {
            let wanted = weight / 1.5 * f64::from(draws);
            assert!(
                (f64::from(count) - wanted).abs() <= 5.0 * wanted.sqrt(),
                "{counts:?}"
            );
        }
    }

    #[test]
    fn a_seed_gives_one_distribution_and_its_values_are_in_range() {
        let mut rng = ChaCha20Rng::seed_from_u64(2);
        for _ in 0..50 {
            let seed = Seed::from_rng(&mut rng);
            let (lengths, delays) = (WeightedDist::lengths(&seed), WeightedDist::delays(&seed));
            assert_eq!(lengths.values, WeightedDist::lengths(&seed).values);
            assert!((1..=100).contains(&lengths.values.len()) && (1..=100).contains(&delays.values.len()));
            assert!((0..100).all(|_| lengths.sample(&mut rng) <= 1448 && delays.sample(&mut rng) <= 100));
        }
    }

    #[test]
    fn a_single_value_and_weights_of_zero_are_no_trouble() {
        for weights in [&[0.0][..], &[0.3], &[0.0, 0.0]] {
            let (keep, alias) = vose(weights);
            assert!(keep.iter().all(|k| !k.is_nan()) && alias.iter().all(|a| *a < weights.len()));
        }
    }
}
