//! `bypass check`: does a run's directory say what its trials say?

use std::path::PathBuf;

use clap::Args;
use harness::run::{
    exit::Exit,
    output::{self, tell},
};
use results::{check, schema::RunFile};

/// Arguments of `bypass check`.
#[derive(Debug, Args)]
pub struct Check {
    /// The directory of a run, the one that holds `run.json`.
    directory: PathBuf,
    /// One JSON document on standard output.
    #[arg(long)]
    json: bool,
}

impl Check {
    /// Runs the command.
    pub fn run(self) -> anyhow::Result<Exit> {
        if !self.directory.join(RunFile::FILE).is_file() {
            tell(format_args!(
                "error: {} holds no {}; give the directory of a run, as \
                 `bypass run` prints at its end",
                self.directory.display(),
                RunFile::FILE
            ));
            return Ok(Exit::Usage);
        }
        let report = check::check(&self.directory);
        let text = if self.json {
            let value = serde_json::json!({
                "clean": report.is_clean(),
                "problems": report.problems,
                "notes": report.notes,
            });
            format!("{value:#}\n")
        } else {
            report.to_string()
        };
        crate::printed(output::write_stdout(&text))?;
        Ok(if report.is_clean() { Exit::Done } else { Exit::Measurement })
    }
}
