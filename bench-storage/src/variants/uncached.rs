//! `uncached`: blocking buffered reads that leave nothing in the page cache.

use harness::{
    measure::trial::{Outcome, Trial, TrialError},
    suite::{Role, Variant},
};

use super::cold_pool;
use crate::{engine::blocking::ReadCall, path, probe};

/// Buffered, but for once.
pub const UNCACHED: Variant = Variant {
    id: "uncached",
    about: "threads in preadv2(2) with RWF_DONTCACHE and without O_DIRECT: \
            the page is dropped once it was copied",
    role: Role::Contender,
    bound: None,
    spinning: false,
    probe: probe::uncached,
    worker,
};

fn worker(trial: &Trial) -> Result<Outcome, TrialError> {
    let call = ReadCall::Preadv2 { flags: libc::RWF_DONTCACHE };
    let (mut outcome, source) = cold_pool(trial, call)?;
    path::judge_uncached(&mut outcome, &source);
    source.drop_cached()?;
    Ok(outcome)
}
