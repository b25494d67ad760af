//! `pread-buffered`: blocking reads through the page cache, which holds
//! nothing of what they ask for.

use harness::{
    measure::trial::{Outcome, Trial, TrialError},
    suite::{Role, Variant},
};

use super::cold_pool;
use crate::{engine::blocking::ReadCall, probe};

/// What a program gets that opens a file and reads it.
pub const PREAD_BUFFERED: Variant = Variant {
    id: "pread-buffered",
    about: "threads in pread(2) without O_DIRECT, the page cache dropped \
            beforehand: each read fills a page and copies it",
    role: Role::Contender,
    bound: None,
    spinning: false,
    probe: probe::blocking,
    worker,
};

fn worker(trial: &Trial) -> Result<Outcome, TrialError> {
    let (outcome, source) = cold_pool(trial, ReadCall::Pread)?;
    source.drop_cached()?;
    Ok(outcome)
}
