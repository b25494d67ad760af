//! Reads through a ring: by descriptor or registered file, into plain or
//! registered memory.

use std::{io, os::fd::AsRawFd, ptr::NonNull};

use harness::{
    load::closed::Place,
    machine::Buffer,
    measure::trial::{Evidence, TrialError},
};
use io_uring::{
    opcode,
    squeue::Entry,
    types::{Fd, Fixed},
};

use super::{
    ring::{Ring, patiently},
    rounds::Requests,
};
use crate::{
    contents::BLOCK_BYTES,
    source::{Reads, Source},
};

/// What is registered with the ring beforehand, which saves its look-up (and
/// for memory the pinning of pages) on every op.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registered {
    /// The ring's own descriptor (Linux 5.18).
    pub ring: bool,
    /// The target's descriptor.
    pub file: bool,
    /// The buffers, as one region.
    pub buffers: bool,
}

/// The index under which the file, and the buffers, are registered.
pub(super) const INDEX: u16 = 0;

/// No offset that a read has: not a multiple of a block.
const NONE: u64 = u64::MAX;

/// Reads of one thread's ring; slot *i* reads into the *i*-th part of one
/// buffer.
#[derive(Debug)]
pub struct RingReads<'a> {
    reads: Reads<'a>,
    registered: Registered,
    op_bytes: usize,
    entries: Box<[Entry]>,
    offsets: Box<[u64]>,
    buffer: Buffer,
}

impl<'a> RingReads<'a> {
    /// The reads of the thread at `place`, one of `streams`; registers with
    /// `ring` what is wanted.
    ///
    /// # Errors
    /// No memory, a registration was refused, or the target is too small.
    pub fn new(
        ring: &mut Ring,
        registered: Registered,
        source: &'a Source,
        place: &Place,
        streams: usize,
    ) -> Result<Self, TrialError> {
        let reads = source.reads(place, streams)?;
        let (op_bytes, depth) = (reads.op_bytes(), source.load().depth);
        let buffer =
            Buffer::new(op_bytes * depth, BLOCK_BYTES, place.numa_node)
                .map_err(|error| TrialError::setup(error.to_string()))?;
        let file = source.file(place.thread).as_raw_fd();
        register(ring, registered, file, &buffer)?;
        let entries = (0_u64..)
            .zip(buffer.chunks_exact(op_bytes))
            .map(|(slot, part)| {
                let start = buffer.as_non_null();
                // Derived from the buffer's own pointer: the kernel writes
                // through it, which a shared slice's pointer may not do.
                let offset = part.as_ptr().addr() - start.as_ptr().addr();
                let address = start.as_ptr().wrapping_add(offset);
                template(registered, file, address, op_bytes, slot)
            })
            .collect::<Result<_, _>>()?;
        let offsets = vec![NONE; depth].into_boxed_slice();
        Ok(Self { reads, registered, op_bytes, entries, offsets, buffer })
    }
}

// SAFETY: each slot's entry points to that slot's own part of `buffer`, which
// is freed with the value; `completed` looks at the part only after its op.
unsafe impl Requests for RingReads<'_> {
    const OPCODE: &'static str = "IORING_OP_READ";

    #[inline(always)]
    fn next(&mut self, slot: usize) -> &[Entry] {
        let offset = self.reads.next_offset();
        self.offsets[slot] = offset;
        let entry = &mut self.entries[slot];
        set_offset(entry, offset);
        std::slice::from_ref(entry)
    }

    #[inline(always)]
    fn completed(
        &mut self,
        slot: usize,
        _: usize,
        result: i32,
    ) -> Result<(), TrialError> {
        let offset = std::mem::replace(&mut self.offsets[slot], NONE);
        if usize::try_from(result) != Ok(self.op_bytes) {
            return Err(self.failed(offset, result));
        }
        // SAFETY: slot is below the depth (`offsets` was indexed by it), so
        // the part lies in the buffer; its op has completed and no other op
        // uses it, so that nobody writes there while the slice lives.
        let data = unsafe {
            std::slice::from_raw_parts(
                self.buffer.as_non_null().as_ptr().add(slot * self.op_bytes),
                self.op_bytes,
            )
        };
        self.reads.check(offset, data)
    }

    fn finish(&mut self) -> Result<Evidence, TrialError> {
        let mut evidence = self.reads.finish()?;
        let word = |yes| if yes { "yes" } else { "no" };
        evidence.prove("registered_ring", word(self.registered.ring));
        evidence.prove("fixed_file", word(self.registered.file));
        evidence.prove("fixed_buffers", word(self.registered.buffers));
        Ok(evidence)
    }
}

