//! What the variants that write have in common.

use harness::{
    load::closed,
    measure::trial::{Outcome, Shape, Trial, TrialError},
};

use super::no_ring;
use crate::{
    durability::{Means, Watch},
    engine::{
        blocking_writes::{BlockingWrites, Call},
        drives::Enter,
        ring::Setup,
        ring_writes::{LoneWrites, SyncedWrites},
        rounds::{Fill, Requests, RingWork},
    },
    path,
    sink::Sink,
};

const SETUP: Setup = Setup::SingleIssuer;

/// As many threads as writes are to be in flight, each waiting for its own.
pub(super) fn blocking(
    trial: &Trial,
    call: Call,
    means: Means,
) -> Result<Outcome, TrialError> {
    let sink = Sink::of(trial)?;
    let shape = sink.load().pool_shape();
    let watch = Watch::begin(&trial.root, sink.target());
    let mut outcome = closed::run(trial, shape, |place| {
        BlockingWrites::new(&sink, call, place)
    })?;
    watch.judge(&mut outcome, &sink, means);
    Ok(outcome)
}

/// One ring: a write and its fsync per op, linked. An fsync always blocks, so
/// the kernel always hands it to an io-wq worker: that is this variant's path
/// and no reason to degrade it.
pub(super) fn ring_with_fsync(trial: &Trial) -> Result<Outcome, TrialError> {
    let sink = Sink::of(trial)?;
    let shape = sink.load().ring_shape();
    let watch = Watch::begin(&trial.root, sink.target());
    let mut outcome = closed::run(trial, shape, |place| {
        let depth = 2 * shape.depth;
        let mut ring = SETUP.build(depth).map_err(|e| no_ring(SETUP, &e))?;
        let writes = SyncedWrites::new(&mut ring, &sink, place)?;
        let fill = fill::<SyncedWrites<'_>>(&shape);
        Ok(RingWork::<_, _, true>::new(ring, Enter, writes, fill))
    })?;
    watch.judge(&mut outcome, &sink, Means::Sync);
    path::state_fsync(&mut outcome);
    Ok(outcome)
}

/// One ring: a write per op, with these `rw_flags`.
pub(super) fn ring_with_flags(
    trial: &Trial,
    rw_flags: i32,
    means: Means,
) -> Result<Outcome, TrialError> {
    let sink = Sink::of(trial)?;
    let shape = sink.load().ring_shape();
    let watch = Watch::begin(&trial.root, sink.target());
    let mut outcome = closed::run(trial, shape, |place| {
        let mut ring =
            SETUP.build(shape.depth).map_err(|e| no_ring(SETUP, &e))?;
        let writes = LoneWrites::new(&mut ring, &sink, place, rw_flags)?;
        let fill = fill::<LoneWrites<'_>>(&shape);
        Ok(RingWork::<_, _, true>::new(ring, Enter, writes, fill))
    })?;
    watch.judge(&mut outcome, &sink, means);
    path::judge_io_wq(&mut outcome);
    Ok(outcome)
}

/// Whatever op is durable is recorded and replaced at once.
fn fill<R: Requests>(shape: &Shape) -> Fill {
    let want = u32::try_from(R::ENTRIES).unwrap_or(u32::MAX);
    Fill { depth: shape.depth, batch: shape.batch, want }
}
