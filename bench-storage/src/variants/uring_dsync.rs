//! `uring-dsync`: a write with RWF_DSYNC through a ring.

use harness::{
    measure::trial::{Outcome, Trial, TrialError},
    suite::{Role, Variant},
};

use super::{durable::ring_with_flags, unsynced};
use crate::{durability::Means, probe};

/// One entry and one completion; a worker of the file system waits for the flush.
pub const URING_DSYNC: Variant = Variant {
    id: "uring-dsync",
    about: "io_uring: a write with RWF_DSYNC; the kernel flushes when the write \
            has completed",
    role: Role::Contender,
    bound: Some(unsynced::URING_ID),
    spinning: false,
    probe: probe::single_issuer,
    worker,
};

fn worker(trial: &Trial) -> Result<Outcome, TrialError> {
    ring_with_flags(trial, libc::RWF_DSYNC, Means::Dsync)
}
