//! Turns the trials of one run into verdicts.
//!
//! Per block the log ratio of each variant to the baseline; over the blocks
//! the Hodges-Lehmann estimate with its exact signed-rank interval; over the
//! contenders of one experiment and one metric the adjustment by Holm. All of
//! it is a function of `trials.csv` and of the settings in `run.json`, so
//! anyone can derive it again.

mod experiment;
pub(crate) mod gather;
mod plan;
mod row;

use std::path::Path;

pub use experiment::{ExperimentSummary, Figures, VariantSummary};
use gather::Gathered;
pub use plan::Plan;
use row::Draft;
pub(crate) use row::word;
use serde::Serialize;

use crate::reader::{ReadError, Torn, read_trials};
use crate::schema::{
    CompareMetric, CompareRow, Role, RunFile, RunFileError, Settings, TrialRow,
};

/// All that a run says.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Derived {
    /// The rows of `compare.csv`: by experiment in the order of the run, then
    /// by metric, then by name with the A/A twin last.
    pub rows: Vec<CompareRow>,
    /// What the A/A twins say about the run.
    pub aa: AaCheck,
    /// What the rows do not hold: the baseline, bounds and skipped variants.
    pub experiments: Vec<ExperimentSummary>,
    /// Each step against the one before it, where an experiment is made of
    /// steps: rows like the others, whose `baseline` is the step before, a
    /// family for each metric. They stand in no file; trials and plan give them.
    pub steps: Vec<CompareRow>,
}

/// Whether the run can be believed: copies of the baseline must not differ
/// from it.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct AaCheck {
    /// Whether a twin differs from its baseline, Holm over the whole run.
    pub suspect: bool,
    /// The twins' rows on what their experiments are about.
    pub rows: Vec<CompareRow>,
}

/// Why a run directory could not be compared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompareError {
    /// `run.json` could not be read.
    #[error(transparent)]
    RunFile(#[from] RunFileError),
    /// `trials.csv` could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Derives the verdicts of a run directory, and tells what was cut off at its
/// end.
pub fn derive_directory(
    directory: &Path,
) -> Result<(Derived, Torn), CompareError> {
    let run = RunFile::read(directory)?;
    let mut trials = read_trials(directory)?;
    let plan = Plan::of(&run);
    let derived = derive_planned(trials.by_ref(), &run.settings, &plan)?;
    Ok((derived, trials.torn()))
}

/// Derives the verdicts of one run from its trials.
///
/// Memory grows with the blocks, by a few numbers for each trial; the rows
/// themselves are not kept.
pub fn derive<E>(
    trials: impl IntoIterator<Item = Result<TrialRow, E>>,
    settings: &Settings,
) -> Result<Derived, E> {
    derive_planned(trials, settings, &Plan::default())
}

/// The same in the order of a plan, and with the steps that it tells of. No
/// verdict of `rows` depends on the plan.
pub fn derive_planned<E>(
    trials: impl IntoIterator<Item = Result<TrialRow, E>>,
    settings: &Settings,
    plan: &Plan,
) -> Result<Derived, E> {
    let mut gathered = Gathered::default();
    for trial in trials {
        gathered.add(&trial?);
    }
    Ok(derive_gathered(&gathered, settings, plan))
}

/// What a step is asked about: does it bring anything, and does it cost less?
const STEP_METRICS: [CompareMetric; 2] =
    [CompareMetric::OpsPerS, CompareMetric::CpuPerOpNs];

/// The same from trials that are sorted already.
pub(crate) fn derive_gathered(
    gathered: &Gathered,
    settings: &Settings,
    plan: &Plan,
) -> Derived {
    let mut drafts = Vec::new();
    let mut experiments = Vec::new();
    let mut steps = Vec::new();
    for experiment in &gathered.experiments {
        for metric in CompareMetric::ALL {
            let mut family =
                row::drafts(&gathered.run_id, experiment, metric, settings);
            row::adjust(
                family
                    .iter_mut()
                    .filter(|draft| draft.row.role == Role::Contender),
                settings,
            );
            drafts.append(&mut family);
        }
        experiments.push(experiment::summary(experiment, settings, plan));
        for metric in STEP_METRICS {
            let pairs = plan.steps(&experiment.id);
            let mut family = row::step_drafts(
                &gathered.run_id,
                experiment,
                metric,
                settings,
                pairs,
            );
            row::adjust(family.iter_mut(), settings);
            steps.extend(family.into_iter().map(|draft| draft.row));
        }
    }
    row::adjust(drafts.iter_mut().filter(|draft| is_aa_row(draft)), settings);
    let aa = aa_check(&drafts, settings);
    let rows = drafts.into_iter().map(|draft| draft.row).collect();
    Derived { rows, aa, experiments, steps }
}

/// The twins form one family over the whole run, on one metric each:
/// throughput, or the median latency of an open loop.
fn is_aa_row(draft: &Draft) -> bool {
    draft.row.role == Role::AaTwin && draft.is_primary
}

fn aa_check(drafts: &[Draft], settings: &Settings) -> AaCheck {
    let rows: Vec<_> = drafts
        .iter()
        .filter(|draft| is_aa_row(draft))
        .map(|draft| draft.row.clone())
        .collect();
    let alpha = 1.0 - settings.confidence;
    let suspect = rows.iter().any(|row| row.p_holm.is_some_and(|p| p <= alpha));
    AaCheck { suspect, rows }
}
