//! The target as a worker sees it: opened, and read by streams.

use std::{
    fs::File,
    io,
    sync::{Mutex, PoisonError},
};

use harness::{
    load::closed::Place,
    machine::{BlockDevice, Root, devices::BlockKind},
    measure::{
        observer::storage_read_bytes,
        trial::{Evidence, Trial, TrialError},
    },
};

use crate::{
    addresses::{Addresses, Pattern, Stream},
    blank::Sampled,
    ceiling::Ceiling,
    checker::Checker,
    load::Load,
    mapped_bytes::MappedBytes,
    page_cache::{self, Range},
    target::{self, Access, Contents, Target},
};

/// A trial's target, open for reading.
#[derive(Debug)]
pub struct Source {
    target: Target,
    load: Load,
    trial_seed: u64,
    /// One description per CPU. Threads that share a CPU share one, so that a
    /// pool of thousands stays within the limit of open files, while no two
    /// CPUs fight for one reference count.
    files: Vec<File>,
    /// For reading samples again.
    second: File,
    cached_loops: Vec<String>,
    ceiling: Ceiling,
    /// None when the page cache is passed by.
    cold: Option<Cold>,
    root: Root,
    /// What storage had read for this process beforehand.
    read_before: Option<u64>,
    /// Of all threads that have finished.
    sampled: Mutex<Sampled>,
}

/// A target that is read through the page cache, which holds none of it.
#[derive(Debug)]
struct Cold {
    /// The share that could not be dropped, where the kernel tells.
    cached_before: Option<f64>,
}

impl Source {
    /// Opens the trial's target.
    ///
    /// # Errors
    /// It cannot be opened in the way that it is to be read.
    pub fn open(trial: &Trial, load: Load) -> Result<Self, TrialError> {
        let target: Target = trial.target()?;
        Self::open_as(trial, load, target.access)
    }

    /// Opens the trial's target for reads through the page cache, and drops
    /// what that holds of it. Its streams read no block twice, as far as
    /// there are blocks, so that storage has to answer.
    ///
    /// # Errors
    /// It cannot be opened so, or the kernel takes no advice.
    pub fn open_cold(trial: &Trial, load: Load) -> Result<Self, TrialError> {
        let mut source = Self::open_as(trial, load, Access::Buffered)?;
        source.drop_cached()?;
        if load.pattern == Pattern::Random {
            for file in &source.files {
                page_cache::expect_random(file).map_err(no_advice)?;
            }
        }
        let cached_before = source.cached_share();
        source.cold = Some(Cold { cached_before });
        Ok(source)
    }

    fn open_as(
        trial: &Trial,
        load: Load,
        access: Access,
    ) -> Result<Self, TrialError> {
        let target: Target = trial.target()?;
        let opened = Target { access, ..target.clone() };
        let files = trial
            .cpus()
            .iter()
            .map(|_| open_one(&opened))
            .collect::<Result<Vec<_>, _>>()?;
        let second = open_one(&target)?;
        let trial_seed = trial.spec.seed;
        let cached_loops = target
            .device
            .as_ref()
            .map(|device| cached_loops(&trial.root, device))
            .unwrap_or_default();
        let ceiling = Ceiling::of(&trial.root, target.device.as_ref());
        Ok(Self {
            target,
            load,
            trial_seed,
            files,
            second,
            cached_loops,
            ceiling,
            cold: None,
            root: trial.root.clone(),
            read_before: storage_read_bytes(&trial.root),
            sampled: Mutex::default(),
        })
    }

    /// Bytes that this process has made storage read since; none where the
    /// kernel does not count. Data that is no suite's own is looked at twice:
    /// a read in 256, and each thread's first, is among them once more.
    pub fn storage_read(&self) -> Option<u64> {
        let now = storage_read_bytes(&self.root)?;
        Some(now.saturating_sub(self.read_before?))
    }

    /// Drops what the page cache holds of the target, so that it stands in
    /// the way of no other trial.
    ///
    /// # Errors
    /// The kernel takes no advice.
    pub fn drop_cached(&self) -> Result<(), TrialError> {
        page_cache::drop_range(&self.files[0], self.whole()).map_err(no_advice)
    }

    /// The share of the target that is in the page cache now.
    pub fn cached_share(&self) -> Option<f64> {
        page_cache::cached_share(&self.files[0], self.whole())
    }

    /// The share that was there before the trial, where it reads through the
    /// page cache and the kernel tells.
    pub fn cached_before(&self) -> Option<f64> {
        self.cold.as_ref()?.cached_before
    }

    fn whole(&self) -> Range {
        Range { offset: 0, bytes: self.target.bytes }
    }

    /// The load that it is opened for.
    pub fn load(&self) -> Load {
        self.load
    }

