//! What a write leaves behind, so that it can be told from every other one.
//!
//! An op is written in units of 4 KiB, or in one unit if it is shorter:
//!
//! | offset | bytes | |
//! |---|---|---|
//! | 0 | 8 | run id, little endian |
//! | 8 | 8 | address: number of the 4 KiB block in the target, little endian; its top byte: number of the sector within |
//! | 16 | 8 | trial, little endian |
//! | 24 | 8 | number of the write among its writer's, from 1, little endian |
//! | 32 | all but 40 | the writer's seeded pseudo-random numbers |
//! | last 8 | 8 | number of the write again: half a unit does not pass |
//!
//! The first 16 bytes are those of a block that was written before the first
//! trial (`contents`), so that a read is checked the same way wherever it
//! goes.
//!
//! Each writer has one op in flight and a part of the target to itself. So the
//! last write to each place is known for sure, whatever the order in which the
//! device did them.

use std::{fs::File, os::unix::fs::FileExt};

use harness::{machine::Buffer, measure::trial::TrialError};

use crate::{
    addresses::Addresses,
    checker::{FULL_CHECK_EVERY, unreadable},
    contents::{BLOCK_BYTES, SECTOR_BYTES},
    random::Random,
};

const HEADER_BYTES: usize = 32;
const TRAILER_BYTES: usize = 8;

/// Read back at once: enough for a device's full rate.
const CHUNK_BYTES: u64 = 1 << 20;

/// Parts of several writers that lie among each other are read back together
/// as long as no more than this is read for one op.
const SPREAD_BYTES_MAX: u64 = 64 << 10;

/// The places that one writer owns, each as long as an op.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Number of its first place in the target.
    pub first: u64,
    /// How far it is from each place to the next.
    pub step: u64,
    /// How many there are; at least 1.
    pub places: u64,
}

impl Part {
    /// The parts of `writers` side by side, as long as each other, in a
    /// target of so many places. `None` when there is not one for each.
    pub fn region(writer: usize, writers: usize, places: u64) -> Option<Self> {
        let own = Self::share(writers, places)?;
        Some(Self { first: writer as u64 * own, step: 1, places: own })
    }

    /// The same, but the writers take turns, so that together they go over
    /// the target in order.
    pub fn turns(writer: usize, writers: usize, places: u64) -> Option<Self> {
        let own = Self::share(writers, places)?;
        Some(Self { first: writer as u64, step: writers as u64, places: own })
    }

    fn share(writers: usize, places: u64) -> Option<u64> {
        places.checked_div(writers as u64).filter(|own| *own > 0)
    }
}

/// Whose writes they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Author {
    /// The run.
    pub run_id: u64,
    /// The trial.
    pub trial: u64,
    /// Seeds the contents that stay the same.
    pub seed: u64,
}

/// One writer's writes, and reads among them: where the next one goes, what it
/// holds, and what must stand in the part afterwards.
#[derive(Clone, Debug)]
pub struct Writes {
    author: Author,
    part: Part,
    op_bytes: usize,
    /// Over the numbers of the part's places.
    walk: Addresses,
    /// The place of the op in flight.
    place: u64,
    made: u64,
    /// For each place the number of the last write there; 0 is none.
    last: Box<[u64]>,
    /// An op as it is before it gets its header.
    template: Box<[u8]>,
    reads: ReadMix,
}

/// How reads are strewn in, and how many were checked.
#[derive(Clone, Debug)]
struct ReadMix {
    percent: u64,
    random: Random,
    until_full: u32,
    verified: u64,
    checksummed: u64,
}

impl Writes {
    /// None made yet. `walk` yields numbers of the part's places.
    pub fn new(
        author: Author,
        part: Part,
        op_bytes: usize,
        walk: Addresses,
    ) -> Self {
        let mut template = vec![0; op_bytes].into_boxed_slice();
        let mut random = Random::new(author.seed);
        for word in template.as_chunks_mut::<8>().0 {
            *word = random.next_u64().to_le_bytes();
        }
        let places = usize::try_from(part.places).unwrap_or(usize::MAX);
        // Zeroed memory would only be there when it is first touched.
        let mut last = vec![u64::MAX; places].into_boxed_slice();
        last.fill(0);
        let reads = ReadMix {
            percent: 0,
            random: Random::new(author.seed ^ u64::MAX),
            until_full: FULL_CHECK_EVERY,
            verified: 0,
            checksummed: 0,
        };
        let (place, made) = (0, 0);
        Self {
            author,
            part,
            op_bytes,
            walk,
            place,
            made,
            last,
            template,
            reads,
        }
    }

    /// The same, and so many ops in a hundred are reads.
    #[must_use]
    pub fn with_reads(mut self, percent: u64) -> Self {
        self.reads.percent = percent;
        self
    }