impl RingReads<'_> {
    #[cold]
    fn failed(&self, offset: u64, result: i32) -> TrialError {
        let opcode = match self.registered.buffers {
            true => "IORING_OP_READ_FIXED",
            false => Self::OPCODE,
        };
        let bytes = self.op_bytes as u64;
        if result < 0 {
            let errno = result.saturating_neg();
            return TrialError::op(opcode, errno, offset, bytes);
        }
        let short = format!("{opcode} (short: {result} bytes came back)");
        TrialError::op(&short, 0, offset, bytes)
    }
}

/// Registers with the ring what is wanted.
///
/// # Errors
/// Which registration was refused.
pub(super) fn register(
    ring: &mut Ring,
    registered: Registered,
    file: i32,
    buffer: &Buffer,
) -> Result<(), TrialError> {
    let refused = |what: &str, error: io::Error| {
        TrialError::setup(format!("registering {what} with the ring: {error}"))
    };
    if registered.ring {
        ring.submitter()
            .register_ring_fd()
            .map_err(|error| refused("its own descriptor", error))?;
    }
    if registered.file {
        ring.submitter()
            .register_files(&[file])
            .map_err(|error| refused("the target's descriptor", error))?;
    }
    if registered.buffers {
        register_buffer(ring, buffer.as_non_null(), buffer.len()).map_err(
            |error| refused(&format!("{} bytes", buffer.len()), error),
        )?;
    }
    Ok(())
}

/// Registers one region under `INDEX`.
///
/// # Errors
/// What `io_uring_register` said: ENOMEM when the region is above what may be
/// locked.
pub(crate) fn register_buffer(
    ring: &mut Ring,
    start: NonNull<u8>,
    bytes: usize,
) -> io::Result<()> {
    let region =
        libc::iovec { iov_base: start.as_ptr().cast(), iov_len: bytes };
    patiently(|| {
        // SAFETY: the callers own the region and keep it mapped until no
        // request is in flight; the kernel pins its pages for as long as it
        // needs them.
        unsafe { ring.submitter().register_buffers(&[region]) }
    })
}

/// The entry of a slot, complete but for the offset.
fn template(
    registered: Registered,
    file: i32,
    address: *mut u8,
    op_bytes: usize,
    slot: u64,
) -> Result<Entry, TrialError> {
    let length = u32::try_from(op_bytes).map_err(|_| {
        TrialError::setup(format!("an op of {op_bytes} bytes is too long"))
    })?;
    let fixed = Fixed(u32::from(INDEX));
    let entry = match (registered.file, registered.buffers) {
        (false, false) => opcode::Read::new(Fd(file), address, length).build(),
        (true, false) => opcode::Read::new(fixed, address, length).build(),
        (false, true) => {
            opcode::ReadFixed::new(Fd(file), address, length, INDEX).build()
        }
        (true, true) => {
            opcode::ReadFixed::new(fixed, address, length, INDEX).build()
        }
    };
    Ok(entry.user_data(slot))
}

/// Index of `off` in the submission entry seen as 64-bit words: bytes 8 to 15
/// of `struct io_uring_sqe` (linux/io_uring.h).
const OFF_WORD: usize = 1;

const _: () = assert!(size_of::<Entry>() == 64 && align_of::<Entry>() == 8);

/// Sets where an entry reads or writes. The crate can only make whole entries; making
/// one afresh per op would double the work of submitting it.
#[inline(always)]
pub(super) fn set_offset(entry: &mut Entry, offset: u64) {
    // SAFETY: `Entry` is `repr(C)` around the kernel's structure of 64 bytes
    // with the alignment of a word, asserted above; any value of `off` is a
    // valid one.
    unsafe {
        std::ptr::from_mut(entry).cast::<u64>().add(OFF_WORD).write(offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(entry: &Entry) -> [u64; 8] {
        // SAFETY: an entry is 64 bytes of plain data, see `set_offset`; all
        // of them are initialised by the crate, which zeroes it first.
        unsafe { std::ptr::from_ref(entry).cast::<[u64; 8]>().read() }
    }

    #[test]
    fn setting_the_offset_is_building_with_it() {
        let address = std::ptr::without_provenance_mut(0x1000);
        let offset = 0x1234_5678_9abc_d000;
        let built = opcode::ReadFixed::new(Fixed(0), address, 4096, INDEX)
            .offset(offset)
            .build()
            .user_data(7);
        let registered = Registered { ring: true, file: true, buffers: true };
        let mut patched =
            template(registered, 3, address, 4096, 7).expect("short enough");
        assert_ne!(words(&patched), words(&built));
        set_offset(&mut patched, offset);
        assert_eq!(words(&patched), words(&built));
    }

    #[test]
    fn a_descriptor_is_used_where_nothing_is_registered() {
        let address = std::ptr::without_provenance_mut(0x1000);
        let entry = template(Registered::default(), 9, address, 4096, 1)
            .expect("short enough");
        let built = opcode::Read::new(Fd(9), address, 4096).build();
        assert_eq!(words(&entry), words(&built.user_data(1)));
    }
}
