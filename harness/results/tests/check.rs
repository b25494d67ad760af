//! `check` agrees with an honest directory and finds each kind of edit.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::run;
use results::check::check;
use results::compare::derive_directory;
use results::reader::read_metrics;
use results::schema::{Part, RunFile, Status, Steady};
use results::writer::write_compare;

fn written(root: &Path) -> PathBuf {
    let path = run()
        .blocks(8)
        .sessions(2)
        .experiment("randread-4k", 32, 70_000.0)
        .bounded("uring", 1.2, "nop-ring", 4.0)
        .skipped("nvme-passthrough", "no /dev/ng0n1; attach a namespace")
        .experiment("seqread", 1, 700.0)
        .contender("uring", 1.0)
        .alter(|row| {
            if row.block == Some(4) && row.attempt == Some(1) {
                row.status = Status::Invalid;
                row.reasons = "steal_ns=9000000".to_owned();
            }
        })
        .write(root);
    let (derived, torn) = derive_directory(&path).unwrap();
    assert!(torn.is_empty());
    write_compare(&path, &derived.rows).unwrap();
    path
}

/// The problems after a file was changed by a replacement.
fn problems_after(file: &str, from: &str, to: &str) -> String {
    let root = tempfile::tempdir().unwrap();
    let path = written(root.path());
    let file = path.join(file);
    let text = fs::read_to_string(&file).unwrap();
    let edited = text.replacen(from, to, 1);
    assert_ne!(text, edited, "{from} is in the file");
    fs::write(&file, edited).unwrap();
    let report = check(&path);
    assert!(!report.is_clean());
    report.to_string()
}

#[test]
fn an_honest_directory_is_clean() {
    let root = tempfile::tempdir().unwrap();
    let path = written(root.path());
    let report = check(&path);
    assert!(report.is_clean(), "{report}");
    assert!(report.notes.is_empty(), "{report}");
    // 2 sessions of 9 attempts with 4 and 3 trials, 3 bounds and 1 skip.
    let bounds_and_skip = 4;
    assert_eq!(report.trials, 2 * (9 * (3 + 3) + bounds_and_skip));
    let text = report.to_string();
    let says = format!("{} rows derived again: all agree", report.rows);
    assert!(text.contains(&says), "{text}");
    let again = check(&path).to_string();
    assert_eq!(text, again);
}

#[test]
fn a_verdict_or_figure_changed_is_found() {
    let text = problems_after("compare.csv", ",faster,", ",same,");
    assert!(text.contains("compare.csv:3: column verdict"), "{text}");
    assert!(text.contains("\"same\", the trials give \"faster\""), "{text}");
    assert!(text.contains("believe trials.csv"), "{text}");

    let text = problems_after("compare.csv", "uring", "uring2");
    assert!(text.contains("follows from no trials"), "{text}");
    assert!(text.contains("the row of uring on ops_per_s"), "{text}");
}

#[test]
fn the_threshold_changed_afterwards_is_found() {
    let root = tempfile::tempdir().unwrap();
    let path = written(root.path());
    let mut run_file = RunFile::read(&path).unwrap();
    run_file.settings.practical_ratio = 0.5;
    run_file.write(&path).unwrap();
    let text = check(&path).to_string();
    assert!(text.contains("column verdict holds \"faster\""), "{text}");
}

#[test]
fn a_rate_that_does_not_follow_from_its_integers_is_found() {
    let root = tempfile::tempdir().unwrap();
    let path = run()
        .blocks(6)
        .experiment("randread-4k", 32, 70_000.0)
        .alter(|row| {
            let place = (row.block, row.variant.as_str());
            if place == (Some(2), "pread-pool") {
                row.ops_per_s = row.ops_per_s.map(|r| r * (1.0 + 1e-8));
            }
            if place == (Some(3), "pread-pool") {
                row.cpu_ns = None;
            }
        })
        .write(root.path());
    let report = check(&path);
    let problems = report.problems.join("\n");
    assert_eq!(report.problems.len(), 3, "{problems}");
    assert!(problems.contains("column ops_per_s holds"), "{problems}");
    assert!(problems.contains("cpu_per_op_ns"), "{problems}");
    assert!(problems.contains("without its integers"), "{problems}");
    assert!(report.notes[0].contains("compare.csv"), "{report}");
}

