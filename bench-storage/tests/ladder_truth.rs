//! The steps of the ladder that ask the kernel for something: each time it
//! does not give it, that shows on the row, in the probe or as an error.

mod support;

use std::{
    fs::File,
    io,
    os::unix::{
        fs::PermissionsExt,
        process::{CommandExt, ExitStatusExt},
    },
    path::Path,
    process::{Command, Output},
    thread,
    time::Duration,
};

use bench_storage::{
    engine::{
        blocking::{BlockingReads, ReadCall},
        ring::Setup,
    },
    load::Load,
    path,
    source::Source,
    target::{Access, Contents, Target},
};
use harness::{
    load::closed,
    machine::{Root, kernel_version},
    measure::trial::{Outcome, TrialError},
    suite::{Availability, Experiment, ProbeRequest},
};
use memmap2::{Mmap, MmapOptions};
use support::{
    alone, available, counts_storage_reads, cpus, created, experiment,
    foreign_file, patiently, proof, real_directory, run_on, skip, target_of,
    trial, unchecked, variant,
};

const WINDOW_MS: u64 = 400;

fn ladder(depth: u32) -> Experiment {
    experiment(&format!(
        "storage/ladder depth={depth} op_bytes=4096 pattern=random"
    ))
}

fn run(id: &str, target: &Target) -> Outcome {
    run_for(id, target, WINDOW_MS)
}

fn run_for(id: &str, target: &Target, window_ms: u64) -> Outcome {
    // One thread: of many, one may not have begun on a busy machine.
    let experiment = ladder(1);
    let variant = variant(&experiment, id);
    run_on(&variant, &experiment.params, target, window_ms).expect("it runs")
}

/// Whether a mapping is told to have had no faults. Ops that come in bursts,
/// beside other load, tell that of a longer window only.
fn tells_of_faults(first: &Outcome, id: &str, target: &Target) -> bool {
    let told = |outcome: &Outcome| {
        let reasons = outcome.evidence.degraded.join("; ");
        reasons.contains("major page faults per op")
    };
    let longer = |times| told(&run_for(id, target, times * WINDOW_MS));
    told(first) || longer(4) || longer(16)
}

/// Keeps a file in the page cache, whatever others ask to be dropped.
fn hold_in_cache(target: &Target) -> Mmap {
    let file = File::open(&target.path).expect("open");
    let bytes = usize::try_from(target.bytes).expect("small");
    // SAFETY: nobody writes to the file, and nothing is read through this.
    let map = unsafe { MmapOptions::new().len(bytes).populate().map(&file) };
    map.expect("a mapping")
}

#[test]
fn a_page_cache_that_cannot_be_dropped_shows_on_every_buffered_variant() {
    let _alone = alone();
    let Some(directory) = real_directory() else { return };
    let session = created(directory.path());
    let target = target_of(session.as_ref());
    let held = hold_in_cache(&target);
    let counted = counts_storage_reads();
    for id in ["pread-buffered", "uncached", "mmap", "mmap-populate"] {
        let json = session.target();
        if !available(&ladder(1), &variant(&ladder(1), id), &json) {
            continue;
        }
        let outcome = run(id, &target);
        let reasons = outcome.evidence.degraded.join("; ");
        if proof(&outcome, "cached_before_percent") == Some("unknown") {
            skip("no cachestat(2)");
        } else {
            assert!(
                reasons.contains("could not be dropped"),
                "{id}: {reasons}"
            );
        }
        if !counted {
            continue;
        }
        assert_eq!(proof(&outcome, "served_by"), Some("page cache"), "{id}");
        assert!(reasons.contains("answered 100 %"), "{id}: {reasons}");
        if id.starts_with("mmap") {
            assert!(tells_of_faults(&outcome, id, &target), "{id}: {reasons}");
        } else {
            assert!(!reasons.contains("major page faults"), "{id}: {reasons}");
        }
    }
    drop(held);
    let outcome = run("mmap", &target);
    assert_eq!(outcome.evidence.degraded, [""; 0], "nothing holds it now");
    let verdict = outcome.signals.verdict(outcome.window_ns, false).join("; ");
    assert!(!verdict.contains("major page faults"), "{verdict}");
}

