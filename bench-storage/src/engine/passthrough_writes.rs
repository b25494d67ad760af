//! Writes as NVMe commands that a ring passes through to a namespace.

use std::os::fd::AsRawFd;

use harness::{
    load::closed::Place,
    measure::trial::{Evidence, TrialError},
};
use io_uring::squeue::Entry128;

use super::{
    commands::{OPCODE, failed, set_first_block, transfer},
    ring::{Big, Ring},
    ring_reads::{Registered, register},
    rounds::Requests,
    write_slots::WriteSlots,
};
use crate::{
    nvme::{Namespace, command::Command},
    sink::Sink,
};

const REGISTERED: Registered =
    Registered { ring: true, file: true, buffers: true };

/// One writer per slot, each with a part of the registered buffer and of the
/// namespace: past block layer and scheduler.
#[derive(Debug)]
pub struct PassthroughWrites<'a> {
    slots: WriteSlots<'a>,
    namespace: &'a Namespace,
    entries: Box<[Entry128]>,
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
        let slots = WriteSlots::new(sink, place)?;
        if slots.has_reads() {
            return Err(TrialError::setup("commands of this kind only write"));
        }
        let file = namespace.file.as_raw_fd();
        register(ring, REGISTERED, file, slots.region())?;
        let op_bytes = slots.op_bytes();
        let entries = slots
            .parts()
            .map(|(slot, address)| {
                transfer(namespace, Command::write, true, address, op_bytes)
                    .map(|entry| entry.user_data(slot))
            })
            .collect::<Option<_>>()
            .ok_or_else(|| {
                TrialError::setup(format!(
                    "no NVMe command can write {op_bytes} bytes"
                ))
            })?;
        Ok(Self { slots, namespace, entries })
    }
}

// SAFETY: each slot's command names that slot's own part of the buffer of
// `slots`, which is freed with the value; `begin` changes the part only when
// the slot is free.
unsafe impl Requests for PassthroughWrites<'_> {
    type Sizes = Big;

    const OPCODE: &'static str = OPCODE;

    #[inline(always)]
    fn next(&mut self, slot: usize) -> &[Entry128] {
        let offset = self.slots.begin(slot).offset;
        let op_bytes = self.slots.op_bytes() as u64;
        // A command names blocks of the whole namespace: nothing else keeps
        // it to the part that the session has written.
        assert!(
            offset + op_bytes <= self.slots.sink().target().bytes,
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
        let offset = self.slots.drawn(slot).offset;
        Err(failed(result, offset, self.slots.op_bytes() as u64))
    }

    fn finish(&mut self) -> Result<Evidence, TrialError> {
        let file = self.slots.sink().open(0)?;
        let mut evidence = self.slots.finish(&file)?;
        REGISTERED.prove(&mut evidence);
        evidence.prove("lba_bytes", 1_u64 << self.namespace.block_shift);
        Ok(evidence)
    }
}
