//! A run of N trials holds memory constant in N.

mod support;

use support::{command, only_run, scratch, trials};

/// Peak resident memory of the runner, and the trials it ran.
fn peak_kib(blocks: u32) -> (i64, usize) {
    let directory = scratch();
    let root = directory.path().join("results");
    let blocks = format!("blocks={blocks}");
    let mut command =
        command(&root, "good", &[&blocks, "warmup_ms=2", "window_ms=2"]);
    #[expect(clippy::zombie_processes, reason = "wait4 waits for it below")]
    let child = command
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("fixture");
    let pid = i32::try_from(child.id()).expect("pid");
    let mut status = 0;
    // SAFETY: an all-zero rusage is a valid value of that C structure.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live values; the child is ours and nobody
    // else waits for it.
    let waited = unsafe { libc::wait4(pid, &mut status, 0, &mut usage) };
    assert_eq!(waited, pid);
    (usage.ru_maxrss, trials(&only_run(&root).expect("run")).len())
}

#[test]
fn ten_times_the_trials_take_no_more_memory() {
    let (small, few) = peak_kib(10);
    let (large, many) = peak_kib(100);
    assert!(many > 4 * few, "{many} and {few} trials");
    // A hundred rows more would be some 100 KiB; a histogram each, 20 MiB.
    assert!(large < small + 2_048, "{large} KiB after {small} KiB");
}
