//! The rings of `randread-4k` as they write: a ring as it comes, one with all
//! registered, one that is polled, one that a kernel thread submits for.

use harness::{
    load::closed,
    measure::trial::{Outcome, Trial, TrialError},
    suite::{Role, Variant},
};

use super::{fill, no_ring, nop, uring_fixed::ALL, uring_sqpoll};
use crate::{
    durability::{self, Means, Watch},
    engine::{
        drives::Enter, passthrough_writes::PassthroughWrites, ring::Setup,
        ring_reads::Registered, ring_writes::LoneWrites, rounds::RingWork,
    },
    nvme::Namespace,
    passed_through::{PassedThrough, Way},
    path,
    polling::Interrupts,
    probe,
    sink::Sink,
};

/// What a program gets that only swaps its calls.
pub const URING_WRITES: Variant = Variant {
    id: "uring",
    about: "io_uring without any flag or registration: one io_uring_enter(2) \
            submits and waits",
    role: Role::Contender,
    bound: Some(nop::ID),
    spinning: false,
    probe: probe::plain,
    worker: |trial| entered(trial, Setup::Plain, Registered::default()),
};

/// All that a program can prepare without polling.
pub const URING_FIXED_WRITES: Variant = Variant {
    id: "uring-fixed",
    about: "io_uring with registered ring, file and buffers, SINGLE_ISSUER \
            and DEFER_TASKRUN",
    probe: probe::fixed,
    worker: |trial| entered(trial, Setup::SingleIssuer, ALL),
    ..URING_WRITES
};

/// No interrupt: the waiting thread asks the device's queue.
pub const URING_IOPOLL_WRITES: Variant = Variant {
    id: "uring-iopoll",
    about: "io_uring with all registered and IOPOLL: the kernel polls the \
            device instead of waiting for its interrupt",
    spinning: true,
    probe: probe::polled,
    worker: |trial| entered(trial, Setup::Polled, ALL),
    ..URING_WRITES
};

/// No system call at all, at the price of a second CPU.
pub const URING_SQPOLL_WRITES: Variant = Variant {
    id: "uring-sqpoll",
    about: "io_uring with registered file and buffers and SQPOLL: a kernel \
            thread on the next CPU submits, the issuer spins on completions",
    spinning: true,
    probe: probe::poller,
    worker: polled_for,
    ..URING_WRITES
};

/// No file system, no block layer, no scheduler.
pub const URING_PASSTHRU_WRITES: Variant = Variant {
    id: "uring-passthru-buffers",
    about: "io_uring with registered ring, file and buffers that passes NVMe \
            write commands through to /dev/ngXnY, past the block layer",
    probe: probe::passthru_writes,
    worker: passed_through,
    ..URING_WRITES
};

fn passed_through(trial: &Trial) -> Result<Outcome, TrialError> {
    let sink = Sink::by_pattern(trial)?;
    let namespace = Namespace::to_write(&trial.root, sink.target())
        .map_err(|lack| TrialError::setup(lack.reason))?;
    let setup = Setup::SingleIssuer;
    let shape = sink.load().ring_shape();
    let passed = PassedThrough::begin(&trial.root, sink.target());
    let interrupts = Interrupts::count(&trial.root, sink.target());
    let mut outcome = closed::run(trial, shape, |place| {
        let mut ring =
            setup.build_of(shape.depth).map_err(|e| no_ring(setup, &e))?;
        let ops = PassthroughWrites::new(&mut ring, &sink, &namespace, place)?;
        Ok(RingWork::<_, _, true>::new(ring, Enter, ops, fill(&shape)))
    })?;
    let op_bytes = sink.load().op_bytes;
    passed.judge(&mut outcome, &namespace, Way::Write, op_bytes);
    durability::judge_passed_through(&mut outcome, &sink);
    path::judge_io_wq(&mut outcome);
    interrupts.judge(&mut outcome, setup);
    Ok(outcome)
}

fn entered(
    trial: &Trial,
    setup: Setup,
    registered: Registered,
) -> Result<Outcome, TrialError> {
    let sink = Sink::by_pattern(trial)?;
    let shape = sink.load().ring_shape();
    let watch = Watch::begin(&trial.root, sink.target());
    let interrupts = Interrupts::count(&trial.root, sink.target());
    let mut outcome = closed::run(trial, shape, |place| {
        let mut ring =
            setup.build(shape.depth).map_err(|e| no_ring(setup, &e))?;
        let ops = LoneWrites::registering(&mut ring, registered, &sink, place)?;
        Ok(RingWork::<_, _, true>::new(ring, Enter, ops, fill(&shape)))
    })?;
    watch.judge(&mut outcome, &sink, Means::Nothing);
    path::judge_io_wq(&mut outcome);
    interrupts.judge(&mut outcome, setup);
    Ok(outcome)
}

fn polled_for(trial: &Trial) -> Result<Outcome, TrialError> {
    let sink = Sink::by_pattern(trial)?;
    let shape = sink.load().ring_shape();
    uring_sqpoll::one_ring(&shape)?;
    let shared = trial.cpus().len() < 2;
    let watch = Watch::begin(&trial.root, sink.target());
    let mut outcome = closed::run(trial, shape, |place| {
        let (mut ring, poller) = uring_sqpoll::ring(trial, place, &shape)?;
        let registered = uring_sqpoll::REGISTERED;
        let ops = LoneWrites::registering(&mut ring, registered, &sink, place)?;
        Ok(RingWork::<_, _, true>::new(ring, poller, ops, fill(&shape)))
    })?;
    watch.judge(&mut outcome, &sink, Means::Nothing);
    path::judge_io_wq(&mut outcome);
    path::judge_poller(&mut outcome, shared);
    path::state_poller_core(&mut outcome, &trial.root, trial.cpus());
    outcome.evidence.prove("polled", "no");
    Ok(outcome)
}
