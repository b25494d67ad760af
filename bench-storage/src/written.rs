//! What a durable write leaves behind, so that it can be told from every
//! other one.
//!
//! | offset | bytes | |
//! |---|---|---|
//! | 0 | 8 | run id, little endian |
//! | 8 | 8 | address: number of the block in the target, little endian |
//! | 16 | 8 | trial, little endian |
//! | 24 | 8 | number of the write among its writer's, from 1, little endian |
//! | 32 | 4,056 | the writer's seeded pseudo-random numbers |
//! | 4,088 | 8 | number of the write again: half a block does not pass |
//!
//! A writer goes round its own region, as a log does that reuses its
//! segments. So the last write to each block is known from their number
//! alone, and nothing has to be remembered while measuring.

use std::{fs::File, io, os::unix::fs::FileExt};

use harness::{machine::Buffer, measure::trial::TrialError};

use crate::{contents::BLOCK_BYTES, random::Random};

const HEADER_BYTES: usize = 32;
const TRAILER_AT: usize = BLOCK_BYTES - 8;

/// Blocks read back at once: 1 MiB, enough for a device's full rate.
const CHUNK_BLOCKS: usize = 256;

/// The blocks that one writer owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Number of its first block in the target.
    pub first: u64,
    /// How many there are; at least 1.
    pub blocks: u64,
}

impl Region {
    /// The regions of `writers` in a target of `bytes` lie side by side, as
    /// long as each other. `None` when there is not a block for each.
    pub fn of(writer: usize, writers: usize, bytes: u64) -> Option<Self> {
        let blocks = (bytes / BLOCK_BYTES as u64)
            .checked_div(writers as u64)
            .filter(|blocks| *blocks > 0)?;
        Some(Self { first: writer as u64 * blocks, blocks })
    }
}

/// One writer's writes: where the next one goes, what it holds, and what must
/// stand in the region afterwards.
#[derive(Clone, Debug)]
pub struct Writes {
    run_id: u64,
    trial: u64,
    /// Seeds the part of the blocks that stays the same.
    seed: u64,
    region: Region,
    made: u64,
}

impl Writes {
    /// None made yet.
    pub fn new(run_id: u64, trial: u64, seed: u64, region: Region) -> Self {
        Self { run_id, trial, seed, region, made: 0 }
    }

    /// Writes the part that stays the same into the writer's buffer.
    pub fn fill(&self, block: &mut [u8; BLOCK_BYTES]) {
        let mut random = Random::new(self.seed);
        for word in block[HEADER_BYTES..TRAILER_AT].as_chunks_mut::<8>().0 {
            *word = random.next_u64().to_le_bytes();
        }
    }

    /// Makes `block`, which was filled before, the next one to be written, and
    /// says at which offset.
    #[inline(always)]
    pub fn next(&mut self, block: &mut [u8; BLOCK_BYTES]) -> u64 {
        let address = self.region.first + self.made % self.region.blocks;
        self.made += 1;
        self.stamp(address, self.made, block);
        address * BLOCK_BYTES as u64
    }

    /// Where the last one went.
    pub fn last_offset(&self) -> u64 {
        let index = self.made.saturating_sub(1) % self.region.blocks;
        (self.region.first + index) * BLOCK_BYTES as u64
    }

    /// How many were made so far.
    pub fn made(&self) -> u64 {
        self.made
    }

    #[inline(always)]
    fn stamp(&self, address: u64, number: u64, block: &mut [u8; BLOCK_BYTES]) {
        let words = [self.run_id, address, self.trial, number];
        for (bytes, word) in block.as_chunks_mut::<8>().0.iter_mut().zip(words)
        {
            *bytes = word.to_le_bytes();
        }
        block[TRAILER_AT..].copy_from_slice(&number.to_le_bytes());
    }

    /// Reads every block that was written, once all writes have completed, and
    /// compares it whole with the last write that went there. Returns how many
    /// there were. `file` should be open with O_DIRECT: what stands in the
    /// page cache proves nothing.
    ///
    /// # Errors
    /// `Wrong` with the first block that differs; `Op` when it cannot be read.
    pub fn verify(&self, file: &File) -> Result<u64, TrialError> {
        let touched = self.made.min(self.region.blocks);
        let new_buffer = |blocks: usize| {
            Buffer::new(blocks * BLOCK_BYTES, BLOCK_BYTES, None)
                .map_err(|error| TrialError::setup(error.to_string()))
        };
        let mut expected = new_buffer(1)?;
        let expected = &mut expected.as_chunks_mut::<BLOCK_BYTES>().0[0];
        self.fill(expected);
        let mut chunk = new_buffer(CHUNK_BLOCKS)?;
        for start in (0..touched).step_by(CHUNK_BLOCKS) {
            let blocks = usize::try_from(touched - start)
                .map_or(CHUNK_BLOCKS, |blocks| blocks.min(CHUNK_BLOCKS));
            let chunk = &mut chunk[..blocks * BLOCK_BYTES];
            let offset = (self.region.first + start) * BLOCK_BYTES as u64;
            file.read_exact_at(chunk, offset)
                .map_err(|error| unreadable(&error, offset, chunk.len()))?;
            let read = chunk.as_chunks::<BLOCK_BYTES>().0;
            for (index, found) in (start..).zip(read) {
                let address = self.region.first + index;
                self.stamp(address, self.last_number(index), expected);
                if found != expected {
                    return Err(wrong(expected, found));
                }
            }
        }
        Ok(touched)
    }

    /// The number of the last write to the region's block `index`, one of
    /// those that were written.
    fn last_number(&self, index: u64) -> u64 {
        let rounds = (self.made - 1 - index) / self.region.blocks;
        rounds * self.region.blocks + index + 1
    }
}