#[test]
fn rows_and_runs_that_do_not_belong_together_are_found() {
    let text = problems_after("trials.csv", ",baseline,", ",contender,");
    assert!(text.contains("is baseline here, contender before"), "{text}");

    let text = problems_after("run.json", "1a2b3c4d", "9f9f9f9f");
    assert!(text.contains("in the directory of"), "{text}");
    assert!(text.contains("more problems in trials.csv"), "{text}");
    assert!(text.contains("metrics.csv has rows of run"), "{text}");

    let text = problems_after("metrics.csv", ",lower,", ",less,");
    assert!(text.contains("metrics.csv:2: column better"), "{text}");

    let text = problems_after("trials.csv", ",ok,", ",good,");
    assert_eq!(text.matches("column status").count(), 1, "{text}");
}

#[test]
fn a_histogram_that_is_not_the_trials_is_found() {
    let root = tempfile::tempdir().unwrap();
    let path = written(root.path());
    let log = path.join("hist/storage-seqread-depth=1.hlog");
    let text = fs::read_to_string(&log).unwrap();
    let mut lines: Vec<_> = text.lines().collect();
    lines.remove(4);
    fs::write(&log, lines.join("\n") + "\n").unwrap();
    let report = check(&path);
    assert_eq!(report.problems.len(), 1, "{report}");
    assert!(report.problems[0].contains("latency_count"), "{report}");
    fs::remove_file(&log).unwrap();
    let report = check(&path);
    assert_eq!(report.problems.len(), 1, "{report}");
    assert!(report.problems[0].contains("seqread"), "{report}");
}

/// A run that came to its end, with what `change` did to its files since.
fn finished_and(change: impl Fn(&Path)) -> String {
    let root = tempfile::tempdir().unwrap();
    let path = written(root.path());
    let mut run_file = RunFile::read(&path).unwrap();
    let ended = Some("2026-11-21T05:45:00Z".to_owned());
    run_file.parts = vec![Part { finished_at_utc: ended, ..Part::default() }];
    run_file.metric_rows = Some(read_metrics(&path).unwrap().count() as u64);
    run_file.write(&path).unwrap();
    let report = check(&path);
    assert!(report.is_clean(), "{report}");
    change(&path);
    let report = check(&path);
    assert!(!report.is_clean(), "{report}");
    report.to_string()
}

#[test]
fn a_file_cut_short_is_found() {
    let header = |text: &str| text.find('\n').unwrap() + 1;
    for (file, says) in [
        ("metrics.csv", "rows, 114 when the run ended"),
        ("windows.csv", "windows.csv has no rows of trial"),
    ] {
        for part in ["some", "header", "nothing"] {
            let text = finished_and(|path| {
                let path = path.join(file);
                let text = fs::read_to_string(&path).unwrap();
                let end = match part {
                    "some" => text.len() / 2,
                    "header" => header(&text),
                    _ => 0,
                };
                fs::write(&path, &text[..end]).unwrap();
            });
            assert!(text.contains(says), "{file} {part}: {text}");
        }
    }
    let text = finished_and(|path| {
        let log = path.join("hist/storage-seqread-depth=1.hlog");
        fs::write(log, "").unwrap();
    });
    assert!(text.contains("holds 100, 0 are in the histogram"), "{text}");
}

#[test]
fn a_percentile_that_is_not_the_histograms_is_found() {
    let text = finished_and(|path| {
        let file = path.join("trials.csv");
        let text = fs::read_to_string(&file).unwrap();
        let mut table = csv::Reader::from_reader(text.as_bytes());
        let headers = table.headers().unwrap();
        let p50 = headers.iter().position(|c| c == "latency_p50_ns");
        let mut rows = table.records().map(|row| row.unwrap());
        let row = rows.find(|row| !row[p50.unwrap()].is_empty());
        let cell = row.unwrap()[p50.unwrap()].to_owned();
        let half = (cell.parse::<u64>().unwrap() / 2).to_string();
        let edited =
            text.replacen(&format!(",{cell},"), &format!(",{half},"), 1);
        fs::write(&file, edited).unwrap();
        // Nothing derived from it is left to give it away.
        let (derived, _) = derive_directory(path).unwrap();
        write_compare(path, &derived.rows).unwrap();
    });
    assert!(text.contains("column latency_p50_ns holds"), "{text}");
}

