//! The target as a worker sees it that writes: a file of the run's own, and
//! the regions of its writers.

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::OpenOptionsExt,
    sync::atomic::{AtomicU64, Ordering},
};

use harness::{
    load::closed::Place,
    measure::trial::{Trial, TrialError},
};

use crate::{
    contents::BLOCK_BYTES,
    load::{Load, O_DIRECT},
    target::Target,
    written::{Region, Writes},
};

/// A trial's target, to be written.
#[derive(Debug)]
pub struct Sink {
    target: Target,
    load: Load,
    direct: bool,
    run_id: u64,
    trial: u64,
    /// Writes of all writers together, added up as they finish.
    written: AtomicU64,
}

impl Sink {
    /// The target of a trial that writes.
    ///
    /// # Errors
    /// The session says that it may only be read, or the parameters cannot
    /// be.
    pub fn of(trial: &Trial) -> Result<Self, TrialError> {
        let target: Target = trial.target()?;
        if target.writable.is_none() {
            return Err(TrialError::setup(format!(
                "{} may be read, not written",
                target.label
            )));
        }
        let load = Load::of(trial)?;
        if load.op_bytes != BLOCK_BYTES {
            return Err(TrialError::setup(format!(
                "a write of {} bytes: what is written is made and checked in \
                 blocks of {BLOCK_BYTES}",
                load.op_bytes
            )));
        }
        let direct = match trial.spec.params.get(O_DIRECT) {
            Some("yes") => true,
            Some("no") => false,
            other => {
                return Err(TrialError::setup(format!(
                    "{O_DIRECT}={} is neither yes nor no",
                    other.unwrap_or_default()
                )));
            }
        };
        Ok(Self {
            target,
            load,
            direct,
            run_id: trial.spec.run_id,
            trial: trial.spec.trial,
            written: AtomicU64::new(0),
        })
    }

    /// The load.
    pub fn load(&self) -> Load {
        self.load
    }

    /// What it is.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Whether writes go past the page cache.
    pub fn is_direct(&self) -> bool {
        self.direct
    }

    /// A description of its own for a writer, with these flags besides.
    ///
    /// # Errors
    /// What open(2) said.
    pub fn open(&self, flags: i32) -> Result<File, TrialError> {
        let direct = if self.direct { libc::O_DIRECT } else { 0 };
        self.open_with(true, flags | direct)
    }

    /// A description to read back through, past the page cache whatever the
    /// writers do.
    ///
    /// # Errors
    /// What open(2) said.
    pub fn open_to_verify(&self) -> Result<File, TrialError> {
        self.open_with(false, libc::O_DIRECT)
    }

    fn open_with(&self, write: bool, flags: i32) -> Result<File, TrialError> {
        OpenOptions::new()
            .read(!write)
            .write(write)
            .custom_flags(flags | libc::O_CLOEXEC)
            .open(&self.target.path)
            .map_err(|error| {
                TrialError::setup(format!(
                    "opening {} ({}) with flags {flags:#o}: {error}",
                    self.target.path.display(),
                    self.target.label
                ))
            })
    }

    /// The writes of writer number `writer`, on a thread at `place`.
    ///
    /// # Errors
    /// The target has not a block for each.
    pub fn writes(
        &self,
        place: &Place,
        writer: usize,
    ) -> Result<Writes, TrialError> {
        let (writers, bytes) = (self.load.depth, self.target.bytes);
        let region = Region::of(writer, writers, bytes).ok_or_else(|| {
            TrialError::setup(format!(
                "{} has {bytes} bytes, less than a block for each of \
                 {writers} writers",
                self.target.label
            ))
        })?;
        let seed = place.seed.wrapping_add(writer as u64);
        Ok(Writes::new(self.run_id, self.trial, seed, region))
    }

    /// Notes that a writer has finished after so many writes.
    pub fn add_written(&self, writes: u64) {
        self.written.fetch_add(writes, Ordering::Relaxed);
    }

    /// Writes of all writers that have finished, warm-up included.
    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }
}
