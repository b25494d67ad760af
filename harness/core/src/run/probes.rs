//! Which variants run here, before a run has set anything up. Probes are asked
//! at once, for most of their time is spent waiting for the kernel, and each of
//! them once: again only where something differs that it looked at.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use crate::{
    machine::{cpu_set::Cpu, placement::raise_memlock_limit},
    suite::{
        Availability, Common, CpuNeed, Experiment, LookedAt, ProbeRequest,
        Variant,
    },
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

impl Question<'_> {
    fn has_probe_of(&self, other: &Self) -> bool {
        std::ptr::fn_addr_eq(self.variant.probe, other.variant.probe)
    }

    /// Too few CPUs, which no probe knows of.
    fn lack(&self) -> Option<Availability> {
        let count = self.cpus.len();
        match self.experiment.cpus {
            CpuNeed::Exactly(n) if count < n => {
                Some(Availability::unavailable(
                    format!("needs {n} CPUs, {count} allowed"),
                    "run on more CPUs",
                ))
            }
            _ => None,
        }
    }
}

/// What was said to a question.
#[derive(Debug)]
struct Known<'a> {
    question: Question<'a>,
    said: Availability,
    looked_at: LookedAt,
}

impl<'a> Known<'a> {
    fn from_asking(question: Question<'a>, common: &Common) -> Self {
        let target = serde_json::Value::Null;
        let params = &question.experiment.params;
        let request = ProbeRequest::new(params, question.cpus, &target);
        let request = request.among(common);
        let said = (question.variant.probe)(&request);
        Self { question, said, looked_at: request.looked_at() }
    }

    /// Whether the same would be said to this one: nothing differs that the
    /// probe has looked at.
    fn answers(&self, other: &Question<'_>) -> bool {
        let (own, looked_at) = (&self.question, self.looked_at);
        own.has_probe_of(other)
            && (!looked_at.params
                || own.experiment.params == other.experiment.params)
            && (!looked_at.cpus || own.cpus == other.cpus)
    }
}

/// What each variant of each experiment says, in their order.
pub fn probe_each<'a>(
    experiments: impl IntoIterator<Item = (&'a Experiment, &'a [Cpu])>,
) -> Vec<Vec<Availability>> {
    let experiments: Vec<_> = experiments.into_iter().collect();
    let questions: Vec<Question<'_>> = experiments
        .iter()
        .flat_map(|(experiment, cpus)| {
            let variants = experiment.variants.iter();
            variants.map(move |variant| Question { experiment, variant, cpus })
        })
        .collect();
    let mut answers = probe_all(&questions).into_iter();
    experiments
        .iter()
        .map(|(e, _)| answers.by_ref().take(e.variants.len()).collect())
        .collect()
}

/// The answers, in the order of the questions.
fn probe_all(questions: &[Question<'_>]) -> Vec<Availability> {
    // As a run does, and its workers inherit.
    let _ = raise_memlock_limit();
    let mut by_probe: Vec<Vec<Question<'_>>> = Vec::new();
    for question in questions.iter().filter(|q| q.lack().is_none()) {
        let is_same = |of: &&mut Vec<Question<'_>>| {
            of.first().is_some_and(|first| first.has_probe_of(question))
        };
        match by_probe.iter_mut().find(is_same) {
            Some(same) => same.push(*question),
            None => by_probe.push(vec![*question]),
        }
    }
    let mut known = ask_at_once(&by_probe);
    for known in &mut known {
        // Together they may have asked for more than a limit allows, such as
        // that of locked memory: alone it counts.
        if let Availability::Unavailable { .. } = known.said {
            *known = Known::from_asking(known.question, &Common::default());
        }
    }
    let answer = |question: &Question<'_>| {
        let found = known.iter().find(|known| known.answers(question));
        let ask = || Known::from_asking(*question, &Common::default()).said;
        found.map_or_else(ask, |known| known.said.clone())
    };
    questions.iter().map(|q| q.lack().unwrap_or_else(|| answer(q))).collect()
}

