//! `scripts/peers`, with a program in the place of each side whose figures are
//! known: what it makes of them, in the table and in CSV.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// Writes what `bypass run` leaves of a trial. Every third is void.
const OURS: &str = r#"#!/usr/bin/env python3
import csv, json, sys
from pathlib import Path
words = sys.argv[1:]
results = Path(words[words.index("--results") + 1])
variant = words[-2].rpartition("/")[2]
count = Path(__file__).with_name("count")
number = int(count.read_text() if count.exists() else 0) + 1
count.write_text(str(number))
run = results / "run"
run.mkdir(parents=True)
row = {"variant": variant, "trial": 0, "status": "ok", "reasons": "",
       "window_ns": 1_000_000_000, "ops": 110_000 + number, "cpu_ns": 440_000_000,
       "cpu_kernel_threads_ns": 110_000_000, "cpu_interrupts_ns": "",
       "latency_p50_ns": 1000, "latency_p99_ns": 9000,
       "started_at_utc": "2026-11-22T05:00:00Z"}
if number % 3 == 0:
    row |= {"status": "invalid", "reasons": "busy", "ops": 1}
with open(run / "trials.csv", "w", newline="") as table:
    writer = csv.DictWriter(table, row)
    writer.writeheader()
    writer.writerow(row)
plan = {"plan": {"experiments": [{"cpus": [0]}]}}
(run / "run.json").write_text(json.dumps({"parts": [plan]}))
"#;

/// 100,000 ops/s at 2 us of CPU time each.
const FIO: &str = r#"#!/usr/bin/env python3
import json, sys
if "--version" in sys.argv:
    sys.exit(print("fio-0"))
latency = {"percentile": {"50.000000": 2000, "99.000000": 9000}}
side = {"total_ios": 100_000, "runtime": 1000, "lat_ns": latency,
        "clat_ns": latency}
none = {"total_ios": 0, "runtime": 0}
print(json.dumps({"jobs": [{"read": side, "write": none, "usr_cpu": 5,
                            "sys_cpu": 15, "job_runtime": 1000}]}))
"#;

fn has_python() -> bool {
    let found = Command::new("python3").arg("--version").output().is_ok();
    if !found {
        eprintln!("SKIPPED: there is no python3");
    }
    found
}

fn program(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    fs::write(&path, text).expect("write");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
        .expect("chmod");
    path
}

/// Sets two rows of figures side by side, of programs that stand in for both.
fn peers(directory: &Path, ours: &str, rows: &[&str]) -> Output {
    program(directory, "fio", FIO);
    let script =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../scripts/peers");
    let path = std::env::var("PATH").unwrap_or_default();
    Command::new("python3")
        .arg(script)
        .args(["storage", "--pairs", "6"])
        .args(rows)
        .arg("--bypass")
        .arg(program(directory, "bypass", ours))
        .arg("--csv")
        .arg(directory.join("table.csv"))
        // Nothing is read, and nothing is measured that others could disturb.
        .args(["--target", "/dev/null", "--most-foreign", "1000"])
        .args(["--pause", "0"])
        .env("PATH", format!("{}:{path}", directory.display()))
        .output()
        .expect("python3")
}

#[test]
fn known_figures_come_out_as_known_ratios() {
    if !has_python() {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let output = peers(directory.path(), OURS, &["pread", "uring"]);
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    // (440 - 110) ms for 110,000 ops are 3 us beside fio's 2.
    assert_eq!(output.status.code(), Some(1), "{stdout}{stderr}");
    assert!(stdout.contains("unlike: fio's ring has"), "{stdout}");

    let mut table = csv::Reader::from_path(directory.path().join("table.csv"))
        .expect("a table");
    let headers = table.headers().expect("headers").clone();
    let rows: Vec<csv::StringRecord> =
        table.records().map(|row| row.expect("a row")).collect();
    let cell = |row: &csv::StringRecord, name: &str| -> String {
        let at = headers.iter().position(|header| header == name).expect(name);
        row[at].to_owned()
    };
    let verdicts: Vec<(String, String, String)> = rows
        .iter()
        .map(|row| {
            (cell(row, "row"), cell(row, "metric"), cell(row, "verdict"))
        })
        .collect();
    let expected = [
        ("pread", "ops/s", "holds"),
        ("pread", "CPU/op", "missed"),
        ("pread", "p50", "holds"),
        ("pread", "p99", ""),
        ("uring", "ops/s", "unlike"),
        ("uring", "CPU/op", "unlike"),
    ]
    .map(|(row, metric, verdict)| {
        (row.to_owned(), metric.to_owned(), verdict.to_owned())
    });
    assert_eq!(verdicts, expected);
    let number = |row: &csv::StringRecord, name: &str| -> f64 {
        cell(row, name).parse().expect(name)
    };
    for (row, ratio) in rows.iter().zip([1.1, 1.5, 0.5, 1.0, 1.1, 1.5]) {
        assert_eq!(number(row, "pairs"), 6.0);
        // Ours counts its trials up, by 1 in 110,000.
        assert!((number(row, "ratio") - ratio).abs() < 1e-3, "{row:?}");
        assert!(number(row, "ratio_low") <= number(row, "ratio"));
        assert!(number(row, "ratio_high") >= number(row, "ratio"));
        assert!(number(row, "pairs_taken_again") >= 2.0, "{row:?}");
    }
    assert!((number(&rows[1], "ours_whole_median") - 4000.0).abs() < 4.0);
}

#[test]
fn a_row_that_is_always_disturbed_is_left_out_with_its_reason() {
    if !has_python() {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let void = OURS.replace("number % 3 == 0", "True");
    let output = peers(directory.path(), &void, &["pread"]);
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{stdout}");
    assert!(stdout.contains("not run: bypass: invalid: busy"), "{stdout}");
}
