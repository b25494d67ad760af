//! What a benchmark suite is: a value that the run layer can plan, probe and
//! execute without knowing what it measures.

use std::{
    cell::Cell,
    collections::BTreeMap,
    fmt,
    ops::ControlFlow,
    path::PathBuf,
    ptr::fn_addr_eq,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use crate::{
    machine::{cpu_set::Cpu, doctor::Check, root::Root},
    measure::trial::{Outcome, Trial, TrialError},
};

/// A family of experiments that share their targets: storage, net, ipc.
#[derive(Clone, Copy)]
pub struct Suite {
    /// The word in front of the slash: `storage`.
    pub id: &'static str,
    /// One line for `bypass list`.
    pub about: &'static str,
    /// All experiments, each with fixed parameters.
    pub experiments: fn() -> Vec<Experiment>,
    /// Sets up what one session of this suite works on.
    pub prepare: fn(&SessionRequest) -> Result<Box<dyn Session>, Refusal>,
    /// What `prepare` would do, for `--dry-run`; changes nothing.
    pub forecast: fn(&SessionRequest) -> Result<Forecast, Refusal>,
    /// What this suite wants of a machine beside what all suites want.
    pub checks: fn() -> Vec<Check>,
    /// The devices of this machine that `--target` can name, and what may be
    /// done to each.
    pub devices: fn(&Root) -> Vec<DeviceReport>,
}

impl fmt::Debug for Suite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Suite").field("id", &self.id).finish_non_exhaustive()
    }
}

/// One question with fixed parameters and two or more variants.
#[derive(Clone, Debug)]
pub struct Experiment {
    /// `suite/name`, as in `storage/randread-4k`.
    pub id: &'static str,
    /// The question, in one line.
    pub about: &'static str,
    /// What is held fixed: `depth=32`, `op_bytes=4096`.
    pub params: Params,
    /// Words that filters and `cargo bench` select by; `core` is special only
    /// in that `cargo bench` asks for it.
    pub tags: &'static [&'static str],
    /// CPUs that the measured threads need for themselves.
    pub cpus: CpuNeed,
    /// What an op's latency means here.
    pub latency_kind: LatencyKind,
    /// Variants that are another one with a single thing added, each with that
    /// other: they are told against each other as well.
    pub steps: &'static [(&'static str, &'static str)],
    /// The baseline, the contenders and the bounds.
    pub variants: Vec<Variant>,
}

impl Experiment {
    /// The name that is unique in a suite: id and parameters.
    pub fn key(&self) -> String {
        if self.params.is_empty() {
            self.id.to_owned()
        } else {
            format!("{} {}", self.id, self.params)
        }
    }

    /// The id without its suite, as it stands in the CSV beside the suite.
    pub fn name(&self) -> &'static str {
        self.id.split_once('/').map_or(self.id, |(_, name)| name)
    }

    /// The variant that the others are compared with.
    pub fn baseline(&self) -> Option<&Variant> {
        self.variants.iter().find(|v| v.role == Role::Baseline)
    }

    /// A variant by its id.
    pub fn variant(&self, id: &str) -> Option<&Variant> {
        self.variants.iter().find(|v| v.id == id)
    }
}

/// How many CPUs an experiment's trials use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CpuNeed {
    /// Exactly this many; the experiment is skipped where fewer are allowed.
    Exactly(usize),
    /// This many where the machine has them, fewer otherwise; the rows say
    /// which.
    UpTo(usize),
    /// Every allowed CPU.
    All,
}

/// One way to do the work.
#[derive(Clone)]
pub struct Variant {
    /// Short and stable: `uring-fixed`.
    pub id: &'static str,
    /// What it does in the kernel, in one line.
    pub about: &'static str,
    /// Its part in the experiment.
    pub role: Role,
    /// The id of the variant that bounds this one from above (ceiling of
    /// rates) or below (floor of latencies), if one exists.
    pub bound: Option<&'static str>,
    /// It never sleeps: waiting for a CPU or losing one is then a fault of
    /// the machine, and the trial is invalid.
    pub spinning: bool,
    /// Can it run here?
    pub probe: Probe,
    /// The trial itself; runs in a process of its own.
    pub worker: fn(&Trial) -> Result<Outcome, TrialError>,
}

impl fmt::Debug for Variant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Variant")
            .field("id", &self.id)
            .field("role", &self.role)
            .finish_non_exhaustive()
    }
}

/// A variant's part in its experiment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// The blocking way, at the same concurrency; one per experiment.
    Baseline,
    /// Compared with the baseline.
    Contender,
    /// A floor or ceiling: measured beside the others, never compared.
    Bound,
}

