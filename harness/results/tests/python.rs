//! The plain Python script comes to the same verdicts.

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::run;
use results::compare::derive_directory;
use results::schema::{
    CompareMetric, CompareRow, LatencyKind, LoadMode, Status, Table, Verdict,
};
use results::writer::write_compare;

/// Exit code and output of the script; none where there is no Python.
fn script(directory: &Path) -> Option<(Option<i32>, String)> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../scripts/verify_results.py");
    match Command::new("python3").arg(script).arg(directory).output() {
        Ok(output) => {
            let text = [output.stdout, output.stderr].concat();
            let text = String::from_utf8_lossy(&text).into_owned();
            Some((output.status.code(), text))
        }
        Err(error) => {
            eprintln!("SKIPPED: python3 cannot be started: {error}");
            None
        }
    }
}

#[test]
fn python_agrees_on_everything_a_run_may_hold() {
    let root = tempfile::tempdir().unwrap();
    let mut verdicts = Vec::new();
    for (seed, blocks) in (1..).zip([12, 10, 7, 5, 12, 6]) {
        let path = run()
            .seed(seed)
            .blocks(blocks)
            .sessions(1 + u32::from(seed == 5))
            .noise(0.012)
            .experiment("randread-4k", 32, 70_000.0)
            .bounded("uring", 1.17, "nop-ring", 3.0)
            .contender("uring-fixed", 1.002)
            .contender("uring-slow", 0.93)
            .contender("uring-odd", 1.02)
            .contender("uring-elsewhere", 1.5)
            .skipped("nvme-passthrough", "no /dev/ng0n1")
            .experiment("randread-4k", 1, 9_000.0)
            .contender("uring", 1.0)
            .alter(|row| {
                let place = (row.block, row.attempt);
                match row.variant.as_str() {
                    "uring-elsewhere" if place.0 == Some(2) => {
                        row.status = Status::Degraded;
                        row.reasons = "io_wq=yes".to_owned();
                    }
                    "uring" if row.block < Some(4) => {
                        row.status = Status::Nonsteady;
                    }
                    "uring-fixed" if place == (Some(3), Some(1)) => {
                        row.status = Status::Invalid;
                        row.reasons = "steal_ns=5, of\n\"many\"".to_owned();
                    }
                    "pread-pool" if place.0 == Some(5) => {
                        row.status = Status::Error;
                    }
                    "uring-odd" if place.0 == Some(1) => {
                        row.latency_p99_ns = None;
                        row.cpu_ns = None;
                        row.cpu_per_op_ns = None;
                        row.busy_cpus = None;
                    }
                    _ => {}
                }
            })
            .write(root.path());
        let (derived, _) = derive_directory(&path).unwrap();
        write_compare(&path, &derived.rows).unwrap();
        verdicts.extend(derived.rows.iter().map(|row| row.verdict));
        let Some((code, text)) = script(&path) else { return };
        assert_eq!(code, Some(0), "seed {seed}: {text}");
        let expected =
            format!("{} rows derived again: all agree", derived.rows.len());
        assert!(text.contains(&expected), "seed {seed}: {text}");
    }
    // Agreement on nothing would prove nothing.
    for verdict in [
        Some(Verdict::Faster),
        Some(Verdict::Slower),
        Some(Verdict::Same),
        Some(Verdict::Undecided),
        None,
    ] {
        assert!(verdicts.contains(&verdict), "no row is {verdict:?}");
    }
}

/// Rates that differ are no claim: who asks for them gets them.
#[test]
fn python_agrees_on_open_loops_beside_a_closed_one() {
    let root = tempfile::tempdir().unwrap();
    let path = run()
        .noise(0.012)
        .experiment("paced-64", 1_000, 20_000.0)
        .contender("socket-spin", 1.3)
        .contender("uring", 1.0)
        .skipped("af-xdp-zerocopy", "a veth has no memory of its own")
        .experiment("paced-64", 100_000, 30_000.0)
        .contender("uring", 0.8)
        .experiment("rtt", 1, 9_000.0)
        .contender("uring", 1.0)
        .alter(|row| {
            if row.experiment == "paced-64" {
                row.load_mode = Some(LoadMode::Open);
                row.latency_kind = Some(LatencyKind::Response);
            }
        })
        .write(root.path());
    let (derived, _) = derive_directory(&path).unwrap();
    let of_rates = |row: &&CompareRow| row.metric == CompareMetric::OpsPerS;
    for row in derived.rows.iter().filter(of_rates) {
        assert_eq!(row.experiment, "rtt", "{row:?}");
    }
    let verdict = |params: &str, variant: &str| {
        let mut rows = derived.rows.iter().filter(|row| {
            row.params == params
                && row.variant == variant
                && row.metric == CompareMetric::LatencyP50Ns
        });
        rows.next().expect("a row").verdict
    };
    assert_eq!(verdict("depth=1000", "socket-spin"), Some(Verdict::Faster));
    assert_eq!(verdict("depth=100000", "uring"), Some(Verdict::Slower));
    // A variant that was not started is told of, too.
    assert_eq!(verdict("depth=1000", "af-xdp-zerocopy"), None);
    let twins: Vec<_> = derived.aa.rows.iter().map(|row| row.metric).collect();
    let (p50, ops) = (CompareMetric::LatencyP50Ns, CompareMetric::OpsPerS);
    assert_eq!(twins, [p50, p50, ops]);
    write_compare(&path, &derived.rows).unwrap();
    let Some((code, text)) = script(&path) else { return };
    assert_eq!(code, Some(0), "{text}");
}

