//! A round makes the system calls that it must and no other: counted by
//! strace. Skipped loudly where there is none.
//!
//! strace runs this very test binary with one of its ignored tests, short and
//! long; whatever is not proportional to the rounds cancels out.

mod support;

use std::{collections::BTreeMap, process::Command};

use bench_storage::{
    engine::{
        aio::AioWork,
        aio_calls::Context as AioContext,
        aio_reads::AioReads,
        aio_writes::AioWrites,
        blocking::{BlockingReads, ReadCall},
        blocking_writes::{BlockingWrites, Call},
        drives::Enter,
        mapped::{Fault, Mapped, MappedReads},
        nops::Nops,
        ring::Setup,
        ring_reads::{Registered, RingReads},
        ring_writes::SyncedWrites,
        rounds::{Fill, RingWork},
    },
    load::Load,
    sink::Sink,
    source::Source,
};
use harness::{
    load::closed::{Place, Work},
    machine::Root,
    measure::{
        clock::{Clock, Source as ClockSource},
        recorder::{Recorder, Schedule},
        trial::{Trial, TrialError},
    },
};
use support::{cpus, created, experiment, real_directory, skip, trial};

const SHORT: u32 = 100;
const LONG: u32 = 600;

fn rounds(work: &mut impl Work, clock: Clock, rounds: u32) {
    let start_ns = clock.now_ns();
    let end_ns = start_ns + 3_600_000_000_000;
    let schedule = Schedule { start_ns, end_ns, slice_ns: 100_000_000 };
    let mut recorder = Recorder::new(clock, schedule, true);
    for _ in 0..rounds {
        work.round(&mut recorder).expect("a good round");
    }
}

/// What the loop counted must be what strace counts: one call per round.
fn expect_counted(work: impl Work, rounds: u32, calls_per_round: u32) {
    let evidence = work.finish().expect("intact");
    let calls = evidence.calls.expect("counted").made;
    let expected = u64::from(rounds * calls_per_round);
    // What is in flight at the end takes a few more.
    assert!((expected..=expected + 80).contains(&calls), "{calls}");
}

fn with_trial(key: &str, run: impl FnOnce(&Place, &Trial)) {
    let directory = real_directory().expect("looked for by the outer test");
    let session = created(directory.path());
    let experiment = experiment(key);
    let own = session.own(key).expect("not refused");
    let target = own.unwrap_or(session.as_ref()).target();
    let trial = trial(&experiment.params, target, cpus(1), 100);
    let place = Place {
        thread: 0,
        cpu: trial.cpus()[0],
        numa_node: None,
        seed: trial.thread_seed(0),
        clock: trial.spec.clock,
    };
    run(&place, &trial);
}

type Open = fn(&Trial, Load) -> Result<Source, TrialError>;

fn with_source(
    depth: u32,
    open: Open,
    run: impl FnOnce(&Source, &Place, &Trial),
) {
    let key =
        format!("storage/ladder depth={depth} op_bytes=4096 pattern=random");
    with_trial(&key, |place, trial| {
        let load = Load::of(trial).expect("good parameters");
        let source = open(trial, load).expect("our own file");
        run(&source, place, trial);
    });
}

fn with_sink(run: impl FnOnce(&Sink, &Place, &Trial)) {
    let key = "storage/durable-write-4k depth=1 o_direct=yes op_bytes=4096 \
               pattern=sequential";
    with_trial(key, |place, trial| {
        let sink = Sink::of(trial).expect("our own file");
        run(&sink, place, trial);
    });
}

fn inner_blocking(count: u32) {
    with_source(1, Source::open, |source, place, trial| {
        let mut work = BlockingReads::new(source, ReadCall::Pread, place, 1)
            .expect("memory");
        rounds(&mut work, trial.spec.clock, count);
        expect_counted(work, count, 1);
    });
}

fn inner_ring(count: u32) {
    let all = Registered { ring: true, file: true, buffers: true };
    ring_rounds(Setup::SingleIssuer, all, 32, count);
}

/// A call that did not wait would be followed by a second one.
fn inner_single(count: u32) {
    ring_rounds(Setup::Plain, Registered::default(), 1, count);
}

fn ring_rounds(setup: Setup, registered: Registered, depth: u32, count: u32) {
    with_source(depth, Source::open, |source, place, trial| {
        let depth = source.load().depth;
        let mut ring = setup.build(depth).expect("a ring");
        let reads = RingReads::new(&mut ring, registered, source, place, 1)
            .expect("registered");
        let fill = Fill { depth, batch: depth, want: 1 };
        let mut work = RingWork::<_, _, true>::new(ring, Enter, reads, fill);
        rounds(&mut work, trial.spec.clock, count);
        let evidence = work.finish().expect("intact");
        let calls = evidence.calls.expect("counted");
        let expected = u64::from(count);
        assert!((expected..=expected + 80).contains(&calls.made), "{calls:?}");
        if depth == 1 {
            // A signal may make a round come back without its read.
            assert!(calls.ops + 5 >= expected, "{calls:?}");
        }
    });
}

