//! Estimate, exact interval and exact p-value of paired differences.
//!
//! Wilcoxon's signed-rank test (1945) turned into an estimator by Hodges and
//! Lehmann (1963) and into an interval by Tukey; the formulas are those of
//! Hollander, Wolfe and Chicken, *Nonparametric Statistical Methods*, sections
//! 3.1 to 3.3. All three results come from the *Walsh averages*, the means of
//! each pair of differences (each with itself as well), of which n differences
//! have M = n(n+1)/2.
//!
//! The method assumes that the differences are independent between pairs and
//! spread evenly about their centre; no shape is assumed. The trials of a block
//! in random order make it so even while the machine drifts. No resampling and
//! no normal approximation is involved, so the level holds at the 6 to 30 pairs
//! that a run has, where a percentile bootstrap covers too little.
//!
//! **Invariant:** [`p_value`] is `<= 1 - confidence` exactly when [`interval`]
//! at that `confidence` excludes 0, with ties and zeros too, because both look
//! up the same counts in the same table.

use crate::summary::median_of_sorted;
use crate::{Interval, all_finite, floor_to_count};

/// The Hodges–Lehmann estimate: the median of the Walsh averages. `None` for
/// no differences and for any that is not finite.
pub fn hodges_lehmann(differences: &[f64]) -> Option<f64> {
    median_of_sorted(&walsh_averages(differences)?)
}

/// The exact interval from the Walsh averages `w(1) <= ... <= w(M)`:
/// `[w(k), w(M + 1 - k)]` with the largest k for which
/// `2 P(W <= k - 1) <= 1 - confidence`.
///
/// `None` when the differences are too few for the level (5 for 90 %, 6 for
/// 95 %, 9 for 99.5 %), when one is not finite, or when `confidence` is not
/// between 0 and 1.
pub fn interval(differences: &[f64], confidence: f64) -> Option<Interval> {
    if !(confidence > 0.0 && confidence < 1.0) {
        return None;
    }
    let walsh = walsh_averages(differences)?;
    let cumulative = null_lower_half(differences.len());
    let alpha = 1.0 - confidence;
    let k = cumulative.partition_point(|share| 2.0 * share <= alpha);
    // k = 0 means that even the widest interval, from the smallest to the
    // largest difference, misses more often than allowed.
    let outside = k.checked_sub(1)?;
    Some(Interval {
        estimate: median_of_sorted(&walsh)?,
        low: *walsh.get(outside)?,
        high: *walsh.get(walsh.len().checked_sub(k)?)?,
        level: 1.0 - 2.0 * cumulative.get(outside)?,
    })
}

/// The two-sided exact p-value of "the centre is 0":
/// `min(1, 2 P(W <= min(#{w <= 0}, #{w >= 0})))` over the Walsh averages w.
///
/// Without ties and zeros this is the usual exact test. With them a Walsh
/// average of 0 counts against the finding on both sides, which errs towards
/// saying nothing; dropping zeros, as many programs do, would let p disagree
/// with the interval.
pub fn p_value(differences: &[f64]) -> Option<f64> {
    let walsh = walsh_averages(differences)?;
    if walsh.is_empty() {
        return None;
    }
    let not_above = walsh.partition_point(|average| *average <= 0.0);
    let below = walsh.partition_point(|average| *average < 0.0);
    let smaller = not_above.min(walsh.len() - below);
    // Counts past the middle of the symmetric distribution have P >= 1/2.
    let share = null_lower_half(differences.len()).get(smaller).copied();
    Some(share.map_or(1.0, |share| (2.0 * share).min(1.0)))
}

/// How many rows a Holm family may have so that `n` pairs can still reject
/// one: `floor(alpha 2^(n-1))`, since the smallest p-value is `2 / 2^n` and
/// the first of m rows is tested at `alpha / m`.
pub fn max_family_rows(n: usize, alpha: f64) -> usize {
    let Some(exponent) = n.checked_sub(1) else { return 0 };
    let exponent = i32::try_from(exponent).unwrap_or(i32::MAX);
    floor_to_count(alpha * 2_f64.powi(exponent))
}

