//! Runs with known truths, compared.

mod common;

use std::path::{Path, PathBuf};

use common::{Synthetic, run};
use results::across::{
    Across, AcrossError, AcrossRow, Measure, Order, compare,
};
use results::schema::{
    CompareMetric, Part, Role, RunFile, Status, Steady, TrialRow, Verdict,
};
use results::table::across as table;

/// Makes a trial so many times as fast, in all its figures.
fn speed_up(row: &mut TrialRow, times: f64) {
    // A window as much shorter: the integers have to give the rates.
    let (ops, window) = (row.ops.unwrap(), row.window_ns.unwrap());
    let (window, cpu) =
        (window as f64 / times, row.cpu_ns.unwrap() as f64 / times);
    let (window, cpu) = (common::whole(window), common::whole(cpu));
    row.window_ns = Some(window);
    row.cpu_ns = Some(cpu);
    row.ops_per_s = Some(ops as f64 * 1e9 / window as f64);
    row.cpu_per_op_ns = Some(cpu as f64 / ops as f64);
    row.busy_cpus = Some(cpu as f64 / window as f64);
    for ns in [&mut row.latency_p50_ns, &mut row.latency_p99_ns] {
        *ns = ns.map(|ns| common::whole(ns as f64 / times));
    }
}

/// Four sessions of a baseline and two contenders; `truth` says how many
/// times as fast a variant is, `first` in which minute the run began.
fn sessions(
    seed: u64,
    first: u32,
    truth: impl Fn(&str) -> f64 + 'static,
) -> Synthetic {
    run()
        .sessions(4)
        .seed(seed)
        .experiment("randread-4k", 1, 70_000.0)
        .contender("uring", 1.2)
        .contender("uring-fixed", 1.3)
        .alter(move |row| {
            let minute = first + row.session;
            row.started_at_utc = format!("2026-11-21T04:{minute:02}:00.000Z");
            let times = truth(row.variant.trim_end_matches("#aa"));
            // Each session is its own set-up, half a percent apart.
            let wobble = [1.0, -0.5, 0.2, -0.7][row.session as usize % 4];
            speed_up(row, times * (1.0 + 0.005 * wobble));
        })
}

fn find<'a>(
    across: &'a Across,
    variant: &str,
    metric: CompareMetric,
    measure: Measure,
) -> &'a AcrossRow {
    across
        .rows
        .iter()
        .find(|row| {
            row.variant == variant
                && row.metric == metric
                && row.measure == measure
        })
        .expect("row")
}

fn both(a: &Path, b: &Path) -> Across {
    compare(&[a.to_owned()], &[b.to_owned()], None).unwrap()
}

#[test]
fn one_variant_that_gained_is_found_and_the_others_are_the_same() {
    let root = tempfile::tempdir().unwrap();
    let a = sessions(1, 0, |_| 1.0).write(root.path());
    let gained = |name: &str| if name == "uring-fixed" { 1.05 } else { 1.0 };
    let b = sessions(3, 10, gained).write(root.path());
    let across = both(&a, &b);
    for measure in [Measure::Figure, Measure::Ratio] {
        for metric in CompareMetric::ALL {
            let row = find(&across, "uring-fixed", metric, measure);
            assert_eq!(row.verdict, Some(Verdict::Faster), "{row:?}");
            let row = find(&across, "uring", metric, measure);
            assert_ne!(row.verdict, Some(Verdict::Faster), "{row:?}");
            assert_ne!(row.verdict, Some(Verdict::Slower), "{row:?}");
        }
    }
    let row =
        find(&across, "uring-fixed", CompareMetric::OpsPerS, Measure::Ratio);
    assert!((row.ratio.unwrap() - 1.05).abs() < 0.01, "{row:?}");
    assert_eq!(row.baseline, "pread-pool");
    assert_eq!((row.sessions_a, row.sessions_b), (4, 4));
    assert_eq!(across.order, Order::OneAfterTheOther);
    let text = table::text(&across, &[], false);
    assert!(text.starts_with("B against A: 4 faster"), "{text}");
    assert!(text.contains("AAAABBBB, one side after the other"), "{text}");
    assert!(!text.contains('\x1b'), "{text}");
}

