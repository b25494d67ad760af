//! Looks whether a run directory still says what its measurements say.
//!
//! Everything that can be computed from something else in the directory is,
//! and has to agree: rates with their integers, histograms with their counts,
//! verdicts with the trials.

mod beside;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::compare::{Derived, derive};
use crate::reader::{Block, Blocks, Located, ReadError, Rows, Torn};
use crate::schema::{
    CompareRow, Kind, Role, RunFile, Settings, Table, TrialRow,
};
use crate::writer::to_csv;

use beside::{Logs, Slices, check_metrics};

/// How far two ways to the same number may lie apart, relative.
const TOLERANCE: f64 = 1e-9;

/// Findings told per kind; a directory edited by a script would have
/// thousands.
const FINDINGS_MAX: usize = 20;

/// What was found in a run directory.
#[derive(Clone, Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// What does not agree, each with its next step.
    pub problems: Vec<String>,
    /// What is worth knowing and no sign of damage.
    pub notes: Vec<String>,
    /// Trials in whole blocks.
    pub trials: u64,
    /// Rows of `compare.csv` derived again.
    pub rows: u64,
    /// What the trials say, whatever `compare.csv` says.
    pub derived: Derived,
}

impl Report {
    /// Whether everything agrees.
    pub fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for problem in &self.problems {
            writeln!(f, "problem: {problem}")?;
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        let end = match self.problems.len() {
            0 => "all agree".to_owned(),
            1 => "1 problem".to_owned(),
            n => format!("{n} problems"),
        };
        writeln!(
            f,
            "{} trials, {} rows derived again: {end}",
            self.trials, self.rows
        )
    }
}

/// Checks a run directory.
pub fn check(directory: &Path) -> Report {
    let mut report = Report::default();
    let run = RunFile::read(directory)
        .map_err(|error| report.problems.push(error.to_string()))
        .ok();
    let settings = run.as_ref().map(|run| run.settings.clone());
    if settings.as_ref().is_some_and(|s| s.window_ns == 0) {
        let path = directory.join(RunFile::FILE);
        report.problems.push(format!(
            "{}: window_ns is 0; the file was edited, restore it from a copy",
            path.display()
        ));
    }
    let mut rows = RowChecks::new(directory, run.as_ref());
    match walk(directory, &mut rows, &settings.unwrap_or_default()) {
        Ok((derived, torn)) => {
            report.derived = derived;
            if !torn.is_empty() {
                report.notes.push(torn.to_string());
            }
        }
        Err(error) => {
            report.trials = rows.trials;
            report.problems.extend(rows.into_problems());
            report.problems.push(error.to_string());
            return report;
        }
    }
    report.trials = rows.trials;
    report.rows = report.derived.rows.len() as u64;
    let slices = std::mem::take(&mut rows.slices);
    report.problems.extend(rows.into_problems());
    let metrics = check_metrics(directory, run.as_ref());
    let windows = slices.check(directory, run.as_ref());
    for mut found in [metrics, windows] {
        curtail(&mut found, "beside trials.csv");
        report.problems.extend(found);
    }
    // Verdicts depend on the settings; without them nothing can be compared.
    if let Some(run) = &run {
        check_compare(directory, run, &mut report);
    }
    report
}

/// Tells the first of many, and how many more there are.
fn curtail(problems: &mut Vec<String>, place: &str) {
    let more = problems.len().saturating_sub(FINDINGS_MAX);
    problems.truncate(FINDINGS_MAX);
    if more > 0 {
        problems.push(format!("{more} more problems {place}"));
    }
}

/// Reads the trials once, for the checks and the verdicts alike.
fn walk(
    directory: &Path,
    rows: &mut RowChecks,
    settings: &Settings,
) -> Result<(Derived, Torn), ReadError> {
    let mut blocks = Blocks::open(directory)?;
    let trials = blocks.by_ref().flat_map(|block| match block {
        Ok(block) => {
            rows.check_block(&block);
            block.trials.into_iter().map(Ok).collect()
        }
        Err(error) => vec![Err(error)],
    });
    let derived = derive(trials, settings)?;
    Ok((derived, blocks.torn()))
}

/// The checks of the rows of `trials.csv` one by one.
struct RowChecks {
    directory: PathBuf,
    run: Option<(String, u32)>,
    trials: u64,
    problems: Vec<String>,
    /// The last attempt seen at each block.
    attempts: HashMap<BlockKey, u32>,
    roles: HashMap<[String; 4], Role>,
    baselines: HashMap<[String; 3], String>,
    logs: Logs,
    slices: Slices,
}