#[test]
fn python_finds_an_edit() {
    let root = tempfile::tempdir().unwrap();
    let path = run()
        .experiment("randread-4k", 32, 70_000.0)
        .contender("uring", 1.2)
        .write(root.path());
    let (derived, _) = derive_directory(&path).unwrap();
    let mut rows = derived.rows.clone();
    rows[0].verdict = Some(Verdict::Same);
    rows[1].ratio = rows[1].ratio.map(|ratio| ratio * (1.0 + 1e-8));
    rows.pop();
    write_compare(&path, &rows).unwrap();
    let Some((code, text)) = script(&path) else { return };
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("3 disagree"), "{text}");
    assert!(text.contains("verdict 'same', not 'faster'"), "{text}");
    assert!(fs::metadata(path.join(CompareRow::FILE)).is_ok());
}

/// Twelve blocks' ops in thousands: steady, entering, leaving, never, and
/// steady again after a break.
const TRACES: [[u64; 12]; 5] = [
    [90; 12],
    [400, 300, 200, 150, 100, 90, 90, 90, 90, 90, 90, 90],
    [90, 90, 90, 90, 90, 90, 90, 90, 50, 50, 50, 50],
    [400, 100, 400, 100, 400, 100, 400, 100, 400, 100, 400, 100],
    [90, 90, 90, 90, 90, 40, 90, 90, 90, 90, 90, 90],
];

#[test]
fn python_derives_steadiness_and_finds_a_lie_about_it() {
    let root = tempfile::tempdir().unwrap();
    let mut told = Vec::new();
    for (seed, blocks, trace) in (1..)
        .zip(TRACES)
        .map(|(seed, trace)| (seed, 12, trace))
        .chain([(9, 4, TRACES[0])])
    {
        let path = run()
            .seed(seed)
            .blocks(blocks)
            .experiment("randwrite-4k", 32, 70_000.0)
            .contender("uring", 1.2)
            .alter(move |row| {
                row.path = "preconditioned=written once".to_owned();
                let block = row.block.unwrap_or(1) as usize;
                let ops = trace[block - 1] * 1_000;
                if row.variant == "uring" {
                    row.ops = Some(ops);
                    row.ops_per_s = row
                        .window_ns
                        .map(|window_ns| ops as f64 * 1e9 / window_ns as f64);
                }
            })
            .write(root.path());
        let (derived, _) = derive_directory(&path).unwrap();
        write_compare(&path, &derived.rows).unwrap();
        let Some((code, text)) = script(&path) else { return };
        assert_eq!(code, Some(0), "seed {seed}: {text}");
        let mut rows = derived.rows.clone();
        let row = rows.iter_mut().find(|row| row.variant == "uring").unwrap();
        let truth = std::mem::take(&mut row.reasons);
        if !truth.contains("not steady") {
            row.reasons = "not steady (at no time)".to_owned();
        }
        write_compare(&path, &rows).unwrap();
        let (code, text) = script(&path).unwrap();
        let found = code == Some(1) && text.contains("1 disagree");
        assert!(found, "instead of {truth:?}: {text}");
        told.push(truth);
    }
    for (told, why) in told.iter().zip([
        "",
        "not steady (only from valid block ",
        "not steady (no longer at valid block 9)",
        "not steady (at no time)",
        "not steady (only from valid block 7 on)",
        "not steady (fewer than 5 valid blocks)",
    ]) {
        assert!(told.contains(why), "{told:?}, not {why:?}");
        assert_eq!(told.contains("not steady"), !why.is_empty(), "{told:?}");
    }
}
