//! The check that every completed read goes through, and the complete one
//! that a sample goes through.
//!
//! The cheap check touches the first and the last block of an op, so that a
//! transfer cut short or left out shows. What is checked and how often is the
//! same for every variant, so that it moves no comparison.

use std::{fs::File, io, os::unix::fs::FileExt};

use harness::{machine::Buffer, measure::trial::TrialError};

use crate::{
    blank::Sampled,
    contents::{BLOCK_BYTES, HEADER_BYTES, Seeded, checksum},
    mapped_bytes::MappedBytes,
    random::Random,
};

/// One op in so many is compared or summed whole, the first of each thread
/// among them: many threads on a slow disk do few ops each. 4 KiB take about a
/// microsecond, which is then some 4 ns per op.
pub const FULL_CHECK_EVERY: u32 = 256;

/// Blocks of an existing target that are read a second time at the end.
pub const SAMPLES_MAX: usize = 64;

/// How much was checked.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Checked {
    /// Ops whose block address was compared.
    pub verified_ops: u64,
    /// Ops whose whole contents were compared.
    pub checksummed_ops: u64,
    /// What was looked at of somebody else's data.
    pub sampled: Sampled,
}

/// Checks one thread's reads.
#[derive(Debug)]
pub struct Checker {
    kind: Kind,
    until_full: u32,
    checked: Checked,
}

#[derive(Debug)]
enum Kind {
    Seeded(Seeded),
    Foreign(Samples),
}

impl Checker {
    /// For a target written by the run.
    pub fn seeded(seeded: Seeded) -> Self {
        Self::new(Kind::Seeded(seeded))
    }

    /// For a target whose contents are somebody else's: samples are kept and
    /// read again in `finish`.
    pub fn foreign(seed: u64) -> Self {
        Self::new(Kind::Foreign(Samples::new(seed)))
    }

    fn new(kind: Kind) -> Self {
        Self { kind, until_full: 1, checked: Checked::default() }
    }

    /// Checks an op's data, read whole at `offset`.
    ///
    /// # Errors
    /// `Wrong`, with the offset, what was expected and what was found.
    #[inline(always)]
    pub fn check(
        &mut self,
        offset: u64,
        data: &[u8],
    ) -> Result<(), TrialError> {
        self.look_at(offset, data)
    }

    /// The same of an op in a mapping. Where all of it is looked at, it is
    /// copied to `room`, which is as large.
    ///
    /// # Errors
    /// As `check`.
    #[inline(always)]
    pub fn check_mapped(
        &mut self,
        offset: u64,
        bytes: MappedBytes<'_>,
        room: &mut [u8],
    ) -> Result<(), TrialError> {
        self.look_at(offset, Mapped { bytes, room })
    }

    #[inline(always)]
    fn look_at(
        &mut self,
        offset: u64,
        mut data: impl Data,
    ) -> Result<(), TrialError> {
        if let Kind::Seeded(seeded) = &self.kind {
            let last = data.bytes().saturating_sub(BLOCK_BYTES);
            let intact = |at: usize| {
                let head = data.head(at);
                head.is_some_and(|h| seeded.is_head(offset + at as u64, h))
            };
            if !(intact(0) && intact(last)) {
                return Err(wrong_header(seeded, offset, data.whole()));
            }
            self.checked.verified_ops += 1;
        }
        self.until_full -= 1;
        if self.until_full == 0 {
            self.until_full = FULL_CHECK_EVERY;
            return self.check_whole(offset, data.whole());
        }
        Ok(())
    }

    #[inline(never)]
    fn check_whole(
        &mut self,
        offset: u64,
        data: &[u8],
    ) -> Result<(), TrialError> {
        match &mut self.kind {
            Kind::Seeded(seeded) => {
                seeded.verify(offset, data).map_err(|mismatch| {
                    TrialError::Wrong(mismatch.to_string())
                })?;
                self.checked.checksummed_ops += 1;
            }
            Kind::Foreign(samples) => {
                samples.keep(offset, checksum(data));
                self.checked.sampled.look(data);
            }
        }
        Ok(())
    }

    /// How much was checked so far.
    pub fn checked(&self) -> Checked {
        self.checked
    }

