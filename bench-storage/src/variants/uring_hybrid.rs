//! `uring-hybrid`: as `uring-iopoll`, and the kernel sleeps before it polls.

use harness::{
    measure::trial::{Outcome, Trial, TrialError},
    suite::{Role, Variant},
};

use super::{entered_ring, nop, uring_fixed::ALL};
use crate::{engine::ring::Setup, probe};

/// Polling for less of the CPU.
pub const URING_HYBRID: Variant = Variant {
    id: "uring-hybrid",
    about: "io_uring with all registered and HYBRID_IOPOLL: the kernel sleeps \
            half of the time that the device is expected to take, then polls",
    role: Role::Contender,
    bound: Some(nop::ID),
    // It sleeps by design.
    spinning: false,
    probe: probe::hybrid,
    worker,
};

fn worker(trial: &Trial) -> Result<Outcome, TrialError> {
    entered_ring(trial, Setup::Hybrid, ALL)
}
