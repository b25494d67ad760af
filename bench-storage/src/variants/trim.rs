//! Data that is dropped: by a blocking call, through a ring, and by NVMe
//! commands that are passed through.

use harness::{
    load::closed,
    measure::trial::{Outcome, Trial, TrialError},
    suite::{Role, Variant},
};

use super::{fill, no_ring};
use crate::{
    engine::{drives::Enter, ring::Setup, rounds::RingWork},
    nvme::Namespace,
    path, probe,
    trim::{
        RewriteOnly, Trim,
        calls::Blocking,
        command::Deallocate,
        ground::Ground,
        in_flight::Drops,
        ring::{Op, Ringed},
        work::Trimming,
    },
};

const SETUP: Setup = Setup::SingleIssuer;

/// What bounds all of them.
const REWRITE_ONLY_ID: &str = "rewrite-only";

/// What every program can do.
pub const TRIM: Variant = Variant {
    id: "trim",
    about: "a file: fallocate(2) that punches a hole; a device: \
            ioctl(BLKDISCARD)",
    role: Role::Baseline,
    bound: Some(REWRITE_ONLY_ID),
    spinning: false,
    probe: probe::trim,
    worker: |trial| {
        let (outcome, ground) = trimmed(trial, |ground| {
            let is_file = ground.sink().target().filesystem.is_some();
            Ok(Blocking::new(ground.open()?, is_file))
        })?;
        Ok(judged(outcome, &ground, true))
    },
};

/// The same at any other depth.
pub const TRIM_POOL: Variant = Variant {
    id: "trim-pool",
    about: "a pool of threads that do the same, one per op in flight, over all \
            CPUs of the trial",
    ..TRIM
};

/// Files only.
pub const URING_FALLOCATE: Variant = Variant {
    id: "uring-fallocate",
    about: "io_uring: IORING_OP_FALLOCATE punches a hole into a file; io-wq \
            workers do it",
    role: Role::Contender,
    probe: probe::uring_fallocate,
    worker: |trial| {
        let (mut outcome, ground) = ringed(trial, Op::Punch)?;
        // It belongs there; the row says so, and is not degraded.
        path::state_io_wq(&mut outcome);
        Ok(judged(outcome, &ground, true))
    },
    ..TRIM
};

/// Devices only.
pub const URING_DISCARD: Variant = Variant {
    id: "uring-discard",
    about: "io_uring: IORING_OP_URING_CMD with BLOCK_URING_CMD_DISCARD on a \
            block device",
    role: Role::Contender,
    probe: probe::uring_discard,
    worker: |trial| {
        let (mut outcome, ground) = ringed(trial, Op::Discard)?;
        path::judge_io_wq(&mut outcome);
        Ok(judged(outcome, &ground, true))
    },
    ..TRIM
};

/// NVMe namespaces only.
pub const URING_PASSTHRU_TRIM: Variant = Variant {
    id: "uring-passthru",
    about: "io_uring that passes NVMe dataset management commands, which \
            deallocate, through to /dev/ngXnY, past the block layer",
    role: Role::Contender,
    probe: probe::passthru_trims,
    worker: |trial| {
        let (mut outcome, ground) = trimmed(trial, |ground| {
            let target = ground.sink().target();
            let namespace = Namespace::to_write(&trial.root, target)
                .map_err(|lack| TrialError::setup(lack.reason))?;
            Deallocate::new(namespace, target.bytes)
        })?;
        path::judge_io_wq(&mut outcome);
        // The block layer counts nothing of it.
        Ok(judged(outcome, &ground, false))
    },
    ..TRIM
};

/// How much of each trial is the writing of what is then dropped.
pub const REWRITE_ONLY: Variant = Variant {
    id: REWRITE_ONLY_ID,
    about: "the writing alone, and nothing dropped: the ceiling of the others",
    role: Role::Bound,
    bound: None,
    spinning: false,
    probe: probe::blocking,
    worker: |trial| Ok(trimmed(trial, |_| Ok(RewriteOnly))?.0),
};

fn ringed(trial: &Trial, op: Op) -> Result<(Outcome, Ground), TrialError> {
    let ground = Ground::of(trial)?;
    let shape = ground.sink().load().ring_shape();
    if shape.depth == 1 {
        return trimmed(trial, |ground| Ringed::new(ground.open()?, op));
    }
    let outcome = closed::run(trial, shape, |place| {
        let mut ring =
            SETUP.build(shape.depth).map_err(|e| no_ring(SETUP, &e))?;
        let drops = Drops::new(&mut ring, &ground, place, op)?;
        Ok(RingWork::<_, _, true>::new(ring, Enter, drops, fill(&shape)))
    })?;
    Ok((outcome, ground))
}

fn judged(mut outcome: Outcome, ground: &Ground, counted: bool) -> Outcome {
    ground.judge(&mut outcome, counted);
    outcome
}

/// A trial of one way to drop.
fn trimmed<T: Trim>(
    trial: &Trial,
    make: impl Fn(&Ground) -> Result<T, TrialError> + Sync,
) -> Result<(Outcome, Ground), TrialError> {
    let ground = Ground::of(trial)?;
    let shape = ground.sink().load().pool_shape();
    let outcome = closed::run(trial, shape, |place| {
        Trimming::new(&ground, place, make(&ground)?)
    })?;
    Ok((outcome, ground))
}
