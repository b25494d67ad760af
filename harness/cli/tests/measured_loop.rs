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
    suite::{
        Availability, Meanwhile, ProbeRequest, Session, SessionRequest, Suite,
    },
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

/// Whether strace is here and may trace: a container may forbid ptrace(2).
fn can_trace() -> bool {
    let said = match Command::new("strace").args(["-qq", "true"]).output() {
        Ok(output) if output.status.success() => return true,
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => format!("{error}; apt-get install strace"),
    };
    eprintln!("SKIPPED: strace: {said}");
    false
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
    let request = ProbeRequest::new(&experiment.params, &cpus, &target);
    let probe = experiment.variant(variant).expect(variant).probe;
    if let Availability::Unavailable { reason, remedy } = probe(&request) {
        eprintln!("SKIPPED: {variant}: {reason}; {remedy}");
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
        precondition: 0,
        meanwhile: Meanwhile::default(),
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
    if !can_trace() {
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
            continue;
        };
        let directory = tempfile::tempdir().expect("temporary directory");
        let (outcome, threads) = traced(&spec, directory.path());
        let calls = loop_of(&threads, own);
        assert!(calls.len() > 10, "{variant}: {} calls", calls.len());
        // Where the vDSO has no clock, reading it is a call, of the harness.
        let is_foreign = |c: &&String| *c != own && *c != "clock_gettime";
        let foreign: Vec<_> = calls.iter().filter(is_foreign).collect();
        assert!(foreign.is_empty(), "{variant}: {foreign:?}");
        assert!(outcome.ops() > 0);
    }
}

#[test]
fn a_polled_ring_makes_none_at_all() {
    if !can_trace() {
        return;
    }
    let Some(mut spec) = spec(
        &bench_ipc::SUITE,
        &["ping-pong", "op_bytes=8"],
        "ring",
        serde_json::Value::Null,
    ) else {
        return;
    };
    // Beside programs that compute, the two may need a time slice for each
    // round trip: many of them are what is looked at, not how fast they are.
    let found = (0..4).find_map(|_| {
        let directory = tempfile::tempdir().expect("temporary directory");
        let (outcome, threads) = traced(&spec, directory.path());
        spec.warmup_ns *= 3;
        spec.window_ns *= 3;
        (outcome.ops() > 20_000).then_some(threads)
    });
    let threads = found.expect("20,000 round trips, in 5 s at the latest");
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
