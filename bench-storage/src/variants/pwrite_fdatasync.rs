//! `pwrite-fdatasync`: each write, then a flush, by two system calls.

use harness::{
    measure::trial::{Outcome, Trial, TrialError},
    suite::{Role, Variant},
};

use super::{durable::blocking, unsynced};
use crate::{durability::Means, engine::blocking_writes::Call, probe};

/// What PostgreSQL, RocksDB, SQLite and etcd do with their logs.
pub const PWRITE_FDATASYNC: Variant = Variant {
    id: "pwrite-fdatasync",
    about: "pwrite(2), then fdatasync(2): two system calls and two sleeps per op",
    role: Role::Baseline,
    bound: Some(unsynced::PWRITE_ID),
    spinning: false,
    probe: probe::blocking,
    worker,
};

fn worker(trial: &Trial) -> Result<Outcome, TrialError> {
    blocking(trial, Call::WriteThenSync, Means::Sync)
}
