//! The seeded generator behind orders and permutation tests.
//!
//! SplitMix64 (Steele, Lea and Flood, 2014): 64 bits of state and any seed is
//! a good seed. A run stores its seed and is resumed with it, so the sequence
//! is part of the format: changing it would change the order of a run that is
//! half done. The test below holds it in place.

#[derive(Clone, Debug)]
pub(crate) struct SplitMix64 {
    state: u64,
}

impl SplitMix64 {
    pub(crate) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    pub(crate) fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..bound`, each equally likely: Lemire's multiplication
    /// with rejection (2019). A `bound` of 0 gives 0.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        let bound = bound as u64;
        // The 2^64 mod bound lowest fractions belong to an incomplete cycle.
        let incomplete = bound.wrapping_neg().checked_rem(bound).unwrap_or(0);
        loop {
            let product = u128::from(self.next_u64()) * u128::from(bound);
            let (whole, fraction) = split(product);
            if fraction >= incomplete {
                return whole;
            }
        }
    }

    /// Fisher and Yates's shuffle, from the end as Durstenfeld has it.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the product of a u64 and a usize has its whole part below that \
              usize, and the low half is cut off on purpose"
)]
fn split(product: u128) -> (usize, u64) {
    ((product >> 64) as usize, product as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_the_published_one() {
        // First outputs of the reference implementation for seed 1234567.
        let mut random = SplitMix64::new(1_234_567);
        let first: Vec<u64> = (0..3).map(|_| random.next_u64()).collect();
        assert_eq!(
            first,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423
            ]
        );
    }

    #[test]
    fn numbers_below_a_bound_are_evenly_spread() {
        let mut random = SplitMix64::new(7);
        let mut counts = [0_u32; 6];
        for _ in 0..60_000 {
            counts[random.below(6)] += 1;
        }
        // Four standard deviations: sqrt(60,000 x 1/6 x 5/6) = 91.
        assert!(
            counts.iter().all(|count| count.abs_diff(10_000) < 365),
            "{counts:?}"
        );

        // Without the rejection, multiples of 3 below 3 x 2^62 would come up
        // twice as often as other numbers.
        let bound = 3 << 62;
        let thirds =
            (0..3_000).filter(|_| random.below(bound).is_multiple_of(3));
        assert!(thirds.count().abs_diff(1_000) < 104);
        assert_eq!(random.below(1), 0);
        assert_eq!(random.below(0), 0);
    }
}
