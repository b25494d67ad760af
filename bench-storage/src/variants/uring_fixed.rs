//! `uring-fixed`: ring, file and buffers registered beforehand.

use harness::{
    measure::trial::{Outcome, Trial, TrialError},
    suite::{Role, Variant},
};

use super::{entered_ring, nop};
use crate::{
    engine::{ring::Setup, ring_reads::Registered},
    probe,
};

/// All that a program can prepare without polling.
pub const URING_FIXED: Variant = Variant {
    id: "uring-fixed",
    about: "io_uring with registered ring, file and buffers, SINGLE_ISSUER \
            and DEFER_TASKRUN",
    role: Role::Contender,
    bound: Some(nop::ID),
    spinning: false,
    probe: probe::fixed,
    worker,
};

/// What this variant and the polled one register.
pub(super) const ALL: Registered =
    Registered { ring: true, file: true, buffers: true };

fn worker(trial: &Trial) -> Result<Outcome, TrialError> {
    entered_ring(trial, Setup::SingleIssuer, ALL)
}
