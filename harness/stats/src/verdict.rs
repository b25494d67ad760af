//! The one word that a row ends in.
//!
//! A row is claimed only when it is both *sure* (the interval at the level
//! that Holm assigns to the row excludes 0) and *large enough to matter* (the
//! estimate is at least the practical threshold). It is called the same only
//! when that has been shown ([`crate::equivalence`]). All else is undecided:
//! "not significant" is never read as "same".

use std::fmt;
use std::str::FromStr;

use crate::{Interval, equivalence, signed_rank};

/// What was found out about a variant beside its baseline.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Verdict {
    /// Better, surely and by enough to matter.
    Faster,
    /// Worse, surely and by enough to matter.
    Slower,
    /// Shown to differ by less than what matters.
    Same,
    /// Not enough evidence for any of the others.
    Undecided,
}

impl Verdict {
    /// All verdicts, in the order in which they are listed.
    pub const ALL: [Self; 4] =
        [Self::Faster, Self::Slower, Self::Same, Self::Undecided];

    /// The word that is printed and stored.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Faster => "faster",
            Self::Slower => "slower",
            Self::Same => "same",
            Self::Undecided => "undecided",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Verdict {
    type Err = ParseVerdictError;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|verdict| verdict.as_str() == word)
            .ok_or_else(|| ParseVerdictError { word: word.to_owned() })
    }
}

/// A word that is none of the four verdicts.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ParseVerdictError {
    word: String,
}

impl fmt::Display for ParseVerdictError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is no verdict; use one of faster, slower, same, undecided",
            self.word
        )
    }
}

impl std::error::Error for ParseVerdictError {}

/// The practical threshold on the scale of log ratios: `ln(1 + practical)`.
pub fn margin(practical: f64) -> f64 {
    practical.ln_1p()
}

/// The verdict on paired differences.
///
/// `differences` are log ratios to the baseline, one per block, oriented so
/// that positive is better; `holm_level` is this row's entry of
/// [`crate::holm::levels`]; `practical` is a ratio (0.02 for 2 %).
///
/// Differences too few for a level, or not finite, decide nothing.
pub fn decide(differences: &[f64], holm_level: f64, practical: f64) -> Verdict {
    from_intervals(
        signed_rank::interval(differences, holm_level).as_ref(),
        signed_rank::interval(differences, equivalence::LEVEL).as_ref(),
        practical,
    )
}

/// The same rule on intervals from elsewhere, as from [`crate::welch`]: `claim`
/// is drawn at the row's Holm level, `sameness` at [`equivalence::LEVEL`].
pub fn from_intervals(
    claim: Option<&Interval>,
    sameness: Option<&Interval>,
    practical: f64,
) -> Verdict {
    let margin = margin(practical);
    if let Some(claim) = claim
        && claim.excludes(0.0)
        && claim.estimate.abs() >= margin
    {
        // The estimate lies in an interval that is all on one side of 0.
        return if claim.estimate > 0.0 {
            Verdict::Faster
        } else {
            Verdict::Slower
        };
    }
    match sameness {
        Some(interval) if equivalence::interval_within(interval, margin) => {
            Verdict::Same
        }
        _ => Verdict::Undecided,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ten blocks about `center`, with a few tenths of a percent of noise.
    fn blocks(center: f64) -> [f64; 10] {
        [-3, 2, -1, 1, 0, 3, -2, 1, -1, 0]
            .map(|noise| center + f64::from(noise) / 1_000.0)
    }

    #[test]
    fn a_claim_must_be_sure_and_large_enough() {
        assert_eq!(decide(&blocks(0.04), 0.95, 0.02), Verdict::Faster);
        assert_eq!(decide(&blocks(-0.04), 0.95, 0.02), Verdict::Slower);
        // Surely not 0, and surely less than what matters.
        assert_eq!(decide(&blocks(0.008), 0.95, 0.02), Verdict::Same);
        // Surely not 0, and perhaps more than what matters.
        assert_eq!(decide(&blocks(0.019), 0.95, 0.02), Verdict::Undecided);
        // Large, and far from sure.
        let noisy = blocks(0.0).map(|d| 0.03 + 40.0 * d);
        assert_eq!(decide(&noisy, 0.95, 0.02), Verdict::Undecided);
    }

    #[test]
    fn the_threshold_is_that_of_the_logarithm() {
        assert!((margin(0.02) - 0.019_802_627_3).abs() < 1e-10);
        assert_eq!(decide(&[margin(0.02); 8], 0.95, 0.02), Verdict::Faster);
        let below = margin(0.02) - 1e-9;
        assert_eq!(decide(&[below; 8], 0.95, 0.02), Verdict::Same);
        assert_eq!(decide(&[-below; 8], 0.95, 0.02), Verdict::Same);
    }

    #[test]
    fn a_stricter_level_takes_a_claim_back() {
        let mut d = blocks(0.05);
        d[0] = -0.01;
        assert_eq!(decide(&d, 0.95, 0.02), Verdict::Faster);
        assert_eq!(decide(&d, 0.999, 0.02), Verdict::Undecided);
    }

    #[test]
    fn too_little_decides_nothing() {
        assert_eq!(decide(&[], 0.95, 0.02), Verdict::Undecided);
        assert_eq!(decide(&[0.5; 4], 0.95, 0.02), Verdict::Undecided);
        // Five blocks have a 90 % interval but none at 95 %.
        assert_eq!(decide(&[0.5; 5], 0.95, 0.02), Verdict::Undecided);
        assert_eq!(decide(&[0.0; 5], 0.95, 0.02), Verdict::Same);
        assert_eq!(decide(&[f64::NAN; 9], 0.95, 0.02), Verdict::Undecided);
        assert_eq!(decide(&[0.5; 9], f64::NAN, 0.02), Verdict::Undecided);
        assert_eq!(decide(&[0.5; 9], 0.95, f64::NAN), Verdict::Undecided);
        assert_eq!(from_intervals(None, None, 0.02), Verdict::Undecided);
    }

    #[test]
    fn zero_is_the_same_as_the_baseline() {
        assert_eq!(decide(&[0.0; 12], 0.95, 0.02), Verdict::Same);
    }

    #[test]
    fn words_come_back() {
        for verdict in Verdict::ALL {
            assert_eq!(verdict.to_string().parse(), Ok(verdict));
        }
        assert_eq!(format!("{:>7}", Verdict::Same), "   same");
        let error = "Faster".parse::<Verdict>().expect_err("wrong case");
        assert!(error.to_string().contains("`Faster`"));
    }
}
