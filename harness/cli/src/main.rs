//! `bypass`: what kernel bypass buys you on your machine.
//!
//! Exit codes: 0 done; 1 gate failed; 2 usage or configuration; 3 environment
//! refused, or nothing but skips; 4 measurement invalid or wrong; 5 unsafe
//! target refused; 70 bug; 130 interrupted.

mod command;
mod config;

use std::process::ExitCode;

use clap::Parser;
use harness::{
    run::{
        exit::{Exit, bug_if_it_panics},
        output::tell,
        worker,
    },
    suite::Suite,
};

/// Everything that can be measured.
const SUITES: &[Suite] =
    &[bench_storage::SUITE, bench_net::SUITE, bench_ipc::SUITE];

fn main() -> ExitCode {
    if let Some(code) = worker::enter(SUITES) {
        return code;
    }
    let command = command::Arguments::parse().command;
    let exit = match bug_if_it_panics(|| command.run(SUITES)) {
        Ok(Ok(exit)) | Err(exit) => exit,
        Ok(Err(error)) => {
            tell(format_args!("error: {}", with_causes(&error)));
            command::exit_of(&error)
        }
    };
    exit.into()
}

/// An error and its causes, without those that it names itself.
fn with_causes(error: &anyhow::Error) -> String {
    error.chain().skip(1).fold(error.to_string(), |text, cause| {
        let cause = cause.to_string();
        if text.contains(&cause) { text } else { format!("{text}: {cause}") }
    })
}

/// A pipe that nobody reads any more is success, as for `head`.
fn printed(result: std::io::Result<()>) -> anyhow::Result<Exit> {
    match result {
        Ok(()) => Ok(Exit::Done),
        Err(error) => {
            Err(anyhow::Error::new(error).context("writing to standard output"))
        }
    }
}
