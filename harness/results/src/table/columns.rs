//! The columns of one experiment's table.

use super::layout::{Cell, lay_out, width};
use super::number::{figure, percent, plain};
use super::{Style, baseline, colour, half_interval, paint, ratio_text, short};
use crate::compare::{ExperimentSummary, VariantSummary};
use crate::schema::{CompareMetric, CompareRow, Role, Verdict};

/// What one experiment's table is made of.
pub(super) struct Table<'a> {
    experiment: &'a ExperimentSummary,
    rows: &'a [&'a CompareRow],
    pub metrics: Vec<CompareMetric>,
    extras: Vec<Extra>,
    bounds: bool,
    threads: bool,
    narrow: bool,
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
    pub fn new(
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
                metric if *metric == experiment.primary => true,
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
        let narrow = false;
        Table { experiment, rows, metrics, extras, bounds, threads, narrow }
    }

    /// The same with shorter cells.
    pub fn narrow(self) -> Table<'a> {
        Table { narrow: true, ..self }
    }

    /// All columns beside each other, the verdicts last.
    pub fn whole(&self, style: Style) -> Vec<String> {
        let (heads, body, verdicts) = self.cells();
        lay_out(&heads, &body, painted(&verdicts, style, heads.len() - 1))
    }

    /// Rates, costs and shares first; below them latencies and verdicts.
    pub fn parts(&self, style: Style) -> Vec<String> {
        let (heads, body, verdicts) = self.cells();
        let last = heads.len() - 1;
        let is_latency = |index: &usize| {
            let metric = index.checked_sub(1).and_then(|i| self.metrics.get(i));
            matches!(
                metric,
                Some(CompareMetric::LatencyP50Ns | CompareMetric::LatencyP99Ns)
            )
        };
        let (latencies, figures): (Vec<usize>, Vec<usize>) =
            (1..last).partition(is_latency);
        let part = |chosen: &[usize]| -> (Vec<String>, Vec<Vec<Cell>>) {
            let heads = chosen.iter().map(|i| heads[*i].clone()).collect();
            let row = |row: &Vec<Cell>| {
                chosen.iter().map(|i| row[*i].clone()).collect()
            };
            (heads, body.iter().map(row).collect())
        };
        let (heads, body) = part(&[&[0][..], &figures].concat());
        let mut lines = lay_out(&heads, &body, |_, _, text| text.to_owned());
        let (heads, body) = part(&[&[0][..], &latencies, &[last]].concat());
        lines.extend(lay_out(
            &heads,
            &body,
            painted(&verdicts, style, heads.len() - 1),
        ));
        lines
    }

    /// The one bound that all variants with a bound have.
    fn only_bound(&self) -> Option<&str> {
        let mut bounds = self
            .experiment
            .variants
            .iter()
            .filter(|v| v.share_of_bound.is_some())
            .map(|v| v.bound.as_str());
        let first = bounds.next()?;
        bounds.all(|other| other == first).then_some(first)
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
            let row = self.row(&variant.variant, self.experiment.primary);
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
            let only = self.only_bound().filter(|_| self.narrow);
            heads.push(format!("of {}", only.unwrap_or("floor/ceiling")));
        }
        let primary = self.experiment.primary;
        heads.push(match baseline(self.experiment) {
            // Further down, nothing else says what is compared; and whoever
            // reads many tables expects throughput.
            Some(baseline)
                if self.narrow || primary != CompareMetric::OpsPerS =>
            {
                format!("{} vs {}", short(primary), baseline.variant)
            }
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
            Some(1) if self.threads && !self.narrow => {
                format!("{name} (1 thread)")
            }
            Some(1) => name.clone(),
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
            let named = !self.narrow || self.only_bound().is_none();
            cells.push(match variant.share_of_bound {
                Some(share) if named => Cell::Text(format!(
                    "{} of {}",
                    percent(share),
                    variant.bound
                )),
                Some(share) => Cell::Text(percent(share)),
                None => Cell::Empty,
            });
        }
        let row = self.row(name, self.experiment.primary);
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
            // What is undecided for want of blocks is told below, once.
            return match row.verdict {
                Some(_) => "no comparison".to_owned(),
                None => format!("no comparison: {}", row.reasons),
            };
        };
        let widest = self
            .rows
            .iter()
            .filter(|row| row.role == Role::Contender)
            .filter(|row| row.metric == self.experiment.primary)
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

    /// Of the contenders on what the experiment is about; of the twin where
    /// there are none.
    fn smallest_effect(&self) -> Option<f64> {
        let least = |role| {
            self.rows
                .iter()
                .filter(|row| row.role == role)
                .filter(|row| row.metric == self.experiment.primary)
                .filter_map(|row| row.minimum_detectable_effect)
                .min_by(f64::total_cmp)
        };
        least(Role::Contender).or_else(|| least(Role::AaTwin))
    }
}

/// Colours a line's last cell by its verdict.
fn painted(
    verdicts: &[Option<&'static str>],
    style: Style,
    last: usize,
) -> impl Fn(usize, usize, &str) -> String {
    move |row, column, text| {
        let verdict = verdicts[row].filter(|_| style.colour);
        paint(text, verdict.filter(|_| column == last))
    }
}