/// What the latency column of an experiment means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LatencyKind {
    /// Submission to completion in a closed loop.
    Service,
    /// There and back again.
    RoundTrip,
    /// From the intended start, in an open loop (`load::open`).
    Response,
    /// Not measured: ops are too short to be timed one by one.
    None,
}

impl LatencyKind {
    /// The word in the CSV; empty for none.
    pub fn word(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::RoundTrip => "rtt",
            Self::Response => "response",
            Self::None => "",
        }
    }
}

/// Fixed parameters of an experiment, sorted by key.
#[derive(
    Clone,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
)]
#[serde(transparent)]
pub struct Params(BTreeMap<String, String>);

impl Params {
    /// No parameters.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same with one more.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl fmt::Display) -> Self {
        self.0.insert(key.to_owned(), value.to_string());
        self
    }

    /// A parameter as written.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    /// A parameter as a number.
    pub fn number(&self, key: &str) -> Option<u64> {
        self.get(key)?.parse().ok()
    }

    /// Key and value pairs in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(k, v)| (k.as_str(), v.as_str()))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Params {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (key, value)) in self.iter().enumerate() {
            if i > 0 {
                f.write_str(" ")?;
            }
            write!(f, "{key}={value}")?;
        }
        Ok(())
    }
}

/// Finds out whether a variant can run here.
pub type Probe = fn(&ProbeRequest<'_>) -> Availability;

/// What a probe may look at. Probes run in the runner's process, once a
/// session, and leave nothing behind. What one did not look at cannot have
/// decided its answer, so that whoever asks about many experiments need not ask
/// again where nothing else differs.
#[derive(Debug)]
pub struct ProbeRequest<'a> {
    params: &'a Params,
    cpus: &'a [Cpu],
    target: &'a serde_json::Value,
    looked_at: Cell<LookedAt>,
    common: Option<&'a Common>,
}

/// What was said to probes that are asked together, as far as they have
/// questions in common.
#[derive(Debug, Default)]
pub struct Common(Mutex<Vec<(Probe, Arc<OnceLock<Availability>>)>>);

impl Common {
    /// Where the answer of this one is, or will be.
    fn place(&self, probe: Probe) -> Arc<OnceLock<Availability>> {
        // Nobody panics between here and the end of this function.
        let mut asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |(other, _): &&(Probe, _)| fn_addr_eq(*other, probe);
        if let Some((_, place)) = asked.iter().find(is_it) {
            return Arc::clone(place);
        }
        let place = Arc::default();
        asked.push((probe, Arc::clone(&place)));
        place
    }
}

/// What a probe has looked at so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LookedAt {
    /// The experiment's parameters.
    pub params: bool,
    /// The CPUs.
    pub cpus: bool,
}

impl<'a> ProbeRequest<'a> {
    /// About an experiment with these parameters, on the CPUs that its trials
    /// would use; `target` is what `Session::target` returned, or `Null` where
    /// nothing was prepared (as in `bypass list`).
    pub fn new(
        params: &'a Params,
        cpus: &'a [Cpu],
        target: &'a serde_json::Value,
    ) -> Self {
        let (looked_at, common) = (Cell::default(), None);
        Self { params, cpus, target, looked_at, common }
    }

    /// The same, as one of several.
    #[must_use]
    pub fn among(self, common: &'a Common) -> Self {
        Self { common: Some(common), ..self }
    }

    /// Asks what other variants have to ask as well, of the target alone:
    /// once for all that are asked together.
    pub fn in_common(&self, probe: Probe) -> Availability {
        let ask =
            || probe(&ProbeRequest::new(&Params::new(), &[], self.target));
        match self.common {
            Some(common) => common.place(probe).get_or_init(ask).clone(),
            None => ask(),
        }
    }

    /// The experiment's parameters.
    pub fn params(&self) -> &'a Params {
        let seen = self.looked_at.get();
        self.looked_at.set(LookedAt { params: true, ..seen });
        self.params
    }

    /// The CPUs that its trials would use.
    pub fn cpus(&self) -> &'a [Cpu] {
        let seen = self.looked_at.get();
        self.looked_at.set(LookedAt { cpus: true, ..seen });
        self.cpus
    }

    /// What was prepared to work on.
    pub fn target(&self) -> &'a serde_json::Value {
        self.target
    }

    /// What was looked at.
    pub fn looked_at(&self) -> LookedAt {
        self.looked_at.get()
    }
}

/// The answer of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Availability {
    /// It can run.
    Available,
    /// It depends on what it works on, which is not known yet: before a run,
    /// where nothing was prepared.
    Undecided {
        /// What decides, with what was seen of it so far.
        by: String,
    },
    /// It cannot, because of this.
    Unavailable {
        /// What is missing, with the value that was seen.
        reason: String,
        /// What would enable it.
        remedy: String,
    },
}

