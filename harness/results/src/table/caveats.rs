//! What limits the claims of an experiment, each with its next step.

use crate::compare::{Derived, ExperimentSummary};
use crate::schema::{CompareMetric, CompareRow, Role, Verdict};

use super::number::ratio;
use super::short;

/// What limits the run as a whole.
pub(super) fn of_run(derived: &Derived) -> Option<String> {
    if !derived.aa.suspect {
        return None;
    }
    let worst = derived
        .aa
        .rows
        .iter()
        .filter_map(|row| Some((row, row.p_holm?)))
        .min_by(|a, b| a.1.total_cmp(&b.1));
    let (row, p) = worst?;
    let times = row.ratio.map_or(String::new(), |r| ratio(r, None));
    Some(format!(
        "SUSPECT RUN: the baseline differs from its own copy in {}/{} \
         ({times}, p = {p:.2e} after Holm); something favours one place in \
         the order, so believe no verdict: run again on a quieter machine",
        row.suite, row.experiment
    ))
}

/// What limits one experiment.
pub(super) fn of_experiment(
    experiment: &ExperimentSummary,
    rows: &[&CompareRow],
    metrics: &[CompareMetric],
) -> Vec<String> {
    let mut caveats = Vec::new();
    caveats.extend(missing_blocks(experiment));
    for variant in &experiment.variants {
        if let Some(why) = &variant.disqualified {
            caveats.push(format!(
                "{}: no verdict, {why}; the suite's page in docs/ tells what \
                 its own path needs",
                variant.variant
            ));
        }
    }
    caveats.extend(unsteady(experiment));
    caveats.extend(roomy(experiment));
    let shown: Vec<&CompareRow> = rows
        .iter()
        .filter(|row| row.role == Role::Contender)
        .filter(|row| metrics.contains(&row.metric))
        .copied()
        .collect();
    caveats.extend(flagged(&shown, experiment.primary));
    caveats.extend(undecided(&shown));
    caveats
}

/// What a device does that is being written to depends on what was written
/// before.
fn unsteady(experiment: &ExperimentSummary) -> Option<String> {
    let found: Vec<String> = experiment
        .variants
        .iter()
        // Bounds run in few blocks only, and twins are the baseline.
        .filter(|v| matches!(v.role, Role::Baseline | Role::Contender))
        .filter_map(|variant| {
            let why = variant.not_steady.as_ref()?;
            Some(format!("{} {why}", variant.variant))
        })
        .collect();
    (!found.is_empty()).then(|| {
        format!(
            "{}: SNIA's steady state is 5 blocks within 20 %, their line \
             within 10 %; the ratios hold for the state that the target was \
             in, not for one that lasts: run longer (--precise, --window)",
            found.join(", ")
        )
    })
}

/// What a device does that is being written to depends on the room it has.
fn roomy(experiment: &ExperimentSummary) -> Option<String> {
    let found = experiment.variants.iter().any(|v| v.not_preconditioned);
    found.then(|| {
        "the device was not preconditioned, only what trials write to was \
         written before: a drive that is not full may be faster than it \
         will be; --precondition 2 writes all of it first, as SNIA's PTS asks"
            .to_owned()
    })
}

fn missing_blocks(experiment: &ExperimentSummary) -> Option<String> {
    let planned = experiment.blocks_planned;
    let valid = experiment.blocks_valid;
    let measured = experiment.variants.iter().any(|v| v.skipped.is_none());
    // A smoke pass has one attempt at each block, and resuming adds none.
    let next = match experiment.smoke {
        true => "run it again",
        false => "`bypass run --resume` tries them again",
    };
    (measured && valid < planned).then(|| {
        format!(
            "{valid} of {planned} blocks count, the others are void or not \
             measured yet: `reasons` in trials.csv tells why; {next}"
        )
    })
}

/// Told once: a column that is missing says nothing.
pub(super) fn no_cycles(experiment: &ExperimentSummary) -> Option<String> {
    let counted = experiment.variants.iter().any(|v| v.cycles_per_op.is_some());
    (!counted).then(|| {
        "cycles/op: not counted, no trial was given the processor's counters \
         (few guests have them; else kernel.perf_event_paranoid of 1 or \
         CAP_PERFMON)"
            .to_owned()
    })
}

/// Trials with a trend stay in the estimate: what would it be without them?
fn flagged(rows: &[&CompareRow], metric: CompareMetric) -> Option<String> {
    let moved: Vec<(&str, f64)> = rows
        .iter()
        .filter(|row| row.metric == metric)
        .filter_map(|row| {
            let change = row.ratio_without_flagged? / row.ratio? - 1.0;
            Some((row.variant.as_str(), change))
        })
        .collect();
    let (worst, change) =
        moved.iter().max_by(|a, b| a.1.abs().total_cmp(&b.1.abs())).copied()?;
    let names: Vec<&str> = moved.iter().map(|(name, _)| *name).collect();
    Some(format!(
        "some trials have a trend ({}); without them {} of {worst} moves \
         by {:+.1} %, the others by less: windows.csv shows it, a longer \
         --window averages it out",
        names.join(", "),
        short(metric),
        change * 100.0
    ))
}

/// What the undecided rows would need, variants with the same reason in one
/// line.
fn undecided(rows: &[&CompareRow]) -> Vec<String> {
    let open: Vec<&&CompareRow> = rows
        .iter()
        .filter(|row| row.verdict == Some(Verdict::Undecided))
        .collect();
    let mut reasons: Vec<&str> =
        open.iter().map(|row| row.reasons.as_str()).collect();
    reasons.sort_unstable();
    reasons.dedup();
    reasons
        .into_iter()
        .map(|reason| {
            let same: Vec<&&CompareRow> =
                open.iter().filter(|r| r.reasons == reason).copied().collect();
            let next = next_step(&same);
            let why = match reason {
                "" => String::new(),
                why => format!(" ({why})"),
            };
            format!("undecided{why}: {}; {next}", by_variant(&same))
        })
        .collect()
}

/// `uring (ops/s, p99), uring-fixed, uring-files (p99)`: names with the same
/// metrics together.
fn by_variant(rows: &[&&CompareRow]) -> String {
    let mut names: Vec<&str> =
        rows.iter().map(|row| row.variant.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let mut listed: Vec<(Vec<&str>, Vec<&str>)> = Vec::new();
    for name in names {
        let metrics: Vec<&str> = rows
            .iter()
            .filter(|row| row.variant == name)
            .map(|row| short(row.metric))
            .collect();
        match listed.iter_mut().find(|(known, _)| *known == metrics) {
            Some((_, names)) => names.push(name),
            None => listed.push((metrics, vec![name])),
        }
    }
    let listed: Vec<String> = listed
        .into_iter()
        .map(|(metrics, names)| {
            format!("{} ({})", names.join(", "), metrics.join(", "))
        })
        .collect();
    listed.join("; ")
}

/// More blocks than this say that noise is too large for the effect.
const BLOCKS_WORTH_MEASURING: u32 = 200;

fn next_step(rows: &[&&CompareRow]) -> String {
    match rows.iter().filter_map(|row| row.blocks_needed).max() {
        Some(blocks) if blocks > BLOCKS_WORTH_MEASURING => {
            "more blocks than are worth measuring would decide all of them: \
             a longer --window or a quieter machine helps more"
                .to_owned()
        }
        Some(blocks) => {
            format!("about {blocks} blocks would decide (--blocks {blocks})")
        }
        None => "measure more blocks (--blocks, --precise)".to_owned(),
    }
}
