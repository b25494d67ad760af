//! The rows of one block, gathered in memory before they are written.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::error::WriteError;
use crate::hist;
use crate::schema::{
    Better, MetricRow, SCHEMA_VERSION, Table, TrialRow, WindowRow,
};

/// One figure of a trial beyond the columns of `trials.csv`.
#[derive(Clone, Debug)]
pub struct Metric<'a> {
    /// The thread's index; none for the whole trial.
    pub thread: Option<u32>,
    /// Name of the figure.
    pub name: &'a str,
    /// Its unit.
    pub unit: &'a str,
    /// In which direction it is better.
    pub better: Better,
    /// The figure.
    pub value: f64,
}

/// The rows of one block: first each trial in the order of execution, and
/// after it what belongs to that trial.
///
/// Got from [`super::RunWriter::block`], which knows the numbers; the columns
/// that follow from the place of a row are filled in here.
#[derive(Debug)]
pub struct BlockRows {
    run_id: String,
    first_trial: u64,
    pub(super) trials: Vec<TrialRow>,
    pub(super) metrics: Vec<MetricRow>,
    pub(super) windows: Vec<WindowRow>,
    /// Lines of the histogram logs, by file name.
    pub(super) logs: BTreeMap<String, Vec<u8>>,
}

impl BlockRows {
    pub(super) fn new(run_id: &str, first_trial: u64) -> BlockRows {
        BlockRows {
            run_id: run_id.to_owned(),
            first_trial,
            trials: Vec::new(),
            metrics: Vec::new(),
            windows: Vec::new(),
            logs: BTreeMap::new(),
        }
    }

    /// Number that the next trial pushed will have.
    pub fn next_trial(&self) -> u64 {
        self.first_trial + self.trials.len() as u64
    }

    /// Trials so far.
    pub fn trials(&self) -> &[TrialRow] {
        &self.trials
    }

    /// Adds a trial and gives its number.
    ///
    /// Filled in here: `schema_version`, `run_id`, `trial`, `hist_tag` (by
    /// [`BlockRows::push_histogram`]) and, for all but skipped variants,
    /// `position` and `block_trials`.
    pub fn push_trial(&mut self, row: TrialRow) -> u64 {
        let trial = self.next_trial();
        // A block has as many trials as an experiment has variants: a few.
        let position = u32::try_from(self.trials.len() + 1).ok();
        self.trials.push(TrialRow {
            schema_version: SCHEMA_VERSION,
            run_id: self.run_id.clone(),
            trial,
            position: row.block.and(position),
            hist_tag: String::new(),
            ..row
        });
        trial
    }

    /// Adds a proof to the path of each trial that is here.
    pub fn prove(&mut self, key: &str, value: &str) {
        for trial in &mut self.trials {
            if !trial.path.is_empty() {
                trial.path.push(';');
            }
            trial.path.push_str(&format!("{key}={value}"));
        }
    }

    /// Adds a further figure of the trial pushed last.
    pub fn push_metric(&mut self, metric: Metric<'_>) {
        let Some(trial) = self.trials.last() else { return };
        self.metrics.push(MetricRow {
            run_id: trial.run_id.clone(),
            session: trial.session,
            trial: trial.trial,
            suite: trial.suite.clone(),
            experiment: trial.experiment.clone(),
            params: trial.params.clone(),
            variant: trial.variant.clone(),
            thread: metric.thread,
            metric: metric.name.to_owned(),
            unit: metric.unit.to_owned(),
            better: metric.better,
            value: metric.value,
        });
    }

    /// Adds a slice of the trial pushed last; its `run_id` and `trial` are
    /// filled in.
    pub fn push_window(&mut self, window: WindowRow) {
        let Some(trial) = self.trials.last() else { return };
        let run_id = trial.run_id.clone();
        self.windows.push(WindowRow { run_id, trial: trial.trial, ..window });
    }

    /// Adds the histogram of the trial pushed last; `since_epoch` is the
    /// start of its measured window as time since 1970.
    pub fn push_histogram(
        &mut self,
        since_epoch: Duration,
        histogram: &Histogram<u64>,
    ) -> Result<(), WriteError> {
        let Some(row) = self.trials.last_mut() else { return Ok(()) };
        let name = hist::file_name(&row.suite, &row.experiment, &row.params);
        let length = Duration::from_nanos(row.window_ns.unwrap_or(0));
        let log = self.logs.entry(name).or_default();
        let before = log.len();
        let line =
            hist::append_line(log, row.trial, since_epoch, length, histogram);
        if let Err(error) = line {
            log.truncate(before);
            let what = format!("histogram of trial {}: {error}", row.trial);
            return Err(WriteError::Contradiction { what });
        }
        row.hist_tag = hist::tag(row.trial);
        Ok(())
    }

    /// Fills in what is known only once all trials are there, and checks
    /// that they are one block: the reader would refuse anything else.
    pub(super) fn seal(&mut self, first: u64) -> Result<(), WriteError> {
        let contradiction = |what| Err(WriteError::Contradiction { what });
        if self.first_trial != first {
            return contradiction(format!(
                "a block numbered from trial {} came after trial {}",
                self.first_trial,
                first - 1
            ));
        }
        let count = u32::try_from(self.trials.len()).ok();
        for row in &mut self.trials {
            row.block_trials = row.block.and(count);
        }
        let Some(head) = self.trials.first() else { return Ok(()) };
        let key = |row: &TrialRow| {
            let TrialRow { session, block, attempt, .. } = *row;
            let names = [&row.suite, &row.experiment, &row.params];
            (session, block, attempt, names.map(String::clone))
        };
        let skips = self.trials.iter().all(|row| row.block.is_none());
        if !skips && self.trials.iter().any(|row| key(row) != key(head)) {
            return contradiction(format!(
                "trials of several blocks in one, from trial {first}"
            ));
        }
        Ok(())
    }
}

/// Appends rows as CSV to a buffer.
pub(crate) fn to_csv<T: Table>(rows: &[T]) -> Result<Vec<u8>, WriteError> {
    let mut buffer = Vec::new();
    let mut line = Vec::new();
    for row in rows {
        let contradiction = |what: String| WriteError::Contradiction {
            what: format!("a row of {}: {what}", T::FILE),
        };
        if let Some(column) = row.first_non_finite() {
            return Err(contradiction(format!("{column} is not finite")));
        }
        line.clear();
        let mut writer =
            csv::WriterBuilder::new().has_headers(false).from_writer(&mut line);
        writer.serialize(row).map_err(|e| contradiction(e.to_string()))?;
        writer.flush().map_err(|e| contradiction(e.to_string()))?;
        drop(writer);
        // One row is one line, so that a torn file can be told by its lines:
        // a line break inside a reason becomes a space.
        let length = line.len().saturating_sub(1);
        for byte in line[..length].iter_mut().filter(|b| **b < b' ') {
            *byte = b' ';
        }
        buffer.extend_from_slice(&line);
    }
    Ok(buffer)
}
