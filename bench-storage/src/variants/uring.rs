//! `uring`: a ring as it comes, nothing registered.

use harness::{
    measure::trial::{Outcome, Trial, TrialError},
    suite::{Role, Variant},
};

use super::{entered_ring, nop};
use crate::{
    engine::{ring::Setup, ring_reads::Registered},
    probe,
};

/// What a program gets that only swaps its calls.
pub const URING: Variant = Variant {
    id: "uring",
    about: "io_uring without any flag or registration: one io_uring_enter(2) \
            submits and waits",
    role: Role::Contender,
    bound: Some(nop::ID),
    spinning: false,
    probe: probe::plain,
    worker,
};

fn worker(trial: &Trial) -> Result<Outcome, TrialError> {
    entered_ring(trial, Setup::Plain, Registered::default())
}
