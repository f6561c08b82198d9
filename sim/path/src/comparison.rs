//! A number that was measured and the same one simulated: how far they differ, and what of that is beyond chance.

use crate::dice::Dice;

/// One number, both ways.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Comparison {
    /// Of all measured repeats.
    pub measured: f64,
    /// See [`interval`].
    pub interval: (f64, f64),
    /// Of all simulated repeats.
    pub simulated: f64,
}

impl Comparison {
    /// Takes `value` of the repeats of both, at least one each.
    pub fn of<T>(measured: &[T], simulated: &[T], value: impl Fn(&[&T]) -> f64) -> Self {
        let all = |of: &[T]| value(&of.iter().collect::<Vec<_>>());
        Self {
            measured: all(measured),
            interval: interval(measured, &value),
            simulated: all(simulated),
        }
    }

    /// Simulated by measured, in per cent more.
    pub fn error(&self) -> f64 {
        if self.simulated == self.measured {
            return 0.0; // Both may be 0.
        }
        100.0 * (self.simulated / self.measured - 1.0)
    }

    /// The same beyond what the measured number is certain of: none within its interval.
    pub fn certain_error(&self) -> f64 {
        let (low, high) = self.interval;
        if self.simulated < low || self.simulated > high || self.simulated.is_nan() {
            self.error()
        } else {
            0.0
        }
    }
}

/// Between what bounds `value` of these lies with 95 % confidence: the bootstrap's percentile interval (Efron 1979).
pub fn interval<T>(of: &[T], value: impl Fn(&[&T]) -> f64) -> (f64, f64) {
    const RESAMPLES: usize = 400;
    let mut dice = Dice::new(1);
    let mut resample = || {
        let drawn: Vec<&T> = (0..of.len())
            .map(|_| &of[dice.below(of.len() as u64) as usize])
            .collect();
        value(&drawn)
    };
    let mut values: Vec<f64> = (0..RESAMPLES).map(|_| resample()).collect();
    values.sort_by(f64::total_cmp);
    (values[RESAMPLES / 40], values[RESAMPLES - 1 - RESAMPLES / 40])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mean(of: &[&f64]) -> f64 {
        of.iter().copied().sum::<f64>() / of.len() as f64
    }

    #[test]
    fn an_error_within_what_chance_explains_is_none() {
        let measured: Vec<f64> = (0..40).map(f64::from).collect();
        let near = Comparison::of(&measured, &[20.0], mean);
        assert_eq!((near.measured, near.simulated), (19.5, 20.0));
        assert!(near.interval.0 < 19.5 && near.interval.1 > 19.5, "{near:?}");
        assert!(near.error() > 2.0);
        assert_eq!(near.certain_error(), 0.0);
        let far = Comparison::of(&measured, &[39.0], mean);
        assert_eq!((far.error(), far.certain_error()), (100.0, 100.0));
    }

    #[test]
    fn equal_numbers_differ_by_nothing_and_what_never_ends_by_more_than_any() {
        assert_eq!(Comparison::of(&[0.0], &[0.0], mean).error(), 0.0);
        assert_eq!(
            Comparison::of(&[1.0], &[f64::INFINITY], mean).certain_error(),
            f64::INFINITY
        );
        assert!(Comparison::of(&[1.0], &[f64::NAN], mean).certain_error().is_nan());
    }
}
