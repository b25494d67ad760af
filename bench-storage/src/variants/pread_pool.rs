//! `pread-pool`: as many blocking threads as ops are to be in flight.

use harness::{
    measure::trial::{Outcome, Trial, TrialError},
    suite::{Role, Variant},
};

use super::direct_pool;
use crate::{engine::blocking::ReadCall, load::Load, probe};

/// The baseline at any other depth.
pub const PREAD_POOL: Variant = Variant {
    id: "pread-pool",
    about: "a pool of threads in pread(2), one per op in flight, over all \
            CPUs of the trial",
    role: Role::Baseline,
    bound: None,
    spinning: false,
    probe: probe::blocking,
    worker,
};

fn worker(trial: &Trial) -> Result<Outcome, TrialError> {
    let (outcome, _) = direct_pool(trial, Load::of(trial)?, ReadCall::Pread)?;
    Ok(outcome)
}
