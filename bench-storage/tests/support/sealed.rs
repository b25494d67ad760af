//! Memory as a file that can be sealed: from then on a device that is made of
//! it can be read and not be written. memfd_create(2), `F_ADD_SEALS` in fcntl(2).

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd, FromRawFd},
};

/// A file of zeros in memory, without a name.
pub fn memory(bytes: u64) -> io::Result<File> {
    // SAFETY: the name is terminated.
    let fd = unsafe {
        libc::memfd_create(
            c"disk".as_ptr(),
            libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING,
        )
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor is new, and nobody else's.
    let file = unsafe { File::from_raw_fd(fd) };
    file.set_len(bytes)?;
    Ok(file)
}

/// Every write to it fails from now on, and no read.
pub fn refuse_writes(file: &File) -> io::Result<()> {
    // SAFETY: the descriptor is open, and the argument is a number.
    let status = unsafe {
        libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, libc::F_SEAL_WRITE)
    };
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
