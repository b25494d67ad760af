//! Reads through Linux's older asynchronous I/O.

use std::os::fd::AsRawFd;

use harness::{
    load::closed::Place,
    measure::trial::{Evidence, TrialError},
};

use super::{
    aio::{Ops, failed},
    aio_calls::{Command, Request, Requests},
    slots::Slots,
};
use crate::source::Source;

/// Reads of one thread.
#[derive(Debug)]
pub struct AioReads<'a> {
    slots: Slots<'a>,
    requests: Requests,
}

impl<'a> AioReads<'a> {
    /// The reads of the thread at `place`, one of `streams`.
    ///
    /// # Errors
    /// No memory, or the target is too small.
    pub fn new(
        source: &'a Source,
        place: &Place,
        streams: usize,
    ) -> Result<Self, TrialError> {
        let slots = Slots::new(source, place, streams)?;
        let fd = source.file(place.thread).as_raw_fd();
        let bytes = slots.op_bytes();
        let requests = slots
            .parts()
            .map(|(slot, part)| {
                Request::new(Command::Read, slot, fd, part, bytes)
            })
            .collect();
        Ok(Self { slots, requests })
    }
}

// SAFETY: each slot's request is its own, and points to the slot's own part of
// the buffer of `slots`; both are freed with the value. `check` looks at the
// part only after its op.
unsafe impl Ops for AioReads<'_> {
    #[inline(always)]
    fn next(&mut self, slot: usize) -> *mut Request {
        let offset = self.slots.begin(slot);
        self.requests.at_offset(slot, offset)
    }

    #[inline(always)]
    fn completed(
        &mut self,
        slot: usize,
        result: i64,
    ) -> Result<(), TrialError> {
        let offset = self.slots.end(slot);
        let bytes = self.slots.op_bytes();
        if usize::try_from(result) != Ok(bytes) {
            return Err(failed(Command::Read, result, offset, bytes));
        }
        self.slots.check(slot, offset)
    }

    fn finish(&mut self) -> Result<Evidence, TrialError> {
        self.slots.finish()
    }
}
