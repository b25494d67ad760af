//! One thread, one op at a time: written, and on stable storage when the round
//! ends, where that was asked for; or read, where the experiment has reads.

use std::{
    fs::File,
    io,
    os::{fd::AsRawFd, unix::fs::FileExt},
    sync::Arc,
};

use harness::{
    load::closed::{Place, Work},
    machine::Buffer,
    measure::{
        recorder::Recorder,
        trial::{Calls, Evidence, TrialError},
    },
};

use crate::{
    contents::BLOCK_BYTES,
    page_cache::{self, Range},
    sink::Sink,
    written::Writes,
};

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
    fn name(self) -> &'static str {
        match self {
            Self::WriteWithDsync => "pwritev2 with RWF_DSYNC",
            Self::WriteToDsyncFile => "pwrite to an O_DSYNC file",
            Self::WriteThenSync | Self::WriteOnly => "pwrite",
        }
    }

    /// System calls of an op.
    fn calls_per_op(self) -> u64 {
        match self {
            Self::WriteThenSync => 2,
            _ => 1,
        }
    }

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
    file: Arc<File>,
    buffer: Buffer,
    /// Where reads go to; none where the experiment has no reads.
    found: Option<Buffer>,
    writes: Writes,
    reads: u64,
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
        let load = sink.load();
        let new_buffer = || {
            Buffer::new(load.op_bytes, BLOCK_BYTES, place.numa_node)
                .map_err(|error| TrialError::setup(error.to_string()))
        };
        let mut buffer = new_buffer()?;
        writes.fill(&mut buffer);
        let reads = load.read_percent > 0;
        let found = reads.then(new_buffer).transpose()?;
        let file = sink.open_shared(call.open_flags(), place.cpu)?;
        Ok(Self { sink, call, file, buffer, found, writes, reads: 0 })
    }

    #[inline(always)]
    fn read(&mut self, recorder: &mut Recorder) -> Result<(), TrialError> {
        // There is a buffer where the experiment has reads.
        let Some(found) = &mut self.found else { return Ok(()) };
        let offset = self.writes.offset();
        let submitted_ns = recorder.stamp_ns();
        let read = self.file.read_at(found, offset);
        let completed_ns = recorder.stamp_ns();
        self.reads += 1;
        match read {
            Ok(bytes) if bytes == found.len() => {}
            other => return Err(self.failed_with("pread", other)),
        }
        self.writes.check_read(found)?;
        recorder.complete_apart(1, completed_ns - submitted_ns);
        Ok(())
    }
}

impl Work for BlockingWrites<'_> {
    fn round(&mut self, recorder: &mut Recorder) -> Result<(), TrialError> {
        if self.writes.draw() {
            return self.read(recorder);
        }
        self.writes.stamp_next(&mut self.buffer);
        let offset = self.writes.offset();
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
            (Ok(bytes), Ok(())) if bytes == self.buffer.len() => {}
            (written, Ok(())) => {
                return Err(self.failed_with(self.call.name(), written));
            }
            (_, Err(error)) => {
                return Err(self.failed_with("fdatasync", Err(error)));
            }
        }
        recorder.complete(1, completed_ns - submitted_ns);
        Ok(())
    }

    fn keeps_apart(&self) -> bool {
        self.found.is_some()
    }

    fn finish(self) -> Result<Evidence, TrialError> {
        let mut evidence = finish(self.sink, &self.file, [&self.writes])?;
        // None is ever made twice: a signal would be an error.
        let (writes, reads) = (self.writes.made(), self.reads);
        let made = writes * self.call.calls_per_op() + reads;
        evidence.calls = Some(Calls { made, ops: writes + reads });
        Ok(evidence)
    }
}

impl BlockingWrites<'_> {
    /// An error has its number; a transfer cut short has 0. A signal would be
    /// an error too: none is sent, and an op that was tried again would not be
    /// the one that was timed.
    #[cold]
    fn failed_with(&self, call: &str, done: io::Result<usize>) -> TrialError {
        let bytes = self.buffer.len() as u64;
        let (operation, errno) = match done {
            Err(error) => (call.to_owned(), error.raw_os_error().unwrap_or(0)),
            Ok(done) => (format!("{call} (short: {done} of {bytes} bytes)"), 0),
        };
        TrialError::op(&operation, errno, self.writes.offset(), bytes)
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
    let failed = |what: &str, error: &io::Error| {
        TrialError::op(what, error.raw_os_error().unwrap_or(0), 0, 0)
    };
    sink.look_at_cache(file);
    // Only what was never meant to be durable may still be dirty.
    file.sync_data().map_err(|error| failed("fdatasync at the end", &error))?;
    // A ring's direct write to a page that is cached would have to wait until
    // the page is dropped, and goes to an io-wq worker instead.
    page_cache::drop_range(file, Range::WHOLE)
        .map_err(|error| failed("posix_fadvise at the end", &error))?;
    let file = sink.open_to_verify()?;
    let mut evidence = Evidence::default();
    for writes in writers {
        sink.add_written(writes.made());
        let places = writes.verify(&file)?;
        let (reads, whole) = writes.reads_checked();
        evidence.verified_ops += places + reads;
        evidence.checksummed_ops += places + whole;
    }
    Ok(evidence)
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
