//! A round allocates nothing: counted by the allocator itself.

mod support;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use bench_storage::{
    engine::{
        aio::AioWork,
        aio_reads::AioReads,
        aio_writes::AioWrites,
        blocking::{BlockingReads, ReadCall},
        blocking_writes::{BlockingWrites, Call},
        drives::Enter,
        mapped::{Fault, Mapped, MappedReads},
        nops::Nops,
        ring::Setup,
        ring_reads::{Registered, RingReads},
        ring_writes::{LoneWrites, SyncedWrites},
        rounds::{Fill, RingWork},
    },
    load::Load,
    sink::Sink,
    source::Source,
    trim::{
        calls::Blocking,
        ground::Ground,
        in_flight::Drops,
        ring::{Op, Ringed},
        work::Trimming,
    },
};
use harness::{
    load::closed::{Place, Work},
    measure::{
        recorder::{Recorder, Schedule},
        trial::Trial,
    },
};
use support::{
    available, cpus, created, experiment, real_directory, skip, trial, variant,
};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// Counts what this thread asks for.
struct Counting;

// SAFETY: every call is handed on unchanged to the system's allocator, which
// keeps the contract; the counter is a plain cell of the calling thread and
// allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: as promised by the caller.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        // SAFETY: as promised by the caller.
        unsafe { System.dealloc(start, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn place(trial: &Trial) -> Place {
    Place {
        thread: 0,
        cpu: trial.cpus()[0],
        numa_node: None,
        seed: trial.thread_seed(0),
        clock: trial.spec.clock,
    }
}

/// Rounds within the window of a recorder that has all its memory.
fn allocations_of(work: &mut impl Work, trial: &Trial, rounds: u32) -> u64 {
    let clock = trial.spec.clock;
    let start_ns = clock.now_ns();
    let schedule = Schedule {
        start_ns,
        end_ns: start_ns + 3_600_000_000_000,
        slice_ns: 100_000_000,
    };
    let mut recorder = Recorder::new(clock, schedule, true);
    for _ in 0..10 {
        work.round(&mut recorder).expect("a good round");
    }
    let before = ALLOCATIONS.with(Cell::get);
    for _ in 0..rounds {
        work.round(&mut recorder).expect("a good round");
    }
    ALLOCATIONS.with(Cell::get) - before
}

#[test]
fn the_allocator_counts() {
    let before = ALLOCATIONS.with(Cell::get);
    drop(std::hint::black_box(Box::new(1)));
    assert_eq!(ALLOCATIONS.with(Cell::get) - before, 1);
}

#[test]
fn reading_allocates_nothing() {
    let Some(directory) = real_directory() else { return };
    let session = created(directory.path());
    let mut target = support::target_of(session.as_ref());
    let experiment =
        experiment("storage/randread-4k depth=32 op_bytes=4096 pattern=random");
    // Both kinds of contents: samples of foreign ones are kept on the way.
    for contents in [target.contents, bench_storage::target::Contents::Foreign]
    {
        target.contents = contents;
        let json = serde_json::to_value(&target).expect("json");
        let trial = trial(&experiment.params, json, cpus(1), 100);
        let load = Load::of(&trial).expect("good parameters");
        let source = Source::open(&trial, load).expect("our own file");
        let place = place(&trial);

        let mut blocking =
            BlockingReads::new(&source, ReadCall::Pread, &place, 1)
                .expect("memory");
        assert_eq!(allocations_of(&mut blocking, &trial, 1_000), 0);
        blocking.finish().expect("intact");

        let reads = AioReads::new(&source, &place, 1).expect("memory");
        if let Ok(mut aio) = AioWork::new(load, reads) {
            assert_eq!(allocations_of(&mut aio, &trial, 1_000), 0);
            aio.finish().expect("intact");
        } else {
            skip("no Linux AIO");
        }

        let cold = Source::open_cold(&trial, load).expect("our own file");
        let map = Mapped::new(&cold).expect("a mapping");
        let mut mapped =
            MappedReads::new(&cold, &map, Fault::Populate, &place, 1)
                .expect("room");
        assert_eq!(allocations_of(&mut mapped, &trial, 1_000), 0);
        mapped.finish().expect("intact");

        let all = Registered { ring: true, file: true, buffers: true };
        for (setup, registered) in
            [(Setup::Plain, Registered::default()), (Setup::SingleIssuer, all)]
        {
            let fixed = variant(&experiment, "uring-fixed");
            let null = serde_json::Value::Null;
            if registered.buffers && !available(&experiment, &fixed, &null) {
                continue;
            }
            let Ok(mut ring) = setup.build(load.depth) else {
                skip(&format!("no ring of {setup:?}"));
                continue;
            };
            let reads =
                RingReads::new(&mut ring, registered, &source, &place, 1)
                    .expect("registered");
            let fill = Fill { depth: load.depth, batch: load.depth, want: 1 };
            let mut work =
                RingWork::<_, _, true>::new(ring, Enter, reads, fill);
            assert_eq!(allocations_of(&mut work, &trial, 1_000), 0);
            let evidence = work.finish().expect("intact");
            let seeded = evidence.verified_ops > 0;
            assert_eq!(
                seeded,
                contents != bench_storage::target::Contents::Foreign
            );
        }
    }
}

#[test]
fn writing_allocates_nothing() {
    let Some(directory) = real_directory() else { return };
    let session = created(directory.path());
    let experiment = experiment(
        "storage/durable-write-4k depth=16 o_direct=yes op_bytes=4096 \
         pattern=sequential",
    );
    let own = session.own(&experiment.key()).expect("not refused");
    let target = own.expect("a file of its own").target();
    let trial = trial(&experiment.params, target, cpus(1), 100);
    let sink = Sink::of(&trial).expect("our own file");
    let place = place(&trial);
    for call in
        [Call::WriteThenSync, Call::WriteToDsyncFile, Call::WriteWithDsync]
    {
        let mut work =
            BlockingWrites::new(&sink, call, &place).expect("memory");
        assert_eq!(allocations_of(&mut work, &trial, 100), 0, "{call:?}");
        work.finish().expect("intact");
    }
    let Ok(mut ring) = Setup::SingleIssuer.build(32) else {
        skip("no ring");
        return;
    };
    let writes = SyncedWrites::new(&mut ring, &sink, &place).expect("a ring");
    let fill = Fill { depth: 16, batch: 16, want: 2 };
    let mut work = RingWork::<_, _, true>::new(ring, Enter, writes, fill);
    assert_eq!(allocations_of(&mut work, &trial, 100), 0);
    work.finish().expect("intact");
}

#[test]
fn dropping_allocates_nothing() {
    let Some(directory) = real_directory() else { return };
    let session = created(directory.path());
    let experiment = experiment(
        "storage/trim-64k depth=1 op_bytes=65536 pattern=sequential",
    );
    let own = session.own(&experiment.key()).expect("not refused");
    let target = own.expect("a file of its own").target();
    if !available(&experiment, &variant(&experiment, "trim"), &target) {
        return;
    }
    let trial = trial(&experiment.params, target, cpus(1), 100);
    let ground = Ground::of(&trial).expect("our own file");
    let trim = Blocking::new(ground.open().expect("open"), true);
    let mut work =
        Trimming::new(&ground, &place(&trial), trim).expect("memory");
    // More than are looked at in between.
    assert_eq!(allocations_of(&mut work, &trial, 300), 0);
    work.finish().expect("gone");
    let file = ground.open().expect("open");
    let Ok(ring) = Ringed::new(file, Op::Punch) else {
        skip("no ring");
        return;
    };
    let mut work =
        Trimming::new(&ground, &place(&trial), ring).expect("memory");
    assert_eq!(allocations_of(&mut work, &trial, 40), 0);
    work.finish().expect("gone");
    let mut deep = trial;
    deep.spec.params = deep.spec.params.with("depth", 4);
    let ground = Ground::of(&deep).expect("our own file");
    let mut ring = Setup::SingleIssuer.build(4).expect("as before");
    let drops = Drops::new(&mut ring, &ground, &place(&deep), Op::Punch);
    let fill = Fill { depth: 4, batch: 1, want: 1 };
    let drops = drops.expect("memory");
    let mut work = RingWork::<_, _, true>::new(ring, Enter, drops, fill);
    assert_eq!(allocations_of(&mut work, &deep, 1_000), 0);
    work.finish().expect("gone");
}

#[test]
fn reading_among_writes_allocates_nothing() {
    let Some(directory) = real_directory() else { return };
    let session = created(directory.path());
    // Zipf draws are the dearest addresses.
    let experiment = experiment(
        "storage/mixed-4k depth=32 op_bytes=4096 pattern=zipf \
         read_percent=70",
    );
    let own = session.own(&experiment.key()).expect("not refused");
    let target = own.expect("a file of its own").target();
    let trial = trial(&experiment.params, target, cpus(1), 100);
    let sink = Sink::by_pattern(&trial).expect("our own file");
    let place = place(&trial);
    let mut work =
        BlockingWrites::new(&sink, Call::WriteOnly, &place).expect("memory");
    assert_eq!(allocations_of(&mut work, &trial, 1_000), 0);
    let evidence = work.finish().expect("intact");
    assert!(evidence.verified_ops > 600, "{evidence:?}");
    assert!(evidence.calls.is_some_and(|calls| calls.made == calls.ops));
    let ops = AioWrites::new(&sink, &place).expect("memory");
    if let Ok(mut work) = AioWork::new(sink.load(), ops) {
        assert_eq!(allocations_of(&mut work, &trial, 1_000), 0);
        work.finish().expect("intact");
    } else {
        skip("no Linux AIO");
    }
    let all = Registered { ring: true, file: true, buffers: true };
    let Ok(mut ring) = Setup::SingleIssuer.build(32) else {
        skip("no ring");
        return;
    };
    let ops = LoneWrites::registering(&mut ring, all, &sink, &place)
        .expect("registered");
    let fill = Fill { depth: 32, batch: 32, want: 1 };
    let mut work = RingWork::<_, _, true>::new(ring, Enter, ops, fill);
    assert_eq!(allocations_of(&mut work, &trial, 1_000), 0);
    work.finish().expect("intact");
}

#[test]
fn nops_allocate_nothing() {
    let nop = experiment("storage/nop batch=32 depth=128 op_bytes=0");
    let trial = trial(&nop.params, serde_json::Value::Null, cpus(1), 100);
    let Ok(ring) = Setup::SingleIssuer.build(128) else {
        skip("no ring");
        return;
    };
    let fill = Fill { depth: 128, batch: 32, want: 32 };
    let mut work =
        RingWork::<_, _, true>::new(ring, Enter, Nops::new(128), fill);
    assert_eq!(allocations_of(&mut work, &trial, 1_000), 0);
    assert!(work.finish().expect("good").verified_ops >= 32 * 1_000);
}
