//! "No difference that matters": equivalence by two one-sided tests.
//!
//! Schuirmann, *A comparison of the two one-sided tests procedure and the
//! power approach for assessing the equivalence of average bioavailability*,
//! Journal of Pharmacokinetics and Biopharmaceutics 15 (1987). "Not
//! significant" is no evidence of sameness: a noisy run shows it always. Here
//! the burden is turned round, and noise leads to "not shown".
//!
//! Two tests at 5 % each, "the centre is above -margin" and "below +margin",
//! both reject exactly when the 90 % interval lies inside of the margins. Both
//! have to reject, so the chance of a false "same" stays at 5 %.

use crate::{Interval, signed_rank};

/// The level of the interval that stands for two one-sided tests at 5 %.
pub const LEVEL: f64 = 0.90;

/// Whether the exact signed-rank interval at 90 % lies inside of
/// (-margin, +margin). `None` when there is no such interval (fewer than 5
/// differences, or one that is not finite) or the margin is NaN.
pub fn within(differences: &[f64], margin: f64) -> Option<bool> {
    if margin.is_nan() {
        return None;
    }
    let interval = signed_rank::interval(differences, LEVEL)?;
    Some(interval_within(&interval, margin))
}

/// Whether `interval`, drawn at [`LEVEL`], lies inside of (-margin, +margin);
/// a limit on the margin is outside.
pub fn interval_within(interval: &Interval, margin: f64) -> bool {
    -margin < interval.low && interval.high < margin
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_is_not_sameness() {
        let quiet = [-0.004, 0.003, 0.001, -0.002, 0.0, 0.002];
        let noisy = quiet.map(|difference| difference * 20.0);
        assert_eq!(within(&quiet, 0.02), Some(true));
        assert_eq!(within(&noisy, 0.02), Some(false));
    }

    #[test]
    fn a_limit_on_the_margin_is_outside() {
        assert_eq!(within(&[0.02; 6], 0.02), Some(false));
        assert_eq!(within(&[-0.02; 6], 0.02), Some(false));
        assert_eq!(within(&[0.0; 6], 0.0), Some(false));
        assert_eq!(within(&[0.0; 6], 1e-9), Some(true));
        assert_eq!(within(&[0.0; 6], -1.0), Some(false));
    }

    #[test]
    fn too_little_is_no_answer() {
        assert_eq!(within(&[], 0.02), None);
        assert_eq!(within(&[0.0; 4], 0.02), None);
        assert_eq!(within(&[0.0; 5], 0.02), Some(true));
        assert_eq!(within(&[f64::NAN; 6], 0.02), None);
        assert_eq!(within(&[0.0; 6], f64::NAN), None);
    }
}
