//! One side: its runs, their sessions, and one number per session.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;
use stats::summary::mean;

use super::order::Span;
use super::{AcrossError, is_compared};
use crate::check::contradictions;
use crate::command_line::{DESTROY_OPTION, without_option};
use crate::compare::gather::{
    Attempt, Experiment, ExperimentId, Gathered, count, unsteady,
};
use crate::compare::{Plan, derive_gathered};
use crate::reader::read_trials;
use crate::schema::{
    CompareMetric, CpuAccounting, LatencyKind, LoadMode, Role, RunFile, Steady,
    TrialRow,
};

/// One number per session for each metric; a session without a value on a
/// metric is missing there.
type PerMetric = [Vec<f64>; CompareMetric::ALL.len()];

/// All runs of a side.
pub(super) struct Side {
    pub runs: Vec<Run>,
    /// In the order in which the runs first came to them.
    pub experiments: Vec<(ExperimentId, ExperimentSide)>,
}

/// One run of a side.
pub(super) struct Run {
    pub directory: PathBuf,
    pub file: RunFile,
    suspect: bool,
    spans: BTreeMap<u32, Span>,
    thin: Vec<String>,
}

/// One experiment over all sessions of a side.
#[derive(Default)]
pub(super) struct ExperimentSide {
    pub baseline: String,
    pub variants: Vec<VariantSide>,
}

/// One variant over all sessions of a side.
pub(super) struct VariantSide {
    pub name: String,
    pub role: Role,
    /// Why its figures cannot be compared, from the first run that says so.
    pub unfit: Option<String>,
    /// Per session the mean log of its values.
    pub figures: PerMetric,
    /// Per session the mean log ratio to the baseline.
    pub ratios: PerMetric,
    /// Whether what it writes to has a history.
    preconditioned: bool,
    /// Why sessions were not in steady state, where they had to be.
    unsteady: Vec<String>,
    shape: Shape,
}

/// What must be alike for two figures to mean the same, and what need not.
#[derive(Clone, Default)]
pub(super) struct Shape {
    op_bytes: Option<u64>,
    load_mode: Option<LoadMode>,
    latency_kind: Option<LatencyKind>,
    cpu_accounting: Option<CpuAccounting>,
    threads: Option<u32>,
    depth: Option<u32>,
    target: String,
}

impl Shape {
    /// Takes in another run of the same side; says what is not alike.
    fn add(&mut self, other: Shape) -> Option<String> {
        fn fill<T: PartialEq + Copy>(
            own: &mut Option<T>,
            other: Option<T>,
        ) -> bool {
            let is_alike = own.is_none() || other.is_none() || *own == other;
            *own = own.or(other);
            is_alike
        }
        let alike = [
            ("bytes per op", fill(&mut self.op_bytes, other.op_bytes)),
            ("kinds of load", fill(&mut self.load_mode, other.load_mode)),
            (
                "kinds of latency",
                fill(&mut self.latency_kind, other.latency_kind),
            ),
            (
                "bookings of interrupts",
                fill(&mut self.cpu_accounting, other.cpu_accounting),
            ),
        ];
        fill(&mut self.threads, other.threads);
        fill(&mut self.depth, other.depth);
        if self.target.is_empty() {
            self.target = other.target;
        }
        let (what, _) = alike.into_iter().find(|(_, alike)| !alike)?;
        Some(format!("different {what} in the runs of this side"))
    }
}

/// What a reader wants to know of a side.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct SideSummary {
    /// Its runs.
    pub runs: Vec<RunSummary>,
    /// Sessions over all of them.
    pub sessions: usize,
}

