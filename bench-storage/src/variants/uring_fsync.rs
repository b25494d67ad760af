//! `uring-fsync`: a write and, linked to it, an fsync.

use harness::{
    measure::trial::{Outcome, Trial, TrialError},
    suite::{Role, Variant},
};

use super::{durable, unsynced};
use crate::probe;

/// The pair goes in together; the kernel starts the fsync when the write has
/// succeeded.
pub const URING_FSYNC: Variant = Variant {
    id: "uring-fsync",
    about: "io_uring: a write and, linked to it, an fsync of the data, in one \
            io_uring_enter(2); an io-wq worker does the fsync",
    role: Role::Contender,
    bound: Some(unsynced::URING_ID),
    spinning: false,
    probe: probe::single_issuer,
    worker,
};

fn worker(trial: &Trial) -> Result<Outcome, TrialError> {
    durable::ring_with_fsync(trial)
}
