//! Dropping by blocking system calls.

use std::{fs::File, io, os::fd::AsRawFd};

use harness::measure::trial::TrialError;

use super::{Span, Trim};

/// `_IO(0x12, 119)`, linux/fs.h: an offset and a length, both 64 bits.
const BLKDISCARD: libc::Ioctl = 0x1277;

/// fallocate(2): the hole stays part of the file.
pub(super) const PUNCH: i32 =
    libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;

/// A hole in a file, a discard on a device. fallocate(2) on a device would
/// write zeroes.
#[derive(Debug)]
pub struct Blocking {
    file: File,
    is_file: bool,
    calls: u64,
}

impl Blocking {
    /// On a file or block device that is open for writing.
    pub fn new(file: File, is_file: bool) -> Self {
        Self { file, is_file, calls: 0 }
    }

    #[inline(always)]
    fn call(&self, span: Span) -> io::Result<()> {
        let Span { offset, bytes } = span;
        if self.is_file {
            return punch(&self.file, offset, bytes);
        }
        let range = [offset, bytes];
        let file = self.file.as_raw_fd();
        // SAFETY: the descriptor is open while `self.file` lives; the request
        // reads two live 64-bit numbers.
        told(unsafe { libc::ioctl(file, BLKDISCARD, range.as_ptr()) })
    }
}

/// Punches a hole.
///
/// # Errors
/// What fallocate(2) said.
#[inline(always)]
pub(crate) fn punch(file: &File, offset: u64, bytes: u64) -> io::Result<()> {
    let (offset, bytes) = (offset.cast_signed(), bytes.cast_signed());
    // SAFETY: the descriptor is open while `file` lives; the call takes
    // numbers only.
    told(unsafe { libc::fallocate(file.as_raw_fd(), PUNCH, offset, bytes) })
}

#[inline(always)]
fn told(status: i32) -> io::Result<()> {
    if status == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

impl Trim for Blocking {
    #[inline(always)]
    fn trim(&mut self, span: Span) -> Result<(), TrialError> {
        self.calls += 1;
        self.call(span).map_err(|error| failed(self.name(), &error, span))
    }

    fn calls(&self) -> u64 {
        self.calls
    }

    fn name(&self) -> &'static str {
        match self.is_file {
            true => "fallocate PUNCH_HOLE",
            false => "BLKDISCARD",
        }
    }
}

#[cold]
fn failed(name: &str, error: &io::Error, span: Span) -> TrialError {
    let errno = error.raw_os_error().unwrap_or(0);
    TrialError::op(name, errno, span.offset, span.bytes)
}