#[test]
fn a_file_system_that_ignores_dontcache_shows() {
    let _alone = alone();
    let Some(directory) = real_directory() else { return };
    let session = created(directory.path());
    let params = ladder(1).params;
    let mut trial = trial(&params, session.target(), cpus(1), WINDOW_MS);
    let load = Load::of(&trial).expect("good parameters");
    let shape = load.pool_shape();
    // As if: without the flag. What stays is dropped when all of the target
    // was read, and that can be just before the end.
    let shows = (0..5).any(|_| {
        let source = Source::open_cold(&trial, load).expect("our own file");
        let call = ReadCall::Preadv2 { flags: 0 };
        let outcome = patiently(WINDOW_MS, |length_ms| {
            trial.spec.window_ns = length_ms * 1_000_000;
            closed::run(&trial, shape, |place| {
                BlockingReads::new(&source, call, place, shape.threads)
            })
        });
        let mut outcome = outcome.expect("it runs");
        path::judge_uncached(&mut outcome, &source);
        source.drop_cached().expect("advice");
        let reasons = outcome.evidence.degraded.join("; ");
        reasons.contains("% of what was read in the page cache")
            || proof(&outcome, "cached_after_percent") == Some("unknown")
    });
    assert!(shows, "all that was read stayed");
}

/// Since Linux 5.19, which is no fault of the device.
fn kernel_ignores_hipri() -> bool {
    kernel_version(&Root::system()).expect("a version") >= (5, 19)
}

#[test]
fn a_kernel_that_ignores_hipri_is_the_reason_whatever_the_device() {
    let experiment = ladder(1);
    let cpus = cpus(1);
    let request =
        ProbeRequest::new(&experiment.params, &cpus, &serde_json::Value::Null);
    match (variant(&experiment, "preadv2-hipri").probe)(&request) {
        Availability::Unavailable { reason, remedy } => {
            assert!(kernel_ignores_hipri(), "{reason}");
            assert!(reason.contains("since Linux 5.19"), "{reason}");
            assert!(remedy.contains("uring-iopoll"), "{remedy}");
        }
        _ => assert!(!kernel_ignores_hipri()),
    }
}

#[test]
fn hipri_without_poll_queues_is_skipped_and_if_run_called_ignored() {
    let _alone = alone();
    let Some(directory) = real_directory() else { return };
    let session = created(directory.path());
    let target = target_of(session.as_ref());
    if target.device.as_ref().and_then(|d| d.io_poll) != Some(false) {
        skip("the device may have poll queues");
        return;
    }
    let experiment = ladder(1);
    let hipri = variant(&experiment, "preadv2-hipri");
    let (cpus, prepared) = (cpus(2), session.target());
    let request = ProbeRequest::new(&experiment.params, &cpus, &prepared);
    match (hipri.probe)(&request) {
        Availability::Unavailable { reason, remedy } => {
            let words = match kernel_ignores_hipri() {
                true => "since Linux 5.19 the kernel ignores RWF_HIPRI",
                false => "io_poll is 0",
            };
            assert!(reason.contains(words), "{reason}");
            assert!(!remedy.is_empty());
        }
        other => panic!("there are no poll queues: {other:?}"),
    }
    let outcome = run("preadv2-hipri", &target);
    assert_eq!(proof(&outcome, "polled"), Some("ignored"));
    let reasons = outcome.evidence.degraded.join("; ");
    assert!(reasons.contains("RWF_HIPRI was ignored"), "{reasons}");
    // A device that says nothing of its queues is judged by the sleeps alone.
    let mut silent = target;
    if let Some(device) = &mut silent.device {
        device.io_poll = None;
    }
    // Where the machine had no time to look, nothing is said.
    let seen = (0..10).map(|_| run("preadv2-hipri", &silent));
    let seen: Option<Outcome> = seen
        .into_iter()
        .find(|outcome| proof(outcome, "sleeps_per_op") != Some("unknown"));
    let outcome = seen.expect("a trial that was looked at");
    assert_eq!(proof(&outcome, "polled"), Some("ignored"));
}

