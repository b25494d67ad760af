//! Reads as NVMe commands that a ring passes through to a namespace.

use std::{marker::PhantomData, os::fd::AsRawFd};

use harness::{
    load::closed::Place,
    measure::trial::{Evidence, TrialError},
};
use io_uring::squeue::Entry128;

use super::{
    commands::{OPCODE, failed, set_first_block, transfer},
    ring::{Entries, Ring},
    ring_reads::{Registered, register},
    rounds::Requests,
    slots::Slots,
};
use crate::{
    nvme::{Namespace, command::Command},
    source::Source,
};

/// Reads of one thread's ring, past file system, block layer and scheduler:
/// each submission holds the command that goes to the device's queue.
#[derive(Debug)]
pub struct PassthroughReads<'a, E> {
    slots: Slots<'a>,
    namespace: &'a Namespace,
    registered: Registered,
    entries: Box<[Entry128]>,
    of: PhantomData<E>,
}

impl<'a, E: Entries> PassthroughReads<'a, E> {
    /// The reads of the thread at `place`, one of `streams`. The ring's and
    /// the namespace's descriptors are registered, and the buffers where
    /// `buffers` says so.
    ///
    /// # Errors
    /// No memory, a registration was refused, or an op is too long for a
    /// command.
    pub fn new(
        ring: &mut Ring<E>,
        buffers: bool,
        source: &'a Source,
        namespace: &'a Namespace,
        place: &Place,
        streams: usize,
    ) -> Result<Self, TrialError> {
        let slots = Slots::new(source, place, streams)?;
        let registered = Registered { ring: true, file: true, buffers };
        let file = namespace.file.as_raw_fd();
        register(ring, registered, file, slots.region())?;
        let entries = slots
            .parts()
            .map(|(slot, address)| {
                let bytes = slots.op_bytes();
                transfer(namespace, Command::read, buffers, address, bytes)
                    .map(|entry| entry.user_data(slot))
            })
            .collect::<Option<_>>()
            .ok_or_else(|| {
                let bytes = slots.op_bytes();
                TrialError::setup(format!(
                    "no NVMe command can read {bytes} bytes"
                ))
            })?;
        Ok(Self { slots, namespace, registered, entries, of: PhantomData })
    }
}

// SAFETY: each slot's command names that slot's own part of the buffer of
// `slots`, which is freed with the value; `check` looks at the part only after
// its op.
unsafe impl<E> Requests for PassthroughReads<'_, E>
where
    E: Entries<Submission = Entry128>,
{
    type Sizes = E;

    const OPCODE: &'static str = OPCODE;

    #[inline(always)]
    fn next(&mut self, slot: usize) -> &[Entry128] {
        let offset = self.slots.begin(slot);
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
        let offset = self.slots.end(slot);
        if result != 0 {
            let bytes = self.slots.op_bytes() as u64;
            return Err(failed(result, offset, bytes));
        }
        self.slots.check(slot, offset)
    }

    fn finish(&mut self) -> Result<Evidence, TrialError> {
        let mut evidence = self.slots.finish()?;
        self.registered.prove(&mut evidence);
        let block_bytes = 1_u64 << self.namespace.block_shift;
        evidence.prove("lba_bytes", block_bytes);
        Ok(evidence)
    }
}
