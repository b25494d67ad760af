//! Runs the fixture program and reads what it left.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test binary uses its own part of this"
)]

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use results::{
    check,
    reader::{read_compare, read_trials},
    schema::{CompareRow, TrialRow},
};
use tempfile::TempDir;

/// The fixture program.
pub const FIXTURE: &str = env!("CARGO_BIN_EXE_harness-fixture");

/// A directory with a space in its name, as users have them.
pub fn scratch() -> TempDir {
    tempfile::Builder::new()
        .prefix("bypass test ")
        .tempdir()
        .expect("temporary directory")
}

/// A finished run.
#[derive(Debug)]
pub struct Run {
    _scratch: TempDir,
    root: PathBuf,
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    /// Runs one experiment to its end.
    pub fn start(scratch: TempDir, filter: &str, more: &[&str]) -> Self {
        let root = scratch.path().join("results");
        Self::start_at(scratch, root, filter, more)
    }

    /// Goes on with it.
    pub fn resume(&self) -> Output {
        let run = only_run(&self.root).expect("run");
        Command::new(FIXTURE).arg("resume").arg(run).output().expect("fixture")
    }

    /// The same with results elsewhere.
    pub fn start_at(
        scratch: TempDir,
        root: PathBuf,
        filter: &str,
        more: &[&str],
    ) -> Self {
        let output = command(&root, filter, more).output().expect("fixture");
        Self {
            _scratch: scratch,
            root,
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// The run's directory.
    pub fn directory(&self) -> PathBuf {
        only_run(&self.root).expect("one run")
    }

    /// All trials in whole blocks.
    pub fn trials(&self) -> Vec<TrialRow> {
        trials(&self.directory())
    }

    /// The verdicts.
    pub fn compare(&self) -> Vec<CompareRow> {
        read_compare(&self.directory()).expect("compare.csv")
    }

    /// `clean`, or all problems.
    pub fn check(&self) -> String {
        check_text(&self.directory())
    }
}

/// The fixture, about to run an experiment.
pub fn command(root: &Path, filter: &str, more: &[&str]) -> Command {
    let mut command = Command::new(FIXTURE);
    command
        .arg("run")
        .arg(root)
        .arg(filter)
        .args(more)
        .env("XDG_STATE_HOME", root.with_extension("state"));
    command
}

/// The same in the background.
pub fn spawn(root: &Path, filter: &str, more: &[&str]) -> Child {
    command(root, filter, more)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("fixture")
}

/// The only run below a directory, once it has a `run.json`.
pub fn only_run(root: &Path) -> Option<PathBuf> {
    let mut runs: Vec<PathBuf> = std::fs::read_dir(root)
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.join("run.json").is_file())
        .collect();
    assert!(runs.len() <= 1, "{runs:?}");
    runs.pop()
}

/// All trials in whole blocks.
pub fn trials(directory: &Path) -> Vec<TrialRow> {
    read_trials(directory)
        .expect("trials.csv")
        .collect::<Result<_, _>>()
        .expect("rows")
}

/// `clean`, or all problems.
pub fn check_text(directory: &Path) -> String {
    let report = check::check(directory);
    if report.is_clean() {
        "clean".to_owned()
    } else {
        report.problems.join("\n")
    }
}

/// The processes that a process has started; CONFIG_PROC_CHILDREN, with which
/// the kernel would list them, is not on everywhere.
pub fn children_of(pid: u32) -> Vec<u32> {
    let parent = pid.to_string();
    let is_child = |stat: &str| {
        // State and parent follow the name in parentheses (proc_pid_stat(5)).
        let rest = stat.rsplit_once(')').map(|(_, rest)| rest);
        rest.and_then(|rest| rest.split_whitespace().nth(1))
            == Some(parent.as_str())
    };
    std::fs::read_dir("/proc")
        .expect("/proc")
        .flatten()
        .filter_map(|entry| {
            let child = entry.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(entry.path().join("stat"));
            is_child(&stat.ok()?).then_some(child)
        })
        .collect()
}
