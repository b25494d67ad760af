//! SIGKILL at any instant leaves every file readable up to the last synced
//! block, and the run can be resumed to the same plan.

mod support;

use std::{
    collections::BTreeMap,
    process::Command,
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use results::schema::TrialRow;
use support::{
    FIXTURE, check_text, children_of, only_run, scratch, spawn, trials,
};

/// So many runs at once, for they mostly wait, and kills of each.
const AT_ONCE: u64 = 4;
const KILLS: usize = 25;

/// Where a machine is so busy that they take longer, fewer must do.
const TIME: Duration = Duration::from_secs(60);

/// A run is killed within so many milliseconds, and within twice as many
/// after each so many kills in a row that came before another block was
/// whole: on a busy machine a block may take longer than that.
const WITHIN_MS: u64 = 400;
const IN_VAIN: usize = 10;

/// A SplitMix64 with a fixed seed: the instants differ but not from run to
/// run of the test.
struct Instants(u64);

impl Instants {
    fn next(&mut self, below_ms: u64) -> Duration {
        self.0 = self.0.wrapping_add(1);
        let draw = harness::measure::trial::mix(self.0);
        Duration::from_micros(draw % (below_ms * 1_000))
    }
}

/// Variant and role by position of each whole block.
type Orders = BTreeMap<(u32, u32), Vec<(String, String)>>;

/// The order that was carried out.
fn orders(rows: &[TrialRow]) -> Orders {
    let mut orders = BTreeMap::new();
    for row in rows {
        let (Some(block), Some(attempt)) = (row.block, row.attempt) else {
            continue;
        };
        orders
            .entry((block, attempt))
            .or_insert_with(Vec::new)
            .push((row.variant.clone(), row.role.to_string()));
    }
    orders
}

#[test]
fn a_hundred_random_kills_lose_nothing_that_was_synced() {
    let reference = Mutex::new(None);
    let kills: usize = thread::scope(|scope| {
        let reference = &reference;
        let lanes: Vec<_> = (0..AT_ONCE)
            .map(|lane| scope.spawn(move || kill_often(lane, reference)))
            .collect();
        let kills = lanes.into_iter().map(|lane| lane.join().expect("good"));
        kills.sum()
    });
    eprintln!("{kills} kills");
    assert!(kills > 5, "{kills} kills in {TIME:?}");
}

/// Kills runs and goes on with them. The plan of each is that of the first,
/// `reference`. Returns the kills.
fn kill_often(lane: u64, reference: &Mutex<Option<Orders>>) -> usize {
    const OPTIONS: &[&str] = &["blocks=12", "window_ms=2", "seed=9"];
    let mut instants = Instants(lane << 32);
    let mut kills = 0;
    let started = Instant::now();
    while kills < KILLS && started.elapsed() < TIME {
        let directory = scratch();
        let root = directory.path().join("results");
        let mut child = spawn(&root, "good", OPTIONS);
        // Not before there is something to resume.
        let begun = Instant::now();
        let run = loop {
            if let Some(run) = only_run(&root) {
                break run;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "no run.json");
            std::thread::sleep(Duration::from_millis(1));
        };
        let (mut seen, mut in_vain, mut within_ms) = (0, 0, WITHIN_MS);
        let finished = loop {
            if kills < KILLS && started.elapsed() < TIME {
                std::thread::sleep(instants.next(within_ms));
                let _ = child.kill();
            }
            let status = child.wait().expect("fixture");
            if status.code().is_some() {
                break status.code();
            }
            kills += 1;
            let rows = match run.join("trials.csv").is_file() {
                true => trials(&run).len(),
                false => 0,
            };
            assert!(rows >= seen, "synced rows were lost");
            in_vain = if rows == seen { in_vain + 1 } else { 0 };
            seen = rows;
            if in_vain == IN_VAIN {
                (in_vain, within_ms) = (0, within_ms * 2);
            }
            child = Command::new(FIXTURE)
                .arg("resume")
                .arg(&run)
                .env("XDG_STATE_HOME", root.with_extension("state"))
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null())
                .spawn()
                .expect("fixture");
        };
        // 4: the machine was too noisy for 2 ms windows, which is no fault
        // of the resumption.
        assert!(matches!(finished, Some(0 | 4)), "{finished:?}");
        assert_eq!(check_text(&run), "clean");
        let mut first = orders(&trials(&run));
        first.retain(|(_, attempt), _| *attempt == 1);
        let mut reference = reference.lock().expect("no lane has failed");
        let reference = reference.get_or_insert_with(|| first.clone());
        for (block, order) in &first {
            // Variants left out after failures shorten a block; the plan
            // itself is the same.
            if let Some(expected) = reference.get(block)
                && expected.len() == order.len()
            {
                assert_eq!(order, expected, "block {block:?}");
            }
        }
        assert_eq!(first.len(), 12, "every block was begun once");
    }
    kills
}

#[test]
fn no_worker_outlives_a_killed_runner() {
    let directory = scratch();
    let root = directory.path().join("results");
    let mut child = spawn(&root, "hang", &[]);
    let pid = child.id();
    let worker = wait_for(|| children_of(pid).first().copied());
    child.kill().expect("kill");
    child.wait().expect("wait");
    wait_for(|| (!is_alive(worker)).then_some(()));
}

#[test]
fn another_machine_state_is_not_resumed() {
    let directory = scratch();
    let root = directory.path().join("results");
    let mut child = spawn(&root, "good", &["window_ms=100"]);
    let run = wait_for(|| only_run(&root));
    wait_for(|| run.join("trials.csv").is_file().then_some(()));
    child.kill().expect("kill");
    child.wait().expect("wait");
    let file = run.join("run.json");
    let text = std::fs::read_to_string(&file).expect("run.json");
    let changed = text.replace("kernel_release=", "kernel_release=0");
    assert_ne!(text, changed);
    std::fs::write(&file, changed).expect("run.json");
    let output =
        Command::new(FIXTURE).arg("resume").arg(&run).output().expect("run");
    assert_eq!(output.status.code(), Some(3));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains("the machine has changed"), "{stderr}");
    assert!(stderr.contains("kernel_release"), "{stderr}");
}

fn wait_for<T>(mut ready: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(value) = ready() {
            return value;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "waited in vain");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// A zombie counts as dead: its new parent has yet to look at it.
fn is_alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        stat.rsplit_once(')')
            .is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
    })
}
