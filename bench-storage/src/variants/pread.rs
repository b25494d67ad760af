//! `pread`: one thread, one op at a time.

use harness::{
    load::closed,
    measure::trial::{Outcome, Trial, TrialError},
    suite::{Role, Variant},
};

use crate::{
    engine::blocking::BlockingReads, load::Load, path, probe, source::Source,
};

/// The baseline at depth 1.
pub const PREAD: Variant = Variant {
    id: "pread",
    about: "one thread in pread(2): a system call and a sleep per op",
    role: Role::Baseline,
    bound: None,
    spinning: false,
    probe: probe::blocking,
    worker,
};

/// A pool of one.
fn worker(trial: &Trial) -> Result<Outcome, TrialError> {
    let load = Load::of(trial)?;
    if load.pool_shape().threads != 1 {
        return Err(TrialError::setup(format!(
            "pread has one op in flight, and depth is {}",
            load.depth
        )));
    }
    blocking(trial, load)
}

/// Blocking threads, as many as ops are to be in flight.
pub(super) fn blocking(
    trial: &Trial,
    load: Load,
) -> Result<Outcome, TrialError> {
    let source = Source::open(trial, load)?;
    let shape = load.pool_shape();
    let mut outcome = closed::run(trial, shape, |place| {
        BlockingReads::new(&source, place, shape.threads)
    })?;
    path::judge_direct(&mut outcome, &source);
    Ok(outcome)
}
