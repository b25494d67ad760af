//! What can be wrong with a file, told with the place and the next step.

use std::io;
use std::path::PathBuf;

use crate::schema::SCHEMA_VERSION;

/// Where in a file something was found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Place {
    /// The file.
    pub path: PathBuf,
    /// The line, from 1; the header is line 1.
    pub line: u64,
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.path.display(), self.line)
    }
}

/// Why a table could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The file could not be opened or read.
    #[error(
        "cannot read {path}: {source}; give the directory of a run, the one \
         that holds run.json and trials.csv"
    )]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The header is not ours.
    #[error(
        "{place}: column {number} of the header is {found:?}, expected \
         {expected:?}; columns may be appended but not moved, renamed or \
         dropped, so restore the header or the file from a copy"
    )]
    Header {
        /// The header line.
        place: Place,
        /// Which column, from 1.
        number: usize,
        /// What stands there; empty if the header is too short.
        found: String,
        /// What should stand there.
        expected: &'static str,
    },
    /// A row has another number of cells than the header.
    #[error(
        "{place}: the row has {found} cells, the header {expected}; the file \
         was edited or damaged, restore it from a copy"
    )]
    Length {
        /// The row.
        place: Place,
        /// Its cells.
        found: usize,
        /// The header's cells.
        expected: usize,
    },
    /// A line is not text.
    #[error(
        "{place}: not readable as CSV in UTF-8 ({reason}); the file is \
         damaged, restore it from a copy"
    )]
    Garbled {
        /// The line.
        place: Place,
        /// What the parser said.
        reason: String,
    },
    /// A cell does not hold what its column is for.
    #[error(
        "{place}: column {column} holds {value:?}, expected {expected}; the \
         file was edited or damaged, restore it from a copy"
    )]
    Cell {
        /// The row.
        place: Place,
        /// The column.
        column: &'static str,
        /// What stands there.
        value: String,
        /// What should stand there.
        expected: String,
    },
    /// The row was written by a newer program.
    #[error(
        "{place}: schema version {found}, this program reads up to \
         {SCHEMA_VERSION}; use a newer one"
    )]
    Newer {
        /// The row.
        place: Place,
        /// Its schema version.
        found: u32,
    },
    /// The row does not follow from the rows before it.
    #[error(
        "{place}: {what}; rows were added, removed or moved, so restore the \
         file from a copy"
    )]
    Sequence {
        /// The row.
        place: Place,
        /// What is out of order.
        what: String,
    },
}
