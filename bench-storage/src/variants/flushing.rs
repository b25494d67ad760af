//! Flushes: by a blocking call, through a ring, and as NVMe commands that are
//! passed through.

use std::fs::File;

use harness::{
    load::closed,
    measure::trial::{Outcome, Trial, TrialError},
    suite::{Role, Variant},
};

use crate::{
    durability::{self, Watch},
    flushing::{Fdatasync, Flush, FlushCommand, Flushing, RingFsync},
    load::nop_shape,
    nvme::Namespace,
    path, probe,
    target::{self, Target},
};

/// What every program can do.
pub const FDATASYNC: Variant = Variant {
    id: "fdatasync",
    about: "fdatasync(2): the caller sleeps until the device has emptied its \
            cache",
    role: Role::Baseline,
    bound: None,
    spinning: false,
    probe: probe::blocking,
    worker: |trial| {
        counted(trial, |target| Ok(Fdatasync::new(open(target)?)))
            .map(|(outcome, _)| outcome)
    },
};

/// The same, asynchronous.
pub const URING_FSYNC_ALONE: Variant = Variant {
    id: "uring-fsync",
    about: "io_uring: IORING_OP_FSYNC of the data; an io-wq worker does it",
    role: Role::Contender,
    probe: probe::single_issuer,
    worker: |trial| {
        let (mut outcome, _) =
            counted(trial, |target| RingFsync::new(open(target)?))?;
        path::state_fsync(&mut outcome);
        Ok(outcome)
    },
    ..FDATASYNC
};

/// NVMe namespaces only.
pub const URING_PASSTHRU_FLUSH: Variant = Variant {
    id: "uring-passthru",
    about: "io_uring that passes NVMe flush commands through to /dev/ngXnY, \
            past the block layer",
    role: Role::Contender,
    probe: probe::passthru_flushes,
    worker: |trial| {
        let (mut outcome, target) = flushed(trial, |target| {
            let namespace = Namespace::of(&trial.root, target)
                .map_err(|lack| TrialError::setup(lack.reason))?;
            FlushCommand::new(namespace)
        })?;
        path::judge_io_wq(&mut outcome);
        // Each has come back with the status of the device itself.
        durability::state_cache(&mut outcome, &target);
        outcome.evidence.prove("flush", "nvme flush: not counted");
        Ok(outcome)
    },
    ..FDATASYNC
};

fn open(target: &Target) -> Result<File, TrialError> {
    target::open(target).map_err(|error| {
        TrialError::setup(format!("opening {}: {error}", target.label))
    })
}

/// A trial of one way to flush that the block layer counts.
fn counted<F: Flush>(
    trial: &Trial,
    make: impl Fn(&Target) -> Result<F, TrialError> + Sync,
) -> Result<(Outcome, Target), TrialError> {
    let watch = Watch::begin(&trial.root, &trial.target()?);
    let (mut outcome, target) = flushed(trial, make)?;
    watch.judge_flushes(&mut outcome, &target);
    Ok((outcome, target))
}

fn flushed<F: Flush>(
    trial: &Trial,
    make: impl Fn(&Target) -> Result<F, TrialError> + Sync,
) -> Result<(Outcome, Target), TrialError> {
    let target: Target = trial.target()?;
    let shape = nop_shape(trial)?;
    if shape.threads != 1 || shape.depth != 1 {
        return Err(TrialError::setup(
            "a target is flushed one time after the other: depth=1",
        ));
    }
    let outcome =
        closed::run(trial, shape, |_| Ok(Flushing::new(make(&target)?)))?;
    Ok((outcome, target))
}
