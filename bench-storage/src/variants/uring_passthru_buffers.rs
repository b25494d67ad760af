//! `uring-passthru-buffers`: as `uring-passthru`, and the buffers are registered.

use harness::{
    measure::trial::{Outcome, Trial, TrialError},
    suite::{Role, Variant},
};

use super::{nop, passthrough};
use crate::{
    engine::ring::{Big, Setup},
    probe,
};

/// No pinning of pages per command.
pub const URING_PASSTHRU_BUFFERS: Variant = Variant {
    id: "uring-passthru-buffers",
    about: "NVMe read commands passed through by io_uring with registered ring, \
            file and buffers",
    role: Role::Contender,
    bound: Some(nop::ID),
    spinning: false,
    probe: probe::passthru_buffers,
    worker,
};

fn worker(trial: &Trial) -> Result<Outcome, TrialError> {
    passthrough::commands::<Big>(trial, Setup::SingleIssuer, true)
}
