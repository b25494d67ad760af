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

#[cfg(test)]
mod tests {
    use std::{
        sync::{Condvar, Mutex},
        time::Duration,
    };

    use harness::suite::{LatencyKind, Params, Role, Variant};

    use super::*;

    type Probe = fn(&ProbeRequest<'_>) -> Availability;

    fn experiment(probes: &[Probe]) -> Experiment {
        let variant = |probe: &Probe| Variant {
            id: "a",
            about: "a variant",
            role: Role::Contender,
            bound: None,
            spinning: false,
            probe: *probe,
            worker: |_| unreachable!("nothing is measured"),
        };
        Experiment {
            id: "cli/probes",
            about: "an experiment",
            params: Params::new(),
            tags: &[],
            cpus: CpuNeed::UpTo(1),
            latency_kind: LatencyKind::None,
            steps: &[],
            variants: probes.iter().map(variant).collect(),
        }
    }

    fn lacks(found: &[Probed]) -> Vec<bool> {
        found.iter().map(Result::is_err).collect()
    }

    fn here(_: &ProbeRequest<'_>) -> Availability {
        Availability::Available
    }

    fn never(_: &ProbeRequest<'_>) -> Availability {
        Availability::unavailable("no such device", "buy one")
    }

    #[test]
    fn each_answer_stands_at_its_variant() {
        let one = experiment(&[here, never, here]);
        let two = experiment(&[never]);
        let found = probe_all(&[&one, &two, &one], &[Cpu(0)]);
        let found: Vec<_> = found.iter().map(|of| lacks(of)).collect();
        let of_one = vec![false, true, false];
        assert_eq!(found, [of_one.clone(), vec![true], of_one]);
    }

    #[test]
    fn probes_run_at_once() {
        static BEGUN: (Mutex<u32>, Condvar) = (Mutex::new(0), Condvar::new());
        /// Waits for the other one.
        fn meets(_: &ProbeRequest<'_>) -> Availability {
            let (begun, changed) = &BEGUN;
            let mut begun = begun.lock().expect("no probe panics");
            *begun += 1;
            changed.notify_all();
            let long = Duration::from_secs(60);
            let alone = |begun: &mut u32| *begun < 2;
            let waited = changed.wait_timeout_while(begun, long, alone);
            match waited.expect("no probe panics").1.timed_out() {
                true => Availability::unavailable("alone", "run them at once"),
                false => Availability::Available,
            }
        }
        let found = probe_all(&[&experiment(&[meets, meets])], &[Cpu(0)]);
        assert_eq!(found, [[Ok(()), Ok(())]]);
        // Neither was in want of a second try.
        assert_eq!(*BEGUN.0.lock().expect("no probe panics"), 2);
    }

    #[test]
    fn what_was_refused_beside_others_is_tried_alone() {
        static TRIED: AtomicUsize = AtomicUsize::new(0);
        /// As beside others that use a limit up.
        fn again(_: &ProbeRequest<'_>) -> Availability {
            match TRIED.fetch_add(1, Ordering::Relaxed) {
                0 => Availability::unavailable("ENOMEM", "`ulimit -l`"),
                _ => Availability::Available,
            }
        }
        let found = probe_all(&[&experiment(&[here, again])], &[Cpu(0)]);
        assert_eq!(found, [[Ok(()), Ok(())]]);
        assert_eq!(TRIED.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn without_enough_cpus_nothing_is_probed() {
        let mut greedy = experiment(&[|_| unreachable!("not asked")]);
        greedy.cpus = CpuNeed::Exactly(3);
        let found = probe_all(&[&greedy], &[Cpu(0)]);
        let lack = found[0][0].as_ref().expect_err("two are missing");
        assert_eq!(lack.0, "needs 3 CPUs, 1 allowed");
    }
}
