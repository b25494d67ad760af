//! The closed loop: each thread starts its next op when an earlier one has
//! completed, at a fixed depth. What it yields is service time and capacity;
//! it is never called latency under load.
//!
//! All threads run before and after the window: they prepare, wait at a gate,
//! confirm that they run, measure, and go on until the last thread has left
//! the window and the observer has looked.
//!
//! So does the thread that receives what an open loop ([`super::open`]) starts,
//! whose generator is its [`super::peer`].

use std::{
    sync::{
        Condvar, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use hdrhistogram::Histogram;

use crate::{
    machine::{
        cpu_set::{Cpu, CpuSet, NumaNode},
        placement,
    },
    measure::{
        clock::Clock,
        cost::ProcessCost,
        observer::Observer,
        recorder::{Kept, Recorder, Schedule, new_histogram},
        trial::{Evidence, Outcome, Shape, Trial, TrialError},
        validity::Signals,
    },
};

/// Between the gate and the warm-up: time for the threads to wake up.
const GATE_NS: u64 = 2_000_000;

/// The observer begins to look this long before the window opens, so that its
/// own reading of `/proc` falls outside: some 3 ms with 200 processes.
const OBSERVER_MARGIN_NS: u64 = 20_000_000;

/// It looks again this long after the window has closed.
const OBSERVER_DELAY_NS: u64 = 100_000;

/// The hot loop of one thread of one variant.
pub trait Work {
    /// Performs a round of ops, verifies each, stamps once all of them are
    /// complete, then records them: `recorder.stamp_ns()`, then
    /// `recorder.complete(..)` or `count(..)`. A round should last between a
    /// microsecond and a few milliseconds. It does not allocate, lock, log or
    /// format, and makes no system call but the variant's own.
    ///
    /// # Errors
    /// The op that failed or was wrong; it ends the trial.
    fn round(&mut self, recorder: &mut Recorder) -> Result<(), TrialError>;

    /// Whether the latencies of some ops are to be kept apart as well
    /// (`recorder.complete_apart(..)`).
    fn keeps_apart(&self) -> bool {
        false
    }

    /// Completes what is in flight and says what was proven.
    ///
    /// # Errors
    /// What was found wrong only at the end, such as a lost message.
    fn finish(self) -> Result<Evidence, TrialError>;
}

/// Where a thread runs.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Number of the thread, from 0.
    pub thread: usize,
    /// The CPU that it is pinned to.
    pub cpu: Cpu,
    /// Where its memory belongs.
    pub numa_node: Option<NumaNode>,
    /// A seed of its own.
    pub seed: u64,
    /// The trial's clock.
    pub clock: Clock,
}

struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
    running: AtomicUsize,
    past_end: AtomicUsize,
    /// The observer has looked: threads may end, and be gone from `/proc`.
    observed: AtomicBool,
    /// A thread has failed, so that nothing is worth waiting for.
    failed: AtomicBool,
    /// What went wrong, in the order of time: what comes of a failure, as when
    /// a thread ends early and finds its device gone, comes after it.
    failures: Mutex<Vec<TrialError>>,
}

#[derive(Clone, Copy)]
enum GateState {
    Closed,
    Open(Schedule),
    Abandoned,
}

impl Gate {
    fn new() -> Self {
        Self {
            state: Mutex::new(GateState::Closed),
            changed: Condvar::new(),
            running: AtomicUsize::new(0),
            past_end: AtomicUsize::new(0),
            observed: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            failures: Mutex::default(),
        }
    }

    fn tell(&self, error: TrialError) {
        let mut failures =
            self.failures.lock().unwrap_or_else(|e| e.into_inner());
        failures.push(error);
    }

    /// Of all failures wrong data, which outweighs whatever went wrong beside
    /// it; else the first.
    fn failure(&self) -> Option<TrialError> {
        let mut failures =
            self.failures.lock().unwrap_or_else(|e| e.into_inner());
        let wrong =
            failures.iter().position(|e| matches!(e, TrialError::Wrong(_)));
        let chosen = wrong.unwrap_or(0);
        (chosen < failures.len()).then(|| failures.swap_remove(chosen))
    }

    /// Ends the trial at once: the other threads' loops and the observer's
    /// sleep.
    fn fail(&self) {
        self.failed.store(true, Ordering::Relaxed);
        self.set(GateState::Abandoned);
    }

