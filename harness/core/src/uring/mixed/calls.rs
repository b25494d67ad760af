//! The system calls of a ring that is not the crate's.

use std::{io, os::fd::RawFd};

use io_uring::EnterFlags;

use crate::uring::parts::Enters;

// From linux/io_uring.h.
const REGISTER_BUFFERS: u32 = 0;
const REGISTER_FILES: u32 = 2;
const REGISTER_RING_FDS: u32 = 20;
const UNREGISTER_RING_FDS: u32 = 21;

/// Makes the ring's system calls.
#[derive(Debug)]
pub struct Submitter {
    fd: RawFd,
    /// Which of the thread's registered rings it is.
    registered: Option<u32>,
}

/// `struct io_uring_rsrc_update`.
#[repr(C)]
struct RingUpdate {
    offset: u32,
    reserved: u32,
    data: u64,
}

impl Submitter {
    /// Of the ring open as `fd`.
    pub(super) fn of(fd: RawFd) -> Self {
        Self { fd, registered: None }
    }

    /// `io_uring_register`.
    ///
    /// # Safety
    /// The argument points to as many valid values as the operation takes, to
    /// be written to where it writes.
    unsafe fn register<T>(
        &self,
        operation: u32,
        argument: *const T,
        count: usize,
    ) -> io::Result<()> {
        // SAFETY: as the caller promises.
        let said = unsafe {
            libc::syscall(
                libc::SYS_io_uring_register,
                self.fd,
                operation,
                argument,
                count,
            )
        };
        if said < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

impl Enters for Submitter {
    fn register_ring_fd(&mut self) -> io::Result<()> {
        if self.registered.is_some() {
            return Err(io::Error::from_raw_os_error(libc::EEXIST));
        }
        let data = u64::try_from(self.fd).map_err(io::Error::other)?;
        // Any slot will do; the kernel writes which it was.
        let mut update = RingUpdate { offset: u32::MAX, reserved: 0, data };
        let argument = std::ptr::from_mut(&mut update);
        // SAFETY: one update, live and writable.
        unsafe { self.register(REGISTER_RING_FDS, argument, 1) }?;
        self.registered = Some(update.offset);
        Ok(())
    }

    fn unregister_ring_fd(&mut self) -> io::Result<()> {
        let Some(offset) = self.registered else {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        };
        let update = RingUpdate { offset, reserved: 0, data: 0 };
        // SAFETY: one update, which is only read.
        unsafe { self.register(UNREGISTER_RING_FDS, &raw const update, 1) }?;
        self.registered = None;
        Ok(())
    }

    fn register_files(&self, files: &[RawFd]) -> io::Result<()> {
        // SAFETY: so many descriptors, which are only read.
        unsafe { self.register(REGISTER_FILES, files.as_ptr(), files.len()) }
    }

    unsafe fn register_buffers(
        &self,
        regions: &[libc::iovec],
    ) -> io::Result<()> {
        let (start, count) = (regions.as_ptr(), regions.len());
        // SAFETY: so many regions, which are only read; that they stay mapped
        // is the caller's promise.
        unsafe { self.register(REGISTER_BUFFERS, start, count) }
    }

    #[inline(always)]
    fn enter(
        &self,
        submit: u32,
        want: u32,
        flags: EnterFlags,
    ) -> io::Result<()> {
        let (fd, flags) = match self.registered {
            Some(slot) => {
                (i64::from(slot), flags | EnterFlags::REGISTERED_RING)
            }
            None => (i64::from(self.fd), flags),
        };
        // SAFETY: no argument is given, which flags that ask for one make an
        // error; entries in the queue are valid by the contract of `push_all`.
        let said = unsafe {
            libc::syscall(
                libc::SYS_io_uring_enter,
                fd,
                submit,
                want,
                flags.bits(),
                std::ptr::null::<libc::sigset_t>(),
                0_usize,
            )
        };
        if said < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}
