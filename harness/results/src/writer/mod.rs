//! Writes a run directory so that a kill at any instant loses one block at
//! most.
//!
//! All rows of a block are gathered in memory, written with one call per
//! file and synced; `trials.csv` comes last and so is the commit point.

mod block;
mod directory;
mod error;
mod repair;

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

pub(crate) use block::to_csv;
pub use block::{BlockRows, Metric};
pub use directory::RunDirectory;
pub use error::WriteError;
pub use repair::Repaired;

use crate::hist;
use crate::schema::{
    CompareRow, KernelRow, MetricRow, Table, TrialRow, WindowRow,
};
use directory::sync_directory;

/// Appends blocks to the files of one run.
///
/// Holds a lock on `trials.csv`, so that a second process cannot mix its rows
/// in; the lock goes with the value or with the process.
#[derive(Debug)]
pub struct RunWriter {
    directory: RunDirectory,
    trials: Appender,
    metrics: Appender,
    windows: Appender,
    logs: BTreeMap<String, Appender>,
    last_trial: u64,
}

impl RunWriter {
    /// Opens the files of a new or an earlier run.
    ///
    /// What a kill left of a block that is not whole is dropped first, and
    /// told; a file damaged otherwise is an error, for nothing should be
    /// added to it.
    pub fn open(
        directory: RunDirectory,
    ) -> Result<(RunWriter, Repaired), WriteError> {
        let path = directory.path().to_path_buf();
        let logs = path.join(hist::DIRECTORY);
        fs::create_dir_all(&logs)
            .map_err(|source| WriteError::io(&logs, 0, source))?;
        let mut trials = Appender::open(path.join(TrialRow::FILE))?;
        trials.lock()?;
        let (last_trial, repaired) = repair::repair(&path)?;
        let mut metrics = Appender::open(path.join(MetricRow::FILE))?;
        let mut windows = Appender::open(path.join(WindowRow::FILE))?;
        metrics.begin(&(MetricRow::header() + "\n"))?;
        windows.begin(&(WindowRow::header() + "\n"))?;
        trials.begin(&(TrialRow::header() + "\n"))?;
        sync_directory(&path)?;
        let logs = BTreeMap::new();
        let writer =
            RunWriter { directory, trials, metrics, windows, logs, last_trial };
        Ok((writer, repaired))
    }

    /// The directory written to.
    pub fn directory(&self) -> &RunDirectory {
        &self.directory
    }

    /// Number that the next trial will have.
    pub fn next_trial(&self) -> u64 {
        self.last_trial + 1
    }

    /// An empty block to fill and hand to [`RunWriter::append_block`].
    pub fn block(&self) -> BlockRows {
        BlockRows::new(self.directory.run_id(), self.next_trial())
    }

    /// Writes a block and makes it durable.
    ///
    /// After an error the files are as they were before, as far as the
    /// system lets them be; the next [`RunWriter::open`] sees to the rest.
    pub fn append_block(
        &mut self,
        mut block: BlockRows,
    ) -> Result<(), WriteError> {
        block.seal(self.next_trial())?;
        let trials = to_csv(&block.trials)?;
        let metrics = to_csv(&block.metrics)?;
        let windows = to_csv(&block.windows)?;
        for (name, lines) in &block.logs {
            self.log(name)?.append(lines)?;
        }
        self.metrics.append(&metrics)?;
        self.windows.append(&windows)?;
        self.trials.append(&trials)?;
        self.last_trial += block.trials.len() as u64;
        Ok(())
    }

    fn log(&mut self, name: &str) -> Result<&mut Appender, WriteError> {
        if !self.logs.contains_key(name) {
            let logs = self.directory.path().join(hist::DIRECTORY);
            let mut log = Appender::open(logs.join(name))?;
            log.begin(hist::HEAD)?;
            sync_directory(&logs)?;
            // One experiment is measured at a time, so the logs of earlier
            // ones need not stay open.
            self.logs.clear();
            self.logs.insert(name.to_owned(), log);
        }
        // Inserted just above if it was not there.
        self.logs.get_mut(name).ok_or_else(|| WriteError::Contradiction {
            what: format!("no log {name}"),
        })
    }
}

/// Writes `compare.csv` as one step: the old or the new one, never half.
pub fn write_compare(
    directory: &Path,
    rows: &[CompareRow],
) -> Result<(), WriteError> {
    let path = directory.join(CompareRow::FILE);
    let mut bytes = (CompareRow::header() + "\n").into_bytes();
    bytes.extend(to_csv(rows)?);
    crate::schema::replace_file(&path, &bytes)
        .map_err(|source| WriteError::io(&path, bytes.len(), source))
}

/// Appends rows to `kernels.csv`.
pub fn append_kernels(
    directory: &Path,
    rows: &[KernelRow],
) -> Result<(), WriteError> {
    let mut file = Appender::open(directory.join(KernelRow::FILE))?;
    file.begin(&(KernelRow::header() + "\n"))?;
    file.append(&to_csv(rows)?)
}

/// One file that only ever grows.
#[derive(Debug)]
struct Appender {
    path: PathBuf,
    file: File,
}

impl Appender {
    fn open(path: PathBuf) -> Result<Appender, WriteError> {
        match File::options().create(true).append(true).open(&path) {
            Ok(file) => Ok(Appender { path, file }),
            Err(source) => Err(WriteError::io(&path, 0, source)),
        }
    }

    fn lock(&self) -> Result<(), WriteError> {
        match self.file.try_lock() {
            Err(TryLockError::WouldBlock) => {
                Err(WriteError::Busy { path: self.path.clone() })
            }
            // Some file systems have no locks; the name of a run is taken by
            // one process anyway.
            Err(TryLockError::Error(_)) | Ok(()) => Ok(()),
        }
    }

    /// Writes the head of a file that is empty.
    fn begin(&mut self, head: &str) -> Result<(), WriteError> {
        match self.file.metadata() {
            Ok(metadata) if metadata.len() > 0 => Ok(()),
            Ok(_) => self.append(head.as_bytes()),
            Err(source) => Err(WriteError::io(&self.path, 0, source)),
        }
    }

    /// Appends and makes durable, all or nothing where the system lets us.
    fn append(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let before = self.file.metadata().map(|m| m.len());
        let written =
            self.file.write_all(bytes).and_then(|()| self.file.sync_data());
        if let (Err(_), Ok(length)) = (&written, before) {
            // The first error is the one to tell; what this leaves, the next
            // open cuts off.
            let _ = self.file.set_len(length);
        }
        written
            .map_err(|source| WriteError::io(&self.path, bytes.len(), source))
    }
}
