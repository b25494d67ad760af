//! Compares runs: before and after a change, or two machines.
//!
//! **The session is the unit.** What differs between two set-ups (which pages
//! a file got, where a process landed) is the same in all blocks of a session,
//! so blocks of one session are not independent evidence about another run.
//! Each session becomes one number per variant and metric: the mean over its
//! valid blocks of the logarithm of the value. The mean of logarithms, not
//! their median: it is what adds up, so the difference of two variants'
//! session means is the mean of their differences, and a block that stalled
//! moves its session, which the spread between sessions then shows. Over
//! sessions, Welch's interval; over the variants, metrics and measures of one
//! experiment, Holm.
//!
//! A side may be several runs, as where sessions are measured in turn (A, B, A,
//! B): their sessions are pooled.

mod differences;
mod estimate;
mod order;
mod side;

use std::collections::HashSet;
use std::path::PathBuf;

pub use estimate::{AcrossRow, Measure, SESSIONS_NEEDED};
pub use order::Order;
use serde::Serialize;
use side::{ExperimentSide, Side};
pub use side::{RunSummary, SideSummary};

use crate::compare::gather::ExperimentId;
use crate::reader::ReadError;
use crate::schema::{Role, RunFileError, Verdict};

/// What two sides say about each other.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Across {
    /// The runs of the first side.
    pub a: SideSummary,
    /// The runs of the second side.
    pub b: SideSummary,
    /// In which order their sessions were measured.
    pub order: Order,
    /// The same, one letter per session.
    pub order_letters: String,
    /// Least effect that gets a verdict, as a fraction.
    pub practical_ratio: f64,
    /// By experiment in the order of the first side, then metric, then variant;
    /// the figures themselves first, then their ratios to the own baseline.
    pub rows: Vec<AcrossRow>,
    /// What stands on one side only, or cannot be compared, and why.
    pub not_compared: Vec<String>,
    /// What A measured and B cannot be held against, and why: it may have got
    /// worse unseen.
    pub unjudged: Vec<String>,
    /// What was measured while its target was changing, and on which side.
    pub unsteady: Vec<String>,
    /// What is the same question on both sides and was not asked alike.
    pub notes: Vec<String>,
    /// Settings and tool: what differs between the sides.
    pub differences: Vec<Difference>,
}

/// A fact that is not the same on both sides.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Difference {
    /// Which fact.
    pub key: String,
    /// Its value on the first side.
    pub a: String,
    /// Its value on the second side.
    pub b: String,
}

/// Why two sides cannot be compared at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcrossError {
    /// `run.json` could not be read.
    #[error(transparent)]
    RunFile(#[from] RunFileError),
    /// `trials.csv` could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A side without a run.
    #[error("side {0} names no run; give the directory of one")]
    Empty(&'static str),
    /// The same run twice.
    #[error(
        "{0} is named twice; a run cannot be compared with itself: its \
         own noise floor is the A/A row of its table"
    )]
    SameRun(String),
    /// The layouts differ.
    #[error(
        "{a} has schema version {a_version}, {b} has {b_version}: what a \
         column means may differ; measure both with one version"
    )]
    Schema {
        /// A run of the first side.
        a: String,
        /// Its version.
        a_version: u32,
        /// A run of the second side.
        b: String,
        /// Its version.
        b_version: u32,
    },
    /// A row that was edited.
    #[error(
        "{directory}: trial {trial} contradicts itself: {what}; the row was \
         edited, restore trials.csv from a copy (`bypass check` looks for more)"
    )]
    Contradiction {
        /// The run.
        directory: PathBuf,
        /// The trial's number.
        trial: u64,
        /// What does not follow from what.
        what: String,
    },
    /// What is on both sides cannot be compared.
    #[error(
        "nothing is left to compare: {0}; `reasons` in trials.csv tells why, \
         so measure again on a quieter machine"
    )]
    NothingLeft(String),
    /// No row is on both sides.
    #[error(
        "nothing in common: A has {a}; B has {b}; run the same filters on both"
    )]
    NothingInCommon {
        /// Experiments of the first side.
        a: String,
        /// Experiments of the second side.
        b: String,
    },
}

