//! A row must not claim a path that the kernel did not take: each false path
//! is provoked here.

mod support;

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use bench_storage::{
    ceiling::Ceiling,
    durability,
    engine::ring::Setup,
    load::Load,
    path,
    polling::Interrupts,
    sink::Sink,
    source::Source,
    target::{Access, Contents, Target, prepare_sized},
};
use harness::{
    machine::Root,
    measure::trial::{Calls, Outcome, TrialError},
    suite::{Experiment, Session, Variant},
};
use support::{
    TARGET_BYTES, alone, available, costs_kernel_threads, counts_storage_reads,
    cpus, created, experiment, foreign_file, measured, proof, real_directory,
    request, run_on, run_seen, skip, target_of, trial, unchecked, variant,
};

/// Long beside the time that a look may be late on a busy machine.
const WINDOW_MS: u64 = 400;

fn randread_32() -> Experiment {
    experiment("storage/randread-4k depth=32 op_bytes=4096 pattern=random")
}

fn randread_1() -> Experiment {
    experiment("storage/randread-4k depth=1 op_bytes=4096 pattern=random")
}

/// A ring variant, or a loud skip where there are no rings.
fn ring(id: &str) -> Option<Variant> {
    let experiment = randread_32();
    // What a device cannot poll is asked of a trial here, not of the probe.
    let asked = if id == "uring-iopoll" { "uring-fixed" } else { id };
    let asked = variant(&experiment, asked);
    available(&experiment, &asked, &serde_json::Value::Null)
        .then(|| variant(&experiment, id))
}

fn foreign(path: &Path) -> Box<dyn Session> {
    let parent = path.parent().expect("a directory");
    prepare_sized(&request(Some(path), parent), 0).expect("a good file")
}

#[test]
fn a_buffered_file_shows_the_page_cache() {
    let _alone = alone();
    let Some(directory) = real_directory() else { return };
    let session = created(directory.path());
    let mut target = target_of(session.as_ref());
    target.access = Access::Buffered;
    // Into the page cache.
    let bytes = std::fs::read(&target.path).expect("read");
    assert_eq!(bytes.len() as u64, TARGET_BYTES);
    let experiment = randread_1();
    let baseline = variant(&experiment, "pread");
    let outcome = run_on(&baseline, &experiment.params, &target, WINDOW_MS)
        .expect("it runs");
    assert_eq!(proof(&outcome, "direct"), Some("no"));
    let reasons = outcome.evidence.degraded.join("; ");
    assert!(reasons.contains("without O_DIRECT"), "{reasons}");
    if !counts_storage_reads() {
        return;
    }
    assert!(reasons.contains("page cache answered 100 %"), "{reasons}");
}

#[test]
fn a_hole_in_the_file_shows_although_the_flag_is_right() {
    let _alone = alone();
    let Some(directory) = real_directory() else { return };
    let path = directory.path().join("hole");
    let file = File::create(&path).expect("create");
    file.set_len(TARGET_BYTES).expect("a hole");
    let target = unchecked(&path, Access::Direct, Contents::Foreign);
    let experiment = randread_1();
    let baseline = variant(&experiment, "pread");
    let outcome = run_seen(&baseline, &experiment.params, &target, WINDOW_MS);
    let Some(outcome) = outcome else { return };
    if !counts_storage_reads() {
        return;
    }
    assert_eq!(proof(&outcome, "direct"), Some("no"));
    let reasons = outcome.evidence.degraded.join("; ");
    assert!(reasons.contains("storage read only 0 %"), "{reasons}");
}

/// The session's target, as if it were on another device.
fn as_if_on(session: &dyn Session, device: &serde_json::Value) -> Target {
    let device = serde_json::from_value(device.clone()).expect("a device");
    Target { device: Some(device), ..target_of(session) }
}