impl Availability {
    /// Shorthand for the answer before there is anything to ask.
    pub fn undecided(by: impl Into<String>) -> Self {
        Self::Undecided { by: by.into() }
    }

    /// Shorthand for the negative answer.
    pub fn unavailable(
        reason: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self::Unavailable { reason: reason.into(), remedy: remedy.into() }
    }
}

/// What a suite gets to know when it sets up a session.
#[derive(Clone, Debug)]
pub struct SessionRequest {
    /// `--target`, if given.
    pub target: Option<PathBuf>,
    /// A directory on the file system that results go to: where a suite may
    /// create what it needs when no target was named.
    pub default_directory: PathBuf,
    /// Seeds the contents of what is created.
    pub seed: u64,
    /// Identifies this run in what is written and moved.
    pub run_id: u64,
    /// The experiments that will run.
    pub experiments: Vec<String>,
    /// `--allow-destroy`, if given: the word of the device that may be
    /// written.
    pub allow_destroy: Option<String>,
    /// `--interfaces`, if given: what packets go over in place of a link that
    /// the suite makes.
    pub interfaces: Option<[String; 2]>,
    /// `--precondition`: how often what is worked on is to be written whole
    /// before the first trial; 0 where nobody asked.
    pub precondition: u32,
    /// Who wants to know how far setting up is.
    pub meanwhile: Meanwhile,
}

/// What a suite that takes long to set up says meanwhile, and how it learns
/// that it is to stop.
#[derive(Clone, Default)]
pub struct Meanwhile(Option<Arc<Tell>>);

type Tell = dyn Fn(&str) -> ControlFlow<()> + Send + Sync;

impl Meanwhile {
    /// `tell` gets one line, as often as the suite likes, and breaks when the
    /// person wants to stop.
    pub fn new(
        tell: impl Fn(&str) -> ControlFlow<()> + Send + Sync + 'static,
    ) -> Self {
        Self(Some(Arc::new(tell)))
    }

    /// Says how far it is. After a break, nothing more is to be begun, and a
    /// refusal says what was left undone.
    pub fn tell(&self, line: &str) -> ControlFlow<()> {
        self.0.as_ref().map_or(ControlFlow::Continue(()), |tell| tell(line))
    }
}

impl fmt::Debug for Meanwhile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Meanwhile").field(&self.0.is_some()).finish()
    }
}

/// What one session works on. Dropping it puts everything back.
pub trait Session: fmt::Debug {
    /// What workers need to find the target.
    fn target(&self) -> serde_json::Value;
    /// The target's name in the CSV.
    fn label(&self) -> String;
    /// What was found of the target, for `run.json`; nothing in it names a
    /// person's file or a machine.
    fn facts(&self) -> serde_json::Value {
        serde_json::Value::Null
    }
    /// What the experiment with this key works on, where that is not what the
    /// others do, such as a file to write beside the one that is read. `None`
    /// is the session itself.
    ///
    /// # Errors
    /// Why this one experiment cannot run here; the others go on.
    fn own(&self, _key: &str) -> Result<Option<&dyn Session>, Refusal> {
        Ok(None)
    }
}

/// A session of a suite that needs nothing.
#[derive(Debug)]
pub struct NoTarget;

impl Session for NoTarget {
    fn target(&self) -> serde_json::Value {
        serde_json::Value::Null
    }
    fn label(&self) -> String {
        String::new()
    }
}

/// What a session would write and touch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Forecast {
    /// Bytes that setting up writes.
    pub bytes_written: u64,
    /// Keys of the experiments whose trials overwrite that for as long as
    /// they run.
    pub overwriting: Vec<String>,
    /// Files, devices and interfaces that are touched, in words.
    pub touches: Vec<String>,
}

/// Why a session cannot be set up.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{what}; {remedy}")]
pub struct Refusal {
    /// The thing and its value.
    pub what: String,
    /// The next step.
    pub remedy: String,
    /// Decides the exit code.
    pub kind: RefusalKind,
}

/// Which exit code a refusal leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalKind {
    /// The user asked for something that cannot be.
    Usage,
    /// The machine cannot do it as it is.
    Environment,
    /// It could destroy data.
    UnsafeTarget,
}

/// What may be done to a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceReport {
    /// What `--target` calls it.
    pub path: String,
    /// What it is, in a few words.
    pub about: String,
    /// Why it may not be read, if it may not.
    pub no_read: Option<String>,
    /// Why it may not be written; it may, with its word, when this is empty.
    pub no_write: Vec<String>,
    /// What `--allow-destroy` must say before it is written. Only a device
    /// that may be written has one.
    pub word: Option<String>,
}