    /// Writes the part that stays the same into the writer's buffer.
    pub fn fill(&self, op: &mut [u8]) {
        op.copy_from_slice(&self.template);
    }

    /// Draws the place of the next op, and whether it is to be read. A write
    /// goes on with `stamp_next`.
    #[inline(always)]
    pub fn draw(&mut self) -> bool {
        self.place = self.walk.next_offset();
        self.reads.percent > 0
            && self.reads.random.below(100) < self.reads.percent
    }

    /// Makes `op`, which was filled before, the write to the place that was
    /// drawn.
    #[inline(always)]
    pub fn stamp_next(&mut self, op: &mut [u8]) {
        self.made += 1;
        if let Some(last) = slot(&mut self.last, self.place) {
            *last = self.made;
        }
        self.stamp(self.place, self.made, op);
    }

    /// Where the op is, or was last, in flight.
    #[inline(always)]
    pub fn offset(&self) -> u64 {
        self.offset_of(self.place)
    }

    /// What the last write to a place of the part looks like, into `op`, and
    /// where it went; `None` where there was none.
    pub fn last_written(&self, place: u64, op: &mut [u8]) -> Option<u64> {
        let number = self.last(place);
        if number == 0 {
            return None;
        }
        self.fill(op);
        self.stamp(place, number, op);
        Some(self.offset_of(place))
    }

    /// The place that was drawn last.
    #[inline(always)]
    pub fn place(&self) -> u64 {
        self.place
    }

    /// How many writes were made so far.
    pub fn made(&self) -> u64 {
        self.made
    }

    /// How many reads were checked so far, and how many of them whole.
    pub fn reads_checked(&self) -> (u64, u64) {
        (self.reads.verified, self.reads.checksummed)
    }

    #[inline(always)]
    fn offset_of(&self, place: u64) -> u64 {
        (self.part.first + place * self.part.step) * self.op_bytes as u64
    }

    /// Bytes that have a header.
    #[inline(always)]
    fn unit_bytes(&self) -> usize {
        self.op_bytes.min(BLOCK_BYTES)
    }

    #[inline(always)]
    fn stamp(&self, place: u64, number: u64, op: &mut [u8]) {
        let mut offset = self.offset_of(place);
        for unit in op.chunks_exact_mut(self.unit_bytes()) {
            let header = self.header(offset, number);
            for (bytes, word) in
                unit.as_chunks_mut::<8>().0.iter_mut().zip(header)
            {
                *bytes = word.to_le_bytes();
            }
            if let Some(trailer) = unit.last_chunk_mut::<TRAILER_BYTES>() {
                *trailer = number.to_le_bytes();
            }
            offset += unit.len() as u64;
        }
    }

    #[inline(always)]
    fn header(&self, offset: u64, number: u64) -> [u64; 4] {
        let block = BLOCK_BYTES as u64;
        let sector = offset % block / SECTOR_BYTES as u64;
        let address = (offset / block) | (sector << 56);
        [self.author.run_id, address, self.author.trial, number]
    }

    /// Checks what was read at the place that was drawn: run and address of
    /// its first and its last unit, and if it was written in this trial, that
    /// it is the last write. One read in 256 is then compared whole.
    ///
    /// # Errors
    /// `Wrong`, with what was expected and what was found.
    #[inline(always)]
    pub fn check_read(&mut self, op: &[u8]) -> Result<(), TrialError> {
        let number = slot(&mut self.last, self.place).map_or(0, |last| *last);
        // What other trials wrote is theirs but for run and address.
        let words = if number > 0 { HEADER_BYTES / 8 } else { 2 };
        let unit_bytes = self.unit_bytes();
        let offset = self.offset();
        let tail = op.len() - unit_bytes;
        for (unit, offset) in
            [(op, offset), (&op[tail..], offset + tail as u64)]
        {
            let header = self.header(offset, number);
            let found = unit.as_chunks::<8>().0;
            let same = found
                .iter()
                .zip(&header[..words])
                .all(|(found, word)| u64::from_le_bytes(*found) == *word);
            if !same {
                return Err(self.wrong_read(number, op));
            }
        }
        self.reads.verified += 1;
        self.reads.until_full -= 1;
        if self.reads.until_full == 0 {
            self.reads.until_full = FULL_CHECK_EVERY;
            return self.check_whole(number, op);
        }
        Ok(())
    }

    #[inline(never)]
    fn check_whole(
        &mut self,
        number: u64,
        op: &[u8],
    ) -> Result<(), TrialError> {
        if number == 0 {
            return Ok(());
        }
        let mut expected = std::mem::take(&mut self.template);
        self.stamp(self.place, number, &mut expected);
        let same = *expected == *op;
        self.template = expected;
        self.reads.checksummed += 1;
        if same { Ok(()) } else { Err(self.wrong_read(number, op)) }
    }

