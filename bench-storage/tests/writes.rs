//! Experiments that write: what each variant proves at sizes, patterns and
//! mixes, and how a damaged write or read is found.

mod support;

use bench_storage::{
    SUITE,
    engine::{
        aio::AioWork,
        aio_writes::AioWrites,
        blocking_writes::{BlockingWrites, Call},
        drives::Enter,
        ring::Setup,
        ring_reads::Registered,
        ring_writes::LoneWrites,
        rounds::{Fill, RingWork},
    },
    sink::Sink,
};
use harness::{
    load::closed::{Place, Work},
    measure::{
        recorder::{Recorder, Schedule},
        trial::{Outcome, Trial, TrialError},
    },
    suite::{Availability, Experiment, ProbeRequest, Role, Session},
};
use support::{
    alone, cpus, created, experiment, patiently, proof, real_directory, skip,
};

const RANDOM: &str =
    "storage/randwrite-4k depth=1 op_bytes=4096 pattern=random";
const MIXED: &str = "storage/mixed-4k depth=8 op_bytes=4096 pattern=random \
     read_percent=70";
const IN_ORDER: &str =
    "storage/seqwrite-128k depth=8 op_bytes=131072 pattern=sequential";
const SECTORS: &str = "storage/randwrite depth=4 op_bytes=512 pattern=random";
const SECTORS_READ: &str =
    "storage/randread depth=4 op_bytes=512 pattern=random";

/// A trial on what a session has for this experiment. What is looked for is
/// seen after few ops.
fn trial_of(session: &dyn Session, experiment: &Experiment) -> Trial {
    let own = session.own(&experiment.key()).expect("not refused");
    let target = own.map_or_else(|| session.target(), Session::target);
    support::trial(&experiment.params, target, cpus(2), 100)
}

/// Ops of a trial that is looked at.
const OPS_MIN: u64 = 400;

fn outcomes(session: &dyn Session, key: &str) -> Vec<(Role, Outcome)> {
    let experiment = experiment(key);
    let mut trial = trial_of(session, &experiment);
    let target = trial.spec.target.clone();
    let cpus = cpus(2);
    let probe = ProbeRequest::new(&experiment.params, &cpus, &target);
    let mut outcomes = Vec::new();
    for variant in &experiment.variants {
        if let Availability::Unavailable { reason, .. } =
            (variant.probe)(&probe)
        {
            skip(&format!("{key} {}: {reason}", variant.id));
            continue;
        }
        if variant.role == Role::Bound {
            continue;
        }
        let outcome = patiently(100, |length_ms| {
            trial.spec.warmup_ns = length_ms * 1_000_000;
            trial.spec.window_ns = length_ms * 1_000_000;
            let outcome = (variant.worker)(&trial)?;
            // Of fewer there are no medians of reads and writes.
            if outcome.ops() < OPS_MIN {
                return Err(TrialError::setup("too few ops here"));
            }
            Ok(outcome)
        });
        let outcome = outcome
            .unwrap_or_else(|error| panic!("{key} {}: {error}", variant.id));
        let what = format!("{key} {}: {:?}", variant.id, outcome.evidence);
        assert_eq!(outcome.latencies.len(), outcome.ops(), "{what}");
        assert!(outcome.evidence.verified_ops > 0, "{what}");
        let calls = outcome.evidence.calls.expect("counted");
        assert!(calls.ops >= outcome.ops(), "{what}");
        outcomes.push((variant.role, outcome));
    }
    outcomes
}

#[test]
fn every_variant_writes_past_the_page_cache_and_reads_all_of_it_back() {
    let _alone = alone();
    let Some(directory) = real_directory() else { return };
    let session = created(directory.path());
    for key in [RANDOM, IN_ORDER, SECTORS] {
        for (_, outcome) in outcomes(session.as_ref(), key) {
            let evidence = &outcome.evidence;
            assert_eq!(evidence.verified_ops, evidence.checksummed_ops);
            assert_eq!(proof(&outcome, "direct"), Some("yes"), "{key}");
            let overwrites = proof(&outcome, "overwrites");
            assert_eq!(overwrites, Some("in place"), "{key}");
            let written = proof(&outcome, "device_written_percent");
            assert_ne!(written, Some("0"), "{key}");
        }
    }
}

#[test]
fn reads_among_writes_are_verified_by_every_variant() {
    let _alone = alone();
    let Some(directory) = real_directory() else { return };
    let session = created(directory.path());
    for (_, outcome) in outcomes(session.as_ref(), MIXED) {
        let calls = outcome.evidence.calls.expect("counted");
        // Each read counts, and each place that was written.
        let verified = outcome.evidence.verified_ops as f64;
        assert!(verified > 0.5 * calls.ops as f64, "{:?}", outcome.evidence);
        let metrics = &outcome.evidence.metrics;
        let median = |name| {
            let found = metrics.iter().find(|metric| metric.name == name);
            found.map(|metric| metric.value).expect(name)
        };
        let reads = median("read_latency_p50");
        let writes = median("write_latency_p50");
        let all = outcome.latencies.value_at_quantile(0.5) as f64;
        assert!(reads.min(writes) <= all && all <= reads.max(writes));
        let apart = outcome.apart.expect("reads apart").len() as f64;
        let share = apart / outcome.latencies.len() as f64;
        assert!((0.5..0.9).contains(&share), "{share} of ops are reads");
    }
}