    /// Reads the samples again, by a plain blocking call through `other`, and
    /// says how much was checked.
    ///
    /// # Errors
    /// `Wrong` when a block now differs from what was read, `Op` when it can
    /// no longer be read.
    pub fn finish(
        &mut self,
        other: &File,
        op_bytes: usize,
    ) -> Result<Checked, TrialError> {
        if let Kind::Foreign(samples) = &self.kind {
            samples.read_again(other, op_bytes)?;
            self.checked.checksummed_ops = samples.kept.len() as u64;
        }
        Ok(self.checked)
    }
}

/// An op's data, in a buffer of our own or where others may write to it.
trait Data {
    fn bytes(&self) -> usize;

    /// The 16 bytes from there on; `None` beyond the end.
    fn head(&self, at: usize) -> Option<[u8; HEADER_BYTES]>;

    /// All of it, as it is now.
    fn whole(&mut self) -> &[u8];
}

impl Data for &[u8] {
    #[inline(always)]
    fn bytes(&self) -> usize {
        self.len()
    }

    #[inline(always)]
    fn head(&self, at: usize) -> Option<[u8; HEADER_BYTES]> {
        self.get(at..)?.first_chunk().copied()
    }

    #[inline(always)]
    fn whole(&mut self) -> &[u8] {
        self
    }
}

struct Mapped<'a> {
    bytes: MappedBytes<'a>,
    room: &'a mut [u8],
}

impl Data for Mapped<'_> {
    #[inline(always)]
    fn bytes(&self) -> usize {
        self.bytes.bytes()
    }

    #[inline(always)]
    fn head(&self, at: usize) -> Option<[u8; HEADER_BYTES]> {
        self.bytes.head(at)
    }

    #[cold]
    fn whole(&mut self) -> &[u8] {
        self.bytes.copy_to(self.room)
    }
}

#[cold]
#[inline(never)]
fn wrong_header(seeded: &Seeded, offset: u64, data: &[u8]) -> TrialError {
    let last = data.len().saturating_sub(BLOCK_BYTES);
    let mismatch = if seeded.header_matches(offset, data) {
        seeded.explain_header(offset + last as u64, &data[last..])
    } else {
        seeded.explain_header(offset, data)
    };
    TrialError::Wrong(mismatch.to_string())
}

/// A uniform sample of all blocks offered so far (Vitter's algorithm R, 1985),
/// so that the end of a trial is looked at as closely as its beginning.
#[derive(Debug)]
struct Samples {
    kept: Vec<Sample>,
    offered: u64,
    random: Random,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    offset: u64,
    checksum: u64,
}

impl Samples {
    fn new(seed: u64) -> Self {
        Self {
            kept: Vec::with_capacity(SAMPLES_MAX),
            offered: 0,
            random: Random::new(seed),
        }
    }

    fn keep(&mut self, offset: u64, checksum: u64) {
        let sample = Sample { offset, checksum };
        self.offered += 1;
        if self.kept.len() < SAMPLES_MAX {
            self.kept.push(sample);
            return;
        }
        let place = usize::try_from(self.random.below(self.offered));
        if let Some(old) = place.ok().and_then(|i| self.kept.get_mut(i)) {
            *old = sample;
        }
    }

    fn read_again(
        &self,
        file: &File,
        op_bytes: usize,
    ) -> Result<(), TrialError> {
        if self.kept.is_empty() {
            return Ok(());
        }
        let mut buffer = Buffer::new(op_bytes, BLOCK_BYTES, None)
            .map_err(|error| TrialError::setup(error.to_string()))?;
        for sample in &self.kept {
            file.read_exact_at(&mut buffer, sample.offset).map_err(
                |error| {
                    unreadable(
                        "pread at the end",
                        &error,
                        sample.offset,
                        op_bytes,
                    )
                },
            )?;
            let now = checksum(&buffer);
            if now != sample.checksum {
                return Err(TrialError::Wrong(format!(
                    "at offset {}: {op_bytes} bytes had checksum {:016x} when \
                     measured and have {now:016x} in a plain read afterwards; \
                     a read brought wrong data, or something wrote to the \
                     target meanwhile: use one that nothing writes to",
                    sample.offset, sample.checksum,
                )));
            }
        }
        Ok(())
    }
}

