//! What the tests of suites share: a trial that no run asked for, and CPUs to
//! run it on.

use crate::{
    machine::{
        allowed::allowed_cpus, cpu_set::Cpu, environment::IrqAccounting,
    },
    measure::{
        clock::Clock,
        trial::{Trial, TrialSpec},
    },
    suite::Params,
};

/// A trial of 20 ms after 20 ms of warm-up, with no target.
pub fn trial(
    experiment: &str,
    params: Params,
    variant: &str,
    cpus: &[Cpu],
) -> Trial {
    let (suite, _) = experiment.split_once('/').unwrap_or((experiment, ""));
    Trial::new(TrialSpec {
        run_id: 0x1234_5678,
        trial: 42,
        suite: suite.to_owned(),
        experiment: experiment.to_owned(),
        params,
        variant: variant.to_owned(),
        seed: 7,
        cpus: cpus.to_vec(),
        numa_node: None,
        warmup_ns: 20_000_000,
        window_ns: 20_000_000,
        slice_ns: 5_000_000,
        clock: Clock::monotonic(),
        irq_accounting: IrqAccounting::Unknown,
        target: serde_json::Value::Null,
    })
}

/// Two CPUs to pin to, or a word about the skipped test.
///
/// # Panics
/// The kernel does not say which CPUs this process may use.
pub fn two_cpus() -> Option<Vec<Cpu>> {
    let allowed = allowed_cpus().expect("sched_getaffinity");
    let cpus: Vec<Cpu> = allowed.iter().take(2).collect();
    if cpus.len() < 2 {
        eprintln!("SKIPPED: this test needs two CPUs and may use {allowed}");
        return None;
    }
    Some(cpus)
}