/// The means of all pairs i <= j, sorted. `None` if any value is not finite.
fn walsh_averages(differences: &[f64]) -> Option<Vec<f64>> {
    if !all_finite(differences) {
        return None;
    }
    let n = differences.len();
    let mut averages = Vec::with_capacity(n * (n + 1) / 2);
    for (i, first) in differences.iter().enumerate() {
        averages.extend(differences[i..].iter().map(|d| first.midpoint(*d)));
    }
    averages.sort_unstable_by(f64::total_cmp);
    Some(averages)
}

/// `P(W <= s)` for s from 0 to floor(M/2), where W is the sum of those ranks
/// 1..=n that a fair coin picks. The other half follows by symmetry and is
/// never needed.
///
/// Rank by rank, `P'(W = s) = (P(W = s) + P(W = s - rank)) / 2`. Each step is
/// exact in f64 up to n = 52; beyond that the error stays near 1e-16 of each
/// share, as only positive numbers are added. Work and memory grow as n^3 and
/// n^2: 7 million steps at n = 300.
fn null_lower_half(n: usize) -> Vec<f64> {
    let half = n * (n + 1) / 4;
    let mut share = vec![0.0; half + 1];
    share[0] = 1.0;
    for rank in 1..=n {
        // Sums beyond those of the ranks so far are still 0.
        let largest = half.min(rank * (rank + 1) / 2);
        for sum in (rank..=largest).rev() {
            share[sum] = 0.5 * (share[sum] + share[sum - rank]);
        }
        for value in share.iter_mut().take(rank) {
            *value *= 0.5;
        }
    }
    let mut total = 0.0;
    for value in &mut share {
        total += *value;
        *value = total;
    }
    share
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SplitMix64;

    /// P(W <= s) by writing out all 2^n sets of ranks.
    fn enumerated(n: u32) -> Vec<f64> {
        let half = (n * (n + 1) / 4) as usize;
        let mut counts = vec![0_u32; half + 1];
        for set in 0..1_u32 << n {
            let sum: u32 = (1..=n).filter(|r| set >> (r - 1) & 1 == 1).sum();
            for count in counts.iter_mut().skip(sum as usize) {
                *count += 1;
            }
        }
        counts.iter().map(|c| f64::from(*c) / f64::from(1 << n)).collect()
    }

    /// Whole numbers from -3 to 6: few enough for many ties and zeros.
    fn tied_differences(n: usize, random: &mut SplitMix64) -> Vec<f64> {
        (0..n).map(|_| random.below(10) as f64 - 3.0).collect()
    }

    #[test]
    fn the_null_distribution_is_that_of_all_sets_of_ranks() {
        for n in 0..=12_u32 {
            assert_eq!(null_lower_half(n as usize), enumerated(n), "n = {n}");
        }
    }

    #[test]
    fn the_null_distribution_of_hundreds_adds_up_to_one() {
        // 301 ranks add up to an odd number, so the lower half holds 1/2.
        let half = *null_lower_half(301).last().expect("never empty");
        assert!((half - 0.5).abs() < 1e-13, "{half}");
    }

    #[test]
    fn hundreds_of_differences_are_fine() {
        let mut random = SplitMix64::new(3);
        let d: Vec<f64> =
            (0..300).map(|_| random.below(1_000) as f64 - 480.0).collect();
        let interval = interval(&d, 0.95).expect("300 differences");
        assert!((interval.level - 0.95).abs() < 1e-4, "{interval:?}");
        assert!(interval.low < interval.estimate);
        assert!(interval.estimate < interval.high);
    }

    #[test]
    fn levels_achieved_are_the_tabulated_ones() {
        // Hollander and Wolfe, table A.4, as confidence levels.
        for (n, k, level) in
            [(6, 1, 0.968_75), (10, 9, 0.951_171_875), (12, 14, 0.957_519_531)]
        {
            let d: Vec<f64> = (1..=n).map(|i| f64::from(i * i)).collect();
            let interval = interval(&d, 0.95).expect("six or more");
            assert!((interval.level - level).abs() < 1e-9, "{interval:?}");
            let walsh = walsh_averages(&d).expect("finite");
            assert_eq!(interval.low, walsh[k - 1]);
            assert_eq!(interval.high, walsh[walsh.len() - k]);
        }
    }

    #[test]
    fn the_estimate_takes_no_notice_of_one_wild_block() {
        let d = [0.01, 0.012, 0.009, 0.011, 0.010, 5.0];
        let estimate = hodges_lehmann(&d).expect("differences");
        assert!((0.009..=0.012).contains(&estimate), "{estimate}");
    }

    #[test]
    fn p_is_small_enough_exactly_when_the_interval_excludes_zero() {
        let mut random = SplitMix64::new(11);
        let (mut excluding, mut including) = (0, 0);
        for repetition in 0..2_000 {
            let n = 1 + repetition % 14;
            let d = tied_differences(n, &mut random);
            let p = p_value(&d).expect("differences");
            assert!(p > 0.0 && p <= 1.0);
            // The first of these is the sharpest: exactly at p.
            for alpha in [p, p * 0.999, p * 1.001, 0.05, 0.05 / 7.0, 0.1] {
                let Some(interval) = interval(&d, 1.0 - alpha) else {
                    assert!(p > alpha || alpha >= 1.0, "{d:?}: {p}, {alpha}");
                    continue;
                };
                let excluded = interval.excludes(0.0);
                let rounded = 1.0 - (1.0 - alpha);
                assert_eq!(excluded, p <= rounded, "{d:?}: {p}, {alpha}");
                excluding += u32::from(excluded);
                including += u32::from(!excluded);
            }
        }
        assert!(excluding > 1_000 && including > 1_000);
    }

    #[test]
    fn the_sign_of_the_differences_only_turns_the_interval() {
        let mut random = SplitMix64::new(5);
        for n in 6..15 {
            let d = tied_differences(n, &mut random);
            let turned: Vec<f64> = d.iter().map(|d| -d).collect();
            let there = interval(&d, 0.95).expect("six or more");
            let back = interval(&turned, 0.95).expect("six or more");
            assert_eq!(there.low, -back.high);
            assert_eq!(there.estimate, -back.estimate);
            assert_eq!(p_value(&d), p_value(&turned));
        }
    }

    #[test]
    fn each_level_needs_its_number_of_differences() {
        for (confidence, least) in [(0.90, 5), (0.95, 6), (0.995, 9)] {
            assert_eq!(interval(&vec![1.0; least - 1], confidence), None);
            let widest = interval(&vec![1.0; least], confidence);
            assert_eq!(widest.map(|i| (i.low, i.high)), Some((1.0, 1.0)));
        }
    }

    #[test]
    fn a_family_has_as_many_rows_as_the_first_step_can_reject() {
        assert_eq!(max_family_rows(10, 0.05), 25);
        assert_eq!(max_family_rows(8, 0.05), 6);
        assert_eq!(max_family_rows(6, 0.05), 1);
        assert_eq!(max_family_rows(5, 0.05), 0);
        assert_eq!(max_family_rows(0, 0.05), 0);
        assert_eq!(max_family_rows(usize::MAX, 0.05), usize::MAX);
        assert_eq!(max_family_rows(10, f64::NAN), 0);
        for n in 6..=16 {
            let rows = max_family_rows(n, 0.05) as f64;
            let d = vec![1.0; n];
            assert!(interval(&d, 1.0 - 0.05 / rows).is_some());
            assert_eq!(interval(&d, 1.0 - 0.05 / (rows + 1.0)), None);
        }
    }

    #[test]
    fn zeros_only_are_no_finding() {
        assert_eq!(hodges_lehmann(&[0.0; 8]), Some(0.0));
        assert_eq!(p_value(&[0.0; 8]), Some(1.0));
        let interval = interval(&[0.0; 8], 0.95).expect("eight");
        assert_eq!((interval.low, interval.high), (0.0, 0.0));
        assert!(!interval.excludes(0.0));
    }

    #[test]
    fn nothing_one_and_not_finite() {
        assert_eq!(hodges_lehmann(&[]), None);
        assert_eq!(p_value(&[]), None);
        assert_eq!(interval(&[], 0.5), None);
        assert_eq!(hodges_lehmann(&[2.0]), Some(2.0));
        assert_eq!(p_value(&[2.0]), Some(1.0));
        assert_eq!(interval(&[2.0], 0.5), None);
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let d = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, bad];
            assert_eq!(hodges_lehmann(&d), None);
            assert_eq!(p_value(&d), None);
            assert_eq!(interval(&d, 0.95), None);
        }
        for confidence in [0.0, 1.0, -0.5, 2.0, f64::NAN] {
            assert_eq!(interval(&[1.0; 9], confidence), None);
        }
    }
}
