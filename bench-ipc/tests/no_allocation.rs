//! The measured loop of our ring allocates nothing, on either thread.
//!
//! This is a program of its own, because an allocator is one per program.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    sync::atomic::{AtomicU64, Ordering},
};

use bench_ipc::{
    ping_pong::{self, Pinger},
    queues::{TwoWay, ring::Ring},
    stream::{self, Drain},
};
use harness::{
    load::closed::{self, Work},
    measure::{
        recorder::Recorder,
        trial::{Evidence, Outcome, Trial, TrialError},
    },
    suite::Params,
    testing,
};

/// The system's allocator, which counts.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

thread_local! {
    /// The thread that looks at `/proc` around the window does not count.
    static OBSERVES: Cell<bool> = const { Cell::new(false) };
}

fn count() {
    // A thread that is being torn down has no such variable any more.
    if !OBSERVES.try_with(Cell::get).unwrap_or(true) {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: every call is passed on unchanged to the system's allocator, which
// keeps the contract; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(
        &self,
        pointer: *mut u8,
        layout: Layout,
        size: usize,
    ) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Looks at the counter after the first round and after each one since.
struct Watched<W> {
    work: W,
    rounds: u64,
    after_first: u64,
    after_latest: u64,
}

impl<W: Work> Watched<W> {
    fn new(work: W) -> Self {
        Self { work, rounds: 0, after_first: 0, after_latest: 0 }
    }
}

impl<W: Work> Work for Watched<W> {
    fn round(&mut self, recorder: &mut Recorder) -> Result<(), TrialError> {
        self.work.round(recorder)?;
        self.rounds += 1;
        self.after_latest = ALLOCATIONS.load(Ordering::Relaxed);
        if self.rounds == 1 {
            self.after_first = self.after_latest;
        }
        Ok(())
    }

    fn finish(self) -> Result<Evidence, TrialError> {
        let mut evidence = self.work.finish()?;
        let allocations = self.after_latest - self.after_first;
        evidence.prove("allocations", allocations);
        evidence.prove("rounds", self.rounds);
        Ok(evidence)
    }
}

fn proof<'a>(evidence: &'a Evidence, key: &str) -> &'a str {
    let found = evidence.path.iter().find(|(k, _)| k == key);
    found.map(|(_, value)| value.as_str()).expect(key)
}

/// In no window was anything allocated, and one had several rounds: beside
/// programs that compute, two threads that spin may need a time slice each.
fn allocates_nothing(
    trial: &mut Trial,
    worker: impl Fn(&Trial) -> Result<Outcome, TrialError>,
) {
    for _ in 0..6 {
        match worker(trial) {
            Ok(outcome) => {
                assert_eq!(proof(&outcome.evidence, "allocations"), "0");
                let rounds = proof(&outcome.evidence, "rounds").parse::<u64>();
                if rounds.expect("a number") > 10 {
                    return;
                }
            }
            Err(TrialError::Unready(_)) => {}
            Err(error) => panic!("{error}"),
        }
        trial.spec.warmup_ns *= 3;
        trial.spec.window_ns *= 3;
    }
    panic!("ten rounds at most in each of six windows");
}

#[test]
fn rounds_of_our_ring_allocate_nothing() {
    let Some(cpus) = testing::two_cpus() else { return };
    OBSERVES.set(true);
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    let params = Params::new().with("op_bytes", 8).with("capacity", 1_024);
    let mut trial = testing::trial("ipc/test", params, "ring", &cpus);

    let shape = ping_pong::shape::<TwoWay<Ring>, 1>();
    allocates_nothing(&mut trial, |trial| {
        closed::run(trial, shape, |place| {
            Pinger::<TwoWay<Ring>, 1>::start(trial, place).map(Watched::new)
        })
    });

    let shape = stream::shape::<1>(&trial).expect("capacity");
    allocates_nothing(&mut trial, |trial| {
        closed::run(trial, shape, |_| {
            Drain::<Ring, 1>::start(trial).map(Watched::new)
        })
    });

    // The counter counts: setting up does allocate.
    assert!(ALLOCATIONS.load(Ordering::Relaxed) > before);
}