    /// What it is.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The machine that it is on.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// The file that this thread reads.
    pub fn file(&self, thread: usize) -> &File {
        &self.files[thread % self.files.len()]
    }

    /// Whether the kernel says of every description that it is O_DIRECT.
    pub fn is_direct(&self) -> bool {
        self.files.iter().all(page_cache::is_passed_by)
    }

    /// Loop devices below the target that read their files through the page
    /// cache, where this process's own flags and counters do not reach.
    pub fn cached_loops(&self) -> &[String] {
        &self.cached_loops
    }

    /// What the trial cannot exceed.
    pub fn ceiling(&self) -> &Ceiling {
        &self.ceiling
    }

    /// What the threads that have finished saw of somebody else's data.
    pub fn sampled(&self) -> Sampled {
        *self.sampled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The reads of one thread out of `streams`.
    ///
    /// # Errors
    /// The target is smaller than one op.
    pub fn reads(
        &self,
        place: &Place,
        streams: usize,
    ) -> Result<Reads<'_>, TrialError> {
        let stream = Stream { index: place.thread, count: streams };
        let Load { op_bytes, pattern, .. } = self.load;
        let bytes = self.target.bytes;
        let once = self.cold.is_some() && pattern == Pattern::Random;
        let addresses = if once {
            Addresses::once_each(bytes, op_bytes, stream, place.seed)
        } else {
            let (trial_seed, seed) = (self.trial_seed, place.seed);
            Addresses::new(pattern, bytes, op_bytes, stream, trial_seed, seed)
        };
        let addresses = addresses.ok_or_else(|| {
            TrialError::setup(format!(
                "{} has {bytes} bytes, too few for ops of {op_bytes} by {} \
                 threads",
                self.target.label, stream.count
            ))
        })?;
        let checker = match self.target.contents {
            Contents::Seeded(seeded) => Checker::seeded(seeded),
            Contents::Foreign => Checker::foreign(place.seed),
        };
        Ok(Reads { source: self, addresses, checker })
    }
}

/// One thread's reads: where the next one goes, and whether it brought what
/// it should.
#[derive(Debug)]
pub struct Reads<'a> {
    source: &'a Source,
    addresses: Addresses,
    checker: Checker,
}

impl Reads<'_> {
    /// Bytes per op.
    pub fn op_bytes(&self) -> usize {
        self.source.load.op_bytes
    }

    /// What this stream reads before it reads a block again, and in how many
    /// ops; `None` where it may do so at any time.
    pub fn pass(&self) -> Option<(Range, u64)> {
        self.addresses.pass()
    }

    /// The next offset.
    #[inline(always)]
    pub fn next_offset(&mut self) -> u64 {
        self.addresses.next_offset()
    }

    /// Checks the data of a completed op.
    ///
    /// # Errors
    /// `Wrong` when it is not what stands at that offset.
    #[inline(always)]
    pub fn check(
        &mut self,
        offset: u64,
        data: &[u8],
    ) -> Result<(), TrialError> {
        self.checker.check(offset, data)
    }

    /// The same of an op in a mapping, with room to copy it to.
    ///
    /// # Errors
    /// As `check`.
    #[inline(always)]
    pub fn check_mapped(
        &mut self,
        offset: u64,
        bytes: MappedBytes<'_>,
        room: &mut [u8],
    ) -> Result<(), TrialError> {
        self.checker.check_mapped(offset, bytes, room)
    }

    /// Does the checks that remain.
    ///
    /// # Errors
    /// As `Checker::finish`.
    pub fn finish(&mut self) -> Result<Evidence, TrialError> {
        let op_bytes = self.op_bytes();
        let checked = self.checker.finish(&self.source.second, op_bytes)?;
        self.source
            .sampled
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .add(checked.sampled);
        Ok(Evidence {
            verified_ops: checked.verified_ops,
            checksummed_ops: checked.checksummed_ops,
            ..Evidence::default()
        })
    }
}

fn cached_loops(root: &Root, device: &BlockDevice) -> Vec<String> {
    let below = device.built_on.iter();
    let mut found: Vec<String> =
        below.flat_map(|below| cached_loops(root, below)).collect();
    let direct = format!("sys/block/{}/loop/dio", device.name);
    if device.kind == BlockKind::Loop && root.read_bool(direct) == Some(false) {
        found.push(device.name.clone());
    }
    found
}

fn no_advice(error: io::Error) -> TrialError {
    TrialError::setup(format!("posix_fadvise: {error}"))
}

/// Opens the target, or says what was tried.
fn open_one(target: &Target) -> Result<File, TrialError> {
    target::open(target).map_err(|error| {
        TrialError::setup(format!(
            "opening {} ({}) for reading: {error}",
            target.path.display(),
            target.label
        ))
    })
}
