//! `io_uring_setup` with flags that the io-uring crate cannot set.

use std::{
    io,
    os::fd::{FromRawFd, OwnedFd, RawFd},
};

use super::ring::Setup;

// From linux/io_uring.h.
const IOPOLL: u32 = 1 << 0;
pub(super) const CQSIZE: u32 = 1 << 3;
const TASKRUN_FLAG: u32 = 1 << 9;
pub(super) const SQE128: u32 = 1 << 10;
const SINGLE_ISSUER: u32 = 1 << 12;
const DEFER_TASKRUN: u32 = 1 << 13;
const NO_SQARRAY: u32 = 1 << 16;
const HYBRID_IOPOLL: u32 = 1 << 17;
pub(super) const CQE_MIXED: u32 = 1 << 18;

/// `struct io_uring_params`.
#[repr(C, align(8))]
#[derive(Debug, Default)]
pub(super) struct RawParameters {
    pub(super) sq_entries: u32,
    pub(super) cq_entries: u32,
    pub(super) flags: u32,
    /// sq_thread_cpu, sq_thread_idle, features, wq_fd, and three reserved.
    others: [u32; 7],
    pub(super) sq: Offsets,
    pub(super) cq: Offsets,
}

/// `struct io_sqring_offsets` or `struct io_cqring_offsets`: where in the
/// rings' mapping what is. They begin alike.
#[repr(C)]
#[derive(Debug, Default)]
pub(super) struct Offsets {
    pub(super) head: u32,
    pub(super) tail: u32,
    /// ring_mask, ring_entries, and flags or overflow.
    others: [u32; 3],
    /// Where completions are. Of the submission queue: a count.
    pub(super) cqes: u32,
    /// Array or flags, reserved, and the address of memory that is not ours.
    rest: [u32; 4],
}

const _: () = assert!(size_of::<RawParameters>() == 120);

impl RawParameters {
    /// Flags to ask for.
    pub(super) fn of(flags: u32) -> Self {
        Self { flags, ..Self::default() }
    }
}

/// The flags of a ring with a single issuer; there are none for others, which
/// the crate can set up by itself.
pub(super) fn flags(setup: Setup, no_sqarray: bool) -> io::Result<u32> {
    let more = match setup {
        Setup::SingleIssuer => 0,
        Setup::Flagged => TASKRUN_FLAG,
        Setup::Polled => IOPOLL,
        Setup::Hybrid => IOPOLL | HYBRID_IOPOLL,
        Setup::Plain | Setup::Poller { .. } => {
            return Err(io::ErrorKind::Unsupported.into());
        }
    };
    let all = SINGLE_ISSUER | DEFER_TASKRUN | more;
    Ok(if no_sqarray { all | NO_SQARRAY } else { all })
}

/// Makes a ring; the kernel fills in what it made.
///
/// # Errors
/// What `io_uring_setup` said.
pub(super) fn set_up(
    entries: u32,
    raw: &mut RawParameters,
) -> io::Result<OwnedFd> {
    // SAFETY: the structure is live, writable and of the size that the system
    // call reads and fills in.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_io_uring_setup,
            entries,
            std::ptr::from_mut(raw),
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the kernel has just returned this descriptor to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
