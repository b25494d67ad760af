//! What unit tests share.

use std::sync::{Mutex, MutexGuard, PoisonError};

pub(crate) use harness::testing::two_cpus;
use harness::{
    machine::cpu_set::Cpu,
    measure::trial::{Outcome, Trial, TrialError},
    suite::Params,
};

/// A short trial of a variant.
pub(crate) fn trial(variant: &str, cpus: &[Cpu]) -> Trial {
    let params = Params::new().with("op_bytes", 8).with("capacity", 64);
    harness::testing::trial("ipc/test", params, variant, cpus)
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

/// Threads that spin on the same two CPUs take turns, test by test.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}
