//! Targets that a session refuses, each with what was seen and what to do; and
//! what a worker does not write to, whoever asks.

mod support;

use std::{
    ffi::CString,
    fs::{self, File},
    io::Read,
    os::{
        fd::AsRawFd,
        unix::{ffi::OsStrExt, fs::PermissionsExt, net::UnixListener},
    },
    path::{Path, PathBuf},
};

use bench_storage::{
    SUITE,
    experiments::WRITING,
    target::{Access, Contents, Target, Writable, prepare_sized},
};
use harness::{
    run::filter::SWEEP,
    suite::{Params, Refusal, RefusalKind},
};
use support::{
    TARGET_BYTES, alone, cpus, foreign_file, is_tmpfs, real_directory, request,
    skip, trial, unchecked,
};

/// Both entry points must refuse alike.
fn refused(target: &Path) -> Refusal {
    let request = request(Some(target), Path::new("/nonexistent"));
    let refusal = prepare_sized(&request, TARGET_BYTES).expect_err("refused");
    let forecast = (SUITE.forecast)(&request).expect_err("refused");
    assert_eq!(forecast.kind, refusal.kind);
    assert!(!refusal.remedy.is_empty());
    let name = target.to_string_lossy();
    assert!(refusal.what.contains(&*name), "{refusal}");
    refusal
}

/// Runs on a thread that has given up root, if this is root: credentials are
/// each thread's own in the kernel.
fn as_nobody<T: Send>(f: impl FnOnce() -> T + Send) -> T {
    const NOBODY: libc::c_long = 65_534;
    std::thread::scope(|scope| {
        let handle = scope.spawn(|| {
            // SAFETY: the raw system call changes this thread's credentials
            // only (setresuid(2), C library/kernel differences), and the
            // thread ends with the test.
            unsafe {
                libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY)
            };
            f()
        });
        handle.join().expect("no panic")
    })
}

#[test]
fn memory_file_systems() {
    let shm = Path::new("/dev/shm");
    if !is_tmpfs(shm) {
        return;
    }
    let refusal = refused(shm);
    assert_eq!(refusal.kind, RefusalKind::Environment);
    assert!(refusal.what.contains("tmpfs (mounted at /dev/shm)"));
    assert!(refusal.remedy.contains("--target DIR"), "{refusal}");

    // Its length alone: a container may have 64 MiB there in all.
    let file = tempfile::NamedTempFile::new_in(shm).expect("a file");
    file.as_file().set_len(64 << 20).expect("its length");
    let refusal = refused(file.path());
    assert_eq!(refusal.kind, RefusalKind::Environment);
    assert!(refusal.what.contains("tmpfs"), "{refusal}");
}

#[test]
fn a_missing_file() {
    let refusal = refused(Path::new("/nonexistent/file"));
    assert_eq!(refusal.kind, RefusalKind::Usage);
    assert!(refusal.what.contains("ENOENT"), "{refusal}");
}

#[test]
fn things_that_are_neither_file_nor_block_device() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let fifo = directory.path().join("fifo");
    let name = CString::new(fifo.as_os_str().as_bytes()).expect("no NUL");
    // SAFETY: the string is terminated and lives through the call.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o600) }, 0);
    let socket = directory.path().join("socket");
    let _listener = UnixListener::bind(&socket).expect("bind");
    for (path, kind) in [
        (fifo.as_path(), "a FIFO"),
        (socket.as_path(), "a socket"),
        (Path::new("/dev/zero"), "a character device"),
    ] {
        let refusal = refused(path);
        assert_eq!(refusal.kind, RefusalKind::Usage);
        assert!(refusal.what.ends_with(kind), "{refusal}");
    }
}

