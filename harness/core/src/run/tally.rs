//! What happened in a run.

use results::schema::TargetFacts;

use crate::suite::Refusal;

/// What decides the exit code.
#[derive(Debug, Default)]
pub struct Tally {
    /// Trials that measured something.
    pub measured: usize,
    /// Trials that returned wrong data.
    pub wrong: usize,
    /// Trials that ended with an op that failed: an error of the device or of
    /// the file, though the block may have passed when it was run again.
    pub failed: usize,
    /// Experiments left with blocks that are not valid.
    pub unfinished: Vec<String>,
    /// Variants that did nothing but fail, and experiments that were begun
    /// and could not be gone on with; each with its reason.
    pub given_up: Vec<String>,
    /// Variants and experiments that were skipped.
    pub skipped: usize,
    /// Targets that were refused to a suite, or to an experiment that was
    /// asked for.
    pub refusals: Vec<Refusal>,
    /// What was found of each target.
    pub targets: Vec<TargetFacts>,
    /// Ended by Ctrl-C.
    pub interrupted: bool,
}
