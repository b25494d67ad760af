//! Each variant of each experiment, on a small target of its own.

mod support;

use std::{
    collections::HashSet,
    fs::Metadata,
    os::unix::fs::{FileExt, MetadataExt},
    process::Command,
};

use bench_storage::{
    SUITE,
    contents::{BLOCK_BYTES, Seeded},
    target::{Contents, TARGET_MIN_BYTES, prepare_sized},
};
use harness::{
    measure::trial::{Outcome, Trial, TrialError},
    run::filter::SWEEP,
    suite::{Experiment, Role, Variant},
};
use support::{
    TARGET_BYTES, alone, available, counts_storage_reads, cpus, created,
    experiment, forecast, measured, proof, real_directory, request, run_on,
    target_of, trial, variant,
};

/// There are many of them. A look may be 20 ms late, and more on a busy machine;
/// what storage read is counted over the whole trial.
const WINDOW_MS: u64 = 100;

/// The variants that go through the page cache.
const BUFFERED: [&str; 4] =
    ["pread-buffered", "uncached", "mmap", "mmap-populate"];

fn check(
    experiment: &Experiment,
    variant: &Variant,
    trial: &Trial,
    outcome: &Outcome,
) {
    let what = format!("{} {}", experiment.key(), variant.id);
    let ops = outcome.ops();
    assert!(ops > 0, "{what}");
    // Warm-up and drain are checked as well, but not counted.
    assert!(outcome.evidence.verified_ops >= ops, "{what}");
    let slices = outcome.slices.len();
    assert_eq!(
        slices as u64 * trial.spec.slice_ns,
        trial.spec.window_ns,
        "{what}"
    );
    assert_eq!(outcome.thread_ops.len(), outcome.shape.threads, "{what}");
    let recorded = outcome.latencies.len();
    let expected = match outcome.shape.sampled_every {
        0 => 0,
        every => ops / every,
    };
    assert_eq!(recorded, expected, "{what}");
    let calls = outcome.evidence.calls.expect("counted");
    assert!(calls.ops >= ops, "{what}");
    let per_op = calls.made as f64 / calls.ops as f64;
    // No more than a batch goes into a call; a signal may cost one more.
    let batches = 1.0 / outcome.shape.batch as f64;
    let (least, most) = match variant.id {
        "mmap" => (0.0, 0.01),
        "aio" => (2.0 * batches, 2.1),
        "syscall-pair" => (2.0 * batches, 2.0 * batches),
        "empty-syscall" => (1.0, 1.0),
        "uring-sqpoll" => (0.0, 1.1),
        id if id.starts_with("pread") => (1.0, 1.1),
        "uncached" | "mmap-populate" => (1.0, 1.1),
        _ => (batches, 1.1),
    };
    assert!((least..=most).contains(&per_op), "{what}: {per_op} calls per op");
    if variant.role == Role::Bound || experiment.id == "storage/nop" {
        let rings = variant.id.starts_with("nop").then_some("no");
        assert_eq!(proof(outcome, "io_wq"), rings, "{what}");
        return;
    }
    let told = [proof(outcome, "direct"), proof(outcome, "served_by")];
    if told.contains(&Some("unknown")) {
        assert!(!counts_storage_reads(), "{what}: the kernel counts them");
        return;
    }
    let evidence = &outcome.evidence;
    if BUFFERED.contains(&variant.id) {
        assert_eq!(proof(outcome, "direct"), Some("no"), "{what}");
        let served_by = proof(outcome, "served_by");
        assert_eq!(served_by, Some("storage"), "{what}: {evidence:?}");
    } else {
        let direct = proof(outcome, "direct");
        assert_eq!(direct, Some("yes"), "{what}: {evidence:?}");
    }
    if variant.id.starts_with("uring") {
        assert_eq!(proof(outcome, "io_wq"), Some("no"), "{what}");
        let is = |yes| Some(if yes { "yes" } else { "no" });
        let id = variant.id;
        let ring = !["uring", "uring-sqpoll"].contains(&id);
        let file = !["uring", "uring-ring"].contains(&id);
        let buffers = file && id != "uring-files";
        assert_eq!(proof(outcome, "registered_ring"), is(ring), "{what}");
        assert_eq!(proof(outcome, "fixed_file"), is(file), "{what}");
        assert_eq!(proof(outcome, "fixed_buffers"), is(buffers), "{what}");
        let polled = ["uring-iopoll", "uring-hybrid"].contains(&id);
        assert_eq!(proof(outcome, "polled"), is(polled), "{what}");
    }
    if variant.id == "uring-sqpoll" {
        let poller = cpus(2).last().expect("a CPU").to_string();
        assert_eq!(proof(outcome, "sqpoll_cpu"), Some(poller.as_str()));
        return;
    }
    assert_eq!(outcome.evidence.degraded, [""; 0], "{what}");
}

