//! `rwf-dsync`: each write says for itself that it is to be durable.

use harness::{
    measure::trial::{Outcome, Trial, TrialError},
    suite::{Role, Variant},
};

use super::{durable::blocking, unsynced};
use crate::{durability::Means, engine::blocking_writes::Call, probe};

/// For files of which not every write has to be durable.
pub const RWF_DSYNC: Variant = Variant {
    id: "rwf-dsync",
    about: "pwritev2(2) with RWF_DSYNC: as o-dsync, for this one write",
    role: Role::Contender,
    bound: Some(unsynced::PWRITE_ID),
    spinning: false,
    probe: probe::blocking,
    worker,
};

fn worker(trial: &Trial) -> Result<Outcome, TrialError> {
    blocking(trial, Call::WriteWithDsync, Means::Dsync)
}
