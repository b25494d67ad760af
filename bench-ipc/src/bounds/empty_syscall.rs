//! The floor of every ping-pong that sleeps: the two system calls without
//! which no round trip can be, one to wake each thread, if they did nothing.
//! What lies between this and a row is what the kernel does in them, the
//! scheduler, and waking an idle CPU.

use harness::{
    load::empty_calls::EmptyCalls,
    measure::trial::{Outcome, Shape, Trial, TrialError},
};

/// Stable id.
pub const ID: &str = "empty-syscall";

/// One line.
pub const ABOUT: &str = "two system calls that do nothing (getppid)";

const PER_OP: EmptyCalls = EmptyCalls { calls: 2, ops: 1 };

/// Runs a trial.
///
/// # Errors
/// The trial failed.
pub fn worker(trial: &Trial) -> Result<Outcome, TrialError> {
    let shape = Shape {
        threads: 1,
        depth: 1,
        batch: 1,
        op_bytes: trial.number("op_bytes")?,
        sampled_every: 0,
    };
    let mut outcome = PER_OP.run(trial, shape)?;
    outcome.evidence.prove("calls_per_op", PER_OP.calls);
    Ok(outcome)
}
