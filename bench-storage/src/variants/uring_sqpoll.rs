//! `uring-sqpoll`: as `uring-buffers`, but a kernel thread takes submissions
//! and the issuer spins.

use harness::{
    load::closed::{self, Place},
    measure::trial::{Outcome, Shape, Trial, TrialError},
    suite::{Role, Variant},
};

use super::{fill, no_ring, nop};
use crate::{
    engine::{
        drives::Poller,
        ring::{POLLER_IDLE_MS, Ring, Setup},
        ring_reads::{Registered, RingReads},
        rounds::RingWork,
    },
    load::Load,
    path, probe,
    source::Source,
};

/// No system call at all, at the price of a second CPU.
pub const URING_SQPOLL: Variant = Variant {
    id: "uring-sqpoll",
    about: "io_uring with registered file and buffers and SQPOLL: a kernel \
            thread on the next CPU submits, the issuer spins on completions",
    role: Role::Contender,
    bound: Some(nop::ID),
    spinning: true,
    probe: probe::poller,
    worker,
};

/// No ring: it is entered to wake the thread only.
pub(super) const REGISTERED: Registered =
    Registered { ring: false, file: true, buffers: true };

fn worker(trial: &Trial) -> Result<Outcome, TrialError> {
    let source = Source::open(trial, Load::of(trial)?)?;
    let shape = source.load().ring_shape();
    one_ring(&shape)?;
    let shared = trial.cpus().len() < 2;
    let mut outcome = closed::run(trial, shape, |place| {
        let (mut ring, poller) = ring(trial, place, &shape)?;
        let reads = RingReads::new(&mut ring, REGISTERED, &source, place, 1)?;
        Ok(RingWork::<_, _, true>::new(ring, poller, reads, fill(&shape)))
    })?;
    path::judge_direct(&mut outcome, &source);
    path::judge_io_wq(&mut outcome);
    path::judge_poller(&mut outcome, shared);
    path::state_poller_core(&mut outcome, &trial.root, trial.cpus());
    outcome.evidence.prove("polled", "no");
    Ok(outcome)
}

/// A mistake in the suite, if there are more.
pub(super) fn one_ring(shape: &Shape) -> Result<(), TrialError> {
    if shape.threads == 1 {
        return Ok(());
    }
    Err(TrialError::setup(
        "uring-sqpoll has one ring: several would need as many CPUs again",
    ))
}

/// The ring of the thread at `place`, with its poller on the trial's second
/// CPU, if it has one.
pub(super) fn ring(
    trial: &Trial,
    place: &Place,
    shape: &Shape,
) -> Result<(Ring, Poller), TrialError> {
    let shared = trial.cpus().len() < 2;
    let cpu = trial.cpus().get(1).copied().unwrap_or(place.cpu);
    let setup = Setup::Poller { cpu, idle_ms: POLLER_IDLE_MS };
    let ring = setup.build(shape.depth).map_err(|e| no_ring(setup, &e))?;
    Ok((ring, Poller::new(cpu, shared, trial.root.clone())))
}
