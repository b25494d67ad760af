//! `uring-ring`: as `uring`, and the ring's own descriptor is registered.

use harness::{
    measure::trial::{Outcome, Trial, TrialError},
    suite::{Role, Variant},
};

use super::{entered_ring, nop};
use crate::{
    engine::{ring::Setup, ring_reads::Registered},
    probe,
};

/// One look-up less per system call.
pub const URING_RING: Variant = Variant {
    id: "uring-ring",
    about: "io_uring with a registered ring: io_uring_enter(2) does not look \
            its descriptor up",
    role: Role::Contender,
    bound: Some(nop::ID),
    spinning: false,
    probe: probe::ring,
    worker,
};

fn worker(trial: &Trial) -> Result<Outcome, TrialError> {
    let registered = Registered { ring: true, ..Registered::default() };
    entered_ring(trial, Setup::Plain, registered)
}
