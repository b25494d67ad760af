//! `mmap`: the target is mapped, and page faults read it.

use harness::{
    load::closed,
    measure::trial::{Outcome, Trial, TrialError},
    suite::{Role, Variant},
};

use crate::{
    engine::mapped::{Fault, Mapped, MappedReads},
    load::Load,
    path, probe,
    source::Source,
};

/// Files as memory.
pub const MMAP: Variant = Variant {
    id: "mmap",
    about: "threads touching a mapping, the page cache dropped beforehand: \
            each first touch of a page is a fault that reads it",
    role: Role::Contender,
    bound: None,
    spinning: false,
    probe: probe::blocking,
    worker,
};

fn worker(trial: &Trial) -> Result<Outcome, TrialError> {
    mapped(trial, Fault::Touch)
}

/// Threads that read through one mapping, as many as ops are to be in flight.
pub(super) fn mapped(
    trial: &Trial,
    fault: Fault,
) -> Result<Outcome, TrialError> {
    let source = Source::open_cold(trial, Load::of(trial)?)?;
    let map = Mapped::new(&source)?;
    let shape = source.load().pool_shape();
    let mut outcome = closed::run(trial, shape, |place| {
        MappedReads::new(&source, &map, fault, place, shape.threads)
    })?;
    path::judge_mapped(&mut outcome, &source);
    // What is mapped cannot be dropped.
    drop(map);
    source.drop_cached()?;
    Ok(outcome)
}