#[test]
fn polled_rings_are_skipped_where_the_device_has_no_poll_queues() {
    let Some(directory) = real_directory() else { return };
    let path = foreign_file(directory.path());
    let mut target = unchecked(&path, Access::Direct, Contents::Foreign);
    let cpus = cpus(1);
    for (kind, remedy_of) in [
        ("nvme", "nvme.poll_queues=2"),
        ("virtio", "virtio_blk.poll_queues=2"),
        ("scsi", "a device that can be polled"),
    ] {
        let device = serde_json::json!({
            "name": "fixture9", "kind": kind, "built_on": [], "io_poll": false,
        });
        target.device = serde_json::from_value(device).expect("a device");
        let prepared = serde_json::to_value(&target).expect("json");
        let ladder = ladder(32);
        let request = ProbeRequest::new(&ladder.params, &cpus, &prepared);
        for (id, setup) in
            [("uring-iopoll", Setup::Polled), ("uring-hybrid", Setup::Hybrid)]
        {
            if let Err(error) = setup.build(2) {
                skip(&format!("{id}: no such ring: {error}"));
                continue;
            }
            let Availability::Unavailable { reason, remedy } =
                (variant(&ladder, id).probe)(&request)
            else {
                panic!("{id}: there are no poll queues");
            };
            let words = "/sys/block/fixture9/queue/io_poll is 0";
            assert!(reason.contains(words), "{id}: {reason}");
            assert!(remedy.contains(remedy_of), "{id}: {remedy}");
        }
    }
}

#[test]
fn aio_cut_short_under_a_trial_fails_with_its_offset() {
    let _alone = alone();
    let Some(directory) = real_directory() else { return };
    match cut_short("aio", directory.path()).expect_err("the file is short") {
        TrialError::Op { operation, errno, offset, bytes } => {
            assert!(offset >= 4096, "{offset}");
            assert_eq!((errno, bytes), (0, 4096));
            assert!(operation.contains("short"), "{operation}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_populated_mapping_cut_short_is_an_error_and_no_signal() {
    let _alone = alone();
    let Some(directory) = real_directory() else { return };
    match cut_short("mmap-populate", directory.path()) {
        Err(TrialError::Op { operation, errno, offset, .. }) => {
            assert!(operation.contains("MADV_POPULATE_READ"), "{operation}");
            assert_eq!(errno, libc::EFAULT);
            assert!(offset >= 4096, "{offset}");
        }
        other => panic!("{other:?}"),
    }
}

fn cut_short(id: &str, directory: &Path) -> Result<Outcome, TrialError> {
    let path = foreign_file(directory);
    let target = unchecked(&path, Access::Direct, Contents::Foreign);
    // Of a pool, a thread may not have begun on a busy machine.
    let experiment = ladder(if id == "aio" { 32 } else { 1 });
    let variant = variant(&experiment, id);
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(200));
            let file = File::options().write(true).open(&path);
            file.and_then(|f| f.set_len(4096)).expect("truncate");
        });
        run_on(&variant, &experiment.params, &target, 5_000)
    })
}

/// Runs one of the ignored tests below in a process of its own.
fn inner(name: &str, change: impl FnOnce(&mut Command)) -> io::Result<Output> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args([name, "--exact", "--ignored", "--test-threads=1"]);
    change(&mut command);
    command.output()
}

/// Where the inner test puts its file: it dies before it could remove it.
const DIRECTORY: &str = "BENCH_STORAGE_TEST_DIRECTORY";

#[test]
fn a_mapping_cut_short_kills_its_process_with_sigbus() {
    let Some(directory) = real_directory() else { return };
    let output = inner("inner_mapping_cut_short", |command| {
        command.env(DIRECTORY, directory.path());
    });
    let output = output.expect("it starts");
    assert_eq!(output.status.signal(), Some(libc::SIGBUS), "{output:?}");
    // What the row says of it.
    let complaint = String::from_utf8_lossy(&output.stderr);
    let line = complaint.lines().next_back().expect("a last line");
    assert!(line.starts_with("SIGBUS: a page fault of 4096 bytes"), "{line}");
    let offset = line.split("at offset ").nth(1).expect("an offset");
    let offset = offset.split(' ').next().and_then(|n| n.parse::<u64>().ok());
    let offset = offset.expect("a number");
    assert!((4096..support::TARGET_BYTES).contains(&offset), "{line}");
    assert_eq!(offset % 4096, 0, "{line}");
}

