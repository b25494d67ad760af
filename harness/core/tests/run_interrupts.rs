//! Ctrl-C: the first ends after the block, the second now; both leave a run
//! that can be resumed.

mod support;

use std::{
    process::Command,
    time::{Duration, Instant},
};

use support::{
    FIXTURE, check_text, children_of, only_run, scratch, spawn, trials,
};

fn interrupt(pid: u32) {
    let pid = i32::try_from(pid).expect("pid");
    // SAFETY: kill only sends a signal, to a process that this test started
    // and has not waited for.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGINT) }, 0);
}

fn wait_until(mut ready: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !ready() {
        assert!(begun.elapsed() < Duration::from_secs(30), "waited in vain");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Whether a process has a child: the runner starts none but workers.
fn has_child(pid: u32) -> bool {
    !children_of(pid).is_empty()
}

#[test]
fn the_first_ends_after_the_block_and_resume_completes() {
    let directory = scratch();
    let root = directory.path().join("results");
    let mut child = spawn(&root, "good", &["window_ms=40"]);
    // A signal before the first block would rightly leave no rows.
    wait_until(|| has_child(child.id()));
    interrupt(child.id());
    assert_eq!(child.wait().expect("wait").code(), Some(130));
    let run = only_run(&root).expect("run");
    let rows = trials(&run);
    assert!(!rows.is_empty(), "the block in progress is kept");
    assert_eq!(check_text(&run), "clean");
    let output =
        Command::new(FIXTURE).arg("resume").arg(&run).output().expect("run");
    assert!(matches!(output.status.code(), Some(0 | 4)));
    assert!(trials(&run).len() > rows.len());
    assert_eq!(check_text(&run), "clean");
}

#[test]
fn a_signal_as_soon_as_there_is_a_directory_leaves_a_run() {
    let directory = scratch();
    let root = directory.path().join("results");
    let mut child = spawn(&root, "good", &["window_ms=40"]);
    let begun = || std::fs::read_dir(&root).is_ok_and(|runs| runs.count() > 0);
    wait_until(begun);
    interrupt(child.id());
    assert_eq!(child.wait().expect("wait").code(), Some(130));
    let run = only_run(&root).expect("run");
    let output =
        Command::new(FIXTURE).arg("resume").arg(&run).output().expect("run");
    assert!(matches!(output.status.code(), Some(0 | 4)), "{output:?}");
    assert_eq!(check_text(&run), "clean");
}

#[test]
fn setting_up_ends_at_the_first() {
    let directory = scratch();
    let root = directory.path().join("results");
    let mut child = spawn(&root, "preparing", &[]);
    let begun = || std::fs::read_dir(&root).is_ok_and(|runs| runs.count() > 0);
    wait_until(begun);
    interrupt(child.id());
    assert_eq!(child.wait().expect("wait").code(), Some(130));
    let run = only_run(&root).expect("run");
    // Not even a skip: that would be taken for a lack of the machine.
    assert_eq!(trials(&run).len(), 0);
}

#[test]
fn what_needs_a_word_is_not_resumed_nor_spoilt_without_it() {
    let directory = scratch();
    let root = directory.path().join("results");
    let more = ["window_ms=40", "word=sesame"];
    let mut child = spawn(&root, "guarded", &more);
    wait_until(|| has_child(child.id()));
    interrupt(child.id());
    assert_eq!(child.wait().expect("wait").code(), Some(130));
    let run = only_run(&root).expect("run");
    let rows = trials(&run);
    let resume = |words: &[&str]| {
        let mut command = Command::new(FIXTURE);
        command.arg("resume").arg(&run).args(words).output().expect("run")
    };
    let refused = resume(&[]);
    let table = String::from_utf8_lossy(&refused.stdout);
    assert_eq!(refused.status.code(), Some(5), "{table}");
    assert!(table.contains("not gone on with"), "{table}");
    assert_eq!(trials(&run).len(), rows.len());
    let output = resume(&["word=sesame"]);
    assert!(matches!(output.status.code(), Some(0 | 4)));
    assert!(trials(&run).len() > rows.len());
    assert_eq!(check_text(&run), "clean");
}

#[test]
fn the_second_ends_now() {
    let directory = scratch();
    let root = directory.path().join("results");
    // The hanging worker would be waited for ten minutes.
    let more = ["blocks=6", "grace_ms=600000"];
    let mut child = spawn(&root, "hang", &more);
    wait_until(|| has_child(child.id()));
    interrupt(child.id());
    let mut ended = None;
    // Of two signals that come before the first is handled only one is told.
    wait_until(|| {
        std::thread::sleep(Duration::from_millis(50));
        ended = child.try_wait().expect("wait");
        if ended.is_none() {
            interrupt(child.id());
        }
        ended.is_some()
    });
    assert_eq!(ended.and_then(|status| status.code()), Some(130));
    assert_eq!(check_text(&only_run(&root).expect("run")), "clean");
}
