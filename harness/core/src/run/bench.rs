//! The `suite` targets of `cargo bench`: the experiments tagged `core`, quick,
//! with one run directory for all suites of one `cargo bench`.
//!
//! Cargo starts each target in its own package's directory, passes `--bench`
//! and whatever stands behind `--`, and stops at the first that ends with a
//! code other than 0. Under `cargo test --all-targets` there is no `--bench`;
//! then one short pass only shows that everything runs.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use serde_json::{Value, json};

use super::{
    exit::{Exit, bug_if_it_panics},
    filter::{Filter, FilterError, select},
    journal::ProcessId,
    options::{Mode, RunOptions, fresh_seed},
    output::{self, Format, tell},
    progress::Progress,
    runner::{self, Destination, Report, RunError},
    worker,
};
use crate::{machine::root::Root, suite::Suite};

/// The tag of what `cargo bench` runs.
pub const CORE_TAG: &str = "core";

/// Warm-up and window of the smoke pass.
const SMOKE_NS: u64 = 20_000_000;

/// `main` of a `suite` bench target.
pub fn main_for(suites: &[Suite]) -> ExitCode {
    if let Some(code) = worker::enter(suites) {
        return code;
    }
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let exit = bug_if_it_panics(|| {
        if arguments.iter().any(|a| a == "--bench") {
            bench(suites, &arguments)
        } else {
            smoke(suites)
        }
    });
    exit.unwrap_or_else(|bug| bug).into()
}

fn bench(suites: &[Suite], arguments: &[String]) -> Exit {
    let filters = match filters(arguments) {
        Ok(filters) => filters,
        Err(message) => {
            tell(format_args!("error: {message}"));
            return Exit::Usage;
        }
    };
    let mut options = options();
    options.filters = filters;
    let options = own(suites, options);
    match applicable(suites, &options) {
        Ok(true) => {}
        // The filter may be for one of the other suites.
        Ok(false) => {
            tell(format_args!(
                "{}: no core experiment matches",
                suites.iter().map(|s| s.id).collect::<Vec<_>>().join(" ")
            ));
            return Exit::Done;
        }
        Err(error) => {
            tell(format_args!("error: {error}"));
            return Exit::Usage;
        }
    }
    match runner::run(suites, &options, &destination(), None) {
        Ok(report) => conclude(suites, report),
        Err(error) => {
            tell(format_args!("error: {error}"));
            error.exit()
        }
    }
}

/// What every suite of a `cargo bench` runs with.
pub(super) fn options() -> RunOptions {
    let mut options = RunOptions::new(Mode::Quick, fresh_seed());
    options.label = "bench".to_owned();
    options.tag = Some(CORE_TAG.to_owned());
    options
}

/// Where all targets of a `cargo bench` write.
pub(super) fn destination() -> Destination {
    Destination::Shared { root: workspace_results(), invocation: invocation() }
}

/// Filters only: presets are what makes two `cargo bench` comparable.
fn filters(arguments: &[String]) -> Result<Vec<Filter>, String> {
    arguments
        .iter()
        .filter(|argument| *argument != "--bench")
        .map(|argument| {
            if argument.starts_with('-') {
                return Err(format!(
                    "`cargo bench` takes filters only, not {argument}; for \
                     options use `cargo run --release -- run --help`"
                ));
            }
            argument.parse().map_err(|e: FilterError| e.to_string())
        })
        .collect()
}

