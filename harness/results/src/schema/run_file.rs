//! `run.json`: what was run, where, with which settings.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::SCHEMA_VERSION;

/// Everything about a run that is not a row of a table.
///
/// What comes from the machine is opaque here: this crate knows nothing of
/// Linux and only carries it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunFile {
    /// Version of the layout of the whole directory.
    pub schema_version: u32,
    /// The name the directory was given; stands in every row.
    pub run_id: String,
    /// The label given by the person.
    pub label: String,
    /// When the run was created, RFC 3339 in UTC.
    pub created_at_utc: String,
    /// The program that measured.
    pub tool: Tool,
    /// How it was called first.
    pub command_line: Vec<String>,
    /// A hash of the machine id made for this program only.
    pub machine_id: String,
    /// What verdicts depend on beside the rows.
    pub settings: Settings,
    /// One per suite process or resumption, in order.
    #[serde(default)]
    pub parts: Vec<Part>,
    /// Rows of `metrics.csv` when the run last came to its end: nothing else
    /// tells how many there were.
    #[serde(default)]
    pub metric_rows: Option<u64>,
    /// Facts about the environment.
    #[serde(default)]
    pub environment: Value,
    /// CPUs, caches and NUMA nodes.
    #[serde(default)]
    pub topology: Value,
    /// The machine's block devices and network interfaces; what a session
    /// worked on is in `targets`.
    #[serde(default)]
    pub devices: Value,
    /// What each session worked on, as it was found; in the order in which
    /// they were set up.
    #[serde(default)]
    pub targets: Vec<TargetFacts>,
    /// The clock's source, resolution and cost.
    #[serde(default)]
    pub clock: Value,
    /// The doctor's verdict and findings, those of all parts.
    #[serde(default)]
    pub doctor: Value,
    /// The merged configuration and flags.
    #[serde(default)]
    pub invocation: Value,
}

/// The program that measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tool {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Commit it was built from, where known.
    pub git_commit: Option<String>,
    /// Whether the tree had changes that were not committed, where known.
    pub git_dirty: Option<bool>,
    /// Version of the compiler.
    pub rustc: String,
    /// Build profile.
    pub profile: String,
}

/// What was asked for; verdicts depend on these.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    /// Least effect worth a verdict, as a fraction: 0.02 is 2 %.
    pub practical_ratio: f64,
    /// Blocks per session.
    pub blocks: u32,
    /// Sessions.
    pub sessions: u32,
    /// Length of the measured window.
    pub window_ns: u64,
    /// Time before the window.
    pub warmup_ns: u64,
    /// Confidence of intervals: 0.95.
    pub confidence: f64,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            practical_ratio: 0.02,
            blocks: 12,
            sessions: 1,
            window_ns: 2_000_000_000,
            warmup_ns: 1_000_000_000,
            confidence: 0.95,
        }
    }
}

/// What a session of a suite worked on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TargetFacts {
    /// The session.
    pub session: u32,
    /// The suite.
    pub suite: String,
    /// What was found of its target.
    pub facts: Value,
}

/// One process that added to the run: a suite, or a resumption of one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Part {
    /// The suites it ran.
    pub suites: Vec<String>,
    /// Its plan.
    pub plan: Value,
    /// The seed of its order and data.
    pub seed: u64,
    /// How it was called.
    pub command_line: Vec<String>,
    /// When it started, RFC 3339 in UTC.
    pub started_at_utc: String,
    /// When it ended; empty while it runs or after a kill.
    pub finished_at_utc: Option<String>,
    /// Whether it was ended before its plan was done.
    pub interrupted: bool,
}

/// Why `run.json` could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunFileError {
    /// The file could not be read.
    #[error(
        "cannot read {path}: {source}; give the directory of a run, the one \
         that holds run.json"
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file could not be written.
    #[error(
        "cannot write {path}: {source}; what stood there is unharmed: make \
         the directory writable or free some space, then try again"
    )]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file is not the JSON it should be.
    #[error(
        "{path} is damaged: {source}; restore it from a copy, for verdicts \
         depend on its settings"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What the parser said, with line and column.
        source: serde_json::Error,
    },
    /// The file was written by a newer program.
    #[error(
        "{path} has schema version {found}, this program reads up to \
         {SCHEMA_VERSION}; use a newer one"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema version.
        found: u32,
    },
}

