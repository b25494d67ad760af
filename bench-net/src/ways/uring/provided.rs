//! A ring of buffers that the kernel takes from and we give back to.

use std::{
    io,
    ptr::NonNull,
    sync::atomic::{AtomicU16, Ordering},
};

use harness::{machine::Buffer, measure::trial::TrialError, uring::Ring};
use io_uring::types::BufRingEntry;

use crate::{
    frame::Payload,
    ways::slots::{SLOT_BYTES_U32, Slots},
};

/// The only group that a ring has here.
pub(super) const GROUP: u16 = 0;

/// The ring starts on a page (io_uring_register(2), IORING_REGISTER_PBUF_RING).
const PAGE_BYTES: usize = 4_096;

/// Buffers of one frame each, and the ring that lends them to the kernel.
///
/// Layout of an entry (`struct io_uring_buf`): address 8, length 4, number 2,
/// and 2 bytes that are the ring's tail in the first entry.
#[derive(Debug)]
pub(super) struct Provided {
    memory: Buffer,
    slots: Slots,
    mask: u16,
    tail: u16,
}

impl Provided {
    /// Lends so many buffers, a power of two, to the ring.
    pub(super) fn new(
        ring: &mut Ring,
        buffers: u16,
    ) -> Result<Self, TrialError> {
        assert!(buffers.is_power_of_two());
        let bytes = usize::from(buffers) * size_of::<BufRingEntry>();
        let memory = Buffer::new(bytes, PAGE_BYTES, None)
            .map_err(|error| TrialError::setup(error.to_string()))?;
        let slots = Slots::new(buffers.into())?;
        let address = memory.as_non_null().as_ptr().addr() as u64;
        // SAFETY: the memory is as large as so many entries, and `Receiving`
        // drops it only after the ring has let go of it.
        unsafe {
            ring.submitter()
                .register_buf_ring_with_flags(address, buffers, GROUP, 0)
        }
        .map_err(|error: io::Error| {
            TrialError::setup(format!(
                "registering {buffers} provided buffers: {error}; it takes \
                 Linux 5.19"
            ))
        })?;
        let mut provided = Self { memory, slots, mask: buffers - 1, tail: 0 };
        for buffer in 0..buffers {
            provided.give_back(buffer);
        }
        provided.publish();
        Ok(provided)
    }

    /// What has arrived in a buffer.
    #[inline(always)]
    pub(super) fn read(&self, buffer: u16, length: usize) -> Payload {
        self.slots.read(buffer.into(), length)
    }

    /// Puts a buffer back; the kernel sees it after `publish`.
    #[inline(always)]
    pub(super) fn give_back(&mut self, buffer: u16) {
        let address = self.slots.address(buffer.into()).as_ptr().addr() as u64;
        let place: NonNull<BufRingEntry> = self.memory.as_non_null().cast();
        // SAFETY: the index is below the number of entries by the mask. The
        // kernel does not read an entry beyond the tail, so it is ours; only
        // the three fields before the tail's bytes are written.
        let entry =
            unsafe { place.add(usize::from(self.tail & self.mask)).as_mut() };
        entry.set_addr(address);
        entry.set_len(SLOT_BYTES_U32);
        entry.set_bid(buffer);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Lets the kernel see what was given back.
    #[inline(always)]
    pub(super) fn publish(&self) {
        let first = self.memory.as_non_null().cast::<BufRingEntry>();
        // SAFETY: the first entry is live, initialised memory; its tail is
        // aligned to two bytes and is accessed atomically by both sides.
        // Release pairs with the kernel's acquire: it sees the entries first.
        unsafe {
            let tail = BufRingEntry::tail(first.as_ptr()).cast_mut();
            AtomicU16::from_ptr(tail).store(self.tail, Ordering::Release);
        }
    }
}