#[test]
#[ignore = "dies by a signal; started by the test above"]
fn inner_mapping_cut_short() {
    let directory = std::env::var_os(DIRECTORY).expect("the outer test's");
    let result = cut_short("mmap", Path::new(&directory));
    panic!("survived: {result:?}");
}

/// Enough for a small ring, and not for the buffers of any experiment.
const LIMIT_BYTES: u64 = 64 << 10;

#[test]
fn registered_buffers_above_the_locked_memory_limit_are_refused_by_the_probe() {
    /// Nobody, who has no right to lock more than the limit.
    const NOBODY: u32 = 65_534;
    if io_uring::IoUring::new(2).is_err() {
        skip("no io_uring");
        return;
    }
    let Some(directory) = real_directory() else { return };
    foreign_file(directory.path());
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(directory.path(), open).expect("chmod");
    let output = inner("inner_small_memlock", |command| {
        command.env(DIRECTORY, directory.path());
        // SAFETY: setrlimit is async-signal-safe and its argument lives on
        // the child's own stack.
        unsafe {
            command.pre_exec(|| {
                let limit = libc::rlimit {
                    rlim_cur: LIMIT_BYTES,
                    rlim_max: LIMIT_BYTES,
                };
                match libc::setrlimit(libc::RLIMIT_MEMLOCK, &limit) {
                    0 => Ok(()),
                    _ => Err(io::Error::last_os_error()),
                }
            });
        }
        // SAFETY: the call takes nothing and cannot fail.
        if unsafe { libc::geteuid() } == 0 {
            command.uid(NOBODY).gid(NOBODY).current_dir("/");
        }
    });
    match output {
        Ok(output) => assert!(output.status.success(), "{output:?}"),
        Err(error) => skip(&format!("another user cannot run it: {error}")),
    }
}

#[test]
#[ignore = "started by the test above, with little memory to lock"]
fn inner_small_memlock() {
    // Where io_uring is root's alone, this user is told no by everything.
    let ring = io_uring::IoUring::new(2).map(drop);
    if ring.is_err_and(|e| e.raw_os_error() == Some(libc::EPERM)) {
        skip("this user may not use io_uring");
        return;
    }
    let params = large_buffers();
    let cpus = cpus(1);
    let request = ProbeRequest::new(&params, &cpus, &serde_json::Value::Null);
    let ladder = ladder(32);
    for id in ["uring-buffers", "uring-fixed", "uring-sqpoll"] {
        let probe = variant(&ladder, id).probe;
        let Availability::Unavailable { reason, remedy } = probe(&request)
        else {
            panic!("{id}: 4 MiB were registered under a limit of 64 KiB");
        };
        assert!(reason.contains("RLIMIT_MEMLOCK is 65536"), "{id}: {reason}");
        assert!(remedy.contains("ulimit -l"), "{id}: {remedy}");
    }
    // A trial that finds less than its probe did says so.
    let directory = std::env::var_os(DIRECTORY).expect("the outer test's");
    let path = Path::new(&directory).join("foreign");
    let target = unchecked(&path, Access::Direct, Contents::Foreign);
    for id in ["uring-buffers", "uring-fixed", "uring-sqpoll"] {
        let variant = variant(&ladder, id);
        let error = run_on(&variant, &params, &target, WINDOW_MS);
        let text = error.expect_err(id).to_string();
        // Which of the two it is, the kernel's version decides.
        let named = ["registering 4194304 bytes", "making a ring"];
        assert!(named.iter().any(|n| text.contains(n)), "{id}: {text}");
        // ENOMEM it is in either case. EAGAIN is the word of mmap(2) for
        // MAP_LOCKED, which nothing here asks for.
        assert!(text.contains("(os error 12)"), "{id}: {text}");
        let limit = format!("RLIMIT_MEMLOCK is {LIMIT_BYTES} bytes");
        assert!(text.contains(&limit), "{id}: {text}");
        assert!(text.contains("`ulimit -l unlimited`"), "{id}: {text}");
    }
    // What registers no memory still can.
    let probe = variant(&ladder, "uring-files").probe;
    assert_eq!(probe(&request), Availability::Available);
}

/// A load with 4 MiB of buffers.
fn large_buffers() -> harness::suite::Params {
    harness::suite::Params::new().with("op_bytes", 4096).with("depth", 1024)
}
