//! The three system calls of Linux's older asynchronous I/O; io_setup(2),
//! io_submit(2), io_getevents(2). The C library has no wrappers for them.

use std::{io, ptr::NonNull};

/// `aio_context_t`.
type ContextId = libc::c_ulong;

/// A request: `struct iocb` of linux/aio_abi.h.
///
/// | offset | field |
/// |---|---|
/// | 0 | data, comes back in the event |
/// | 8 | key and rw_flags, in the order of the architecture |
/// | 16 | lio_opcode |
/// | 18 | reqprio |
/// | 20 | fildes |
/// | 24 | buf |
/// | 32 | nbytes |
/// | 40 | offset |
/// | 48 | reserved2 |
/// | 56 | flags |
/// | 60 | resfd |
#[repr(C)]
#[derive(Clone, Debug)]
pub struct Request {
    data: u64,
    key_and_flags: u64,
    opcode: u16,
    priority: i16,
    fd: u32,
    buffer: u64,
    bytes: u64,
    offset: i64,
    reserved: u64,
    flags: u32,
    event_fd: u32,
}

const _: () = assert!(size_of::<Request>() == 64);

/// What a request asks for: `lio_opcode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Command {
    /// Bytes of the file into the buffer.
    Read = 0,
    /// Bytes of the buffer into the file.
    Write = 1,
}

impl Command {
    /// What linux/aio_abi.h calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "IOCB_CMD_PREAD",
            Self::Write => "IOCB_CMD_PWRITE",
        }
    }
}

impl Request {
    /// Moves `bytes` between the file and `buffer`; `data` comes back in its
    /// event.
    pub fn new(
        command: Command,
        data: u64,
        fd: i32,
        buffer: *mut u8,
        bytes: usize,
    ) -> Self {
        Self {
            data,
            key_and_flags: 0,
            opcode: command as u16,
            priority: 0,
            fd: fd.unsigned_abs(),
            buffer: buffer.expose_provenance() as u64,
            bytes: bytes as u64,
            offset: 0,
            reserved: 0,
            flags: 0,
            event_fd: 0,
        }
    }
}

/// Requests that stay in one place, and are reached by pointers alone: a
/// reference to any of them would, by Rust's rules, end the pointers to the
/// others that wait to be submitted.
#[derive(Debug)]
pub struct Requests(NonNull<[Request]>);

impl Requests {
    /// How many there are.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Sets where a request reads or writes that is not in flight, and gives
    /// it as `submit` wants it.
    ///
    /// # Panics
    /// There is no such request.
    #[inline(always)]
    pub fn at_offset(&mut self, index: usize, offset: u64) -> *mut Request {
        assert!(index < self.len(), "a request that there is");
        // SAFETY: below their number, so within the allocation.
        let request = unsafe { self.0.cast::<Request>().as_ptr().add(index) };
        // SAFETY: live and aligned, as all are until the end; the kernel has
        // copied what it was given, and writes to none that is free.
        unsafe { (&raw mut (*request).offset).write(offset.cast_signed()) };
        request
    }
}

impl FromIterator<Request> for Requests {
    fn from_iter<I: IntoIterator<Item = Request>>(requests: I) -> Self {
        let requests: Box<[Request]> = requests.into_iter().collect();
        Self(NonNull::from(Box::leak(requests)))
    }
}

impl Drop for Requests {
    fn drop(&mut self) {
        // SAFETY: they come from a box that was leaked, and end here only.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}

/// A completion: `struct io_event` of linux/aio_abi.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Event {
    /// The request's `data`.
    pub data: u64,
    request: u64,
    /// Bytes, or an error number below 0.
    pub result: i64,
    result2: i64,
}

const _: () = assert!(size_of::<Event>() == 32);

/// A context, in which requests are in flight.
#[derive(Debug)]
pub struct Context(ContextId);

impl Context {
    /// Room for that many requests.
    ///
    /// # Errors
    /// EAGAIN when `fs.aio-max-nr` is used up, ENOSYS where the kernel was
    /// built without CONFIG_AIO.
    pub fn new(requests: usize) -> io::Result<Self> {
        let requests = u32::try_from(requests).map_err(io::Error::other)?;
        let mut id: ContextId = 0;
        // SAFETY: the call fills in the one live number that it is given.
        let status =
            unsafe { libc::syscall(libc::SYS_io_setup, requests, &raw mut id) };
        if status == 0 { Ok(Self(id)) } else { Err(io::Error::last_os_error()) }
    }

    /// Submits requests and says how many of them were taken, from the first.
    ///
    /// # Safety
    /// Each pointer is to a request whose buffer nobody else reads or writes,
    /// and that stays in place with it, until its event has come back.
    ///
    /// # Errors
    /// None was taken: what the system call said.
    #[inline(always)]
    pub unsafe fn submit(
        &mut self,
        requests: &[*mut Request],
    ) -> io::Result<usize> {
        // SAFETY: the list is live and as long as said; for what it points
        // to the caller answers.
        let taken = unsafe {
            libc::syscall(
                libc::SYS_io_submit,
                self.0,
                requests.len(),
                requests.as_ptr(),
            )
        };
        usize::try_from(taken).map_err(|_| io::Error::last_os_error())
    }

    /// Waits for `want` events and takes all that are there; says how many.
    ///
    /// # Errors
    /// What the system call said.
    #[inline(always)]
    pub fn events(
        &mut self,
        want: usize,
        events: &mut [Event],
    ) -> io::Result<usize> {
        let forever = std::ptr::null_mut::<libc::timespec>();
        // SAFETY: the kernel writes to at most as many events as the live
        // slice has; without a timeout it reads nothing else.
        let came = unsafe {
            libc::syscall(
                libc::SYS_io_getevents,
                self.0,
                want,
                events.len(),
                events.as_mut_ptr(),
                forever,
            )
        };
        usize::try_from(came).map_err(|_| io::Error::last_os_error())
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        // SAFETY: the context is this value's own. The call returns when
        // nothing is in flight any more.
        unsafe { libc::syscall(libc::SYS_io_destroy, self.0) };
    }
}
