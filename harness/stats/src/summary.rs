//! Location, spread and fairness of one sample.
//!
//! Each function returns `None` for an empty sample and for one that holds a
//! NaN or an infinity.

use crate::{all_finite, floor_to_count};

/// The median: the middle value, or the mean of the two middle ones.
pub fn median(values: &[f64]) -> Option<f64> {
    median_of_sorted(&sorted(values)?)
}

/// The median of the absolute deviations from the median, *not* scaled by
/// 1.4826 to look like a standard deviation.
pub fn median_absolute_deviation(values: &[f64]) -> Option<f64> {
    let center = median(values)?;
    let deviations: Vec<f64> =
        values.iter().map(|value| (value - center).abs()).collect();
    median(&deviations)
}

/// The `q` quantile, `0 <= q <= 1`, by linear interpolation between order
/// statistics: type 7 of Hyndman and Fan (1996), the default of R and NumPy.
///
/// With sorted values `x[0..n]` and `h = (n - 1) q` it is
/// `x[floor h] + (h - floor h) (x[floor h + 1] - x[floor h])`.
pub fn quantile(values: &[f64], q: f64) -> Option<f64> {
    if !(0.0..=1.0).contains(&q) {
        return None;
    }
    let values = sorted(values)?;
    let position = (values.len().checked_sub(1)?) as f64 * q;
    let index = floor_to_count(position);
    let below = *values.get(index)?;
    let Some(above) = values.get(index + 1) else { return Some(below) };
    Some(below + (position - index as f64) * (above - below))
}

/// The arithmetic mean.
pub fn mean(values: &[f64]) -> Option<f64> {
    if values.is_empty() || !all_finite(values) {
        return None;
    }
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    mean.is_finite().then_some(mean)
}

/// The standard deviation of a sample, with the divisor n - 1; `None` below
/// two values.
pub fn standard_deviation(values: &[f64]) -> Option<f64> {
    variance(values).map(f64::sqrt)
}

/// Jain's fairness index (Jain, Chiu and Hawe, 1984) of the shares that
/// parties got: `(sum x)^2 / (n sum x^2)`, from 1/n (one got all) to 1 (all
/// got the same). `None` for a negative share and when nobody got anything.
pub fn jain_fairness(shares: &[f64]) -> Option<f64> {
    if !all_finite(shares) || shares.iter().any(|share| *share < 0.0) {
        return None;
    }
    // The index has no unit; dividing by the largest share first keeps the
    // squares in range.
    let largest = shares.iter().copied().fold(0.0, f64::max);
    if largest == 0.0 {
        return None;
    }
    let scaled = shares.iter().map(|share| share / largest);
    let sum: f64 = scaled.clone().sum();
    let squares: f64 = scaled.map(|share| share * share).sum();
    Some(sum * sum / (shares.len() as f64 * squares))
}

/// The variance of a sample, in two passes: the textbook one-pass formula
/// cancels when the spread is small beside the mean, as it is here.
pub(crate) fn variance(values: &[f64]) -> Option<f64> {
    if values.len() < 2 {
        return None;
    }
    let center = mean(values)?;
    let squares: f64 = values.iter().map(|v| (v - center).powi(2)).sum();
    let variance = squares / (values.len() - 1) as f64;
    variance.is_finite().then_some(variance)
}

pub(crate) fn median_of_sorted(sorted: &[f64]) -> Option<f64> {
    let above = *sorted.get(sorted.len() / 2)?;
    if sorted.len() % 2 == 1 {
        return Some(above);
    }
    // An even length that has an element at its middle is at least 2.
    let below = *sorted.get((sorted.len() / 2).checked_sub(1)?)?;
    Some(below.midpoint(above))
}

fn sorted(values: &[f64]) -> Option<Vec<f64>> {
    if !all_finite(values) {
        return None;
    }
    let mut values = values.to_vec();
    values.sort_unstable_by(f64::total_cmp);
    Some(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_made_of_nothing_or_of_nan() {
        for bad in [&[][..], &[f64::NAN], &[1.0, f64::INFINITY]] {
            assert_eq!(median(bad), None);
            assert_eq!(median_absolute_deviation(bad), None);
            assert_eq!(quantile(bad, 0.5), None);
            assert_eq!(mean(bad), None);
            assert_eq!(standard_deviation(bad), None);
            assert_eq!(jain_fairness(bad), None);
        }
    }

    #[test]
    fn one_value_is_its_own_summary_without_a_spread() {
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median_absolute_deviation(&[3.0]), Some(0.0));
        assert_eq!(quantile(&[3.0], 0.99), Some(3.0));
        assert_eq!(mean(&[3.0]), Some(3.0));
        assert_eq!(standard_deviation(&[3.0]), None);
        assert_eq!(jain_fairness(&[3.0]), Some(1.0));
    }

    #[test]
    fn quantiles_interpolate_and_refuse_what_is_no_share() {
        let values = [4.0, 1.0, 3.0, 2.0];
        assert_eq!(quantile(&values, 0.0), Some(1.0));
        assert_eq!(quantile(&values, 1.0), Some(4.0));
        assert_eq!(quantile(&values, 0.5), median(&values));
        assert_eq!(quantile(&values, 0.25), Some(1.75));
        for q in [-0.1, 1.1, f64::NAN] {
            assert_eq!(quantile(&values, q), None);
        }
    }

    #[test]
    fn fairness_runs_from_one_in_n_to_one() {
        assert_eq!(jain_fairness(&[0.0, 0.0, 8.0, 0.0]), Some(0.25));
        assert_eq!(jain_fairness(&[1e200, 1e200]), Some(1.0));
        assert_eq!(jain_fairness(&[0.0, 0.0]), None);
        assert_eq!(jain_fairness(&[1.0, -1.0]), None);
    }

    #[test]
    fn values_that_overflow_have_no_mean() {
        assert_eq!(mean(&[f64::MAX, f64::MAX]), None);
        assert_eq!(median(&[f64::MAX, f64::MAX]), Some(f64::MAX));
    }
}
