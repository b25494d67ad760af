//! What a run says about the machine: how far copies of one program differ on
//! it, and so how small a difference it can show.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use stats::power;

use crate::compare::{CompareError, ExperimentSummary, derive};
use crate::reader::{ReadError, read_trials};
use crate::schema::{
    CompareMetric, CompareRow, Role, RunFile, Status, TrialRow,
};

/// The numbers of blocks of `--quick`, of the default and of `--precise`.
pub const BLOCKS: [u32; 3] = [10, 12, 30];

/// The noise of a machine, as one run found it.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Noise {
    /// In the order of the run.
    pub experiments: Vec<ExperimentNoise>,
    /// Length of the measured window: longer ones average out fast noise.
    pub window_ns: u64,
    /// Whether a copy of a baseline differs from it, Holm over the run.
    pub suspect: bool,
}

/// The noise of one experiment.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ExperimentNoise {
    /// `storage`, `net` or `ipc`.
    pub suite: String,
    /// The experiment's id within its suite.
    pub experiment: String,
    /// Its parameters.
    pub params: String,
    /// What was compared with its own copy.
    pub baseline: String,
    /// What was compared with the baseline.
    pub contenders: Vec<String>,
    /// Blocks that count.
    pub blocks_valid: u32,
    /// Blocks planned.
    pub blocks_planned: u32,
    /// Trials that were started.
    pub trials: u32,
    /// Those that were void.
    pub trials_void: u32,
    /// Why, with how many trials, the most frequent first.
    pub void_reasons: Vec<(String, u32)>,
    /// Why variants were not started.
    pub skipped: Vec<String>,
    /// One per metric that was measured.
    pub rows: Vec<NoiseRow>,
}

/// The noise of one metric.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct NoiseRow {
    /// The metric.
    pub metric: CompareMetric,
    /// Copy / baseline - 1.
    pub aa_difference: Option<f64>,
    /// Low end of its 95 % interval.
    pub aa_low: Option<f64>,
    /// High end of its 95 % interval.
    pub aa_high: Option<f64>,
    /// The larger of that difference and half of its interval.
    pub noise_floor: Option<f64>,
    /// The smallest effect that is found 4 times in 5 with so many blocks, of
    /// whichever comparison is noisiest.
    pub finds: Vec<Finds>,
}

/// What a number of blocks can show.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Finds {
    /// The blocks.
    pub blocks: u32,
    /// The effect, as a fraction.
    pub effect: f64,
}

/// Reads the noise out of a run's directory.
pub fn noise(directory: &Path) -> Result<Noise, CompareError> {
    let run = RunFile::read(directory)?;
    let mut voids = Voids::default();
    let trials = read_trials(directory)?.map(|row| {
        let row = row?;
        voids.add(&row);
        Ok::<_, ReadError>(row)
    });
    let derived = derive(trials, &run.settings)?;
    let experiments = derived
        .experiments
        .iter()
        .map(|summary| {
            let rows: Vec<&CompareRow> =
                derived.rows.iter().filter(|row| summary.owns(row)).collect();
            experiment(summary, &rows, &voids)
        })
        .collect();
    Ok(Noise {
        experiments,
        window_ns: run.settings.window_ns,
        suspect: derived.aa.suspect,
    })
}

/// Trials and void trials by experiment.
#[derive(Default)]
struct Voids(BTreeMap<[String; 3], (u32, u32, BTreeMap<String, u32>)>);

impl Voids {
    fn add(&mut self, row: &TrialRow) {
        if row.status == Status::Skipped {
            return;
        }
        let id = [&row.suite, &row.experiment, &row.params].map(String::clone);
        let (trials, void, reasons) = self.0.entry(id).or_default();
        *trials += 1;
        if row.status.is_usable() {
            return;
        }
        *void += 1;
        for reason in row.reasons.split(';').filter(|r| !r.is_empty()) {
            *reasons.entry(kind(reason)).or_default() += 1;
        }
    }
}

/// A reason without its figures: `foreign CPU time 12 % of used CPUs` and the
/// same with 30 % are one kind.
fn kind(reason: &str) -> String {
    let is_figure =
        |word: &&str| *word == "%" || word.starts_with(char::is_numeric);
    let words: Vec<&str> =
        reason.split_whitespace().filter(|word| !is_figure(word)).collect();
    words.join(" ")
}

fn experiment(
    summary: &ExperimentSummary,
    rows: &[&CompareRow],
    voids: &Voids,
) -> ExperimentNoise {
    let id = [&summary.suite, &summary.experiment, &summary.params]
        .map(String::clone);
    let (trials, trials_void, reasons) =
        voids.0.get(&id).cloned().unwrap_or_default();
    let mut void_reasons: Vec<(String, u32)> = reasons.into_iter().collect();
    void_reasons.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let named = |role| {
        let of_role = summary.variants.iter().filter(move |v| v.role == role);
        of_role.filter(|v| v.skipped.is_none()).map(|v| v.variant.clone())
    };
    let skipped = summary.variants.iter().filter_map(|v| {
        Some(format!("{}: {}", v.variant, v.skipped.as_ref()?))
    });
    ExperimentNoise {
        suite: summary.suite.clone(),
        experiment: summary.experiment.clone(),
        params: summary.params.clone(),
        baseline: named(Role::Baseline).next().unwrap_or_default(),
        contenders: named(Role::Contender).collect(),
        blocks_valid: summary.blocks_valid,
        blocks_planned: summary.blocks_planned,
        trials,
        trials_void,
        void_reasons,
        skipped: skipped.collect(),
        rows: CompareMetric::ALL
            .into_iter()
            .filter_map(|metric| row(metric, rows))
            .collect(),
    }
}

fn row(metric: CompareMetric, rows: &[&CompareRow]) -> Option<NoiseRow> {
    let of_metric = || rows.iter().filter(|row| row.metric == metric);
    let twin = of_metric().find(|row| row.role == Role::AaTwin)?;
    let difference = twin.ratio? - 1.0;
    let noise_floor = half_width(twin)
        .map(|half_width| difference.abs().max(half_width.exp_m1()));
    let finds = BLOCKS
        .into_iter()
        .filter_map(|blocks| {
            let effects = of_metric().filter_map(|row| effect(row, blocks));
            let effect = effects.max_by(f64::total_cmp)?;
            Some(Finds { blocks, effect })
        })
        .collect();
    Some(NoiseRow {
        metric,
        aa_difference: Some(difference),
        aa_low: twin.ratio_low.map(|ratio| ratio - 1.0),
        aa_high: twin.ratio_high.map(|ratio| ratio - 1.0),
        noise_floor,
        finds,
    })
}

/// The smallest effect of a row if it had so many blocks: intervals shrink as
/// 1/sqrt(n).
fn effect(row: &CompareRow, blocks: u32) -> Option<f64> {
    let shrink = (f64::from(row.blocks_used) / f64::from(blocks)).sqrt();
    let half_width = half_width(row)? * shrink;
    Some(power::minimum_detectable_effect(half_width).exp_m1())
}

/// Half of a row's unadjusted interval, on the scale of log ratios.
fn half_width(row: &CompareRow) -> Option<f64> {
    Some((row.ratio_high? / row.ratio_low?).ln() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_of_one_kind_are_counted_together() {
        for (reason, expected) in [
            (
                "foreign CPU time 12 % of used CPUs",
                "foreign CPU time of used CPUs",
            ),
            ("stolen by the hypervisor 6.1 %", "stolen by the hypervisor"),
            ("3 major page faults", "major page faults"),
        ] {
            assert_eq!(kind(reason), expected);
        }
    }
}
