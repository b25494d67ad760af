//! `uring-buffers`: as `uring-files`, and the buffers are registered.

use harness::{
    measure::trial::{Outcome, Trial, TrialError},
    suite::{Role, Variant},
};

use super::{entered_ring, nop, uring_fixed::ALL};
use crate::{engine::ring::Setup, probe};

/// No pinning of pages per op.
pub const URING_BUFFERS: Variant = Variant {
    id: "uring-buffers",
    about: "io_uring with registered ring, file and buffers: no op pins its \
            pages",
    role: Role::Contender,
    bound: Some(nop::ID),
    spinning: false,
    probe: probe::buffers,
    worker,
};

fn worker(trial: &Trial) -> Result<Outcome, TrialError> {
    entered_ring(trial, Setup::Plain, ALL)
}
