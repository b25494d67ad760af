//! `uring-passthru-mixed`: as `uring-passthru-buffers`, and completions are large
//! only where they have to be.

use harness::{
    measure::trial::{Outcome, Trial, TrialError},
    suite::{Role, Variant},
};

use super::{nop, passthrough};
use crate::{
    engine::ring::{Mixed, Setup},
    probe,
};

/// One ring for commands and for everything else.
pub const URING_PASSTHRU_MIXED: Variant = Variant {
    id: "uring-passthru-mixed",
    about: "NVMe read commands passed through by io_uring with registered ring, \
            file and buffers, and CQE_MIXED: large completions only where they \
            have to be",
    role: Role::Contender,
    bound: Some(nop::ID),
    spinning: false,
    probe: probe::passthru_mixed,
    worker,
};

fn worker(trial: &Trial) -> Result<Outcome, TrialError> {
    passthrough::commands::<Mixed>(trial, Setup::SingleIssuer, true)
}