#[test]
fn every_variant_measures_and_proves_its_path() {
    let _alone = alone();
    let Some(directory) = real_directory() else { return };
    let session = created(directory.path());
    let target = session.target();
    let mut seen = HashSet::new();
    for experiment in (SUITE.experiments)() {
        // Points of a sweep are the same at other settings.
        if experiment.tags.contains(&SWEEP) {
            continue;
        }
        // Those with a target of their own have tests of their own, and so
        // has what reads nothing.
        if experiment.id == "storage/flush" {
            continue;
        }
        if session.own(&experiment.key()).is_ok_and(|own| own.is_some()) {
            continue;
        }
        for variant in &experiment.variants {
            // The ladder repeats steps of other experiments: the same trials.
            if !seen.insert((experiment.params.to_string(), variant.id))
                || !available(&experiment, variant, &target)
            {
                continue;
            }
            let mut trial =
                trial(&experiment.params, target.clone(), cpus(2), WINDOW_MS);
            match measured(variant, &mut trial) {
                Ok(outcome) => check(&experiment, variant, &trial, &outcome),
                Err(error) => {
                    panic!("{} {}: {error}", experiment.key(), variant.id)
                }
            }
        }
    }
}

#[test]
fn sqpoll_on_one_cpu_runs_and_is_degraded() {
    let _alone = alone();
    let Some(directory) = real_directory() else { return };
    let session = created(directory.path());
    let experiment =
        experiment("storage/randread-4k depth=32 op_bytes=4096 pattern=random");
    let sqpoll = variant(&experiment, "uring-sqpoll");
    if !available(&experiment, &sqpoll, &session.target()) {
        return;
    }
    let mut trial =
        trial(&experiment.params, session.target(), cpus(1), WINDOW_MS);
    let outcome = measured(&sqpoll, &mut trial).expect("it runs");
    assert!(outcome.ops() > 0);
    let reasons = outcome.evidence.degraded.join("; ");
    assert!(reasons.contains("SQPOLL shares the issuer's CPU"), "{reasons}");
}

#[test]
fn a_session_for_nops_only_prepares_nothing() {
    let _alone = alone();
    let directory = tempfile::tempdir().expect("temporary directory");
    let mut request = request(None, directory.path());
    let nop = experiment("storage/nop batch=32 depth=128 op_bytes=0");
    request.experiments = vec![nop.key()];
    let session = (SUITE.prepare)(&request).expect("nothing to refuse");
    assert!(session.target().is_null());
    let forecast = (SUITE.forecast)(&request).expect("nothing to refuse");
    assert_eq!(forecast.bytes_written, 0);
    for variant in &nop.variants {
        if !available(&nop, variant, &session.target()) {
            continue;
        }
        let mut trial =
            trial(&nop.params, session.target(), cpus(1), WINDOW_MS);
        let outcome = measured(variant, &mut trial).expect("NOPs need nothing");
        check(&nop, variant, &trial, &outcome);
    }
}

