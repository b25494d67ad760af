//! A bounded queue from one thread to one other, without locks.
//!
//! What makes it fast, in order of effect:
//!
//! - Each side keeps its own index in its handle, and a copy of the other
//!   side's index as last seen. It looks at the shared one only when the copy
//!   says "full" or "empty", so that in a flowing stream the lines of the two
//!   indices seldom cross between the CPUs.
//! - Each shared index stands alone in 128 bytes: two lines, because x86
//!   processors fetch lines in adjacent pairs.
//! - The capacity is a power of two and indices run on freely (they wrap with
//!   `usize`), so that a slot is found by a mask, and full (`tail - head ==
//!   capacity`) differs from empty (`tail == head`) without a spare slot.
//!
//! ```
//! let (mut producer, mut consumer) = bench_ipc::ring::ring(2)?;
//! assert_eq!(producer.push('a'), Ok(()));
//! assert_eq!(producer.push('b'), Ok(()));
//! assert_eq!(producer.push('c'), Err('c'), "full");
//! assert_eq!(consumer.pop(), Some('a'));
//! # Ok::<(), bench_ipc::ring::RingError>(())
//! ```
//!
//! A handle can move to another thread but cannot be shared or copied:
//!
//! ```compile_fail,E0277
//! fn share<T: Sync>(_: T) {}
//! share(bench_ipc::ring::ring::<u8>(2).unwrap().0);
//! ```
//! ```compile_fail,E0277
//! fn share<T: Sync>(_: T) {}
//! share(bench_ipc::ring::ring::<u8>(2).unwrap().1);
//! ```
//! ```compile_fail,E0599
//! let _ = bench_ipc::ring::ring::<u8>(2).unwrap().0.clone();
//! ```
//! ```compile_fail,E0599
//! let _ = bench_ipc::ring::ring::<u8>(2).unwrap().1.clone();
//! ```

#[cfg(all(test, feature = "loom"))]
mod loom_tests;
mod slots;
mod sync;
#[cfg(all(test, not(feature = "loom")))]
mod tests;

use std::fmt;

use self::{
    slots::{Shared, Slots},
    sync::{Arc, Ordering},
};

/// Why there is no ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RingError {
    /// Slots are found by a mask, which needs a power of two.
    #[error(
        "a ring cannot have a capacity of {capacity}; take a power of two, \
         such as {nearest}"
    )]
    NotPowerOfTwo {
        /// What was asked for.
        capacity: usize,
        /// The next one up, or the largest one below where there is none.
        nearest: usize,
    },
    /// The memory is not to be had.
    #[error(
        "no memory for a ring of {capacity} slots of {slot_bytes} B; take a \
         smaller capacity"
    )]
    NoMemory {
        /// What was asked for.
        capacity: usize,
        /// Size of one slot.
        slot_bytes: usize,
    },
}

/// Makes a ring of `capacity` slots.
///
/// # Errors
/// The capacity is not a power of two, or there is no memory for it.
pub fn ring<T>(
    capacity: usize,
) -> Result<(Producer<T>, Consumer<T>), RingError> {
    ring_at(capacity, 0)
}

/// A ring whose indices start at `start`: tests let them wrap soon.
fn ring_at<T>(
    capacity: usize,
    start: usize,
) -> Result<(Producer<T>, Consumer<T>), RingError> {
    let shared = Arc::new(Shared::new(capacity, start)?);
    // The view is taken after the storage has come to its final place.
    let slots = shared.slots();
    let producer = Producer {
        slots,
        capacity,
        tail: start,
        seen_head: start,
        shared: Arc::clone(&shared),
    };
    let consumer =
        Consumer { slots, capacity, head: start, seen_tail: start, shared };
    Ok((producer, consumer))
}

/// The writing end. It fills its lines, so that the index in it, which is
/// written with each item, shares none with the other end, wherever both are.
#[repr(align(128))]
pub struct Producer<T> {
    slots: Slots<T>,
    capacity: usize,
    /// Where the next item goes; nobody else writes the shared one.
    tail: usize,
    /// The consumer's index as last seen; it may have moved on since.
    seen_head: usize,
    shared: Arc<Shared<T>>,
}

impl<T> Producer<T> {
    /// Appends an item.
    ///
    /// # Errors
    /// Hands the item back when the ring is full.
    #[inline]
    pub fn push(&mut self, item: T) -> Result<(), T> {
        if self.room() == 0 {
            return Err(item);
        }
        // SAFETY: there is room, so the slot at `tail` is empty and belongs
        // to this, the only producer, until `publish`.
        unsafe { self.slots.write(self.tail, item) };
        self.publish(self.tail.wrapping_add(1));
        Ok(())
    }

