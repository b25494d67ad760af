//! Reads through a ring: by descriptor or registered file, into plain or
//! registered memory.

use std::{io, os::fd::AsRawFd, ptr::NonNull};

use harness::{
    load::closed::Place,
    measure::trial::{Evidence, TrialError},
    uring::probe::with_remedy,
};
use io_uring::{
    opcode,
    squeue::Entry,
    types::{Fd, Fixed},
};

use super::{
    ring::{Enters, Entries, Ring, Small, patiently},
    rounds::Requests,
    slots::Slots,
};
use crate::source::Source;

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

/// Reads of one thread's ring.
#[derive(Debug)]
pub struct RingReads<'a> {
    slots: Slots<'a>,
    registered: Registered,
    entries: Box<[Entry]>,
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
        let slots = Slots::new(source, place, streams)?;
        let file = source.file(place.thread).as_raw_fd();
        register(ring, registered, file, slots.region())?;
        let entries = slots
            .parts()
            .map(|(slot, address)| {
                template(registered, file, address, slots.op_bytes(), slot)
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { slots, registered, entries })
    }
}

// SAFETY: each slot's entry points to that slot's own part of the buffer of
// `slots`, which is freed with the value; `check` looks at the part only after
// its op.
unsafe impl Requests for RingReads<'_> {
    type Sizes = Small;

    const OPCODE: &'static str = "IORING_OP_READ";

    #[inline(always)]
    fn next(&mut self, slot: usize) -> &[Entry] {
        let offset = self.slots.begin(slot);
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
        let offset = self.slots.end(slot);
        if usize::try_from(result) != Ok(self.slots.op_bytes()) {
            return Err(self.failed(offset, result));
        }
        self.slots.check(slot, offset)
    }

    fn finish(&mut self) -> Result<Evidence, TrialError> {
        let mut evidence = self.slots.finish()?;
        self.registered.prove(&mut evidence);
        Ok(evidence)
    }
}

impl Registered {
    /// States what the kernel accepted.
    pub(crate) fn prove(self, evidence: &mut Evidence) {
        let word = |yes| if yes { "yes" } else { "no" };
        evidence.prove("registered_ring", word(self.ring));
        evidence.prove("fixed_file", word(self.file));
        evidence.prove("fixed_buffers", word(self.buffers));
    }
}

impl RingReads<'_> {
    #[cold]
    fn failed(&self, offset: u64, result: i32) -> TrialError {
        let opcode = match self.registered.buffers {
            true => "IORING_OP_READ_FIXED",
            false => Self::OPCODE,
        };
        let bytes = self.slots.op_bytes() as u64;
        if result < 0 {
            let errno = result.saturating_neg();
            return TrialError::op(opcode, errno, offset, bytes);
        }
        let short = format!("{opcode} (short: {result} of {bytes} bytes)");
        TrialError::op(&short, 0, offset, bytes)
    }
}

/// Registers with the ring what is wanted.
///
/// # Errors
/// Which registration was refused.
pub(crate) fn register<E: Entries>(
    ring: &mut Ring<E>,
    registered: Registered,
    file: i32,
    (start, bytes): (NonNull<u8>, usize),
) -> Result<(), TrialError> {
    if registered.ring {
        ring.submitter()
            .register_ring_fd()
            .map_err(|error| refused("its own descriptor", &error))?;
    }
    if registered.file {
        ring.submitter()
            .register_files(&[file])
            .map_err(|error| refused("the target's descriptor", &error))?;
    }
    if registered.buffers {
        register_buffer(ring, start, bytes)
            .map_err(|error| refused(&format!("{bytes} bytes"), &error))?;
    }
    Ok(())
}

/// A registration that the kernel did not take.
pub(crate) fn refused(what: &str, error: &io::Error) -> TrialError {
    let error = with_remedy(error);
    TrialError::setup(format!("registering {what} with the ring: {error}"))
}

/// Registers one region under `INDEX`.
///
/// # Errors
/// What `io_uring_register` said: ENOMEM when the region is above what may be
/// locked.
pub(crate) fn register_buffer<E: Entries>(
    ring: &mut Ring<E>,
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

/// The entry of a slot that reads, complete but for the offset.
pub(super) fn template(
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

/// Sets where an entry reads or writes. The crate can only make whole entries;
/// making one afresh per op would double the work of submitting it.
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
