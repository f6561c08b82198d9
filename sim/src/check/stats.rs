//! The statistics of claims: exact binomial (Clopper-Pearson) bounds on proportions, exact bounds on quantiles from order
//! statistics, and three verdicts. Clopper and Pearson, Biometrika 26 (1934); order statistics: David and Nagaraja (2003), §7.1.

use serde::{Deserialize, Serialize};
use statrs::function::beta::checked_beta_reg;

/// CI is red only when a claim is refuted at this level: one false red in a thousand claims that just hold.
pub const ALPHA: f64 = 0.001;

/// What samples say about a claim. Never two: "not enough to tell" is neither.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Finding {
    /// The bound at the claim's confidence is on its good side.
    Proven,
    /// The bound at [`ALPHA`] is on its bad side, or there is nothing to judge by.
    Refuted,
    /// Neither.
    Undecided,
}

/// The regularised incomplete beta function, total on its closed domain.
fn beta(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if x >= 1.0 {
        return 1.0;
    }
    checked_beta_reg(a, b, x).unwrap_or(f64::NAN)
}

/// The `p` quantile of Beta(a, b), by bisection: slower than a series and right to the last bits.
fn beta_quantile(p: f64, a: f64, b: f64) -> f64 {
    let (mut low, mut high) = (0.0_f64, 1.0_f64);
    for _ in 0..100 {
        let middle = f64::midpoint(low, high);
        if beta(a, b, middle) < p {
            low = middle
        } else {
            high = middle
        }
    }
    f64::midpoint(low, high)
}

/// Clopper-Pearson: with probability at least `1 - alpha`, the proportion is at least this.
pub fn lower_bound(successes: u64, n: u64, alpha: f64) -> f64 {
    if successes == 0 {
        0.0
    } else {
        beta_quantile(alpha, successes as f64, (n - successes.min(n) + 1) as f64)
    }
}

/// Clopper-Pearson: with probability at least `1 - alpha`, the proportion is at most this.
pub fn upper_bound(successes: u64, n: u64, alpha: f64) -> f64 {
    if successes >= n {
        1.0
    } else {
        beta_quantile(1.0 - alpha, (successes + 1) as f64, (n - successes) as f64)
    }
}

/// The probability of at most `k` successes in `n` trials of probability `p`.
fn binomial_at_most(k: u64, n: u64, p: f64) -> f64 {
    if k >= n {
        1.0
    } else {
        beta((n - k) as f64, (k + 1) as f64, 1.0 - p)
    }
}

/// Whether a proportion is at least `target`.
pub fn judge_proportion(successes: u64, n: u64, target: f64, confidence: f64) -> Finding {
    if n == 0 || upper_bound(successes, n, ALPHA) < target {
        Finding::Refuted
    } else if lower_bound(successes, n, 1.0 - confidence) >= target {
        Finding::Proven
    } else {
        Finding::Undecided
    }
}

/// With probability at least `1 - alpha`, the `q` quantile is at most this: an order statistic, no assumption on the
/// distribution. Infinite if there are too few samples. `sorted` ascending.
pub fn quantile_upper(sorted: &[f64], q: f64, alpha: f64) -> f64 {
    let n = sorted.len() as u64;
    (1..=n)
        .find(|j| binomial_at_most(j - 1, n, q) >= 1.0 - alpha)
        .map_or(f64::INFINITY, |j| sorted[j as usize - 1])
}

/// With probability at least `1 - alpha`, the `q` quantile is at least this; negatively infinite if there are too few.
pub fn quantile_lower(sorted: &[f64], q: f64, alpha: f64) -> f64 {
    let n = sorted.len() as u64;
    (1..=n)
        .rev()
        .find(|j| 1.0 - binomial_at_most(j - 1, n, q) >= 1.0 - alpha)
        .map_or(f64::NEG_INFINITY, |j| sorted[j as usize - 1])
}

/// Whether the `q` quantile is at most (`at_most`) or at least `bound`.
pub fn judge_quantile(
    samples: &[f64],
    q: f64,
    bound: f64,
    at_most: bool,
    confidence: f64,
    min_runs: u64,
) -> Finding {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (low, high) = (
        quantile_lower(&sorted, q, ALPHA),
        quantile_upper(&sorted, q, ALPHA),
    );
    if sorted.is_empty() || (at_most && low > bound) || (!at_most && high < bound) {
        return Finding::Refuted;
    }
    let alpha = 1.0 - confidence;
    let good = if at_most {
        quantile_upper(&sorted, q, alpha) <= bound
    } else {
        quantile_lower(&sorted, q, alpha) >= bound
    };
    if good && samples.len() as u64 >= min_runs {
        Finding::Proven
    } else {
        Finding::Undecided
    }
}

