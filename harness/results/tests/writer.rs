//! What is written, what is refused, and how that is said.

mod common;

use std::fs;
use std::path::Path;

use common::{Random, Variant, push, run, run_file, trial};
use results::reader::read_trials;
use results::schema::{Role, Settings, Status, TrialRow};
use results::writer::{RunDirectory, RunWriter, WriteError};

fn create(root: &Path) -> RunDirectory {
    let directory =
        RunDirectory::create(root, "20261121T044500Z", "1a2b3c4d", "t")
            .unwrap();
    run_file(&directory, &Settings::default()).write(directory.path()).unwrap();
    directory
}

fn row(name: &'static str, role: Role) -> TrialRow {
    trial(&Variant { name, role, ops_per_s: 5e4, bound: "", blocks: 9 }, 1.0)
}

#[test]
fn numbers_and_places_are_filled_in() {
    let root = tempfile::tempdir().unwrap();
    let directory = create(&root.path().join("with a space"));
    let (mut writer, repaired) = RunWriter::open(directory.clone()).unwrap();
    assert_eq!(repaired.bytes, 0);
    let mut skips = writer.block();
    for name in ["uring", "nvme-passthrough"] {
        skips.push_trial(TrialRow {
            status: Status::Skipped,
            block: None,
            ..row(name, Role::Contender)
        });
    }
    writer.append_block(skips).unwrap();
    let mut block = writer.block();
    assert_eq!(block.next_trial(), 3);
    push(&mut block, row("pread", Role::Baseline), &mut Random(1));
    push(&mut block, row("pread#aa", Role::AaTwin), &mut Random(1));
    writer.append_block(block).unwrap();
    writer.append_block(writer.block()).unwrap();

    let rows: Vec<_> =
        read_trials(directory.path()).unwrap().map(Result::unwrap).collect();
    let places: Vec<_> = rows
        .iter()
        .map(|r| (r.trial, r.position, r.block_trials, r.hist_tag.as_str()))
        .collect();
    assert_eq!(
        places,
        [
            (1, None, None, ""),
            (2, None, None, ""),
            (3, Some(1), Some(2), "t3"),
            (4, Some(2), Some(2), "t4"),
        ]
    );
    assert!(rows.iter().all(|r| r.run_id == directory.run_id()));
}

#[test]
fn text_with_line_breaks_stays_on_one_line() {
    let root = tempfile::tempdir().unwrap();
    let path = run()
        .blocks(1)
        .experiment("randread-4k", 32, 70_000.0)
        .alter(|row| {
            row.reasons = "a \"b\", c;\r\nthen\u{2028}d\0".to_owned();
        })
        .write(root.path());
    let text = fs::read_to_string(path.join("trials.csv")).unwrap();
    assert_eq!(text.matches('\n').count(), 3);
    for row in read_trials(&path).unwrap() {
        let reasons = row.unwrap().reasons;
        assert_eq!(reasons, "a \"b\", c;  then\u{2028}d ");
    }
}

#[test]
fn rows_that_are_no_block_are_refused_and_leave_nothing() {
    let root = tempfile::tempdir().unwrap();
    let directory = create(root.path());
    let (mut writer, _) = RunWriter::open(directory.clone()).unwrap();
    let size =
        || fs::metadata(directory.path().join("trials.csv")).unwrap().len();
    let before = size();

    let mut mixed = writer.block();
    mixed.push_trial(row("pread", Role::Baseline));
    mixed.push_trial(TrialRow {
        block: Some(2),
        ..row("uring", Role::Contender)
    });
    let error = writer.append_block(mixed).unwrap_err();
    assert!(error.to_string().contains("several blocks"), "{error}");

    let mut infinite = writer.block();
    infinite.push_trial(TrialRow {
        busy_cpus: Some(f64::INFINITY),
        ..row("pread", Role::Baseline)
    });
    let error = writer.append_block(infinite).unwrap_err();
    assert!(error.to_string().contains("busy_cpus"), "{error}");

    let mut first = writer.block();
    let mut stale = writer.block();
    first.push_trial(row("pread", Role::Baseline));
    stale.push_trial(row("pread", Role::Baseline));
    writer.append_block(first).unwrap();
    let after = size();
    let error = writer.append_block(stale).unwrap_err();
    assert!(matches!(error, WriteError::Contradiction { .. }), "{error}");
    assert!(before < after);
    assert_eq!(size(), after);
}

#[test]
fn two_writers_at_a_time_are_one_too_many() {
    let root = tempfile::tempdir().unwrap();
    let directory = create(root.path());
    let (writer, _) = RunWriter::open(directory.clone()).unwrap();
    let error = RunWriter::open(directory.clone()).unwrap_err();
    assert!(matches!(error, WriteError::Busy { .. }), "{error}");
    drop(writer);
    RunWriter::open(directory).unwrap();
}

#[test]
fn a_damaged_run_is_not_added_to() {
    let root = tempfile::tempdir().unwrap();
    let path = run()
        .blocks(2)
        .experiment("randread-4k", 32, 70_000.0)
        .write(root.path());
    let file = path.join("trials.csv");
    let text = fs::read_to_string(&file).unwrap();
    fs::write(&file, text.replacen(",ok,", ",OK,", 1)).unwrap();
    let directory = RunDirectory::open(&path).unwrap();
    let error = RunWriter::open(directory).unwrap_err();
    assert!(matches!(error, WriteError::Damaged(_)), "{error}");
    assert_eq!(
        fs::metadata(&file).unwrap().len(),
        text.len() as u64,
        "nothing was cut off"
    );
}

/// A root user may write anywhere, so a directory in the place of a file
/// stands in for one without permission.
#[test]
fn what_cannot_be_written_is_named() {
    let root = tempfile::tempdir().unwrap();
    let directory = create(root.path());
    fs::create_dir(directory.path().join("metrics.csv")).unwrap();
    let error = RunWriter::open(directory).unwrap_err();
    assert!(error.to_string().contains("metrics.csv"), "{error}");
}

/// `/dev/full` says "no space left" to every write.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_told_with_path_bytes_and_next_step() {
    let root = tempfile::tempdir().unwrap();
    let directory = create(root.path());
    let (mut writer, _) = RunWriter::open(directory.clone()).unwrap();
    let logs = directory.path().join("hist");
    let log = logs.join("storage-randread-4k.hlog");
    std::os::unix::fs::symlink("/dev/full", log).unwrap();
    let mut block = writer.block();
    push(&mut block, row("pread", Role::Baseline), &mut Random(1));
    let error = writer.append_block(block).unwrap_err();
    let text = error.to_string();
    let WriteError::NoSpace { wanted_bytes, .. } = error else {
        panic!("{text}");
    };
    assert!(wanted_bytes > 100, "{text}");
    assert!(text.contains("storage-randread-4k.hlog"), "{text}");
    assert!(text.contains("free some space and resume"), "{text}");
    assert_eq!(writer.next_trial(), 1, "the block does not count");
    assert_eq!(read_trials(directory.path()).unwrap().count(), 0);
}
