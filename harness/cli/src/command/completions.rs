//! `bypass completions`: a script for the shell.

use clap::{Args, CommandFactory};
use clap_complete::Shell;
use harness::run::{exit::Exit, output};

/// Arguments of `bypass completions`.
#[derive(Debug, Args)]
pub struct Completions {
    /// The shell.
    shell: Shell,
}

impl Completions {
    /// Runs the command.
    pub fn run(self) -> anyhow::Result<Exit> {
        let mut script = Vec::new();
        let mut command = super::Arguments::command();
        clap_complete::generate(
            self.shell,
            &mut command,
            "bypass",
            &mut script,
        );
        let text = String::from_utf8_lossy(&script);
        crate::printed(output::write_stdout(&text))
    }
}
