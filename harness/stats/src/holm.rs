//! Many rows read at once: Holm's step-down procedure.
//!
//! Holm, *A simple sequentially rejective multiple test procedure*,
//! Scandinavian Journal of Statistics 6 (1979). It holds the chance of even one
//! false finding in a family at `alpha`, whatever the dependence between the
//! rows (they share a baseline, so they are dependent), and rejects all that
//! Bonferroni does and more.
//!
//! # Definition of the level of a row
//!
//! Sort the m p-values, smallest first. The row at step k (from 0) is tested at
//! `alpha / (m - k)` as long as all earlier rows were rejected; the first row
//! that is not rejected ends the procedure, and it and all later rows keep the
//! `alpha / (m - k)` of that step. The *level* of a row is 1 minus the alpha it
//! was tested at. So "the interval at this level excludes 0" says exactly "Holm
//! rejects this row", and a table needs no second notion of significance.
//!
//! (The intervals are a way to show the decisions. They are not simultaneous
//! intervals: those would all need `alpha / m`.)
//!
//! A p-value that is NaN (a row without a result) still counts as a row and is
//! treated as 1: leaving it out would make the other rows easier to claim.

/// The adjusted p-values, in the order of the input: the smallest family-wide
/// alpha at which each row would be rejected.
pub fn adjust(p: &[f64]) -> Vec<f64> {
    let mut adjusted = vec![1.0; p.len()];
    let mut largest: f64 = 0.0;
    for (step, &row) in ascending(p).iter().enumerate() {
        let rows_left = (p.len() - step) as f64;
        largest = largest.max(rows_left * known(p[row])).min(1.0);
        adjusted[row] = largest;
    }
    adjusted
}

/// The confidence level at which the interval of each row is drawn, in the
/// order of the input, by the definition above.
pub fn levels(p: &[f64], alpha: f64) -> Vec<f64> {
    let mut levels = vec![1.0; p.len()];
    let mut ended_at = None;
    for (step, &row) in ascending(p).iter().enumerate() {
        let level =
            ended_at.unwrap_or_else(|| 1.0 - alpha / (p.len() - step) as f64);
        levels[row] = level;
        if !rejects(p[row], level) {
            ended_at = Some(level);
        }
    }
    levels
}

/// Which rows Holm rejects at `alpha`, in the order of the input.
pub fn rejected(p: &[f64], alpha: f64) -> Vec<bool> {
    let levels = levels(p, alpha);
    p.iter().zip(levels).map(|(p, level)| rejects(*p, level)).collect()
}

/// Compares with `1 - level`, not with the alpha that the level came from: the
/// interval sees only the level, and the two must round alike.
fn rejects(p: f64, level: f64) -> bool {
    known(p) <= 1.0 - level
}

fn known(p: f64) -> f64 {
    if p.is_nan() { 1.0 } else { p.clamp(0.0, 1.0) }
}

/// Row numbers by p-value; rows with the same one stay in input order.
fn ascending(p: &[f64]) -> Vec<usize> {
    let mut rows: Vec<usize> = (0..p.len()).collect();
    rows.sort_by(|a, b| known(p[*a]).total_cmp(&known(p[*b])));
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::SplitMix64;
    use crate::signed_rank;

    #[test]
    fn rows_are_tested_in_order_of_p_and_keep_the_alpha_of_the_end() {
        let p = [0.04, 0.001, 0.5, 0.015625];
        assert_eq!(adjust(&p), [0.08, 0.004, 0.5, 0.046875]);
        // 0.001 at 0.05/4 and 0.0156 at 0.05/3 are rejected; 0.04 at 0.05/2 is
        // not, and 0.5 keeps that alpha.
        let alphas = [0.05 / 2.0, 0.05 / 4.0, 0.05 / 2.0, 0.05 / 3.0];
        assert_eq!(levels(&p, 0.05), alphas.map(|alpha| 1.0 - alpha));
        assert_eq!(rejected(&p, 0.05), [false, true, false, true]);
    }

    #[test]
    fn an_end_at_the_first_row_is_bonferroni_for_all() {
        let p = [0.9, 0.02, 0.03];
        assert_eq!(levels(&p, 0.05), [1.0 - 0.05 / 3.0; 3]);
        assert_eq!(rejected(&p, 0.05), [false; 3]);
    }

    #[test]
    fn a_p_value_of_just_alpha_is_rejected() {
        // Powers of two, so that nothing is rounded.
        assert_eq!(rejected(&[0.0625], 0.0625), [true]);
        assert_eq!(rejected(&[0.0625, 0.03125], 0.0625), [true, true]);
    }

    #[test]
    fn one_row_is_not_adjusted() {
        assert_eq!(adjust(&[0.03]), [0.03]);
        assert_eq!(levels(&[0.03], 0.05), [0.95]);
        assert_eq!(levels(&[0.8], 0.05), [0.95]);
    }

    #[test]
    fn a_row_without_a_result_still_counts() {
        let p = [f64::NAN, 0.02, 0.03];
        assert_eq!(adjust(&p), [1.0, 0.06, 0.06]);
        assert_eq!(rejected(&p, 0.05), [false; 3]);
        assert_eq!(rejected(&p[1..], 0.05), [true, true]);
    }

    #[test]
    fn nothing_in_nothing_out() {
        assert!(adjust(&[]).is_empty());
        assert!(levels(&[], 0.05).is_empty());
        assert!(rejected(&[], 0.05).is_empty());
    }

    #[test]
    fn adjusted_values_decide_as_the_steps_do() {
        let mut random = SplitMix64::new(8);
        for repetition in 0..500 {
            let m = 1 + repetition % 12;
            let p: Vec<f64> =
                (0..m).map(|_| random.below(1_000) as f64 / 1e4).collect();
            let adjusted = adjust(&p);
            for (row, rejected) in rejected(&p, 0.05).into_iter().enumerate() {
                // Multiples of 1e-4 times whole numbers miss 0.05 by more
                // than rounding, or hit it.
                let close = (adjusted[row] - 0.05).abs() < 1e-12;
                assert!(close || rejected == (adjusted[row] < 0.05), "{p:?}");
            }
        }
    }

    #[test]
    fn the_interval_at_the_level_excludes_zero_exactly_when_holm_rejects() {
        let mut random = SplitMix64::new(21);
        let mut findings = [0, 0];
        for _ in 0..300 {
            // Six rows of ten blocks with ties, some with an effect.
            let rows: Vec<Vec<f64>> = (0..6)
                .map(|effect| {
                    let noise = |_| random.below(21) as f64 - 10.0;
                    (0..10)
                        .map(noise)
                        .map(|d| d + 3.0 * f64::from(effect))
                        .collect()
                })
                .collect();
            let p: Vec<f64> = rows
                .iter()
                .map(|d| signed_rank::p_value(d).expect("ten blocks"))
                .collect();
            let levels = levels(&p, 0.05);
            for (row, rejected) in rejected(&p, 0.05).into_iter().enumerate() {
                let interval = signed_rank::interval(&rows[row], levels[row])
                    .expect("ten blocks support 25 rows");
                assert_eq!(interval.excludes(0.0), rejected);
                findings[usize::from(rejected)] += 1;
            }
        }
        assert!(findings.iter().all(|count| *count > 100), "{findings:?}");
    }
}
