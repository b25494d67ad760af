//! What the integration tests share: a small target on a real file system,
//! and trials run in this process.

#![allow(dead_code, reason = "each test binary uses its own part")]

pub mod disks;
pub mod limits;
pub mod loops;
pub mod mounts;
pub mod sealed;

use std::{
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard},
};

use bench_storage::{
    SUITE,
    target::{Access, Contents, Target, prepare_sized},
};
use harness::{
    machine::{Cpu, CpuSet, IrqAccounting, Root, allowed_cpus, filesystem_of},
    measure::{
        clock::Clock,
        cost::scale_to_window,
        trial::{Outcome, Trial, TrialError, TrialSpec},
    },
    suite::{
        Availability, Experiment, Forecast, Meanwhile, Params, ProbeRequest,
        RefusalKind, Session, SessionRequest, Suite, Variant,
    },
};

/// Size of created targets in tests.
pub const TARGET_BYTES: u64 = 64 << 20;

const RUN_ID: u64 = 0x00c0_ffee;
const SEED: u64 = 42;

/// Trials look at the whole process (CPU time, bytes read, kernel threads), so
/// those of one process must not overlap.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// A directory on a file system with a device, or a loud skip.
pub fn real_directory() -> Option<tempfile::TempDir> {
    let here = std::env::current_dir().unwrap_or_else(|_| "/".into());
    let candidates = [Path::new(env!("CARGO_TARGET_TMPDIR")), &here];
    let found = candidates.into_iter().find(|path| is_real(path));
    if found.is_none() {
        skip("no file system with a device to put a file on");
    }
    found.map(|path| tempfile::tempdir_in(path).expect("a temporary directory"))
}

fn is_real(path: &Path) -> bool {
    filesystem_of(&Root::system(), path).is_some_and(|fs| fs.is_real())
}

/// Says that a test did not run, and why.
pub fn skip(reason: &str) {
    let test = std::thread::current().name().unwrap_or("test").to_owned();
    eprintln!("SKIPPED {test}: {reason}");
}

/// A session's request for a target in this directory.
pub fn request(target: Option<&Path>, directory: &Path) -> SessionRequest {
    SessionRequest {
        target: target.map(Path::to_owned),
        default_directory: directory.to_owned(),
        seed: SEED,
        run_id: RUN_ID,
        experiments: Vec::new(),
        allow_destroy: None,
        interfaces: None,
        precondition: 0,
        meanwhile: Meanwhile::default(),
    }
}

/// A created target of 64 MiB.
pub fn created(directory: &Path) -> Box<dyn Session> {
    prepare_sized(&request(None, directory), TARGET_BYTES)
        .expect("a target on a real file system")
}

/// A session's target in its own type.
pub fn target_of(session: &dyn Session) -> Target {
    serde_json::from_value(session.target()).expect("a target")
}

/// A target that no session would accept.
pub fn unchecked(path: &Path, access: Access, contents: Contents) -> Target {
    Target {
        path: path.to_owned(),
        bytes: std::fs::metadata(path).expect("metadata").len(),
        contents,
        access,
        writable: None,
        preconditioning: None,
        filesystem: None,
        device: None,
        interrupts: Vec::new(),
        label: "unchecked".to_owned(),
    }
}

/// A file of 64 MiB with contents of its own, written whole.
pub fn foreign_file(directory: &Path) -> PathBuf {
    let path = directory.join("foreign");
    let size = usize::try_from(TARGET_BYTES).expect("small");
    // A sector at a time: byte by byte takes seconds in a debug build. None is
    // blank: each begins with its number.
    let mut bytes = vec![0; size];
    for (number, sector) in (1_u32..).zip(bytes.chunks_exact_mut(512)) {
        sector.fill(number.wrapping_mul(2_654_435_761).to_le_bytes()[3]);
        sector[..4].copy_from_slice(&number.to_le_bytes());
    }
    let file = std::fs::File::create(&path).expect("create");
    std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 0).expect("write");
    file.sync_all().expect("sync");
    path
}

/// Up to `count` CPUs that this process may use.
pub fn cpus(count: usize) -> Vec<Cpu> {
    let allowed = allowed_cpus().unwrap_or_else(|_| CpuSet::single(Cpu(0)));
    allowed.iter().take(count).collect()
}

/// The experiment with this key.
pub fn experiment(key: &str) -> Experiment {
    let Suite { experiments, .. } = SUITE;
    experiments().into_iter().find(|e| e.key() == key).expect(key)
}

/// A variant of an experiment.
pub fn variant(experiment: &Experiment, id: &str) -> Variant {
    experiment.variant(id).expect(id).clone()
}

/// A trial with a window of `window_ms`.
pub fn trial(
    params: &Params,
    target: serde_json::Value,
    cpus: Vec<Cpu>,
    window_ms: u64,
) -> Trial {
    // In a debug build beside other work, a pool is slow to get going.
    let crowd = params.get("per").is_some()
        || params.number("depth").is_some_and(|depth| depth > 16);
    Trial::new(TrialSpec {
        run_id: RUN_ID,
        trial: 0,
        suite: "storage".to_owned(),
        experiment: "storage/test".to_owned(),
        params: params.clone(),
        variant: "test".to_owned(),
        seed: SEED,
        cpus,
        numa_node: None,
        warmup_ns: if crowd { 1_500_000_000 } else { 400_000_000 },
        window_ns: window_ms * 1_000_000,
        slice_ns: 10_000_000,
        clock: Clock::calibrate(&Root::system()),
        irq_accounting: IrqAccounting::Unknown,
        target,
    })
}

