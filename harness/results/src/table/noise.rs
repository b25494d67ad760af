//! The noise of a machine as a person reads it.

use super::layout::{Cell, lay_out};
use super::number::percent;
use super::short;
use crate::noise::{BLOCKS, ExperimentNoise, Noise, NoiseRow};
use crate::schema::CompareMetric;

/// The sentences first, then a table per experiment, then what was void and
/// what could not run.
pub fn text(noise: &Noise) -> String {
    let mut lines: Vec<String> =
        noise.experiments.iter().map(sentence).collect();
    if noise.suspect {
        lines.insert(
            0,
            "SUSPECT: a copy of a baseline differs from it; something favours \
             one place in the order, so believe no verdict of this machine \
             until that is found"
                .to_owned(),
        );
    }
    for experiment in &noise.experiments {
        if experiment.trials == 0 {
            continue;
        }
        lines.push(String::new());
        lines.extend(table(experiment));
    }
    lines.push(String::new());
    lines.push(format!(
        "A/A: the baseline against a copy of itself; noise floor: the larger \
         of that difference and half of its 95 % interval;\nfinds: what so \
         many blocks of {} ms show 4 times in 5; the longer windows of \
         `bypass run` average out fast noise",
        noise.window_ns as f64 / 1e6
    ));
    lines.join("\n") + "\n"
}

fn name(experiment: &ExperimentNoise) -> String {
    let ExperimentNoise { suite, experiment, params, .. } = experiment;
    format!("{suite}/{experiment} {params}").trim_end().to_owned()
}

/// `storage/randread-4k depth=32: a difference below 4.1 % in ops/s cannot be
/// shown here with 12 blocks (2.6 % with 30)`.
fn sentence(experiment: &ExperimentNoise) -> String {
    let name = name(experiment);
    if experiment.trials == 0 {
        return format!("{name}: not measured: {}", reasons(experiment));
    }
    let of_ops = |row: &&NoiseRow| row.metric == CompareMetric::OpsPerS;
    let finds = experiment.rows.iter().find(of_ops).map(|row| &row.finds);
    match finds.map(Vec::as_slice) {
        Some([_, usual, precise]) => format!(
            "{name}: a difference below {} in ops/s cannot be shown here with \
             {} blocks ({} with {})",
            percent(usual.effect),
            usual.blocks,
            percent(precise.effect),
            precise.blocks
        ),
        _ => format!(
            "{name}: too noisy to tell: {} of {} blocks count, an interval \
             needs 6; quieten the machine",
            experiment.blocks_valid, experiment.blocks_planned
        ),
    }
}

fn reasons(experiment: &ExperimentNoise) -> String {
    let mut reasons = experiment.skipped.clone();
    reasons.dedup();
    match reasons.as_slice() {
        [] => "no trial was started".to_owned(),
        reasons => reasons.join(", ").replace(';', "; "),
    }
}

fn table(experiment: &ExperimentNoise) -> Vec<String> {
    let mut heads: Vec<String> =
        ["", "A/A", "", "noise floor"].map(str::to_owned).into();
    heads.extend(BLOCKS.map(|n| format!("finds with {n}")));
    let share =
        |value: Option<f64>| Cell::Text(value.map_or(String::new(), percent));
    let body: Vec<Vec<Cell>> = experiment
        .rows
        .iter()
        .map(|row| {
            let interval = row.aa_low.zip(row.aa_high).map(|(low, high)| {
                format!("[{:+.1}, {:+.1}] %", 100.0 * low, 100.0 * high)
            });
            let difference = row
                .aa_difference
                .map(|difference| format!("{:+.1} %", 100.0 * difference));
            let mut cells = vec![
                Cell::Text(short(row.metric).to_owned()),
                Cell::Text(difference.unwrap_or_default()),
                Cell::Text(interval.unwrap_or_default()),
                share(row.noise_floor),
            ];
            cells.extend(BLOCKS.map(|blocks| {
                let finds = row.finds.iter().find(|f| f.blocks == blocks);
                share(finds.map(|found| found.effect))
            }));
            cells
        })
        .collect();
    let mut lines = vec![format!(
        "{}  {} against itself and {}, {} of {} blocks count",
        name(experiment),
        experiment.baseline,
        experiment.contenders.join(", "),
        experiment.blocks_valid,
        experiment.blocks_planned
    )];
    if !body.is_empty() {
        lines.extend(lay_out(&heads, &body, |_, _, text| text.to_owned()));
    }
    lines.push(voids(experiment));
    lines.extend(
        experiment
            .skipped
            .iter()
            .map(|why| format!("not run: {}", why.replace(';', "; "))),
    );
    lines
}

/// `void trials: 7 of 43 (16 %): 5 foreign CPU time of used CPUs, …`.
fn voids(experiment: &ExperimentNoise) -> String {
    let (void, all) = (experiment.trials_void, experiment.trials);
    if void == 0 {
        return format!("void trials: none of {all}");
    }
    let reasons: Vec<String> = experiment
        .void_reasons
        .iter()
        .map(|(reason, count)| format!("{count} {reason}"))
        .collect();
    format!(
        "void trials: {void} of {all} ({}): {}",
        percent(f64::from(void) / f64::from(all)),
        reasons.join(", ")
    )
}