#[test]
fn more_than_a_link_carries_shows_on_what_reads_and_on_what_writes() {
    let _alone = alone();
    let Some(directory) = real_directory() else { return };
    let session = created(directory.path());
    // A kilobyte a second.
    let device = serde_json::json!({
        "name": "nvme99n1", "kind": "nvme", "built_on": [],
        "pci": {
            "current_speed": "0.00001 GT/s PCIe", "current_width": 1,
            "max_speed": "8.0 GT/s PCIe", "max_width": 4,
        },
    });
    for (key, id) in [
        ("storage/randread-4k depth=1 op_bytes=4096 pattern=random", "pread"),
        ("storage/randwrite-4k depth=1 op_bytes=4096 pattern=random", "pwrite"),
        (
            "storage/durable-write-4k depth=1 o_direct=no op_bytes=4096 \
             pattern=sequential",
            "pwrite-fdatasync",
        ),
    ] {
        let experiment = experiment(key);
        let own = session.own(key).expect("not refused");
        let target = as_if_on(own.unwrap_or(session.as_ref()), &device);
        let variant = variant(&experiment, id);
        let outcome = run_on(&variant, &experiment.params, &target, WINDOW_MS);
        let mut outcome = outcome.expect("it runs");
        let told = |outcome: &Outcome| {
            let reasons = outcome.evidence.degraded.join("; ");
            assert!(
                reasons.contains("go over the PCIe link"),
                "{id}: {reasons}"
            );
        };
        told(&outcome);
        if id == "pwrite" {
            // As if they had been passed through, which takes an NVMe drive.
            let json = serde_json::to_value(&target).expect("json");
            let trial = trial(&experiment.params, json, cpus(1), WINDOW_MS);
            let sink = Sink::by_pattern(&trial).expect("the run's own");
            outcome.evidence.degraded.clear();
            durability::judge_passed_through(&mut outcome, &sink);
            told(&outcome);
        }
    }
}

#[test]
fn a_cache_below_a_stacked_device_shows_although_the_warm_up_was_read() {
    let _alone = alone();
    let Some(directory) = real_directory() else { return };
    let session = created(directory.path());
    let experiment = randread_1();
    let tree = tempfile::tempdir().expect("temporary directory");
    let below = tree.path().join("sys/block/sda");
    std::fs::create_dir_all(&below).expect("directories");
    let blocks_read = |blocks: u64| {
        let stat = format!("0 0 {} 0 0 0 0 0 0 0 0", 8 * blocks);
        std::fs::write(below.join("stat"), stat).expect("stat");
    };
    blocks_read(0);
    let device = serde_json::json!({
        "name": "loop99", "kind": "loop", "built_on": [
            {"name": "sda", "kind": "scsi", "built_on": []},
        ],
    });
    let target = as_if_on(session.as_ref(), &device);
    let baseline = variant(&experiment, "pread");
    let json = serde_json::to_value(&target).expect("json");
    let mut trial = trial(&experiment.params, json, cpus(1), WINDOW_MS);
    trial.root = Root::at(tree.path());
    let mut outcome = measured(&baseline, &mut trial).expect("it runs");
    let told = |outcome: &Outcome| {
        let reasons = outcome.evidence.degraded.join("; ");
        reasons.contains("a cache between them answered")
    };
    assert!(told(&outcome), "{:?}", outcome.evidence.degraded);
    // A trial of which the window is three quarters.
    let all = outcome.ops() / 3 * 4 + 4;
    outcome.evidence.calls = Some(Calls { made: all, ops: all });
    for (read, hits) in [(all, false), (outcome.ops(), true)] {
        blocks_read(0);
        outcome.evidence.degraded.clear();
        let ceiling = Ceiling::of(&trial.root, target.device.as_ref());
        blocks_read(read);
        ceiling.judge(&mut outcome);
        assert_eq!(told(&outcome), hits, "{read} of {all}");
    }
}

/// A file in memory, gone with the test.
struct InMemory(PathBuf);

impl InMemory {
    fn new(name: &str) -> Option<Self> {
        let path = PathBuf::from(format!(
            "/dev/shm/bench-storage-{name}-{}",
            std::process::id()
        ));
        let bytes = vec![1; 64 << 20];
        let written = std::fs::write(&path, bytes);
        let this = Self(path);
        match written {
            Ok(()) => Some(this),
            Err(error) => {
                skip(&format!("/dev/shm: {error}"));
                None
            }
        }
    }
}

impl Drop for InMemory {
    fn drop(&mut self) {
        // It may never have been created.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Whether a worker of io-wq showed among this process's threads while `f` ran.
fn watching_workers<T>(f: impl FnOnce() -> T) -> (T, bool) {
    let shows = || {
        let tasks = std::fs::read_dir("/proc/self/task").expect("/proc");
        tasks.flatten().any(|task| {
            // It may be gone by now.
            std::fs::read_to_string(task.path().join("comm"))
                .is_ok_and(|name| name.starts_with("iou-wrk"))
        })
    };
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let mut seen = false;
            while !seen && !done.load(Ordering::Relaxed) {
                seen = shows();
                thread::sleep(Duration::from_millis(5));
            }
            seen
        });
        let result = f();
        done.store(true, Ordering::Relaxed);
        (result, watch.join().expect("it only looks"))
    })
}

