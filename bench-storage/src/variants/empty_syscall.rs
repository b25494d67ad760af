//! System calls that do nothing: the ceiling of every way that cannot do
//! without them.

use harness::{
    load::empty_calls::EmptyCalls,
    measure::trial::{Calls, Outcome, Shape, Trial, TrialError},
    suite::{Availability, Role, Variant},
};

use crate::load::nop_shape;

/// No blocking call is faster than one that does nothing.
pub const EMPTY_SYSCALL: Variant = Variant {
    id: "empty-syscall",
    about: "a system call that does nothing (getppid) per op, on as many CPUs \
            as a pool uses: the ceiling of blocking calls",
    role: Role::Bound,
    bound: None,
    spinning: true,
    probe: |_| Availability::Available,
    worker: per_op,
};

/// Whatever hands a batch over with one call and takes it back with another.
pub const SYSCALL_PAIR: Variant = Variant {
    id: "syscall-pair",
    about: "two such calls per batch of ops, on one thread: the ceiling of \
            what submits with one and waits with another",
    worker: per_batch,
    ..EMPTY_SYSCALL
};

fn per_op(trial: &Trial) -> Result<Outcome, TrialError> {
    let shape = nop_shape(trial)?;
    // These calls never sleep, so that a pool of more threads than CPUs would
    // make no more of them.
    let threads = (shape.threads * shape.depth).min(trial.cpus().len());
    let shape = Shape { threads, depth: 1, batch: 1, ..shape };
    run(trial, shape, EmptyCalls { calls: 1, ops: 1 })
}

fn per_batch(trial: &Trial) -> Result<Outcome, TrialError> {
    let shape = nop_shape(trial)?;
    run(trial, shape, EmptyCalls { calls: 2, ops: shape.batch as u64 })
}

fn run(
    trial: &Trial,
    shape: Shape,
    per_batch: EmptyCalls,
) -> Result<Outcome, TrialError> {
    let mut outcome = per_batch.run(trial, shape)?;
    let ops = outcome.evidence.verified_ops;
    let made = ops / per_batch.ops * per_batch.calls;
    outcome.evidence.calls = Some(Calls { made, ops });
    Ok(outcome)
}
