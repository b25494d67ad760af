//! Verdicts from trials, against values worked out by hand.

mod common;

use std::convert::Infallible;

use common::{Variant, trial};
use results::compare::{Derived, derive};
use results::schema::{
    CompareMetric, CompareRow, Role, Settings, Status, Steady, TrialRow,
    Verdict,
};

/// Ops in the window of each block, by variant; the baseline comes first.
type Measured<'a> = (&'static str, Role, &'a [u64]);

const BASE: Measured<'static> = ("pread", Role::Baseline, &[100_000; 12]);

fn contender<'a>(name: &'static str, ops: &'a [u64]) -> Measured<'a> {
    (name, Role::Contender, ops)
}

fn twin(ops: &[u64]) -> Measured<'_> {
    ("pread#aa", Role::AaTwin, ops)
}

/// One experiment's trials, one block after the other.
fn trials(measured: &[Measured<'_>]) -> Vec<TrialRow> {
    let blocks = measured.iter().map(|(_, _, ops)| ops.len()).max();
    let mut rows = Vec::new();
    for block in 0..blocks.unwrap_or(0) {
        for (name, role, ops) in measured {
            let Some(ops) = ops.get(block) else { continue };
            let variant = Variant {
                name,
                role: *role,
                ops_per_s: *ops as f64 / 2.0,
                bound: if *role == Role::Contender { "nop" } else { "" },
                blocks: 0,
            };
            rows.push(TrialRow {
                block: u32::try_from(block + 1).ok(),
                ..trial(&variant, 1.0)
            });
        }
    }
    rows
}

fn settings(blocks: u32) -> Settings {
    Settings { blocks, ..Settings::default() }
}

fn derived(rows: Vec<TrialRow>, blocks: u32) -> Derived {
    let rows = rows.into_iter().map(Ok::<_, Infallible>);
    match derive(rows, &settings(blocks)) {
        Ok(derived) => derived,
        Err(never) => match never {},
    }
}

/// The row of a variant on throughput.
fn row<'a>(derived: &'a Derived, variant: &str) -> &'a CompareRow {
    on(derived, variant, CompareMetric::OpsPerS).unwrap()
}

fn on<'a>(
    derived: &'a Derived,
    variant: &str,
    metric: CompareMetric,
) -> Option<&'a CompareRow> {
    let wanted =
        |row: &&CompareRow| row.variant == variant && row.metric == metric;
    derived.rows.iter().find(wanted)
}

#[track_caller]
fn near(found: Option<f64>, expected: f64) {
    let found = found.unwrap_or(f64::NAN);
    assert!(
        (found - expected).abs() <= 1e-12 * expected.abs(),
        "{found} is not {expected}"
    );
}

/// Six blocks with ratios from 1.10 to 1.25.
const SIX: [u64; 6] = [110_000, 112_000, 115_000, 118_000, 120_000, 125_000];

#[test]
fn six_blocks_by_hand() {
    let base = ("pread", Role::Baseline, &[100_000; 6][..]);
    let nop = ("nop", Role::Bound, &[200_000, 400_000][..]);
    let found = derived(trials(&[base, contender("uring", &SIX), nop]), 6);
    let row = row(&found, "uring");
    // The 11th of the 21 Walsh averages is that of 1.15 and 1.18.
    near(row.ratio, (1.15_f64 * 1.18).sqrt());
    // Of six blocks only the widest interval covers 95 %: 1 - 2/64.
    near(row.ratio_low, 1.10);
    near(row.ratio_high, 1.25);
    near(row.level, 1.0 - 2.0 / 64.0);
    near(row.p_value, 2.0 / 64.0);
    // Alone in its family: nothing to adjust.
    near(row.p_holm, 2.0 / 64.0);
    near(row.adjusted_low, 1.10);
    near(row.adjusted_high, 1.25);
    near(row.adjusted_level, 1.0 - 2.0 / 64.0);
    near(row.baseline_median, 50_000.0);
    near(row.variant_median, 58_250.0);
    let half = (1.25_f64 / 1.10).ln() / 2.0;
    near(row.minimum_detectable_effect, (1.43 * half).exp_m1());
    // The ceiling's median is 150,000 ops/s.
    near(row.share_of_bound, 58_250.0 / 150_000.0);
    assert_eq!(row.verdict, Some(Verdict::Faster));
    assert_eq!(row.reasons, "");
    assert_eq!((row.blocks_planned, row.blocks_used), (6, 6));
    assert_eq!(row.ratio_without_flagged, None);
    assert_eq!(row.blocks_needed, None);
}

