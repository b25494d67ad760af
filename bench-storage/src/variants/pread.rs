//! `pread`: one thread, one op at a time.

use harness::{
    measure::trial::{Outcome, Trial, TrialError},
    suite::{Role, Variant},
};

use super::direct_pool;
use crate::{engine::blocking::ReadCall, load::Load, probe};

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
    let (outcome, _) = direct_pool(trial, load, ReadCall::Pread)?;
    Ok(outcome)
}