#[test]
fn sectors_are_read_and_checked() {
    let _alone = alone();
    let Some(directory) = real_directory() else { return };
    let session = created(directory.path());
    for (_, outcome) in outcomes(session.as_ref(), SECTORS_READ) {
        assert!(outcome.evidence.verified_ops >= outcome.ops());
    }
}

#[test]
fn what_writes_is_never_given_what_is_read() {
    let _alone = alone();
    let Some(directory) = real_directory() else { return };
    let session = created(directory.path());
    for experiment in (SUITE.experiments)() {
        let own = session.own(&experiment.key()).expect("not refused");
        let words = ["write", "mixed", "move", "trim"];
        let names_it = words.iter().any(|word| experiment.id.contains(word));
        assert_eq!(own.is_some(), names_it, "{}", experiment.key());
    }
}

/// Rounds until one fails, or so many; then the end.
fn until_wrong(
    mut work: impl Work,
    trial: &Trial,
    damage: impl Fn(),
) -> TrialError {
    let clock = trial.spec.clock;
    let start_ns = clock.now_ns();
    let end_ns = start_ns + 3_600_000_000_000;
    let schedule = Schedule { start_ns, end_ns, slice_ns: 100_000_000 };
    let mut recorder = Recorder::new(clock, schedule, true);
    for _ in 0..500 {
        work.round(&mut recorder).expect("intact");
    }
    damage();
    for _ in 0..500 {
        if let Err(error) = work.round(&mut recorder) {
            return error;
        }
    }
    work.finish().expect_err("found at the end if not before")
}

/// A session's mixed trial, and the place of its one thread.
fn one_thread(session: &dyn Session) -> (Trial, Place) {
    let trial = trial_of(session, &experiment(MIXED));
    let place = Place {
        thread: 0,
        cpu: trial.cpus()[0],
        numa_node: None,
        seed: trial.thread_seed(0),
        clock: trial.spec.clock,
    };
    (trial, place)
}

/// Whatever stands there is gone.
fn wipe(sink: &Sink) {
    use std::os::unix::fs::FileExt;
    let target = sink.target();
    let file = std::fs::File::options().write(true).open(&target.path);
    let file = file.expect("our own file");
    let zeroes = vec![0; 1 << 20];
    for offset in (0..target.bytes).step_by(zeroes.len()) {
        file.write_all_at(&zeroes, offset).expect("damage");
    }
    // A direct write that is under way to a page that is dirty reports EIO to
    // whoever syncs next, once.
    file.sync_all().or_else(|_| file.sync_all()).expect("sync");
}

fn expect_zeroes(error: TrialError) {
    assert!(matches!(error, TrialError::Wrong(_)), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("found run id 0000000000000000"), "{text}");
}

#[test]
fn damage_shows_in_the_next_blocking_read() {
    let _alone = alone();
    let Some(directory) = real_directory() else { return };
    let session = created(directory.path());
    let (trial, place) = one_thread(session.as_ref());
    let sink = Sink::by_pattern(&trial).expect("writable");
    let work = BlockingWrites::new(&sink, Call::WriteOnly, &place);
    let work = work.expect("memory");
    expect_zeroes(until_wrong(work, &trial, || wipe(&sink)));
}

#[test]
fn damage_shows_in_the_next_read_of_aio() {
    let _alone = alone();
    let Some(directory) = real_directory() else { return };
    let session = created(directory.path());
    let (trial, place) = one_thread(session.as_ref());
    let sink = Sink::by_pattern(&trial).expect("writable");
    let ops = AioWrites::new(&sink, &place).expect("memory");
    let Ok(work) = AioWork::new(sink.load(), ops) else {
        skip("no Linux AIO");
        return;
    };
    expect_zeroes(until_wrong(work, &trial, || wipe(&sink)));
}

#[test]
fn damage_shows_in_the_next_read_of_a_ring() {
    let _alone = alone();
    let Some(directory) = real_directory() else { return };
    let session = created(directory.path());
    let (trial, place) = one_thread(session.as_ref());
    let sink = Sink::by_pattern(&trial).expect("writable");
    let Ok(mut ring) = Setup::SingleIssuer.build(8) else {
        skip("no ring for a single issuer");
        return;
    };
    let all = Registered { ring: true, file: true, buffers: true };
    let ops = LoneWrites::registering(&mut ring, all, &sink, &place)
        .expect("registered");
    let fill = Fill { depth: 8, batch: 8, want: 1 };
    let work = RingWork::<_, _, true>::new(ring, Enter, ops, fill);
    expect_zeroes(until_wrong(work, &trial, || wipe(&sink)));
}
