//! A run whose user may lock little memory, as that user sees it: variants
//! that cannot be had are skipped with the limit and how to raise it, one that
//! finds less than its probe did ends as an error, the run goes on, and the
//! exit code says which it was.

use std::{
    fs,
    io::{self, BufRead, BufReader, Read},
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::{fs::PermissionsExt, process::CommandExt},
    },
    path::Path,
    process::{Command, Stdio},
    thread,
};

const BYPASS: &str = env!("CARGO_BIN_EXE_bypass");

/// The least that is measured.
const TARGET_BYTES: usize = 64 << 20;

/// Who has no right to lock more than the limit, where the test runs as root.
const NOBODY: u32 = 65_534;

/// Enough for every ring of one op, and little enough for anybody to hold.
const LIMIT_BYTES: u64 = 512 << 10;

fn skip(reason: &str) {
    let test = thread::current().name().unwrap_or("test").to_owned();
    eprintln!("SKIPPED {test}: {reason}");
}

fn is_root() -> bool {
    // SAFETY: the call takes nothing and cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// A target and a place for results, open to anybody.
fn scratch() -> tempfile::TempDir {
    let scratch = tempfile::Builder::new()
        .prefix("bypass-memlock-")
        .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
        .expect("temporary directory");
    let target = scratch.path().join("target");
    // Of one byte repeated, a block would count as blank.
    let block: Vec<u8> = (0..=u8::MAX).collect();
    let contents = block.repeat(TARGET_BYTES / block.len());
    fs::write(&target, contents).expect("a target");
    fs::File::open(&target).and_then(|f| f.sync_all()).expect("sync");
    let results = scratch.path().join("results");
    fs::create_dir(&results).expect("a directory");
    for (path, mode) in [(scratch.path(), 0o755), (&results, 0o777)] {
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(path, mode).expect("chmod");
    }
    scratch
}

/// Blocking, kernel-asynchronous and registered reads, one at a time, by a user
/// who may lock so much.
fn limited(scratch: &Path, limit_bytes: u64) -> Command {
    let mut command = Command::new(BYPASS);
    command
        .args(["run", "storage/ladder/aio", "storage/ladder/uring-fixed"])
        .args(["depth=1", "--blocks", "8", "--warmup", "20ms"])
        .args(["--window", "20ms", "--seed", "1", "--target"])
        .arg(scratch.join("target"))
        .arg("--results")
        .arg(scratch.join("results"))
        .current_dir("/")
        .env("HOME", scratch)
        .env_remove("XDG_RUNTIME_DIR")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // SAFETY: setrlimit is async-signal-safe and its argument lives on the
    // child's own stack.
    unsafe {
        command.pre_exec(move || {
            let limit =
                libc::rlimit { rlim_cur: limit_bytes, rlim_max: limit_bytes };
            match libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            }
        });
    }
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// `trials.csv` of the one run.
fn rows(scratch: &Path) -> String {
    let mut runs = fs::read_dir(scratch.join("results")).expect("results");
    let run = runs.next().expect("a run").expect("its entry");
    fs::read_to_string(run.path().join("trials.csv")).expect("trials.csv")
}

fn rows_of<'a>(rows: &'a str, variant: &str, status: &str) -> Vec<&'a str> {
    let (variant, status) = (format!(",{variant},"), format!(",{status},"));
    let is_one = |r: &&str| r.contains(&variant) && r.contains(&status);
    rows.lines().filter(is_one).collect()
}

/// The variants that lock nothing were measured, to the last block. A busy
/// machine may void all of it, and then each block ends with its first trial.
fn ran(rows: &str, told: &str) {
    for id in ["pread", "aio"] {
        let measured = ["ok", "nonsteady", "invalid"];
        let any = measured.iter().any(|s| !rows_of(rows, id, s).is_empty());
        assert!(any, "{id}: {told}{rows}");
    }
    assert!(told.contains("block 8/8"), "{told}{rows}");
}

