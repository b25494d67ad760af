//! What a person asked for, in checked form.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::filter::Filter;
use crate::{machine::cpu_set::CpuSet, suite::Experiment};

/// Slices of the time series.
pub const SLICE_NS: u64 = 100_000_000;

/// How long a worker may take beyond warm-up and window: starting, preparing
/// and draining a few thousand threads takes seconds at most.
const GRACE_NS: u64 = 20_000_000_000;

/// How thorough a run is.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// 10 blocks of 0.5 s: the fewest that carry 25 rows in one Holm family.
    Quick,
    /// 12 blocks of 2 s.
    #[default]
    Default,
    /// 30 blocks of 2 s.
    Precise,
}

impl Mode {
    /// Blocks per session.
    pub fn blocks(self) -> usize {
        match self {
            Self::Quick => 10,
            Self::Default => 12,
            Self::Precise => 30,
        }
    }

    /// Measured time of a trial.
    pub fn window_ns(self) -> u64 {
        match self {
            Self::Quick => 500_000_000,
            Self::Default | Self::Precise => 2_000_000_000,
        }
    }

    /// Load before the window.
    pub fn warmup_ns(self) -> u64 {
        match self {
            Self::Quick => 300_000_000,
            Self::Default | Self::Precise => 500_000_000,
        }
    }
}

/// Everything that decides what a run does. Stored in `run.json`, so that
/// `--resume` goes on with the same plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunOptions {
    /// Which experiments; none means all.
    pub filters: Vec<Filter>,
    /// Only experiments that carry this tag.
    pub tag: Option<String>,
    /// Appended to the run directory's name.
    pub label: String,
    /// Blocks per session.
    pub blocks: usize,
    /// Sessions: everything set up anew for each.
    pub sessions: usize,
    /// Load before the window.
    pub warmup_ns: u64,
    /// Measured time of a trial.
    pub window_ns: u64,
    /// A worker that takes this much longer has hung.
    pub grace_ns: u64,
    /// Decides orders, addresses and contents.
    pub seed: u64,
    /// CPUs to use; a sensible choice if none are given.
    pub cpus: Option<CpuSet>,
    /// What storage works on.
    pub target: Option<PathBuf>,
    /// The word of the device that may be written. It is not stored: no file
    /// can give it, so that it has to be said again for each run.
    #[serde(skip)]
    pub allow_destroy: Option<String>,
    /// How often targets are written whole before the first trial of each
    /// session, 0 where nobody asked.
    #[serde(default)]
    pub precondition: u32,
    /// The two network interfaces that packets go over.
    #[serde(default)]
    pub interfaces: Option<[String; 2]>,
    /// Refuse a machine that is not fit for a publishable result.
    pub strict: bool,
    /// Only shows that everything runs: no verdict is expected, so any number
    /// of blocks will do.
    pub smoke: bool,
    /// Least effect that deserves a verdict, as a ratio.
    pub practical_ratio: f64,
}

impl RunOptions {
    /// The presets of a mode.
    pub fn new(mode: Mode, seed: u64) -> Self {
        Self {
            filters: Vec::new(),
            tag: None,
            label: match mode {
                Mode::Quick => "quick",
                Mode::Default => "run",
                Mode::Precise => "precise",
            }
            .to_owned(),
            blocks: mode.blocks(),
            sessions: 1,
            warmup_ns: mode.warmup_ns(),
            window_ns: mode.window_ns(),
            grace_ns: GRACE_NS,
            seed,
            cpus: None,
            target: None,
            allow_destroy: None,
            precondition: 0,
            interfaces: None,
            strict: false,
            smoke: false,
            practical_ratio: 0.02,
        }
    }
}

impl RunOptions {
    /// Whether a person asked for this experiment so clearly that its refusal
    /// is the run's: by its name, or by permitting something to be destroyed.
    pub fn asks_for(&self, experiment: &Experiment) -> bool {
        self.allow_destroy.is_some()
            || self.filters.iter().any(|filter| filter.names(experiment))
    }
}

/// A seed that differs from run to run.
pub fn fresh_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    // RandomState draws its keys from the kernel's generator.
    RandomState::new().hash_one(std::process::id())
}
