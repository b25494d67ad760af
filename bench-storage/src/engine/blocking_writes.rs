//! One thread, one block at a time: written, and on stable storage when the
//! round ends.

use std::{
    fs::File,
    io,
    os::{fd::AsRawFd, unix::fs::FileExt},
};

use harness::{
    load::closed::{Place, Work},
    machine::Buffer,
    measure::{
        recorder::Recorder,
        trial::{Evidence, TrialError},
    },
};

use crate::{contents::BLOCK_BYTES, sink::Sink, written::Writes};

/// How a blocking write is made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// pwrite(2), then fdatasync(2).
    WriteThenSync,
    /// pwrite(2) on a file that is open with O_DSYNC.
    WriteToDsyncFile,
    /// pwritev2(2) with RWF_DSYNC.
    WriteWithDsync,
    /// pwrite(2) and no more: not durable, to see what durability costs.
    WriteOnly,
}

impl Call {
    fn open_flags(self) -> i32 {
        match self {
            Self::WriteToDsyncFile => libc::O_DSYNC,
            _ => 0,
        }
    }
}

/// Writes of one thread.
#[derive(Debug)]
pub struct BlockingWrites<'a> {
    sink: &'a Sink,
    call: Call,
    file: File,
    buffer: Buffer,
    writes: Writes,
}

impl<'a> BlockingWrites<'a> {
    /// The writes of the thread at `place`, which is the writer of that
    /// number.
    ///
    /// # Errors
    /// No memory, the target cannot be opened so, or is too small.
    pub fn new(
        sink: &'a Sink,
        call: Call,
        place: &Place,
    ) -> Result<Self, TrialError> {
        let writes = sink.writes(place, place.thread)?;
        let mut buffer = Buffer::new(BLOCK_BYTES, BLOCK_BYTES, place.numa_node)
            .map_err(|error| TrialError::setup(error.to_string()))?;
        writes.fill(block_of(&mut buffer));
        let file = sink.open(call.open_flags())?;
        Ok(Self { sink, call, file, buffer, writes })
    }
}

impl Work for BlockingWrites<'_> {
    fn round(&mut self, recorder: &mut Recorder) -> Result<(), TrialError> {
        let offset = self.writes.next(block_of(&mut self.buffer));
        let submitted_ns = recorder.stamp_ns();
        let written = match self.call {
            Call::WriteWithDsync => {
                write_with_dsync(&self.file, &self.buffer, offset)
            }
            _ => self.file.write_at(&self.buffer, offset),
        };
        let synced = match self.call {
            Call::WriteThenSync => self.file.sync_data(),
            _ => Ok(()),
        };
        let completed_ns = recorder.stamp_ns();
        match (written, synced) {
            (Ok(BLOCK_BYTES), Ok(())) => {}
            (written, synced) => {
                return Err(self.failed(written, synced, offset));
            }
        }
        recorder.complete(1, completed_ns - submitted_ns);
        Ok(())
    }

    fn finish(self) -> Result<Evidence, TrialError> {
        finish(self.sink, &self.file, [&self.writes])
    }
}

impl BlockingWrites<'_> {
    /// An error has its number; a short write has 0. A signal would be an
    /// error too: none is sent, and a write that was tried again would not be
    /// the one that was timed.
    #[cold]
    fn failed(
        &self,
        written: io::Result<usize>,
        synced: io::Result<()>,
        offset: u64,
    ) -> TrialError {
        let call = match self.call {
            Call::WriteWithDsync => "pwritev2 with RWF_DSYNC",
            Call::WriteToDsyncFile => "pwrite to an O_DSYNC file",
            Call::WriteThenSync | Call::WriteOnly => "pwrite",
        };
        let number = |error: &io::Error| error.raw_os_error().unwrap_or(0);
        let (operation, errno) = match (written, synced) {
            (Err(error), _) => (call.to_owned(), number(&error)),
            (_, Err(error)) => ("fdatasync".to_owned(), number(&error)),
            (Ok(put), _) => (format!("{call} (short: {put} bytes)"), 0),
        };
        TrialError::op(&operation, errno, offset, BLOCK_BYTES as u64)
    }
}

/// Reads back what the writers have written, all of which has completed.
///
/// # Errors
/// What is wrong there, or cannot be read.
pub(super) fn finish<'a>(
    sink: &Sink,
    file: &File,
    writers: impl IntoIterator<Item = &'a Writes>,
) -> Result<Evidence, TrialError> {
    // Only what was never meant to be durable may still be in the page cache,
    // and the next trial should not find it there.
    file.sync_data().map_err(|error| {
        let errno = error.raw_os_error().unwrap_or(0);
        TrialError::op("fdatasync at the end", errno, 0, 0)
    })?;
    let file = sink.open_to_verify()?;
    let mut verified = 0;
    for writes in writers {
        sink.add_written(writes.made());
        verified += writes.verify(&file)?;
    }
    Ok(Evidence {
        verified_ops: verified,
        checksummed_ops: verified,
        ..Evidence::default()
    })
}

/// A writer's buffer is one block.
fn block_of(buffer: &mut Buffer) -> &mut [u8; BLOCK_BYTES] {
    // Made with that length in `new`, and a buffer never changes it.
    &mut buffer.as_chunks_mut::<BLOCK_BYTES>().0[0]
}

fn write_with_dsync(
    file: &File,
    data: &[u8],
    offset: u64,
) -> io::Result<usize> {
    let part = libc::iovec {
        iov_base: data.as_ptr().cast_mut().cast(),
        iov_len: data.len(),
    };
    let offset = libc::off_t::try_from(offset).map_err(io::Error::other)?;
    // SAFETY: one part, which `data` keeps valid during the call; the kernel
    // only reads through it.
    let written = unsafe {
        libc::pwritev2(file.as_raw_fd(), &part, 1, offset, libc::RWF_DSYNC)
    };
    usize::try_from(written).map_err(|_| io::Error::last_os_error())
}
