//! A target that fails under a run, as a person sees it: rows that say where
//! and how, a run that goes on, and exit code 4.

#[path = "../../../bench-storage/tests/support/loops.rs"]
#[expect(dead_code, reason = "no partitions here")]
mod loops;
#[path = "../../../bench-storage/tests/support/mounts.rs"]
#[expect(dead_code, reason = "what is mounted goes with its namespace")]
mod mounts;

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
    process::{Command, Stdio},
    thread,
};

use loops::LoopDevice;
use mounts::{in_a_namespace, mount};

const BYPASS: &str = env!("CARGO_BIN_EXE_bypass");

/// The least that is measured.
const TARGET_BYTES: usize = 64 << 20;

fn skip(reason: &str) {
    let test = thread::current().name().unwrap_or("test").to_owned();
    eprintln!("SKIPPED {test}: {reason}");
}

#[test]
fn a_file_cut_short_while_running_gives_error_rows_and_exit_code_4() {
    let scratch = tempfile::Builder::new()
        .prefix("bypass-faults-")
        .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
        .expect("temporary directory");
    let target = scratch.path().join("target");
    fs::write(&target, vec![7; TARGET_BYTES]).expect("a target");
    fs::File::open(&target).and_then(|f| f.sync_all()).expect("sync");
    let mut child = Command::new(BYPASS)
        .args(["run", "storage/randread-4k", "depth=1", "--quick"])
        .args(["--window", "30ms", "--target"])
        .arg(&target)
        .arg("--results")
        .arg(scratch.path().join("results"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("bypass");
    let mut progress = BufReader::new(child.stderr.take().expect("stderr"));
    let mut told = String::new();
    // It ends, whatever it says.
    while !told.contains("block 1/") {
        if progress.read_line(&mut told).expect("UTF-8") == 0 {
            break;
        }
    }
    if !told.contains("block 1/") {
        eprintln!("SKIPPED: nothing can be measured here: {told}");
        child.wait().expect("bypass");
        return;
    }
    let file = fs::File::options().write(true).open(&target);
    file.and_then(|f| f.set_len(4096)).expect("truncate");
    progress.read_to_string(&mut told).expect("UTF-8");
    let output = child.wait_with_output().expect("bypass");
    let report = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(4), "{told}{report}");
    assert!(told.contains("at offset "), "{told}");

    let run = fs::read_dir(scratch.path().join("results"))
        .expect("results")
        .flatten()
        .next()
        .expect("one run");
    let rows = fs::read_to_string(run.path().join("trials.csv"));
    let rows = rows.expect("trials.csv");
    // On a busy machine others may have failed to begin in time.
    let failed: Vec<&str> = rows
        .lines()
        .filter(|row| row.contains(",error,"))
        .filter(|row| row.contains("(short: 0 "))
        .collect();
    // It did not end at the first.
    assert!(failed.len() >= 2, "{rows}");
    for row in failed {
        assert!(row.contains("of 4096 bytes at offset "), "{row}");
    }
}

/// What a file system has room for below a loop device of `TARGET_BYTES`:
/// behind that, writes to the device fail.
const ROOM_BYTES: usize = 24 << 20;

/// A drive that goes bad while it is preconditioned, before the first trial.
/// Needs root.
#[test]
fn a_device_that_fails_while_it_is_preconditioned_is_told_and_let_go() {
    let scratch = tempfile::Builder::new()
        .prefix("bypass-faults-")
        .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
        .expect("temporary directory");
    in_a_namespace(|| {
        let place = scratch.path().join("small");
        fs::create_dir(&place).expect("a directory");
        let size = format!("size={ROOM_BYTES}");
        mount(Path::new("none"), &place, "tmpfs", 0, &size).expect("a tmpfs");
        let image = place.join("image");
        let file = fs::File::create(&image).expect("an image");
        file.set_len(TARGET_BYTES as u64).expect("a hole");
        match LoopDevice::attach(&image) {
            Ok(device) => precondition_fails(&device, &image, scratch.path()),
            Err(error) => skip(&format!("no loop device: {error}")),
        }
    });
}

fn precondition_fails(device: &LoopDevice, image: &Path, scratch: &Path) {
    let metadata = fs::metadata(image).expect("the image");
    let word = format!("loop-{:x}-{}", metadata.dev(), metadata.ino());
    let output = Command::new(BYPASS)
        .args(["run", "storage/randread-4k", "depth=1", "--quick"])
        .args(["--precondition", "1", "--allow-destroy", &word, "--target"])
        .arg(&device.node)
        .arg("--results")
        .arg(scratch.join("results"))
        .output()
        .expect("bypass");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{told}");
    let errors: Vec<&str> =
        told.lines().filter(|line| line.starts_with("error: ")).collect();
    let [error] = errors[..] else { panic!("{told}") };
    // Which of the two it is, the loop driver's version decides.
    assert!(error.contains("EIO") || error.contains("ENOSPC"), "{error}");
    assert!(error.contains("writing 131072 bytes at offset "), "{error}");
    let name = device.node.display().to_string();
    assert!(error.contains(&name) && error.contains("dmesg"), "{error}");
    let offset = error.split("at offset ").nth(1).expect("an offset");
    let offset = offset.split(' ').next().and_then(|n| n.parse().ok());
    let offset: usize = offset.expect("a number");
    // Eight pieces are under way at once, of which any may be the first.
    let around = ROOM_BYTES - (2 << 20)..ROOM_BYTES + (2 << 20);
    assert!(around.contains(&offset), "{error}");
    // Nobody holds it any more, and nothing was measured.
    let free = fs::File::options()
        .read(true)
        .custom_flags(libc::O_EXCL)
        .open(&device.node);
    free.expect("it was let go");
    for run in fs::read_dir(scratch.join("results")).into_iter().flatten() {
        let run = run.expect("its entry").path();
        let rows = fs::read_to_string(run.join("trials.csv"));
        let rows = rows.unwrap_or_default();
        assert!(
            rows.lines().skip(1).all(|r| r.contains(",skipped,")),
            "{rows}"
        );
    }
}