fn unreadable(error: &io::Error, offset: u64, bytes: usize) -> TrialError {
    // A short read has no error number: 0, as everywhere.
    let errno = error.raw_os_error().unwrap_or(0);
    TrialError::op("pread of what was written", errno, offset, bytes as u64)
}

#[cold]
fn wrong(
    expected: &[u8; BLOCK_BYTES],
    found: &[u8; BLOCK_BYTES],
) -> TrialError {
    let word = |block: &[u8; BLOCK_BYTES], index: usize| {
        u64::from_le_bytes(block.as_chunks::<8>().0[index])
    };
    let describe = |block: &[u8; BLOCK_BYTES]| {
        format!(
            "run id {:016x} block {} trial {} write {} (at its end {})",
            word(block, 0),
            word(block, 1),
            word(block, 2),
            word(block, 3),
            word(block, TRAILER_AT / 8),
        )
    };
    let address = word(expected, 1);
    let different =
        found.iter().zip(expected).position(|(f, e)| f != e).unwrap_or(0);
    TrialError::Wrong(format!(
        "at offset {}: a write that was reported as durable is not what \
         stands there: expected {}, found {}; first different byte {different}",
        address * BLOCK_BYTES as u64,
        describe(expected),
        describe(found),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REGION: Region = Region { first: 3, blocks: 5 };

    fn writes() -> Writes {
        Writes::new(0xfeed, 7, 42, REGION)
    }

    /// A file of 16 blocks in which `count` writes were made; those for which
    /// `lose` says so were not.
    fn written(count: u64, lose: impl Fn(u64) -> bool) -> (File, Writes) {
        let file = tempfile::tempfile().expect("temporary file");
        file.set_len(16 * BLOCK_BYTES as u64).expect("length");
        let mut writes = writes();
        let mut block = [0; BLOCK_BYTES];
        writes.fill(&mut block);
        for number in 1..=count {
            let offset = writes.next(&mut block);
            if !lose(number) {
                file.write_all_at(&block, offset).expect("write");
            }
        }
        (file, writes)
    }

    fn message(result: Result<u64, TrialError>) -> String {
        let error = result.expect_err("wrong");
        assert!(matches!(error, TrialError::Wrong(_)), "{error:?}");
        error.to_string()
    }

    #[test]
    fn regions_lie_side_by_side_within_the_target() {
        let bytes = 100 * BLOCK_BYTES as u64 + 5;
        let regions: Vec<Region> =
            (0..3).filter_map(|w| Region::of(w, 3, bytes)).collect();
        let expected = [0, 33, 66].map(|first| Region { first, blocks: 33 });
        assert_eq!(regions, expected);
        assert_eq!(Region::of(0, 3, 2 * BLOCK_BYTES as u64), None);
        assert_eq!(Region::of(0, 0, bytes), None);
    }

    #[test]
    fn every_number_of_writes_is_read_back_whole() {
        for count in 0..=17 {
            let (file, writes) = written(count, |_| false);
            assert_eq!(writes.made(), count);
            assert_eq!(writes.verify(&file), Ok(count.min(5)), "{count}");
        }
    }

    #[test]
    fn a_lost_write_is_found_although_an_earlier_one_stands_there() {
        let (file, writes) = written(12, |number| number == 9);
        let text = message(writes.verify(&file));
        // The ninth write goes to the fourth block of the region.
        assert!(text.contains("offset 24576"), "{text}");
        assert!(text.contains("block 6 trial 7 write 9"), "{text}");
        assert!(text.contains("found run id 000000000000feed"), "{text}");
        assert!(text.contains("write 4 (at its end 4)"), "{text}");
    }

    #[test]
    fn a_write_of_another_trial_does_not_pass() {
        let (file, _) = written(5, |_| false);
        let mut later = Writes { trial: 8, ..writes() };
        for _ in 0..5 {
            later.next(&mut [0; BLOCK_BYTES]);
        }
        let text = message(later.verify(&file));
        assert!(text.contains("trial 8 write 1 (at its end 1)"), "{text}");
        assert!(text.contains("trial 7 write 1"), "{text}");
    }

    #[test]
    fn any_corrupt_byte_is_found() {
        let (file, writes) = written(4, |_| false);
        let offset = REGION.first * BLOCK_BYTES as u64;
        for position in [0, 8, 16, 24, 32, 2_000, 4_087, 4_088, 4_095] {
            let mut byte = [0];
            file.read_exact_at(&mut byte, offset + position).expect("read");
            file.write_all_at(&[byte[0] ^ 1], offset + position)
                .expect("corrupt");
            let text = message(writes.verify(&file));
            let named = format!("first different byte {position}");
            assert!(text.ends_with(&named), "{text}");
            file.write_all_at(&byte, offset + position).expect("mend");
        }
        assert_eq!(writes.verify(&file), Ok(4));
    }

    #[test]
    fn half_a_block_does_not_pass() {
        let (file, writes) = written(7, |number| number == 7);
        let mut block = [0; BLOCK_BYTES];
        writes.fill(&mut block);
        writes.stamp(4, 7, &mut block);
        let offset = 4 * BLOCK_BYTES as u64;
        file.write_all_at(&block[..512], offset).expect("torn");
        let text = message(writes.verify(&file));
        assert!(text.contains("write 7 (at its end 2)"), "{text}");
    }

    #[test]
    fn a_file_cut_short_is_an_error_with_its_offset() {
        let (file, writes) = written(5, |_| false);
        file.set_len(100).expect("truncate");
        let error = writes.verify(&file).expect_err("short");
        let offset = REGION.first * BLOCK_BYTES as u64;
        assert!(
            matches!(error, TrialError::Op { offset: at, .. } if at == offset)
        );
    }
}
