//! The directory of a run: made anew with its `run.json`, or found again by
//! the suites of one `cargo bench`.

use std::path::{Path, PathBuf};

use results::{
    command_line::{DESTROY_OPTION, without_option},
    schema::{RunFile, SCHEMA_VERSION, Settings, Tool},
    writer::RunDirectory,
};
use serde_json::{Value, json};

use super::{error::RunError, host::Host, options::RunOptions, time};
use crate::machine::root::Root;

/// Where the rows of a run go.
#[derive(Clone, Debug)]
pub enum Destination {
    /// A new directory below this one.
    New(PathBuf),
    /// The directory below this one that an earlier suite of the same
    /// `cargo bench` made, or a new one.
    Shared {
        /// The directory of all runs.
        root: PathBuf,
        /// Names the `cargo bench` that the suites have in common.
        invocation: Value,
    },
}

impl Destination {
    pub(super) fn root(&self) -> &Path {
        match self {
            Self::New(root) | Self::Shared { root, .. } => root,
        }
    }
}

/// Makes a new directory and what its `run.json` is to hold, or finds the one
/// that this `cargo bench` has already made.
pub(super) fn open(
    options: &RunOptions,
    destination: &Destination,
    host: &Host,
) -> Result<(RunDirectory, RunFile), RunError> {
    let root = destination.root();
    let invocation = match destination {
        Destination::New(_) => Value::Null,
        Destination::Shared { invocation, .. } => {
            if let Some(path) = find_shared(root, invocation) {
                let file = RunFile::read(&path)?;
                return Ok((RunDirectory::open(&path)?, file));
            }
            invocation.clone()
        }
    };
    let now = time::since_epoch();
    let directory = RunDirectory::create(
        root,
        &time::compact(now),
        &host.machine_id8,
        &options.label,
    )?;
    let file = RunFile {
        schema_version: SCHEMA_VERSION,
        run_id: directory.run_id().to_owned(),
        label: options.label.clone(),
        created_at_utc: time::rfc3339(now),
        tool: tool(),
        command_line: stored_command_line(),
        machine_id: host.machine_id8.clone(),
        settings: settings(options),
        parts: Vec::new(),
        metric_rows: None,
        environment: to_value(&host.environment),
        topology: to_value(&host.topology),
        devices: Host::devices(&Root::system()),
        // Found as sessions are set up.
        targets: Vec::new(),
        clock: json!({
            "source": host.clock.source(),
            "stamp_error_ns": host.clock.stamp_error_ns(),
        }),
        // The run adds what it finds, and so does each resumption.
        doctor: Value::Null,
        invocation: json!({ "shared": invocation, "stamp": host.stamp() }),
    };
    Ok((directory, file))
}

/// How this process was called, without what permits a device to be
/// destroyed: no file may give that, and it holds a part of a serial number.
pub(super) fn stored_command_line() -> Vec<String> {
    let words = std::env::args_os()
        .map(|word| word.to_string_lossy().into_owned())
        .collect::<Vec<_>>();
    without_option(&words, DESTROY_OPTION)
}

/// The newest run that names the same invocation.
fn find_shared(root: &Path, invocation: &Value) -> Option<PathBuf> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(root)
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.join(RunFile::FILE).is_file())
        .collect();
    // Names begin with the time, so the last ones are the newest; an
    // invocation is never far back.
    paths.sort_unstable();
    paths.into_iter().rev().take(16).find(|path| {
        RunFile::read(path)
            .is_ok_and(|file| file.invocation["shared"] == *invocation)
    })
}

fn settings(options: &RunOptions) -> Settings {
    Settings {
        practical_ratio: options.practical_ratio,
        blocks: u32::try_from(options.blocks).unwrap_or(u32::MAX),
        sessions: u32::try_from(options.sessions).unwrap_or(u32::MAX),
        window_ns: options.window_ns,
        warmup_ns: options.warmup_ns,
        confidence: 0.95,
    }
}

pub(super) fn tool() -> Tool {
    Tool {
        name: "bypass-bench".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        git_commit: option_env!("BYPASS_GIT_COMMIT").map(str::to_owned),
        git_dirty: option_env!("BYPASS_GIT_DIRTY").map(|dirty| dirty == "1"),
        rustc: env!("BYPASS_RUSTC").to_owned(),
        profile: if cfg!(debug_assertions) { "debug" } else { "release" }
            .to_owned(),
    }
}

fn to_value(facts: &impl serde::Serialize) -> Value {
    // Plain structures of numbers and text always have a JSON form.
    serde_json::to_value(facts).unwrap_or_default()
}
