//! `pwrite`, `pwrite-pool` and `pread-pwrite-pool`: blocking writes past the
//! page cache, and reads among them where the experiment says so.

use harness::{
    load::closed,
    measure::trial::{Outcome, Trial, TrialError},
    suite::{Role, Variant},
};

use crate::{
    durability::{Means, Watch},
    engine::blocking_writes::{BlockingWrites, Call},
    probe,
    sink::Sink,
};

/// The baseline at depth 1.
pub const PWRITE: Variant = Variant {
    id: "pwrite",
    about: "one thread in pwrite(2) with O_DIRECT, asleep until the device \
            has the data",
    role: Role::Baseline,
    bound: None,
    spinning: false,
    probe: probe::blocking,
    worker,
};

/// The baseline at any other depth.
pub const PWRITE_POOL: Variant = Variant {
    id: "pwrite-pool",
    about: "a pool of threads in pwrite(2) with O_DIRECT, one per op in \
            flight, over all CPUs of the trial",
    ..PWRITE
};

/// The baseline of reads and writes together.
pub const PREAD_PWRITE_POOL: Variant = Variant {
    id: "pread-pwrite-pool",
    about: "a pool of threads in pread(2) and pwrite(2) with O_DIRECT, one \
            per op in flight, over all CPUs of the trial",
    ..PWRITE
};

fn worker(trial: &Trial) -> Result<Outcome, TrialError> {
    let sink = Sink::by_pattern(trial)?;
    let shape = sink.load().pool_shape();
    let watch = Watch::begin(&trial.root, sink.target());
    let mut outcome = closed::run(trial, shape, |place| {
        BlockingWrites::new(&sink, Call::WriteOnly, place)
    })?;
    watch.judge(&mut outcome, &sink, Means::Nothing);
    Ok(outcome)
}
