//! One trial, seen from inside its worker process: what was asked, and what
//! came of it. Both cross a pipe as JSON.

use std::fmt;

use hdrhistogram::{
    Histogram,
    serialization::{Deserializer, Serializer, V2Serializer},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    clock::Clock, cost::ProcessCost, recorder::Schedule, validity::Signals,
};
use crate::{
    machine::{
        cpu_set::{Cpu, NumaNode},
        environment::IrqAccounting,
        root::Root,
    },
    suite::Params,
};

/// All that a worker is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TrialSpec {
    /// The run, as it stands in what is written and moved.
    pub run_id: u64,
    /// Number of the trial in its run.
    pub trial: u64,
    /// `storage`.
    pub suite: String,
    /// `storage/randread-4k`.
    pub experiment: String,
    /// The experiment's parameters.
    pub params: Params,
    /// Which variant to measure.
    pub variant: String,
    /// Decides addresses and contents; the same for all variants of a block.
    pub seed: u64,
    /// CPUs for the trial's threads, in order of use.
    pub cpus: Vec<Cpu>,
    /// Where memory is bound to.
    pub numa_node: Option<NumaNode>,
    /// Load before the window.
    pub warmup_ns: u64,
    /// The measured time.
    pub window_ns: u64,
    /// Slices of the time series.
    pub slice_ns: u64,
    /// Calibrated once by the runner.
    pub clock: Clock,
    /// Where this kernel books the time of interrupts.
    pub irq_accounting: IrqAccounting,
    /// What the suite prepared for the session.
    pub target: serde_json::Value,
}

/// A trial being run.
#[derive(Debug)]
pub struct Trial {
    /// What was asked.
    pub spec: TrialSpec,
    /// Where `/proc` and `/sys` are read.
    pub root: Root,
}

impl Trial {
    /// A trial on this machine.
    pub fn new(spec: TrialSpec) -> Self {
        Self { spec, root: Root::system() }
    }

    /// A numeric parameter of the experiment.
    ///
    /// # Errors
    /// The parameter is missing or no number: a mistake in the suite.
    pub fn number(&self, key: &str) -> Result<u64, TrialError> {
        self.spec.params.number(key).ok_or_else(|| {
            TrialError::setup(format!(
                "experiment {} has no numeric parameter {key}",
                self.spec.experiment
            ))
        })
    }

    /// A numeric parameter as a count or size in memory.
    ///
    /// # Errors
    /// As `number`, or too large for this machine.
    pub fn count(&self, key: &str) -> Result<usize, TrialError> {
        usize::try_from(self.number(key)?)
            .map_err(|_| TrialError::setup(format!("{key} is too large")))
    }

    /// The CPUs of this trial, in order of use.
    pub fn cpus(&self) -> &[Cpu] {
        &self.spec.cpus
    }

    /// A seed for one thread, unlike those of the others.
    pub fn thread_seed(&self, thread: usize) -> u64 {
        mix(self.spec.seed ^ mix(thread as u64 + 1))
    }

    /// What the suite prepared, in its own type.
    ///
    /// # Errors
    /// The value does not have that form: a mistake in the suite.
    pub fn target<T: DeserializeOwned>(&self) -> Result<T, TrialError> {
        serde_json::from_value(self.spec.target.clone())
            .map_err(|error| TrialError::setup(format!("target: {error}")))
    }
}

/// SplitMix64's finaliser: spreads close seeds over all 64 bits.
pub fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// How a variant puts its load on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// Measured threads.
    pub threads: usize,
    /// Ops in flight per thread.
    pub depth: usize,
    /// Ops per submission.
    pub batch: usize,
    /// Bytes per op.
    pub op_bytes: u64,
    /// One op in this many is timed; 0 if none is.
    pub sampled_every: u64,
}

/// What a thread proved about its work, and what it can add.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Ops whose sequence number or block address was checked.
    pub verified_ops: u64,
    /// Ops whose whole contents were checked.
    pub checksummed_ops: u64,
    /// Proofs of path, such as `("direct", "yes")`.
    pub path: Vec<(String, String)>,
    /// Why the variant did not take its own path, if it did not.
    pub degraded: Vec<String>,
    /// System calls made for the ops, where the loop counted them.
    pub calls: Option<Calls>,
    /// Whatever else was measured.
    pub metrics: Vec<ExtraMetric>,
}

/// System calls and the ops that they were made for. Warm-up and drain are
/// in both, so that the two belong together.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize,
)]
pub struct Calls {
    /// System calls.
    pub made: u64,
    /// Ops.
    pub ops: u64,
}

impl Evidence {
    /// States a fact about the path taken.
    pub fn prove(&mut self, key: &str, value: impl fmt::Display) {
        let entry = (key.to_owned(), value.to_string());
        if !self.path.contains(&entry) {
            self.path.push(entry);
        }
    }

    /// Adds another thread's evidence.
    pub fn absorb(&mut self, other: Self) {
        self.verified_ops += other.verified_ops;
        self.checksummed_ops += other.checksummed_ops;
        for (key, value) in other.path {
            self.prove(&key, value);
        }
        for reason in other.degraded {
            if !self.degraded.contains(&reason) {
                self.degraded.push(reason);
            }
        }
        self.calls = match (self.calls, other.calls) {
            (Some(own), Some(more)) => Some(Calls {
                made: own.made + more.made,
                ops: own.ops + more.ops,
            }),
            (own, more) => own.or(more),
        };
        self.metrics.extend(other.metrics);
    }
}

/// A figure beyond the fixed columns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExtraMetric {
    /// Name, without unit.
    pub name: String,
    /// Unit.
    pub unit: String,
    /// Which direction is better: `higher`, `lower` or `none`.
    pub better: String,
    /// The thread that it belongs to, if to one.
    pub thread: Option<usize>,
    /// The figure.
    pub value: f64,
}

