//! NOPs: the ceiling of every ring variant, and what recording costs.

use harness::{
    load::closed,
    measure::trial::{Outcome, Shape, Trial, TrialError},
    suite::{Role, Variant},
};

use super::no_ring;
use crate::{
    engine::{
        drives::Enter,
        nops::Nops,
        ring::Setup,
        rounds::{Fill, RingWork},
    },
    load::nop_shape,
    path, probe,
};

/// The variant that bounds the others.
pub const ID: &str = "nop";

/// No ring moves data faster than it moves nothing.
pub const NOP: Variant = Variant {
    id: ID,
    about: "io_uring NOPs at the same depth and batch: the ring's own ceiling",
    role: Role::Bound,
    bound: None,
    spinning: true,
    probe: probe::single_issuer,
    worker: recorded,
};

/// The NOP rate without latency.
pub const NOP_BARE: Variant = Variant {
    id: "nop-bare",
    about: "io_uring NOPs, counted only",
    role: Role::Baseline,
    bound: None,
    spinning: true,
    probe: probe::single_issuer,
    worker: bare,
};

/// The NOP rate with latency, as all other variants record it.
pub const NOP_RECORDED: Variant = Variant {
    id: "nop-recorded",
    about: "io_uring NOPs, each with its latency in the histogram",
    role: Role::Contender,
    bound: None,
    spinning: true,
    probe: probe::single_issuer,
    worker: recorded,
};

fn recorded(trial: &Trial) -> Result<Outcome, TrialError> {
    nops::<true>(trial, nop_shape(trial)?)
}

fn bare(trial: &Trial) -> Result<Outcome, TrialError> {
    nops::<false>(trial, Shape { sampled_every: 0, ..nop_shape(trial)? })
}

fn nops<const TIMED: bool>(
    trial: &Trial,
    shape: Shape,
) -> Result<Outcome, TrialError> {
    let setup = Setup::SingleIssuer;
    let want = u32::try_from(shape.batch).unwrap_or(u32::MAX);
    let fill = Fill { depth: shape.depth, batch: shape.batch, want };
    let mut outcome = closed::run(trial, shape, |_| {
        let mut ring =
            setup.build(shape.depth).map_err(|e| no_ring(setup, &e))?;
        ring.submitter().register_ring_fd().map_err(|e| no_ring(setup, &e))?;
        let nops = Nops::new(shape.depth);
        Ok(RingWork::<_, _, TIMED>::new(ring, Enter, nops, fill))
    })?;
    outcome.evidence.prove("registered_ring", "yes");
    path::judge_io_wq(&mut outcome);
    Ok(outcome)
}
