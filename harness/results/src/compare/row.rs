//! The rows of `compare.csv`: estimate, interval, family, verdict.

use stats::signed_rank::{hodges_lehmann, interval, p_value};
use stats::summary::median;
use stats::{holm, power, verdict};

use super::gather::{Attempt, Experiment, Variant, count};
use crate::schema::{
    Better, CompareMetric, CompareRow, Role, Settings, Verdict,
};

/// A row before its family is known, with what its verdict is made of.
#[derive(Debug)]
pub(super) struct Draft {
    pub row: CompareRow,
    /// One log ratio of variant to baseline per block used.
    log_ratios: Vec<f64>,
    /// Half of the unadjusted interval, on the scale of log ratios.
    half_width: Option<f64>,
    /// Whether a verdict may be given at all.
    may_decide: bool,
    /// Whether its metric is the one that its experiment is about.
    pub is_primary: bool,
}

/// A block's pair of values.
struct Pair {
    baseline: f64,
    variant: f64,
    flagged: bool,
}

/// The rows of one experiment on one metric, not yet adjusted.
pub(super) fn drafts(
    run_id: &str,
    experiment: &Experiment,
    metric: CompareMetric,
    settings: &Settings,
) -> Vec<Draft> {
    let base = experiment.baseline();
    let blank = blank(run_id, experiment, base, metric, settings);
    experiment
        .compared()
        .into_iter()
        .filter_map(|index| {
            let variant = &experiment.variants[index];
            let row = CompareRow {
                variant: variant.name.clone(),
                role: variant.role,
                ..blank.clone()
            };
            let is_primary = metric == experiment.primary();
            if !variant.was_measured() {
                return is_primary.then(|| skipped(row, variant));
            }
            let values = experiment.values(index, metric);
            if values.is_empty() && !is_primary {
                return None;
            }
            Some(draft(row, experiment, base, index, settings))
        })
        .collect()
}

/// The rows of one experiment's steps on one metric, each against the step
/// before it, not yet adjusted; steps of which one was not started have none.
pub(super) fn step_drafts(
    run_id: &str,
    experiment: &Experiment,
    metric: CompareMetric,
    settings: &Settings,
    steps: &[(String, String)],
) -> Vec<Draft> {
    let place = |name: &String| {
        experiment.variants.iter().position(|variant| {
            variant.name == *name
                && matches!(variant.role, Role::Baseline | Role::Contender)
                && variant.was_measured()
        })
    };
    steps
        .iter()
        .filter_map(|(step, before)| {
            let (index, base) = (place(step)?, place(before)?);
            if experiment.values(index, metric).is_empty() {
                return None;
            }
            let row = CompareRow {
                variant: step.clone(),
                role: Role::Contender,
                ..blank(run_id, experiment, Some(base), metric, settings)
            };
            Some(draft(row, experiment, Some(base), index, settings))
        })
        .collect()
}

/// A row of an experiment on a metric, without its variant and figures.
fn blank(
    run_id: &str,
    experiment: &Experiment,
    base: Option<usize>,
    metric: CompareMetric,
    settings: &Settings,
) -> CompareRow {
    let [suite, id, params] = experiment.id.clone();
    CompareRow {
        run_id: run_id.to_owned(),
        suite,
        experiment: id,
        params,
        metric,
        better: metric.better(),
        baseline: base
            .map_or(String::new(), |b| experiment.variants[b].name.clone()),
        blocks_planned: settings.blocks.saturating_mul(settings.sessions),
        blocks_invalid: experiment.void_attempts(),
        ..CompareRow::default()
    }
}

/// A variant that was never started is told of once, beside what its
/// experiment is about.
fn skipped(row: CompareRow, variant: &Variant) -> Draft {
    let why = variant.skipped.as_deref().unwrap_or("");
    Draft {
        row: CompareRow { reasons: format!("skipped: {why}"), ..row },
        log_ratios: Vec::new(),
        half_width: None,
        may_decide: false,
        is_primary: true,
    }
}

