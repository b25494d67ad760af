//! The target as a worker sees it: opened, and read by streams.

use std::{fs::File, os::fd::AsRawFd};

use harness::{
    load::closed::Place,
    machine::{BlockDevice, Root, devices::BlockKind},
    measure::trial::{Evidence, Trial, TrialError},
};

use crate::{
    addresses::{Addresses, Stream},
    checker::Checker,
    load::Load,
    target::{self, Contents, Target},
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
}

impl Source {
    /// Opens the trial's target.
    ///
    /// # Errors
    /// It cannot be opened in the way that it is to be read.
    pub fn open(trial: &Trial, load: Load) -> Result<Self, TrialError> {
        let target: Target = trial.target()?;
        let files = trial
            .cpus()
            .iter()
            .map(|_| open_one(&target))
            .collect::<Result<Vec<_>, _>>()?;
        let second = open_one(&target)?;
        let trial_seed = trial.spec.seed;
        let cached_loops = target
            .device
            .as_ref()
            .map(|device| cached_loops(&trial.root, device))
            .unwrap_or_default();
        Ok(Self { target, load, trial_seed, files, second, cached_loops })
    }

    /// The load that it is opened for.
    pub fn load(&self) -> Load {
        self.load
    }

    /// What it is.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The file that this thread reads.
    pub fn file(&self, thread: usize) -> &File {
        &self.files[thread % self.files.len()]
    }

    /// Whether the kernel says of every description that it is O_DIRECT;
    /// fcntl(2), F_GETFL.
    pub fn is_direct(&self) -> bool {
        self.files.iter().all(|file| {
            // SAFETY: the descriptor is open while `file` lives; F_GETFL
            // takes no argument and touches no memory.
            let flags = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GETFL) };
            flags >= 0 && flags & libc::O_DIRECT != 0
        })
    }

    /// Loop devices below the target that read their files through the page
    /// cache, where this process's own flags and counters do not reach.
    pub fn cached_loops(&self) -> &[String] {
        &self.cached_loops
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
        let addresses = Addresses::new(
            self.load.pattern,
            self.target.bytes,
            self.load.op_bytes,
            stream,
            self.trial_seed,
            place.seed,
        )
        .ok_or_else(|| {
            TrialError::setup(format!(
                "{} has {} bytes, less than one op of {}",
                self.target.label, self.target.bytes, self.load.op_bytes
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

    /// Does the checks that remain.
    ///
    /// # Errors
    /// As `Checker::finish`.
    pub fn finish(&mut self) -> Result<Evidence, TrialError> {
        let op_bytes = self.op_bytes();
        let checked = self.checker.finish(&self.source.second, op_bytes)?;
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
