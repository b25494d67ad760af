//! Dropping data and flushing: what each variant proves, how one that drops
//! nothing or too much is found, and that nothing is dropped which was there
//! before.

mod support;

use std::{
    fs,
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
};

use bench_storage::{
    SUITE,
    engine::{
        drives::Enter,
        ring::Setup,
        rounds::{Fill, RingWork},
    },
    target::{Target, prepare_sized},
    trim::{
        Span, Trim, calls::Blocking, ground::Ground, in_flight::Drops,
        remains::Promise, ring::Op, work::Trimming,
    },
};
use harness::{
    load::closed::{Place, Work},
    measure::{
        recorder::{Recorder, Schedule},
        trial::{Evidence, Outcome, Trial, TrialError},
    },
    suite::{Experiment, RefusalKind, Session, Variant},
};
use support::{
    TARGET_BYTES, alone, available, cpus, disks::Disk, experiment,
    foreign_file, patiently, proof, real_directory, request, skip, trial,
};

const TRIM: &str = "storage/trim-64k depth=1 op_bytes=65536 pattern=sequential";
const TRIMS: &str =
    "storage/trim-64k depth=8 op_bytes=65536 pattern=sequential";
/// A quarter of it is written to: four batches and neighbours of each of eight
/// ops in flight.
const SIZED_BYTES: u64 = 4 * TARGET_BYTES;
const FLUSH: &str = "storage/flush depth=1 op_bytes=0";
const FLUSHES: &str = "storage/flush depth=8 op_bytes=0";
const MIXED: &str = "storage/mixed-4k depth=32 op_bytes=4096 pattern=random \
     read_percent=70";

fn own(session: &dyn Session, key: &str) -> serde_json::Value {
    let own = session.own(key).expect("not refused");
    own.expect("a target of its own").target()
}

fn run(
    experiment: &Experiment,
    variant: &Variant,
    target: &serde_json::Value,
) -> Outcome {
    let outcome = patiently(50, |length_ms| {
        let params = &experiment.params;
        let mut trial = trial(params, target.clone(), cpus(2), length_ms);
        trial.spec.warmup_ns = length_ms * 1_000_000;
        (variant.worker)(&trial)
    });
    outcome.unwrap_or_else(|error| panic!("{}: {error}", variant.id))
}

/// A session that only trims, on a file that it creates.
fn created(directory: &Path, key: &str) -> Box<dyn Session> {
    let mut asked = request(None, directory);
    asked.experiments = vec![key.to_owned()];
    prepare_sized(&asked, SIZED_BYTES).expect("a file of its own")
}

/// Each variant that can run here, and what came of it.
fn outcomes(
    key: &str,
    target: &serde_json::Value,
) -> Vec<(&'static str, Outcome)> {
    let experiment = experiment(key);
    let variants = experiment.variants.iter();
    variants
        .filter(|variant| available(&experiment, variant, target))
        .map(|variant| (variant.id, run(&experiment, variant, target)))
        .collect()
}

fn check_trim(id: &str, depth: usize, outcome: &Outcome) {
    let what = format!("{id}: {:?}", outcome.evidence);
    assert!(outcome.evidence.verified_ops > 0, "{what}");
    assert!(proof(outcome, "neighbours").is_some(), "{what}");
    let shape = outcome.shape;
    assert_eq!(shape.threads * shape.depth, depth, "{what}");
    if id == "rewrite-only" {
        assert_eq!(outcome.latencies.len(), 0, "{what}");
        return;
    }
    assert_eq!(outcome.latencies.len(), outcome.ops(), "{what}");
    let calls = outcome.evidence.calls.expect("counted");
    let is_ring = id.starts_with("uring");
    assert!(is_ring && depth > 1 || calls.made >= calls.ops, "{what}");
    assert!(calls.made > 0 && calls.ops >= outcome.ops(), "{what}");
    assert_eq!(proof(outcome, "promised"), Some("zeroes"), "{what}");
    assert_eq!(proof(outcome, "reads_back"), Some("zeroes"), "{what}");
}

