//! Writes through a ring, made durable by a linked fsync or by a flag of
//! their own.

use std::{fs::File, os::fd::AsRawFd};

use harness::{
    load::closed::Place,
    machine::Buffer,
    measure::trial::{Evidence, TrialError},
};
use io_uring::{
    opcode,
    squeue::{Entry, Flags},
    types::{Fixed, FsyncFlags},
};

use super::{
    blocking_writes::finish,
    ring::{Ring, Small},
    ring_reads::{INDEX, Registered, register, set_offset},
    rounds::{Requests, user_data},
};
use crate::{contents::BLOCK_BYTES, sink::Sink, written::Writes};

/// Which write: the first entry of an op.
const WRITE: usize = 0;

/// One writer per slot, each with a block of the buffer and a region of the
/// target. An op has `ENTRIES` entries: 1 is a write, with RWF_DSYNC or
/// without; 2 is a write and, linked to it, an fsync of the data, which the
/// kernel starts when the write has succeeded.
#[derive(Debug)]
pub struct RingWrites<'a, const ENTRIES: usize> {
    sink: &'a Sink,
    file: File,
    writers: Box<[Writes]>,
    entries: Box<[[Entry; ENTRIES]]>,
    buffer: Buffer,
}

/// A write on its own.
pub type LoneWrites<'a> = RingWrites<'a, 1>;

/// A write and its fsync.
pub type SyncedWrites<'a> = RingWrites<'a, 2>;

impl<'a> LoneWrites<'a> {
    /// Writes with these `rw_flags` (RWF_DSYNC, or 0 for writes that are not
    /// durable), of the ring on the thread at `place`.
    ///
    /// # Errors
    /// As `SyncedWrites::new`.
    pub fn new(
        ring: &mut Ring,
        sink: &'a Sink,
        place: &Place,
        rw_flags: i32,
    ) -> Result<Self, TrialError> {
        Self::with(ring, sink, place, |slot, address| {
            [write(address)
                .rw_flags(rw_flags)
                .build()
                .user_data(user_data(slot, 0))]
        })
    }
}

impl<'a> SyncedWrites<'a> {
    /// Writes of the ring on the thread at `place`, each with an fsync.
    ///
    /// # Errors
    /// No memory, a registration was refused, or the target is too small.
    pub fn new(
        ring: &mut Ring,
        sink: &'a Sink,
        place: &Place,
    ) -> Result<Self, TrialError> {
        Self::with(ring, sink, place, |slot, address| {
            let write = write(address)
                .build()
                .flags(Flags::IO_LINK)
                .user_data(user_data(slot, 0));
            let sync = opcode::Fsync::new(FILE)
                .flags(FsyncFlags::DATASYNC)
                .build()
                .user_data(user_data(slot, 1));
            [write, sync]
        })
    }
}

/// The target, as registered with the ring.
const FILE: Fixed = Fixed(INDEX as u32);

/// Bytes of a write, as submissions state them and completions.
const BYTES: u32 = 4_096;
const WRITTEN: i32 = 4_096;
const _: () = assert!(BYTES as usize == BLOCK_BYTES);

/// A write of a block to an offset that is set later.
fn write(address: *mut u8) -> opcode::Write {
    opcode::Write::new(FILE, address, BYTES)
}

impl<'a, const ENTRIES: usize> RingWrites<'a, ENTRIES> {
    fn with(
        ring: &mut Ring,
        sink: &'a Sink,
        place: &Place,
        entries_of: impl Fn(u64, *mut u8) -> [Entry; ENTRIES],
    ) -> Result<Self, TrialError> {
        let depth = sink.load().depth;
        let writers = (0..depth)
            .map(|writer| sink.writes(place, writer))
            .collect::<Result<Box<[_]>, _>>()?;
        let mut buffer =
            Buffer::new(BLOCK_BYTES * depth, BLOCK_BYTES, place.numa_node)
                .map_err(|error| TrialError::setup(error.to_string()))?;
        let blocks = buffer.as_chunks_mut::<BLOCK_BYTES>().0;
        for (writes, block) in writers.iter().zip(blocks) {
            writes.fill(block);
        }
        let file = sink.open(0)?;
        let all = Registered { ring: true, file: true, buffers: false };
        let region = (buffer.as_non_null(), buffer.len());
        register(ring, all, file.as_raw_fd(), region)?;
        let start = buffer.as_non_null().as_ptr();
        let entries = (0_u64..)
            .zip((0..depth).map(|slot| slot * BLOCK_BYTES))
            .map(|(slot, at)| entries_of(slot, start.wrapping_add(at)))
            .collect();
        Ok(Self { sink, file, writers, entries, buffer })
    }
}

// SAFETY: each slot's write points to that slot's own block of `buffer`,
// which is freed with the value; `next` changes the block only when the slot
// is free, so that nothing of it is in flight. An fsync points to nothing.
unsafe impl<const ENTRIES: usize> Requests for RingWrites<'_, ENTRIES> {
    type Sizes = Small;

    const OPCODE: &'static str = "IORING_OP_WRITE";

    const ENTRIES: usize = ENTRIES;

    #[inline(always)]
    fn next(&mut self, slot: usize) -> &[Entry] {
        let writes = &mut self.writers[slot];
        let start = self.buffer.as_non_null().cast::<[u8; BLOCK_BYTES]>();
        // SAFETY: slot is below the depth (`writers` was indexed by it), so
        // the block lies in the buffer; the slot is free, so that neither the
        // kernel nor anybody else uses the block while this is borrowed.
        let block = unsafe { start.add(slot).as_mut() };
        let entries = &mut self.entries[slot];
        set_offset(&mut entries[WRITE], writes.next(block));
        entries
    }

    #[inline(always)]
    fn completed(
        &mut self,
        slot: usize,
        entry: usize,
        result: i32,
    ) -> Result<(), TrialError> {
        match (entry, result) {
            (WRITE, WRITTEN) => Ok(()),
            (1.., 0) => Ok(()),
            _ => Err(self.failed(slot, entry, result)),
        }
    }

    fn finish(&mut self) -> Result<Evidence, TrialError> {
        let mut evidence = finish(self.sink, &self.file, &self.writers)?;
        evidence.prove("registered_ring", "yes");
        evidence.prove("fixed_file", "yes");
        Ok(evidence)
    }
}

impl<const ENTRIES: usize> RingWrites<'_, ENTRIES> {
    #[cold]
    fn failed(&self, slot: usize, entry: usize, result: i32) -> TrialError {
        let opcode = match entry {
            WRITE => Self::OPCODE,
            _ => "IORING_OP_FSYNC",
        };
        // The slot's last write is the one in question.
        let writes = &self.writers[slot];
        let (offset, bytes) = (writes.last_offset(), BLOCK_BYTES as u64);
        if result < 0 {
            let errno = result.saturating_neg();
            return TrialError::op(opcode, errno, offset, bytes);
        }
        let odd = format!("{opcode} (unexpected result {result})");
        TrialError::op(&odd, 0, offset, bytes)
    }
}