impl RunFile {
    /// Name of the file inside the run directory.
    pub const FILE: &'static str = "run.json";

    /// Reads `run.json` of a run directory.
    pub fn read(directory: &Path) -> Result<RunFile, RunFileError> {
        let path = directory.join(Self::FILE);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(source) => return Err(RunFileError::Read { path, source }),
        };
        // The version first: a newer layout need not parse as ours.
        #[derive(Deserialize)]
        struct Version {
            schema_version: u32,
        }
        let parsed = serde_json::from_str::<Version>(&text).and_then(|v| {
            if v.schema_version > SCHEMA_VERSION {
                Ok(Err(v.schema_version))
            } else {
                serde_json::from_str::<RunFile>(&text).map(Ok)
            }
        });
        match parsed {
            Ok(Ok(run)) => Ok(run),
            Ok(Err(found)) => Err(RunFileError::Newer { path, found }),
            Err(source) => Err(RunFileError::Damaged { path, source }),
        }
    }

    /// When the process that added to the run last came to its end.
    pub fn finished_at_utc(&self) -> Option<&str> {
        self.parts.last()?.finished_at_utc.as_deref()
    }

    /// Writes `run.json` so that a crash at any instant leaves either the
    /// old or the new version whole.
    pub fn write(&self, directory: &Path) -> Result<(), RunFileError> {
        let path = directory.join(Self::FILE);
        let mut text = match serde_json::to_vec_pretty(self) {
            Ok(text) => text,
            Err(source) => return Err(RunFileError::Damaged { path, source }),
        };
        text.push(b'\n');
        replace_file(&path, &text)
            .map_err(|source| RunFileError::Write { path, source })
    }
}

/// Replaces a file as one step: temporary beside it, sync, rename, sync the
/// directory so that the rename itself survives a power cut.
pub(crate) fn replace_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    let written = File::create(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    });
    if written.is_err() {
        // The first error is the one to tell; a leftover only takes room.
        let _ = fs::remove_file(&temporary);
    }
    written?;
    sync_directory_of(path)
}

/// Makes the directory entry of `path` durable.
pub(crate) fn sync_directory_of(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => {
            File::open(parent)?.sync_all()
        }
        _ => File::open(".")?.sync_all(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> RunFile {
        RunFile {
            schema_version: SCHEMA_VERSION,
            run_id: "20261121T044500Z-1a2b3c4d-quick".into(),
            parts: vec![Part { seed: u64::MAX, ..Part::default() }],
            ..RunFile::default()
        }
    }

    #[test]
    fn comes_back_as_written() {
        let dir = tempfile::tempdir().unwrap();
        sample().write(dir.path()).unwrap();
        let changed = RunFile { label: "again".into(), ..sample() };
        changed.write(dir.path()).unwrap();
        assert_eq!(RunFile::read(dir.path()).unwrap(), changed);
        let names: Vec<_> = fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(names, ["run.json"], "no temporary is left");
    }

    #[test]
    fn newer_versions_and_damage_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(RunFile::FILE);
        fs::write(&path, r#"{"schema_version": 2, "run_id": 7}"#).unwrap();
        let newer = RunFile::read(dir.path()).unwrap_err();
        assert!(matches!(newer, RunFileError::Newer { found: 2, .. }));
        fs::write(&path, r#"{"schema_version": 1, "#).unwrap();
        let damaged = RunFile::read(dir.path()).unwrap_err();
        assert!(matches!(damaged, RunFileError::Damaged { .. }));
        assert!(damaged.to_string().contains("line 1"), "{damaged}");
        fs::remove_file(&path).unwrap();
        let missing = RunFile::read(dir.path()).unwrap_err();
        assert!(matches!(missing, RunFileError::Read { .. }));
    }
}
