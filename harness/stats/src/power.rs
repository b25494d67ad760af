//! What a row could have shown, and how many blocks would decide it.
//!
//! Both are normal-theory rules of thumb about the *next* run, taken from the
//! width of this one (Lehmann, *Nonparametrics*, chapter 4, compares the power
//! of signed ranks with that of t). They are printed, and no verdict depends on
//! them.

/// `(1.960 + 0.842) / 1.960`, see [`minimum_detectable_effect`].
const MDE_PER_HALF_WIDTH: f64 = 1.43;

/// The 90 % half-width over the 95 % one: `1.645 / 1.960`.
const HALF_WIDTH_90_PER_95: f64 = 1.645 / 1.960;

/// The smallest true effect that a two-sided test at 5 % finds in 80 % of
/// runs as noisy as this one.
///
/// The 95 % half-width is 1.960 standard errors. To be found in 80 % of runs,
/// an effect must lie 0.842 standard errors (the 80 % point of the normal
/// distribution) beyond the 1.960 at which it would be found in half of them:
/// `(1.960 + 0.842) / 1.960 = 1.43` half-widths.
pub fn minimum_detectable_effect(half_width_95: f64) -> f64 {
    MDE_PER_HALF_WIDTH * half_width_95
}

/// About how many blocks would decide a row that `n` blocks left undecided,
/// if the estimate stays where it is and the half-width shrinks as 1/sqrt(n).
///
/// All three of `estimate`, `half_width_95` and `practical` are on one scale:
/// for log ratios the practical threshold is ln(1.02).
///
/// - An estimate of at least `practical` is decided when the 95 % interval
///   excludes 0: `n (half-width / |estimate|)^2`.
/// - A smaller one is decided when the 90 % interval lies within the
///   threshold: `n (half-width_90 / (practical - |estimate|))^2`.
///
/// It is an even bet, not a promise: the next estimate falls on either side of
/// this one. At least n + 1, as n did not decide. `None` for no blocks, for
/// arguments that are not finite or negative, and when no number of blocks a
/// run could have (below 2^32) is enough.
pub fn blocks_needed(
    n: usize,
    estimate: f64,
    half_width_95: f64,
    practical: f64,
) -> Option<usize> {
    let size = estimate.abs();
    let usable = [size, half_width_95, practical]
        .iter()
        .all(|value| value.is_finite() && *value >= 0.0);
    if n == 0 || !usable {
        return None;
    }
    let shrink_to = if size >= practical {
        size / half_width_95
    } else {
        (practical - size) / (HALF_WIDTH_90_PER_95 * half_width_95)
    };
    let blocks = (n as f64 / (shrink_to * shrink_to)).ceil();
    // A half-width of 0 may give NaN (0 / 0): nothing varies, nothing decides.
    (blocks < f64::from(u32::MAX))
        .then(|| crate::floor_to_count(blocks).max(n + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_effect_is_a_multiple_of_the_half_width() {
        assert_eq!(minimum_detectable_effect(0.02), 0.0286);
        let derived = (1.960 + 0.842) / 1.960;
        assert!((derived - MDE_PER_HALF_WIDTH).abs() < 0.001);
    }

    #[test]
    fn a_large_estimate_needs_an_interval_without_zero() {
        // Half-width 3 % at 10 blocks, 2.5 % seen: 10 (3 / 2.5)^2 = 14.4.
        assert_eq!(blocks_needed(10, -0.025, 0.03, 0.02), Some(15));
        assert_eq!(blocks_needed(10, 0.02, 0.03, 0.02), Some(23));
    }

    #[test]
    fn a_small_estimate_needs_an_interval_within_the_threshold() {
        // 90 % half-width 2.518 %, room 1.5 %: 10 (2.518 / 1.5)^2 = 28.2.
        assert_eq!(blocks_needed(10, 0.005, 0.03, 0.02), Some(29));
    }

    #[test]
    fn at_least_one_more_block() {
        assert_eq!(blocks_needed(10, 0.5, 0.01, 0.02), Some(11));
        assert_eq!(blocks_needed(10, 0.0, 0.0, 0.02), Some(11));
    }

    #[test]
    fn some_rows_are_never_decided() {
        assert_eq!(blocks_needed(0, 0.1, 0.03, 0.02), None);
        assert_eq!(blocks_needed(10, 0.0, 0.03, 0.0), None);
        assert_eq!(blocks_needed(10, 0.0, 0.0, 0.0), None);
        assert_eq!(blocks_needed(10, 0.02 - 1e-15, 0.03, 0.02), None);
        for bad in [f64::NAN, f64::INFINITY] {
            assert_eq!(blocks_needed(10, bad, 0.03, 0.02), None);
            assert_eq!(blocks_needed(10, 0.01, bad, 0.02), None);
            assert_eq!(blocks_needed(10, 0.01, 0.03, bad), None);
        }
        assert_eq!(blocks_needed(10, 0.01, -0.03, 0.02), None);
    }
}
