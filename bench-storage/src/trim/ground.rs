//! The part of a target that a trial may write and drop, and how it is shared
//! out among the ops in flight.

use std::fs::File;

use harness::{
    load::closed::Place,
    machine::Root,
    measure::trial::{Outcome, Trial, TrialError},
};

use super::remains::Promise;
use crate::{
    addresses::Addresses,
    contents::BLOCK_BYTES,
    device_counters,
    medium::Medium,
    sink::Sink,
    target::Target,
    written::{Part, Writes},
};

/// Written at once, and then dropped op by op: some milliseconds at most, and
/// enough for a device's full rate.
pub const BATCH_BYTES: usize = 1 << 20;

/// The part of the target that is used: more than caches of controllers hold
/// would take long to look at after each trial.
const GROUND_BYTES: u64 = 64 << 20;

/// Of each op in flight: what was dropped last stands while the next batch is
/// written, so that something is left to look at whenever the trial ends.
const BATCHES_MIN: u64 = 2;

/// Below this share, the device was not told of what was dropped.
const DISCARDED_SHARE_MIN: f64 = 0.95;

/// A trial's target.
#[derive(Debug)]
pub struct Ground {
    root: Root,
    sink: Sink,
    promise: Promise,
    /// Batches of each op in flight; behind each lies a neighbour.
    batches: u64,
    discarded_bytes: Option<f64>,
}

impl Ground {
    /// Of a trial whose target may be written.
    ///
    /// # Errors
    /// It may not, it is too small, or an op is no part of a batch.
    pub fn of(trial: &Trial) -> Result<Self, TrialError> {
        let sink = Sink::of(trial)?;
        let op_bytes = sink.load().op_bytes;
        if op_bytes < BLOCK_BYTES || !BATCH_BYTES.is_multiple_of(op_bytes) {
            return Err(TrialError::setup(format!(
                "op_bytes={op_bytes} is no part of the {BATCH_BYTES} that are \
                 written at once, in blocks of {BLOCK_BYTES}"
            )));
        }
        let writers = sink.load().in_flight().max(1) as u64;
        let both_bytes = 2 * BATCH_BYTES as u64;
        let least_bytes = BATCHES_MIN * both_bytes * writers;
        let bytes = sink.target().bytes.min(GROUND_BYTES.max(least_bytes));
        let batches = bytes / both_bytes / writers;
        if batches < BATCHES_MIN {
            return Err(TrialError::setup(format!(
                "{} has {bytes} bytes, less than {least_bytes}: {BATCHES_MIN} \
                 times {BATCH_BYTES} to drop and as many to keep of each of \
                 {writers} ops in flight",
                sink.target().label
            )));
        }
        let promise = Promise::of(&trial.root, sink.target());
        let discarded_bytes = discarded(&trial.root, sink.target());
        let root = trial.root.clone();
        Ok(Self { root, sink, promise, batches, discarded_bytes })
    }

    /// What it is.
    pub fn sink(&self) -> &Sink {
        &self.sink
    }

    /// The same with another promise: tests break them.
    #[must_use]
    pub fn promising(mut self, promise: Promise) -> Self {
        self.promise = promise;
        self
    }

    /// Open for writing past the page cache.
    ///
    /// # Errors
    /// What open(2) said.
    pub fn open(&self) -> Result<File, TrialError> {
        self.sink.open(0)
    }

    /// How many batches each op in flight has to itself.
    pub(super) fn batches(&self) -> u64 {
        self.batches
    }

    /// What is promised of what was dropped.
    pub(super) fn promise(&self) -> Promise {
        self.promise
    }

    /// Bytes of an op.
    pub(super) fn op_bytes(&self) -> usize {
        self.sink.load().op_bytes
    }

    /// Batches to write and drop (`number` 0), or the neighbours to keep (1),
    /// of one op in flight of all. No two have a byte in common.
    pub(super) fn writes(
        &self,
        place: &Place,
        writer: usize,
        number: u64,
    ) -> Result<Writes, TrialError> {
        let first = 2 * self.batches * writer as u64 + number;
        let part = Part { first, step: 2, places: self.batches };
        let walk = Addresses::ascending(self.batches, 1)
            .ok_or_else(|| TrialError::setup("no batch fits"))?;
        let number = 2 * writer as u64 + number;
        let author = self.sink.author(place.seed.wrapping_add(number));
        Ok(Writes::new(author, part, BATCH_BYTES, walk))
    }

    /// States what is below the target, and whether the device was told to
    /// discard what was dropped; `counted` where the block layer counts that.
    pub fn judge(&self, outcome: &mut Outcome, counted: bool) {
        let target = self.sink.target();
        let medium = Medium::of(&self.root, target.device.as_ref());
        outcome.evidence.prove("medium", medium);
        let after = discarded(&self.root, target).filter(|_| counted);
        let (Some(before), Some(after)) = (self.discarded_bytes, after) else {
            outcome.evidence.prove("device_discarded_percent", "unknown");
            return;
        };
        let ops = outcome.evidence.calls.map_or(0, |calls| calls.ops) as f64;
        let bytes = ops * self.sink.load().op_bytes as f64;
        let share = (after - before) / bytes.max(1.0);
        let percent = format!("{:.0}", 100.0 * share);
        outcome.evidence.prove("device_discarded_percent", &percent);
        // A file system tells its device when it likes, or never.
        if target.filesystem.is_none() && share < DISCARDED_SHARE_MIN {
            outcome.evidence.degraded.push(format!(
                "the device was told to discard only {percent} % of the \
                 bytes that were reported as dropped"
            ));
        }
    }
}

/// `None` where the kernel does not count them: devices without queues of
/// their own (zram, NVMe multipath).
fn discarded(root: &Root, target: &Target) -> Option<f64> {
    let device = target.device.as_ref()?;
    device.hardware_queues?;
    device_counters::discarded_bytes(root, device)
}
