//! `bypass noise`: how small a difference this machine can show.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;
use harness::{
    machine::cpu_set::CpuSet,
    run::{
        exit::Exit,
        options::{Mode, RunOptions, fresh_seed},
        output, preview as plan,
        runner::{self, Destination, Report},
    },
    suite::Suite,
};
use results::{noise, table};

use super::{
    preview,
    runs::results_root,
    values::{ProgressForm, some_cpus},
};

/// The tag of what is measured here: `noise:VARIANT` on an experiment takes
/// its baseline, the copy of that, and this one contender.
const TAG: &str = "noise";

/// Windows short enough that three experiments of 12 blocks take a minute.
const WARMUP_NS: u64 = 100_000_000;
const WINDOW_NS: u64 = 250_000_000;

/// Arguments of `bypass noise`.
#[derive(Debug, Args)]
pub struct Noise {
    /// Directory of all runs [default: results/ of the workspace, or of the
    /// working directory].
    #[arg(long, value_name = "DIR")]
    results: Option<PathBuf>,
    /// Appended to the name of the run's directory.
    #[arg(long, default_value = "noise")]
    label: String,
    /// Decides orders, addresses and contents [default: a fresh one].
    #[arg(long)]
    seed: Option<u64>,
    /// CPUs to use, in the kernel's list format [default: a sensible choice].
    #[arg(long, value_name = "LIST", value_parser = some_cpus)]
    cpus: Option<CpuSet>,
    /// What storage works on: a directory in which a file is created, an
    /// existing file or a block device (both are only read).
    #[arg(long, value_name = "PATH")]
    target: Option<PathBuf>,
    /// Show the plan, the time, the bytes to be written and the devices
    /// touched; change nothing.
    #[arg(long)]
    dry_run: bool,
    /// One JSON document on standard output.
    #[arg(long)]
    json: bool,
    /// How standard error tells of progress.
    #[arg(long, value_enum, default_value_t)]
    progress: ProgressForm,
}

impl Noise {
    /// Runs the command.
    pub fn run(self, suites: &[Suite]) -> anyhow::Result<Exit> {
        let options = self.options()?;
        let root = results_root(self.results.as_deref())?;
        if self.dry_run {
            let preview = plan::preview(suites, &options, &root)?;
            return preview::show(&preview, &options, self.json);
        }
        let progress = Some(self.progress.start());
        let destination = Destination::New(root);
        let report = runner::run(suites, &options, &destination, progress)?;
        let noise = noise::noise(&report.directory)?;
        let unmarked = unmarked(suites);
        let exit = exit(&report);
        let text = if self.json {
            let mut value = serde_json::json!(noise);
            value["unmarked_suites"] = unmarked.into();
            value["notes"] = report.notes.clone().into();
            value["directory"] = report.directory.display().to_string().into();
            value["exit_code"] = exit.code().into();
            format!("{value:#}\n")
        } else {
            text(&noise, &unmarked, &report)
        };
        crate::printed(output::write_stdout(&text))?;
        Ok(exit)
    }

    fn options(&self) -> anyhow::Result<RunOptions> {
        let seed = self.seed.unwrap_or_else(fresh_seed);
        let mut options = RunOptions::new(Mode::Default, seed);
        options.tag = Some(TAG.to_owned());
        options.label.clone_from(&self.label);
        options.warmup_ns = WARMUP_NS;
        options.window_ns = WINDOW_NS;
        options.cpus.clone_from(&self.cpus);
        options.target = match &self.target {
            Some(target) => {
                Some(std::path::absolute(target).with_context(|| {
                    format!("--target {}", target.display())
                })?)
            }
            None => None,
        };
        Ok(options)
    }
}

fn text(noise: &noise::Noise, unmarked: &[&str], report: &Report) -> String {
    let mut text = table::noise::text(noise);
    for suite in unmarked {
        text.push_str(&format!("{suite}: has nothing to measure here yet\n"));
    }
    for note in &report.notes {
        text.push_str(&format!("note: {note}\n"));
    }
    text.push_str(&format!("\nresults: {}\n", report.directory.display()));
    text
}

/// Suites without an experiment that is marked for this.
fn unmarked(suites: &[Suite]) -> Vec<&'static str> {
    suites
        .iter()
        .filter(|suite| {
            !(suite.experiments)()
                .iter()
                .any(|e| e.tags.iter().any(|tag| tag.starts_with(TAG)))
        })
        .map(|suite| suite.id)
        .collect()
}

/// Blocks lost to a noisy machine are what was asked about, no failure.
fn exit(report: &Report) -> Exit {
    match report.exit {
        Exit::Measurement if report.wrong == 0 && report.measured > 0 => {
            Exit::Done
        }
        exit => exit,
    }
}

#[cfg(test)]
mod tests {
    use harness::suite::Role;

    #[test]
    fn what_is_marked_exists() {
        assert_eq!(super::unmarked(crate::SUITES), [""; 0]);
        for suite in crate::SUITES {
            for experiment in (suite.experiments)() {
                for tag in experiment.tags {
                    let Some(id) = tag.strip_prefix("noise:") else { continue };
                    let variant = experiment.variant(id).expect(id);
                    assert_eq!(variant.role, Role::Contender, "{id}");
                }
            }
        }
    }
}