/// Different probes at once; each of them as often as it takes.
fn ask_at_once<'a>(by_probe: &[Vec<Question<'a>>]) -> Vec<Known<'a>> {
    let found: Vec<OnceLock<Vec<Known<'a>>>> =
        by_probe.iter().map(|_| OnceLock::new()).collect();
    let (next, common) = (AtomicUsize::new(0), Common::default());
    let work = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(questions) = by_probe.get(at) else { break };
            let mut known: Vec<Known<'a>> = Vec::new();
            for question in questions {
                if !known.iter().any(|known| known.answers(question)) {
                    known.push(Known::from_asking(*question, &common));
                }
            }
            // Each place is filled by the one thread that drew its number.
            let _ = found[at].set(known);
        }
    };
    thread::scope(|scope| {
        for _ in 1..THREADS.min(by_probe.len()) {
            // Where no thread can be had, those that are there do it.
            let _ = thread::Builder::new().spawn_scoped(scope, work);
        }
        work();
    });
    found.into_iter().filter_map(OnceLock::into_inner).flatten().collect()
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Condvar, Mutex},
        time::Duration,
    };

    use super::*;
    use crate::suite::{LatencyKind, Params, Probe, Role};

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
            id: "run/probes",
            about: "an experiment",
            params: Params::new(),
            tags: &[],
            cpus: CpuNeed::UpTo(1),
            latency_kind: LatencyKind::None,
            steps: &[],
            variants: probes.iter().map(variant).collect(),
        }
    }

    fn probed(experiments: &[&Experiment]) -> Vec<Vec<Availability>> {
        probe_each(experiments.iter().map(|e| (*e, [Cpu(0)].as_slice())))
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
        let found = probed(&[&one, &two, &one]);
        let found: Vec<_> = found.iter().map(|of| lacks(of)).collect();
        let of_one = vec![false, true, false];
        assert_eq!(found, [of_one.clone(), vec![true], of_one]);
    }

    #[test]
    fn probes_run_at_once() {
        static BEGUN: (Mutex<u32>, Condvar) = (Mutex::new(0), Condvar::new());
        fn one(_: &ProbeRequest<'_>) -> Availability {
            meets("one")
        }
        fn other(_: &ProbeRequest<'_>) -> Availability {
            meets("other")
        }
        /// Waits for the other one.
        fn meets(who: &str) -> Availability {
            let (begun, changed) = &BEGUN;
            let mut begun = begun.lock().expect("no probe panics");
            *begun += 1;
            changed.notify_all();
            let long = Duration::from_secs(60);
            let alone = |begun: &mut u32| *begun < 2;
            let waited = changed.wait_timeout_while(begun, long, alone);
            match waited.expect("no probe panics").1.timed_out() {
                true => Availability::unavailable(who, "run them at once"),
                false => Availability::Available,
            }
        }
        let found = probed(&[&experiment(&[one, other])]);
        assert_eq!(found, [[Availability::Available, Availability::Available]]);
        // Neither was in want of a second try.
        assert_eq!(*BEGUN.0.lock().expect("no probe panics"), 2);
    }

    /// How often a probe is asked of three experiments, two of them with the
    /// same parameters.
    fn asked_of_three(probe: Probe, count: &AtomicUsize) -> usize {
        let [one, mut same, mut deep] = [(); 3].map(|()| experiment(&[probe]));
        same.id = "run/others";
        deep.params = Params::new().with("depth", 8);
        let found = probed(&[&one, &same, &deep, &one]);
        assert_eq!(found.len(), 4);
        assert!(found.iter().all(|of| *of == [Availability::Available]));
        count.load(Ordering::Relaxed)
    }

    #[test]
    fn a_probe_is_asked_again_only_where_what_it_looks_at_differs() {
        static OF_THE_MACHINE: AtomicUsize = AtomicUsize::new(0);
        fn of_the_machine(request: &ProbeRequest<'_>) -> Availability {
            assert!(request.target().is_null());
            OF_THE_MACHINE.fetch_add(1, Ordering::Relaxed);
            Availability::Available
        }
        static OF_THE_LOAD: AtomicUsize = AtomicUsize::new(0);
        fn of_the_load(request: &ProbeRequest<'_>) -> Availability {
            assert_ne!(request.params().number("depth"), Some(0));
            OF_THE_LOAD.fetch_add(1, Ordering::Relaxed);
            Availability::Available
        }
        assert_eq!(asked_of_three(of_the_machine, &OF_THE_MACHINE), 1);
        assert_eq!(asked_of_three(of_the_load, &OF_THE_LOAD), 2);
    }

    #[test]
    fn what_probes_have_in_common_is_asked_once() {
        static ASKED: AtomicUsize = AtomicUsize::new(0);
        fn in_common(request: &ProbeRequest<'_>) -> Availability {
            assert!(request.params().is_empty(), "of no experiment");
            ASKED.fetch_add(1, Ordering::Relaxed);
            Availability::undecided("a target")
        }
        fn one(request: &ProbeRequest<'_>) -> Availability {
            assert!(!request.params().is_empty(), "of its own");
            request.in_common(in_common)
        }
        fn other(request: &ProbeRequest<'_>) -> Availability {
            match request.in_common(in_common) {
                Availability::Undecided { .. } => Availability::Available,
                _ => unreachable!("as was said"),
            }
        }
        let mut both = experiment(&[one, other, one]);
        both.params = Params::new().with("depth", 8);
        let first = Availability::undecided("a target");
        let second = Availability::Available;
        let found = probed(&[&both]);
        assert_eq!(found, [[first.clone(), second, first]]);
        assert_eq!(ASKED.load(Ordering::Relaxed), 1);
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
        let found = probed(&[&experiment(&[here, again])]);
        assert_eq!(found, [[Availability::Available, Availability::Available]]);
        assert_eq!(TRIED.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn without_enough_cpus_nothing_is_probed() {
        let mut greedy = experiment(&[|_| unreachable!("not asked")]);
        greedy.cpus = CpuNeed::Exactly(3);
        let found = probed(&[&greedy]);
        let lack = "needs 3 CPUs, 1 allowed";
        let lack = Availability::unavailable(lack, "run on more CPUs");
        assert_eq!(found, [[lack]], "two are missing");
    }
}
