//! `preadv2-hipri`: blocking reads that poll the device.

use harness::{
    measure::trial::{Outcome, Trial, TrialError},
    suite::{Role, Variant},
};

use super::direct_pool;
use crate::{
    engine::blocking::ReadCall, load::Load, path, polling::Interrupts, probe,
};

/// Polling without a ring.
pub const PREADV2_HIPRI: Variant = Variant {
    id: "preadv2-hipri",
    about: "threads in preadv2(2) with RWF_HIPRI: before Linux 5.19 the call \
            asks the device's queue instead of sleeping until its interrupt",
    role: Role::Contender,
    bound: None,
    // Threads that share a CPU wait for each other.
    spinning: false,
    probe: probe::hipri,
    worker,
};

fn worker(trial: &Trial) -> Result<Outcome, TrialError> {
    let call = ReadCall::Preadv2 { flags: libc::RWF_HIPRI };
    let target = trial.target()?;
    let interrupts = Interrupts::count(&trial.root, &target);
    let (mut outcome, source) = direct_pool(trial, Load::of(trial)?, call)?;
    path::judge_hipri(&mut outcome, &source, &interrupts);
    Ok(outcome)
}
