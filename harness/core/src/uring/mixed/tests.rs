//! Completions of two sizes, in memory that a test fills as the kernel does,
//! and in a ring of the kernel's own.

use std::{
    ptr::NonNull,
    sync::atomic::{AtomicU32, Ordering},
};

use io_uring::{EnterFlags, cqueue, opcode, squeue::Entry128};

use super::{
    build,
    queues::{CQE_F_32, CQE_F_SKIP, Completions, Ends},
};
use crate::uring::{
    Enters, Full, Parts, Pushes, Reaps, Setup, Sizes, entries::Mixed,
};

/// `struct io_uring_cqe`.
#[repr(C)]
#[derive(Clone, Copy)]
struct Slot {
    user_data: u64,
    result: i32,
    flags: u32,
}

/// What a reader must never take for a completion.
const OLD: Slot = Slot { user_data: 99, result: -99, flags: CQE_F_32 };

/// The kernel's side of a completion queue.
struct Kernel {
    head: Box<AtomicU32>,
    tail: Box<AtomicU32>,
    // Written through the pointer only, since the reader has it as well.
    slots: NonNull<Slot>,
    count: u32,
}

impl Kernel {
    fn new(count: u32, begin: u32) -> Self {
        let slots = vec![OLD; count as usize].into_boxed_slice();
        let slots = NonNull::from(Box::leak(slots)).cast();
        let [head, tail] = [begin; 2].map(|at| Box::new(AtomicU32::new(at)));
        Self { head, tail, slots, count }
    }

    fn completions(&self) -> Completions {
        let [head, tail] =
            [&self.head, &self.tail].map(|end| NonNull::from(&**end));
        let ends = Ends { head, tail, slots: self.count };
        // SAFETY: ends and slots stay where they are until the test is over,
        // and `put` writes to none between head and tail.
        unsafe { Completions::new(ends, self.slots.cast::<cqueue::Entry>()) }
    }

    fn put(&self, slot: Slot) {
        let tail = self.tail.load(Ordering::Relaxed);
        let taken = tail.wrapping_sub(self.head.load(Ordering::Acquire));
        assert!(taken < self.count, "the test posts only where there is room");
        let index = (tail & (self.count - 1)) as usize;
        // SAFETY: the index is below the number of slots, which live as long
        // as the test, and the slot is free.
        unsafe { self.slots.add(index).write(slot) };
        self.tail.store(tail.wrapping_add(1), Ordering::Release);
    }

    fn post_small(&self, user_data: u64) {
        self.put(Slot { user_data, result: 5, flags: 0 });
    }

    /// As `io_get_cqe` does it.
    fn post_large(&self, user_data: u64) {
        let tail = self.tail.load(Ordering::Relaxed);
        if tail & (self.count - 1) == self.count - 1 {
            self.put(Slot { user_data: 0, result: 0, flags: CQE_F_SKIP });
        }
        self.put(Slot { user_data, result: 7, flags: CQE_F_32 });
        // The second half: two words that look like anything.
        self.put(OLD);
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        let slots =
            NonNull::slice_from_raw_parts(self.slots, self.count as usize);
        // SAFETY: leaked by `new` with this length; the reader is gone.
        drop(unsafe { Box::from_raw(slots.as_ptr()) });
    }
}

fn taken(completions: &mut Completions) -> Vec<(u64, i32)> {
    completions.sync();
    let all = completions.by_ref();
    let all = all.map(|entry| (entry.user_data(), entry.result())).collect();
    completions.sync();
    all
}

#[test]
fn both_sizes_come_in_order_and_second_halves_do_not() {
    let kernel = Kernel::new(8, 0);
    let mut completions = kernel.completions();
    assert_eq!(taken(&mut completions), []);
    kernel.post_small(1);
    kernel.post_large(2);
    kernel.post_large(3);
    kernel.post_small(4);
    assert_eq!(taken(&mut completions), [(1, 5), (2, 7), (3, 7), (4, 5)]);
    assert_eq!(completions.sizes(), Some(Sizes { small: 2, large: 2 }));
    assert_eq!(kernel.head.load(Ordering::Relaxed), 6);
}

#[test]
fn a_slot_that_is_skipped_at_the_end_is_no_completion() {
    let kernel = Kernel::new(4, 0);
    let mut completions = kernel.completions();
    kernel.post_small(1);
    kernel.post_large(2);
    assert_eq!(taken(&mut completions), [(1, 5), (2, 7)]);
    kernel.post_large(3);
    assert_eq!(kernel.tail.load(Ordering::Relaxed), 6, "one was skipped");
    assert_eq!(taken(&mut completions), [(3, 7)]);
    assert_eq!(kernel.head.load(Ordering::Relaxed), 6);
    assert_eq!(completions.sizes(), Some(Sizes { small: 1, large: 2 }));
}

