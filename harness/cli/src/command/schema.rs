//! `bypass schema`: what the files of a run hold.

use clap::Args;
use harness::run::{exit::Exit, output};
use results::schema;

/// Arguments of `bypass schema`.
#[derive(Debug, Args)]
pub struct Schema {
    /// For programs instead of people.
    #[arg(long)]
    json: bool,
}

impl Schema {
    /// Runs the command.
    pub fn run(self) -> anyhow::Result<Exit> {
        let text = if self.json {
            format!("{:#}\n", schema::json())
        } else {
            schema::markdown()
        };
        crate::printed(output::write_stdout(&text))
    }
}
