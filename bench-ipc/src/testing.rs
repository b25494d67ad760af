//! What unit tests share.

use std::sync::{Mutex, MutexGuard, PoisonError};

use harness::{
    machine::{
        allowed::allowed_cpus, cpu_set::Cpu, environment::IrqAccounting,
    },
    measure::{
        clock::Clock,
        trial::{Trial, TrialSpec},
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
