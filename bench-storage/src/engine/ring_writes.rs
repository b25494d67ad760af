//! Writes through a ring, made durable by a linked fsync or by a flag of
//! their own, or left to the device; with reads among them where the
//! experiment says so.

use std::{fs::File, os::fd::AsRawFd};

use harness::{
    load::closed::Place,
    measure::trial::{Evidence, TrialError},
};
use io_uring::{
    opcode,
    squeue::{Entry, Flags},
    types::{Fd, Fixed, FsyncFlags},
};

use super::{
    ring::{Ring, Small},
    ring_reads::{self, INDEX, Registered, register, set_offset},
    rounds::{Requests, user_data},
    write_slots::{Drawn, WriteSlots},
};
use crate::sink::Sink;

/// Which write: the first entry of an op.
const WRITE: usize = 0;

/// One writer per slot, each with a part of the buffer and of the target. An
/// op has `ENTRIES` entries: 1 is a write, with flags or without, or a read; 2
/// is a write and, linked to it, an fsync of the data, which the kernel starts
/// when the write has succeeded.
#[derive(Debug)]
pub struct RingWrites<'a, const ENTRIES: usize> {
    slots: WriteSlots<'a>,
    file: File,
    registered: Registered,
    entries: Box<[[Entry; ENTRIES]]>,
    /// The read of each slot; none where the experiment has no reads.
    reads: Box<[[Entry; ENTRIES]]>,
}

/// An op on its own.
pub type LoneWrites<'a> = RingWrites<'a, 1>;

/// A write and its fsync.
pub type SyncedWrites<'a> = RingWrites<'a, 2>;

/// What writes that are to be durable register: their file is open for long,
/// and their buffers change with every write.
const DURABLE: Registered =
    Registered { ring: true, file: true, buffers: false };

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
        Self::with(ring, DURABLE, sink, place, |write| [write.lone(rw_flags)])
    }

    /// Plain writes, and reads where the experiment has some, with this much
    /// registered.
    ///
    /// # Errors
    /// As `SyncedWrites::new`.
    pub fn registering(
        ring: &mut Ring,
        registered: Registered,
        sink: &'a Sink,
        place: &Place,
    ) -> Result<Self, TrialError> {
        let mut ops =
            Self::with(ring, registered, sink, place, |w| [w.lone(0)])?;
        ops.reads = ops.read_entries()?;
        Ok(ops)
    }

    fn read_entries(&self) -> Result<Box<[[Entry; 1]]>, TrialError> {
        let file = self.file.as_raw_fd();
        let op_bytes = self.slots.op_bytes();
        self.slots
            .read_parts()
            .map(|(slot, address)| {
                ring_reads::template(
                    self.registered,
                    file,
                    address,
                    op_bytes,
                    slot,
                )
                .map(|entry| [entry])
            })
            .collect()
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
        Self::with(ring, DURABLE, sink, place, |write| {
            let slot = write.slot;
            let sync = opcode::Fsync::new(FILE)
                .flags(FsyncFlags::DATASYNC)
                .build()
                .user_data(user_data(slot, 1));
            [write.lone(0).flags(Flags::IO_LINK), sync]
        })
    }
}

/// The target, as registered with the ring.
const FILE: Fixed = Fixed(INDEX as u32);

/// What the write of a slot is made of, but for its offset.
struct Template {
    registered: Registered,
    file: i32,
    slot: u64,
    address: *const u8,
    bytes: u32,
}

impl Template {
    fn lone(&self, rw_flags: i32) -> Entry {
        let Self { address, bytes, .. } = *self;
        let fd = Fd(self.file);
        let entry = match (self.registered.file, self.registered.buffers) {
            (false, false) => opcode::Write::new(fd, address, bytes)
                .rw_flags(rw_flags)
                .build(),
            (true, false) => opcode::Write::new(FILE, address, bytes)
                .rw_flags(rw_flags)
                .build(),
            (false, true) => opcode::WriteFixed::new(fd, address, bytes, INDEX)
                .rw_flags(rw_flags)
                .build(),
            (true, true) => {
                opcode::WriteFixed::new(FILE, address, bytes, INDEX)
                    .rw_flags(rw_flags)
                    .build()
            }
        };
        entry.user_data(user_data(self.slot, 0))
    }
}