#[test]
fn faster_means_less_where_less_is_better() {
    let base = ("pread", Role::Baseline, &[100_000; 6][..]);
    let mut rows = trials(&[base, contender("uring", &SIX)]);
    for row in &mut rows {
        let contender = row.role == Role::Contender;
        row.latency_p50_ns = Some(if contender { 900 } else { 1000 });
        row.latency_p99_ns = Some(if contender { 5500 } else { 5000 });
        row.cpu_per_op_ns = None;
    }
    let found = derived(rows, 6);
    let p50 = on(&found, "uring", CompareMetric::LatencyP50Ns).unwrap();
    near(p50.ratio, 0.9);
    assert_eq!(p50.verdict, Some(Verdict::Faster));
    let p99 = on(&found, "uring", CompareMetric::LatencyP99Ns).unwrap();
    near(p99.ratio, 1.1);
    assert_eq!(p99.verdict, Some(Verdict::Slower));
    let cpu = on(&found, "uring", CompareMetric::CpuPerOpNs);
    assert!(cpu.is_none(), "what was not measured has no row");
}

#[test]
fn holm_over_three_variants_by_hand() {
    let up = |percent: [i64; 12]| {
        percent.map(|p| u64::try_from(100_000 + 1000 * p).unwrap())
    };
    // All of one sign: W = 0. One against, of rank 2: W = 2, and so 3 of the
    // 4096 sign patterns lie on either side. Signs in turn: nothing.
    let clear = up([3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]);
    let most = up([3, -4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]);
    let none = up([1, -2, 3, -4, 5, -6, 7, -8, 9, -10, 11, -12]);
    let found = derived(
        trials(&[
            BASE,
            contender("clear", &clear),
            contender("most", &most),
            contender("none", &none),
        ]),
        12,
    );
    let (clear, most) = (row(&found, "clear"), row(&found, "most"));
    near(clear.p_value, 2.0 / 4096.0);
    near(most.p_value, 2.0 * 3.0 / 4096.0);
    near(clear.p_holm, 3.0 * 2.0 / 4096.0);
    near(most.p_holm, 2.0 * 6.0 / 4096.0);
    // At 0.05/3 there is room for 33 patterns on a side, at 0.05/2 for 43,
    // at 0.05 for 87.
    near(clear.adjusted_level, 1.0 - 2.0 * 33.0 / 4096.0);
    near(most.adjusted_level, 1.0 - 2.0 * 43.0 / 4096.0);
    let none = row(&found, "none");
    near(none.adjusted_level, 1.0 - 2.0 * 87.0 / 4096.0);
    near(none.level, 1.0 - 2.0 * 87.0 / 4096.0);
    assert_eq!(clear.verdict, Some(Verdict::Faster));
    assert_eq!(most.verdict, Some(Verdict::Faster));
    assert_eq!(none.verdict, Some(Verdict::Undecided));
    assert!(none.blocks_needed > Some(12));
    assert!(clear.adjusted_low < clear.ratio_low, "wider than unadjusted");
}

#[test]
fn too_large_a_family_is_said() {
    let base = ("pread", Role::Baseline, &[100_000; 6][..]);
    let found =
        derived(trials(&[base, contender("a", &SIX), contender("b", &SIX)]), 6);
    let row = row(&found, "a");
    near(row.ratio_low, 1.10);
    assert_eq!(row.adjusted_low, None);
    near(row.p_holm, 2.0 * 2.0 / 64.0);
    assert_eq!(row.verdict, Some(Verdict::Undecided));
    assert_eq!(row.reasons, "6 blocks are too few for a family of 2 rows");
}

#[test]
fn fewer_than_six_blocks_decide_nothing() {
    let base = ("pread", Role::Baseline, &[100_000; 5][..]);
    // The 90 % interval of 5 blocks would say "same".
    let found = derived(trials(&[base, contender("uring", &[100_100; 5])]), 5);
    let row = row(&found, "uring");
    near(row.ratio, 1.001);
    assert_eq!(row.ratio_low, None);
    assert_eq!(row.verdict, Some(Verdict::Undecided));
    assert_eq!(row.reasons, "5 valid blocks, a 95 % interval needs 6");
}

#[test]
fn ties_are_the_same() {
    let found =
        derived(trials(&[BASE, contender("uring", &[100_000; 12])]), 12);
    let row = row(&found, "uring");
    near(row.ratio, 1.0);
    near(row.p_value, 1.0);
    near(row.minimum_detectable_effect, 0.0);
    assert_eq!(row.verdict, Some(Verdict::Same));
}

