//! Two unpaired groups: the sessions of one run against those of another.
//!
//! Welch, *The generalization of "Student's" problem when several different
//! population variances are involved*, Biometrika 34 (1947), with
//! Satterthwaite's degrees of freedom. The two runs may be noisy to different
//! degrees, so the variances are not pooled.
//!
//! Meant for log means of *sessions*: each session sets everything up anew and
//! is one observation. Fed with blocks or windows of one session a side, it
//! would call every difference between two set-ups a finding.

use crate::{Interval, student_t, summary};

/// A Welch interval with its test.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WelchInterval {
    /// The difference of means and its limits.
    pub interval: Interval,
    /// Welch and Satterthwaite's degrees of freedom, seldom whole.
    pub degrees_of_freedom: f64,
    /// The two-sided p-value of "the means are equal".
    pub p_value: f64,
}

/// The interval of `mean(b) - mean(a)`.
///
/// `None` with fewer than two values a side, with a value that is not finite,
/// when `confidence` is not between 0 and 1, and when neither side varies at
/// all (there is no scale to judge the difference by).
pub fn interval(
    a: &[f64],
    b: &[f64],
    confidence: f64,
) -> Option<WelchInterval> {
    if !(confidence > 0.0 && confidence < 1.0) {
        return None;
    }
    let error_a = summary::variance(a)? / a.len() as f64;
    let error_b = summary::variance(b)? / b.len() as f64;
    let error = error_a + error_b;
    let standard_error = error.sqrt();
    // Shares of the error instead of its square, which could overflow.
    let (share_a, share_b) = (error_a / error, error_b / error);
    let degrees_of_freedom = 1.0
        / (share_a * share_a / (a.len() - 1) as f64
            + share_b * share_b / (b.len() - 1) as f64);
    if !(standard_error > 0.0 && degrees_of_freedom.is_finite()) {
        return None;
    }

    let estimate = summary::mean(b)? - summary::mean(a)?;
    let tail = (1.0 - confidence) / 2.0;
    let t = student_t::upper_quantile(tail, degrees_of_freedom)?;
    let half_width = t * standard_error;
    let observed = (estimate / standard_error).abs();
    let p_value = 2.0 * student_t::upper_tail(observed, degrees_of_freedom)?;
    Some(WelchInterval {
        interval: Interval {
            estimate,
            low: estimate - half_width,
            high: estimate + half_width,
            level: confidence,
        },
        degrees_of_freedom,
        p_value: p_value.min(1.0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_side_needs_two_finite_values_and_one_needs_spread() {
        let some = [1.0, 2.0, 3.0];
        assert_eq!(interval(&some, &[], 0.95), None);
        assert_eq!(interval(&some, &[1.0], 0.95), None);
        assert_eq!(interval(&[1.0, f64::NAN], &some, 0.95), None);
        assert_eq!(interval(&[1.0, f64::INFINITY], &some, 0.95), None);
        assert_eq!(interval(&[1.0, 1.0], &[2.0, 2.0], 0.95), None);
        assert!(interval(&some, &[2.0, 2.0], 0.95).is_some());
        for level in [0.0, 1.0, -1.0, f64::NAN] {
            assert_eq!(interval(&some, &some, level), None);
        }
    }

    #[test]
    fn the_interval_turns_round_with_its_sides() {
        let (a, b) = ([0.1, 0.4, 0.2], [0.9, 0.5, 1.3, 0.7]);
        let there = interval(&a, &b, 0.95).expect("spread");
        let back = interval(&b, &a, 0.95).expect("spread");
        assert_eq!(there.interval.low, -back.interval.high);
        assert_eq!(there.p_value, back.p_value);
        assert!(there.interval.estimate > 0.0);
    }

    #[test]
    fn p_agrees_with_the_interval() {
        let (a, b) = ([0.1, 0.4, 0.2], [0.9, 0.5, 1.3, 0.7]);
        let p = interval(&a, &b, 0.95).expect("spread").p_value;
        let at = |level| interval(&a, &b, level).expect("spread").interval;
        assert!(at(1.0 - p * 1.000_001).excludes(0.0));
        assert!(!at(1.0 - p * 0.999_999).excludes(0.0));
    }
}
