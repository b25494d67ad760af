//! Puts the files of a run back to the end of the last whole block.
//!
//! `trials.csv` is written last, so it alone tells which blocks are whole;
//! the other files are cut where the first row of a later trial begins. The
//! numbers of those trials are given again, so leaving their rows would mix
//! two trials.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use super::error::WriteError;
use crate::hist;
use crate::reader::{Blocks, Rows};
use crate::schema::{MetricRow, Table, TrialRow, WindowRow};

/// What opening a run dropped of a block that was cut off.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Repaired {
    /// Bytes dropped over all files.
    pub bytes: u64,
    /// Whole rows of `trials.csv` among them.
    pub rows: u64,
}

/// Cuts all files to the last whole block; gives the number of its last
/// trial.
pub(super) fn repair(directory: &Path) -> Result<(u64, Repaired), WriteError> {
    let mut repaired = Repaired::default();
    let mut last_trial = 0;
    let path = directory.join(TrialRow::FILE);
    if exists(&path)? {
        let mut blocks = Blocks::open(directory)?;
        for block in blocks.by_ref() {
            last_trial += block?.trials.len() as u64;
        }
        repaired.rows = blocks.torn().rows;
        repaired.bytes += cut(&path, blocks.committed_bytes())?;
    }
    repaired.bytes +=
        repair_side(directory, last_trial, |row: &MetricRow| row.trial)?;
    repaired.bytes +=
        repair_side(directory, last_trial, |row: &WindowRow| row.trial)?;
    repaired.bytes +=
        repair_logs(&directory.join(hist::DIRECTORY), last_trial)?;
    Ok((last_trial, repaired))
}

fn repair_side<T: Table>(
    directory: &Path,
    last_trial: u64,
    trial: fn(&T) -> u64,
) -> Result<u64, WriteError> {
    let path = directory.join(T::FILE);
    if !exists(&path)? {
        return Ok(0);
    }
    let rows = Rows::<T>::open(directory)?;
    let mut end = rows.header_end();
    for row in rows {
        let row = row?;
        if trial(&row.row) > last_trial {
            break;
        }
        end = row.end;
    }
    cut(&path, end)
}

fn repair_logs(directory: &Path, last_trial: u64) -> Result<u64, WriteError> {
    if !exists(directory)? {
        return Ok(0);
    }
    let io = |source| WriteError::io(directory, 0, source);
    let mut dropped = 0;
    for entry in fs::read_dir(directory).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path.extension().is_some_and(|e| e == "hlog") {
            let end = log_end(&path, last_trial)
                .map_err(|source| WriteError::io(&path, 0, source))?;
            dropped += cut(&path, end)?;
        }
    }
    Ok(dropped)
}

/// Offset after the last line of a log that counts.
fn log_end(path: &Path, last_trial: u64) -> io::Result<u64> {
    let mut reader = BufReader::new(File::open(path)?);
    let mut line = Vec::new();
    let mut end = 0;
    loop {
        line.clear();
        let length = reader.read_until(b'\n', &mut line)? as u64;
        let beyond = hist::trial_of_line(&line) > Some(last_trial);
        if !line.ends_with(b"\n") || beyond {
            // A head that is cut off is written again from its start.
            let head = hist::HEAD.len() as u64;
            return Ok(if end < head { 0 } else { end });
        }
        end += length;
    }
}

fn exists(path: &Path) -> Result<bool, WriteError> {
    path.try_exists().map_err(|source| WriteError::io(path, 0, source))
}

/// Cuts a file to a length and tells how much went.
fn cut(path: &Path, length: u64) -> Result<u64, WriteError> {
    let cut = || {
        let before = fs::metadata(path)?.len();
        if before > length {
            let file = File::options().write(true).open(path)?;
            file.set_len(length)?;
            file.sync_all()?;
        }
        Ok(before.saturating_sub(length))
    };
    cut().map_err(|source| WriteError::io(path, 0, source))
}
