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
    suite::{Availability, CpuNeed, Experiment, ProbeRequest, Variant},
};

/// Probes are waited for, not computed; more gain nothing.
const THREADS: usize = 16;

/// A variant of an experiment, to be asked whether it runs on these CPUs.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The experiment.
    pub experiment: &'a Experiment,
    /// Its variant.
    pub variant: &'a Variant,
    /// The CPUs that its trials would use.
    pub cpus: &'a [Cpu],
}

/// What each variant of each experiment says, in their order.
pub fn probe_each(
    experiments: &[&Experiment],
    cpus: &[Cpu],
) -> Vec<Vec<Availability>> {
    let questions: Vec<Question<'_>> = experiments
        .iter()
        .flat_map(|experiment| {
            let variants = experiment.variants.iter();
            variants.map(move |variant| Question { experiment, variant, cpus })
        })
        .collect();
    let mut answers = probe_all(&questions).into_iter();
    experiments
        .iter()
        .map(|e| answers.by_ref().take(e.variants.len()).collect())
        .collect()
}

/// The answers, in the order of the questions.
pub fn probe_all(tasks: &[Question<'_>]) -> Vec<Availability> {
    let found: Vec<OnceLock<Availability>> =
        tasks.iter().map(|_| OnceLock::new()).collect();
    let next = AtomicUsize::new(0);
    let work = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(task) = tasks.get(at) else { break };
            // Each place is filled by the one thread that drew its number.
            let _ = found[at].set(probe(task));
        }
    };
    thread::scope(|scope| {
        for _ in 1..THREADS {
            // Where no thread can be had, those that are there do it.
            let _ = thread::Builder::new().spawn_scoped(scope, work);
        }
        work();
    });
    tasks
        .iter()
        .zip(found)
        .map(|(task, cell)| match cell.into_inner() {
            // Together they may have asked for more than a limit allows, such
            // as that of locked memory: alone it counts.
            None | Some(Availability::Unavailable { .. }) => probe(task),
            Some(answer) => answer,
        })
        .collect()
}

fn probe(task: &Question<'_>) -> Availability {
    let Question { experiment, variant, cpus } = *task;
    if let Some(lack) = lack(experiment, cpus) {
        return Availability::unavailable(lack, "run on more CPUs");
    }
    (variant.probe)(&ProbeRequest {
        params: &experiment.params,
        cpus,
        target: &serde_json::Value::Null,
    })
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

    fn lacks(found: &[Availability]) -> Vec<bool> {
        let lacks =
            |answer| matches!(answer, &Availability::Unavailable { .. });
        found.iter().map(lacks).collect()
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
        let found = probe_each(&[&one, &two, &one], &[Cpu(0)]);
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
        let found = probe_each(&[&experiment(&[meets, meets])], &[Cpu(0)]);
        assert_eq!(found, [[Availability::Available, Availability::Available]]);
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
        let found = probe_each(&[&experiment(&[here, again])], &[Cpu(0)]);
        assert_eq!(found, [[Availability::Available, Availability::Available]]);
        assert_eq!(TRIED.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn without_enough_cpus_nothing_is_probed() {
        let mut greedy = experiment(&[|_| unreachable!("not asked")]);
        greedy.cpus = CpuNeed::Exactly(3);
        let found = probe_each(&[&greedy], &[Cpu(0)]);
        let lack = "needs 3 CPUs, 1 allowed";
        let lack = Availability::unavailable(lack, "run on more CPUs");
        assert_eq!(found, [[lack]], "two are missing");
    }
}