#[test]
fn reads_of_a_file_in_memory_show_the_hand_over_to_workers() {
    let _alone = alone();
    let Some(uring) = ring("uring") else { return };
    let Some(file) = InMemory::new("punt") else { return };
    let target = unchecked(&file.0, Access::Buffered, Contents::Foreign);
    let experiment = randread_32();
    // A thread may have gone before the last look was taken, and its workers
    // with it; not every time.
    let mut shown = false;
    let seen = (0..10).find_map(|_| {
        let (outcome, workers) = watching_workers(|| {
            run_on(&uring, &experiment.params, &target, WINDOW_MS)
        });
        shown |= workers;
        let outcome = outcome.expect("it runs");
        costs_kernel_threads(&outcome).then_some(outcome)
    });
    let Some(outcome) = seen else {
        assert!(!shown, "workers showed in /proc, and no trial saw them");
        skip("this kernel reads tmpfs without io-wq");
        return;
    };
    assert!(outcome.signals.io_wq_cpu_ns > 0);
    let reasons = outcome.evidence.degraded.join("; ");
    assert!(reasons.contains("io-wq worker threads"), "{reasons}");
    assert!(reasons.contains("% of the CPU time"), "{reasons}");
    assert!(proof(&outcome, "io_wq").is_some_and(|p| p.contains("threads")));
    assert_eq!(proof(&outcome, "direct"), Some("no"));
}

#[test]
fn signals_of_kernel_threads_become_findings() {
    let _alone = alone();
    let Some(directory) = real_directory() else { return };
    let session = created(directory.path());
    let target = target_of(session.as_ref());
    let experiment = randread_1();
    let baseline = variant(&experiment, "pread");
    let clean = run_on(&baseline, &experiment.params, &target, WINDOW_MS)
        .expect("it runs");

    let with_io_wq = |threads: usize, per_op_ns: u64| {
        let mut outcome = clean.clone();
        outcome.signals.io_wq_threads = threads;
        outcome.signals.io_wq_cpu_ns = per_op_ns * outcome.ops();
        outcome.cost.cpu_ns = outcome.ops() * 25_000;
        path::judge_io_wq(&mut outcome);
        outcome
    };
    let none = with_io_wq(0, 0);
    assert_eq!(proof(&none, "io_wq"), Some("no"));
    let few = with_io_wq(2, 100);
    assert_eq!(proof(&few, "io_wq"), Some("2 threads"));
    assert_eq!(few.evidence.degraded, [""; 0]);
    let many = with_io_wq(2, 10_000);
    assert_eq!(proof(&many, "io_wq"), Some("2 threads"));
    let reasons = many.evidence.degraded.join("; ");
    assert!(reasons.contains("2 io-wq worker threads"), "{reasons}");
    assert!(reasons.contains("40 % of the CPU time"), "{reasons}");

    let mut clean = clean;
    clean.signals.seen_ns = clean.window_ns;
    let with_poller = |percent: u64, shared: bool| {
        let mut outcome = clean.clone();
        let seen_ns = outcome.signals.seen_ns;
        outcome.signals.sqpoll_cpu_ns = seen_ns * percent / 100;
        path::judge_poller(&mut outcome, shared);
        outcome
    };
    let awake = with_poller(99, false);
    assert_eq!(proof(&awake, "sqpoll_awake_percent"), Some("99"));
    assert_eq!(awake.evidence.degraded, [""; 0]);
    let asleep = with_poller(10, false);
    let reasons = asleep.evidence.degraded.join("; ");
    assert!(reasons.contains("SQPOLL thread ran 10 %"), "{reasons}");
    let awake = with_poller(103, false);
    assert_eq!(proof(&awake, "sqpoll_awake_percent"), Some("100"));
    let mut unseen = clean.clone();
    unseen.signals.seen_ns = clean.window_ns / 100;
    unseen.signals.sqpoll_cpu_ns = clean.window_ns;
    unseen.signals.switches_voluntary = Some(clean.ops());
    path::judge_poller(&mut unseen, false);
    path::judge_sleeps(&mut unseen, true);
    for key in ["sqpoll_awake_percent", "sleeps_per_op"] {
        assert_eq!(proof(&unseen, key), Some("unknown"));
    }
    assert_eq!(unseen.evidence.degraded, [""; 0]);

    let with_sleeps = |switches: Option<u64>, hybrid: bool| {
        let mut outcome = clean.clone();
        outcome.signals.switches_voluntary = switches;
        path::judge_sleeps(&mut outcome, hybrid);
        outcome
    };
    let slept = with_sleeps(Some(2 * clean.ops()), true);
    assert_eq!(slept.evidence.degraded, [""; 0]);
    let spun = with_sleeps(Some(0), true);
    let reasons = spun.evidence.degraded.join("; ");
    assert!(reasons.contains("HYBRID_IOPOLL was ignored"), "{reasons}");
    assert_eq!(proof(&spun, "sleeps_per_op"), Some("0.00"));
    assert_eq!(with_sleeps(Some(0), false).evidence.degraded, [""; 0]);
    let untold = with_sleeps(None, true);
    assert_eq!(proof(&untold, "sleeps_per_op"), Some("unknown"));
    assert_eq!(untold.evidence.degraded, [""; 0]);
}