/// What a reader wants to know of a run.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct RunSummary {
    /// Its directory.
    pub directory: PathBuf,
    /// Its name.
    pub run_id: String,
    /// Sessions that measured something.
    pub sessions: usize,
    /// Blocks per session that were planned.
    pub blocks: u32,
    /// Length of the window.
    pub window_ns: u64,
    /// Its baseline differs from its own copy.
    pub suspect: bool,
    /// What limits the worth of its figures.
    pub caps: Vec<String>,
    /// Sessions that rest on fewer than half of their blocks.
    pub thin_sessions: Vec<String>,
    /// How it was called, without what it was allowed to destroy.
    pub command_line: Vec<String>,
}

impl Side {
    pub fn read(
        name: &'static str,
        directories: &[PathBuf],
    ) -> Result<Side, AcrossError> {
        if directories.is_empty() {
            return Err(AcrossError::Empty(name));
        }
        let mut side = Side { runs: Vec::new(), experiments: Vec::new() };
        for directory in directories {
            let (run, gathered, shapes) = Run::read(directory)?;
            let plan = Plan::of(&run.file);
            for experiment in &gathered.experiments {
                side.add(experiment, &shapes, &plan);
            }
            side.runs.push(run);
        }
        Ok(side)
    }

    fn add(&mut self, experiment: &Experiment, shapes: &Shapes, plan: &Plan) {
        let known = self.experiments.iter().position(|e| e.0 == experiment.id);
        let index = known.unwrap_or_else(|| {
            let new = (experiment.id.clone(), ExperimentSide::default());
            self.experiments.push(new);
            self.experiments.len() - 1
        });
        let own = &mut self.experiments[index].1;
        own.add(experiment, shapes);
        own.variants.sort_by_key(|v| plan.place(&experiment.id, &v.name));
    }

    pub fn experiment(&self, id: &ExperimentId) -> Option<&ExperimentSide> {
        self.experiments.iter().find(|e| e.0 == *id).map(|e| &e.1)
    }

    pub fn machine(&self) -> &str {
        &self.runs[0].file.machine_id
    }

    pub fn spans(&self) -> Vec<Span> {
        self.runs.iter().flat_map(|r| r.spans.values().cloned()).collect()
    }

    pub fn summary(&self) -> SideSummary {
        let runs: Vec<RunSummary> =
            self.runs.iter().map(Run::summary).collect();
        SideSummary {
            sessions: runs.iter().map(|run| run.sessions).sum(),
            runs,
        }
    }
}

impl Run {
    fn read(directory: &Path) -> Result<(Run, Gathered, Shapes), AcrossError> {
        let file = RunFile::read(directory)?;
        let mut gathered = Gathered::default();
        let mut shapes = Shapes::default();
        let mut spans = BTreeMap::new();
        for row in read_trials(directory)? {
            let row = row?;
            let strange = (row.run_id != file.run_id).then(|| {
                format!(
                    "it is of {:?}, run.json of {:?}",
                    row.run_id, file.run_id
                )
            });
            let what = strange.into_iter().chain(contradictions(&row)).next();
            if let Some(what) = what {
                return Err(AcrossError::Contradiction {
                    directory: directory.to_path_buf(),
                    trial: row.trial,
                    what,
                });
            }
            gathered.add(&row);
            note_shape(&mut shapes, &row);
            if row.block.is_some() {
                extend(&mut spans, &row);
            }
        }
        let plan = Plan::default();
        let derived = derive_gathered(&gathered, &file.settings, &plan);
        let suspect = derived.aa.suspect;
        let thin = thin_sessions(&gathered, file.settings.blocks);
        let directory = directory.to_path_buf();
        let run = Run { directory, file, suspect, spans, thin };
        Ok((run, gathered, shapes))
    }

    fn summary(&self) -> RunSummary {
        RunSummary {
            directory: self.directory.clone(),
            run_id: self.file.run_id.clone(),
            sessions: self.spans.len(),
            blocks: self.file.settings.blocks,
            window_ns: self.file.settings.window_ns,
            suspect: self.suspect,
            caps: caps(&self.file.doctor),
            thin_sessions: self.thin.clone(),
            // The first versions stored all of it.
            command_line: without_option(
                &self.file.command_line,
                DESTROY_OPTION,
            ),
        }
    }
}

