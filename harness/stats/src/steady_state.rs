//! Has a series of rounds become steady? The rule of SNIA's Solid State
//! Storage Performance Test Specification 2.0.2, section 2.1.24.
//!
//! Over a window of 5 rounds (a) the largest value lies at most 20 % of the
//! mean above the smallest, and (b) the line of least squares rises or falls
//! by at most 10 % of the mean from the first round to the last. (a) alone
//! would let a slow decline pass, (b) alone a series that jumps to and fro.
//!
//! Being steady can end again: a device that has run out of spare blocks, a
//! cloud volume out of credit. So every window of the series is looked at, and
//! not only the first one that passes.

use crate::{all_finite, summary};

/// Rounds of a window.
pub const WINDOW_ROUNDS: usize = 5;

/// Largest range within a window, as a share of its mean.
const RANGE_MAX: f64 = 0.20;

/// Furthest that the fitted line moves within a window, as a share of its mean.
const EXCURSION_MAX: f64 = 0.10;

/// What a series of rounds did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Steadiness {
    /// Steady at its end, and without a break since the round of this index.
    Steady {
        /// 0 when it was steady throughout.
        from: usize,
    },
    /// Steady once, and no longer.
    Left {
        /// The first round behind the last window that was steady.
        at: usize,
    },
    /// No window was steady.
    Never,
}

/// What a series of rounds, in the order of time, did.
///
/// `None` for less than a window, for values that are not finite, and where a
/// window's mean is not above 0.
pub fn steadiness(rounds: &[f64]) -> Option<Steadiness> {
    if rounds.len() < WINDOW_ROUNDS {
        return None;
    }
    let windows: Vec<bool> =
        rounds.windows(WINDOW_ROUNDS).map(is_steady).collect::<Option<_>>()?;
    let Some(last) = windows.iter().rposition(|steady| *steady) else {
        return Some(Steadiness::Never);
    };
    if last + 1 < windows.len() {
        return Some(Steadiness::Left { at: last + WINDOW_ROUNDS });
    }
    let broken = windows.iter().rposition(|steady| !steady);
    Some(Steadiness::Steady { from: broken.map_or(0, |index| index + 1) })
}

/// Whether both conditions hold over these rounds, taken as one window.
///
/// `None` below two rounds, for values that are not finite, and for a mean
/// that is not above 0.
pub fn is_steady(rounds: &[f64]) -> Option<bool> {
    if rounds.len() < 2 || !all_finite(rounds) {
        return None;
    }
    let mean = summary::mean(rounds).filter(|mean| *mean > 0.0)?;
    let highest = rounds.iter().copied().fold(f64::MIN, f64::max);
    let lowest = rounds.iter().copied().fold(f64::MAX, f64::min);
    let excursion = slope(rounds, mean).abs() * (rounds.len() - 1) as f64;
    Some(
        highest - lowest <= RANGE_MAX * mean
            && excursion <= EXCURSION_MAX * mean,
    )
}

/// Slope per round of the line of least squares.
fn slope(rounds: &[f64], mean: f64) -> f64 {
    let middle = (rounds.len() - 1) as f64 / 2.0;
    let (mut products, mut squares) = (0.0, 0.0);
    for (index, value) in rounds.iter().enumerate() {
        let x = index as f64 - middle;
        products += x * (value - mean);
        squares += x * x;
    }
    products / squares
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A fresh drive: fast, then a cliff, then a level with a little noise.
    const ENTERING: [f64; 12] = [
        400.0, 390.0, 300.0, 180.0, 130.0, 110.0, 102.0, 100.0, 99.0, 101.0,
        100.0, 100.0,
    ];

    #[test]
    fn both_limits_are_exact_and_belong_to_the_steady_side() {
        // Mean 100: range 20, and the two outliers lie so that the line is
        // level.
        let at_range = [100.0, 110.0, 100.0, 90.0, 100.0];
        // sum(x·y) = 1·10·(-1) + 1·(-10) = -20, slope -2, excursion 8.
        assert_eq!(is_steady(&at_range), Some(true));
        let beyond = [100.0, 110.5, 100.0, 89.5, 100.0];
        assert_eq!(is_steady(&beyond), Some(false));
        // Slope 2.5 per round: an excursion of 10, a range of 10.
        let at_slope = [95.0, 97.5, 100.0, 102.5, 105.0];
        assert_eq!(is_steady(&at_slope), Some(true));
        let steeper = [94.0, 97.0, 100.0, 103.0, 106.0];
        assert_eq!(is_steady(&steeper), Some(false), "a range of 12 only");
        let falling = [106.0, 103.0, 100.0, 97.0, 94.0];
        assert_eq!(is_steady(&falling), Some(false));
    }

    #[test]
    fn a_trace_that_enters_is_steady_from_there() {
        // By hand: 130, 110, 102, 100, 99 has a range of 31; the window
        // that starts at 110 has one of 11 and moves by 8.4 of 102.4.
        assert_eq!(steadiness(&ENTERING), Some(Steadiness::Steady { from: 5 }));
        assert_eq!(steadiness(&ENTERING[..9]), Some(Steadiness::Never));
        let level = [100.0; 5];
        assert_eq!(steadiness(&level), Some(Steadiness::Steady { from: 0 }));
    }

    #[test]
    fn a_trace_that_never_enters_is_never_steady() {
        let mut value = 1_000.0;
        let falling: Vec<f64> = (0..25)
            .map(|_| {
                value *= 0.96;
                value
            })
            .collect();
        assert_eq!(steadiness(&falling), Some(Steadiness::Never));
        let jumping: Vec<f64> =
            (0..25).map(|i| if i % 2 == 0 { 88.0 } else { 112.0 }).collect();
        assert_eq!(steadiness(&jumping), Some(Steadiness::Never));
    }

    #[test]
    fn a_trace_that_leaves_is_told_where() {
        let mut trace = ENTERING.to_vec();
        trace.push(60.0);
        assert_eq!(steadiness(&trace), Some(Steadiness::Left { at: 12 }));
        // Four rounds later the drop is still in every window; with the
        // fifth, all of a window lies behind it.
        trace.extend([60.0; 3]);
        assert_eq!(steadiness(&trace), Some(Steadiness::Left { at: 12 }));
        trace.push(60.0);
        assert_eq!(steadiness(&trace), Some(Steadiness::Steady { from: 12 }));
    }

    #[test]
    fn scale_does_not_matter() {
        for scale in [1e-9, 1.0, 1e12] {
            let scaled: Vec<f64> =
                ENTERING.iter().map(|value| value * scale).collect();
            assert_eq!(steadiness(&scaled), steadiness(&ENTERING));
        }
    }

    #[test]
    fn what_cannot_be_judged_is_none() {
        assert_eq!(steadiness(&[100.0; 4]), None);
        assert_eq!(steadiness(&[0.0; 5]), None);
        assert_eq!(steadiness(&[-1.0; 5]), None);
        for odd in [f64::NAN, f64::INFINITY] {
            let mut trace = [100.0; 6];
            trace[3] = odd;
            assert_eq!(steadiness(&trace), None);
        }
        assert_eq!(is_steady(&[1.0]), None);
    }
}
