//! What a created target holds, so that each read can be checked.
//!
//! Every block of 4 KiB starts with a header and goes on with numbers drawn
//! from the seed and the block's address:
//!
//! | offset | bytes | |
//! |---|---|---|
//! | 0 | 8 | run id, little endian |
//! | 8 | 8 | address: number of the block in the target, little endian |
//! | 16 | 4,080 | seeded pseudo-random numbers, little endian |
//!
//! The header shows in 16 bytes that a read brought what it asked for, and not
//! an earlier op's data that was still in the buffer. The rest neither
//! compresses nor repeats, so that no device answers from less than it stores,
//! and can be made again for a complete comparison.

use serde::{Deserialize, Serialize};

use crate::random::Random;

/// The unit that carries a header; every op is a multiple of it, or a whole
/// number of sectors within one.
pub const BLOCK_BYTES: usize = 4096;

/// The smallest op: the smallest unit that block devices have.
pub const SECTOR_BYTES: usize = 512;

/// Run id and address.
pub const HEADER_BYTES: usize = 16;

/// What was written: everything is derived from these two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seeded {
    /// Stands in each header.
    pub run_id: u64,
    /// Decides the rest of each block.
    pub seed: u64,
}

/// A block that is not what was written there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at offset {offset}: expected {expected}, found {found}")]
pub struct Mismatch {
    /// The first byte of the target that differs, or the header's.
    pub offset: u64,
    /// What was written there.
    pub expected: String,
    /// What was read.
    pub found: String,
}

impl Seeded {
    /// Fills whole blocks, the first of them at the target's `offset`.
    pub fn fill(&self, offset: u64, blocks: &mut [u8]) {
        let first = offset / BLOCK_BYTES as u64;
        for (address, block) in
            (first..).zip(blocks.as_chunks_mut::<BLOCK_BYTES>().0)
        {
            let header = self.header(address);
            let (head, body) = block.split_at_mut(HEADER_BYTES);
            head.copy_from_slice(&header.to_le_bytes());
            let mut random = self.body(address);
            for word in body.as_chunks_mut::<8>().0 {
                *word = random.next_u64().to_le_bytes();
            }
        }
    }

    /// Whether the first 16 bytes are those written at `offset`: a block's
    /// header, or what stands at the start of a sector within it.
    #[inline(always)]
    pub fn header_matches(&self, offset: u64, data: &[u8]) -> bool {
        let found = data.first_chunk::<HEADER_BYTES>();
        found.is_some_and(|head| self.is_head(offset, *head))
    }

    /// The same of 16 bytes.
    #[inline(always)]
    pub fn is_head(&self, offset: u64, head: [u8; HEADER_BYTES]) -> bool {
        u128::from_le_bytes(head) == self.expected_at(offset)
    }

    /// The 16 bytes at `offset`, which is a multiple of 16.
    #[inline(always)]
    fn expected_at(&self, offset: u64) -> u128 {
        let block = BLOCK_BYTES as u64;
        let (address, within) = (offset / block, offset % block);
        if within == 0 {
            return self.header(address);
        }
        let mut random = self.body_from(address, within);
        let low = random.next_u64();
        u128::from(random.next_u64()) << 64 | u128::from(low)
    }

    /// Compares headers; on a difference says which.
    ///
    /// # Errors
    /// The header differs or the block is too short to have one.
    #[cold]
    #[inline(never)]
    pub fn explain_header(&self, offset: u64, block: &[u8]) -> Mismatch {
        let within = offset % BLOCK_BYTES as u64;
        let describe = |header: u128| {
            if within > 0 {
                return format!("{header:032x}");
            }
            let run_id = header & u128::from(u64::MAX);
            let address = header >> 64;
            format!("run id {run_id:016x} block {address}")
        };
        let found = block.first_chunk::<HEADER_BYTES>().map_or_else(
            || format!("{} bytes", block.len()),
            |header| describe(u128::from_le_bytes(*header)),
        );
        let expected = self.expected_at(offset);
        Mismatch { offset, expected: describe(expected), found }
    }