fn inner_aio(count: u32) {
    with_source(32, Source::open, |source, place, trial| {
        let reads = AioReads::new(source, place, 1).expect("memory");
        let mut work = AioWork::new(source.load(), reads).expect("a context");
        rounds(&mut work, trial.spec.clock, count);
        expect_counted(work, count, 2);
    });
}

/// Nothing is read back here: that takes more calls the more was written.
fn inner_aio_mixed(count: u32) {
    let key = "storage/mixed-4k depth=32 op_bytes=4096 pattern=random \
               read_percent=70";
    with_trial(key, |place, trial| {
        let sink = Sink::by_pattern(trial).expect("our own file");
        let ops = AioWrites::new(&sink, place).expect("memory");
        let mut work = AioWork::new(sink.load(), ops).expect("a context");
        rounds(&mut work, trial.spec.clock, count);
    });
}

fn inner_mapped(count: u32) {
    with_source(1, Source::open_cold, |source, place, trial| {
        let map = Mapped::new(source).expect("a mapping");
        let mut work = MappedReads::new(source, &map, Fault::Touch, place, 1)
            .expect("room");
        rounds(&mut work, trial.spec.clock, count);
        expect_counted(work, count, 0);
    });
}

fn inner_synced(count: u32) {
    with_sink(|sink, place, trial| {
        let call = Call::WriteThenSync;
        let mut work = BlockingWrites::new(sink, call, place).expect("memory");
        rounds(&mut work, trial.spec.clock, count);
    });
}

fn inner_dsync(count: u32) {
    with_sink(|sink, place, trial| {
        let call = Call::WriteToDsyncFile;
        let mut work = BlockingWrites::new(sink, call, place).expect("memory");
        rounds(&mut work, trial.spec.clock, count);
    });
}

fn inner_linked(count: u32) {
    with_sink(|sink, place, trial| {
        let mut ring = Setup::SingleIssuer.build(2).expect("a ring");
        let writes =
            SyncedWrites::new(&mut ring, sink, place).expect("registered");
        let fill = Fill { depth: 1, batch: 1, want: 2 };
        let mut work = RingWork::<_, _, true>::new(ring, Enter, writes, fill);
        rounds(&mut work, trial.spec.clock, count);
    });
}

fn inner_nops(count: u32) {
    let ring = Setup::SingleIssuer.build(128).expect("a ring");
    let fill = Fill { depth: 128, batch: 32, want: 32 };
    let mut work =
        RingWork::<_, _, true>::new(ring, Enter, Nops::new(128), fill);
    rounds(&mut work, Clock::calibrate(&Root::system()), count);
}

macro_rules! inner {
    ($($name:ident: $function:ident($rounds:expr);)*) => {
        $(
            #[test]
            #[ignore = "started by the tests below, under strace"]
            fn $name() {
                $function($rounds);
            }
        )*
    };
}

inner! {
    blocking_short: inner_blocking(SHORT);
    blocking_long: inner_blocking(LONG);
    ring_short: inner_ring(SHORT);
    ring_long: inner_ring(LONG);
    synced_short: inner_synced(SHORT);
    synced_long: inner_synced(LONG);
    dsync_short: inner_dsync(SHORT);
    dsync_long: inner_dsync(LONG);
    linked_short: inner_linked(SHORT);
    linked_long: inner_linked(LONG);
    single_short: inner_single(SHORT);
    single_long: inner_single(LONG);
    aio_short: inner_aio(SHORT);
    aio_long: inner_aio(LONG);
    aio_mixed_short: inner_aio_mixed(SHORT);
    aio_mixed_long: inner_aio_mixed(LONG);
    mapped_short: inner_mapped(SHORT);
    mapped_long: inner_mapped(LONG);
    nops_short: inner_nops(SHORT);
    nops_long: inner_nops(LONG);
}

/// What strace says of one inner test when asked so.
fn strace(asked: &[&str], inner: &str) -> Result<String, String> {
    let table = tempfile::NamedTempFile::new().map_err(|e| e.to_string())?;
    let program = std::env::current_exe().map_err(|e| e.to_string())?;
    let output = Command::new("strace")
        .arg("-f")
        .args(asked)
        .arg("-o")
        .arg(table.path())
        .arg(program)
        .args([inner, "--exact", "--ignored", "--test-threads=1"])
        .output()
        .map_err(|error| format!("strace: {error}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(!said.contains("test result: FAILED"), "{said}");
        let complaint = String::from_utf8_lossy(&output.stderr);
        return Err(format!("strace {inner}: {complaint}"));
    }
    std::fs::read_to_string(table.path()).map_err(|error| error.to_string())
}

/// Calls by name of one inner test.
fn count(inner: &str) -> Result<BTreeMap<String, i64>, String> {
    let text = strace(&["-c", "-U", "calls,name"], inner)?;
    Ok(text
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let calls = words.next()?.parse().ok()?;
            Some((words.next()?.to_owned(), calls))
        })
        .filter(|(name, _)| name != "total")
        .collect())
}

