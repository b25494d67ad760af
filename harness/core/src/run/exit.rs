//! How a command ends.

use std::process::ExitCode;

/// The few exit codes, documented in the design and in `bypass --help`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// All went as asked.
    Done,
    /// A gate failed: a regression, an objective missed.
    GateFailed,
    /// The command line or configuration is wrong.
    Usage,
    /// The machine cannot do it, or nothing but skips came of it.
    Environment,
    /// A measurement is invalid or wrong.
    Measurement,
    /// A target was refused because data could be lost.
    UnsafeTarget,
    /// A mistake in this program.
    Bug,
    /// Ended by Ctrl-C; can be resumed.
    Interrupted,
}

impl Exit {
    /// The number that the shell sees.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::GateFailed => 1,
            Self::Usage => 2,
            Self::Environment => 3,
            Self::Measurement => 4,
            Self::UnsafeTarget => 5,
            Self::Bug => 70,
            Self::Interrupted => 130,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
