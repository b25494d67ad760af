//! What fails under a trial ends it as an error with errno, offset and length,
//! whichever way the bytes were moved.

mod support;

use std::{
    fs::{self, File},
    os::{fd::AsRawFd, unix::fs::MetadataExt},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use bench_storage::{
    contents::BLOCK_BYTES,
    engine::blocking_writes::{BlockingWrites, Call},
    sink::Sink,
    target::{Access, Contents, Target, Writable, prepare_sized},
};
use harness::{
    load::closed::{Place, Work},
    measure::{recorder::Recorder, trial::TrialError},
    suite::{Availability, Experiment, ProbeRequest, Role, Variant},
};
use support::{
    TARGET_BYTES, alone, cpus, experiment, foreign_file,
    limits::with_file_size_limit,
    loops::LoopDevice,
    mounts::{in_a_namespace, mount},
    real_directory, request, run_on,
    sealed::{memory, refuse_writes},
    skip, target_of, trial, unchecked, variant,
};

const WINDOW_MS: u64 = 200;

/// What is left of a target of 64 MiB: a block.
const LEFT_BYTES: u64 = 4096;

/// Every way to read, one op at a time and many.
fn readers() -> Vec<(Experiment, Variant)> {
    let key = |depth| {
        format!("storage/ladder depth={depth} op_bytes=4096 pattern=random")
    };
    let all = experiment(&key(1));
    let pool = experiment(&key(32));
    let mut readers: Vec<(Experiment, Variant)> = all
        .variants
        .iter()
        .filter(|variant| variant.role != Role::Bound)
        .map(|variant| (all.clone(), variant.clone()))
        .collect();
    for id in ["pread-pool", "aio", "uring-fixed"] {
        readers.push((pool.clone(), variant(&pool, id)));
    }
    // It dies, which `ladder_truth` shows.
    readers.retain(|(_, variant)| variant.id != "mmap");
    readers
}

/// Loudly, where it cannot run on this target.
fn is_available(
    experiment: &Experiment,
    variant: &Variant,
    target: &Target,
) -> bool {
    let target = serde_json::to_value(target).expect("json");
    let cpus = cpus(2);
    let probe = ProbeRequest::new(&experiment.params, &cpus, &target);
    match (variant.probe)(&probe) {
        Availability::Available | Availability::Undecided { .. } => true,
        Availability::Unavailable { reason, .. } => {
            skip(&format!("{}: {reason}", variant.id));
            false
        }
    }
}

/// The error that a trial ends with. It sits its time out, so that is short
/// at first; a busy machine may need more to get to the second op.
fn failure_of(
    experiment: &Experiment,
    variant: &Variant,
    target: &Target,
) -> TrialError {
    let target = serde_json::to_value(target).expect("json");
    for window_ms in [20, 200, 2_000] {
        let params = &experiment.params;
        let mut trial = trial(params, target.clone(), cpus(2), window_ms);
        trial.spec.warmup_ns = window_ms * 1_000_000;
        if let Err(error) = (variant.worker)(&trial) {
            return error;
        }
    }
    panic!("{} {}: nothing failed", experiment.key(), variant.id);
}

/// What each way to read this target comes to.
fn each_fails(target: &Target, errno_of: impl Fn(&str) -> i32) {
    let mut ran = 0;
    for (experiment, variant) in readers() {
        if !is_available(&experiment, &variant, target) {
            continue;
        }
        match failure_of(&experiment, &variant, target) {
            TrialError::Op { operation, errno, offset, bytes } => {
                let what = format!("{}: {operation} {offset}", variant.id);
                assert_eq!(errno, errno_of(variant.id), "{what}");
                assert_eq!(bytes, 4096, "{what}");
                assert!((LEFT_BYTES..TARGET_BYTES).contains(&offset), "{what}");
                assert_eq!(operation.contains("short"), errno == 0, "{what}");
            }
            other => panic!("{}: {other:?}", variant.id),
        }
        ran += 1;
    }
    assert!(ran > 5, "blocking reads run everywhere");
}

#[test]
fn a_file_that_was_cut_short_since_the_session_began() {
    let _alone = alone();
    let Some(directory) = real_directory() else { return };
    let path = foreign_file(directory.path());
    let target = unchecked(&path, Access::Direct, Contents::Foreign);
    cut(&path);
    // Short reads have no number. Populating says what a touch would be
    // killed for.
    each_fails(&target, |id| match id {
        "mmap-populate" => libc::EFAULT,
        _ => 0,
    });
}

fn cut(path: &Path) {
    let file = File::options().write(true).open(path).expect("open");
    file.set_len(LEFT_BYTES).expect("truncate");
}

/// The file behind a loop device ends early: the device says EIO, as a broken
/// disk does. Needs root.
#[test]
fn a_device_that_cannot_read() {
    let _alone = alone();
    let Some(directory) = real_directory() else { return };
    let path = foreign_file(directory.path());
    let device = match LoopDevice::attach(&path) {
        Ok(device) => device,
        Err(error) => {
            skip(&format!("no loop device: {error}"));
            return;
        }
    };
    let session =
        prepare_sized(&request(Some(&device.node), directory.path()), 0);
    let session = session.expect("a good device");
    let target = target_of(session.as_ref());
    cut(&path);
    each_fails(&target, |id| match id {
        "mmap-populate" => libc::EFAULT,
        _ => libc::EIO,
    });
}

/// The file behind a loop device takes no more writes: the device says EIO, as
/// a drive does that is worn out. Needs root.
#[test]
fn a_device_that_cannot_write() {
    let _alone = alone();
    let Some(directory) = real_directory() else { return };
    let file = memory(TARGET_BYTES).expect("memory");
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    let device = match LoopDevice::attach(&path) {
        Ok(device) => device,
        Err(error) => {
            skip(&format!("no loop device: {error}"));
            return;
        }
    };
    let experiments = [
        "storage/randwrite-4k depth=1 op_bytes=4096 pattern=random",
        "storage/randwrite-4k depth=32 op_bytes=4096 pattern=random",
        "storage/durable-write-4k depth=1 o_direct=yes op_bytes=4096 \
         pattern=sequential",
    ]
    .map(experiment);
    let behind = file.metadata().expect("metadata");
    let mut request = request(Some(&device.node), directory.path());
    request.experiments = experiments.iter().map(Experiment::key).collect();
    request.allow_destroy =
        Some(format!("loop-{:x}-{}", behind.dev(), behind.ino()));
    let session = prepare_sized(&request, TARGET_BYTES).expect("a good device");
    refuse_writes(&file).expect("nothing maps it");
    for experiment in &experiments {
        let own = session.own(&experiment.key()).expect("not refused");
        let target = target_of(own.expect("it writes"));
        let mut ran = 0;
        for variant in &experiment.variants {
            if variant.role == Role::Bound
                || !is_available(experiment, variant, &target)
            {
                continue;
            }
            let what = format!("{} {}", experiment.key(), variant.id);
            match failure_of(experiment, variant, &target) {
                TrialError::Op { operation, errno, offset, bytes } => {
                    let what = format!("{what}: {operation} {offset}");
                    assert_eq!((errno, bytes), (libc::EIO, 4096), "{what}");
                    assert!(offset < TARGET_BYTES, "{what}");
                }
                other => panic!("{what}: {other:?}"),
            }
            ran += 1;
        }
        assert!(ran > 1, "blocking writes run everywhere");
    }
}

#[test]
fn a_file_that_is_deleted_is_read_on() {
    let _alone = alone();
    let Some(directory) = real_directory() else { return };
    let path = foreign_file(directory.path());
    let session = prepare_sized(&request(Some(&path), directory.path()), 0)
        .expect("a good file");
    let target = target_of(session.as_ref());
    let experiment =
        experiment("storage/randread-4k depth=1 op_bytes=4096 pattern=random");
    let pread = variant(&experiment, "pread");
    let outcome = thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(200));
            fs::remove_file(&path).expect("unlink");
        });
        run_on(&pread, &experiment.params, &target, WINDOW_MS)
    });
    assert!(outcome.expect("held open").ops() > 0);
    // So is the next trial, which opens what the runner holds.
    let again = run_on(&pread, &experiment.params, &target, WINDOW_MS);
    assert!(again.expect("held open").ops() > 0);
}