fn extend(spans: &mut BTreeMap<u32, Span>, row: &TrialRow) {
    let at = &row.started_at_utc;
    let span = spans
        .entry(row.session)
        .or_insert_with(|| Span { first: at.clone(), last: at.clone() });
    if *at < span.first {
        span.first.clone_from(at);
    }
    if *at > span.last {
        span.last.clone_from(at);
    }
}

/// Sessions of which fewer than half of the planned blocks count: each still
/// weighs as much as any other.
fn thin_sessions(gathered: &Gathered, planned: u32) -> Vec<String> {
    let mut thin = Vec::new();
    for experiment in &gathered.experiments {
        for (session, blocks) in sessions(experiment) {
            let valid = count(blocks.iter());
            if valid * 2 < planned {
                thin.push(format!(
                    "session {session} of {} rests on {valid} of {planned} \
                     blocks",
                    super::key(&experiment.id)
                ));
            }
        }
    }
    thin
}

/// The blocks of each session that count.
fn sessions(experiment: &Experiment) -> BTreeMap<u32, Vec<&Attempt>> {
    let mut sessions: BTreeMap<u32, Vec<&Attempt>> = BTreeMap::new();
    for ((session, _), block) in &experiment.blocks {
        let blocks = sessions.entry(*session).or_default();
        if !block.is_void() {
            blocks.push(block);
        }
    }
    sessions
}

/// What limits the worth of a run's figures, as the program found it; this
/// crate only carries the words.
fn caps(doctor: &Value) -> Vec<String> {
    let text = |cap: &Value, verdict: &str, reason: &str| {
        let word = |key: &str| cap[key].as_str();
        let verdict = word(verdict)?.replace('_', " ");
        Some(format!("{verdict}: {}", word(reason)?))
    };
    // Findings that cap; the first runs had a list of nothing but caps.
    let of = |list: &Value, verdict: &str, reason: &str| -> Vec<String> {
        let list = list.as_array().into_iter().flatten();
        list.filter_map(|cap| text(cap, verdict, reason)).collect()
    };
    let mut caps = of(&doctor["findings"], "caps", "observed");
    caps.extend(of(doctor, "verdict", "reason"));
    caps
}

/// By experiment, variant and role: the first trial that measured something.
type Shapes = HashMap<(ExperimentId, String, Role), Shape>;

fn note_shape(shapes: &mut Shapes, row: &TrialRow) {
    if !row.status.is_usable() {
        return;
    }
    let id = [&row.suite, &row.experiment, &row.params].map(String::clone);
    let key = (id, row.variant.clone(), row.role);
    shapes.entry(key).or_insert_with(|| Shape {
        op_bytes: row.op_bytes,
        load_mode: row.load_mode,
        latency_kind: row.latency_kind,
        cpu_accounting: row.cpu_accounting,
        threads: row.threads,
        depth: row.depth,
        target: row.target.clone(),
    });
}

impl ExperimentSide {
    fn add(&mut self, experiment: &Experiment, shapes: &Shapes) {
        let baseline = experiment.baseline();
        if let Some(baseline) = baseline {
            self.baseline.clone_from(&experiment.variants[baseline].name);
        }
        let sessions = sessions(experiment);
        for (index, variant) in experiment.variants.iter().enumerate() {
            if !is_compared(variant.role) {
                continue;
            }
            let key =
                (experiment.id.clone(), variant.name.clone(), variant.role);
            let shape = shapes.get(&key).cloned().unwrap_or_default();
            let own = self.entry(&variant.name, variant.role);
            let mixed = own.shape.add(shape);
            let skipped = variant.skipped.as_ref();
            let unfit = match (&variant.disqualified, skipped) {
                (Some(why), _) => Some(why.clone()),
                (None, Some(why)) if !variant.was_measured() => {
                    Some(format!("skipped: {why}"))
                }
                _ => mixed,
            };
            own.unfit = own.unfit.take().or(unfit);
            own.preconditioned |= variant.preconditioned;
            for blocks in sessions.values() {
                own.session(blocks, index, baseline);
                if variant.preconditioned {
                    own.judge_steadiness(blocks, index);
                }
            }
        }
    }

