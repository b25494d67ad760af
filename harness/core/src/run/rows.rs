//! From what a worker replied to rows of the CSV files.

use std::time::Duration;

use results::{
    schema::{
        Better, CpuAccounting, LatencyKind, LoadMode, Role, Status, TrialRow,
        WindowRow,
    },
    writer::{BlockRows, Metric, WriteError},
};

use super::child::Ending;
use crate::{
    machine::cpu_set::CpuSet,
    measure::{
        cost::Accounting,
        recorder::quantile,
        trial::{Outcome, Reply, TrialError, TrialSpec},
    },
    suite,
};

/// Drift over the window, as a share of the median slice, from which a trial
/// is flagged. It stays in the primary estimate.
const DRIFT_LIMIT: f64 = 0.10;

/// Shuffles and level of the change-point test, and the least jump that
/// matters: windows are not independent, so small p-values alone are common.
const SHUFFLES: usize = 999;
const CHANGE_LEVEL: f64 = 0.01;
const JUMP_LIMIT: f64 = 0.10;

/// Tells the hidden second copy of the baseline from the baseline.
const TWIN_SUFFIX: &str = "#aa";

/// What the runner knows about a trial.
#[derive(Debug)]
pub struct Context<'a> {
    /// Session, from 1.
    pub session: u32,
    /// Block, from 1.
    pub block: u32,
    /// Attempt, from 1.
    pub attempt: u32,
    /// The experiment.
    pub experiment: &'a suite::Experiment,
    /// The variant.
    pub variant: &'a suite::Variant,
    /// The hidden copy of the baseline.
    pub twin: bool,
    /// The target's name.
    pub target: &'a str,
    /// What the worker was told.
    pub spec: &'a TrialSpec,
    /// When it was started.
    pub started_at_utc: String,
    /// The same since 1970.
    pub started_since_epoch: Duration,
}

/// Adds all rows of one trial to its block and returns how it ended.
///
/// # Errors
/// The histogram could not be encoded.
pub fn push(
    block: &mut BlockRows,
    context: &Context<'_>,
    ending: &Ending,
) -> Result<Status, WriteError> {
    let mut row = base_row(context);
    match ending {
        Ending::Replied { pid, reply: Reply::Measured(outcome) } => {
            row.worker_pid = Some(*pid);
            fill(&mut row, context, outcome);
            let status = row.status;
            block.push_trial(row);
            push_details(block, context, outcome)?;
            Ok(status)
        }
        Ending::Replied { pid, reply: Reply::Failed(error) } => {
            row.worker_pid = Some(*pid);
            row.status = match error {
                TrialError::Wrong(_) => Status::Wrong,
                TrialError::Unready(_) => Status::Invalid,
                _ => Status::Error,
            };
            // The first op that fails ends the trial.
            let failed_op = matches!(error, TrialError::Op { .. });
            row.errors = failed_op.then_some(1);
            row.reasons = one_reason(&error.to_string());
            let status = row.status;
            block.push_trial(row);
            Ok(status)
        }
        Ending::Failed { pid, reason } => {
            row.worker_pid = *pid;
            row.status = Status::Error;
            row.reasons = one_reason(reason);
            block.push_trial(row);
            Ok(Status::Error)
        }
        // The block is abandoned; nothing of it is written.
        Ending::Interrupted => Ok(Status::Error),
    }
}

/// The row of a variant that cannot run here.
pub fn skipped(
    suite: &str,
    experiment: &suite::Experiment,
    variant: &suite::Variant,
    session: u32,
    reason: &str,
    remedy: &str,
) -> TrialRow {
    TrialRow {
        session,
        suite: suite.to_owned(),
        experiment: experiment.name().to_owned(),
        params: experiment.params.to_string(),
        variant: variant.id.to_owned(),
        role: role(variant.role, false),
        bound: variant.bound.unwrap_or_default().to_owned(),
        status: Status::Skipped,
        reasons: join(&[reason.to_owned(), remedy.to_owned()]),
        ..TrialRow::default()
    }
}

fn role(role: suite::Role, twin: bool) -> Role {
    match (role, twin) {
        (_, true) => Role::AaTwin,
        (suite::Role::Baseline, false) => Role::Baseline,
        (suite::Role::Contender, false) => Role::Contender,
        (suite::Role::Bound, false) => Role::Bound,
    }
}

