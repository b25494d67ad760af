//! The table a person reads: verdict, figures, noise floor, caveats.

pub mod across;
mod caveats;
mod layout;
pub mod noise;
mod number;

use layout::{Cell, lay_out, width};
use number::{figure, percent, plain, ratio};
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
        lines.extend(one_experiment(experiment, &rows, cap, style));
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
/// output: the table shows that on throughput only.
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
    })
}

fn one_experiment(
    experiment: &ExperimentSummary,
    rows: &[&CompareRow],
    cap: Option<&str>,
    style: Style,
) -> Vec<String> {
    let table = Table::new(experiment, rows, style);
    let mut lines = vec![heading(experiment, cap)];
    let (heads, body, verdicts) = table.cells();
    let painted = |row: usize, text: &str| {
        let colour = verdicts[row].filter(|_| style.colour);
        paint(text, colour)
    };
    lines.extend(lay_out(&heads, &body, painted));
    lines.extend(not_run(experiment));
    let caveats = caveats::of_experiment(experiment, rows, &table.metrics);
    lines.extend(caveats.into_iter().map(|caveat| format!("! {caveat}")));
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

/// `storage/randread-4k  depth 32, 12 blocks (1 run again)      <cap>`.
fn heading(experiment: &ExperimentSummary, cap: Option<&str>) -> String {
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
    let Some(cap) = cap else { return left };
    let gap = LINE_WIDTH.saturating_sub(width(&left) + width(cap)).max(2);
    format!("{left}{}{cap}", " ".repeat(gap))
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

/// What one experiment's table is made of.
struct Table<'a> {
    experiment: &'a ExperimentSummary,
    rows: &'a [&'a CompareRow],
    metrics: Vec<CompareMetric>,
    extras: Vec<Extra>,
    bounds: bool,
    threads: bool,
}