    /// Compares whole blocks, or sectors of one block, read at `offset` with
    /// what was written.
    ///
    /// # Errors
    /// The first word that differs.
    pub fn verify(&self, offset: u64, data: &[u8]) -> Result<(), Mismatch> {
        if data.len() < BLOCK_BYTES {
            return self.verify_part(offset, data);
        }
        self.verify_blocks(offset, data)
    }

    fn verify_part(&self, offset: u64, part: &[u8]) -> Result<(), Mismatch> {
        let block_bytes = BLOCK_BYTES as u64;
        let start = offset / block_bytes * block_bytes;
        let mut block = [0; BLOCK_BYTES];
        self.fill(start, &mut block);
        let within = usize::try_from(offset - start).unwrap_or(0);
        let expected = block.get(within..within + part.len());
        let expected = expected.unwrap_or_default();
        let words = |bytes: &[u8], at: usize| {
            let word = bytes.get(at..at + 8).unwrap_or_default();
            word.iter().rev().map(|b| format!("{b:02x}")).collect::<String>()
        };
        let differs = (0..part.len())
            .find(|at| part.get(*at) != expected.get(*at))
            .map(|at| at / 8 * 8);
        differs.map_or(Ok(()), |at| {
            Err(Mismatch {
                offset: offset + at as u64,
                expected: words(expected, at),
                found: words(part, at),
            })
        })
    }

    fn verify_blocks(
        &self,
        offset: u64,
        blocks: &[u8],
    ) -> Result<(), Mismatch> {
        let first = offset / BLOCK_BYTES as u64;
        for (address, block) in
            (first..).zip(blocks.as_chunks::<BLOCK_BYTES>().0)
        {
            let start = address * BLOCK_BYTES as u64;
            if !self.header_matches(start, block) {
                return Err(self.explain_header(start, block));
            }
            let mut random = self.body(address);
            let body = block[HEADER_BYTES..].as_chunks::<8>().0;
            for (index, word) in (0_u64..).zip(body) {
                let expected = random.next_u64();
                let found = u64::from_le_bytes(*word);
                if found != expected {
                    return Err(Mismatch {
                        offset: start + HEADER_BYTES as u64 + index * 8,
                        expected: format!("{expected:016x}"),
                        found: format!("{found:016x}"),
                    });
                }
            }
        }
        Ok(())
    }

    #[inline(always)]
    fn header(&self, address: u64) -> u128 {
        u128::from(address) << 64 | u128::from(self.run_id)
    }

    /// The numbers behind a block's header.
    #[inline(always)]
    fn body(&self, address: u64) -> Random {
        // One draw spreads neighbouring addresses over all 64 bits, so that
        // the streams of two blocks do not overlap.
        let spread = Random::new(address).next_u64();
        Random::new(self.seed ^ spread)
    }

    /// The same from a place within the block that lies behind the header.
    #[inline(always)]
    fn body_from(&self, address: u64, within: u64) -> Random {
        let mut random = self.body(address);
        random.skip((within - HEADER_BYTES as u64) / 8);
        random
    }
}

