//! The commands, one file each.

mod check;
mod compare;
mod completions;
mod doctor;
mod list;
mod noise;
mod preview;
mod run;
mod runs;
mod schema;
mod topology;
pub mod values;

use clap::{Parser, Subcommand};
use harness::{
    run::{exit::Exit, filter::FilterError, runner::RunError},
    suite::Suite,
};
use results::across::AcrossError;

use crate::config::ConfigError;

/// Which way of moving bytes is faster on this machine, by how much, at what
/// CPU cost, and how sure are we?
#[derive(Debug, Parser)]
#[command(
    name = "bypass",
    version,
    after_help = "Exit codes: 0 done; 1 gate failed; 2 usage or \
        configuration; 3 environment refused, or nothing but skips; 4 \
        measurement invalid or wrong; 5 unsafe target refused; 70 bug; 130 \
        interrupted."
)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Measure: interleaved blocks of fresh, pinned worker processes.
    Run(Box<run::Run>),
    /// Compare runs: before and after a change, or two machines.
    Compare(compare::Compare),
    /// Measure how small a difference this machine can show (a minute).
    Noise(noise::Noise),
    /// Show experiments and variants, and which of them run here.
    List(list::List),
    /// Derive the verdicts of a run again and look for edits.
    Check(check::Check),
    /// Examine the machine: is it fit for a result, and what would help?
    Doctor(doctor::Doctor),
    /// Show CPUs, caches, NUMA nodes and devices.
    Topology(topology::Topology),
    /// Describe the files of a run.
    Schema(schema::Schema),
    /// Print a completion script for a shell.
    Completions(completions::Completions),
}

impl Command {
    /// Runs the command.
    pub fn run(self, suites: &[Suite]) -> anyhow::Result<Exit> {
        match self {
            Self::Run(run) => run.run(suites),
            Self::Compare(compare) => compare.run(),
            Self::Noise(noise) => noise.run(suites),
            Self::List(list) => list.run(suites),
            Self::Check(check) => check.run(),
            Self::Doctor(doctor) => doctor.run(suites),
            Self::Topology(topology) => topology.run(),
            Self::Schema(schema) => schema.run(),
            Self::Completions(completions) => completions.run(),
        }
    }
}

/// The exit code of an error, by what caused it.
pub fn exit_of(error: &anyhow::Error) -> Exit {
    if let Some(error) = error.downcast_ref::<RunError>() {
        return error.exit();
    }
    if error.downcast_ref::<FilterError>().is_some()
        || error.downcast_ref::<AcrossError>().is_some()
        || error.downcast_ref::<runs::NoSuchRun>().is_some()
        || error.downcast_ref::<ConfigError>().is_some()
    {
        return Exit::Usage;
    }
    Exit::Environment
}