/// A figure without verdict: its heading, and where it stands.
type Extra = (&'static str, fn(&VariantSummary) -> Option<f64>);

/// Each has a column where at least one variant has the figure.
const EXTRAS: [Extra; 2] = [
    ("cycles/op", |variant| variant.cycles_per_op),
    ("calls/op", |variant| variant.syscalls_per_op),
];

/// Heads, body, and the colour of each line's verdict.
type Cells = (Vec<String>, Vec<Vec<Cell>>, Vec<Option<&'static str>>);

impl<'a> Table<'a> {
    fn new(
        experiment: &'a ExperimentSummary,
        rows: &'a [&'a CompareRow],
        style: Style,
    ) -> Table<'a> {
        let shown = experiment.variants.iter().filter(|v| v.skipped.is_none());
        let measured =
            |metric| shown.clone().any(|v| v.medians.get(metric).is_some());
        // Few ops give no 99th percentile; the median then stands in for it.
        let p50 = style.p50 || !measured(CompareMetric::LatencyP99Ns);
        let metrics = CompareMetric::ALL
            .into_iter()
            .filter(|metric| match metric {
                CompareMetric::OpsPerS => true,
                CompareMetric::LatencyP50Ns => p50 && measured(*metric),
                _ => measured(*metric),
            })
            .collect();
        let extras = EXTRAS
            .into_iter()
            .filter(|(_, pick)| shown.clone().any(|v| pick(v).is_some()))
            .collect();
        let bounds = shown.clone().any(|v| v.share_of_bound.is_some());
        let compared = shown.filter(|v| v.role != Role::Bound);
        let mut threads: Vec<_> =
            compared.filter_map(|variant| variant.threads).collect();
        threads.dedup();
        let threads = threads.len() > 1;
        Table { experiment, rows, metrics, extras, bounds, threads }
    }

    fn cells(&self) -> Cells {
        let mut body = Vec::new();
        let mut colours = Vec::new();
        let variants = || self.experiment.variants.iter();
        let started = |variant: &&VariantSummary| variant.skipped.is_none();
        for variant in variants().filter(started) {
            let cells = match variant.role {
                Role::Baseline | Role::Contender => self.variant(variant),
                Role::AaTwin => self.noise_floor(variant),
                Role::Bound => continue,
            };
            let row = self.row(&variant.variant, CompareMetric::OpsPerS);
            colours.push(row.and_then(|row| row.verdict).map(colour));
            body.push(cells);
        }
        (self.heads(), body, colours)
    }

    fn heads(&self) -> Vec<String> {
        let kind = self.experiment.variants.iter().find_map(|variant| {
            variant.latency_kind.filter(|_| variant.role != Role::Bound)
        });
        let mut heads = vec![String::new()];
        heads.extend(self.metrics.iter().map(|metric| match (metric, kind) {
            (
                CompareMetric::LatencyP50Ns | CompareMetric::LatencyP99Ns,
                Some(kind),
            ) => format!("{} {kind}", short(*metric)),
            _ => short(*metric).to_owned(),
        }));
        heads.extend(self.extras.iter().map(|(head, _)| (*head).to_owned()));
        if self.bounds {
            heads.push("of floor/ceiling".to_owned());
        }
        heads.push(match baseline(self.experiment) {
            Some(baseline) => format!("vs {}", baseline.variant),
            None => "no baseline".to_owned(),
        });
        heads
    }

    fn row(&self, variant: &str, metric: CompareMetric) -> Option<&CompareRow> {
        let wanted =
            |row: &&&CompareRow| row.variant == variant && row.metric == metric;
        self.rows.iter().find(wanted).copied()
    }

    fn variant(&self, variant: &VariantSummary) -> Vec<Cell> {
        let name = &variant.variant;
        let mut cells = vec![Cell::Text(match variant.threads {
            Some(1) if self.threads => format!("{name} (1 thread)"),
            Some(n) if self.threads => format!("{name} ({n} threads)"),
            _ => name.clone(),
        })];
        for metric in &self.metrics {
            // The half of the ratio's interval: paired, so free of the drift
            // that the figures of one variant alone would show.
            let after = self
                .row(name, *metric)
                .and_then(half_interval)
                .map_or(String::new(), |half| format!("± {}", percent(half)));
            cells.push(match variant.medians.get(*metric) {
                Some(value) => Cell::Number(figure(*metric, value), after),
                None => Cell::Empty,
            });
        }
        cells.extend(self.extras.iter().map(|(_, pick)| match pick(variant) {
            Some(value) => Cell::Number(plain(value), String::new()),
            None => Cell::Empty,
        }));
        if self.bounds {
            cells.push(match variant.share_of_bound {
                Some(share) => Cell::Text(format!(
                    "{} of {}",
                    percent(share),
                    variant.bound
                )),
                None => Cell::Empty,
            });
        }
        let row = self.row(name, CompareMetric::OpsPerS);
        cells.push(Cell::Text(match (variant.role, row) {
            (Role::Baseline, _) => "baseline".to_owned(),
            (_, Some(row)) => self.comparison(row),
            (_, None) => String::new(),
        }));
        cells
    }

    /// `1.17× [1.15, 1.20]  faster`, the verdicts below each other.
    fn comparison(&self, row: &CompareRow) -> String {
        let Some(times) = ratio_text(row) else {
            return format!("no comparison: {}", row.reasons);
        };
        let widest = self
            .rows
            .iter()
            .filter(|row| row.role == Role::Contender)
            .filter(|row| row.metric == CompareMetric::OpsPerS)
            .filter_map(|row| Some(width(&ratio_text(row)?)))
            .max();
        let gap = widest.unwrap_or(0).saturating_sub(width(&times)) + 2;
        let verdict = row.verdict.map_or("no verdict", Verdict::word);
        format!("{times}{}{verdict}", " ".repeat(gap))
    }

    /// The twin's line: the larger of its difference from the baseline and
    /// half of its interval, for a small difference may be luck.
    fn noise_floor(&self, twin: &VariantSummary) -> Vec<Cell> {
        let mut cells = vec![Cell::Text("noise floor (A/A)".to_owned())];
        for metric in &self.metrics {
            let noise = self.row(&twin.variant, *metric).and_then(|row| {
                Some((row.ratio? - 1.0).abs().max(half_interval(row)?))
            });
            cells.push(match noise {
                Some(noise) => Cell::Text(percent(noise)),
                None => Cell::Empty,
            });
        }
        let without = self.extras.len() + usize::from(self.bounds);
        cells.extend(std::iter::repeat_n(Cell::Empty, without));
        cells.push(match self.smallest_effect() {
            Some(effect) => Cell::Text(format!(
                "smallest effect this run can show: {}",
                percent(effect)
            )),
            None => Cell::Text("too few blocks to show any effect".to_owned()),
        });
        cells
    }

    /// Of the contenders on throughput; of the twin where there are none.
    fn smallest_effect(&self) -> Option<f64> {
        let least = |role| {
            self.rows
                .iter()
                .filter(|row| row.role == role)
                .filter(|row| row.metric == CompareMetric::OpsPerS)
                .filter_map(|row| row.minimum_detectable_effect)
                .min_by(f64::total_cmp)
        };
        least(Role::Contender).or_else(|| least(Role::AaTwin))
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