fn base_row(context: &Context<'_>) -> TrialRow {
    let spec = context.spec;
    TrialRow {
        session: context.session,
        suite: spec.suite.clone(),
        experiment: context.experiment.name().to_owned(),
        params: spec.params.to_string(),
        variant: match context.twin {
            true => format!("{}{TWIN_SUFFIX}", context.variant.id),
            false => context.variant.id.to_owned(),
        },
        role: role(context.variant.role, context.twin),
        bound: context.variant.bound.unwrap_or_default().to_owned(),
        block: Some(context.block),
        attempt: Some(context.attempt),
        seed: Some(spec.seed),
        started_at_utc: context.started_at_utc.clone(),
        load_mode: Some(load_mode(context.experiment.latency_kind)),
        cpus: CpuSet::from_iter(spec.cpus.iter().copied()).to_string(),
        numa_node: spec.numa_node.map(|node| node.0),
        target: context.target.to_owned(),
        warmup_ns: Some(spec.warmup_ns),
        ..TrialRow::default()
    }
}

/// Every open loop is about its latency, and only there is an intended start
/// that it could count from.
fn load_mode(latency_kind: suite::LatencyKind) -> LoadMode {
    match latency_kind {
        suite::LatencyKind::Response => LoadMode::Open,
        _ => LoadMode::Closed,
    }
}

/// In an open loop as many ops are in flight as come together.
fn shown_depth(mode: LoadMode, depth: usize) -> Option<u32> {
    match mode {
        LoadMode::Open => None,
        LoadMode::Closed => u32::try_from(depth).ok(),
    }
}

fn fill(row: &mut TrialRow, context: &Context<'_>, outcome: &Outcome) {
    let shape = &outcome.shape;
    let ops = outcome.ops();
    row.threads = u32::try_from(shape.threads).ok();
    row.depth = row.load_mode.and_then(|mode| shown_depth(mode, shape.depth));
    row.batch = u32::try_from(shape.batch).ok();
    row.op_bytes = Some(shape.op_bytes);
    row.window_ns = Some(outcome.window_ns);
    row.ops = Some(ops);
    row.bytes = Some(ops * shape.op_bytes);
    row.errors = Some(0);
    row.ops_per_s = ratio(ops as f64 * 1e9, outcome.window_ns as f64);
    row.verified_ops = Some(outcome.evidence.verified_ops);
    row.checksummed_ops = Some(outcome.evidence.checksummed_ops);
    row.path = outcome
        .evidence
        .path
        .iter()
        .map(|(key, value)| clean(&format!("{key}={value}")))
        .collect::<Vec<_>>()
        .join(";");
    fill_latency(row, context, outcome);
    fill_cost(row, outcome, ops);
    fill_signals(row, outcome);
    let slices: Vec<f64> =
        whole_slices(outcome).iter().map(|ops| *ops as f64).collect();
    row.slope_per_window = relative_slope(&slices);
    let per_thread: Vec<f64> =
        outcome.thread_ops.iter().map(|ops| *ops as f64).collect();
    row.fairness_jain = stats::summary::jain_fairness(&per_thread);
    (row.status, row.reasons) = judge(context, outcome, ops, &slices);
}

/// The worst that can be said decides the status; all reasons are kept.
fn judge(
    context: &Context<'_>,
    outcome: &Outcome,
    ops: u64,
    slices: &[f64],
) -> (Status, String) {
    if ops == 0 {
        let reason = "no op completed in the window".to_owned();
        return (Status::Invalid, reason);
    }
    let invalid =
        outcome.signals.verdict(outcome.window_ns, context.variant.spinning);
    let degraded = &outcome.evidence.degraded;
    let trend = trend(slices, context.spec.seed);
    let status = if !invalid.is_empty() {
        Status::Invalid
    } else if !degraded.is_empty() {
        Status::Degraded
    } else if trend.is_some() {
        Status::Nonsteady
    } else {
        Status::Ok
    };
    let reasons: Vec<String> = invalid
        .into_iter()
        .chain(degraded.iter().cloned())
        .chain(trend)
        .collect();
    (status, join(&reasons))
}

