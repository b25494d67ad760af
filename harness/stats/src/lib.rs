//! Pure statistics on numbers: slices in, plain values out.
//!
//! The crate answers one question, *how sure are we?*, for paired trials:
//!
//! | step | module |
//! |---|---|
//! | the order of trials, balanced for carry-over | [`order`] |
//! | estimate and exact interval of paired log ratios | [`signed_rank`] |
//! | many rows read at once | [`holm`] |
//! | "no difference that matters" | [`equivalence`] |
//! | the word that is printed | [`verdict`] |
//! | what a row could have shown, and how long it would take | [`power`] |
//! | sessions of two runs, unpaired | [`welch`], [`student_t`] |
//! | is a trial steady? | [`theil_sen`] |
//! | is a series of rounds steady? | [`steady_state`] |
//! | location, spread, fairness | [`summary`] |
//!
//! **Invariant:** nothing here reads a clock, a file or the environment, keeps
//! state between calls, or panics on bad input. A value that cannot be
//! computed (too few samples, a NaN, an infinity) is `None`, never a guess:
//! a NaN that slips through a comparison would turn into a verdict.
//!
//! A table of one experiment and metric, from log ratios to words:
//!
//! ```
//! use stats::{holm, signed_rank, verdict};
//!
//! let rows = [
//!     [0.151, 0.148, 0.155, 0.149, 0.152, 0.150, 0.147, 0.153],
//!     [0.004, -0.006, 0.001, 0.003, -0.002, 0.005, -0.001, 0.002],
//! ];
//! let p = rows.map(|row| signed_rank::p_value(&row).unwrap_or(1.0));
//! let words: Vec<String> = holm::levels(&p, 0.05)
//!     .into_iter()
//!     .zip(&rows)
//!     .map(|(level, row)| verdict::decide(row, level, 0.02).to_string())
//!     .collect();
//! assert_eq!(words, ["faster", "same"]);
//! ```
//!
//! Randomness comes from a seed in the arguments, so every result can be
//! derived again from what was stored.
#![forbid(unsafe_code)]

pub mod equivalence;
pub mod holm;
pub mod order;
pub mod power;
mod random;
pub mod signed_rank;
pub mod steady_state;
pub mod student_t;
pub mod summary;
pub mod theil_sen;
pub mod verdict;
pub mod welch;

/// A two-sided confidence interval with its point estimate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// The point estimate.
    pub estimate: f64,
    /// The lower limit.
    pub low: f64,
    /// The upper limit.
    pub high: f64,
    /// The confidence level that is really achieved, as a share of 1. For a
    /// discrete method it is above the level asked for (95.75 % rather than
    /// 95 % at 12 pairs).
    pub level: f64,
}

impl Interval {
    /// Whether `value` lies outside of the closed interval.
    pub fn excludes(&self, value: f64) -> bool {
        self.low > value || self.high < value
    }

    /// Half of the distance between the limits. The estimate need not lie in
    /// the middle of them.
    pub fn half_width(&self) -> f64 {
        (self.high - self.low) / 2.0
    }
}

/// Whether each value is a number one can compute with.
pub(crate) fn all_finite(values: &[f64]) -> bool {
    values.iter().all(|value| value.is_finite())
}

/// The largest integer not above `value`, as a count.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "`as` saturates: a negative value or NaN becomes 0, a value \
              beyond usize becomes usize::MAX, and callers want just that"
)]
pub(crate) fn floor_to_count(value: f64) -> usize {
    value.floor() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_that_touches_a_value_does_not_exclude_it() {
        let interval =
            Interval { estimate: 1.0, low: 0.0, high: 3.0, level: 0.95 };
        assert!(!interval.excludes(0.0));
        assert!(!interval.excludes(3.0));
        assert!(interval.excludes(-0.1));
        assert!(interval.excludes(3.1));
        assert_eq!(interval.half_width(), 1.5);
    }

    #[test]
    fn counts_saturate() {
        assert_eq!(floor_to_count(2.9), 2);
        assert_eq!(floor_to_count(-1.0), 0);
        assert_eq!(floor_to_count(f64::NAN), 0);
        assert_eq!(floor_to_count(f64::INFINITY), usize::MAX);
    }
}