fn draft(
    mut row: CompareRow,
    experiment: &Experiment,
    base: Option<usize>,
    index: usize,
    settings: &Settings,
) -> Draft {
    let variant = &experiment.variants[index];
    let mut reasons = Vec::new();
    let pairs: Vec<Pair> = match base {
        Some(base) => experiment
            .valid_blocks()
            .filter_map(|block| pair(block, base, index, row.metric))
            .collect(),
        None => Vec::new(),
    };
    row.blocks_used = count(pairs.iter());
    if pairs.is_empty() {
        row.variant_median = median(&experiment.values(index, row.metric));
    } else {
        let side = |pick: fn(&Pair) -> f64| -> Vec<f64> {
            pairs.iter().map(pick).collect()
        };
        row.baseline_median = median(&side(|pair| pair.baseline));
        row.variant_median = median(&side(|pair| pair.variant));
    }
    let valid = count(experiment.valid_blocks());
    if row.blocks_used < valid {
        reasons.push(format!(
            "{} of {valid} valid blocks lack {} of the two",
            valid - row.blocks_used,
            row.metric,
        ));
    }
    let log_ratios: Vec<f64> = pairs.iter().map(Pair::log_ratio).collect();
    let half_width = estimate(&mut row, &log_ratios, settings);
    without_flagged(&mut row, &pairs, &mut reasons);
    row.share_of_bound = row
        .variant_median
        .and_then(|own| experiment.share_of_bound(variant, row.metric, own));

    row.steady = base.and_then(|base| experiment.steady([base, index]));
    // No verdict falls by it: pairs within a block share the target's state.
    // But the state is not the one that lasts.
    if row.metric == CompareMetric::OpsPerS {
        reasons.extend(experiment.not_steady(index));
    }
    let disqualified = disqualification(experiment, base, variant);
    if row.level.is_none() && row.role == Role::Contender {
        reasons.push(too_few(row.blocks_used, settings));
    }
    let may_decide = disqualified.is_none();
    reasons.extend(disqualified);
    row.reasons = reasons.join(";");
    let is_primary = row.metric == experiment.primary();
    Draft { row, log_ratios, half_width, may_decide, is_primary }
}

impl Pair {
    fn log_ratio(&self) -> f64 {
        (self.variant / self.baseline).ln()
    }
}

fn pair(
    block: &Attempt,
    baseline: usize,
    variant: usize,
    metric: CompareMetric,
) -> Option<Pair> {
    let baseline = block.slot(baseline)?;
    let variant = block.slot(variant)?;
    Some(Pair {
        baseline: baseline.value(metric)?,
        variant: variant.value(metric)?,
        flagged: baseline.is_flagged() || variant.is_flagged(),
    })
}

/// Fills in the estimate; gives half of its interval on the log scale.
fn estimate(
    row: &mut CompareRow,
    log_ratios: &[f64],
    settings: &Settings,
) -> Option<f64> {
    row.ratio = hodges_lehmann(log_ratios).map(f64::exp);
    row.p_value = p_value(log_ratios);
    let interval = interval(log_ratios, settings.confidence)?;
    row.ratio_low = Some(interval.low.exp());
    row.ratio_high = Some(interval.high.exp());
    row.level = Some(interval.level);
    let effect = power::minimum_detectable_effect(interval.half_width());
    row.minimum_detectable_effect = Some(effect.exp_m1());
    Some(interval.half_width())
}

fn without_flagged(
    row: &mut CompareRow,
    pairs: &[Pair],
    reasons: &mut Vec<String>,
) {
    let steady: Vec<f64> = pairs
        .iter()
        .filter(|pair| !pair.flagged)
        .map(Pair::log_ratio)
        .collect();
    if steady.len() == pairs.len() {
        return;
    }
    row.ratio_without_flagged = hodges_lehmann(&steady).map(f64::exp);
    if steady.is_empty() {
        reasons.push("every block has a nonsteady trial".to_owned());
    }
}

/// Why a variant may get no verdict: it, or what it is compared with, took
/// another path than its own or returned wrong data.
fn disqualification(
    experiment: &Experiment,
    base: Option<usize>,
    variant: &Variant,
) -> Option<String> {
    let Some(base) = base.map(|index| &experiment.variants[index]) else {
        return Some("no baseline in this experiment".to_owned());
    };
    if let Some(why) = &variant.disqualified {
        return Some(why.clone());
    }
    let name = match base.role {
        Role::Baseline => "baseline",
        _ => &base.name,
    };
    if let Some(why) = &base.disqualified {
        return Some(format!("{name} {why}"));
    }
    let skipped = base.skipped.as_ref().filter(|_| !base.was_measured());
    skipped.map(|why| format!("{name} skipped: {why}"))
}