fn fill_latency(row: &mut TrialRow, context: &Context<'_>, outcome: &Outcome) {
    let latencies = &outcome.latencies;
    row.latency_kind = match context.experiment.latency_kind {
        suite::LatencyKind::Service => Some(LatencyKind::Service),
        suite::LatencyKind::RoundTrip => Some(LatencyKind::Rtt),
        suite::LatencyKind::Response => Some(LatencyKind::Response),
        suite::LatencyKind::None => None,
    };
    if latencies.is_empty() {
        row.latency_kind = None;
        return;
    }
    let quantile = |q| quantile(latencies, q);
    row.latency_count = Some(latencies.len());
    row.latency_sampled_every = Some(outcome.shape.sampled_every);
    row.latency_min_ns = Some(latencies.min());
    row.latency_p50_ns = quantile(0.5);
    row.latency_p90_ns = quantile(0.9);
    row.latency_p99_ns = quantile(0.99);
    row.latency_p999_ns = quantile(0.999);
    row.latency_p9999_ns = quantile(0.9999);
    row.latency_max_ns = Some(latencies.max());
    row.latency_mean_ns = Some(latencies.mean());
    row.latency_stamp_error_ns = Some(outcome.stamp_error_ns);
}

fn fill_cost(row: &mut TrialRow, outcome: &Outcome, ops: u64) {
    let cost = &outcome.cost;
    row.cpu_ns = Some(cost.cpu_ns);
    row.cpu_kernel_threads_ns = Some(cost.kernel_threads_ns);
    row.cpu_interrupts_ns = cost.interrupts_ns;
    row.cpu_accounting = Some(match cost.accounting {
        Accounting::InterruptsInTasks => CpuAccounting::InterruptsInTasks,
        Accounting::Separate => CpuAccounting::Separate,
        Accounting::Unknown => CpuAccounting::Unknown,
    });
    row.cpu_per_op_ns = ratio(cost.cpu_ns as f64, ops as f64);
    row.busy_cpus = ratio(cost.cpu_ns as f64, outcome.window_ns as f64);
    let per_op =
        |count: Option<u64>| count.and_then(|c| ratio(c as f64, ops as f64));
    row.cycles_per_op = per_op(cost.counts.cycles);
    row.instructions_per_op = per_op(cost.counts.instructions);
    row.cache_misses_per_op = per_op(cost.counts.cache_misses);
    row.syscalls_per_op = outcome
        .evidence
        .calls
        .and_then(|calls| ratio(calls.made as f64, calls.ops as f64));
}

fn fill_signals(row: &mut TrialRow, outcome: &Outcome) {
    let signals = &outcome.signals;
    row.switches_voluntary = signals.switches_voluntary;
    row.switches_involuntary = signals.switches_involuntary;
    row.run_queue_wait_ns = signals.run_queue_wait_ns;
    row.steal_ns = signals.steal_ns;
    row.foreign_cpu_ns = signals.foreign_cpu_ns;
    row.foreign_interrupts = signals.foreign_interrupts;
    // A thread found on another CPU than its own ends its trial as an error.
    row.migrations = Some(0);
    row.faults_minor = signals.faults_minor;
    row.faults_major = signals.faults_major;
    row.temperature_max_millicelsius = signals
        .temperature_max_millicelsius
        .and_then(|t| u64::try_from(t).ok());
    row.frequency_min_khz = signals.frequency_min_khz;
    row.throttle_events = signals.throttle_events;
}

fn push_details(
    block: &mut BlockRows,
    context: &Context<'_>,
    outcome: &Outcome,
) -> Result<(), WriteError> {
    for extra in &outcome.evidence.metrics {
        if !extra.value.is_finite() {
            continue;
        }
        block.push_metric(Metric {
            thread: extra.thread.and_then(|t| u32::try_from(t).ok()),
            name: &extra.name,
            unit: &extra.unit,
            better: match extra.better.as_str() {
                "higher" => Better::Higher,
                "lower" => Better::Lower,
                _ => Better::None,
            },
            value: extra.value,
        });
    }
    if outcome.thread_ops.len() > 1 {
        for (thread, ops) in outcome.thread_ops.iter().enumerate() {
            block.push_metric(Metric {
                thread: u32::try_from(thread).ok(),
                name: "ops",
                unit: "ops",
                better: Better::Higher,
                value: *ops as f64,
            });
        }
    }
    push_windows(block, outcome);
    if outcome.latencies.is_empty() {
        return Ok(());
    }
    let start = context.started_since_epoch
        + Duration::from_nanos(context.spec.warmup_ns);
    block.push_histogram(start, &outcome.latencies)
}

