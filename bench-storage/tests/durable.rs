//! Writes that are to be durable: what each variant proves, what is found when
//! a write did not arrive, and what is never written to.

mod support;

use std::{fs::File, os::unix::fs::FileExt, path::Path};

use bench_storage::{
    SUITE,
    contents::BLOCK_BYTES,
    durability::{Means, Watch},
    engine::{
        blocking_writes::{BlockingWrites, Call},
        drives::Enter,
        ring::Setup,
        ring_writes::{LoneWrites, SyncedWrites},
        rounds::{Fill, RingWork},
    },
    page_cache::{Range, cached_share},
    sink::Sink,
    target::Target,
};
use harness::{
    load::closed::{self, Place, Work},
    measure::{
        recorder::{Recorder, Schedule},
        trial::{Evidence, Outcome, Trial, TrialError},
    },
    suite::{Availability, Experiment, ProbeRequest, Role, Session, Variant},
};
use support::{
    alone, cpus, created, experiment, forecast, foreign_file, is_tmpfs,
    limits::with_file_size_limit, measured, patiently, proof, real_directory,
    request, skip, target_of, trial,
};

const DURABLE: &str = "storage/durable-write-4k";
const DIRECT: &str = "storage/durable-write-4k depth=1 o_direct=yes \
     op_bytes=4096 pattern=sequential";
const WINDOW_MS: u64 = 200;

fn durable() -> Vec<Experiment> {
    let all = (SUITE.experiments)();
    all.into_iter().filter(|e| e.id == DURABLE).collect()
}

/// What the experiments that write get of a session.
fn own(session: &dyn Session) -> &dyn Session {
    session.own(DIRECT).expect("not refused").expect("a file of its own")
}

fn target(session: &dyn Session) -> serde_json::Value {
    own(session).target()
}

fn available(experiment: &Experiment, variant: &Variant) -> bool {
    let cpus = cpus(2);
    let probe =
        ProbeRequest::new(&experiment.params, &cpus, &serde_json::Value::Null);
    match (variant.probe)(&probe) {
        Availability::Available | Availability::Undecided { .. } => true,
        Availability::Unavailable { reason, .. } => {
            skip(&format!("{}: {reason}", variant.id));
            false
        }
    }
}

#[test]
fn every_variant_writes_reads_back_and_proves_its_way_to_the_device() {
    let _alone = alone();
    let Some(directory) = real_directory() else { return };
    let session = created(directory.path());
    let target = target(session.as_ref());
    assert_eq!(durable().len(), 3);
    for experiment in durable() {
        for variant in &experiment.variants {
            if !available(&experiment, variant) {
                continue;
            }
            let mut trial =
                trial(&experiment.params, target.clone(), cpus(2), WINDOW_MS);
            match measured(variant, &mut trial) {
                Ok(outcome) => {
                    check(&experiment, variant, &outcome);
                    leaves_nothing_cached(&trial, variant.id);
                }
                Err(error) => {
                    panic!("{} {}: {error}", experiment.key(), variant.id)
                }
            }
        }
    }
}

/// Pages of one trial would make the next one's direct writes wait.
fn leaves_nothing_cached(trial: &Trial, id: &str) {
    let target: Target = trial.target().expect("a target");
    let file = File::open(&target.path).expect("our own file");
    let whole = Range { offset: 0, bytes: target.bytes };
    let share = cached_share(&file, whole).unwrap_or(0.0);
    assert!(share < 0.01, "{id}: {share}");
}

