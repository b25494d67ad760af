//! The same writes, never made durable: the ceiling of those that are.

use harness::{
    measure::trial::{Outcome, Trial, TrialError},
    suite::{Role, Variant},
};

use super::durable::{blocking, ring_with_flags};
use crate::{durability::Means, engine::blocking_writes::Call, probe};

/// What bounds the blocking variants.
pub const PWRITE_ID: &str = "pwrite-unsynced";

/// What bounds the rings.
pub const URING_ID: &str = "uring-unsynced";

/// A write has to be made before it can be made durable.
pub const PWRITE_UNSYNCED: Variant = Variant {
    id: PWRITE_ID,
    about: "pwrite(2) and no flush: not durable, the ceiling of those that are",
    role: Role::Bound,
    bound: None,
    spinning: false,
    probe: probe::blocking,
    worker: |trial| blocking(trial, Call::WriteOnly, Means::Nothing),
};

/// The same through a ring.
pub const URING_UNSYNCED: Variant = Variant {
    id: URING_ID,
    about: "io_uring writes and no flush: not durable, the ceiling of the \
            rings",
    role: Role::Bound,
    bound: None,
    spinning: false,
    probe: probe::single_issuer,
    worker: ring,
};

fn ring(trial: &Trial) -> Result<Outcome, TrialError> {
    ring_with_flags(trial, 0, Means::Nothing)
}
