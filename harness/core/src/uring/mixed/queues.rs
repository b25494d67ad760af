//! Submissions and completions in memory that the kernel shares.

use std::{
    ptr::NonNull,
    sync::atomic::{AtomicU32, Ordering},
};

use io_uring::{cqueue, squeue::Entry128};

use crate::uring::parts::{Full, Pushes, Reaps, Sizes};

// From linux/io_uring.h.
pub(super) const CQE_F_SKIP: u32 = 1 << 5;
pub(super) const CQE_F_32: u32 = 1 << 15;

/// Both ends of a queue, in memory that the kernel reads and writes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    pub(super) head: NonNull<AtomicU32>,
    pub(super) tail: NonNull<AtomicU32>,
    /// A power of two.
    pub(super) slots: u32,
}

impl Ends {
    /// The slot that a counter means.
    #[inline(always)]
    fn slot(&self, count: u32) -> usize {
        (count & (self.slots - 1)) as usize
    }
}

/// Submissions of 128 bytes.
#[derive(Debug)]
pub struct Submissions {
    ends: Ends,
    entries: NonNull<Entry128>,
    head: u32,
    tail: u32,
}

impl Submissions {
    /// # Safety
    /// Both ends, and as many entries as there are slots, are mapped as long
    /// as this lives; the kernel reads entries between head and tail only, and
    /// nobody else uses any.
    pub(super) unsafe fn new(ends: Ends, entries: NonNull<Entry128>) -> Self {
        // SAFETY: both are mapped, as the caller promises.
        let (head, tail) = unsafe { (ends.head.as_ref(), ends.tail.as_ref()) };
        let head = head.load(Ordering::Acquire);
        let tail = tail.load(Ordering::Relaxed);
        Self { ends, entries, head, tail }
    }
}

impl Pushes<Entry128> for Submissions {
    #[inline(always)]
    unsafe fn push_all(&mut self, entries: &[Entry128]) -> Result<(), Full> {
        if entries.len() > self.room() {
            return Err(Full);
        }
        for entry in entries {
            let slot = self.ends.slot(self.tail);
            // SAFETY: the slot lies within the entries, by the contract of
            // `new`, and there was room, so that it is not between head and
            // tail, where the kernel reads.
            unsafe { self.entries.add(slot).write(entry.clone()) };
            self.tail = self.tail.wrapping_add(1);
        }
        Ok(())
    }

    #[inline(always)]
    fn sync(&mut self) {
        // SAFETY: both are mapped, by the contract of `new`.
        let (head, tail) =
            unsafe { (self.ends.head.as_ref(), self.ends.tail.as_ref()) };
        tail.store(self.tail, Ordering::Release);
        self.head = head.load(Ordering::Acquire);
    }

    #[inline(always)]
    fn queued(&self) -> usize {
        self.tail.wrapping_sub(self.head) as usize
    }

    #[inline(always)]
    fn room(&self) -> usize {
        self.ends.slots as usize - self.queued()
    }
}

/// Completions of 16 and of 32 bytes.
#[derive(Debug)]
pub struct Completions {
    ends: Ends,
    slots: NonNull<cqueue::Entry>,
    head: u32,
    tail: u32,
    sizes: Sizes,
}

impl Completions {
    /// # Safety
    /// Both ends, and as many entries as there are slots, are mapped as long
    /// as this lives; slots between head and tail are not written to.
    pub(super) unsafe fn new(
        ends: Ends,
        slots: NonNull<cqueue::Entry>,
    ) -> Self {
        // SAFETY: both are mapped, as the caller promises.
        let (head, tail) = unsafe { (ends.head.as_ref(), ends.tail.as_ref()) };
        let head = head.load(Ordering::Relaxed);
        let tail = tail.load(Ordering::Acquire);
        Self { ends, slots, head, tail, sizes: Sizes::default() }
    }
}

impl Iterator for Completions {
    /// The first 16 bytes: what else a large one has is left where it is.
    type Item = cqueue::Entry;

    #[inline(always)]
    fn next(&mut self) -> Option<cqueue::Entry> {
        while self.head != self.tail {
            let slot = self.ends.slot(self.head);
            // SAFETY: the slot lies within the entries, by the contract of
            // `new`, and between head and tail, where the kernel has written
            // and does not write again before it sees the head move on.
            let entry = unsafe { self.slots.add(slot).as_ref() }.clone();
            let flags = entry.flags();
            if flags & CQE_F_32 != 0 {
                self.head = self.head.wrapping_add(2);
                self.sizes.large += 1;
                return Some(entry);
            }
            self.head = self.head.wrapping_add(1);
            if flags & CQE_F_SKIP == 0 {
                self.sizes.small += 1;
                return Some(entry);
            }
        }
        None
    }
}

impl Reaps for Completions {
    #[inline(always)]
    fn sync(&mut self) {
        // SAFETY: both are mapped, by the contract of `new`.
        let (head, tail) =
            unsafe { (self.ends.head.as_ref(), self.ends.tail.as_ref()) };
        head.store(self.head, Ordering::Release);
        self.tail = tail.load(Ordering::Acquire);
    }

    fn sizes(&self) -> Option<Sizes> {
        Some(self.sizes)
    }
}