impl<'a, const ENTRIES: usize> RingWrites<'a, ENTRIES> {
    fn with(
        ring: &mut Ring,
        registered: Registered,
        sink: &'a Sink,
        place: &Place,
        entries_of: impl Fn(Template) -> [Entry; ENTRIES],
    ) -> Result<Self, TrialError> {
        let slots = WriteSlots::new(sink, place)?;
        let op_bytes = slots.op_bytes();
        let bytes = u32::try_from(op_bytes).map_err(|_| {
            TrialError::setup(format!("an op of {op_bytes} bytes is too long"))
        })?;
        let file = sink.open(0)?;
        register(ring, registered, file.as_raw_fd(), slots.region())?;
        let entries = slots
            .parts()
            .map(|(slot, address)| {
                entries_of(Template {
                    registered,
                    file: file.as_raw_fd(),
                    slot,
                    address,
                    bytes,
                })
            })
            .collect();
        Ok(Self { slots, file, registered, entries, reads: Box::default() })
    }
}

// SAFETY: each slot's write points to that slot's own part of the buffer of
// `slots`, and its read to another one of its own; all of it is freed with the
// value. `begin` changes the slot's part only when the slot is free, so that
// nothing of it is in flight, and `check` looks at what was read only after
// its op. An fsync points to nothing.
unsafe impl<const ENTRIES: usize> Requests for RingWrites<'_, ENTRIES> {
    type Sizes = Small;

    const OPCODE: &'static str = "IORING_OP_WRITE";

    const ENTRIES: usize = ENTRIES;

    #[inline(always)]
    fn next(&mut self, slot: usize) -> &[Entry] {
        let Drawn { is_read, offset } = self.slots.begin(slot);
        let entries = match is_read {
            true => &mut self.reads[slot],
            false => &mut self.entries[slot],
        };
        set_offset(&mut entries[WRITE], offset);
        entries
    }

    #[inline(always)]
    fn completed(
        &mut self,
        slot: usize,
        entry: usize,
        result: i32,
    ) -> Result<(), TrialError> {
        // An fsync has no length to come back with.
        let expected = if entry == WRITE { self.slots.op_bytes() } else { 0 };
        if usize::try_from(result) != Ok(expected) {
            return Err(self.failed(slot, entry, result));
        }
        self.slots.check(slot)
    }

    fn keeps_apart(&self) -> bool {
        !self.reads.is_empty()
    }

    #[inline(always)]
    fn is_apart(&self, slot: usize) -> bool {
        self.slots.is_read(slot)
    }

    fn finish(&mut self) -> Result<Evidence, TrialError> {
        let mut evidence = self.slots.finish(&self.file)?;
        self.registered.prove(&mut evidence);
        Ok(evidence)
    }
}

impl<const ENTRIES: usize> RingWrites<'_, ENTRIES> {
    #[cold]
    fn failed(&self, slot: usize, entry: usize, result: i32) -> TrialError {
        let fixed = self.registered.buffers;
        // The slot's last op is the one in question.
        let Drawn { is_read, offset } = self.slots.drawn(slot);
        let opcode = match (entry, is_read) {
            (WRITE, true) if fixed => "IORING_OP_READ_FIXED",
            (WRITE, true) => "IORING_OP_READ",
            (WRITE, false) if fixed => "IORING_OP_WRITE_FIXED",
            (WRITE, false) => Self::OPCODE,
            _ => "IORING_OP_FSYNC",
        };
        let bytes = self.slots.op_bytes() as u64;
        if result < 0 {
            let errno = result.saturating_neg();
            return TrialError::op(opcode, errno, offset, bytes);
        }
        let odd = format!("{opcode} (unexpected result {result})");
        TrialError::op(&odd, 0, offset, bytes)
    }
}