    /// Appends items while there are any and the ring has room, makes them
    /// visible all at once and says how many. Fewer than the iterator has
    /// means full; what is left stays in the iterator.
    #[inline]
    pub fn push_batch(&mut self, items: &mut impl Iterator<Item = T>) -> usize {
        let room = self.room();
        let start = self.tail;
        let mut tail = start;
        // A panic in `next` leaks the items written so far: nobody has seen
        // them, and their slots count as empty.
        for item in items.take(room) {
            // SAFETY: fewer than `room` slots were written since `start`, so
            // that this one is empty too and belongs to the producer.
            unsafe { self.slots.write(tail, item) };
            tail = tail.wrapping_add(1);
        }
        if tail != start {
            self.publish(tail);
        }
        tail.wrapping_sub(start)
    }

    /// Slots in all.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Empty slots; looks at the consumer's index only when the copy of it
    /// says that there are none.
    #[inline(always)]
    fn room(&mut self) -> usize {
        let room = self.capacity - self.tail.wrapping_sub(self.seen_head);
        if room > 0 {
            return room;
        }
        // Acquire pairs with the Release store in `Consumer::release`: the
        // consumer has read what was in the slots before we write them again.
        self.seen_head = self.shared.head.0.load(Ordering::Acquire);
        self.capacity - self.tail.wrapping_sub(self.seen_head)
    }

    #[inline(always)]
    fn publish(&mut self, tail: usize) {
        self.tail = tail;
        // Release pairs with the Acquire load in `Consumer::filled`: whoever
        // sees the new tail sees what was written to the slots before it.
        self.shared.tail.0.store(tail, Ordering::Release);
    }
}

/// The reading end. It fills its lines as the writing one does.
#[repr(align(128))]
pub struct Consumer<T> {
    slots: Slots<T>,
    capacity: usize,
    /// Where the next item is; nobody else writes the shared one.
    head: usize,
    /// The producer's index as last seen; it may have moved on since.
    seen_tail: usize,
    shared: Arc<Shared<T>>,
}

impl<T> Consumer<T> {
    /// Takes the oldest item; none when the ring is empty.
    #[inline]
    pub fn pop(&mut self) -> Option<T> {
        if self.filled() == 0 {
            return None;
        }
        // SAFETY: `filled` has seen the tail behind `head`, so the slot holds
        // an item, which is read once: `head` moves on before the next read.
        let item = unsafe { self.slots.read(self.head) };
        self.head = self.head.wrapping_add(1);
        self.release();
        Some(item)
    }

    /// Takes up to `limit` items that are there, gives their slots back all
    /// at once and says how many there were.
    #[inline]
    pub fn pop_batch(
        &mut self,
        limit: usize,
        mut take: impl FnMut(T),
    ) -> usize {
        let count = self.filled().min(limit);
        for _ in 0..count {
            // SAFETY: fewer than `filled` items were read since, so the slot
            // holds one, which is read once: `head` has moved on before
            // `take` could panic.
            let item = unsafe { self.slots.read(self.head) };
            self.head = self.head.wrapping_add(1);
            take(item);
        }
        if count > 0 {
            self.release();
        }
        count
    }

    /// Slots in all.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Items that are there; looks at the producer's index only when the copy
    /// of it says that there are none.
    #[inline(always)]
    fn filled(&mut self) -> usize {
        let filled = self.seen_tail.wrapping_sub(self.head);
        if filled > 0 {
            return filled;
        }
        // Acquire pairs with the Release store in `Producer::publish`: the
        // items up to the tail that we see are completely written.
        self.seen_tail = self.shared.tail.0.load(Ordering::Acquire);
        self.seen_tail.wrapping_sub(self.head)
    }

    #[inline(always)]
    fn release(&self) {
        // Release pairs with the Acquire load in `Producer::room`: our reads
        // of the slots before `head` come before they are written again.
        self.shared.head.0.store(self.head, Ordering::Release);
    }
}

impl<T> Drop for Consumer<T> {
    fn drop(&mut self) {
        // After a panic in `pop_batch` the shared index is behind: without
        // this, what was taken since would be dropped a second time.
        self.release();
    }
}

impl<T> fmt::Debug for Producer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer")
            .field("capacity", &self.capacity)
            .field("tail", &self.tail)
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Consumer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer")
            .field("capacity", &self.capacity)
            .field("head", &self.head)
            .finish_non_exhaustive()
    }
}