#[test]
fn holes_are_punched_into_the_runs_own_file_and_filled_again() {
    let _alone = alone();
    let Some(directory) = real_directory() else { return };
    punches(directory.path(), TRIM, 1);
    punches(directory.path(), TRIMS, 8);
}

fn punches(directory: &Path, key: &str, depth: usize) {
    let session = created(directory, key);
    let target = own(session.as_ref(), key);
    let found = outcomes(key, &target);
    let names: Vec<&str> = found.iter().map(|(id, _)| *id).collect();
    assert!(names.contains(&"rewrite-only"), "{names:?}");
    assert!(!names.contains(&"uring-discard"), "{names:?}");
    assert!(!names.contains(&"uring-passthru"), "{names:?}");
    for (id, outcome) in &found {
        check_trim(id, depth, outcome);
        if *id == "uring-fallocate" {
            assert!(proof(outcome, "io_wq").is_some(), "{outcome:?}");
        }
    }
    let whole: Target = serde_json::from_value(target.clone()).expect("json");
    let allocated = fs::metadata(&whole.path).expect("metadata").blocks() * 512;
    assert!(allocated >= whole.bytes, "{allocated} of {}", whole.bytes);
    // Whatever it reads must be a block of this run.
    let mixed = experiment(MIXED);
    let pool = mixed.baseline().expect("one").clone();
    let outcome = run(&mixed, &pool, &target);
    assert!(outcome.evidence.verified_ops > 0);
}

/// Goes wrong at one op.
#[derive(Debug)]
struct Faulty {
    trim: Blocking,
    until: u32,
    fault: Fault,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Nothing is dropped, and nothing is said.
    Lost,
    /// What lies behind the batch goes too.
    TooMuch,
    /// A block stays.
    TooLittle,
}

impl Trim for Faulty {
    fn trim(&mut self, span: Span) -> Result<(), TrialError> {
        self.until = self.until.wrapping_sub(1);
        if self.until != 0 {
            return self.trim.trim(span);
        }
        match self.fault {
            Fault::Lost => Ok(()),
            Fault::TooMuch => {
                let bytes = span.bytes + (1 << 20);
                self.trim.trim(Span { bytes, ..span })
            }
            Fault::TooLittle => {
                let bytes = span.bytes - 4096;
                self.trim.trim(Span { bytes, ..span })
            }
        }
    }

    fn calls(&self) -> u64 {
        self.trim.calls()
    }

    fn name(&self) -> &'static str {
        "faulty"
    }
}

/// So many ops, and the end.
fn ops(
    mut work: impl Work,
    trial: &Trial,
    count: usize,
) -> Result<Evidence, TrialError> {
    let clock = trial.spec.clock;
    let start_ns = clock.now_ns();
    let end_ns = start_ns + 3_600_000_000_000;
    let schedule = Schedule { start_ns, end_ns, slice_ns: 100_000_000 };
    let mut recorder = Recorder::new(clock, schedule, true);
    for _ in 0..count {
        work.round(&mut recorder)?;
    }
    work.finish()
}

fn with_fault(
    target: &serde_json::Value,
    promise: Promise,
    fault: Fault,
    until: u32,
) -> Result<Evidence, TrialError> {
    let params = experiment(TRIM).params;
    let trial = trial(&params, target.clone(), cpus(1), 100);
    let place = Place {
        thread: 0,
        cpu: trial.cpus()[0],
        numa_node: None,
        seed: 1,
        clock: trial.spec.clock,
    };
    let ground = Ground::of(&trial).expect("writable").promising(promise);
    let trim = Blocking::new(ground.open().expect("open"), true);
    let faulty = Faulty { trim, until, fault };
    let work = Trimming::new(&ground, &place, faulty).expect("a good start");
    ops(work, &trial, 40)
}

