//! The rings between program and kernel: one side produces, the other one
//! consumes, and each owns one index.
//!
//! A ring is one mapping; `XDP_MMAP_OFFSETS` says where its parts are:
//!
//! | part | bytes | who writes |
//! |---|---|---|
//! | producer | 4 | whoever produces: we in fill and transmit ring |
//! | consumer | 4 | whoever consumes: we in completion and receive ring |
//! | flags | 4 | the kernel: bit 0 asks for a wakeup |
//! | entries | 8 each (fill, completion) or 16 (receive, transmit) | the producer |
//!
//! Indices are free-running 32-bit counters: they wrap at 2³², and the lower
//! bits are the slot. The number of filled entries is their difference.
//!
//! **Orders.** Whoever produces writes entries, then stores its index with
//! Release; whoever consumes loads that index with Acquire and then reads the
//! entries. Back again: the consumer stores its index with Release once it has
//! read, and the producer loads it with Acquire before it writes to the slot
//! again. The kernel does the same on its side (`net/xdp/xsk_queue.h`, "A" to
//! "D"). Each side's own index is read back by nobody here: it is kept in
//! plain memory and published once a batch.

use std::{
    ptr::NonNull,
    sync::atomic::{AtomicU32, Ordering, fence},
};

use super::sys::Mapping;

/// A producer's view: how many entries it may write.
#[derive(Clone, Copy, Debug)]
struct Producing {
    /// The next index to be written.
    next: u32,
    /// The first index that the consumer has not freed.
    end: u32,
}

impl Producing {
    fn new(producer: u32, consumer: u32, entries: u32) -> Self {
        let mut view = Self { next: producer, end: producer };
        view.refresh(consumer, entries);
        view
    }

    #[inline(always)]
    fn refresh(&mut self, consumer: u32, entries: u32) {
        self.end = consumer.wrapping_add(entries);
        debug_assert!(self.free() <= entries, "a consumer that overtook");
    }

    #[inline(always)]
    fn free(&self) -> u32 {
        self.end.wrapping_sub(self.next)
    }

    /// The index of the next entry, if it is free.
    #[inline(always)]
    fn advance(&mut self) -> Option<u32> {
        let index = self.next;
        if index == self.end {
            return None;
        }
        self.next = index.wrapping_add(1);
        Some(index)
    }
}

/// A consumer's view: how many entries it may read.
#[derive(Clone, Copy, Debug)]
struct Consuming {
    /// The next index to be read.
    next: u32,
    /// The first index that is not produced.
    end: u32,
}

impl Consuming {
    #[inline(always)]
    fn refresh(&mut self, producer: u32, entries: u32) {
        self.end = producer;
        debug_assert!(self.available() <= entries, "a producer that overtook");
    }

    #[inline(always)]
    fn available(&self) -> u32 {
        self.end.wrapping_sub(self.next)
    }

    /// The index of the next entry, if there is one.
    #[inline(always)]
    fn advance(&mut self) -> Option<u32> {
        let index = self.next;
        if index == self.end {
            return None;
        }
        self.next = index.wrapping_add(1);
        Some(index)
    }
}

/// The mapped parts of a ring.
#[derive(Debug)]
struct Shared<T> {
    producer: NonNull<AtomicU32>,
    consumer: NonNull<AtomicU32>,
    flags: NonNull<AtomicU32>,
    entries: NonNull<T>,
    count: u32,
    /// Owns what the pointers point to.
    _mapping: Mapping,
}

// SAFETY: the pointers lead into the mapping that this owns, and the index of
// our side and the entries that belong to it are used by the owner alone.
unsafe impl<T: Send> Send for Shared<T> {}

impl<T: Copy> Shared<T> {
    /// `count` is a power of two: what the ring was made with.
    fn new(
        mapping: Mapping,
        offsets: &libc::xdp_ring_offset,
        count: u32,
    ) -> Self {
        assert!(count.is_power_of_two(), "{count} entries of a ring");
        Self {
            producer: mapping.at(offsets.producer, 1),
            consumer: mapping.at(offsets.consumer, 1),
            flags: mapping.at(offsets.flags, 1),
            entries: mapping.at(offsets.desc, count as usize),
            count,
            _mapping: mapping,
        }
    }

    #[inline(always)]
    fn producer(&self) -> &AtomicU32 {
        // SAFETY: aligned and inside the mapping, which lives as long as
        // `self`; both sides access it atomically.
        unsafe { self.producer.as_ref() }
    }

    #[inline(always)]
    fn consumer(&self) -> &AtomicU32 {
        // SAFETY: as in `producer`.
        unsafe { self.consumer.as_ref() }
    }

    #[inline(always)]
    fn flags(&self) -> &AtomicU32 {
        // SAFETY: as in `producer`.
        unsafe { self.flags.as_ref() }
    }

    /// Where the entry of this index is.
    #[inline(always)]
    fn slot(&self, index: u32) -> NonNull<T> {
        let slot = index & (self.count - 1);
        // SAFETY: less than `count`, and the mapping holds as many entries.
        unsafe { self.entries.add(slot as usize) }
    }
}

