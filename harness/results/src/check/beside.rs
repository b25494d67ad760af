//! What stands beside `trials.csv`: histograms, slices and further figures.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::path::{Path, PathBuf};

use hdrhistogram::Histogram;

use super::near;
use crate::hist;
use crate::reader::{ReadError, open_regular, read_metrics, read_windows};
use crate::schema::{MetricRow, RunFile, Table, TrialRow, WindowRow};

/// The histogram logs read so far.
pub(super) struct Logs {
    directory: PathBuf,
    /// By log: the figures of each tag's histogram; none if it cannot be read.
    logs: HashMap<String, Option<HashMap<String, Latencies>>>,
}

/// What a row says of its histogram. A histogram itself takes half a
/// megabyte.
#[derive(Default)]
struct Latencies {
    count: u64,
    /// By column, those with a whole number.
    figures: Vec<(&'static str, u64)>,
    mean: f64,
}

impl From<Histogram<u64>> for Latencies {
    fn from(histogram: Histogram<u64>) -> Latencies {
        let quantile = |q| histogram.value_at_quantile(q);
        Latencies {
            count: histogram.len(),
            figures: vec![
                ("latency_min_ns", histogram.min()),
                ("latency_p50_ns", quantile(0.5)),
                ("latency_p90_ns", quantile(0.9)),
                ("latency_p99_ns", quantile(0.99)),
                ("latency_p999_ns", quantile(0.999)),
                ("latency_p9999_ns", quantile(0.9999)),
                ("latency_max_ns", histogram.max()),
            ],
            mean: histogram.mean(),
        }
    }
}

impl Logs {
    pub(super) fn new(directory: &Path) -> Logs {
        Logs { directory: directory.to_path_buf(), logs: HashMap::new() }
    }

    /// In which column a row differs from its histogram. An error is about
    /// the log and told once.
    pub(super) fn difference(
        &mut self,
        row: &TrialRow,
    ) -> Result<Option<String>, String> {
        if row.hist_tag.is_empty() {
            return Ok(None);
        }
        let name = hist::file_name(&row.suite, &row.experiment, &row.params);
        if !self.logs.contains_key(&name) {
            let path = self.directory.join(hist::DIRECTORY).join(&name);
            let log = read_log(&path);
            let error = log.as_ref().err().map(ToString::to_string);
            self.logs.insert(name.clone(), log.ok());
            if let Some(error) = error {
                return Err(format!("{}: {error}", path.display()));
            }
        }
        let Some(Some(log)) = self.logs.get(&name) else { return Ok(None) };
        let nothing = Latencies::default();
        let found = log.get(&row.hist_tag).unwrap_or(&nothing);
        Ok(found.difference(row).map(|what| {
            format!("{what} in the histogram {} in hist/{name}", row.hist_tag)
        }))
    }
}

fn read_log(path: &Path) -> std::io::Result<HashMap<String, Latencies>> {
    let mut log = Vec::new();
    open_regular(path)?.read_to_end(&mut log)?;
    let entries = hist::read(&log)?.into_iter();
    Ok(entries.map(|entry| (entry.tag, entry.histogram.into())).collect())
}

impl Latencies {
    fn difference(&self, row: &TrialRow) -> Option<String> {
        let says = |column, found: &dyn std::fmt::Display, here: String| {
            Some(format!("column {column} holds {found}, {here}"))
        };
        if row.latency_count != Some(self.count) {
            let found = row.latency_count.unwrap_or(0);
            let here = format!("{} are", self.count);
            return says("latency_count", &found, here);
        }
        // In the order of `figures`.
        let cells = [
            row.latency_min_ns,
            row.latency_p50_ns,
            row.latency_p90_ns,
            row.latency_p99_ns,
            row.latency_p999_ns,
            row.latency_p9999_ns,
            row.latency_max_ns,
        ];
        for ((column, here), cell) in self.figures.iter().zip(cells) {
            // Empty where too few observations lie beyond it.
            if let Some(cell) = cell.filter(|cell| cell != here) {
                return says(column, &cell, format!("{here} is"));
            }
        }
        match row.latency_mean_ns.filter(|mean| !near(*mean, self.mean)) {
            Some(mean) => {
                says("latency_mean_ns", &mean, format!("{} is", self.mean))
            }
            None => None,
        }
    }
}

/// The ops of each measured trial, which its slices have to add up to.
#[derive(Default)]
pub(super) struct Slices(BTreeMap<u64, u64>);

impl Slices {
    pub(super) fn expect(&mut self, row: &TrialRow) {
        if let (Some(ops), Some(_)) = (row.ops, row.window_ns) {
            self.0.insert(row.trial, ops);
        }
    }

    pub(super) fn check(
        &self,
        directory: &Path,
        run: Option<&RunFile>,
    ) -> Vec<String> {
        let mut sums = BTreeMap::new();
        let rows = read_windows(directory).and_then(|rows| {
            each_of_run(
                rows,
                run,
                |row| &row.run_id,
                |row: WindowRow| {
                    if row.thread.is_none() {
                        let sum: &mut u64 = sums.entry(row.trial).or_default();
                        *sum = sum.saturating_add(row.ops);
                    }
                },
            )
        });
        match rows {
            Err(error) => return vec![error.to_string()],
            Ok(Err(foreign)) => return vec![foreign],
            Ok(Ok(_)) => {}
        }
        let wrong = self.0.iter().filter_map(|(trial, ops)| {
            let found = match sums.get(trial) {
                Some(sum) if sum == ops => return None,
                Some(sum) => format!("{sum} ops"),
                None => "no rows".to_owned(),
            };
            Some(format!(
                "{} has {found} of trial {trial}, {} has {ops} ops; restore \
                 the file from a copy",
                WindowRow::FILE,
                TrialRow::FILE
            ))
        });
        wrong.collect()
    }
}

/// Nothing else tells how many further figures there are than the count that
/// a finished run leaves in `run.json`.
pub(super) fn check_metrics(
    directory: &Path,
    run: Option<&RunFile>,
) -> Vec<String> {
    let rows = read_metrics(directory)
        .and_then(|rows| each_of_run(rows, run, |row| &row.run_id, |_| {}));
    let found = match rows {
        Err(error) => return vec![error.to_string()],
        Ok(Err(foreign)) => return vec![foreign],
        Ok(Ok(found)) => found,
    };
    let finished = run.filter(|run| run.finished_at_utc().is_some());
    match finished.and_then(|run| run.metric_rows) {
        Some(count) if count != found => vec![format!(
            "{} has {found} rows, {count} when the run ended; restore the \
             file from a copy",
            MetricRow::FILE
        )],
        _ => Vec::new(),
    }
}

/// Counts the rows of a table, or tells of the first of another run.
fn each_of_run<T: Table>(
    rows: impl Iterator<Item = Result<T, ReadError>>,
    run: Option<&RunFile>,
    run_id: fn(&T) -> &String,
    mut note: impl FnMut(T),
) -> Result<Result<u64, String>, ReadError> {
    let mut count = 0;
    for row in rows {
        let row = row?;
        if run.is_some_and(|run| run.run_id != *run_id(&row)) {
            return Ok(Err(format!(
                "{} has rows of run {:?}; restore the file from a copy",
                T::FILE,
                run_id(&row)
            )));
        }
        count += 1;
        note(row);
    }
    Ok(Ok(count))
}
