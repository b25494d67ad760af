//! One thread, one op: `pread` or `preadv2` until it returns.

use std::{fs::File, io, os::fd::AsRawFd, os::unix::fs::FileExt};

use harness::{
    load::closed::{Place, Work},
    machine::Buffer,
    measure::{
        recorder::Recorder,
        trial::{Calls, Evidence, TrialError},
    },
};

use super::cold::Cold;
use crate::{
    contents::BLOCK_BYTES,
    source::{Reads, Source},
};

/// The system call of an op.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadCall {
    /// pread(2).
    Pread,
    /// preadv2(2) with these RWF flags.
    Preadv2 {
        /// The flags.
        flags: i32,
    },
}

impl ReadCall {
    /// Reads once.
    ///
    /// # Errors
    /// What the system call said.
    #[inline(always)]
    pub fn read(
        self,
        file: &File,
        buffer: &mut [u8],
        offset: u64,
    ) -> io::Result<usize> {
        match self {
            Self::Pread => file.read_at(buffer, offset),
            Self::Preadv2 { flags } => preadv2(file, buffer, offset, flags),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Pread => "pread",
            Self::Preadv2 { .. } => "preadv2",
        }
    }
}

#[inline(always)]
fn preadv2(
    file: &File,
    buffer: &mut [u8],
    offset: u64,
    flags: i32,
) -> io::Result<usize> {
    let offset = i64::try_from(offset).map_err(io::Error::other)?;
    let part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: the one part is a slice that the caller lends for writing while
    // the call lasts, and the descriptor is open while `file` lives.
    let read = unsafe {
        libc::preadv2(file.as_raw_fd(), &raw const part, 1, offset, flags)
    };
    usize::try_from(read).map_err(|_| io::Error::last_os_error())
}

/// Blocking reads of one thread.
#[derive(Debug)]
pub struct BlockingReads<'a> {
    file: &'a File,
    call: ReadCall,
    buffer: Buffer,
    reads: Reads<'a>,
    cold: Option<Cold<'a>>,
    calls: Calls,
}

impl<'a> BlockingReads<'a> {
    /// The reads of the thread at `place`, one of `streams`.
    ///
    /// # Errors
    /// No memory, or the target is smaller than an op.
    pub fn new(
        source: &'a Source,
        call: ReadCall,
        place: &Place,
        streams: usize,
    ) -> Result<Self, TrialError> {
        let reads = source.reads(place, streams)?;
        let buffer =
            Buffer::new(reads.op_bytes(), BLOCK_BYTES, place.numa_node)
                .map_err(|error| TrialError::setup(error.to_string()))?;
        let file = source.file(place.thread);
        let cold = Cold::of(&reads, file);
        Ok(Self { file, call, buffer, reads, cold, calls: Calls::default() })
    }
}

impl Work for BlockingReads<'_> {
    fn round(&mut self, recorder: &mut Recorder) -> Result<(), TrialError> {
        let offset = self.reads.next_offset();
        self.calls.ops += 1;
        let submitted_ns = recorder.stamp_ns();
        let read = loop {
            self.calls.made += 1;
            match self.call.read(self.file, &mut self.buffer, offset) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        let completed_ns = recorder.stamp_ns();
        match read {
            Ok(bytes) if bytes == self.buffer.len() => {}
            other => {
                let bytes = self.buffer.len();
                return Err(failed(self.call, other, offset, bytes));
            }
        }
        self.reads.check(offset, &self.buffer)?;
        recorder.complete(1, completed_ns - submitted_ns);
        if let Some(cold) = &mut self.cold {
            self.calls.made += cold.count_op()?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Evidence, TrialError> {
        let mut evidence = self.reads.finish()?;
        evidence.calls = Some(self.calls);
        Ok(evidence)
    }
}

/// An error has its number; a short read has 0.
#[cold]
fn failed(
    call: ReadCall,
    read: io::Result<usize>,
    offset: u64,
    bytes: usize,
) -> TrialError {
    let name = call.name();
    let (operation, errno) = match read {
        Ok(got) => (format!("{name} (short: {got} of {bytes} bytes)"), 0),
        Err(error) => (name.to_owned(), error.raw_os_error().unwrap_or(0)),
    };
    TrialError::op(&operation, errno, offset, bytes as u64)
}