/// A 64-bit checksum of a buffer, in four lanes so that it runs at memory
/// speed. It finds accidents; it is no defence against intent.
pub fn checksum(bytes: &[u8]) -> u64 {
    const MULTIPLIER: u64 = 0x9fb2_1c65_1e98_df25;
    let mut lanes = [1_u64, 2, 3, 4];
    let (groups, rest) = bytes.as_chunks::<32>();
    for group in groups {
        let (words, _) = group.as_chunks::<8>();
        for (lane, word) in lanes.iter_mut().zip(words) {
            *lane = (*lane ^ u64::from_le_bytes(*word))
                .wrapping_mul(MULTIPLIER)
                .rotate_left(29);
        }
    }
    let tail = rest.iter().fold(0_u64, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(MULTIPLIER).rotate_left(29)
    });
    lanes.iter().fold(tail, |sum, lane| {
        (sum ^ lane).wrapping_mul(MULTIPLIER).rotate_left(29)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEEDED: Seeded = Seeded { run_id: 0xfeed, seed: 7 };

    fn blocks(offset: u64, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count * BLOCK_BYTES];
        SEEDED.fill(offset, &mut bytes);
        bytes
    }

    #[test]
    fn what_is_filled_verifies() {
        let bytes = blocks(8 * 4096, 3);
        assert!(SEEDED.header_matches(8 * 4096, &bytes));
        assert_eq!(SEEDED.verify(8 * 4096, &bytes), Ok(()));
    }

    #[test]
    fn filling_in_parts_gives_the_same() {
        let mut parts = blocks(0, 2);
        parts.extend(blocks(2 * 4096, 2));
        assert_eq!(parts, blocks(0, 4));
    }

    #[test]
    fn sectors_are_told_from_each_other_and_checked_whole() {
        let bytes = blocks(4096, 2);
        let sectors = bytes.chunks(SECTOR_BYTES).zip(0_u64..);
        for (sector, number) in sectors.clone() {
            let offset = 4096 + number * SECTOR_BYTES as u64;
            assert!(SEEDED.header_matches(offset, sector), "{number}");
            assert_eq!(SEEDED.verify(offset, sector), Ok(()), "{number}");
            let elsewhere = offset + SECTOR_BYTES as u64;
            assert!(!SEEDED.header_matches(elsewhere, sector), "{number}");
            let mut bad = sector.to_vec();
            bad[500] ^= 1;
            let mismatch = SEEDED.verify(offset, &bad).expect_err("corrupt");
            assert_eq!(mismatch.offset, offset + 496);
        }
        let other = SEEDED.explain_header(4096 + 512, &bytes);
        assert!(other.found.len() == 32, "{other}");
    }

    #[test]
    fn every_single_corrupt_byte_is_found_where_it_is() {
        let good = blocks(4096, 2);
        for position in [0, 7, 8, 15, 16, 2_000, 4_095, 4_096, 8_191] {
            let mut bad = good.clone();
            bad[position] ^= 1;
            let mismatch = SEEDED.verify(4096, &bad).expect_err("corrupt");
            let found = mismatch.offset - 4096;
            // Headers are reported whole, the rest by its word.
            let expected = match position % BLOCK_BYTES {
                0..HEADER_BYTES => position / BLOCK_BYTES * BLOCK_BYTES,
                _ => position / 8 * 8,
            };
            assert_eq!(found, expected as u64, "{position}: {mismatch}");
        }
    }

    #[test]
    fn data_of_another_address_run_or_length_is_refused() {
        let bytes = blocks(0, 1);
        assert!(!SEEDED.header_matches(4096, &bytes));
        let other = Seeded { run_id: 0xbeef, ..SEEDED };
        assert!(!other.header_matches(0, &bytes));
        assert!(!SEEDED.header_matches(0, &bytes[..8]));
        let mismatch = SEEDED.explain_header(4096, &bytes);
        assert_eq!(mismatch.expected, "run id 000000000000feed block 1");
        assert_eq!(mismatch.found, "run id 000000000000feed block 0");
    }

    #[test]
    fn blocks_do_not_repeat_and_bits_are_even() {
        let bytes = blocks(0, 64);
        let mut bodies: Vec<&[u8]> = bytes
            .chunks(BLOCK_BYTES)
            .map(|block| &block[HEADER_BYTES..HEADER_BYTES + 32])
            .collect();
        bodies.sort_unstable();
        bodies.dedup();
        assert_eq!(bodies.len(), 64);
        let ones: u32 = bytes.iter().map(|byte| byte.count_ones()).sum();
        let share = f64::from(ones) / (bytes.len() as f64 * 8.0);
        assert!((share - 0.5).abs() < 0.01, "{share}");
    }

    #[test]
    fn a_checksum_changes_with_any_byte_and_with_order() {
        let good = blocks(0, 1);
        let sum = checksum(&good);
        for position in [0, 31, 32, 4_095] {
            let mut bad = good.clone();
            bad[position] ^= 0x80;
            assert_ne!(checksum(&bad), sum, "{position}");
        }
        let mut swapped = good.clone();
        swapped.swap(100, 2_000);
        assert_ne!(checksum(&swapped), sum);
        assert_ne!(checksum(b"ab"), checksum(b"ba"));
    }
}
