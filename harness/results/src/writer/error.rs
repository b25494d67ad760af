//! Why results could not be written, with the next step.

use std::io;
use std::path::{Path, PathBuf};

use crate::reader::ReadError;
use crate::schema::RunFileError;

/// Why a run directory could not be made, opened or added to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The file system is full.
    #[error(
        "no space left for {path} ({wanted_bytes} bytes wanted); all blocks \
         before this one are safe: free some space and resume, or start \
         again with --results on another file system"
    )]
    NoSpace {
        /// The file or directory.
        path: PathBuf,
        /// How much was to be written.
        wanted_bytes: usize,
    },
    /// This user may not write there.
    #[error(
        "may not write {path}: {source}; make it writable or choose another \
         place with --results"
    )]
    NotWritable {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Something else went wrong with a file.
    #[error(
        "cannot write {path}: {source}; check the file system, then resume"
    )]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process adds to the same run.
    #[error(
        "{path} is being written by another process; wait for it or choose \
         another --label"
    )]
    Busy {
        /// The file.
        path: PathBuf,
    },
    /// What is there cannot be trusted, so nothing is added to it.
    #[error(transparent)]
    Damaged(#[from] ReadError),
    /// `run.json` is missing or damaged.
    #[error(transparent)]
    RunFile(#[from] RunFileError),
    /// The rows handed over contradict each other: a bug in the caller.
    #[error("bug: {what}; nothing of this block was written")]
    Contradiction {
        /// What does not fit.
        what: String,
    },
}

impl WriteError {
    pub(super) fn io(
        path: &Path,
        wanted_bytes: usize,
        source: io::Error,
    ) -> WriteError {
        let path = path.to_path_buf();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                WriteError::NoSpace { path, wanted_bytes }
            }
            io::ErrorKind::PermissionDenied
            | io::ErrorKind::ReadOnlyFilesystem => {
                WriteError::NotWritable { path, source }
            }
            _ => WriteError::Io { path, source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_failure_has_its_own_next_step() {
        let cases = [
            (io::ErrorKind::StorageFull, "1234 bytes wanted"),
            (io::ErrorKind::QuotaExceeded, "free some space and resume"),
            (io::ErrorKind::ReadOnlyFilesystem, "another place with --results"),
            (io::ErrorKind::PermissionDenied, "make it writable"),
            (io::ErrorKind::TimedOut, "check the file system"),
        ];
        for (kind, step) in cases {
            let path = Path::new("/a run/trials.csv");
            let error = WriteError::io(path, 1234, kind.into()).to_string();
            assert!(error.contains(step), "{error}");
            assert!(error.contains("/a run/trials.csv"), "{error}");
        }
    }
}