/// Mapped bytes that a ring of so many entries takes.
pub(super) fn ring_bytes<T>(
    offsets: &libc::xdp_ring_offset,
    count: u32,
) -> usize {
    // An offset within a page or two.
    usize::try_from(offsets.desc).unwrap_or(usize::MAX / 2)
        + count as usize * size_of::<T>()
}

/// Our side of a ring that the kernel consumes: fill or transmit.
#[derive(Debug)]
pub(super) struct Producer<T> {
    shared: Shared<T>,
    view: Producing,
}

impl<T: Copy> Producer<T> {
    pub(super) fn new(
        mapping: Mapping,
        offsets: &libc::xdp_ring_offset,
        count: u32,
    ) -> Self {
        let shared = Shared::new(mapping, offsets, count);
        let view = Producing::new(
            shared.producer().load(Ordering::Acquire),
            shared.consumer().load(Ordering::Acquire),
            count,
        );
        Self { shared, view }
    }

    /// How many entries can be written; looks at the kernel's index only if
    /// fewer than `wanted` are known to be free.
    #[inline(always)]
    pub(super) fn free(&mut self, wanted: u32) -> u32 {
        if self.view.free() < wanted {
            // Acquire: the kernel has read the entries that it gives back.
            let consumer = self.shared.consumer().load(Ordering::Acquire);
            self.view.refresh(consumer, self.shared.count);
        }
        self.view.free()
    }

    /// Writes the next entry, which the kernel sees with `publish`.
    ///
    /// # Panics
    /// None was known to be free.
    #[inline(always)]
    pub(super) fn write(&mut self, entry: T) {
        let index = self.view.advance().expect("room in the ring");
        // SAFETY: the slot is ours: the kernel has freed it (`free`) and reads
        // it only behind the index that `publish` stores.
        unsafe { self.shared.slot(index).write(entry) };
    }

    /// Hands over what was written.
    #[inline(always)]
    pub(super) fn publish(&mut self) {
        // Release: the entries, and the frames that they name, come first.
        self.shared.producer().store(self.view.next, Ordering::Release);
    }

    /// How many published entries the kernel has not consumed.
    #[inline(always)]
    pub(super) fn unconsumed(&self) -> u32 {
        let consumer = self.shared.consumer().load(Ordering::Acquire);
        self.view.next.wrapping_sub(consumer)
    }

    /// Whether the kernel sleeps and wants to be told of what was published.
    #[inline(always)]
    pub(super) fn needs_wakeup(&self) -> bool {
        // The index must be visible before the flag is read, or both sides
        // could miss each other: the kernel sets the flag, then looks at the
        // index once more. Release and Acquire do not order a store before a
        // load; this does, once a batch.
        fence(Ordering::SeqCst);
        self.shared.flags().load(Ordering::Relaxed) & libc::XDP_RING_NEED_WAKEUP
            != 0
    }
}

/// Our side of a ring that the kernel produces: completion or receive.
#[derive(Debug)]
pub(super) struct Consumer<T> {
    shared: Shared<T>,
    view: Consuming,
}

impl<T: Copy> Consumer<T> {
    pub(super) fn new(
        mapping: Mapping,
        offsets: &libc::xdp_ring_offset,
        count: u32,
    ) -> Self {
        let shared = Shared::new(mapping, offsets, count);
        let consumer = shared.consumer().load(Ordering::Acquire);
        Self { shared, view: Consuming { next: consumer, end: consumer } }
    }

    /// How many entries can be read; looks at the kernel's index only if
    /// fewer than `wanted` are known.
    #[inline(always)]
    pub(super) fn available(&mut self, wanted: u32) -> u32 {
        if self.view.available() < wanted {
            // Acquire: the entries, and the packets that they name, are
            // complete.
            let producer = self.shared.producer().load(Ordering::Acquire);
            self.view.refresh(producer, self.shared.count);
        }
        self.view.available()
    }

    /// Reads the next entry, if one is known.
    #[inline(always)]
    pub(super) fn read(&mut self) -> Option<T> {
        let index = self.view.advance()?;
        // SAFETY: the kernel has written the slot (Acquire in `available`) and
        // leaves it alone until `release`.
        Some(unsafe { self.shared.slot(index).read() })
    }

