//! Streams `trials.csv` block by block.

use std::collections::VecDeque;
use std::path::Path;

use super::error::ReadError;
use super::rows::{Located, Rows};
use crate::schema::{SCHEMA_VERSION, TrialRow};

/// The trials of one attempt at one block, or one skipped variant.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Block {
    /// The rows, in the order of execution.
    pub trials: Vec<TrialRow>,
    /// Line of the first of them.
    pub line: u64,
    /// Offset of the first byte after the last of them.
    pub end: u64,
}

/// What a run left unfinished at the end of `trials.csv`.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
#[non_exhaustive]
pub struct Torn {
    /// Whole rows of a block that is not whole.
    pub rows: u64,
    /// Bytes of a line that was cut off.
    pub bytes: u64,
}

impl Torn {
    /// Whether there is anything unfinished.
    pub fn is_empty(self) -> bool {
        self == Torn::default()
    }
}

impl std::fmt::Display for Torn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "the last block of trials.csv was cut off ({} whole rows and {} \
             bytes of another do not count); resuming the run measures it \
             again",
            self.rows, self.bytes
        )
    }
}

/// Streams the whole blocks of `trials.csv`.
///
/// A block cut off at the end of the file is left out, and
/// [`Blocks::torn`] tells of it once the iterator has ended; anything else
/// out of order is an error.
#[derive(Debug)]
pub struct Blocks {
    rows: Rows<TrialRow>,
    held: Option<Located<TrialRow>>,
    run_id: Option<String>,
    last_trial: u64,
    committed: u64,
    torn_rows: u64,
    ended: bool,
}

impl Blocks {
    /// Opens `trials.csv` of a run directory.
    pub fn open(directory: &Path) -> Result<Blocks, ReadError> {
        let rows = Rows::open(directory)?;
        let committed = rows.header_end();
        Ok(Blocks {
            rows,
            held: None,
            run_id: None,
            last_trial: 0,
            committed,
            torn_rows: 0,
            ended: false,
        })
    }

    /// What was cut off at the end; known once the iterator has ended.
    pub fn torn(&self) -> Torn {
        Torn { rows: self.torn_rows, bytes: self.rows.torn_bytes() }
    }

    /// Offset of the first byte after the last whole block so far.
    pub fn committed_bytes(&self) -> u64 {
        self.committed
    }

    fn next_row(&mut self) -> Option<Result<Located<TrialRow>, ReadError>> {
        if let Some(held) = self.held.take() {
            return Some(Ok(held));
        }
        let located = match self.rows.next()? {
            Ok(located) => located,
            Err(error) => return Some(Err(error)),
        };
        Some(self.check_row(&located).map(|()| located))
    }

    fn check_row(
        &mut self,
        located: &Located<TrialRow>,
    ) -> Result<(), ReadError> {
        let row = &located.row;
        if row.schema_version > SCHEMA_VERSION {
            return Err(ReadError::Newer {
                place: self.rows.place(located.line),
                found: row.schema_version,
            });
        }
        let run_id = self.run_id.get_or_insert_with(|| row.run_id.clone());
        if *run_id != row.run_id {
            let what = format!("run {:?} amid rows of {run_id:?}", row.run_id);
            return Err(self.sequence(located.line, what));
        }
        let expected = self.last_trial + 1;
        if row.trial != expected {
            let what =
                format!("trial {} where {expected} should stand", row.trial);
            return Err(self.sequence(located.line, what));
        }
        self.last_trial = row.trial;
        Ok(())
    }

    fn sequence(&self, line: u64, what: String) -> ReadError {
        ReadError::Sequence { place: self.rows.place(line), what }
    }

    fn read_block(&mut self) -> Result<Option<Block>, ReadError> {
        let first = match self.next_row() {
            Some(first) => first?,
            None => return Ok(None),
        };
        let (line, mut end) = (first.line, first.end);
        let wanted = first.row.block_trials.unwrap_or(1) as usize;
        if first.row.block.is_some() {
            self.check_position(&first, 1)?;
        }
        let mut trials = vec![first.row];
        while trials.len() < wanted {
            let Some(next) = self.next_row() else {
                self.torn_rows = trials.len() as u64;
                return Ok(None);
            };
            let next = next?;
            if !same_block(&trials[0], &next.row) {
                let what = format!(
                    "the block before it has {} of its {wanted} trials",
                    trials.len()
                );
                return Err(self.sequence(next.line, what));
            }
            self.check_position(&next, trials.len() + 1)?;
            end = next.end;
            trials.push(next.row);
        }
        self.committed = end;
        Ok(Some(Block { trials, line, end }))
    }

    fn check_position(
        &self,
        located: &Located<TrialRow>,
        expected: usize,
    ) -> Result<(), ReadError> {
        if located.row.position.map(|p| p as usize) == Some(expected) {
            return Ok(());
        }
        let found =
            located.row.position.map_or(String::new(), |p| p.to_string());
        let what = format!(
            "position {found:?} in its block where {expected} should stand"
        );
        Err(self.sequence(located.line, what))
    }
}

impl Iterator for Blocks {
    type Item = Result<Block, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let block = self.read_block().transpose();
        self.ended = !matches!(block, Some(Ok(_)));
        block
    }
}

fn same_block(a: &TrialRow, b: &TrialRow) -> bool {
    a.session == b.session
        && a.suite == b.suite
        && a.experiment == b.experiment
        && a.params == b.params
        && a.block == b.block
        && a.attempt == b.attempt
        && a.block_trials == b.block_trials
}

/// Streams the trials of the whole blocks of `trials.csv`.
#[derive(Debug)]
pub struct Trials {
    blocks: Blocks,
    current: VecDeque<TrialRow>,
}

impl Trials {
    /// What was cut off at the end; known once the iterator has ended.
    pub fn torn(&self) -> Torn {
        self.blocks.torn()
    }
}

impl Iterator for Trials {
    type Item = Result<TrialRow, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.current.is_empty() {
            match self.blocks.next()? {
                Ok(block) => self.current = block.trials.into(),
                Err(error) => return Some(Err(error)),
            }
        }
        self.current.pop_front().map(Ok)
    }
}

/// Streams the trials of a run directory, those of whole blocks only.
pub fn read_trials(directory: &Path) -> Result<Trials, ReadError> {
    let blocks = Blocks::open(directory)?;
    Ok(Trials { blocks, current: VecDeque::new() })
}
