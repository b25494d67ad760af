//! `uring-passthru-iopoll`: as `uring-passthru-buffers`, and completions are
//! polled for.

use harness::{
    measure::trial::{Outcome, Trial, TrialError},
    suite::{Role, Variant},
};

use super::{nop, passthrough};
use crate::{
    engine::ring::{Big, Setup},
    probe,
};

/// The shortest way that the kernel has.
pub const URING_PASSTHRU_IOPOLL: Variant = Variant {
    id: "uring-passthru-iopoll",
    about: "NVMe read commands passed through by io_uring with all registered \
            and IOPOLL: no block layer and no interrupt",
    role: Role::Contender,
    bound: Some(nop::ID),
    spinning: true,
    probe: probe::passthru_polled,
    worker,
};

fn worker(trial: &Trial) -> Result<Outcome, TrialError> {
    passthrough::commands::<Big>(trial, Setup::Polled, true)
}
