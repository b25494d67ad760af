//! The table a person reads: verdict, figures, noise floor, caveats.

pub mod across;
mod caveats;
mod columns;
mod layout;
pub mod noise;
mod number;
mod steps;

use columns::Table;
use layout::{width, wrap};
use number::ratio;
use serde_json::{Value, json as object};

use crate::compare::{Derived, ExperimentSummary, VariantSummary};
use crate::schema::{CompareMetric, CompareRow, Role, SCHEMA_VERSION, Verdict};

/// The four verdicts in the order in which they are told.
const VERDICTS: [Verdict; 4] =
    [Verdict::Faster, Verdict::Slower, Verdict::Same, Verdict::Undecided];

/// How the table is drawn.
#[derive(Clone, Copy, Debug, Default)]
pub struct Style {
    /// Whether verdicts are coloured by ANSI sequences.
    pub colour: bool,
    /// Whether the median latency gets a column beside the 99th percentile.
    pub p50: bool,
    /// Characters in a line: a wider table comes in two parts, and longer
    /// sentences are wrapped. As wide as it gets without.
    pub width: Option<usize>,
}

/// Where the right end of the heading stands.
const LINE_WIDTH: usize = 120;

/// The table as text, experiment by experiment.
///
/// `cap` says how far the environment lets verdicts go, such as `comparison
/// only: virtual machine`.
pub fn text(derived: &Derived, cap: Option<&str>, style: Style) -> String {
    let mut lines = Vec::new();
    if let Some(caveat) = caveats::of_run(derived) {
        lines.push(paint(&caveat, style.colour.then_some(RED)));
        lines.push(String::new());
    }
    for experiment in &derived.experiments {
        let rows: Vec<&CompareRow> =
            derived.rows.iter().filter(|row| experiment.owns(row)).collect();
        let steps: Vec<&CompareRow> =
            derived.steps.iter().filter(|row| experiment.owns(row)).collect();
        lines.extend(one_experiment(experiment, &rows, &steps, cap, style));
        lines.push(String::new());
    }
    // One line feed at the end, none doubled.
    while lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines.push(String::new());
    lines.join("\n")
}

/// The verdicts as sentences, one line per contender, for the head of an
/// output: the table shows that on one metric only.
pub fn verdicts(derived: &Derived) -> Vec<String> {
    let mut lines = Vec::new();
    for experiment in &derived.experiments {
        let contenders =
            experiment.variants.iter().filter(|v| v.role == Role::Contender);
        for variant in contenders.filter(|v| v.skipped.is_none()) {
            let rows = derived.rows.iter().filter(|row| {
                experiment.owns(row) && row.variant == variant.variant
            });
            lines.push(format!(
                "{}: {} vs {}: {}",
                name(experiment),
                variant.variant,
                baseline(experiment).map_or("nothing", |b| &b.variant),
                sentence(rows)
            ));
        }
    }
    lines
}

/// `faster on ops/s 1.20×, CPU/op 0.83×; same on p50 1.00×`.
fn sentence<'a>(rows: impl Iterator<Item = &'a CompareRow> + Clone) -> String {
    let parts: Vec<String> = VERDICTS
        .into_iter()
        .map(Some)
        .chain([None])
        .filter_map(|verdict| {
            let figures: Vec<_> = rows
                .clone()
                .filter(|row| row.verdict == verdict)
                .map(|row| match row.ratio {
                    Some(times) => {
                        format!("{} {}", short(row.metric), ratio(times, None))
                    }
                    None => short(row.metric).to_owned(),
                })
                .collect();
            let word = verdict.map_or("no verdict", Verdict::word);
            (!figures.is_empty())
                .then(|| format!("{word} on {}", figures.join(", ")))
        })
        .collect();
    parts.join("; ")
}

/// The same for programs.
pub fn json(derived: &Derived, cap: Option<&str>) -> Value {
    object!({
        "schema_version": SCHEMA_VERSION,
        "cap": cap,
        "suspect": derived.aa.suspect,
        "aa": derived.aa.rows,
        "experiments": derived.experiments,
        "rows": derived.rows,
        "steps": derived.steps,
    })
}

