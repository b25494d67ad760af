//! What each op in flight has to itself: batches that are written and dropped,
//! and between them neighbours that are kept; and the looks at both.

use std::{fs::File, io, os::unix::fs::FileExt};

use harness::{
    load::closed::Place,
    machine::Buffer,
    measure::trial::{Evidence, TrialError},
};

use super::{
    Span,
    ground::{BATCH_BYTES, Ground},
    remains::Remains,
};
use crate::{checker::unreadable, contents::BLOCK_BYTES, written::Writes};

/// One batch in so many is looked at as soon as it was dropped; all of them
/// when the trial ends.
const LOOK_EVERY: u32 = 16;

/// One writer's batches and neighbours.
#[derive(Debug)]
pub(super) struct Plot<'a> {
    ground: &'a Ground,
    batches: Writes,
    neighbours: Writes,
    /// What of the batch is not dropped yet.
    left_bytes: usize,
    until_look: u32,
    ops: u64,
}

impl<'a> Plot<'a> {
    /// Writes the neighbours; no batch was written yet, and `batch` is ready
    /// for the first.
    pub(super) fn new(
        ground: &'a Ground,
        place: &Place,
        writer: usize,
        file: &File,
        batch: &mut Buffer,
    ) -> Result<Self, TrialError> {
        let mut neighbours = ground.writes(place, writer, 1)?;
        neighbours.fill(batch);
        for _ in 0..ground.batches() {
            write_next(file, &mut neighbours, batch)?;
        }
        let batches = ground.writes(place, writer, 0)?;
        batches.fill(batch);
        let (left_bytes, until_look, ops) = (0, LOOK_EVERY, 0);
        Ok(Self { ground, batches, neighbours, left_bytes, until_look, ops })
    }

    /// Whether nothing of the batch is left: the next one is to be written.
    #[inline(always)]
    pub(super) fn is_dropped(&self) -> bool {
        self.left_bytes == 0
    }

    /// Writes the next batch and waits for it.
    #[inline(always)]
    pub(super) fn write(
        &mut self,
        file: &File,
        batch: &mut Buffer,
    ) -> Result<(), TrialError> {
        write_next(file, &mut self.batches, batch)?;
        self.is_written();
        Ok(())
    }

    /// Draws the next batch and makes `batch` what is to be written there.
    #[inline(always)]
    pub(super) fn stamp_next(&mut self, batch: &mut Buffer) {
        self.batches.draw();
        self.batches.stamp_next(batch);
    }

    /// The batch that was drawn stands where it belongs.
    #[inline(always)]
    pub(super) fn is_written(&mut self) {
        self.left_bytes = BATCH_BYTES;
    }

    /// Where the batch is.
    #[inline(always)]
    pub(super) fn offset(&self) -> u64 {
        self.batches.offset()
    }

    /// Makes a buffer into which something was read fit for batches again.
    pub(super) fn refill(&self, batch: &mut Buffer) {
        self.batches.fill(batch);
    }

    /// The next part of the batch, to be dropped.
    #[inline(always)]
    pub(super) fn next_span(&mut self) -> Span {
        let bytes = self.ground.op_bytes();
        let done = BATCH_BYTES - self.left_bytes;
        self.left_bytes -= bytes;
        self.ops += 1;
        Span { offset: self.offset() + done as u64, bytes: bytes as u64 }
    }

    /// Parts that were dropped, or are about to be.
    pub(super) fn ops(&self) -> u64 {
        self.ops
    }

    /// After an op: whether all of the batch is dropped, and it is one of
    /// those that are looked at then.
    #[inline(always)]
    pub(super) fn is_due_for_a_look(&mut self) -> bool {
        if self.left_bytes > 0 {
            return false;
        }
        self.until_look -= 1;
        if self.until_look > 0 {
            return false;
        }
        self.until_look = LOOK_EVERY;
        true
    }

    /// The place of the batch.
    pub(super) fn place(&self) -> u64 {
        self.batches.place()
    }

    /// How much was dropped of what was written at a place.
    fn dropped_bytes(&self, place: u64) -> usize {
        match place == self.place() {
            true => BATCH_BYTES - self.left_bytes,
            false => BATCH_BYTES,
        }
    }

    /// Writes all of it again: what comes next expects no holes.
    pub(super) fn restore(
        &mut self,
        file: &File,
        batch: &mut Buffer,
    ) -> Result<(), TrialError> {
        self.batches.fill(batch);
        for _ in 0..self.ground.batches() {
            write_next(file, &mut self.batches, batch)?;
        }
        Ok(())
    }
}

/// Makes what was written durable.
pub(super) fn sync(file: &File) -> Result<(), TrialError> {
    file.sync_data().map_err(|error| failed("fdatasync at the end", &error, 0))
}

/// A buffer for a batch.
pub(super) fn batch_buffer(place: &Place) -> Result<Buffer, TrialError> {
    Buffer::new(BATCH_BYTES, BLOCK_BYTES, place.numa_node)
        .map_err(|error| TrialError::setup(error.to_string()))
}

