//! A ring of completions of two sizes (CQE_MIXED, Linux 6.18), which the
//! io-uring crate can neither set up nor read.
//!
//! The completion queue is made of slots of 16 bytes. A completion of 32 bytes
//! takes two of them and says so (CQE_F_32). It never wraps: where only the
//! last slot before the queue's end is left, the kernel puts one there that
//! means nothing (CQE_F_SKIP), and begins at the first. All of this is in
//! `struct io_uring_cqe` of linux/io_uring.h and `io_uring_setup(2)`.
//!
//! The rest is as in any ring with a single issuer and NO_SQARRAY.

mod calls;
mod queues;
#[cfg(test)]
mod tests;

pub use calls::Submitter;
pub use queues::{Completions, Submissions};

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd, RawFd},
    ptr::NonNull,
};

use io_uring::{cqueue, squeue::Entry128};
use memmap2::{MmapOptions, MmapRaw};
use queues::Ends;

use super::{
    entries::Mixed,
    parts::Parts,
    raw::{self, CQE_MIXED, CQSIZE, Offsets, RawParameters, SQE128},
    ring::Setup,
};

// From linux/io_uring.h.
const OFF_RINGS: u64 = 0;
const OFF_SQES: u64 = 0x1000_0000;

/// Slots for completions per submission: as many bytes as a ring has whose
/// completions are all large. With the kernel's two, a slot that is skipped
/// would make a full ring overflow.
const SLOTS_PER_SUBMISSION: u32 = 4;

const _: () = assert!(size_of::<cqueue::Entry>() == 16);
const _: () = assert!(size_of::<Entry128>() == 128);

/// Makes such a ring.
///
/// # Errors
/// What `io_uring_setup` said: EINVAL before Linux 6.18.
pub(super) fn build(setup: Setup, entries: u32) -> io::Result<Parts<Mixed>> {
    let flags = raw::flags(setup, true)? | SQE128 | CQE_MIXED | CQSIZE;
    let mut made = RawParameters::of(flags);
    made.cq_entries = entries.saturating_mul(SLOTS_PER_SUBMISSION);
    let fd = raw::set_up(entries, &mut made)?;
    let memory = Memory::map(fd, &made)?;
    let ends = |offsets: &Offsets, slots| {
        let head = at(&memory.rings, offsets.head, 1)?;
        let tail = at(&memory.rings, offsets.tail, 1)?;
        Ok::<_, io::Error>(Ends { head, tail, slots })
    };
    let sq_ends = ends(&made.sq, made.sq_entries)?;
    let cq_ends = ends(&made.cq, made.cq_entries)?;
    let submissions = at(&memory.submissions, 0, made.sq_entries)?;
    let completions = at(&memory.rings, made.cq.cqes, made.cq_entries)?;
    // SAFETY: these are where the kernel says, within the mappings, as `at`
    // has seen; `Parts` drops the memory after the queues, and nobody else
    // has these pointers.
    let sq = unsafe { Submissions::new(sq_ends, submissions) };
    // SAFETY: likewise.
    let cq = unsafe { Completions::new(cq_ends, completions) };
    let submitter = Submitter::of(memory.fd.as_raw_fd());
    Ok(Parts { cq, sq, submitter, owner: memory })
}

/// What a ring shares with the kernel. Unmapped before it is closed.
#[derive(Debug)]
pub struct Memory {
    rings: MmapRaw,
    submissions: MmapRaw,
    fd: OwnedFd,
}

impl Memory {
    fn map(fd: OwnedFd, made: &RawParameters) -> io::Result<Self> {
        // Both rings are in one mapping since Linux 5.4, and their heads and
        // tails come before the completions.
        let completions = made.cq_entries as usize * size_of::<cqueue::Entry>();
        let map = |offset, bytes| {
            let mut options = MmapOptions::new();
            options.offset(offset).len(bytes).populate();
            options.map_raw(&fd)
        };
        let rings = map(OFF_RINGS, made.cq.cqes as usize + completions)?;
        let bytes = made.sq_entries as usize * size_of::<Entry128>();
        let submissions = map(OFF_SQES, bytes)?;
        Ok(Self { rings, submissions, fd })
    }
}

impl AsRawFd for Memory {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// So many values at an offset.
///
/// # Errors
/// They do not lie within the mapping.
fn at<T>(map: &MmapRaw, offset: u32, count: u32) -> io::Result<NonNull<T>> {
    let (offset, bytes) = (offset as usize, count as usize * size_of::<T>());
    let start = NonNull::new(map.as_mut_ptr().wrapping_add(offset));
    start
        .map(NonNull::cast)
        .filter(|start: &NonNull<T>| {
            offset + bytes <= map.len() && start.is_aligned()
        })
        .ok_or_else(|| {
            io::Error::other(format!(
                "io_uring_setup puts {bytes} bytes at {offset} into a ring of \
                 {} bytes",
                map.len()
            ))
        })
}
