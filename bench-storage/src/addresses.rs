//! Which offset the next op reads.

use crate::random::Random;

/// How an experiment walks over its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// Each block of the op's size equally likely.
    Random,
    /// Ascending; several streams share the target by taking turns, so that
    /// together they ask for the same sequence as one stream would.
    Sequential,
}

impl Pattern {
    /// The value of the parameter `pattern`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::Sequential => "sequential",
        }
    }

    /// The pattern of that name.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Random, Self::Sequential]
            .into_iter()
            .find(|pattern| pattern.word() == word)
    }
}

/// One of several streams over the same target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stream {
    /// Its number, from 0.
    pub index: usize,
    /// How many there are.
    pub count: usize,
}

/// Yields the offsets of one stream, without end.
#[derive(Clone, Debug)]
pub struct Addresses {
    walk: Walk,
    blocks: u64,
    op_bytes: u64,
}

#[derive(Clone, Debug)]
enum Walk {
    Random(Random),
    Sequential { next: u64, step: u64 },
}

impl Addresses {
    /// Offsets of ops of `op_bytes` in a target of `target_bytes`; a rest at
    /// its end that is shorter than an op is never read. `None` when not one
    /// op fits.
    ///
    /// `trial_seed` is the same for all streams of a trial and decides where
    /// sequences start; `stream_seed` is each stream's own.
    pub fn new(
        pattern: Pattern,
        target_bytes: u64,
        op_bytes: usize,
        stream: Stream,
        trial_seed: u64,
        stream_seed: u64,
    ) -> Option<Self> {
        let op_bytes = op_bytes as u64;
        let blocks = target_bytes.checked_div(op_bytes)?;
        if blocks == 0 {
            return None;
        }
        let walk = match pattern {
            Pattern::Random => Walk::Random(Random::new(stream_seed)),
            Pattern::Sequential => {
                let start = Random::new(trial_seed).below(blocks);
                Walk::Sequential {
                    next: (start + stream.index as u64) % blocks,
                    // A step of 0 would read one block for ever.
                    step: (stream.count as u64 % blocks).max(1),
                }
            }
        };
        Some(Self { walk, blocks, op_bytes })
    }

    /// The next offset.
    #[inline(always)]
    pub fn next_offset(&mut self) -> u64 {
        let block = match &mut self.walk {
            Walk::Random(random) => random.below(self.blocks),
            Walk::Sequential { next, step } => {
                let block = *next;
                *next += *step;
                if *next >= self.blocks {
                    *next -= self.blocks;
                }
                block
            }
        };
        block * self.op_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: Stream = Stream { index: 0, count: 1 };

    fn take(mut addresses: Addresses, count: usize) -> Vec<u64> {
        (0..count).map(|_| addresses.next_offset()).collect()
    }

    #[test]
    fn random_offsets_are_aligned_inside_and_everywhere() {
        let bytes = 64 * 4096 + 100;
        let addresses = Addresses::new(Pattern::Random, bytes, 4096, ONE, 1, 2)
            .expect("room");
        let mut offsets = take(addresses, 4_000);
        assert!(offsets.iter().all(|o| o % 4096 == 0 && o + 4096 <= bytes));
        offsets.sort_unstable();
        offsets.dedup();
        assert_eq!(offsets.len(), 64);
    }

    #[test]
    fn streams_differ_by_their_seed_only() {
        let with = |seed| {
            let bytes = 1 << 30;
            let addresses =
                Addresses::new(Pattern::Random, bytes, 4096, ONE, 1, seed);
            take(addresses.expect("room"), 8)
        };
        assert_eq!(with(5), with(5));
        assert_ne!(with(5), with(6));
    }

    #[test]
    fn sequential_streams_take_turns_on_one_sequence() {
        let stream = |index, count| {
            let stream = Stream { index, count };
            Addresses::new(
                Pattern::Sequential,
                10 * 512,
                512,
                stream,
                9,
                index as u64,
            )
            .expect("room")
        };
        let alone = take(stream(0, 1), 30);
        let mut first = stream(0, 2);
        let mut second = stream(1, 2);
        let turns: Vec<u64> = (0..15)
            .flat_map(|_| [first.next_offset(), second.next_offset()])
            .collect();
        assert_eq!(turns, alone);
        let mut sorted = alone[..10].to_vec();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..10).map(|b| b * 512).collect::<Vec<_>>());
    }

    #[test]
    fn a_target_below_one_op_has_no_addresses() {
        for pattern in [Pattern::Random, Pattern::Sequential] {
            assert!(Addresses::new(pattern, 4095, 4096, ONE, 0, 0).is_none());
            assert!(Addresses::new(pattern, 4096, 0, ONE, 0, 0).is_none());
        }
    }
}
