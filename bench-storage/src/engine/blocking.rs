//! One thread, one op: `pread` until it returns.

use std::{fs::File, io::ErrorKind, os::unix::fs::FileExt};

use harness::{
    load::closed::{Place, Work},
    machine::Buffer,
    measure::{
        recorder::Recorder,
        trial::{Evidence, TrialError},
    },
};

use crate::{
    contents::BLOCK_BYTES,
    source::{Reads, Source},
};

/// Blocking reads of one thread.
#[derive(Debug)]
pub struct BlockingReads<'a> {
    file: &'a File,
    buffer: Buffer,
    reads: Reads<'a>,
}

impl<'a> BlockingReads<'a> {
    /// The reads of the thread at `place`, one of `streams`.
    ///
    /// # Errors
    /// No memory, or the target is smaller than an op.
    pub fn new(
        source: &'a Source,
        place: &Place,
        streams: usize,
    ) -> Result<Self, TrialError> {
        let reads = source.reads(place, streams)?;
        let buffer =
            Buffer::new(reads.op_bytes(), BLOCK_BYTES, place.numa_node)
                .map_err(|error| TrialError::setup(error.to_string()))?;
        Ok(Self { file: source.file(place.thread), buffer, reads })
    }
}

impl Work for BlockingReads<'_> {
    fn round(&mut self, recorder: &mut Recorder) -> Result<(), TrialError> {
        let offset = self.reads.next_offset();
        let submitted_ns = recorder.stamp_ns();
        let read = loop {
            match self.file.read_at(&mut self.buffer, offset) {
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        let completed_ns = recorder.stamp_ns();
        match read {
            Ok(bytes) if bytes == self.buffer.len() => {}
            other => return Err(failed(other, offset, self.buffer.len())),
        }
        self.reads.check(offset, &self.buffer)?;
        recorder.complete(1, completed_ns - submitted_ns);
        Ok(())
    }

    fn finish(mut self) -> Result<Evidence, TrialError> {
        self.reads.finish()
    }
}

/// An error has its number; a short read has 0.
#[cold]
fn failed(
    read: std::io::Result<usize>,
    offset: u64,
    bytes: usize,
) -> TrialError {
    let (operation, errno) = match read {
        Ok(got) => (format!("pread (short: {got} bytes came back)"), 0),
        Err(error) => ("pread".to_owned(), error.raw_os_error().unwrap_or(0)),
    };
    TrialError::op(&operation, errno, offset, bytes as u64)
}
