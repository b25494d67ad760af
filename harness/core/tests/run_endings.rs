//! However a worker ends, its trial gets a row, its block is void, and the
//! run goes on.

mod support;

use results::schema::{Role, Status, TrialRow, Verdict};
use support::{Run, scratch};

/// Rows of one variant.
fn ended(run: &Run, variant: &str) -> Vec<(Status, String)> {
    run.trials()
        .into_iter()
        .filter(|row| row.variant == variant)
        .map(|row| (row.status, row.reasons))
        .collect()
}

/// Runs one experiment of the fixture and returns its bad variant's first row.
fn first(
    experiment: &str,
    variant: &str,
    more: &[&str],
) -> (Run, Status, String) {
    let run = Run::start(scratch(), experiment, more);
    let row = ended(&run, variant).first().cloned();
    let (status, reason) = row.expect("a row");
    (run, status, reason)
}

/// The same of a variant that is waited for. The grace is short, for it is
/// spent, and it is everyone's: on a busy machine the baseline may be late
/// three times and end the run before the bad variant's turn.
fn first_within_a_grace(
    experiment: &str,
    variant: &str,
) -> (Run, Status, String) {
    let found = ["300", "3000", "30000"].into_iter().find_map(|grace_ms| {
        let grace = format!("grace_ms={grace_ms}");
        let run = Run::start(scratch(), experiment, &[&grace]);
        let (status, reason) = ended(&run, variant).first()?.clone();
        Some((run, status, reason))
    });
    found.expect("a row, with 30 s of grace at the latest")
}

#[test]
fn a_crash_is_told_and_not_tried_for_ever() {
    let (run, status, reason) = first("crash", "crash", &[]);
    assert_eq!(status, Status::Error);
    assert!(reason.contains("crashed (SIGABRT, signal 6)"), "{reason}");
    // Three in a row are enough: nothing else is left to compare.
    assert_eq!(ended(&run, "crash").len(), 3);
    assert_eq!(run.code, 4, "{}", run.stdout);
}

#[test]
fn what_was_left_out_is_told_again_by_who_goes_on() {
    // Where blocks are left void, who goes on has work to do, and counts the
    // failures anew.
    let whole = (0..3).find_map(|_| {
        let run = Run::start(scratch(), "lame", &[]);
        assert_eq!(run.code, 4, "{}", run.stdout);
        (!run.stdout.contains(" blocks valid")).then_some(run)
    });
    let Some(run) = whole else {
        eprintln!("SKIPPED: too busy here for a run without void blocks");
        return;
    };
    let again = run.resume();
    let said = String::from_utf8_lossy(&again.stdout);
    assert_eq!(again.status.code(), Some(4), "{said}");
    assert!(said.contains("crash: left out after 3 failures"), "{said}");
}

#[test]
fn what_is_left_out_is_not_waited_for() {
    // The first ends early; of the second, the first half cannot run.
    for more in [&["sessions=2"][..], &["unfit", "guarded", "word=sesame"]] {
        let filter = if more.len() == 1 { "crash" } else { "guarded" };
        let run = Run::start(scratch(), filter, more);
        let last = run.stderr.lines().rfind(|line| line.contains(" left] "));
        let last = last.expect("a line for each block");
        assert!(last.starts_with("[100 %"), "{}", run.stderr);
    }
}

#[test]
fn a_thread_that_began_too_late_voids_its_block_and_is_tried_on() {
    let run = Run::start(scratch(), "late", &["blocks=6"]);
    let rows = ended(&run, "late");
    // Three errors in a row would have been the end of it.
    assert!(rows.len() > 3, "{rows:?}");
    assert!(rows.iter().all(|row| row.0 == Status::Invalid), "{rows:?}");
    // Where the thread that looks is late as well, it finds a round.
    let told = |row: &(Status, String)| {
        row.1.contains("only 0 of 1 threads had completed")
    };
    assert!(rows.iter().any(told), "{rows:?}");
    assert!(!run.stderr.contains("left out"), "{}", run.stderr);
    assert_eq!(run.code, 4, "{}", run.stdout);
    assert_eq!(run.check(), "clean");
}

#[test]
fn a_kill_is_told() {
    let (run, status, reason) = first("killed", "killed", &[]);
    assert_eq!(status, Status::Error);
    assert!(reason.contains("was killed (SIGKILL)"), "{reason}");
    assert_eq!(run.code, 4);
}

#[test]
fn a_hang_ends_after_its_grace() {
    let (run, status, reason) = first_within_a_grace("hang", "hang");
    assert_eq!(status, Status::Error);
    assert!(reason.contains("worker hung"), "{reason}");
    assert_eq!(run.code, 4);
}

#[test]
fn nonsense_is_no_result() {
    let (run, status, reason) = first("nonsense", "nonsense", &[]);
    assert_eq!(status, Status::Error);
    assert!(reason.contains("15 bytes that is nonsense"), "{reason}");
    assert_eq!(run.code, 4);
}

#[test]
fn endless_output_neither_fills_memory_nor_blocks() {
    let (run, status, _) = first_within_a_grace("endless", "endless");
    assert_eq!(status, Status::Error);
    assert_eq!(run.code, 4);
}

#[test]
fn wrong_data_fails_the_run() {
    let (run, status, reason) = first("wrong", "wrong", &[]);
    assert_eq!(status, Status::Wrong);
    assert_eq!(reason, "wrong: block 7 holds block 8");
    assert_eq!(run.code, 4);
    assert!(run.stdout.contains("returned wrong data"), "{}", run.stdout);
}

