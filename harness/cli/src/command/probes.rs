//! Which variants run here: all probes at once, for most of their time is spent
//! waiting for the kernel to let go of what another one tried.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use harness::{
    machine::cpu_set::Cpu,
    suite::{Availability, CpuNeed, Experiment, ProbeRequest},
};

/// What a variant lacks: the reason and the remedy.
pub type Probed = Result<(), (String, String)>;

/// Probes are waited for, not computed; more gain nothing.
const THREADS: usize = 16;

/// What each variant of each experiment lacks, in their order.
pub fn probe_all(
    experiments: &[&Experiment],
    cpus: &[Cpu],
) -> Vec<Vec<Probed>> {
    let tasks: Vec<(&Experiment, usize)> = experiments
        .iter()
        .flat_map(|e| (0..e.variants.len()).map(|index| (*e, index)))
        .collect();
    let found: Vec<OnceLock<Probed>> =
        tasks.iter().map(|_| OnceLock::new()).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some((experiment, index)) = tasks.get(at) else { break };
            // Each place is filled by the one thread that drew its number.
            let _ = found[at].set(probe(experiment, *index, cpus));
        }
    };
    thread::scope(|scope| {
        for _ in 1..THREADS {
            // Where no thread can be had, those that are there do it.
            let _ = thread::Builder::new().spawn_scoped(scope, work);
        }
        work();
    });
    let mut found =
        tasks.iter().zip(found).map(|((experiment, index), cell)| {
            match cell.into_inner() {
                Some(Ok(())) => Ok(()),
                // Together they may have asked for more than a limit allows, such
                // as that of locked memory: alone it counts.
                _ => probe(experiment, *index, cpus),
            }
        });
    experiments
        .iter()
        .map(|e| found.by_ref().take(e.variants.len()).collect())
        .collect()
}

fn probe(experiment: &Experiment, index: usize, cpus: &[Cpu]) -> Probed {
    if let Some(lack) = lack(experiment, cpus) {
        return Err((lack, "run on more CPUs".to_owned()));
    }
    let request = ProbeRequest {
        params: &experiment.params,
        cpus,
        target: &serde_json::Value::Null,
    };
    match (experiment.variants[index].probe)(&request) {
        Availability::Available => Ok(()),
        Availability::Unavailable { reason, remedy } => Err((reason, remedy)),
    }
}

fn lack(experiment: &Experiment, cpus: &[Cpu]) -> Option<String> {
    match experiment.cpus {
        CpuNeed::Exactly(n) if cpus.len() < n => {
            Some(format!("needs {n} CPUs, {} allowed", cpus.len()))
        }
        _ => None,
    }
}