#[test]
fn a_slower_machine_moves_the_figures_and_not_the_ratios() {
    let root = tempfile::tempdir().unwrap();
    let a = sessions(1, 0, |_| 1.0).write(root.path());
    let b = sessions(2, 10, |_| 0.93).write(root.path());
    let across = both(&a, &b);
    for row in &across.rows {
        let expected = match row.measure {
            Measure::Figure => Verdict::Slower,
            Measure::Ratio => Verdict::Same,
        };
        assert_eq!(row.verdict, Some(expected), "{row:?}");
    }
    assert_eq!(across.count(Verdict::Slower), 12);
}

#[test]
fn a_threshold_can_be_given_and_is_the_runs_own_otherwise() {
    let root = tempfile::tempdir().unwrap();
    let write = |seed, times: f64| {
        let mut run = sessions(seed, 0, move |_| times);
        run.settings.practical_ratio = 0.05;
        vec![run.write(root.path())]
    };
    let (a, b) = (write(1, 1.0), write(2, 0.93));
    let across = compare(&a, &b, None).unwrap();
    assert_eq!(across.practical_ratio, 0.05);
    assert!(across.count(Verdict::Slower) > 0);
    let across = compare(&a, &b, Some(0.2)).unwrap();
    assert_eq!(across.count(Verdict::Slower), 0);
    assert_eq!(across.count(Verdict::Same), 12);
}

#[test]
fn one_session_a_side_is_undecided_and_says_what_would_decide() {
    let root = tempfile::tempdir().unwrap();
    let a = sessions(1, 0, |_| 1.0).sessions(1).write(root.path());
    let b = sessions(2, 1, |_| 2.0).sessions(1).write(root.path());
    let mut file = RunFile::read(&a).unwrap();
    file.command_line = ["bypass", "run", "--sessions", "1", "randread op*"]
        .map(str::to_owned)
        .into();
    file.write(&a).unwrap();
    let across = both(&a, &b);
    assert!(!across.can_decide());
    for row in &across.rows {
        assert_eq!(row.verdict, Some(Verdict::Undecided));
        assert_eq!(row.reason, "one session a side");
        assert_eq!(row.ratio_low, None);
    }
    let text = table::text(&across, &[], false);
    assert!(text.contains("undecided (one session a side)"), "{text}");
    let command = "bypass run --sessions 4 'randread op*'";
    assert!(text.contains(command), "{text}");
}

#[test]
fn sessions_taken_in_turn_are_pooled_and_said_to_be() {
    let root = tempfile::tempdir().unwrap();
    let write = |first: u32, times: f64| -> Vec<PathBuf> {
        (0..4)
            .map(|i| {
                let seed = u64::from(first + i);
                sessions(seed, first + 2 * i, move |_| times)
                    .sessions(1)
                    .write(root.path())
            })
            .collect()
    };
    let (a, b) = (write(0, 1.0), write(1, 1.1));
    let across = compare(&a, &b, None).unwrap();
    assert_eq!(across.order_letters, "ABABABAB");
    assert_eq!(across.order, Order::Alternated);
    assert_eq!((across.a.sessions, across.b.sessions), (4, 4));
    assert_eq!(across.count(Verdict::Faster), 12);
}

