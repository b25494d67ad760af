//! `bypass compare`: before and after a change, or two machines.

use std::path::PathBuf;

use clap::Args;
use harness::{
    machine::environment::{Stored, stored_differences},
    run::{
        exit::Exit,
        output::{self, tell},
    },
};
use results::{
    across::{self, Across, Difference, SESSIONS_NEEDED},
    schema::{RunFile, Verdict},
    table,
};

use super::{
    runs::{find, results_root},
    values::ratio,
};

/// Arguments of `bypass compare`.
#[derive(Debug, Args)]
#[command(after_help = "\
A and B are directories of runs, beginnings of their names in results/, labels \
(all runs of that label), `latest` or `previous`; several with commas between.

The session is the unit: a verdict needs 4 a side (`bypass run --sessions 4`). \
Sessions measured in turn are stronger than one side after the other:

  for i in 1 2 3 4; do
    bypass run --label before FILTER   # then make the change
    bypass run --label after FILTER    # then take it back
  done
  bypass compare before after

Exit codes: 0 compared; 1 --gate, and a figure is slower; 2 nothing to compare, \
or --gate without the sessions that a verdict needs for each figure; 4 --gate, \
and something that A measured could not be judged or was not in steady state.")]
pub struct Compare {
    /// The runs to compare with.
    a: String,
    /// The runs to judge.
    b: String,
    /// Directory of all runs [default: results/ of the workspace, or of the
    /// working directory].
    #[arg(long, value_name = "DIR")]
    results: Option<PathBuf>,
    /// Least effect that gets a verdict, such as 2% or 0.02 [default: that of
    /// the runs].
    #[arg(long, allow_hyphen_values = true, value_parser = ratio)]
    practical: Option<f64>,
    /// End with 1 if any figure of B is slower, with 4 if B lacks a figure of
    /// A or its figures cannot be believed. Ratios to the baseline do not
    /// count: they fall as well when the baseline gets better.
    #[arg(long)]
    gate: bool,
    /// One JSON document on standard output.
    #[arg(long)]
    json: bool,
}

impl Compare {
    /// Runs the command.
    pub fn run(self) -> anyhow::Result<Exit> {
        let root = results_root(self.results.as_deref())?;
        let (a, b) = (find(&root, &self.a)?, find(&root, &self.b)?);
        let across = across::compare(&a, &b, self.practical)?;
        let environment = environment(&a, &b)?;
        let text = if self.json {
            let mut value = table::across::json(&across, &environment);
            if self.gate {
                value["exit_code"] = gate(&across).code().into();
            }
            format!("{value:#}\n")
        } else {
            table::across::text(&across, &environment, output::is_coloured())
        };
        crate::printed(output::write_stdout(&text))?;
        if !self.gate {
            return Ok(Exit::Done);
        }
        let exit = gate(&across);
        tell(format_args!("{}", verdict(&across, exit)));
        Ok(exit)
    }
}

/// A gate that could never fail is a mistake of whoever set it up; one that
/// passes what it did not see is a mistake of ours.
fn gate(across: &Across) -> Exit {
    if across.count(Verdict::Slower) > 0 {
        Exit::GateFailed
    } else if !across.ran_enough_sessions() {
        Exit::Usage
    } else if !across.doubts().is_empty() {
        Exit::Measurement
    } else {
        Exit::Done
    }
}

fn verdict(across: &Across, exit: Exit) -> String {
    match exit {
        Exit::GateFailed => {
            format!("gate failed: {} slower", across.count(Verdict::Slower))
        }
        Exit::Done => format!(
            "gate passed: nothing is shown to be slower ({} undecided)",
            across.count(Verdict::Undecided)
        ),
        Exit::Measurement => format!(
            "gate not passed, not everything could be judged; measure B \
             again:\n  {}",
            across.doubts().join("\n  ")
        ),
        _ => format!(
            "--gate needs {SESSIONS_NEEDED} sessions a side for each figure, \
             or it could never fail; see the command above"
        ),
    }
}

/// What differs between the machines of the two sides' first runs, and within
/// a side between its runs.
fn environment(
    a: &[PathBuf],
    b: &[PathBuf],
) -> anyhow::Result<Vec<Difference>> {
    let read = |paths: &[PathBuf]| -> anyhow::Result<Vec<RunFile>> {
        Ok(paths
            .iter()
            .map(|path| RunFile::read(path))
            .collect::<Result<_, _>>()?)
    };
    let (a, b) = (read(a)?, read(b)?);
    let mut differences = between(&a[0], &b[0]);
    for side in [&a, &b] {
        for run in &side[1..] {
            let within = between(&side[0], run);
            let new = |d: &Difference| {
                !differences.iter().any(|known| known.key == d.key)
            };
            let names = [&side[0].run_id, &run.run_id];
            let within: Vec<Difference> = within
                .into_iter()
                .filter(new)
                .map(|d| Difference {
                    key: format!("{} (within one side)", d.key),
                    a: format!("{} in {}", d.a, names[0]),
                    b: format!("{} in {}", d.b, names[1]),
                })
                .collect();
            differences.extend(within);
        }
    }
    Ok(differences)
}

fn between(a: &RunFile, b: &RunFile) -> Vec<Difference> {
    stored_differences(&stored(a), &stored(b))
        .into_iter()
        .map(|d| Difference { key: d.key, a: d.before, b: d.after })
        .collect()
}

fn stored(file: &RunFile) -> Stored<'_> {
    Stored {
        environment: &file.environment,
        fingerprint: file.invocation["stamp"]["fingerprint"]
            .as_str()
            .unwrap_or_default(),
        devices: &file.devices,
        targets: targets(file),
    }
}

/// What the run worked on: of each suite as its first session found it. Later
/// ones of one run set up the same place again.
fn targets(file: &RunFile) -> Vec<(&str, &serde_json::Value)> {
    let mut targets: Vec<(&str, &serde_json::Value)> = Vec::new();
    for target in &file.targets {
        if !targets.iter().any(|(suite, _)| *suite == target.suite) {
            targets.push((&target.suite, &target.facts));
        }
    }
    targets
}