#[test]
fn polling_of_which_nothing_is_seen_is_unknown() {
    let _alone = alone();
    let Some(directory) = real_directory() else { return };
    let session = created(directory.path());
    let experiment = randread_1();
    let device = serde_json::json!({
        "name": "nvme99n1", "kind": "nvme", "built_on": [], "io_poll": true,
    });
    let target = as_if_on(session.as_ref(), &device);
    let json = serde_json::to_value(&target).expect("json");
    let mut trial = trial(&experiment.params, json, cpus(1), WINDOW_MS);
    let pread = variant(&experiment, "pread");
    let clean = measured(&pread, &mut trial).expect("it runs");
    let load = Load::of(&trial).expect("good parameters");
    let source = Source::open(&trial, load).expect("our own file");
    let tree = tempfile::tempdir().expect("temporary directory");
    let root = Root::at(tree.path());
    std::fs::create_dir(tree.path().join("proc")).expect("proc");
    let raise = |interrupts: u64| {
        let text = format!("CPU0\n 24: {interrupts} PCI-MSIX nvme99q1\n");
        std::fs::write(tree.path().join("proc/interrupts"), text).expect("it");
    };
    let told = Target { interrupts: vec!["nvme99q".to_owned()], ..target };
    let untold = Target { interrupts: Vec::new(), ..told.clone() };
    let ops = clean.evidence.calls.expect("counted").ops;
    for (switches, target, interrupts, word) in [
        (None, &told, 0, "unknown"),
        // A plain read in which nothing was seen to be polled.
        (Some(0), &untold, 0, "unknown"),
        (Some(0), &told, 0, "yes"),
        (Some(0), &told, ops, "ignored"),
        (Some(10 * clean.ops()), &told, 0, "ignored"),
    ] {
        let mut outcome = clean.clone();
        outcome.signals.switches_voluntary = switches;
        outcome.signals.seen_ns = outcome.window_ns;
        raise(0);
        let before = Interrupts::count(&root, target);
        raise(interrupts);
        path::judge_hipri(&mut outcome, &source, &before);
        let what = format!("{switches:?} {interrupts}");
        assert_eq!(proof(&outcome, "polled"), Some(word), "{what}");
        let mut outcome = clean.clone();
        before.judge(&mut outcome, Setup::Polled);
        assert!(proof(&outcome, "sleeps_per_op").is_some(), "{what}");
    }
}

#[test]
fn polled_reads_of_a_device_without_poll_queues_fail_and_never_hang() {
    let _alone = alone();
    let Some(iopoll) = ring("uring-iopoll") else { return };
    let Some(directory) = real_directory() else { return };
    let session = created(directory.path());
    let target = target_of(session.as_ref());
    let can_poll = target.device.as_ref().and_then(|device| device.io_poll);
    let experiment = randread_32();
    match run_on(&iopoll, &experiment.params, &target, WINDOW_MS) {
        Err(TrialError::Op { errno, operation, .. }) => {
            assert_eq!(errno, libc::EOPNOTSUPP);
            assert_eq!(operation, "IORING_OP_READ_FIXED");
            assert_ne!(can_poll, Some(true));
        }
        Ok(outcome) => {
            // Before Linux 6.11 nothing was said; the probe asks sysfs.
            assert!(outcome.ops() > 0);
            if can_poll != Some(true) {
                skip("this kernel serves polled reads by interrupt");
            }
        }
        Err(other) => panic!("{other:?}"),
    }
}

