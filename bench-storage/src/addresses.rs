//! Which offset the next op reads.

use crate::{page_cache::Range, random::Random, zipf::Zipf};

/// How an experiment walks over its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// Each block of the op's size equally likely.
    Random,
    /// Few blocks often and many seldom, by Zipf's law; the same few for all
    /// streams, and not next to each other.
    Zipf,
    /// Ascending; several streams share the target by taking turns, so that
    /// together they ask for the same sequence as one stream would.
    Sequential,
}

impl Pattern {
    /// The value of the parameter `pattern`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::Zipf => "zipf",
            Self::Sequential => "sequential",
        }
    }

    /// The pattern of that name.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Random, Self::Zipf, Self::Sequential]
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
    Zipf { ranks: Zipf, places: Shuffle },
    Sequential { next: u64, step: u64 },
    Shuffled(Shuffle),
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
            Pattern::Zipf => Walk::Zipf {
                ranks: Zipf::new(blocks, stream_seed),
                places: Shuffle::new(0, blocks, trial_seed),
            },
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

    /// Ascending from the start, by a single stream. `None` when not one op
    /// fits.
    pub fn ascending(target_bytes: u64, op_bytes: usize) -> Option<Self> {
        let op_bytes = op_bytes as u64;
        let blocks = target_bytes.checked_div(op_bytes).filter(|n| *n > 0)?;
        let walk = Walk::Sequential { next: 0, step: 1 };
        Some(Self { walk, blocks, op_bytes })
    }

    /// Random offsets without repetition: each stream has a part of the target
    /// for itself and reads each of its blocks once, in random order, before
    /// it begins again. `None` when there are fewer blocks than streams.
    pub fn once_each(
        target_bytes: u64,
        op_bytes: usize,
        stream: Stream,
        stream_seed: u64,
    ) -> Option<Self> {
        let op_bytes = op_bytes as u64;
        let blocks = target_bytes.checked_div(op_bytes)?;
        let streams = stream.count as u64;
        let share = blocks.checked_div(streams).filter(|share| *share > 0)?;
        let first = share * (stream.index as u64 % streams);
        let walk = Walk::Shuffled(Shuffle::new(first, share, stream_seed));
        Some(Self { walk, blocks, op_bytes })
    }

    /// Where a stream without repetition reads, and in how many ops it has
    /// read all of it; `None` for the others.
    pub fn pass(&self) -> Option<(Range, u64)> {
        let Walk::Shuffled(shuffle) = &self.walk else { return None };
        let range = Range {
            offset: shuffle.first * self.op_bytes,
            bytes: shuffle.count * self.op_bytes,
        };
        Some((range, shuffle.count))
    }

    /// The next offset.
    #[inline(always)]
    pub fn next_offset(&mut self) -> u64 {
        let block = match &mut self.walk {
            Walk::Random(random) => random.below(self.blocks),
            Walk::Zipf { ranks, places } => places.place_of(ranks.draw()),
            Walk::Sequential { next, step } => {
                let block = *next;
                *next += *step;
                if *next >= self.blocks {
                    *next -= self.blocks;
                }
                block
            }
            Walk::Shuffled(shuffle) => shuffle.next_block(),
        };
        block * self.op_bytes
    }
}

/// Yields `count` blocks from `first` in a random order, again and again.
///
/// The order is a counter put through steps of which each maps the numbers of
/// `bits` bits onto themselves one to one; numbers beyond the count are passed
/// over, fewer than one in two.
#[derive(Clone, Debug)]
struct Shuffle {
    first: u64,
    count: u64,
    bits: u32,
    multipliers: [u64; 2],
    counter: u64,
}

impl Shuffle {
    fn new(first: u64, count: u64, seed: u64) -> Self {
        let mut random = Random::new(seed);
        let bits = (u64::BITS - (count - 1).leading_zeros()).max(1);
        // Odd, or two numbers would have one product.
        let multipliers =
            [random.below(u64::MAX) | 1, random.below(u64::MAX) | 1];
        let counter = random.below(1 << bits.min(63));
        Self { first, count, bits, multipliers, counter }
    }

    #[inline(always)]
    fn next_block(&mut self) -> u64 {
        loop {
            self.counter = self.counter.wrapping_add(1);
            let place = self.mix(self.counter);
            if place < self.count {
                return self.first + place;
            }
        }
    }

    /// Where the number `number`, below the count, lies: each at a place of
    /// its own, since steps that map all numbers of `bits` bits one to one
    /// come back below the count without meeting.
    #[inline(always)]
    fn place_of(&self, number: u64) -> u64 {
        let mut place = number;
        loop {
            place = self.mix(place.wrapping_add(self.counter));
            if place < self.count {
                return self.first + place;
            }
        }
    }

