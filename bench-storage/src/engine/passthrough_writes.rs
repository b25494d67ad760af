//! Writes as NVMe commands that a ring passes through to a namespace.

use std::os::fd::AsRawFd;

use harness::{
    load::closed::Place,
    machine::Buffer,
    measure::trial::{Evidence, TrialError},
};
use io_uring::squeue::Entry128;

use super::{
    blocking_writes::finish,
    commands::{OPCODE, failed, set_first_block, transfer},
    ring::{Big, Ring},
    ring_reads::{Registered, register},
    rounds::Requests,
};
use crate::{
    contents::BLOCK_BYTES,
    nvme::{Namespace, command::Command},
    sink::Sink,
    written::Writes,
};

const REGISTERED: Registered =
    Registered { ring: true, file: true, buffers: true };

/// One writer per slot, each with a part of the registered buffer and of the
/// namespace: past block layer and scheduler.
#[derive(Debug)]
pub struct PassthroughWrites<'a> {
    sink: &'a Sink,
    namespace: &'a Namespace,
    op_bytes: usize,
    writers: Box<[Writes]>,
    entries: Box<[Entry128]>,
    buffer: Buffer,
}

impl<'a> PassthroughWrites<'a> {
    /// The writes of the thread at `place`, to a namespace that is open for
    /// writing. Descriptors and buffers are registered.
    ///
    /// # Errors
    /// No memory, a registration was refused, an op is too long for a
    /// command, or the experiment has reads.
    pub fn new(
        ring: &mut Ring<Big>,
        sink: &'a Sink,
        namespace: &'a Namespace,
        place: &Place,
    ) -> Result<Self, TrialError> {
        let load = sink.load();
        let (slots, op_bytes) = (load.depth, load.op_bytes);
        if load.read_percent > 0 {
            return Err(TrialError::setup("commands of this kind only write"));
        }
        let writers = (0..slots)
            .map(|slot| sink.writes(place, place.thread * slots + slot))
            .collect::<Result<Box<[_]>, _>>()?;
        let mut buffer =
            Buffer::new(op_bytes * slots, BLOCK_BYTES, place.numa_node)
                .map_err(|error| TrialError::setup(error.to_string()))?;
        for (writes, op) in
            writers.iter().zip(buffer.chunks_exact_mut(op_bytes))
        {
            writes.fill(op);
        }
        let region = (buffer.as_non_null(), buffer.len());
        register(ring, REGISTERED, namespace.file.as_raw_fd(), region)?;
        let start = buffer.as_non_null().as_ptr();
        let entries = (0_u64..)
            .zip(0..slots)
            .map(|(number, slot)| {
                let address = start.wrapping_add(slot * op_bytes);
                transfer(namespace, Command::write, true, address, op_bytes)
                    .map(|entry| entry.user_data(number))
            })
            .collect::<Option<_>>()
            .ok_or_else(|| {
                TrialError::setup(format!(
                    "no NVMe command can write {op_bytes} bytes"
                ))
            })?;
        Ok(Self { sink, namespace, op_bytes, writers, entries, buffer })
    }
}

// SAFETY: each slot's command names that slot's own part of `buffer`, which is
// freed with the value; `next` changes the part only when the slot is free.
unsafe impl Requests for PassthroughWrites<'_> {
    type Sizes = Big;

    const OPCODE: &'static str = OPCODE;

    #[inline(always)]
    fn next(&mut self, slot: usize) -> &[Entry128] {
        let writes = &mut self.writers[slot];
        writes.draw();
        // SAFETY: slot is below the depth (`writers` was indexed by it), so
        // the part lies in the buffer; the slot is free, so that neither the
        // kernel nor anybody else uses the part while this is borrowed.
        let op = unsafe {
            let start = self.buffer.as_non_null().as_ptr();
            let part = start.add(slot * self.op_bytes);
            std::slice::from_raw_parts_mut(part, self.op_bytes)
        };
        writes.stamp_next(op);
        let offset = writes.offset();
        // A command names blocks of the whole namespace: nothing else keeps
        // it to the part that the session has written.
        assert!(
            offset + self.op_bytes as u64 <= self.sink.target().bytes,
            "only what the session has written is written to"
        );
        let entry = &mut self.entries[slot];
        set_first_block(entry, self.namespace.block_at(offset));
        std::slice::from_ref(entry)
    }

    #[inline(always)]
    fn completed(
        &mut self,
        slot: usize,
        _: usize,
        result: i32,
    ) -> Result<(), TrialError> {
        if result == 0 {
            return Ok(());
        }
        let offset = self.writers[slot].offset();
        Err(failed(result, offset, self.op_bytes as u64))
    }

    fn finish(&mut self) -> Result<Evidence, TrialError> {
        let file = self.sink.open(0)?;
        let mut evidence = finish(self.sink, &file, &self.writers)?;
        REGISTERED.prove(&mut evidence);
        evidence.prove("lba_bytes", 1_u64 << self.namespace.block_shift);
        Ok(evidence)
    }
}
