//! `bypass doctor`: is this machine fit for a result, and what stands in the
//! way? It reads; it never writes a setting.

#[cfg(test)]
mod page;
mod script;
mod text;

use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::Args;
use harness::{
    machine::{
        Root,
        doctor::{Patient, Report, Status, Verdict},
    },
    run::{
        doctor,
        exit::Exit,
        output::{self, tell},
    },
    suite::Suite,
};

/// Arguments of `bypass doctor`.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Only what touches this suite: storage, net, ipc (may be repeated).
    #[arg(long = "for", value_name = "SUITE")]
    suites: Vec<String>,
    /// What storage would work on; its device is examined [default: the
    /// working directory].
    #[arg(long, value_name = "PATH")]
    target: Option<PathBuf>,
    /// Also show what passed, what cannot be told and what does not apply.
    #[arg(long)]
    all: bool,
    /// One JSON document on standard output.
    #[arg(long, conflicts_with = "all")]
    json: bool,
    /// Print a shell script that would set what can be set, and undo it. It
    /// is never run.
    #[arg(long, conflicts_with_all = ["all", "json"])]
    fix_script: bool,
    /// Write the files that were read into this new file, redacted, so that
    /// others can see what the doctor saw. Read it before you show it.
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with_all = ["suites", "target", "all", "json", "fix_script",
            "strict"],
    )]
    capture: Option<PathBuf>,
    /// End with exit code 3 unless results are publishable.
    #[arg(long)]
    strict: bool,
}

impl Doctor {
    /// Runs the command.
    pub fn run(self, suites: &[Suite]) -> anyhow::Result<Exit> {
        if let Some(path) = &self.capture {
            return capture(path);
        }
        let chosen = match self.chosen(suites) {
            Ok(chosen) => chosen,
            Err(unknown) => {
                let ids: Vec<&str> = suites.iter().map(|s| s.id).collect();
                tell(format_args!(
                    "error: there is no suite `{unknown}`; there are {}",
                    ids.join(", ")
                ));
                return Ok(Exit::Usage);
            }
        };
        let target = match self.target {
            Some(target) => target,
            None => std::env::current_dir().context("working directory")?,
        };
        let target = std::path::absolute(&target)
            .with_context(|| format!("--target {}", target.display()))?;
        if let Err(error) = target.metadata() {
            tell(format_args!(
                "error: --target {}: {error}; name a directory, a file or a \
                 block device that is there",
                target.display()
            ));
            return Ok(Exit::Usage);
        }
        let patient = Patient::system(target);
        let report = doctor::examine(&patient, chosen.iter().copied());
        let ids: Vec<&str> = chosen.iter().map(|suite| suite.id).collect();
        let text = if self.json {
            json(&report, &ids)
        } else if self.fix_script {
            script::text(&report)
        } else {
            text::text(&report, &ids, self.all)
        };
        crate::printed(output::write_stdout(&text))?;
        let fit = report.verdict == Verdict::Publishable;
        Ok(if self.strict && !fit { Exit::Environment } else { Exit::Done })
    }

    /// The suites asked for, or all; the first name that is none of them.
    fn chosen<'a>(
        &self,
        suites: &'a [Suite],
    ) -> Result<Vec<&'a Suite>, String> {
        for name in &self.suites {
            if !suites.iter().any(|suite| suite.id == name) {
                return Err(name.clone());
            }
        }
        let wanted = |suite: &&Suite| {
            self.suites.is_empty() || self.suites.iter().any(|n| n == suite.id)
        };
        Ok(suites.iter().filter(wanted).collect())
    }
}

fn capture(path: &Path) -> anyhow::Result<Exit> {
    // Never over a file that is there: it may be the capture of another day.
    let file = File::create_new(path)
        .with_context(|| format!("--capture {}", path.display()));
    let mut file = match file {
        Ok(file) => file,
        Err(error) => {
            tell(format_args!(
                "error: {error:#}; name a file that is not there yet"
            ));
            return Ok(Exit::Usage);
        }
    };
    let archive = harness::machine::capture::capture(&Root::system());
    file.write_all(archive.text().as_bytes())
        .with_context(|| format!("write {}", path.display()))?;
    let told = format!(
        "{} files in {}; read it before you show it to others\n",
        archive.iter().count(),
        path.display()
    );
    crate::printed(output::write_stdout(&told))?;
    Ok(Exit::Done)
}

fn json(report: &Report, suites: &[&str]) -> String {
    let counts: serde_json::Map<String, serde_json::Value> = Status::ALL
        .into_iter()
        .map(|status| {
            let count = report.with(status).count();
            (status.word().to_owned(), count.into())
        })
        .collect();
    let capped_by: Vec<&str> =
        report.caps().iter().map(|finding| finding.id.as_str()).collect();
    let value = serde_json::json!({
        "suites": suites,
        "verdict": report.verdict,
        "capped_by": capped_by,
        "counts": counts,
        "findings": report.findings,
    });
    format!("{value:#}\n")
}