fn check(experiment: &Experiment, variant: &Variant, outcome: &Outcome) {
    let evidence = &outcome.evidence;
    let what = format!("{} {}: {evidence:?}", experiment.key(), variant.id);
    assert!(outcome.ops() > 0, "{what}");
    assert_eq!(outcome.latencies.len(), outcome.ops(), "{what}");
    assert!(evidence.verified_ops > 0, "{what}");
    assert_eq!(evidence.checksummed_ops, evidence.verified_ops, "{what}");
    assert_eq!(proof(outcome, "overwrites"), Some("in place"), "{what}");
    assert_eq!(proof(outcome, "unwritten_extents"), Some("0"), "{what}");
    assert_eq!(
        proof(outcome, "direct"),
        experiment.params.get("o_direct"),
        "{what}"
    );
    if variant.role == Role::Bound {
        assert_eq!(proof(outcome, "flush"), Some("none: not durable"));
        // What is no way of its own bounds no other.
        assert_eq!(evidence.degraded, [""; 0], "{what}");
        return;
    }
    if variant.id == "uring-fsync" {
        assert_eq!(proof(outcome, "fsync"), Some("io-wq"), "{what}");
    }
    if proof(outcome, "medium") != Some("device") {
        skip(&format!("no device below, or one in memory: {what}"));
        return;
    }
    assert_eq!(evidence.degraded, [""; 0], "{what}");
    let flush = proof(outcome, "flush").expect("always stated");
    match proof(outcome, "write_cache") {
        Some("write through") => assert!(flush.starts_with("not needed")),
        Some("write back") => {
            let ways = ["device", "unproven: fua is not counted", "unknown"];
            assert!(ways.contains(&flush), "{what}");
        }
        _ => assert!(["device", "unknown"].contains(&flush), "{what}"),
    }
}

/// A trial on a session's file, and the place of its one thread.
fn one_writer(session: &dyn Session) -> (Trial, Place) {
    let params = experiment(DIRECT).params;
    let trial = trial(&params, target(session), cpus(1), WINDOW_MS);
    let place = Place {
        thread: 0,
        cpu: trial.cpus()[0],
        numa_node: None,
        seed: trial.thread_seed(0),
        clock: trial.spec.clock,
    };
    (trial, place)
}

/// So many rounds, then `damage`, then the end.
fn rounds(
    mut work: impl Work,
    trial: &Trial,
    count: usize,
    damage: impl FnOnce(),
) -> Result<Evidence, TrialError> {
    let clock = trial.spec.clock;
    let start_ns = clock.now_ns();
    let end_ns = start_ns + 3_600_000_000_000;
    let schedule = Schedule { start_ns, end_ns, slice_ns: 100_000_000 };
    let mut recorder = Recorder::new(clock, schedule, true);
    for _ in 0..count {
        work.round(&mut recorder).expect("a good round");
    }
    damage();
    work.finish()
}

#[test]
fn writes_that_fall_back_to_the_page_cache_show() {
    let _alone = alone();
    let Some(directory) = real_directory() else { return };
    let session = created(directory.path());
    let params = experiment(DIRECT).params;
    let mut trial =
        trial(&params, target(session.as_ref()), cpus(1), WINDOW_MS);
    for falls_back in [false, true] {
        let mut run = |length_ms: u64| {
            trial.spec.window_ns = length_ms * 1_000_000;
            let sink = Sink::of(&trial)?;
            let sink = if falls_back { sink.falling_back() } else { sink };
            let watch = Watch::begin(&trial.root, sink.target());
            let shape = sink.load().pool_shape();
            let mut outcome = closed::run(&trial, shape, |place| {
                BlockingWrites::new(&sink, Call::WriteOnly, place)
            })?;
            watch.judge(&mut outcome, &sink, Means::Nothing);
            Ok(outcome)
        };
        let outcome = patiently(WINDOW_MS, &mut run).expect("it runs");
        let reasons = outcome.evidence.degraded.join("; ");
        let direct = proof(&outcome, "direct").expect("stated");
        if !falls_back {
            let counted = proof(&outcome, "storage_write_percent").is_some();
            assert_eq!(direct, if counted { "yes" } else { "unknown" });
            assert_eq!(reasons, "");
            continue;
        }
        assert_eq!(direct, "no");
        assert!(reasons.contains("without O_DIRECT"), "{reasons}");
        if proof(&outcome, "cached_after_percent") == Some("unknown") {
            skip("no cachestat(2)");
            return;
        }
        // Some thousand writes, of which each leaves its page.
        assert!(reasons.contains("% of what was written in it"), "{reasons}");
    }
}

/// A handle with which to damage what was written.
fn vandal(sink: &Sink) -> File {
    let path = &sink.target().path;
    File::options().read(true).write(true).open(path).expect("our own file")
}