fn one_experiment(
    experiment: &ExperimentSummary,
    rows: &[&CompareRow],
    steps: &[&CompareRow],
    cap: Option<&str>,
    style: Style,
) -> Vec<String> {
    let mut lines = heading(experiment, cap, style);
    let whole = Table::new(experiment, rows, style);
    let mut caveats = caveats::of_experiment(experiment, rows, &whole.metrics);
    // A ladder is read by its figures first, and step by step then.
    let is_ladder = !steps.is_empty();
    let drawn = whole.whole(style);
    let widest = drawn.iter().map(|line| width(line)).max().unwrap_or(0);
    if is_ladder || style.width.is_some_and(|most| widest > most) {
        lines.extend(whole.narrow().parts(style));
    } else {
        lines.extend(drawn);
    }
    if is_ladder {
        lines.extend(steps::table(steps, style));
    }
    if is_ladder {
        caveats.extend(caveats::no_cycles(experiment));
    }
    let mut below = not_run(experiment);
    below.extend(caveats.into_iter().map(|caveat| format!("! {caveat}")));
    lines.extend(below.iter().flat_map(|line| wrap(line, style.width)));
    lines
}

/// What was skipped and why; variants with the same reason share a line.
fn not_run(experiment: &ExperimentSummary) -> Vec<String> {
    let mut reasons: Vec<(&str, Vec<&str>)> = Vec::new();
    for variant in &experiment.variants {
        let Some(why) = &variant.skipped else { continue };
        match reasons.iter_mut().find(|(reason, _)| reason == why) {
            Some((_, names)) => names.push(&variant.variant),
            None => reasons.push((why, vec![&variant.variant])),
        }
    }
    reasons
        .into_iter()
        .map(|(why, names)| {
            // The cell separates reason and remedy by a bare semicolon.
            let why = why.replace("; ", ";").replace(';', "; ");
            format!("not run: {}: {why}", names.join(", "))
        })
        .collect()
}

/// `storage/randread-4k  depth 32, 12 blocks (1 run again)      <cap>`, the cap
/// in a line of its own where there is no room for it.
fn heading(
    experiment: &ExperimentSummary,
    cap: Option<&str>,
    style: Style,
) -> Vec<String> {
    let mut facts: Vec<String> = experiment
        .params
        .split_whitespace()
        .map(|param| param.replacen('=', " ", 1))
        .collect();
    let valid = experiment.blocks_valid;
    facts.push(match experiment.blocks_run_again {
        0 => format!("{valid} blocks"),
        again => format!("{valid} blocks ({again} run again)"),
    });
    let left = format!("{}  {}", name(experiment), facts.join(", "));
    let Some(cap) = cap else { return vec![left] };
    let most = style.width.unwrap_or(LINE_WIDTH);
    match most.checked_sub(width(&left) + width(cap)) {
        Some(gap) if gap >= 2 => {
            vec![format!("{left}{}{cap}", " ".repeat(gap))]
        }
        _ => vec![left, cap.to_owned()],
    }
}

fn name(experiment: &ExperimentSummary) -> String {
    format!("{}/{}", experiment.suite, experiment.experiment)
}

fn baseline(experiment: &ExperimentSummary) -> Option<&VariantSummary> {
    experiment.variants.iter().find(|v| v.role == Role::Baseline)
}

/// What a metric is called before people.
fn short(metric: CompareMetric) -> &'static str {
    match metric {
        CompareMetric::OpsPerS => "ops/s",
        CompareMetric::LatencyP50Ns => "p50",
        CompareMetric::LatencyP99Ns => "p99",
        CompareMetric::CpuPerOpNs => "CPU/op",
    }
}

/// Half of a row's unadjusted interval, relative to its ratio.
fn half_interval(row: &CompareRow) -> Option<f64> {
    Some((row.ratio_high? - row.ratio_low?) / 2.0 / row.ratio?)
}

/// The ratio with the interval that decided.
fn ratio_text(row: &CompareRow) -> Option<String> {
    let interval = row
        .adjusted_low
        .zip(row.adjusted_high)
        .or_else(|| row.ratio_low.zip(row.ratio_high));
    Some(ratio(row.ratio?, interval))
}

const RED: &str = "31";

fn colour(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Faster => "32",
        Verdict::Slower => RED,
        Verdict::Same => "36",
        Verdict::Undecided => "33",
    }
}

fn paint(text: &str, colour: Option<&str>) -> String {
    match colour {
        Some(colour) => format!("\x1b[{colour}m{text}\x1b[0m"),
        None => text.to_owned(),
    }
}
