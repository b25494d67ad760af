//! Flushes of a target that nothing was written to meanwhile: what it costs to
//! ask. What a flush costs behind a write is `storage/durable-write-4k`.

use std::{fs::File, os::fd::AsRawFd, ptr::NonNull};

use harness::{
    load::closed::Work,
    measure::{
        recorder::Recorder,
        trial::{Calls, Evidence, TrialError},
    },
};
use io_uring::{opcode, types::FsyncFlags};

use crate::{
    engine::{
        commands::{OPCODE, failed, submission},
        one_entry::FILE,
        ring::{Big, Entries, Ring, Small},
        ring_reads::{Registered, register},
        rounds::{Requests, Submission},
    },
    nvme::{Namespace, command::Command},
};

const REGISTERED: Registered =
    Registered { ring: true, file: true, buffers: false };

/// One thread that asks by fdatasync(2), again and again.
#[derive(Debug)]
pub struct Fdatasync {
    file: File,
    ops: u64,
}

impl Fdatasync {
    /// Of what is open here.
    pub fn new(file: File) -> Self {
        Self { file, ops: 0 }
    }
}

impl Work for Fdatasync {
    fn round(&mut self, recorder: &mut Recorder) -> Result<(), TrialError> {
        self.ops += 1;
        let begun_ns = recorder.stamp_ns();
        let flushed = self.file.sync_data();
        let ended_ns = recorder.stamp_ns();
        flushed.map_err(|error| {
            TrialError::op("fdatasync", error.raw_os_error().unwrap_or(0), 0, 0)
        })?;
        recorder.complete(1, ended_ns - begun_ns);
        Ok(())
    }

    fn finish(self) -> Result<Evidence, TrialError> {
        let calls = Calls { made: self.ops, ops: self.ops };
        Ok(Evidence { calls: Some(calls), ..Evidence::default() })
    }
}

/// What tells the two kinds of flushes through a ring apart.
pub trait Kind: Entries {
    /// The opcode, for errors.
    const OPCODE: &'static str;

    /// What the result of one that failed means.
    fn failed(result: i32) -> TrialError;
}

/// IORING_OP_FSYNC.
impl Kind for Small {
    const OPCODE: &'static str = "IORING_OP_FSYNC";

    fn failed(result: i32) -> TrialError {
        TrialError::op(Self::OPCODE, result.saturating_neg(), 0, 0)
    }
}

/// The NVMe command, passed through.
impl Kind for Big {
    const OPCODE: &'static str = OPCODE;

    fn failed(result: i32) -> TrialError {
        failed(result, 0, 0)
    }
}

/// Flushes through a ring, one prepared entry per slot.
#[derive(Debug)]
pub struct Flushes<S: Kind> {
    _file: File,
    entries: Box<[S::Submission]>,
}

impl Flushes<Small> {
    /// Of the data of what is open here; it is registered with the ring, and
    /// so is the ring.
    ///
    /// # Errors
    /// A registration was refused.
    pub fn of_file(
        ring: &mut Ring<Small>,
        file: File,
        depth: usize,
    ) -> Result<Self, TrialError> {
        Self::registered(ring, file, depth, |slot| {
            let fsync = opcode::Fsync::new(FILE);
            fsync.flags(FsyncFlags::DATASYNC).build().user_data(slot)
        })
    }
}

impl Flushes<Big> {
    /// Of the cache behind a namespace, likewise.
    ///
    /// # Errors
    /// A registration was refused.
    pub fn of_namespace(
        ring: &mut Ring<Big>,
        namespace: Namespace,
        depth: usize,
    ) -> Result<Self, TrialError> {
        let id = namespace.id;
        Self::registered(ring, namespace.file, depth, |slot| {
            submission(Command::flush(id), false).user_data(slot)
        })
    }
}

impl<S: Kind> Flushes<S> {
    fn registered(
        ring: &mut Ring<S>,
        file: File,
        depth: usize,
        entry: impl Fn(u64) -> S::Submission,
    ) -> Result<Self, TrialError> {
        let no_buffer = (NonNull::dangling(), 0);
        register(ring, REGISTERED, file.as_raw_fd(), no_buffer)?;
        let entries = (0_u64..).take(depth).map(entry).collect();
        Ok(Self { _file: file, entries })
    }
}

// SAFETY: a flush has no data, so that its entry points to nothing.
unsafe impl<S: Kind> Requests for Flushes<S> {
    type Sizes = S;

    const OPCODE: &'static str = S::OPCODE;

    #[inline(always)]
    fn next(&mut self, slot: usize) -> &[Submission<Self>] {
        std::slice::from_ref(&self.entries[slot])
    }

    #[inline(always)]
    fn completed(
        &mut self,
        _: usize,
        _: usize,
        result: i32,
    ) -> Result<(), TrialError> {
        if result == 0 { Ok(()) } else { Err(S::failed(result)) }
    }

    fn finish(&mut self) -> Result<Evidence, TrialError> {
        let mut evidence = Evidence::default();
        REGISTERED.prove(&mut evidence);
        Ok(evidence)
    }
}