#[test]
fn a_sure_effect_below_the_threshold_is_not_faster() {
    let found =
        derived(trials(&[BASE, contender("uring", &[101_000; 12])]), 12);
    let row = row(&found, "uring");
    assert!(row.adjusted_low > Some(1.0));
    assert_eq!(row.verdict, Some(Verdict::Same));
}

#[test]
fn a_void_block_is_void_for_all_and_its_last_attempt_counts() {
    let ops = [120_000; 12];
    let mut rows =
        trials(&[BASE, contender("uring", &ops), contender("poll", &ops)]);
    // Block 1: disturbed, then run again, faster. Block 2: an error, twice.
    for row in rows.iter_mut().filter(|row| row.block <= Some(2)) {
        if row.variant == "poll" {
            row.status = Status::Invalid;
            row.ops_per_s = Some(1.0);
        }
    }
    let mut again = trials(&[
        BASE,
        contender("uring", &[150_000, 150_000]),
        contender("poll", &ops),
    ]);
    again.retain(|row| row.block <= Some(2));
    for row in &mut again {
        row.attempt = Some(2);
        if row.block == Some(2) && row.variant == "uring" {
            row.status = Status::Error;
        }
    }
    rows.extend(again);
    let found = derived(rows, 12);
    for name in ["uring", "poll"] {
        let row = row(&found, name);
        assert_eq!(row.blocks_used, 11, "{name}");
        assert_eq!(row.blocks_invalid, 3, "{name}");
    }
    // The 11th largest of the Walsh averages: 1.5 stands in one block, so in
    // one of them alone and in ten together with 1.2.
    near(row(&found, "uring").ratio_high, (1.2_f64 * 1.5).sqrt());
    near(row(&found, "poll").variant_median, 60_000.0);
    assert_eq!(found.experiments[0].blocks_run_again, 2);
    assert_eq!(found.experiments[0].blocks_valid, 11);
}

#[test]
fn a_disturbed_bound_voids_no_block() {
    let nop = ("nop", Role::Bound, &[200_000, 900_000][..]);
    let mut rows = trials(&[BASE, contender("uring", &[120_000; 12]), nop]);
    for row in rows.iter_mut().filter(|row| row.ops == Some(900_000)) {
        row.status = Status::Invalid;
    }
    let found = derived(rows, 12);
    assert_eq!(row(&found, "uring").blocks_used, 12);
    near(row(&found, "uring").share_of_bound, 0.6);
}

#[test]
fn flagged_trials_stay_and_the_estimate_without_them_stands_beside() {
    let mut ops = [120_000; 12];
    ops[..3].fill(150_000);
    let mut rows = trials(&[BASE, contender("uring", &ops)]);
    for row in rows.iter_mut().filter(|row| row.ops == Some(150_000)) {
        row.status = Status::Nonsteady;
    }
    let found = derived(rows, 12);
    let with = row(&found, "uring");
    near(with.ratio_high, (1.2_f64 * 1.5).sqrt());
    near(with.ratio_without_flagged, 1.2);
    assert_eq!(with.blocks_used, 12);
    assert_eq!(with.verdict, Some(Verdict::Faster));

    // A flagged baseline flags the pair as well.
    let mut rows = trials(&[BASE, contender("uring", &ops)]);
    for row in rows.iter_mut().filter(|row| row.role == Role::Baseline) {
        row.status = Status::Nonsteady;
    }
    let found = derived(rows, 12);
    let with = row(&found, "uring");
    assert_eq!(with.ratio_without_flagged, None);
    assert_eq!(with.reasons, "every block has a nonsteady trial");
}

#[test]
fn a_degraded_variant_has_figures_and_no_verdict() {
    let ops = [120_000; 12];
    let mut rows =
        trials(&[BASE, contender("uring", &ops), contender("poll", &ops)]);
    let degraded = rows.iter_mut().find(|row| row.variant == "poll").unwrap();
    degraded.status = Status::Degraded;
    degraded.reasons = "polled=no".to_owned();
    let found = derived(rows, 12);
    let poll = row(&found, "poll");
    near(poll.ratio, 1.2);
    near(poll.level, 1.0 - 2.0 * 87.0 / 4096.0);
    assert_eq!(poll.verdict, None);
    assert_eq!(poll.reasons, "degraded: polled=no");
    assert_eq!((poll.p_holm, poll.adjusted_low), (None, None));
    // The other is alone in its family now.
    let uring = row(&found, "uring");
    assert_eq!(uring.p_holm, uring.p_value);
    assert_eq!(uring.verdict, Some(Verdict::Faster));
    assert_eq!(uring.blocks_used, 12, "a degraded trial voids no block");
}