/// What a trial measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// How load was put on.
    pub shape: Shape,
    /// Length of the window.
    pub window_ns: u64,
    /// Length of a slice.
    pub slice_ns: u64,
    /// Ops per slice, all threads together.
    pub slices: Vec<u64>,
    /// Ops in the window per thread.
    pub thread_ops: Vec<u64>,
    /// Latencies in the window.
    #[serde(with = "histogram_as_text")]
    pub latencies: Histogram<u64>,
    /// Those of ops that the load keeps apart, which are among them.
    #[serde(skip)]
    pub apart: Option<Histogram<u64>>,
    /// What a latency may be too long by, in the mean: the clock's own gap,
    /// and what ops that were seen complete together share.
    pub stamp_error_ns: u64,
    /// What was proven.
    pub evidence: Evidence,
    /// What it cost.
    pub cost: ProcessCost,
    /// How the machine behaved meanwhile.
    pub signals: Signals,
}

impl Outcome {
    #[expect(
        clippy::too_many_arguments,
        reason = "each is a part of the result, made in one place only"
    )]
    pub(crate) fn new(
        trial: &Trial,
        shape: Shape,
        schedule: Schedule,
        slices: Vec<u64>,
        thread_ops: Vec<u64>,
        latencies: Histogram<u64>,
        apart: Option<Histogram<u64>>,
        shared_ns: u64,
        evidence: Evidence,
        cost: ProcessCost,
        signals: Signals,
    ) -> Self {
        let shared_ns = shared_ns.checked_div(latencies.len()).unwrap_or(0);
        Self {
            shape,
            window_ns: schedule.end_ns - schedule.start_ns,
            slice_ns: schedule.slice_ns,
            slices,
            thread_ops,
            latencies,
            apart,
            stamp_error_ns: trial.spec.clock.stamp_error_ns() + shared_ns,
            evidence,
            cost,
            signals,
        }
    }

    /// Ops completed in the window.
    pub fn ops(&self) -> u64 {
        self.slices.iter().sum()
    }
}

/// Why a trial has no result.
#[derive(
    Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error,
)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TrialError {
    /// What was moved is not what should have been: the program, the kernel
    /// or the device is wrong.
    #[error("wrong: {0}")]
    Wrong(String),
    /// An op failed.
    #[error(
        "{operation} of {bytes} bytes at offset {offset}{}", cause(*errno)
    )]
    Op {
        /// The system call or opcode.
        operation: String,
        /// Its error number; 0 for a short transfer.
        errno: i32,
        /// Where.
        offset: u64,
        /// How much was asked for.
        bytes: u64,
    },
    /// The trial could not be set up.
    #[error("{0}")]
    Setup(String),
    /// A thread got no CPU in time: the machine was busy, nothing failed.
    #[error("{0}")]
    Unready(String),
}

impl TrialError {
    /// A failure before anything was measured.
    pub fn setup(message: impl Into<String>) -> Self {
        Self::Setup(message.into())
    }

    /// A failed op, from the last system call's error.
    #[cold]
    pub fn last_os_error(operation: &str, offset: u64, bytes: u64) -> Self {
        let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
        Self::op(operation, errno, offset, bytes)
    }

    /// A failed op. Without an error number, `operation` says what happened.
    #[cold]
    pub fn op(operation: &str, errno: i32, offset: u64, bytes: u64) -> Self {
        Self::Op { operation: operation.to_owned(), errno, offset, bytes }
    }
}

/// What the system said; nothing where no call failed.
fn cause(errno: i32) -> String {
    match errno {
        0 => String::new(),
        _ => {
            let error = std::io::Error::from_raw_os_error(errno);
            format!(": {error} (errno {errno})")
        }
    }
}

/// What a worker answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// It measured.
    Measured(Box<Outcome>),
    /// It could not.
    Failed(TrialError),
}

/// A histogram as hexadecimal text of its V2 form.
mod histogram_as_text {
    use super::{Deserializer, Histogram, Serializer, V2Serializer};

    pub(super) fn serialize<S: serde::Serializer>(
        histogram: &Histogram<u64>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let mut bytes = Vec::new();
        V2Serializer::new()
            .serialize(histogram, &mut bytes)
            .map_err(|e| serde::ser::Error::custom(format!("{e:?}")))?;
        let mut text = String::with_capacity(bytes.len() * 2);
        for byte in bytes {
            use std::fmt::Write as _;
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
        }
        serializer.serialize_str(&text)
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Histogram<u64>, D::Error> {
        deserializer.deserialize_str(HexVisitor)
    }

    struct HexVisitor;

    impl serde::de::Visitor<'_> for HexVisitor {
        type Value = Histogram<u64>;

        fn expecting(
            &self,
            f: &mut std::fmt::Formatter<'_>,
        ) -> std::fmt::Result {
            f.write_str("a histogram in hexadecimal")
        }

        fn visit_str<E: serde::de::Error>(
            self,
            text: &str,
        ) -> Result<Self::Value, E> {
            let digits = text.as_bytes();
            let bytes = digits
                .chunks(2)
                .map(|pair| {
                    std::str::from_utf8(pair)
                        .ok()
                        .and_then(|pair| u8::from_str_radix(pair, 16).ok())
                })
                .collect::<Option<Vec<u8>>>()
                .ok_or_else(|| E::custom("not hexadecimal"))?;
            Deserializer::new()
                .deserialize(&mut bytes.as_slice())
                .map_err(|e| E::custom(format!("{e:?}")))
        }
    }
}
