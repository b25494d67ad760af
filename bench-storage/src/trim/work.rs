//! The rounds: write a batch, drop it op by op, and see what is left.

use std::{fs::File, io, os::unix::fs::FileExt};

use harness::{
    load::closed::{Place, Work},
    machine::{Buffer, Root},
    measure::{
        recorder::Recorder,
        trial::{Calls, Evidence, Outcome, Trial, TrialError},
    },
};

use super::{
    Span, Trim,
    remains::{Promise, Remains},
};
use crate::{
    addresses::Addresses,
    below,
    contents::BLOCK_BYTES,
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

/// One batch in so many is looked at as soon as it was dropped; all of them
/// when the trial ends.
const LOOK_EVERY: u32 = 16;

/// Below this share, the device was not told of what was dropped.
const DISCARDED_SHARE_MIN: f64 = 0.95;

/// A trial's target.
#[derive(Debug)]
pub struct Ground {
    root: Root,
    sink: Sink,
    promise: Promise,
    /// Batches; behind each lies a neighbour.
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
        if sink.load().in_flight() != 1 {
            return Err(TrialError::setup(
                "parts of a target are dropped one after the other: depth=1",
            ));
        }
        let bytes = sink.target().bytes.min(GROUND_BYTES);
        let batches = bytes / (2 * BATCH_BYTES as u64);
        if batches == 0 {
            return Err(TrialError::setup(format!(
                "{} has {bytes} bytes, too few for {BATCH_BYTES} to drop and \
                 as many to keep",
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

    /// Batches to write and drop (`number` 0), or the neighbours to keep (1).
    fn writes(&self, place: &Place, number: u64) -> Result<Writes, TrialError> {
        let part = Part { first: number, step: 2, places: self.batches };
        let walk = Addresses::ascending(self.batches, 1)
            .ok_or_else(|| TrialError::setup("no batch fits"))?;
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
    below::discarded_bytes(root, device)
}

/// One thread that writes batches and drops them.
#[derive(Debug)]
pub struct Trimming<'a, T: Trim> {
    ground: &'a Ground,
    trim: T,
    file: File,
    check: File,
    batches: Writes,
    neighbours: Writes,
    /// What is written.
    batch: Buffer,
    /// What was read back, and what had been written there.
    found: Buffer,
    written: Box<[u8]>,
    /// What of the batch is not dropped yet.
    left_bytes: usize,
    until_look: u32,
    remains: Remains,
    looked: u64,
    ops: u64,
}

impl<'a, T: Trim> Trimming<'a, T> {
    /// Writes the neighbours; no batch was written yet.
    ///
    /// # Errors
    /// No memory, or the target cannot be written.
    pub fn new(
        ground: &'a Ground,
        place: &Place,
        trim: T,
    ) -> Result<Self, TrialError> {
        let buffer = || {
            Buffer::new(BATCH_BYTES, BLOCK_BYTES, place.numa_node)
                .map_err(|error| TrialError::setup(error.to_string()))
        };
        let file = ground.open()?;
        let mut neighbours = ground.writes(place, 1)?;
        let mut batch = buffer()?;
        neighbours.fill(&mut batch);
        for _ in 0..ground.batches {
            write_next(&file, &mut neighbours, &mut batch)?;
        }
        let batches = ground.writes(place, 0)?;
        batches.fill(&mut batch);
        Ok(Self {
            check: ground.sink.open_to_verify()?,
            ground,
            trim,
            file,
            batches,
            neighbours,
            batch,
            found: buffer()?,
            written: vec![0; BATCH_BYTES].into_boxed_slice(),
            left_bytes: 0,
            until_look: LOOK_EVERY,
            remains: Remains::default(),
            looked: 0,
            ops: 0,
        })
    }

    fn op_bytes(&self) -> usize {
        self.ground.sink.load().op_bytes
    }

    /// The next part of the batch.
    #[inline(always)]
    fn next_span(&mut self) -> Span {
        let bytes = self.op_bytes();
        let done = BATCH_BYTES - self.left_bytes;
        self.left_bytes -= bytes;
        self.ops += 1;
        let offset = self.batches.offset() + done as u64;
        Span { offset, bytes: bytes as u64 }
    }

    /// Looks at one batch in some, once all of it was dropped.
    fn look_at_some(&mut self) -> Result<(), TrialError> {
        if self.left_bytes > 0 || !T::DROPS {
            return Ok(());
        }
        self.until_look -= 1;
        if self.until_look > 0 {
            return Ok(());
        }
        self.until_look = LOOK_EVERY;
        self.look(self.batches.place())
    }

    /// Looks at a batch that was dropped.
    fn look(&mut self, place: u64) -> Result<(), TrialError> {
        let Self { batches, found, written, .. } = self;
        let Some(offset) = batches.last_written(place, written) else {
            return Ok(());
        };
        self.check.read_exact_at(found, offset).map_err(|error| {
            failed("pread of what was dropped", &error, offset)
        })?;
        self.looked += (BATCH_BYTES / self.op_bytes()) as u64;
        self.remains
            .look(self.ground.promise, &self.found, &self.written)
            .map_err(|index| broken(offset, index, &self.found))
    }

    /// Sees that every batch is gone and every neighbour still there.
    fn look_at_all(&mut self) -> Result<Evidence, TrialError> {
        let mut evidence = Evidence::default();
        if T::DROPS {
            for place in 0..self.ground.batches {
                self.look(place)?;
            }
            self.remains.state(self.ground.promise, &mut evidence);
        } else {
            let batches = self.batches.verify(&self.check)?;
            self.looked = batches * (BATCH_BYTES / self.op_bytes()) as u64;
        }
        let kept = self.neighbours.verify(&self.check)?;
        evidence.prove("neighbours", format!("{kept} MiB unharmed"));
        evidence.verified_ops = self.looked;
        evidence.checksummed_ops = self.looked;
        Ok(evidence)
    }

    /// Writes all of it again: what comes next expects no holes.
    fn restore(&mut self) -> Result<(), TrialError> {
        self.batches.fill(&mut self.batch);
        for _ in 0..self.ground.batches {
            write_next(&self.file, &mut self.batches, &mut self.batch)?;
        }
        self.sync()
    }

    fn sync(&self) -> Result<(), TrialError> {
        self.file
            .sync_data()
            .map_err(|error| failed("fdatasync at the end", &error, 0))
    }
}

impl<T: Trim> Work for Trimming<'_, T> {
    fn round(&mut self, recorder: &mut Recorder) -> Result<(), TrialError> {
        if self.left_bytes == 0 {
            write_next(&self.file, &mut self.batches, &mut self.batch)?;
            self.left_bytes = BATCH_BYTES;
        }
        let span = self.next_span();
        let begun_ns = recorder.stamp_ns();
        let trimmed = self.trim.trim(span);
        let ended_ns = recorder.stamp_ns();
        trimmed?;
        if T::DROPS {
            recorder.complete(1, ended_ns - begun_ns);
        } else {
            recorder.count(1);
        }
        self.look_at_some()
    }

    fn finish(mut self) -> Result<Evidence, TrialError> {
        while self.left_bytes > 0 {
            let span = self.next_span();
            self.trim.trim(span)?;
        }
        self.sync()?;
        let mut evidence = self.look_at_all()?;
        evidence.prove("trim", self.trim.name());
        if T::DROPS {
            let made = self.trim.calls();
            evidence.calls = Some(Calls { made, ops: self.ops });
        }
        self.restore()?;
        Ok(evidence)
    }
}

/// Draws, stamps and writes the next place of a part.
#[inline(always)]
fn write_next(
    file: &File,
    writes: &mut Writes,
    op: &mut Buffer,
) -> Result<(), TrialError> {
    writes.draw();
    writes.stamp_next(op);
    let offset = writes.offset();
    match file.write_at(op, offset) {
        Ok(bytes) if bytes == op.len() => Ok(()),
        Ok(_) => Err(failed(
            "pwrite of what is to be dropped (short)",
            &io::ErrorKind::WriteZero.into(),
            offset,
        )),
        Err(error) => {
            Err(failed("pwrite of what is to be dropped", &error, offset))
        }
    }
}

#[cold]
fn failed(what: &str, error: &io::Error, offset: u64) -> TrialError {
    let errno = error.raw_os_error().unwrap_or(0);
    TrialError::op(what, errno, offset, BATCH_BYTES as u64)
}

#[cold]
fn broken(offset: u64, index: usize, found: &[u8]) -> TrialError {
    let at = index * BLOCK_BYTES;
    let begins: Vec<String> =
        found[at..].iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    TrialError::Wrong(format!(
        "at offset {}: a block that was reported as dropped holds what it \
         must not; it begins with {}",
        offset + at as u64,
        begins.join(" ")
    ))
}
