//! `aio`: Linux's older asynchronous interface.

use harness::{
    load::closed,
    measure::trial::{Outcome, Trial, TrialError},
    suite::{Role, Variant},
};

use crate::{engine::aio::AioReads, load::Load, path, probe, source::Source};

/// What databases used before io_uring.
pub const AIO: Variant = Variant {
    id: "aio",
    about: "Linux AIO: io_submit(2) hands reads over, io_getevents(2) waits",
    role: Role::Contender,
    bound: None,
    spinning: false,
    probe: probe::aio,
    worker,
};

fn worker(trial: &Trial) -> Result<Outcome, TrialError> {
    let source = Source::open(trial, Load::of(trial)?)?;
    let shape = source.load().ring_shape();
    let mut outcome = closed::run(trial, shape, |place| {
        AioReads::new(&source, place, shape.threads)
    })?;
    path::judge_direct(&mut outcome, &source);
    Ok(outcome)
}
