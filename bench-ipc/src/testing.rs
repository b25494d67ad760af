//! What unit tests share.

use std::sync::{Mutex, MutexGuard, PoisonError};

use harness::{
    machine::{
        allowed::allowed_cpus, cpu_set::Cpu, environment::IrqAccounting,
    },
    measure::{
        clock::Clock,
        trial::{Outcome, Trial, TrialError, TrialSpec},
    },
    suite::Params,
};

/// A short trial of a variant.
pub(crate) fn trial(variant: &str, cpus: &[Cpu]) -> Trial {
    Trial::new(TrialSpec {
        run_id: 0x1234_5678,
        trial: 42,
        suite: "ipc".to_owned(),
        experiment: "ipc/test".to_owned(),
        params: Params::new().with("op_bytes", 8).with("capacity", 64),
        variant: variant.to_owned(),
        seed: 7,
        cpus: cpus.to_vec(),
        numa_node: None,
        warmup_ns: 20_000_000,
        window_ns: 20_000_000,
        slice_ns: 5_000_000,
        clock: Clock::monotonic(),
        irq_accounting: IrqAccounting::Unknown,
        target: Default::default(),
    })
}

/// That a way which damages message 100 ends as wrong, and why.
///
/// Beside programs that compute, two threads that spin may need a time slice
/// for each message, so the window grows until the fault has been reached.
pub(crate) fn is_wrong(
    worker: impl Fn(&Trial) -> Result<Outcome, TrialError>,
    op_bytes: u64,
    word: &str,
) {
    let Some(cpus) = two_cpus() else { return };
    let _alone = alone();
    let mut trial = trial("faulty", &cpus);
    trial.spec.params = trial.spec.params.with("op_bytes", op_bytes);
    for _ in 0..6 {
        if let Err(TrialError::Wrong(why)) = worker(&trial) {
            assert!(why.contains(word), "{why}");
            return;
        }
        trial.spec.warmup_ns *= 3;
        trial.spec.window_ns *= 3;
    }
    panic!("the fault went unnoticed in six windows, the last of 5 s");
}

/// Two CPUs to pin to, or a word about the skipped test.
pub(crate) fn two_cpus() -> Option<Vec<Cpu>> {
    let allowed = allowed_cpus().expect("sched_getaffinity");
    let cpus: Vec<Cpu> = allowed.iter().take(2).collect();
    if cpus.len() < 2 {
        eprintln!("SKIPPED: this test needs two CPUs and may use {allowed}");
        return None;
    }
    Some(cpus)
}

/// Threads that spin on the same two CPUs take turns, test by test.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}
