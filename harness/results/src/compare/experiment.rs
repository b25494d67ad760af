//! What a reader wants to know of an experiment beside the comparisons.

use serde::Serialize;
use stats::summary::median;

use super::gather::{Experiment, Variant, count};
use super::plan::Plan;
use crate::schema::{
    CompareMetric, CompareRow, LatencyKind, Role, Settings, Status,
};

/// One experiment: its blocks and its variants.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ExperimentSummary {
    /// `storage`, `net` or `ipc`.
    pub suite: String,
    /// The experiment's id within its suite.
    pub experiment: String,
    /// Its parameters.
    pub params: String,
    /// Blocks planned over all sessions.
    pub blocks_planned: u32,
    /// Blocks whose last attempt counts.
    pub blocks_valid: u32,
    /// Blocks that were run again.
    pub blocks_run_again: u32,
    /// One pass, of which nothing is run again.
    pub smoke: bool,
    /// What it is about: throughput, or the median latency of an open loop.
    pub primary: CompareMetric,
    /// Baseline first, then in the order of the suite's list, then the A/A
    /// twin, then the bounds.
    pub variants: Vec<VariantSummary>,
}

impl ExperimentSummary {
    /// Whether a row is of this experiment.
    pub fn owns(&self, row: &CompareRow) -> bool {
        row.suite == self.suite
            && row.experiment == self.experiment
            && row.params == self.params
    }
}

/// One variant of an experiment.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct VariantSummary {
    /// Its id.
    pub variant: String,
    /// What it is for.
    pub role: Role,
    /// Its own floor or ceiling; empty if none.
    pub bound: String,
    /// Why it was not started, if it was not.
    pub skipped: Option<String>,
    /// Why it gets no verdict, if it gets none.
    pub disqualified: Option<String>,
    /// Why its blocks are not in steady state, where they have to be.
    pub not_steady: Option<String>,
    /// Whether it worked on a device that was not written whole beforehand.
    pub not_preconditioned: bool,
    /// Trials that ended `nonsteady`, over all attempts.
    pub trials_nonsteady: u32,
    /// Trials that ended `invalid`, over all attempts.
    pub trials_invalid: u32,
    /// Trials that ended `wrong` or `error`, over all attempts.
    pub trials_failed: u32,
    /// What its latencies are the time of.
    pub latency_kind: Option<LatencyKind>,
    /// Threads that issue ops.
    pub threads: Option<u32>,
    /// Share of its own floor or ceiling on throughput.
    pub share_of_bound: Option<f64>,
    /// Median of the processor cycles per op.
    pub cycles_per_op: Option<f64>,
    /// Median of the system calls per op.
    pub syscalls_per_op: Option<f64>,
    /// Medians over the blocks that count.
    pub medians: Figures,
}

/// One figure per metric.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Figures {
    /// Completed ops per second.
    pub ops_per_s: Option<f64>,
    /// Median latency.
    pub latency_p50_ns: Option<f64>,
    /// 99th percentile of latency.
    pub latency_p99_ns: Option<f64>,
    /// CPU time per op.
    pub cpu_per_op_ns: Option<f64>,
}

impl Figures {
    /// The figure of a metric.
    pub fn get(&self, metric: CompareMetric) -> Option<f64> {
        match metric {
            CompareMetric::OpsPerS => self.ops_per_s,
            CompareMetric::LatencyP50Ns => self.latency_p50_ns,
            CompareMetric::LatencyP99Ns => self.latency_p99_ns,
            CompareMetric::CpuPerOpNs => self.cpu_per_op_ns,
        }
    }
}

pub(super) fn summary(
    experiment: &Experiment,
    settings: &Settings,
    plan: &Plan,
) -> ExperimentSummary {
    let [suite, id, params] = experiment.id.clone();
    let mut variants: Vec<VariantSummary> = (0..experiment.variants.len())
        .map(|index| variant_summary(experiment, index))
        .collect();
    variants.sort_by_key(|variant| {
        let place = plan.place(&experiment.id, &variant.variant);
        (rank(variant.role), place)
    });
    ExperimentSummary {
        suite,
        experiment: id,
        params,
        blocks_planned: settings.blocks.saturating_mul(settings.sessions),
        blocks_valid: count(experiment.valid_blocks()),
        blocks_run_again: experiment.run_again,
        smoke: plan.smoke,
        primary: experiment.primary(),
        variants,
    }
}

fn rank(role: Role) -> u8 {
    match role {
        Role::Baseline => 0,
        Role::Contender => 1,
        Role::AaTwin => 2,
        Role::Bound => 3,
    }
}

fn variant_summary(experiment: &Experiment, index: usize) -> VariantSummary {
    let variant = &experiment.variants[index];
    let trials = |status| variant.count(status);
    let figure = |metric| match variant.role {
        Role::Bound => median(&experiment.bound_values(&variant.name, metric)),
        _ => median(&experiment.values(index, metric)),
    };
    let ops_per_s = figure(CompareMetric::OpsPerS);
    let share_of_bound = ops_per_s.and_then(|own| {
        experiment.share_of_bound(variant, CompareMetric::OpsPerS, own)
    });
    VariantSummary {
        variant: variant.name.clone(),
        role: variant.role,
        bound: variant.bound.clone(),
        skipped: not_started(variant),
        disqualified: variant.disqualified.clone(),
        not_steady: experiment.not_steady(index),
        not_preconditioned: variant.roomy,
        trials_nonsteady: trials(Status::Nonsteady),
        trials_invalid: trials(Status::Invalid),
        trials_failed: trials(Status::Wrong) + trials(Status::Error),
        latency_kind: variant.latency_kind,
        threads: variant.threads,
        share_of_bound,
        cycles_per_op: experiment.extra(index, |e| e.cycles_per_op),
        syscalls_per_op: experiment.extra(index, |e| e.syscalls_per_op),
        medians: Figures {
            ops_per_s,
            latency_p50_ns: figure(CompareMetric::LatencyP50Ns),
            latency_p99_ns: figure(CompareMetric::LatencyP99Ns),
            cpu_per_op_ns: figure(CompareMetric::CpuPerOpNs),
        },
    }
}

fn not_started(variant: &Variant) -> Option<String> {
    variant.skipped.clone().filter(|_| !variant.was_measured())
}