#[test]
fn what_cannot_be_locked_is_skipped_and_the_rest_runs() {
    let scratch = scratch();
    let output = match limited(scratch.path(), 0).output() {
        Ok(output) => output,
        Err(error) => {
            skip(&format!("another user cannot run it: {error}"));
            return;
        }
    };
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let rows = rows(scratch.path());
    let skipped = rows_of(&rows, "uring-fixed", "skipped");
    let [skipped] = skipped[..] else { panic!("{rows}{told}") };
    if !skipped.contains("ENOMEM") {
        skip(&format!("no ring is to be had here at all: {skipped}"));
        return;
    }
    assert!(skipped.contains("RLIMIT_MEMLOCK is 0 bytes"), "{skipped}");
    assert!(skipped.contains("ulimit -l unlimited"), "{skipped}");
    ran(&rows, &told);
    // A busy machine voids trials, and has its own say in the exit code.
    let is_busy = rows.contains(",invalid,");
    let code = output.status.code();
    assert!(code == Some(0) || is_busy && code == Some(4), "{told}{rows}");
}

/// A ring and its buffer, which count against that user's limit.
struct Held {
    _ring: OwnedFd,
    _buffer: Box<[u8]>,
}

/// Locks all that is left to the user of `limited`. On a thread of its own,
/// whose user it changes.
fn hold_all() -> io::Result<Held> {
    let work = || {
        if is_root() {
            // SAFETY: the raw system call changes this thread's user alone
            // (setresuid(2), "C library/kernel differences").
            told(unsafe {
                libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY)
            })?;
        }
        register(vec![0; 512 << 10].into_boxed_slice())
    };
    thread::scope(|scope| scope.spawn(work).join().expect("no panic"))
}

/// IORING_REGISTER_BUFFERS, linux/io_uring.h.
const REGISTER_BUFFERS: u32 = 0;

fn register(mut buffer: Box<[u8]>) -> io::Result<Held> {
    // `struct io_uring_params` has 120 bytes.
    let mut params = [0_u64; 15];
    // SAFETY: the structure is live and of the kernel's size.
    let ring = told(unsafe {
        libc::syscall(libc::SYS_io_uring_setup, 2, params.as_mut_ptr())
    })?;
    let ring = i32::try_from(ring).expect("a descriptor");
    // SAFETY: the kernel has just returned it to us alone.
    let ring = unsafe { OwnedFd::from_raw_fd(ring) };
    let range = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: the one range is live, and so is the memory that it names, for
    // as long as the ring is open; nothing is ever submitted.
    told(unsafe {
        libc::syscall(
            libc::SYS_io_uring_register,
            ring.as_raw_fd(),
            REGISTER_BUFFERS,
            &raw const range,
            1,
        )
    })?;
    Ok(Held { _ring: ring, _buffer: buffer })
}

fn told(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[test]
fn what_is_locked_by_others_meanwhile_ends_trials_as_errors_and_not_the_run() {
    let scratch = scratch();
    let mut child = match limited(scratch.path(), LIMIT_BYTES).spawn() {
        Ok(child) => child,
        Err(error) => {
            skip(&format!("another user cannot run it: {error}"));
            return;
        }
    };
    let mut progress = BufReader::new(child.stderr.take().expect("stderr"));
    let mut said = String::new();
    // It ends, whatever it says.
    while !said.contains("block 1/") {
        if progress.read_line(&mut said).expect("UTF-8") == 0 {
            break;
        }
    }
    // What the run's own rings have locked by now is not ours to hold.
    let held = hold_all();
    progress.read_to_string(&mut said).expect("UTF-8");
    let output = child.wait_with_output().expect("bypass");
    let rows = rows(scratch.path());
    if let Err(error) = &held {
        skip(&format!("this user cannot hold {LIMIT_BYTES} bytes: {error}"));
        return;
    }
    if !rows_of(&rows, "uring-fixed", "skipped").is_empty() {
        skip("the memory was somebody else's before");
        return;
    }
    let failed = rows_of(&rows, "uring-fixed", "error");
    let failed: Vec<_> =
        failed.iter().filter(|row| row.contains("os error 12")).collect();
    // The first did not end the run, and three of them leave the variant out.
    assert!((1..=3).contains(&failed.len()), "{said}{rows}");
    let behind = rows.split(failed[0]).nth(1).expect("it is one of them");
    let mut behind = behind.lines();
    let goes_on = behind.any(|r| r.contains(",pread") || r.contains(",aio,"));
    assert!(goes_on, "{said}{rows}");
    for row in failed {
        let limit = format!("RLIMIT_MEMLOCK is {LIMIT_BYTES} bytes");
        assert!(row.contains(&limit), "{row}");
        assert!(row.contains("ulimit -l unlimited"), "{row}");
    }
    ran(&rows, &said);
    assert_eq!(output.status.code(), Some(4), "{said}{rows}");
}