    #[inline(always)]
    fn mix(&self, number: u64) -> u64 {
        let mask = u64::MAX >> (u64::BITS - self.bits);
        let half = self.bits.div_ceil(2);
        let mut mixed = number & mask;
        for multiplier in self.multipliers {
            mixed = mixed.wrapping_mul(multiplier) & mask;
            mixed ^= mixed >> half;
        }
        mixed
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
    fn zipf_streams_share_their_hot_blocks_which_lie_apart() {
        let blocks = 1_000;
        let hottest = |stream_seed| {
            let addresses = Addresses::new(
                Pattern::Zipf,
                blocks * 4096,
                4096,
                ONE,
                7,
                stream_seed,
            );
            let mut counts = vec![0_u32; 1_000];
            for offset in take(addresses.expect("room"), 50_000) {
                assert_eq!(offset % 4096, 0);
                counts[usize::try_from(offset / 4096).expect("small")] += 1;
            }
            let mut order: Vec<usize> = (0..1_000).collect();
            order.sort_by_key(|block| std::cmp::Reverse(counts[*block]));
            // 1/k^1.1 over 1,000 blocks: 1 in 5.6 goes to the first.
            let share = f64::from(counts[order[0]]) / 50_000.0;
            assert!((0.16..0.20).contains(&share), "{share}");
            let reached = counts.iter().filter(|n| **n > 0).count();
            assert!(reached > 990, "{reached}");
            [order[0], order[1], order[2]]
        };
        let hot = hottest(1);
        assert_eq!(hot, hottest(2));
        assert!(hot[0].abs_diff(hot[1]) > 1 && hot[1].abs_diff(hot[2]) > 1);
    }

    #[test]
    fn every_number_has_a_place_of_its_own() {
        for count in [1_u64, 2, 3, 100, 4_096, 5_000] {
            let shuffle = Shuffle::new(0, count, 11);
            let mut places: Vec<u64> =
                (0..count).map(|n| shuffle.place_of(n)).collect();
            places.sort_unstable();
            assert_eq!(places, (0..count).collect::<Vec<_>>());
        }
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
    fn once_each_reads_every_block_of_its_part_before_any_again() {
        for blocks in [3_u64, 64, 1_000] {
            let mut seen = Vec::new();
            for index in 0..3 {
                let stream = Stream { index, count: 3 };
                let addresses =
                    Addresses::once_each(blocks * 512, 512, stream, 5)
                        .expect("room");
                let (range, ops) = addresses.pass().expect("it has an end");
                assert_eq!(range.bytes, ops * 512);
                let twice = usize::try_from(2 * ops).expect("small");
                let offsets = take(addresses, twice);
                let (pass, again) = offsets.split_at(twice / 2);
                let sorted = |part: &[u64]| {
                    let mut part = part.to_vec();
                    part.sort_unstable();
                    part
                };
                let all: Vec<u64> =
                    (0..ops).map(|b| range.offset + b * 512).collect();
                assert_eq!(sorted(pass), all, "{blocks} blocks");
                assert_eq!(sorted(again), all, "{blocks} blocks");
                assert!(ops < 64 || pass != all, "in order");
                seen.extend(all);
            }
            seen.dedup();
            assert_eq!(seen.len() as u64, blocks / 3 * 3);
        }
        let crowd = Stream { index: 0, count: 4 };
        assert!(Addresses::once_each(3 * 512, 512, crowd, 5).is_none());
    }

    #[test]
    fn once_each_jumps_as_far_as_random_does() {
        let addresses =
            Addresses::once_each(1 << 30, 4096, ONE, 7).expect("room");
        let offsets = take(addresses, 10_000);
        let near = offsets
            .windows(2)
            .filter(|pair| pair[0].abs_diff(pair[1]) < 1 << 20)
            .count();
        // 2 MiB of 1 GiB: one jump in 512.
        assert!(near < 60, "{near}");
        let low = offsets.iter().filter(|o| **o < 1 << 29).count();
        assert!((4_700..5_300).contains(&low), "{low}");
    }

    #[test]
    fn a_target_below_one_op_has_no_addresses() {
        for pattern in [Pattern::Random, Pattern::Zipf, Pattern::Sequential] {
            assert!(Addresses::new(pattern, 4095, 4096, ONE, 0, 0).is_none());
            assert!(Addresses::new(pattern, 4096, 0, ONE, 0, 0).is_none());
        }
    }
}