fn too_few(blocks: u32, settings: &Settings) -> String {
    let percent = settings.confidence * 100.0;
    let needed = (1..64)
        .find(|n| interval(&vec![0.0; *n], settings.confidence).is_some());
    match needed {
        Some(needed) => format!(
            "{blocks} valid blocks, a {percent} % interval needs {needed}"
        ),
        None => format!("no number of blocks gives a {percent} % interval"),
    }
}

/// Reads the rows of one family together: Holm's adjustment, and with it the
/// verdicts.
///
/// A contender that may not decide is no test and does not count. That is
/// settled by its path, never by its figures, so leaving it out is no
/// selection. A twin always counts: its path does not matter, only that it is
/// the baseline's.
pub(super) fn adjust<'a>(
    drafts: impl Iterator<Item = &'a mut Draft>,
    settings: &Settings,
) {
    let mut family = Vec::new();
    let mut p_values = Vec::new();
    let counts =
        |draft: &&mut Draft| draft.may_decide || draft.row.role == Role::AaTwin;
    for draft in drafts.filter(counts) {
        match draft.row.p_value {
            Some(p) => {
                p_values.push(p);
                family.push(draft);
            }
            None => draft.decide_without_level(),
        }
    }
    let adjusted = holm::adjust(&p_values);
    let levels = holm::levels(&p_values, 1.0 - settings.confidence);
    let rows = family.len();
    for ((draft, p_holm), level) in family.into_iter().zip(adjusted).zip(levels)
    {
        draft.row.p_holm = Some(p_holm);
        if let Some(interval) = interval(&draft.log_ratios, level) {
            draft.row.adjusted_low = Some(interval.low.exp());
            draft.row.adjusted_high = Some(interval.high.exp());
            draft.row.adjusted_level = Some(interval.level);
        } else if draft.row.level.is_some() {
            draft.add_reason(&format!(
                "{} blocks are too few for a family of {rows} rows",
                draft.row.blocks_used
            ));
        }
        draft.decide(level, settings);
    }
}

impl Draft {
    fn add_reason(&mut self, reason: &str) {
        if !self.row.reasons.is_empty() {
            self.row.reasons.push(';');
        }
        self.row.reasons.push_str(reason);
    }

    fn decide_without_level(&mut self) {
        if self.row.role == Role::Contender {
            self.row.verdict = Some(Verdict::Undecided);
        }
    }

    fn decide(&mut self, level: f64, settings: &Settings) {
        // A twin makes no claim; it only says how far claims can be trusted.
        if self.row.role != Role::Contender {
            return;
        }
        if self.row.level.is_none() {
            // Five blocks would allow "same" but nothing else; a verdict that
            // can come out one way only is none.
            return self.decide_without_level();
        }
        let sign = match self.row.better {
            Better::Lower => -1.0,
            Better::Higher | Better::None => 1.0,
        };
        let oriented: Vec<f64> =
            self.log_ratios.iter().map(|d| sign * d).collect();
        let practical = settings.practical_ratio;
        let decided = verdict::decide(&oriented, level, practical);
        self.row.verdict = Some(word(decided));
        if decided == verdict::Verdict::Undecided {
            self.row.blocks_needed = self.blocks_needed(practical);
        }
    }

    fn blocks_needed(&self, practical: f64) -> Option<u32> {
        let needed = power::blocks_needed(
            self.log_ratios.len(),
            hodges_lehmann(&self.log_ratios)?,
            self.half_width?,
            verdict::margin(practical),
        )?;
        u32::try_from(needed).ok()
    }
}

/// The word of the files.
pub(crate) fn word(verdict: verdict::Verdict) -> Verdict {
    match verdict {
        verdict::Verdict::Faster => Verdict::Faster,
        verdict::Verdict::Slower => Verdict::Slower,
        verdict::Verdict::Same => Verdict::Same,
        verdict::Verdict::Undecided => Verdict::Undecided,
    }
}
