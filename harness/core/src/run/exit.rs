//! How a command ends.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
};

use super::output::tell;
use crate::suite::RefusalKind;

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

/// What `run` returns, or the exit code of a bug if it panics, which the
/// panic's own message has told by then.
pub fn bug_if_it_panics<T>(run: impl FnOnce() -> T) -> Result<T, Exit> {
    // What `run` worked on is not looked at again.
    catch_unwind(AssertUnwindSafe(run)).map_err(|_| {
        tell(
            "this is a bug in this program, not in the machine: please report \
             it with the lines above",
        );
        Exit::Bug
    })
}

impl From<RefusalKind> for Exit {
    fn from(kind: RefusalKind) -> Self {
        match kind {
            RefusalKind::Usage => Self::Usage,
            RefusalKind::Environment => Self::Environment,
            RefusalKind::UnsafeTarget => Self::UnsafeTarget,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_bug_and_nothing_else_is() {
        assert_eq!(bug_if_it_panics(|| 3), Ok(3));
        let panics = || -> u32 { panic!("on purpose") };
        assert_eq!(bug_if_it_panics(panics), Err(Exit::Bug));
        assert_eq!(Exit::Bug.code(), 70);
    }
}