#[test]
fn what_was_not_dropped_or_should_not_have_been_is_wrong() {
    let _alone = alone();
    let Some(directory) = real_directory() else { return };
    let session = created(directory.path(), TRIM);
    let target = own(session.as_ref(), TRIM);
    let never = with_fault(&target, Promise::Hole, Fault::Lost, 1_000);
    if let Err(error) = never {
        skip(&format!("no holes here: {error}"));
        return;
    }
    for fault in [Fault::Lost, Fault::TooMuch, Fault::TooLittle] {
        let error =
            with_fault(&target, Promise::Hole, fault, 20).expect_err("a fault");
        assert!(matches!(error, TrialError::Wrong(_)), "{fault:?}: {error:?}");
        let offset = match fault {
            // The second batch, its fourth op.
            Fault::Lost => "offset 2293760",
            Fault::TooLittle => "offset 2355200",
            // The neighbour behind it.
            Fault::TooMuch => "offset 3145728",
        };
        assert!(error.to_string().contains(offset), "{fault:?}: {error}");
    }
    // A device may leave things as they were, and says so.
    let evidence = with_fault(&target, Promise::Hint(0), Fault::Lost, 20)
        .expect("a hint may be ignored");
    let found = evidence.path.iter().find(|(key, _)| key == "reads_back");
    let (_, found) = found.expect("stated");
    assert!(found.contains("% as written"), "{found}");
}

/// A ring with eight drops under way, and somebody who writes a block of the
/// target before the end.
struct Harming<W> {
    work: W,
    path: PathBuf,
    harmed: Option<u64>,
}

impl<W: Work> Work for Harming<W> {
    fn round(&mut self, recorder: &mut Recorder) -> Result<(), TrialError> {
        self.work.round(recorder)
    }

    fn finish(self) -> Result<Evidence, TrialError> {
        if let Some(offset) = self.harmed {
            let file = fs::File::options().write(true).open(&self.path);
            let written = file.and_then(|f| f.write_all_at(&[7; 4096], offset));
            written.expect("harm");
        }
        self.work.finish()
    }
}

/// What comes of some rounds; nothing, and loudly, without a ring.
fn with_harm(
    trial: &Trial,
    promise: Promise,
    harmed: Option<u64>,
) -> Option<Result<Evidence, TrialError>> {
    let place = Place {
        thread: 0,
        cpu: trial.cpus()[0],
        numa_node: None,
        seed: 1,
        clock: trial.spec.clock,
    };
    let ground = Ground::of(trial).expect("writable").promising(promise);
    let Ok(mut ring) = Setup::SingleIssuer.build(8) else {
        skip("no ring");
        return None;
    };
    let drops = Drops::new(&mut ring, &ground, &place, Op::Punch);
    let drops = drops.expect("registered, and the neighbours written");
    let fill = Fill { depth: 8, batch: 1, want: 1 };
    let work = RingWork::<_, _, true>::new(ring, Enter, drops, fill);
    let path = ground.sink().target().path.clone();
    Some(ops(Harming { work, path, harmed }, trial, 500))
}

#[test]
fn what_a_ring_with_many_drops_under_way_should_not_have_done_is_wrong() {
    let _alone = alone();
    let Some(directory) = real_directory() else { return };
    let session = created(directory.path(), TRIMS);
    let target = own(session.as_ref(), TRIMS);
    let trial = trial(&experiment(TRIMS).params, target, cpus(1), 100);
    let Some(sound) = with_harm(&trial, Promise::Hole, None) else { return };
    if let Err(error) = sound {
        skip(&format!("no holes here: {error}"));
        return;
    }
    // Of the last slot the neighbour, and what it drops and writes; then what
    // no hole is.
    for (promise, harmed) in [
        (Promise::Hole, Some(63 << 20)),
        (Promise::Hole, Some(56 << 20)),
        (Promise::Hint(255), None),
    ] {
        let result = with_harm(&trial, promise, harmed).expect("as before");
        let error = result.expect_err("something is wrong");
        assert!(matches!(error, TrialError::Wrong(_)), "{harmed:?}: {error:?}");
    }
}

