//! The measured loop makes no system call but the variant's own: each thread
//! of a worker is traced, and what it did between its first and its last op
//! is looked at.

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use harness::{
    machine::{allowed::allowed_cpus, environment::irq_accounting, root::Root},
    measure::{
        clock::Clock,
        trial::{Outcome, Reply, TrialSpec},
    },
    run::{filter::select, worker::WORKER_WORD},
    suite::{Session, SessionRequest, Suite},
};

const BYPASS: &str = env!("CARGO_BIN_EXE_bypass");

/// Traces one trial; the system calls of each thread, by thread.
fn traced(spec: &TrialSpec, directory: &Path) -> (Outcome, Vec<Vec<String>>) {
    let prefix = directory.join("trace");
    let mut child = Command::new("strace")
        .args(["-ff", "-qq", "-o"])
        .arg(&prefix)
        .args([BYPASS, WORKER_WORD])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("strace");
    let text = serde_json::to_vec(spec).expect("specification");
    let mut stdin = child.stdin.take().expect("stdin");
    stdin.write_all(&text).expect("specification");
    drop(stdin);
    let output = child.wait_with_output().expect("worker");
    let reply = serde_json::from_slice(&output.stdout).expect("reply");
    let outcome = match reply {
        Reply::Measured(outcome) => *outcome,
        Reply::Failed(error) => panic!("{error}"),
    };
    let threads = fs::read_dir(directory)
        .expect("traces")
        .flatten()
        .filter(|e| e.file_name().to_string_lossy().starts_with("trace."))
        .map(|entry| {
            fs::read_to_string(entry.path())
                .expect("trace")
                .lines()
                .filter_map(|line| line.split_once('('))
                .map(|(call, _)| call.to_owned())
                .collect()
        })
        .collect();
    (outcome, threads)
}

/// The calls of the thread that made most `own` calls, from the first of them
/// to the end of the loop. A thread asks for its CPU right after the loop,
/// before it drains what is in flight.
fn loop_of<'a>(threads: &'a [Vec<String>], own: &str) -> &'a [String] {
    let calls = threads
        .iter()
        .max_by_key(|calls| calls.iter().filter(|c| *c == own).count())
        .expect("a thread");
    let first = calls.iter().position(|c| c == own).expect("an op");
    let length = calls[first..].iter().position(|c| c == "getcpu");
    &calls[first..first + length.expect("the end of the loop")]
}

fn is_here(program: &str) -> bool {
    let found = Command::new(program).arg("-V").output().is_ok();
    if !found {
        eprintln!("SKIPPED: no {program} here; apt-get install {program}");
    }
    found
}

fn spec(
    suite: &Suite,
    filters: &[&str],
    variant: &str,
    target: serde_json::Value,
) -> Option<TrialSpec> {
    let filters: Vec<_> =
        filters.iter().map(|f| f.parse().expect("filter")).collect();
    let selected = select(&[*suite], &filters, None).expect("selection");
    let experiment = &selected[0].1;
    let cpus: Vec<_> = allowed_cpus().expect("mask").iter().take(2).collect();
    if cpus.len() < 2 {
        eprintln!("SKIPPED: needs 2 CPUs");
        return None;
    }
    Some(TrialSpec {
        run_id: 1,
        trial: 1,
        suite: suite.id.to_owned(),
        experiment: experiment.id.to_owned(),
        params: experiment.params.clone(),
        variant: variant.to_owned(),
        seed: 1,
        cpus,
        numa_node: None,
        warmup_ns: 100_000_000,
        window_ns: 200_000_000,
        slice_ns: 100_000_000,
        clock: Clock::monotonic(),
        irq_accounting: irq_accounting(&Root::system()),
        target,
    })
}

/// A created file below the build directory, which is on a real file system.
fn created() -> Option<Box<dyn Session>> {
    let request = SessionRequest {
        target: None,
        default_directory: env!("CARGO_TARGET_TMPDIR").into(),
        seed: 1,
        run_id: 1,
        experiments: Vec::new(),
        allow_destroy: None,
        interfaces: None,
    };
    match (bench_storage::SUITE.prepare)(&request) {
        Ok(session) => Some(session),
        Err(refusal) => {
            eprintln!("SKIPPED: {refusal}");
            None
        }
    }
}

#[test]
fn storage_variants_make_only_their_own_calls() {
    if !is_here("strace") {
        return;
    }
    let Some(session) = created() else { return };
    for (filters, variant, own) in [
        (["randread-4k", "depth=1"], "pread", "pread64"),
        (["randread-4k", "depth=32"], "uring", "io_uring_enter"),
        (["randread-4k", "depth=32"], "uring-fixed", "io_uring_enter"),
    ] {
        let Some(spec) =
            spec(&bench_storage::SUITE, &filters, variant, session.target())
        else {
            return;
        };
        let directory = tempfile::tempdir().expect("temporary directory");
        let (outcome, threads) = traced(&spec, directory.path());
        let calls = loop_of(&threads, own);
        assert!(calls.len() > 100, "{variant}: {} calls", calls.len());
        let foreign: Vec<_> = calls.iter().filter(|c| *c != own).collect();
        assert!(foreign.is_empty(), "{variant}: {foreign:?}");
        assert!(outcome.ops() > 0);
    }
}

#[test]
fn a_polled_ring_makes_none_at_all() {
    if !is_here("strace") {
        return;
    }
    let Some(spec) = spec(
        &bench_ipc::SUITE,
        &["ping-pong", "op_bytes=8"],
        "ring",
        serde_json::Value::Null,
    ) else {
        return;
    };
    let directory = tempfile::tempdir().expect("temporary directory");
    let (outcome, threads) = traced(&spec, directory.path());
    assert!(outcome.ops() > 20_000, "{}", outcome.ops());
    // The first thread starts the program and looks at /proc while it waits.
    let others = threads
        .iter()
        .filter(|calls| !calls.iter().any(|call| call == "execve"));
    let counts: Vec<usize> = others.map(Vec::len).collect();
    // Starting (the topology is read) takes some hundred calls whatever the
    // loop does;
    // it does some hundred thousand round trips.
    assert!(counts.len() >= 2, "pinger and ponger: {counts:?}");
    assert!(counts.iter().all(|count| *count < 1_000), "{counts:?}");
}
