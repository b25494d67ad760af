//! `uring-files`: as `uring-ring`, and the target's descriptor is registered.

use harness::{
    measure::trial::{Outcome, Trial, TrialError},
    suite::{Role, Variant},
};

use super::{entered_ring, nop};
use crate::{
    engine::{ring::Setup, ring_reads::Registered},
    probe,
};

/// One look-up less per op.
pub const URING_FILES: Variant = Variant {
    id: "uring-files",
    about: "io_uring with registered ring and file: no op looks its \
            descriptor up and counts a reference",
    role: Role::Contender,
    bound: Some(nop::ID),
    spinning: false,
    probe: probe::ring,
    worker,
};

fn worker(trial: &Trial) -> Result<Outcome, TrialError> {
    let registered = Registered { ring: true, file: true, buffers: false };
    entered_ring(trial, Setup::Plain, registered)
}
