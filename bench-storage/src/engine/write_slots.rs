//! Writes of one thread that has many in flight, and reads among them where
//! the experiment says so: what each slot moves, and where from and to.

use std::{fs::File, ptr::NonNull};

use harness::{
    load::closed::Place,
    machine::Buffer,
    measure::trial::{Evidence, TrialError},
};

use super::blocking_writes;
use crate::{contents::BLOCK_BYTES, sink::Sink, written::Writes};

/// An op that was drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drawn {
    /// Whether it reads.
    pub is_read: bool,
    /// Where.
    pub offset: u64,
}

/// Each slot is a writer with a part of the target to itself. Slot *i* writes
/// from the *i*-th part of one buffer; the parts that it reads to lie behind
/// all of those.
#[derive(Debug)]
pub struct WriteSlots<'a> {
    sink: &'a Sink,
    op_bytes: usize,
    writers: Box<[Writes]>,
    /// Whether the op in each slot is a read.
    is_read: Box<[bool]>,
    buffer: Buffer,
}

impl<'a> WriteSlots<'a> {
    /// The writers of the thread at `place`.
    ///
    /// # Errors
    /// No memory, or the target is too small.
    pub fn new(sink: &'a Sink, place: &Place) -> Result<Self, TrialError> {
        let load = sink.load();
        let (slots, op_bytes) = (load.depth, load.op_bytes);
        let writers = (0..slots)
            .map(|slot| sink.writes(place, place.thread * slots + slot))
            .collect::<Result<Box<[_]>, _>>()?;
        let directions = if load.read_percent > 0 { 2 } else { 1 };
        let mut buffer = Buffer::new(
            op_bytes * slots * directions,
            BLOCK_BYTES,
            place.numa_node,
        )
        .map_err(|error| TrialError::setup(error.to_string()))?;
        for (writes, op) in
            writers.iter().zip(buffer.chunks_exact_mut(op_bytes))
        {
            writes.fill(op);
        }
        let is_read = vec![false; slots].into_boxed_slice();
        Ok(Self { sink, op_bytes, writers, is_read, buffer })
    }

    /// What is written to.
    pub fn sink(&self) -> &'a Sink {
        self.sink
    }

    /// How many there are.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.writers.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.writers.is_empty()
    }

    /// Bytes per op.
    #[inline(always)]
    pub fn op_bytes(&self) -> usize {
        self.op_bytes
    }

    /// Whether some ops read.
    pub fn has_reads(&self) -> bool {
        self.sink.load().read_percent > 0
    }

    /// Where the buffer of all slots begins, and its length.
    pub fn region(&self) -> (NonNull<u8>, usize) {
        (self.buffer.as_non_null(), self.buffer.len())
    }

    /// Each slot's number and the part that it writes from. The parts are
    /// derived from the buffer's own pointer, as those of `Slots`.
    pub fn parts(&self) -> impl Iterator<Item = (u64, *mut u8)> {
        self.parts_from(0)
    }

    /// Each slot's number and the part that it reads to; none where no op
    /// reads.
    pub fn read_parts(&self) -> impl Iterator<Item = (u64, *mut u8)> {
        let slots = if self.has_reads() { self.len() } else { 0 };
        self.parts_from(self.len()).take(slots)
    }

    fn parts_from(&self, first: usize) -> impl Iterator<Item = (u64, *mut u8)> {
        let start = self.buffer.as_non_null().as_ptr();
        let op_bytes = self.op_bytes;
        (0_u64..).zip(first..first + self.len()).map(move |(slot, part)| {
            (slot, start.wrapping_add(part * op_bytes))
        })
    }

    /// Draws the next op of a slot that is free, and makes what it writes.
    #[inline(always)]
    pub fn begin(&mut self, slot: usize) -> Drawn {
        let writes = &mut self.writers[slot];
        let is_read = writes.draw();
        self.is_read[slot] = is_read;
        if !is_read {
            // SAFETY: slot is below the depth (`writers` was indexed by it),
            // so the part lies in the buffer; the slot is free, so that
            // neither the kernel nor anybody else uses the part while this is
            // borrowed.
            let op = unsafe {
                let start = self.buffer.as_non_null().as_ptr();
                let part = start.add(slot * self.op_bytes);
                std::slice::from_raw_parts_mut(part, self.op_bytes)
            };
            writes.stamp_next(op);
        }
        Drawn { is_read, offset: writes.offset() }
    }

    /// What was drawn last for a slot.
    #[inline(always)]
    pub fn drawn(&self, slot: usize) -> Drawn {
        let offset = self.writers[slot].offset();
        Drawn { is_read: self.is_read[slot], offset }
    }

    /// Whether the op in a slot is, or was last, a read.
    #[inline(always)]
    pub fn is_read(&self, slot: usize) -> bool {
        self.is_read[slot]
    }

    /// Checks what a slot's op has read whole, if it did.
    ///
    /// # Errors
    /// `Wrong` when it is not the last write there.
    #[inline(always)]
    pub fn check(&mut self, slot: usize) -> Result<(), TrialError> {
        if !self.is_read[slot] {
            return Ok(());
        }
        let part = self.writers.len() + slot;
        // SAFETY: there are as many parts behind those that are written, since
        // the op is a read; it has completed (the caller has its result) and
        // no other op uses its part, so that nobody writes there while the
        // slice lives.
        let found = unsafe {
            let start = self.buffer.as_non_null().as_ptr();
            let part = start.add(part * self.op_bytes);
            std::slice::from_raw_parts(part, self.op_bytes)
        };
        self.writers[slot].check_read(found)
    }

    /// Reads back through a file of their own what was written through `file`,
    /// once nothing is in flight any more.
    ///
    /// # Errors
    /// What is wrong there, or cannot be read.
    pub fn finish(&self, file: &File) -> Result<Evidence, TrialError> {
        blocking_writes::finish(self.sink, file, &self.writers)
    }
}