#[test]
fn an_io_error_names_errno_offset_and_length() {
    let (run, status, reason) = first("failing", "failing", &[]);
    assert_eq!(status, Status::Error);
    assert!(reason.contains("read of 512 bytes at offset 4096"), "{reason}");
    assert!(reason.contains("errno 5"), "{reason}");
    assert_eq!(run.code, 4);
}

#[test]
fn blocks_with_a_crash_are_run_again() {
    let run = Run::start(scratch(), "flaky", &["blocks=6", "grace_ms=2000"]);
    let rows = run.trials();
    assert!(rows.iter().any(|row| row.status == Status::Error));
    assert!(rows.iter().any(|row| row.attempt > Some(1)));
    assert_eq!(run.check(), "clean");
}

/// A device that failed once is a finding, though it did not fail again.
#[test]
fn an_op_that_failed_is_told_also_where_its_block_passed_later() {
    let run =
        Run::start(scratch(), "stumbling", &["blocks=6", "grace_ms=2000"]);
    let failed = |row: &TrialRow| row.errors == Some(1);
    let rows = run.trials();
    assert!(rows.iter().any(failed));
    assert!(rows.iter().any(|row| row.attempt > Some(1)));
    assert_eq!(run.code, 4);
    assert!(run.stdout.contains("an op that failed"), "{}", run.stdout);
    assert_eq!(run.check(), "clean");
}

#[test]
fn a_degraded_variant_gets_figures_but_no_verdict() {
    let run = Run::start(scratch(), "degraded", &["window_ms=50"]);
    let rows = ended(&run, "degraded");
    let slow = |(status, reason): &(Status, String)| {
        matches!(status, Status::Degraded | Status::Invalid)
            && reason.contains("took the slow road")
    };
    assert!(rows.iter().any(slow), "{rows:?}");
    for row in run.compare() {
        // Undecided, where the machine voided every trial.
        assert!(
            row.role == Role::AaTwin
                || matches!(row.verdict, None | Some(Verdict::Undecided)),
            "{:?}",
            row.verdict
        );
    }
}

#[test]
fn what_cannot_run_is_skipped_with_reason_and_remedy() {
    for (experiment, variant, reason, code) in [
        ("unavailable", "missing", "no such device;buy one", 3),
        ("unavailable", "base", "nothing that it could be compared with", 3),
        ("too-big", "base", "needs 100000 CPUs", 3),
    ] {
        let (run, status, reasons) = first(experiment, variant, &[]);
        assert_eq!(status, Status::Skipped, "{experiment}");
        assert!(reasons.contains(reason), "{reasons}");
        assert_eq!(run.code, code, "{experiment}");
        assert_eq!(run.check(), "clean");
    }
}

/// The window would last an hour: a trial that fails ends at once.
#[test]
fn a_trial_that_fails_does_not_sit_out_its_window() {
    let hour = ["blocks=1", "smoke=1", "window_ms=3600000"];
    let run = Run::start(scratch(), "fixture/broken", &hour);
    let rows = run.trials();
    let broken = rows.iter().find(|row| row.variant == "broken");
    let broken = broken.expect("its row");
    assert_eq!(broken.status, Status::Error);
    let expected = "read (short: 512 of 4096 bytes) of 4096 bytes at offset \
                    8192";
    assert_eq!(broken.reasons, expected);
}

/// As `latest`, a run of nothing but refusals would hide the one before it.
#[test]
fn a_refused_target_leaves_no_run() {
    for (experiment, words, code) in [
        ("refused", "the target is on fire; put it out", 5),
        ("unfit", "no room for this one; make some", 3),
        ("guarded", "the device may not be written; say the word", 5),
    ] {
        let results = scratch();
        let root = results.path().join("results");
        let run = Run::start(results, experiment, &["sessions=2"]);
        assert_eq!(run.code, code, "{experiment}");
        // No table of nothing: the reason, once for both sessions.
        assert_eq!(run.stdout, "", "{experiment}");
        assert_eq!(run.stderr, format!("error: {words}\n"), "{experiment}");
        let left = std::fs::read_dir(&root).map_or(0, Iterator::count);
        assert_eq!(left, 0, "{experiment}");
    }
}

#[test]
fn a_refusal_of_what_was_asked_for_fails_a_run_that_measured_others() {
    for more in [&["guarded"][..], &["guarded", "word=wrong"]] {
        let run = Run::start(scratch(), "good", more);
        assert_eq!(run.code, 5, "{more:?} {}", run.stdout);
        assert!(
            run.stdout.contains("note: the device may not be written; "),
            "{more:?}"
        );
        // Void perhaps, on a busy machine.
        assert!(run.trials().iter().any(|row| row.status != Status::Skipped));
    }
    let run = Run::start(scratch(), "guarded", &["word=sesame"]);
    assert_eq!(run.check(), "clean");
    assert!(matches!(run.code, 0 | 4), "{}", run.stdout);
}

#[test]
fn unknown_filters_are_refused_with_a_suggestion() {
    let run = Run::start(scratch(), "godo", &[]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("did you mean `fixture/good`"), "{run:?}");
    let run = Run::start(scratch(), "depth=3", &[]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("no experiment has a parameter `depth`"));
}

#[test]
fn a_family_too_large_for_the_blocks_is_refused() {
    let run = Run::start(scratch(), "good", &["blocks=5"]);
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("--blocks 6"), "{}", run.stderr);
}

#[test]
fn results_that_cannot_be_written_are_refused_at_once() {
    let directory = scratch();
    // A file where the directory should be: root may write anywhere else.
    let file = directory.path().join("results");
    std::fs::write(&file, "").expect("file");
    let run = Run::start_at(directory, file, "good", &[]);
    assert_eq!(run.code, 3);
    assert!(run.stderr.contains("results"), "{}", run.stderr);
}