    /// Gives back the slots that were read.
    #[inline(always)]
    pub(super) fn release(&mut self) {
        // Release: they have been read.
        self.shared.consumer().store(self.view.next, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xdp::testing;

    const COUNT: u32 = 8;
    const OFFSETS: libc::xdp_ring_offset = libc::xdp_ring_offset {
        producer: 0,
        consumer: 64,
        flags: 68,
        desc: 128,
    };

    /// A ring whose indices start here; the test plays the kernel.
    fn mapping(start: u32) -> (Mapping, Kernel) {
        let mapping = Mapping::anonymous(ring_bytes::<u64>(&OFFSETS, COUNT));
        let kernel = Kernel {
            producer: mapping.at(OFFSETS.producer, 1),
            consumer: mapping.at(OFFSETS.consumer, 1),
            flags: mapping.at(OFFSETS.flags, 1),
            entries: mapping.at(OFFSETS.desc, COUNT as usize),
        };
        kernel.store(kernel.producer, start);
        kernel.store(kernel.consumer, start);
        (mapping, kernel)
    }

    struct Kernel {
        producer: NonNull<AtomicU32>,
        consumer: NonNull<AtomicU32>,
        flags: NonNull<AtomicU32>,
        entries: NonNull<u64>,
    }

    impl Kernel {
        fn store(&self, part: NonNull<AtomicU32>, value: u32) {
            // SAFETY: the test keeps the ring, which owns the mapping.
            unsafe { part.as_ref() }.store(value, Ordering::Release);
        }

        fn load(&self, part: NonNull<AtomicU32>) -> u32 {
            // SAFETY: as in `store`.
            unsafe { part.as_ref() }.load(Ordering::Acquire)
        }

        fn entry(&self, index: u32) -> NonNull<u64> {
            // SAFETY: the slot is less than the ring's number of entries.
            unsafe { self.entries.add((index % COUNT) as usize) }
        }
    }

    /// Where counters wrap, and where they do not.
    const STARTS: [u32; 4] = [0, 5, u32::MAX - 3, u32::MAX];

    #[test]
    fn what_is_produced_is_seen_in_order_across_the_wrap() {
        for start in STARTS {
            let (mapping, kernel) = mapping(start);
            let mut ring = Producer::<u64>::new(mapping, &OFFSETS, COUNT);
            let mut index = start;
            for round in 0..5u64 {
                assert_eq!(ring.free(COUNT), COUNT, "{start}");
                for item in 0..6 {
                    ring.write(round * 10 + item);
                }
                assert_eq!(kernel.load(kernel.producer), index, "unpublished");
                ring.publish();
                for item in 0..6 {
                    // SAFETY: just written by the ring.
                    let entry = unsafe { kernel.entry(index).read() };
                    assert_eq!(entry, round * 10 + item, "{start}");
                    index = index.wrapping_add(1);
                }
                assert_eq!(kernel.load(kernel.producer), index);
                kernel.store(kernel.consumer, index);
            }
        }
    }

    #[test]
    fn a_full_ring_takes_nothing_until_the_kernel_has_consumed() {
        for start in STARTS {
            let (mapping, kernel) = mapping(start);
            let mut ring = Producer::<u64>::new(mapping, &OFFSETS, COUNT);
            for item in 0..u64::from(COUNT) {
                ring.write(item);
            }
            ring.publish();
            assert_eq!(ring.free(1), 0, "{start}");
            assert_eq!(ring.unconsumed(), COUNT, "{start}");
            kernel.store(kernel.consumer, start.wrapping_add(3));
            assert_eq!(ring.unconsumed(), COUNT - 3, "{start}");
            assert_eq!(ring.free(1), 3, "{start}");
            // Enough is known: the kernel's index is not looked at.
            kernel.store(kernel.consumer, start.wrapping_add(5));
            assert_eq!(ring.free(2), 3, "{start}");
            assert_eq!(ring.free(4), 5, "{start}");
        }
    }

    #[test]
    fn a_full_ring_is_never_overwritten() {
        let said = testing::panic_of(|| {
            let (mapping, _) = mapping(u32::MAX);
            let mut ring = Producer::<u64>::new(mapping, &OFFSETS, COUNT);
            for item in 0..=u64::from(COUNT) {
                ring.write(item);
            }
        });
        assert!(said.contains("room in the ring"), "{said}");
    }

    #[test]
    fn what_the_kernel_produced_is_read_in_order_across_the_wrap() {
        for start in STARTS {
            let (mapping, kernel) = mapping(start);
            let mut ring = Consumer::<u64>::new(mapping, &OFFSETS, COUNT);
            assert_eq!((ring.available(1), ring.read()), (0, None), "{start}");
            let mut index = start;
            for round in 0..5u64 {
                for item in 0..7 {
                    // SAFETY: a slot that the ring has released.
                    unsafe { kernel.entry(index).write(round * 10 + item) };
                    index = index.wrapping_add(1);
                }
                kernel.store(kernel.producer, index);
                assert_eq!(ring.available(COUNT), 7, "{start}");
                let before = kernel.load(kernel.consumer);
                for item in 0..7 {
                    assert_eq!(ring.read(), Some(round * 10 + item), "{start}");
                }
                assert_eq!(ring.read(), None, "{start}");
                assert_eq!(kernel.load(kernel.consumer), before, "unreleased");
                ring.release();
                assert_eq!(kernel.load(kernel.consumer), index, "{start}");
            }
        }
    }

    #[test]
    fn the_kernel_asks_to_be_woken_by_bit_0() {
        let (mapping, kernel) = mapping(0);
        let ring = Producer::<u64>::new(mapping, &OFFSETS, COUNT);
        assert!(!ring.needs_wakeup());
        kernel.store(kernel.flags, 1);
        assert!(ring.needs_wakeup());
        kernel.store(kernel.flags, 2);
        assert!(!ring.needs_wakeup());
    }
}