    fn entry(&mut self, name: &str, role: Role) -> &mut VariantSide {
        let same = |v: &VariantSide| v.name == name && v.role == role;
        let index = self.variants.iter().position(same).unwrap_or_else(|| {
            self.variants.push(VariantSide {
                name: name.to_owned(),
                role,
                unfit: None,
                figures: PerMetric::default(),
                ratios: PerMetric::default(),
                preconditioned: false,
                unsteady: Vec::new(),
                shape: Shape::default(),
            });
            self.variants.len() - 1
        });
        &mut self.variants[index]
    }

    /// The same variant on this side.
    pub fn variant(&self, like: &VariantSide) -> Option<&VariantSide> {
        self.variants
            .iter()
            .find(|v| v.name == like.name && v.role == like.role)
    }
}

impl VariantSide {
    /// Whether this side has figures of it that count.
    pub fn has_figures(&self) -> bool {
        self.unfit.is_none() && !self.figures.iter().all(Vec::is_empty)
    }

    /// Each session writes its target anew, and so has to become steady anew.
    fn judge_steadiness(&mut self, blocks: &[&Attempt], index: usize) {
        let ops = CompareMetric::OpsPerS;
        let value = |block: &&Attempt| block.slot(index)?.value(ops);
        let rounds: Vec<f64> = blocks.iter().filter_map(value).collect();
        // Without a round it adds no figure, and that is told elsewhere.
        if !rounds.is_empty() {
            self.unsteady.extend(unsteady(&rounds));
        }
    }

    /// What a figure of this side is worth that was measured while its target
    /// was changing.
    pub fn not_steady(&self) -> Option<String> {
        let first = self.unsteady.first()?;
        let ops = CompareMetric::OpsPerS as usize;
        Some(format!(
            "not steady in {} of {} sessions ({first})",
            self.unsteady.len(),
            self.figures[ops].len()
        ))
    }

    /// Adds one session: the mean over its blocks of the logarithms.
    fn session(
        &mut self,
        blocks: &[&Attempt],
        index: usize,
        baseline: Option<usize>,
    ) {
        for metric in CompareMetric::ALL {
            let own =
                |block: &Attempt| block.slot(index)?.value(metric).map(f64::ln);
            let of_baseline = |block: &Attempt| {
                block.slot(baseline?)?.value(metric).map(f64::ln)
            };
            let figures: Vec<f64> =
                blocks.iter().filter_map(|block| own(block)).collect();
            let ratios: Vec<f64> = blocks
                .iter()
                .filter_map(|block| Some(own(block)? - of_baseline(block)?))
                .collect();
            let at = metric as usize;
            self.figures[at].extend(mean(&figures));
            self.ratios[at].extend(mean(&ratios));
        }
    }
}

/// Whether a variant was in steady state on both sides, where it had to be.
pub(super) fn steady(a: &VariantSide, b: &VariantSide) -> Option<Steady> {
    if !(a.preconditioned || b.preconditioned) {
        return None;
    }
    let unsteady = a.not_steady().or(b.not_steady()).is_some();
    Some(if unsteady { Steady::No } else { Steady::Yes })
}

