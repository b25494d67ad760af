//! What the variants share that pass NVMe commands through.

use harness::{
    load::closed,
    measure::trial::{Outcome, Trial, TrialError},
};
use io_uring::squeue::Entry128;

use super::{fill, no_ring};
use crate::{
    engine::{
        drives::Enter,
        passthrough_reads::PassthroughReads,
        ring::{Entries, Setup},
        rounds::RingWork,
    },
    load::Load,
    nvme::Namespace,
    passed_through::{PassedThrough, Way},
    path,
    polling::Interrupts,
    source::Source,
};

/// A trial of a ring that passes commands through.
pub(super) fn commands<E: Entries<Submission = Entry128>>(
    trial: &Trial,
    setup: Setup,
    buffers: bool,
) -> Result<Outcome, TrialError> {
    let source = Source::open(trial, Load::of(trial)?)?;
    let namespace = Namespace::of(&trial.root, source.target())
        .map_err(|lack| TrialError::setup(lack.reason))?;
    let shape = source.load().ring_shape();
    let passed = PassedThrough::begin(&trial.root, source.target());
    let interrupts = Interrupts::count(&trial.root, source.target());
    let mut outcome = closed::run(trial, shape, |place| {
        let mut ring =
            setup.build_of(shape.depth).map_err(|e| no_ring(setup, &e))?;
        let reads = PassthroughReads::<E>::new(
            &mut ring,
            buffers,
            &source,
            &namespace,
            place,
            shape.threads,
        )?;
        Ok(RingWork::<_, _, true>::new(ring, Enter, reads, fill(&shape)))
    })?;
    path::judge_device(&mut outcome, &source);
    let op_bytes = source.load().op_bytes;
    passed.judge(&mut outcome, &namespace, Way::Read, op_bytes);
    path::judge_io_wq(&mut outcome);
    interrupts.judge(&mut outcome, setup);
    Ok(outcome)
}