#[test]
fn what_cannot_be_compared_is_named_with_its_reason() {
    let root = tempfile::tempdir().unwrap();
    let a = sessions(1, 0, |_| 1.0)
        .contender("uring-iopoll", 1.4)
        .contender("uring-sqpoll", 1.4)
        .contender("only-here", 1.0)
        .experiment("seqread", 8, 10_000.0)
        .contender("uring", 1.0)
        .write(root.path());
    let b = sessions(2, 10, |_| 1.0)
        .contender("uring-sqpoll", 1.4)
        .skipped("uring-iopoll", "no poll queues;nvme.poll_queues=1")
        .experiment("seqread", 16, 10_000.0)
        .contender("uring", 1.0)
        .alter(|row| {
            if row.variant == "uring-sqpoll" {
                row.status = Status::Degraded;
                row.reasons = "the poller had no CPU".to_owned();
            }
            if row.variant == "uring" {
                row.op_bytes = Some(8192);
                row.bytes = row.ops.map(|ops| ops * 8192);
            }
            row.cpu_accounting = Some(results::schema::CpuAccounting::Unknown);
        })
        .write(root.path());
    let mut file = RunFile::read(&a).unwrap();
    file.machine_id = "another".to_owned();
    file.write(&a).unwrap();
    let across = both(&a, &b);
    let all = across.not_compared.join("\n");
    for expected in [
        "depth=1 uring-iopoll: in B skipped: no poll queues",
        "depth=1 uring-sqpoll: in B degraded: the poller had no CPU",
        "depth=1 only-here: only in A",
        "storage/seqread depth=8: only in A; the other side has it with \
         depth=16",
        "storage/seqread depth=16: only in B",
        "interrupts are booked separate in A, unknown in B",
    ] {
        assert!(all.contains(expected), "{expected}\n{all}");
    }
    assert!(!across.rows.iter().any(|row| row.variant == "uring-sqpoll"));
    let cpu = CompareMetric::CpuPerOpNs;
    assert!(!across.rows.iter().any(|row| row.metric == cpu));
    let differs = across.differences.iter().find(|d| d.key == "machine");
    assert_eq!(differs.map(|d| d.a.as_str()), Some("another"));
    assert!(table::text(&across, &[], false).contains("! not compared: "));
}

#[test]
fn what_a_measured_and_b_lost_is_doubted_and_what_b_adds_is_not() {
    let root = tempfile::tempdir().unwrap();
    let plain = || sessions(1, 0, |_| 1.0);
    let a = plain().write(root.path());
    let more =
        sessions(2, 10, |_| 1.0).contender("new-here", 1.0).write(root.path());
    let across = both(&a, &more);
    assert!(across.can_decide());
    assert_eq!(across.doubts(), [""; 0]);
    type Break = fn(&mut TrialRow);
    let breaks: [(Break, &str); 4] = [
        (
            |row| {
                if row.block == Some(1) {
                    row.status = Status::Wrong;
                }
            },
            "uring: in B wrong",
        ),
        (|row| row.status = Status::Degraded, "uring: in B degraded"),
        (|row| row.variant = "other".to_owned(), "uring: only in A"),
        (|row| row.latency_p99_ns = None, "latency_p99_ns: no value in B"),
    ];
    for (broken, expected) in breaks {
        let b = sessions(2, 10, |_| 1.0)
            .alter(move |row| {
                row.started_at_utc =
                    format!("2026-11-21T05:{:02}:00.000Z", row.session);
                if row.variant == "uring" {
                    row.reasons = "told".to_owned();
                    broken(row);
                }
            })
            .write(root.path());
        let across = both(&a, &b);
        assert_eq!(across.count(Verdict::Slower), 0, "{expected}");
        let doubts = across.doubts().join("\n");
        assert!(doubts.contains(expected), "{expected}\n{doubts}");
    }
    // Sessions all equal, and not equal to those of the other side.
    let level = |at: u64, first| {
        sessions(3, first, |_| 1.0)
            .alter(move |row| row.latency_p50_ns = Some(at))
            .write(root.path())
    };
    let doubts = both(&level(127, 40), &level(380, 50)).doubts().join("\n");
    assert!(doubts.contains("latency_p50_ns: the sessions"), "{doubts}");
    assert_eq!(both(&level(127, 60), &level(127, 70)).doubts(), [""; 0]);
    // What never ran on either side has lost nothing.
    let lacking = |seed, first| {
        sessions(seed, first, |_| 1.0)
            .skipped("uring-iopoll", "no poll queues")
            .write(root.path())
    };
    assert_eq!(both(&lacking(5, 20), &lacking(6, 30)).doubts(), [""; 0]);
}