/// How many more calls the long run makes, by name, where it makes more than
/// a handful: a test harness's own thread may wait once more or less.
fn difference(kind: &str) -> Option<BTreeMap<String, i64>> {
    const HANDFUL: i64 = 20;
    // In most processes it is read without a system call, but not in all.
    let monotonic =
        Clock::calibrate(&Root::system()).source() == ClockSource::Monotonic;
    let is_clock = |name: &str| monotonic && name == "clock_gettime";
    let run = |length: &str| count(&format!("{kind}_{length}"));
    let (short, long) = match (run("short"), run("long")) {
        (Ok(short), Ok(long)) => (short, long),
        (Err(reason), _) | (_, Err(reason)) => {
            skip(&reason);
            return None;
        }
    };
    let difference = long
        .iter()
        .map(|(name, calls)| {
            (name.clone(), calls - short.get(name).copied().unwrap_or(0))
        })
        .filter(|(name, more)| *more > HANDFUL && !is_clock(name))
        .collect();
    Some(difference)
}

/// `calls` in alphabetical order, each made once a round.
fn expect_only(kind: &str, calls: &[&str]) {
    let Some(difference) = difference(kind) else { return };
    let names: Vec<&str> = difference.keys().map(String::as_str).collect();
    assert_eq!(names, calls, "{difference:?}");
    let rounds = i64::from(LONG - SHORT);
    for (name, more) in &difference {
        // Draining at the end enters once or a few times more.
        let off = (more - rounds).abs();
        assert!(off <= 40, "{more} {name} in {rounds} rounds");
    }
}

#[test]
fn a_blocking_round_is_one_pread() {
    if real_directory().is_some() {
        expect_only("blocking", &["pread64"]);
    }
}

#[test]
fn a_durable_round_is_a_write_and_a_sync_or_a_write_alone() {
    if real_directory().is_some() {
        expect_only("synced", &["fdatasync", "pwrite64"]);
        expect_only("dsync", &["pwrite64"]);
    }
}

#[test]
fn a_round_of_a_ring_is_one_enter() {
    if io_uring::IoUring::new(2).is_err() {
        skip("no io_uring");
        return;
    }
    if real_directory().is_some() {
        expect_only("ring", &["io_uring_enter"]);
        expect_only("linked", &["io_uring_enter"]);
        expect_only("single", &["io_uring_enter"]);
    }
    expect_only("nops", &["io_uring_enter"]);
}

/// The flags of each io_uring_enter of one inner test.
fn enter_flags(inner: &str) -> Result<Vec<u32>, String> {
    let asked = ["-e", "trace=io_uring_enter", "-e", "raw=io_uring_enter"];
    let text = strace(&asked, inner)?;
    let calls = text.lines().filter_map(|line| {
        let arguments = line.split_once("io_uring_enter(")?.1;
        let flags = arguments.split(", ").nth(3)?;
        u32::from_str_radix(flags.trim_start_matches("0x"), 16).ok()
    });
    Ok(calls.collect())
}

#[test]
fn a_registered_ring_is_entered_as_one() {
    // linux/io_uring.h, IORING_ENTER_REGISTERED_RING.
    const REGISTERED_RING: u32 = 1 << 4;
    if io_uring::IoUring::new(2).is_err() || real_directory().is_none() {
        skip("no io_uring, or nowhere to put a file");
        return;
    }
    for (inner, registered) in [("ring_short", true), ("single_short", false)] {
        let flags = match enter_flags(inner) {
            Ok(flags) => flags,
            Err(reason) => return skip(&reason),
        };
        assert!(flags.len() >= 50, "{inner}: {flags:x?}");
        let all =
            flags.iter().all(|f| (f & REGISTERED_RING != 0) == registered);
        assert!(all, "{inner}: {flags:x?}");
    }
}

#[test]
fn a_round_of_aio_is_a_submit_and_a_wait() {
    if AioContext::new(1).is_err() {
        skip("no Linux AIO");
        return;
    }
    if real_directory().is_some() {
        expect_only("aio", &["io_getevents", "io_submit"]);
        expect_only("aio_mixed", &["io_getevents", "io_submit"]);
    }
}

#[test]
fn a_touch_of_a_mapping_is_no_system_call() {
    if real_directory().is_some() {
        expect_only("mapped", &[]);
    }
}
