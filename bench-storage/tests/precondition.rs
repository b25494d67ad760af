//! Preconditioning on request: what is written, how often, and that rows say
//! so; and that nothing is written that nobody gave the word for. Those on
//! loop devices need root.

mod support;

use std::{fs, ops::ControlFlow, path::Path};

use bench_storage::{
    SUITE,
    contents::Seeded,
    guard,
    target::{Contents, Target, prepare_sized},
};
use harness::{
    machine::Root,
    suite::{Meanwhile, RefusalKind, Session, SessionRequest},
};
use support::{
    TARGET_BYTES, alone, available, cpus, disks::Disk, experiment, forecast,
    foreign_file, measured, proof, real_directory, request, trial, variant,
};

const READS: &str = "storage/randread-4k depth=1 op_bytes=4096 pattern=random";
const WRITES: &str =
    "storage/randwrite-4k depth=1 op_bytes=4096 pattern=random";

/// Written quickly also where nothing is optimised.
const SMALL_BYTES: u64 = 16 << 20;

/// What rows of a variant say of how its target was written before.
fn word(session: &dyn Session, key: &str, id: &str) -> Option<String> {
    let experiment = experiment(key);
    let variant = variant(&experiment, id);
    let target = target(session, key);
    if !available(&experiment, &variant, &target) {
        return None;
    }
    let mut trial = trial(&experiment.params, target, cpus(2), 100);
    let outcome = measured(&variant, &mut trial).expect(id);
    assert!(outcome.evidence.verified_ops > 0, "{:?}", outcome.evidence);
    proof(&outcome, "preconditioned").map(str::to_owned)
}

fn target(session: &dyn Session, key: &str) -> serde_json::Value {
    let own = session.own(key).expect("not refused");
    own.map_or_else(|| session.target(), Session::target)
}

fn asking(
    request: SessionRequest,
    passes: u32,
    keys: &[&str],
) -> SessionRequest {
    let experiments = keys.iter().map(ToString::to_string).collect();
    SessionRequest { precondition: passes, experiments, ..request }
}

fn contents(target: serde_json::Value) -> Option<Seeded> {
    let target: Target = serde_json::from_value(target).expect("a target");
    match target.contents {
        Contents::Seeded(seeded) => Some(seeded),
        Contents::Foreign => None,
    }
}

#[test]
fn files_of_the_run_are_written_as_often_as_asked_and_rows_say_so() {
    let _alone = alone();
    let Some(directory) = real_directory() else { return };
    for (passes, reads, writes) in [
        (0, None, "written once"),
        (1, Some("written once"), "written once"),
        (3, Some("written 3 times"), "written 3 times"),
    ] {
        let request = request(None, directory.path());
        let request = asking(request, passes, &[READS, WRITES]);
        if let Some(forecast) = forecast(&request) {
            let whole = (1 << 30) + (256 << 20);
            let times = u64::from(passes.max(1));
            assert_eq!(forecast.bytes_written, times * whole, "{forecast:?}");
        }
        let session = prepare_sized(&request, SMALL_BYTES).expect("room");
        let session = session.as_ref();
        assert_eq!(word(session, READS, "pread").as_deref(), reads);
        assert_eq!(word(session, WRITES, "pwrite").as_deref(), Some(writes));
    }
}

#[test]
fn a_device_is_written_from_end_to_end_and_then_read_as_what_was_written() {
    let _alone = alone();
    let Some(disk) = Disk::blank() else { return };
    let node = disk.device.node.clone();
    let said = disk.word();
    let request = disk.asking(&node, READS, Some(&said));
    let request = asking(request, 2, &[READS]);
    let forecast = (SUITE.forecast)(&request).expect("allowed");
    assert_eq!(forecast.bytes_written, 2 * (64 << 20));
    let touches = forecast.touches.join("; ");
    assert!(touches.contains("all of its 64 MiB are overwritten twice"));
    assert!(disk.bytes().iter().all(|byte| *byte == 0), "only forecast");

    let session = prepare_sized(&request, TARGET_BYTES).expect("allowed");
    let seeded = contents(target(session.as_ref(), READS)).expect("its own");
    assert_eq!(seeded.verify(0, &disk.bytes()), Ok(()));
    let word = word(session.as_ref(), READS, "pread");
    assert_eq!(word.as_deref(), Some("written twice"));
    // Read, and held meanwhile: nobody else may mount it.
    let busy = guard::judge(&Root::system(), &node).expect("a device");
    assert!(busy.reasons.join("; ").contains("EBUSY"), "{busy:?}");
    drop(session);
    assert_eq!(seeded.verify(0, &disk.bytes()), Ok(()), "reads wrote to it");
}