#[test]
fn nothing_is_dropped_of_a_target_that_is_read() {
    let _alone = alone();
    let Some(directory) = real_directory() else { return };
    let path = foreign_file(directory.path());
    let before = fs::read(&path).expect("read");
    let mut asked = request(Some(&path), directory.path());
    asked.experiments = vec![TRIM.to_owned()];
    let refusal = (SUITE.prepare)(&asked).expect_err("refused");
    assert_eq!(refusal.kind, RefusalKind::UnsafeTarget, "{refusal}");
    asked.experiments = vec![FLUSH.to_owned()];
    let session = prepare_sized(&asked, 0).expect("flushing is no writing");
    let experiment = experiment(TRIM);
    for variant in &experiment.variants {
        let params = &experiment.params;
        let trial = trial(params, session.target(), cpus(2), 100);
        let error = (variant.worker)(&trial).expect_err("to be read only");
        assert!(error.to_string().contains("not written"), "{error}");
    }
    check_flushes(&outcomes(FLUSH, &session.target()), 1);
    check_flushes(&outcomes(FLUSHES, &session.target()), 8);
    assert!(fs::read(&path).expect("read") == before);
}

fn check_flushes(found: &[(&'static str, Outcome)], depth: usize) {
    let baseline = if depth == 1 { "fdatasync" } else { "fdatasync-pool" };
    assert!(found.iter().any(|(id, _)| *id == baseline));
    for (id, outcome) in found {
        let what = format!("{id}: {:?}", outcome.evidence);
        assert_eq!(outcome.latencies.len(), outcome.ops(), "{what}");
        let calls = outcome.evidence.calls.expect("counted");
        assert!(depth > 1 || calls.made == calls.ops, "{what}");
        let shape = outcome.shape;
        assert_eq!(shape.threads * shape.depth, depth, "{what}");
        let flush = proof(outcome, "flush").expect(&what);
        if flush == "device" {
            // The device was asked once for each, or for all in flight.
            let flushes = proof(outcome, "flushes_per_op").expect(&what);
            let flushes = flushes.parse::<f64>().expect("a number");
            // It is told with two digits.
            assert!(flushes >= 0.95 / depth as f64 - 0.005, "{what}");
            assert!(outcome.evidence.verified_ops > 0, "{what}");
        }
    }
}

#[test]
fn a_device_is_trimmed_with_its_word_alone_and_within_its_part() {
    let _alone = alone();
    trims_a_device(TRIM, "trim", 1);
    trims_a_device(TRIMS, "trim-pool", 8);
}

fn trims_a_device(key: &str, baseline: &str, depth: usize) {
    let Some(disk) = Disk::of(&vec![7; 72 << 20], &[]) else { return };
    let asking = |said| disk.asking(&disk.device.node, key, said);
    for said in [None, Some("loop-0-1")] {
        let asked = asking(said);
        let refusal = (SUITE.prepare)(&asked).expect_err("refused");
        assert_eq!(refusal.kind, RefusalKind::UnsafeTarget, "{refusal}");
    }
    let untouched = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 7);
    assert!(untouched(&disk.bytes()));
    let asked = asking(Some(&disk.word()));
    let session = prepare_sized(&asked, SIZED_BYTES).expect("allowed");
    let target = own(session.as_ref(), key);
    let found = outcomes(key, &target);
    let names: Vec<&str> = found.iter().map(|(id, _)| *id).collect();
    assert!(names.contains(&baseline), "{names:?}");
    assert!(!names.contains(&"uring-fallocate"), "{names:?}");
    for (id, outcome) in &found {
        check_trim(id, depth, outcome);
        if *id == "rewrite-only" {
            continue;
        }
        let told = proof(outcome, "device_discarded_percent").expect("stated");
        let what = format!("{id}: {:?}", outcome.evidence);
        assert!(told.parse::<f64>().expect("a number") >= 95.0, "{what}");
        if *id == baseline {
            assert_eq!(proof(outcome, "trim"), Some("BLKDISCARD"), "{what}");
            assert_eq!(outcome.evidence.degraded, [""; 0], "{what}");
        }
    }
    drop(session);
    let bytes = disk.bytes();
    let (written, rest) = bytes.split_at(64 << 20);
    assert!(untouched(rest), "dropped beyond its part");
    assert!(written.chunks(4096).all(|block| block.iter().any(|b| *b != 0)));
}