    /// Sleeps, or says that a thread has failed meanwhile.
    fn sleep_until(&self, clock: Clock, deadline_ns: u64) -> bool {
        let mut state = self.state.lock().unwrap_or_else(|e| e.into_inner());
        loop {
            if matches!(*state, GateState::Abandoned) {
                return false;
            }
            let now_ns = clock.now_ns();
            if now_ns >= deadline_ns {
                return true;
            }
            let left = Duration::from_nanos(deadline_ns - now_ns);
            (state, _) = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(|e| e.into_inner());
        }
    }

    fn set(&self, state: GateState) {
        // No holder of this lock can panic: it only copies a value.
        *self.state.lock().unwrap_or_else(|e| e.into_inner()) = state;
        self.changed.notify_all();
    }

    fn wait(&self) -> Option<Schedule> {
        let mut state = self.state.lock().unwrap_or_else(|e| e.into_inner());
        loop {
            match *state {
                GateState::Open(schedule) => return Some(schedule),
                GateState::Abandoned => return None,
                GateState::Closed => {
                    state = self
                        .changed
                        .wait(state)
                        .unwrap_or_else(|e| e.into_inner());
                }
            }
        }
    }
}

/// A thread's way past the end of the window. The others wait for it; one that
/// fails or panics before ends their waiting as well.
struct Passage<'a> {
    gate: &'a Gate,
    passed: bool,
}

impl Passage<'_> {
    fn pass(&mut self) {
        if !self.passed {
            self.passed = true;
            self.gate.past_end.fetch_add(1, Ordering::Release);
        }
    }
}

impl Drop for Passage<'_> {
    fn drop(&mut self) {
        if !self.passed {
            self.gate.fail();
        }
    }
}

struct ThreadResult {
    kept: Kept,
    evidence: Evidence,
}

/// Runs a closed loop of `shape.threads` threads, thread *i* pinned to the
/// trial's CPU *i* modulo their number; `make` is called on the thread itself,
/// after it was pinned.
///
/// # Errors
/// Wrong data, if a thread saw any; else what failed first.
pub fn run<W, F>(
    trial: &Trial,
    shape: Shape,
    make: F,
) -> Result<Outcome, TrialError>
where
    W: Work,
    F: Fn(&Place) -> Result<W, TrialError> + Sync,
{
    let gate = Gate::new();
    let observer = Observer::new(trial);
    let places = (0..shape.threads)
        .map(|thread| place(trial, thread))
        .collect::<Result<Vec<_>, _>>()?;
    let slices = schedule_from(trial, 0).slices();
    thread::scope(|scope| {
        let (ready, prepared) = mpsc::channel();
        let mut handles = Vec::with_capacity(shape.threads);
        for place in &places {
            let (gate, make, ready) = (&gate, &make, ready.clone());
            let shape = &shape;
            let spawned = thread::Builder::new()
                .name(format!("load-{}", place.thread))
                .spawn_scoped(scope, move || {
                    run_thread(shape, slices, place, gate, make, ready)
                });
            match spawned {
                Ok(handle) => handles.push(handle),
                Err(error) => {
                    gate.set(GateState::Abandoned);
                    return Err(TrialError::setup(format!(
                        "starting thread {}: {error}; raise `ulimit -u` or \
                         the control group's pids.max, or use fewer --cpus",
                        place.thread
                    )));
                }
            }
        }
        drop(ready);
        let all_ready =
            prepared.iter().filter(|ok| *ok).count() == shape.threads;
        let observed = if all_ready {
            Some(open_and_observe(trial, &shape, &gate, observer))
        } else {
            gate.set(GateState::Abandoned);
            None
        };
        let mut results = Vec::with_capacity(shape.threads);
        for handle in handles {
            match handle.join() {
                Ok(Ok(Some(result))) => results.push(result),
                // It told why, or ended because another one had failed.
                Ok(Ok(None)) => {}
                Ok(Err(error)) => gate.tell(error),
                Err(_) => gate.tell(TrialError::setup("a thread panicked")),
            }
        }
        if let Some(error) = gate.failure() {
            return Err(error);
        }
        let (schedule, cost, signals) = observed.ok_or_else(|| {
            TrialError::setup("threads ended before they were ready")
        })??;
        merge(trial, shape, schedule, results, cost, signals)
    })
}

