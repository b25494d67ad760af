//! Flushes of a target that nothing was written to meanwhile: what it costs to
//! ask, each one after the other. What a flush costs behind a write is
//! `storage/durable-write-4k`.

use std::{fmt, fs::File};

use harness::{
    load::closed::Work,
    measure::{
        recorder::Recorder,
        trial::{Calls, Evidence, TrialError},
    },
};
use io_uring::{
    opcode,
    squeue::{Entry, Entry128},
    types::FsyncFlags,
};

use crate::{
    engine::{
        commands::{failed, submission},
        lone::{FILE, Lone},
        ring::Big,
    },
    nvme::{Namespace, command::Command},
};

/// A way to flush.
pub trait Flush: fmt::Debug {
    /// Flushes, and returns when it is done.
    ///
    /// # Errors
    /// The call that failed.
    fn flush(&mut self) -> Result<(), TrialError>;

    /// System calls so far.
    fn calls(&self) -> u64;
}

/// fdatasync(2).
#[derive(Debug)]
pub struct Fdatasync {
    file: File,
    calls: u64,
}

impl Fdatasync {
    /// Of what is open here.
    pub fn new(file: File) -> Self {
        Self { file, calls: 0 }
    }
}

impl Flush for Fdatasync {
    #[inline(always)]
    fn flush(&mut self) -> Result<(), TrialError> {
        self.calls += 1;
        self.file.sync_data().map_err(|error| {
            TrialError::op("fdatasync", error.raw_os_error().unwrap_or(0), 0, 0)
        })
    }

    fn calls(&self) -> u64 {
        self.calls
    }
}

/// IORING_OP_FSYNC of the data.
#[derive(Debug)]
pub struct RingFsync {
    ring: Lone,
    entry: Entry,
}

impl RingFsync {
    /// Of what is open here. Must be made on the thread that uses it.
    ///
    /// # Errors
    /// As `Lone::new`.
    pub fn new(file: File) -> Result<Self, TrialError> {
        let entry =
            opcode::Fsync::new(FILE).flags(FsyncFlags::DATASYNC).build();
        Ok(Self { ring: Lone::new(file)?, entry })
    }
}

impl Flush for RingFsync {
    #[inline(always)]
    fn flush(&mut self) -> Result<(), TrialError> {
        // SAFETY: the entry points to no memory.
        match unsafe { self.ring.complete(&self.entry) } {
            Ok(0) => Ok(()),
            Ok(result) => {
                let errno = result.saturating_neg();
                Err(TrialError::op("IORING_OP_FSYNC", errno, 0, 0))
            }
            Err(error) => Err(no_enter(&error)),
        }
    }

    fn calls(&self) -> u64 {
        self.ring.calls()
    }
}

/// The NVMe command, passed through.
#[derive(Debug)]
pub struct FlushCommand {
    ring: Lone<Big>,
    entry: Entry128,
}

impl FlushCommand {
    /// Of the cache behind a namespace. Must be made on the thread that uses
    /// it.
    ///
    /// # Errors
    /// As `Lone::new`.
    pub fn new(namespace: Namespace) -> Result<Self, TrialError> {
        let entry = submission(Command::flush(namespace.id), false);
        Ok(Self { ring: Lone::new(namespace.file)?, entry })
    }
}

impl Flush for FlushCommand {
    #[inline(always)]
    fn flush(&mut self) -> Result<(), TrialError> {
        // SAFETY: a flush has no data, so that the entry points to no memory.
        match unsafe { self.ring.complete(&self.entry) } {
            Ok(0) => Ok(()),
            Ok(result) => Err(failed(result, 0, 0)),
            Err(error) => Err(no_enter(&error)),
        }
    }

    fn calls(&self) -> u64 {
        self.ring.calls()
    }
}

#[cold]
fn no_enter(error: &std::io::Error) -> TrialError {
    TrialError::op("io_uring_enter", error.raw_os_error().unwrap_or(0), 0, 0)
}

/// One thread that flushes.
#[derive(Debug)]
pub struct Flushing<F: Flush> {
    way: F,
    ops: u64,
}

impl<F: Flush> Flushing<F> {
    /// None made yet.
    pub fn new(way: F) -> Self {
        Self { way, ops: 0 }
    }
}

impl<F: Flush> Work for Flushing<F> {
    fn round(&mut self, recorder: &mut Recorder) -> Result<(), TrialError> {
        self.ops += 1;
        let begun_ns = recorder.stamp_ns();
        let flushed = self.way.flush();
        let ended_ns = recorder.stamp_ns();
        flushed?;
        recorder.complete(1, ended_ns - begun_ns);
        Ok(())
    }

    fn finish(self) -> Result<Evidence, TrialError> {
        let calls = Calls { made: self.way.calls(), ops: self.ops };
        Ok(Evidence { calls: Some(calls), ..Evidence::default() })
    }
}
