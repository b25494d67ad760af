//! The ways to read and to write, one file each. A new one is a new file and a
//! line in the lists of `experiments`.

pub mod aio;
mod durable;
pub mod empty_syscall;
pub mod flushing;
pub mod mmap;
pub mod mmap_populate;
pub mod moving;
pub mod nop;
pub mod o_dsync;
mod passthrough;
pub mod pread;
pub mod pread_buffered;
pub mod pread_pool;
pub mod preadv2_hipri;
pub mod pwrite;
pub mod pwrite_fdatasync;
pub mod rwf_dsync;
pub mod trim;
pub mod uncached;
pub mod unsynced;
pub mod uring;
pub mod uring_buffers;
pub mod uring_dsync;
pub mod uring_files;
pub mod uring_fixed;
pub mod uring_fsync;
pub mod uring_hybrid;
pub mod uring_iopoll;
pub mod uring_passthru;
pub mod uring_passthru_buffers;
pub mod uring_passthru_iopoll;
pub mod uring_passthru_mixed;
pub mod uring_ring;
pub mod uring_sqpoll;
pub mod uring_writes;

use harness::{
    load::closed,
    measure::trial::{Outcome, Trial, TrialError},
};

use crate::{
    engine::{
        blocking::{BlockingReads, ReadCall},
        drives::Enter,
        no_ring,
        ring::Setup,
        ring_reads::{Registered, RingReads},
        rounds::{Fill, RingWork},
    },
    load::Load,
    path,
    polling::Interrupts,
    source::Source,
};

/// A trial of a ring that is entered by system calls.
fn entered_ring(
    trial: &Trial,
    setup: Setup,
    registered: Registered,
) -> Result<Outcome, TrialError> {
    let source = Source::open(trial, Load::of(trial)?)?;
    let shape = source.load().ring_shape();
    let interrupts = Interrupts::count(&trial.root, source.target());
    let mut outcome = closed::run(trial, shape, |place| {
        let mut ring =
            setup.build(shape.depth).map_err(|e| no_ring(setup, &e))?;
        let reads = RingReads::new(
            &mut ring,
            registered,
            &source,
            place,
            shape.threads,
        )?;
        Ok(RingWork::<_, _, true>::new(ring, Enter, reads, fill(&shape)))
    })?;
    path::judge_direct(&mut outcome, &source);
    path::judge_io_wq(&mut outcome);
    interrupts.judge(&mut outcome, setup);
    Ok(outcome)
}

/// Blocking threads past the page cache, as many as ops are to be in flight.
fn direct_pool(
    trial: &Trial,
    load: Load,
    call: ReadCall,
) -> Result<(Outcome, Source), TrialError> {
    let source = Source::open(trial, load)?;
    let shape = load.pool_shape();
    let mut outcome = closed::run(trial, shape, |place| {
        BlockingReads::new(&source, call, place, shape.threads)
    })?;
    path::judge_direct(&mut outcome, &source);
    Ok((outcome, source))
}

/// As many blocking threads through a page cache that holds nothing yet.
fn cold_pool(
    trial: &Trial,
    call: ReadCall,
) -> Result<(Outcome, Source), TrialError> {
    let source = Source::open_cold(trial, Load::of(trial)?)?;
    let shape = source.load().pool_shape();
    let mut outcome = closed::run(trial, shape, |place| {
        BlockingReads::new(&source, call, place, shape.threads)
    })?;
    path::judge_cold(&mut outcome, &source);
    Ok((outcome, source))
}

/// Reads come back one by one: whatever is there is taken and replaced.
fn fill(shape: &harness::measure::trial::Shape) -> Fill {
    Fill { depth: shape.depth, batch: shape.batch, want: 1 }
}