/// Whether any experiment of these suites passes; a filter that is for
/// another suite is no mistake here.
fn applicable(
    suites: &[Suite],
    options: &RunOptions,
) -> Result<bool, FilterError> {
    match select(suites, &options.filters, options.tag.as_deref()) {
        Ok(selected) => Ok(!selected.is_empty()),
        Err(
            FilterError::NoMatch { .. }
            | FilterError::NoPoint { .. }
            | FilterError::UnknownKey { .. }
            | FilterError::UnknownTag { .. },
        ) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Those of several patterns that are for these suites: cargo hands all of them
/// to each target. Terms with `=` hold for every pattern and stay.
fn own(suites: &[Suite], options: RunOptions) -> RunOptions {
    let is_term = |filter: &Filter| matches!(filter, Filter::Param { .. });
    let (terms, patterns): (Vec<Filter>, Vec<Filter>) =
        options.filters.iter().cloned().partition(is_term);
    let with_terms = |pattern: &Filter| {
        let filters = [&terms[..], std::slice::from_ref(pattern)].concat();
        let alone = RunOptions { filters, ..options.clone() };
        matches!(applicable(suites, &alone), Ok(true))
    };
    let own: Vec<Filter> = patterns.into_iter().filter(with_terms).collect();
    if own.is_empty() {
        return options;
    }
    RunOptions { filters: [terms, own].concat(), ..options }
}

/// Prints what this suite did. A machine that was not quiet enough is told but
/// does not keep cargo from the next suite; wrong data does.
fn conclude(suites: &[Suite], mut report: Report) -> Exit {
    let ids: Vec<&str> = suites.iter().map(|suite| suite.id).collect();
    report.derived.experiments.retain(|e| ids.contains(&e.suite.as_str()));
    report.derived.rows.retain(|row| ids.contains(&row.suite.as_str()));
    report.derived.steps.retain(|row| ids.contains(&row.suite.as_str()));
    if let Err(error) = output::print(&report, Format::Text) {
        tell(format_args!("error: writing to standard output: {error}"));
        return Exit::Environment;
    }
    match report.exit {
        Exit::Environment => Exit::Done,
        Exit::Measurement if report.wrong == 0 => Exit::Done,
        exit => exit,
    }
}

/// The workspace's `results/`, found from the package's directory, which is
/// where cargo starts a bench.
fn workspace_results() -> PathBuf {
    let here = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("."));
    workspace_root(&here).unwrap_or(&here).join("results")
}

/// The outermost directory above `here` that holds a `Cargo.lock`.
pub fn workspace_root(here: &Path) -> Option<&Path> {
    here.ancestors().filter(|path| path.join("Cargo.lock").is_file()).last()
}

/// Names the running `cargo bench`: all its targets have cargo as parent.
fn invocation() -> Value {
    let cargo = ProcessId::of(std::os::unix::process::parent_id());
    let boot = Root::system().read("proc/sys/kernel/random/boot_id");
    json!({ "pid": cargo.pid, "started": cargo.started, "boot": boot })
}

/// One short trial of each core variant; results are thrown away.
fn smoke(suites: &[Suite]) -> Exit {
    let mut options = RunOptions::new(Mode::Quick, 1);
    options.label = "smoke".to_owned();
    options.tag = Some(CORE_TAG.to_owned());
    options.blocks = 1;
    options.smoke = true;
    options.warmup_ns = SMOKE_NS;
    options.window_ns = SMOKE_NS;
    match applicable(suites, &options) {
        Ok(true) => {}
        Ok(false) | Err(_) => return Exit::Done,
    }
    match smoke_run(suites, &options) {
        Ok(exit) => exit,
        Err(error) => {
            tell(format_args!("error: {error}"));
            error.exit()
        }
    }
}

fn smoke_run(suites: &[Suite], options: &RunOptions) -> Result<Exit, RunError> {
    // Beside the real results, so that it is a real file system too.
    let root = workspace_results();
    let destination = Destination::New(root);
    let progress = Some(Progress::silent());
    let report = runner::run(suites, options, &destination, progress)?;
    // The directory was made by this process a moment ago.
    if let Err(error) = std::fs::remove_dir_all(&report.directory) {
        tell(format_args!("removing {}: {error}", report.directory.display()));
    }
    let ids: Vec<&str> = suites.iter().map(|suite| suite.id).collect();
    tell(format_args!(
        "{}: smoke pass, {} trials measured, exit code {}",
        ids.join(" "),
        report.measured,
        report.exit.code()
    ));
    Ok(if report.wrong > 0 { Exit::Measurement } else { Exit::Done })
}
