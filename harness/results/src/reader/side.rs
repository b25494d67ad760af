//! The files beside `trials.csv`.

use std::path::Path;

use super::error::ReadError;
use super::rows::Rows;
use super::trials::Blocks;
use crate::schema::{CompareRow, MetricRow, Table, WindowRow};

/// Streams `metrics.csv`, leaving out what belongs to a block cut off.
pub fn read_metrics(
    directory: &Path,
) -> Result<impl Iterator<Item = Result<MetricRow, ReadError>>, ReadError> {
    committed_rows(directory, |row: &MetricRow| row.trial)
}

/// Streams `windows.csv`, leaving out what belongs to a block cut off.
pub fn read_windows(
    directory: &Path,
) -> Result<impl Iterator<Item = Result<WindowRow, ReadError>>, ReadError> {
    committed_rows(directory, |row: &WindowRow| row.trial)
}

/// Reads `compare.csv`.
pub fn read_compare(directory: &Path) -> Result<Vec<CompareRow>, ReadError> {
    Rows::open(directory)?.map(|row| row.map(|located| located.row)).collect()
}

fn committed_rows<T: Table>(
    directory: &Path,
    trial: fn(&T) -> u64,
) -> Result<impl Iterator<Item = Result<T, ReadError>>, ReadError> {
    let mut last_trial = 0;
    for block in Blocks::open(directory)? {
        last_trial += block?.trials.len() as u64;
    }
    let rows = Rows::<T>::open(directory)?;
    Ok(rows.map(|row| row.map(|located| located.row)).filter(move |row| {
        row.as_ref().map_or(true, |row| trial(row) <= last_trial)
    }))
}
