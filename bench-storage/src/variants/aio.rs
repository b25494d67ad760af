//! `aio`: Linux's older asynchronous interface.

use harness::{
    load::closed,
    measure::trial::{Outcome, Trial, TrialError},
    suite::{Role, Variant},
};

use crate::{
    durability::{Means, Watch},
    engine::{aio::AioWork, aio_reads::AioReads, aio_writes::AioWrites},
    load::Load,
    path, probe,
    sink::Sink,
    source::Source,
};

/// What databases used before io_uring.
pub const AIO: Variant = Variant {
    id: "aio",
    about: "Linux AIO: io_submit(2) hands reads over, io_getevents(2) waits",
    role: Role::Contender,
    bound: None,
    spinning: false,
    probe: probe::aio,
    worker,
};

/// The commonest job of fio: its `libaio` engine writing.
pub const AIO_WRITES: Variant = Variant {
    about: "Linux AIO: io_submit(2) hands writes (and reads, where some are \
            mixed in) over, io_getevents(2) waits",
    worker: writes,
    ..AIO
};

fn worker(trial: &Trial) -> Result<Outcome, TrialError> {
    let source = Source::open(trial, Load::of(trial)?)?;
    let shape = source.load().ring_shape();
    let mut outcome = closed::run(trial, shape, |place| {
        let reads = AioReads::new(&source, place, shape.threads)?;
        AioWork::new(source.load(), reads)
    })?;
    path::judge_direct(&mut outcome, &source);
    Ok(outcome)
}

fn writes(trial: &Trial) -> Result<Outcome, TrialError> {
    let sink = Sink::by_pattern(trial)?;
    let watch = Watch::begin(&trial.root, sink.target());
    let mut outcome = closed::run(trial, sink.load().ring_shape(), |place| {
        AioWork::new(sink.load(), AioWrites::new(&sink, place)?)
    })?;
    watch.judge(&mut outcome, &sink, Means::Nothing);
    Ok(outcome)
}