fn place(trial: &Trial, thread: usize) -> Result<Place, TrialError> {
    let cpus = trial.cpus();
    if cpus.is_empty() {
        return Err(TrialError::setup("the trial has no CPU"));
    }
    Ok(Place {
        thread,
        cpu: cpus[thread % cpus.len()],
        numa_node: trial.spec.numa_node,
        seed: trial.thread_seed(thread),
        clock: trial.spec.clock,
    })
}

fn run_thread<W: Work>(
    shape: &Shape,
    slices: usize,
    place: &Place,
    gate: &Gate,
    make: &(impl Fn(&Place) -> Result<W, TrialError> + Sync),
    ready: mpsc::Sender<bool>,
) -> Result<Option<ThreadResult>, TrialError> {
    let made = pin(place).and_then(|()| {
        let timed = shape.sampled_every > 0;
        let mut recorder = Recorder::prepare(place.clock, slices, timed);
        let work = make(place)?;
        if timed && work.keeps_apart() {
            recorder.keep_apart();
        }
        Ok((work, recorder))
    });
    // The receiver is read until all senders are gone, so it is still there,
    // and this one must go before the gate.
    let _ = ready.send(made.is_ok());
    drop(ready);
    let (mut work, mut recorder) = made?;
    let Some(schedule) = gate.wait() else { return Ok(None) };
    recorder.begin(schedule);
    let mut passage = Passage { gate, passed: false };
    let driven = drive(&mut work, &mut recorder, shape.threads, &mut passage);
    if let Err(error) = driven {
        // First this, and then the end of the others' loops with the passage.
        gate.tell(error);
        return Ok(None);
    }
    drop(passage);
    check_place(place)?;
    let evidence = work.finish()?;
    Ok(Some(ThreadResult { kept: recorder.into_kept(), evidence }))
}

/// The loop around the hot loop.
fn drive<W: Work>(
    work: &mut W,
    recorder: &mut Recorder,
    threads: usize,
    passage: &mut Passage<'_>,
) -> Result<(), TrialError> {
    let gate = passage.gate;
    recorder.stamp_ns();
    work.round(recorder)?;
    gate.running.fetch_add(1, Ordering::Release);
    // Relaxed: nothing is read that the failing thread wrote. Its line is
    // written to before and after the window only, so that reading it costs
    // nothing that shows.
    let failed = || gate.failed.load(Ordering::Relaxed);
    while !recorder.finished() && !failed() {
        work.round(recorder)?;
    }
    passage.pass();
    // Acquire pairs with the Release of each other thread's increment, and
    // with the observer's.
    while !failed()
        && (gate.past_end.load(Ordering::Acquire) < threads
            || !gate.observed.load(Ordering::Acquire))
    {
        work.round(recorder)?;
    }
    Ok(())
}

fn pin(place: &Place) -> Result<(), TrialError> {
    placement::pin_current_thread(&CpuSet::from_iter([place.cpu]))
        .map(|_| ())
        .map_err(|error| TrialError::setup(error.to_string()))
}

/// A pinned thread cannot migrate unless somebody changed its mask meanwhile.
fn check_place(place: &Place) -> Result<(), TrialError> {
    match placement::current_cpu() {
        Some(cpu) if cpu != place.cpu => Err(TrialError::setup(format!(
            "thread {} was pinned to CPU {} but ended on CPU {}; something \
             changed its affinity mask",
            place.thread, place.cpu.0, cpu.0
        ))),
        _ => Ok(()),
    }
}

/// Opens the gate, sleeps through the window and looks at the machine on both
/// sides of it.
fn open_and_observe(
    trial: &Trial,
    shape: &Shape,
    gate: &Gate,
    mut observer: Observer,
) -> Result<(Schedule, ProcessCost, Signals), TrialError> {
    let clock = trial.spec.clock;
    let schedule =
        schedule_from(trial, clock.now_ns() + GATE_NS + trial.spec.warmup_ns);
    gate.set(GateState::Open(schedule));
    // Its error is told, not this one.
    let ended = || TrialError::setup("a thread ended before the window did");
    let sleep_until = |deadline_ns| match gate.sleep_until(clock, deadline_ns) {
        true => Ok(()),
        false => Err(ended()),
    };
    sleep_until(schedule.start_ns.saturating_sub(OBSERVER_MARGIN_NS))?;
    observer.open();
    sleep_until(schedule.start_ns)?;
    // Acquire pairs with the Release in `drive`.
    let running = gate.running.load(Ordering::Acquire);
    sleep_until(schedule.end_ns + OBSERVER_DELAY_NS)?;
    let (cost, signals) = observer.close();
    gate.observed.store(true, Ordering::Release);
    if running < shape.threads {
        return Err(TrialError::Unready(format!(
            "only {running} of {} threads had completed a round when the \
             window opened; a longer warm-up may help",
            shape.threads
        )));
    }
    Ok((schedule, cost, signals))
}

