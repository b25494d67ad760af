//! `mmap-populate`: as `mmap`, but a system call brings the page in.

use harness::{
    measure::trial::{Outcome, Trial, TrialError},
    suite::{Role, Variant},
};

use super::mmap::mapped;
use crate::{engine::mapped::Fault, probe};

/// Faults that report their errors.
pub const MMAP_POPULATE: Variant = Variant {
    id: "mmap-populate",
    about: "the same with madvise(2) and MADV_POPULATE_READ before the touch: \
            the fault happens in a call, which can fail",
    role: Role::Contender,
    bound: None,
    spinning: false,
    probe: probe::populate,
    worker,
};

fn worker(trial: &Trial) -> Result<Outcome, TrialError> {
    mapped(trial, Fault::Populate)
}