/// A target to write, of which the file system has room for a part: a file
/// without a name, as the run's are.
fn without_room(path: &Path) -> (File, Target) {
    let mut options = File::options();
    let file = options.read(true).write(true).create_new(true).open(path);
    let file = file.expect("a file");
    fs::remove_file(path).expect("unlink");
    file.set_len(TARGET_BYTES).expect("a hole");
    let held = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    let target = unchecked(&held, Access::Buffered, Contents::Foreign);
    (file, Target { writable: Some(Writable::default()), ..target })
}

#[test]
fn a_file_system_without_room_needs_root() {
    let _alone = alone();
    let Some(directory) = real_directory() else { return };
    in_a_namespace(|| {
        let place = directory.path();
        let size = format!("size={LEFT_BYTES}");
        mount(Path::new("none"), place, "tmpfs", 0, &size).expect("a tmpfs");
        let (_held, target) = without_room(&place.join("target"));
        for direct in ["no", "yes"] {
            let key = format!(
                "storage/durable-write-4k depth=1 o_direct={direct} \
                 op_bytes=4096 pattern=sequential"
            );
            let experiment = experiment(&key);
            for variant in &experiment.variants {
                if is_available(&experiment, variant, &target) {
                    no_space(&experiment, variant, &target);
                }
            }
        }
    });
}