#[test]
fn an_existing_file_is_read_and_sampled() {
    let _alone = alone();
    let Some(directory) = real_directory() else { return };
    let path = foreign_file(directory.path());
    let session = foreign(&path);
    let target = target_of(session.as_ref());
    assert_eq!(target.contents, Contents::Foreign);
    assert!(session.label().starts_with("existing file of 64 MiB on "));
    let experiment = randread_32();
    for id in ["pread-pool", "uring-fixed"] {
        let Some(variant) = ring(id) else { continue };
        let outcome = run_seen(&variant, &experiment.params, &target, 300);
        let Some(outcome) = outcome else { continue };
        assert_eq!(proof(&outcome, "direct"), Some("yes"), "{id}");
        assert_eq!(outcome.evidence.degraded, [""; 0], "{id}");
        // Nothing but samples can be said of somebody else's data.
        assert_eq!(outcome.evidence.verified_ops, 0, "{id}");
        assert!(outcome.evidence.checksummed_ops > 0, "{id}");
        assert_eq!(proof(&outcome, "blank_percent"), Some("0"), "{id}");
    }
}

#[test]
fn a_target_that_holds_nothing_shows_on_reads_of_each_kind() {
    let _alone = alone();
    let Some(directory) = real_directory() else { return };
    let path = directory.path().join("zeros");
    let zeros = vec![0; usize::try_from(TARGET_BYTES).expect("small")];
    std::fs::write(&path, zeros).expect("write");
    File::open(&path).and_then(|file| file.sync_all()).expect("sync");
    let session = foreign(&path);
    let target = target_of(session.as_ref());
    let experiment =
        experiment("storage/ladder depth=1 op_bytes=4096 pattern=random");
    for id in ["pread", "aio", "pread-buffered", "mmap"] {
        let variant = variant(&experiment, id);
        let outcome = run_on(&variant, &experiment.params, &target, 100)
            .expect("it runs");
        let reasons = outcome.evidence.degraded.join("; ");
        let blank = "100 % of the sampled blocks hold nothing";
        assert!(reasons.contains(blank), "{id}: {reasons}");
        assert_eq!(proof(&outcome, "blank_percent"), Some("100"), "{id}");
    }
}

#[test]
fn a_file_that_changes_under_a_trial_is_wrong() {
    let _alone = alone();
    let Some(uring) = ring("uring") else { return };
    let Some(directory) = real_directory() else { return };
    let path = foreign_file(directory.path());
    let session = foreign(&path);
    let target = target_of(session.as_ref());
    let done = AtomicBool::new(false);
    let result = thread::scope(|scope| {
        scope.spawn(|| rewrite_until(&path, &done));
        // It ends with the first failure.
        let result = run_on(&uring, &randread_32().params, &target, 5_000);
        done.store(true, Ordering::Relaxed);
        result
    });
    let error = result.expect_err("the contents changed");
    assert!(matches!(error, TrialError::Wrong(_)), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("something wrote to the target"), "{text}");
}

fn rewrite_until(path: &Path, done: &AtomicBool) {
    let file = File::options().write(true).open(path).expect("open");
    let mut version = 0_u8;
    while !done.load(Ordering::Relaxed) {
        version = version.wrapping_add(1);
        let chunk = vec![version; 4 << 20];
        for offset in (0..TARGET_BYTES).step_by(chunk.len()) {
            file.write_all_at(&chunk, offset).expect("write");
        }
        file.sync_data().expect("sync");
    }
}

#[test]
fn a_file_cut_short_under_a_trial_fails_with_its_offset() {
    let _alone = alone();
    let Some(directory) = real_directory() else { return };
    let experiment = randread_32();
    for id in ["pread-pool", "uring", "uring-fixed"] {
        let Some(variant) = ring(id) else { continue };
        let path = foreign_file(directory.path());
        let session = foreign(&path);
        let target = target_of(session.as_ref());
        let result = thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(100));
                let file = File::options().write(true).open(&path);
                file.and_then(|f| f.set_len(4096)).expect("truncate");
            });
            run_on(&variant, &experiment.params, &target, 5_000)
        });
        match result.expect_err("the file is short") {
            TrialError::Op { operation, errno, offset, bytes } => {
                assert!(offset >= 4096, "{id}: {offset}");
                assert_eq!((errno, bytes), (0, 4096), "{id}");
                assert!(operation.contains("short"), "{id}: {operation}");
            }
            other => panic!("{id}: {other:?}"),
        }
    }
}
