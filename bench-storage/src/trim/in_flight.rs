//! Dropping through a ring, several ops under way.
//!
//! Each slot of the ring is a writer with a plot to itself, as each thread of
//! the pool is that it is compared with: it writes a batch, drops it op by op,
//! now and then reads back what is left, and begins again. All of that goes
//! through the ring; only drops are ops. So of one plot there is never more
//! than one thing under way, and no two plots overlap.

use std::{
    fs::File,
    os::{fd::AsRawFd, unix::fs::FileExt},
};

use harness::{
    load::closed::Place,
    machine::Buffer,
    measure::trial::{Evidence, TrialError},
};
use io_uring::{opcode, squeue::Entry, types::Fixed};

use super::{
    Span,
    ground::{BATCH_BYTES, Ground},
    plot::{self, Looker, Plot, batch_buffer, sync},
    ring::{Op, failed},
};
use crate::engine::{
    one_entry::FILE,
    ring::{Ring, Small},
    ring_reads::{Registered, refused},
    rounds::Requests,
};

/// The file to read back through, behind the one to write.
const CHECK: Fixed = Fixed(FILE.0 + 1);

/// Written or read at once: what devices and file systems take in one piece.
/// Of what they have to split the kernel hands the whole to an io-wq worker.
const PIECE_BYTES: usize = 128 << 10;

#[expect(clippy::cast_possible_truncation, reason = "small")]
const PIECE_LENGTH: u32 = PIECE_BYTES as u32;

const _: () = assert!(BATCH_BYTES.is_multiple_of(PIECE_BYTES));

/// What a slot is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Write,
    Drop,
    Look,
}

/// A writer. Its buffer is the kernel's alone while it writes or looks.
#[derive(Debug)]
struct Slot<'a> {
    plot: Plot<'a>,
    batch: Buffer,
    entry: Entry,
    phase: Phase,
    /// What of the batch was written, or read back, in this phase.
    moved_bytes: usize,
    /// What is under way.
    span: Span,
    is_op: bool,
}

/// The slots of a ring.
#[derive(Debug)]
pub struct Drops<'a> {
    ground: &'a Ground,
    op: Op,
    slots: Box<[Slot<'a>]>,
    looker: Looker,
    file: File,
}

impl<'a> Drops<'a> {
    /// Writes the neighbours of all slots, and registers with the ring itself
    /// and the files. Must be made on the thread that uses it.
    ///
    /// # Errors
    /// No memory, a registration was refused, or the target cannot be written.
    pub fn new(
        ring: &mut Ring<Small>,
        ground: &'a Ground,
        place: &Place,
        op: Op,
    ) -> Result<Self, TrialError> {
        let file = ground.open()?;
        let looker = Looker::new(ground, place)?;
        let files = [file.as_raw_fd(), looker.file().as_raw_fd()];
        let submitter = ring.submitter();
        submitter
            .register_ring_fd()
            .map_err(|error| refused("its own descriptor", &error))?;
        submitter
            .register_files(&files)
            .map_err(|error| refused("the target's descriptors", &error))?;
        let slot = |writer: usize| {
            let mut batch = batch_buffer(place)?;
            let plot = Plot::new(ground, place, writer, &file, &mut batch)?;
            let entry = opcode::Nop::new().build();
            Ok(Slot {
                plot,
                batch,
                entry,
                phase: Phase::Write,
                moved_bytes: 0,
                span: Span { offset: 0, bytes: 0 },
                is_op: false,
            })
        };
        let depth = ground.sink().load().depth;
        let slots: Result<Box<[Slot<'a>]>, TrialError> =
            (0..depth).map(slot).collect();
        Ok(Self { ground, op, slots: slots?, looker, file })
    }
}

impl Slot<'_> {
    /// What comes next.
    #[inline(always)]
    fn advance(&mut self, op: Op) -> Entry {
        self.is_op = self.phase == Phase::Drop;
        if self.is_op {
            self.span = self.plot.next_span();
            return op.entry(self.span);
        }
        if self.phase == Phase::Write && self.moved_bytes == 0 {
            self.plot.stamp_next(&mut self.batch);
        }
        let offset = self.plot.offset() + self.moved_bytes as u64;
        self.span = Span { offset, bytes: PIECE_BYTES as u64 };
        let piece = self.batch[self.moved_bytes..].as_mut_ptr();
        match self.phase {
            Phase::Look => opcode::Read::new(CHECK, piece, PIECE_LENGTH)
                .offset(offset)
                .build(),
            _ => opcode::Write::new(FILE, piece, PIECE_LENGTH)
                .offset(offset)
                .build(),
        }
    }

