//! Is a trial steady? A robust slope and a test for a jump.
//!
//! The slope is the median of the slopes between all pairs of points: Theil
//! (1950), extended by Sen (1968) to ties in x. Up to 29 % of the points may be
//! wild before it breaks, so a single stalled window does not look like a
//! trend.
//!
//! The jump is looked for with the cumulative sum of deviations from the mean
//! (Page, 1955), which strays furthest from 0 where the level changes. How far
//! it strays by chance is found by shuffling the same values: no distribution
//! is assumed. Shuffling does assume that the windows are exchangeable when
//! nothing changes; windows that follow their neighbours make small p-values
//! commoner than they say, so a flag should ask for a shift that matters too.

use crate::random::SplitMix64;
use crate::{all_finite, summary};

/// Where the level of a series changed, if it did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChangePoint {
    /// The first element after the change, from 1 to n - 1.
    pub index: usize,
    /// The share of shuffles that stray at least as far, the series itself
    /// counted in: `(1 + hits) / (1 + permutations)`, never 0.
    pub p_value: f64,
    /// The mean from `index` on, minus the mean before it.
    pub shift: f64,
}

/// The Theil–Sen slope of `y` over `x`: the median of
/// `(y[j] - y[i]) / (x[j] - x[i])` over all pairs with different x.
///
/// `None` for unequal lengths, values that are not finite, or fewer than two
/// different x.
pub fn slope(x: &[f64], y: &[f64]) -> Option<f64> {
    if x.len() != y.len() || !all_finite(x) || !all_finite(y) {
        return None;
    }
    let mut slopes = Vec::with_capacity(x.len() * x.len() / 2);
    for i in 0..x.len() {
        for j in i + 1..x.len() {
            if x[i] != x[j] {
                slopes.push((y[j] - y[i]) / (x[j] - x[i]));
            }
        }
    }
    summary::median(&slopes)
}

/// The likeliest change of level in `y`, with the p-value of a permutation
/// test of `permutations` shuffles from `seed`.
///
/// Always names an index; whether there *is* a change is for the p-value to
/// say. `None` below two values, for values that are not finite, or without
/// permutations.
pub fn change_point(
    y: &[f64],
    permutations: usize,
    seed: u64,
) -> Option<ChangePoint> {
    if y.len() < 2 || permutations == 0 {
        return None;
    }
    let center = summary::mean(y)?;
    let mut deviations: Vec<f64> = y.iter().map(|y| y - center).collect();
    let (index, farthest) = farthest_sum(&deviations);
    let before = summary::mean(&y[..index])?;
    let after = summary::mean(&y[index..])?;

    // The same values in another order may sum a few ulps lower; such a
    // shuffle is a tie and must count.
    let scale = y.iter().fold(0.0, |max: f64, y| max.max(y.abs()));
    let tie = farthest - 1e-12 * scale * y.len() as f64;
    let mut random = SplitMix64::new(seed);
    let mut hits = 0_usize;
    for _ in 0..permutations {
        random.shuffle(&mut deviations);
        hits += usize::from(farthest_sum(&deviations).1 >= tie);
    }
    Some(ChangePoint {
        index,
        p_value: (hits + 1) as f64 / (permutations as f64 + 1.0),
        shift: after - before,
    })
}

/// The prefix, at least 1 long and not the whole, whose sum is farthest from
/// 0, with that distance. Needs two deviations.
fn farthest_sum(deviations: &[f64]) -> (usize, f64) {
    let mut sum = 0.0;
    let mut farthest = (1, 0.0);
    for (index, deviation) in deviations.iter().enumerate() {
        if f64::abs(sum) > farthest.1 {
            farthest = (index, f64::abs(sum));
        }
        sum += deviation;
    }
    farthest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_stalled_window_is_no_trend() {
        let x: Vec<f64> = (0..20).map(f64::from).collect();
        let mut y: Vec<f64> = x.iter().map(|x| 100.0 - 0.5 * x).collect();
        y[19] = 0.0;
        assert_eq!(slope(&x, &y), Some(-0.5));
    }

    #[test]
    fn a_slope_needs_two_different_places() {
        assert_eq!(slope(&[], &[]), None);
        assert_eq!(slope(&[1.0], &[1.0]), None);
        assert_eq!(slope(&[1.0, 1.0], &[1.0, 2.0]), None);
        assert_eq!(slope(&[1.0, 2.0], &[1.0]), None);
        assert_eq!(slope(&[1.0, 2.0], &[1.0, f64::NAN]), None);
        assert_eq!(slope(&[1.0, f64::INFINITY], &[1.0, 2.0]), None);
        assert_eq!(slope(&[1.0, 1.0, 2.0], &[1.0, 3.0, 4.0]), Some(2.0));
    }

    #[test]
    fn a_jump_is_found_where_it_is() {
        let mut y = [10.0, 10.1, 9.9, 10.0, 10.1, 9.9, 10.0, 10.1].to_vec();
        y.extend(y.clone().iter().map(|y| y + 1.0));
        let change = change_point(&y, 999, 1).expect("two levels");
        assert_eq!(change.index, 8);
        assert!((change.shift - 1.0).abs() < 1e-12);
        // Of the 12,870 ways to choose 8 places of 16, two stray as far.
        assert!(change.p_value <= 0.005, "{change:?}");
        assert_eq!(change_point(&y, 999, 1), Some(change));
    }

    #[test]
    fn a_flat_line_has_no_jump() {
        let flat = change_point(&[0.1; 30], 99, 5).expect("30 values");
        assert_eq!(flat.p_value, 1.0);
        assert!(flat.shift.abs() < 1e-15);
    }

    #[test]
    fn two_values_cannot_show_a_jump() {
        let change = change_point(&[1.0, 2.0], 199, 5).expect("two values");
        assert_eq!((change.index, change.p_value), (1, 1.0));
    }

    #[test]
    fn a_jump_needs_finite_values_and_shuffles() {
        assert_eq!(change_point(&[], 99, 1), None);
        assert_eq!(change_point(&[1.0], 99, 1), None);
        assert_eq!(change_point(&[1.0, f64::NAN, 2.0], 99, 1), None);
        assert_eq!(change_point(&[1.0, 2.0], 0, 1), None);
    }

    #[test]
    fn shuffles_claim_a_jump_as_often_as_they_say() {
        let mut random = SplitMix64::new(2024);
        let mut claims = 0;
        for repetition in 0..1_000 {
            let y: Vec<f64> =
                (0..12).map(|_| (random.next_u64() >> 40) as f64).collect();
            let change = change_point(&y, 99, repetition).expect("12 values");
            claims += usize::from(change.p_value <= 0.05);
        }
        // 5 % of 1,000, give or take three standard deviations of 6.9.
        assert!((30..=70).contains(&claims), "{claims}");
    }
}