/// Why what was there cannot be read whole once more. Where the rest is missing
/// there is no error number: 0, as everywhere.
#[cold]
pub fn unreadable(
    what: &str,
    error: &io::Error,
    offset: u64,
    bytes: usize,
) -> TrialError {
    let short = match error.kind() {
        io::ErrorKind::UnexpectedEof => " (short)",
        _ => "",
    };
    let errno = error.raw_os_error().unwrap_or(0);
    TrialError::op(&format!("{what}{short}"), errno, offset, bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEEDED: Seeded = Seeded { run_id: 1, seed: 2 };

    fn op(offset: u64, blocks: usize) -> Vec<u8> {
        let mut data = vec![0; blocks * BLOCK_BYTES];
        SEEDED.fill(offset, &mut data);
        data
    }

    fn message(error: TrialError) -> String {
        assert!(matches!(error, TrialError::Wrong(_)), "{error:?}");
        error.to_string()
    }

    #[test]
    fn a_wrong_first_or_last_header_is_found_in_every_op() {
        let mut checker = Checker::seeded(SEEDED);
        let good = op(8192, 4);
        checker.check(8192, &good).expect("intact");
        let mut first = good.clone();
        first[8] ^= 1;
        let text = message(checker.check(8192, &first).expect_err("first"));
        assert!(text.contains("offset 8192"), "{text}");
        assert!(text.contains("block 2, found"), "{text}");
        let mut last = good.clone();
        last[3 * BLOCK_BYTES] ^= 1;
        let text = message(checker.check(8192, &last).expect_err("last"));
        assert!(text.contains("offset 20480"), "{text}");
    }

    #[test]
    fn a_corrupt_byte_elsewhere_is_found_by_the_sampled_check() {
        let mut checker = Checker::seeded(SEEDED);
        let mut data = op(0, 1);
        checker.check(0, &data).expect("intact");
        checker.check(0, &data).expect("intact");
        data[3_000] ^= 4;
        let failed_at = (1..=FULL_CHECK_EVERY)
            .find(|_| checker.check(0, &data).is_err())
            .expect("found within one period");
        assert_eq!(failed_at, FULL_CHECK_EVERY - 1);
    }

    #[test]
    fn a_seeded_target_counts_both_checks() {
        let mut checker = Checker::seeded(SEEDED);
        let data = op(4096, 1);
        for _ in 0..3 * FULL_CHECK_EVERY {
            checker.check(4096, &data).expect("intact");
        }
        let file = File::open("/dev/null").expect("/dev/null");
        let checked = checker.finish(&file, 4096).expect("nothing to read");
        assert_eq!(checked.verified_ops, 3 * u64::from(FULL_CHECK_EVERY));
        assert_eq!(checked.checksummed_ops, 3);
    }

    #[test]
    fn samples_are_spread_over_everything_offered() {
        let mut samples = Samples::new(11);
        for offset in 0..10_000 {
            samples.keep(offset, 0);
        }
        assert_eq!(samples.kept.len(), SAMPLES_MAX);
        let late = samples.kept.iter().filter(|s| s.offset >= 5_000).count();
        assert!((16..=48).contains(&late), "{late}");
    }

    #[test]
    fn a_foreign_block_that_changes_is_wrong_and_one_op_is_enough() {
        let file = tempfile::tempfile().expect("temporary file");
        file.write_all_at(&[7; 2 * BLOCK_BYTES], 0).expect("write");
        let mut checker = Checker::foreign(3);
        checker.check(4096, &[7; BLOCK_BYTES]).expect("not checked yet");
        let checked = checker.finish(&file, BLOCK_BYTES).expect("unchanged");
        assert_eq!((checked.verified_ops, checked.checksummed_ops), (0, 1));
        file.write_all_at(&[8], 5_000).expect("write");
        let error = checker.finish(&file, BLOCK_BYTES).expect_err("changed");
        assert!(message(error).contains("offset 4096"));
        file.set_len(100).expect("truncate");
        let error = checker.finish(&file, BLOCK_BYTES).expect_err("short");
        assert!(matches!(error, TrialError::Op { offset: 4096, .. }));
    }

    #[test]
    fn what_is_missing_when_it_is_read_again_is_told_as_short() {
        let told = |error| unreadable("pread", &error, 8192, 4096).to_string();
        let missing = told(io::ErrorKind::UnexpectedEof.into());
        assert_eq!(missing, "pread (short) of 4096 bytes at offset 8192");
        let failed = told(io::Error::from_raw_os_error(libc::EIO));
        assert!(failed.starts_with("pread of 4096 bytes at offset 8192: "));
        assert!(failed.ends_with("(errno 5)"), "{failed}");
    }
}
