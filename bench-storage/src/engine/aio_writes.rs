//! Writes through Linux's older asynchronous I/O, left to the device; with
//! reads among them where the experiment says so.

use std::{fs::File, os::fd::AsRawFd};

use harness::{
    load::closed::Place,
    measure::trial::{Evidence, TrialError},
};

use super::{
    aio::{Ops, failed},
    aio_calls::{Command, Request, Requests},
    write_slots::{Drawn, WriteSlots},
};
use crate::sink::Sink;

/// Writes of one thread.
#[derive(Debug)]
pub struct AioWrites<'a> {
    slots: WriteSlots<'a>,
    file: File,
    /// The write of each slot, and behind all of them the read of each, where
    /// the experiment has reads.
    requests: Requests,
}

impl<'a> AioWrites<'a> {
    /// The writes of the thread at `place`.
    ///
    /// # Errors
    /// No memory, or the target cannot be opened or is too small.
    pub fn new(sink: &'a Sink, place: &Place) -> Result<Self, TrialError> {
        let slots = WriteSlots::new(sink, place)?;
        let file = sink.open(0)?;
        let (fd, bytes) = (file.as_raw_fd(), slots.op_bytes());
        let request = |command| {
            move |(slot, part)| Request::new(command, slot, fd, part, bytes)
        };
        let writes = slots.parts().map(request(Command::Write));
        let reads = slots.read_parts().map(request(Command::Read));
        let requests = writes.chain(reads).collect();
        Ok(Self { slots, file, requests })
    }
}

fn command(drawn: Drawn) -> Command {
    if drawn.is_read { Command::Read } else { Command::Write }
}

// SAFETY: each slot's two requests are its own, and point to the slot's own
// parts of the buffer of `slots`; all of it is freed with the value. `begin`
// changes what is written only when the slot is free, so that nothing of it is
// in flight, and `check` looks at what was read only after its op.
unsafe impl Ops for AioWrites<'_> {
    #[inline(always)]
    fn next(&mut self, slot: usize) -> *mut Request {
        let Drawn { is_read, offset } = self.slots.begin(slot);
        let behind = if is_read { self.slots.len() } else { 0 };
        self.requests.at_offset(behind + slot, offset)
    }

    #[inline(always)]
    fn completed(
        &mut self,
        slot: usize,
        result: i64,
    ) -> Result<(), TrialError> {
        let bytes = self.slots.op_bytes();
        if usize::try_from(result) != Ok(bytes) {
            let drawn = self.slots.drawn(slot);
            return Err(failed(command(drawn), result, drawn.offset, bytes));
        }
        self.slots.check(slot)
    }

    fn keeps_apart(&self) -> bool {
        self.slots.has_reads()
    }

    #[inline(always)]
    fn is_apart(&self, slot: usize) -> bool {
        self.slots.is_read(slot)
    }

    fn finish(&mut self) -> Result<Evidence, TrialError> {
        self.slots.finish(&self.file)
    }
}