fn no_space(experiment: &Experiment, variant: &Variant, target: &Target) {
    match failure_of(experiment, variant, target) {
        TrialError::Op { operation, errno, offset, bytes } => {
            let what = format!("{}: {operation} {offset}", variant.id);
            assert_eq!((errno, bytes), (libc::ENOSPC, 4096), "{what}");
            assert_eq!(offset, LEFT_BYTES, "{what}");
        }
        // Before Linux 6.6.
        TrialError::Setup(text) if text.contains("os error 22") => {
            skip("no O_DIRECT on tmpfs");
        }
        other => panic!("{}: {other:?}", variant.id),
    }
}

#[test]
fn a_write_that_falls_short_or_finds_the_file_full() {
    let _alone = alone();
    let Some(directory) = real_directory() else { return };
    let (_held, target) = without_room(&directory.path().join("target"));
    let params = experiment(
        "storage/durable-write-4k depth=1 o_direct=no op_bytes=4096 \
         pattern=sequential",
    )
    .params;
    let target = serde_json::to_value(target).expect("json");
    let trial = trial(&params, target, cpus(1), WINDOW_MS);
    let sink = Sink::of(&trial).expect("writable");
    let place = Place {
        thread: 0,
        cpu: trial.cpus()[0],
        numa_node: None,
        seed: 1,
        clock: trial.spec.clock,
    };
    for call in [
        Call::WriteThenSync,
        Call::WriteToDsyncFile,
        Call::WriteWithDsync,
        Call::WriteOnly,
    ] {
        // The second write has room for 512 bytes, the third for none.
        let mut writes =
            BlockingWrites::new(&sink, call, &place).expect("memory");
        let mut recorder = Recorder::prepare(trial.spec.clock, 1, true);
        let limit = BLOCK_BYTES as u64 + 512;
        let mut errors = Vec::new();
        with_file_size_limit(limit, || {
            for _ in 0..3 {
                errors.extend(writes.round(&mut recorder).err());
            }
        });
        let [short, full] = &errors[..] else { panic!("{errors:?}") };
        let seen = [short, full].map(|error| match error {
            TrialError::Op { operation, errno, offset, bytes } => {
                assert_eq!(*bytes, 4096, "{error}");
                (operation.contains("short: 512 of 4096"), *errno, *offset)
            }
            other => panic!("{other:?}"),
        });
        let expected = [(true, 0, 4096), (false, libc::EFBIG, 8192)];
        assert_eq!(seen, expected, "{call:?}");
    }
}