#[test]
fn a_planted_wrong_block_is_found_whoever_wrote_it() {
    let _alone = alone();
    let Some(directory) = real_directory() else { return };
    let session = created(directory.path());
    let (trial, place) = one_writer(session.as_ref());
    let sink = Sink::of(&trial).expect("writable");
    let plant = || {
        let file = vandal(&sink);
        file.write_all_at(&[0xaa], 5 * 4096 + 77).expect("damage");
        file.sync_all().expect("sync");
    };
    let expect = |what: &str, result: Result<Evidence, TrialError>| {
        let error = result.expect_err(what);
        assert!(matches!(error, TrialError::Wrong(_)), "{what}: {error:?}");
        let text = error.to_string();
        assert!(text.contains("offset 20480"), "{what}: {text}");
        assert!(text.ends_with("different byte 77"), "{what}: {text}");
    };
    for call in [
        Call::WriteThenSync,
        Call::WriteToDsyncFile,
        Call::WriteWithDsync,
        Call::WriteOnly,
    ] {
        let writes = || BlockingWrites::new(&sink, call, &place);
        let work = writes().expect("memory");
        let evidence = rounds(work, &trial, 20, || ()).expect("intact");
        assert_eq!(evidence.verified_ops, 20, "{call:?}");
        let work = writes().expect("memory");
        expect(&format!("{call:?}"), rounds(work, &trial, 20, plant));
    }
    let Ok(mut ring) = Setup::SingleIssuer.build(2) else {
        skip("no ring for a single issuer");
        return;
    };
    let writes = SyncedWrites::new(&mut ring, &sink, &place).expect("a ring");
    let fill = Fill { depth: 1, batch: 1, want: 2 };
    let work = RingWork::<_, _, true>::new(ring, Enter, writes, fill);
    expect("linked fsync", rounds(work, &trial, 20, plant));
    let mut ring = Setup::SingleIssuer.build(1).expect("another ring");
    let writes = LoneWrites::new(&mut ring, &sink, &place, libc::RWF_DSYNC)
        .expect("a ring");
    let fill = Fill { depth: 1, batch: 1, want: 1 };
    let work = RingWork::<_, _, true>::new(ring, Enter, writes, fill);
    expect("RWF_DSYNC", rounds(work, &trial, 20, plant));
}

#[test]
fn a_write_that_was_lost_is_found_although_its_block_was_good_before() {
    let _alone = alone();
    let Some(directory) = real_directory() else { return };
    let session = created(directory.path());
    let (mut trial, place) = one_writer(session.as_ref());
    let sink = Sink::of(&trial).expect("writable");
    let work = BlockingWrites::new(&sink, Call::WriteThenSync, &place)
        .expect("memory");
    rounds(work, &trial, 10, || ()).expect("intact");
    let mut block = vec![0; BLOCK_BYTES];
    let file = vandal(&sink);
    file.read_exact_at(&mut block, 4096).expect("read");

    trial.spec.trial = 1;
    let sink = Sink::of(&trial).expect("writable");
    let work = BlockingWrites::new(&sink, Call::WriteThenSync, &place)
        .expect("memory");
    let lose = || {
        file.write_all_at(&block, 4096).expect("put back");
        file.sync_all().expect("sync");
    };
    let error = rounds(work, &trial, 10, lose).expect_err("lost");
    let text = error.to_string();
    assert!(matches!(error, TrialError::Wrong(_)), "{text}");
    assert!(text.contains("expected run id 0000000000c0ffee block 1 trial 1"));
    assert!(text.contains("block 1 trial 0 write 2"), "{text}");
}