type BlockKey = ([String; 3], u32, u32);

impl RowChecks {
    fn new(directory: &Path, run: Option<&RunFile>) -> RowChecks {
        RowChecks {
            directory: directory.to_path_buf(),
            run: run.map(|run| (run.run_id.clone(), run.schema_version)),
            trials: 0,
            problems: Vec::new(),
            attempts: HashMap::new(),
            roles: HashMap::new(),
            baselines: HashMap::new(),
            logs: Logs::new(directory),
            slices: Slices::default(),
        }
    }

    fn problem(&mut self, line: u64, what: &str) {
        self.problems.push(format!(
            "{}:{line}: {what}; the row was edited, restore the file from a \
             copy",
            self.directory.join(TrialRow::FILE).display()
        ));
    }

    fn into_problems(self) -> Vec<String> {
        let mut problems = self.problems;
        curtail(&mut problems, "in trials.csv");
        problems
    }

    fn check_block(&mut self, block: &Block) {
        let mut names = HashSet::new();
        for (line, row) in (block.line..).zip(&block.trials) {
            self.trials += 1;
            for what in contradictions(row) {
                self.problem(line, &what);
            }
            if row.block.is_some() && !names.insert(&row.variant) {
                let what = format!("{} stands twice in its block", row.variant);
                self.problem(line, &what);
            }
            self.check_identity(line, row);
            match self.logs.difference(row) {
                Ok(None) => {}
                Ok(Some(what)) => self.problem(line, &what),
                Err(damaged) => self.problems.push(damaged),
            }
            self.slices.expect(row);
        }
        if let Some(first) = block.trials.first() {
            self.check_attempt(block.line, first);
        }
    }

    fn check_identity(&mut self, line: u64, row: &TrialRow) {
        let found = (row.run_id.clone(), row.schema_version);
        if let Some(run) = self.run.clone().filter(|run| *run != found) {
            let what = format!(
                "run {:?} with schema version {} in the directory of {:?} \
                 with {}",
                found.0, found.1, run.0, run.1
            );
            self.problem(line, &what);
        }
        let experiment =
            [&row.suite, &row.experiment, &row.params].map(String::clone);
        let [suite, id, params] = experiment.clone();
        let key = [suite, id, params, row.variant.clone()];
        let role = *self.roles.entry(key).or_insert(row.role);
        if role != row.role {
            let what =
                format!("{} is {} here, {role} before", row.variant, row.role);
            self.problem(line, &what);
        }
        if row.role == Role::Baseline {
            let first = self
                .baselines
                .entry(experiment)
                .or_insert_with(|| row.variant.clone());
            if *first != row.variant {
                let what = format!("second baseline beside {first}");
                self.problem(line, &what);
            }
        }
    }

    /// The attempts at a block are numbered without gaps.
    fn check_attempt(&mut self, line: u64, row: &TrialRow) {
        let Some(block) = row.block else { return };
        let id = [&row.suite, &row.experiment, &row.params].map(String::clone);
        let last = self.attempts.entry((id, row.session, block)).or_insert(0);
        let expected = *last + 1;
        let found = row.attempt.unwrap_or(0);
        *last = found;
        if found != expected {
            let what =
                format!("attempt {found} at a block, expected {expected}");
            self.problem(line, &what);
        }
    }
}

/// What in a row does not follow from the rest of it: rates from integers, and
/// the order of its latencies.
pub fn contradictions(row: &TrialRow) -> Vec<String> {
    let ops = row.ops.map(|ops| ops as f64);
    let window = row.window_ns.map(|ns| ns as f64);
    let cpu = row.cpu_ns.map(|ns| ns as f64);
    let rates = [
        ("ops_per_s", row.ops_per_s, ratio(ops, window).map(|r| r * 1e9)),
        ("cpu_per_op_ns", row.cpu_per_op_ns, ratio(cpu, ops)),
        ("busy_cpus", row.busy_cpus, ratio(cpu, window)),
    ];
    let rates = rates.into_iter().filter_map(|(column, found, expected)| {
        let found = found?;
        match expected {
            Some(expected) if near(found, expected) => None,
            Some(expected) => Some(format!(
                "column {column} holds {found}, its integers give {expected}"
            )),
            None => Some(format!(
                "column {column} holds {found} without its integers"
            )),
        }
    });
    rates.chain(other_bytes(row)).chain(disorder(row)).collect()
}