fn push_windows(block: &mut BlockRows, outcome: &Outcome) {
    for (index, ops) in outcome.slices.iter().enumerate() {
        let start_ns = index as u64 * outcome.slice_ns;
        block.push_window(WindowRow {
            window_index: u32::try_from(index).unwrap_or(u32::MAX),
            start_ns,
            duration_ns: outcome.slice_ns.min(outcome.window_ns - start_ns),
            ops: *ops,
            bytes: ops * outcome.shape.op_bytes,
            ..WindowRow::default()
        });
    }
}

/// Slices of full length; a shorter last one would look like a drop.
fn whole_slices(outcome: &Outcome) -> &[u64] {
    let whole = outcome.window_ns / outcome.slice_ns.max(1);
    let whole = usize::try_from(whole).unwrap_or(usize::MAX);
    &outcome.slices[..whole.min(outcome.slices.len())]
}

/// Slope per slice as a share of the median slice.
fn relative_slope(slices: &[f64]) -> Option<f64> {
    let x: Vec<f64> = (0..slices.len()).map(|i| i as f64).collect();
    let slope = stats::theil_sen::slope(&x, slices)?;
    ratio(slope, stats::summary::median(slices)?)
}

/// A trend or a jump within the window, in words.
fn trend(slices: &[f64], seed: u64) -> Option<String> {
    if slices.len() < 5 {
        return None;
    }
    let drift = relative_slope(slices)? * slices.len() as f64;
    if drift.abs() > DRIFT_LIMIT {
        return Some(format!("drift of {:+.0} % in the window", drift * 100.0));
    }
    let change = stats::theil_sen::change_point(slices, SHUFFLES, seed)?;
    let jump = ratio(change.shift, stats::summary::median(slices)?)?;
    (change.p_value <= CHANGE_LEVEL && jump.abs() > JUMP_LIMIT).then(|| {
        format!("jump of {:+.0} % at slice {}", jump * 100.0, change.index)
    })
}

fn ratio(numerator: f64, denominator: f64) -> Option<f64> {
    let ratio = numerator / denominator;
    ratio.is_finite().then_some(ratio)
}

/// `;` separates reasons, so none may hold one.
fn clean(text: &str) -> String {
    text.replace(';', ",").replace(['\n', '\r'], " ")
}

fn one_reason(text: &str) -> String {
    clean(text)
}

fn join(reasons: &[String]) -> String {
    let clean: Vec<String> = reasons
        .iter()
        .filter(|reason| !reason.is_empty())
        .map(|reason| clean(reason))
        .collect();
    clean.join(";")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_open_loop_says_so_and_has_no_depth() {
        for (latency_kind, mode, depth) in [
            (suite::LatencyKind::Response, LoadMode::Open, None),
            (suite::LatencyKind::Service, LoadMode::Closed, Some(4)),
            (suite::LatencyKind::None, LoadMode::Closed, Some(4)),
        ] {
            assert_eq!(load_mode(latency_kind), mode);
            assert_eq!(shown_depth(mode, 4), depth);
        }
    }

    #[test]
    fn a_steady_series_has_no_trend() {
        let slices = [100.0, 103.0, 98.0, 101.0, 99.0, 102.0, 100.0];
        assert_eq!(trend(&slices, 1), None);
    }

    #[test]
    fn a_drift_and_a_jump_are_told() {
        let drift: Vec<f64> = (0..20).map(|i| 100.0 + f64::from(i)).collect();
        assert!(trend(&drift, 1).is_some_and(|t| t.contains("drift of +")));
        let jump: Vec<f64> = (0..20)
            .map(|i| if i < 17 { 100.0 } else { 70.0 } + f64::from(i % 3))
            .collect();
        assert!(trend(&jump, 1).is_some_and(|t| t.contains("jump of -")));
    }

    #[test]
    fn reasons_cannot_break_their_list() {
        let text = join(&["a; b".into(), String::new(), "c\nd".into()]);
        assert_eq!(text, "a, b;c d");
    }
}