#[test]
fn void_blocks_do_not_count_and_thin_sessions_are_told() {
    let root = tempfile::tempdir().unwrap();
    let a = sessions(1, 0, |_| 1.0).write(root.path());
    let b = sessions(2, 10, |_| 1.0)
        .alter(|row| {
            row.started_at_utc =
                format!("2026-11-21T05:{:02}:00.000Z", row.session);
            if row.session == 2 && row.block > Some(3) {
                row.status = Status::Invalid;
                speed_up(row, 1e-3);
            }
        })
        .write(root.path());
    let across = both(&a, &b);
    assert_eq!(across.count(Verdict::Slower), 0);
    let thin = across.b.runs[0].thin_sessions.join("");
    let expected = "session 2 of storage/randread-4k depth=1 rests on 3 of 12";
    assert!(thin.contains(expected), "{thin}");
    assert!(table::text(&across, &[], false).contains(expected));
}

#[test]
fn a_suspect_run_is_said_first() {
    let root = tempfile::tempdir().unwrap();
    let a = sessions(1, 0, |_| 1.0).write(root.path());
    let b = sessions(2, 10, |_| 1.0)
        .alter(|row| {
            if row.role == Role::AaTwin {
                speed_up(row, 1.2);
            }
        })
        .write(root.path());
    let across = both(&a, &b);
    assert!(!across.a.runs[0].suspect);
    assert!(across.b.runs[0].suspect);
    assert!(across.doubts().join("").contains(&across.b.runs[0].run_id));
    let text = table::text(&across, &[], true);
    assert!(text.starts_with("\x1b[31mSUSPECT RUN"), "{text}");
}

#[test]
fn what_caps_a_run_is_told_for_each_side() {
    let root = tempfile::tempdir().unwrap();
    let a = sessions(1, 0, |_| 1.0).sessions(1).write(root.path());
    let b = sessions(2, 10, |_| 1.0).sessions(1).write(root.path());
    let mut file = RunFile::read(&a).unwrap();
    file.doctor = serde_json::json!({
        "verdict": "comparison_only",
        "findings": [
            { "id": "cpu.smt", "caps": null, "observed": "off" },
            {
                "id": "noise.load",
                "caps": "comparison_only",
                "observed": "load 14 on 2 CPUs",
            },
        ],
    });
    file.write(&a).unwrap();
    let text = table::text(&both(&a, &b), &[], false);
    assert!(text.contains("! A is comparison only: load 14 on 2 CPUs"));
    assert!(!text.contains("! B is"), "{text}");
}

#[test]
fn what_makes_no_comparison_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let a = sessions(1, 0, |_| 1.0).write(root.path());
    let other = run()
        .experiment("seqread", 8, 1_000.0)
        .contender("uring", 1.0)
        .write(root.path());
    let refused = |a: &Path, b: &Path| {
        compare(&[a.to_owned()], &[b.to_owned()], None).unwrap_err()
    };
    assert!(matches!(refused(&a, &a), AcrossError::SameRun(_)));
    let nothing = refused(&a, &other);
    assert!(matches!(nothing, AcrossError::NothingInCommon { .. }));
    let message = nothing.to_string();
    assert!(message.contains("storage/seqread depth=8"), "{message}");
    let none = refused(&a, &root.path().join("none"));
    assert!(matches!(none, AcrossError::RunFile(_)), "{none}");
    assert!(matches!(
        compare(&[], std::slice::from_ref(&a), None),
        Err(AcrossError::Empty("A"))
    ));

    let void = sessions(2, 10, |_| 1.0)
        .alter(|row| row.status = Status::Invalid)
        .write(root.path());
    let message = refused(&a, &void).to_string();
    assert!(message.contains("no block of it counts in B"), "{message}");
    assert!(message.contains("nothing is left"), "{message}");

    let mut file = RunFile::read(&other).unwrap();
    file.schema_version = 0;
    file.write(&other).unwrap();
    assert!(matches!(refused(&a, &other), AcrossError::Schema { .. }));
}