#[test]
fn a_linked_pair_takes_one_completion_each_and_both_are_checked() {
    let _alone = alone();
    let Some(directory) = real_directory() else { return };
    let session = created(directory.path());
    let (trial, place) = one_writer(session.as_ref());
    let Ok(mut ring) = Setup::SingleIssuer.build(2) else {
        skip("no ring for a single issuer");
        return;
    };
    // The file shrinks to nothing and may not grow: the write fails, and the
    // fsync behind it is cancelled.
    let sink = Sink::of(&trial).expect("writable");
    let writes = SyncedWrites::new(&mut ring, &sink, &place).expect("a ring");
    let fill = Fill { depth: 1, batch: 1, want: 2 };
    let mut work = RingWork::<_, _, true>::new(ring, Enter, writes, fill);
    let mut recorder = Recorder::prepare(trial.spec.clock, 1, true);
    work.round(&mut recorder).expect("a good round");
    let error = with_file_size_limit(4096, || work.round(&mut recorder))
        .expect_err("beyond the limit");
    match error {
        TrialError::Op { operation, errno, offset, bytes } => {
            assert_eq!(operation, "IORING_OP_WRITE");
            assert_eq!((errno, offset, bytes), (libc::EFBIG, 4096, 4096));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_target_to_read_is_never_written() {
    let _alone = alone();
    let Some(directory) = real_directory() else { return };
    let session = created(directory.path());
    let read: Target = target_of(session.as_ref());
    assert_eq!(read.writable, None);
    let written: Target = target_of(own(session.as_ref()));
    assert_ne!(read.path, written.path);
    assert!(written.writable.is_some());
    for experiment in durable() {
        for variant in &experiment.variants {
            if !available(&experiment, variant) {
                continue;
            }
            let trial =
                trial(&experiment.params, session.target(), cpus(2), WINDOW_MS);
            let error = (variant.worker)(&trial).expect_err("to be read only");
            assert!(error.to_string().contains("not written"), "{error}");
        }
    }
}

#[test]
fn an_existing_file_is_refused_for_writing_while_reading_goes_on() {
    let _alone = alone();
    let Some(directory) = real_directory() else { return };
    let path = foreign_file(directory.path());
    let before = std::fs::read(&path).expect("read");
    let both = request(Some(&path), directory.path());
    let session = (SUITE.prepare)(&both).expect("reading goes on");
    assert!(session.target().is_object());
    let reading = "storage/randread-4k depth=1 op_bytes=4096 pattern=random";
    assert!(session.own(reading).expect("not refused").is_none());
    let refusal = session.own(DIRECT).expect_err("refused");
    let forecast = (SUITE.forecast)(&both).expect("reading goes on");
    assert_eq!(forecast.bytes_written, 0);
    let touches = forecast.touches.join("; ");
    assert!(touches.contains("durable-write-4k refused"), "{touches}");

    let mut alone = both.clone();
    alone.experiments = vec![DIRECT.to_owned()];
    let only = (SUITE.prepare)(&alone).expect_err("nothing else to do");
    let forecast = (SUITE.forecast)(&alone).expect_err("the same");
    for refusal in [refusal, only, forecast] {
        assert_eq!(refusal.kind, harness::suite::RefusalKind::UnsafeTarget);
        assert!(refusal.what.contains("foreign was there before"));
        assert!(refusal.remedy.contains("--target DIR"), "{refusal}");
    }
    assert!(std::fs::read(&path).expect("read") == before);
}

#[test]
fn memory_file_systems_and_missing_files_are_refused() {
    let mut request = request(Some(Path::new("/dev/shm")), Path::new("/"));
    request.experiments = vec![DIRECT.to_owned()];
    if is_tmpfs(Path::new("/dev/shm")) {
        let refusal = (SUITE.prepare)(&request).expect_err("memory");
        assert!(refusal.what.contains("tmpfs"), "{refusal}");
    }
    request.target = Some("/nonexistent/file".into());
    let refusal = (SUITE.prepare)(&request).expect_err("missing");
    assert_eq!(refusal.kind, harness::suite::RefusalKind::Usage);
    assert!(refusal.what.contains("ENOENT"), "{refusal}");
}

#[test]
fn a_session_that_only_writes_creates_only_what_is_written() {
    let _alone = alone();
    let Some(directory) = real_directory() else { return };
    let mut request = request(None, directory.path());
    request.experiments = vec![DIRECT.to_owned()];
    let Some(forecast) = forecast(&request) else { return };
    assert_eq!(forecast.bytes_written, 256 << 20);
    assert!(forecast.touches[0].contains("trials overwrite it"));
    let session =
        bench_storage::target::prepare_sized(&request, support::TARGET_BYTES)
            .expect("room for 16 MiB");
    assert!(session.target().is_null());
    let own = own(session.as_ref());
    assert!(own.label().starts_with("created 16 MiB on "), "{}", own.label());
    let left = std::fs::read_dir(directory.path()).expect("read").count();
    assert_eq!(left, 0, "the file has no name");
}