#[test]
fn files_that_are_too_small_or_full_of_holes() {
    let Some(directory) = real_directory() else { return };
    let small = directory.path().join("small");
    std::fs::write(&small, vec![1; 1 << 20]).expect("write");
    let refusal = refused(&small);
    assert_eq!(refusal.kind, RefusalKind::Usage);
    assert!(refusal.what.contains("1 MiB"), "{refusal}");
    assert!(refusal.what.contains("64 MiB"), "{refusal}");

    let hole = directory.path().join("hole");
    let file = std::fs::File::create(&hole).expect("create");
    file.set_len(1 << 30).expect("a hole");
    let refusal = refused(&hole);
    assert_eq!(refusal.kind, RefusalKind::Environment);
    assert!(refusal.what.contains("1 GiB"), "{refusal}");
    assert!(refusal.what.contains("holes"), "{refusal}");
}

#[test]
fn what_may_not_be_read_or_written() {
    let Some(directory) = real_directory() else { return };
    // Others may look inside, nobody but the owner may write.
    let open = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(directory.path(), open).expect("chmod");
    let file = foreign_file(directory.path());
    let closed = std::fs::Permissions::from_mode(0o000);
    std::fs::set_permissions(&file, closed).expect("chmod");
    let reachable = as_nobody(|| std::fs::metadata(&file).is_ok());
    if !reachable {
        skip("nobody may not enter the directory of this test");
        return;
    }
    let refusal = as_nobody(|| refused(&file));
    assert_eq!(refusal.kind, RefusalKind::Environment);
    assert!(refusal.what.contains("EACCES"), "{refusal}");
    assert!(refusal.remedy.contains("group `disk`"), "{refusal}");

    let writable = as_nobody(|| {
        std::fs::write(directory.path().join("probe"), "").is_ok()
    });
    if writable {
        skip("this user is not nobody and may write");
        return;
    }
    let refusal = as_nobody(|| refused(directory.path()));
    assert_eq!(refusal.kind, RefusalKind::Environment);
    assert!(refusal.what.contains("EACCES"), "{refusal}");
}

/// What a worker says of a specification that was made by hand: none of those
/// that write does so.
fn no_worker_writes(path: &Path, words: &str) {
    let target = Target {
        writable: Some(Writable::default()),
        ..unchecked(path, Access::Direct, Contents::Foreign)
    };
    let target = serde_json::to_value(target).expect("json");
    let mut trial = trial(&Params::default(), target, cpus(2), 50);
    let mut tried = 0;
    for experiment in (SUITE.experiments)() {
        // Points of a sweep are the same at other settings.
        if !WRITING.contains(&experiment.id) || experiment.tags.contains(&SWEEP)
        {
            continue;
        }
        trial.spec.params = experiment.params.clone();
        for variant in &experiment.variants {
            // A bound, which has no target.
            if variant.id == "nop" {
                continue;
            }
            let Err(error) = (variant.worker)(&trial) else {
                panic!("{} {} wrote", experiment.id, variant.id)
            };
            let text = format!("{} {}: {error}", experiment.id, variant.id);
            assert!(text.contains("may not be written"), "{text}");
            assert!(text.contains(words), "{text}");
            tried += 1;
        }
    }
    assert!(tried > 10, "{tried}");
}

#[test]
fn no_worker_writes_to_what_the_run_did_not_make() {
    let _alone = alone();
    let Some(directory) = real_directory() else { return };
    let path = directory.path().join("somebodys");
    let before = vec![7; 16 << 20];
    fs::write(&path, &before).expect("a file");
    no_worker_writes(&path, "is no descriptor");
    let mut options = File::options();
    let inherited = options.read(true).write(true).open(&path).expect("open");
    no_worker_writes(&below_proc(&inherited), "a file with a name");
    let to_read = File::open(&path).expect("open");
    assert!(fs::read(&path).expect("read") == before);
    // Without a name it could be the run's.
    fs::remove_file(&path).expect("unlink");
    no_worker_writes(&below_proc(&to_read), "not inherited open for");
    let mut now = Vec::new();
    (&to_read).read_to_end(&mut now).expect("read");
    assert!(now == before);
    drop((to_read, inherited));
    no_worker_writes(Path::new("/dev/null"), "is no descriptor");
}

fn below_proc(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}
