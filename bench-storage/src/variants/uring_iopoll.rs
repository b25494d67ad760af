//! `uring-iopoll`: as `uring-fixed`, and completions are polled for.

use harness::{
    measure::trial::{Outcome, Trial, TrialError},
    suite::{Role, Variant},
};

use super::{entered_ring, nop, uring_fixed::ALL};
use crate::{engine::ring::Setup, probe};

/// No interrupt: the waiting thread asks the device's queue.
pub const URING_IOPOLL: Variant = Variant {
    id: "uring-iopoll",
    about: "io_uring with all registered and IOPOLL: the kernel polls the \
            device instead of waiting for its interrupt",
    role: Role::Contender,
    bound: Some(nop::ID),
    spinning: true,
    probe: probe::polled,
    worker,
};

fn worker(trial: &Trial) -> Result<Outcome, TrialError> {
    entered_ring(trial, Setup::Polled, ALL)
}