#[test]
fn a_skipped_slot_alone_is_taken_and_nothing_comes() {
    let kernel = Kernel::new(2, 1);
    let mut completions = kernel.completions();
    kernel.put(Slot { user_data: 0, result: 0, flags: CQE_F_SKIP });
    assert_eq!(taken(&mut completions), []);
    assert_eq!(kernel.head.load(Ordering::Relaxed), 2);
}

#[test]
fn counters_run_past_the_queue_and_past_32_bits() {
    let kernel = Kernel::new(16, u32::MAX - 100);
    let mut completions = kernel.completions();
    let (mut number, mut expected) = (0, Vec::new());
    for round in 0..200_u32 {
        // One to five at a time, of either size: up to 11 slots.
        for post in 0..=round % 5 {
            number += 1;
            if (round / 3 + post) % 2 == 0 {
                kernel.post_large(number);
                expected.push((number, 7));
            } else {
                kernel.post_small(number);
                expected.push((number, 5));
            }
        }
        assert_eq!(taken(&mut completions), expected, "round {round}");
        expected.clear();
    }
    assert!(kernel.head.load(Ordering::Relaxed) < u32::MAX - 100);
}

/// A NOP whose completion is large, or not (IORING_NOP_CQE32, Linux 6.18).
fn nop(user_data: u64, large: bool) -> Entry128 {
    const NOP_CQE32: u32 = 1 << 5;
    const FLAGS_WORD: usize = 7;
    let mut entry =
        Entry128::from(opcode::Nop::new().build().user_data(user_data));
    if large {
        // SAFETY: `Entry128` is `repr(C)` around `struct io_uring_sqe`, whose
        // flags of an operation are the 32 bits at byte 28.
        unsafe {
            (&raw mut entry).cast::<u32>().add(FLAGS_WORD).write(NOP_CQE32);
        }
    }
    entry
}

/// A ring of the kernel's, registered with this thread.
fn ring(entries: u32) -> Option<Parts<Mixed>> {
    match build(Setup::SingleIssuer, entries) {
        Ok(mut parts) => {
            parts.submitter.register_ring_fd().expect("registered");
            Some(parts)
        }
        Err(error) => {
            eprintln!("SKIPPED: no ring with mixed completions: {error}");
            None
        }
    }
}

#[test]
fn the_kernel_mixes_them_and_each_comes_once() {
    let Some(mut ring) = ring(4) else { return };
    let (mut submitted, mut came) = (Vec::new(), Vec::new());
    let mut sizes = Sizes::default();
    for round in 0..1000_u64 {
        let some = round % 4 + 1;
        // Sees what the kernel has taken since.
        ring.sq.sync();
        for number in 0..some {
            let large = (round + number) % 3 != 0;
            let entry = nop(round * 10 + number, large);
            // SAFETY: a NOP points to nothing.
            unsafe { ring.sq.push_all(&[entry]) }.expect("there is room");
            submitted.push(round * 10 + number);
            *if large { &mut sizes.large } else { &mut sizes.small } += 1;
        }
        // A slot that is skipped counts as what is waited for.
        while came.len() < submitted.len() {
            ring.sq.sync();
            let queued = u32::try_from(ring.sq.queued()).expect("few");
            ring.submitter
                .enter(queued, 1, EnterFlags::GETEVENTS)
                .expect("entered");
            ring.cq.sync();
            for completion in &mut ring.cq {
                assert_eq!(completion.result(), 0);
                came.push(completion.user_data());
            }
            ring.cq.sync();
        }
    }
    assert_eq!(came, submitted);
    assert_eq!(ring.cq.sizes(), Some(sizes));
    ring.submitter.unregister_ring_fd().expect("given back");
}

#[test]
fn more_than_there_is_room_for_is_not_pushed() {
    let Some(mut ring) = ring(4) else { return };
    let five = std::array::from_fn::<_, 5, _>(|_| nop(1, true));
    // SAFETY: a NOP points to nothing.
    unsafe {
        assert_eq!(ring.sq.push_all(&five), Err(Full));
        assert_eq!(ring.sq.push_all(&five[..3]), Ok(()));
        assert_eq!(ring.sq.push_all(&five[3..]), Err(Full));
        assert_eq!(ring.sq.push_all(&five[4..]), Ok(()));
    }
    assert_eq!(ring.sq.queued(), 4);
}
