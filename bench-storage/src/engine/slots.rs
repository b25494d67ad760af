//! Reads of one thread's ring: what each slot reads, and where to.

use std::ptr::NonNull;

use harness::{
    load::closed::Place,
    machine::Buffer,
    measure::trial::{Evidence, TrialError},
};

use crate::{
    contents::BLOCK_BYTES,
    source::{Reads, Source},
};

/// No offset that a read has: not a multiple of a block.
const NONE: u64 = u64::MAX;

/// Slot *i* reads into the *i*-th part of one buffer.
#[derive(Debug)]
pub struct Slots<'a> {
    reads: Reads<'a>,
    op_bytes: usize,
    offsets: Box<[u64]>,
    buffer: Buffer,
}

impl<'a> Slots<'a> {
    /// The reads of the thread at `place`, one of `streams`.
    ///
    /// # Errors
    /// No memory, or the target is too small.
    pub fn new(
        source: &'a Source,
        place: &Place,
        streams: usize,
    ) -> Result<Self, TrialError> {
        let reads = source.reads(place, streams)?;
        let (op_bytes, depth) = (reads.op_bytes(), source.load().depth);
        let buffer =
            Buffer::new(op_bytes * depth, BLOCK_BYTES, place.numa_node)
                .map_err(|error| TrialError::setup(error.to_string()))?;
        let offsets = vec![NONE; depth].into_boxed_slice();
        Ok(Self { reads, op_bytes, offsets, buffer })
    }

    /// Bytes per op.
    pub fn op_bytes(&self) -> usize {
        self.op_bytes
    }

    /// Where the buffer of all slots begins, and its length.
    pub fn region(&self) -> (NonNull<u8>, usize) {
        (self.buffer.as_non_null(), self.buffer.len())
    }

    /// Each slot's number and part of the buffer. The parts are derived from
    /// the buffer's own pointer: the kernel writes through them, which a
    /// shared slice's pointer may not do.
    pub fn parts(&self) -> impl Iterator<Item = (u64, *mut u8)> {
        let start = self.buffer.as_non_null().as_ptr();
        let op_bytes = self.op_bytes;
        (0_u64..).zip(0..self.offsets.len()).map(move |(slot, index)| {
            (slot, start.wrapping_add(index * op_bytes))
        })
    }

    /// Where the next op of a slot reads.
    #[inline(always)]
    pub fn begin(&mut self, slot: usize) -> u64 {
        let offset = self.reads.next_offset();
        self.offsets[slot] = offset;
        offset
    }

    /// Where the op read that is over.
    #[inline(always)]
    pub fn end(&mut self, slot: usize) -> u64 {
        std::mem::replace(&mut self.offsets[slot], NONE)
    }

    /// Checks what a slot's op has read whole.
    ///
    /// # Errors
    /// `Wrong` when it is not what stands at that offset.
    #[inline(always)]
    pub fn check(
        &mut self,
        slot: usize,
        offset: u64,
    ) -> Result<(), TrialError> {
        assert!(slot < self.offsets.len(), "a slot that there is");
        // SAFETY: slot is below the depth, so the part lies in the buffer; its
        // op has completed (the caller has its result) and no other op uses
        // it, so that nobody writes there while the slice lives.
        let data = unsafe {
            std::slice::from_raw_parts(
                self.buffer.as_non_null().as_ptr().add(slot * self.op_bytes),
                self.op_bytes,
            )
        };
        self.reads.check(offset, data)
    }

    /// Does the checks that remain.
    ///
    /// # Errors
    /// What they found.
    pub fn finish(&mut self) -> Result<Evidence, TrialError> {
        self.reads.finish()
    }
}
