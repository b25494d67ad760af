//! Memory for frames that the kernel reads and writes by address.

use std::ptr::NonNull;

use harness::{machine::Buffer, measure::trial::TrialError};

use crate::frame::{PAYLOAD_BYTES, Payload};

/// A line each, so that no two frames share one.
pub(super) const SLOT_BYTES_U32: u32 = 64;
pub(super) const SLOT_BYTES: usize = SLOT_BYTES_U32 as usize;

/// Slots of one payload each, in memory that never moves.
#[derive(Debug)]
pub(super) struct Slots {
    memory: Buffer,
}

impl Slots {
    pub(super) fn new(slots: usize) -> Result<Self, TrialError> {
        let memory = Buffer::new(slots * SLOT_BYTES, SLOT_BYTES, None)
            .map_err(|error| TrialError::setup(error.to_string()))?;
        Ok(Self { memory })
    }

    /// Where a slot is.
    #[inline(always)]
    pub(super) fn address(&self, slot: usize) -> NonNull<u8> {
        assert!((slot + 1) * SLOT_BYTES <= self.memory.len());
        // SAFETY: by the line above the slot is inside the buffer.
        unsafe { self.memory.as_non_null().add(slot * SLOT_BYTES) }
    }

    /// Fills a slot that the kernel does not use at this moment.
    #[inline(always)]
    pub(super) fn write(&mut self, slot: usize, payload: &Payload) {
        let place = self.address(slot).cast::<[u8; PAYLOAD_BYTES]>();
        // SAFETY: the slot is inside the buffer and larger than a payload; the
        // kernel reads it only between submission and completion, which the
        // caller waits for.
        unsafe { place.write(payload.0) }
    }

    /// What has arrived in a slot, of that length.
    #[inline(always)]
    pub(super) fn read(&self, slot: usize, length: usize) -> Payload {
        if length != PAYLOAD_BYTES {
            return Payload::from_bytes(&[]);
        }
        let place = self.address(slot).cast::<[u8; PAYLOAD_BYTES]>();
        // SAFETY: the slot is inside the buffer, which was zeroed and then
        // written by the kernel alone; it does not write until the slot is
        // given back.
        Payload(unsafe { place.read() })
    }
}