#[test]
fn what_trials_write_to_is_larger_on_a_full_device_and_rows_tell_it_apart() {
    let _alone = alone();
    let Some(disk) = Disk::blank() else { return };
    let node = disk.device.node.clone();
    let said = disk.word();
    let request = disk.asking(&node, WRITES, Some(&said));
    for (passes, size, expected) in
        [(0, "16 MiB", "no"), (1, "64 MiB", "written once")]
    {
        let request = asking(request.clone(), passes, &[WRITES]);
        let session = prepare_sized(&request, TARGET_BYTES).expect("allowed");
        let own = session.own(WRITES).expect("allowed").expect("its own");
        assert!(own.label().ends_with(size), "{}", own.label());
        let word = word(session.as_ref(), WRITES, "pwrite");
        assert_eq!(word.as_deref(), Some(expected), "{passes} passes");
    }
    // Where trials write as well, reads know nothing of what they find.
    let request = asking(request, 1, &[READS, WRITES]);
    let session = prepare_sized(&request, TARGET_BYTES).expect("allowed");
    let session = session.as_ref();
    assert_eq!(contents(target(session, READS)), None);
    assert!(word(session, WRITES, "pwrite").is_some());
    let experiment = experiment(READS);
    let target = target(session, READS);
    let mut trial = trial(&experiment.params, target, cpus(1), 100);
    let read = measured(&variant(&experiment, "pread"), &mut trial);
    assert!(read.expect("read").evidence.checksummed_ops > 0);
}

#[test]
fn without_its_word_nothing_is_preconditioned_even_if_it_is_only_read() {
    let _alone = alone();
    let Some(disk) = Disk::blank() else { return };
    for keys in [&[READS][..], &[WRITES], &[READS, WRITES]] {
        for said in [None, Some("please")] {
            let request = disk.asking(&disk.device.node, READS, said);
            let request = asking(request, 2, keys);
            let prepared = (SUITE.prepare)(&request).expect_err("refused");
            let forecast = (SUITE.forecast)(&request).expect_err("refused");
            for refusal in [prepared, forecast] {
                assert_eq!(refusal.kind, RefusalKind::UnsafeTarget);
                let text = refusal.to_string();
                assert!(text.contains("--allow-destroy"), "{text}");
            }
        }
    }
    assert!(disk.bytes().iter().all(|byte| *byte == 0));
}

#[test]
fn a_file_that_was_there_before_is_not_preconditioned() {
    let _alone = alone();
    let Some(directory) = real_directory() else { return };
    let path = foreign_file(directory.path());
    let before = fs::read(&path).expect("read");
    let refused = |path: &Path, words: &str| {
        let request = request(Some(path), directory.path());
        let request = asking(request, 1, &[READS]);
        let refusal = (SUITE.prepare)(&request).expect_err("refused");
        assert!(refusal.what.contains(words), "{refusal}");
        refusal.kind
    };
    let kind = refused(&path, "was there before the run, and `--precond");
    assert_eq!(kind, RefusalKind::UnsafeTarget);
    assert!(fs::read(&path).expect("read") == before);
    let gone = directory.path().join("gone");
    assert_eq!(refused(&gone, "ENOENT"), RefusalKind::Usage);
}

#[test]
fn a_device_half_way_written_is_told_and_let_go() {
    let _alone = alone();
    let Some(disk) = Disk::blank() else { return };
    let node = disk.device.node.clone();
    let said = disk.word();
    let request = disk.asking(&node, READS, Some(&said));
    let request = SessionRequest {
        meanwhile: Meanwhile::new(|line| match line.contains("pass 2 of 2") {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }),
        ..asking(request, 2, &[READS])
    };
    let refusal = prepare_sized(&request, TARGET_BYTES).expect_err("stopped");
    assert!(refusal.what.contains("was stopped"), "{refusal}");
    let image = disk.bytes();
    assert!(image.chunks(4096).all(|block| block.iter().any(|b| *b != 0)));
    let free = guard::judge(&Root::system(), &node).expect("a device");
    assert_eq!(free.word, Some(said), "{:?}", free.reasons);
}