#[test]
fn the_created_file_holds_what_it_should_and_is_inherited() {
    let Some(directory) = real_directory() else { return };
    let session = created(directory.path());
    let target = target_of(session.as_ref());
    let Contents::Seeded(seeded) = target.contents else {
        panic!("created targets are seeded");
    };
    assert_eq!(target.bytes, TARGET_BYTES);
    assert!(session.label().starts_with("created 64 MiB on "));
    let left = std::fs::read_dir(directory.path()).expect("read").count();
    assert_eq!(left, 0, "the file has no name");

    let file = std::fs::File::open(&target.path).expect("open");
    let made = file.metadata().expect("metadata");
    let mut block = vec![0; BLOCK_BYTES];
    let last = TARGET_BYTES - BLOCK_BYTES as u64;
    for offset in [0, 4096, 32 << 20, last] {
        file.read_exact_at(&mut block, offset).expect("read");
        seeded.verify(offset, &block).expect("as written");
    }

    let output = Command::new("head")
        .args(["-c", "4096"])
        .arg(&target.path)
        .output()
        .expect("head");
    assert!(output.status.success(), "{output:?}");
    seeded.verify(0, &output.stdout).expect("a child reads the same");
    drop(session);
    drop(file);
    // The number may have been given to another file meanwhile.
    if let Ok(other) = std::fs::metadata(&target.path) {
        let identity =
            |file: &Metadata| (file.dev(), file.ino(), file.ctime_nsec());
        assert_ne!(identity(&other), identity(&made), "it is still there");
    }
}

#[test]
fn data_of_another_run_is_wrong() {
    let _alone = alone();
    let Some(directory) = real_directory() else { return };
    let session = created(directory.path());
    let mut target = target_of(session.as_ref());
    target.contents = Contents::Seeded(Seeded { run_id: 1, seed: 42 });
    for (key, id) in [
        ("storage/randread-4k depth=1 op_bytes=4096 pattern=random", "pread"),
        ("storage/randread-4k depth=32 op_bytes=4096 pattern=random", "uring"),
        (
            "storage/randread-4k depth=32 op_bytes=4096 pattern=random",
            "uring-fixed",
        ),
    ] {
        let experiment = experiment(key);
        let variant = variant(&experiment, id);
        if !available(&experiment, &variant, &session.target()) {
            continue;
        }
        let error = run_on(&variant, &experiment.params, &target, WINDOW_MS)
            .expect_err("another run id");
        assert!(matches!(error, TrialError::Wrong(_)), "{error:?}");
        assert!(error.to_string().contains("run id 0000000000000001"));
    }
}

#[test]
fn one_corrupt_byte_in_the_file_is_wrong_and_named() {
    let _alone = alone();
    let Some(directory) = real_directory() else { return };
    let session = created(directory.path());
    let target = target_of(session.as_ref());
    let offset = 100 * (128 << 10);
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(&target.path)
        .expect("our own file");
    file.write_all_at(&[0xaa], offset + 8).expect("corrupt");
    file.sync_all().expect("sync");
    let experiment = experiment(
        "storage/seqread-128k depth=8 op_bytes=131072 pattern=sequential",
    );
    for id in ["pread-pool", "uring"] {
        let variant = variant(&experiment, id);
        if !available(&experiment, &variant, &session.target()) {
            continue;
        }
        let error = run_on(&variant, &experiment.params, &target, 5_000)
            .expect_err("a corrupt block");
        let text = error.to_string();
        assert!(matches!(error, TrialError::Wrong(_)), "{text}");
        assert!(text.contains(&format!("offset {offset}")), "{text}");
        assert!(text.contains("block 3200"), "{text}");
    }
}

#[test]
fn a_forecast_says_what_would_be_written_and_writes_nothing() {
    let Some(directory) = real_directory() else { return };
    let request = request(None, directory.path());
    let Some(forecast) = forecast(&request) else { return };
    assert_eq!(forecast.bytes_written, (1 << 30) + (256 << 20));
    assert!(forecast.touches[0].contains("created 1 GiB on "));
    let left = std::fs::read_dir(directory.path()).expect("read").count();
    assert_eq!(left, 0);
    // A size below the limit for existing targets is the tests' own choice.
    assert_eq!(TARGET_BYTES, TARGET_MIN_BYTES);
    drop(prepare_sized(&request, TARGET_BYTES).expect("a small one"));
}