fn schedule_from(trial: &Trial, start_ns: u64) -> Schedule {
    Schedule {
        start_ns,
        end_ns: start_ns + trial.spec.window_ns,
        slice_ns: trial.spec.slice_ns,
    }
}

fn merge(
    trial: &Trial,
    shape: Shape,
    schedule: Schedule,
    results: Vec<ThreadResult>,
    cost: ProcessCost,
    signals: Signals,
) -> Result<Outcome, TrialError> {
    let mut slices = vec![0; schedule.slices()];
    let mut thread_ops = Vec::with_capacity(results.len());
    let mut latencies = new_histogram();
    let mut apart: Option<Histogram<u64>> = None;
    let mut shared_ns = 0;
    let mut evidence = Evidence::default();
    let add = |sum: &mut Histogram<u64>, more: &Histogram<u64>| {
        sum.add(more).map_err(|error| {
            TrialError::setup(format!("merging histograms: {error}"))
        })
    };
    for ThreadResult { kept, evidence: own } in results {
        for (sum, ops) in slices.iter_mut().zip(&kept.slices) {
            *sum += ops;
        }
        thread_ops.push(kept.slices.iter().sum());
        add(&mut latencies, &kept.latencies)?;
        if let Some(kept) = &kept.apart {
            add(apart.get_or_insert_with(new_histogram), kept)?;
        }
        shared_ns += kept.shared_ns;
        evidence.absorb(own);
    }
    evidence.metrics.extend(cost.metrics());
    Ok(Outcome::new(
        trial, shape, schedule, slices, thread_ops, latencies, apart,
        shared_ns, evidence, cost, signals,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{machine::allowed_cpus, suite::Params, testing::trial};

    /// One thread's device goes; the others end, and find it gone when they
    /// look at it once more.
    struct Gone<'a> {
        thread: usize,
        is_wrong: bool,
        /// The others that run.
        running: &'a AtomicUsize,
        runs: bool,
    }

    const THREADS: usize = 3;

    impl Work for Gone<'_> {
        fn round(&mut self, recorder: &mut Recorder) -> Result<(), TrialError> {
            if self.thread == 1 {
                while self.running.load(Ordering::Relaxed) < THREADS - 1 {
                    thread::yield_now();
                }
                return Err(TrialError::op("pread", libc::EIO, 8192, 4096));
            }
            if !std::mem::replace(&mut self.runs, true) {
                self.running.fetch_add(1, Ordering::Relaxed);
            }
            let now_ns = recorder.stamp_ns();
            recorder.complete(1, now_ns);
            Ok(())
        }

        fn finish(self) -> Result<Evidence, TrialError> {
            Err(match self.is_wrong {
                true => TrialError::Wrong("made up".to_owned()),
                false => TrialError::op("a look (short)", 0, 0, 4096),
            })
        }
    }

    fn told(is_wrong: bool) -> TrialError {
        let allowed = allowed_cpus().expect("sched_getaffinity");
        let cpus: Vec<Cpu> = allowed.iter().take(1).collect();
        let trial = trial("test/gone", Params::new(), "gone", &cpus);
        let shape = Shape {
            threads: THREADS,
            depth: 1,
            batch: 1,
            op_bytes: 4096,
            sampled_every: 1,
        };
        let running = AtomicUsize::new(0);
        run(&trial, shape, |place| {
            let thread = place.thread;
            Ok(Gone { thread, is_wrong, running: &running, runs: false })
        })
        .map(drop)
        .expect_err("a thread fails")
    }

    #[test]
    fn what_failed_first_is_told_and_not_what_came_of_it() {
        let error = told(false);
        assert!(
            matches!(error, TrialError::Op { errno: libc::EIO, .. }),
            "{error}"
        );
    }

    #[test]
    fn wrong_data_outweighs_what_failed_before() {
        assert!(matches!(told(true), TrialError::Wrong(_)));
    }
}