#[test]
fn verdicts_removed_from_a_finished_run_are_missed() {
    let text = finished_and(|path| {
        fs::remove_file(path.join("compare.csv")).unwrap();
    });
    assert!(text.contains("ended at 2026-11-21T05:45:00Z"), "{text}");
}

#[test]
fn a_window_of_nothing_is_found() {
    let text = finished_and(|path| {
        let mut run_file = RunFile::read(path).unwrap();
        run_file.settings.window_ns = 0;
        run_file.write(path).unwrap();
    });
    assert!(text.contains("window_ns is 0"), "{text}");
}

#[test]
fn carriage_returns_are_found() {
    let text = finished_and(|path| {
        let file = path.join("trials.csv");
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, text.replace('\n', "\r\n")).unwrap();
    });
    assert!(text.contains("\"hist_tag\\r\""), "{text}");
}

#[cfg(unix)]
#[test]
fn a_fifo_is_not_waited_for() {
    let text = finished_and(|path| {
        let file = path.join("compare.csv");
        fs::remove_file(&file).unwrap();
        let made = std::process::Command::new("mkfifo").arg(&file).status();
        // Where it cannot be made, a directory is no regular file either.
        if !made.is_ok_and(|status| status.success()) {
            fs::create_dir(&file).unwrap();
        }
    });
    assert!(text.contains("not a regular file"), "{text}");
}

#[test]
fn what_is_missing_is_one_clear_message() {
    let root = tempfile::tempdir().unwrap();
    let text = check(root.path()).to_string();
    assert!(text.contains("run.json"), "{text}");
    assert!(text.contains("trials.csv"), "{text}");

    let path = written(root.path());
    fs::remove_file(path.join("compare.csv")).unwrap();
    let report = check(&path);
    assert!(report.is_clean(), "an unfinished run is no forgery");
    assert!(report.notes[0].contains("resume"), "{report}");
}

#[test]
fn an_attempt_left_out_is_found() {
    let root = tempfile::tempdir().unwrap();
    let path = run()
        .blocks(6)
        .experiment("randread-4k", 32, 70_000.0)
        .alter(|row| {
            if row.block == Some(2) {
                row.attempt = row.attempt.map(|a| a + 1);
            }
        })
        .write(root.path());
    let report = check(&path);
    let problems = report.problems.join("\n");
    assert!(problems.contains("attempt 2 at a block, expected 1"));
}

/// The example that is committed, and every run before this column.
#[test]
fn an_older_file_may_lack_the_last_column() {
    let root = tempfile::tempdir().unwrap();
    let path = run()
        .blocks(8)
        .experiment("randwrite-4k", 32, 70_000.0)
        .contender("uring", 1.2)
        .alter(|row| row.path = "preconditioned=written once".to_owned())
        .write(root.path());
    let (derived, _) = derive_directory(&path).unwrap();
    write_compare(&path, &derived.rows).unwrap();
    assert_eq!(derived.rows[0].steady, Some(Steady::Yes));
    let file = path.join("compare.csv");
    let text = fs::read_to_string(&file).unwrap();
    let older: String = text
        .lines()
        .map(|line| line.rsplit_once(',').unwrap().0.to_owned() + "\n")
        .collect();
    fs::write(&file, older).unwrap();
    let report = check(&path);
    assert!(report.is_clean(), "{report}");
    fs::write(&file, text.replacen(",yes\n", ",no\n", 1)).unwrap();
    let report = check(&path).to_string();
    assert!(report.contains("column steady holds \"no\""), "{report}");
}
