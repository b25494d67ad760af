//! Why there was no run, and how a command ends with it.

use std::path::PathBuf;

use results::{
    compare::CompareError, reader::ReadError, schema::RunFileError,
    writer::WriteError,
};

use super::{
    exit::Exit, filter::FilterError, host::HostError, plan::PlanError,
};

/// Why there was no run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// Filters.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// The options do not fit the machine.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The machine cannot be read.
    #[error(transparent)]
    Host(#[from] HostError),
    /// Results cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Results cannot be read back.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// `run.json`.
    #[error(transparent)]
    RunFile(#[from] RunFileError),
    /// Deriving verdicts.
    #[error(transparent)]
    Compare(#[from] CompareError),
    /// `--strict` on a machine that is not fit.
    #[error(
        "--strict: this machine allows {verdict} results because of \
         {reason}; {remedy}"
    )]
    Unfit {
        /// What it allows.
        verdict: String,
        /// Why.
        reason: String,
        /// What to do.
        remedy: String,
    },
    /// The environment has changed since the run began.
    #[error(
        "{directory}: the machine has changed since this run began \
         ({changes}); put it back, or start a new run"
    )]
    Changed {
        /// The run.
        directory: PathBuf,
        /// What differs.
        changes: String,
    },
    /// The plan stored in `run.json` is not of this program.
    #[error(
        "{directory}: the plan in run.json cannot be resumed by this version \
         ({reason}); start a new run"
    )]
    ForeignPlan {
        /// The run.
        directory: PathBuf,
        /// Why.
        reason: String,
    },
    /// No signal handlers.
    #[error("listening for Ctrl-C: {0}")]
    Signals(std::io::Error),
}

impl RunError {
    /// How a command ends with this error.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Filter(_) | Self::Plan(_) | Self::ForeignPlan { .. } => {
                Exit::Usage
            }
            Self::Write(WriteError::Contradiction { .. })
            | Self::Signals(_) => Exit::Bug,
            // No room, no right: as for the rows.
            Self::RunFile(RunFileError::Write { .. }) => Exit::Environment,
            Self::Read(_) | Self::RunFile(_) | Self::Compare(_) => Exit::Usage,
            _ => Exit::Environment,
        }
    }
}
