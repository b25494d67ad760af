//! Memory that benchmarks allocate their buffers and rings from.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

use super::cpu_set::NumaNode;
use super::placement::{self, Binding, Outcome, PlacementError};
use super::sys;

/// A region of anonymous memory of its own: on whole pages, zeroed, touched,
/// locked where allowed, and bound to a node when one is named. It goes back
/// to the kernel on drop.
///
/// A general allocator's memory will not do: its pages are shared with other
/// objects, so that they can be neither bound nor locked by themselves.
pub struct Buffer {
    start: NonNull<u8>,
    bytes: usize,
    /// Whole pages from `start`, which belong to this buffer alone.
    mapped_bytes: usize,
    locked: Outcome,
    binding: Option<Binding>,
}

// SAFETY: the buffer owns its pages; no other value refers to them.
unsafe impl Send for Buffer {}
// SAFETY: a shared reference only lends `&[u8]`; writing needs `&mut` or the
// unsafe use of `as_non_null`, whose user answers for it.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// A buffer of `bytes` whose start is a multiple of `alignment_bytes` (at
    /// least of a page). Without a node, pages are local to the CPU that the
    /// calling thread runs on now: pin first.
    ///
    /// # Errors
    /// When the shape is impossible, the memory is not to be had, or pages
    /// are known to be on another node than `node`.
    pub fn new(
        bytes: usize,
        alignment_bytes: usize,
        node: Option<NumaNode>,
    ) -> Result<Buffer, PlacementError> {
        let page_bytes = sys::page_bytes();
        let bad = PlacementError::BadShape { bytes, alignment_bytes };
        if bytes == 0 || !alignment_bytes.is_power_of_two() {
            return Err(bad);
        }
        let Some(mapped_bytes) = bytes.checked_next_multiple_of(page_bytes)
        else {
            return Err(bad);
        };
        let start = map_aligned(mapped_bytes, alignment_bytes, page_bytes)?;
        let mut buffer = Buffer {
            start,
            bytes,
            mapped_bytes,
            locked: Outcome::Done,
            binding: None,
        };
        if let Some(node) = node {
            let binding = placement::bind_memory(buffer.pages_mut(), node)?;
            buffer.locked = binding.locked.clone();
            buffer.binding = Some(binding);
        } else {
            placement::touch(buffer.pages_mut(), page_bytes);
            buffer.locked = placement::lock(buffer.pages_mut());
        }
        Ok(buffer)
    }

    /// Whether the pages are locked in memory, and if not, why.
    pub fn locked(&self) -> &Outcome {
        &self.locked
    }

    /// Where the pages are, when a node was named.
    pub fn binding(&self) -> Option<&Binding> {
        self.binding.as_ref()
    }

    /// The start of the buffer, for rings that several threads write and for
    /// addresses handed to the kernel. Whoever writes through it answers for
    /// there being no reference to the same bytes at that time.
    pub fn as_non_null(&self) -> NonNull<u8> {
        self.start
    }

    /// All pages, the part behind `bytes` included.
    fn pages_mut(&mut self) -> &mut [u8] {
        // SAFETY: `mapped_bytes` from `start` are this buffer's own readable
        // and writable pages, and `&mut self` makes this the only reference.
        unsafe {
            std::slice::from_raw_parts_mut(
                self.start.as_ptr(),
                self.mapped_bytes,
            )
        }
    }
}

/// Maps whole pages at a multiple of the alignment: when that is more than a
/// page, too much is mapped and both ends are given back.
fn map_aligned(
    bytes: usize,
    alignment_bytes: usize,
    page_bytes: usize,
) -> Result<NonNull<u8>, PlacementError> {
    let spare = alignment_bytes.saturating_sub(page_bytes);
    let total = bytes
        .checked_add(spare)
        .ok_or(PlacementError::BadShape { bytes, alignment_bytes })?;
    let start = sys::map_anonymous(total).map_err(|source| {
        let what = format!("{total} B of memory");
        PlacementError::System { call: "mmap", what, source }
    })?;
    let address = start.as_ptr().addr();
    let head = address.next_multiple_of(alignment_bytes) - address;
    let tail = spare - head;
    // SAFETY: `head` is at most `spare`, so the result and the `bytes` behind
    // it are inside the mapping just made.
    let aligned = unsafe { start.add(head) };
    if head > 0 {
        // SAFETY: the pages in front of `aligned` are ours and nobody has
        // seen them; both ends are multiples of a page.
        unsafe { sys::unmap(start, head) };
    }
    if tail > 0 {
        // SAFETY: likewise for the pages behind the buffer, which end where
        // the mapping ends.
        unsafe { sys::unmap(aligned.add(bytes), tail) };
    }
    Ok(aligned)
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `bytes` from `start` are mapped, zeroed by the kernel, and
        // stay so until drop.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.bytes) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as for `deref`; `&mut self` makes this the only reference.
        unsafe {
            std::slice::from_raw_parts_mut(self.start.as_ptr(), self.bytes)
        }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // SAFETY: the pages are this buffer's own, and nothing borrowed from
        // it can outlive it.
        unsafe { sys::unmap(self.start, self.mapped_bytes) };
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the contents, which may be gigabytes.
        f.debug_struct("Buffer")
            .field("start", &self.start)
            .field("bytes", &self.bytes)
            .field("locked", &self.locked)
            .field("binding", &self.binding)
            .finish_non_exhaustive()
    }
}
