//! A ring with HYBRID_IOPOLL, a flag that the io-uring crate can name but not
//! set: the ring is set up here and handed to the crate.

use std::{
    io,
    os::fd::{FromRawFd, IntoRawFd, OwnedFd, RawFd},
};

use io_uring::{IoUring, Parameters};

// From linux/io_uring.h.
const SETUP_IOPOLL: u32 = 1 << 0;
const SETUP_SINGLE_ISSUER: u32 = 1 << 12;
const SETUP_DEFER_TASKRUN: u32 = 1 << 13;
const SETUP_NO_SQARRAY: u32 = 1 << 16;
const SETUP_HYBRID_IOPOLL: u32 = 1 << 17;

/// `struct io_uring_params`.
///
/// | offset | field |
/// |---|---|
/// | 0 | sq_entries, cq_entries |
/// | 8 | flags |
/// | 12 | sq_thread_cpu, sq_thread_idle, features, wq_fd |
/// | 28 | reserved |
/// | 40 | offsets of the submission queue |
/// | 80 | offsets of the completion queue |
#[repr(C, align(8))]
struct RawParameters {
    entries: [u32; 2],
    flags: u32,
    rest: [u32; 27],
}

const _: () = assert!(size_of::<RawParameters>() == 120);
const _: () = assert!(size_of::<Parameters>() == 120);

/// A ring as `Setup::Hybrid` describes it.
///
/// # Errors
/// What `io_uring_setup` said: EINVAL before Linux 6.13.
pub(super) fn build(entries: u32, no_sqarray: bool) -> io::Result<IoUring> {
    let mut raw = RawParameters {
        entries: [0; 2],
        flags: flags(no_sqarray),
        rest: [0; 27],
    };
    let fd = set_up(entries, &mut raw)?;
    // SAFETY: both have the size of the kernel's structure, asserted above;
    // `Parameters` is a transparent wrapper of it that its crate allows to be
    // made of any initialised memory of that layout.
    let parameters =
        unsafe { std::mem::transmute::<RawParameters, Parameters>(raw) };
    // SAFETY: the descriptor is a ring that the kernel has just made, owned by
    // nobody else, and the parameters are what it filled in.
    unsafe { IoUring::from_fd(fd.into_raw_fd(), parameters) }
}

fn flags(no_sqarray: bool) -> u32 {
    let all = SETUP_IOPOLL
        | SETUP_SINGLE_ISSUER
        | SETUP_DEFER_TASKRUN
        | SETUP_HYBRID_IOPOLL;
    if no_sqarray { all | SETUP_NO_SQARRAY } else { all }
}

fn set_up(entries: u32, raw: &mut RawParameters) -> io::Result<OwnedFd> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_takes_the_flags_and_the_crate_takes_the_ring() {
        let mut ring = match build(4, true) {
            Ok(ring) => ring,
            Err(error) => {
                eprintln!("SKIPPED: no hybrid polling here: {error}");
                return;
            }
        };
        let parameters = ring.params();
        assert!(parameters.is_setup_iopoll());
        assert!(parameters.is_setup_single_issuer());
        assert!(ring.submission().capacity() >= 4);
        assert!(ring.completion().capacity() >= 4);
    }
}
