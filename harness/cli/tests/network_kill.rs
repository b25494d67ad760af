//! SIGKILL during a network run leaves nothing: no process, no namespace, no
//! interface.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

const BYPASS: &str = env!("CARGO_BIN_EXE_bypass");

/// A namespace is taken down in the background, after a grace period of the
/// kernel; on a busy machine that takes a while.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(2);

/// The exit code of a run that this machine cannot do.
const NOT_HERE: i32 = 3;

/// Where a runner's messages go.
const SAID: &str = "said";

/// Two runs at once would wait for the same CPUs, and for each other's
/// interfaces to be gone.
static TURN: Mutex<()> = Mutex::new(());

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

fn start(filter: &str, directory: &Path) -> Child {
    let said = fs::File::create(directory.join(SAID)).expect("file");
    Command::new(BYPASS)
        .args(["run", filter, "--quick", "--window", "10s", "--results"])
        .arg(directory.join("results"))
        .stdout(Stdio::null())
        .stderr(said)
        .spawn()
        .expect("bypass")
}

/// A worker in a namespace of its own.
#[derive(Debug)]
struct Worker {
    pid: u32,
    namespace: u64,
}

/// Waits for a worker that measures; an error if the run ends before there is
/// one.
fn wait_for_worker(runner: &mut Child) -> Result<Worker, ExitStatus> {
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
                return Ok(Worker { pid, namespace });
            }
        }
        if let Some(status) = runner.try_wait().expect("wait") {
            return Err(status);
        }
        assert!(begun.elapsed() < PATIENCE, "no worker");
        thread::sleep(PAUSE);
    }
}

#[test]
fn a_killed_run_leaves_nothing() {
    killed("net/rtt");
}

/// A program that is attached to an interface goes with its namespace.
#[test]
fn a_killed_run_with_a_program_attached_leaves_nothing() {
    killed("net/rtt/af-xdp-native");
}

fn killed(filter: &str) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let directory = tempfile::Builder::new()
        .prefix("bypass kill ")
        .tempdir_in(env!("CARGO_TARGET_TMPDIR"))
        .expect("temporary directory");
    let mut runner = start(filter, directory.path());
    let worker = match wait_for_worker(&mut runner) {
        Ok(worker) => worker,
        Err(status) => {
            let said = fs::read_to_string(directory.path().join(SAID))
                .unwrap_or_default();
            assert_eq!(status.code(), Some(NOT_HERE), "{filter}: {said}");
            eprintln!("SKIPPED: {filter}: {said}");
            return;
        }
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
    // Others may come and go, such as a container's.
    assert!(!interfaces().iter().any(|name| name.starts_with("bypass-")));
}
