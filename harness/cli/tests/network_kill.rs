//! SIGKILL during a network run leaves nothing: no process, no namespace, no
//! interface.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

const BYPASS: &str = env!("CARGO_BIN_EXE_bypass");

/// A namespace is taken down in the background, after a grace period of the
/// kernel; on a busy machine that takes a while.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(2);

fn namespace_of(process: &str) -> Option<u64> {
    let path = format!("/proc/{process}/ns/net");
    fs::metadata(path).ok().map(|namespace| namespace.ino())
}

/// Every network namespace that a process is in, and every one that a process
/// holds open.
fn namespaces() -> BTreeSet<u64> {
    let mut found = BTreeSet::new();
    for process in fs::read_dir("/proc").expect("/proc").flatten() {
        let name = process.file_name().to_string_lossy().into_owned();
        if !name.bytes().all(|b| b.is_ascii_digit()) {
            continue;
        }
        found.extend(namespace_of(&name));
        let open = fs::read_dir(process.path().join("fd"));
        for descriptor in open.into_iter().flatten().flatten() {
            let target = fs::read_link(descriptor.path()).ok();
            let inode = target.as_ref().and_then(|target| {
                target.to_str()?.strip_prefix("net:[")?.strip_suffix(']')
            });
            found.extend(inode.and_then(|inode| inode.parse::<u64>().ok()));
        }
    }
    found
}

fn children(process: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{process}/task"));
    tasks
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|task| {
            fs::read_to_string(task.path().join("children")).ok()
        })
        .flat_map(|line| {
            line.split_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .collect::<Vec<_>>()
        })
        .collect()
}

fn interfaces() -> BTreeSet<String> {
    let text = fs::read_to_string("/proc/net/dev").expect("/proc/net/dev");
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, _)| name.trim().to_owned())
        .collect()
}

fn start(results: &std::path::Path) -> Child {
    Command::new(BYPASS)
        .args(["run", "net/rtt", "--quick", "--window", "10s", "--results"])
        .arg(results)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("bypass")
}

/// A worker in a namespace of its own.
#[derive(Debug)]
struct Worker {
    pid: u32,
    namespace: u64,
}

/// Waits for a worker that measures; none if the run ends before there is one.
fn wait_for_worker(runner: &mut Child) -> Option<Worker> {
    let ours = namespace_of("self").expect("our namespace");
    let begun = Instant::now();
    loop {
        for pid in children(runner.id()) {
            // A probe's child has a namespace for a moment, too; a worker
            // goes by the hidden word.
            let line = fs::read_to_string(format!("/proc/{pid}/cmdline"));
            let is_worker = line.is_ok_and(|line| line.contains("__worker"));
            let namespace = namespace_of(&pid.to_string());
            if let Some(namespace) = namespace.filter(|it| *it != ours)
                && is_worker
            {
                return Some(Worker { pid, namespace });
            }
        }
        if runner.try_wait().expect("wait").is_some() {
            return None;
        }
        assert!(begun.elapsed() < PATIENCE, "no worker");
        thread::sleep(PAUSE);
    }
}

#[test]
fn a_killed_run_leaves_nothing() {
    let directory = tempfile::Builder::new()
        .prefix("bypass kill ")
        .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
        .expect("temporary directory");
    let before = interfaces();
    let mut runner = start(&directory.path().join("results"));
    let Some(worker) = wait_for_worker(&mut runner) else {
        eprintln!("SKIPPED: no network namespace can be had here");
        return;
    };
    // Let it come as far as sending, most likely; any instant must do.
    thread::sleep(Duration::from_millis(300));
    runner.kill().expect("SIGKILL");
    runner.wait().expect("wait");
    let begun = Instant::now();
    loop {
        let process = namespace_of(&worker.pid.to_string());
        let is_left = process == Some(worker.namespace)
            || namespaces().contains(&worker.namespace);
        if !is_left {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{worker:?} is still there");
        thread::sleep(PAUSE);
    }
    assert_eq!(interfaces(), before);
    assert!(!interfaces().iter().any(|name| name.starts_with("bypass-")));
}