/// Compares the runs in the directories `b` with those in `a`.
///
/// `practical` is the least effect that gets a verdict; without it that of the
/// runs if they agree, and otherwise 2 %.
///
/// # Errors
/// See [`AcrossError`].
pub fn compare(
    a: &[PathBuf],
    b: &[PathBuf],
    practical: Option<f64>,
) -> Result<Across, AcrossError> {
    let (a, b) = (Side::read("A", a)?, Side::read("B", b)?);
    refuse(&a, &b)?;
    let practical = practical.unwrap_or_else(|| common_practical(&a, &b));
    let mut across = Across {
        order: order::order(&a.spans(), &b.spans(), a.machine() == b.machine()),
        order_letters: order::letters(&a.spans(), &b.spans()),
        practical_ratio: practical,
        rows: Vec::new(),
        not_compared: Vec::new(),
        unjudged: Vec::new(),
        unsteady: Vec::new(),
        notes: Vec::new(),
        differences: differences::differences(&a, &b),
        a: a.summary(),
        b: b.summary(),
    };
    for (id, of_a) in &a.experiments {
        match b.experiment(id) {
            Some(of_b) => across.experiment(id, of_a, of_b),
            None => {
                across.unjudged.push(format!("{}: only in A", key(id)));
                across.only_in("A", id, &b);
            }
        }
    }
    for (id, _) in &b.experiments {
        if a.experiment(id).is_none() {
            across.only_in("B", id, &a);
        }
    }
    if across.rows.is_empty() {
        return Err(nothing_in_common(&a, &b, &across));
    }
    Ok(across)
}

fn refuse(a: &Side, b: &Side) -> Result<(), AcrossError> {
    let mut seen = HashSet::new();
    for run in a.runs.iter().chain(&b.runs) {
        if !seen.insert(run.file.run_id.as_str()) {
            return Err(AcrossError::SameRun(run.file.run_id.clone()));
        }
    }
    let first = &a.runs[0].file;
    for run in a.runs.iter().chain(&b.runs) {
        if run.file.schema_version != first.schema_version {
            return Err(AcrossError::Schema {
                a: first.run_id.clone(),
                a_version: first.schema_version,
                b: run.file.run_id.clone(),
                b_version: run.file.schema_version,
            });
        }
    }
    Ok(())
}

fn nothing_in_common(a: &Side, b: &Side, across: &Across) -> AcrossError {
    let keys = |side: &Side| -> String {
        let keys: Vec<String> =
            side.experiments.iter().map(|(id, _)| key(id)).collect();
        if keys.is_empty() { "no trials".to_owned() } else { keys.join(", ") }
    };
    // Where experiments match, the reasons tell more than their names.
    let of_both = |why: &&String| !why.contains("only in");
    match across.not_compared.iter().find(of_both) {
        Some(why) => AcrossError::NothingLeft(why.clone()),
        None => AcrossError::NothingInCommon { a: keys(a), b: keys(b) },
    }
}

/// The runs' own threshold where all have the same, and else the default.
fn common_practical(a: &Side, b: &Side) -> f64 {
    let mut all =
        a.runs.iter().chain(&b.runs).map(|r| r.file.settings.practical_ratio);
    let first = all.next();
    match first {
        Some(first) if all.all(|other| other == first) => first,
        _ => crate::schema::Settings::default().practical_ratio,
    }
}

/// `storage/randread-4k depth=32`.
fn key([suite, experiment, params]: &ExperimentId) -> String {
    format!("{suite}/{experiment} {params}").trim_end().to_owned()
}

impl Across {
    /// Rows with a verdict on the figures themselves: what a gate looks at. A
    /// ratio to the baseline also falls when the baseline gets better.
    pub fn count(&self, verdict: Verdict) -> usize {
        self.rows
            .iter()
            .filter(|row| row.measure == Measure::Figure)
            .filter(|row| row.verdict == Some(verdict))
            .count()
    }

    /// Whether every figure has the sessions that a verdict needs.
    pub fn can_decide(&self) -> bool {
        let mut figures =
            self.rows.iter().filter(|row| row.measure == Measure::Figure);
        figures.clone().next().is_some()
            && figures.all(AcrossRow::has_enough_sessions)
    }

