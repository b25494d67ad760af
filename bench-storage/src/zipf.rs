//! Numbers by Zipf's law: the k-th is drawn with a probability in proportion
//! to 1/k^theta, as popular keys are asked for.
//!
//! By rejection-inversion (Hörmann and Derflinger, 1996): exact, no table,
//! whatever the count, and about one attempt per number. A draw costs some
//! 40 ns. A blocking thread draws before the clock is read; a ring and aio draw
//! for a batch behind its stamp, so that it is in the latency of each of it.

use crate::random::Random;

/// The exponent, that of fio where none is given. Of 65,536 blocks the hottest
/// 1 % then get 73 % of the ops.
pub const THETA: f64 = 1.1;

/// 2^-53, between neighbours of 53 random bits taken as a fraction.
const FRACTION: f64 = 1.0 / (1_u64 << 53) as f64;

/// Draws from `0..count`, 0 the most often.
#[derive(Clone, Debug)]
pub struct Zipf {
    random: Random,
    count: f64,
    /// The area below the hat, from its left end to its right one.
    left: f64,
    right: f64,
    /// A draw that lies this close below its number needs no further look.
    squeeze: f64,
}

impl Zipf {
    /// Draws from `0..count`; `count` is at least 1.
    pub fn new(count: u64, seed: u64) -> Self {
        let count = count.max(1) as f64;
        Self {
            random: Random::new(seed),
            count,
            left: area(1.5) - 1.0,
            right: area(count + 0.5),
            squeeze: 2.0 - inverse(area(2.5) - density(2.0)),
        }
    }

    /// The next number.
    #[inline]
    pub fn draw(&mut self) -> u64 {
        loop {
            let fraction = (self.random.next_u64() >> 11) as f64 * FRACTION;
            let under = self.right + fraction * (self.left - self.right);
            let x = inverse(under);
            let k = x.round().clamp(1.0, self.count);
            if k - x <= self.squeeze || under >= area(k + 0.5) - density(k) {
                return rank(k);
            }
        }
    }
}

/// From 1..=count to 0..count.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a whole number between 1 and a count of blocks"
)]
fn rank(k: f64) -> u64 {
    k as u64 - 1
}

fn density(x: f64) -> f64 {
    x.powf(-THETA)
}

/// The integral of the density from 1.
fn area(x: f64) -> f64 {
    (x.powf(1.0 - THETA) - 1.0) / (1.0 - THETA)
}

fn inverse(area: f64) -> f64 {
    // Rounding may carry the argument below 0, where no power is defined.
    (1.0 + area * (1.0 - THETA)).max(0.0).powf(1.0 / (1.0 - THETA))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DRAWS: u32 = 200_000;

    #[test]
    fn frequencies_are_those_of_the_law() {
        for count in [1_u64, 2, 3, 10, 1_000] {
            let mut zipf = Zipf::new(count, 5);
            let size = usize::try_from(count).expect("small");
            let mut seen = vec![0_u32; size];
            for _ in 0..DRAWS {
                let drawn = usize::try_from(zipf.draw()).expect("small");
                seen[drawn] += 1;
            }
            let weights: Vec<f64> =
                (1..=count).map(|k| density(k as f64)).collect();
            let sum: f64 = weights.iter().sum();
            // Pearson's statistic over what is expected at least 20 times,
            // the rest taken together.
            let (mut statistic, mut cells) = (0.0, 0.0);
            let (mut rest, mut rest_expected) = (0.0, 0.0);
            for (seen, weight) in seen.iter().zip(&weights) {
                let expected = f64::from(DRAWS) * weight / sum;
                let seen = f64::from(*seen);
                if expected >= 20.0 {
                    statistic += (seen - expected).powi(2) / expected;
                    cells += 1.0;
                } else {
                    rest += seen;
                    rest_expected += expected;
                }
            }
            if rest_expected > 0.0 {
                statistic += (rest - rest_expected).powi(2) / rest_expected;
                cells += 1.0;
            }
            // Mean and spread of the statistic: 1 in 30,000 lies beyond 4
            // standard deviations.
            let freedom: f64 = cells - 1.0;
            let limit = freedom + 4.0 * (2.0 * freedom).sqrt();
            assert!(statistic <= limit, "{count}: {statistic} of {freedom}");
        }
    }

    #[test]
    fn the_hottest_hundredth_gets_three_quarters() {
        let mut zipf = Zipf::new(65_536, 3);
        let hot = (0..DRAWS).filter(|_| zipf.draw() < 655).count();
        let share = hot as f64 / f64::from(DRAWS);
        assert!((0.72..0.75).contains(&share), "{share}");
    }

    #[test]
    fn a_terabyte_of_blocks_is_drawn_from_within_its_bounds() {
        let count = 1 << 28;
        let mut zipf = Zipf::new(count, 9);
        let draws: Vec<u64> = (0..DRAWS).map(|_| zipf.draw()).collect();
        assert!(draws.iter().all(|draw| *draw < count));
        assert!(draws.iter().any(|draw| *draw > count / 2));
    }
}
