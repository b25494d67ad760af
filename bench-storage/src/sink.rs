//! The target as a worker sees it that writes: a file of the run's own, and
//! the regions of its writers.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    os::unix::fs::OpenOptionsExt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use harness::{
    load::closed::Place,
    machine::Cpu,
    measure::trial::{Trial, TrialError},
};

use crate::{
    addresses::{Addresses, Pattern, Stream},
    load::{Load, O_DIRECT},
    page_cache::{self, Range},
    target::{self, Target},
    written::{Author, Part, Writes},
};

/// How the target is shared out among writers, and how each walks over its
/// part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// Each goes round a region of its own from its start, as a log does that
    /// reuses its segments.
    Logs,
    /// By the experiment's pattern: in a region of its own, or, where all
    /// together are to go in order, in turns.
    Pattern,
}

/// A trial's target, to be written.
#[derive(Debug)]
pub struct Sink {
    target: Target,
    load: Load,
    layout: Layout,
    /// Whether writes are to go past the page cache.
    wants_direct: bool,
    /// Whether they are made to: not in a test of what shows when they are not.
    opens_direct: bool,
    /// Whether some description is not O_DIRECT, as the kernel says.
    is_buffered: AtomicBool,
    /// The largest share of the target that a writer found in the page cache
    /// when it had finished.
    cached: Mutex<Option<f64>>,
    run_id: u64,
    trial: u64,
    seed: u64,
    /// One description per CPU and set of flags: a pool of thousands stays
    /// within the limit of open files, and no two CPUs fight for one
    /// reference count.
    shared: Mutex<BTreeMap<(i32, Cpu), Arc<File>>>,
    /// Writes of all writers together, added up as they finish.
    written: AtomicU64,
}

impl Sink {
    /// The target of a trial whose writers keep a log each.
    ///
    /// # Errors
    /// It is not the run's to write to, or the parameters cannot be.
    pub fn of(trial: &Trial) -> Result<Self, TrialError> {
        Self::laid_out(trial, Layout::Logs)
    }

    /// The target of a trial whose writers follow the experiment's pattern.
    ///
    /// # Errors
    /// As `of`.
    pub fn by_pattern(trial: &Trial) -> Result<Self, TrialError> {
        Self::laid_out(trial, Layout::Pattern)
    }

    fn laid_out(trial: &Trial, layout: Layout) -> Result<Self, TrialError> {
        let target: Target = trial.target()?;
        target::may_write(&trial.root, &target)?;
        let load = Load::of(trial)?;
        let direct = match trial.spec.params.get(O_DIRECT) {
            // Only durable writes come in both kinds.
            Some("yes") | None => true,
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
            layout,
            wants_direct: direct,
            opens_direct: direct,
            is_buffered: AtomicBool::new(false),
            cached: Mutex::default(),
            run_id: trial.spec.run_id,
            trial: trial.spec.trial,
            seed: trial.spec.seed,
            shared: Mutex::default(),
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

    /// Whether writes are to go past the page cache.
    pub fn wants_direct(&self) -> bool {
        self.wants_direct
    }

    /// Whether they do, as far as the kernel's flags say of each description
    /// that writers have opened.
    pub fn is_direct(&self) -> bool {
        self.wants_direct && !self.is_buffered.load(Ordering::Relaxed)
    }

    /// The same, and its writers fall back to the page cache: tests see what
    /// shows then.
    #[must_use]
    pub fn falling_back(mut self) -> Self {
        self.opens_direct = false;
        self
    }

    /// Looks how much of the target the page cache holds.
    pub(crate) fn look_at_cache(&self, file: &File) {
        let whole = Range { offset: 0, bytes: self.target.bytes };
        let share = page_cache::cached_share(file, whole);
        let mut cached =
            self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        *cached = share.into_iter().chain(*cached).reduce(f64::max);
    }

    /// The share of the target that was in the page cache when writers had
    /// finished, where the kernel tells.
    pub fn cached_share(&self) -> Option<f64> {
        *self.cached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A description of its own for a writer, with these flags besides.
    ///
    /// # Errors
    /// What open(2) said.
    pub fn open(&self, flags: i32) -> Result<File, TrialError> {
        let direct = if self.opens_direct { libc::O_DIRECT } else { 0 };
        let file = self.open_with(true, flags | direct)?;
        if !page_cache::is_passed_by(&file) {
            self.is_buffered.store(true, Ordering::Relaxed);
        }
        Ok(file)
    }

    /// A description with these flags that all writers on one CPU share.
    ///
    /// # Errors
    /// What open(2) said.
    pub fn open_shared(
        &self,
        flags: i32,
        cpu: Cpu,
    ) -> Result<Arc<File>, TrialError> {
        let mut shared =
            self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = shared.get(&(flags, cpu)) {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(self.open(flags)?);
        shared.insert((flags, cpu), Arc::clone(&file));
        Ok(file)
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
            .read(!write || self.load.read_percent > 0)
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

    /// The writes of writer number `writer` of all, on a thread at `place`.
    ///
    /// # Errors
    /// The target has not room for an op of each.
    pub fn writes(
        &self,
        place: &Place,
        writer: usize,
    ) -> Result<Writes, TrialError> {
        let (writers, bytes) = (self.load.in_flight(), self.target.bytes);
        let Load { op_bytes, pattern, .. } = self.load;
        let places = bytes / op_bytes as u64;
        let seed = place.seed.wrapping_add(writer as u64);
        let part = match (self.layout, pattern) {
            (Layout::Pattern, Pattern::Sequential) => {
                Part::turns(writer, writers, places)
            }
            _ => Part::region(writer, writers, places),
        };
        let walked = part.and_then(|part| {
            let alone = Stream { index: 0, count: 1 };
            let walk = match self.layout {
                Layout::Logs => Addresses::ascending(part.places, 1),
                Layout::Pattern => Addresses::new(
                    pattern,
                    part.places,
                    1,
                    alone,
                    self.seed,
                    seed,
                ),
            };
            Some((part, walk?))
        });
        let (part, walk) = walked.ok_or_else(|| {
            TrialError::setup(format!(
                "{} has {bytes} bytes, less than an op of {op_bytes} for each \
                 of {writers} writers",
                self.target.label
            ))
        })?;
        let writes = Writes::new(self.author(seed), part, op_bytes, walk);
        Ok(writes.with_reads(self.load.read_percent))
    }

    /// Whose writes they are that are seeded so.
    pub fn author(&self, seed: u64) -> Author {
        Author { run_id: self.run_id, trial: self.trial, seed }
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
