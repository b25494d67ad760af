//! Dropping through a ring: what is submitted, and the way with one op under
//! way.

use std::fs::File;

use harness::measure::trial::TrialError;
use io_uring::{opcode, squeue::Entry};

use super::{Span, Trim, calls::PUNCH};
use crate::engine::one_entry::{FILE, OneEntry};

/// `BLOCK_URING_CMD_DISCARD`: `_IO(0x12, 0)`, linux/blkdev.h, Linux 6.12.
const URING_DISCARD: u32 = 0x1200;

/// What a ring is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// IORING_OP_FALLOCATE, which punches a hole into a file. The kernel hands
    /// each to an io-wq worker.
    Punch,
    /// IORING_OP_URING_CMD with BLOCK_URING_CMD_DISCARD, on a block device.
    Discard,
}

impl Op {
    /// The submission that drops a part of the registered file. It points to
    /// no memory.
    #[inline(always)]
    pub(super) fn entry(self, span: Span) -> Entry {
        match self {
            Self::Punch => opcode::Fallocate::new(FILE, span.bytes)
                .offset(span.offset)
                .mode(PUNCH)
                .build(),
            Self::Discard => discard(span),
        }
    }

    /// The kernel's name of it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Punch => "IORING_OP_FALLOCATE",
            Self::Discard => "BLOCK_URING_CMD_DISCARD",
        }
    }
}

/// A ring that drops parts of one file or device.
#[derive(Debug)]
pub struct Ringed {
    ring: OneEntry,
    op: Op,
}

impl Ringed {
    /// On what is open for writing. Must be made on the thread that uses it.
    ///
    /// # Errors
    /// As `OneEntry::new`.
    pub fn new(file: File, op: Op) -> Result<Self, TrialError> {
        Ok(Self { ring: OneEntry::new(file)?, op })
    }
}

impl Trim for Ringed {
    #[inline(always)]
    fn trim(&mut self, span: Span) -> Result<(), TrialError> {
        let entry = self.op.entry(span);
        // SAFETY: both entries hold numbers only and point to no memory.
        match unsafe { self.ring.complete(&entry) } {
            Ok(0) => Ok(()),
            Ok(result) => {
                Err(failed(self.name(), result.saturating_neg(), span))
            }
            Err(error) => {
                let errno = error.raw_os_error().unwrap_or(0);
                Err(failed("io_uring_enter", errno, span))
            }
        }
    }

    fn calls(&self) -> u64 {
        self.ring.calls()
    }

    fn name(&self) -> &'static str {
        self.op.name()
    }
}

/// Index of `addr` in the submission seen as 64-bit words; behind it stands
/// `addr3`, where the crate has the command's 16 bytes.
const ADDR_WORD: usize = 16 / size_of::<u64>();

const _: () = assert!(size_of::<Entry>() == 64 && align_of::<Entry>() == 8);

/// `blkdev_uring_cmd` in the kernel (block/ioctl.c) takes where to begin from
/// `addr`, which the crate has no name for in such an entry, and the length
/// from `addr3`.
#[inline(always)]
fn discard(Span { offset, bytes }: Span) -> Entry {
    let mut command = [0; 16];
    command[..8].copy_from_slice(&bytes.to_ne_bytes());
    let mut entry =
        opcode::UringCmd16::new(FILE, URING_DISCARD).cmd(command).build();
    // SAFETY: `Entry` is `repr(C)` around the kernel's structure of 64 bytes
    // with the alignment of a word, asserted above; any number may stand
    // there.
    unsafe {
        std::ptr::from_mut(&mut entry)
            .cast::<u64>()
            .add(ADDR_WORD)
            .write(offset);
    }
    entry
}

/// Asks for a discard of no bytes, and says what the kernel said: EINVAL where
/// it knows the command.
///
/// # Errors
/// No ring.
pub(crate) fn ask_for_nothing(file: File) -> Result<i32, String> {
    let mut ring: OneEntry =
        OneEntry::new(file).map_err(|error| error.to_string())?;
    let nothing = discard(Span { offset: 0, bytes: 0 });
    // SAFETY: the entry points to no memory.
    unsafe { ring.complete(&nothing) }
        .map(i32::saturating_neg)
        .map_err(|error| error.to_string())
}

#[cold]
pub(super) fn failed(
    name: &str,
    errno: i32,
    Span { offset, bytes }: Span,
) -> TrialError {
    TrialError::op(name, errno, offset, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_discard_stands_where_the_kernel_looks_for_it() {
        let span = Span { offset: 0x12_3456_7000, bytes: 0x1_0000 };
        let entry = discard(span);
        // SAFETY: an entry is 64 bytes of plain data, all of which the crate
        // has initialised.
        let words =
            unsafe { std::ptr::from_ref(&entry).cast::<[u64; 8]>().read() };
        assert_eq!(words[0] & 0xff, 46, "IORING_OP_URING_CMD");
        assert_eq!(words[1], u64::from(URING_DISCARD));
        assert_eq!((words[2], words[6]), (span.offset, span.bytes));
        // What the kernel wants to be 0: len, flags, file_index.
        assert_eq!((words[3], words[7]), (0, 0));
        assert_eq!(words[5] >> 32, 0);
    }
}