/// Runs until an op was seen: beside other load on the CPUs or the disk a
/// short warm-up and window may pass without one, so they grow. `run` gets
/// their length in ms.
pub fn patiently(
    first_ms: u64,
    mut run: impl FnMut(u64) -> Result<Outcome, TrialError>,
) -> Result<Outcome, TrialError> {
    for length_ms in [first_ms, 4 * first_ms, 16 * first_ms] {
        match run(length_ms) {
            Ok(outcome) if outcome.ops() > 0 => return Ok(outcome),
            Err(error @ (TrialError::Wrong(_) | TrialError::Op { .. })) => {
                return Err(error);
            }
            _ => {}
        }
    }
    run(64 * first_ms)
}

/// Before the first window: nearly always all threads run by then.
const FIRST_WARMUP_NS: u64 = 100_000_000;

/// Runs a trial of a variant. The first try has a short warm-up; where that is
/// not enough, the next has the trial's own, and a longer window.
pub fn measured(
    variant: &Variant,
    trial: &mut Trial,
) -> Result<Outcome, TrialError> {
    let (first_ns, own_ns) = (trial.spec.window_ns, trial.spec.warmup_ns);
    patiently(first_ns / 1_000_000, |length_ms| {
        trial.spec.window_ns = length_ms * 1_000_000;
        trial.spec.warmup_ns = match trial.spec.window_ns > first_ns {
            true => own_ns.max(trial.spec.window_ns / 2),
            false => own_ns.min(FIRST_WARMUP_NS),
        };
        (variant.worker)(trial)
    })
}

/// Runs a variant on a target that the test made itself.
pub fn run_on(
    variant: &Variant,
    params: &Params,
    target: &Target,
    window_ms: u64,
) -> Result<Outcome, TrialError> {
    let target = serde_json::to_value(target).expect("json");
    measured(variant, &mut trial(params, target, cpus(2), window_ms))
}

/// Whether a variant can run here, on this target; if not, says why.
pub fn available(
    experiment: &Experiment,
    variant: &Variant,
    target: &serde_json::Value,
) -> bool {
    let cpus = cpus(2);
    let probe = ProbeRequest::new(&experiment.params, &cpus, target);
    match (variant.probe)(&probe) {
        Availability::Available | Availability::Undecided { .. } => true,
        Availability::Unavailable { reason, remedy } => {
            assert!(!reason.is_empty() && !remedy.is_empty());
            skip(&format!("{}: {reason}; {remedy}", variant.id));
            false
        }
    }
}

/// Runs a variant until the machine let it, where it is seen what storage read.
/// `None` where the kernel does not count that, or no trial got ready.
pub fn run_seen(
    variant: &Variant,
    params: &Params,
    target: &Target,
    window_ms: u64,
) -> Option<Outcome> {
    for attempt in 1..=5 {
        match run_on(variant, params, target, window_ms * attempt) {
            Ok(outcome) if proof(&outcome, "direct") != Some("unknown") => {
                return Some(outcome);
            }
            Ok(_) => {
                // All of the trial is counted, however busy the machine is.
                assert!(!counts_storage_reads(), "{}: unseen", variant.id);
                return None;
            }
            Err(TrialError::Unready(_)) => {}
            Err(error) => panic!("{}: {error}", variant.id),
        }
    }
    skip(&format!("{}: too busy here to get ready", variant.id));
    None
}

/// Whether the kernel's io_uring threads ran in the window and are in what the
/// trial cost. That all of what was seen of them is in it holds of every trial.
/// The whole need not hold them on a busy machine, where they may run between
/// one look at them and the other one.
pub fn costs_kernel_threads(outcome: &Outcome) -> bool {
    let Outcome { cost, signals, .. } = outcome;
    let ran_ns = signals.io_wq_cpu_ns + signals.sqpoll_cpu_ns;
    assert_eq!(
        cost.kernel_threads_ns,
        scale_to_window(ran_ns, signals.seen_ns, outcome.window_ns)
    );
    cost.kernel_threads_ns > 0 && cost.cpu_ns >= cost.kernel_threads_ns
}

/// Whether the kernel counts what storage reads for a process, whatever a trial
/// says; if not, says so. CONFIG_TASK_IO_ACCOUNTING, proc(5).
pub fn counts_storage_reads() -> bool {
    let counted = std::fs::read_to_string("/proc/self/io")
        .is_ok_and(|text| text.contains("read_bytes:"));
    if !counted {
        skip("the kernel does not count a process's storage reads");
    }
    counted
}

/// Whether this is a directory of a tmpfs; if not, says so.
pub fn is_tmpfs(path: &Path) -> bool {
    let found = filesystem_of(&Root::system(), path)
        .is_some_and(|found| found.kind == "tmpfs");
    if !found {
        skip(&format!("{} is no tmpfs", path.display()));
    }
    found
}

/// What a forecast says, or a loud skip where the machine has no room for it.
pub fn forecast(request: &SessionRequest) -> Option<Forecast> {
    match (SUITE.forecast)(request) {
        Ok(forecast) => Some(forecast),
        Err(refusal) => {
            assert_eq!(refusal.kind, RefusalKind::Environment, "{refusal}");
            skip(&refusal.to_string());
            None
        }
    }
}

/// What was proven under this key.
pub fn proof<'a>(outcome: &'a Outcome, key: &str) -> Option<&'a str> {
    outcome
        .evidence
        .path
        .iter()
        .find(|(name, _)| name == key)
        .map(|(_, value)| value.as_str())
}
