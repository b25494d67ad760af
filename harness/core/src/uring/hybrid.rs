//! A ring with HYBRID_IOPOLL, a flag that the io-uring crate can name but not
//! set: the ring is set up here and handed to the crate.

use std::{io, os::fd::IntoRawFd};

use io_uring::{IoUring, Parameters};

use super::{
    raw::{RawParameters, flags, set_up},
    ring::Setup,
};

const _: () = assert!(size_of::<Parameters>() == size_of::<RawParameters>());

/// A ring as `Setup::Hybrid` describes it.
///
/// # Errors
/// What `io_uring_setup` said: EINVAL before Linux 6.13.
pub(super) fn build(entries: u32, no_sqarray: bool) -> io::Result<IoUring> {
    let mut raw = RawParameters::of(flags(Setup::Hybrid, no_sqarray)?);
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
