//! A target that fails under a run, as a person sees it: rows that say where
//! and how, a run that goes on, and exit code 4.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    process::{Command, Stdio},
};

const BYPASS: &str = env!("CARGO_BIN_EXE_bypass");

/// The least that is measured.
const TARGET_BYTES: usize = 64 << 20;

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
