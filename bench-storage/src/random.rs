//! The generator behind addresses and contents.
//!
//! SplitMix64 (Steele, Lea and Flood, 2014): any seed is a good seed, its
//! output does not compress, and a number costs about a nanosecond, so that
//! neither drawing an address nor writing the target shows in what is
//! measured.

/// Weyl increment of SplitMix64.
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

/// A stream of 64-bit numbers.
#[derive(Clone, Debug)]
pub struct Random {
    state: u64,
}

impl Random {
    /// The stream of this seed.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next number.
    #[inline(always)]
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GAMMA);
        let z = self.state;
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Passes over so many numbers at once.
    #[inline(always)]
    pub fn skip(&mut self, count: u64) {
        self.state = self.state.wrapping_add(GAMMA.wrapping_mul(count));
    }

    /// A number in `0..bound`; 0 when `bound` is 0. Plain multiplication
    /// without rejection: with the 2^28 blocks of a terabyte some blocks are
    /// 2^-36 likelier than others, which no experiment can see.
    #[inline(always)]
    pub fn below(&mut self, bound: u64) -> u64 {
        let product = u128::from(self.next_u64()) * u128::from(bound);
        (product >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_published_sequence() {
        // The first numbers for seed 1234567, as in the Java reference.
        let mut random = Random::new(1_234_567);
        assert_eq!(random.next_u64(), 6_457_827_717_110_365_317);
        assert_eq!(random.next_u64(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn skipping_is_drawing_and_forgetting() {
        let mut drawn = Random::new(9);
        for _ in 0..37 {
            drawn.next_u64();
        }
        let mut skipped = Random::new(9);
        skipped.skip(37);
        assert_eq!(drawn.next_u64(), skipped.next_u64());
    }

    #[test]
    fn stays_below_its_bound_and_reaches_every_number() {
        let mut random = Random::new(3);
        let mut seen = [0_u32; 7];
        for _ in 0..7_000 {
            let number = random.below(7);
            let index = usize::try_from(number).expect("below 7");
            seen[index] += 1;
        }
        assert!(seen.iter().all(|&n| (850..1_150).contains(&n)), "{seen:?}");
        assert_eq!(random.below(0), 0);
    }
}
