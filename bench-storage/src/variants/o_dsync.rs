//! `o-dsync`: the file is open with O_DSYNC.

use harness::{
    measure::trial::{Outcome, Trial, TrialError},
    suite::{Role, Variant},
};

use super::{durable::blocking, unsynced};
use crate::{durability::Means, engine::blocking_writes::Call, probe};

/// With O_DIRECT besides, what TigerBeetle and Oracle do.
pub const O_DSYNC: Variant = Variant {
    id: "o-dsync",
    about: "pwrite(2) to a file that is open with O_DSYNC: it returns when the \
            block is durable",
    role: Role::Contender,
    bound: Some(unsynced::PWRITE_ID),
    spinning: false,
    probe: probe::blocking,
    worker,
};

fn worker(trial: &Trial) -> Result<Outcome, TrialError> {
    blocking(trial, Call::WriteToDsyncFile, Means::Dsync)
}