    #[cold]
    #[inline(never)]
    fn wrong_read(&self, number: u64, op: &[u8]) -> TrialError {
        let mut expected = self.template.to_vec();
        self.stamp(self.place, number, &mut expected);
        let text = match number {
            // Of what was written before this trial only run and address are
            // known.
            0 => format!(
                "a read brought another block: at offset {}: expected {}, \
                 found {}",
                self.offset(),
                describe_place(&expected),
                describe(&op[..self.unit_bytes()]),
            ),
            _ => format!(
                "a read did not bring the last write: {}",
                self.difference(self.place, &expected, op)
            ),
        };
        TrialError::Wrong(text)
    }

    /// Reads every place that was written, once all writes have completed, and
    /// compares it whole with the last write that went there. Returns how many
    /// there were. `file` should be open with O_DIRECT: what stands in the
    /// page cache proves nothing.
    ///
    /// # Errors
    /// `Wrong` with the first place that differs; `Op` when it cannot be read.
    pub fn verify(&self, file: &File) -> Result<u64, TrialError> {
        let op_bytes = self.op_bytes as u64;
        let stride = op_bytes * self.part.step;
        let together = match self.part.step {
            1 => (CHUNK_BYTES / op_bytes).max(1),
            _ if stride <= SPREAD_BYTES_MAX => CHUNK_BYTES / stride,
            _ => 1,
        };
        let chunk_bytes = (together - 1) * stride + op_bytes;
        let chunk_bytes = usize::try_from(chunk_bytes).unwrap_or(usize::MAX);
        let mut chunk = Buffer::new(chunk_bytes, BLOCK_BYTES, None)
            .map_err(|error| TrialError::setup(error.to_string()))?;
        let mut expected = self.template.clone();
        let mut verified = 0;
        let places = self.part.places;
        let mut start = 0;
        while start < places {
            let end = places.min(start + together);
            let is_written = |place: &u64| self.last(*place) > 0;
            let mut written = (start..end).filter(is_written);
            // Nothing is read before the first nor behind the last: a slow
            // disk has written few of many places.
            if let Some(first) = written.next() {
                let last = written.next_back().unwrap_or(first);
                let span = (last - first) * stride + op_bytes;
                let span = usize::try_from(span).unwrap_or(chunk_bytes);
                let chunk = &mut chunk[..span];
                let offset = self.offset_of(first);
                file.read_exact_at(chunk, offset).map_err(|error| {
                    unreadable(
                        "pread of what was written",
                        &error,
                        offset,
                        span,
                    )
                })?;
                for place in (first..=last).filter(is_written) {
                    let at = usize::try_from((place - first) * stride)
                        .unwrap_or(usize::MAX);
                    let found = &chunk[at..at + self.op_bytes];
                    self.stamp(place, self.last(place), &mut expected);
                    if *found != *expected {
                        let text = self.difference(place, &expected, found);
                        return Err(TrialError::Wrong(text));
                    }
                    verified += 1;
                }
            }
            start = end;
        }
        Ok(verified)
    }

    fn last(&self, place: u64) -> u64 {
        let index = usize::try_from(place).unwrap_or(usize::MAX);
        self.last.get(index).copied().unwrap_or(0)
    }

    /// What stands at a place, and what should, of the first unit that
    /// differs.
    #[cold]
    fn difference(&self, place: u64, expected: &[u8], found: &[u8]) -> String {
        let unit_bytes = self.unit_bytes();
        let different =
            found.iter().zip(expected).position(|(f, e)| f != e).unwrap_or(0);
        let unit = different / unit_bytes * unit_bytes;
        let of = |op: &[u8]| describe(&op[unit..unit + unit_bytes]);
        format!(
            "at offset {}: a write that was reported as done is not what \
             stands there: expected {}, found {}; first different byte {}",
            self.offset_of(place) + unit as u64,
            of(expected),
            of(found),
            different - unit,
        )
    }
}

#[inline(always)]
fn slot(last: &mut [u64], place: u64) -> Option<&mut u64> {
    last.get_mut(usize::try_from(place).ok()?)
}

fn word(unit: &[u8], index: usize) -> u64 {
    let words = unit.as_chunks::<8>().0;
    words.get(index).map_or(0, |word| u64::from_le_bytes(*word))
}

fn describe_place(unit: &[u8]) -> String {
    let (run_id, address) = (word(unit, 0), word(unit, 1));
    let (block, sector) = (address & (u64::MAX >> 8), address >> 56);
    match sector {
        0 => format!("run id {run_id:016x} block {block}"),
        _ => format!("run id {run_id:016x} block {block} sector {sector}"),
    }
}

fn describe(unit: &[u8]) -> String {
    format!(
        "{} trial {} write {} (at its end {})",
        describe_place(unit),
        word(unit, 2),
        word(unit, 3),
        word(unit, (unit.len() / 8).saturating_sub(1)),
    )
}

#[cfg(test)]
mod tests;