/// Why two figures of a variant on any metric cannot be compared.
pub(super) fn bar(a: &VariantSide, b: &VariantSide) -> Option<String> {
    for (side, variant) in [("A", a), ("B", b)] {
        if let Some(why) = &variant.unfit {
            return Some(format!("in {side} {why}"));
        }
        if variant.figures.iter().all(Vec::is_empty) {
            return Some(format!("no block of it counts in {side}"));
        }
    }
    let (a, b) = (&a.shape, &b.shape);
    if let (Some(of_a), Some(of_b)) = (a.op_bytes, b.op_bytes)
        && of_a != of_b
    {
        return Some(format!("an op moves {of_a} bytes in A, {of_b} in B"));
    }
    match (a.load_mode, b.load_mode) {
        (Some(of_a), Some(of_b)) if of_a != of_b => {
            Some(format!("{of_a} loop in A, {of_b} in B"))
        }
        _ => None,
    }
}

/// Why two figures on one metric cannot be compared.
pub(super) fn bar_on(
    a: &VariantSide,
    b: &VariantSide,
    metric: CompareMetric,
) -> Option<String> {
    let (a, b) = (&a.shape, &b.shape);
    match metric {
        CompareMetric::OpsPerS => None,
        CompareMetric::LatencyP50Ns | CompareMetric::LatencyP99Ns => {
            let (of_a, of_b) = (a.latency_kind?, b.latency_kind?);
            (of_a != of_b)
                .then(|| format!("latency is {of_a} time in A, {of_b} in B"))
        }
        CompareMetric::CpuPerOpNs => {
            let (of_a, of_b) = (a.cpu_accounting?, b.cpu_accounting?);
            (of_a != of_b).then(|| {
                format!("interrupts are booked {of_a} in A, {of_b} in B")
            })
        }
    }
}

/// All of these in words.
pub(super) fn bars(
    a: &VariantSide,
    b: &VariantSide,
) -> impl Iterator<Item = String> {
    let whole = bar(a, b);
    let metrics = match whole {
        Some(_) => Vec::new(),
        None => CompareMetric::ALL
            .into_iter()
            .filter_map(|metric| {
                Some(format!("{metric}: {}", bar_on(a, b, metric)?))
            })
            .collect(),
    };
    whole.into_iter().chain(metrics)
}

/// Metrics of a variant that A measured and B, which has others, did not: too
/// few ops for a percentile, say.
pub(super) fn lost(
    a: &VariantSide,
    b: &VariantSide,
) -> impl Iterator<Item = String> {
    let is_comparable = bar(a, b).is_none();
    let lost = move |metric: &CompareMetric| {
        let at = *metric as usize;
        let (a, b) = (&a.figures[at], &b.figures[at]);
        is_comparable && !a.is_empty() && b.is_empty()
    };
    let all = CompareMetric::ALL.into_iter();
    all.filter(lost).map(|metric| format!("{metric}: no value in B"))
}

/// The same question asked with other means: worth knowing, no bar. "The most
/// that all CPUs get" has more threads on a larger machine.
pub(super) fn shape_notes(
    a: &VariantSide,
    b: &VariantSide,
) -> impl Iterator<Item = String> {
    let (a, b) = (a.shape.clone(), b.shape.clone());
    let number = |n: Option<u32>| n.map_or(String::new(), |n| n.to_string());
    [
        ("threads", number(a.threads), number(b.threads)),
        ("depth", number(a.depth), number(b.depth)),
        ("target", a.target, b.target),
    ]
    .into_iter()
    .filter(|(_, a, b)| !a.is_empty() && !b.is_empty() && a != b)
    .map(|(what, a, b)| format!("{what} {a} in A, {b} in B"))
}

#[cfg(test)]
impl VariantSide {
    /// With these session means of log ops/s.
    pub fn of_sessions(name: &str, role: Role, ops: Vec<f64>) -> VariantSide {
        let mut figures = PerMetric::default();
        figures[CompareMetric::OpsPerS as usize] = ops;
        VariantSide {
            name: name.to_owned(),
            role,
            unfit: None,
            ratios: figures.clone(),
            figures,
            preconditioned: false,
            unsteady: Vec::new(),
            shape: Shape::default(),
        }
    }
}