#[test]
fn the_same_files_give_the_same_document() {
    let root = tempfile::tempdir().unwrap();
    let a = sessions(1, 0, |_| 1.0).write(root.path());
    let b = sessions(2, 10, |_| 1.0).write(root.path());
    let json = table::json(&both(&a, &b), &[]);
    assert_eq!(json, table::json(&both(&a, &b), &[]));
    assert_eq!(json["order"], "one_after_the_other");
    assert_eq!(json["rows"][0]["measure"], "figure");
    assert_eq!(json["rows"].as_array().unwrap().len(), 12 + 8);
}

#[test]
fn a_row_that_contradicts_itself_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let one = |seed| sessions(seed, 0, |_| 1.0).sessions(1);
    let a = one(1).write(root.path());
    let alterations: [fn(&mut TrialRow); 4] = [
        |row| row.ops_per_s = Some(1e300),
        |row| row.window_ns = Some(0),
        |row| (row.op_bytes, row.bytes) = (Some(4096), Some(7)),
        |row| row.latency_p99_ns = Some(1),
    ];
    for alter in alterations {
        let b = one(2).alter(alter).write(root.path());
        let error = compare(std::slice::from_ref(&a), &[b], None).unwrap_err();
        assert!(matches!(error, AcrossError::Contradiction { .. }), "{error}");
        let message = error.to_string();
        assert!(message.contains("trial 1 contradicts itself"), "{message}");
    }
    // Its rows under what another run says of its machine.
    let mut file = RunFile::read(&a).unwrap();
    file.run_id = "another".to_owned();
    file.write(&a).unwrap();
    let message = compare(&[a], &[one(2).write(root.path())], None);
    let message = message.unwrap_err().to_string();
    assert!(message.contains("run.json of \"another\""), "{message}");
}

#[test]
fn what_was_written_to_while_it_changed_passes_no_gate() {
    let root = tempfile::tempdir().unwrap();
    let written = |seed, first, from: u32| {
        sessions(seed, first, |_| 1.0)
            .sessions(2)
            .alter(move |row| {
                row.started_at_utc =
                    format!("2026-11-21T04:{:02}:00Z", first + row.session);
                row.path = "preconditioned=written once".to_owned();
                let falls = row.session == 2
                    && row.variant == "uring"
                    && row.block >= Some(from);
                speed_up(row, if falls { 0.5 } else { 1.0 });
            })
            .write(root.path())
    };
    let (a, b) = (written(1, 0, 99), written(2, 10, 9));
    let across = both(&a, &b);
    let steady = |variant| {
        find(&across, variant, CompareMetric::OpsPerS, Measure::Figure).steady
    };
    assert_eq!(steady("uring"), Some(Steady::No));
    assert_eq!(steady("uring-fixed"), Some(Steady::Yes));
    let expected = "storage/randread-4k depth=1 uring: not steady in 1 of 2 \
                    sessions (no longer at valid block 9) in B";
    assert_eq!(across.doubts()[0], expected);
    let text = table::text(&across, &[], false);
    assert!(text.contains(&format!("! {expected}")), "{text}");
    assert!(text.contains("undecided, not steady"), "{text}");
}

/// As the suite lists them, not as trials come or names sort.
#[test]
fn rows_stand_in_the_order_of_the_plan() {
    let root = tempfile::tempdir().unwrap();
    let planned = |seed, first| {
        let path =
            sessions(seed, first, |_| 1.0).sessions(1).write(root.path());
        let mut file = RunFile::read(&path).unwrap();
        let plan = serde_json::json!({ "experiments": [{
            "suite": "storage",
            "experiment": "storage/randread-4k",
            "params": { "depth": "1" },
            "variants": ["uring-fixed", "uring", "pread-pool"],
        }] });
        file.parts = vec![Part { plan, ..Part::default() }];
        file.write(&path).unwrap();
        path
    };
    let across = both(&planned(1, 0), &planned(2, 10));
    let names: Vec<&str> =
        across.rows[..3].iter().map(|row| row.variant.as_str()).collect();
    assert_eq!(names, ["pread-pool", "uring-fixed", "uring"]);
}
