//! `bypass run`: plan, measure, decide.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use harness::{
    machine::cpu_set::CpuSet,
    run::{
        exit::Exit,
        filter::Filter,
        options::{Mode, RunOptions, fresh_seed},
        output::{self, Format},
        runner::{self, Destination},
    },
    suite::Suite,
};

use super::{
    preview,
    runs::results_root,
    values::{ProgressForm, duration_ns, ratio, some_cpus},
};

/// Blocks beyond this add nothing that a longer window would not.
const BLOCKS_MAX: u64 = 200;

/// Arguments of `bypass run`.
#[derive(Debug, Args)]
pub struct Run {
    /// Globs on ids and `key=value` terms; all experiments if none.
    /// `randread depth=32`, `storage/*`, `ipc/ping-pong/ring`.
    filters: Vec<Filter>,
    /// Directory of all runs [default: results/ of the workspace, or of the
    /// working directory].
    #[arg(long, value_name = "DIR")]
    results: Option<PathBuf>,
    /// Appended to the name of the run's directory.
    #[arg(long)]
    label: Option<String>,
    /// 10 blocks of 0.5 s.
    #[arg(long, conflicts_with = "precise")]
    quick: bool,
    /// 30 blocks of 2 s.
    #[arg(long)]
    precise: bool,
    /// Blocks per session: one trial of each variant each [default: 12].
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=BLOCKS_MAX))]
    blocks: Option<u64>,
    /// Sessions: everything set up anew for each. Comparing runs needs 4.
    #[arg(long, default_value_t = 1,
          value_parser = clap::value_parser!(u64).range(1..=100))]
    sessions: u64,
    /// Measured time of a trial, such as 500ms or 2s [default: 2s].
    #[arg(long, value_parser = duration_ns)]
    window: Option<u64>,
    /// Load before the window, such as 300ms [default: 500ms].
    #[arg(long, value_parser = duration_ns)]
    warmup: Option<u64>,
    /// Least effect that gets a verdict, such as 2% or 0.02 [default: 2%].
    #[arg(long, value_parser = ratio)]
    practical: Option<f64>,
    /// Decides orders, addresses and contents [default: a fresh one].
    #[arg(long)]
    seed: Option<u64>,
    /// CPUs to use, in the kernel's list format [default: a sensible choice].
    #[arg(long, value_name = "LIST", value_parser = some_cpus)]
    cpus: Option<CpuSet>,
    /// What storage works on: a directory in which files are created, an
    /// existing file or a block device (both are only read, and refused by
    /// experiments that write).
    #[arg(long, value_name = "PATH")]
    target: Option<PathBuf>,
    /// Only experiments that carry this tag, such as `core`.
    #[arg(long)]
    tag: Option<String>,
    /// Go on with an interrupted run, in the same order.
    #[arg(long, value_name = "DIR", conflicts_with_all = [
        "filters", "results", "label", "quick", "precise", "blocks",
        "sessions", "window", "warmup", "practical", "seed", "cpus", "target", "tag", "dry_run",
    ])]
    resume: Option<PathBuf>,
    /// Show the plan, the time, the bytes to be written and the devices
    /// touched; change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Refuse a machine that is not fit for a result to publish.
    #[arg(long)]
    strict: bool,
    /// One JSON document on standard output.
    #[arg(long)]
    json: bool,
    /// How standard error tells of progress.
    #[arg(long, value_enum, default_value_t)]
    progress: ProgressForm,
}

impl Run {
    /// Runs the command.
    pub fn run(self, suites: &[Suite]) -> anyhow::Result<Exit> {
        let report = match &self.resume {
            Some(directory) => {
                let progress = self.progress.start();
                runner::resume(suites, directory, Some(progress))?
            }
            None => {
                let options = self.options()?;
                let root = results_root(self.results.as_deref())?;
                if self.dry_run {
                    let preview = runner::preview(suites, &options, &root)?;
                    return preview::show(&preview, &options, self.json);
                }
                let progress = self.progress.start();
                let destination = Destination::New(root);
                runner::run(suites, &options, &destination, Some(progress))?
            }
        };
        let format = if self.json { Format::Json } else { Format::Text };
        crate::printed(output::print(&report, format))?;
        Ok(report.exit)
    }

    fn options(&self) -> anyhow::Result<RunOptions> {
        let mode = match (self.quick, self.precise) {
            (true, _) => Mode::Quick,
            (_, true) => Mode::Precise,
            _ => Mode::Default,
        };
        let seed = self.seed.unwrap_or_else(fresh_seed);
        let mut options = RunOptions::new(mode, seed);
        options.filters.clone_from(&self.filters);
        options.tag.clone_from(&self.tag);
        options.strict = self.strict;
        options.sessions = usize::try_from(self.sessions)?;
        if let Some(label) = &self.label {
            options.label.clone_from(label);
        }
        if let Some(blocks) = self.blocks {
            options.blocks = usize::try_from(blocks)?;
        }
        if let Some(window_ns) = self.window {
            options.window_ns = window_ns;
        }
        if let Some(warmup_ns) = self.warmup {
            options.warmup_ns = warmup_ns;
        }
        if let Some(practical) = self.practical {
            options.practical_ratio = practical;
        }
        options.cpus.clone_from(&self.cpus);
        if let Some(target) = &self.target {
            // Sessions and resumption may have another working directory.
            options.target =
                Some(std::path::absolute(target).with_context(|| {
                    format!("--target {}", target.display())
                })?);
        }
        Ok(options)
    }
}
