//! The measured loop of our ring allocates nothing, on either thread.
//!
//! This is a program of its own, because an allocator is one per program.

mod common;

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
        trial::{Evidence, TrialError},
    },
    suite::Params,
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
        evidence.prove("several_rounds", self.rounds > 10);
        Ok(evidence)
    }
}

fn proves(evidence: &Evidence, key: &str, value: &str) {
    let found = evidence.path.iter().find(|(k, _)| k == key);
    assert_eq!(found.map(|(_, v)| v.as_str()), Some(value), "{key}");
}

#[test]
fn rounds_of_our_ring_allocate_nothing() {
    let Some(cpus) = common::two_cpus() else { return };
    OBSERVES.set(true);
    let before = ALLOCATIONS.load(Ordering::Relaxed);
    let params = Params::new().with("op_bytes", 8).with("capacity", 1_024);
    let trial = common::trial("ipc/test", &params, "ring", &cpus);

    let shape = ping_pong::shape::<TwoWay<Ring>, 1>();
    let outcome = closed::run(&trial, shape, |place| {
        Pinger::<TwoWay<Ring>, 1>::start(&trial, place).map(Watched::new)
    })
    .expect("ping-pong");
    proves(&outcome.evidence, "allocations", "0");
    proves(&outcome.evidence, "several_rounds", "true");

    let shape = stream::shape::<1>(&trial).expect("capacity");
    let outcome = closed::run(&trial, shape, |_| {
        Drain::<Ring, 1>::start(&trial).map(Watched::new)
    })
    .expect("stream");
    proves(&outcome.evidence, "allocations", "0");
    proves(&outcome.evidence, "several_rounds", "true");

    // The counter counts: setting up does allocate.
    assert!(ALLOCATIONS.load(Ordering::Relaxed) > before);
}
