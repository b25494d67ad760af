//! A ring with one entry under way at a time.

use std::{fs::File, io, os::fd::AsRawFd, ptr::NonNull, slice};

use harness::measure::trial::TrialError;
use io_uring::{EnterFlags, cqueue, types::Fixed};

use super::{
    no_ring,
    ring::{Entries, Pushes, Reaps, Ring, Setup, Small},
    ring_reads::{INDEX, Registered, register},
};

const SETUP: Setup = Setup::SingleIssuer;

/// What such a ring's entries name: the file that is registered with it.
pub(crate) const FILE: Fixed = Fixed(INDEX as u32);

/// A ring for one entry at a time, and the file that it is about.
#[derive(Debug)]
pub struct OneEntry<E: Entries = Small> {
    ring: Ring<E>,
    _file: File,
}

impl<E: Entries> OneEntry<E> {
    /// A ring with which itself and the file are registered. Must be made on
    /// the thread that uses it.
    ///
    /// # Errors
    /// No ring, or a registration was refused.
    pub fn new(file: File) -> Result<Self, TrialError> {
        let mut ring = SETUP.build_of(1).map_err(|e| no_ring(SETUP, &e))?;
        let registered = Registered { ring: true, file: true, buffers: false };
        let no_buffer = (NonNull::dangling(), 0);
        register(&mut ring, registered, file.as_raw_fd(), no_buffer)?;
        Ok(Self { ring, _file: file })
    }

    /// Submits an entry and waits for it.
    ///
    /// # Safety
    /// As `complete`.
    #[inline(always)]
    pub(crate) unsafe fn complete(
        &mut self,
        entry: &E::Submission,
    ) -> io::Result<i32> {
        // SAFETY: as the caller promises.
        unsafe { complete(&mut self.ring, entry) }
    }

    /// System calls so far.
    pub fn calls(&self) -> u64 {
        self.ring.enters()
    }
}

/// Submits one entry and waits for it. The result is that of the completion,
/// an error that of the ring.
///
/// # Safety
/// What the entry points to stays valid, and nobody else uses it, until this
/// has returned; for ever where it returns an error, since the kernel may not
/// be done with it then.
#[inline(always)]
pub(crate) unsafe fn complete<E: Entries>(
    ring: &mut Ring<E>,
    entry: &E::Submission,
) -> io::Result<i32> {
    // Without a fresh look the queue would still count what the kernel has
    // taken since.
    ring.sq().sync();
    // SAFETY: as the caller promises.
    if unsafe { ring.sq().push_all(slice::from_ref(entry)) }.is_err() {
        return Err(io::Error::from_raw_os_error(libc::EBUSY));
    }
    loop {
        let queued = ring.publish();
        ring.enter(queued, 1, EnterFlags::GETEVENTS)?;
        ring.cq().sync();
        if let Some(completion) = ring.cq().next() {
            // The kernel has to see that it was taken.
            ring.cq().sync();
            let completion: cqueue::Entry = completion.into();
            return Ok(completion.result());
        }
    }
}
