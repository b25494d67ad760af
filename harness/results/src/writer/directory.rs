//! Makes and opens run directories.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::error::WriteError;
use crate::schema::RunFile;

/// How often a further number is tried when a name is taken.
const NAMES_MAX: u32 = 1000;

/// The directory of one run.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RunDirectory {
    path: PathBuf,
    run_id: String,
}

impl RunDirectory {
    /// Makes `<utc>-<machine8>-<label>` below `root`, which is made if it is
    /// missing. An existing directory is never taken: a number is added.
    ///
    /// `utc` is a stamp such as `20261121T044500Z`.
    pub fn create(
        root: &Path,
        utc: &str,
        machine8: &str,
        label: &str,
    ) -> Result<RunDirectory, WriteError> {
        fs::create_dir_all(root)
            .map_err(|source| WriteError::io(root, 0, source))?;
        let label = safe_name(label);
        let base = [utc, machine8, &label]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect::<Vec<_>>()
            .join("-");
        for number in 1..=NAMES_MAX {
            let run_id = match number {
                1 => base.clone(),
                _ => format!("{base}-{number}"),
            };
            let path = root.join(&run_id);
            match fs::create_dir(&path) {
                Ok(()) => {
                    sync_directory(root)?;
                    return Ok(RunDirectory { path, run_id });
                }
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(WriteError::io(&path, 0, source)),
            }
        }
        let source = io::Error::new(
            io::ErrorKind::AlreadyExists,
            format!("{NAMES_MAX} runs have this name already"),
        );
        Err(WriteError::io(&root.join(base), 0, source))
    }

    /// Opens the directory of an earlier run; its `run.json` must be there.
    pub fn open(path: &Path) -> Result<RunDirectory, WriteError> {
        let run = RunFile::read(path)?;
        Ok(RunDirectory { path: path.to_path_buf(), run_id: run.run_id })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The run's id: the name it was given, even if it was renamed since.
    pub fn run_id(&self) -> &str {
        &self.run_id
    }
}

/// Makes the entries of a directory durable.
pub(super) fn sync_directory(path: &Path) -> Result<(), WriteError> {
    fs::File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(|source| WriteError::io(path, 0, source))
}

/// A label as part of a file name: letters, digits, `.`, `_` and `-`.
fn safe_name(label: &str) -> String {
    let safe: String = label
        .chars()
        .map(|c| match c {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '_' | '-' => c,
            _ => '_',
        })
        .take(60)
        .collect();
    safe.trim_start_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_never_taken_twice() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().join("my results");
        let create = |label| {
            let stamp = "20261121T044500Z";
            RunDirectory::create(&root, stamp, "1a2b3c4d", label).unwrap()
        };
        let first = create("quick");
        assert_eq!(first.run_id(), "20261121T044500Z-1a2b3c4d-quick");
        assert!(first.path().is_dir());
        assert_eq!(
            create("quick").run_id(),
            "20261121T044500Z-1a2b3c4d-quick-2"
        );
        assert_eq!(
            create("quick").run_id(),
            "20261121T044500Z-1a2b3c4d-quick-3"
        );
        assert_eq!(
            create("a b/../c").run_id(),
            "20261121T044500Z-1a2b3c4d-a_b_.._c"
        );
        assert_eq!(create("").run_id(), "20261121T044500Z-1a2b3c4d");
    }

    #[test]
    fn a_place_that_is_no_directory_is_named() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("a file");
        fs::write(&file, "").unwrap();
        let error = RunDirectory::create(&file, "u", "m", "l").unwrap_err();
        assert!(error.to_string().contains("a file"), "{error}");
        let error = RunDirectory::open(root.path()).unwrap_err();
        assert!(error.to_string().contains("run.json"), "{error}");
    }
}