    /// What came of it, and what is next.
    #[inline(always)]
    fn completed(
        &mut self,
        op: Op,
        looker: &mut Looker,
        result: i32,
    ) -> Result<(), TrialError> {
        let expected = if self.is_op { 0 } else { PIECE_LENGTH };
        if u32::try_from(result) != Ok(expected) {
            return Err(self.error(op, result));
        }
        if self.is_op {
            if self.plot.is_dropped() {
                self.phase = match self.plot.is_due_for_a_look() {
                    true => Phase::Look,
                    false => Phase::Write,
                };
            }
            return Ok(());
        }
        self.moved_bytes += PIECE_BYTES;
        if self.moved_bytes < BATCH_BYTES {
            return Ok(());
        }
        self.moved_bytes = 0;
        if self.phase == Phase::Write {
            self.plot.is_written();
            self.phase = Phase::Drop;
            return Ok(());
        }
        let place = self.plot.place();
        looker.seen().look(&self.plot, place, &self.batch)?;
        self.plot.refill(&mut self.batch);
        self.phase = Phase::Write;
        Ok(())
    }

    /// Writes the rest of a batch that was begun: a part of it would be
    /// neither what was dropped nor what was written.
    fn end(&mut self, file: &File) -> Result<(), TrialError> {
        if self.phase == Phase::Write && self.moved_bytes > 0 {
            let offset = self.plot.offset() + self.moved_bytes as u64;
            file.write_all_at(&self.batch[self.moved_bytes..], offset)
                .map_err(|error| {
                    plot::failed("pwrite at the end", &error, offset)
                })?;
            self.plot.is_written();
        }
        Ok(())
    }

    #[cold]
    fn error(&self, op: Op, result: i32) -> TrialError {
        let name = match self.phase {
            Phase::Drop => op.name(),
            Phase::Write => "IORING_OP_WRITE of what is to be dropped",
            Phase::Look => "IORING_OP_READ of what was dropped",
        };
        // A short one has no errno.
        failed(name, result.min(0).saturating_neg(), self.span)
    }
}

// SAFETY: entries that write or read point to the batch of their slot, which
// this value owns, and which is touched only by `advance` and `completed`:
// before the slot's op is submitted and after it has completed. Those that
// drop point to nothing.
unsafe impl Requests for Drops<'_> {
    type Sizes = Small;

    const OPCODE: &'static str = "IORING_OP_FALLOCATE or IORING_OP_URING_CMD";

    #[inline(always)]
    fn next(&mut self, slot: usize) -> &[Entry] {
        let at = &mut self.slots[slot];
        at.entry = at.advance(self.op).user_data(slot as u64);
        std::slice::from_ref(&at.entry)
    }

    #[inline(always)]
    fn completed(
        &mut self,
        slot: usize,
        _: usize,
        result: i32,
    ) -> Result<(), TrialError> {
        let Self { slots, op, looker, .. } = self;
        slots[slot].completed(*op, looker, result)
    }

    /// Writing and looking are the way to the next op.
    #[inline(always)]
    fn is_op(&self, slot: usize) -> bool {
        self.slots[slot].is_op
    }

    fn finish(&mut self) -> Result<Evidence, TrialError> {
        for slot in &mut self.slots {
            slot.end(&self.file)?;
        }
        sync(&self.file)?;
        let plots = self.slots.iter().map(|slot| &slot.plot);
        let mut evidence = self.looker.look_at_all(self.ground, plots, true)?;
        evidence.prove("trim", self.op.name());
        let registered = Registered { ring: true, file: true, buffers: false };
        registered.prove(&mut evidence);
        for Slot { plot, batch, .. } in &mut self.slots {
            plot.restore(&self.file, batch)?;
        }
        sync(&self.file)?;
        Ok(evidence)
    }
}