/// Looks at what was dropped and what was not.
#[derive(Debug)]
pub(super) struct Looker {
    check: File,
    /// What was read back.
    found: Buffer,
    seen: Seen,
}

/// What was seen so far.
#[derive(Debug)]
pub(super) struct Seen {
    /// What had been written where something was read back.
    written: Box<[u8]>,
    remains: Remains,
    looked: u64,
}

impl Looker {
    pub(super) fn new(
        ground: &Ground,
        place: &Place,
    ) -> Result<Self, TrialError> {
        let seen = Seen {
            written: vec![0; BATCH_BYTES].into_boxed_slice(),
            remains: Remains::default(),
            looked: 0,
        };
        let check = ground.sink().open_to_verify()?;
        Ok(Self { check, found: batch_buffer(place)?, seen })
    }

    /// What it reads through.
    pub(super) fn file(&self) -> &File {
        &self.check
    }

    /// To look at what somebody else has read.
    #[inline(always)]
    pub(super) fn seen(&mut self) -> &mut Seen {
        &mut self.seen
    }

    /// Reads what stands at a place of a plot and looks at it.
    pub(super) fn look(
        &mut self,
        plot: &Plot<'_>,
        place: u64,
    ) -> Result<(), TrialError> {
        let Self { check, found, seen } = self;
        let Some(offset) = plot.batches.last_written(place, &mut seen.written)
        else {
            return Ok(());
        };
        check.read_exact_at(found, offset).map_err(|error| {
            unreadable("pread of what was dropped", &error, offset, found.len())
        })?;
        seen.look(plot, place, found)
    }

    /// Sees that every batch is gone, as far as it was dropped, and every
    /// neighbour still there.
    pub(super) fn look_at_all<'a, 'b: 'a>(
        &mut self,
        ground: &Ground,
        plots: impl Iterator<Item = &'a Plot<'b>>,
        drops: bool,
    ) -> Result<Evidence, TrialError> {
        let mut kept = 0;
        for plot in plots {
            if drops {
                for place in 0..ground.batches() {
                    self.look(plot, place)?;
                }
            } else {
                let batches = plot.batches.verify(&self.check)?;
                let ops = (BATCH_BYTES / ground.op_bytes()) as u64;
                self.seen.looked += batches * ops;
            }
            kept += plot.neighbours.verify(&self.check)?;
        }
        let mut evidence = Evidence::default();
        if drops {
            self.seen.remains.state(ground.promise(), &mut evidence);
        }
        evidence.prove("neighbours", format!("{kept} MiB unharmed"));
        evidence.verified_ops = self.seen.looked;
        evidence.checksummed_ops = self.seen.looked;
        Ok(evidence)
    }
}

impl Seen {
    /// Looks at what was found at a place of a plot: what was dropped of the
    /// batch there must be what is promised, and the rest as it was written.
    pub(super) fn look(
        &mut self,
        plot: &Plot<'_>,
        place: u64,
        found: &[u8],
    ) -> Result<(), TrialError> {
        let Self { written, remains, looked } = self;
        let Some(offset) = plot.batches.last_written(place, written) else {
            return Ok(());
        };
        let dropped_bytes = plot.dropped_bytes(place);
        let (dropped, kept) = found.split_at(dropped_bytes);
        let (was_dropped, was_kept) = written.split_at(dropped_bytes);
        remains
            .look(plot.ground.promise(), dropped, was_dropped)
            .map_err(|index| broken(offset, index, found))?;
        if kept != was_kept {
            return Err(gone(offset + dropped_bytes as u64));
        }
        *looked += (dropped_bytes / plot.ground.op_bytes()) as u64;
        Ok(())
    }
}

/// Draws, stamps and writes the next place of a part.
#[inline(always)]
fn write_next(
    file: &File,
    writes: &mut Writes,
    op: &mut Buffer,
) -> Result<(), TrialError> {
    writes.draw();
    writes.stamp_next(op);
    let offset = writes.offset();
    match file.write_at(op, offset) {
        Ok(bytes) if bytes == op.len() => Ok(()),
        Ok(_) => Err(failed(
            "pwrite of what is to be dropped (short)",
            &io::ErrorKind::WriteZero.into(),
            offset,
        )),
        Err(error) => {
            Err(failed("pwrite of what is to be dropped", &error, offset))
        }
    }
}

#[cold]
pub(super) fn failed(what: &str, error: &io::Error, offset: u64) -> TrialError {
    let errno = error.raw_os_error().unwrap_or(0);
    TrialError::op(what, errno, offset, BATCH_BYTES as u64)
}

#[cold]
fn broken(offset: u64, index: usize, found: &[u8]) -> TrialError {
    let at = index * BLOCK_BYTES;
    let begins: Vec<String> =
        found[at..].iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    TrialError::Wrong(format!(
        "at offset {}: a block that was reported as dropped holds what it \
         must not; it begins with {}",
        offset + at as u64,
        begins.join(" ")
    ))
}

#[cold]
fn gone(offset: u64) -> TrialError {
    TrialError::Wrong(format!(
        "behind offset {offset}: what was not to be dropped yet is not what \
         was written there"
    ))
}
