//! A row of SQPOLL whose poller slept, or was kept from its CPU, says so.

mod support;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use bench_storage::{
    engine::{
        drives::Poller,
        ring::Setup,
        ring_reads::{Registered, RingReads},
        rounds::{Fill, RingWork},
    },
    load::Load,
    path,
    source::Source,
};
use harness::{
    load::closed::{self, Work},
    machine::{Cpu, CpuSet, Root, placement::pin_current_thread},
    measure::{
        recorder::Recorder,
        trial::{Evidence, Outcome, TrialError},
    },
    suite::Variant,
};
use support::{
    alone, available, costs_kernel_threads, cpus, created, experiment,
    patiently, proof, real_directory, run_on, skip, target_of, trial, variant,
};

/// Long beside the time that a look may be late on a busy machine.
const WINDOW_MS: u64 = 400;

const READS: &str = "storage/randread-4k depth=32 op_bytes=4096 pattern=random";

/// The variant, or a loud skip where there are no such rings.
fn sqpoll() -> Option<Variant> {
    let experiment = experiment(READS);
    let sqpoll = variant(&experiment, "uring-sqpoll");
    available(&experiment, &sqpoll, &serde_json::Value::Null).then_some(sqpoll)
}

/// Rounds with a pause before each.
struct Paused<W>(W);

impl<W: Work> Work for Paused<W> {
    fn round(&mut self, recorder: &mut Recorder) -> Result<(), TrialError> {
        thread::sleep(Duration::from_millis(50));
        self.0.round(recorder)
    }

    fn finish(self) -> Result<Evidence, TrialError> {
        self.0.finish()
    }
}

#[test]
fn a_poller_that_fell_asleep_degrades_its_row() {
    let _alone = alone();
    if sqpoll().is_none() {
        return;
    }
    let [_, cpu] = cpus(2)[..] else {
        skip("one CPU: the poller shares it with the issuer");
        return;
    };
    let Some(directory) = real_directory() else { return };
    let session = created(directory.path());
    let params = experiment(READS).params;
    let mut trial = trial(&params, session.target(), cpus(2), WINDOW_MS);
    let load = Load::of(&trial).expect("good parameters");
    let source = Source::open(&trial, load).expect("our own file");
    let shape = load.ring_shape();
    let registered = Registered { ring: false, file: true, buffers: true };
    // It looks for a millisecond or two, and has 50 of them.
    let setup = Setup::Poller { cpu, idle_ms: 1 };
    let mut run = || {
        let outcome = patiently(WINDOW_MS, |length_ms| {
            trial.spec.window_ns = length_ms * 1_000_000;
            closed::run(&trial, shape, |place| {
                let mut ring = setup.build(shape.depth).expect("a ring");
                let reads =
                    RingReads::new(&mut ring, registered, &source, place, 1)?;
                let poller = Poller::new(cpu, false, Root::system());
                let (depth, batch) = (shape.depth, shape.batch);
                let fill = Fill { depth, batch, want: 1 };
                let work =
                    RingWork::<_, _, true>::new(ring, poller, reads, fill);
                Ok(Paused(work))
            })
        });
        let mut outcome = outcome.expect("it runs");
        path::judge_poller(&mut outcome, false);
        outcome
    };
    let looked_at = |outcome: &Outcome| {
        proof(outcome, "sqpoll_awake_percent") != Some("unknown")
    };
    let outcome = (0..10).map(|_| run()).find(looked_at);
    let outcome = outcome.expect("a trial that was looked at");
    let reasons = outcome.evidence.degraded.join("; ");
    assert!(reasons.contains("the SQPOLL thread ran"), "{reasons}");
    let wakeups = proof(&outcome, "sqpoll_wakeups").expect("counted");
    assert_ne!(wakeups, "0", "{reasons}");
}

/// More than the one thread of the load, and looking at the machine, can take
/// by themselves: the rest is the poller's.
const BEYOND_ONE_CPU: f64 = 1.1;

#[test]
fn what_a_poller_burns_is_in_the_cost() {
    let _alone = alone();
    let Some(sqpoll) = sqpoll() else { return };
    let [_, _] = cpus(2)[..] else {
        skip("one CPU: the poller shares it with the issuer");
        return;
    };
    let Some(directory) = real_directory() else { return };
    let session = created(directory.path());
    let target = target_of(session.as_ref());
    let params = experiment(READS).params;
    let mut ran = false;
    let burnt_two = (0..5).any(|_| {
        let outcome = run_on(&sqpoll, &params, &target, WINDOW_MS);
        let outcome = outcome.expect("it runs");
        ran |= costs_kernel_threads(&outcome);
        let cpus = outcome.cost.cpu_ns as f64 / outcome.window_ns as f64;
        ran && cpus > BEYOND_ONE_CPU
    });
    assert!(ran, "a poller ran, and its time was in no trial's cost");
    if !burnt_two {
        skip("two CPUs were never free: what both took is less than one");
    }
}

/// Keeps a CPU busy with so many threads while `f` runs.
fn beside_others<T>(cpu: Cpu, threads: usize, f: impl FnOnce() -> T) -> T {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                // Where it may not be pinned it disturbs somebody else.
                let _ = pin_current_thread(&CpuSet::single(cpu));
                while !done.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
        }
        let result = f();
        done.store(true, Ordering::Relaxed);
        result
    })
}

#[test]
fn a_poller_that_others_keep_from_its_cpu_degrades_its_row() {
    let _alone = alone();
    let Some(sqpoll) = sqpoll() else { return };
    let [_, poller] = cpus(2)[..] else {
        skip("one CPU: the poller shares it with the issuer");
        return;
    };
    let Some(directory) = real_directory() else { return };
    let session = created(directory.path());
    let target = target_of(session.as_ref());
    let reads = experiment(READS);
    // A fair scheduler gives it a fifth; how soon, it does not say.
    let found = [4, 16, 64].into_iter().find_map(|threads| {
        let outcome = beside_others(poller, threads, || {
            run_on(&sqpoll, &reads.params, &target, WINDOW_MS)
        });
        let outcome = outcome.expect("it runs");
        let awake = proof(&outcome, "sqpoll_awake_percent").expect("stated");
        let awake: u32 = awake.parse().expect("a number");
        (awake < 50).then_some(outcome)
    });
    let outcome = found.expect("a poller that hardly ran");
    let reasons = outcome.evidence.degraded.join("; ");
    assert!(reasons.contains("the SQPOLL thread ran"), "{reasons}");
}