fn other_bytes(row: &TrialRow) -> Option<String> {
    let (ops, op_bytes, bytes) = (row.ops?, row.op_bytes?, row.bytes?);
    (ops.checked_mul(op_bytes) != Some(bytes)).then(|| {
        format!(
            "column bytes holds {bytes}, and {ops} ops move {op_bytes} each"
        )
    })
}

/// The first latency that is below one before it.
fn disorder(row: &TrialRow) -> Option<String> {
    let ascending = [
        ("latency_min_ns", row.latency_min_ns),
        ("latency_p50_ns", row.latency_p50_ns),
        ("latency_p90_ns", row.latency_p90_ns),
        ("latency_p99_ns", row.latency_p99_ns),
        ("latency_p999_ns", row.latency_p999_ns),
        ("latency_p9999_ns", row.latency_p9999_ns),
        ("latency_max_ns", row.latency_max_ns),
    ];
    let told: Vec<(&str, u64)> = ascending
        .into_iter()
        .filter_map(|(column, value)| Some((column, value?)))
        .collect();
    told.windows(2).find_map(|pair| match pair {
        [(before, low), (column, high)] if high < low => Some(format!(
            "column {column} holds {high}, less than the {low} of {before}"
        )),
        _ => None,
    })
}

fn ratio(numerator: Option<f64>, divisor: Option<f64>) -> Option<f64> {
    divisor.filter(|d| *d > 0.0).and_then(|d| Some(numerator? / d))
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= TOLERANCE * a.abs().max(b.abs())
}

fn check_compare(directory: &Path, run: &RunFile, report: &mut Report) {
    let path = directory.join(CompareRow::FILE);
    if !path.exists() {
        match run.finished_at_utc() {
            None => report.notes.push(format!(
                "no {}: the run did not come to its end; resume it",
                path.display()
            )),
            Some(at) => report.problems.push(format!(
                "no {}, though the run ended at {at}: it was removed; restore \
                 it from a copy, or resume the run to derive it again",
                path.display()
            )),
        }
        return;
    }
    let stored = Rows::<CompareRow>::open(directory).and_then(|mut rows| {
        let columns = rows.columns();
        let all: Result<Vec<_>, _> = rows.by_ref().collect();
        Ok((all?, columns))
    });
    let (stored, columns) = match stored {
        Ok(stored) => stored,
        Err(error) => return report.problems.push(error.to_string()),
    };
    let mut problems = Vec::new();
    let mut derived: HashMap<_, _> =
        report.derived.rows.iter().map(|row| (key(row), row)).collect();
    for Located { row, line, .. } in &stored {
        let difference = match derived.remove(&key(row)) {
            Some(expected) => difference(row, expected, columns),
            None => Some("the row follows from no trials".to_owned()),
        };
        if let Some(what) = difference {
            problems.push(format!("{}:{line}: {what}", path.display()));
        }
    }
    for row in derived.into_values() {
        problems.push(format!(
            "{}: the row of {} on {} in {}/{} {} is missing",
            path.display(),
            row.variant,
            row.metric,
            row.suite,
            row.experiment,
            row.params
        ));
    }
    problems.sort();
    curtail(&mut problems, "in compare.csv");
    for problem in problems {
        report.problems.push(format!(
            "{problem}; believe trials.csv: verdicts derived from it are in \
             this report"
        ));
    }
}

fn key(row: &CompareRow) -> [&str; 6] {
    [
        &row.suite,
        &row.experiment,
        &row.params,
        row.metric.word(),
        &row.variant,
        row.role.word(),
    ]
}

/// The first cell in which a stored row differs from the derived one, of the
/// columns that the file has.
fn difference(
    stored: &CompareRow,
    derived: &CompareRow,
    columns: usize,
) -> Option<String> {
    let (stored, derived) = (cells(stored)?, cells(derived)?);
    for ((column, stored), derived) in CompareRow::COLUMNS[..columns]
        .iter()
        .zip(stored.iter())
        .zip(derived.iter())
    {
        let same = match (column.kind, stored.parse(), derived.parse()) {
            (Kind::Number, Ok(stored), Ok(derived)) => near(stored, derived),
            _ => stored == derived,
        };
        if !same {
            return Some(format!(
                "column {} holds {stored:?}, the trials give {derived:?}",
                column.name
            ));
        }
    }
    None
}

fn cells(row: &CompareRow) -> Option<csv::StringRecord> {
    let line = to_csv(std::slice::from_ref(row)).ok()?;
    csv::ReaderBuilder::new()
        .has_headers(false)
        .from_reader(line.as_slice())
        .into_records()
        .next()?
        .ok()
}