/// The `q` quantile of samples (nearest rank: always one of them, so that infinite ones stay what they are). Sorts them.
pub fn quantile(samples: &mut [f64], q: f64) -> f64 {
    samples.sort_by(f64::total_cmp);
    let rank = libm::ceil(q * samples.len() as f64) as usize;
    samples
        .get(rank.clamp(1, samples.len().max(1)) - 1)
        .copied()
        .unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-11
    }

    /// Without a failure the bound has a closed form, 1 - alpha^(1/n): here at 95 % and 99 %.
    #[test]
    fn clopper_pearson_agrees_with_the_reference_without_failures() {
        for (n, at95, at99) in [
            (20, 0.139108340668, 0.205671765275),
            (59, 0.049507609888, 0.075085272278),
            (100, 0.029513049607, 0.045007413979),
            (300, 0.009936081944, 0.015233347890),
            (1_000, 0.002991249545, 0.004594582648),
            (10_000, 0.000299528358, 0.000460410997),
        ] {
            assert!(
                near(upper_bound(0, n, 0.05), at95),
                "{n}: {}",
                upper_bound(0, n, 0.05)
            );
            assert!(
                near(upper_bound(0, n, 0.01), at99),
                "{n}: {}",
                upper_bound(0, n, 0.01)
            );
        }
    }

    /// 95 of 100, two-sided 95 %: what R says for binom.test(95, 100).
    #[test]
    fn clopper_pearson_agrees_with_the_reference_with_failures() {
        assert!(
            near(lower_bound(95, 100, 0.025), 0.887165088895),
            "{}",
            lower_bound(95, 100, 0.025)
        );
        assert!(
            near(upper_bound(95, 100, 0.025), 0.983568120818),
            "{}",
            upper_bound(95, 100, 0.025)
        );
    }

    /// The most failures of n with which the lower bound is still 95 %.
    #[test]
    fn the_failures_that_a_proof_of_95_percent_allows_are_those_of_the_table() {
        for (n, allowed) in [
            (59, 0),
            (93, 1),
            (124, 2),
            (200, 4),
            (300, 8),
            (500, 16),
            (1_000, 38),
        ] {
            assert_eq!(
                judge_proportion(n - allowed, n, 0.95, 0.95),
                Finding::Proven,
                "{n}"
            );
            assert_ne!(
                judge_proportion(n - allowed - 1, n, 0.95, 0.95),
                Finding::Proven,
                "{n}"
            );
        }
        assert_eq!(judge_proportion(58, 58, 0.95, 0.95), Finding::Undecided);
    }

    /// Of 300, the fewest failures with which the upper bound at [`ALPHA`] is below 95 %: 29.
    #[test]
    fn the_gate_turns_red_where_the_table_says() {
        assert_eq!(judge_proportion(300 - 28, 300, 0.95, 0.95), Finding::Undecided);
        assert_eq!(judge_proportion(300 - 29, 300, 0.95, 0.95), Finding::Refuted);
        assert_eq!(judge_proportion(0, 0, 0.95, 0.95), Finding::Refuted);
    }

    #[test]
    fn bounds_on_the_median_are_the_known_order_statistics() {
        let sorted: Vec<f64> = (1..=10).map(f64::from).collect();
        // n = 10: P(Bin(10, 1/2) <= 7) = 0.9453, <= 8: 0.9893. So the 95 % upper bound is the ninth value.
        assert_eq!(quantile_upper(&sorted, 0.5, 0.05), 9.0);
        assert_eq!(quantile_lower(&sorted, 0.5, 0.05), 2.0);
        // Four values bound no median at 95 %: 1 - 2^-4 is 93.75 %.
        assert_eq!(quantile_upper(&sorted[..4], 0.5, 0.05), f64::INFINITY);
        assert_eq!(quantile_upper(&sorted[..5], 0.5, 0.05), 5.0);
    }

    #[test]
    fn a_quantile_claim_needs_its_runs_and_is_refuted_only_by_evidence() {
        let fast = vec![2.0; 20];
        assert_eq!(judge_quantile(&fast, 0.5, 5.0, true, 0.95, 10), Finding::Proven);
        assert_eq!(
            judge_quantile(&fast[..8], 0.5, 5.0, true, 0.95, 10),
            Finding::Undecided
        );
        assert_eq!(
            judge_quantile(&[9.0; 20], 0.5, 5.0, true, 0.95, 10),
            Finding::Refuted
        );
        assert_eq!(
            judge_quantile(&[9.0; 3], 0.5, 5.0, true, 0.95, 10),
            Finding::Undecided
        );
        assert_eq!(judge_quantile(&[], 0.5, 5.0, true, 0.95, 10), Finding::Refuted);
        assert_eq!(judge_quantile(&fast, 0.5, 1.0, false, 0.95, 10), Finding::Proven);
        assert_eq!(
            judge_quantile(&[f64::INFINITY; 20], 0.5, 5.0, true, 0.95, 10),
            Finding::Refuted
        );
    }

    #[test]
    fn a_quantile_is_one_of_the_samples() {
        let mut samples = vec![4.0, 1.0, f64::INFINITY, 2.0];
        assert_eq!(quantile(&mut samples, 0.5), 2.0);
        assert_eq!(quantile(&mut samples, 0.99), f64::INFINITY);
        assert_eq!(quantile(&mut samples, 0.0), 1.0);
    }
}