#[test]
fn a_baseline_that_is_degraded_or_missing_leaves_no_verdict() {
    let ops = [120_000; 12];
    let mut rows = trials(&[BASE, contender("uring", &ops)]);
    rows[0].status = Status::Degraded;
    rows[0].reasons = "direct=no".to_owned();
    let found = derived(rows, 12);
    assert_eq!(row(&found, "uring").verdict, None);
    assert_eq!(row(&found, "uring").reasons, "baseline degraded: direct=no");

    let found = derived(trials(&[contender("uring", &ops)]), 12);
    let alone = row(&found, "uring");
    near(alone.variant_median, 60_000.0);
    assert_eq!((alone.ratio, alone.verdict), (None, None));
    assert!(alone.reasons.contains("no baseline"), "{}", alone.reasons);
}

#[test]
fn wrong_data_takes_the_verdict_even_when_run_again() {
    let ops = [120_000; 12];
    let mut rows = trials(&[BASE, contender("uring", &ops)]);
    let wrong = TrialRow {
        status: Status::Wrong,
        reasons: "block 7 holds block 9".to_owned(),
        ..rows[1].clone()
    };
    rows[0].attempt = Some(2);
    rows[1].attempt = Some(2);
    let first = TrialRow { attempt: Some(1), ..rows[0].clone() };
    rows.splice(0..0, [first, wrong]);
    let found = derived(rows, 12);
    let uring = row(&found, "uring");
    assert_eq!(uring.blocks_used, 12);
    assert_eq!(uring.verdict, None);
    assert_eq!(uring.reasons, "wrong: block 7 holds block 9");
}

#[test]
fn a_skipped_variant_is_listed_once() {
    let mut rows = trials(&[BASE, contender("uring", &[120_000; 12])]);
    let skipped = TrialRow {
        variant: "passthrough".to_owned(),
        status: Status::Skipped,
        reasons: "no /dev/ng0n1".to_owned(),
        block: None,
        ..TrialRow::default()
    };
    let skipped = TrialRow {
        suite: rows[0].suite.clone(),
        experiment: rows[0].experiment.clone(),
        role: Role::Contender,
        ..skipped
    };
    rows.insert(0, skipped);
    let found = derived(rows, 12);
    let listed: Vec<_> =
        found.rows.iter().filter(|row| row.variant == "passthrough").collect();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].reasons, "skipped: no /dev/ng0n1");
    assert_eq!(listed[0].verdict, None);
    assert_eq!(listed[0].ratio, None);
    // It is no part of the other's family.
    let uring = row(&found, "uring");
    assert_eq!(uring.p_holm, uring.p_value);
}

#[test]
fn two_sessions_are_pooled_by_session_and_block() {
    let base = ("pread", Role::Baseline, &[100_000; 6][..]);
    let first = trials(&[base, contender("uring", &SIX)]);
    let mut second = trials(&[base, contender("uring", &[130_000; 6])]);
    for row in &mut second {
        row.session = 2;
    }
    let rows = first.into_iter().chain(second).map(Ok::<_, Infallible>);
    let settings = Settings { sessions: 2, ..settings(6) };
    let Ok(found) = derive(rows, &settings);
    let row = row(&found, "uring");
    assert_eq!((row.blocks_planned, row.blocks_used), (12, 12));
    near(row.p_value, 2.0 / 4096.0);
    assert_eq!(found.experiments.len(), 1);
}

#[test]
fn values_that_are_missing_are_said() {
    let mut rows = trials(&[BASE, contender("uring", &[120_000; 12])]);
    for row in rows.iter_mut().filter(|row| row.block <= Some(3)) {
        row.latency_p99_ns = None;
    }
    let found = derived(rows, 12);
    let p99 = on(&found, "uring", CompareMetric::LatencyP99Ns).unwrap();
    assert_eq!(p99.blocks_used, 9);
    assert_eq!(
        p99.reasons,
        "3 of 12 valid blocks lack latency_p99_ns of the two"
    );
    assert_eq!(row(&found, "uring").blocks_used, 12);
}

