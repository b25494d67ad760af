//! `uring-passthru`: NVMe reads, passed through to the namespace.

use harness::{
    measure::trial::{Outcome, Trial, TrialError},
    suite::{Role, Variant},
};

use super::{nop, passthrough};
use crate::{
    engine::ring::{Big, Setup},
    probe,
};

/// No file system, no block layer, no scheduler.
pub const URING_PASSTHRU: Variant = Variant {
    id: "uring-passthru",
    about: "io_uring with registered ring and file that passes NVMe read \
            commands through to /dev/ngXnY, past the block layer",
    role: Role::Contender,
    bound: Some(nop::ID),
    spinning: false,
    probe: probe::passthru,
    worker,
};

fn worker(trial: &Trial) -> Result<Outcome, TrialError> {
    passthrough::commands::<Big>(trial, Setup::SingleIssuer, false)
}
