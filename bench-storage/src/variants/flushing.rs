//! Flushes: by blocking calls, through a ring, and as NVMe commands that are
//! passed through.

use std::fs::File;

use harness::{
    load::closed,
    measure::trial::{Outcome, Shape, Trial, TrialError},
    suite::{Role, Variant},
};

use super::{fill, no_ring};
use crate::{
    durability::{self, Watch},
    engine::{drives::Enter, ring::Setup, rounds::RingWork},
    flushing::{Fdatasync, Flushes},
    load::nop_shape,
    nvme::Namespace,
    path, probe,
    target::{self, Target},
};

const SETUP: Setup = Setup::SingleIssuer;

/// What every program can do.
pub const FDATASYNC: Variant = Variant {
    id: "fdatasync",
    about: "fdatasync(2): the caller sleeps until the device has emptied its \
            cache",
    role: Role::Baseline,
    bound: None,
    spinning: false,
    probe: probe::blocking,
    worker: blocking,
};

/// The same at any other depth.
pub const FDATASYNC_POOL: Variant = Variant {
    id: "fdatasync-pool",
    about: "a pool of threads in fdatasync(2), one per flush in flight, over \
            all CPUs of the trial",
    ..FDATASYNC
};

/// The same, asynchronous.
pub const URING_FSYNC_ALONE: Variant = Variant {
    id: "uring-fsync",
    about: "io_uring: IORING_OP_FSYNC of the data; an io-wq worker does it",
    role: Role::Contender,
    probe: probe::single_issuer,
    worker: ring,
    ..FDATASYNC
};

/// NVMe namespaces only.
pub const URING_PASSTHRU_FLUSH: Variant = Variant {
    id: "uring-passthru",
    about: "io_uring that passes NVMe flush commands through to /dev/ngXnY, \
            past the block layer",
    role: Role::Contender,
    probe: probe::passthru_flushes,
    worker: passed_through,
    ..FDATASYNC
};

fn open(target: &Target) -> Result<File, TrialError> {
    target::open(target).map_err(|error| {
        TrialError::setup(format!("opening {}: {error}", target.label))
    })
}

fn blocking(trial: &Trial) -> Result<Outcome, TrialError> {
    let target: Target = trial.target()?;
    let ring = nop_shape(trial)?;
    let shape = Shape { threads: ring.depth, depth: 1, batch: 1, ..ring };
    let watch = Watch::begin(&trial.root, &target);
    let mut outcome =
        closed::run(trial, shape, |_| Ok(Fdatasync::new(open(&target)?)))?;
    watch.judge_flushes(&mut outcome, &target);
    Ok(outcome)
}

fn ring(trial: &Trial) -> Result<Outcome, TrialError> {
    let target: Target = trial.target()?;
    let shape = nop_shape(trial)?;
    let watch = Watch::begin(&trial.root, &target);
    let mut outcome = closed::run(trial, shape, |_| {
        let mut ring =
            SETUP.build(shape.depth).map_err(|e| no_ring(SETUP, &e))?;
        let file = open(&target)?;
        let flushes = Flushes::of_file(&mut ring, file, shape.depth)?;
        Ok(RingWork::<_, _, true>::new(ring, Enter, flushes, fill(&shape)))
    })?;
    watch.judge_flushes(&mut outcome, &target);
    path::state_fsync(&mut outcome);
    Ok(outcome)
}

fn passed_through(trial: &Trial) -> Result<Outcome, TrialError> {
    let target: Target = trial.target()?;
    let shape = nop_shape(trial)?;
    let mut outcome = closed::run(trial, shape, |_| {
        let mut ring =
            SETUP.build_of(shape.depth).map_err(|e| no_ring(SETUP, &e))?;
        let namespace = Namespace::of(&trial.root, &target)
            .map_err(|lack| TrialError::setup(lack.reason))?;
        let flushes = Flushes::of_namespace(&mut ring, namespace, shape.depth)?;
        Ok(RingWork::<_, _, true>::new(ring, Enter, flushes, fill(&shape)))
    })?;
    path::judge_io_wq(&mut outcome);
    // Each has come back with the status of the device itself.
    durability::state_cache(&mut outcome, &target);
    outcome.evidence.prove("flush", "nvme flush: not counted");
    Ok(outcome)
}
