//! Uniform numbers from the caller's generator.

use rand_core::Rng;

/// Uniform from `low` to `high`, both included. The bias of one 64-bit draw is below 2^-50 for the ranges used here.
pub(crate) fn between(low: usize, high: usize, rng: &mut impl Rng) -> usize {
    let span = (high - low) as u128 + 1;
    low + ((u128::from(rng.next_u64()) * span) >> 64) as usize
}

/// Uniform in [0, 1).
pub(crate) fn unit(rng: &mut impl Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}

/// That many random bytes.
pub(crate) fn append(count: usize, to: &mut Vec<u8>, rng: &mut impl Rng) {
    let at = to.len();
    to.resize(at + count, 0);
    rng.fill_bytes(&mut to[at..]);
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    use super::*;

    #[test]
    fn both_ends_of_a_range_are_drawn_and_nothing_outside() {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let mut seen = [false; 4];
        for _ in 0..200 {
            seen[between(3, 6, &mut rng) - 3] = true;
            assert!((0.0..1.0).contains(&unit(&mut rng)));
        }
        assert_eq!(seen, [true; 4]);
        assert_eq!(between(7, 7, &mut rng), 7);
    }
}