#[test]
fn a_twin_that_differs_makes_the_run_suspect() {
    let same = derived(
        trials(&[
            BASE,
            twin(&[100_000; 12]),
            contender("uring", &[120_000; 12]),
        ]),
        12,
    );
    assert!(!same.aa.suspect);
    assert_eq!(same.aa.rows.len(), 1);

    let two_experiments = |ops: &[u64]| {
        let mut rows = trials(&[BASE, twin(ops)]);
        let mut other = trials(&[BASE, twin(&[100_000; 12])]);
        for row in &mut other {
            row.experiment = "seqread".to_owned();
        }
        rows.extend(other);
        derived(rows, 12)
    };
    let off = two_experiments(&[100_500; 12]);
    assert!(off.aa.suspect);
    let twin = row(&off, "pread#aa");
    assert_eq!(twin.verdict, None, "a twin makes no claim");
    near(twin.p_holm, 2.0 * 2.0 / 4096.0);
    // Only throughput counts, in one family over the run.
    let p50 = on(&off, "pread#aa", CompareMetric::LatencyP50Ns).unwrap();
    assert_eq!(p50.p_holm, None);
    assert_eq!(off.aa.rows.len(), 2);
}

#[test]
fn order_in_the_file_does_not_matter() {
    let measured =
        [BASE, contender("b", &[120_000; 12]), contender("a", &[101_000; 12])];
    let rows = trials(&measured);
    let mut turned = rows.clone();
    for block in turned.chunks_mut(3) {
        block.rotate_left(1);
    }
    assert_eq!(derived(rows, 12).rows, derived(turned, 12).rows);
}

/// Two sessions, each steady in itself, on files that differ.
#[test]
fn each_session_is_steady_or_not_by_itself() {
    let ops: [u64; 12] = std::array::from_fn(|i| match i {
        ..6 => 90_000,
        _ => 60_000,
    });
    let mut rows = trials(&[("pwrite", Role::Baseline, &ops[..])]);
    for row in &mut rows {
        row.path = "preconditioned=written once".to_owned();
    }
    let why = |rows| {
        let derived = derived(rows, 12);
        derived.experiments[0].variants[0].not_steady.clone()
    };
    assert_ne!(why(rows.clone()), None);
    for row in rows.iter_mut().skip(6) {
        row.session = 2;
    }
    assert_eq!(why(rows.clone()), None);
    rows[11].ops_per_s = Some(20_000.0);
    let told = "not steady in 1 of 2 sessions (no longer at valid block 6)";
    assert_eq!(why(rows).as_deref(), Some(told));
}

/// Falls off a cliff at the ninth block, and so does the baseline.
const LEAVING: [u64; 12] = [
    90_000, 90_000, 90_000, 90_000, 90_000, 90_000, 90_000, 90_000, 50_000,
    50_000, 50_000, 50_000,
];

#[test]
fn blocks_that_leave_steady_state_are_told_where_there_is_a_history() {
    let base: [u64; 12] = LEAVING.map(|ops| ops * 10 / 9);
    let measured =
        [("pwrite", Role::Baseline, &base[..]), contender("uring", &LEAVING)];
    let mut rows = trials(&measured);
    let plain = derived(rows.clone(), 12);
    assert_eq!(row(&plain, "uring").reasons, "");
    assert_eq!(row(&plain, "uring").steady, None);
    for row in &mut rows {
        row.path = "o_direct=yes;preconditioned=written once".to_owned();
    }
    let judged = derived(rows, 12);
    let found = row(&judged, "uring");
    let why = "not steady (no longer at valid block 9)";
    assert_eq!(found.reasons, why);
    assert_eq!(found.verdict, Some(Verdict::Slower), "by the pairs");
    assert!(judged.rows.iter().all(|row| row.steady == Some(Steady::No)));
    let variants = &judged.experiments[0].variants;
    let told: Vec<_> =
        variants.iter().map(|v| v.not_steady.as_deref()).collect();
    assert_eq!(told, [Some(why), Some(why)]);
    let text =
        results::table::text(&judged, None, results::table::Style::default());
    assert!(text.contains("pwrite not steady"), "{text}");
}

#[test]
fn a_device_with_room_to_spare_is_told_below_the_table() {
    let text = |path: &str| {
        let base = [100_000; 12];
        let mut rows = trials(&[("pwrite", Role::Baseline, &base[..])]);
        for row in &mut rows {
            row.path = format!("o_direct=yes;preconditioned={path}");
        }
        let derived = derived(rows, 12);
        // It has to be steady as well, written whole or not.
        assert_eq!(derived.experiments[0].variants[0].not_steady, None);
        results::table::text(&derived, None, results::table::Style::default())
    };
    assert!(text("no").contains("--precondition 2"));
    for path in ["written once", "written twice", "nothing"] {
        assert!(!text(path).contains("--precondition"), "{path}");
    }
}
