//! The memory of a ring: the two types in this crate where the compiler has
//! to trust us.

use std::{
    alloc::{Layout, alloc, dealloc},
    mem::MaybeUninit,
    ptr::{self, NonNull},
};

use super::{
    RingError,
    sync::{AtomicUsize, Ordering, UnsafeCell},
};

type Slot<T> = UnsafeCell<MaybeUninit<T>>;

/// The first slot begins a pair of cache lines: no other object shares a line
/// with the ring, and items of 64 bytes, which a general allocator would put
/// across two lines each, take one.
const ALIGNMENT_BYTES: usize = 128;

/// An index alone in its pair of cache lines.
#[repr(align(128))]
pub(super) struct Alone(pub(super) AtomicUsize);

/// What producer and consumer have in common; it owns the slots. Items between
/// `head` and `tail` are alive.
pub(super) struct Shared<T> {
    /// Next slot to be read; only the consumer stores to it.
    pub(super) head: Alone,
    /// Next slot to be written; only the producer stores to it.
    pub(super) tail: Alone,
    slots: Slots<T>,
}

// SAFETY: a slot is touched by the producer while it is empty and by the
// consumer while it is full, never by both; the Release stores and Acquire
// loads of the two indices order the change from one to the other. Items move
// from one thread to the other, hence `T: Send`; nobody shares them.
unsafe impl<T: Send> Sync for Shared<T> {}

impl<T> Shared<T> {
    pub(super) fn new(
        capacity: usize,
        start: usize,
    ) -> Result<Self, RingError> {
        if !capacity.is_power_of_two() {
            // No power of two is above the highest bit.
            let highest = 1 << (usize::BITS - 1);
            let nearest =
                capacity.checked_next_power_of_two().unwrap_or(highest);
            return Err(RingError::NotPowerOfTwo { capacity, nearest });
        }
        Ok(Self {
            head: Alone(AtomicUsize::new(start)),
            tail: Alone(AtomicUsize::new(start)),
            slots: Slots { start: allocate(capacity)?, mask: capacity - 1 },
        })
    }

    /// The slots, for a handle that keeps this alive.
    pub(super) fn slots(&self) -> Slots<T> {
        self.slots
    }
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        // Both handles are gone, and the reference count has ordered what
        // they did before this: any ordering will do.
        let mut head = self.head.0.load(Ordering::Relaxed);
        let tail = self.tail.0.load(Ordering::Relaxed);
        while head != tail {
            // SAFETY: the items between head and tail are alive, nobody else
            // is left to read them, and each is read once.
            drop(unsafe { self.slots.read(head) });
            head = head.wrapping_add(1);
        }
        free(self.slots.start, self.slots.mask + 1);
    }
}

fn layout<T>(capacity: usize) -> Option<Layout> {
    let slots = Layout::array::<Slot<T>>(capacity).ok()?;
    slots.align_to(ALIGNMENT_BYTES).ok()
}

/// Memory for so many slots, all of them empty.
fn allocate<T>(capacity: usize) -> Result<NonNull<Slot<T>>, RingError> {
    let slot_bytes = size_of::<Slot<T>>();
    let no_memory = RingError::NoMemory { capacity, slot_bytes };
    let layout = layout::<T>(capacity).ok_or(no_memory)?;
    let start = match layout.size() {
        0 => NonNull::dangling(),
        // SAFETY: the layout's size is not 0.
        _ => NonNull::new(unsafe { alloc(layout) }.cast()).ok_or(no_memory)?,
    };
    for index in 0..capacity {
        let empty = UnsafeCell::new(MaybeUninit::uninit());
        // SAFETY: the memory just allocated has `capacity` slots, and nobody
        // else knows of it.
        unsafe { start.add(index).write(empty) };
    }
    Ok(start)
}

/// Gives back what `allocate` returned for this capacity, once.
fn free<T>(start: NonNull<Slot<T>>, capacity: usize) {
    let slots = ptr::slice_from_raw_parts_mut(start.as_ptr(), capacity);
    // SAFETY: `Shared` owns the slots, both handles that had a view of them
    // are gone, and it frees them only when it is dropped itself.
    unsafe {
        // The cells; what was in them is gone already.
        slots.drop_in_place();
        if let Some(layout) = layout::<T>(capacity)
            && layout.size() > 0
        {
            dealloc(start.as_ptr().cast(), layout);
        }
    }
}

/// Start and mask of the slots, held by each handle itself so that the hot
/// loop keeps both in registers. Valid as long as the handle's `Shared`.
pub(super) struct Slots<T> {
    start: NonNull<Slot<T>>,
    mask: usize,
}

// SAFETY: this is an address and a number. Each use of it is unsafe and
// answers for the thread that it happens on.
unsafe impl<T: Send> Send for Slots<T> {}

impl<T> Clone for Slots<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Slots<T> {}

impl<T> Slots<T> {
    /// Where the slot of an index is.
    #[cfg(all(test, not(feature = "loom")))]
    pub(super) fn address(&self, index: usize) -> usize {
        self.start.as_ptr().wrapping_add(index & self.mask).addr()
    }

    /// Puts an item into the slot of a free-running index.
    ///
    /// # Safety
    /// The `Shared` is alive; the slot holds no live item and nobody else
    /// touches it now.
    #[inline(always)]
    pub(super) unsafe fn write(&self, index: usize, item: T) {
        // SAFETY: the mask keeps the index below the number of slots, and the
        // caller keeps the storage alive and the slot to itself.
        unsafe {
            let slot = self.start.add(index & self.mask).as_ref();
            slot.with_mut(|slot| (*slot).write(item));
        }
    }

    /// Takes the item out of the slot of a free-running index.
    ///
    /// # Safety
    /// The `Shared` is alive; the slot holds an item that is read only this
    /// once, and nobody else touches it now.
    #[inline(always)]
    pub(super) unsafe fn read(&self, index: usize) -> T {
        // SAFETY: as for `write`; that the slot is initialised is the
        // caller's promise.
        unsafe {
            let slot = self.start.add(index & self.mask).as_ref();
            slot.with(|slot| (*slot).assume_init_read())
        }
    }
}