    /// Whether both sides ran the sessions that a verdict needs; whether they
    /// count is another matter.
    pub fn ran_enough_sessions(&self) -> bool {
        self.a.sessions.min(self.b.sessions) >= SESSIONS_NEEDED
    }

    /// Why a gate may not pass although nothing is shown to be slower: what
    /// was not judged, and what makes verdicts worthless.
    pub fn doubts(&self) -> Vec<String> {
        let runs = self.a.runs.iter().chain(&self.b.runs);
        let mut doubts: Vec<String> = runs
            .filter(|run| run.suspect)
            .map(|run| {
                format!(
                    "{}: its baseline differs from its own copy",
                    run.run_id
                )
            })
            .collect();
        if self.order == Order::Overlapping {
            doubts.push(self.order.sentence().to_owned());
        }
        doubts.extend(self.unjudged.iter().cloned());
        doubts.extend(self.unsteady.iter().cloned());
        let untested = self.rows.iter().filter(|row| {
            row.measure == Measure::Figure
                && row.ratio_low.is_none()
                && row.ratio != Some(1.0)
        });
        doubts.extend(untested.map(|row| {
            let id =
                [&row.suite, &row.experiment, &row.params].map(String::clone);
            format!(
                "{} {} {}: {}",
                key(&id),
                row.variant,
                row.metric,
                row.reason
            )
        }));
        doubts
    }

    fn experiment(
        &mut self,
        id: &ExperimentId,
        a: &ExperimentSide,
        b: &ExperimentSide,
    ) {
        let name = key(id);
        for variant in a.variants.iter().chain(&b.variants) {
            let sides = (a.variant(variant), b.variant(variant));
            match sides {
                (Some(_), Some(other)) if std::ptr::eq(other, variant) => {}
                (Some(of_a), Some(of_b)) => {
                    let line = |why| format!("{name} {}: {why}", of_a.name);
                    let bars: Vec<String> =
                        side::bars(of_a, of_b).map(line).collect();
                    if of_a.has_figures() {
                        self.unjudged.extend(bars.iter().cloned());
                    }
                    self.unjudged.extend(side::lost(of_a, of_b).map(line));
                    for (side, of) in [("A", of_a), ("B", of_b)] {
                        let why = of.not_steady().filter(|_| bars.is_empty());
                        let why = why.map(|why| format!("{why} in {side}"));
                        self.unsteady.extend(why.map(line));
                    }
                    let notes = side::shape_notes(of_a, of_b);
                    self.notes.extend(
                        notes.map(|n| format!("{name} {}: {n}", of_a.name)),
                    );
                    self.not_compared.extend(bars);
                }
                (of_a, _) => {
                    let side = if of_a.is_some() { "A" } else { "B" };
                    let line =
                        format!("{name} {}: only in {side}", variant.name);
                    if of_a.is_some_and(side::VariantSide::has_figures) {
                        self.unjudged.push(line.clone());
                    }
                    self.not_compared.push(line);
                }
            }
        }
        let confidence = 0.95;
        let practical = self.practical_ratio;
        let rules = estimate::Rules { confidence, practical };
        self.rows.extend(estimate::rows(id, (a, b), rules));
    }

    /// An experiment of one side; the other may have it with other parameters.
    fn only_in(&mut self, side: &str, id: &ExperimentId, other: &Side) {
        let near: Vec<&str> = other
            .experiments
            .iter()
            .filter(|(o, _)| o[..2] == id[..2])
            .map(|(o, _)| o[2].as_str())
            .collect();
        let hint = match near.as_slice() {
            [] => String::new(),
            near => format!(
                "; the other side has it with {}, which is another question",
                near.join(" and ")
            ),
        };
        self.not_compared.push(format!("{}: only in {side}{hint}", key(id)));
    }
}

/// What gets compared: the baseline and the contenders. The twin is the
/// baseline once more, and bounds run in few blocks only.
fn is_compared(role: Role) -> bool {
    matches!(role, Role::Baseline | Role::Contender)
}
