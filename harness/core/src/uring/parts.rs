//! The parts of a ring, whoever made it: the io-uring crate, or `mixed`.

use std::{
    fmt, io,
    os::fd::{AsRawFd, RawFd},
    ptr::NonNull,
};

use io_uring::{
    CompletionQueue, EnterFlags, IoUring, SubmissionQueue, Submitter, cqueue,
    squeue,
};

use super::entries::Entries;

/// Registers things with a ring, and enters the kernel.
pub trait Enters {
    /// Registers the ring's own descriptor with this thread; `enter` uses it
    /// from then on.
    ///
    /// # Errors
    /// What `io_uring_register` said.
    fn register_ring_fd(&mut self) -> io::Result<()>;

    /// Gives that back.
    ///
    /// # Errors
    /// What `io_uring_register` said; EINVAL where none was registered.
    fn unregister_ring_fd(&mut self) -> io::Result<()>;

    /// Registers open files.
    ///
    /// # Errors
    /// What `io_uring_register` said.
    fn register_files(&self, files: &[RawFd]) -> io::Result<()>;

    /// Registers buffers.
    ///
    /// # Errors
    /// What `io_uring_register` said.
    ///
    /// # Safety
    /// The regions stay mapped as long as a request may use them.
    unsafe fn register_buffers(
        &self,
        regions: &[libc::iovec],
    ) -> io::Result<()>;

    /// `io_uring_enter` without an argument.
    ///
    /// # Errors
    /// What it said.
    fn enter(
        &self,
        submit: u32,
        want: u32,
        flags: EnterFlags,
    ) -> io::Result<()>;
}

/// There is no room for so many submissions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// A submission queue.
pub trait Pushes<S> {
    /// Pushes all of the entries, or none.
    ///
    /// # Errors
    /// There is no room for all of them.
    ///
    /// # Safety
    /// What the entries point to is valid until their ops have completed.
    unsafe fn push_all(&mut self, entries: &[S]) -> Result<(), Full>;

    /// Shows the kernel what was pushed, and sees what it has taken.
    fn sync(&mut self);

    /// How many entries the kernel had not taken when last looked at.
    fn queued(&self) -> usize;

    /// How many more there was room for then.
    fn room(&self) -> usize;
}

/// A completion queue.
pub trait Reaps: Iterator<Item: Into<cqueue::Entry>> {
    /// Shows the kernel what was taken, and sees what has come.
    fn sync(&mut self);

    /// How many completions of each size were taken, where there are two.
    fn sizes(&self) -> Option<Sizes> {
        None
    }
}

/// Completions by their size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Of 16 bytes.
    pub small: u64,
    /// Of 32 bytes.
    pub large: u64,
}

/// What a ring consists of.
pub struct Parts<E: Entries> {
    // The crate's queues write to the ring as they are dropped, and all
    // borrow from the owner: fields are dropped from the first to the last.
    pub(super) cq: E::Completions,
    pub(super) sq: E::Submissions,
    pub(super) submitter: E::Submitter,
    pub(super) owner: E::Owner,
}

impl<E: Entries> fmt::Debug for Parts<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parts")
            .field("fd", &self.owner.as_raw_fd())
            .finish_non_exhaustive()
    }
}

/// The crate's ring, to be dropped when its parts are.
pub struct Owner<S: squeue::EntryMarker, C: cqueue::EntryMarker> {
    ring: NonNull<IoUring<S, C>>,
    fd: RawFd,
}

impl<S, C> fmt::Debug for Owner<S, C>
where
    S: squeue::EntryMarker,
    C: cqueue::EntryMarker,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Owner").field("fd", &self.fd).finish_non_exhaustive()
    }
}

impl<S, C> AsRawFd for Owner<S, C>
where
    S: squeue::EntryMarker,
    C: cqueue::EntryMarker,
{
    fn as_raw_fd(&self) -> RawFd {
        self.fd
    }
}

impl<S, C> Drop for Owner<S, C>
where
    S: squeue::EntryMarker,
    C: cqueue::EntryMarker,
{
    fn drop(&mut self) {
        // SAFETY: the pointer came from `Box::leak` in `Parts::of`, and no
        // reference to it is left: `Parts` drops its owner last.
        drop(unsafe { Box::from_raw(self.ring.as_ptr()) });
    }
}

impl<E, S, C> Parts<E>
where
    S: squeue::EntryMarker + 'static,
    C: cqueue::EntryMarker + 'static,
    E: Entries<
            Submitter = Submitter<'static>,
            Submissions = SubmissionQueue<'static, S>,
            Completions = CompletionQueue<'static, C>,
            Owner = Owner<S, C>,
        >,
{
    /// Those of a ring that the crate made.
    pub(super) fn of(ring: IoUring<S, C>) -> Self {
        let fd = ring.as_raw_fd();
        let ring = NonNull::from(Box::leak(Box::new(ring)));
        // SAFETY: the ring was leaked just now, so it stays valid and in
        // place until `Owner` is dropped, and these parts are the only
        // references into it; they are dropped first.
        let (submitter, sq, cq) = unsafe { &mut *ring.as_ptr() }.split();
        Self { cq, sq, submitter, owner: Owner { ring, fd } }
    }
}

impl Enters for Submitter<'static> {
    fn register_ring_fd(&mut self) -> io::Result<()> {
        Submitter::register_ring_fd(self)
    }

    fn unregister_ring_fd(&mut self) -> io::Result<()> {
        Submitter::unregister_ring_fd(self)
    }

    fn register_files(&self, files: &[RawFd]) -> io::Result<()> {
        Submitter::register_files(self, files)
    }

    unsafe fn register_buffers(
        &self,
        regions: &[libc::iovec],
    ) -> io::Result<()> {
        // SAFETY: as the caller promises.
        unsafe { Submitter::register_buffers(self, regions) }
    }

    #[inline(always)]
    fn enter(
        &self,
        submit: u32,
        want: u32,
        flags: EnterFlags,
    ) -> io::Result<()> {
        // SAFETY: no argument is given, which flags that ask for one make an
        // error; entries in the queue are valid by the contract of `push_all`.
        unsafe {
            Submitter::enter::<libc::sigset_t>(
                self,
                submit,
                want,
                flags.bits(),
                None,
            )
        }
        .map(drop)
    }
}

impl<S> Pushes<S> for SubmissionQueue<'static, S>
where
    S: squeue::EntryMarker,
{
    #[inline(always)]
    unsafe fn push_all(&mut self, entries: &[S]) -> Result<(), Full> {
        // SAFETY: as the caller promises.
        unsafe { self.push_multiple(entries) }.map_err(|_| Full)
    }

    #[inline(always)]
    fn sync(&mut self) {
        SubmissionQueue::sync(self);
    }

    #[inline(always)]
    fn queued(&self) -> usize {
        self.len()
    }

    #[inline(always)]
    fn room(&self) -> usize {
        self.capacity() - self.len()
    }
}

impl<C> Reaps for CompletionQueue<'static, C>
where
    C: cqueue::EntryMarker,
{
    #[inline(always)]
    fn sync(&mut self) {
        CompletionQueue::sync(self);
    }
}
